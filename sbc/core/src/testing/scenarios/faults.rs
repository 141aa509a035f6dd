//! Lost messages, dead peers, a firewall that refuses or goes away.

use broker_proto::broker::Refusal;

use super::*;
use crate::{BrokerAnswer, Input};

#[test]
fn a_repeated_invite_makes_one_call() {
    let mut world = World::new(40);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    let invite = world.agent(trunk).last_sent();
    world.datagram(trunk, &invite);
    world.run(millis(300));
    world.datagram(trunk, &invite);
    world.run(seconds(3));
    assert_eq!(world.agent(pbx).dialogs.len(), 1);
    assert_eq!(world.calls().len(), 1);
}

#[test]
fn a_lost_ack_is_made_good_by_the_next_2xx() {
    let mut world = World::new(41);
    let (trunk, pbx) = {
        let pbx = pbx(&mut world);
        world.agent(pbx).script.challenge = false;
        let trunk = trunk1(&mut world);
        world.agent(trunk).script.acknowledge = false;
        world.act(trunk, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
        });
        world.run(seconds(10));
        (trunk, pbx)
    };
    let answers = dialog(&mut world, trunk)
        .statuses
        .iter()
        .filter(|status| **status == 200)
        .count();
    assert!(answers >= 5, "2xx sent {answers} times");
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    world.run(seconds(60));
    // 64*T1 without ACK: BYE to both.
    assert_eq!(
        (state(&mut world, trunk, 0), state(&mut world, pbx, 0)),
        (State::Ended, State::Ended)
    );
    assert_eq!(world.end_record().ended_by, "no-ack");
    assert_tidy(&mut world);
}

#[test]
fn a_dead_callee_is_408_and_leaves_nothing() {
    let mut world = World::new(42);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.alive = false;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(120));
    assert_eq!(state(&mut world, trunk, 0), State::Failed(408));
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_firewall_that_lends_nothing_is_503() {
    let mut world = World::new(43);
    pbx(&mut world);
    world.refuse_media = Some(Refusal::PortsExhausted);
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(2));
    assert_eq!(state(&mut world, trunk, 0), State::Failed(503));
    assert_eq!(world.end_record().ended_by, "media-refused");
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_lease_that_ends_ends_its_call() {
    let mut world = World::new(44);
    let (trunk, _) = answered_call(&mut world);
    let lease = *world.leases.keys().next().unwrap();
    world.leases.remove(&lease);
    // The other lease alone is given back: the ended one is no longer held, and the firewall here would say so.
    world.input(Input::Broker(BrokerAnswer::LeaseEnded { lease }));
    world.run(seconds(3));
    assert_eq!(state(&mut world, trunk, 0), State::Ended);
    assert_eq!(world.end_record().ended_by, "lease-lost");
}

#[test]
fn leases_of_a_long_call_are_renewed() {
    let mut world = World::new(45);
    let (trunk, _) = answered_call(&mut world);
    world.run(seconds(3600));
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
    assert_eq!(world.leases.len(), 2);
}

#[test]
fn after_the_firewall_came_back_the_listeners_are_asked_for_again() {
    let mut world = World::new(46);
    world.input(Input::BrokerLost);
    world.run(seconds(1));
    let trunk = trunk1(&mut world);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    world.input(Input::Settings(Box::new(crate::testing::settings())));
    world.run(seconds(1));
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
}
