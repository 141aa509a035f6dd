//! Decides what may pass; reads no hostile byte.

pub mod nftables;
