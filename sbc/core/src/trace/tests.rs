//! Ladders of whole calls, the bounds of what is kept, and the way to the collector.

use std::time::{Duration, Instant};

use broker_proto::{broker::ToBroker, settings::Collector as Configured};

use super::*;
use crate::{
    BrokerAnswer, ConnectionId, Core, Input, Output,
    testing::{EXTERNAL, INTERNAL, epoch, settings},
};

const INVITE: &str = "INVITE sip:1001@lab.test SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.20;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n\
    From: <sip:+4930123@198.51.100.20>;tag=a\r\nTo: <sip:1001@lab.test>\r\nCall-ID: one@trunk\r\nCSeq: 1 INVITE\r\n\
    Contact: <sip:x@198.51.100.20>\r\nAuthorization: Digest username=\"u\", response=\"SECRET\"\r\n\
    Content-Type: application/sdp\r\n\r\n\
    v=0\r\no=- 1 1 IN IP4 198.51.100.20\r\ns=-\r\nc=IN IP4 198.51.100.20\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:SECRET\r\n";

/// A core that listens, with a collector or without.
fn core(collector: bool) -> (Core, Instant) {
    let now = epoch();
    let mut settings = settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    settings.collector = collector.then(|| Configured {
        zone: EXTERNAL,
        address: "198.51.100.200:9060".parse().unwrap(),
    });
    let mut core = Core::new(settings, [9; 32], now, 1_700_000_000_000);
    let asked = outputs(&mut core);
    for output in asked {
        if let Output::Broker(ToBroker::Listen {
            zone, transport, ..
        }) = output
        {
            let local = if zone == EXTERNAL {
                "198.51.100.1:5060"
            } else {
                "192.0.2.1:5060"
            };
            let local = vec![local.parse().unwrap()];
            core.handle(
                now,
                Input::Listening {
                    port: 5060,
                    zone,
                    transport,
                    local,
                },
            );
        }
    }
    (core, now)
}

fn outputs(core: &mut Core) -> Vec<Output> {
    std::iter::from_fn(|| core.poll()).collect()
}

/// The INVITE with its length.
fn whole(text: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn datagram(core: &mut Core, now: Instant, peer: &str, text: &str) {
    let input = Input::Datagram {
        zone: EXTERNAL,
        local: "198.51.100.1:5060".parse().unwrap(),
        peer: peer.parse().unwrap(),
        bytes: text.as_bytes(),
    };
    core.handle(now, input);
}

/// The trunk's INVITE comes in; media are granted. Gives what the core wanted meanwhile.
fn invite(core: &mut Core, now: Instant) -> Vec<Output> {
    datagram(core, now, "198.51.100.20:5060", &whole(INVITE));
    let (mut all, mut lease) = (Vec::new(), 0);
    loop {
        let new = outputs(core);
        if new.is_empty() {
            return all;
        }
        for output in &new {
            let Output::Broker(ToBroker::OpenMedia {
                id,
                zone,
                ttl_seconds,
                ..
            }) = output
            else {
                continue;
            };
            lease += 1;
            let host = if *zone == INTERNAL {
                "192.0.2.1"
            } else {
                "198.51.100.1"
            };
            let port = 20_000 + 2 * lease;
            core.handle(
                now,
                Input::Broker(BrokerAnswer::MediaOpened {
                    id: *id,
                    lease: broker_proto::broker::LeaseId(lease),
                    rtp: format!("{host}:{port}").parse().unwrap(),
                    rtcp: Some(format!("{host}:{}", port + 1).parse().unwrap()),
                    ttl_seconds: *ttl_seconds,
                }),
            );
        }
        all.extend(new);
    }
}

#[test]
fn a_ladder_has_both_legs_and_the_decision_between_and_no_secret() {
    let (mut core, now) = core(false);
    invite(&mut core, now);
    let call = core.calls(now, 0, 1).0[0].id;
    let (steps, more) = core.ladder(call, 0).unwrap();
    assert!(!more);
    let shown: Vec<String> = steps
        .iter()
        .map(|step| {
            let first = step.text.lines().next().unwrap_or_default();
            format!("{:?} {} {first}", step.kind, step.zone)
        })
        .collect();
    assert!(
        shown[0].starts_with("Received external INVITE sip:1001@lab.test"),
        "{shown:#?}"
    );
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("Decision  route ")),
        "{shown:#?}"
    );
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("Sent external SIP/2.0 100")),
        "{shown:#?}"
    );
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("Sent internal INVITE sip:1001@")),
        "{shown:#?}"
    );
    assert!(steps.iter().all(|step| !step.text.contains("SECRET")));
    assert_eq!(steps[0].unix_ms, 1_700_000_000_000);
    assert_eq!(core.ladder(call, 2).unwrap().0.len(), steps.len() - 2);
    assert!(core.ladder(call + 1, 0).is_none());
}

#[test]
fn the_ladder_of_a_call_that_ended_says_how() {
    let (mut core, now) = core(false);
    invite(&mut core, now);
    let call = core.calls(now, 0, 1).0[0].id;
    core.handle(now, Input::Stop);
    let steps = core.ladder(call, 0).unwrap().0;
    assert!(
        steps
            .iter()
            .any(|step| step.text == "the call ends: shutdown")
    );
}

#[test]
fn a_refused_call_says_why_and_a_stranger_leaves_no_trace() {
    let (mut core, now) = core(false);
    let text = whole(&INVITE.replace("Contact: <sip:x@198.51.100.20>\r\n", ""));
    for (peer, kept) in [("198.51.100.66:5060", false), ("198.51.100.20:5060", true)] {
        datagram(&mut core, now, peer, &text);
        assert_eq!(core.cx.traces.sizes().0 > 0, kept, "{peer}");
    }
    let trace = core.cx.traces.traces.values().next().unwrap();
    assert!(trace.steps().any(|step| step.text.starts_with("refused: ")));
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let mut traces = Traces::default();
    let step = |text: &str| Step {
        unix_ms: 0,
        kind: LadderKind::Decision,
        way: None,
        text: text.to_owned(),
    };
    for number in 0..CALLS + 10 {
        let serial = traces.begin(&format!("{number}@a"));
        traces.belongs(&format!("{number}@a"), number as u64);
        traces.belongs(&format!("{number}@b"), number as u64);
        traces.push(serial, step("x"));
    }
    assert_eq!(traces.sizes().0, CALLS);
    assert!(!traces.is_kept("0@a") && traces.is_kept("10@a"));
    let serial = traces.begin("busy@a");
    for _ in 0..10_000 {
        traces.push(serial, step("0123456789"));
    }
    let trace = &traces.traces[&serial];
    assert_eq!(trace.steps().count(), FIRST + LAST);
    assert_eq!(trace.passed_over, 10_000 - (FIRST + LAST) as u64);
    let long = "y".repeat(OCTETS / 3);
    for number in 0..10 {
        let serial = traces.begin(&format!("long{number}@a"));
        traces.push(serial, step(&long));
    }
    assert!(traces.sizes().1 <= OCTETS);
    let counted: usize = traces.traces.values().map(Trace::octets).sum();
    assert_eq!(counted, traces.sizes().1);
    assert!(traces.by_call_id.len() <= CALLS * CALL_IDS);
}

#[test]
fn a_text_is_cut_where_a_character_ends() {
    assert_eq!(cut("äää".to_owned(), 3), "ä…");
    assert_eq!(cut("abc".to_owned(), 3), "abc");
}

#[test]
fn the_collector_sees_both_ways_once_its_socket_is_lent_and_no_secret() {
    let (mut core, now) = core(true);
    // The first wish was among the outputs before the listeners stood.
    core.handle(now, Input::BrokerLost);
    outputs(&mut core);
    let later = now + Duration::from_secs(11);
    core.handle(
        later,
        Input::WallClock {
            unix_ms: 1_700_000_011_000,
        },
    );
    let wish = outputs(&mut core)
        .into_iter()
        .find_map(|output| match output {
            Output::Broker(ToBroker::Connect {
                id,
                peer,
                transport,
                ..
            }) => Some((id, peer, transport)),
            _ => None,
        });
    let (id, peer, transport) = wish.expect("a socket is asked for");
    assert_eq!(
        (peer.to_string().as_str(), transport),
        ("198.51.100.200:9060", Transport::Udp)
    );
    let connection = ConnectionId(77);
    let local = "198.51.100.1:40000".parse().unwrap();
    core.handle(
        later,
        Input::Broker(BrokerAnswer::Connected {
            id,
            connection,
            local,
            peer,
        }),
    );
    for zone in [EXTERNAL, INTERNAL] {
        let local = if zone == EXTERNAL {
            "198.51.100.1:5060"
        } else {
            "192.0.2.1:5060"
        };
        let local = vec![local.parse().unwrap()];
        core.handle(
            later,
            Input::Listening {
                port: 5060,
                zone,
                transport: Transport::Udp,
                local,
            },
        );
    }
    let packets: Vec<Vec<u8>> = invite(&mut core, later)
        .into_iter()
        .filter_map(|output| match output {
            Output::Capture {
                connection: have,
                bytes,
            } if have == connection => Some(bytes),
            _ => None,
        })
        .collect();
    assert!(packets.len() >= 3, "{}", packets.len());
    assert!(packets.iter().all(|packet| packet.starts_with(b"HEP3")));
    assert!(
        packets
            .iter()
            .all(|packet| !packet.windows(6).any(|window| window == b"SECRET"))
    );
    // Settings without a collector close it.
    let mut settings = core.cx.settings().clone();
    settings.collector = None;
    core.handle(later, Input::Settings(Box::new(settings)));
    assert!(outputs(&mut core).contains(&Output::CloseStream { connection }));
}

#[test]
fn a_step_holds_no_more_memory_than_it_shows() {
    let mut large = String::with_capacity(65_536);
    large.push_str(&"x".repeat(60_000));
    let kept = super::cut(large, super::TEXT);
    assert!(kept.len() <= super::TEXT + 3);
    assert!(kept.capacity() <= super::TEXT * 2, "{}", kept.capacity());
    let mut small = String::with_capacity(4_096);
    small.push_str("OPTIONS sip:a SIP/2.0");
    assert!(super::cut(small, super::TEXT).capacity() < 64);
}
