//! Subscriptions, messages and publications between a registered phone, the PBX and a carrier.

use broker_proto::policy::{EventPackage, InfoKind, Party, Policy};

use super::{letters::*, *};
use crate::testing::{EXTERNAL, INTERNAL, Message, settings};

const SUMMARY: &str =
    "Messages-Waiting: yes\r\nMessage-Account: sip:1001@192.0.2.10\r\nVoice-Message: 2/8\r\n";

fn subscribe(alice: SocketAddr, package: &str, expires: u32, number: u32) -> Message {
    request("SUBSCRIBE", "sip:1001@lab.test", alice, "1001", number)
        .with("Contact", format!("<sip:1001@{alice}>"))
        .with("Event", format!("{package};id=secret7"))
        .with("Expires", expires.to_string())
}

fn notify(pbx: SocketAddr, subscribe: &Message, state: &str, number: u32) -> Message {
    in_dialog("NOTIFY", pbx, subscribe, number)
        .with("Contact", format!("<sip:secret@{pbx}>"))
        .with("Event", "message-summary")
        .with("Subscription-State", state)
}

/// Alice's subscription to her messages, accepted for 300 s. Returns both peers, her 200 and the PBX's SUBSCRIBE.
fn subscribed(world: &mut World) -> (SocketAddr, SocketAddr, Message, Message) {
    let (alice, pbx) = silent_pair(world);
    send(world, alice, &subscribe(alice, "message-summary", 600, 1));
    let inner = last(world, pbx);
    let accepted = response(&inner, 200)
        .with("Expires", "300")
        .with("Contact", format!("<sip:secret@{pbx}>"));
    send(world, pbx, &accepted);
    let outer = last(world, alice);
    assert_eq!(outer.status(), Some(200));
    assert_eq!(outer.need("Expires"), "300");
    (alice, pbx, outer, inner)
}

fn assert_hidden(world: &World) {
    for (zone, others) in [
        (INTERNAL, ["198.51.100.10", "SecretPhone"]),
        (EXTERNAL, ["192.0.2.10", "SecretPhone"]),
    ] {
        for text in world.sent_to(zone) {
            for other in others {
                assert!(!text.contains(other), "{other} in {text}");
            }
        }
    }
}

#[test]
fn a_subscription_is_challenged_accepted_refreshed_and_ended() {
    let mut world = World::new(700);
    let (alice, pbx) = silent_pair(&mut world);
    send(
        &mut world,
        alice,
        &subscribe(alice, "message-summary", 600, 1),
    );
    let inner = last(&mut world, pbx);
    assert_eq!(inner.start, "SUBSCRIBE sip:1001@lab.test SIP/2.0");
    assert_eq!(inner.need("Event"), "message-summary");
    assert_eq!(inner.need("Accept"), "application/simple-message-summary");
    assert!(!format!("{inner:?}").contains("secret"), "{inner:?}");
    let challenge = response(&inner, 407).with(
        "Proxy-Authenticate",
        "Digest realm=\"lab.test\", nonce=\"n\"",
    );
    send(&mut world, pbx, &challenge);
    let outer = last(&mut world, alice);
    assert_eq!(outer.status(), Some(407));
    assert!(outer.need("Proxy-Authenticate").contains("lab.test"));
    assert_eq!(world.gauge("subscriptions"), 0);

    let mut world = World::new(701);
    let (alice, pbx, outer, inner) = subscribed(&mut world);
    send(
        &mut world,
        pbx,
        &notify(pbx, &inner, "active;expires=299", 1)
            .with_body("application/simple-message-summary", SUMMARY),
    );
    let told = last(&mut world, alice);
    assert_eq!(told.method(), Some("NOTIFY"));
    assert_eq!(told.need("Event"), "message-summary;id=secret7");
    assert_eq!(told.need("Subscription-State"), "active;expires=299");
    assert_eq!(told.tag("From"), outer.tag("To"));
    assert_eq!(
        told.body,
        "Messages-Waiting: yes\r\nMessage-Account: sip:1001@lab.test\r\nVoice-Message: 2/8\r\n"
    );
    answer(&mut world, alice, 200);
    assert_eq!(last(&mut world, pbx).status(), Some(200));

    let refresh = in_dialog("SUBSCRIBE", alice, &outer, 2)
        .with("Contact", format!("<sip:1001@{alice}>"))
        .with("Event", "message-summary;id=secret7")
        .with("Expires", "600");
    send(&mut world, alice, &refresh);
    let inner_refresh = last(&mut world, pbx);
    assert_eq!(inner_refresh.need("Call-ID"), inner.need("Call-ID"));
    assert_eq!(inner_refresh.cseq(), (2, "SUBSCRIBE".to_owned()));
    send(
        &mut world,
        pbx,
        &response(&inner_refresh, 200).with("Expires", "120"),
    );
    assert_eq!(last(&mut world, alice).need("Expires"), "120");

    let end = in_dialog("SUBSCRIBE", alice, &outer, 3)
        .with("Contact", format!("<sip:1001@{alice}>"))
        .with("Event", "message-summary;id=secret7")
        .with("Expires", "0");
    send(&mut world, alice, &end);
    let inner_end = last(&mut world, pbx);
    assert_eq!(inner_end.need("Expires"), "0");
    send(
        &mut world,
        pbx,
        &response(&inner_end, 200).with("Expires", "0"),
    );
    assert_eq!(last(&mut world, alice).need("Expires"), "0");
    send(
        &mut world,
        pbx,
        &notify(pbx, &inner, "terminated;reason=timeout;secret=1", 2),
    );
    assert_eq!(
        last(&mut world, alice).need("Subscription-State"),
        "terminated;reason=timeout"
    );
    answer(&mut world, alice, 200);
    assert_eq!(world.gauge("subscriptions"), 0);
    assert_hidden(&world);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_notify_before_the_2xx_makes_the_dialog_and_one_of_another_fork_is_refused() {
    let mut world = World::new(702);
    let (alice, pbx) = silent_pair(&mut world);
    send(
        &mut world,
        alice,
        &subscribe(alice, "message-summary", 600, 1),
    );
    let inner = last(&mut world, pbx);
    send(
        &mut world,
        pbx,
        &notify(pbx, &inner, "active;expires=600", 1),
    );
    assert_eq!(last(&mut world, alice).method(), Some("NOTIFY"));
    answer(&mut world, alice, 200);
    let mut other = notify(pbx, &inner, "active;expires=600", 1);
    for (name, value) in &mut other.headers {
        match name.as_str() {
            "From" => *value = value.replace("secretown", "secretfork"),
            "Via" => *value = value.replace("branch=", "branch=z9hG4bKfork"),
            _ => {}
        }
    }
    send(&mut world, pbx, &other);
    assert_eq!(last(&mut world, pbx).status(), Some(481));
    send(
        &mut world,
        pbx,
        &response(&inner, 200)
            .with("Expires", "600")
            .with("Contact", "<sip:x@192.0.2.10>"),
    );
    assert_eq!(last(&mut world, alice).status(), Some(200));
    assert_eq!(world.gauge("subscriptions"), 1);
}

#[test]
fn a_subscription_ends_by_itself_when_nobody_refreshes_it() {
    let mut world = World::new(703);
    let (_, pbx, _, inner) = subscribed(&mut world);
    world.run(seconds(290));
    assert_eq!(world.gauge("subscriptions"), 1);
    world.run(seconds(50));
    assert_eq!(world.gauge("subscriptions"), 0);
    send(&mut world, pbx, &notify(pbx, &inner, "active", 1));
    assert_eq!(last(&mut world, pbx).status(), Some(481));
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_subscriber_that_knows_no_subscription_or_is_gone_ends_it() {
    for (seed, refusal) in [(704, Some(481)), (705, None)] {
        let mut world = World::new(seed);
        let (alice, pbx, _, inner) = subscribed(&mut world);
        send(
            &mut world,
            pbx,
            &notify(pbx, &inner, "active;expires=200", 1),
        );
        match refusal {
            Some(status) => answer(&mut world, alice, status),
            None => world.run(seconds(33)),
        }
        assert_eq!(last(&mut world, pbx).status(), Some(481));
        assert_eq!(world.gauge("subscriptions"), 0);
        world.run(seconds(60));
        assert_tidy(&mut world);
    }
}

#[test]
fn a_state_that_cannot_be_written_anew_is_refused_but_its_end_is_told() {
    let mut world = World::new(706);
    let (alice, pbx, _, inner) = subscribed(&mut world);
    let before = got(&mut world, alice);
    send(
        &mut world,
        pbx,
        &notify(pbx, &inner, "active;expires=200", 1)
            .with_body("text/plain", "Messages-Waiting: yes\r\n"),
    );
    let refused = last(&mut world, pbx);
    assert_eq!(refused.status(), Some(415));
    assert_eq!(refused.need("Accept"), "application/simple-message-summary");
    assert_eq!(got(&mut world, alice), before);
    send(
        &mut world,
        pbx,
        &notify(pbx, &inner, "terminated", 2).with_body("text/plain", "secret"),
    );
    let told = last(&mut world, alice);
    assert_eq!(
        (told.need("Subscription-State"), told.body.as_str()),
        ("terminated", "")
    );
}

#[test]
fn nobody_else_speaks_in_a_subscription() {
    let mut world = World::new(707);
    let (_, _, outer, inner) = subscribed(&mut world);
    let stranger: SocketAddr = "198.51.100.66:5060".parse().unwrap();
    let forged = in_dialog("SUBSCRIBE", stranger, &outer, 9)
        .with("Event", "message-summary;id=secret7")
        .with("Contact", "<sip:1001@198.51.100.66>")
        .with("Expires", "0");
    send(&mut world, stranger, &forged);
    send(
        &mut world,
        stranger,
        &notify(stranger, &inner, "terminated", 9),
    );
    assert_eq!(world.gauge("subscriptions"), 1);
    assert!(
        !world
            .wire
            .iter()
            .any(|wire| wire.from_core && wire.peer == stranger)
    );
}

#[test]
fn events_and_intervals_that_do_not_pass_are_refused_with_what_would() {
    let mut world = World::new(708);
    let (alice, pbx) = silent_pair(&mut world);
    let before = got(&mut world, pbx);
    send(&mut world, alice, &subscribe(alice, "reg", 600, 1));
    let refused = last(&mut world, alice);
    assert_eq!(refused.status(), Some(489));
    assert_eq!(
        refused.need("Allow-Events"),
        "message-summary, presence, dialog, conference"
    );
    send(&mut world, alice, &subscribe(alice, "presence", 30, 2));
    let refused = last(&mut world, alice);
    assert_eq!(
        (refused.status(), refused.need("Min-Expires")),
        (Some(423), "60")
    );
    let trunk = trunk1(&mut world);
    world.agent(trunk).script.alive = false;
    let asked = request("SUBSCRIBE", "sip:+49305551001@lab.test", trunk, "100", 3)
        .with("Event", "presence")
        .with("Contact", format!("<sip:100@{trunk}>"));
    send(&mut world, trunk, &asked);
    assert_eq!(last(&mut world, trunk).status(), Some(489));
    let other = request("SUBSCRIBE", "sip:1002@lab.test", alice, "1002", 4)
        .with("Event", "presence")
        .with("Contact", format!("<sip:1002@{alice}>"));
    send(&mut world, alice, &other);
    assert_eq!(last(&mut world, alice).status(), Some(403));
    assert_eq!(got(&mut world, pbx), before);
}

#[test]
fn at_the_end_subscribers_are_told() {
    let mut world = World::new(709);
    let (alice, pbx, _, _) = subscribed(&mut world);
    world.input(crate::Input::Stop);
    world.run(millis(50));
    let told = last(&mut world, alice);
    assert_eq!(
        told.need("Subscription-State"),
        "terminated;reason=deactivated"
    );
    let left = last(&mut world, pbx);
    assert_eq!(
        (left.method(), left.need("Expires")),
        (Some("SUBSCRIBE"), "0")
    );
    assert_eq!(world.gauge("subscriptions"), 0);
}

#[test]
fn a_message_crosses_as_text_alone() {
    let mut world = World::new(720);
    let (alice, pbx) = silent_pair(&mut world);
    let hello = request("MESSAGE", "sip:1002@lab.test", alice, "1001", 1)
        .with("Subject", "secret")
        .with_body("text/plain;charset=UTF-8", "Grüße, 1002");
    send(&mut world, alice, &hello);
    let inner = last(&mut world, pbx);
    assert_eq!(inner.start, "MESSAGE sip:1002@lab.test SIP/2.0");
    assert_eq!(inner.need("Content-Type"), "text/plain;charset=utf-8");
    assert_eq!(inner.body, "Grüße, 1002");
    assert_eq!((inner.get("Contact"), inner.get("Subject")), (None, None));
    answer(&mut world, pbx, 202);
    assert_eq!(last(&mut world, alice).status(), Some(202));

    let to_alice = token(&mut world, pbx);
    let back = request("MESSAGE", &to_alice, pbx, "1002", 2).with_body("text/plain", "back");
    send(&mut world, pbx, &back);
    let outer = last(&mut world, alice);
    assert_eq!(
        (outer.method(), outer.body.as_str()),
        (Some("MESSAGE"), "back")
    );
    answer(&mut world, alice, 486);
    assert_eq!(last(&mut world, pbx).status(), Some(486));
    assert_hidden(&world);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn messages_too_large_of_another_type_or_of_a_carrier_are_refused() {
    let mut world = World::new(721);
    let (alice, pbx) = silent_pair(&mut world);
    let before = got(&mut world, pbx);
    let mut number = 0;
    let mut status = |world: &mut World, kind: &str, body: &str| {
        number += 1;
        let message =
            request("MESSAGE", "sip:1002@lab.test", alice, "1001", number).with_body(kind, body);
        send(world, alice, &message);
        last(world, alice).status()
    };
    assert_eq!(
        status(&mut world, "text/plain", &"x".repeat(1_301)),
        Some(513)
    );
    assert_eq!(
        status(&mut world, "application/pidf+xml", "<x/>"),
        Some(415)
    );
    assert_eq!(last(&mut world, alice).need("Accept"), "text/plain");
    assert_eq!(
        status(&mut world, "text/plain;charset=latin1", "x"),
        Some(415)
    );
    let trunk = trunk1(&mut world);
    world.agent(trunk).script.alive = false;
    let message = request("MESSAGE", "sip:+49305551001@lab.test", trunk, "100", 9);
    send(&mut world, trunk, &message.with_body("text/plain", "x"));
    let refused = last(&mut world, trunk);
    assert_eq!(refused.status(), Some(405));
    assert!(!refused.need("Allow").contains("PUBLISH"));
    assert_eq!(got(&mut world, pbx), before);
}

#[test]
fn waiting_messages_are_told_unasked_by_the_pbx_alone() {
    let mut world = World::new(722);
    let (alice, pbx) = silent_pair(&mut world);
    let unasked = |from, uri: &str, number| {
        request("NOTIFY", uri, from, "1001", number)
            .with("Event", "message-summary")
            .with("Subscription-State", "active")
            .with_body("application/simple-message-summary", SUMMARY)
    };
    let to_alice = token(&mut world, pbx);
    send(&mut world, pbx, &unasked(pbx, &to_alice, 1));
    let outer = last(&mut world, alice);
    assert_eq!(outer.method(), Some("NOTIFY"));
    assert!(
        outer.body.contains("Message-Account: sip:1001@lab.test"),
        "{}",
        outer.body
    );
    answer(&mut world, alice, 200);
    assert_eq!(last(&mut world, pbx).status(), Some(200));
    let before = got(&mut world, pbx);
    send(&mut world, alice, &unasked(alice, "sip:1001@lab.test", 2));
    assert_eq!(last(&mut world, alice).status(), Some(481));
    assert_eq!(got(&mut world, pbx), before);
}

fn with_policy(parties: Vec<Party>, change: impl Fn(&mut Policy)) -> World {
    let mut settings = settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    let mut policy = Policy {
        name: "p".into(),
        parties,
        ..Policy::default()
    };
    change(&mut policy);
    settings.policies.push(policy);
    World::with(723, settings)
}

#[test]
fn a_publication_needs_a_policy_and_its_entity_tag_stays_on_its_side() {
    const OPEN: &str = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:1001@198.51.100.10\"><tuple \
        id=\"secret\"><status><basic>open</basic></status></tuple></presence>";
    let publish = |alice, number| {
        request("PUBLISH", "sip:1001@lab.test", alice, "1001", number)
            .with("Event", "presence")
            .with("Expires", "600")
    };
    let mut world = World::new(724);
    let (alice, _) = silent_pair(&mut world);
    send(
        &mut world,
        alice,
        &publish(alice, 1).with_body("application/pidf+xml", OPEN),
    );
    assert_eq!(last(&mut world, alice).status(), Some(405));

    let mut world = with_policy(vec![Party::Registrar, Party::Zone(EXTERNAL)], |policy| {
        policy.publish = Some(true);
    });
    let (alice, pbx) = silent_pair(&mut world);
    send(
        &mut world,
        alice,
        &publish(alice, 1).with_body("application/pidf+xml", OPEN),
    );
    let inner = last(&mut world, pbx);
    assert_eq!(
        (inner.method(), inner.need("Event")),
        (Some("PUBLISH"), "presence")
    );
    assert!(inner.body.contains("entity=\"sip:1001@lab.test\"") && !inner.body.contains("secret"));
    let accepted = response(&inner, 200)
        .with("Expires", "500")
        .with("SIP-ETag", "secrettag");
    send(&mut world, pbx, &accepted);
    let outer = last(&mut world, alice);
    let ours = outer.need("SIP-ETag").to_owned();
    assert_eq!(
        (outer.need("Expires"), ours.contains("secret")),
        ("500", false)
    );
    send(
        &mut world,
        alice,
        &publish(alice, 2).with("SIP-If-Match", ours),
    );
    assert_eq!(last(&mut world, pbx).need("SIP-If-Match"), "secrettag");
    let before = got(&mut world, pbx);
    send(
        &mut world,
        alice,
        &publish(alice, 3).with("SIP-If-Match", "unknown"),
    );
    assert_eq!(last(&mut world, alice).status(), Some(412));
    assert_eq!(got(&mut world, pbx), before);
    assert_hidden(&world);
}

#[test]
fn a_policy_opens_an_event_package_to_a_carrier_and_closes_it_to_phones() {
    let mut world = with_policy(vec![Party::Zone(EXTERNAL)], |policy| {
        policy.events = Some(vec![EventPackage::Presence]);
    });
    let (alice, pbx) = silent_pair(&mut world);
    let before = got(&mut world, pbx);
    send(
        &mut world,
        alice,
        &subscribe(alice, "message-summary", 600, 1),
    );
    assert_eq!(last(&mut world, alice).need("Allow-Events"), "presence");
    assert_eq!(got(&mut world, pbx), before);

    let trunk = Party::Trunk("trunk1".into());
    let mut world = with_policy(vec![trunk], |policy| {
        policy.events = Some(vec![EventPackage::Presence]);
    });
    let (_, pbx) = silent_pair(&mut world);
    let trunk = trunk1(&mut world);
    world.agent(trunk).script.alive = false;
    let asked = request("SUBSCRIBE", "sip:+49305551001@lab.test", trunk, "100", 3)
        .with("Event", "presence")
        .with("Contact", format!("<sip:100@{trunk}>"));
    send(&mut world, trunk, &asked);
    assert_eq!(
        last(&mut world, pbx).start,
        "SUBSCRIBE sip:1001@lab.test SIP/2.0"
    );
}

/// A trunk's answered call; both peers are silent from now on. Returns them and a message of the caller's dialog.
fn talking(world: &mut World) -> (SocketAddr, SocketAddr, Message) {
    let (trunk, pbx) = answered_call(world);
    let inbox = &world.agent(trunk).inbox;
    let answered = inbox.iter().find(|message| message.status() == Some(200));
    let answered = answered.expect("a 200").clone();
    world.agent(trunk).script.alive = false;
    world.agent(pbx).script.alive = false;
    (trunk, pbx, answered)
}

const PICTURE: &str = "<?xml version=\"1.0\"?><media_control><vc_primitive><to_encoder><picture_fast_update>secret\
    </picture_fast_update></to_encoder></vc_primitive></media_control>";

#[test]
fn info_and_message_inside_a_call_pass_by_policy() {
    let mut world = World::new(725);
    let (trunk, pbx, call) = talking(&mut world);
    let info = |number| in_dialog("INFO", trunk, &call, number);
    send(
        &mut world,
        trunk,
        &info(2).with_body("application/media_control+xml", PICTURE),
    );
    let inner = last(&mut world, pbx);
    assert_eq!(inner.need("Content-Type"), "application/media_control+xml");
    assert!(inner.body.contains("picture_fast_update") && !inner.body.contains("secret"));
    answer(&mut world, pbx, 200);
    assert_eq!(last(&mut world, trunk).status(), Some(200));
    let before = got(&mut world, pbx);
    send(
        &mut world,
        trunk,
        &info(3).with_body("application/x-secret", "secret"),
    );
    assert_eq!(last(&mut world, trunk).status(), Some(415));
    let named = info(4)
        .with("Info-Package", "secret")
        .with_body("application/dtmf", "5");
    send(&mut world, trunk, &named);
    assert_eq!(last(&mut world, trunk).status(), Some(469));
    let text = in_dialog("MESSAGE", trunk, &call, 5).with_body("text/plain", "hello");
    send(&mut world, trunk, &text);
    assert_eq!(last(&mut world, trunk).status(), Some(405));
    assert_eq!(got(&mut world, pbx), before);

    let trunk = Party::Trunk("trunk1".into());
    let mut world = with_policy(vec![trunk, Party::Registrar], |policy| {
        policy.message_octets = Some(100);
        policy.info = Some(vec![InfoKind::Package("dtmf".into())]);
    });
    let (trunk, pbx, call) = talking(&mut world);
    let text = in_dialog("MESSAGE", trunk, &call, 2).with_body("text/plain", "hello");
    send(&mut world, trunk, &text);
    assert_eq!(last(&mut world, pbx).body, "hello");
    answer(&mut world, pbx, 200);
    assert_eq!(last(&mut world, trunk).status(), Some(200));
    let plain = in_dialog("INFO", trunk, &call, 3).with_body("application/dtmf", "5");
    send(&mut world, trunk, &plain);
    assert_eq!(last(&mut world, trunk).status(), Some(415));
    let named = in_dialog("INFO", trunk, &call, 4)
        .with("Info-Package", "DTMF;x=secret")
        .with_body("application/dtmf", "5");
    send(&mut world, trunk, &named);
    let inner = last(&mut world, pbx);
    assert_eq!(inner.need("Info-Package"), "dtmf");
    assert_eq!(inner.body, "Signal=5\r\nDuration=160\r\n");
}
