//! The shell: descriptors, clock, threads; no decision longer than an if.
