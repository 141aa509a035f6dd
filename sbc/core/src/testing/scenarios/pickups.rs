//! A phone takes a call that rings at a colleague's: it was told of the PBX's dialogs (RFC 4235) under names of ours, and
//! asks the PBX for one of them by Replaces (RFC 3891). What the PBX calls them, no phone learns.

use broker_proto::policy::{EventPackage, Party, Policy, Transfer};

use super::{letters::*, *};
use crate::testing::{EXTERNAL, Message, settings};

const RINGING: &str = "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" \
    state=\"full\" entity=\"sip:1002@192.0.2.10\"><dialog id=\"as7\" call-id=\"hidden-call@192.0.2.10\" \
    local-tag=\"hidden-local\" remote-tag=\"hidden-remote\" direction=\"recipient\"><state>early</state><remote><identity>\
    sip:1100@192.0.2.10</identity></remote></dialog></dialog-info>";

/// Alice watches 1002, and is told that it rings there: what she was told.
fn told(world: &mut World) -> (SocketAddr, SocketAddr, Message) {
    let (alice, pbx) = silent_pair(world);
    let subscribe = request("SUBSCRIBE", "sip:1002@lab.test", alice, "1001", 1)
        .with("Contact", format!("<sip:1001@{alice}>"))
        .with("Event", "dialog")
        .with("Expires", "600");
    send(world, alice, &subscribe);
    let inner = last(world, pbx);
    let accepted = response(&inner, 200)
        .with("Expires", "300")
        .with("Contact", format!("<sip:secret@{pbx}>"));
    send(world, pbx, &accepted);
    let notify = in_dialog("NOTIFY", pbx, &inner, 1)
        .with("Contact", format!("<sip:secret@{pbx}>"))
        .with("Event", "dialog")
        .with("Subscription-State", "active;expires=299")
        .with_body("application/dialog-info+xml", RINGING);
    send(world, pbx, &notify);
    let told = last(world, alice);
    assert_eq!(told.method(), Some("NOTIFY"));
    answer(world, alice, 200);
    (alice, pbx, told)
}

fn attribute(body: &str, name: &str) -> String {
    let (_, rest) = body.split_once(&format!(" {name}=\"")).expect(name);
    rest.split_once('"').expect(name).0.to_owned()
}

/// Alice takes it; `number`: whom she calls for that.
fn take(world: &mut World, alice: SocketAddr, replaces: &str, number: &str) {
    let sdp = world.agent(alice).sdp("sendrecv");
    let invite = request(
        "INVITE",
        &format!("sip:{number}@lab.test"),
        alice,
        "1001",
        2,
    )
    .with("Contact", format!("<sip:1001@{alice}>"))
    .with("Require", "replaces")
    .with("Replaces", replaces)
    .with_body("application/sdp", &sdp);
    send(world, alice, &invite);
}

fn named(told: &Message) -> String {
    let [call_id, to, from] =
        ["call-id", "remote-tag", "local-tag"].map(|name| attribute(&told.body, name));
    format!("{call_id};to-tag={to};from-tag={from};early-only")
}

#[test]
fn a_phone_takes_a_ringing_call_by_the_names_that_it_was_told_and_the_pbx_gets_its_own() {
    let mut world = World::new(810);
    let (alice, pbx, told) = told(&mut world);
    take(&mut world, alice, &named(&told), "1100");
    let invite = last(&mut world, pbx);
    assert_eq!(invite.method(), Some("INVITE"));
    assert_eq!(
        invite.need("Replaces"),
        "hidden-call@192.0.2.10;to-tag=hidden-remote;from-tag=hidden-local;early-only"
    );
    assert_eq!(invite.need("Require"), "replaces");
    for text in world.sent_to(EXTERNAL) {
        assert!(!text.contains("hidden"), "{text}");
    }
    let sdp = world.agent(pbx).sdp("sendrecv");
    let answer = response(&invite, 200)
        .with("Contact", format!("<sip:pbx@{pbx}>"))
        .with_body("application/sdp", &sdp);
    send(&mut world, pbx, &answer);
    assert_eq!(last(&mut world, alice).status(), Some(200));
}

#[test]
fn the_pbxs_own_names_and_names_that_nobody_was_told_are_481() {
    let mut world = World::new(811);
    let (alice, pbx, told) = told(&mut world);
    let before = got(&mut world, pbx);
    let own = "hidden-call@192.0.2.10;to-tag=hidden-remote;from-tag=hidden-local";
    take(&mut world, alice, own, "1100");
    assert_eq!(last(&mut world, alice).status(), Some(481));
    let mut world = World::new(811);
    let (alice, ..) = self::told(&mut world);
    let mixed = named(&told).replace("from-tag=d", "from-tag=e");
    take(&mut world, alice, &mixed, "1100");
    assert_eq!(last(&mut world, alice).status(), Some(481));
    assert_eq!(got(&mut world, pbx), before);
}

#[test]
fn a_carrier_is_never_asked_for_a_dialog_of_the_pbx() {
    let mut world = World::new(812);
    let trunk = trunk1(&mut world);
    let (alice, _, told) = told(&mut world);
    take(&mut world, alice, &named(&told), "+49301234567");
    assert_eq!(last(&mut world, alice).status(), Some(481));
    assert!(world.agent(trunk).inbox.is_empty());
}

#[test]
fn who_may_not_transfer_or_watch_takes_nothing() {
    for change in [
        |policy: &mut Policy| policy.transfer = Some(Transfer::Refuse),
        |policy: &mut Policy| policy.events = Some(vec![EventPackage::MessageSummary]),
    ] {
        let mut world = World::new(813);
        let (alice, pbx, told) = told(&mut world);
        let mut closed = settings();
        let mut policy = Policy {
            parties: vec![Party::Zone(EXTERNAL)],
            ..Policy::default()
        };
        change(&mut policy);
        closed.policies = vec![policy];
        world.input(crate::Input::Settings(Box::new(closed)));
        world.run(seconds(1));
        let before = got(&mut world, pbx);
        take(&mut world, alice, &named(&told), "1100");
        assert_eq!(last(&mut world, alice).status(), Some(403));
        assert_eq!(got(&mut world, pbx), before);
    }
}
