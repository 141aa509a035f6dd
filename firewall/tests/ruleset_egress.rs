//! From inside: a socket sends only whereto it was lent, and each other packet is refused for its own reason (GH_FW.4). On
//! the real kernel, as root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod wire;

use firewall::{
    nftables::names::mark,
    policy::{NamedPeer, Protocol, Reason},
};
use wire::{
    Bench, lab,
    packet::{rtp, udp},
    verdict::{EXT, assert_only, tight},
};

#[test]
fn from_inside_a_socket_sends_only_whereto_it_was_lent() {
    let Some(mut bench) = Bench::new("egress") else {
        return;
    };
    let denied = |result: std::io::Result<usize>| {
        assert_eq!(
            result.unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
    };
    let to = |address: &str| address.parse::<std::net::SocketAddr>().unwrap().into();
    let try_to = |bench: &mut Bench, socket: &socket2::Socket, peer: &str, payload: &[u8]| {
        for link in 0..3 {
            bench.sent(link);
        }
        bench.zero();
        let result = socket.send_to(payload, &to(peer));
        let drops = bench.drops().into_keys().collect::<Vec<_>>().join(" ");
        let wire: usize = (0..3).map(|link| bench.sent(link).len()).sum();
        if drops.is_empty() {
            assert_eq!((result.unwrap(), wire), (payload.len(), 1), "{peer}");
        } else {
            denied(result);
            assert_eq!(wire, 0, "{peer}");
        }
        drops
    };

    let listener = wire::udp("198.51.100.1:5060", mark::LISTEN_SIP);
    assert_eq!(
        try_to(&mut bench, &listener, "198.51.100.66:5060", b"x"),
        "drop/egress-listener/external"
    );
    assert_eq!(
        try_to(&mut bench, &listener, "198.51.100.20:5060", b"x"),
        ""
    );
    assert_eq!(
        try_to(&mut bench, &listener, "198.51.100.20:5061", b"x"),
        "drop/egress-listener/external"
    );
    assert_eq!(
        try_to(&mut bench, &listener, "192.0.2.10:5060", b"x"),
        "drop/egress-source/internal"
    );
    assert_eq!(
        try_to(&mut bench, &listener, "203.0.113.1:8443", b"x"),
        "drop/egress-self/none"
    );
    // Who wrote first is answered, at that address and port alone.
    bench.arrive(
        EXT,
        &udp("198.51.100.10:4321", "198.51.100.1:5060", b"x").bytes(),
    );
    assert_eq!(
        try_to(&mut bench, &listener, "198.51.100.10:4321", b"x"),
        ""
    );
    assert_eq!(
        try_to(&mut bench, &listener, "198.51.100.10:4322", b"x"),
        "drop/egress-listener/external"
    );
    // Who was answered and wrote again may be called without a connection entry.
    bench.arrive(
        EXT,
        &udp("198.51.100.10:4321", "198.51.100.1:5060", b"x").bytes(),
    );
    let flows = std::process::Command::new("nft")
        .args(["list", "set", "inet", "gatehouse", "sip_flow4"])
        .output()
        .unwrap();
    let flows = String::from_utf8(flows.stdout).unwrap();
    assert!(
        flows.contains("198.51.100.1 . 5060 . 198.51.100.10 . 4321"),
        "{flows}"
    );
    bench.add("sip_flow4", "198.51.100.1 . 5060 . 198.51.100.12 . 4321");
    assert_eq!(
        try_to(&mut bench, &listener, "198.51.100.12:4321", b"x"),
        ""
    );
    let sip6 = wire::udp("[2001:db8:e::1]:5060", mark::LISTEN_SIP);
    assert_eq!(
        try_to(&mut bench, &sip6, "[2001:db8:e::66]:5060", b"x"),
        "drop/egress-listener/external"
    );
    assert_eq!(try_to(&mut bench, &sip6, "[2001:db8:e::21]:5060", b"x"), "");

    let media = wire::udp("198.51.100.1:20000", mark::MEDIA);
    assert_eq!(
        try_to(&mut bench, &media, "198.51.100.10:4000", &rtp()),
        "drop/egress-media/external"
    );
    bench.add("media_out4", "198.51.100.1 . 20000 . 198.51.100.10 . 4000");
    assert_eq!(try_to(&mut bench, &media, "198.51.100.10:4000", &rtp()), "");
    assert_eq!(
        try_to(&mut bench, &media, "198.51.100.10:4001", &rtp()),
        "drop/egress-media/external"
    );
    for shape in [&[200; 100][..], &[128; 7], &[128; 1473], &[]] {
        assert_eq!(
            try_to(&mut bench, &media, "198.51.100.10:4000", shape),
            "drop/egress-shape/external"
        );
    }
    // The kernel's own group reports bear an option (RFC 3376 §4).
    bench.zero();
    media
        .join_multicast_v4(
            &"239.1.1.1".parse().unwrap(),
            &"198.51.100.1".parse().unwrap(),
        )
        .unwrap();
    assert!(
        bench
            .await_drops()
            .contains_key("drop/egress-options/external")
    );

    let connecting = wire::udp("198.51.100.1:0", mark::CONNECT_SIP);
    assert_eq!(
        try_to(&mut bench, &connecting, "198.51.100.21:5060", b"x"),
        ""
    );
    assert_eq!(
        try_to(&mut bench, &connecting, "198.51.100.66:5060", b"x"),
        "drop/egress-connect/external"
    );
    let unmarked = wire::udp("198.51.100.1:0", 0);
    assert_eq!(
        try_to(&mut bench, &unmarked, "198.51.100.20:5060", b"x"),
        "drop/egress-unmarked/external"
    );

    // A port that nobody holds: the kernel would complain.
    drop(listener);
    bench.zero();
    bench.arrive(
        EXT,
        &udp("198.51.100.10:4321", "198.51.100.1:5060", b"x").bytes(),
    );
    // The kernel repeats its group report at a time of its own (RFC 3376 §5.1).
    let mut looks = (0..20).map(|_| {
        let mut drops = bench.await_drops();
        drops.remove("drop/egress-options/external");
        drops
    });
    assert_eq!(
        looks.find(|drops| !drops.is_empty()),
        Some([("drop/egress-icmp/external".to_owned(), 1)].into())
    );

    bench.load(&tight());
    bench.forget();
    bench.zero();
    let refused = (0..20)
        .filter(|_| media.send_to(&rtp(), &to("198.51.100.10:4000")).is_err())
        .count();
    assert_only(&bench.drops(), Reason::EgressRate, EXT, 20);
    assert!(refused >= 18, "{refused}");
}

#[test]
fn a_question_leaves_to_name_servers_alone_and_a_call_by_name_to_its_networks() {
    let Some(mut bench) = Bench::new("egress by name") else {
        return;
    };
    let mut policy = lab();
    policy.zones[0].name_servers = vec!["198.51.100.53:53".parse().unwrap()];
    policy.zones[0].named = vec![NamedPeer {
        protocol: Protocol::Udp,
        networks: vec!["198.51.100.128/26".parse().unwrap()],
        ports: vec![5060, 5070],
    }];
    bench.load(&policy);
    bench.forget();
    let question = wire::udp("198.51.100.1:0", mark::CONNECT_NAMES);
    let connecting = wire::udp("198.51.100.1:0", mark::CONNECT_SIP);
    let listener = wire::udp("198.51.100.1:5060", mark::LISTEN_SIP);
    for (socket, peer, drop) in [
        (&question, "198.51.100.53:53", ""),
        (&question, "198.51.100.53:54", "connect"),
        (&question, "198.51.100.66:53", "connect"),
        // By the mark of name servers nobody calls, and the other way round.
        (&question, "198.51.100.130:5060", "connect"),
        (&connecting, "198.51.100.53:53", "connect"),
        (&listener, "198.51.100.53:53", "listener"),
        (&connecting, "198.51.100.130:5070", ""),
        (&listener, "198.51.100.130:5060", ""),
        (&listener, "198.51.100.191:5070", ""),
        (&listener, "198.51.100.192:5060", "listener"),
        (&listener, "198.51.100.130:22", "listener"),
        (&connecting, "198.51.100.130:22", "connect"),
    ] {
        bench.sent(EXT);
        bench.zero();
        let to = peer.parse::<std::net::SocketAddr>().unwrap().into();
        let sent = socket.send_to(b"x", &to).is_ok();
        let drops = bench.drops().into_keys().collect::<Vec<_>>().join(" ");
        let expected = match drop {
            "" => String::new(),
            reason => format!("drop/egress-{reason}/external"),
        };
        assert_eq!((drops, sent), (expected, drop.is_empty()), "{peer}");
        assert_eq!(bench.sent(EXT).len(), usize::from(sent), "{peer}");
    }
}
