//! One packet for each reason: exactly that counter moves, by one, and the box sends nothing (GH_FW.4, FFW_RUL_EXT.1.6,
//! 1.7, 1.9, 1.10). On the real kernel, as root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod wire;

use std::collections::{BTreeMap, BTreeSet};

use firewall::{
    nftables::{
        names::{drop_counter, mark},
        render,
    },
    policy::{Policy, Reason},
};
use wire::{
    Bench, lab,
    packet::{ACK, FIN, Ip, PSH, RST, SYN, TCP, UDP, URG, extend, icmp, rtp, tcp, udp},
};

const EXT: usize = 0;
const INT: usize = 1;
const MGMT: usize = 2;
const ZONES: [&str; 3] = ["external", "internal", "management"];

/// Reasons that packets from outside can meet one at a time, under the laboratory's own configuration.
fn single_packets() -> Vec<(Reason, usize, Vec<u8>)> {
    use Reason::{
        BogonSource, BroadcastDestination, BroadcastSource, CtInvalid, ExtensionHeader,
        ForeignAddress, Forward, Fragment, FragmentOffset, FragmentTiny, Icmp, IpOptions,
        LinkLocal, LoopbackAddress, MulticastDestination, MulticastSource, NoPinhole,
        NotGlobalSource, NotOffered, OwnSource, PortZero, Protocol, RecordRoute, ReservedAddress,
        RoutingHeader, SourceRoute, SpoofedSource, TcpFlags, UnspecifiedSource,
    };
    let sip = b"OPTIONS sip:x SIP/2.0\r\n\r\n";
    let to = |source: &str| udp(&format!("{source}:5060"), "198.51.100.1:5060", sip);
    let to6 = |source: &str| udp(&format!("[{source}]:5060"), "[2001:db8:e::1]:5060", sip);
    let from = |destination: &str| udp("198.51.100.66:5060", destination, sip);
    let from6 = |destination: &str| udp("[2001:db8:e::66]:5060", destination, sip);
    let segment = |flags| tcp("198.51.100.66:4000", "198.51.100.1:5060", flags, 1, 1);
    let segment6 = |flags| tcp("[2001:db8:e::66]:4000", "[2001:db8:e::1]:5060", flags, 1, 1);
    let with_options = |options: &[u8]| Ip {
        options: options.to_vec(),
        ..to("198.51.100.66")
    };
    let fragment = |fragment, payload: usize| Ip {
        fragment,
        ..Ip::new("198.51.100.66", "198.51.100.1", UDP, vec![0; payload])
    };
    let large6 = || {
        udp(
            "[2001:db8:e::66]:5060",
            "[2001:db8:e::1]:5060",
            &[b'A'; 600],
        )
    };
    let fragment6 = |offset_and_flag: u16, packet: Ip| {
        let [high, low] = offset_and_flag.to_be_bytes();
        extend(packet, 44, &[0, high, low, 1, 2, 3, 4])
    };
    let mut cases: Vec<(Reason, usize, Ip)> = vec![
        (UnspecifiedSource, EXT, to("0.0.0.0")),
        (UnspecifiedSource, EXT, to("0.255.255.255")),
        (UnspecifiedSource, EXT, to6("::")),
        (LoopbackAddress, EXT, to("127.0.0.1")),
        (LoopbackAddress, EXT, to("127.255.0.1")),
        (LoopbackAddress, EXT, from("127.0.0.1:5060")),
        (OwnSource, EXT, to("198.51.100.1")),
        (OwnSource, EXT, to("203.0.113.1")),
        (OwnSource, EXT, to6("2001:db8:e::1")),
        (OwnSource, INT, udp("192.0.2.1:5060", "192.0.2.1:5060", sip)),
        (MulticastSource, EXT, to("224.0.0.1")),
        (MulticastSource, EXT, to("239.1.1.1")),
        (BroadcastSource, EXT, to("255.255.255.255")),
        (BroadcastSource, EXT, to("198.51.100.255")),
        (ReservedAddress, EXT, to("240.0.0.1")),
        (ReservedAddress, EXT, to("255.255.255.254")),
        (ReservedAddress, EXT, from("0.0.0.1:5060")),
        (ReservedAddress, EXT, from("240.0.0.0:5060")),
        (LinkLocal, EXT, to("169.254.0.1")),
        (LinkLocal, EXT, from("169.254.0.1:5060")),
        (LinkLocal, EXT, to6("fe80::1")),
        (LinkLocal, EXT, from6("[fe80::9]:5060")),
        (
            SourceRoute,
            EXT,
            with_options(&[131, 7, 4, 198, 51, 100, 1, 0]),
        ),
        (
            SourceRoute,
            EXT,
            with_options(&[137, 7, 4, 198, 51, 100, 1, 0]),
        ),
        (
            SourceRoute,
            EXT,
            with_options(&[1, 1, 1, 131, 7, 4, 198, 51, 100, 1, 0, 0]),
        ),
        (RecordRoute, EXT, with_options(&[7, 7, 4, 0, 0, 0, 0, 0])),
        (RecordRoute, EXT, with_options(&[1, 7, 7, 4, 0, 0, 0, 0])),
        (IpOptions, EXT, with_options(&[148, 4, 0, 0])),
        (
            RoutingHeader,
            EXT,
            extend(to6("2001:db8:e::66"), 43, &[0, 0, 1, 0, 0, 0, 0]),
        ),
        (
            ExtensionHeader,
            EXT,
            extend(to6("2001:db8:e::66"), 0, &[0, 1, 4, 0, 0, 0, 0]),
        ),
        (
            ExtensionHeader,
            EXT,
            extend(to6("2001:db8:e::66"), 60, &[0, 1, 4, 0, 0, 0, 0]),
        ),
        (
            Protocol,
            EXT,
            Ip::new("198.51.100.66", "198.51.100.1", 47, vec![0; 16]),
        ),
        (
            Protocol,
            EXT,
            Ip::new("2001:db8:e::66", "2001:db8:e::1", 99, vec![0; 16]),
        ),
        (
            Fragment,
            EXT,
            Ip {
                fragment: 0x2000,
                ..Ip::new("198.51.100.66", "198.51.100.1", TCP, vec![0; 512])
            },
        ),
        (
            Fragment,
            MGMT,
            Ip {
                fragment: 0x2000,
                ..Ip::new("203.0.113.10", "203.0.113.1", UDP, vec![0; 512])
            },
        ),
        (Fragment, EXT, fragment6(0, large6())),
        (
            Fragment,
            EXT,
            fragment6(
                1,
                Ip {
                    protocol: TCP,
                    ..large6()
                },
            ),
        ),
        (
            Fragment,
            MGMT,
            fragment6(
                1,
                udp("[2001:db8:2::10]:5060", "[2001:db8:2::1]:5060", &[0; 600]),
            ),
        ),
        (FragmentTiny, EXT, fragment(0x2000, 8)),
        (FragmentTiny, EXT, fragment(0x0010, 0)),
        (FragmentTiny, EXT, fragment6(1, to6("2001:db8:e::66"))),
        (FragmentOffset, EXT, fragment(0x1fff, 512)),
        (FragmentOffset, EXT, fragment6(0xfff8, large6())),
        (MulticastDestination, EXT, from("224.0.0.251:5353")),
        (MulticastDestination, EXT, from6("[ff02::fb]:5353")),
        (BroadcastDestination, EXT, from("255.255.255.255:5060")),
        (BroadcastDestination, EXT, from("198.51.100.255:5060")),
        (
            PortZero,
            EXT,
            udp("198.51.100.66:0", "198.51.100.1:5060", sip),
        ),
        (PortZero, EXT, from("198.51.100.1:0")),
        (
            PortZero,
            EXT,
            tcp("[2001:db8:e::66]:0", "[2001:db8:e::1]:5060", SYN, 1, 0),
        ),
        (
            SpoofedSource,
            INT,
            udp("192.0.3.1:5060", "192.0.2.1:5060", sip),
        ),
        (BogonSource, EXT, to("10.0.0.1")),
        (BogonSource, EXT, to("100.64.0.1")),
        (BogonSource, EXT, to("192.168.1.1")),
        (BogonSource, EXT, to("198.19.0.1")),
        (BogonSource, EXT, to6("2001:db8:ffff::1")),
        (BogonSource, EXT, to6("2002:a00:1::1")),
        (NotGlobalSource, EXT, to6("100::1")),
        (NotGlobalSource, EXT, to6("4000::1")),
        (NotGlobalSource, EXT, to6("e000::1")),
        (NotGlobalSource, EXT, to6("fc00::1")),
        (ForeignAddress, EXT, from("203.0.113.1:8443")),
        (ForeignAddress, EXT, from("192.0.2.1:5060")),
        (
            ForeignAddress,
            EXT,
            tcp("[2001:db8:e::66]:4000", "[2001:db8:2::1]:8443", SYN, 1, 0),
        ),
        (
            ForeignAddress,
            INT,
            udp("192.0.2.10:5060", "203.0.113.1:8443", sip),
        ),
        (Forward, EXT, from("192.0.2.10:5060")),
        (Forward, EXT, from("198.51.100.77:5060")),
        (Forward, EXT, from6("[2001:db8:1::10]:5060")),
        (NotOffered, EXT, from("198.51.100.1:1720")),
        (NotOffered, EXT, from6("[2001:db8:e::1]:2427")),
        (
            NotOffered,
            EXT,
            tcp("198.51.100.66:4000", "198.51.100.1:8443", SYN, 1, 0),
        ),
        (
            NotOffered,
            EXT,
            tcp("[2001:db8:e::66]:4000", "[2001:db8:e::1]:22", SYN, 1, 0),
        ),
        (
            NotOffered,
            MGMT,
            udp("203.0.113.10:9", "203.0.113.1:5060", sip),
        ),
        (CtInvalid, EXT, segment(ACK)),
        (CtInvalid, EXT, segment(SYN | ACK)),
        (CtInvalid, EXT, segment(RST)),
        (CtInvalid, EXT, segment6(FIN | ACK)),
        (
            CtInvalid,
            EXT,
            icmp("198.51.100.66", "198.51.100.1", 0, 0, &[0, 1, 0, 1]),
        ),
        (CtInvalid, EXT, {
            let mut damaged = from("198.51.100.1:5060");
            damaged.payload[6] ^= 0xff;
            damaged
        }),
        (
            Icmp,
            EXT,
            icmp("198.51.100.66", "198.51.100.1", 13, 0, &[0; 16]),
        ),
        (
            Icmp,
            EXT,
            icmp("2001:db8:e::66", "2001:db8:e::1", 134, 0, &[0; 12]),
        ),
        (
            NoPinhole,
            EXT,
            udp("198.51.100.10:4000", "198.51.100.1:20000", &rtp()),
        ),
        (
            NoPinhole,
            EXT,
            udp("[2001:db8:e::10]:4000", "[2001:db8:e::1]:20001", &rtp()),
        ),
        (
            NoPinhole,
            INT,
            udp("192.0.2.10:4000", "192.0.2.1:16384", &rtp()),
        ),
    ];
    for flags in [
        0,
        FIN,
        FIN | PSH | URG,
        SYN | FIN,
        SYN | RST,
        SYN | FIN | ACK,
        FIN | RST | ACK,
        PSH,
        URG,
        FIN | SYN | RST | PSH | ACK | URG,
    ] {
        cases.push((TcpFlags, EXT, segment(flags)));
        cases.push((TcpFlags, EXT, segment6(flags)));
    }
    // Each zone's prefix on each other zone's wire.
    let hosts = [
        (
            "198.51.100.66",
            "2001:db8:e::66",
            "198.51.100.1",
            "2001:db8:e::1",
        ),
        ("192.0.2.10", "2001:db8:1::10", "192.0.2.1", "2001:db8:1::1"),
        (
            "203.0.113.10",
            "2001:db8:2::10",
            "203.0.113.1",
            "2001:db8:2::1",
        ),
    ];
    for (wire, (_, _, own4, own6)) in hosts.iter().enumerate() {
        for (_, (source4, source6, ..)) in
            hosts.iter().enumerate().filter(|(other, _)| *other != wire)
        {
            cases.push((
                SpoofedSource,
                wire,
                udp(&format!("{source4}:9"), &format!("{own4}:5060"), sip),
            ));
            cases.push((
                SpoofedSource,
                wire,
                udp(&format!("[{source6}]:9"), &format!("[{own6}]:5060"), sip),
            ));
        }
    }
    cases
        .into_iter()
        .map(|(reason, link, packet)| (reason, link, packet.bytes()))
        .collect()
}

fn expected(reason: Reason, link: usize) -> BTreeMap<String, u64> {
    [(drop_counter(reason.word(), ZONES[link]), 1)].into()
}

#[test]
fn each_packet_moves_exactly_one_counter_and_none_is_answered() {
    let Some(mut bench) = Bench::new("refusals") else {
        return;
    };
    for (index, (reason, link, packet)) in single_packets().into_iter().enumerate() {
        bench.zero();
        bench.arrive(link, &packet);
        assert_eq!(
            bench.await_drops(),
            expected(reason, link),
            "case {index}: {reason} {packet:02x?}"
        );
        for link in 0..3 {
            assert_eq!(
                bench.sent(link),
                Vec::<Vec<u8>>::new(),
                "case {index}: {reason}"
            );
        }
    }
}

#[test]
fn what_the_kernel_itself_discards_reaches_nobody() {
    let Some(mut bench) = Bench::new("discards") else {
        return;
    };
    let socket = wire::udp("[2001:db8:e::1]:5060", mark::LISTEN_SIP);
    socket.set_nonblocking(true).unwrap();
    // ip6_rcv judges these before any hook; its count is Ip6InHdrErrors.
    for source in ["::1", "ff02::1", "ff0e::1"] {
        bench.arrive(
            EXT,
            &udp(&format!("[{source}]:5060"), "[2001:db8:e::1]:5060", b"x").bytes(),
        );
    }
    let mut buffer = [core::mem::MaybeUninit::uninit(); 16];
    assert!(socket.recv(&mut buffer).is_err());
    assert_eq!(
        (bench.sent(EXT), bench.drops()),
        (Vec::new(), BTreeMap::new())
    );
}

/// Sends packets with all rates forgotten; which counters moved.
fn flood(bench: &mut Bench, link: usize, packets: &[Vec<u8>]) -> BTreeMap<String, u64> {
    bench.forget();
    bench.zero();
    for packet in packets {
        bench.arrive(link, packet);
    }
    bench.await_drops()
}

fn tight() -> Policy {
    let mut policy = lab();
    policy.limits.syn_rate_per_source = 1;
    policy.limits.flow_rate_per_source = 1;
    policy.limits.sip_rate_per_source = 1;
    policy.limits.media_packet_rate = 1;
    policy.limits.icmp_rate = 1;
    policy.limits.nd_rate = 1;
    policy.limits.connections_per_source = 1;
    policy
}

/// Only `reason` moved, and some packets passed before it did.
fn assert_only(drops: &BTreeMap<String, u64>, reason: Reason, link: usize, sent: usize) {
    let counter = drop_counter(reason.word(), ZONES[link]);
    assert_eq!(drops.keys().collect::<Vec<_>>(), [&counter], "{reason}");
    let refused = usize::try_from(drops[&counter]).unwrap();
    assert!(
        (1..sent).contains(&refused),
        "{reason}: {refused} of {sent}"
    );
}

#[test]
fn what_is_too_much_is_refused_for_its_own_reason_and_a_neighbour_loses_nothing() {
    let Some(mut bench) = Bench::new("rates") else {
        return;
    };
    bench.load(&tight());
    let sip = |source: &str| udp(source, "198.51.100.1:5060", b"OPTIONS").bytes();
    let many = |packet: Vec<u8>, count| vec![packet; count];

    let _sockets = ["198.51.100.1:5060", "[2001:db8:e::1]:5060"]
        .map(|local| wire::udp(local, mark::LISTEN_SIP));
    let drops = flood(&mut bench, EXT, &many(sip("198.51.100.66:5060"), 20));
    assert_only(&drops, Reason::UdpRate, EXT, 20);
    bench.zero();
    bench.arrive(EXT, &sip("198.51.100.67:5060"));
    bench.arrive(
        EXT,
        &udp("[2001:db8:e::67]:5060", "[2001:db8:e::1]:5060", b"OPTIONS").bytes(),
    );
    assert_eq!(bench.drops(), BTreeMap::new());

    bench.add("greylist4", "198.51.100.68");
    let drops = flood(&mut bench, EXT, &many(sip("198.51.100.68:5060"), 40));
    assert!(drops.contains_key("drop/grey-rate/external"), "{drops:?}");
    let drops = flood(&mut bench, EXT, &many(sip("198.51.100.20:5060"), 200));
    assert_only(&drops, Reason::PeerRate, EXT, 200);

    let _listener = wire::listener("198.51.100.1:5060", mark::LISTEN_SIP);
    let syn = |port: u16| {
        tcp(
            &format!("198.51.100.66:{port}"),
            "198.51.100.1:5060",
            SYN,
            1,
            0,
        )
        .bytes()
    };
    let drops = flood(&mut bench, EXT, &(4000..4020).map(syn).collect::<Vec<_>>());
    assert_only(&drops, Reason::SynRate, EXT, 20);

    let echo =
        |sequence: u8| icmp("198.51.100.66", "198.51.100.1", 8, 0, &[0, 1, 0, sequence]).bytes();
    let drops = flood(&mut bench, EXT, &(0..20).map(echo).collect::<Vec<_>>());
    assert_only(&drops, Reason::IcmpRate, EXT, 20);
    let mut solicit = icmp(
        "2001:db8:e::66",
        "2001:db8:e::1",
        135,
        0,
        &[
            [0; 4].as_slice(),
            &[0x20, 1, 0x0d, 0xb8, 0, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ]
        .concat(),
    );
    solicit.hop_limit = 255;
    let drops = flood(&mut bench, EXT, &many(solicit.bytes(), 20));
    assert_only(&drops, Reason::IcmpRate, EXT, 20);

    let mut policy = tight();
    policy.limits.sip_rate_per_source = 1000;
    bench.load(&policy);
    let flows = |port: u16| sip(&format!("198.51.100.69:{port}"));
    let drops = flood(
        &mut bench,
        EXT,
        &(4000..4020).map(flows).collect::<Vec<_>>(),
    );
    assert_only(&drops, Reason::NewRate, EXT, 20);
    policy.limits.flow_rate_per_source = 1000;
    policy.limits.flow_rate = 1;
    bench.load(&policy);
    let drops = flood(
        &mut bench,
        EXT,
        &(5000..5020).map(flows).collect::<Vec<_>>(),
    );
    assert_only(&drops, Reason::NewRate, EXT, 20);
    policy.limits.syn_rate = 1;
    policy.limits.connections_per_source = 1000;
    policy.limits.syn_rate_per_source = 1000;
    bench.load(&policy);
    let drops = flood(&mut bench, EXT, &(6000..6020).map(syn).collect::<Vec<_>>());
    assert_only(&drops, Reason::SynRateTotal, EXT, 20);

    policy.limits.syn_rate = 1000;
    policy.limits.connections_per_source = 1;
    bench.load(&policy);
    let drops = flood(&mut bench, EXT, &(7000..7020).map(syn).collect::<Vec<_>>());
    assert_only(&drops, Reason::Connections, EXT, 20);

    let first = Ip {
        fragment: 0x2000,
        ..Ip::new("198.51.100.66", "198.51.100.1", UDP, vec![0; 512])
    };
    let drops = flood(&mut bench, EXT, &many(first.bytes(), 4000));
    assert_only(&drops, Reason::FragmentRate, EXT, 4000);
}

#[test]
fn through_a_pinhole_passes_the_shape_of_media_and_only_from_its_peer() {
    let Some(mut bench) = Bench::new("pinholes") else {
        return;
    };
    let socket = wire::udp("198.51.100.1:20000", mark::MEDIA);
    bench.add("media_peer4", "198.51.100.1 . 20000 . 198.51.100.10 . 4000");
    let received = |bench: &mut Bench, peer: &str, payload: &[u8]| {
        bench.zero();
        bench.arrive(EXT, &udp(peer, "198.51.100.1:20000", payload).bytes());
        let drops = bench.drops();
        if !drops.is_empty() {
            return Err(drops.into_keys().collect::<Vec<_>>().join(" "));
        }
        let mut buffer = [core::mem::MaybeUninit::uninit(); 2048];
        Ok(socket.recv(&mut buffer).unwrap())
    };
    let peer = "198.51.100.10:4000";
    for first in 0..=255u8 {
        let mut payload = rtp();
        payload[0] = first;
        let verdict = received(&mut bench, peer, &payload);
        if matches!(first, 0..=3 | 20..=79 | 128..=191) {
            assert_eq!(verdict, Ok(payload.len()), "{first}");
        } else {
            assert_eq!(verdict, Err("drop/media-shape/external".into()), "{first}");
        }
    }
    for (first, least) in [(0u8, 20), (22, 13), (64, 4), (128, 8)] {
        let payload = |length: usize| [&[first][..], &vec![0; length - 1]].concat();
        assert_eq!(received(&mut bench, peer, &payload(least)), Ok(least));
        assert_eq!(received(&mut bench, peer, &payload(1472)), Ok(1472));
        for wrong in [least - 1, 1473] {
            assert_eq!(
                received(&mut bench, peer, &payload(wrong)),
                Err("drop/media-size/external".into())
            );
        }
    }
    assert_eq!(
        received(&mut bench, peer, &[]),
        Err("drop/media-shape/external".into())
    );
    for stranger in ["198.51.100.10:4001", "198.51.100.66:4000"] {
        assert_eq!(
            received(&mut bench, stranger, &rtp()),
            Err("drop/no-pinhole/external".into())
        );
    }
    bench.add("media_host4", "198.51.100.1 . 20000 . 198.51.100.11");
    assert!(received(&mut bench, "198.51.100.11:9999", &rtp()).is_ok());
    assert!(received(&mut bench, "198.51.100.11:1023", &rtp()).is_err());
    bench.add("media_any4", "198.51.100.1 . 20000");
    assert!(received(&mut bench, "198.51.100.66:9999", &rtp()).is_ok());
    assert!(received(&mut bench, "198.51.100.66:1023", &rtp()).is_err());
    // Media leaves no trace in connection tracking.
    let tracked = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default();
    assert!(!tracked.contains("20000"), "{tracked}");
    bench.load(&tight());
    let drops = flood(
        &mut bench,
        EXT,
        &vec![udp(peer, "198.51.100.1:20000", &rtp()).bytes(); 20],
    );
    assert_only(&drops, Reason::MediaRate, EXT, 20);
}

#[test]
fn a_ban_is_as_fine_as_it_says_and_the_allow_list_wins() {
    let Some(mut bench) = Bench::new("bans") else {
        return;
    };
    let _sockets = [
        ("198.51.100.1:5060", mark::LISTEN_SIP),
        ("198.51.100.1:20000", mark::MEDIA),
    ]
    .map(|(a, m)| wire::udp(a, m));
    let verdict = |bench: &mut Bench, source: &str| {
        bench.zero();
        bench.arrive(EXT, &udp(source, "198.51.100.1:5060", b"x").bytes());
        bench.drops().into_keys().collect::<Vec<_>>()
    };
    let banned = vec!["drop/ban/external".to_owned()];
    bench.add("ban_flow_sip4", "198.51.100.66 . 5060 timeout 60s");
    assert_eq!(verdict(&mut bench, "198.51.100.66:5060"), banned);
    assert_eq!(
        verdict(&mut bench, "198.51.100.66:5061"),
        Vec::<String>::new()
    );
    bench.add("ban_host_sip4", "198.51.100.67 timeout 60s");
    assert_eq!(verdict(&mut bench, "198.51.100.67:9"), banned);
    bench.add("ban_host_all4", "198.51.100.68 timeout 60s");
    assert_eq!(verdict(&mut bench, "198.51.100.68:9"), banned);
    bench.add("ban_flow_all4", "198.51.100.69 . 9 timeout 60s");
    assert_eq!(verdict(&mut bench, "198.51.100.69:9"), banned);
    assert_eq!(
        verdict(&mut bench, "198.51.100.69:10"),
        Vec::<String>::new()
    );
    // A banned host's media is cut only by a ban from everything.
    bench.add("media_any4", "198.51.100.1 . 20000");
    let media = |bench: &mut Bench, source: &str| {
        bench.zero();
        bench.arrive(EXT, &udp(source, "198.51.100.1:20000", &rtp()).bytes());
        bench.drops().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(
        media(&mut bench, "198.51.100.67:4000"),
        Vec::<String>::new()
    );
    assert_eq!(media(&mut bench, "198.51.100.68:4000"), banned);
    let mut policy = lab();
    policy.zones[0].allow_list = vec![
        "198.51.100.64/30".parse().unwrap(),
        "198.51.100.68/32".parse().unwrap(),
    ];
    bench.load(&policy);
    for source in ["198.51.100.66:5060", "198.51.100.67:9", "198.51.100.68:9"] {
        assert_eq!(
            verdict(&mut bench, source),
            Vec::<String>::new(),
            "{source}"
        );
    }
}

#[test]
fn a_family_that_a_zone_does_not_have_is_refused() {
    let Some(mut bench) = Bench::new("families") else {
        return;
    };
    let mut policy = lab();
    policy.zones[0].v6 = None;
    bench.load(&policy);
    let packets = [
        udp("[2001:db8:e::66]:5060", "[2001:db8:e::1]:5060", b"x"),
        Ip {
            hop_limit: 255,
            ..icmp("2001:db8:e::66", "ff02::1:ff00:1", 135, 0, &[0; 20])
        },
    ];
    for packet in packets {
        bench.zero();
        bench.arrive(EXT, &packet.bytes());
        assert_eq!(bench.await_drops(), expected(Reason::FamilyOff, EXT));
    }
    policy.zones[0].v4 = None;
    bench.load(&policy);
    bench.zero();
    bench.arrive(
        EXT,
        &udp("198.51.100.66:5060", "198.51.100.1:5060", b"x").bytes(),
    );
    assert_eq!(bench.await_drops(), expected(Reason::FamilyOff, EXT));
}

#[test]
fn a_zone_that_learns_its_address_hears_its_dhcp_server_and_no_other_zone_does() {
    let Some(mut bench) = Bench::new("dhcp") else {
        return;
    };
    let mut policy = lab();
    policy.zones[0].v4.as_mut().unwrap().learnt = true;
    policy.zones[0].v6.as_mut().unwrap().learnt = true;
    bench.load(&policy);
    let socket = wire::udp("0.0.0.0:68", mark::DHCP);
    bench.zero();
    bench.arrive(
        EXT,
        &udp("192.168.7.1:67", "255.255.255.255:68", b"offer").bytes(),
    );
    let mut buffer = [core::mem::MaybeUninit::uninit(); 16];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    assert_eq!(bench.drops(), BTreeMap::new());
    bench.arrive(
        INT,
        &udp("192.0.2.9:67", "255.255.255.255:68", b"offer").bytes(),
    );
    assert_eq!(
        bench.await_drops(),
        expected(Reason::BroadcastDestination, INT)
    );
}

#[test]
fn closed_and_unknown_links_pass_nothing() {
    let Some(mut bench) = Bench::new("closed") else {
        return;
    };
    let _socket = wire::udp("198.51.100.1:5060", mark::LISTEN_SIP);
    let packet = udp("198.51.100.66:5060", "198.51.100.1:5060", b"x").bytes();
    let unknown: BTreeMap<_, _> = [("drop/unknown-interface/none".to_owned(), 1)].into();
    let mut without_external = lab();
    without_external.zones.remove(0);
    for policy in [Policy::closed(), without_external] {
        bench.load(&policy);
        bench.zero();
        bench.arrive(EXT, &packet);
        assert_eq!(bench.await_drops(), unknown);
    }
}

#[test]
fn a_packet_that_met_two_rulesets_is_refused() {
    let Some(mut bench) = Bench::new("between commits") else {
        return;
    };
    let text = render(&lab()).transaction(&bench_present(&mut bench));
    // As if the commit came between the raw hook and input: there another ruleset's stamp is looked for.
    let spoilt: String = text
        .lines()
        .map(|line| line.replace("meta mark != 0x", "meta mark != 0x7") + "\n")
        .collect();
    let spoilt = spoilt.lines().map(|line| match line.find("!= 0x7") {
        Some(at) => format!("{}{}\n", &line[..at + 13], &line[at + 14..]),
        None => format!("{line}\n"),
    });
    bench.nft(&spoilt.collect::<String>());
    bench.zero();
    bench.arrive(
        EXT,
        &udp("198.51.100.66:5060", "198.51.100.1:5060", b"x").bytes(),
    );
    assert_eq!(bench.await_drops(), expected(Reason::BetweenCommits, EXT));
}

fn bench_present(bench: &mut Bench) -> firewall::nftables::Present {
    use firewall::nftables::Kernel as _;
    bench.kernel.present().unwrap()
}

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
    assert_eq!(
        bench.await_drops(),
        [("drop/egress-icmp/external".to_owned(), 1)].into()
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

/// Reasons that need more than one packet from outside; each is met in a test of its own above.
const MET_ALONE: [Reason; 24] = [
    Reason::FragmentRate,
    Reason::UnknownInterface,
    Reason::FamilyOff,
    Reason::Ban,
    Reason::BetweenCommits,
    Reason::UdpRate,
    Reason::PeerRate,
    Reason::GreyRate,
    Reason::SynRate,
    Reason::SynRateTotal,
    Reason::NewRate,
    Reason::Connections,
    Reason::IcmpRate,
    Reason::MediaShape,
    Reason::MediaSize,
    Reason::MediaRate,
    Reason::EgressSelf,
    Reason::EgressOptions,
    Reason::EgressSource,
    Reason::EgressMedia,
    Reason::EgressShape,
    Reason::EgressRate,
    Reason::EgressListener,
    Reason::EgressConnect,
];
/// The same, met in the test of what the box sends.
const MET_OUTWARD: [Reason; 2] = [Reason::EgressIcmp, Reason::EgressUnmarked];

#[test]
fn every_reason_is_met_here() {
    let mut met: BTreeSet<Reason> = single_packets()
        .into_iter()
        .map(|(reason, ..)| reason)
        .collect();
    met.extend(MET_ALONE);
    met.extend(MET_OUTWARD);
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !met.contains(reason))
        .collect();
    assert_eq!(missing, Vec::<&Reason>::new());
}
