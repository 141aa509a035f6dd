//! Memory of a process, as the kernel accounts it.

use std::{fs, io};

/// Octets of a process that are in memory.
///
/// # Errors
/// When the process is gone, or /proc does not look as proc(5) says.
pub fn resident(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: Option<u64> = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages
        .map(|pages| pages * 4_096)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
