//! The program as init starts it, with the laboratory's configuration and the ruleset of the product: what it keeps of
//! root's rights, and that pinholes close in time under all of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
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
use firewall::nftables::names::{Set, SetFamily};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::channel::Channel;
use support::{
    House, ID, ask, figures, go_first, is_root, pinholes, receive, send, until, wait_readable,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse-firewall");
const ZONE: ZoneId = ZoneId(0);

fn laboratory() -> String {
    std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/lab/gatehouse.toml"
    ))
    .unwrap()
}

fn house() -> House {
    let house = House::process(PROGRAM);
    house.commit(1, &laboratory());
    house
}

fn opened(sbc: &Channel, pair: bool, flow: Flow) -> (LeaseId, SocketAddr, UdpSocket) {
    let open = ToBroker::OpenMedia {
        id: ID,
        zone: ZONE,
        family: Family::V4,
        pair,
        flow,
        ttl_seconds: 60,
    };
    match ask(sbc, &open) {
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

/// The smallest RTP packet with some payload.
fn rtp_packet(sequence: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 1];
    packet.extend([0xd5; 160]);
    packet
}

fn datagram(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut polled = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(socket),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut polled, 5000_u16).unwrap();
    let mut buffer = [0; 512];
    socket
        .recv(&mut buffer)
        .ok()
        .map(|length| buffer[..length].to_vec())
}

#[test]
fn it_keeps_three_capabilities_and_the_right_to_go_first() {
    if !is_root("process privileges") {
        return;
    }
    let house = House::process(PROGRAM);
    // CAP_NET_BIND_SERVICE 10, CAP_NET_ADMIN 12, CAP_NET_RAW 13.
    let kept = format!("{:016x}", 1_u64 << 10 | 1 << 12 | 1 << 13);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", house.pid())).unwrap();
    let tasks: Vec<_> = tasks.map(|task| task.unwrap().path()).collect();
    assert_eq!(tasks.len(), 2, "the loop and the committing thread");
    for task in tasks {
        let read = || std::fs::read_to_string(task.join("status")).unwrap();
        // The committing thread does it at its own start.
        until(|| read().contains("NoNewPrivs:\t1"));
        let status = read();
        for field in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(
                status.contains(&format!("{field}:\t{kept}")),
                "{field} in {status}"
            );
        }
        assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
        let scheduling = std::fs::read_to_string(task.join("stat")).unwrap();
        // proc(5): rt_priority and policy are fields 40 and 41; only the second field may hold spaces.
        let after_name: Vec<&str> = scheduling
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        println!(
            "{}: real-time priority {}, policy {}",
            task.display(),
            after_name[37],
            after_name[38]
        );
    }
    house.stop();
}

#[test]
fn a_document_that_does_not_check_is_refused_with_its_line() {
    if !is_root("process document") {
        return;
    }
    let house = house();
    house.tell(
        &ToChild::Configuration {
            revision: 2,
            document: "schema = 1\nnonsense = 1\n".into(),
        },
        None,
    );
    let FromChild::CommitFailed {
        revision: 2,
        reason,
    } = receive(&house.control).0
    else {
        panic!()
    };
    assert!(reason.contains("nonsense"), "{reason}");
    house.commit(3, &laboratory());
    house.stop();
}

#[test]
fn media_passes_the_products_ruleset_to_its_peer_alone() {
    if !is_root("process media") {
        return;
    }
    let house = house();
    let sbc = house.sbc();
    let bind = |address: &'static str| {
        let socket = house
            .outside
            .run(move || UdpSocket::bind((address, 0)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    };
    let (alice, attacker) = (bind("198.51.100.10"), bind("198.51.100.66"));
    let from = alice.local_addr().unwrap();
    let (lease, rtp, socket) = opened(
        &sbc,
        true,
        Flow {
            admit: Admit::Host(from.ip()),
            send_to: None,
        },
    );
    attacker.send_to(&rtp_packet(1), rtp).unwrap();
    alice.send_to(b"no media at all", rtp).unwrap();
    alice.send_to(&rtp_packet(2), rtp).unwrap();
    assert_eq!(datagram(&socket), Some(rtp_packet(2)));
    let latch = ToBroker::LatchMedia {
        id: ID,
        lease,
        rtp: both(from),
        rtcp: Flow::default(),
    };
    assert_eq!(ask(&sbc, &latch).0, FromBroker::Done { id: ID });
    socket.send(&rtp_packet(3)).unwrap();
    let mut buffer = [0; 512];
    assert_eq!(alice.recv_from(&mut buffer).unwrap().1, rtp);
    attacker.send_to(&rtp_packet(4), rtp).unwrap();
    bind("198.51.100.10").send_to(&rtp_packet(5), rtp).unwrap();
    alice.send_to(&rtp_packet(6), rtp).unwrap();
    assert_eq!(datagram(&socket), Some(rtp_packet(6)));
    assert!(
        socket
            .send_to(&rtp_packet(7), attacker.local_addr().unwrap())
            .is_err()
    );
    assert!(socket.send(b"no media at all").is_err());

    let management = house.attach(Role::Management, ChannelKind::Status);
    management
        .send(&encode(&ToStatus::Drops { id: ID }).unwrap(), &[])
        .unwrap();
    let FromStatus::Drops { drops, .. } = receive(&management).0 else {
        panic!()
    };
    let no_pinhole = drops
        .iter()
        .find(|drop| drop.reason == "no-pinhole" && drop.zone == "external")
        .unwrap();
    assert!(no_pinhole.count >= 3, "{drops:?}");
    let last = no_pinhole.last.as_ref().unwrap();
    assert_eq!(
        (last.destination.as_str(), last.protocol.as_str()),
        (rtp.to_string().as_str(), "udp")
    );
    house.stop();
}

#[test]
fn listeners_of_sbc_and_management_are_lent_under_the_products_ruleset() {
    if !is_root("process listeners") {
        return;
    }
    let house = house();
    let sbc = house.sbc();
    for (zone, transport) in [
        (0, Transport::Udp),
        (0, Transport::Tcp),
        (1, Transport::Udp),
        (1, Transport::Tcp),
    ] {
        let (message, fds) = ask(
            &sbc,
            &ToBroker::Listen {
                id: ID,
                zone: ZoneId(zone),
                transport,
                port: 5060,
            },
        );
        assert!(
            matches!(message, FromBroker::Listening { ref local, .. } if local.len() == 2),
            "{message:?}"
        );
        assert_eq!(fds.len(), if transport == Transport::Udp { 2 } else { 0 });
    }
    let client = house.outside.run(|| {
        std::net::TcpStream::connect_timeout(
            &"198.51.100.1:5060".parse().unwrap(),
            Duration::from_secs(5),
        )
        .unwrap()
    });
    let (FromBroker::Accepted { peer, .. }, _) = receive(&sbc) else {
        panic!()
    };
    assert_eq!(peer, client.local_addr().unwrap());
    let management = house.attach(Role::Management, ChannelKind::Broker);
    let listen = ToBroker::Listen {
        id: ID,
        zone: ZoneId(2),
        transport: Transport::Tls,
        port: 8443,
    };
    assert!(matches!(
        ask(&management, &listen).0,
        FromBroker::Listening { .. }
    ));
    house.stop();
}

#[test]
fn after_kill_9_of_the_sbc_all_pinholes_are_gone_within_100_ms_also_while_a_commit_runs() {
    if !is_root("process death") {
        return;
    }
    let house = house();
    go_first();
    let mut netlink = house.netlink();
    let mut figures_of = Vec::new();
    let mut revision = 1;
    for committing in [false, true] {
        let mut times = Vec::new();
        for run in 0..200 {
            let sbc = house.sbc();
            for port in 0..50 {
                opened(
                    &sbc,
                    true,
                    both(SocketAddr::from(([198, 51, 100, 10], 4000 + port))),
                );
            }
            assert_eq!(pinholes(&mut netlink), 150, "run {run}");
            let end: OwnedFd = sbc.into();
            let mut child = Command::new("sleep")
                .arg("1000")
                .stdin(Stdio::from(end))
                .spawn()
                .unwrap();
            if committing {
                revision += 1;
                house.tell(
                    &ToChild::Configuration {
                        revision,
                        document: laboratory(),
                    },
                    None,
                );
            }
            let begun = Instant::now();
            kill(
                Pid::from_raw(i32::try_from(child.id()).unwrap()),
                Signal::SIGKILL,
            )
            .unwrap();
            until(|| pinholes(&mut netlink) == 0);
            times.push(begun.elapsed());
            child.wait().unwrap();
            if committing {
                assert_eq!(
                    receive::<FromChild>(&house.control).0,
                    FromChild::Committed { revision }
                );
            }
        }
        let worst = times.iter().max().copied().unwrap();
        println!(
            "pinholes of 50 leases after kill -9, commit running: {committing}: {}",
            figures(times)
        );
        figures_of.push(worst);
    }
    assert!(
        figures_of
            .iter()
            .all(|worst| *worst < Duration::from_millis(100)),
        "{figures_of:?}"
    );
    house.stop();
}

#[test]
fn a_silent_sbc_loses_its_pinholes_under_load_too() {
    if !is_root("process silence") {
        return;
    }
    let house = house();
    go_first();
    let sbc = house.sbc();
    let mut netlink = house.netlink();
    opened(&sbc, true, both("198.51.100.10:4000".parse().unwrap()));
    let mut times = Vec::new();
    for sequence in 0..20 {
        send(&sbc, &ToBroker::Health { sequence });
        until(|| pinholes(&mut netlink) == 3);
        send(&sbc, &ToBroker::Health { sequence });
        times.push(until(|| pinholes(&mut netlink) == 0));
        wait_readable(&sbc, Duration::ZERO);
    }
    println!("pinholes after the last Health: {}", figures(times.clone()));
    assert!(
        times.iter().all(|time| *time < Duration::from_millis(100)),
        "{}",
        figures(times)
    );
    house.stop();
}

#[test]
fn a_silent_sbc_hears_and_says_nothing_by_its_listener_until_it_speaks_again() {
    if !is_root("silent listener") {
        return;
    }
    let house = house();
    go_first();
    let sbc = house.sbc();
    let listen = ToBroker::Listen {
        id: ID,
        zone: ZONE,
        transport: Transport::Udp,
        port: 5060,
    };
    let (_, fds) = ask(&sbc, &listen);
    let socket = UdpSocket::from(fds.into_iter().next().unwrap());
    socket.set_nonblocking(false).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let client = house
        .outside
        .run(|| UdpSocket::bind("198.51.100.10:5060").unwrap());
    let mut buffer = [0; 100];
    let mut hears = |word: &str| {
        client
            .send_to(word.as_bytes(), "198.51.100.1:5060")
            .unwrap();
        matches!(socket.recv(&mut buffer), Ok(length) if buffer[..length] == *word.as_bytes())
    };
    assert!(hears("first"));
    send(&sbc, &ToBroker::Health { sequence: 1 });
    let gone = until(|| socket.send_to(b"x", "198.51.100.10:5060").is_err());
    println!("nothing is sent from {gone:?} after the last Health on");
    assert!(gone < Duration::from_millis(100), "{gone:?}");
    assert!(!hears("second"));
    // The house's clock goes on: whoever is silent for 500 ms is condemned, so it starts anew.
    let sbc = house.sbc();
    let (_, again) = ask(&sbc, &listen);
    assert!(!again.is_empty());
    assert!(hears("third"), "the same socket, in use again");
    house.stop();
}

#[test]
fn a_firewall_that_is_killed_leaves_the_rules_and_no_pinhole_until_a_socket_is_offered_again() {
    if !is_root("process restart") {
        return;
    }
    let mut house = house();
    let sbc = house.sbc();
    let (_, rtp, socket) = opened(&sbc, false, both("198.51.100.10:4000".parse().unwrap()));
    let ban = ToBroker::Ban {
        id: ID,
        key: BanKey::Host("198.51.100.66".parse().unwrap()),
        scope: BanScope::All,
        seconds: 600,
        reason: "scanner".into(),
    };
    assert_eq!(ask(&sbc, &ban).0, FromBroker::Done { id: ID });
    let mut netlink = house.netlink();
    house.kill_and_restart(PROGRAM);
    assert_eq!(pinholes(&mut netlink), 0);
    let bans = netlink.elements(Set::BanHostAll, SetFamily::V4).unwrap();
    assert_eq!(bans, [vec![198, 51, 100, 66]], "bans live on");
    let management = house.attach(Role::Management, ChannelKind::Status);
    let list = ToStatus::Bans { id: ID, offset: 0 };
    management.send(&encode(&list).unwrap(), &[]).unwrap();
    let FromStatus::Bans { bans, .. } = receive(&management).0 else {
        panic!("no bans")
    };
    assert_eq!(bans.len(), 1, "and are listed");
    assert_eq!(bans[0].key, "198.51.100.66");
    assert!(
        (590..=600).contains(&bans[0].expires_in_seconds),
        "{bans:?}"
    );
    // The sbc still holds its socket: closed it is all the same.
    let alice = house
        .outside
        .run(|| UdpSocket::bind("198.51.100.10:4000").unwrap());
    alice.send_to(&rtp_packet(1), rtp).unwrap();
    assert!(
        socket
            .send_to(&rtp_packet(2), "198.51.100.10:4000")
            .is_err()
    );
    house.commit(1, &laboratory());
    let again = house.sbc();
    opened(&again, true, both("198.51.100.10:4000".parse().unwrap()));
    assert_eq!(
        socket.recv(&mut [0; 8]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    // Offered to it, it is a media socket again; a listener, whatever is said of it, is none.
    let adopt = ToBroker::AdoptMedia {
        id: ID,
        lease: LeaseId(5),
        zone: ZONE,
        rtp: both("198.51.100.10:4000".parse().unwrap()),
        rtcp: Flow::default(),
        ttl_seconds: 60,
    };
    let adopt = encode(&adopt).unwrap();
    let listen = ToBroker::Listen {
        id: ID,
        zone: ZONE,
        transport: Transport::Udp,
        port: 5060,
    };
    let (_, listener) = ask(&again, &listen);
    again.send(&adopt, &[listener[0].as_fd()]).unwrap();
    let not_media = FromBroker::Refused {
        id: ID,
        reason: Refusal::NotPermitted,
    };
    assert_eq!(receive::<FromBroker>(&again).0, not_media);
    again.send(&adopt, &[socket.as_fd()]).unwrap();
    assert_eq!(receive::<FromBroker>(&again).0, FromBroker::Done { id: ID });
    alice.send_to(&rtp_packet(3), rtp).unwrap();
    assert_eq!(datagram(&socket), Some(rtp_packet(3)));
    socket.send(&rtp_packet(4)).unwrap();
    assert_eq!(datagram(&alice), Some(rtp_packet(4)));
    house.stop();
}

#[test]
fn the_time_of_each_kind_of_request_is_told() {
    if !is_root("process times") {
        return;
    }
    let house = house();
    go_first();
    let sbc = house.sbc();
    let alice: SocketAddr = "198.51.100.10:4000".parse().unwrap();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..1000 {
        let begun = Instant::now();
        let (lease, _, socket) = opened(
            &sbc,
            true,
            Flow {
                admit: Admit::Host(alice.ip()),
                send_to: None,
            },
        );
        times[0].push(begun.elapsed());
        let rest = [
            ToBroker::LatchMedia {
                id: ID,
                lease,
                rtp: both(alice),
                rtcp: both(alice),
            },
            ToBroker::RenewMedia {
                id: ID,
                lease,
                ttl_seconds: 60,
            },
            ToBroker::CloseMedia { id: ID, lease },
        ];
        for (request, times) in rest.iter().zip(&mut times[1..]) {
            let begun = Instant::now();
            assert_eq!(ask(&sbc, request).0, FromBroker::Done { id: ID });
            times.push(begun.elapsed());
        }
        drop(socket);
    }
    for (kind, times) in [
        "OpenMedia of a pair",
        "LatchMedia",
        "RenewMedia",
        "CloseMedia",
    ]
    .into_iter()
    .zip(times)
    {
        println!("{kind}: {}", figures(times));
    }
    house.stop();
}
