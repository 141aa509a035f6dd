//! The daemon with the real kernel under it and init, sbc and management played by the test: descriptors arrive, pinholes
//! open and close in the kernel, and whatever the sbc does or suffers, nothing that it was lent outlives it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

#[path = "support/rules.rs"]
mod rules;
mod support;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use broker_proto::{
    Role,
    broker::{Admit, BanKey, BanScope, Family, Flow, FromBroker, LeaseId, Refusal, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    encode,
    settings::{Transport, ZoneId},
    status::{FromStatus, ToStatus},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rules::Small;
use sandbox::channel::Channel;
use support::{House, ID, ask, figures, is_root, pinholes, receive, send, until, wait_readable};

const ZONE: ZoneId = ZoneId(0);

fn open(flow: Flow) -> ToBroker {
    ToBroker::OpenMedia {
        id: ID,
        zone: ZONE,
        family: Family::V4,
        pair: false,
        flow,
        ttl_seconds: 60,
    }
}

fn opened(sbc: &Channel, flow: Flow) -> (LeaseId, SocketAddr, UdpSocket) {
    match ask(sbc, &open(flow)) {
        (FromBroker::MediaOpened { lease, rtp, .. }, fds) => (
            lease,
            rtp,
            fds.into_iter().next().map(UdpSocket::from).unwrap(),
        ),
        other => panic!("{other:?}"),
    }
}

fn both(peer: SocketAddr) -> Flow {
    Flow {
        admit: Admit::Peer(peer),
        send_to: Some(peer),
    }
}

/// A UDP socket of the neighbour, bound to one of its addresses, with a time limit.
fn neighbour(house: &House, address: &'static str) -> UdpSocket {
    let socket = house
        .outside
        .run(move || UdpSocket::bind((address, 0)).unwrap());
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// Waits for a datagram at a nonblocking socket.
fn datagram(socket: &UdpSocket, time: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    let mut polled = [nix::poll::PollFd::new(
        socket.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut polled, u16::try_from(time.as_millis()).unwrap()).unwrap();
    let mut buffer = [0; 64];
    socket
        .recv_from(&mut buffer)
        .ok()
        .map(|(length, from)| (buffer[..length].to_vec(), from))
}

#[test]
fn media_passes_only_to_and_from_the_proved_peer() {
    if !is_root("broker media") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let (alice, attacker) = (
        neighbour(&house, "198.51.100.10"),
        neighbour(&house, "198.51.100.66"),
    );
    let from = alice.local_addr().unwrap();
    let second = Duration::from_secs(5);

    let (lease, rtp, socket) = opened(
        &sbc,
        Flow {
            admit: Admit::Host(from.ip()),
            send_to: None,
        },
    );
    // An order that the kernel keeps: what the attacker sent first would be read first.
    attacker.send_to(b"attacker", rtp).unwrap();
    alice.send_to(b"alice", rtp).unwrap();
    assert_eq!(datagram(&socket, second), Some((b"alice".to_vec(), from)));
    let refused = socket.send_to(b"early", from).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);

    let latch = ToBroker::LatchMedia {
        id: ID,
        lease,
        rtp: both(from),
        rtcp: Flow::default(),
    };
    assert_eq!(ask(&sbc, &latch).0, FromBroker::Done { id: ID });
    // The lent descriptor itself is connected now.
    assert_eq!(socket.peer_addr().unwrap(), from);
    socket.send(b"hello").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(alice.recv_from(&mut buffer).unwrap(), (5, rtp));
    let other_port = neighbour(&house, "198.51.100.10");
    other_port.send_to(b"other port", rtp).unwrap();
    alice.send_to(b"again", rtp).unwrap();
    assert_eq!(datagram(&socket, second), Some((b"again".to_vec(), from)));
    let refused = socket
        .send_to(b"elsewhere", attacker.local_addr().unwrap())
        .unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);

    // Widened again, the socket is free again, and still tied to its device.
    let widen = Flow {
        admit: Admit::Host(from.ip()),
        send_to: Some(from),
    };
    let latch = ToBroker::LatchMedia {
        id: ID,
        lease,
        rtp: widen,
        rtcp: Flow::default(),
    };
    assert_eq!(ask(&sbc, &latch).0, FromBroker::Done { id: ID });
    assert!(socket.peer_addr().is_err());
    assert_eq!(
        socket2::SockRef::from(&socket).device().unwrap(),
        Some(b"ext0".to_vec())
    );
    other_port.send_to(b"other port", rtp).unwrap();
    assert_eq!(datagram(&socket, second).unwrap().0, b"other port");

    assert_eq!(
        ask(&sbc, &ToBroker::CloseMedia { id: ID, lease }).0,
        FromBroker::Done { id: ID }
    );
    assert_eq!(pinholes(&mut house.netlink()), 0);
    // A captured sbc that keeps the descriptor has nothing of it.
    assert!(socket.send_to(b"captured", from).is_err());
    house.stop();
}

#[test]
fn a_ban_reaches_the_kernel_the_list_and_its_end() {
    if !is_root("broker ban") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let management = house.attach(Role::Management, ChannelKind::Status);
    let (message, fds) = ask(
        &sbc,
        &ToBroker::Listen {
            id: ID,
            zone: ZONE,
            transport: Transport::Udp,
            port: 5060,
        },
    );
    let FromBroker::Listening { local, .. } = message else {
        panic!("{message:?}")
    };
    assert_eq!((local.len(), fds.len()), (2, 2));
    let listener = UdpSocket::from(fds.into_iter().next().unwrap());
    let (alice, attacker) = (
        neighbour(&house, "198.51.100.10"),
        neighbour(&house, "198.51.100.66"),
    );
    let ban = ToBroker::Ban {
        id: ID,
        key: BanKey::Host("198.51.100.66".parse().unwrap()),
        scope: BanScope::Signalling,
        seconds: 600,
        reason: "friendly-scanner\n".into(),
    };
    assert_eq!(ask(&sbc, &ban).0, FromBroker::Done { id: ID });
    attacker.send_to(b"REGISTER", local[0]).unwrap();
    alice.send_to(b"OPTIONS", local[0]).unwrap();
    assert_eq!(
        datagram(&listener, Duration::from_secs(5)).unwrap().0,
        b"OPTIONS"
    );

    let question = |request: &ToStatus| {
        management.send(&encode(request).unwrap(), &[]).unwrap();
        receive::<FromStatus>(&management).0
    };
    let FromStatus::Bans {
        bans, more: false, ..
    } = question(&ToStatus::Bans { id: ID, offset: 0 })
    else {
        panic!()
    };
    assert_eq!(
        (bans[0].key.as_str(), bans[0].reason.as_str()),
        ("198.51.100.66", "friendly-scanner?")
    );
    let unban = ToStatus::Unban {
        id: ID,
        key: bans[0].key.clone(),
    };
    assert_eq!(question(&unban), FromStatus::Done { id: ID });
    assert_eq!(question(&unban), FromStatus::Refused { id: ID });
    attacker.send_to(b"REGISTER", local[0]).unwrap();
    assert_eq!(
        datagram(&listener, Duration::from_secs(5)).unwrap().0,
        b"REGISTER"
    );
    let FromStatus::Counters { counters, .. } = question(&ToStatus::Counters { id: ID }) else {
        panic!()
    };
    let granted = "firewall_broker_events_total{asker=\"sbc\",kind=\"ban\",result=\"granted\"}";
    assert!(counters.contains(&(granted.to_owned(), 1)), "{counters:?}");
    assert_eq!(
        question(&ToStatus::Calls { id: ID, offset: 0 }),
        FromStatus::Refused { id: ID }
    );
    assert_eq!(
        question(&ToStatus::Reset { id: ID }),
        FromStatus::Done { id: ID }
    );
    house.stop();
}

#[test]
fn tcp_connections_are_handed_over_up_to_the_limit_of_their_source() {
    if !is_root("broker accept") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let (message, fds) = ask(
        &sbc,
        &ToBroker::Listen {
            id: ID,
            zone: ZONE,
            transport: Transport::Tcp,
            port: 5060,
        },
    );
    assert!(matches!(message, FromBroker::Listening { .. }) && fds.is_empty());
    // Not the trunk's address, which has room of its own.
    let connect = || {
        house.outside.run(|| {
            let [source, address] = ["198.51.100.66:0", "198.51.100.1:5060"]
                .map(|address| address.parse::<SocketAddr>().unwrap().into());
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&source).unwrap();
            socket
                .connect_timeout(&address, Duration::from_secs(5))
                .unwrap();
            TcpStream::from(socket)
        })
    };
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let client = connect();
        let (FromBroker::Accepted { peer, local, .. }, mut fds) = receive(&sbc) else {
            panic!()
        };
        assert_eq!(
            (peer, local),
            (client.local_addr().unwrap(), client.peer_addr().unwrap())
        );
        pairs.push((client, TcpStream::from(fds.remove(0))));
    }
    // The fourth is accepted by the kernel and closed by the firewall.
    let mut fourth = connect();
    fourth
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let closed = io::Read::read(&mut fourth, &mut [0; 8]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!(closed.map_or_else(|e| e.kind() != io::ErrorKind::WouldBlock, |_| true));
    // Two end; the kernel knows, and two more fit.
    pairs.truncate(1);
    let begun = Instant::now();
    let mut more = Vec::new();
    while more.len() < 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "places are never given free"
        );
        let client = connect();
        wait_readable(&sbc, Duration::from_millis(100));
        let mut buffer = vec![0; 65536];
        if let Ok(received) = sbc.recv(&mut buffer) {
            more.push((client, received.descriptors));
        }
    }
    house.stop();
}

#[test]
fn a_tcp_connection_to_a_configured_far_end_is_lent_when_it_stands() {
    if !is_root("broker connect") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let peer: SocketAddr = "198.51.100.10:5060".parse().unwrap();
    let connect = ToBroker::Connect {
        id: ID,
        zone: ZONE,
        transport: Transport::Tcp,
        peer,
    };
    assert_eq!(
        ask(&sbc, &connect).0,
        FromBroker::Refused {
            id: ID,
            reason: Refusal::PeerRefused
        }
    );
    let listener = house.outside.run(move || TcpListener::bind(peer).unwrap());
    let (message, fds) = ask(&sbc, &connect);
    let FromBroker::Connected { local, .. } = message else {
        panic!("{message:?}")
    };
    assert_eq!(listener.accept().unwrap().1, local);
    assert_eq!(fds.len(), 1);
    house.stop();
}

#[test]
fn a_failed_commit_leaves_everything_as_it_was() {
    if !is_root("broker commit") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    opened(&sbc, both("198.51.100.10:4000".parse().unwrap()));
    house.tell(
        &ToChild::Configuration {
            revision: 2,
            document: "bad".into(),
        },
        None,
    );
    let reason = "bad".to_owned();
    assert_eq!(
        receive::<FromChild>(&house.control).0,
        FromChild::CommitFailed {
            revision: 2,
            reason
        }
    );
    assert_eq!(pinholes(&mut house.netlink()), 2);
    house.commit(3, "small");
    assert!(matches!(receive(&sbc).0, FromBroker::Settings(settings) if settings.revision == 3));
    assert_eq!(pinholes(&mut house.netlink()), 2, "a commit keeps pinholes");
    house.stop();
}

/// A process that holds nothing but the sbc's end of the channel.
fn holder(sbc: Channel) -> std::process::Child {
    let end: OwnedFd = sbc.into();
    Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::from(end))
        .spawn()
        .unwrap()
}

#[test]
fn after_kill_9_all_pinholes_are_gone_within_100_ms() {
    if !is_root("broker death") {
        return;
    }
    let house = House::open(Small, "small");
    let mut netlink = house.netlink();
    let mut times = Vec::new();
    for run in 0..200 {
        let sbc = house.sbc();
        let mut kept = Vec::new();
        for port in 0..5 {
            kept.push(opened(
                &sbc,
                both(SocketAddr::from(([198, 51, 100, 10], 4000 + port))),
            ));
        }
        assert_eq!(pinholes(&mut netlink), 10, "run {run}");
        let mut child = holder(sbc);
        let begun = Instant::now();
        kill(
            Pid::from_raw(i32::try_from(child.id()).unwrap()),
            Signal::SIGKILL,
        )
        .unwrap();
        until(|| pinholes(&mut netlink) == 0);
        times.push(begun.elapsed());
        child.wait().unwrap();
        // Whoever kept copies of the sockets can not use them.
        for (_, _, socket) in &kept {
            let until_shut = until(|| {
                socket
                    .send(b"x")
                    .is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            });
            assert!(until_shut < Duration::from_millis(100));
        }
    }
    println!("pinholes after kill -9: {}", figures(times.clone()));
    assert!(
        times.iter().all(|time| *time < Duration::from_millis(100)),
        "{}",
        figures(times)
    );
    house.stop();
}

#[test]
fn a_silent_sbc_loses_its_pinholes_and_then_its_life() {
    if !is_root("broker silence") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let mut netlink = house.netlink();
    opened(&sbc, both("198.51.100.10:4000".parse().unwrap()));
    for sequence in 0..10 {
        send(&sbc, &ToBroker::Health { sequence });
        wait_readable(&sbc, Duration::from_millis(25));
        assert_eq!(pinholes(&mut netlink), 2);
    }
    send(&sbc, &ToBroker::Health { sequence: 10 });
    let closed = until(|| pinholes(&mut netlink) == 0);
    println!("pinholes after the last Health: {closed:?}");
    // Neither thread has the priority that the program takes; its figure is that of `process.rs`.
    let bounds = Duration::from_millis(70)..Duration::from_millis(400);
    assert!(bounds.contains(&closed), "{closed:?}");
    send(&sbc, &ToBroker::Health { sequence: 11 });
    until(|| pinholes(&mut netlink) == 2);
    let begun = Instant::now();
    assert_eq!(
        receive::<FromChild>(&house.control).0,
        FromChild::Silent { role: Role::Sbc }
    );
    assert!(
        begun.elapsed() > Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(pinholes(&mut netlink), 0);
    house.stop();
}

#[test]
fn what_is_no_message_costs_the_sender_its_channel_and_nobody_else_anything() {
    if !is_root("broker garbage") {
        return;
    }
    let house = House::open(Small, "small");
    let time = house.attach(Role::Time, ChannelKind::Broker);
    let mut netlink = house.netlink();
    let null = std::fs::File::open("/dev/null").unwrap();
    let health = encode(&ToBroker::Health { sequence: 1 }).unwrap();
    let long = vec![1; 70_000];
    let cases: [(&[u8], bool); 5] = [
        (b"\x01", false),
        (b"\x02\x00", false),
        (&long, false),
        (&health, true),
        (&[1, 255, 255], false),
    ];
    for (bytes, with_descriptor) in cases {
        let sbc = house.sbc();
        opened(&sbc, both("198.51.100.10:4000".parse().unwrap()));
        let fds = if with_descriptor {
            vec![null.as_fd()]
        } else {
            Vec::new()
        };
        sbc.send(bytes, &fds).unwrap();
        assert_eq!(
            receive::<FromChild>(&house.control).0,
            FromChild::Silent { role: Role::Sbc }
        );
        assert_eq!(pinholes(&mut netlink), 0);
        let end = sbc.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
    send(&time, &ToBroker::Health { sequence: 1 });
    let refused = ask(&time, &open(Flow::default())).0;
    assert_eq!(
        refused,
        FromBroker::Refused {
            id: ID,
            reason: Refusal::NotPermitted
        }
    );
    house.stop();
}

#[test]
fn a_flood_that_does_not_read_its_answers_ends_the_flooder_alone() {
    if !is_root("broker flood") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let request = encode(&ToBroker::CloseMedia {
        id: ID,
        lease: LeaseId(1),
    })
    .unwrap();
    let begun = Instant::now();
    let ended = loop {
        match sbc.send(&request, &[]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => break error,
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it is never ended"
        );
    };
    assert_eq!(ended.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(
        receive::<FromChild>(&house.control).0,
        FromChild::Silent { role: Role::Sbc }
    );
    let again = house.sbc();
    opened(&again, both("198.51.100.10:4000".parse().unwrap()));
    house.stop();
}

#[test]
fn quotas_hold_against_a_captured_sbc() {
    if !is_root("broker quota") {
        return;
    }
    let house = House::open(Small, "small");
    let sbc = house.sbc();
    let mut refusals = std::collections::BTreeMap::<Refusal, u32>::new();
    let mut granted = 0;
    let begun = Instant::now();
    for _ in 0..10_000 {
        match ask(
            &sbc,
            &open(Flow {
                admit: Admit::MediaNetworks,
                send_to: None,
            }),
        )
        .0
        {
            FromBroker::MediaOpened { .. } => granted += 1,
            FromBroker::Refused { reason, .. } => *refusals.entry(reason).or_default() += 1,
            other => panic!("{other:?}"),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("10,000 OpenMedia in {seconds:.2} s: {granted} granted, {refusals:?}");
    // 2,000 a second and a burst of 4,000, the configured rate of 500 calls a second; 8,192 sockets in all.
    assert!(f64::from(granted) <= 4000.0 + 2000.0 * (seconds + 0.1) && granted <= 8192);
    assert_eq!(
        pinholes(&mut house.netlink()),
        usize::try_from(granted).unwrap()
    );
    house.stop();
}
