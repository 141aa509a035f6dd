//! One attempt: what is tried, whether the list of system calls is in force, and which ends mean that it was refused.

use sandbox::{probe, process::Ending};

/// Status of an attempt that the system refused by an error.
pub const REFUSED: u8 = 0;
/// Status of an attempt that worked.
pub const WORKED: u8 = 1;

/// Status of an attempt that could not be made: it counts as not refused.
pub const BROKEN: u8 = 99;

/// Which ends mean that an attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Death by SIGSYS: the call is outside the list.
    Death,
    /// That, or the entry does not exist in this kernel (`int 0x80` without IA32 emulation faults).
    DeathOrFault,
    /// That, or the kernel's own answer: `uretprobe` and `uprobe` never reach a list (Linux 6.14, seccomp.c), and do
    /// nothing outside a probe.
    DeathOrKernel,
    /// An error of the system and nothing else: the list lets the call through, so another wall must hold.
    Error,
    /// An error of the system, or death by the list or by a bound.
    Any,
}

impl Refusal {
    /// Whether an attempt that ended so was refused.
    #[must_use]
    pub const fn holds(self, ending: Ending) -> bool {
        match (self, ending) {
            (Self::Error, Ending::Signal(_)) => false,
            (_, Ending::Signal(SIGSYS)) => true,
            (Self::DeathOrFault, Ending::Signal(SIGSEGV)) => true,
            (Self::DeathOrKernel, Ending::Signal(SIGILL)) => true,
            (Self::DeathOrKernel | Self::Error | Self::Any, Ending::Exit(status)) => {
                status == REFUSED as i32
            }
            (Self::Any, Ending::Signal(SIGKILL)) => true,
            _ => false,
        }
    }
}

const SIGSYS: i32 = nix::libc::SIGSYS;
const SIGSEGV: i32 = nix::libc::SIGSEGV;
const SIGILL: i32 = nix::libc::SIGILL;
const SIGKILL: i32 = nix::libc::SIGKILL;

/// One attempt.
pub struct Attack {
    /// Heading in the report.
    pub group: &'static str,
    /// What is tried.
    pub name: String,
    /// With the list of system calls in force.
    pub sealed: bool,
    /// Which ends are good.
    pub refusal: Refusal,
    /// The attempt itself, in a process of its own.
    pub run: Box<dyn FnOnce() -> u8>,
}

impl Attack {
    /// A raw call under the list; only death by it is a refusal.
    #[must_use]
    pub fn call(group: &'static str, name: String, number: i64, arguments: [usize; 6]) -> Self {
        Self {
            group,
            name,
            sealed: true,
            refusal: Refusal::Death,
            run: Box::new(move || worked(probe::call(number, arguments))),
        }
    }

    /// Something under the list that the list lets through.
    #[must_use]
    pub fn permitted(group: &'static str, name: &str, run: impl FnOnce() -> u8 + 'static) -> Self {
        Self {
            refusal: Refusal::Error,
            ..Self::sealed(group, name, run)
        }
    }

    /// Anything under the list.
    #[must_use]
    pub fn sealed(group: &'static str, name: &str, run: impl FnOnce() -> u8 + 'static) -> Self {
        Self {
            group,
            name: name.to_owned(),
            sealed: true,
            refusal: Refusal::Any,
            run: Box::new(run),
        }
    }

    /// Anything without the list: the other walls must hold alone.
    #[must_use]
    pub fn unsealed(group: &'static str, name: &str, run: impl FnOnce() -> u8 + 'static) -> Self {
        Self {
            group,
            name: name.to_owned(),
            sealed: false,
            refusal: Refusal::Any,
            run: Box::new(run),
        }
    }
}

/// Status for a system call's result.
#[must_use]
pub const fn worked(result: i64) -> u8 {
    if result < 0 { REFUSED } else { WORKED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_returns_is_an_escape_whatever_it_returned() {
        assert!(Refusal::Death.holds(Ending::Signal(SIGSYS)));
        for ending in [
            Ending::Exit(0),
            Ending::Exit(1),
            Ending::Signal(SIGSEGV),
            Ending::Signal(14),
        ] {
            assert!(!Refusal::Death.holds(ending), "{ending}");
        }
    }

    #[test]
    fn an_attempt_that_hangs_is_not_refused() {
        for refusal in [Refusal::Death, Refusal::DeathOrFault, Refusal::Any] {
            assert!(!refusal.holds(Ending::Signal(nix::libc::SIGALRM)));
        }
    }
}
