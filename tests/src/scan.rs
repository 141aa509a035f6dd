//! A scan of all TCP ports, and of sampled UDP ports, as an attacker on the wire sees it.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket,
        sockopt::SocketError,
    },
};

use crate::{
    api,
    lab::topology::{Names, inside},
};

/// Connections tried at once.
const BATCH: usize = 4_096;
/// Time for an answer.
const WAIT: Duration = Duration::from_millis(400);

/// Scans all 65,535 TCP ports of every address of the product, from its own zone: none says no, only the advertised one
/// accepts, and it does so again right after. Addresses behind the product are not reached from another zone.
///
/// # Panics
/// It is not so.
pub fn only_the_advertised_answer(names: &Names) {
    let zones = [
        (
            &names.external,
            ["198.51.100.1", "2001:db8:e::1"],
            &[5060, 443, 5061][..],
        ),
        (&names.internal, ["192.0.2.1", "2001:db8:1::1"], &[5060][..]),
        (
            &names.management,
            ["203.0.113.1", "2001:db8:2::1"],
            &[8443][..],
        ),
    ];
    for (namespace, addresses, advertised) in zones {
        for address in addresses {
            let (open, refused) = scan(namespace, address.parse().unwrap());
            assert!(
                refused.is_empty(),
                "{address} said no at {refused:?}: it should be silent"
            );
            // The scan itself runs into the limit of new connections; the advertised port is asked for by itself.
            assert!(
                open.iter().all(|port| advertised.contains(port)),
                "{address} is open at {open:?}"
            );
            for port in advertised {
                let target = SocketAddr::new(address.parse().unwrap(), *port);
                let answered = api::eventually(Duration::from_secs(30), || {
                    inside(namespace, || {
                        std::net::TcpStream::connect_timeout(&target, WAIT).is_ok()
                    })
                    .unwrap()
                });
                assert!(answered, "{target} does not answer");
            }
        }
    }
    // What lies behind the product is not reached either.
    for (namespace, address) in [
        (&names.external, "203.0.113.1:8443"),
        (&names.external, "192.0.2.1:5060"),
        (&names.internal, "203.0.113.1:8443"),
        (&names.internal, "203.0.113.10:22"),
        (&names.management, "192.0.2.10:5060"),
    ] {
        let target: SocketAddr = address.parse().unwrap();
        let result = inside(namespace, || {
            std::net::TcpStream::connect_timeout(&target, WAIT)
        })
        .unwrap();
        let silent = matches!(&result, Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::NetworkUnreachable));
        assert!(silent, "{address} from {namespace}: {result:?}");
    }
}

/// Sends to sampled UDP ports, the media range's ends among them: no answer, no ICMP error.
///
/// # Panics
/// Something answered.
pub fn udp_is_silent(names: &Names) {
    for (namespace, from, target) in [
        (&names.external, "198.51.100.66:0", "198.51.100.1"),
        (&names.external, "[2001:db8:e::66]:0", "2001:db8:e::1"),
        (&names.internal, "192.0.2.40:0", "192.0.2.1"),
        (&names.management, "203.0.113.10:0", "203.0.113.1"),
    ] {
        let target: IpAddr = target.parse().unwrap();
        let ports: Vec<u16> = (0..u16::MAX)
            .step_by(23)
            .chain([53, 123, 161, 443, 5060, 5061, 16_384, 32_766])
            .collect();
        let sockets: Vec<(u16, UdpSocket)> = inside(namespace, || {
            ports
                .iter()
                .filter(|port| **port != 0)
                .map(|port| {
                    let socket = UdpSocket::bind(from).unwrap();
                    socket.connect(SocketAddr::new(target, *port)).unwrap();
                    socket
                        .send(&[0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7, 7, 7, 7])
                        .unwrap();
                    (*port, socket)
                })
                .collect()
        })
        .unwrap();
        let mut polled: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut polled, PollTimeout::try_from(WAIT).unwrap()).unwrap();
        let answered: Vec<u16> = polled
            .iter()
            .zip(&sockets)
            .filter(|(fd, _)| fd.any().unwrap_or(false))
            .map(|(_, (port, _))| *port)
            .collect();
        assert!(
            answered.is_empty(),
            "{target} answered at UDP ports {answered:?} (an answer, or an ICMP error)"
        );
    }
}

/// Ports of `target` that accept, and ports that say no.
fn scan(namespace: &str, target: IpAddr) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let (mut open, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for batch in ports.chunks(BATCH) {
        let sockets: Vec<(u16, OwnedFd)> = inside(namespace, || {
            batch
                .iter()
                .filter_map(|port| begin(target, *port).map(|fd| (*port, fd)))
                .collect()
        })
        .unwrap();
        let deadline = Instant::now() + WAIT;
        let mut waiting: Vec<&(u16, OwnedFd)> = sockets.iter().collect();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let mut polled: Vec<PollFd<'_>> = waiting
                .iter()
                .map(|(_, fd)| PollFd::new(fd.as_fd(), PollFlags::POLLOUT))
                .collect();
            poll(
                &mut polled,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO),
            )
            .unwrap();
            let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let mut flags = ready.into_iter();
            waiting.retain(|(port, fd)| {
                if !flags.next().unwrap_or(false) {
                    return true;
                }
                match getsockopt(fd, SocketError).unwrap_or(0) {
                    0 => open.insert(*port),
                    _ => refused.insert(*port),
                };
                false
            });
        }
    }
    (open, refused)
}

fn begin(target: IpAddr, port: u16) -> Option<OwnedFd> {
    let family = if target.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    match connect(
        fd.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(target, port)),
    ) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(fd),
        Err(_) => None,
    }
}
