//! The same without the list of system calls: were the filter lost, then namespaces, uid, the empty root, capabilities
//! and Landlock must hold alone. Only attempts that these walls are meant to stop stand here.

use std::{
    ffi::CString,
    fs, io,
    net::{TcpStream, UdpSocket},
    os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    process::Command,
};

use nix::{libc, sys::signal, unistd};
use sandbox::{Profile, launch::DIRECTORY, probe};

use super::{
    attack::{Attack, REFUSED, WORKED, worked},
    named::PATHS,
};

const GROUP: &str = "without the list: the other walls alone";

/// All of them. The one directory of a profile that has one is its own.
pub fn attacks(profile: &Profile) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for path in PATHS
        .iter()
        .filter(|path| !(profile.directory && **path == DIRECTORY))
    {
        attacks.push(unsealed(&format!("read {path}"), move || {
            fs::File::open(path)
        }));
        attacks.push(unsealed(&format!("write {path}"), move || {
            fs::OpenOptions::new().write(true).open(path)
        }));
        attacks.push(unsealed(&format!("list {path}"), move || {
            fs::read_dir(path)
        }));
        attacks.push(unsealed(&format!("start {path}"), move || {
            Command::new(path).spawn()
        }));
    }
    names(&mut attacks);
    network(&mut attacks);
    processes(&mut attacks);
    powers(&mut attacks);
    attacks
}

fn unsealed<T>(name: &str, run: impl FnOnce() -> io::Result<T> + 'static) -> Attack {
    Attack::unsealed(
        GROUP,
        name,
        move || if run().is_ok() { WORKED } else { REFUSED },
    )
}

/// Nothing can be made in the root.
fn names(attacks: &mut Vec<Attack>) {
    attacks.push(unsealed("make a file", || fs::write("/x", "x")));
    attacks.push(unsealed("make a directory", || fs::create_dir("/x")));
    attacks.push(unsealed("make a link", || {
        std::os::unix::fs::symlink("/", "/x")
    }));
    attacks.push(unsealed("bind a named socket", || UnixListener::bind("/x")));
    for kind in [libc::S_IFCHR, libc::S_IFBLK, libc::S_IFIFO] {
        attacks.push(raw(
            &format!("make a node of type {kind:#o}"),
            libc::SYS_mknod,
            c"/x",
            [(kind | 0o666) as usize, 0x0103],
        ));
    }
}

/// The network namespace has no link that is up, and no socket of another namespace can be named.
fn network(attacks: &mut Vec<Attack>) {
    for host in [
        "127.0.0.1",
        "198.51.100.2",
        "192.0.2.10",
        "203.0.113.10",
        "169.254.169.254",
        "[::1]",
        "[2001:db8:1::10]",
    ] {
        for port in [22, 53, 80, 443, 5060, 8443] {
            let peer = format!("{host}:{port}");
            attacks.push(unsealed(&format!("connect to {peer} by TCP"), {
                let peer = peer.clone();
                move || TcpStream::connect(peer)
            }));
            attacks.push(unsealed(&format!("send to {peer} by UDP"), move || {
                let any = if peer.starts_with('[') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                UdpSocket::bind(any)?.send_to(b"x", peer)
            }));
        }
    }
    for name in [
        "gatehouse",
        "/tmp/.X11-unix/X0",
        "/org/kernel/linux/storage/multipathd",
        super::outside::ABSTRACT,
    ] {
        let address = move || {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        };
        attacks.push(unsealed(
            &format!("connect to abstract socket {name}"),
            move || UnixStream::connect_addr(&address()?),
        ));
        attacks.push(unsealed(
            &format!("send to abstract socket {name}"),
            move || UnixDatagram::unbound()?.connect_addr(&address()?),
        ));
    }
    for (name, family, kind) in [
        ("raw IPv4", libc::AF_INET, libc::SOCK_RAW),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW),
        ("packet, cooked", libc::AF_PACKET, libc::SOCK_DGRAM),
    ] {
        attacks.push(Attack::unsealed(
            GROUP,
            &format!("{name} socket"),
            move || {
                worked(probe::call(
                    libc::SYS_socket,
                    [family as usize, kind as usize, 0x0300, 0, 0, 0],
                ))
            },
        ));
    }
}

/// No process but the suite's own can be named.
fn processes(attacks: &mut Vec<Attack>) {
    let own = i32::try_from(std::process::id()).unwrap_or(1);
    for pid in (2..=400)
        .chain([1_000, 4_194_303])
        .filter(move |pid| *pid != own)
    {
        attacks.push(unsealed(&format!("signal process {pid}"), move || {
            // The attempt's own number is the only one there is besides the suite's.
            if unistd::getpid().as_raw() == pid {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(signal::kill(unistd::Pid::from_raw(pid), None)?)
        }));
    }
    attacks.push(Attack::unsealed(GROUP, "trace the suite's process", || {
        worked(probe::call(libc::SYS_ptrace, [0x4206, 1, 0, 0, 0, 0]))
    }));
    attacks.push(Attack::unsealed(
        GROUP,
        "take a descriptor of the suite's process",
        || {
            let pidfd = probe::call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0]);
            usize::try_from(pidfd).map_or(REFUSED, |pidfd| {
                worked(probe::call(libc::SYS_pidfd_getfd, [pidfd, 3, 0, 0, 0, 0]))
            })
        },
    ));
    attacks.push(Attack::unsealed(
        GROUP,
        "more processes than the limit",
        || {
            let mut made = 0;
            while made < 1_000 && probe::call(libc::SYS_fork, [0; 6]) > 0 {
                made += 1;
            }
            if made < 1_000 { REFUSED } else { WORKED }
        },
    ));
}

/// Root's rights cannot be had.
fn powers(attacks: &mut Vec<Attack>) {
    let mut add = |name: &str, number: i64, arguments: [usize; 6]| {
        attacks.push(Attack::unsealed(GROUP, name, move || {
            worked(probe::call(number, arguments))
        }));
    };
    add("become uid 0", libc::SYS_setuid, [0; 6]);
    add("become gid 0", libc::SYS_setgid, [0; 6]);
    add("become everybody", libc::SYS_setresuid, [0; 6]);
    add("join group 0", libc::SYS_setgroups, [0; 6]);
    add(
        "rename the host",
        libc::SYS_sethostname,
        [c"x".as_ptr() as usize, 1, 0, 0, 0, 0],
    );
    for (word, flag) in [
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
    ] {
        add(
            &format!("unshare {word}"),
            libc::SYS_unshare,
            [flag as usize, 0, 0, 0, 0, 0],
        );
    }
    add(
        "load a module",
        libc::SYS_finit_module,
        [3, c"".as_ptr() as usize, 0, 0, 0, 0],
    );
    add(
        "restart the machine",
        libc::SYS_reboot,
        [0xfee1_dead, 672_274_793, 0x0123_4567, 0, 0, 0],
    );
    add(
        "set the clock",
        libc::SYS_clock_settime,
        [0, [1_u64, 0].as_ptr() as usize, 0, 0, 0, 0],
    );
    add(
        "raise the priority",
        libc::SYS_setpriority,
        [0, 0, usize::MAX - 18, 0, 0, 0],
    );
    for capability in 0..41 {
        // PR_CAP_AMBIENT_RAISE, and PR_CAPBSET_READ, which says 1 for a capability that is left.
        add(
            &format!("raise capability {capability}"),
            libc::SYS_prctl,
            [47, 2, capability, 0, 0, 0],
        );
        attacks_bounding(&mut add, capability);
    }
    attacks.push(raw(
        "mount a file system",
        libc::SYS_mount,
        c"/",
        [c"/".as_ptr() as usize, c"tmpfs".as_ptr() as usize],
    ));
    attacks.push(raw("change the root", libc::SYS_chroot, c"/", [0, 0]));
    attacks.push(raw("unmount the root", libc::SYS_umount2, c"/", [2, 0]));
}

/// Drops nothing where nothing is left: dropping needs CAP_SETPCAP, which is gone.
fn attacks_bounding(add: &mut impl FnMut(&str, i64, [usize; 6]), capability: usize) {
    add(
        &format!("touch the bounding set, {capability}"),
        libc::SYS_prctl,
        [24, capability, 0, 0, 0, 0],
    );
}

fn raw(name: &str, number: i64, path: &std::ffi::CStr, rest: [usize; 2]) -> Attack {
    let path = CString::from(path);
    Attack::unsealed(GROUP, name, move || {
        let [second, third] = rest;
        worked(probe::call(
            number,
            [path.as_ptr() as usize, second, third, 0, 0, 0],
        ))
    })
}
