//! The two ways to correct the wall clock (clock_adjtime(2)). Called by init, which decides; needs CAP_SYS_TIME.

use std::{io, mem};

/// Moves the clock at once by `offset_ns`.
///
/// # Errors
/// The kernel's.
pub fn step(offset_ns: i64) -> io::Result<()> {
    // The kernel wants 0 ≤ nanoseconds < 1 s, also for a negative offset.
    let seconds = offset_ns.div_euclid(1_000_000_000);
    let nanoseconds = offset_ns.rem_euclid(1_000_000_000);
    // SAFETY: all-zero is a valid `timex`.
    let mut change: libc::timex = unsafe { mem::zeroed() };
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    change.time.tv_sec = seconds;
    change.time.tv_usec = nanoseconds;
    adjust(&mut change)
}

/// Lets the clock drift by `offset_ns` at the kernel's pace (0.5 ms a second).
///
/// # Errors
/// The kernel's.
pub fn slew(offset_ns: i64) -> io::Result<()> {
    // SAFETY: all-zero is a valid `timex`.
    let mut change: libc::timex = unsafe { mem::zeroed() };
    change.modes = libc::ADJ_OFFSET_SINGLESHOT;
    change.offset = offset_ns / 1_000;
    adjust(&mut change)
}

fn adjust(change: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the structure is a valid local of the kernel's size.
    match unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, change) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
