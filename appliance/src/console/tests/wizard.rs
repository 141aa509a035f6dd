//! The wizard, page by page.

use appliance_config::Document;
use broker_proto::control::{Command, FromChild};

use super::{PORTS, Session, to_review};
use crate::console::{app::Place, steps::Step};

#[test]
fn the_wizard_makes_a_valid_document_from_first_to_last_page() {
    let mut session = Session::first();
    to_review(&mut session);
    session
        .sees("Review")
        .sees("Please read")
        .sees(&super::FINGERPRINT[..47])
        .sees(&super::FINGERPRINT[48..]);
    assert_eq!(session.prepared.len(), 1, "the certificate is made once");
    assert!(
        session.sent.is_empty(),
        "nothing is sent before it is confirmed"
    );
    session.press("Confirm").sees("Please wait");
    let (id, text, secrets) = session.proposal().expect("proposed");
    let document = Document::parse(&text, "proposed").expect("valid");
    assert_eq!(document.host.name, "gate-1");
    let outside = document.listeners.iter().filter(|l| l.zone == "external");
    let outside: Vec<_> = outside
        .map(|l| (l.service, l.port, l.certificates.join(" ")))
        .collect();
    use appliance_config::Service;
    assert_eq!(
        outside,
        [
            (Service::SipUdp, 5060, String::new()),
            (Service::SipTcp, 5060, String::new()),
            (Service::SipTls, 5061, "sip".to_owned()),
        ]
    );
    assert_eq!(document.zones.len(), 3);
    assert_eq!(
        document.zones[0].interface.card,
        appliance_config::Card::Mac("52:54:00:00:00:01".parse().expect("mac"))
    );
    assert_eq!(document.host.ntp[1].to_string(), "198.51.100.9:1123");
    assert_eq!(
        document.trunks[0]
            .registration
            .as_ref()
            .map(|r| r.secret.as_str()),
        Some("trunk1")
    );
    assert!(
        document
            .routes
            .iter()
            .any(|route| route.name == "direct-dial" && route.strip == 9)
    );
    assert_eq!(
        secrets,
        [
            ("operator".to_owned(), b"correct horse battery".to_vec()),
            ("trunk1".to_owned(), b"trunk secret".to_vec())
        ]
    );
    session
        .app
        .answer(id, Ok("https://203.0.113.1:8443".into()));
    assert!(
        session.app.draft.secrets(&document).is_empty(),
        "stored passwords are forgotten"
    );
    session.app.configuration(1, &text);
    session.settle();
    session
        .sees("in force")
        .sees("https://203.0.113.1:8443")
        .press("To the status page");
    session.sees("[ Log in ]").sees("gate-1");
}

#[test]
fn passwords_are_never_written_to_the_terminal() {
    let mut session = Session::first();
    to_review(&mut session);
    session.press("Confirm");
    let written = String::from_utf8_lossy(&session.written).into_owned();
    for piece in ["correct", "horse", "battery", "trunk secret", "*****"] {
        assert!(!written.contains(piece), "{piece}");
    }
}

#[test]
fn wrong_input_is_explained_at_its_field_and_holds_the_page() {
    let mut session = Session::first();
    session
        .press("Next")
        .fill("Host name", "two words")
        .press("Next");
    session.sees("! is not a host name").sees("Please correct");
    session
        .fill("Host name", "gate")
        .press("Next")
        .sees("Ports and zones")
        .press("Next");
    session
        .sees("! choose the port")
        .choose("External zone", "eth0")
        .choose("Internal zone", "eth0")
        .choose("Management zone", "eth2");
    session
        .press("Next")
        .sees("! is the card of `zone.external`");
    session
        .fill("  VLAN", "9999")
        .press("Next")
        .sees("! a VLAN's number");
    session
        .fill("  VLAN", "")
        .choose("Internal zone", "eth1")
        .press("Next");
    session
        .choose("IPv4", "static")
        .fill("address/length", "198.51.100.1")
        .press("Next");
    session.sees("! `198.51.100.1` does not fit; write the address with its prefix");
    session
        .fill("address/length", "198.51.100.1/24")
        .fill("default gateway", "192.0.2.9")
        .press("Next");
    session.sees("does not lie in the network 198.51.100.0/24");
    session
        .fill("default gateway", "198.51.100.254")
        .press("Next")
        .sees("Internal zone");
    session
        .fill("address/length", "198.51.100.200/24")
        .press("Next")
        .sees("overlaps with 198.51.100.0/24");
}

#[test]
fn passwords_must_be_long_and_equal() {
    let mut session = Session::first();
    session.app.go(Place::Step(Step::Password));
    session.settle();
    session.press("Next").sees("12 characters at least");
    session
        .fill("Password", "long enough 1")
        .fill("Once more", "long enough 2")
        .press("Next");
    session.sees("is not the same as above");
    session
        .fill("Once more", "long enough 1")
        .press("Next")
        .sees("Telephony");
}

#[test]
fn back_works_on_every_page_and_keeps_what_was_typed() {
    let mut session = Session::first();
    to_review(&mut session);
    session
        .sees("11/11")
        .press("Back")
        .sees("198.51.100.20")
        .sees("(typed, not shown)");
    for progress in [
        "9/11", "8/11", "7/11", "6/11", "5/11", "4/11", "3/11", "2/11",
    ] {
        session.escape().sees(progress);
    }
    session
        .sees("gate-1")
        .press("Back")
        .sees("1/11")
        .escape()
        .sees("1/11");
    for _ in 0..10 {
        session.press("Next");
    }
    session.sees("Review").press("Confirm");
    assert!(session.proposal().is_some());
}

#[test]
fn control_c_asks_and_loses_nothing() {
    let mut session = Session::first();
    session
        .press("Next")
        .fill("Host name", "kept-name")
        .keys("\x03")
        .sees("What you typed is kept");
    session.press("Go on").sees("kept-name");
    session
        .keys("\x03")
        .press("Leave")
        .sees("not finished")
        .sees("Nothing is listening");
    session.press("Go on with").sees("kept-name");
    session.keys("\x03").keys("\x03").sees("kept-name");
    session
        .keys("\x03")
        .press("Discard")
        .sees("1/11")
        .press("Next");
    assert!(!session.screen().contains("kept-name"));
    assert!(session.sent.is_empty());
}

#[test]
fn the_review_says_the_rules_in_words_and_in_german_too() {
    let mut session = Session::first();
    to_review(&mut session);
    let mut seen = String::new();
    for _ in 0..8 {
        seen.push_str(&session.screen());
        session.keys("\x1b[6~");
    }
    for words in [
        "Zone external (external): port 52:54:00:00:00:01",
        "Answers: SIP (UDP 5060), SIP (TCP 5060), SIP-TLS (TCP 5061)",
        "Encrypted SIP (TLS) is accepted in zone external on port 5061",
        "Only from here the box is operated",
        "Nothing is forwarded between the zones",
        "dropped without an answer",
        "PBX of example.org",
        "registers as 4930",
        "refused (403)",
        &super::FINGERPRINT[..47],
        &super::FINGERPRINT[48..],
    ] {
        assert!(seen.contains(words), "{words}\n{seen}");
    }
    session.app.go(Place::Step(Step::Language));
    session.settle();
    session.choose("Language", "Deutsch").sees("Weiter");
    for _ in 0..10 {
        session.press("Weiter");
    }
    session
        .sees("Prüfen")
        .sees("Bestätigen")
        .sees("Anschluss 52:54:00:00:00:01");
}

#[test]
fn encrypted_sip_can_be_declined_and_a_new_set_up_asks_again() {
    let mut session = Session::first();
    to_review(&mut session);
    for (answer, ports) in [("no", &[5060, 5060][..]), ("yes", &[5060, 5060, 5061])] {
        session.app.go(Place::Step(Step::Telephony));
        session.settle();
        session
            .sees("Accept encrypted SIP from outside (TLS, port 5061)?")
            .choose("Encrypted SIP", answer);
        let (.., document) = session.app.all_problems();
        let outside = document.listeners.iter().filter(|l| l.zone == "external");
        assert_eq!(outside.map(|l| l.port).collect::<Vec<_>>(), ports);
    }
    session.choose("Encrypted SIP", "no");
    session.press("Next").press("Next").sees("Review");
    let mut seen = String::new();
    for _ in 0..8 {
        seen.push_str(&session.screen());
        session.keys("\x1b[6~");
    }
    assert!(
        seen.contains("Encrypted SIP (TLS) is not accepted."),
        "{seen}"
    );
}

#[test]
fn a_refusal_of_init_is_shown_and_the_draft_is_kept() {
    let mut session = Session::first();
    to_review(&mut session);
    session.press("Confirm");
    let (id, ..) = session.proposal().expect("proposed");
    session.app.answer(
        id,
        Err(vec![
            "the data partition is full".into(),
            "second line".into(),
        ]),
    );
    session.settle();
    session
        .sees("was refused")
        .sees("the data partition is full")
        .sees("second line")
        .press("Back to the review")
        .sees("Review");
    session.press("Confirm");
    let (_, _, secrets) = session.proposal().expect("proposed again");
    assert_eq!(
        secrets.len(),
        2,
        "passwords too are kept until they are stored"
    );
}

#[test]
fn the_review_lists_what_is_left_to_do_and_cannot_be_confirmed_then() {
    let mut session = Session::first();
    session.app.go(Place::Step(Step::Review));
    session.settle();
    session
        .sees("Before this can be confirmed")
        .sees("Page 3: choose the port")
        .sees("Page 8:");
    assert!(!session.screen().contains("[ Confirm"));
    session.keys("\r\t\r\t\r");
    assert!(session.proposal().is_none());
}

#[test]
fn ports_show_their_link_live_and_blink_on_enter() {
    let mut session = Session::first();
    session
        .press("Next")
        .press("Next")
        .sees("eth2")
        .sees("no link")
        .sees("e1000e");
    session.now += 3000;
    session.app.tick(session.now);
    let asked = session.app.take_messages();
    let [
        FromChild::Command {
            id,
            command: Command::Ports,
        },
    ] = asked.as_slice()
    else {
        panic!("{asked:?}")
    };
    session
        .app
        .answer(*id, Ok(PORTS.replace("e1000e down", "e1000e up")));
    session.settle();
    assert!(!session.screen().contains("no link"));
    session.focus("eth1").keys("\r");
    let (id, command) = session.command().expect("asked");
    assert_eq!(command, Command::Identify(1));
    session
        .app
        .answer(id, Ok(broker_proto::control::BLINKS.into()));
    session.settle();
    session
        .sees("eth1 blinks for 10 seconds")
        .sees("Ports and zones");
    session.keys("\r");
    let (id, _) = session.command().expect("asked");
    session.app.answer(
        id,
        Ok(PORTS.replace("02 virtio_net up", "02 virtio_net down")),
    );
    session.settle();
    session
        .sees("eth1: link down")
        .sees("cannot blink")
        .sees("no link");
}
