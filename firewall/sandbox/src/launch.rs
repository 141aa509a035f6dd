//! Starts a program of the house in a sandbox of its own: called by init for each sandboxed role, and by the escape
//! suite. What happens between the new process and its program is one straight list, [`enter`]; a step that fails ends
//! the process and names itself to the caller. The program then goes on with [`crate::confine`] and [`crate::seal`].
//!
//! The new process is a copy of a process that may have threads, so until it has become its program it makes bare
//! system calls only: no allocation, no lock.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Write},
    mem::size_of,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    ptr,
};

use libc::{c_int, c_long, c_ulong};
use nix::fcntl::OFlag;

use crate::{cgroup::Cgroup, profile::Profile};

/// Where the one directory of a role that has one is bound.
pub const DIRECTORY: &str = "/store";

/// What to start. Descriptors 0 and 1 of the program: nothing to read, and `stderr` again.
#[derive(Debug)]
pub struct Launch<'a> {
    /// A static executable, open for reading or `O_PATH`.
    pub program: BorrowedFd<'a>,
    /// First argument and host name of the process, and name of its control groups.
    pub name: &'a str,
    /// Of its role.
    pub profile: &'a Profile,
    /// Becomes descriptor 3.
    pub control: OwnedFd,
    /// Becomes descriptors 1 and 2.
    pub stderr: OwnedFd,
    /// Bound to [`DIRECTORY`], and given to the role's uid; refused where the profile has none, missed where it has one.
    pub directory: Option<&'a Path>,
}

/// A started process. Dropping this does not end it.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's pid namespace (it sees itself as 1).
    pub pid: u32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// Its control groups; [`Cgroup::missing`] has what does not bound it.
    pub cgroup: Cgroup,
}

/// Starts `what`. It returns once the program runs (or a step before failed). The process is killed when the calling
/// *thread* ends, so a long-lived one must call.
///
/// # Errors
/// The step that failed, by name, with the system's error; no process is left.
pub fn launch(what: Launch<'_>) -> io::Result<Child> {
    let prepared = Prepared::new(&what)?;
    let cgroup = Cgroup::new(what.name, &what.profile.limits);
    // The new process waits on `go` until it is in its control groups, and tells a failed step by `failed`, which its
    // program's start closes.
    let (go_reader, go) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (failed, failed_writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let descriptors = Descriptors {
        program: what.program.as_raw_fd(),
        input: prepared.input.as_raw_fd(),
        stderr: what.stderr.as_raw_fd(),
        control: what.control.as_raw_fd(),
        go: go_reader.as_raw_fd(),
        go_writer: go.as_raw_fd(),
        failed: failed_writer.as_raw_fd(),
    };
    // SAFETY: the closure makes bare system calls only, on memory that was prepared before, and does not return.
    let (pid, pidfd) = unsafe { spawn(|| enter(&prepared, &descriptors)) }?;
    drop((go_reader, failed_writer, what.control, what.stderr));

    let started = cgroup
        .enter(pid)
        .and_then(|()| File::from(go).write_all(&[1]))
        .and_then(|()| {
            let mut report = Vec::new();
            File::from(failed)
                .take(size_of::<Failure>() as u64)
                .read_to_end(&mut report)?;
            Failure::read(&report).map_or(Ok(()), Err)
        });
    if let Err(error) = started {
        crate::process::kill(&pidfd);
        let _ = crate::process::wait(pid);
        return Err(error);
    }
    Ok(Child { pid, pidfd, cgroup })
}

/// Everything [`enter`] needs that takes an allocation or a look at the file system.
struct Prepared {
    name: CString,
    input: OwnedFd,
    directory: Option<CString>,
    uid: u32,
    limits: [(c_int, u64); 12],
}

impl Prepared {
    fn new(what: &Launch<'_>) -> io::Result<Self> {
        let Profile {
            uid,
            limits,
            directory,
            ..
        } = *what.profile;
        if what.directory.is_some() != directory {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "directory and profile do not agree",
            ));
        }
        let directory = what
            .directory
            .map(|path| owned_directory(path, uid))
            .transpose()?;
        // Nobody writes to it: reading gives end-of-file, and no file of the host is behind it.
        let (input, _) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // Each thread reserves, without using it, an arena of malloc and its stack.
        let address_space = limits.memory + limits.tasks * 160 * 1024 * 1024;
        Ok(Self {
            name: CString::new(what.name)?,
            input,
            directory,
            uid,
            limits: [
                (libc::RLIMIT_AS as c_int, address_space),
                (libc::RLIMIT_DATA as c_int, limits.memory),
                (libc::RLIMIT_NOFILE as c_int, limits.descriptors),
                // Counted per uid, and so over all processes of the role on a machine: wider than the control group's.
                (libc::RLIMIT_NPROC as c_int, limits.tasks * 8),
                (libc::RLIMIT_FSIZE as c_int, limits.file_size),
                (libc::RLIMIT_CORE as c_int, 0),
                (libc::RLIMIT_MEMLOCK as c_int, 0),
                (libc::RLIMIT_MSGQUEUE as c_int, 0),
                (libc::RLIMIT_SIGPENDING as c_int, 64),
                (libc::RLIMIT_NICE as c_int, 0),
                (libc::RLIMIT_RTPRIO as c_int, 0),
                (libc::RLIMIT_LOCKS as c_int, 0),
            ],
        })
    }
}

/// Makes the directory the role's alone; its path without links. (A descriptor would be of the caller's mount namespace, and
/// only mounts of the own one can be bound.)
fn owned_directory(path: &Path, uid: u32) -> io::Result<CString> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    std::os::unix::fs::fchown(&folder, Some(uid), Some(uid))?;
    folder.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(CString::new(
        std::fs::canonicalize(path)?
            .into_os_string()
            .into_encoded_bytes(),
    )?)
}

/// Numbers of the descriptors as the caller has them.
struct Descriptors {
    program: RawFd,
    input: RawFd,
    stderr: RawFd,
    control: RawFd,
    go: RawFd,
    go_writer: RawFd,
    failed: RawFd,
}

/// A step of [`enter`], in its order.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
enum Step {
    Descriptors = 1,
    ControlGroup,
    Namespaces,
    Root,
    Directory,
    Resources,
    BoundingSet,
    Identity,
    Capabilities,
    Privileges,
    Program,
}

impl Step {
    const ALL: [Self; 11] = [
        Self::Descriptors,
        Self::ControlGroup,
        Self::Namespaces,
        Self::Root,
        Self::Directory,
        Self::Resources,
        Self::BoundingSet,
        Self::Identity,
        Self::Capabilities,
        Self::Privileges,
        Self::Program,
    ];
}

/// How [`enter`] tells the caller which step failed.
#[repr(C)]
struct Failure {
    step: c_int,
    errno: c_int,
}

impl Failure {
    /// The error in a report; `None`: the program started, and with it the pipe closed, empty.
    fn read(report: &[u8]) -> Option<io::Error> {
        if report.is_empty() {
            return None;
        }
        let number = |from: usize| {
            report
                .get(from..from + 4)
                .and_then(|octets| octets.try_into().ok())
                .map_or(0, c_int::from_ne_bytes)
        };
        let step = Step::ALL
            .into_iter()
            .find(|step| *step as c_int == number(0));
        let error = io::Error::from_raw_os_error(number(4));
        let step = step.map_or_else(
            || "launch".to_owned(),
            |step| format!("{step:?}").to_lowercase(),
        );
        Some(io::Error::new(
            error.kind(),
            format!("step {step}: {error}"),
        ))
    }
}

type Attempt = Result<(), c_int>;

/// The steps, in the only right order. Runs in the new process; ends in its program or not at all.
fn enter(prepared: &Prepared, given: &Descriptors) -> ! {
    let failed = given.failed;
    let program = must(failed, Step::Descriptors, descriptors(given));
    must(failed, Step::ControlGroup, control_group(program.go));
    must(failed, Step::Namespaces, namespaces(&prepared.name));
    must(
        failed,
        Step::Root,
        empty_root(prepared.directory.as_deref()),
    );
    must(
        failed,
        Step::Directory,
        directory_only(prepared.directory.is_some()),
    );
    must(failed, Step::Resources, resources(&prepared.limits));
    must(failed, Step::BoundingSet, bounding_set());
    must(failed, Step::Identity, identity(prepared.uid));
    must(failed, Step::Capabilities, no_capabilities());
    must(failed, Step::Privileges, no_new_privileges(program.failed));
    must(
        failed,
        Step::Program,
        become_program(program.program, &prepared.name),
    );
    exit()
}

fn must<T>(failed: RawFd, step: Step, result: Result<T, c_int>) -> T {
    match result {
        Ok(value) => value,
        Err(errno) => {
            let report = Failure {
                step: step as c_int,
                errno,
            };
            // SAFETY: the kernel reads the whole of `report`. If nobody listens there is nobody to tell.
            unsafe { libc::write(failed, (&raw const report).cast(), size_of::<Failure>()) };
            exit()
        }
    }
}

fn exit() -> ! {
    // SAFETY: ends this process without running anything of its parent's.
    unsafe { libc::_exit(127) }
}

/// Descriptors above the program's own that are still needed; all close when the program starts.
struct Kept {
    program: RawFd,
    go: RawFd,
    failed: RawFd,
}

/// 0, 1, 2 and 3 are the program's, nothing else outlives its start.
fn descriptors(given: &Descriptors) -> Result<Kept, c_int> {
    // This process must not keep its own wake-up call open, or the death of its parent would go unnoticed.
    // SAFETY: this process's copy, used by nothing below.
    unsafe { libc::close(given.go_writer) };
    // First out of the way of 0 to 3, then into place.
    let input = above(given.input)?;
    let stderr = above(given.stderr)?;
    let control = above(given.control)?;
    let kept = Kept {
        program: above(given.program)?,
        go: above(given.go)?,
        failed: given.failed,
    };
    for (from, to) in [(input, 0), (stderr, 1), (stderr, 2), (control, 3)] {
        // SAFETY: numbers only. What stood at 0 to 3 is this process's copy.
        done(unsafe { libc::dup2(from, to) }.into())?;
    }
    // SAFETY: numbers only.
    done(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            4,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(kept)
}

fn above(fd: RawFd) -> Result<RawFd, c_int> {
    // SAFETY: numbers only.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 16) };
    if copy < 0 { Err(errno()) } else { Ok(copy) }
}

/// Waits until the caller has put this process into its control groups, which are from now on all it sees.
fn control_group(go: RawFd) -> Attempt {
    let mut word = 0_u8;
    // SAFETY: the kernel writes at most one octet.
    match unsafe { libc::read(go, (&raw mut word).cast(), 1) } {
        1 => {}
        // The caller is gone or gave up.
        0 => return Err(libc::EPIPE),
        _ => return Err(errno()),
    }
    // SAFETY: numbers only.
    done(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into())
}

/// pid, net, mount, IPC and UTS came with the process ([`spawn`]); here they get their contents.
fn namespaces(name: &CStr) -> Attempt {
    // SAFETY: numbers only.
    done(unsafe { libc::setsid() }.into())?;
    // SAFETY: the kernel reads as many octets as counted.
    done(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }.into())?;
    // SAFETY: as above.
    done(unsafe { libc::setdomainname(c"".as_ptr(), 0) }.into())?;
    // What is mounted here must not appear outside, nor the other way round.
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")
}

const TMPFS: c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

// Of linux/mount.h; the libc crate has not all of them.
const MOVE_MOUNT_F_EMPTY_PATH: c_long = 0x4;
const OPEN_TREE_CLONE: c_long = 0x1;
const OPEN_TREE_CLOEXEC: c_long = libc::O_CLOEXEC as c_long;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// An empty file system as root, in place of everything that was; for the journal with one directory in it.
fn empty_root(directory: Option<&CStr>) -> Attempt {
    // Any directory that every machine has; only this mount namespace sees the new mount.
    let place = c"/proc";
    mount(
        c"none",
        place,
        c"tmpfs",
        TMPFS,
        c"size=64k,nr_inodes=16,mode=0555",
    )?;
    if let Some(directory) = directory {
        let bound = c"/proc/store";
        // SAFETY: a path and a number.
        done(unsafe { libc::mkdir(bound.as_ptr(), 0o555) }.into())?;
        bind(directory, bound)?;
    }
    // SAFETY: a path.
    done(unsafe { libc::chdir(place.as_ptr()) }.into())?;
    // pivot_root(2), last section: with "." twice the old root lies on top of the new one and is then let go.
    // SAFETY: two paths.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: a path and a number.
    done(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
    // SAFETY: a path.
    done(unsafe { libc::chdir(c"/".as_ptr()) }.into())
}

/// Binds a directory, without device nodes, programs or set-user-id bits.
fn bind(directory: &CStr, place: &CStr) -> Attempt {
    let empty = c"";
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | c_long::from(libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: a path and flags.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            directory.as_ptr(),
            flags,
        )
    };
    done(tree)?;
    let attributes = MountAttributes {
        set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads the counted octets of `attributes`.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree,
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })?;
    // SAFETY: descriptors, paths, a flag.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            empty.as_ptr(),
            libc::AT_FDCWD,
            place.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

/// The root itself becomes read-only; what is bound below it stays writable.
fn directory_only(bound: bool) -> Attempt {
    mount(
        c"none",
        c"/",
        c"",
        libc::MS_REMOUNT | libc::MS_RDONLY | TMPFS,
        c"",
    )?;
    // SAFETY: numbers only.
    unsafe { libc::umask(0o077) };
    if bound {
        // SAFETY: a path.
        done(unsafe { libc::access(c"/store".as_ptr(), libc::F_OK) }.into())?;
    }
    Ok(())
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: &CStr) -> Attempt {
    // SAFETY: five values that live longer than the call.
    done(
        unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                flags,
                data.as_ptr().cast(),
            )
        }
        .into(),
    )
}

/// Each bound, or the caller's own where that is lower: only CAP_SYS_RESOURCE, which it may lack, could raise it.
fn resources(limits: &[(c_int, u64)]) -> Attempt {
    for &(resource, most) in limits {
        let mut stands = libc::rlimit64 {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the kernel reads nothing and writes the whole of `stands`.
        done(unsafe {
            libc::syscall(
                libc::SYS_prlimit64,
                0,
                resource,
                ptr::null::<libc::rlimit64>(),
                &raw mut stands,
            )
        })?;
        let most = most.min(stands.rlim_max);
        let limit = libc::rlimit64 {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: the kernel reads the whole of `limit` and writes nothing.
        done(unsafe {
            libc::syscall(
                libc::SYS_prlimit64,
                0,
                resource,
                &raw const limit,
                ptr::null_mut::<libc::rlimit64>(),
            )
        })?;
    }
    Ok(())
}

/// `SECBIT_NOROOT`, `SECBIT_NO_SETUID_FIXUP` unset, `SECBIT_NO_CAP_AMBIENT_RAISE`, each with its lock, and the lock of
/// `SECBIT_KEEP_CAPS`: uid 0 would mean nothing, and none of it can be changed back. capabilities(7).
const SECURE_BITS: c_ulong = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x80;

/// No program that this process might ever become can get a capability.
fn bounding_set() -> Attempt {
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0, 0, 0) }.into())?;
    for capability in 0..64 {
        // SAFETY: numbers only. EINVAL: the kernel has no capability of that number, and none above.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            return if errno() == libc::EINVAL && capability > 0 {
                Ok(())
            } else {
                Err(errno())
            };
        }
    }
    Ok(())
}

/// Bare calls: the C library's would look for the threads of the process that this is a copy of.
fn identity(uid: u32) -> Attempt {
    // SAFETY: no list is read when its length is 0.
    done(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) })?;
    // SAFETY: numbers only.
    done(unsafe { libc::syscall(libc::SYS_setresgid, uid, uid, uid) })?;
    // SAFETY: numbers only.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Ambient, inheritable, permitted and effective: all empty (the bounding set is already).
fn no_capabilities() -> Attempt {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) }.into())?;
    // capget(2): version 3, this process; two times 32 bits of effective, permitted, inheritable.
    let header = [0x2008_0522_u32, 0];
    let empty = [0_u32; 6];
    // SAFETY: version 3 reads two words of `header` and six of `empty`.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), empty.as_ptr()) })
}

fn no_new_privileges(failed: RawFd) -> Attempt {
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into())?;
    // After the change of uid, which would have cleared it.
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into())?;
    // A caller that died before that line is noticed here: nobody reads the pipe any more.
    let mut reader = libc::pollfd {
        fd: failed,
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, which the kernel reads and writes.
    done(unsafe { libc::poll(&raw mut reader, 1, 0) }.into())?;
    if reader.revents & libc::POLLERR == 0 {
        Ok(())
    } else {
        Err(libc::EPIPE)
    }
}

fn become_program(program: RawFd, name: &CStr) -> Attempt {
    // No signal is held back from the program.
    let none = 0_u64;
    // SAFETY: the kernel reads the eight octets of `none`.
    done(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null::<u64>(),
            8,
        )
    })?;
    let arguments = [name.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: both lists end in a null pointer.
    done(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })
}

fn done(result: c_long) -> Attempt {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn errno() -> c_int {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// struct clone_args of clone3(2), its first version.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// A copy of this process in namespaces of its own, running `body`.
///
/// # Safety
/// `body` runs in a copy of a process that may have threads: it must neither allocate nor take a lock.
unsafe fn spawn(body: impl FnOnce()) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let namespaces = libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let arguments = CloneArguments {
        flags: (namespaces | libc::CLONE_PIDFD) as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the copy has its own memory and this very stack; the kernel writes `pidfd`.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => {
            body();
            exit()
        }
        // SAFETY: the kernel has just opened it for us.
        Ok(pid) => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}
