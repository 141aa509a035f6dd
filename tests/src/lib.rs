//! Harness, end-to-end, QEMU, conformance.

pub mod agent;
pub mod api;
pub mod bench;
pub mod escape;
pub mod figures;
pub mod lab;
pub mod machine;
pub mod parties;
pub mod scan;
pub mod tone;
