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
