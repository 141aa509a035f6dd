//! Header fields of extensions: read, written, refused; each by a message that carries it.

use super::*;
use crate::error::{ParseError, Syntax};
use crate::limits::Limits;
use crate::message::{Framing, Message, Request, parse};

fn read(line: &str) -> Result<Request, ParseError> {
    let text = format!(
        "NOTIFY sip:b@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\n\
         From: <sip:a@a.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: c\r\nCSeq: 1 NOTIFY\r\n{line}\r\n\r\n"
    );
    match parse(text.as_bytes(), Framing::Datagram, &Limits::default()) {
        Ok(Message::Request(request)) => Ok(*request),
        Ok(Message::Response(_)) => panic!("a response"),
        Err(rejected) => Err(rejected.error),
    }
}

fn headers(line: &str) -> Headers {
    read(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .headers
}

/// `line` is read into a field of its own and written as `written`.
#[track_caller]
fn round(line: &str, written: &str) {
    let headers = headers(line);
    let field = headers.fields.first().expect("a field");
    assert!(
        headers.fields.len() == 1 && !matches!(field, Field::Text(..)),
        "{line}"
    );
    assert_eq!(format!("{}: {field}", field.name()), written, "{line}");
    let again = self::headers(written);
    assert_eq!(again.fields, headers.fields, "{line}");
}

#[track_caller]
fn refused(line: &str, offence: Syntax) {
    match read(line) {
        Err(ParseError::Header(_, have)) => assert_eq!(have, offence, "{line}"),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_extension_field_is_read_and_written_from_its_type() {
    for line in [
        "RSeq: 988789",
        "RAck: 776656 1 INVITE",
        "Session-Expires: 4000;refresher=uac",
        "Min-SE: 90",
        "Refer-Sub: false",
        "Event: presence.winfo;id=q7",
        "Allow-Events: spirits-INDPs, dialog",
        "Subscription-State: terminated;reason=noresource;retry-after=20",
        "SIP-ETag: dx200xyz",
        "SIP-If-Match: dx200xyz",
        "P-Asserted-Identity: \"Cullen\" <sip:fluffy@a.example>, <tel:+14085264000>",
        "P-Preferred-Identity: <sip:fluffy@a.example>",
        "P-Associated-URI: <sip:a@a.example>, <tel:+49301234>",
        "P-Called-Party-ID: <sip:a@a.example>",
        "Privacy: user;id;critical",
        "Reason: Q.850;cause=16;text=\"Terminated\", SIP;cause=200",
        "Path: <sip:p@edge.example;lr>, <sip:p2.example;lr>",
        "Service-Route: <sip:p2.example;lr>",
        "Security-Client: sdes-srtp;mediasec, tls;q=0.2",
        "Security-Server: ipsec-ike;q=0.1, tls;q=0.2",
        "Security-Verify: msrp-tls;mediasec",
        "User-to-User: 56a390f3d2b7310023a2;encoding=hex;purpose=isdn-uui;content=isdn-uui",
        "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2",
        "Resource-Priority: esnet.0, dsn.flash",
        "Accept-Resource-Priority: esnet.0, esnet.1",
        "Diversion: <sip:a@a.example>;reason=user-busy;counter=1",
        "History-Info: <sip:a@a.example>;index=1, <sip:b@a.example?Reason=SIP%3Bcause%3D302>;index=1.1;mp=1",
        "Target-Dialog: fa77as7dad8-sd98ajzz@host.example;local-tag=kkaz-;remote-tag=6544",
        "Replaces: 98asjd8@test.example;to-tag=12345;from-tag=54321;early-only",
        "Join: 98asjd8@test.example;to-tag=12345;from-tag=54321",
        "Warning: 370 a.example \"Insufficient bandwidth\"",
        "Flow-Timer: 120",
        "Max-Breadth: 60",
        "Info-Package: nortel",
        "Recv-Info: foo, bar",
        "Identity: eyJhbGciOiJFUzI1NiJ9.eyJvcmlnIjp7InRuIjoiMTIxNTU1NTEyMTIifX0.r_zTd-QUlrWCdA;info=<https://cert.example.org/passport.cer>;alg=ES256;ppt=\"shaken\"",
        "Identity: \"CyI4+nAkHrH3ntmaxgr01TMxTmtjP7MASwliNRdupRI1vpkXRvZXx1ja9k=\"",
        "Identity: ..rq3pjT1;info=<https://biloxi.example.org/biloxi.cer>",
    ] {
        round(line, line);
    }
}

#[test]
fn compact_forms_are_the_same_fields() {
    for (line, written) in [
        ("x: 1800", "Session-Expires: 1800"),
        ("r: <sip:c@c.example>", "Refer-To: <sip:c@c.example>"),
        ("b: <sip:c@c.example>", "Referred-By: <sip:c@c.example>"),
        ("o: dialog;id=1", "Event: dialog;id=1"),
        ("u: dialog", "Allow-Events: dialog"),
        (
            "y: ..abc;info=<https://a.example/c>",
            "Identity: ..abc;info=<https://a.example/c>",
        ),
        ("k: 100rel, timer", "Supported: 100rel, timer"),
    ] {
        round(line, written);
    }
}

#[test]
fn lines_of_one_list_are_one_field() {
    let headers = headers(
        "Security-Server: tls\r\nSecurity-Server: sdes-srtp;mediasec\r\nIdentity: ..a;info=<https://a.example/1>\r\n\
         y: ..b;info=<https://a.example/2>",
    );
    assert_eq!(headers.security_server().unwrap().len(), 2);
    assert_eq!(headers.identity().unwrap().len(), 2);
    assert!(headers.security_server().unwrap()[1].params.has("mediasec"));
}

#[test]
fn what_may_stand_once_stands_once() {
    for line in [
        "Event: dialog",
        "Subscription-State: active",
        "Refer-To: <sip:c@c.example>",
        "Replaces: a;to-tag=1;from-tag=2",
        "Target-Dialog: a;local-tag=1;remote-tag=2",
        "Session-Expires: 90",
        "Min-SE: 90",
        "Refer-Sub: true",
        "SIP-ETag: a",
        "SIP-If-Match: a",
        "RAck: 1 1 INVITE",
        "RSeq: 1",
        "Session-ID: ab30317f1a784dc48ff824d0d3715d86",
        "Flow-Timer: 1",
    ] {
        let twice = format!("{line}\r\n{line}");
        assert!(
            matches!(read(&twice), Err(ParseError::Duplicate(_))),
            "{line}"
        );
    }
}

#[test]
fn values_outside_their_grammar_are_refused() {
    for (line, offence) in [
        ("RSeq: 0", Syntax::Range),
        ("RSeq: 4294967296", Syntax::Range),
        ("RAck: 0 1 INVITE", Syntax::Range),
        ("RAck: 1 2147483648 INVITE", Syntax::Range),
        ("RAck: 1 INVITE", Syntax::Number),
        ("Session-Expires: 90;refresher=me", Syntax::Parameter),
        ("Session-Expires: x", Syntax::Number),
        ("Min-SE: -1", Syntax::Number),
        ("Event: .winfo", Syntax::Token),
        ("Event: a..b", Syntax::Token),
        ("Event: a;id=\"x\"", Syntax::Parameter),
        ("Subscription-State: active;expires=x", Syntax::Range),
        ("Subscription-State: ;expires=1", Syntax::Token),
        ("Refer-Sub: maybe", Syntax::Token),
        (
            "Refer-To: sip:a@a.example?Replaces=x",
            Syntax::AngleBrackets,
        ),
        ("SIP-ETag: a b", Syntax::Trailing),
        ("Privacy: id,user", Syntax::Trailing),
        ("Reason: SIP;cause=many", Syntax::Range),
        ("Security-Client: tls;q=2", Syntax::Range),
        ("User-to-User: ;encoding=hex", Syntax::Token),
        (
            "Session-ID: AB30317F1A784DC48FF824D0D3715D86",
            Syntax::Token,
        ),
        ("Session-ID: ab30", Syntax::Token),
        (
            "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=1",
            Syntax::Token,
        ),
        ("Resource-Priority: esnet", Syntax::Token),
        ("Resource-Priority: esnet.0.1", Syntax::Trailing),
        ("Target-Dialog: a;local-tag=1", Syntax::Parameter),
        ("Replaces: a;to-tag=1", Syntax::Parameter),
        ("Join: a;to-tag=1", Syntax::Parameter),
        ("Identity: abc;info=<https://a.example>", Syntax::Trailing),
        ("Identity: a.b.c", Syntax::Parameter),
        (
            "Identity: a.b.c;info=https://a.example",
            Syntax::AngleBrackets,
        ),
        ("Warning: 37 a \"x\"", Syntax::Range),
        ("Contact: <sip:a@a.example>;reg-id=0", Syntax::Range),
        ("Contact: <sip:a@a.example>;q=1.5", Syntax::Range),
    ] {
        refused(line, offence);
    }
}

#[test]
fn what_a_subscription_says_is_read_as_meant() {
    let headers = headers("Event: dialog;id=4\r\nSubscription-State: Active;expires=60");
    assert_eq!(headers.event().unwrap().id().unwrap(), "4");
    assert!(
        headers
            .event()
            .unwrap()
            .matches(&Event::new("dialog").with_id("4"))
    );
    assert!(!headers.event().unwrap().matches(&Event::new("dialog")));
    let state = headers.subscription_state().unwrap();
    assert_eq!(
        (&state.state, state.expires()),
        (&Substate::Active, Some(60))
    );
    let over = SubscriptionState::terminated("timeout");
    assert_eq!(over.to_string(), "terminated;reason=timeout");
    assert!(over.is_terminated());
}

#[test]
fn a_contact_of_an_outbound_phone_says_instance_and_flow() {
    let headers = headers(
        "Contact: <sip:a@192.0.2.1;transport=tcp;ob>;reg-id=1;expires=3600;q=0.5;\
         +sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"",
    );
    let contact = &headers.contacts[0];
    assert_eq!(
        contact.instance().unwrap(),
        "urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF"
    );
    assert_eq!((contact.reg_id(), contact.expires()), (Some(1), Some(3600)));
    assert_eq!(contact.q_thousandths(), 500);
    assert!(contact.uri.sip().unwrap().is_outbound());
}

#[test]
fn a_replaces_in_a_refer_to_is_read_with_its_escapes_resolved() {
    let headers = headers(
        "Refer-To: <sip:dave@d.example?Replaces=425928%40bobster.example.org%3Bto-tag%3D7743%3Bfrom-tag%3D6472&Require=replaces>",
    );
    let uri = headers.refer_to().unwrap().uri.sip().unwrap();
    let replaces: Replaces = uri.carried("replaces").unwrap().parse().unwrap();
    assert_eq!(
        replaces.call_id.text().as_str(),
        "425928@bobster.example.org"
    );
    assert_eq!(
        (
            replaces.to_tag().unwrap().as_str(),
            replaces.from_tag().unwrap().as_str()
        ),
        ("7743", "6472")
    );
    let again = crate::uri::SipUri {
        headers: Vec::new(),
        ..uri.clone()
    }
    .carrying("Replaces", &replaces.to_string());
    assert_eq!(again.carried("Replaces").unwrap(), replaces.to_string());
    assert!(again.carries("REPLACES") && !again.carries("Require"));
}

#[test]
fn a_header_carried_twice_or_with_a_line_break_is_none() {
    for text in [
        "sip:a@a.example?Replaces=a&replaces=b",
        "sip:a@a.example?Replaces=a%0D%0AVia%3A%20x",
    ] {
        let uri: crate::uri::Uri = text.parse().unwrap();
        assert_eq!(uri.sip().unwrap().carried("Replaces"), None, "{text}");
    }
}

#[test]
fn histories_and_diversions_tell_their_order_and_reason() {
    let headers = headers(
        "History-Info: <sip:a@a.example>;index=1.1.2\r\nDiversion: \"A\" <tel:+4930>;reason=\"no-answer\"",
    );
    assert_eq!(
        headers.history_info().unwrap()[0].history_index().unwrap(),
        [1, 1, 2]
    );
    assert_eq!(
        headers.diversion().unwrap()[0].diversion_reason().unwrap(),
        "no-answer"
    );
}

#[test]
fn identifiers_of_a_session_are_128_bits() {
    let headers = headers(
        "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000",
    );
    let id = headers.session_id().unwrap();
    assert_eq!(
        id.local_number(),
        Some(0xab30_317f_1a78_4dc4_8ff8_24d0_d371_5d86)
    );
    assert_eq!(id.remote_number(), Some(0));
    assert_eq!(
        SessionId::new(1, 2).to_string(),
        "00000000000000000000000000000001;remote=00000000000000000000000000000002"
    );
}

#[test]
fn user_to_user_is_isdn_and_hexadecimal_unless_it_says_otherwise() {
    let headers = headers("User-to-User: 00C81031, \"=03;a\";encoding=x;purpose=foo");
    let [one, two] = headers.user_to_user().unwrap() else {
        panic!("two values")
    };
    assert_eq!((one.purpose(), one.encoding()), ("isdn-uui", "hex"));
    assert_eq!(
        (two.purpose(), two.data.to_plain().as_ref()),
        ("foo", "=03;a")
    );
}

#[test]
fn a_priority_of_our_own_is_two_tokens_without_dots() {
    assert!(
        ResourcePriority::new("esnet", "0")
            .unwrap()
            .is("ESNET", "0")
    );
    assert_eq!(ResourcePriority::new("es.net", "0"), None);
    assert_eq!(ResourcePriority::new("esnet", ""), None);
}

#[test]
fn a_statement_names_its_algorithm_and_kind() {
    let headers = headers("Identity: ..a;info=<https://a.example/1>;ppt=shaken");
    let identity = &headers.identity().unwrap()[0];
    assert_eq!(
        (
            identity.algorithm().as_str(),
            identity.extension().as_deref()
        ),
        ("ES256", Some("shaken"))
    );
    assert_eq!(identity.digest.to_plain(), "..a");
}
