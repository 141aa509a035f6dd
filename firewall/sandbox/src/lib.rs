//! Namespaces, seccomp, Landlock, descriptor passing: the only unsafe code in the house.
//!
//! | module | what | used by |
//! |---|---|---|
//! | [`channel`] | messages with descriptors over `SOCK_SEQPACKET` | every process |

// The other rooms inherit `deny`. Here each block has its reason; clippy sees to that.
#![allow(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod channel;
