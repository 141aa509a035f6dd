//! Tells the kernel what `policy` decided: renders the one table `inet gatehouse` in nft's own language and commits it.
//!
//! | module | noun |
//! |---|---|
//! | [`names`] | table, sets with their key layouts, marks, counters |

pub mod names;
