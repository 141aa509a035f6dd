//! Namespaces, seccomp, Landlock, descriptor passing: the only unsafe code in the house.
