//! Strangers, scanners, floods, garbage.

use super::*;
use crate::testing::{EXTERNAL, Message};

fn request(method: &str, uri: &str, from: SocketAddr, number: u32) -> Message {
    Message::request(method, uri)
        .with(
            "Via",
            format!("SIP/2.0/UDP {from};branch=z9hG4bKx{number};rport"),
        )
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:100@{}>;tag=t{number}", from.ip()))
        .with("To", format!("<{uri}>"))
        .with("Call-ID", format!("c{number}"))
        .with("CSeq", format!("1 {method}"))
        .with("Contact", format!("<sip:100@{from}>"))
}

fn sent_to(world: &World, peer: SocketAddr) -> usize {
    world
        .wire
        .iter()
        .filter(|wire| wire.from_core && wire.peer == peer)
        .count()
}

#[test]
fn a_stranger_hears_nothing_but_the_answer_to_register() {
    let mut world = World::new(80);
    pbx(&mut world);
    let stranger: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    let methods = [
        "INVITE",
        "OPTIONS",
        "BYE",
        "CANCEL",
        "ACK",
        "INFO",
        "SUBSCRIBE",
        "MESSAGE",
        "PRACK",
        "UPDATE",
        "REFER",
        "FOO",
    ];
    for (number, method) in methods.iter().enumerate() {
        let message = request(
            method,
            "sip:1001@lab.test",
            stranger,
            u32::try_from(number).unwrap(),
        );
        world.datagram(stranger, &message.bytes());
        world.run(seconds(1));
    }
    world.datagram(
        stranger,
        &request("REGISTER", "sip:other.test", stranger, 90).bytes(),
    );
    world.datagram(stranger, b"REGISTER sip:lab.test SIP/2.0\r\n\r\n");
    world.datagram(stranger, b"\r\n\r\n");
    world.datagram(stranger, b"");
    world.run(seconds(60));
    assert_eq!(sent_to(&world, stranger), 0);
    assert!(world.leases.is_empty());
    assert_tidy(&mut world);
}

#[test]
fn a_scanner_is_not_even_challenged() {
    let mut world = World::new(81);
    pbx(&mut world);
    let scanner: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    let message =
        request("REGISTER", "sip:lab.test", scanner, 1).with("User-Agent", "friendly-scanner");
    let message = Message {
        headers: message
            .headers
            .into_iter()
            .map(|(name, value)| {
                if name == "To" {
                    (name, "<sip:1001@lab.test>".to_owned())
                } else {
                    (name, value)
                }
            })
            .collect(),
        ..Message::request("REGISTER", "sip:lab.test")
    };
    world.datagram(scanner, &message.bytes());
    world.run(seconds(40));
    assert_eq!(sent_to(&world, scanner), 0);
}

#[test]
fn a_flood_of_registers_from_one_source_is_cut_and_another_source_is_served() {
    let mut world = World::new(82);
    let pbx = pbx(&mut world);
    let flooder: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    for number in 0..500 {
        let mut message = request("REGISTER", "sip:lab.test", flooder, number);
        message
            .headers
            .iter_mut()
            .filter(|(name, _)| name == "To")
            .for_each(|(_, value)| *value = "<sip:1001@lab.test>".into());
        world.datagram(flooder, &message.bytes());
    }
    let alice = alice(&mut world);
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(1));
    assert_eq!(world.agent(alice).answers, [("REGISTER".to_owned(), 200)]);
    let relayed = world.agent(pbx).inbox.len();
    assert!(relayed < 40, "{relayed} reached the PBX");
}

#[test]
fn a_known_peer_over_its_rate_gets_503_with_retry_after() {
    let mut settings = crate::testing::settings();
    settings.limits.call_rate = 5;
    let mut world = World::with(83, settings);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    for _ in 0..20 {
        world.act(trunk, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
        });
    }
    world.run(seconds(2));
    let refused = world
        .agent(trunk)
        .dialogs
        .iter()
        .filter(|dialog| dialog.state == State::Failed(503))
        .count();
    assert_eq!(refused, 15);
    let refusal = world
        .agent(trunk)
        .inbox
        .iter()
        .find(|message| message.status() == Some(503))
        .unwrap();
    assert!(refusal.get("Retry-After").is_some());
}

#[test]
fn a_registered_source_has_so_many_calls_and_no_more() {
    let mut world = World::new(84);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    for _ in 0..6 {
        world.act(alice, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:1002@lab.test")
        });
        world.run(millis(300));
    }
    world.run(seconds(3));
    let talking = world
        .agent(alice)
        .dialogs
        .iter()
        .filter(|dialog| dialog.state == State::Talking)
        .count();
    assert_eq!(talking, 4);
}

#[test]
fn a_dialog_cannot_be_ended_from_elsewhere() {
    let mut world = World::new(85);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    world.act(alice, |agent, now, gateway| agent.hang_up(now, gateway, 0));
    let bye = world.agent(alice).last_sent();
    // The same octets, had they come from somebody else before.
    let mut world = World::new(85);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    world.datagram("198.51.100.66:5060".parse().unwrap(), &bye);
    world.run(seconds(2));
    assert_eq!(world.calls().len(), 1);
    world.datagram(alice, &bye);
    world.run(seconds(2));
    assert_eq!(world.calls().len(), 0);
}

#[test]
fn malformed_requests_of_a_trunk_get_their_code() {
    let mut world = World::new(86);
    let trunk = trunk1(&mut world);
    let cases = [
        ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", 505),
        ("CSeq: 1 OPTIONS", "CSeq: 1 INVITE", 400),
        ("OPTIONS sip", "OPTIONS  sip", 400),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 70\r\nMax-Forwards: 70",
            400,
        ),
        (
            "OPTIONS sip:198.51.100.1",
            "OPTIONS nobodyKnowsThisScheme:x",
            416,
        ),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 70\r\nRequire: nothingWeKnow",
            420,
        ),
    ];
    for (number, (from, to, status)) in (0u32..).zip(cases) {
        let good = String::from_utf8(request("OPTIONS", "sip:198.51.100.1", trunk, number).bytes())
            .unwrap();
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        let before = world.agent(trunk).inbox.len();
        world.datagram(trunk, bad.as_bytes());
        world.run(millis(100));
        let answer = world
            .agent(trunk)
            .inbox
            .get(before)
            .unwrap_or_else(|| panic!("no answer to {to}"));
        assert_eq!(answer.status(), Some(status), "{to}");
    }
}

#[test]
fn requests_outside_a_dialog_are_481_to_known_peers() {
    let mut world = World::new(87);
    let trunk = trunk1(&mut world);
    let mut bye = request("BYE", "sip:198.51.100.1", trunk, 1);
    bye.headers
        .iter_mut()
        .filter(|(name, _)| name == "To")
        .for_each(|(_, value)| value.push_str(";tag=nobody"));
    world.datagram(trunk, &bye.bytes());
    world.datagram(
        trunk,
        &request("CANCEL", "sip:198.51.100.1", trunk, 2).bytes(),
    );
    world.run(millis(100));
    let statuses: Vec<_> = world
        .agent(trunk)
        .inbox
        .iter()
        .filter_map(Message::status)
        .collect();
    assert_eq!(statuses, [481, 481]);
}

#[test]
fn a_stray_response_is_thrown_away() {
    let mut world = World::new(88);
    let trunk = trunk1(&mut world);
    let response = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
    world.datagram(trunk, response);
    world.run(seconds(1));
    assert!(world.sent_to(EXTERNAL).is_empty());
}

#[test]
fn max_forwards_ends_at_zero_and_counts_down() {
    let mut world = World::new(89);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    let sdp = world.agent(trunk).sdp("sendrecv");
    let make = |forwards: &str, number| {
        let mut message = request("INVITE", "sip:+49305551001@198.51.100.1", trunk, number);
        message
            .headers
            .iter_mut()
            .filter(|(name, _)| name == "Max-Forwards")
            .for_each(|(_, have)| *have = forwards.into());
        message.with_body("application/sdp", &sdp).bytes()
    };
    world.datagram(trunk, &make("0", 3));
    world.datagram(trunk, &make("17", 4));
    world.run(millis(300));
    assert!(
        world
            .agent(trunk)
            .inbox
            .iter()
            .any(|message| message.status() == Some(483))
    );
    let passed = world
        .agent(pbx)
        .inbox
        .iter()
        .find(|message| message.method() == Some("INVITE"))
        .unwrap();
    assert_eq!(passed.need("Max-Forwards"), "16");
}

#[test]
fn a_malformed_request_is_400_to_a_trunk_and_silence_to_a_stranger() {
    let mut world = World::new(96);
    let trunk = trunk1(&mut world);
    let stranger: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    for (peer, answers) in [(trunk, 1), (stranger, 0)] {
        let good = request("INVITE", "sip:1001@lab.test", peer, 1);
        let broken = String::from_utf8(good.bytes()).unwrap();
        let broken = broken.replace("Contact: <sip:", "Contact: <<sip:");
        world.datagram(peer, broken.as_bytes());
        world.run(millis(100));
        assert_eq!(sent_to(&world, peer), answers, "{peer}");
    }
}
