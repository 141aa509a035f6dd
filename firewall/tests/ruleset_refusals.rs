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
    nftables::{names::mark, render},
    policy::{Policy, Reason},
};
use wire::{
    Bench, lab,
    packet::{ACK, FIN, Ip, PSH, RST, SYN, TCP, UDP, URG, extend, icmp, rtp, tcp, udp},
    verdict::{EXT, INT, MGMT, expected},
};

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

/// Reasons that need more than one packet from outside; each is met in a test of its own, here, in
/// `ruleset_rates` or in `ruleset_egress`.
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
