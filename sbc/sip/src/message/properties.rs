//! Properties: what is written is read as the same; no mutation of a torture message does harm; work grows with the length
//! of the input and no faster.

#![allow(clippy::disallowed_methods, reason = "a test reads the corpora")]

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::digest::{Algorithm, Auth};
use crate::headers::{Date, Delta, DisplayName, HeaderName, RetryAfter, TokenValue, Transport};
use crate::limits::Limits;
use crate::params::{Params, Quoted, Value};
use crate::reader::steps;
use crate::sdp::SessionDescription;
use crate::testing::{Dice, testdata};
use crate::uri::{Host, HostPort, SipUri};

fn token() -> impl Strategy<Value = Text> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}".prop_map(Text::from)
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,5}){0,2}"
            .prop_map(|name| Host::Name(name.into())),
        any::<std::net::Ipv4Addr>().prop_map(|address| Host::Address(address.into())),
        any::<std::net::Ipv6Addr>().prop_map(|address| Host::Address(address.into())),
    ]
}

fn port() -> impl Strategy<Value = Option<u16>> {
    proptest::option::of(1..=u16::MAX)
}

fn params(kind: &'static str) -> impl Strategy<Value = Params> {
    let value = prop_oneof![
        Just(None),
        token().prop_map(|token| Some(Value::Plain(token))),
        "\\PC{0,10}".prop_map(|plain| Some(Value::Quoted(Quoted::from_plain(&plain)))),
    ];
    proptest::collection::vec(("[a-z]{3,8}", value), 0..4).prop_map(move |list| {
        let mut params = Params::new();
        for (name, value) in list {
            params.set(format!("{kind}{name}"), value);
        }
        params
    })
}

fn uri() -> impl Strategy<Value = Uri> {
    let user = proptest::option::of("\\PC{1,10}");
    let lr = any::<bool>();
    let sip =
        (any::<bool>(), user, host(), port(), lr).prop_map(|(secure, user, host, port, lr)| {
            let mut uri = SipUri {
                secure,
                port,
                ..SipUri::new(host)
            };
            if let Some(user) = user {
                uri = uri.with_user(&user);
            }
            if lr {
                uri.params.set_flag("lr");
            }
            Uri::Sip(uri)
        });
    prop_oneof![4 => sip, 1 => "[0-9-]{1,12}[0-9]".prop_map(|digits| format!("tel:+{digits}").parse().unwrap())]
}

fn address() -> impl Strategy<Value = NameAddr> {
    let display = proptest::option::of("\\PC{0,16}".prop_map(|plain| DisplayName::new(&plain)));
    (display, uri(), params("x")).prop_map(|(display, uri, params)| NameAddr {
        display,
        uri,
        params,
    })
}

fn via() -> impl Strategy<Value = Via> {
    let transports = [
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Ws,
        Transport::Other("SOME".into()),
    ];
    (
        proptest::sample::select(transports.to_vec()),
        host(),
        port(),
        token(),
        any::<Option<std::net::IpAddr>>(),
    )
        .prop_map(|(transport, host, port, branch, received)| {
            let mut via = Via::new(
                transport,
                HostPort { host, port },
                format!("z9hG4bK{branch}"),
            );
            if let Some(received) = received {
                via.set_source((received, 5060).into());
            }
            via
        })
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        any::<u32>().prop_map(Field::Expires),
        any::<u8>().prop_map(Field::MaxForwards),
        proptest::collection::vec(token(), 0..4).prop_map(Field::Supported),
        proptest::collection::vec(token(), 1..4).prop_map(Field::Require),
        proptest::collection::vec(token().prop_map(Method::from_token), 0..4)
            .prop_map(Field::Allow),
        proptest::collection::vec(address(), 1..3).prop_map(Field::Path),
        address().prop_map(Field::ReferTo),
        (0..253_402_300_799_u64).prop_map(|seconds| Field::Date(Date::new(seconds).unwrap())),
        (any::<u32>(), params("y"))
            .prop_map(|(seconds, params)| Field::SessionExpires(Delta { seconds, params })),
        (any::<u32>(), params("y")).prop_map(|(seconds, params)| Field::RetryAfter(RetryAfter {
            params,
            ..RetryAfter::new(seconds)
        })),
        (token(), params("z"))
            .prop_map(|(token, params)| Field::Reason(vec![TokenValue { token, params }])),
        ("\\PC{0,12}", "\\PC{0,12}").prop_map(|(realm, nonce)| Field::WwwAuthenticate(
            Auth::challenge(&realm, &nonce, Algorithm::Sha256)
        )),
        "\\PC{0,40}".prop_map(|text| Field::text(HeaderName::Subject, &text)),
        "\\PC{0,40}".prop_map(|text| Field::text(HeaderName::from_token("X-Odd".into()), &text)),
    ]
}

prop_compose! {
    fn headers()(
        vias in proptest::collection::vec(via(), 1..4),
        from in address(), to in address(),
        call_id in "[A-Za-z0-9()<>:/?{}.-]{1,20}(@[a-z.]{1,10})?",
        (number, method) in (0..1_u32 << 31, token()),
        contacts in proptest::collection::vec(address(), 0..3),
        routes in proptest::collection::vec(address(), 0..3),
        record_routes in proptest::collection::vec(address(), 0..3),
        fields in proptest::collection::vec(field(), 0..6),
    ) -> Headers {
        let cseq = Cseq { number, method: Method::from_token(method) };
        let mut headers = Headers::new(vias, from, to, CallId::new(&call_id), cseq);
        (headers.contacts, headers.routes, headers.record_routes) = (contacts, routes, record_routes);
        for field in fields {
            headers.set(field);
        }
        headers
    }
}

prop_compose! {
    fn any_message()(
        headers in headers(), uri in uri(), status in 100..700_u16, reason in "\\PC{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..64), is_request in any::<bool>(),
    ) -> Message {
        let mut headers = headers;
        if !body.is_empty() {
            headers.set(Field::ContentType(MediaType::new("application", "octet-stream")));
        }
        if is_request {
            Message::Request(Box::new(Request { method: headers.cseq.method.clone(), uri, headers, body }))
        } else {
            let status = StatusCode::new(status).unwrap();
            Message::Response(Box::new(Response { status, reason: reason.as_str().into(), headers, body }))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_the_same(message in any_message()) {
        let bytes = message.to_bytes();
        let read = parse(&bytes, Framing::Stream, &Limits::default());
        prop_assert_eq!(read, Ok(message), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn octets_of_any_kind_do_no_harm(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&octets, Framing::Datagram, &Limits::default());
        let _ = SessionDescription::parse(&octets, &crate::sdp::Limits::default());
    }

    #[test]
    fn no_value_starts_a_line_of_its_own(text in "(?s).{0,40}") {
        let mut message = crate::testing::request(MINIMAL);
        message.headers.from.display = Some(DisplayName::new(&text));
        message.headers.to.params.set_plain("x", text.as_str());
        message.headers.push(Field::text(HeaderName::Subject, &text));
        message.headers.push(Field::Require(vec![text.as_str().into()]));
        message.headers.call_id = CallId::new(&text);
        let bytes = message.to_bytes();
        let lines = bytes.iter().filter(|octet| **octet == b'\n').count();
        prop_assert_eq!(lines, 10, "{}", String::from_utf8_lossy(&bytes));
        let returns = bytes.iter().filter(|octet| **octet == b'\r').count();
        prop_assert_eq!(returns, 10);
    }
}

const MINIMAL: &str = "OPTIONS sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\nFrom: <sip:a@a.example>;tag=1\r\n\
                       To: <sip:b@b.example>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";

/// Pieces that grammar hangs on.
const PIECES: [&[u8]; 20] = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";",
    b",",
    b"=",
    b"@",
    b"%00",
    b"[",
    b"]",
    b":",
    b" ",
    b"\xff",
    b"\xc3\xa9",
    b"4294967296",
];

fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut octets = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(octets.len());
        match dice.roll(6) {
            0 => octets.insert(at, u8::try_from(dice.roll(256)).unwrap()),
            1 if !octets.is_empty() => drop(octets.remove(at)),
            2 => octets.truncate(at),
            3 if !octets.is_empty() => octets[at] ^= 1 << dice.roll(8),
            4 => {
                let end = (at + dice.roll(60)).min(octets.len());
                let piece = octets[at..end].to_vec();
                let to = dice.roll(octets.len());
                octets.splice(to..to, piece);
            }
            _ => {
                let piece = PIECES[dice.roll(PIECES.len())];
                octets.splice(at..at, piece.iter().copied());
            }
        }
    }
    octets
}

/// Mutations in all; more by `GH_MUTATIONS`.
const MUTATIONS: usize = 100_000;

#[test]
fn no_mutation_of_a_torture_message_does_harm() {
    let Some(folder) = testdata() else { return };
    let mut seeds = Vec::new();
    for rfc in ["rfc4475", "rfc5118"] {
        for entry in fs::read_dir(folder.join("sip-torture").join(rfc)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "dat") {
                seeds.push(fs::read(path).unwrap());
            }
        }
    }
    seeds.sort();
    let count = std::env::var("GH_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap());
    let mut dice = Dice::new(4475);
    let mut read = 0;
    for number in 0..count {
        let octets = mutate(&seeds[number % seeds.len()], &mut dice);
        match parse(&octets, Framing::Datagram, &Limits::default()) {
            Ok(message) => {
                read += 1;
                let bytes = message.to_bytes();
                let again = parse(&bytes, Framing::Stream, &Limits::default());
                assert_eq!(
                    again.as_ref(),
                    Ok(&message),
                    "mutation {number}: {}",
                    String::from_utf8_lossy(&bytes)
                );
                let body = match &message {
                    Message::Request(request) => request.body_part(),
                    Message::Response(response) => response.body_part(),
                };
                if let Some(body) = body {
                    let _ = SessionDescription::parse(body.bytes, &crate::sdp::Limits::default());
                    let _ = multipart(&body, &Limits::default());
                }
            }
            Err(Rejected { error, salvage, .. }) => {
                let _ = salvage.and_then(|salvage| salvage.answer(error.status(), "t", &[]));
            }
        }
    }
    assert!(read > count / 20, "{read} of {count} were read");
}

/// A message of about `size` octets made of one piece again and again.
fn heavy(before: &str, piece: &str, after: &str) -> Vec<u8> {
    let head = MINIMAL.strip_suffix("\r\n").unwrap();
    format!(
        "{head}{before}{}{after}\r\n",
        piece.repeat(64 * 1024 / piece.len())
    )
    .into_bytes()
}

#[test]
fn work_grows_with_the_length_of_the_message_and_no_faster() {
    let wide = Limits {
        head: 1 << 20,
        message: 1 << 20,
        header_field: usize::MAX,
        uri: usize::MAX,
        list: usize::MAX,
        ..Limits::default()
    };
    let numbered: String = (0..256)
        .map(|number| format!("Odd{number}: {}\r\n", "a".repeat(240)))
        .collect();
    for (before, piece, after) in [
        ("", "Odd: a\r\n", ""),
        ("", "Supported: a\r\n", ""),
        ("", "Via: SIP/2.0/UDP a;branch=z9hG4bKx\r\n", ""),
        ("", "Route: <sip:a;lr>\r\n", ""),
        ("", "Contact: <sip:a>;a;b;c;d;e;f;g;h\r\n", ""),
        ("", "Subject: a\r\n", ""),
        ("", "Odd: a\r\n b\r\n", ""),
        ("Odd:", "\r\n ", "\r\n"),
        ("Odd: ", "a ", "\r\n"),
        ("Supported: a", ",a", "\r\n"),
        ("Retry-After: 1 ", "(", "\r\n"),
        ("Retry-After: 1 ", "\\(", "\r\n"),
        ("Reason: a;b=\"", "\\\"", "\r\n"),
        ("Contact: ", "a ", "\r\n"),
        ("Contact: ", "\"\\\"\" ", "\r\n"),
        ("Contact: <sip:", "%41", "@x>\r\n"),
        ("Contact: <sip:a", ";a", ">\r\n"),
        ("Call-Info: ", "<a>;", "\r\n"),
        (numbered.as_str(), " ", "\r\n"),
    ] {
        let octets = heavy(before, piece, after);
        let start = steps::taken();
        let _ = parse(&octets, Framing::Datagram, &wide);
        let taken = steps::taken() - start;
        assert!(
            taken > octets.len(),
            "{before}{piece}: {taken} steps for {} octets",
            octets.len()
        );
        assert!(
            taken < octets.len() * 16,
            "{before}{piece}: {taken} steps for {} octets",
            octets.len()
        );
    }
}
