//! Namespaces, seccomp, Landlock, descriptor passing: the only unsafe code in the house.
//!
//! | module | what | used by |
//! |---|---|---|
//! | [`channel`] | messages with descriptors over `SOCK_SEQPACKET` | every process |
//! | [`profile`], `syscalls` | what each role gets: uid, bounds, list of system calls | init, each sandboxed process |
//! | [`launch`], `cgroup` | starts a program in its namespaces, with an empty root and no capability | init |
//! | [`confine`] | Landlock and seccomp, from within | each sandboxed process |
//! | [`process`] | how a process ended | init |
//! | [`random`] | octets from the kernel without a device | sbc |
//! | [`clock`] | step and slew of the wall clock | init |
//! | [`ethtool`] | a card's lamps blink | init |
//! | [`probe`] | raw system calls | the escape suite alone |
//!
//! The life of a sandboxed process, in the only right order: [`launch`] (namespaces, root, bounds, uid, capabilities,
//! `no_new_privs`, program) → [`confine`] → control channel → prime the crypto library → start threads → [`seal`] →
//! serve. A step that fails ends it.

// The other rooms inherit `deny`. Here each block has its reason; clippy sees to that.
#![allow(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod cgroup;
pub mod channel;
pub mod clock;
pub mod confine;
pub mod ethtool;
pub mod launch;
pub mod probe;
pub mod process;
pub mod profile;
pub mod random;
mod syscalls;

pub use cgroup::Cgroup;
pub use channel::Channel;
pub use confine::{ConfineError, confine, seal};
pub use launch::{Child, Launch, launch};
pub use profile::Profile;
