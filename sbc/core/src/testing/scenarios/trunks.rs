//! Carriers: calls out, failover, our registration there.

use super::*;

fn trunk2(world: &mut World) -> SocketAddr {
    let accounts = vec!["gatehouse".to_owned()];
    world.add(
        "198.51.100.21:5060",
        "+49888",
        Script {
            accounts,
            password: false,
            ..Script::default()
        },
    )
}

fn call_out(world: &mut World) -> SocketAddr {
    let pbx = pbx(world);
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:0049301234567@192.0.2.1")
    });
    pbx
}

#[test]
fn a_call_out_goes_to_the_first_trunk() {
    let mut world = World::new(70);
    let trunk = trunk1(&mut world);
    let pbx = call_out(&mut world);
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    let invite = world.agent(trunk).inbox[0].clone();
    assert_eq!(invite.uri(), "sip:+49301234567@198.51.100.20");
}

#[test]
fn a_trunk_that_fails_is_followed_by_the_next() {
    let mut world = World::new(71);
    let first = trunk1(&mut world);
    world.agent(first).script.answer = Some((millis(50), 503));
    let second = trunk2(&mut world);
    let pbx = call_out(&mut world);
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    assert_eq!(state(&mut world, second, 0), State::Talking);
    assert_eq!(world.leases.len(), 2);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_dead_trunk_is_followed_by_the_next_in_time() {
    let mut world = World::new(72);
    let second = trunk2(&mut world);
    let pbx = call_out(&mut world);
    // Both addresses of trunk 1 are dead.
    world.run(seconds(12));
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    assert_eq!(state(&mut world, second, 0), State::Talking);
}

#[test]
fn the_next_call_does_not_wait_for_a_trunk_that_was_silent_until_a_while_has_gone() {
    let mut world = World::new(74);
    let second = trunk2(&mut world);
    let pbx = call_out(&mut world);
    world.run(seconds(12));
    assert_eq!(state(&mut world, second, 0), State::Talking);
    let again = |world: &mut World| {
        let call = world.act(pbx, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49301234567@192.0.2.1")
        });
        world.run(seconds(3));
        state(world, pbx, call)
    };
    assert_eq!(again(&mut world), State::Talking, "nobody waits twice");
    // It may be there again: the first trunk is the first again.
    let first = trunk1(&mut world);
    assert_eq!(again(&mut world), State::Talking);
    assert!(world.agent(first).dialogs.is_empty());
    world.run(seconds(60));
    assert_eq!(again(&mut world), State::Talking);
    assert_eq!(world.agent(first).dialogs.len(), 1);
}

#[test]
fn a_trunk_that_says_when_it_has_room_again_is_tried_last_until_then() {
    for (retry, expected) in [(Some("120"), 1), (None, 2)] {
        let mut world = World::new(76);
        let first = trunk1(&mut world);
        world.agent(first).script.answer = Some((millis(50), 503));
        world.agent(first).script.retry_after = retry;
        trunk2(&mut world);
        let pbx = call_out(&mut world);
        world.run(seconds(3));
        let call = world.act(pbx, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49301234567@192.0.2.1")
        });
        world.run(seconds(3));
        assert_eq!(state(&mut world, pbx, call), State::Talking);
        assert_eq!(world.agent(first).dialogs.len(), expected, "{retry:?}");
    }
}

#[test]
fn a_trunk_that_was_silent_is_tried_all_the_same_where_there_is_no_other() {
    let mut settings = crate::testing::settings();
    settings.trunks.truncate(1);
    settings.trunks[0].addresses.truncate(1);
    let world_route = settings.routes.last_mut().unwrap();
    world_route.action = broker_proto::settings::RouteAction::Trunks(vec![
        broker_proto::settings::TrunkChoice::in_order("trunk1", 0),
    ]);
    let mut world = World::with(75, settings);
    let pbx = call_out(&mut world);
    world.run(seconds(40));
    assert_eq!(state(&mut world, pbx, 0), State::Failed(408));
    trunk1(&mut world);
    let call = world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49301234567@192.0.2.1")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, call), State::Talking);
}

#[test]
fn a_busy_callee_is_not_tried_by_another_trunk() {
    let mut world = World::new(73);
    let first = trunk1(&mut world);
    world.agent(first).script.answer = Some((millis(50), 486));
    let second = trunk2(&mut world);
    let pbx = call_out(&mut world);
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, 0), State::Failed(486));
    assert!(world.agent(second).dialogs.is_empty());
}

#[test]
fn a_premium_number_is_403() {
    let mut world = World::new(74);
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    for uri in [
        "sip:+1900123456@192.0.2.1",
        "sip:001900123456@192.0.2.1",
        "sip:00882123456@192.0.2.1",
    ] {
        let call = world.act(pbx, |agent, now, gateway| agent.invite(now, gateway, uri));
        world.run(seconds(1));
        assert_eq!(state(&mut world, pbx, call), State::Failed(403), "{uri}");
    }
}

#[test]
fn we_register_at_the_trunk_with_the_keyholders_help_and_refresh() {
    let mut world = World::with(75, crate::testing::settings());
    let trunk = trunk2(&mut world);
    world.agent(trunk).script.realm = "trunk2.test".into();
    world.run(seconds(3));
    assert_eq!(world.digests, 1);
    assert!(world.agent(trunk).bindings.contains_key("gatehouse"));
    let registers = |world: &mut World| {
        let inbox = &world.agent(trunk).inbox;
        inbox
            .iter()
            .filter(|message| message.method() == Some("REGISTER"))
            .cloned()
            .collect::<Vec<_>>()
    };
    let credentials = registers(&mut world)[1].need("Authorization").to_owned();
    assert!(
        credentials.contains("username=\"gatehouse\"") && credentials.contains("0123456789abcdef"),
        "{credentials}"
    );
    // Refreshed before 300 s are over.
    world.run(seconds(290));
    assert_eq!(registers(&mut world).len(), 4);
    // And taken back at the end.
    world.input(crate::Input::Stop);
    world.run(seconds(3));
    assert!(world.agent(trunk).bindings.is_empty());
}

#[test]
fn a_dead_carrier_is_asked_ever_less_often() {
    let mut world = World::with(77, crate::testing::settings());
    world.run(seconds(3600));
    let sent = world.wire.iter().filter(|wire| wire.from_core).count();
    // Eleven datagrams to each of two addresses, 32 s each; a wait up to 300 s.
    assert!((100..400).contains(&sent), "{sent} datagrams in an hour");
}

#[test]
fn a_redirection_is_not_followed_nor_shown() {
    let mut world = World::new(76);
    let first = trunk1(&mut world);
    world.agent(first).script.answer = Some((millis(50), 302));
    let pbx = call_out(&mut world);
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, 0), State::Failed(480));
}

/// Trunk 2 with its registration, and a carrier that knows us.
fn registered_trunk2(seed: u64, change: impl Fn(&mut Script)) -> (World, SocketAddr) {
    let mut world = World::with(seed, crate::testing::settings());
    let trunk = trunk2(&mut world);
    world.agent(trunk).script.realm = "trunk2.test".into();
    change(&mut world.agent(trunk).script);
    world.run(seconds(3));
    (world, trunk)
}

fn gauge(world: &World, name: &str) -> u64 {
    let counters = world.core.counters();
    let found = counters.iter().find(|(have, _)| have == name);
    found.expect("a gauge").1
}

#[test]
fn a_carrier_that_grants_no_less_is_asked_for_more() {
    let (mut world, trunk) = registered_trunk2(240, |script| script.min_expires = 1_800);
    assert!(world.agent(trunk).bindings.contains_key("gatehouse"));
    assert_eq!(gauge(&world, "sbc_trunk_registered{trunk=\"trunk2\"}"), 1);
    let registers = world.agent(trunk).inbox.len();
    // Asked for 1800 s, it is not asked again soon.
    world.run(seconds(1_400));
    assert_eq!(world.agent(trunk).inbox.len(), registers);
}

#[test]
fn a_dead_address_of_a_carrier_is_followed_by_the_next() {
    let mut world = World::with(241, crate::testing::settings());
    let accounts = vec!["gatehouse".to_owned()];
    let second = world.add(
        "[2001:db8:e::21]:5060",
        "+49888",
        Script {
            accounts,
            realm: "trunk2.test".into(),
            ..Script::default()
        },
    );
    world.run(seconds(31));
    assert_eq!(gauge(&world, "sbc_trunk_registered{trunk=\"trunk2\"}"), 0);
    // Timer F, and no back-off.
    world.run(seconds(3));
    assert!(world.agent(second).bindings.contains_key("gatehouse"));
}

#[test]
fn a_carrier_that_refuses_is_asked_again_later_and_later() {
    let (mut world, trunk) = registered_trunk2(242, |script| script.accounts.clear());
    let asked = |world: &mut World| world.agent(trunk).inbox.len();
    assert_eq!(asked(&mut world), 1);
    world.run(seconds(6 * 60));
    let soon = asked(&mut world);
    world.run(seconds(60 * 60));
    let later = asked(&mut world) - soon;
    assert!((4..=7).contains(&soon), "{soon}");
    assert!((11..=25).contains(&later), "{later}");
    assert!(gauge(&world, "sbc_trunk_registration_failures{trunk=\"trunk2\"}") > 4);
}

#[test]
fn calls_go_by_the_service_route_of_the_carrier() {
    let route = "<sip:edge.trunk2.test;lr>";
    let (mut world, trunk) =
        registered_trunk2(243, |script| script.service_route = Some(route.into()));
    world.agent(trunk).inbox.clear();
    // Trunk 1 is dead, so the call comes by trunk 2.
    call_out(&mut world);
    world.run(seconds(14));
    let inbox = &world.agent(trunk).inbox;
    let invite = inbox
        .iter()
        .find(|message| message.method() == Some("INVITE"))
        .expect("an INVITE");
    assert_eq!(invite.need("Route"), route);
}

#[test]
fn the_address_that_a_carrier_sees_becomes_the_contact() {
    let seen: SocketAddr = "203.0.113.77:6060".parse().unwrap();
    let (mut world, trunk) = registered_trunk2(244, |script| script.sees = Some(seen));
    assert_eq!(
        world.agent(trunk).bindings["gatehouse"],
        "sip:gatehouse@203.0.113.77:6060"
    );
    let inbox = &world.agent(trunk).inbox;
    let contacts = inbox.last().unwrap().all("Contact");
    assert_eq!(contacts.len(), 2, "{contacts:?}");
    assert!(contacts[1].contains("198.51.100.1:5060") && contacts[1].ends_with("expires=0"));
    // Once is enough.
    let registers = inbox.len();
    world.run(seconds(60));
    assert_eq!(world.agent(trunk).inbox.len(), registers);
}
