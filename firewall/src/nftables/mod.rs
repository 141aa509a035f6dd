//! Tells the kernel what `policy` decided: renders the one table `inet gatehouse` in nft's own language and commits it.
//!
//! | module | noun |
//! |---|---|
//! | [`names`] | table, sets with their key layouts, marks, counters |
//! | [`ruleset`] | chains and counters as a value, and the transaction that puts them in place |
//! | [`render`] | a policy's ruleset |
//! | [`kernel`] | the program that loads it, behind a trait |
//! | [`difference`] | what changes from one ruleset to another |
//! | [`commit`] | a document's way into the kernel |

pub mod commit;
pub mod difference;
pub mod kernel;
pub mod names;
pub mod render;
pub mod ruleset;

pub use commit::Loader;
pub use kernel::{Kernel, KernelError, Nft};
pub use render::render;
pub use ruleset::{Present, Ruleset};
