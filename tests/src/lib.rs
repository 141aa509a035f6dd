//! Harness, end-to-end, QEMU, conformance.

// A harness fails loudly.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

pub mod agent;
pub mod api;
pub mod bench;
pub mod border;
pub mod escape;
pub mod figures;
pub mod hep;
pub mod lab;
pub mod machine;
pub mod parties;
pub mod scan;
pub mod secure_agent;
pub mod tone;
