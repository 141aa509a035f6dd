//! Two telephones outside that call each other through a PBX that is a proxy and nothing more (RFC 3261 §16): each of our
//! two calls hears of the other's address of ours as its far end's media. RFC 3264, RFC 7092 §3.2.1.

use broker_proto::broker::{Admit, LeaseId};
use sbc_media::relay::Joined;

use super::*;
use crate::testing::Message;

const ALICE: &str = "198.51.100.10:5060";
const BOB: &str = "198.51.100.11:5061";
const MALLORY: &str = "198.51.100.66:5060";

/// Both are registered; the PBX passes everything on by its Request-URI, statelessly.
struct House {
    world: World,
    pbx: SocketAddr,
    alice: SocketAddr,
    bob: SocketAddr,
    mallory: SocketAddr,
    contact: String,
    /// Messages of the PBX's inbox that were passed on.
    passed: usize,
    /// What the PBX makes of a description.
    rewrites: fn(&str) -> String,
}

impl House {
    fn new(seed: u64, bob: Script) -> Self {
        let mut world = World::new(seed);
        let pbx = pbx(&mut world);
        world.agent(pbx).script.fresh_nonces = true;
        let alice = world.add(ALICE, "1001", Script::default());
        let bob = world.add(BOB, "1002", bob);
        let mallory = world.add(MALLORY, "1100", Script::default());
        for phone in [alice, bob, mallory] {
            world.act(phone, |agent, now, gateway| {
                agent.register(now, gateway, 3600)
            });
            world.run(seconds(2));
        }
        let contact = world.agent(pbx).bindings["1002"].clone();
        world.agent(pbx).script.alive = false;
        let passed = world.agent(pbx).inbox.len();
        Self {
            world,
            pbx,
            alice,
            bob,
            mallory,
            contact,
            passed,
            rewrites: str::to_owned,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.world.run(millis(2));
            while let Some(message) = self.world.agent(self.pbx).inbox.get(self.passed).cloned() {
                self.passed += 1;
                let message = self.pass(message);
                self.world.datagram(self.pbx, &message.bytes());
            }
        }
    }

    /// RFC 3261 §16.11.
    fn pass(&self, mut message: Message) -> Message {
        if message.body.contains("m=audio") {
            message.body = (self.rewrites)(&message.body);
        }
        message.headers.retain(|(name, _)| name != "Content-Length");
        if message.status().is_some() {
            let top = message.headers.iter().position(|(name, _)| name == "Via");
            message.headers.remove(top.expect("a Via"));
            return message;
        }
        message.headers.retain(|(name, _)| name != "Route");
        let (pbx, branch) = (self.pbx, message.branch());
        let via = format!("SIP/2.0/UDP {pbx};branch=z9hG4bKp{branch}");
        message.headers.insert(0, ("Via".into(), via));
        if message.tag("To").is_none() {
            message
                .headers
                .insert(1, ("Record-Route".into(), format!("<sip:{};lr>", pbx.ip())));
        }
        if message.uri().contains("1002@lab.test") || message.uri().contains("1002@192.0.2.10") {
            let method = message.method().expect("a request").to_owned();
            message.start = format!("{method} {} SIP/2.0", self.contact);
        }
        message
    }

    fn call(&mut self) {
        self.world.act(self.alice, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:1002@lab.test")
        });
        self.run(seconds(3));
    }

    /// Streams as two halves: what their outer legs are, and what their inner ones are joined with.
    fn inner(&self) -> Vec<(u64, Option<Joined>)> {
        let mut inner: Vec<_> = self
            .world
            .streams
            .values()
            .flat_map(|(a, b)| [a, b])
            .filter(|leg| self.world.leases[&LeaseId(leg.lease)].zone == crate::testing::INTERNAL)
            .map(|leg| (leg.lease, leg.joined.as_deref().copied()))
            .collect();
        inner.sort_by_key(|(lease, _)| *lease);
        inner
    }

    fn assert_joined(&self) {
        let inner = self.inner();
        let [(one, Some(to_two)), (two, Some(to_one))] = inner[..] else {
            panic!("not joined: {inner:?}");
        };
        assert_eq!((to_two.lease, to_one.lease), (two, one));
        for (lease, joined) in [(one, to_two), (two, to_one)] {
            let (own, far) = (
                &self.world.leases[&LeaseId(lease)],
                &self.world.leases[&LeaseId(joined.lease)],
            );
            assert_eq!(joined.rtp, far.rtp);
            assert_eq!((own.admit, own.send_to), (Admit::Nobody, None));
        }
    }
}

#[test]
fn two_telephones_outside_talk_through_a_pbx_that_relays_no_media() {
    let mut house = House::new(910, Script::default());
    house.call();
    assert_eq!(state(&mut house.world, house.alice, 0), State::Talking);
    assert_eq!(state(&mut house.world, house.bob, 0), State::Talking);
    house.assert_joined();
    hang_up(&mut house.world, house.bob, 0);
    house.run(seconds(40));
    assert_eq!(state(&mut house.world, house.alice, 0), State::Ended);
    assert_tidy(&mut house.world);
}

#[test]
fn joined_calls_are_held_and_taken_up_again() {
    let mut house = House::new(911, Script::default());
    house.call();
    for (direction, heard) in [("sendonly", (false, true)), ("sendrecv", (true, true))] {
        house.world.act(house.alice, |agent, now, gateway| {
            agent.reinvite(now, gateway, 0, direction)
        });
        house.run(seconds(2));
        house.assert_joined();
        let outer: Vec<bool> = house
            .world
            .streams
            .values()
            .flat_map(|(a, b)| [a, b])
            .filter(|leg| {
                leg.joined.is_none() && leg.send_to.is_some_and(|to| to.ip() == house.alice.ip())
            })
            .map(|leg| leg.send)
            .collect();
        assert_eq!(outer, [heard.0], "{direction}");
    }
    hang_up(&mut house.world, house.alice, 0);
    house.run(seconds(40));
    assert_tidy(&mut house.world);
}

#[test]
fn a_joined_call_that_is_given_up_before_its_answer_leaves_nothing() {
    let mut house = House::new(
        912,
        Script {
            early_media: true,
            answer: None,
            ..Script::default()
        },
    );
    house.call();
    house.assert_joined();
    hang_up(&mut house.world, house.alice, 0);
    house.run(seconds(40));
    assert_eq!(state(&mut house.world, house.alice, 0), State::Failed(487));
    assert_tidy(&mut house.world);
}

/// The address of our own in the INVITE to the called telephone's call, and another in its answer.
fn astray(description: &str) -> String {
    let line = |line: &str| match line.strip_prefix("m=audio ") {
        Some(rest) => format!(
            "m=audio 30000 {}\r\n",
            rest.split_once(' ').expect("a port").1
        ),
        None => format!("{line}\r\n"),
    };
    description.lines().map(line).collect()
}

#[test]
fn an_address_of_ours_that_is_no_lease_is_still_refused() {
    let mut house = House::new(913, Script::default());
    house.rewrites = astray;
    house.call();
    assert!(
        house
            .world
            .streams
            .values()
            .all(|(a, b)| a.joined.is_none() && b.joined.is_none())
    );
    assert_ne!(state(&mut house.world, house.alice, 0), State::Talking);
    house.run(seconds(40));
    assert_tidy(&mut house.world);
}

#[test]
fn a_telephone_outside_that_names_a_port_of_ours_is_joined_with_nothing() {
    let mut house = House::new(914, Script::default());
    house.call();
    let leases: Vec<SocketAddr> = house.world.leases.values().map(|lease| lease.rtp).collect();
    for lease in leases {
        house.world.agent(house.mallory).script.media = Some(lease.ip());
        let port = lease.port();
        house.world.act(house.mallory, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:1002@lab.test");
            for (_, bytes) in &mut agent.outbox {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let named = text.replace("m=audio 40060", &format!("m=audio {port}"));
                assert_ne!(text, named);
                *bytes = named.into_bytes();
            }
        });
        house.run(seconds(3));
        let strangers = house
            .world
            .streams
            .values()
            .flat_map(|(a, b)| [a, b])
            .filter(|leg| house.world.leases[&LeaseId(leg.lease)].zone == crate::testing::EXTERNAL);
        assert!(
            strangers.clone().all(|leg| leg.joined.is_none()),
            "{strangers:?}"
        );
    }
    let inner = house.inner();
    assert!(
        inner.iter().all(|(_, joined)| joined.is_some()),
        "{inner:?}"
    );
}
