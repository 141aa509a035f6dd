//! What the firewall takes for itself and what it gives up: of the processor, the right to go first; of root's
//! capabilities, all but the three that make sockets and rules. Both hold for one thread, so the loop and the committing
//! thread each do it for themselves before they serve.

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

/// Real-time priority of the loop: above the loading of rulesets, which shares a lock of the kernel with it.
const FIRST: libc::c_int = 2;
/// Real-time priority of the loading of rulesets: whoever holds that lock must not wait for ordinary load, or the loop
/// waits with him.
const SECOND: libc::c_int = 1;

/// Takes limits and priority that need privileges, for the loop's thread. What the system does not grant is told and
/// done without.
pub fn go_first() {
    if let Err(error) = raise_descriptors() {
        tracing::warn!(%error, "descriptor limit stays as it was");
    }
    // Threads and programs that the loop starts begin like everybody's.
    if let Err(error) = schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, FIRST) {
        tracing::warn!(%error, "no real-time priority: pinholes close later under load");
    }
}

/// Takes the priority of the loading of rulesets, for the calling thread and the programs it starts.
pub fn go_second() {
    if let Err(error) = schedule(libc::SCHED_RR, SECOND) {
        tracing::warn!(%error, "rulesets are loaded without priority");
    }
}

/// Drops all but the kept capabilities, of the calling thread and whatever it starts.
///
/// # Errors
/// As the system says; then the thread must not go on.
pub fn drop_capabilities() -> io::Result<()> {
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

/// Priority of the calling thread.
#[allow(
    unsafe_code,
    reason = "no safe crate of the house has sched_setscheduler(2)"
)]
fn schedule(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: `parameters` lives through the call, which reads it only; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
