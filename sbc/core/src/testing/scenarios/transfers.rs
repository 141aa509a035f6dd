//! REFER and Replaces: RFC 3515, 3891, 3892, 4488, 5589; both handlings, and to whom they are closed.

use broker_proto::policy::{Party, Policy, Transfer};

use super::{
    hand::{CALLEE, CALLER, Hand},
    *,
};
use crate::testing::{EXTERNAL, INTERNAL, Message};

const REFER: (&str, &str) = ("Allow", "INVITE, ACK, BYE, CANCEL, REFER, NOTIFY");
const OUT: (&str, &str) = ("Refer-To", "<sip:+49301234567@192.0.2.1>");

fn with_policies(seed: u64, policies: &[(Party, Transfer)]) -> Hand {
    let mut settings = crate::testing::settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    settings.policies = policies
        .iter()
        .map(|(party, transfer)| Policy {
            parties: vec![party.clone()],
            transfer: Some(*transfer),
            ..Policy::default()
        })
        .collect();
    Hand::in_world(World::with(seed, settings))
}

fn news(hand: &Hand, end: usize) -> Vec<(String, String)> {
    let mut seen = std::collections::BTreeSet::new();
    hand.inbox(end)
        .iter()
        .filter(|message| message.method() == Some("NOTIFY") && seen.insert(message.branch()))
        .map(|message| {
            (
                message.need("Subscription-State").to_owned(),
                message.body.trim_end().to_owned(),
            )
        })
        .collect()
}

fn ports(hand: &Hand) -> Vec<(u16, u16)> {
    let port = |to: Option<SocketAddr>| to.map_or(0, |to| to.port());
    hand.world
        .streams
        .values()
        .map(|(a, b)| (port(a.send_to), port(b.send_to)))
        .collect()
}

#[test]
fn a_blind_transfer_is_resolved_by_a_call_with_the_referrers_rights() {
    let mut hand = Hand::new(280);
    let (dialog, _) = hand.talk(&[], &[]);
    hand.request(CALLEE, &dialog, "REFER", &[OUT], None);
    assert_eq!(hand.statuses(CALLEE, "REFER"), [202]);
    assert_eq!(news(&hand, CALLEE)[0].1, "SIP/2.0 100 Trying");
    let notify = hand.last(CALLEE, "NOTIFY");
    assert_eq!(
        (notify.need("Event"), notify.tag("To").as_deref()),
        ("refer", Some("callee"))
    );
    hand.answer(CALLEE, &notify, 200, "", &[], None);

    let invite = hand.last(CALLER, "INVITE");
    assert!(invite.uri().starts_with("sip:+49301234567@"));
    assert!(invite.need("Referred-By").contains("@198.51.100.1"));
    assert!(invite.body.contains("IN IP4 198.51.100.1"));
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 47_000);
    hand.answer(CALLER, &invite, 200, "target", &[], Some(&answer));
    let told = news(&hand, CALLEE);
    assert_eq!(told[1].0, "terminated;reason=noresource");
    assert_eq!(told[1].1, "SIP/2.0 200 OK");

    // The remaining party hears of its new one.
    let reinvite = hand.last(CALLER, "INVITE");
    assert_eq!(reinvite.need("Call-ID"), "secret-hand");
    assert_eq!(reinvite.tag("To").as_deref(), Some("caller"));
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 46_000);
    hand.answer(CALLER, &reinvite, 200, "", &[], Some(&answer));
    assert_eq!(ports(&hand), [(46_000, 47_000)]);
    assert_eq!(hand.world.leases.len(), 2);

    // The referrer says that it heard, and is hung up.
    let notify = hand.last(CALLEE, "NOTIFY");
    hand.answer(CALLEE, &notify, 200, "", &[], None);
    let bye = hand.last(CALLEE, "BYE");
    hand.answer(CALLEE, &bye, 200, "", &[], None);
    assert_eq!(hand.count(CALLER, "BYE"), 0);
    assert_eq!(hand.world.calls().len(), 1);

    // And the two hang up as any.
    let target = hand.callee_dialog(&invite, "target");
    hand.request(CALLER, &target, "BYE", &[], None);
    let bye = hand.last(CALLER, "BYE");
    assert_eq!(bye.need("Call-ID"), "secret-hand");
    hand.answer(CALLER, &bye, 200, "", &[], None);
    hand.world.run(seconds(120));
    assert_tidy(&mut hand.world);
}

#[test]
fn a_telephone_at_the_pbx_transfers_to_a_number_there_which_the_pbx_is_asked_for() {
    let mut hand = Hand::new(295);
    let (dialog, _) = hand.talk(&[], &[]);
    let to = [("Refer-To", "<sip:1100@lab.test>")];
    hand.request(CALLEE, &dialog, "REFER", &to, None);
    assert_eq!(hand.statuses(CALLEE, "REFER"), [202]);
    let invite = hand.last(CALLEE, "INVITE");
    assert_eq!(invite.uri(), "sip:1100@lab.test");
    let answer = Hand::moved(&hand.sdp(CALLEE, "sendrecv"), 47_000);
    hand.answer(CALLEE, &invite, 200, "target", &[], Some(&answer));
    let reinvite = hand.last(CALLER, "INVITE");
    assert_eq!(reinvite.need("Call-ID"), "secret-hand");
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 46_000);
    hand.answer(CALLER, &reinvite, 200, "", &[], Some(&answer));
    assert_eq!(ports(&hand), [(46_000, 47_000)]);
    let notify = hand.last(CALLEE, "NOTIFY");
    assert_eq!(notify.body.trim_end(), "SIP/2.0 200 OK");
    hand.answer(CALLEE, &notify, 200, "", &[], None);
    let bye = hand.last(CALLEE, "BYE");
    hand.answer(CALLEE, &bye, 200, "", &[], None);
    let target = hand.callee_dialog(&invite, "target");
    hand.request(CALLEE, &target, "BYE", &[], None);
    let bye = hand.last(CALLER, "BYE");
    hand.answer(CALLER, &bye, 200, "", &[], None);
    hand.world.run(seconds(120));
    assert_tidy(&mut hand.world);
}

#[test]
fn a_transfer_by_the_pbx_to_a_host_that_is_not_its_own_goes_nowhere() {
    let mut hand = Hand::new(296);
    let (dialog, _) = hand.talk(&[], &[]);
    let to = [("Refer-To", "<sip:nobody@elsewhere.test>")];
    hand.request(CALLEE, &dialog, "REFER", &to, None);
    assert_eq!(hand.statuses(CALLEE, "REFER"), [404]);
    assert_eq!(hand.count(CALLEE, "INVITE"), 1);
}

#[test]
fn a_transfer_to_who_is_busy_leaves_the_call_as_it_was() {
    let mut hand = Hand::new(281);
    let (dialog, ok) = hand.talk(&[], &[]);
    hand.request(CALLEE, &dialog, "REFER", &[OUT], None);
    let invite = hand.last(CALLER, "INVITE");
    hand.answer(CALLER, &invite, 486, "target", &[], None);
    let told = news(&hand, CALLEE);
    assert_eq!(told[1].1, "SIP/2.0 486 Busy Here");
    assert!(told[1].0.starts_with("terminated"));
    assert_eq!(hand.world.calls().len(), 1);
    assert_eq!(ports(&hand).len(), 1);
    // Another try is taken, under the number of its REFER.
    hand.request(CALLEE, &dialog, "REFER", &[OUT], None);
    let notify = hand.last(CALLEE, "NOTIFY");
    assert_eq!(notify.need("Event"), "refer;id=2");
    hand.request(CALLER, &ok, "BYE", &[], None);
    assert_eq!(hand.count(CALLER, "CANCEL"), 0);
    assert_eq!(hand.world.calls().len(), 0);
}

#[test]
fn a_referrer_that_hangs_up_at_once_has_its_transfer_all_the_same() {
    let mut hand = Hand::new(282);
    let (dialog, _) = hand.talk(&[], &[]);
    hand.request(CALLEE, &dialog, "REFER", &[OUT], None);
    hand.request(CALLEE, &dialog, "BYE", &[], None);
    assert_eq!(hand.statuses(CALLEE, "BYE"), [200]);
    assert_eq!(hand.count(CALLER, "BYE"), 0);
    let invite = hand.last(CALLER, "INVITE");
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 47_000);
    hand.answer(CALLER, &invite, 200, "target", &[], Some(&answer));
    let reinvite = hand.last(CALLER, "INVITE");
    assert_eq!(reinvite.need("Call-ID"), "secret-hand");
    // One that refuses its new party ends the call.
    hand.answer(CALLER, &reinvite, 488, "", &[], None);
    assert_eq!(hand.count(CALLER, "BYE"), 2);
    hand.world.run(seconds(120));
    assert_tidy(&mut hand.world);

    let mut hand = Hand::new(283);
    let (dialog, _) = hand.talk(&[], &[]);
    hand.request(CALLEE, &dialog, "REFER", &[OUT], None);
    hand.request(CALLEE, &dialog, "BYE", &[], None);
    let invite = hand.last(CALLER, "INVITE");
    hand.answer(CALLER, &invite, 486, "target", &[], None);
    // Nobody is left for the remaining party.
    assert_eq!(hand.count(CALLER, "BYE"), 1);
    hand.world.run(seconds(120));
    assert_tidy(&mut hand.world);
}

#[test]
fn a_carrier_transfers_nothing_unless_told_and_never_further_than_it_may_call() {
    let mut hand = Hand::new(284);
    let (_, ok) = hand.talk(&[], &[REFER]);
    hand.request(
        CALLER,
        &ok,
        "REFER",
        &[("Refer-To", "<sip:1002@lab.test>")],
        None,
    );
    assert_eq!(hand.statuses(CALLER, "REFER"), [403]);
    for transfer in [Transfer::Pass, Transfer::Resolve] {
        let trunk = Party::Trunk("trunk1".into());
        let mut hand = with_policies(285, &[(trunk, transfer)]);
        let (_, ok) = hand.talk(&[], &[REFER]);
        for target in ["<sip:+1900555@lab.test>", "<sip:+49301234567@lab.test>"] {
            hand.request(CALLER, &ok, "REFER", &[("Refer-To", target)], None);
            assert_eq!(
                hand.response(CALLER, "REFER").status(),
                Some(404),
                "{target}"
            );
        }
        assert_eq!(hand.count(CALLEE, "REFER"), 0);
        hand.request(
            CALLER,
            &ok,
            "REFER",
            &[("Refer-To", "<tel:+1900555>")],
            None,
        );
        assert_eq!(hand.response(CALLER, "REFER").status(), Some(416));
        hand.request(CALLER, &ok, "REFER", &[], None);
        assert_eq!(hand.response(CALLER, "REFER").status(), Some(400));
        hand.request(
            CALLER,
            &ok,
            "REFER",
            &[("Refer-To", "<sip:1002@lab.test>")],
            None,
        );
        assert_eq!(
            hand.statuses(CALLER, "REFER").len(),
            if transfer == Transfer::Pass { 4 } else { 5 }
        );
    }
}

#[test]
fn a_refer_passes_in_the_names_of_the_other_side_and_its_news_come_back() {
    let mut hand = with_policies(286, &[(Party::Registrar, Transfer::Pass)]);
    let (dialog, _) = hand.talk(&[REFER], &[]);
    let fields = [OUT, ("Referred-By", "<sip:secretuser@192.0.2.99>")];
    hand.request(CALLEE, &dialog, "REFER", &fields, None);
    let refer = hand.last(CALLER, "REFER");
    assert_eq!(refer.need("Refer-To"), "<sip:+49301234567@carrier.test>");
    assert_eq!(refer.need("Call-ID"), "secret-hand");
    assert_eq!(refer.need("Referred-By"), "<sip:+49305551001@198.51.100.1>");
    assert!(hand.statuses(CALLEE, "REFER").is_empty());
    hand.answer(CALLER, &refer, 202, "", &[], None);
    assert_eq!(hand.statuses(CALLEE, "REFER"), [202]);
    let ok = hand.response(CALLER, "INVITE");
    for (state, line) in [
        ("active;expires=60", "SIP/2.0 180 secret words"),
        ("terminated;reason=noresource", "SIP/2.0 200 secret words"),
    ] {
        let mut notify = ok.clone();
        notify.body.clear();
        let fields = [
            ("Event", "refer"),
            ("Subscription-State", state),
            ("Content-Type", "message/sipfrag"),
        ];
        notify_with(&mut hand, &ok, &fields, line);
        assert_eq!(hand.response(CALLER, "NOTIFY").status(), Some(200));
    }
    let told: Vec<String> = news(&hand, CALLEE)
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(told, ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
    // After the last word there is nothing to hear.
    let fields = [("Event", "refer"), ("Subscription-State", "active")];
    notify_with(&mut hand, &ok, &fields, "");
    assert_eq!(hand.response(CALLER, "NOTIFY").status(), Some(481));
    for (zone, words) in [
        (EXTERNAL, ["192.0.2.", "secretuser"]),
        (INTERNAL, ["198.51.100.", "secret words"]),
    ] {
        for text in hand.world.sent_to(zone) {
            for word in words {
                assert!(!text.contains(word), "{word} in {zone:?}:\n{text}");
            }
        }
    }
}

fn notify_with(hand: &mut Hand, model: &Message, fields: &[(&str, &str)], line: &str) {
    let body = (!line.is_empty()).then(|| format!("{line}\r\n"));
    hand.request_typed(
        CALLER,
        model,
        "NOTIFY",
        fields,
        body.as_deref(),
        "message/sipfrag",
    );
}

#[test]
fn an_attended_transfer_is_resolved_by_joining_the_two_legs() {
    let mut hand = Hand::new(287);
    let (dialog, _) = hand.talk(&[], &[]);
    let (_, consult) = hand.call_out(&[]);
    assert_eq!(hand.world.calls().len(), 2);
    let refer_to = format!(
        "<sip:+49301234567@192.0.2.1?Replaces={}%3Bto-tag%3D{}%3Bfrom-tag%3Dconsult>",
        consult.need("Call-ID"),
        consult.tag("To").unwrap(),
    );
    hand.request(CALLEE, &dialog, "REFER", &[("Refer-To", &refer_to)], None);
    assert_eq!(hand.statuses(CALLEE, "REFER"), [202]);
    let reinvite = hand.last(CALLER, "INVITE");
    assert_eq!(reinvite.need("Call-ID"), "secret-hand");
    assert!(reinvite.body.contains("a=sendrecv"));
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 46_000);
    hand.answer(CALLER, &reinvite, 200, "", &[], Some(&answer));
    assert_eq!(ports(&hand), [(46_000, 47_000)]);
    assert_eq!(news(&hand, CALLEE).last().unwrap().1, "SIP/2.0 200 OK");
    hand.world.run(seconds(5));
    // Both dialogs of the referrer end, those of the others go on.
    assert_eq!(hand.count(CALLEE, "BYE"), 2);
    assert_eq!(hand.count(CALLER, "BYE"), 0);
    assert_eq!(hand.world.calls().len(), 1);
    assert_eq!(hand.world.leases.len(), 2);
}

#[test]
fn an_attended_transfer_passes_with_the_far_dialogs_names() {
    let mut hand = with_policies(288, &[(Party::Registrar, Transfer::Pass)]);
    let (dialog, _) = hand.talk(&[REFER], &[]);
    let (target, consult) = hand.call_out(&[]);
    let refer_to = format!(
        "<sip:+49301234567@192.0.2.1?Replaces={}%3Bto-tag%3D{}%3Bfrom-tag%3Dconsult>",
        consult.need("Call-ID"),
        consult.tag("To").unwrap(),
    );
    hand.request(CALLEE, &dialog, "REFER", &[("Refer-To", &refer_to)], None);
    let refer = hand.last(CALLER, "REFER");
    let passed = refer.need("Refer-To");
    // What the target knows its dialog by: its own tag is the to-tag.
    assert!(
        passed.starts_with("<sip:target@198.51.100.20:5060?Replaces="),
        "{passed}"
    );
    assert!(passed.contains(target.need("Call-ID")), "{passed}");
    assert!(passed.contains("to-tag%3Dtarget"), "{passed}");
    let own = target.tag("From").unwrap();
    assert!(passed.contains(&format!("from-tag%3D{own}")), "{passed}");
    assert!(!passed.contains("consult"));
}

#[test]
fn nobody_transfers_by_a_dialog_that_is_not_its_own() {
    let mut hand = with_policies(289, &[(Party::Trunk("trunk1".into()), Transfer::Resolve)]);
    let (_, ok) = hand.talk(&[], &[]);
    let (_, consult) = hand.call_out(&[]);
    // The carrier has learnt the names of a dialog between us and the PBX.
    let refer_to = format!(
        "<sip:x@198.51.100.1?Replaces={}%3Bto-tag%3D{}%3Bfrom-tag%3Dconsult>",
        consult.need("Call-ID"),
        consult.tag("To").unwrap(),
    );
    hand.request(CALLER, &ok, "REFER", &[("Refer-To", &refer_to)], None);
    assert_eq!(hand.response(CALLER, "REFER").status(), Some(403));
    let nothing = "<sip:x@198.51.100.1?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>";
    hand.request(CALLER, &ok, "REFER", &[("Refer-To", nothing)], None);
    assert_eq!(hand.response(CALLER, "REFER").status(), Some(481));
}

#[test]
fn a_referrer_that_wants_no_news_gets_none() {
    let mut hand = Hand::new(290);
    let (dialog, _) = hand.talk(&[], &[]);
    let fields = [OUT, ("Refer-Sub", "false"), ("Supported", "norefersub")];
    hand.request(CALLEE, &dialog, "REFER", &fields, None);
    let accepted = hand.response(CALLEE, "REFER");
    assert_eq!(
        (accepted.status(), accepted.need("Refer-Sub")),
        (Some(202), "false")
    );
    let invite = hand.last(CALLER, "INVITE");
    let answer = hand.sdp(CALLER, "sendrecv");
    hand.answer(CALLER, &invite, 200, "target", &[], Some(&answer));
    assert_eq!(hand.count(CALLEE, "NOTIFY"), 0);
    assert_eq!(hand.count(CALLEE, "BYE"), 1);
}

/// A phone of the house takes the PBX's place in a dialog of its.
fn taking_over(hand: &mut Hand, dialog: &Message, fields: &[(&str, &str)]) -> SocketAddr {
    let silent = Script {
        alive: false,
        ..Script::default()
    };
    let phone = hand.world.add("192.0.2.40:5060", "phone", silent);
    take_over_from(hand, phone, dialog, fields);
    phone
}

/// Somebody does.
fn take_over_from(hand: &mut Hand, phone: SocketAddr, dialog: &Message, fields: &[(&str, &str)]) {
    let replaces = format!(
        "{};to-tag={};from-tag=callee",
        dialog.need("Call-ID"),
        dialog.tag("From").unwrap()
    );
    let sdp = Hand::moved(&hand.world.agent(phone).sdp("sendrecv"), 49_500);
    let mut invite = Message::request("INVITE", "sip:1001@192.0.2.1")
        .with("Via", format!("SIP/2.0/UDP {phone};branch=z9hG4bKtake"))
        .with("Max-Forwards", "70")
        .with("From", "<sip:1100@lab.test>;tag=phone")
        .with("To", "<sip:1001@lab.test>")
        .with("Call-ID", "secret-take")
        .with("CSeq", "1 INVITE")
        .with("Contact", format!("<sip:phone@{phone}>"))
        .with("Require", "replaces")
        .with("Replaces", replaces);
    for (name, value) in fields {
        invite = invite.with(name, *value);
    }
    let invite = invite.with_body("application/sdp", &sdp);
    hand.world.datagram(phone, &invite.bytes());
    hand.world.run(millis(20));
}

fn last_status(hand: &Hand, at: SocketAddr) -> Option<u16> {
    hand.world.agents[&at]
        .inbox
        .iter()
        .rev()
        .find_map(Message::status)
}

#[test]
fn an_invite_with_replaces_takes_the_place_of_its_party() {
    let mut hand = Hand::new(291);
    let (dialog, _) = hand.talk(&[], &[]);
    let phone = taking_over(&mut hand, &dialog, &[]);
    let reinvite = hand.last(CALLER, "INVITE");
    assert_eq!(reinvite.need("Call-ID"), "secret-hand");
    assert_eq!(last_status(&hand, phone), Some(100));
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 46_000);
    hand.answer(CALLER, &reinvite, 200, "", &[], Some(&answer));
    assert_eq!(last_status(&hand, phone), Some(200));
    assert_eq!(hand.count(CALLEE, "BYE"), 1);
    assert_eq!(hand.count(CALLER, "BYE"), 0);
    assert_eq!(ports(&hand), [(49_500, 46_000)]);
    assert_eq!(hand.world.calls().len(), 1);
}

#[test]
fn an_invite_with_replaces_that_the_other_party_refuses_changes_nothing() {
    let mut hand = Hand::new(292);
    let (dialog, ok) = hand.talk(&[], &[]);
    let phone = taking_over(&mut hand, &dialog, &[]);
    let reinvite = hand.last(CALLER, "INVITE");
    hand.answer(CALLER, &reinvite, 488, "", &[], None);
    assert_eq!(last_status(&hand, phone), Some(488));
    assert_eq!(hand.count(CALLEE, "BYE"), 0);
    assert_eq!(hand.world.calls().len(), 1);
    // The old call is whole: a hold passes.
    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ok, "INVITE", &[], Some(&offer));
    assert!(hand.last(CALLEE, "INVITE").body.contains("a=sendonly"));
}

#[test]
fn replaces_is_for_a_dialog_that_stands_and_for_its_own_side() {
    let mut hand = Hand::new(293);
    let (dialog, _) = hand.talk(&[], &[]);
    let mut wrong = dialog.clone();
    for (name, value) in &mut wrong.headers {
        if name == "Call-ID" {
            *value = "nothing".into();
        }
    }
    let phone = taking_over(&mut hand, &wrong, &[]);
    assert_eq!(last_status(&hand, phone), Some(481));
    assert_eq!(hand.count(CALLER, "INVITE"), 0);
    let closed = Party::Zone(INTERNAL);
    let mut hand = with_policies(294, &[(closed, Transfer::Refuse)]);
    let (dialog, _) = hand.talk(&[], &[]);
    let phone = taking_over(&mut hand, &dialog, &[]);
    assert_eq!(last_status(&hand, phone), Some(403));
}

#[test]
fn a_carrier_takes_no_dialog_of_the_house_though_it_knows_its_names() {
    let carrier = Party::Trunk("trunk1".into());
    let mut hand = with_policies(299, &[(carrier, Transfer::Resolve)]);
    let (dialog, _) = hand.talk(&[], &[]);
    let caller = hand.caller;
    take_over_from(&mut hand, caller, &dialog, &[]);
    assert_eq!(last_status(&hand, caller), Some(403));
    assert_eq!(hand.count(CALLER, "INVITE"), 0);
    assert_eq!(hand.count(CALLEE, "BYE"), 0);
}

#[test]
fn a_dialog_is_not_taken_while_an_offer_of_its_is_on_its_way() {
    let mut hand = Hand::new(300);
    let (dialog, ok) = hand.talk(&[], &[]);
    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ok, "INVITE", &[], Some(&offer));
    assert_eq!(hand.count(CALLEE, "INVITE"), 2);
    let phone = taking_over(&mut hand, &dialog, &[]);
    assert_eq!(last_status(&hand, phone), Some(491));
    assert_eq!(hand.count(CALLER, "INVITE"), 0);
    assert_eq!(hand.count(CALLEE, "BYE"), 0);
}

#[test]
fn replaces_of_an_early_dialog_is_481_of_a_standing_one_that_was_to_be_early_486_and_of_an_ended_one_603()
 {
    let mut hand = Hand::new(295);
    let invite = hand.invite(&[], true);
    hand.answer(CALLEE, &invite, 180, "callee", &[], None);
    let early = hand.callee_dialog(&invite, "callee");
    let phone = taking_over(&mut hand, &early, &[]);
    assert_eq!(last_status(&hand, phone), Some(481));
    assert_eq!(hand.count(CALLEE, "CANCEL"), 0);

    let mut hand = Hand::new(296);
    let (mut dialog, _) = hand.talk(&[], &[]);
    for (name, value) in &mut dialog.headers {
        if name == "Call-ID" {
            value.push_str(";early-only");
        }
    }
    let phone = taking_over(&mut hand, &dialog, &[]);
    assert_eq!(last_status(&hand, phone), Some(486));
    assert_eq!(hand.count(CALLER, "INVITE"), 0);

    let mut hand = Hand::new(297);
    let (dialog, ok) = hand.talk(&[], &[]);
    hand.request(CALLER, &ok, "BYE", &[], None);
    let phone = taking_over(&mut hand, &dialog, &[]);
    assert_eq!(last_status(&hand, phone), Some(603));
}

#[test]
fn a_takeover_that_the_remaining_party_has_no_time_for_changes_nothing() {
    let mut hand = Hand::new(298);
    let (dialog, _) = hand.talk(&[], &[]);
    let phone = taking_over(&mut hand, &dialog, &[]);
    // The remaining party is always busy with an offer of its own.
    for _ in 0..20 {
        let Some(reinvite) = hand.find(CALLER, "INVITE") else {
            break;
        };
        hand.answer(CALLER, &reinvite, 491, "", &[], None);
        hand.world.run(millis(4_100));
    }
    assert_eq!(last_status(&hand, phone), Some(491));
    assert_eq!(hand.world.calls().len(), 1, "the old call goes on");
}
