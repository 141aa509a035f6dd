//! What operators are told: events by their names, records of calls, and nothing secret in any of them.

use broker_proto::journal::CallPhase;

use super::{
    hand::{CALLER, Hand},
    *,
};
use crate::testing::{Message, settings};

fn value<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    let mut fields = fields.iter();
    fields
        .find(|(have, _)| have == name)
        .map_or("", |(_, value)| value)
}

fn request(method: &str, from: SocketAddr, number: usize) -> Message {
    Message::request(method, "sip:1001@lab.test")
        .with(
            "Via",
            format!("SIP/2.0/UDP {from};branch=z9hG4bKx{number};rport"),
        )
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:1001@lab.test>;tag=t{number}"))
        .with("To", "<sip:1001@lab.test>")
        .with("Call-ID", format!("c{number}"))
        .with("CSeq", format!("1 {method}"))
        .with("Contact", format!("<sip:1001@{from}>"))
}

#[test]
fn a_call_is_told_from_attempt_to_end_with_codecs_quality_and_both_call_ids() {
    let mut world = World::new(400);
    let (trunk, pbx) = answered_call(&mut world);
    world.run(seconds(2));
    hang_up(&mut world, pbx, 0);
    world.run(seconds(5));
    let [attempt] = world.attempts.as_slice() else {
        panic!("{:?}", world.attempts)
    };
    assert_eq!((attempt.legs.len(), attempt.status), (1, 0));
    assert_eq!(attempt.answered_unix_ms, None);
    let phases: Vec<CallPhase> = world.records.iter().map(|record| record.phase).collect();
    assert_eq!(phases, [CallPhase::Start, CallPhase::End]);
    let end = world.end_record().clone();
    assert_eq!(end.ended_by, "callee");
    let (invited, answered) = (end.invited_unix_ms, end.answered_unix_ms.unwrap());
    assert_eq!(attempt.invited_unix_ms, invited);
    assert!(invited < answered && answered + 1_900 < end.ended_unix_ms.unwrap());
    let call_ids = [trunk, pbx].map(|at| dialog(&mut world, at).call_id);
    for (leg, call_id) in end.legs.iter().zip(&call_ids) {
        assert_eq!(&leg.call_id, call_id);
        assert!(leg.codecs.starts_with("PCMA/8000"), "{}", leg.codecs);
    }
    assert_eq!(world.start_record().legs[1].codecs, end.legs[1].codecs);
}

#[test]
fn the_record_has_the_reason_that_whoever_hung_up_gave() {
    let mut hand = Hand::new(401);
    let (_, ok) = hand.talk(&[], &[]);
    let reason = "Q.850;cause=16;text=\"Clearing\", SIP;cause=200";
    hand.request(CALLER, &ok, "BYE", &[("Reason", reason)], None);
    hand.world.run(seconds(5));
    let record = hand.world.end_record();
    assert_eq!(
        (record.ended_by.as_str(), record.reason.as_str()),
        ("caller", reason)
    );
}

#[test]
fn registrations_come_and_go_under_the_names_that_operators_know() {
    let mut world = World::new(402);
    pbx(&mut world);
    let alice = registered_alice(&mut world);
    let new: Vec<_> = world.events_of("reg-new").cloned().collect();
    let [fields] = new.as_slice() else {
        panic!("{:?}", world.events)
    };
    assert_eq!(value(fields, "user"), "1001");
    assert_eq!(value(fields, "remote"), "198.51.100.10:5060");
    assert_eq!(value(fields, "zone"), "external");
    world.run(seconds(10));
    world.act(alice, |agent, now, gateway| agent.register(now, gateway, 0));
    world.run(seconds(3));
    let gone: Vec<_> = world.events_of("reg-del").cloned().collect();
    assert_eq!(gone.len(), 1);
    assert_eq!(value(&gone[0], "reason"), "unregistered");
}

#[test]
fn a_wrong_password_is_told_with_name_and_source_and_without_the_password() {
    let mut world = World::new(403);
    pbx(&mut world);
    let alice = alice(&mut world);
    let wrong = request("REGISTER", alice, 1).with(
        "Authorization",
        "Digest username=\"1001\", realm=\"lab.test\", nonce=\"N0nce42\", uri=\"sip:lab.test\", \
         response=\"5ecre75ecre75ecre75ecre75ecre75e\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"",
    );
    world.datagram(alice, &wrong.bytes());
    world.run(seconds(3));
    let failed: Vec<_> = world.events_of("auth-failed").cloned().collect();
    let [fields] = failed.as_slice() else {
        panic!("{:?}", world.events)
    };
    assert_eq!(value(fields, "user"), "1001");
    assert_eq!(value(fields, "remote"), "198.51.100.10:5060");
    assert!(!format!("{:?} {:?}", world.events, world.log).contains("5ecre7"));
}

#[test]
fn a_scanner_is_dropped_with_its_reason_and_a_flood_of_it_is_counted() {
    let mut world = World::new(404);
    pbx(&mut world);
    let scanner: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    for number in 0..300 {
        let probe = request("OPTIONS", scanner, number).with("User-Agent", "friendly-scanner");
        world.datagram(scanner, &probe.bytes());
        world.run(millis(1));
    }
    let written: Vec<_> = world.events_of("drop").cloned().collect();
    assert!((20..=30).contains(&written.len()), "{}", written.len());
    assert!(
        written
            .iter()
            .all(|fields| value(fields, "reason") == "scanner")
    );
    // The flood is over: how many were left out is told, and the metrics had them all.
    world.run(seconds(30));
    let told: usize = world
        .events_of("drop")
        .map(|fields| match value(fields, "suppressed") {
            "" => 1,
            // The summary is none itself.
            count if value(fields, "remote").is_empty() => count.parse::<usize>().unwrap(),
            count => count.parse::<usize>().unwrap() + 1,
        })
        .sum();
    assert_eq!(told, 300);
    let counters = world.core.counters();
    let drops = "events_total{event=\"drop\",reason=\"scanner\"}".to_owned();
    assert!(counters.contains(&(drops, 300)), "{counters:?}");
}

#[test]
fn a_flood_costs_the_calls_of_others_no_record() {
    let mut world = World::new(405);
    let scanner: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    for number in 0..200 {
        let probe = request("OPTIONS", scanner, number).with("User-Agent", "friendly-scanner");
        world.datagram(scanner, &probe.bytes());
    }
    let (_, pbx) = answered_call(&mut world);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(3));
    assert_eq!((world.attempts.len(), world.records.len()), (1, 2));
}

#[test]
fn a_limit_names_whose_it_is_and_the_refused_call_is_told_too() {
    let mut settings = settings();
    settings.trunks[0].registration = None;
    settings.trunks[0].policy.caps.calls = Some(1);
    let mut world = World::with(406, settings);
    let (trunk, _) = answered_call(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001,,987654@198.51.100.1")
    });
    world.run(seconds(3));
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    let limits: Vec<_> = world.events_of("limit").cloned().collect();
    let [limit] = limits.as_slice() else {
        panic!("{:?}", world.events)
    };
    assert_eq!(
        (value(limit, "reason"), value(limit, "of")),
        ("calls", "trunk")
    );
    assert_eq!(value(limit, "name"), "trunk1");
    let refused: Vec<_> = world.events_of("call-refused").cloned().collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(value(&refused[1], "reason"), "limit");
    assert_eq!(value(&refused[1], "status"), "503");
    assert_eq!(value(&refused[1], "calling"), "+491701234567");
    // What was dialled behind a number is nobody's business.
    assert_eq!(value(&refused[0], "called"), "+49305551001,[hidden]");
    assert!(!format!("{:?} {:?}", world.events, world.log).contains("987654"));
    // Each has its ladder, under a number that no call has.
    for one in &refused {
        let id: u64 = value(one, "id").parse().unwrap();
        let (steps, more) = world.core.ladder(id, 0).expect("a ladder");
        let texts: Vec<&str> = steps.iter().map(|step| step.text.as_str()).collect();
        assert!(!more && texts[0].starts_with("INVITE "), "{texts:?}");
        let decided = texts.iter().position(|text| text.starts_with("refused: "));
        let answered = texts.iter().position(|text| text.starts_with("SIP/2.0 "));
        assert!(decided.is_some() && answered.is_some(), "{texts:?}");
        assert!(world.attempts.iter().all(|record| record.id != id));
    }
    assert_ne!(value(&refused[0], "id"), value(&refused[1], "id"));
}

#[test]
fn a_call_that_goes_on_is_recorded_every_minute_until_it_ends() {
    let mut world = World::new(710);
    pbx(&mut world);
    let trunk = trunk1(&mut world);
    for _ in 0..3 {
        world.act(trunk, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
        });
    }
    world.run(seconds(200));
    assert_eq!(state(&mut world, trunk, 2), State::Talking);
    let of = |world: &World, id| -> Vec<u64> {
        let records = world.interims.iter().filter(|record| record.id == id);
        records.map(|record| record.duration_ms.unwrap()).collect()
    };
    let ids: std::collections::BTreeSet<u64> =
        world.interims.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 3);
    let mut firsts = std::collections::BTreeSet::new();
    for id in ids {
        let told = of(&world, id);
        assert!((3..=4).contains(&told.len()), "{told:?}");
        assert!((30_000..=60_000).contains(&told[0]), "{told:?}");
        assert!(
            told.windows(2).all(|pair| pair[1] - pair[0] == 60_000),
            "{told:?}"
        );
        firsts.insert(told[0]);
    }
    assert!(firsts.len() > 1, "not all at once: {firsts:?}");
    for call in 0..3 {
        hang_up(&mut world, trunk, call);
    }
    world.run(seconds(1));
    let before = world.interims.len();
    world.run(seconds(200));
    assert_eq!(world.interims.len(), before, "none after the end");
    assert_tidy(&mut world);
}
