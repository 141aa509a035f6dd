//! Bodies with several parts: what is not understood and optional stays behind, what is required refuses the request.
//! RFC 5621 §3 and §8, RFC 3261 §20.11, RFC 3204.

use super::hand::{CALLEE, CALLER, Hand};
use crate::testing::Message;

/// A multipart with a description and further parts, each its head and octets.
fn mixed(sdp: &str, parts: &[&str]) -> String {
    let mut body = format!("--gh-b1\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n");
    for part in parts {
        body.push_str(&format!("--gh-b1\r\n{part}\r\n"));
    }
    body + "--gh-b1--\r\n"
}

/// The caller's INVITE with these parts beside its offer; what became of it.
fn invited(seed: u64, parts: &[&str]) -> Hand {
    let mut hand = Hand::new(seed);
    let sdp = hand.sdp(CALLER, "sendrecv");
    let invite = Message::request("INVITE", "sip:+49305551001@198.51.100.1")
        .with(
            "Via",
            format!("SIP/2.0/UDP {};branch=z9hG4bKm", hand.caller),
        )
        .with("Max-Forwards", "70")
        .with("From", "<sip:+491701234567@carrier.test>;tag=caller")
        .with("To", "<sip:+49305551001@198.51.100.1>")
        .with("Call-ID", "secret-multipart")
        .with("CSeq", "1 INVITE")
        .with("Contact", format!("<sip:carrier@{}>", hand.caller))
        .with("MIME-Version", "1.0")
        .with_body("multipart/mixed;boundary=gh-b1", &mixed(&sdp, parts));
    hand.send(CALLER, &invite);
    hand
}

#[test]
fn an_unknown_optional_part_stays_behind_and_the_offer_goes_on() {
    for (number, part) in [
        "Content-Type: application/ISUP;version=nxv3;base=etsi121\r\n\
         Content-Disposition: signal;handling=optional\r\n\r\nsecret-isup",
        "Content-Disposition: signal ; handling = OPTIONAL\r\nContent-Type: application/QSIG; version=iso\r\n\r\nsecret",
        "Content-Type: application/vnd.secret\r\nContent-Disposition: render;filename=\"a; b\";handling=\"optional\"\r\n\r\nx",
        "Content-Type: application/vnd.secret\r\nContent-Transfer-Encoding: base64\r\nContent-Description: secret part\r\n\
         Content-Disposition: by-reference;handling=optional\r\n\r\nc2VjcmV0",
        "Content-Type: application/vnd.secret\r\nContent-Disposition: x;handling=optional\r\n\r\n",
        "Content-Type: application/vnd.secret\r\nContent-Disposition: x;handling=optional",
        "Content-Type: multipart/mixed;boundary=secret-b2\r\nContent-Disposition: x;handling=optional\r\n\r\n\
         --secret-b2\r\nContent-Type: application/vnd.secret\r\n\r\nx\r\n--secret-b2--",
        "Content-Type: multipart/mixed;boundary=secret-b2\r\nContent-Disposition: x;handling=optional\r\n\r\nnever begun",
        "Content-Type: secret\r\nContent-Disposition: x;handling=optional\r\n\r\nx",
    ]
    .into_iter()
    .enumerate()
    {
        let hand = invited(4_000 + number as u64, &[part]);
        let statuses = hand.statuses(CALLER, "INVITE");
        assert_eq!(statuses, [100], "{part}");
        let got = hand.last(CALLEE, "INVITE");
        assert_eq!(got.need("Content-Type"), "application/sdp", "{part}");
        assert!(got.body.starts_with("v=0\r\n") && !got.body.contains("secret"), "{part}");
    }
}

#[test]
fn an_unknown_required_part_refuses_the_request_with_415_and_what_would_do() {
    for (number, part) in [
        "Content-Type: application/ISUP\r\nContent-Disposition: signal;handling=required\r\n\r\nx",
        // RFC 5621 §8: required where nothing is said.
        "Content-Type: application/ISUP\r\n\r\nx",
    ]
    .into_iter()
    .enumerate()
    {
        let hand = invited(4_020 + number as u64, &[part]);
        let refused = hand.response(CALLER, "INVITE");
        assert_eq!(refused.status(), Some(415), "{part}");
        assert!(refused.need("Accept").contains("application/sdp"));
        assert!(hand.find(CALLEE, "INVITE").is_none());
    }
}

#[test]
fn a_multipart_that_cannot_be_taken_apart_is_400() {
    for (number, part) in ["no head at all", "Content-Type: secret\r\n\r\nx"]
        .into_iter()
        .enumerate()
    {
        let hand = invited(4_030 + number as u64, &[part]);
        assert_eq!(
            hand.response(CALLER, "INVITE").status(),
            Some(400),
            "{part}"
        );
    }
}
