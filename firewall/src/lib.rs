//! Decides what may pass; reads no hostile byte.

pub mod nftables;
pub mod policy;
pub mod broker;
pub mod netlink;
pub mod daemon;
