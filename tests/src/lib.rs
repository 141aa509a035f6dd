//! Harness, end-to-end, QEMU, conformance.

pub mod agent;
pub mod lab;
pub mod tone;
