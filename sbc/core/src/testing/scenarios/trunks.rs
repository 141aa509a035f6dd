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
    // Eleven datagrams a try; a try takes 32 s, a wait up to 300 s.
    assert!((50..200).contains(&sent), "{sent} datagrams in an hour");
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
