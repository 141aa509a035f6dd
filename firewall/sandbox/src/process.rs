//! Ends of processes: kill by descriptor (a number may long belong to another), wait, and what became of it. Used by
//! `launch`, init's supervisor and the escape suite.

use std::{
    fmt, io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl Ending {
    /// It made a system call that its list has not.
    #[must_use]
    pub const fn is_forbidden_call(self) -> bool {
        matches!(self, Self::Signal(libc::SIGSYS))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(libc::SIGSYS) => f.write_str("killed for a forbidden system call"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// Sends SIGKILL to the process behind a pidfd; one that has ended is left alone.
pub fn kill(pidfd: &OwnedFd) {
    // SAFETY: a descriptor, a number and no signal information. ESRCH: it has ended already.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
}

/// Waits for the end of a child, and frees its number.
///
/// # Errors
/// `ECHILD`: it is no child of this process, or was waited for already.
pub fn wait(pid: u32) -> io::Result<Ending> {
    let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(Ending::Exit(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ending::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
