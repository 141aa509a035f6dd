//! Harness, end-to-end, QEMU, conformance.
