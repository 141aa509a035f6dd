//! The firewall's own edge to `nfnetlink`: single set elements in microseconds, counters, and the log of refusals.
//!
//! Whole rulesets go in as text by `nftables`; what changes with every call goes in here. All bytes that are read come
//! from the kernel, except the packet heads inside log entries, which only [`packet`] looks at.
//!
//! | module | noun |
//! |---|---|
//! | [`message`] | netlink messages and their attributes, as bytes |
//! | [`socket`] | a netlink socket |
//! | [`elements`] | elements of sets: changed in one transaction, listed |
//! | [`counters`] | named counters: read, read and set to zero |
//! | [`log`] | entries of `nfnetlink_log` |
//! | [`packet`] | the five-tuple of a packet that was dropped |
//! | [`diagnosis`] | TCP sockets by local port, from `inet_diag` |

pub mod counters;
pub mod diagnosis;
pub mod elements;
pub mod log;
mod message;
pub mod packet;
mod socket;

pub use elements::{Change, Element};
pub use socket::Socket;
