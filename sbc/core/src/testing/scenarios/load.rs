//! Too much, too large, and who is told so: tables that are full, requests larger than a datagram, bad syntax of honest and
//! other sources. RFC 3261 §18.1.1, §18.2.2, §21.5.4; RFC 7339 §5 in mind: silence where an answer would be work.

use broker_proto::{broker::Refusal, settings::Transport};
use sbc_sip::transaction::LayerLimits;

use super::*;
use crate::{
    ConnectionId, Input,
    testing::{EXTERNAL, Message, text::audio},
    transactions::Transactions,
};

const TRUNK: &str = "198.51.100.20:5060";
const STRANGER: &str = "198.51.100.66:5060";

fn options(from: &str, number: u32) -> Message {
    Message::request("OPTIONS", "sip:198.51.100.1")
        .with("Via", format!("SIP/2.0/UDP {from};branch=z9hG4bKl{number}"))
        .with("Max-Forwards", "70")
        .with("From", "<sip:a@carrier.test>;tag=1")
        .with("To", "<sip:198.51.100.1>")
        .with("Call-ID", format!("load{number}"))
        .with("CSeq", "1 OPTIONS")
}

/// The answers that came to an address.
fn answers(world: &World, to: SocketAddr) -> Vec<Message> {
    world
        .wire
        .iter()
        .filter(|wire| wire.from_core && wire.peer == to)
        .map(|wire| Message::parse(&wire.bytes))
        .filter(|message| message.status().is_some())
        .collect()
}

fn counted(world: &World, name: &str) -> u64 {
    let counters = world.core.counters();
    counters
        .iter()
        .find(|(have, _)| have == name)
        .map_or(0, |(_, count)| *count)
}

#[test]
fn a_full_table_is_503_with_retry_after_to_peers_and_silence_to_strangers() {
    let mut world = World::new(230);
    let trunk = trunk1(&mut world);
    world.agent(trunk).script.alive = false;
    world.core.cx.transactions = Transactions::new(LayerLimits {
        clients: 100,
        servers: 20,
    });
    for number in 0..25 {
        world.datagram(trunk, &options(TRUNK, number).bytes());
    }
    let stranger: SocketAddr = STRANGER.parse().unwrap();
    world.datagram(stranger, &options(STRANGER, 99).bytes());
    world.run(millis(10));
    let told = answers(&world, trunk);
    let busy: Vec<_> = told.iter().filter(|it| it.status() == Some(503)).collect();
    assert_eq!((told.len(), busy.len()), (25, 7), "a tenth is reserved");
    assert!(busy.iter().all(|it| it.get("Retry-After") == Some("5")));
    assert!(answers(&world, stranger).is_empty());
    let reason = "sip_refused_total{reason=\"transactions-crowded\"}";
    assert_eq!(counted(&world, reason), 8);
    world.run(seconds(60));
    world.datagram(trunk, &options(TRUNK, 50).bytes());
    world.run(millis(10));
    let last = answers(&world, trunk).pop().unwrap();
    assert_eq!(last.status(), Some(200), "there is room again");
}

#[test]
fn bye_and_cancel_find_room_in_a_crowded_table() {
    let mut world = World::new(231);
    world.core.cx.transactions = Transactions::new(LayerLimits {
        clients: 100,
        servers: 20,
    });
    let (trunk, _) = answered_call(&mut world);
    for number in 0..25 {
        world.datagram(trunk, &options(TRUNK, number).bytes());
    }
    world.run(millis(10));
    assert!(world.core.cx.transactions.is_crowded());
    hang_up(&mut world, trunk, 0);
    world.run(seconds(1));
    assert_eq!(world.calls().len(), 0);
    let bye = ("BYE".to_owned(), 200);
    assert_eq!(world.agent(trunk).answers.last(), Some(&bye));
}

#[test]
fn a_request_of_ours_without_room_fails_as_503_and_leaves_nothing() {
    let mut world = World::new(232);
    world.core.cx.transactions = Transactions::new(LayerLimits {
        clients: 0,
        servers: 20,
    });
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(2));
    assert_eq!(state(&mut world, trunk, 0), State::Failed(503));
    let reason = "sip_requests_failed_total{reason=\"transactions-full\"}";
    assert!(counted(&world, reason) >= 1);
    world.run(seconds(3600));
    assert_tidy(&mut world);
}

#[test]
fn bad_syntax_is_400_to_honest_sources_and_silence_to_others() {
    let mut world = World::new(233);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    let alice = registered_alice(&mut world);
    let bad = |from: SocketAddr, number| {
        let good = String::from_utf8(options(&from.to_string(), number).bytes()).unwrap();
        good.replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")
    };
    let stranger: SocketAddr = STRANGER.parse().unwrap();
    for (number, from) in (0u32..).zip([trunk, alice, stranger]) {
        world.datagram(from, bad(from, number).as_bytes());
    }
    world.run(millis(10));
    let last = |world: &World, at| answers(world, at).last().and_then(Message::status);
    assert_eq!(last(&world, trunk), Some(400));
    assert_eq!(last(&world, alice), Some(400), "a phone that is registered");
    assert_eq!(last(&world, stranger), None);
    // A connection has shown that its address is its own: told, then closed.
    world.input(Input::StreamOpened {
        connection: ConnectionId(7),
        zone: EXTERNAL,
        transport: Transport::Tcp,
        local: "198.51.100.1:5060".parse().unwrap(),
        peer: stranger,
    });
    world.input(Input::Stream {
        connection: ConnectionId(7),
        bytes: bad(stranger, 9)
            .replace("SIP/2.0/UDP", "SIP/2.0/TCP")
            .as_bytes(),
    });
    let written: String = world
        .wire
        .iter()
        .filter(|wire| wire.from_core && wire.peer.ip().is_unspecified())
        .map(|wire| String::from_utf8_lossy(&wire.bytes).into_owned())
        .collect();
    assert!(written.starts_with("SIP/2.0 400"), "{written:?}");
    assert_eq!(world.streams_closed, [ConnectionId(7)]);
    let refused = world.core.counters().into_iter();
    let refused: Vec<_> = refused
        .filter(|(name, _)| name.starts_with("sip_refused_total"))
        .collect();
    assert_eq!(refused.len(), 1, "one reason: {refused:?}");
    assert_eq!(refused[0].1, 4);
}

/// An offer so large that our INVITE for it does not fit a datagram.
fn large_offer(world: &mut World, trunk: SocketAddr) -> String {
    let formats: Vec<String> = (96..127).map(|format: u8| format.to_string()).collect();
    let ip = world.agent(trunk).address.ip();
    let mut sdp = audio(ip, 40_000, "sendrecv", &format!("8 {}", formats.join(" ")));
    for format in formats {
        sdp.push_str(&format!("a=rtpmap:{format} opus/48000/2\r\n"));
        sdp.push_str(&format!("a=fmtp:{format} maxplaybackrate=48000\r\n"));
    }
    sdp
}

/// A call from the trunk whose INVITE towards the PBX is too large for a datagram.
fn large_call(world: &mut World, trunk: SocketAddr, number: u32) {
    let sdp = large_offer(world, trunk);
    let invite = Message::request("INVITE", "sip:+49305551001@198.51.100.1")
        .with(
            "Via",
            format!("SIP/2.0/UDP {TRUNK};branch=z9hG4bKbig{number}"),
        )
        .with("Max-Forwards", "70")
        .with("From", "<sip:+491701234567@carrier.test>;tag=1")
        .with("To", "<sip:+49305551001@198.51.100.1>")
        .with("Call-ID", format!("big{number}"))
        .with("CSeq", "1 INVITE")
        .with("Contact", "<sip:carrier@198.51.100.20>")
        .with_body("application/sdp", &sdp);
    world.datagram(trunk, &invite.bytes());
    world.run(millis(100));
}

/// The PBX's inbox: transports of the topmost Via of each large INVITE in it.
fn large_vias(world: &mut World, pbx: SocketAddr) -> Vec<String> {
    let inbox = world.agent(pbx).inbox.iter();
    let large = inbox.filter(|it| it.status().is_none() && it.bytes().len() > 1300);
    large.map(|it| it.need("Via").to_owned()).collect()
}

#[test]
fn a_large_invite_goes_by_tcp_and_by_udp_where_that_is_refused() {
    let mut world = World::new(234);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.alive = false;
    let trunk = trunk1(&mut world);
    for number in 0..2 {
        large_call(&mut world, trunk, number);
    }
    let got = large_vias(&mut world, pbx);
    assert_eq!(got.len(), 2, "each went by UDP in the end");
    for via in &got {
        assert!(via.starts_with("SIP/2.0/UDP 192.0.2.1:5060;"), "{via}");
    }
    // The PBX takes no stream: that is remembered, the second is not tried by one.
    assert_eq!(counted(&world, "sip_requests_too_large_total"), 1);
    let asked = "broker_refusals_total{request=\"connect\"}";
    assert_eq!(counted(&world, asked), 1);
    // Not for ever: a PBX may learn.
    world.run(seconds(700));
    let before = counted(&world, asked);
    large_call(&mut world, trunk, 2);
    assert_eq!(counted(&world, asked), before + 1);
}

#[test]
fn a_large_call_is_talked_over_tcp_and_its_connection_serves_the_next() {
    let mut world = World::new(236);
    world.refuse_connect = None;
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    for number in 0..3 {
        large_call(&mut world, trunk, number);
    }
    world.run(seconds(3));
    let got = large_vias(&mut world, pbx);
    assert_eq!(got.len(), 3, "a stream repeats nothing");
    for via in &got {
        assert!(via.starts_with("SIP/2.0/TCP 192.0.2.1:5060;"), "{via}");
    }
    assert_eq!(world.connected.len(), 1, "RFC 5923: one for all");
    assert_eq!(world.gauge("connections"), 1);
    // The request that was large came by UDP, and so do all answers to it.
    let told = answers(&world, trunk);
    let taken = told.iter().filter(|it| it.status() == Some(200));
    assert!(taken.count() >= 3, "the carrier hears that all are taken");
    // What fits a datagram goes by one: ACKs of the 200s.
    let acks: Vec<_> = world.agent(pbx).inbox.clone();
    let acks: Vec<_> = acks
        .iter()
        .filter(|it| it.method() == Some("ACK"))
        .collect();
    assert!(
        acks.iter()
            .all(|ack| ack.need("Via").starts_with("SIP/2.0/UDP"))
    );
    world.run(seconds(4_000));
    assert_eq!(world.gauge("connections"), 0, "closed when it was idle");
    assert_eq!(world.streams_closed.len(), 1);
}

#[test]
fn a_peer_that_is_silent_to_tcp_gets_no_datagram_too_large_for_it() {
    let mut world = World::new(237);
    world.refuse_connect = Some(Refusal::System);
    let pbx = pbx(&mut world);
    let trunk = trunk1(&mut world);
    large_call(&mut world, trunk, 0);
    world.run(seconds(2));
    assert!(large_vias(&mut world, pbx).is_empty(), "RFC 3261 §18.1.1");
    let failed = answers(&world, trunk);
    let last = failed.iter().filter_map(Message::status).max();
    assert_eq!(last, Some(503));
    // And no opinion of it is kept.
    world.refuse_connect = None;
    large_call(&mut world, trunk, 1);
    world.run(seconds(2));
    assert_eq!(large_vias(&mut world, pbx).len(), 1);
}

#[test]
fn a_peer_that_drops_tcp_gets_datagrams_after_a_second_and_then_at_once() {
    let mut world = World::new(239);
    world.refuse_connect = Some(Refusal::System);
    world.connect_delay = seconds(5);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    let first = |world: &mut World, number, wait| {
        let before = large_vias(world, pbx).len();
        large_call(world, trunk, number);
        world.run(wait);
        large_vias(world, pbx).len() - before
    };
    let asked = "broker_refusals_total{request=\"connect\"}";
    // Two wait for the one connection: both go by UDP after a second, each once.
    assert_eq!(first(&mut world, 0, millis(0)), 0);
    assert_eq!(first(&mut world, 1, seconds(2)), 2);
    let got = large_vias(&mut world, pbx);
    assert!(
        got.iter().all(|via| via.starts_with("SIP/2.0/UDP")),
        "{got:?}"
    );
    assert_eq!(counted(&world, "sip_streams_overdue_total"), 2);
    // From then on at once, also after the attempt was given up.
    assert_eq!(first(&mut world, 2, millis(100)), 1);
    world.run(seconds(10));
    assert_eq!(counted(&world, asked), 1);
    assert_eq!(first(&mut world, 3, millis(100)), 1);
    assert_eq!(counted(&world, "sip_requests_too_large_total"), 2);
    // Not for ever; and one that is only slow is believed again.
    world.run(seconds(60));
    world.refuse_connect = None;
    world.connect_delay = seconds(2);
    assert_eq!(first(&mut world, 4, seconds(4)), 1);
    assert_eq!(world.connected.len(), 1);
    large_call(&mut world, trunk, 5);
    world.run(seconds(1));
    let last = large_vias(&mut world, pbx).pop().unwrap();
    assert!(last.starts_with("SIP/2.0/TCP"), "{last}");
}

#[test]
fn a_peer_that_the_settings_say_has_no_tcp_is_never_tried_by_it() {
    let mut settings = crate::testing::settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    if let Some(pbx) = &mut settings.registrar {
        pbx.large_requests_by_tcp = false;
    }
    let mut world = World::with(238, settings);
    world.refuse_connect = None;
    let pbx = pbx(&mut world);
    world.agent(pbx).script.alive = false;
    let trunk = trunk1(&mut world);
    large_call(&mut world, trunk, 0);
    let got = large_vias(&mut world, pbx);
    assert!(
        got.len() == 1 && got[0].starts_with("SIP/2.0/UDP"),
        "{got:?}"
    );
    assert!(world.connected.is_empty());
}

#[test]
fn a_peer_without_rport_is_answered_where_it_listens() {
    let mut world = World::new(235);
    let trunk = trunk1(&mut world);
    let sends_from: SocketAddr = "198.51.100.20:40001".parse().unwrap();
    world.datagram(sends_from, &options(TRUNK, 1).bytes());
    world.run(millis(10));
    assert_eq!(answers(&world, trunk).len(), 1, "RFC 3261 §18.2.2");
    let asking = options(&format!("{TRUNK};rport"), 2);
    world.datagram(sends_from, &asking.bytes());
    world.run(millis(10));
    let told = answers(&world, sends_from);
    assert_eq!(told.len(), 1, "RFC 3581 §4");
    assert!(told[0].need("Via").contains("rport=40001"));
    // Nobody aims our answers at a port that the settings do not name.
    let elsewhere = options("198.51.100.20:9", 3);
    world.datagram(sends_from, &elsewhere.bytes());
    world.run(millis(10));
    assert_eq!(answers(&world, sends_from).len(), 2);
}
