//! Sending from lent sockets to whom nobody negotiated, run in the sandbox. Whether anything got through is not for the
//! sender to say: the supervisor watches the cables.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{MsgFlags, SockaddrStorage, sendto},
};
use sandbox::probe;

use super::attack::{Attack, BROKEN, REFUSED};

/// Heading.
pub const GROUP: &str = "lent sockets to foreign addresses";

/// The one address that the media socket may send to.
pub const NEGOTIATED: &str = "198.51.100.66:40000";

/// Configured peers of the external zone: its listener may send to them.
pub const CONFIGURED: [&str; 2] = ["198.51.100.20:5060", "198.51.100.21:5060"];

/// Hosts of every zone, the box itself, the wide Internet, private, local and multicast networks, and the negotiated host
/// for all its other ports.
const HOSTS: &[&str] = &[
    "198.51.100.66",
    "198.51.100.2",
    "198.51.100.10",
    "198.51.100.20",
    "198.51.100.21",
    "198.51.100.30",
    "198.51.100.100",
    "198.51.100.254",
    "198.51.100.255",
    "192.0.2.2",
    "192.0.2.10",
    "192.0.2.20",
    "192.0.2.40",
    "192.0.2.254",
    "203.0.113.10",
    "203.0.113.254",
    "198.51.100.1",
    "192.0.2.1",
    "203.0.113.1",
    "127.0.0.1",
    "198.18.0.1",
    "8.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "239.1.2.3",
    "255.255.255.255",
    "0.0.0.0",
];

/// Step between the high ports tried; with the low ones about 1,000 of each host.
const PORT_STEP: usize = 150;
const LOW_PORTS: u16 = 600;

/// Smallest RTP packet with some payload, which the filter by shape lets pass.
#[must_use]
pub fn rtp_packet() -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    packet.extend([0xd5; 160]);
    packet
}

/// Whether a first octet is that of STUN, ZRTP, DTLS, TURN channel, RTP or RTCP (RFC 7983 §7).
#[must_use]
pub const fn is_media(first: u8) -> bool {
    matches!(first, 0..=3 | 16..=79 | 128..=191)
}

/// All of them: one attempt per host and socket. The sockets must stay open until they were run.
pub fn attacks(sockets: &[(&str, OwnedFd)]) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (word, socket) in sockets {
        let socket = socket.as_raw_fd();
        let mut add = |name: String, run: Box<dyn FnOnce() -> u8>| {
            attacks.push(Attack::permitted(
                GROUP,
                &format!("{word} socket {name}"),
                run,
            ));
        };
        for host in HOSTS {
            let Ok(host) = host.parse::<IpAddr>() else {
                continue;
            };
            add(
                format!("to {host}, every port tried"),
                Box::new(move || every_port(socket, host)),
            );
        }
        add(
            "to the peer, what is no media".into(),
            Box::new(move || no_media(socket)),
        );
        for (index, source) in [
            (2, [192, 0, 2, 1]),
            (4, [203, 0, 113, 1]),
            (6, [192, 0, 2, 1]),
            (0, [203, 0, 113, 1]),
        ] {
            let name = format!("with another link ({index}) and source beside the datagram");
            add(name, Box::new(move || other_way_out(socket, index, source)));
        }
    }
    attacks
}

fn every_port(socket: i32, host: IpAddr) -> u8 {
    let peers = ports().map(|port| SocketAddr::new(host, port));
    peers
        .filter(|peer| peer.to_string() != NEGOTIATED)
        .fold(REFUSED, |status, peer| {
            status.max(send(socket, &rtp_packet(), peer))
        })
}

fn no_media(socket: i32) -> u8 {
    let Ok(peer) = NEGOTIATED.parse::<SocketAddr>() else {
        return BROKEN;
    };
    (0..=u8::MAX)
        .filter(|first| !is_media(*first))
        .fold(REFUSED, |status, first| {
            let mut packet = rtp_packet();
            if let Some(octet) = packet.first_mut() {
                *octet = first;
            }
            status.max(send(socket, &packet, peer))
        })
}

/// Whatever the system answers is well, if the attempt reached it at all.
fn send(socket: i32, packet: &[u8], peer: SocketAddr) -> u8 {
    match sendto(
        socket,
        packet,
        &SockaddrStorage::from(peer),
        MsgFlags::MSG_DONTWAIT,
    ) {
        Err(Errno::EBADF | Errno::ENOTSOCK | Errno::EFAULT) => BROKEN,
        _ => REFUSED,
    }
}

fn ports() -> impl Iterator<Item = u16> {
    (1..LOW_PORTS)
        .chain((LOW_PORTS..u16::MAX).step_by(PORT_STEP))
        .chain([5060, 5061, 8443, 40_000, u16::MAX])
}

/// sendmsg(2) with IP_PKTINFO: the link and the source address of the sender's choice.
fn other_way_out(socket: i32, index: i32, source: [u8; 4]) -> u8 {
    let mut status = REFUSED;
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        index: i32,
        source: [u8; 4],
        destination: [u8; 4],
        padding: [u8; 4],
    }
    let control = Control {
        length: 28,
        level: libc::IPPROTO_IP,
        kind: libc::IP_PKTINFO,
        index,
        source,
        destination: [0; 4],
        padding: [0; 4],
    };
    let packet = rtp_packet();
    for peer in [[192, 0, 2, 10], [203, 0, 113, 10], [198, 51, 100, 66]] {
        // Port 20000 as sockaddr_in; the negotiated host is tried at it too.
        let mut address = [0_u8; 16];
        for (place, octet) in address
            .iter_mut()
            .zip([2, 0, 0x4e, 0x20].into_iter().chain(peer))
        {
            *place = octet;
        }
        let part = [packet.as_ptr() as usize, packet.len()];
        let header = [
            address.as_ptr() as usize,
            address.len(),
            part.as_ptr() as usize,
            1,
            (&raw const control) as usize,
            32,
            0,
        ];
        let flags = libc::MSG_DONTWAIT as usize;
        let arguments = [socket as usize, header.as_ptr() as usize, flags, 0, 0, 0];
        let sent = probe::call(libc::SYS_sendmsg, arguments);
        if [libc::EBADF, libc::ENOTSOCK, libc::EFAULT]
            .iter()
            .any(|errno| sent == -i64::from(*errno))
        {
            status = BROKEN;
        }
    }
    status
}
