//! Allowed calls with arguments that their conditions forbid: code in memory, files and shared memory behind `mmap`,
//! futex operations with a history, descriptors' commands, sockets' options. Each must be death.

use nix::libc;

use sandbox::Profile;

use super::attack::Attack;

const GROUP: &str = "forbidden arguments";
const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const EXEC: usize = libc::PROT_EXEC as usize;
const ANONYMOUS: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
/// No descriptor.
const NONE: usize = usize::MAX;
/// Bits above an `int`: a filter that compared all 64 would be led astray by them.
const HIGH: usize = 1 << 32;

/// All of them that the profile's list does not permit.
pub fn attacks(profile: &Profile) -> Vec<Attack> {
    let mut calls = Vec::new();
    memory(&mut calls);
    futexes(&mut calls);
    descriptors(&mut calls);
    options(&mut calls);
    calls
        .into_iter()
        .filter(|(_, number, arguments)| !profile.permits(*number, arguments))
        .map(|(name, number, arguments)| Attack::call(GROUP, name, number, arguments))
        .collect()
}

type Call = (String, i64, [usize; 6]);

fn push(calls: &mut Vec<Call>, name: String, number: i64, arguments: [usize; 6]) {
    calls.push((name, number, arguments));
}

fn memory(calls: &mut Vec<Call>) {
    for prot in [EXEC, RW | EXEC, EXEC | HIGH, RW | EXEC | 0x0100_0000] {
        push(
            calls,
            format!("mmap prot {prot:#x}"),
            libc::SYS_mmap,
            [0, 4096, prot, ANONYMOUS, NONE, 0],
        );
        push(
            calls,
            format!("mprotect prot {prot:#x}"),
            libc::SYS_mprotect,
            [0, 4096, prot, 0, 0, 0],
        );
    }
    let shared = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as usize;
    let validated = (libc::MAP_SHARED_VALIDATE | libc::MAP_ANONYMOUS) as usize;
    let file = libc::MAP_PRIVATE as usize;
    for (name, flags, fd) in [
        ("shared memory", shared, NONE),
        ("validated shared memory", validated, NONE),
        ("a file", file, 0),
        ("a file, high bit", file | HIGH, 3),
        ("a shared file", libc::MAP_SHARED as usize, 2),
        ("no type", libc::MAP_ANONYMOUS as usize, NONE),
    ] {
        push(
            calls,
            format!("mmap of {name}"),
            libc::SYS_mmap,
            [0, 4096, RW, flags, fd, 0],
        );
    }
}

fn futexes(calls: &mut Vec<Call>) {
    for operation in 0..=0x7f {
        for flags in [0, libc::FUTEX_PRIVATE_FLAG, libc::FUTEX_CLOCK_REALTIME] {
            let code = (operation | flags) as usize;
            push(
                calls,
                format!("futex operation {code:#x}"),
                libc::SYS_futex,
                [0, code, 0, 0, 0, 0],
            );
        }
    }
}

fn descriptors(calls: &mut Vec<Call>) {
    for command in (0..64).chain(1024..1050) {
        push(
            calls,
            format!("fcntl {command}"),
            libc::SYS_fcntl,
            [2, command, 0, 0, 0, 0],
        );
    }
    // Terminals (TIOCSTI among them), sockets and interfaces, files (FICLONE), loop devices, file system freezes.
    let codes = (0x5401..0x5480)
        .chain(0x8900..0x8a00)
        .chain(0x4c00..0x4c10)
        .chain([0x4004_9409, 0xc004_5877, 0x8010_6601, 0xc020_660b]);
    for code in codes {
        push(
            calls,
            format!("ioctl {code:#x}"),
            libc::SYS_ioctl,
            [2, code, 0, 0, 0, 0],
        );
    }
}

fn options(calls: &mut Vec<Call>) {
    let levels = [
        ("socket", libc::SOL_SOCKET, 90),
        ("ip", libc::IPPROTO_IP, 60),
        ("tcp", libc::IPPROTO_TCP, 50),
        ("udp", libc::IPPROTO_UDP, 110),
        ("ipv6", libc::IPPROTO_IPV6, 85),
        ("raw", libc::IPPROTO_RAW, 3),
        ("packet", libc::SOL_PACKET, 26),
        ("netlink", libc::SOL_NETLINK, 14),
    ];
    for (word, level, most) in levels {
        for option in 0..most {
            let arguments = [3, level as usize, option as usize, 0, 0, 0];
            push(
                calls,
                format!("setsockopt {word} {option}"),
                libc::SYS_setsockopt,
                arguments,
            );
            push(
                calls,
                format!("getsockopt {word} {option}"),
                libc::SYS_getsockopt,
                arguments,
            );
        }
    }
}
