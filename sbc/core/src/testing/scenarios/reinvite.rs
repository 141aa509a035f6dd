//! Changes of a session that stands. RFC 3261 §14, RFC 3264 §8.

use super::*;

#[test]
fn hold_and_resume_pass_through_both_ways() {
    let mut world = World::new(30);
    let (trunk, pbx) = answered_call(&mut world);
    for (at, other) in [(trunk, pbx), (pbx, trunk)] {
        world.act(at, |agent, now, gateway| {
            agent.reinvite(now, gateway, 0, "sendonly")
        });
        world.run(seconds(1));
        assert!(dialog(&mut world, other).remote_sdp.contains("a=sendonly"));
        assert!(dialog(&mut world, at).remote_sdp.contains("a=recvonly"));
        let (a, b) = world.streams.values().next().cloned().unwrap();
        let (holding, held) = if at == trunk { (a, b) } else { (b, a) };
        assert!(holding.receive && !holding.send, "{holding:?}");
        assert!(held.send && !held.receive, "{held:?}");
        world.act(at, |agent, now, gateway| {
            agent.reinvite(now, gateway, 0, "sendrecv")
        });
        world.run(seconds(1));
        let (a, b) = world.streams.values().next().cloned().unwrap();
        assert!(a.receive && a.send && b.receive && b.send);
    }
    assert_eq!(world.leases.len(), 2);
    hang_up(&mut world, trunk, 0);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn crossing_reinvites_are_491_and_the_call_goes_on() {
    let mut world = World::new(31);
    let (trunk, pbx) = answered_call(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.reinvite(now, gateway, 0, "sendonly")
    });
    world.act(pbx, |agent, now, gateway| {
        agent.reinvite(now, gateway, 0, "sendonly")
    });
    world.run(seconds(5));
    let refused = dialog(&mut world, trunk).statuses.contains(&491)
        || dialog(&mut world, pbx).statuses.contains(&491);
    assert!(refused);
    assert_eq!(
        (state(&mut world, trunk, 0), state(&mut world, pbx, 0)),
        (State::Talking, State::Talking)
    );
    world.act(trunk, |agent, now, gateway| {
        agent.reinvite(now, gateway, 0, "sendrecv")
    });
    world.run(seconds(5));
    assert_eq!(dialog(&mut world, trunk).statuses.last(), Some(&200));
    hang_up(&mut world, trunk, 0);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_bye_during_a_reinvite_ends_everything() {
    let mut world = World::new(32);
    let (trunk, pbx) = answered_call(&mut world);
    world.agent(pbx).script.alive = false;
    world.act(trunk, |agent, now, gateway| {
        agent.reinvite(now, gateway, 0, "sendonly")
    });
    world.run(millis(100));
    hang_up(&mut world, trunk, 0);
    world.run(seconds(120));
    assert!(
        world
            .agent(trunk)
            .answers
            .contains(&("BYE".to_owned(), 200))
    );
    assert_tidy(&mut world);
}

#[test]
fn a_reinvite_that_nobody_answers_ends_the_call() {
    let mut world = World::new(33);
    let (trunk, pbx) = answered_call(&mut world);
    world.agent(pbx).script.alive = false;
    world.act(trunk, |agent, now, gateway| {
        agent.reinvite(now, gateway, 0, "sendonly")
    });
    world.run(seconds(120));
    assert_eq!(state(&mut world, trunk, 0), State::Ended);
    assert_eq!(world.end_record().ended_by, "dialog-lost");
    assert_tidy(&mut world);
}
