//! Pinholes: none without a call, exactly the negotiated ones with a call, none 100 ms after it, and nothing for a third
//! party once the peer is proved.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use e2e::{
    api,
    figures::Figures,
    lab::{product, topology::inside},
    parties::{Call, Parties},
};
use firewall::{
    netlink::Socket,
    nftables::names::{Set, SetFamily},
};
use nix::{
    sys::signal::{Signal, kill},
    sys::socket::SockProtocol,
    unistd::Pid,
};

use crate::{Lab, LabTest};

pub const TESTS: &[LabTest] = &[
    ("without_a_call_no_media_port_is_open", none_at_rest),
    (
        "a_third_party_is_never_relayed_once_the_peer_is_proved",
        third_party,
    ),
    ("what_is_not_media_does_not_pass_a_pinhole", shape),
    ("a_pinhole_closes_within_100_ms_of_bye", closes_after_bye),
    (
        "a_pinhole_closes_within_100_ms_of_kill_9",
        closes_after_kill,
    ),
];

/// Calls measured in `make test`; 200 with `GATEHOUSE_RUNS=200`.
fn runs(default: usize) -> usize {
    std::env::var("GATEHOUSE_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(default)
}

/// Elements in the sets that open pinholes, as the kernel lists them. One look takes a fraction of a millisecond.
fn elements(lab: &Lab) -> usize {
    inside(&lab.names.gateway, || {
        let mut kernel = Socket::open(SockProtocol::NetlinkNetFilter).unwrap();
        let sets = [Set::MediaAny, Set::MediaHost, Set::MediaPeer, Set::MediaOut];
        let families = [SetFamily::V4, SetFamily::V6];
        sets.iter()
            .flat_map(|set| families.map(|family| (*set, family)))
            .map(|(set, family)| kernel.elements(set, family).unwrap().len())
            .sum()
    })
    .unwrap()
}

/// Whether pinholes are open, or are a moment after the answer.
fn opens(lab: &Lab) -> bool {
    api::eventually(Duration::from_millis(500), || elements(lab) > 0)
}

fn hang_up(parties: &Parties, call: &mut Call) {
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let _ = parties.trunk.expect_status(200);
}

fn none_at_rest(lab: &Lab) {
    assert_eq!(elements(lab), 0);
    let parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    assert!(opens(lab), "a call opens pinholes");
    hang_up(&parties, &mut call);
    assert!(
        api::eventually(Duration::from_secs(1), || elements(lab) == 0),
        "{} elements stay",
        elements(lab)
    );
}

fn third_party(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.talk(&call, Duration::from_millis(600));
    let attackers: Vec<UdpSocket> = inside(&lab.names.external, || {
        // Another host, and another port of the trunk's own host.
        [
            "198.51.100.66:30000",
            "198.51.100.20:30002",
            "198.51.100.30:30000",
        ]
        .iter()
        .map(|address| UdpSocket::bind(address).unwrap())
        .collect()
    })
    .unwrap();
    let packet = parties.outside.packet(2_000.0);
    for _ in 0..200 {
        for attacker in &attackers {
            attacker.send_to(&packet, call.media_outside).unwrap();
        }
    }
    let heard = parties.inside.listen(Duration::from_millis(300));
    assert_eq!(heard.packets, 0, "a third party was relayed");
    for attacker in &attackers {
        attacker
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert!(
            attacker.recv_from(&mut [0; 64]).is_err(),
            "a third party was sent something"
        );
    }
    parties.talk(&call, Duration::from_millis(600));
    hang_up(&parties, &mut call);
}

fn shape(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.talk(&call, Duration::from_millis(400));
    let telephone = &parties.outside.socket;
    let mut hostile: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        vec![0x80],
        Vec::new(),
    ];
    hostile.push(vec![0xff; 400]);
    hostile.push(vec![0x28; 200]);
    for bytes in &hostile {
        telephone.send_to(bytes, call.media_outside).unwrap();
    }
    let inside = &parties.inside.socket;
    inside
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut buffer = [0; 2_048];
    assert!(
        inside.recv_from(&mut buffer).is_err(),
        "something that is not media passed"
    );
    hang_up(&parties, &mut call);
}

fn closes_after_bye(lab: &Lab) {
    let parties = Parties::new(&lab.names);
    let mut series = Vec::new();
    for _ in 0..runs(50) {
        let mut call = parties.connect();
        assert!(opens(lab), "a call opens pinholes");
        parties.trunk.send_in(&mut call.caller, "BYE", "", "");
        let bye = parties.pbx.expect_request("BYE");
        let start = Instant::now();
        assert!(
            api::eventually(Duration::from_secs(2), || elements(lab) == 0),
            "the pinhole stays"
        );
        series.push(start.elapsed());
        parties.pbx.respond(&bye, "200 OK", "", "", "");
        let _ = parties.trunk.expect_status(200);
    }
    let figures = Figures::of(series);
    println!("    pinhole after BYE: {figures} (seen in the kernel's sets)");
    assert!(figures.max <= Duration::from_millis(100), "{figures}");
}

fn closes_after_kill(lab: &Lab) {
    let mut series = Vec::new();
    let mut restarts = Vec::new();
    for _ in 0..runs(10) {
        let parties = Parties::new(&lab.names);
        let _call = parties.connect();
        assert!(opens(lab), "a call opens pinholes");
        let pid = product::pid_of("sbc").expect("the sbc's pid");
        let start = Instant::now();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert!(
            api::eventually(Duration::from_secs(2), || elements(lab) == 0),
            "the pinhole stays"
        );
        series.push(start.elapsed());
        assert!(answers_again(&parties), "no new sbc answers");
        restarts.push(start.elapsed());
    }
    let figures = Figures::of(series);
    println!("    pinhole after kill -9: {figures} (seen in the kernel's sets)");
    println!(
        "    new sbc answers after kill -9: {}",
        Figures::of(restarts)
    );
    assert!(figures.max <= Duration::from_millis(100), "{figures}");
}

/// Whether the trunk's OPTIONS gets its 200 within 15 s.
pub fn answers_again(parties: &Parties) -> bool {
    api::eventually(Duration::from_secs(15), || {
        let (text, _) =
            parties
                .trunk
                .request("OPTIONS", "sip:198.51.100.1", parties.gateway, "", "");
        parties
            .trunk
            .send(parties.gateway, text.as_bytes())
            .unwrap();
        parties
            .trunk
            .receive(Duration::from_millis(200))
            .is_some_and(|message| message.status() == 200)
    })
}
