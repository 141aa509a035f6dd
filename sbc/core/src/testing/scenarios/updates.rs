//! UPDATE, early and in a dialog that stands: RFC 3311, RFC 6337; glare and refusals.

use super::{
    hand::{CALLEE, CALLER, Hand},
    *,
};

const UPDATE: (&str, &str) = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK");

/// Both ends have an answer that stands, and ring: the early response, the callee's view.
fn early(hand: &mut Hand, says: (&str, &str)) -> (super::super::Message, super::super::Message) {
    let invite = hand.invite(&[("Supported", "100rel"), UPDATE], true);
    let sdp = hand.sdp(CALLEE, "sendrecv");
    let progress = [("Require", "100rel"), ("RSeq", "1"), says];
    hand.answer(CALLEE, &invite, 183, "callee", &progress, Some(&sdp));
    let early = hand.response(CALLER, "INVITE");
    let rack = format!("{} {} INVITE", early.need("RSeq"), early.cseq().0);
    hand.request(CALLER, &early, "PRACK", &[("RAck", &rack)], None);
    let dialog = hand.callee_dialog(&invite, "callee");
    (early, dialog)
}

#[test]
fn an_early_update_passes_both_ways_and_moves_the_media() {
    let mut hand = Hand::new(240);
    let (ringing, dialog) = early(&mut hand, UPDATE);
    let offer = Hand::moved(&hand.sdp(CALLEE, "sendrecv"), 43_000);
    hand.request(CALLEE, &dialog, "UPDATE", &[], Some(&offer));
    let update = hand.last(CALLER, "UPDATE");
    assert!(update.body.contains("IN IP4 198.51.100.1"));
    assert_eq!(update.tag("From"), ringing.tag("To"));
    let answer = Hand::moved(&hand.sdp(CALLER, "sendrecv"), 44_000);
    hand.answer(CALLER, &update, 200, "", &[], Some(&answer));
    assert_eq!(hand.statuses(CALLEE, "UPDATE"), [200]);
    let (a, b) = hand.world.streams.values().next().cloned().unwrap();
    assert_eq!(a.send_to.map(|to| to.port()), Some(44_000));
    assert_eq!(b.send_to.map(|to| to.port()), Some(43_000));

    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ringing, "UPDATE", &[], Some(&offer));
    let update = hand.last(CALLEE, "UPDATE");
    assert!(update.body.contains("a=sendonly"));
    let answer = hand.sdp(CALLEE, "recvonly");
    hand.answer(CALLEE, &update, 200, "", &[], Some(&answer));
    let ok = hand.response(CALLER, "UPDATE");
    assert!(ok.status() == Some(200) && ok.body.contains("a=recvonly"));
    let invite = hand.last(CALLEE, "INVITE");
    hand.answer(CALLEE, &invite, 200, "callee", &[], None);
    let ok = hand.response(CALLER, "INVITE");
    assert!(ok.status() == Some(200) && ok.body.is_empty());
}

#[test]
fn an_early_update_before_the_answer_stands_is_500_from_the_caller_and_491_from_the_callee() {
    let mut hand = Hand::new(241);
    let invite = hand.invite(&[UPDATE], true);
    let sdp = hand.sdp(CALLEE, "sendrecv");
    hand.answer(CALLEE, &invite, 183, "callee", &[UPDATE], Some(&sdp));
    let ringing = hand.response(CALLER, "INVITE");
    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ringing, "UPDATE", &[], Some(&offer));
    let refused = hand.response(CALLER, "UPDATE");
    assert_eq!(refused.status(), Some(500));
    assert!((0..=10).contains(&refused.need("Retry-After").parse::<u32>().unwrap()));
    let dialog = hand.callee_dialog(&invite, "callee");
    hand.request(CALLEE, &dialog, "UPDATE", &[], Some(&sdp));
    assert_eq!(hand.statuses(CALLEE, "UPDATE"), [491]);
    // Without an offer it is welcome.
    hand.request(CALLEE, &dialog, "UPDATE", &[], None);
    assert_eq!(hand.statuses(CALLEE, "UPDATE"), [491, 200]);
}

#[test]
fn an_early_update_towards_a_side_that_does_not_know_it_is_488() {
    let mut hand = Hand::new(242);
    let (ringing, _) = early(&mut hand, ("Allow", "INVITE, ACK, BYE, CANCEL, PRACK"));
    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ringing, "UPDATE", &[], Some(&offer));
    assert_eq!(hand.response(CALLER, "UPDATE").status(), Some(488));
}

#[test]
fn an_update_passes_as_update_or_as_reinvite() {
    for (says, method) in [
        (UPDATE, "UPDATE"),
        (("Allow", "INVITE, ACK, BYE"), "INVITE"),
    ] {
        let mut hand = Hand::new(243);
        let (_, ok) = hand.talk(&[UPDATE], &[says]);
        let offer = hand.sdp(CALLER, "sendonly");
        hand.request(CALLER, &ok, "UPDATE", &[], Some(&offer));
        let passed = hand.last(CALLEE, method);
        assert!(passed.body.contains("a=sendonly"));
        let answer = hand.sdp(CALLEE, "recvonly");
        hand.answer(CALLEE, &passed, 200, "", &[], Some(&answer));
        if method == "INVITE" {
            let acks = hand.count(CALLEE, "ACK");
            assert_eq!(acks, 2);
            // The 2xx once more: its ACK once more.
            hand.answer(CALLEE, &passed, 200, "", &[], Some(&answer));
            let acks = hand.inbox(CALLEE).iter();
            assert_eq!(acks.filter(|one| one.method() == Some("ACK")).count(), 3);
        }
        let done = hand.response(CALLER, "UPDATE");
        assert!(
            done.status() == Some(200) && done.body.contains("a=recvonly"),
            "{done:?}"
        );
        hand.request(CALLER, &ok, "BYE", &[], None);
        let bye = hand.last(CALLEE, "BYE");
        hand.answer(CALLEE, &bye, 200, "", &[], None);
        hand.world.run(seconds(60));
        assert_tidy(&mut hand.world);
    }
}

#[test]
fn a_refused_update_leaves_the_session_as_it_was() {
    let mut hand = Hand::new(244);
    let (dialog, ok) = hand.talk(&[UPDATE], &[UPDATE]);
    let before = hand.world.streams.values().next().cloned().unwrap();
    let offer = Hand::moved(&hand.sdp(CALLER, "sendonly"), 45_000);
    hand.request(CALLER, &ok, "UPDATE", &[], Some(&offer));
    let passed = hand.last(CALLEE, "UPDATE");
    hand.answer(CALLEE, &passed, 488, "", &[], None);
    assert_eq!(hand.response(CALLER, "UPDATE").status(), Some(488));
    let after = hand.world.streams.values().next().cloned().unwrap();
    assert_eq!(
        (before.0.send_to, before.0.send),
        (after.0.send_to, after.0.send)
    );
    // And the call goes on: another try is taken.
    let offer = hand.sdp(CALLEE, "sendonly");
    hand.request(CALLEE, &dialog, "UPDATE", &[], Some(&offer));
    assert!(hand.last(CALLER, "UPDATE").body.contains("a=sendonly"));
}

#[test]
fn offers_that_cross_are_491_and_a_second_one_is_500() {
    let mut hand = Hand::new(245);
    let (dialog, ok) = hand.talk(&[UPDATE], &[UPDATE]);
    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ok, "UPDATE", &[], Some(&offer));
    hand.request(CALLER, &ok, "UPDATE", &[], Some(&offer));
    let second = hand.response(CALLER, "UPDATE");
    assert_eq!(second.status(), Some(500));
    assert!(second.get("Retry-After").is_some());
    for method in ["UPDATE", "INVITE"] {
        hand.request(CALLEE, &dialog, method, &[], Some(&offer));
        assert_eq!(hand.statuses(CALLEE, method), [491], "{method}");
    }
    // The callee offered at the same time: our UPDATE gets 491, and so does the caller.
    let passed = hand.last(CALLEE, "UPDATE");
    hand.answer(CALLEE, &passed, 491, "", &[], None);
    assert_eq!(hand.statuses(CALLER, "UPDATE"), [500, 491]);
}

#[test]
fn an_update_that_nobody_answers_ends_the_call() {
    let mut hand = Hand::new(246);
    let (_, ok) = hand.talk(&[UPDATE], &[UPDATE]);
    let offer = hand.sdp(CALLER, "sendonly");
    hand.request(CALLER, &ok, "UPDATE", &[], Some(&offer));
    hand.world.run(seconds(33));
    // RFC 4320 §4.2: too late for an answer.
    assert!(hand.statuses(CALLER, "UPDATE").is_empty());
    assert_eq!(hand.count(CALLER, "BYE").min(1), 1);
    assert_eq!(hand.world.end_record().ended_by, "dialog-lost");
    hand.world.run(seconds(120));
    assert_tidy(&mut hand.world);
}

#[test]
fn an_offer_in_another_family_gives_the_old_lease_up_when_it_is_accepted_and_no_sooner() {
    let mut hand = Hand::new(248);
    let (_, ok) = hand.talk(&[], &[]);
    let before: Vec<_> = hand.world.leases.keys().copied().collect();
    let v6 = hand
        .sdp(CALLER, "sendrecv")
        .replace("IN IP4 198.51.100.20", "IN IP6 2001:db8:e::20");
    for (status, leases) in [(488, 2), (200, 2)] {
        hand.request(CALLER, &ok, "INVITE", &[], Some(&v6));
        assert_eq!(hand.world.leases.len(), 3, "the old one flows on");
        assert_eq!(hand.world.streams.len(), 1);
        let passed = hand.last(CALLEE, "INVITE");
        let answer = hand.sdp(CALLEE, "sendrecv");
        let body = (status == 200).then_some(answer.as_str());
        hand.answer(CALLEE, &passed, status, "", &[], body);
        assert_eq!(hand.response(CALLER, "INVITE").status(), Some(status));
        assert_eq!(hand.world.leases.len(), leases);
        let now: Vec<_> = hand.world.leases.keys().copied().collect();
        assert_eq!(now == before, status == 488);
        assert_eq!(hand.world.streams.len(), 1);
        if status == 200 {
            let answer = hand.response(CALLER, "INVITE");
            assert!(answer.body.contains("IN IP6 2001:db8:e::1"));
            hand.request(CALLER, &answer, "ACK", &[], None);
        } else {
            hand.world.run(seconds(1));
        }
    }
    hand.request(CALLER, &ok, "BYE", &[], None);
    let bye = hand.last(CALLEE, "BYE");
    hand.answer(CALLEE, &bye, 200, "", &[], None);
    hand.world.run(seconds(60));
    assert_tidy(&mut hand.world);
}

#[test]
fn a_codec_change_by_reinvite_without_offer_passes() {
    let mut hand = Hand::new(247);
    let (_, ok) = hand.talk(&[], &[]);
    hand.request(CALLER, &ok, "INVITE", &[], None);
    let passed = hand.last(CALLEE, "INVITE");
    assert!(passed.body.is_empty());
    let offer = hand
        .sdp(CALLEE, "sendrecv")
        .replace("RTP/AVP 8 101", "RTP/AVP 8");
    hand.answer(CALLEE, &passed, 200, "", &[], Some(&offer));
    let late = hand.response(CALLER, "INVITE");
    assert!(late.body.contains("RTP/AVP 8\r\n"), "{}", late.body);
    let answer = hand
        .sdp(CALLER, "sendrecv")
        .replace("RTP/AVP 8 101", "RTP/AVP 8");
    hand.request(CALLER, &late, "ACK", &[], Some(&answer));
    assert!(hand.last(CALLEE, "ACK").body.contains("m=audio"));
}
