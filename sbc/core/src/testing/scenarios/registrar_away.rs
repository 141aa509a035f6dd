//! The PBX does not answer: phones that are known go on, others wait; and thousands that come back at once.

use std::collections::BTreeMap;

use super::{refreshes::*, *};
use crate::testing::{Message, parameter};

fn phone(world: &mut World, host: u8, user: &str) -> SocketAddr {
    let phone = world.add(&format!("198.51.100.{host}:5060"), user, Script::default());
    world.act(phone, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(1));
    assert_eq!(world.agent(phone).answers, [("REGISTER".to_owned(), 200)]);
    phone
}

fn logged(world: &World, code: &str) -> usize {
    world.log.iter().filter(|(have, _)| *have == code).count()
}

#[test]
fn phones_call_each_other_and_refresh_while_the_pbx_is_away() {
    let mut world = World::new(230);
    let pbx = pbx(&mut world);
    let alice = phone(&mut world, 10, "1001");
    let bob = phone(&mut world, 11, "1002");
    let mut carol = Phone::new("198.51.100.12:1024", "1100").registered(&mut world);
    world.agent(pbx).script.alive = false;
    // Somebody new asks: that tells that the PBX is away.
    let mut dave = Phone::new("198.51.100.13:1024", "1001");
    assert!(dave.register(&mut world).is_none());
    world.run(seconds(13));
    assert_eq!(logged(&world, "peer-down"), 1);
    // A phone without credentials refreshes all the same; it is known by its way, Call-ID and CSeq.
    carol.credentials = None;
    let answer = carol.register(&mut world).unwrap();
    assert_eq!(answer.status(), Some(200));
    // Another contact of a known phone has to wait, a stranger hears nothing.
    carol.contact = "<sip:1100@192.168.1.77>".into();
    let answer = carol.register(&mut world).unwrap();
    assert_eq!(answer.status(), Some(503));
    assert!(answer.need("Retry-After").parse::<u32>().unwrap() >= 5);
    assert!(dave.register(&mut world).is_none());
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    assert_eq!(state(&mut world, bob, 0), State::Talking);
    hang_up(&mut world, alice, 0);
    world.run(seconds(3));
    // It is back, and asked again.
    world.agent(pbx).script.alive = true;
    world.run(seconds(6));
    assert_eq!(logged(&world, "peer-up"), 1);
    let back = world.events_of("peer-up").next().expect("an event");
    assert_eq!(back[0], ("peer".to_owned(), "registrar".to_owned()));
    assert_eq!(back[1].0, "seconds_away");
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    Phone::new("198.51.100.14:1024", "1002").registered(&mut world);
}

#[test]
fn a_refresh_that_waits_for_a_dead_pbx_is_answered_in_time() {
    let mut world = World::new(231);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    for _ in 0..20 {
        world.run(seconds(85));
        phone.credentials.as_mut().unwrap().1 += 1;
        phone.register(&mut world).unwrap();
    }
    // More than half of the PBX's time is over: the next goes to it.
    world.agent(pbx).script.alive = false;
    world.run(seconds(85));
    phone.credentials.as_mut().unwrap().1 += 1;
    let before = world.wire.len();
    assert!(phone.register(&mut world).is_none());
    world.run(seconds(13));
    let answered = world.wire[before..]
        .iter()
        .any(|wire| wire.peer == phone.address && wire.bytes.starts_with(b"SIP/2.0 200"));
    assert!(answered);
    assert_eq!(world.gauge("bindings"), 1);
}

#[test]
fn what_the_pbx_granted_is_outlived_for_so_long_and_no_longer() {
    let mut settings = crate::testing::settings();
    settings.trunks.clear();
    settings.registration.registrar_expires_seconds = 600;
    settings.registration.away_seconds = 300;
    let mut world = World::with(232, settings);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001");
    phone.expires = 600;
    let mut phone = phone.registered(&mut world);
    world.agent(pbx).script.alive = false;
    Phone::new("198.51.100.13:1024", "1001").register(&mut world);
    let mut lived = 0;
    for _ in 0..20 {
        world.run(seconds(59));
        if phone
            .register(&mut world)
            .is_some_and(|answer| answer.status() == Some(200))
        {
            lived += 60;
        }
    }
    assert!((840..=900).contains(&lived), "{lived}");
    assert_eq!(world.gauge("bindings"), 0);
}

#[test]
fn a_name_that_the_pbx_drops_does_not_make_it_away() {
    let mut world = World::new(233);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.dislikes = Some("a=b".into());
    let mut bad = Phone::new("198.51.100.66:1024", "a=b");
    assert!(bad.register(&mut world).is_none());
    world.run(seconds(40));
    assert_eq!(logged(&world, "peer-down"), 0);
    Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
}

#[test]
fn the_next_address_of_the_pbx_is_tried() {
    let mut world = World::new(234);
    let accounts = vec!["1001".to_owned()];
    let script = Script {
        accounts,
        challenge: true,
        ..Script::default()
    };
    let second = world.add("[2001:db8:1::10]:5060", "pbx", script);
    let mut phone = Phone::new("198.51.100.10:1024", "1001");
    assert!(phone.register(&mut world).is_none());
    world.run(seconds(4));
    assert_eq!(seen(&mut world, second).len(), 1);
    // From now on it is the first.
    Phone::new("198.51.100.11:1024", "1001").registered(&mut world);
    assert_eq!(logged(&world, "peer-down"), 0);
}

/// One of the crowd: what it waits for.
struct Waiting {
    phone: Phone,
    again: Duration,
    done: bool,
}

/// 10,000 phones come back within two seconds. The PBX gets them at its rate, none is lost, no table overflows, and calls
/// go on meanwhile.
#[test]
#[allow(clippy::disallowed_macros, reason = "the figures are told")]
fn ten_thousand_phones_after_a_power_cut_are_registered_at_the_rate_of_the_pbx() {
    const COUNT: u32 = 10_000;
    let mut settings = crate::testing::settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    settings.limits.registrations = 20_000;
    let rate = settings.registration.relay_rate;
    let mut world = World::with(235, settings);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.accounts = (0..COUNT).map(|number| format!("u{number}")).collect();
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    let mut crowd: BTreeMap<SocketAddr, Waiting> = (0..COUNT)
        .map(|number| {
            let address = format!("198.18.{}.{}:1024", number / 250, number % 250 + 1);
            let phone = Phone::new(&address, &format!("u{number}"));
            let again = world.elapsed() + millis(u64::from(number) / 5);
            let waiting = Waiting {
                phone,
                again,
                done: false,
            };
            (address.parse().unwrap(), waiting)
        })
        .collect();
    let (mut greatest, mut refused, mut calls) = (0, 0, 0);
    let mut per_second: BTreeMap<u64, u32> = BTreeMap::new();
    let mut left = COUNT;
    while left > 0 {
        assert!(world.elapsed() < seconds(400), "{left} are left");
        let now = world.elapsed();
        for waiting in crowd
            .values_mut()
            .filter(|waiting| !waiting.done && waiting.again <= now)
        {
            waiting.phone.cseq += 1;
            // Its transaction's timer F.
            waiting.again = now + seconds(32);
            world.datagram(waiting.phone.address, &waiting.phone.message().bytes());
        }
        if now.as_secs() / 10 >= calls {
            calls += 1;
            world.act(trunk, |agent, now, gateway| {
                agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
            });
        }
        world.run(millis(100));
        let now = world.elapsed();
        for wire in std::mem::take(&mut world.wire) {
            if wire.from_core && wire.peer == pbx && wire.bytes.starts_with(b"REGISTER") {
                *per_second.entry(wire.at.as_secs()).or_default() += 1;
            }
            let (true, Some(waiting)) = (wire.from_core, crowd.get_mut(&wire.peer)) else {
                continue;
            };
            let answer = Message::parse(&wire.bytes);
            match answer.status() {
                Some(200) if !waiting.done => {
                    let told: u32 = parameter(answer.need("Contact"), "expires")
                        .unwrap()
                        .parse()
                        .unwrap();
                    assert!((106..=120).contains(&told));
                    waiting.done = true;
                    left -= 1;
                }
                Some(401) => {
                    waiting.phone.credentials = Some(("N0nce42".into(), 1));
                    waiting.again = now;
                }
                Some(503) => {
                    refused += 1;
                    let after = answer.need("Retry-After").parse().unwrap();
                    waiting.again = now + seconds(after);
                }
                _ => {}
            }
        }
        greatest = greatest.max(world.gauge("server_transactions"));
    }
    let took = world.elapsed().as_secs();
    let busiest = per_second.values().max().copied().unwrap();
    println!(
        "{COUNT} phones in {took} s; {busiest} REGISTERs in the busiest second, {refused} times 503, {greatest} server transactions at most"
    );
    assert!(took <= 2 * u64::from(COUNT * 2 / rate), "{took} s");
    assert!(busiest <= 2 * rate, "{busiest}");
    assert!(greatest < 10_000, "{greatest}");
    let answered = world
        .agent(trunk)
        .dialogs
        .iter()
        .filter(|dialog| dialog.state == State::Talking)
        .count();
    assert!(answered as u64 >= calls - 1, "{answered} of {calls} calls");
}
