//! Raw system calls for the escape suite, which tries from inside a sandbox what no honest program of the house would.
//! Nobody else calls this. Every call is made in a process that exists for this one attempt.

use std::{
    arch::asm,
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use crate::process::{self, Ending};

/// Numbers of the x32 entry carry this bit (arch/x86/include/uapi/asm/unistd.h).
pub const X32_BIT: i64 = 0x4000_0000;

/// Memory that stays valid for whatever a probed call writes through an argument that points to it.
#[derive(Debug)]
pub struct Scratch(Box<[u64; 1024]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Scratch {
    /// Its address, as an argument.
    #[must_use]
    pub fn address(&mut self) -> usize {
        self.0.as_mut_ptr() as usize
    }
}

/// Makes the call `number` with whatever arguments. The result is the kernel's: at least 0, or minus an error number.
///
/// A call that works may do anything to this process, which must be there for this attempt alone: see [`attempt`].
#[must_use]
pub fn call(number: i64, arguments: [usize; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY: none in general. The calling process was forked for this attempt, and whatever it breaks ends with it.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// The same through the 32-bit entry. Arguments are cut to 32 bits.
#[must_use]
pub fn call_i386(number: i64, arguments: [u32; 5]) -> i64 {
    let [a, b, c, d, e] = arguments;
    let result: i64;
    // SAFETY: as in `call`. rbx is not ours to name as an operand, so it is exchanged and put back.
    unsafe {
        asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(a) => _,
            inlateout("rax") number => result,
            in("rcx") u64::from(b), in("rdx") u64::from(c), in("rsi") u64::from(d), in("rdi") u64::from(e),
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result
}

/// Runs `body` in a copy of this process and says how that ended; the status is what `body` returned.
///
/// # Errors
/// The copy could not be made or waited for.
pub fn attempt(body: impl FnOnce() -> u8) -> io::Result<Ending> {
    // SAFETY: the suite's process has one thread, so the copy may do whatever that thread could.
    match unsafe { libc::fork() } {
        0 => {
            let status = body();
            // SAFETY: ends the copy without running the destructors of what it shares with this process.
            unsafe { libc::_exit(status.into()) }
        }
        pid => match u32::try_from(pid) {
            Ok(pid) => process::wait(pid),
            Err(_) => Err(io::Error::last_os_error()),
        },
    }
}

/// Numbers below `most` of descriptors that are open in this process.
#[must_use]
pub fn open_descriptors(most: RawFd) -> Vec<RawFd> {
    // SAFETY: fcntl(2) with F_GETFL takes and gives numbers only.
    (0..most)
        .filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFL) } >= 0)
        .collect()
}

/// Makes a descriptor number from outside this process's knowledge (an inherited one) into an owned one.
///
/// # Errors
/// It is not open.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the suite's process has no owner for it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
