//! A network namespace for this process and its children, with a loopback and nothing else: no rule, no connection
//! tracking, no port of anybody.

use std::{io, net::Ipv4Addr, process::Command};

use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Descriptors that a run may need: four sockets for each call, and those of the generator.
const DESCRIPTORS: u64 = 65_536;

/// Enters a fresh one, whose loopback has `addresses`; it goes with its last process. Only before the first thread is started, and only as root.
///
/// # Errors
/// Without root rights, or without ip(8).
pub fn enter(addresses: &[Ipv4Addr]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    ip(&["link", "set", "lo", "up"])?;
    for address in addresses {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard)?;
    Ok(())
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    if Command::new("ip").args(arguments).status()?.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "ip {} failed",
            arguments.join(" ")
        )))
    }
}
