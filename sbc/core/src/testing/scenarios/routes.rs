//! The dial plan at work: numbers in each carrier's form, tel URIs, hours, failover by code, carriers that die and live.

use broker_proto::settings::{
    Health, NumberForm, Numbering, RouteAction, Schedule, Settings, TimeZone, Trunk, TrunkChoice,
};

use super::*;
use crate::{Input, testing::settings};

const CALLED: &str = "sip:+49301234567@192.0.2.1";

fn berlin(form: NumberForm) -> Numbering {
    Numbering {
        country: "49".into(),
        area: "30".into(),
        international_prefix: "00".into(),
        national_prefix: "0".into(),
        local_digits: (6, 9),
        form,
    }
}

fn quiet(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    for trunk in &mut settings.trunks {
        trunk.registration = None;
        // One address each, so that a dead carrier is dead at once.
        trunk.addresses.truncate(1);
    }
    change(&mut settings);
    settings
}

fn trunk2(world: &mut World) -> SocketAddr {
    let script = Script {
        password: false,
        ..Script::default()
    };
    world.add("198.51.100.21:5060", "+49888", script)
}

fn call(world: &mut World, pbx: SocketAddr, uri: &str) -> usize {
    let index = world.act(pbx, |agent, now, gateway| agent.invite(now, gateway, uri));
    world.run(seconds(3));
    index
}

fn watched(trunk: &mut Trunk) {
    trunk.policy.health = Some(Health {
        interval_seconds: 30,
        down_after: 2,
        up_after: 2,
        retry_seconds_max: 240,
    });
}

fn asked(world: &mut World, at: SocketAddr) -> usize {
    let inbox = &world.agent(at).inbox;
    inbox
        .iter()
        .filter(|message| message.method() == Some("OPTIONS"))
        .count()
}

fn logged(world: &World, code: &str) -> usize {
    world.log.iter().filter(|(have, _)| *have == code).count()
}

#[test]
fn each_carrier_gets_numbers_in_its_own_form_and_the_pbx_normal_ones() {
    let settings = quiet(|settings| {
        settings.zones[1].policy.numbering = Some(berlin(NumberForm::Unchanged));
        settings.trunks[0].policy.numbering = Some(berlin(NumberForm::National));
    });
    let mut world = World::with(300, settings);
    let trunk = trunk1(&mut world);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    world.agent(pbx).user = "0301001000".into();
    let out = call(&mut world, pbx, "sip:(030)123-4567@192.0.2.1");
    assert_eq!(state(&mut world, pbx, out), State::Talking);
    let invite = world.agent(trunk).inbox[0].clone();
    assert_eq!(invite.uri(), "sip:0301234567@198.51.100.20");
    assert!(
        invite.need("From").contains("<sip:0301001000@"),
        "{}",
        invite.need("From")
    );
    // And back: what the carrier writes nationally is a direct dial.
    let inward = call(&mut world, trunk, "sip:0305551001@198.51.100.1");
    assert_eq!(state(&mut world, trunk, inward), State::Talking);
}

#[test]
fn a_number_is_called_by_its_tel_uri_and_its_context() {
    let mut world = World::with(
        301,
        quiet(|settings| {
            settings.zones[1].policy.numbering = Some(berlin(NumberForm::Unchanged));
        }),
    );
    let trunk = trunk1(&mut world);
    let pbx = pbx(&mut world);
    for uri in [
        "tel:+49-30-1234567",
        "tel:1234567;phone-context=+4930",
        "tel:030-1234567;phone-context=lab.test",
        "sip:1234567;phone-context=+4930@192.0.2.1",
    ] {
        let index = call(&mut world, pbx, uri);
        assert_eq!(state(&mut world, pbx, index), State::Talking, "{uri}");
        let inbox = &world.agent(trunk).inbox;
        let invite = inbox
            .iter()
            .rfind(|message| message.method() == Some("INVITE"));
        assert_eq!(
            invite.unwrap().uri(),
            "sip:+49301234567@198.51.100.20",
            "{uri}"
        );
    }
    let strange = call(&mut world, pbx, "tel:1234567;phone-context=evil.example");
    assert_eq!(state(&mut world, pbx, strange), State::Failed(404));
}

#[test]
fn a_configured_code_leads_to_the_next_trunk_and_a_decline_never_does() {
    let settings = quiet(|settings| {
        settings.routes.last_mut().unwrap().conditions.failover = vec![404];
    });
    let mut world = World::with(302, settings);
    let first = trunk1(&mut world);
    let second = trunk2(&mut world);
    let pbx = pbx(&mut world);
    world.agent(first).script.answer = Some((millis(50), 404));
    let index = call(&mut world, pbx, CALLED);
    assert_eq!(state(&mut world, pbx, index), State::Talking);
    let taken = world.agent(second).dialogs.len();
    for status in [403, 486, 600, 603] {
        world.agent(first).script.answer = Some((millis(50), status));
        let index = call(&mut world, pbx, CALLED);
        assert_eq!(state(&mut world, pbx, index), State::Failed(status));
    }
    assert_eq!(world.agent(second).dialogs.len(), taken);
}

#[test]
fn a_route_has_its_hours_by_the_wall_clock() {
    let settings = quiet(|settings| {
        let route = settings.routes.last_mut().unwrap();
        route.conditions.when = Some(Schedule {
            days: 0b001_1111,
            hours: vec![(8 * 60, 18 * 60 - 1)],
            zone: TimeZone::EuropeanSummer(60),
        });
    });
    let mut world = World::with(303, settings);
    trunk1(&mut world);
    let pbx = pbx(&mut world);
    // Tuesday 2026-11-24 and Saturday 2026-11-28, 09:00 UTC.
    let tuesday = 1_795_510_800_000;
    for (unix_ms, state_then) in [
        (tuesday, State::Talking),
        (tuesday + 4 * 86_400_000, State::Failed(404)),
        (tuesday + 9 * 3_600_000, State::Failed(404)),
    ] {
        world.input(Input::WallClock { unix_ms });
        let index = call(&mut world, pbx, CALLED);
        assert_eq!(state(&mut world, pbx, index), state_then, "{unix_ms}");
    }
    // The clock goes on by itself.
    world.input(Input::WallClock {
        unix_ms: tuesday - 3_600_000 - 60_000,
    });
    world.run(seconds(55));
    let early = call(&mut world, pbx, CALLED);
    assert_eq!(state(&mut world, pbx, early), State::Talking);
}

#[test]
fn a_dead_carrier_is_left_out_and_comes_back() {
    let settings = quiet(|settings| settings.trunks.iter_mut().for_each(watched));
    let mut world = World::with(304, settings);
    let first = trunk1(&mut world);
    let second = trunk2(&mut world);
    let pbx = pbx(&mut world);
    world.run(seconds(31));
    assert!(asked(&mut world, first) >= 1 && asked(&mut world, second) >= 1);
    world.agent(first).script.alive = false;
    world.run(seconds(60));
    assert_eq!(logged(&world, "peer-down"), 1);
    // No patience is needed any more.
    let index = call(&mut world, pbx, CALLED);
    assert_eq!(state(&mut world, pbx, index), State::Talking);
    assert_eq!(state(&mut world, second, 0), State::Talking);
    let up = |world: &World, host: &str| {
        let counters = world.core.counters();
        let found = counters
            .iter()
            .find(|(name, _)| name.starts_with("sbc_trunk_up") && name.contains(host));
        found.map(|(_, value)| *value)
    };
    assert_eq!((up(&world, ".20:"), up(&world, ".21:")), (Some(0), Some(1)));
    world.agent(first).script.alive = true;
    world.run(seconds(300));
    assert_eq!(logged(&world, "peer-up"), 1);
    let before = world.agent(first).dialogs.len();
    let index = call(&mut world, pbx, CALLED);
    assert_eq!(state(&mut world, pbx, index), State::Talking);
    assert_eq!(world.agent(first).dialogs.len(), before + 1);
}

#[test]
fn carriers_that_are_all_dead_refuse_at_once_or_leave_it_to_the_next_route() {
    let mut settings = quiet(|settings| settings.trunks.iter_mut().for_each(watched));
    let mut last = settings.routes.last().unwrap().clone();
    last.name = "closed".into();
    last.action = RouteAction::Refuse(480);
    settings.routes.push(last);
    let mut world = World::with(305, settings.clone());
    let pbx = pbx(&mut world);
    world.run(seconds(60));
    let index = call(&mut world, pbx, CALLED);
    assert_eq!(state(&mut world, pbx, index), State::Failed(503));
    let place = settings.routes.len() - 2;
    settings.routes[place].conditions.next_if_unavailable = true;
    world.input(Input::Settings(Box::new(settings)));
    let index = call(&mut world, pbx, CALLED);
    assert_eq!(state(&mut world, pbx, index), State::Failed(480));
}

#[test]
fn a_dead_carrier_is_asked_whether_it_lives_ever_less_often() {
    let settings = quiet(|settings| watched(&mut settings.trunks[0]));
    let mut world = World::with(306, settings);
    world.run(seconds(600));
    let before = world.wire.iter().filter(|wire| wire.from_core).count();
    world.run(seconds(2400));
    let sent = world.wire.iter().filter(|wire| wire.from_core).count() - before;
    // Every 245 s, with four datagrams in the five seconds that an answer may take.
    assert!((30..=45).contains(&sent), "{sent} datagrams in 40 minutes");
}

#[test]
fn silence_on_a_call_makes_us_ask_at_once() {
    let settings = quiet(|settings| watched(&mut settings.trunks[0]));
    let mut world = World::with(307, settings);
    let first = trunk1(&mut world);
    let second = trunk2(&mut world);
    let pbx = pbx(&mut world);
    world.run(seconds(5));
    world.agent(first).script.alive = false;
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, CALLED)
    });
    // Five seconds of patience, then two questions of five seconds each.
    world.run(seconds(22));
    assert_eq!(state(&mut world, second, 0), State::Talking);
    assert_eq!(logged(&world, "peer-down"), 1);
}

#[test]
fn weights_share_calls_by_the_cores_own_seed() {
    let settings = quiet(|settings| {
        settings.limits.call_rate = 1_000;
        let choice = |name: &str, weight| TrunkChoice {
            name: name.into(),
            priority: 1,
            weight,
            below: None,
        };
        settings.routes.last_mut().unwrap().action =
            RouteAction::Trunks(vec![choice("trunk1", 70), choice("trunk2", 30)]);
    });
    let mut world = World::with(308, settings);
    let (first, second) = (trunk1(&mut world), trunk2(&mut world));
    for trunk in [first, second] {
        world.agent(trunk).script.answer = Some((millis(20), 486));
    }
    let pbx = pbx(&mut world);
    for _ in 0..200 {
        world.act(pbx, |agent, now, gateway| {
            agent.invite(now, gateway, CALLED)
        });
        world.run(millis(100));
    }
    let shares = [first, second].map(|trunk| world.agent(trunk).dialogs.len());
    assert_eq!(shares[0] + shares[1], 200);
    assert!((120..=160).contains(&shares[0]), "{shares:?}");
}
