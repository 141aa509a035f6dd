//! The escape suite: attacker code in place of the sbc, launched by the same code into exactly its sandbox, tries what an
//! attacker would. It prints what it tried and what was refused, and the list of system calls that are left. In the image
//! it is the console's self-test, so it needs no other program; the broker's part runs where the firewall's program is.
//!
//! | module | noun |
//! |---|---|
//! | [`attack`] | one attempt, and how it may end |
//! | [`numbers`] | every system call by every entry |
//! | [`arguments`] | allowed calls with arguments outside their conditions |
//! | [`named`] | what an attacker wants, by name |
//! | [`second_line`] | the same without the list: namespaces, uid, root and Landlock alone |
//! | [`resources`] | descriptors that were inherited, memory, lent sockets |
//! | [`inside`] | the process in the sandbox: runs attempts, one copy of itself each |
//! | [`egress`], [`forgery`] | lent sockets to foreign addresses; forged and flooded requests |
//! | [`outside`] | the supervisor: launches, counts, prints |
//! | [`broker`], [`house`] | the real firewall for both, its cables watched |

pub mod arguments;
pub mod attack;
pub mod broker;
pub mod egress;
pub mod forgery;
pub mod house;
pub mod inside;
pub mod named;
pub mod numbers;
pub mod outside;
pub mod resources;
pub mod second_line;

/// First argument of the suite inside, followed by the role in whose place it attacks.
pub const INSIDE: &str = "escape-";
