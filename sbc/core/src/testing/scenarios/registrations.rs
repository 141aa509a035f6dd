//! REGISTER relayed to the PBX, and the calls of those who registered.

use super::*;
use crate::testing::{EXTERNAL, INTERNAL, Message};

#[test]
fn a_phone_registers_through_the_pbx_and_is_bound_to_a_token_of_ours() {
    let mut world = World::new(50);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    let bound = world.agent(pbx).bindings["1001"].clone();
    assert!(bound.ends_with("@192.0.2.1:5060"), "{bound}");
    let told = world.agent(alice).inbox.last().unwrap().clone();
    assert!(told.need("Contact").contains("198.51.100.10:5060"));
    assert!(told.need("Contact").contains("expires=3600"));
    for text in world.sent_to(INTERNAL) {
        assert!(!text.contains("198.51.100."), "{text}");
    }
    for text in world.sent_to(EXTERNAL) {
        assert!(!text.contains("192.0.2."), "{text}");
    }
}

#[test]
fn a_call_from_the_pbx_to_the_token_reaches_the_phone() {
    let mut world = World::new(51);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    let bound = world.agent(pbx).bindings["1001"].clone();
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    let invite = world
        .agent(alice)
        .inbox
        .iter()
        .find(|message| message.method() == Some("INVITE"))
        .unwrap();
    assert_eq!(invite.uri(), "sip:1001@198.51.100.10:5060");
    hang_up(&mut world, alice, 0);
    world.run(seconds(60));
    assert_eq!(state(&mut world, pbx, 0), State::Ended);
    assert_tidy(&mut world);
}

#[test]
fn a_registered_phone_calls_and_answers_the_pbx_challenge_itself() {
    let mut world = World::new(52);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(4));
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    assert!(dialog(&mut world, alice).statuses.contains(&407));
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
}

#[test]
fn a_registered_phone_may_not_speak_for_another() {
    let mut world = World::new(53);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.agent(alice).user = "1002".into();
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1100@lab.test")
    });
    world.run(seconds(2));
    assert_eq!(state(&mut world, alice, 0), State::Failed(403));
}

#[test]
fn nothing_is_bound_without_the_pbx_saying_so() {
    let mut world = World::new(54);
    pbx(&mut world);
    let alice = alice(&mut world);
    world.agent(alice).script.password = false;
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(2));
    assert_eq!(world.agent(alice).answers, [("REGISTER".to_owned(), 401)]);
    assert_eq!(world.gauge("bindings"), 0);
    // Still a stranger: no answer to a call.
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(40));
    assert!(dialog(&mut world, alice).statuses.is_empty());
}

#[test]
fn known_and_unknown_names_are_met_alike() {
    let mut world = World::new(55);
    pbx(&mut world);
    let mut seen = Vec::new();
    for (host, user) in [(30, "1001"), (31, "9999")] {
        let stranger = world.add(
            &format!("198.51.100.{host}:5060"),
            user,
            Script {
                password: false,
                ..Script::default()
            },
        );
        world.act(stranger, |agent, now, gateway| {
            agent.register(now, gateway, 3600)
        });
        let asked = world.elapsed();
        world.run(seconds(1));
        let at = world
            .wire
            .iter()
            .find(|wire| wire.from_core && wire.peer == stranger)
            .unwrap()
            .at
            - asked;
        let answer = world.agent(stranger).inbox[0].clone();
        seen.push((at, shape(&answer)));
    }
    assert_eq!(seen[0], seen[1]);
}

/// What a stranger can tell of an answer: its lines without what is drawn afresh.
fn shape(message: &Message) -> Vec<String> {
    let mut shape = vec![message.start.clone()];
    for (name, value) in &message.headers {
        let fixed = match name.as_str() {
            "WWW-Authenticate" => value
                .split('"')
                .enumerate()
                .filter(|(place, _)| *place != 3)
                .map(|(_, piece)| piece)
                .collect(),
            "Via" | "From" | "To" | "Call-ID" | "CSeq" => String::new(),
            _ => value.clone(),
        };
        shape.push(format!("{name}: {fixed}"));
    }
    shape
}

#[test]
fn unregistering_ends_the_binding() {
    let mut world = World::new(56);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.act(alice, |agent, now, gateway| agent.register(now, gateway, 0));
    world.run(seconds(2));
    assert_eq!(world.gauge("bindings"), 0);
    assert!(world.agent(pbx).bindings.is_empty());
}

#[test]
fn a_binding_ends_when_its_time_is_over_unless_refreshed() {
    let mut world = World::new(57);
    pbx(&mut world);
    let alice = alice(&mut world);
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 60)
    });
    world.run(seconds(50));
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 60)
    });
    world.run(seconds(50));
    assert_eq!(world.gauge("bindings"), 1);
    world.run(seconds(20));
    assert_eq!(world.gauge("bindings"), 0);
}

#[test]
fn options_is_answered_to_those_we_know_alone() {
    let mut world = World::new(58);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    let trunk = trunk1(&mut world);
    let stranger = world.add("198.51.100.30:5060", "x", Script::default());
    for at in [pbx, alice, trunk, stranger] {
        world.agent(at).answers.clear();
        world.act(at, |agent, now, gateway| agent.options(now, gateway));
    }
    world.run(seconds(1));
    for at in [pbx, alice, trunk] {
        assert_eq!(world.agent(at).answers, [("OPTIONS".to_owned(), 200)]);
    }
    assert!(world.agent(stranger).inbox.is_empty());
}

#[test]
fn another_port_of_the_same_host_is_not_the_registered_phone() {
    let mut world = World::new(59);
    pbx(&mut world);
    registered_alice(&mut world);
    let neighbour = world.add("198.51.100.10:5099", "1001", Script::default());
    world.act(neighbour, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(2));
    assert!(world.agent(neighbour).inbox.is_empty());
}

#[test]
fn a_register_for_another_domain_reaches_no_registrar() {
    let mut world = World::new(60);
    let pbx = pbx(&mut world);
    let register = |from: SocketAddr| {
        Message::request("REGISTER", "sip:other.test")
            .with("Via", format!("SIP/2.0/UDP {from};branch=z9hG4bKother"))
            .with("Max-Forwards", "70")
            .with("From", "<sip:1001@other.test>;tag=o")
            .with("To", "<sip:1001@other.test>")
            .with("Call-ID", format!("other-{}", from.ip()))
            .with("CSeq", "1 REGISTER")
            .with("Contact", format!("<sip:1001@{from}>"))
    };
    let silent = || Script {
        alive: false,
        ..Script::default()
    };
    for (address, told) in [("198.51.100.10:5060", None), ("192.0.2.40:5060", Some(404))] {
        let phone = world.add(address, "1001", silent());
        world.datagram(phone, &register(phone).bytes());
        world.run(seconds(2));
        let answer = world.agent(phone).inbox.iter().find_map(Message::status);
        assert_eq!(answer, told, "{address}");
    }
    assert!(world.agent(pbx).inbox.is_empty());
}

#[test]
fn a_carrier_registers_nobody() {
    let mut world = World::new(61);
    let pbx = pbx(&mut world);
    let trunk = trunk1(&mut world);
    world.agent(trunk).user = "1001".into();
    world.act(trunk, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(2));
    assert_eq!(world.agent(trunk).answers, [("REGISTER".to_owned(), 403)]);
    assert!(world.agent(pbx).inbox.is_empty());
}

#[test]
fn a_table_of_bindings_that_is_full_takes_no_stranger_and_loses_nobody() {
    let mut settings = crate::testing::settings();
    settings.limits.registrations = 1;
    let mut world = World::with(62, settings);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    let bob = world.add("198.51.100.11:5060", "1002", Script::default());
    world.act(bob, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(2));
    assert!(!world.agent(bob).answers.contains(&("REGISTER".into(), 200)));
    assert!(!world.agent(pbx).bindings.contains_key("1002"));
    assert_eq!(world.gauge("bindings"), 1);
    // Who is bound goes on refreshing.
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(2));
    assert_eq!(
        world.agent(alice).answers.last(),
        Some(&("REGISTER".into(), 200))
    );
}
