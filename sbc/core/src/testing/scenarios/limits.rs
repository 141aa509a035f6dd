//! Limits of zones, trunks and accounts, and the calls that none of them stops.

use broker_proto::settings::{
    Called, Caps, NumberPattern, Origin, Route, RouteAction, Settings, TrunkChoice,
};

use super::*;
use crate::testing::settings;

const CALLED: &str = "sip:+49301234567@192.0.2.1";

fn calls(most: u32) -> Caps {
    Caps {
        calls: Some(most),
        ..Caps::default()
    }
}

/// One trunk and what is changed; 112 goes there too.
fn quiet(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    for trunk in &mut settings.trunks {
        trunk.registration = None;
        trunk.addresses.truncate(1);
    }
    settings.zones[1].policy.emergency = vec!["112".into()];
    let world = settings.routes.last_mut().unwrap();
    world.action = RouteAction::Trunks(vec![TrunkChoice::in_order("trunk1", 0)]);
    let emergency = Route {
        name: "emergency".into(),
        from: vec![Origin::Registered, Origin::Internal],
        called: Called::Number(NumberPattern {
            prefix: "112".into(),
            digits_min: 0,
            digits_max: 0,
            range: None,
        }),
        ..world.clone()
    };
    settings.routes.insert(0, emergency);
    change(&mut settings);
    settings
}

fn call(world: &mut World, from: SocketAddr, uri: &str) -> State {
    let index = world.act(from, |agent, now, gateway| agent.invite(now, gateway, uri));
    world.run(seconds(3));
    state(world, from, index)
}

/// The last final response that an agent was sent.
fn told(world: &mut World, at: SocketAddr) -> crate::testing::Message {
    let inbox = &world.agent(at).inbox;
    let refused =
        |message: &&crate::testing::Message| message.status().is_some_and(|status| status >= 400);
    inbox.iter().rfind(refused).expect("a refusal").clone()
}

fn logged(world: &World, code: &str) -> usize {
    world.log.iter().filter(|(have, _)| *have == code).count()
}

#[test]
fn a_full_trunk_refuses_with_retry_after_until_a_call_ends() {
    let mut world = World::with(
        320,
        quiet(|settings| settings.trunks[0].policy.caps = calls(1)),
    );
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    assert_eq!(call(&mut world, pbx, CALLED), State::Failed(503));
    assert!(told(&mut world, pbx).get("Retry-After").is_some());
    hang_up(&mut world, pbx, 0);
    world.run(seconds(2));
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    hang_up(&mut world, pbx, 2);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn the_house_has_so_many_calls_at_once_and_the_next_is_503_until_one_ends() {
    let mut world = World::with(328, quiet(|settings| settings.limits.calls = 2));
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    assert_eq!(call(&mut world, pbx, CALLED), State::Failed(503));
    assert!(told(&mut world, pbx).get("Retry-After").is_some());
    assert_eq!(logged(&world, "limit"), 1);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(2));
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
}

#[test]
fn a_zones_rate_counts_its_calls_and_leaves_an_event() {
    let settings = quiet(|settings| {
        settings.zones[0].policy.caps.call_rate = Some(2);
    });
    let mut world = World::with(321, settings);
    let trunk = trunk1(&mut world);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let indices: Vec<usize> = (0..3)
        .map(|_| {
            world.act(trunk, |agent, now, gateway| {
                agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
            })
        })
        .collect();
    world.run(seconds(3));
    let states: Vec<State> = indices
        .iter()
        .map(|index| state(&mut world, trunk, *index))
        .collect();
    assert_eq!(states, [State::Talking, State::Talking, State::Failed(503)]);
    assert!(told(&mut world, trunk).get("Retry-After").is_some());
    assert_eq!(logged(&world, "limit"), 1);
}

#[test]
fn bandwidth_is_what_the_descriptions_say() {
    // Two calls of G.711 without a declaration: 96 kbit/s each.
    let settings = quiet(|settings| {
        settings.trunks[0].policy.caps.bandwidth_kbit = Some(200);
    });
    let mut world = World::with(322, settings);
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    for expected in [State::Talking, State::Talking, State::Failed(503)] {
        assert_eq!(call(&mut world, pbx, CALLED), expected);
    }
    let load = world.core.counters();
    let load = load
        .iter()
        .find(|(name, _)| name == "sbc_load_kbit{trunk=\"trunk1\"}");
    assert_eq!(load.map(|(_, value)| *value), Some(192));
}

#[test]
fn an_account_has_its_own_number_of_calls() {
    let mut world = World::with(323, quiet(|settings| settings.account = calls(1)));
    trunk1(&mut world);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    let uri = "sip:+49301234567@198.51.100.1";
    assert_eq!(call(&mut world, alice, uri), State::Talking);
    assert_eq!(call(&mut world, alice, uri), State::Failed(480));
    hang_up(&mut world, alice, 0);
    world.run(seconds(2));
    assert_eq!(call(&mut world, alice, uri), State::Talking);
}

#[test]
fn a_callee_with_all_its_calls_is_busy() {
    let settings = quiet(|settings| {
        settings.account = calls(1);
        let mut binding = settings.routes.last().unwrap().clone();
        binding.name = "binding".into();
        binding.from = vec![Origin::Registrar];
        binding.called = Called::Number(NumberPattern {
            prefix: String::new(),
            digits_min: 4,
            digits_max: 4,
            range: None,
        });
        binding.action = RouteAction::Binding;
        settings.routes.insert(0, binding);
    });
    let mut world = World::with(324, settings);
    let pbx = pbx(&mut world);
    registered_alice(&mut world);
    assert_eq!(call(&mut world, pbx, "sip:1001@192.0.2.1"), State::Talking);
    assert_eq!(
        call(&mut world, pbx, "sip:1001@192.0.2.1"),
        State::Failed(486)
    );
}

#[test]
fn a_cry_for_help_is_stopped_by_no_limit() {
    let settings = quiet(|settings| {
        settings.trunks[0].policy.caps = calls(1);
        settings.zones[0].policy.caps = calls(1);
        settings.zones[1].policy.caps = calls(1);
        settings.account = calls(1);
        settings.limits.calls = 1;
        settings.limits.call_rate = 1;
        settings.limits.calls_per_source = 1;
    });
    let mut world = World::with(325, settings);
    let trunk = trunk1(&mut world);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    assert_eq!(
        call(&mut world, alice, "sip:+49301234567@198.51.100.1"),
        State::Talking
    );
    for _ in 0..3 {
        assert_eq!(
            call(&mut world, alice, "sip:112@198.51.100.1"),
            State::Talking
        );
    }
    assert!(matches!(
        call(&mut world, alice, "sip:+49301234567@198.51.100.1"),
        State::Failed(503)
    ));
    // Nobody had to make room: the trunk does not say so.
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
}

#[test]
fn a_cry_for_help_ends_the_youngest_other_call_of_a_full_trunk_that_says_so() {
    let settings = quiet(|settings| {
        settings.trunks[0].policy.caps = calls(2);
        settings.trunks[0].policy.preempt = true;
    });
    let mut world = World::with(326, settings);
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    assert_eq!(call(&mut world, pbx, "sip:112@192.0.2.1"), State::Talking);
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    assert_eq!(state(&mut world, pbx, 1), State::Ended);
    assert_eq!(world.end_record().ended_by, "preempted");
    // A second one takes the other place; two cries for help never end each other.
    assert_eq!(call(&mut world, pbx, "sip:112@192.0.2.1"), State::Talking);
    assert_eq!(call(&mut world, pbx, "sip:112@192.0.2.1"), State::Talking);
    let talking = (0..5).filter(|index| state(&mut world, pbx, *index) == State::Talking);
    assert_eq!(talking.count(), 3);
}

#[test]
fn a_resource_priority_is_believed_of_the_peer_that_may_claim_it_only() {
    let settings = quiet(|settings| {
        settings.zones[1].policy.caps = calls(1);
        settings.zones[1].policy.resource_priority = vec!["esnet.*".into()];
    });
    let mut world = World::with(327, settings);
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
    assert_eq!(call(&mut world, pbx, CALLED), State::Failed(503));
    world.agent(pbx).script.priority = Some("dsn.flash");
    assert_eq!(call(&mut world, pbx, CALLED), State::Failed(503));
    world.agent(pbx).script.priority = Some("dsn.flash, esnet.1");
    assert_eq!(call(&mut world, pbx, CALLED), State::Talking);
}
