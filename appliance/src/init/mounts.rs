//! The file systems of the appliance, mounted by PID 1: kernel interfaces, and the data partition. In the laboratory nothing
//! is mounted; the state folder stands for the data partition.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, chroot},
};

use super::gpt;

/// Name of the data partition in the disk's table.
const DATA_PARTITION: &str = "gatehouse-data";
/// Where it is mounted.
pub(super) const DATA: &str = "/data";
/// How long a disk may take to appear.
const DISK_TIME: Duration = Duration::from_secs(5);

/// Mounts the kernel's file systems. What is mounted already is left alone.
///
/// # Errors
/// One that nothing works without could not be mounted.
pub(super) fn kernel() -> io::Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    own_root()?;
    let needed: [(&str, &str, &str, MsFlags, &str); 5] = [
        ("proc", "/proc", "proc", plain, "hidepid=2"),
        ("sysfs", "/sys", "sysfs", plain, ""),
        (
            "devtmpfs",
            "/dev",
            "devtmpfs",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "mode=0755",
        ),
        ("tmpfs", "/run", "tmpfs", plain, "mode=0755,size=32m"),
        ("tmpfs", "/tmp", "tmpfs", plain, "mode=0700,size=16m"),
    ];
    for (source, target, kind, flags, options) in needed {
        fs::create_dir_all(target)?;
        mount_unless_there(source, target, kind, flags, options)?;
    }
    fs::create_dir_all("/sys/fs/cgroup")?;
    if let Err(error) = mount_unless_there("cgroup2", "/sys/fs/cgroup", "cgroup2", plain, "") {
        tracing::error!(%error, "control groups are not there: processes are bounded by rlimits alone");
    }
    Ok(())
}

/// Puts the root on a mount of its own, read-only. The kernel's first root has no parent, so that pivot_root(2) refuses to
/// replace it (its manual page, EINVAL), and the sandbox could give nobody an empty root. A bind mount of it has one.
fn own_root() -> io::Result<()> {
    let none = None::<&str>;
    // Any folder will do: what is bound there moves on at once.
    mount(Some("/"), "/run", none, MsFlags::MS_BIND, none)?;
    chdir("/run")?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    chroot(".")?;
    chdir("/")?;
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV;
    mount(none, "/", none, flags, none)?;
    Ok(())
}

fn mount_unless_there(
    source: &str,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> io::Result<()> {
    match mount(Some(source), target, Some(kind), flags, Some(options)) {
        Ok(()) | Err(nix::errno::Errno::EBUSY) => Ok(()),
        Err(errno) => Err(io::Error::other(format!("{target}: {errno}"))),
    }
}

/// Mounts the data partition at [`DATA`]. Without one (no disk, broken file system) a memory file system takes its place, so
/// that the box still comes up, closed; the sentence says so.
pub(super) fn data() -> (PathBuf, Option<String>) {
    let data = PathBuf::from(DATA);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    let _ = fs::create_dir_all(&data);
    let deadline = Instant::now() + DISK_TIME;
    let complaint = loop {
        match gpt::find(DATA_PARTITION) {
            Some(node) => {
                let mounted = mount(
                    Some(&node),
                    &data,
                    Some("ext4"),
                    flags,
                    Some("errors=remount-ro"),
                );
                match mounted {
                    Ok(()) => return (data, None),
                    Err(errno) => {
                        break format!(
                            "the data partition {} cannot be mounted: {errno}",
                            node.display()
                        );
                    }
                }
            }
            None if Instant::now() > deadline => break "there is no data partition".to_owned(),
            // Disks are found by the kernel in its own time, and it tells init nothing before devices are listed.
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let mounted = mount(
        Some("tmpfs"),
        &data,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=64m"),
    );
    if let Err(errno) = mounted {
        tracing::error!(%errno, "no memory file system in place of the data partition");
    }
    (
        data,
        Some(format!("{complaint}; nothing will outlast this start")),
    )
}

/// Mounts a labelled disk read-only, calls `read` with its folder, and unmounts it.
pub(super) fn with_disk<T>(
    node: &Path,
    kind: &str,
    read: impl FnOnce(&Path) -> T,
) -> io::Result<T> {
    let target = Path::new("/run/gatehouse-disk");
    fs::create_dir_all(target)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(node), target, Some(kind), flags, None::<&str>)?;
    let result = read(target);
    umount2(target, MntFlags::MNT_DETACH)?;
    Ok(result)
}

/// Writes everything out and lets go of the data partition.
pub(super) fn release() {
    nix::unistd::sync();
    if let Err(errno) = umount2(DATA, MntFlags::empty()) {
        tracing::warn!(%errno, "the data partition is still in use; made read-only instead");
        let _ = mount(
            None::<&str>,
            DATA,
            None::<&str>,
            MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
            None::<&str>,
        );
    }
    nix::unistd::sync();
}
