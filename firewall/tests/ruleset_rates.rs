//! What is too much is refused for its own reason, and a pinhole passes the shape of media from its peer alone (GH_FW.4,
//! FFW_RUL_EXT.1.10). On the real kernel, as root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod wire;

use std::collections::BTreeMap;

use firewall::{nftables::names::mark, policy::Reason};
use wire::{
    Bench,
    packet::{Ip, SYN, UDP, icmp, rtp, tcp, udp},
    verdict::{EXT, assert_only, flood, tight},
};

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
