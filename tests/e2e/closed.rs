//! Nothing answers but what the configuration names: TCP and UDP scans on IPv4 and IPv6, silence to strangers, no spoofed
//! source, and one reason for each drop.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use e2e::{
    agent::Agent,
    api::{self, Answer},
    lab::{product::API_TOKEN, topology::inside},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket,
        sockopt::SocketError,
    },
};

use crate::Lab;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    (
        "all_65535_tcp_ports_but_the_advertised_are_silent",
        tcp_scan,
    ),
    ("sampled_udp_ports_are_silent", udp_scan),
    ("a_stranger_gets_no_answer", stranger),
    ("known_peers_get_200_to_options", options),
    ("the_api_wants_its_token", token),
    ("a_spoofed_source_is_dropped_and_counted", spoofed),
];

/// Connections tried at once.
const BATCH: usize = 4_096;
/// Time for an answer.
const WAIT: Duration = Duration::from_millis(400);

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

fn tcp_scan(lab: &Lab) {
    let zones = [
        (&lab.names.external, ["198.51.100.1", "2001:db8:e::1"], 5060),
        (&lab.names.internal, ["192.0.2.1", "2001:db8:1::1"], 5060),
        (
            &lab.names.management,
            ["203.0.113.1", "2001:db8:2::1"],
            8443,
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
                open.iter().all(|port| *port == advertised),
                "{address} is open at {open:?}"
            );
            api::reset(&lab.names);
            let target = SocketAddr::new(address.parse().unwrap(), advertised);
            let answered = api::eventually(Duration::from_secs(5), || {
                inside(namespace, || {
                    std::net::TcpStream::connect_timeout(&target, WAIT).is_ok()
                })
                .unwrap()
            });
            assert!(answered, "{target} does not answer");
        }
    }
    // What lies behind the product is not reached either.
    for (namespace, address) in [
        (&lab.names.external, "203.0.113.1:8443"),
        (&lab.names.external, "192.0.2.1:5060"),
        (&lab.names.internal, "203.0.113.1:8443"),
        (&lab.names.internal, "203.0.113.10:22"),
        (&lab.names.management, "192.0.2.10:5060"),
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

fn udp_scan(lab: &Lab) {
    for (namespace, from, target) in [
        (&lab.names.external, "198.51.100.66:0", "198.51.100.1"),
        (&lab.names.external, "[2001:db8:e::66]:0", "2001:db8:e::1"),
        (&lab.names.internal, "192.0.2.40:0", "192.0.2.1"),
        (&lab.names.management, "203.0.113.10:0", "203.0.113.1"),
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

fn stranger(lab: &Lab) {
    let gateway = "198.51.100.1:5060".parse().unwrap();
    let agent = Agent::bind(&lab.names.external, "198.51.100.66:5060", "stranger").unwrap();
    for (method, uri) in [
        ("OPTIONS", "sip:198.51.100.1"),
        ("INVITE", "sip:1001@lab.test"),
        ("INVITE", "sip:+4930123456789@lab.test"),
        ("SUBSCRIBE", "sip:1001@lab.test"),
        ("MESSAGE", "sip:1001@lab.test"),
        ("BYE", "sip:1001@lab.test"),
        ("NONSENSE", "sip:1001@lab.test"),
    ] {
        let (text, _) = agent.request(method, uri, gateway, "", "");
        agent.send(gateway, text.as_bytes()).unwrap();
    }
    for garbage in [
        &b"\r\n\r\n"[..],
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\n\r\n",
    ] {
        agent.send(gateway, garbage).unwrap();
    }
    assert!(
        agent.hears_nothing(Duration::from_millis(800)),
        "a stranger was answered"
    );
}

fn options(lab: &Lab) {
    for (namespace, local, gateway) in [
        (
            &lab.names.external,
            "198.51.100.20:5060",
            "198.51.100.1:5060",
        ),
        (
            &lab.names.external,
            "[2001:db8:e::20]:5060",
            "[2001:db8:e::1]:5060",
        ),
        (
            &lab.names.external,
            "198.51.100.21:5082",
            "198.51.100.1:5060",
        ),
        (&lab.names.internal, "192.0.2.10:5060", "192.0.2.1:5060"),
    ] {
        let agent = Agent::bind(namespace, local, "peer").unwrap();
        let gateway: SocketAddr = gateway.parse().unwrap();
        let (text, _) = agent.request("OPTIONS", &format!("sip:{gateway}"), gateway, "", "");
        agent.send(gateway, text.as_bytes()).unwrap();
        let answer = agent.expect("an answer to OPTIONS from the product", |message| {
            message.method().is_empty()
        });
        assert_eq!(answer.status(), 200, "{local}");
        for name in ["server", "user-agent"] {
            assert!(
                ["", "Gatehouse"].contains(&answer.header(name)),
                "{}",
                answer.header(name)
            );
        }
    }
}

fn token(lab: &Lab) {
    let ask = |method, path, token| api::request(&lab.names, method, path, token).unwrap();
    for path in [
        "/api/v1/calls",
        "/api/v1/bans",
        "/api/v1/drops",
        "/api/v1/records",
        "/metrics",
        "/",
        "/nonsense",
    ] {
        assert_eq!(ask("GET", path, None).status, 401, "{path}");
        assert_eq!(ask("GET", path, Some("wrong")).status, 401, "{path}");
    }
    assert_eq!(ask("POST", "/api/v1/lab/reset", None).status, 401);
    assert!(
        matches!(ask("GET", "/healthz", None), Answer { status: 200, ref text, .. } if text == "ok\n")
    );
    assert_eq!(ask("GET", "/nonsense", Some(API_TOKEN)).status, 404);
    assert_eq!(ask("DELETE", "/api/v1/calls", Some(API_TOKEN)).status, 405);
    assert_eq!(
        ask("DELETE", "/api/v1/bans/198.51.100.77", Some(API_TOKEN)).status,
        404
    );
    let metrics = ask("GET", "/metrics", Some(API_TOKEN)).text;
    assert!(
        metrics.contains("gatehouse_up{process=\"sbc\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("gatehouse_up{process=\"firewall\"} 1"),
        "{metrics}"
    );
}

fn spoofed(lab: &Lab) {
    // The internal prefix on the external wire: the address is put on the attacker's link, so no raw socket is needed.
    let external = &lab.names.external;
    e2e::lab::run(
        "ip",
        &["-n", external, "addr", "add", "192.0.2.99/32", "dev", "e0"],
    )
    .unwrap();
    inside(external, || {
        let socket = UdpSocket::bind("192.0.2.99:5060").unwrap();
        for _ in 0..5 {
            socket
                .send_to(b"OPTIONS sip:x SIP/2.0\r\n\r\n", "198.51.100.1:5060")
                .unwrap();
        }
    })
    .unwrap();
    e2e::lab::run(
        "ip",
        &["-n", external, "addr", "del", "192.0.2.99/32", "dev", "e0"],
    )
    .unwrap();
    let counted = api::eventually(Duration::from_secs(5), || {
        let drops = api::get(&lab.names, "/api/v1/drops");
        drops.as_array().is_some_and(|drops| {
            drops.iter().any(|drop| {
                drop["zone"] == "external"
                    && drop["reason"]
                        .as_str()
                        .is_some_and(|reason| reason.contains("spoof"))
                    && drop["count"].as_u64() >= Some(5)
            })
        })
    });
    assert!(counted, "{}", api::get(&lab.names, "/api/v1/drops"));
}
