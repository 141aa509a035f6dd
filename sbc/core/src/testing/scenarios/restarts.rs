//! The process dies and another takes its place: registrations go on.

use broker_proto::{binding::KeptBinding, settings::Transport};

use super::{
    refreshes::{Phone, seen},
    *,
};
use crate::{ConnectionId, Input, testing::EXTERNAL, testing::settings as house};

/// The settings of [`World::new`].
fn settings() -> broker_proto::settings::Settings {
    let mut settings = house();
    let trunks = settings.trunks.iter_mut();
    trunks.for_each(|trunk| trunk.registration = None);
    settings
}

/// What was left with the firewall: the only one.
fn kept(world: &mut World) -> &mut KeptBinding {
    let mut all = world.kept.values_mut();
    &mut all.next().expect("a binding that was left").0
}

fn not_taken_up(world: &World, reason: &str) -> u64 {
    let name = format!("registrations_not_taken_up_total{{reason=\"{reason}\"}}");
    let counters = world.core.counters();
    let mut counters = counters.into_iter();
    counters
        .find(|(have, _)| have.ends_with(&name))
        .map_or(0, |(_, count)| count)
}

#[test]
fn the_pbx_reaches_a_phone_that_has_not_registered_since_the_restart() {
    let mut world = World::new(700);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.run(seconds(1));
    let bound = world.agent(pbx).bindings["1001"].clone();
    world.restart(settings());
    assert_eq!(world.gauge("bindings"), 1);
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    hang_up(&mut world, alice, 0);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_phone_calls_after_the_restart_as_one_that_is_registered() {
    let mut world = World::new(701);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.run(seconds(1));
    world.restart(settings());
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(4));
    assert_eq!(state(&mut world, alice, 0), State::Talking);
    assert_eq!(state(&mut world, pbx, 0), State::Talking);
}

#[test]
fn a_phone_registers_again_under_the_name_that_the_pbx_has_for_it() {
    let mut world = World::new(702);
    let pbx = pbx(&mut world);
    let alice = registered_alice(&mut world);
    world.run(seconds(1));
    let before = world.agent(pbx).bindings["1001"].clone();
    world.restart(settings());
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(2));
    assert_eq!(world.agent(pbx).bindings["1001"], before);
    assert_eq!(world.gauge("bindings"), 1);
    // And goes: nothing is left for a third life.
    world.act(alice, |agent, now, gateway| agent.register(now, gateway, 0));
    world.run(seconds(2));
    assert_eq!((world.gauge("bindings"), world.kept.len()), (0, 0));
}

#[test]
fn many_bindings_come_back_page_by_page_and_leave_in_few_messages() {
    let mut world = World::new(703);
    let pbx = pbx(&mut world);
    let accounts = (0..60).map(|number| (2000 + number).to_string());
    world.agent(pbx).script.accounts = accounts.clone().collect();
    for (host, account) in (100..).zip(accounts) {
        let phone = world.add(
            &format!("198.51.100.{host}:5060"),
            &account,
            Script::default(),
        );
        world.act(phone, |agent, now, gateway| {
            agent.register(now, gateway, 3600)
        });
    }
    world.run(seconds(5));
    assert_eq!((world.gauge("bindings"), world.kept.len()), (60, 60));
    assert!(world.handed_over < 20, "{} messages", world.handed_over);
    world.restart(settings());
    world.run(seconds(1));
    assert_eq!(world.gauge("bindings"), 60);
}

#[test]
fn a_refresh_that_is_answered_from_here_costs_the_firewall_no_message() {
    let mut world = World::new(704);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    world.run(seconds(1));
    let before = world.handed_over;
    for _ in 0..5 {
        phone.credentials.as_mut().unwrap().1 += 1;
        assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
        world.run(seconds(60));
    }
    assert_eq!(seen(&mut world, pbx).len(), 2);
    assert_eq!(world.handed_over, before);
    // The next life knows it by the registrar's time, and waits for it no longer than it was told.
    world.restart(settings());
    assert_eq!(world.gauge("bindings"), 1);
    world.run(seconds(121));
    assert_eq!(world.gauge("bindings"), 0);
}

#[test]
fn a_phone_on_a_connection_is_waited_for_and_the_pbx_told_480() {
    let mut world = World::new(705);
    let pbx = pbx(&mut world);
    registered_alice(&mut world);
    world.run(seconds(1));
    let bound = world.agent(pbx).bindings["1001"].clone();
    let one = kept(&mut world);
    one.transport = Transport::Tcp;
    one.contact = "sip:1001@198.51.100.10:40000;transport=tcp".to_owned();
    one.outbound = Some(("<urn:uuid:1>".to_owned(), 1));
    world.restart(settings());
    assert_eq!(world.gauge("bindings"), 1);
    let datagrams = world.wire.len();
    let call = world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(2));
    assert_eq!(state(&mut world, pbx, call), State::Failed(480));
    let to_phone = |wire: &&crate::testing::Wire| wire.from_core && wire.zone == EXTERNAL;
    assert_eq!(world.wire[datagrams..].iter().filter(to_phone).count(), 0);
    // It comes back by another connection and port: it is the same to the PBX.
    let connection = ConnectionId(9);
    world.agent(pbx).script.challenge = false;
    world.input(Input::StreamOpened {
        connection,
        zone: EXTERNAL,
        transport: Transport::Tcp,
        local: "198.51.100.1:5060".parse().unwrap(),
        peer: "198.51.100.10:41111".parse().unwrap(),
    });
    let register = "REGISTER sip:lab.test SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.10:41111;branch=z9hG4bKr1\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1001@lab.test>;tag=1\r\nTo: <sip:1001@lab.test>\r\nCall-ID: new\r\n\
         CSeq: 1 REGISTER\r\nSupported: outbound\r\n\
         Contact: <sip:1001@198.51.100.10:41111;transport=tcp>;+sip.instance=\"<urn:uuid:1>\";reg-id=1\r\n\
         Authorization: Digest username=\"1001\", realm=\"lab.test\", nonce=\"N0nce42\", uri=\"sip:lab.test\", \
         response=\"good\"\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n";
    world.input(Input::Stream {
        connection,
        bytes: register.as_bytes(),
    });
    world.run(seconds(1));
    assert_eq!(world.agent(pbx).bindings["1001"], bound);
    assert_eq!(world.gauge("bindings"), 1);
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(1));
    let by_stream = world
        .wire
        .iter()
        .filter(|wire| wire.peer.ip().is_unspecified());
    let invited = by_stream
        .filter(|wire| {
            wire.bytes
                .starts_with(b"INVITE sip:1001@198.51.100.10:41111")
        })
        .count();
    assert_eq!(invited, 1);
}

#[test]
fn what_was_left_is_believed_as_little_as_a_stranger() {
    type Forge = fn(&mut KeptBinding);
    let forged: [(&str, Forge); 15] = [
        ("zone-gone", |one| {
            one.zone = broker_proto::settings::ZoneId(9)
        }),
        ("listener-gone", |one| one.local.set_port(5070)),
        ("listener-gone", |one| one.transport = Transport::Wss),
        ("listener-gone", |one| {
            one.local.set_ip([198, 51, 100, 2].into())
        }),
        ("address", |one| one.peer.set_ip([198, 51, 100, 1].into())),
        ("address", |one| one.peer.set_ip([198, 51, 100, 20].into())),
        ("address", |one| one.peer.set_ip([127, 0, 0, 1].into())),
        ("address", |one| one.peer.set_port(0)),
        ("times", |one| one.granted = 1_000_000),
        ("times", |one| one.told = one.granted + 1),
        ("text", |one| one.user = String::new()),
        ("text", |one| one.user = "1001\r\nX: y".to_owned()),
        ("contact", |one| one.contact = "tel:+491".to_owned()),
        ("contact", |one| one.contact = "sip:1@h>\r\nX: y".to_owned()),
        ("path", |one| {
            one.path = vec!["<sip:a.test;lr>".to_owned(); 5]
        }),
    ];
    for (reason, forge) in forged {
        let mut world = World::new(706);
        pbx(&mut world);
        registered_alice(&mut world);
        world.run(seconds(1));
        forge(kept(&mut world));
        world.restart(settings());
        assert_eq!(world.gauge("bindings"), 0, "{reason}");
        assert_eq!(not_taken_up(&world, reason), 1, "{reason}");
        // Nor is it kept.
        world.run(seconds(1));
        assert_eq!(world.kept.len(), 0, "{reason}");
    }
}

#[test]
fn a_binding_that_was_left_ends_with_its_time() {
    let mut world = World::new(707);
    pbx(&mut world);
    registered_alice(&mut world);
    world.run(seconds(3000));
    world.restart(settings());
    assert_eq!(world.gauge("bindings"), 1);
    world.run(seconds(605));
    assert_eq!(world.gauge("bindings"), 0);
    world.restart(settings());
    assert_eq!(world.gauge("bindings"), 0);
}

#[test]
fn a_new_firewall_gets_all_bindings_again() {
    let mut world = World::new(708);
    pbx(&mut world);
    registered_alice(&mut world);
    world.run(seconds(1));
    world.kept.clear();
    world.input(Input::BrokerLost);
    world.run(seconds(1));
    assert_eq!(world.kept.len(), 0);
    world.input(Input::Settings(Box::new(settings())));
    world.run(seconds(1));
    assert_eq!(world.kept.len(), 1);
}

#[test]
fn a_refresh_after_a_restart_is_the_registrars_to_judge() {
    let mut world = World::new(709);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    world.run(seconds(1));
    world.restart(settings());
    let credentials = phone.credentials.take();
    // Whoever knows the Call-ID: he is challenged, and the binding does not last longer for it.
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(401));
    phone.credentials = credentials;
    phone.credentials.as_mut().unwrap().1 += 1;
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
    assert_eq!(seen(&mut world, pbx).len(), 4);
    // From then on it refreshes here.
    phone.credentials.as_mut().unwrap().1 += 1;
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
    assert_eq!(seen(&mut world, pbx).len(), 4);
}
