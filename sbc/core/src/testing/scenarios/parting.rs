//! What is said at the end, and the order of the beginning: RFC 3326; a 2xx behind its pinholes.

use super::{
    hand::{CALLEE, CALLER, Hand},
    *,
};

#[test]
fn a_bye_says_why_to_the_other_side_without_its_words() {
    let mut hand = Hand::new(310);
    let (_, ok) = hand.talk(&[], &[]);
    let reason = "Q.850;cause=31;text=\"secret words\", X-Own;cause=1, SIP;cause=200";
    hand.request(CALLER, &ok, "BYE", &[("Reason", reason)], None);
    let bye = hand.last(CALLEE, "BYE");
    let told = bye.all("Reason").join(", ");
    assert!(
        told.contains("Q.850;cause=31") && told.contains("SIP;cause=200"),
        "{told}"
    );
    assert!(
        !told.contains("secret") && !told.contains("X-Own"),
        "{told}"
    );
}

#[test]
fn a_cancel_says_why_to_the_callee() {
    let mut hand = Hand::new(311);
    let invite = hand.invite(&[], true);
    hand.answer(CALLEE, &invite, 180, "callee", &[], None);
    let mut cancel = super::super::Message::request("CANCEL", "sip:+49305551001@198.51.100.1");
    let sent = hand.world.wire.iter().find(|wire| !wire.from_core);
    let sent = super::super::Message::parse(&sent.expect("an INVITE").bytes);
    for name in ["Via", "From", "To", "Call-ID", "Max-Forwards"] {
        cancel = cancel.with(name, sent.need(name));
    }
    let cancel = cancel
        .with("CSeq", "1 CANCEL")
        .with("Reason", "SIP;cause=200;text=\"Call completed elsewhere\"");
    hand.send(CALLER, &cancel);
    assert_eq!(hand.last(CALLEE, "CANCEL").need("Reason"), "SIP;cause=200");
    assert_eq!(hand.response(CALLER, "INVITE").status(), Some(487));
}

#[test]
fn a_2xx_leaves_when_its_pinholes_are_there_or_after_a_fifth_of_a_second() {
    for (slow, arrives) in [
        (millis(0), millis(20)),
        (millis(120), millis(140)),
        (seconds(9), millis(220)),
    ] {
        let mut hand = Hand::new(312);
        let invite = hand.invite(&[], true);
        hand.world.latch_delay = slow;
        let sdp = hand.sdp(CALLEE, "sendrecv");
        hand.answer(CALLEE, &invite, 200, "callee", &[], Some(&sdp));
        // The answer itself ran 20 ms of the clock.
        if arrives > millis(20) {
            hand.world.run(arrives - millis(40));
            assert_eq!(
                hand.response(CALLER, "INVITE").status(),
                Some(100),
                "{slow:?}"
            );
            hand.world.run(millis(25));
        }
        assert_eq!(
            hand.response(CALLER, "INVITE").status(),
            Some(200),
            "{slow:?}"
        );
    }
}
