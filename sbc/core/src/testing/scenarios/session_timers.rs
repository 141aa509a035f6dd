//! Session timers: RFC 4028, each leg by itself.

use super::{
    hand::{CALLEE, CALLER, Hand},
    *,
};

const TIMER: (&str, &str) = ("Supported", "timer");
const UPDATE: (&str, &str) = ("Allow", "INVITE, ACK, BYE, UPDATE");

#[test]
fn each_leg_agrees_on_its_own_interval_and_refresher() {
    let mut hand = Hand::new(260);
    let invite = hand.invite(
        &[
            TIMER,
            ("Session-Expires", "600;refresher=uac"),
            ("Min-SE", "100"),
        ],
        true,
    );
    assert_eq!(invite.need("Session-Expires"), "1800");
    assert_eq!(invite.need("Min-SE"), "90");
    assert!(invite.need("Supported").contains("timer"));
    let sdp = hand.sdp(CALLEE, "sendrecv");
    let says = [
        ("Session-Expires", "900;refresher=uas"),
        ("Require", "timer"),
    ];
    hand.answer(CALLEE, &invite, 200, "callee", &says, Some(&sdp));
    let ok = hand.response(CALLER, "INVITE");
    assert_eq!(ok.need("Session-Expires"), "600;refresher=uac");
    assert_eq!(ok.need("Require"), "timer");
}

#[test]
fn a_session_that_is_too_short_is_422_and_ours_is_raised_after_422() {
    let mut hand = Hand::new(261);
    let caller = hand.caller;
    let short = |hand: &mut Hand, value: &str| {
        let offer = hand.sdp(CALLER, "sendrecv");
        let invite = super::super::Message::request("INVITE", "sip:+49305551001@198.51.100.1")
            .with(
                "Via",
                format!("SIP/2.0/UDP {caller};branch=z9hG4bKshort{value}"),
            )
            .with("Max-Forwards", "70")
            .with("From", "<sip:+491701234567@carrier.test>;tag=caller")
            .with("To", "<sip:+49305551001@198.51.100.1>")
            .with("Call-ID", "short")
            .with("CSeq", "1 INVITE")
            .with("Contact", format!("<sip:carrier@{caller}>"))
            .with("Supported", "timer")
            .with("Session-Expires", value)
            .with_body("application/sdp", &offer);
        hand.send(CALLER, &invite);
        hand.response(CALLER, "INVITE")
    };
    let refused = short(&mut hand, "60");
    assert_eq!(refused.status(), Some(422));
    assert_eq!(refused.need("Min-SE"), "90");

    let mut hand = Hand::new(262);
    let invite = hand.invite(&[], true);
    hand.answer(CALLEE, &invite, 422, "callee", &[("Min-SE", "3000")], None);
    let again = hand.last(CALLEE, "INVITE");
    assert_eq!(again.need("Session-Expires"), "3000");
    assert_eq!(again.need("Min-SE"), "3000");
    assert_eq!(again.cseq().0, invite.cseq().0 + 1);
    assert_eq!(again.need("Call-ID"), invite.need("Call-ID"));
    // One that asks for the same again gets no third try.
    hand.answer(CALLEE, &again, 422, "callee", &[("Min-SE", "3000")], None);
    assert_eq!(hand.count(CALLEE, "INVITE"), 2);
    assert_eq!(hand.response(CALLER, "INVITE").status(), Some(500));
}

#[test]
fn we_refresh_by_update_or_by_reinvite_at_half_time() {
    for (says, method) in [
        (UPDATE, "UPDATE"),
        (("Allow", "INVITE, ACK, BYE"), "INVITE"),
    ] {
        let mut hand = Hand::new(263);
        let expires = ("Session-Expires", "200;refresher=uac");
        hand.talk(&[], &[says, expires]);
        let before = hand.last(CALLEE, "INVITE").body;
        hand.world.run(seconds(99));
        assert_eq!(
            hand.count(CALLEE, "UPDATE") + hand.count(CALLEE, "INVITE"),
            1
        );
        hand.world.run(seconds(2));
        let refresh = hand.last(CALLEE, method);
        assert_eq!(refresh.need("Session-Expires"), "200;refresher=uac");
        let sdp = hand.sdp(CALLEE, "sendrecv");
        if method == "INVITE" {
            // The session is the same, its version too.
            assert_eq!(refresh.body, before);
            hand.answer(CALLEE, &refresh, 200, "", &[expires], Some(&sdp));
            assert_eq!(hand.count(CALLEE, "ACK"), 2);
        } else {
            assert!(refresh.body.is_empty());
            hand.answer(CALLEE, &refresh, 200, "", &[expires], None);
        }
        hand.world.run(seconds(90));
        assert_eq!(hand.world.calls().len(), 1);
        // Nobody answers the next one.
        hand.world.run(seconds(110));
        assert!(hand.world.calls().is_empty());
        hand.world.run(seconds(120));
        assert_tidy(&mut hand.world);
    }
}

#[test]
fn a_session_that_the_far_end_does_not_refresh_is_ended_before_it_is_over() {
    let mut hand = Hand::new(264);
    hand.talk(&[TIMER, ("Session-Expires", "120;refresher=uac")], &[]);
    hand.world.run(seconds(87));
    assert_eq!(hand.world.calls().len(), 1);
    // 120 s less 32 s (a third would be 40 s).
    hand.world.run(seconds(2));
    assert_eq!(hand.count(CALLER, "BYE"), 1);
    assert_eq!(hand.world.end_record().ended_by, "session-expired");
}

#[test]
fn a_refresh_of_the_far_end_is_answered_here_and_pushes_the_end_out() {
    let mut hand = Hand::new(265);
    let asks = [TIMER, ("Session-Expires", "120;refresher=uac"), UPDATE];
    let (_, ok) = hand.talk(&asks, &[]);
    for _ in 0..5 {
        hand.world.run(seconds(60));
        let expires = ("Session-Expires", "120;refresher=uac");
        hand.request(CALLER, &ok, "UPDATE", &[TIMER, expires], None);
        let answer = hand.response(CALLER, "UPDATE");
        assert_eq!(answer.need("Session-Expires"), "120;refresher=uac");
    }
    assert_eq!(hand.count(CALLEE, "UPDATE"), 0);
    assert_eq!(hand.world.calls().len(), 1);
    hand.request(
        CALLER,
        &ok,
        "UPDATE",
        &[TIMER, ("Session-Expires", "30")],
        None,
    );
    assert_eq!(hand.response(CALLER, "UPDATE").status(), Some(422));
}

#[test]
fn a_refresh_that_meets_a_glare_is_made_again_after_two_seconds_at_least() {
    let mut hand = Hand::new(266);
    hand.talk(&[], &[("Session-Expires", "200;refresher=uac")]);
    hand.world.run(seconds(101));
    let refresh = hand.last(CALLEE, "INVITE");
    hand.answer(CALLEE, &refresh, 491, "", &[], None);
    assert_eq!(hand.count(CALLEE, "INVITE"), 2);
    hand.world.run(millis(2_000));
    assert_eq!(hand.count(CALLEE, "INVITE"), 2);
    // The Call-ID of this leg is ours: 2.1 to 4 s (RFC 3261 §14.1).
    hand.world.run(millis(2_100));
    assert_eq!(hand.count(CALLEE, "INVITE"), 3);
}

#[test]
fn no_timer_is_forced_on_who_does_not_know_it() {
    let mut hand = Hand::new(267);
    let (_, ok) = hand.talk(&[], &[]);
    assert!(ok.get("Session-Expires").is_none());
    hand.world.run(seconds(3 * 3600));
    assert_eq!(hand.world.calls().len(), 1);
    assert_eq!(
        hand.count(CALLER, "INVITE") + hand.count(CALLEE, "INVITE"),
        1
    );
}
