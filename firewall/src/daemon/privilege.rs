//! What the firewall gives up before it serves, and what it takes for itself: of root's capabilities it keeps the three
//! that make sockets and rules; of the processor, the right to go first. Called once, before any thread is started,
//! since threads inherit all of it.

use std::{io, os::fd::BorrowedFd};

use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        stat::{SFlag, fstat},
    },
};

/// Rules and marks; binding to devices; ports below 1024.
const KEPT: [Capability; 3] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BIND_SERVICE,
];

/// Descriptors: a copy of every media socket, and those under way to a reader that has not read yet.
const MAX_DESCRIPTORS: u64 = 65_536;

/// Real-time priority: the lowest. Anything that is not real-time still waits for it.
const PRIORITY: libc::c_int = 1;

/// Takes the limits and the priority that need privileges, then drops these. A limit or priority that the system does
/// not grant is told and done without; a capability that can not be dropped is an error.
///
/// # Errors
/// As the system says.
pub fn drop_privileges() -> io::Result<()> {
    if let Err(error) = raise_descriptors() {
        tracing::warn!(%error, "descriptor limit stays as it was");
    }
    if let Err(error) = go_first() {
        tracing::warn!(%error, "no real-time priority: pinholes close later under load");
    }
    let kept: CapsHashSet = KEPT.into_iter().collect();
    for capability in caps::all().difference(&kept) {
        // A kernel that does not know a capability can not have it in its bounding set.
        if caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(io::Error::other)?;
        }
    }
    caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

/// Makes writes to a pipe fail where they would wait. Anything but a pipe (a terminal, a file) stays as it is: others may
/// share it.
pub fn never_wait_for_a_reader(pipe: BorrowedFd<'_>) {
    let is_pipe =
        fstat(pipe).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits());
    if is_pipe {
        // A pipe can always be switched.
        let _ = fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK));
    }
}

/// As many descriptors as are wanted, or as the system lets this process have.
fn raise_descriptors() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, MAX_DESCRIPTORS, MAX_DESCRIPTORS)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard.min(MAX_DESCRIPTORS), hard))
}

/// `SCHED_RR`, for this thread alone: the program that loads rulesets and the thread that waits for it go with the rest.
#[allow(
    unsafe_code,
    reason = "no safe crate of the house has sched_setscheduler(2)"
)]
fn go_first() -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: `parameters` lives through the call, which reads it only; 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
