//! A carrier that is known by name: RFC 3263 §4.3, from the answers of its name server to the call.

use broker_proto::settings::{NameServer, Settings};
use hickory_proto::op::{Message, ResponseCode};

use super::*;
use crate::{
    resolve::tests::{carrier, reply, zone},
    testing::{EXTERNAL, settings},
};

const CALLED: &str = "sip:+49301234567@192.0.2.1";

fn by_name() -> Settings {
    let mut settings = settings();
    settings.trunks.truncate(1);
    settings.trunks[0].addresses.clear();
    settings.trunks[0].named = Some(carrier());
    settings.name_servers = vec![NameServer {
        zone: EXTERNAL,
        address: "198.51.100.53:53".parse().unwrap(),
    }];
    settings
}

fn name_server(question: &[u8]) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    let query = asked.queries.first()?;
    let host = query.name.to_lowercase().to_ascii();
    let answers = zone(host.trim_end_matches('.'), query.query_type);
    let code = if answers.is_some() {
        ResponseCode::NoError
    } else {
        ResponseCode::NXDomain
    };
    let answers = answers.unwrap_or_default();
    reply(question, code, answers, Vec::new()).to_vec().ok()
}

/// A world whose name server speaks, with a PBX that calls.
fn world(seed: u64) -> (World, SocketAddr) {
    let mut world = World::with(seed, by_name());
    world.name_server = name_server;
    let pbx = pbx(&mut world);
    // The first questions found no name server.
    world.run(seconds(60));
    (world, pbx)
}

fn carrier_at(world: &mut World, address: &str, reject: Option<u16>) -> SocketAddr {
    let usual = Script::default();
    let script = Script {
        password: false,
        answer: reject.map_or(usual.answer, |code| Some((millis(10), code))),
        ..usual
    };
    world.add(address, "+49888", script)
}

fn call(world: &mut World, pbx: SocketAddr) -> usize {
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, CALLED)
    })
}

#[test]
fn a_call_goes_to_the_first_target_of_the_name_and_names_the_domain() {
    let (mut world, pbx) = world(900);
    let first = carrier_at(&mut world, "198.51.100.20:5060", None);
    let second = carrier_at(&mut world, "198.51.100.21:5070", None);
    let index = call(&mut world, pbx);
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, index), State::Talking);
    let invite = world.agent(first).inbox[0].clone();
    assert_eq!(invite.uri(), "sip:+49301234567@carrier.test");
    assert!(world.agent(second).inbox.is_empty());
}

#[test]
fn the_second_target_gets_the_call_when_the_first_is_dead() {
    let (mut world, pbx) = world(901);
    let second = carrier_at(&mut world, "198.51.100.21:5070", None);
    let index = call(&mut world, pbx);
    world.run(seconds(40));
    assert_eq!(state(&mut world, pbx, index), State::Talking);
    assert_eq!(world.agent(second).dialogs.len(), 1);
}

#[test]
fn the_second_target_gets_the_call_that_the_first_has_no_room_for() {
    let (mut world, pbx) = world(902);
    let first = carrier_at(&mut world, "198.51.100.20:5060", Some(503));
    let second = carrier_at(&mut world, "198.51.100.21:5070", None);
    let index = call(&mut world, pbx);
    world.run(seconds(5));
    assert_eq!(state(&mut world, pbx, index), State::Talking);
    assert!(!world.agent(first).inbox.is_empty());
    assert_eq!(world.agent(second).dialogs.len(), 1);
}

#[test]
fn a_call_from_the_networks_of_the_name_is_the_carriers_whatever_its_name_server_says() {
    let (mut world, pbx) = world(903);
    world.agent(pbx).script.challenge = false;
    let other = carrier_at(&mut world, "198.51.100.99:5060", None);
    let index = world.act(other, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, other, index), State::Talking);
}

#[test]
fn calls_go_on_when_the_name_server_is_dead() {
    let (mut world, pbx) = world(904);
    carrier_at(&mut world, "198.51.100.20:5060", None);
    world.name_server = |_| None;
    world.run(seconds(3_600));
    let index = call(&mut world, pbx);
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, index), State::Talking);
}
