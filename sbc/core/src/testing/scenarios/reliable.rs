//! Provisional responses that are confirmed: RFC 3262; early dialogs and early media: RFC 3960, RFC 6228.

use super::{
    hand::{CALLEE, CALLER, Hand},
    *,
};

const RELIABLE: (&str, &str) = ("Require", "100rel");

fn rack(response: &super::super::Message) -> String {
    format!("{} {} INVITE", response.need("RSeq"), response.cseq().0)
}

#[test]
fn a_reliable_ringing_is_confirmed_and_goes_on_unreliably_to_a_caller_who_cannot() {
    let mut hand = Hand::new(200);
    let invite = hand.invite(&[], true);
    assert!(invite.need("Supported").contains("100rel"));
    let ring = [RELIABLE, ("RSeq", "77")];
    hand.answer(CALLEE, &invite, 180, "callee", &ring, None);
    let prack = hand.last(CALLEE, "PRACK");
    assert_eq!(prack.need("RAck"), format!("77 {} INVITE", invite.cseq().0));
    assert_eq!(prack.tag("To").as_deref(), Some("callee"));
    assert_eq!(prack.uri(), format!("sip:callee@{}", hand.callee));
    let ringing = hand.response(CALLER, "INVITE");
    assert_eq!(ringing.status(), Some(180));
    assert!(ringing.get("Require").is_none() && ringing.get("RSeq").is_none());
    // The same again is neither confirmed nor passed on again.
    hand.answer(CALLEE, &invite, 180, "callee", &ring, None);
    assert_eq!(hand.count(CALLEE, "PRACK"), 1);
    assert_eq!(hand.statuses(CALLER, "INVITE"), [100, 180]);
    // One whose predecessor is missing waits for its repetition.
    hand.answer(
        CALLEE,
        &invite,
        183,
        "callee",
        &[RELIABLE, ("RSeq", "79")],
        None,
    );
    assert_eq!(hand.count(CALLEE, "PRACK"), 1);
    hand.answer(
        CALLEE,
        &invite,
        183,
        "callee",
        &[RELIABLE, ("RSeq", "78")],
        None,
    );
    assert_eq!(hand.count(CALLEE, "PRACK"), 2);
}

#[test]
fn a_caller_who_requires_it_gets_reliable_responses_from_a_callee_who_cannot() {
    let mut hand = Hand::new(201);
    let invite = hand.invite(&[RELIABLE], true);
    hand.answer(CALLEE, &invite, 180, "callee", &[], None);
    hand.answer(CALLEE, &invite, 182, "callee", &[], None);
    let ringing = hand.response(CALLER, "INVITE");
    assert_eq!(ringing.status(), Some(180));
    assert_eq!(ringing.need("Require"), "100rel");
    // The second waits for the first one's PRACK (RFC 3262 §3).
    hand.request(
        CALLER,
        &ringing,
        "PRACK",
        &[("RAck", &rack(&ringing))],
        None,
    );
    assert_eq!(hand.response(CALLER, "PRACK").status(), Some(200));
    let queued = hand.response(CALLER, "INVITE");
    assert_eq!(queued.status(), Some(182));
    let number = |response: &super::super::Message| response.need("RSeq").parse::<u32>().unwrap();
    assert_eq!(number(&queued), number(&ringing) + 1);
    assert_eq!(hand.count(CALLEE, "PRACK"), 0);
    // A PRACK for what was confirmed already, or never sent.
    hand.request(
        CALLER,
        &ringing,
        "PRACK",
        &[("RAck", &rack(&ringing))],
        None,
    );
    assert_eq!(hand.response(CALLER, "PRACK").status(), Some(481));
}

#[test]
fn a_reliable_response_is_repeated_until_its_prack_and_given_up_after_64_t1() {
    let mut hand = Hand::new(202);
    let invite = hand.invite(&[RELIABLE], true);
    hand.answer(CALLEE, &invite, 180, "callee", &[], None);
    hand.world.run(seconds(31));
    let repeated = hand
        .statuses(CALLER, "INVITE")
        .iter()
        .filter(|status| **status == 180)
        .count();
    // 0, 0.5, 1.5, 3.5, 7.5, 15.5 s: doubling without bound.
    assert_eq!(repeated, 6);
    hand.world.run(seconds(2));
    assert_eq!(hand.response(CALLER, "INVITE").status(), Some(500));
    assert_eq!(hand.count(CALLEE, "CANCEL"), 1);
    let cancel = hand.last(CALLEE, "CANCEL");
    hand.answer(CALLEE, &cancel, 200, "callee", &[], None);
    hand.answer(CALLEE, &invite, 487, "callee", &[], None);
    assert_eq!(hand.world.end_record().ended_by, "no-prack");
    hand.world.run(seconds(120));
    assert_tidy(&mut hand.world);
}

#[test]
fn an_answer_in_a_reliable_response_is_not_repeated_in_the_2xx() {
    let mut hand = Hand::new(203);
    let invite = hand.invite(&[("Supported", "100rel")], true);
    let sdp = hand.sdp(CALLEE, "sendrecv");
    let progress = [RELIABLE, ("RSeq", "1")];
    hand.answer(CALLEE, &invite, 183, "callee", &progress, Some(&sdp));
    let early = hand.response(CALLER, "INVITE");
    assert_eq!(early.status(), Some(183));
    assert!(early.body.contains("m=audio"));
    assert_eq!(hand.world.streams.len(), 1);
    // The callee's waits for the caller's, which may bring an offer.
    assert_eq!(hand.count(CALLEE, "PRACK"), 0);
    hand.request(CALLER, &early, "PRACK", &[("RAck", &rack(&early))], None);
    assert_eq!(hand.count(CALLEE, "PRACK"), 1);
    hand.answer(CALLEE, &invite, 200, "callee", &[], None);
    let ok = hand.response(CALLER, "INVITE");
    assert_eq!(ok.status(), Some(200));
    assert!(ok.body.is_empty());
    assert_eq!(ok.tag("To"), early.tag("To"));
    hand.request(CALLER, &ok, "ACK", &[], None);
    hand.request(CALLER, &ok, "BYE", &[], None);
    let bye = hand.last(CALLEE, "BYE");
    hand.answer(CALLEE, &bye, 200, "callee", &[], None);
    hand.world.run(seconds(60));
    assert_tidy(&mut hand.world);
}

#[test]
fn a_2xx_does_not_pass_a_description_that_is_not_confirmed() {
    let mut hand = Hand::new(204);
    let invite = hand.invite(&[RELIABLE], true);
    let sdp = hand.sdp(CALLEE, "sendrecv");
    hand.answer(CALLEE, &invite, 183, "callee", &[], Some(&sdp));
    hand.answer(CALLEE, &invite, 200, "callee", &[], Some(&sdp));
    let early = hand.response(CALLER, "INVITE");
    assert_eq!(early.status(), Some(183));
    hand.request(CALLER, &early, "PRACK", &[("RAck", &rack(&early))], None);
    assert_eq!(hand.statuses(CALLER, "PRACK"), [200]);
    assert_eq!(hand.response(CALLER, "INVITE").status(), Some(200));
}

#[test]
fn an_offer_in_a_prack_reaches_the_callee_in_a_prack() {
    let mut hand = Hand::new(205);
    let invite = hand.invite(&[("Supported", "100rel")], true);
    let sdp = hand.sdp(CALLEE, "sendrecv");
    let progress = [RELIABLE, ("RSeq", "1")];
    hand.answer(CALLEE, &invite, 183, "callee", &progress, Some(&sdp));
    let early = hand.response(CALLER, "INVITE");
    let offer = Hand::moved(&hand.sdp(CALLER, "sendonly"), 45_000);
    hand.request(
        CALLER,
        &early,
        "PRACK",
        &[("RAck", &rack(&early))],
        Some(&offer),
    );
    let prack = hand.last(CALLEE, "PRACK");
    assert!(prack.body.contains("a=sendonly") && prack.body.contains("IN IP4 192.0.2.1"));
    assert!(hand.statuses(CALLER, "PRACK").is_empty());
    let answer = hand.sdp(CALLEE, "recvonly");
    hand.answer(CALLEE, &prack, 200, "callee", &[], Some(&answer));
    let ok = hand.response(CALLER, "PRACK");
    assert_eq!(ok.status(), Some(200));
    assert!(ok.body.contains("a=recvonly") && ok.body.contains("IN IP4 198.51.100.1"));
    let (a, _) = hand.world.streams.values().next().cloned().unwrap();
    assert_eq!(a.send_to.map(|to| to.port()), Some(45_000));
}

#[test]
fn a_call_without_offer_gets_it_in_a_reliable_response_and_answers_in_prack() {
    let mut hand = Hand::new(206);
    let invite = hand.invite(&[("Supported", "100rel")], false);
    assert!(invite.body.is_empty());
    let offer = hand.sdp(CALLEE, "sendrecv");
    let progress = [RELIABLE, ("RSeq", "9")];
    hand.answer(CALLEE, &invite, 183, "callee", &progress, Some(&offer));
    let early = hand.response(CALLER, "INVITE");
    assert_eq!(early.status(), Some(183));
    assert!(early.body.contains("IN IP4 198.51.100.1"));
    let answer = hand.sdp(CALLER, "sendrecv");
    hand.request(
        CALLER,
        &early,
        "PRACK",
        &[("RAck", &rack(&early))],
        Some(&answer),
    );
    assert_eq!(hand.response(CALLER, "PRACK").status(), Some(200));
    let prack = hand.last(CALLEE, "PRACK");
    assert!(prack.body.contains("IN IP4 192.0.2.1"));
    assert_eq!(hand.world.streams.len(), 1);
    hand.answer(CALLEE, &invite, 200, "callee", &[], None);
    let ok = hand.response(CALLER, "INVITE");
    assert!(ok.status() == Some(200) && ok.body.is_empty());
    hand.request(CALLER, &ok, "ACK", &[], None);
    assert!(hand.last(CALLEE, "ACK").body.is_empty());
}

#[test]
fn a_call_without_offer_of_a_caller_who_confirms_nothing_asks_for_no_early_offer() {
    let mut hand = Hand::new(207);
    let invite = hand.invite(&[], false);
    assert!(!invite.need("Supported").contains("100rel"));
}

#[test]
fn of_two_early_dialogs_the_one_that_speaks_last_is_heard() {
    let mut hand = Hand::new(208);
    let invite = hand.invite(&[("Supported", "199")], true);
    assert!(invite.need("Supported").contains("199"));
    let one = Hand::moved(&hand.sdp(CALLEE, "sendrecv"), 41_000);
    let two = Hand::moved(&hand.sdp(CALLEE, "sendrecv"), 42_000);
    let heard = |hand: &Hand| {
        let (_, b) = hand.world.streams.values().next().cloned().unwrap();
        b.send_to.map(|to| to.port())
    };
    hand.answer(CALLEE, &invite, 183, "one", &[], Some(&one));
    assert_eq!(heard(&hand), Some(41_000));
    let first = hand.response(CALLER, "INVITE").tag("To");
    hand.answer(CALLEE, &invite, 183, "two", &[], Some(&two));
    assert_eq!(heard(&hand), Some(42_000));
    assert_ne!(hand.response(CALLER, "INVITE").tag("To"), first);
    // Said again, it does not take the line back.
    hand.answer(CALLEE, &invite, 183, "one", &[], Some(&one));
    assert_eq!(heard(&hand), Some(42_000));
    hand.answer(CALLEE, &invite, 199, "two", &[], None);
    assert_eq!(hand.response(CALLER, "INVITE").status(), Some(199));
    // The 2xx of the first has no description: what it said early stands.
    hand.answer(CALLEE, &invite, 200, "one", &[], None);
    let ok = hand.response(CALLER, "INVITE");
    assert_eq!((ok.status(), ok.tag("To")), (Some(200), first));
    assert!(ok.body.contains("m=audio"));
    assert_eq!(heard(&hand), Some(41_000));
}

#[test]
fn queued_and_forwarded_calls_are_told_and_199_only_to_those_who_want_it() {
    let mut hand = Hand::new(209);
    let invite = hand.invite(&[], true);
    for status in [181, 182, 199] {
        hand.answer(CALLEE, &invite, status, "callee", &[], None);
    }
    assert_eq!(hand.statuses(CALLER, "INVITE"), [100, 181, 182]);
}

#[test]
fn reliable_responses_survive_a_network_that_loses_a_third() {
    for seed in 210..230 {
        let mut hand = Hand::new(seed);
        let invite = hand.invite(&[("Supported", "100rel")], true);
        let sdp = hand.sdp(CALLEE, "sendrecv");
        hand.world.network.loss = 330;
        // Both ends repeat as RFC 3262 wants, here every second.
        let mut confirmed = false;
        for _ in 0..25 {
            if hand.find(CALLEE, "PRACK").is_none() {
                let progress = [RELIABLE, ("RSeq", "5")];
                hand.answer(CALLEE, &invite, 183, "callee", &progress, Some(&sdp));
            }
            let early = hand
                .inbox(CALLER)
                .iter()
                .find(|message| message.status() == Some(183))
                .cloned();
            if let (Some(early), false) = (early, confirmed) {
                hand.request_numbered(CALLER, &early, "PRACK", 2, &[("RAck", &rack(&early))], None);
            }
            confirmed = !hand.statuses(CALLER, "PRACK").is_empty();
            hand.world.run(millis(980));
        }
        assert!(hand.find(CALLEE, "PRACK").is_some(), "seed {seed}");
    }
}
