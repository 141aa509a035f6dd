//! What an attacker wants, by name and with the arguments it takes: sockets of every family, files, programs, processes,
//! signals, other processes' memory, mounts, namespaces, keyrings, and the kernel's larger interfaces. Under the list
//! each is death; most of the numbers were tried blind before, here they are what one would write.

use std::ffi::CString;

use nix::libc;
use sandbox::{
    Profile,
    launch::DIRECTORY,
    probe::{self, Scratch},
};

use super::attack::{Attack, Refusal, worked};

/// Paths of a host or of the image that lead to secrets, devices, the kernel or other processes.
pub const PATHS: &[&str] = &[
    "/",
    ".",
    "..",
    "../..",
    "../../../../etc/passwd",
    "/store",
    "/data",
    "/run",
    "/tmp",
    "/var/lib",
    "/root",
    "/home",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/ssl",
    "/bin/sh",
    "/usr/bin/env",
    "/usr/sbin/nft",
    "/init",
    "/sbin/init",
    "/gatehouse",
    "/boot",
    "/efi",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/proc",
    "/proc/self",
    "/proc/self/mem",
    "/proc/self/maps",
    "/proc/self/exe",
    "/proc/self/fd",
    "/proc/self/root",
    "/proc/1/environ",
    "/proc/1/root",
    "/proc/1/mem",
    "/proc/kcore",
    "/proc/kallsyms",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/net/tcp",
    "/proc/mounts",
    "/proc/cmdline",
    "/proc/keys",
    "/proc/modules",
    "/sys",
    "/sys/class/net",
    "/sys/block",
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/kernel/security",
    "/sys/kernel/debug",
    "/sys/kernel/uevent_helper",
    "/sys/firmware/qemu_fw_cfg",
    "/sys/power/state",
    "/dev",
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/kmsg",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/tty1",
    "/dev/console",
    "/dev/ttyS0",
    "/dev/ptmx",
    "/dev/pts/0",
    "/dev/shm",
    "/dev/fd/0",
    "/dev/stdin",
    "/dev/net/tun",
    "/dev/kvm",
    "/dev/vhost-net",
    "/dev/fuse",
    "/dev/loop-control",
    "/dev/loop0",
    "/dev/sda",
    "/dev/vda",
    "/dev/vdb",
    "/dev/nvme0n1",
    "/dev/mapper/control",
    "/dev/dm-0",
    "/dev/tpm0",
    "/dev/tpmrm0",
    "/dev/watchdog",
    "/dev/input/event0",
    "/dev/rtc0",
    "/dev/hwrng",
    "/dev/cpu/0/msr",
    "/dev/snapshot",
    "/dev/uinput",
    "/dev/userfaultfd",
];

const GROUP_SOCKETS: &str = "sockets of every family";
const GROUP_PATHS: &str = "opening paths";
const GROUP_OTHERS: &str = "processes, signals, mounts, namespaces, kernel interfaces";

/// All of them that the profile's list does not permit, and the opening of paths in any case: what the journal may open
/// by its list, Landlock refuses.
pub fn attacks(profile: &Profile) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let death = |number| {
        if profile.permits(number, &[0; 6]) {
            Refusal::Any
        } else {
            Refusal::Death
        }
    };
    for family in 0..=45 {
        for kind in [
            libc::SOCK_STREAM,
            libc::SOCK_DGRAM,
            libc::SOCK_RAW,
            libc::SOCK_SEQPACKET,
        ] {
            let arguments = [family, kind as usize, 0, 0, 0, 0];
            let name = format!("socket family {family} type {kind}");
            attacks.push(Attack::call(
                GROUP_SOCKETS,
                name,
                libc::SYS_socket,
                arguments,
            ));
        }
    }
    for path in PATHS
        .iter()
        .filter(|path| !(profile.directory && **path == DIRECTORY))
    {
        opening(&mut attacks, path, "open", death(libc::SYS_open), |path| {
            probe::call(libc::SYS_open, [path, 0, 0, 0, 0, 0])
        });
        opening(
            &mut attacks,
            path,
            "openat",
            death(libc::SYS_openat),
            |path| {
                probe::call(
                    libc::SYS_openat,
                    [libc::AT_FDCWD as usize, path, 0, 0, 0, 0],
                )
            },
        );
        opening(
            &mut attacks,
            path,
            "openat for writing",
            death(libc::SYS_openat),
            |path| {
                probe::call(
                    libc::SYS_openat,
                    [
                        libc::AT_FDCWD as usize,
                        path,
                        libc::O_RDWR as usize,
                        0,
                        0,
                        0,
                    ],
                )
            },
        );
        opening(
            &mut attacks,
            path,
            "openat2",
            death(libc::SYS_openat2),
            |path| {
                let mut how = Scratch::default();
                probe::call(
                    libc::SYS_openat2,
                    [libc::AT_FDCWD as usize, path, how.address(), 24, 0, 0],
                )
            },
        );
        opening(&mut attacks, path, "stat", death(libc::SYS_stat), |path| {
            let mut status = Scratch::default();
            probe::call(libc::SYS_stat, [path, status.address(), 0, 0, 0, 0])
        });
    }
    let others = others().into_iter();
    for (name, number, arguments) in
        others.filter(|(_, number, with)| !profile.permits(*number, with))
    {
        attacks.push(Attack::call(GROUP_OTHERS, name, number, arguments));
    }
    attacks
}

fn opening(
    attacks: &mut Vec<Attack>,
    path: &str,
    how: &str,
    refusal: Refusal,
    call: impl Fn(usize) -> i64 + 'static,
) {
    let Ok(text) = CString::new(path) else { return };
    attacks.push(Attack {
        group: GROUP_PATHS,
        name: format!("{how} {path}"),
        sealed: true,
        refusal,
        run: Box::new(move || worked(call(text.as_ptr() as usize))),
    });
}

type Call = (String, i64, [usize; 6]);

fn others() -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut add = |name: &str, number: i64, arguments: [usize; 6]| {
        calls.push((name.to_owned(), number, arguments))
    };
    let signal = libc::SIGKILL as usize;

    add("fork", libc::SYS_fork, [0; 6]);
    add(
        "clone",
        libc::SYS_clone,
        [libc::SIGCHLD as usize, 0, 0, 0, 0, 0],
    );
    add(
        "clone of a thread",
        libc::SYS_clone,
        [0x3d_0f00, 0, 0, 0, 0, 0],
    );
    for (word, flag) in NAMESPACES {
        add(
            &format!("clone into a new {word} namespace"),
            libc::SYS_clone,
            [flag | 17, 0, 0, 0, 0, 0],
        );
        add(
            &format!("unshare {word}"),
            libc::SYS_unshare,
            [*flag, 0, 0, 0, 0, 0],
        );
        add(
            &format!("setns {word}"),
            libc::SYS_setns,
            [3, *flag, 0, 0, 0, 0],
        );
    }
    add("execve", libc::SYS_execve, [0; 6]);
    add(
        "execveat of a descriptor",
        libc::SYS_execveat,
        [0, c"".as_ptr() as usize, 0, 0, 0x1000, 0],
    );
    for pid in (0..=300).chain([1000, 32_767, 4_194_303, usize::MAX]) {
        add(
            &format!("kill {pid}"),
            libc::SYS_kill,
            [pid, signal, 0, 0, 0, 0],
        );
        add(
            &format!("pidfd_open {pid}"),
            libc::SYS_pidfd_open,
            [pid, 0, 0, 0, 0, 0],
        );
    }
    add(
        "tgkill of itself",
        libc::SYS_tgkill,
        [1, 1, signal, 0, 0, 0],
    );
    add("ptrace TRACEME", libc::SYS_ptrace, [0; 6]);
    add(
        "ptrace SEIZE of pid 1",
        libc::SYS_ptrace,
        [0x4206, 1, 0, 0, 0, 0],
    );
    add(
        "process_vm_readv of pid 1",
        libc::SYS_process_vm_readv,
        [1, 0, 0, 0, 0, 0],
    );
    add(
        "process_vm_writev of pid 1",
        libc::SYS_process_vm_writev,
        [1, 0, 0, 0, 0, 0],
    );
    add("pidfd_getfd", libc::SYS_pidfd_getfd, [3, 0, 0, 0, 0, 0]);
    add("kcmp", libc::SYS_kcmp, [1, 1, 0, 0, 0, 0]);
    for (name, number) in PLAIN {
        add(name, *number, [0; 6]);
    }
    for operation in 0..32 {
        add(
            &format!("keyctl {operation}"),
            libc::SYS_keyctl,
            [operation, usize::MAX - 2, 0, 0, 0, 0],
        );
        add(
            &format!("bpf {operation}"),
            libc::SYS_bpf,
            [operation, 0, 0, 0, 0, 0],
        );
    }
    // PR_SET_NO_NEW_PRIVS stays; what would undo the walls is tried: dumpable, seccomp, capabilities, MDWE, names.
    for option in (1..80).chain([0x5961_6d61, 0x5356_4d41]) {
        add(
            &format!("prctl {option}"),
            libc::SYS_prctl,
            [option, 1, 0, 0, 0, 0],
        );
    }
    for operation in 0..4 {
        add(
            &format!("seccomp {operation}"),
            libc::SYS_seccomp,
            [operation, 0, 0, 0, 0, 0],
        );
    }
    for resource in 0..16 {
        add(
            &format!("prlimit of resource {resource}"),
            libc::SYS_prlimit64,
            [0, resource, 0, 0, 0, 0],
        );
    }
    calls
}

const NAMESPACES: &[(&str, usize)] = &[
    ("user", libc::CLONE_NEWUSER as usize),
    ("mount", libc::CLONE_NEWNS as usize),
    ("pid", libc::CLONE_NEWPID as usize),
    ("net", libc::CLONE_NEWNET as usize),
    ("ipc", libc::CLONE_NEWIPC as usize),
    ("uts", libc::CLONE_NEWUTS as usize),
    ("cgroup", libc::CLONE_NEWCGROUP as usize),
];

const PLAIN: &[(&str, i64)] = &[
    ("connect of a lent socket", libc::SYS_connect),
    ("bind of a lent socket", libc::SYS_bind),
    ("listen", libc::SYS_listen),
    ("accept4", libc::SYS_accept4),
    ("socketpair", libc::SYS_socketpair),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("fsopen", libc::SYS_fsopen),
    ("fsmount", libc::SYS_fsmount),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("io_setup", libc::SYS_io_setup),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("memfd_create", libc::SYS_memfd_create),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("modify_ldt", libc::SYS_modify_ldt),
    ("iopl", libc::SYS_iopl),
    ("ioperm", libc::SYS_ioperm),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("syslog", libc::SYS_syslog),
    ("acct", libc::SYS_acct),
    ("quotactl", libc::SYS_quotactl),
    ("setuid 0", libc::SYS_setuid),
    ("setresuid 0", libc::SYS_setresuid),
    ("setgroups", libc::SYS_setgroups),
    ("capset", libc::SYS_capset),
    ("personality", libc::SYS_personality),
    ("arch_prctl", libc::SYS_arch_prctl),
    ("shmget", libc::SYS_shmget),
    ("msgget", libc::SYS_msgget),
    ("semget", libc::SYS_semget),
    ("mq_open", libc::SYS_mq_open),
    ("clock_settime", libc::SYS_clock_settime),
    ("adjtimex", libc::SYS_adjtimex),
    ("sethostname", libc::SYS_sethostname),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("vmsplice", libc::SYS_vmsplice),
    ("splice", libc::SYS_splice),
    ("remap_file_pages", libc::SYS_remap_file_pages),
    ("mlockall", libc::SYS_mlockall),
    ("sched_setscheduler", libc::SYS_sched_setscheduler),
    ("setpriority", libc::SYS_setpriority),
    ("timer_create", libc::SYS_timer_create),
    (
        "getcpu of others: sched_setaffinity",
        libc::SYS_sched_setaffinity,
    ),
];
