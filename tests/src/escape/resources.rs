//! What the process has: descriptors that it was started with, memory up to its bound, sockets that it was lent.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use sandbox::{
    Profile,
    probe::{self, Scratch},
};

use super::attack::{Attack, REFUSED, WORKED};

const GROUP: &str = "descriptors, memory, lent sockets";
const PIECE: usize = 4 * 1024 * 1024;
const PAGE: usize = 4096;

/// All of them. `open` is what was open when the process started, `lent` a datagram socket on the loopback of the
/// suite's own network namespace.
pub fn attacks(profile: &Profile, open: Vec<i32>, lent: &OwnedFd) -> Vec<Attack> {
    let mut attacks = Vec::new();
    attacks.push(Attack::sealed(
        GROUP,
        "descriptors besides 0, 1, 2 and 3",
        move || {
            if open == [0, 1, 2, 3] {
                REFUSED
            } else {
                WORKED
            }
        },
    ));
    for (name, descriptor, call) in [
        ("read from descriptor 0", 0, libc::SYS_read),
        ("read from descriptor 1", 1, libc::SYS_read),
        ("read from descriptor 2", 2, libc::SYS_read),
    ] {
        attacks.push(Attack::sealed(GROUP, name, move || {
            let mut scratch = Scratch::default();
            if probe::call(call, [descriptor, scratch.address(), 64, 0, 0, 0]) > 0 {
                WORKED
            } else {
                REFUSED
            }
        }));
    }
    let bound = usize::try_from(profile.limits.memory).unwrap_or(usize::MAX);
    attacks.push(Attack::sealed(
        GROUP,
        "memory beyond the bound, mapped",
        move || more_than(bound, mapped),
    ));
    attacks.push(Attack::sealed(
        GROUP,
        "memory beyond the bound, read-only first",
        move || more_than(bound, unprotected),
    ));
    attacks.push(Attack::sealed(
        GROUP,
        "memory beyond the bound, heap",
        move || {
            let begin = usize::try_from(probe::call(libc::SYS_brk, [0; 6])).unwrap_or(0);
            let end = begin + bound + PIECE;
            // brk(2) itself answers with the end that stands.
            if probe::call(libc::SYS_brk, [end, 0, 0, 0, 0, 0]) == end as i64 {
                WORKED
            } else {
                REFUSED
            }
        },
    ));
    let most = profile.limits.descriptors;
    attacks.push(Attack::sealed(
        GROUP,
        "descriptors beyond the bound",
        move || {
            let command = libc::F_DUPFD_CLOEXEC as usize;
            let made = (0..=most)
                .take_while(|_| probe::call(libc::SYS_fcntl, [0, command, 0, 0, 0, 0]) >= 0)
                .count();
            if made as u64 > most { WORKED } else { REFUSED }
        },
    ));
    let socket = lent.as_raw_fd() as usize;
    for (name, level, kind) in [
        // A mark decides in the firewall whom a socket may send to; the route and the source are the firewall's too.
        (
            "mark of its own beside a datagram",
            libc::SOL_SOCKET,
            libc::SO_MARK,
        ),
        (
            "IPv6 hop-by-hop options beside a datagram",
            libc::IPPROTO_IPV6,
            libc::IPV6_HOPOPTS,
        ),
    ] {
        attacks.push(Attack::sealed(GROUP, name, move || {
            beside_a_datagram(socket, level, kind)
        }));
    }
    attacks
}

fn more_than(bound: usize, piece: impl Fn() -> Option<usize>) -> u8 {
    let mut held = 0;
    while held <= bound {
        let Some(place) = piece() else { return REFUSED };
        for page in (0..PIECE).step_by(PAGE) {
            // Touched by the kernel on our behalf: reading from a descriptor that gives end-of-file would not, so a
            // random octet is asked for.
            if probe::call(libc::SYS_getrandom, [place + page, 1, 0, 0, 0, 0]) < 0 {
                return REFUSED;
            }
        }
        held += PIECE;
    }
    WORKED
}

const PRIVATE: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;

fn mapped() -> Option<usize> {
    usize::try_from(probe::call(
        libc::SYS_mmap,
        [0, PIECE, RW, PRIVATE, usize::MAX, 0],
    ))
    .ok()
}

fn unprotected() -> Option<usize> {
    let prot = libc::PROT_READ as usize;
    let place = usize::try_from(probe::call(
        libc::SYS_mmap,
        [0, PIECE, prot, PRIVATE, usize::MAX, 0],
    ))
    .ok()?;
    (probe::call(libc::SYS_mprotect, [place, PIECE, RW, 0, 0, 0]) >= 0).then_some(place)
}

/// sendmsg(2) with one control message of four octets.
fn beside_a_datagram(socket: usize, level: i32, kind: i32) -> u8 {
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        data: [u8; 8],
    }
    let control = Control {
        length: 20,
        level,
        kind,
        data: [7, 0, 0, 0, 0, 0, 0, 0],
    };
    let bytes = *b"x";
    // 127.0.0.1:9 as sockaddr_in.
    let mut address = [0_u8; 16];
    for (place, octet) in address.iter_mut().zip([2, 0, 0, 9, 127, 0, 0, 1]) {
        *place = octet;
    }
    let part = [bytes.as_ptr() as usize, 1];
    // struct msghdr: name, its length, parts, their number, control, its length, flags.
    let header = [
        address.as_ptr() as usize,
        address.len(),
        part.as_ptr() as usize,
        1,
        (&raw const control) as usize,
        24,
        0,
    ];
    let sent = probe::call(
        libc::SYS_sendmsg,
        [socket, header.as_ptr() as usize, 0, 0, 0, 0],
    );
    if sent >= 0 { WORKED } else { REFUSED }
}
