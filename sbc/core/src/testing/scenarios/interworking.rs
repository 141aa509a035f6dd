//! Far ends that are not where they say: translators, proxies in between, forks, liars.

use broker_proto::broker::Admit;

use super::*;
use crate::testing::{EXTERNAL, Message};

#[test]
fn a_phone_behind_a_translator_is_heard_from_its_signalling_host_and_sent_to_once_proved() {
    let mut world = World::new(110);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.agent(alice).script.media = Some("10.0.0.5".parse().unwrap());
    world.mute.push(alice.ip());
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    let external = |world: &World| {
        let lease = world
            .leases
            .values()
            .find(|lease| lease.zone == EXTERNAL)
            .unwrap();
        (lease.admit, lease.send_to)
    };
    assert_eq!(external(&world), (Admit::Host(alice.ip()), None));
    let stream = *world.streams.keys().next().unwrap();
    let source = "198.51.100.10:51000".parse().unwrap();
    world.input(crate::Input::Media(sbc_media::relay::MediaEvent::Proved {
        stream,
        side: sbc_media::relay::Side::A,
        component: sbc_media::relay::Component::Rtp,
        source,
    }));
    assert_eq!(external(&world), (Admit::Peer(source), Some(source)));
    assert_eq!(world.streams[&stream].0.send_to, Some(source));
}

#[test]
fn a_phone_behind_a_translator_that_is_silent_after_the_answer_is_heard_when_it_speaks() {
    let mut world = World::new(118);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.agent(alice).script.media = Some("10.0.0.5".parse().unwrap());
    world.mute.push(alice.ip());
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(28));
    let external = |world: &World| {
        let mut leases = world.leases.values();
        leases.find(|lease| lease.zone == EXTERNAL).unwrap().admit
    };
    assert_eq!(external(&world), Admit::Host(alice.ip()));
    world.mute.clear();
    world.run(seconds(12));
    assert!(matches!(external(&world), Admit::Peer(peer) if peer.ip() == alice.ip()));
}

#[test]
fn a_phones_description_cannot_aim_our_media_at_another_host() {
    let mut world = World::new(111);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.agent(alice).script.media = Some("198.51.100.30".parse().unwrap());
    world.mute.push(alice.ip());
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(30));
    for lease in world.leases.values().filter(|lease| lease.zone == EXTERNAL) {
        assert_eq!(lease.send_to, None);
        // Its own host alone may still prove a port.
        assert_eq!(lease.admit, Admit::Host(alice.ip()));
    }
}

#[test]
fn a_proxy_that_records_its_route_stays_on_the_path() {
    let mut world = World::new(112);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.record_route = Some("<sip:192.0.2.10;lr;ftag=x>".into());
    // The phone behind the proxy.
    world.agent(pbx).script.claims = Some("<sip:1001@192.0.2.40:5062>".into());
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    hang_up(&mut world, trunk, 0);
    world.run(seconds(1));
    let bye = world
        .agent(pbx)
        .inbox
        .iter()
        .find(|message| message.method() == Some("BYE"))
        .unwrap();
    assert_eq!(bye.uri(), "sip:1001@192.0.2.40:5062");
    assert_eq!(bye.need("Route"), "<sip:192.0.2.10;lr;ftag=x>");
}

#[test]
fn an_internal_phone_that_the_pbx_leaves_alone_with_us_is_spoken_to_directly() {
    let mut world = World::new(113);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.claims = Some("<sip:1001@192.0.2.40:5062>".into());
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    let phone: SocketAddr = "192.0.2.40:5062".parse().unwrap();
    assert!(
        world
            .wire
            .iter()
            .any(|wire| wire.from_core && wire.peer == phone && wire.bytes.starts_with(b"ACK "))
    );
}

#[test]
fn a_contact_elsewhere_is_not_followed() {
    for (claim, host) in [
        ("<sip:x@203.0.113.10:5060>", "203.0.113.10"),
        ("<sip:x@198.51.100.30:5060>", "198.51.100.30"),
    ] {
        let mut world = World::new(114);
        let pbx = pbx(&mut world);
        let trunk = trunk1(&mut world);
        world.agent(trunk).script.claims = Some(claim.into());
        world.act(trunk, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
        });
        world.run(seconds(3));
        hang_up(&mut world, pbx, 0);
        world.run(seconds(3));
        assert_eq!(state(&mut world, trunk, 0), State::Ended);
        assert!(
            world
                .wire
                .iter()
                .all(|wire| wire.peer.ip().to_string() != host)
        );
    }
}

/// The PBX's answers to the INVITE, of two phones that it forks to.
fn answer_of_fork(invite: &Message, status: u16, tag: &str, sdp: &str) -> Vec<u8> {
    let mut answer = Message {
        start: format!("SIP/2.0 {status} X"),
        headers: Vec::new(),
        body: String::new(),
    };
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        answer = answer.with(name, invite.need(name));
    }
    let answer = answer
        .with("To", format!("{};tag={tag}", invite.need("To")))
        .with("Contact", format!("<sip:{tag}@192.0.2.40:5060>"));
    if sdp.is_empty() {
        answer.bytes()
    } else {
        answer.with_body("application/sdp", sdp).bytes()
    }
}

#[test]
fn of_two_phones_the_first_to_answer_has_the_call_and_the_other_is_hung_up() {
    let mut world = World::new(115);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.alive = false;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(millis(100));
    let invite = world.agent(pbx).inbox[0].clone();
    let sdp = world.agent(pbx).sdp("sendrecv");
    world.datagram(pbx, &answer_of_fork(&invite, 180, "one", ""));
    world.datagram(pbx, &answer_of_fork(&invite, 183, "two", &sdp));
    world.run(millis(50));
    world.datagram(pbx, &answer_of_fork(&invite, 200, "two", &sdp));
    world.datagram(pbx, &answer_of_fork(&invite, 200, "one", &sdp));
    world.run(millis(400));
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
    let tags: Vec<_> = world
        .agent(trunk)
        .inbox
        .iter()
        .filter(|message| message.status().is_some_and(|status| status > 100))
        .map(|message| (message.status().unwrap(), message.tag("To").unwrap()))
        .collect();
    let [(180, one), (183, two), (200, answered)] = tags.as_slice() else {
        panic!("{tags:?}")
    };
    assert_ne!(one, two);
    assert_eq!(two, answered);
    let sent = |method: &str, tag: &str| {
        let tag = format!("tag={tag}");
        world.wire.iter().filter(|wire| wire.from_core).any(|wire| {
            let text = String::from_utf8_lossy(&wire.bytes);
            text.starts_with(method)
                && text
                    .lines()
                    .any(|line| line.starts_with("To:") && line.ends_with(&tag))
        })
    };
    assert!(sent("ACK", "two") && !sent("BYE", "two"));
    assert!(sent("ACK", "one") && sent("BYE", "one"));
}

#[test]
fn answers_go_back_to_the_source_whatever_via_says() {
    let mut world = World::new(116);
    let trunk = trunk1(&mut world);
    let request = Message::request("OPTIONS", "sip:198.51.100.1")
        .with("Via", "SIP/2.0/UDP 203.0.113.99:7777;branch=z9hG4bKv;rport")
        .with("Max-Forwards", "70")
        .with("From", "<sip:a@b.test>;tag=1")
        .with("To", "<sip:198.51.100.1>")
        .with("Call-ID", "v")
        .with("CSeq", "1 OPTIONS");
    world.datagram(trunk, &request.bytes());
    world.run(millis(100));
    let answer = world.agent(trunk).inbox[0].clone();
    assert!(answer.need("Via").contains("received=198.51.100.20"));
    assert!(answer.need("Via").contains("rport=5060"));
}

#[test]
fn reset_forgets_registrations_in_the_laboratory_alone() {
    let mut world = World::new(117);
    pbx(&mut world);
    registered_alice(&mut world);
    assert!(world.core.reset(world.now));
    assert_eq!(world.gauge("bindings"), 0);
    let mut settings = crate::testing::settings();
    settings.lab = false;
    let mut world = World::with(117, settings);
    pbx(&mut world);
    registered_alice(&mut world);
    assert!(!world.core.reset(world.now));
    assert_eq!(world.gauge("bindings"), 1);
}

#[test]
fn a_phones_contact_cannot_aim_requests_of_its_call_at_another_host() {
    let mut world = World::new(119);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.agent(alice).script.claims = Some("<sip:1001@198.51.100.30:5060>".into());
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(2));
    let victim: std::net::IpAddr = "198.51.100.30".parse().unwrap();
    assert!(world.wire.iter().all(|wire| wire.peer.ip() != victim));
    assert_eq!(state(&mut world, alice, 0), State::Ended);
}
