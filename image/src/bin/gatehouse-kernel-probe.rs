//! A first process that asks the kernel what it can do, prints one answer a line, and switches the machine off. Started by
//! `tests/kernel.rs` in QEMU, so that what `kernel/fragment.config` promises is seen in the running kernel.

#![allow(unsafe_code)] // Asks for system calls by number, with arguments that do nothing.

use std::fs;
use std::io::Write;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::reboot::{RebootMode, reboot};

/// System calls that must not exist, by number: code paths that nobody inside has a use for.
const ABSENT: [(&str, i64); 16] = [
    ("bpf", libc::SYS_bpf),
    ("delete_module", libc::SYS_delete_module),
    ("finit_module", libc::SYS_finit_module),
    ("init_module", libc::SYS_init_module),
    ("io_setup", libc::SYS_io_setup),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("ioperm", libc::SYS_ioperm),
    ("iopl", libc::SYS_iopl),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("kexec_load", libc::SYS_kexec_load),
    ("modify_ldt", libc::SYS_modify_ldt),
    ("mq_open", libc::SYS_mq_open),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("uselib", libc::SYS_uselib),
    ("userfaultfd", libc::SYS_userfaultfd),
];

fn main() {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("securityfs", "/sys/kernel/security"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("tmpfs", "/tmp"),
    ] {
        say(
            &format!("mount-{kind}"),
            outcome(mount(
                Some(kind),
                target,
                Some(kind),
                MsFlags::empty(),
                None::<&str>,
            )),
        );
    }
    system();
    calls();
    programs();
    namespaces();
    disks();
    say("done", "yes");
    // Only an error comes back, and then the kernel's panic ends the machine.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn system() {
    for (key, path) in [
        ("release", "/proc/sys/kernel/osrelease"),
        ("controllers", "/sys/fs/cgroup/cgroup.controllers"),
        ("lockdown", "/sys/kernel/security/lockdown"),
        ("lsm", "/sys/kernel/security/lsm"),
        ("seccomp", "/proc/sys/kernel/seccomp/actions_avail"),
        (
            "config",
            "/sys/firmware/qemu_fw_cfg/by_name/opt/org.gatehouse/config/raw",
        ),
        ("clock", "/sys/class/rtc/rtc0/name"),
        ("consoles", "/sys/class/tty/console/active"),
    ] {
        say(
            key,
            fs::read_to_string(path).unwrap_or_else(|error| error.to_string()),
        );
    }
    for (key, path) in [("cards", "/sys/class/net"), ("inputs", "/dev/input")] {
        say(key, names(path));
    }
    for path in [
        "/dev/mem",
        "/dev/port",
        "/dev/kmem",
        "/dev/ptmx",
        "/proc/kcore",
        "/proc/modules",
        "/proc/config.gz",
    ] {
        say(&format!("exists {path}"), fs::metadata(path).is_ok());
    }
    for path in [
        "/dev/watchdog0",
        "/dev/rtc0",
        "/dev/ttyS0",
        "/dev/tty1",
        "/dev/net",
    ] {
        say(&format!("exists {path}"), fs::metadata(path).is_ok());
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    say(
        "filesystems",
        known
            .split_whitespace()
            .filter(|word| *word != "nodev")
            .collect::<Vec<_>>()
            .join(" "),
    );
}

fn calls() {
    for (name, number) in ABSENT {
        // SAFETY: zero for every argument: where the call exists it fails on the null pointer or the empty request.
        let result = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
        let error = std::io::Error::last_os_error().raw_os_error();
        say(
            &format!("call {name}"),
            if result == -1 && error == Some(libc::ENOSYS) {
                "absent"
            } else {
                "present"
            },
        );
    }
    // SAFETY: a null attribute with flag 1 (LANDLOCK_CREATE_RULESET_VERSION) only asks for the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            1,
        )
    };
    say("landlock", version);
}

fn namespaces() {
    for (name, flag) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mount", CloneFlags::CLONE_NEWNS),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ] {
        say(&format!("namespace {name}"), outcome(unshare(flag)));
    }
}

fn programs() {
    let checked = Command::new("/usr/sbin/nft")
        .args(["-f", "/etc/probe.nft"])
        .output();
    say(
        "nft",
        match checked {
            Ok(output) if output.status.success() => "ok".to_owned(),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        },
    );
    let written = fs::write("/tmp/script", "#!/init\n").and_then(|()| {
        fs::set_permissions(
            "/tmp/script",
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
    });
    say("script-written", written.is_ok());
    let started = Command::new("/tmp/script").output();
    say(
        "script",
        started.map_or_else(
            |error| format!("{:?}", error.raw_os_error()),
            |_| "ran".to_owned(),
        ),
    );
}

fn disks() {
    for (device, kind, flags) in [
        ("/dev/vda1", "vfat", MsFlags::MS_RDONLY),
        ("/dev/vda6", "ext4", MsFlags::empty()),
        ("/dev/vdb", "iso9660", MsFlags::MS_RDONLY),
    ] {
        say(
            &format!("disk {kind}"),
            outcome(mount(
                Some(device),
                "/data",
                Some(kind),
                flags,
                None::<&str>,
            )),
        );
        say(&format!("files {kind}"), names("/data"));
        // The next one is mounted on top where this fails, which shows in its files.
        let _ = nix::mount::umount("/data");
    }
}

fn names(folder: &str) -> String {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names.join(" ")
}

fn outcome(result: nix::Result<()>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

fn say(key: &str, value: impl std::fmt::Display) {
    let value = value
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    // Nobody to tell if the console is gone.
    let _ = writeln!(std::io::stdout(), "PROBE {key}: {value}");
}
