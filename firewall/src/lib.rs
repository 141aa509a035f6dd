//! Decides what may pass; reads no hostile byte.

pub mod broker;
pub mod daemon;
pub mod netlink;
pub mod nftables;
pub mod policy;
pub mod route_explained;
