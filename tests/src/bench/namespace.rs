//! A network namespace for this process and its children, with a loopback and nothing else: no rule, no connection
//! tracking, no port of anybody.

use std::{io, process::Command};

use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Descriptors that a run may need: four sockets for each call, and those of the generator.
const DESCRIPTORS: u64 = 65_536;

/// Enters a fresh one; it goes with its last process. Only before the first thread is started, and only as root.
///
/// # Errors
/// Without root rights, or without ip(8).
pub fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !status.success() {
        return Err(io::Error::other("ip link set lo up failed"));
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard)?;
    Ok(())
}
