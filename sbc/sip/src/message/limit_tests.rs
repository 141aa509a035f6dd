//! Each limit at its edge: as much as it allows is read, one more is refused with the offence of its own.

use super::*;
use crate::error::{ParseError, Syntax};
use crate::framing::Stream;
use crate::headers::HeaderName;
use crate::limits::Limits;

const HEAD: &str =
    "From: <sip:a@a.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";
const VIA: &str = "Via: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\n";

fn invite(lines: &str) -> String {
    format!("INVITE sip:b@b.example SIP/2.0\r\n{VIA}{HEAD}{lines}\r\n")
}

fn offence(text: &str, limits: &Limits) -> Option<ParseError> {
    parse(text.as_bytes(), Framing::Datagram, limits)
        .err()
        .map(|rejected| rejected.error)
}

/// `text` of `most` is read, of one more is refused so.
#[track_caller]
fn edge(most: usize, text: impl Fn(usize) -> String, error: ParseError) {
    let limits = Limits::default();
    assert_eq!(offence(&text(most), &limits), None);
    assert_eq!(offence(&text(most + 1), &limits), Some(error));
}

fn many(value: &str, count: usize) -> String {
    vec![value; count].join(", ")
}

fn params(count: usize) -> String {
    (0..count).map(|index| format!(";p{index}")).collect()
}

fn too_many(name: HeaderName) -> ParseError {
    ParseError::Header(name, Syntax::TooManyValues)
}

#[test]
fn a_message_is_as_large_as_a_datagram_can_be() {
    let most = Limits::default().message;
    let text = |length: usize| {
        let head = invite("Content-Type: text/plain\r\n");
        let body = "x".repeat(length - head.len());
        format!("{head}{body}")
    };
    edge(most, text, ParseError::MessageTooLarge);
}

#[test]
fn a_head_has_its_own_limit() {
    let limits = Limits {
        head: 400,
        ..Limits::default()
    };
    let text = |length: usize| {
        let empty = invite("Subject: \r\n").len();
        invite(&format!("Subject: {}\r\n", "x".repeat(length - empty)))
    };
    assert_eq!(offence(&text(401), &limits), None);
    assert_eq!(offence(&text(403), &limits), Some(ParseError::HeadTooLarge));
}

#[test]
fn header_fields_are_counted() {
    // Five stand in every one of these messages.
    let most = Limits::default().header_fields - 5;
    let text = |count: usize| invite(&"Odd: x\r\n".repeat(count));
    edge(most, text, ParseError::TooManyHeaderFields);
}

#[test]
fn a_header_field_is_measured_unfolded() {
    let most = Limits::default().header_field;
    let text = |length: usize| {
        let (name, value) = ("Subject: ", "x".repeat(length - 9 - 2));
        invite(&format!("{name}x\r\n  {value}\r\n"))
    };
    edge(most, text, ParseError::HeaderFieldTooLong);
}

#[test]
fn hops_are_counted_in_via_over_all_its_lines() {
    let most = Limits::default().vias;
    let text = |count: usize| {
        let one = "SIP/2.0/UDP a.example;branch=z9hG4bKy";
        let half = count / 2;
        invite(&format!(
            "v: {}\r\nVia: {}\r\n",
            many(one, half),
            many(one, count - half - 1)
        ))
    };
    edge(most, text, too_many(HeaderName::Via));
}

#[test]
fn routes_are_counted_over_all_their_lines() {
    let most = Limits::default().routes;
    for (line, name) in [
        ("Route", HeaderName::Route),
        ("Record-Route", HeaderName::RecordRoute),
        ("Path", HeaderName::Path),
        ("Service-Route", HeaderName::ServiceRoute),
    ] {
        let text = |count: usize| {
            let one = "<sip:p.example;lr>";
            invite(&format!(
                "{line}: {}\r\n{line}: {one}\r\n",
                many(one, count - 1)
            ))
        };
        edge(most, text, too_many(name));
    }
}

#[test]
fn contacts_are_counted() {
    let most = Limits::default().contacts;
    let text = |count: usize| invite(&format!("m: {}\r\n", many("<sip:a@a.example>", count)));
    edge(most, text, too_many(HeaderName::Contact));
}

#[test]
fn values_of_any_other_list_are_counted() {
    let most = Limits::default().list;
    for (line, value, name) in [
        ("Supported", "x", HeaderName::Supported),
        ("Allow", "X", HeaderName::Allow),
        ("Reason", "SIP", HeaderName::Reason),
        ("Warning", "399 a \"x\"", HeaderName::Warning),
        ("History-Info", "<sip:a>", HeaderName::HistoryInfo),
        ("Diversion", "<sip:a>", HeaderName::Diversion),
        ("Security-Verify", "tls", HeaderName::SecurityVerify),
        ("User-to-User", "00", HeaderName::UserToUser),
        ("Resource-Priority", "a.b", HeaderName::ResourcePriority),
    ] {
        let text = |count: usize| {
            let half = many(value, count - 1);
            invite(&format!("{line}: {half}\r\n{line}: {value}\r\n"))
        };
        edge(most, text, too_many(name));
    }
}

#[test]
fn an_identity_is_one_of_two() {
    let text = |count: usize| {
        invite(&format!(
            "P-Asserted-Identity: {}\r\n",
            many("<sip:a@a.example>", count)
        ))
    };
    edge(2, text, too_many(HeaderName::PAssertedIdentity));
}

#[test]
fn parameters_of_a_value_are_counted() {
    let most = Limits::default().parameters;
    let offence = |name| ParseError::Header(name, Syntax::TooManyParameters);
    let text = |count: usize| invite(&format!("Contact: <sip:a@a.example>{}\r\n", params(count)));
    edge(most, text, offence(HeaderName::Contact));
    let text = |count: usize| invite(&format!("Event: dialog{}\r\n", params(count)));
    edge(most, text, offence(HeaderName::Event));
}

#[test]
fn parameters_and_headers_of_a_uri_are_counted() {
    let most = Limits::default().parameters;
    let text = |count: usize| {
        format!(
            "INVITE sip:b@b.example{} SIP/2.0\r\n{VIA}{HEAD}\r\n",
            params(count)
        )
    };
    edge(
        most,
        text,
        ParseError::RequestUri(Syntax::TooManyParameters),
    );
    let text = |count: usize| {
        let headers: Vec<String> = (0..count).map(|index| format!("h{index}=x")).collect();
        invite(&format!(
            "Refer-To: <sip:a@a.example?{}>\r\n",
            headers.join("&")
        ))
    };
    edge(
        most,
        text,
        ParseError::Header(HeaderName::ReferTo, Syntax::TooManyParameters),
    );
}

#[test]
fn a_uri_is_measured_wherever_it_stands() {
    let most = Limits::default().uri;
    let uri = |length: usize| {
        format!(
            "sip:{}@b.example",
            "u".repeat(length - "sip:@b.example".len())
        )
    };
    let text = |length: usize| format!("INVITE {} SIP/2.0\r\n{VIA}{HEAD}\r\n", uri(length));
    edge(most, text, ParseError::RequestUriTooLong);
    let text = |length: usize| invite(&format!("Contact: <{}>\r\n", uri(length)));
    edge(
        most,
        text,
        ParseError::Header(HeaderName::Contact, Syntax::UriTooLong),
    );
}

#[test]
fn content_length_is_held_against_what_a_datagram_brought() {
    let limits = Limits::default();
    let text = |claimed: &str| {
        let lines = format!("Content-Type: text/plain\r\nContent-Length: {claimed}\r\n");
        format!("{}1234", invite(&lines))
    };
    assert_eq!(offence(&text("4"), &limits), None);
    assert_eq!(
        offence(&text("5"), &limits),
        Some(ParseError::ContentLengthBeyondEnd)
    );
    assert_eq!(
        offence(&text("4294967295"), &limits),
        Some(ParseError::ContentLengthBeyondEnd)
    );
    for claimed in [
        "-1",
        "",
        "4294967296",
        "99999999999999999999",
        "4,4",
        "0x4",
        "4 4",
    ] {
        assert!(
            matches!(
                offence(&text(claimed), &limits),
                Some(ParseError::Header(HeaderName::ContentLength, _))
            ),
            "{claimed}"
        );
    }
    // RFC 3261 §18.3: what is beyond the body of a datagram is thrown away.
    let Ok(Message::Request(request)) = parse(text("3").as_bytes(), Framing::Datagram, &limits)
    else {
        panic!("a request")
    };
    assert_eq!(request.body, b"123");
}

#[test]
fn on_a_stream_content_length_must_be_there_once_and_within_the_limits() {
    let limits = Limits {
        body: 100,
        ..Limits::default()
    };
    let poll = |lines: &str| {
        let mut stream = Stream::new(limits);
        stream.handle(invite(lines).as_bytes());
        stream.poll().map(|frame| frame.is_some())
    };
    assert_eq!(poll("l: 0\r\n"), Ok(true));
    assert_eq!(poll("l: 100\r\n"), Ok(false));
    assert_eq!(poll("l: 101\r\n"), Err(ParseError::BodyTooLarge));
    assert_eq!(poll(""), Err(ParseError::ContentLengthMissing));
    assert_eq!(
        poll("l: 0\r\nContent-Length: 0\r\n"),
        Err(ParseError::Duplicate(HeaderName::ContentLength))
    );
    for claimed in ["-1", "+1", "1,1", "18446744073709551616", ""] {
        assert!(poll(&format!("l: {claimed}\r\n")).is_err(), "{claimed}");
    }
}

#[test]
fn a_message_cut_from_a_stream_has_the_body_that_the_stream_cut() {
    let limits = Limits::default();
    let without = parse(invite("").as_bytes(), Framing::Stream, &limits);
    assert_eq!(without.unwrap_err().error, ParseError::ContentLengthMissing);
}
