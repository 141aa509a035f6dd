//! Requests beside calls whose target is silent or refuses: the next one is asked, as for a call. RFC 3263 §4.3.

use broker_proto::policy::{EventPackage, Party, Policy};

use super::{letters::*, *};
use crate::testing::{Message, settings};

/// The second address of the registrar, silent like the first.
fn second(world: &mut World) -> SocketAddr {
    let script = Script {
        alive: false,
        ..Script::default()
    };
    world.add("[2001:db8:1::10]:5060", "pbx", script)
}

fn message(alice: SocketAddr, number: u32) -> Message {
    request("MESSAGE", "sip:1002@lab.test", alice, "1001", number).with_body("text/plain", "hello")
}

fn subscribe(alice: SocketAddr, number: u32) -> Message {
    request("SUBSCRIBE", "sip:1001@lab.test", alice, "1001", number)
        .with("Contact", format!("<sip:1001@{alice}>"))
        .with("Event", "message-summary")
        .with("Expires", "600")
}

#[test]
fn a_message_to_a_silent_target_goes_to_the_next() {
    let mut world = World::new(4_100);
    let (alice, pbx) = silent_pair(&mut world);
    let second = second(&mut world);
    send(&mut world, alice, &message(alice, 1));
    assert_eq!(last(&mut world, pbx).method(), Some("MESSAGE"));
    assert_eq!(got(&mut world, second), 0);
    world.run(seconds(6));
    let again = last(&mut world, second);
    assert_eq!(again.method(), Some("MESSAGE"));
    assert_eq!(again.body, "hello");
    assert_ne!(again.need("Call-ID"), last(&mut world, pbx).need("Call-ID"));
    answer(&mut world, second, 200);
    assert_eq!(last(&mut world, alice).status(), Some(200));
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn nobody_answers_a_message_and_its_sender_hears_so_before_it_gives_up() {
    let mut world = World::new(4_101);
    let (alice, _) = silent_pair(&mut world);
    second(&mut world);
    send(&mut world, alice, &message(alice, 1));
    world.run(seconds(31));
    assert_eq!(last(&mut world, alice).status(), Some(504));
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_subscription_at_a_silent_notifier_is_made_at_the_next() {
    let mut world = World::new(4_102);
    let (alice, pbx) = silent_pair(&mut world);
    let second = second(&mut world);
    send(&mut world, alice, &subscribe(alice, 1));
    let first = last(&mut world, pbx);
    world.run(seconds(6));
    let inner = last(&mut world, second);
    assert_eq!(inner.method(), Some("SUBSCRIBE"));
    assert_ne!(inner.need("Call-ID"), first.need("Call-ID"));
    // The first one speaks too late: it has no subscription any more.
    let late = in_dialog("NOTIFY", pbx, &first, 1)
        .with("Contact", format!("<sip:secret@{pbx}>"))
        .with("Event", "message-summary")
        .with("Subscription-State", "active;expires=600");
    send(&mut world, pbx, &late);
    assert_eq!(last(&mut world, pbx).status(), Some(481));
    let accepted = response(&inner, 200)
        .with("Expires", "300")
        .with("Contact", format!("<sip:secret@{second}>"));
    send(&mut world, second, &accepted);
    let outer = last(&mut world, alice);
    assert_eq!(outer.status(), Some(200));
    // The second one's refresh goes where the subscription is.
    let refresh = in_dialog("SUBSCRIBE", alice, &outer, 2)
        .with("Contact", format!("<sip:1001@{alice}>"))
        .with("Event", "message-summary")
        .with("Expires", "0");
    send(&mut world, alice, &refresh);
    assert_eq!(last(&mut world, second).need("Expires"), "0");
    let ended = response(&last(&mut world, second), 200).with("Expires", "0");
    send(&mut world, second, &ended);
    assert_eq!(world.gauge("subscriptions"), 1);
    world.run(seconds(60));
    assert_eq!(world.gauge("subscriptions"), 0);
    assert_tidy(&mut world);
}

/// A phone may send messages to both carriers, and subscribe there.
fn open_to_carriers() -> World {
    let mut opened = settings();
    for trunk in &mut opened.trunks {
        trunk.registration = None;
        trunk.addresses.truncate(1);
    }
    opened.policies.push(Policy {
        name: "p".into(),
        parties: vec![Party::Trunk("trunk1".into()), Party::Trunk("trunk2".into())],
        message_octets: Some(1_300),
        events: Some(vec![EventPackage::Presence]),
        ..Policy::default()
    });
    World::with(4_110, opened)
}

#[test]
fn a_carrier_that_refuses_with_5xx_is_followed_by_the_next_one() {
    let mut world = open_to_carriers();
    let silent = || Script {
        alive: false,
        ..Script::default()
    };
    let pbx = world.add("192.0.2.10:5060", "pbx", silent());
    let one = world.add("198.51.100.20:5060", "one", silent());
    let two = world.add("198.51.100.21:5060", "two", silent());
    let asked = request("MESSAGE", "sip:+49301234567@192.0.2.1", pbx, "1001", 1)
        .with_body("text/plain", "hello");
    send(&mut world, pbx, &asked);
    answer(&mut world, one, 503);
    assert_eq!(last(&mut world, two).body, "hello");
    answer(&mut world, two, 200);
    assert_eq!(last(&mut world, pbx).status(), Some(200));

    let asked = request("SUBSCRIBE", "sip:+49301234567@192.0.2.1", pbx, "1001", 2)
        .with("Contact", format!("<sip:1001@{pbx}>"))
        .with("Event", "presence");
    send(&mut world, pbx, &asked);
    answer(&mut world, one, 500);
    assert_eq!(last(&mut world, two).method(), Some("SUBSCRIBE"));
    // What is no failure of the place itself is the answer.
    answer(&mut world, two, 404);
    assert_eq!(last(&mut world, pbx).status(), Some(404));
    assert_eq!(world.gauge("subscriptions"), 0);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_notify_of_no_subscription_is_481() {
    let mut world = World::new(4_103);
    let (alice, pbx) = silent_pair(&mut world);
    send(&mut world, alice, &subscribe(alice, 1));
    let inner = last(&mut world, pbx);
    answer(&mut world, pbx, 404);
    let notify = in_dialog("NOTIFY", pbx, &inner, 1)
        .with("Contact", format!("<sip:secret@{pbx}>"))
        .with("Event", "message-summary")
        .with("Subscription-State", "active;expires=600");
    send(&mut world, pbx, &notify);
    assert_eq!(last(&mut world, pbx).status(), Some(481));
    assert_eq!(last(&mut world, alice).status(), Some(404));
}

#[test]
fn a_registrar_that_refuses_by_one_of_its_addresses_is_not_asked_by_the_other() {
    let mut world = World::new(4_104);
    let (alice, pbx) = silent_pair(&mut world);
    let second = second(&mut world);
    send(&mut world, alice, &message(alice, 1));
    answer(&mut world, pbx, 503);
    assert_eq!(got(&mut world, second), 0);
    assert_eq!(last(&mut world, alice).status(), Some(503));
}
