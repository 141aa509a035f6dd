//! The corpora: RFC 4475 and RFC 5118 messages as their tables say, PROTOS cases and fuzz seeds without panic.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test reads the corpora, unpacks them and says when it cannot"
)]

use std::fs;
use std::path::Path;

use super::*;
use crate::error::{ParseError, Syntax};
use crate::headers::HeaderName;
use crate::limits::Limits;
use crate::testing::{ABILITIES, testdata};
use crate::verdict::{Verdict, verdict};

/// What happened, in the words of `expect.tsv`.
#[derive(Debug, PartialEq)]
enum Outcome {
    Accept,
    Reject(u16),
    Ignore,
}

/// A response that no client transaction waits for is thrown away.
fn outcome(bytes: &[u8]) -> (Outcome, Verdict) {
    let verdict = verdict(bytes, Framing::Datagram, &Limits::default(), &ABILITIES);
    let outcome = match &verdict {
        Verdict::Request(_) => Outcome::Accept,
        Verdict::Refuse(_, refusal) => Outcome::Reject(refusal.status().as_u16()),
        Verdict::Malformed(status, _) => Outcome::Reject(status.as_u16()),
        Verdict::Response(_) | Verdict::Ignore(_) => Outcome::Ignore,
    };
    (outcome, verdict)
}

fn fits(outcome: &Outcome, action: &str, status: &str) -> bool {
    let words: Vec<&str> = action.split(" or ").collect();
    let codes = status
        .split(',')
        .filter_map(|code| code.parse().ok())
        .collect::<Vec<u16>>();
    match outcome {
        Outcome::Accept => words.contains(&"accept"),
        Outcome::Ignore => words.contains(&"ignore"),
        Outcome::Reject(code) => codes.contains(code),
    }
}

#[test]
fn torture_messages_are_treated_as_the_table_says() {
    let Some(folder) = testdata() else { return };
    let mut tried = 0;
    let mut wrong = Vec::new();
    for rfc in ["rfc4475", "rfc5118"] {
        let folder = folder.join("sip-torture").join(rfc);
        for line in fs::read_to_string(folder.join("expect.tsv"))
            .unwrap()
            .lines()
            .skip(1)
        {
            let columns: Vec<&str> = line.split('\t').collect();
            let (file, action, status) = (columns[0], columns[3], columns[4]);
            let (outcome, verdict) = outcome(&fs::read(folder.join(file)).unwrap());
            tried += 1;
            if !fits(&outcome, action, status) {
                wrong.push(format!(
                    "{file}: {outcome:?}, not {action} {status}: {verdict:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(tried, 61);
}

#[test]
fn torture_messages_that_are_read_come_out_of_the_writer_as_the_same_message() {
    let Some(folder) = testdata() else { return };
    let mut read = 0;
    for rfc in ["rfc4475", "rfc5118"] {
        for entry in fs::read_dir(folder.join("sip-torture").join(rfc)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(first) = parse(
                &fs::read(&path).unwrap(),
                Framing::Datagram,
                &Limits::default(),
            ) else {
                continue;
            };
            let bytes = first.to_bytes();
            let second = parse(&bytes, Framing::Stream, &Limits::default());
            assert_eq!(second.as_ref(), Ok(&first), "{}", path.display());
            assert_eq!(second.unwrap().to_bytes(), bytes, "{}", path.display());
            read += 1;
        }
    }
    assert!(read >= 30, "{read}");
}

fn torture(name: &str) -> Option<Message> {
    let bytes = fs::read(testdata()?.join("sip-torture/rfc4475").join(name)).unwrap();
    Some(parse(&bytes, Framing::Datagram, &Limits::default()).unwrap())
}

fn torture_request(name: &str) -> Option<Request> {
    match torture(name)? {
        Message::Request(request) => Some(*request),
        Message::Response(_) => panic!("{name} is a request"),
    }
}

#[test]
fn the_short_tortuous_invite_comes_out_unfolded() {
    let Some(request) = torture_request("wsinv.dat") else {
        return;
    };
    let headers = &request.headers;
    assert_eq!(headers.to.tag().unwrap(), "1918181833n");
    assert_eq!(
        headers.from.display.as_ref().unwrap().to_plain(),
        "J Rosenberg \\\""
    );
    assert_eq!(headers.from.tag().unwrap(), "98asjd8");
    assert_eq!(headers.max_forwards(), Some(68));
    assert_eq!(headers.cseq.number, 9);
    let branches: Vec<_> = headers
        .vias
        .iter()
        .map(|via| via.branch().unwrap().as_str())
        .collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert_eq!(headers.text(&HeaderName::Subject).unwrap(), "");
    let name = HeaderName::from_token("newfangledHEADER".into());
    assert_eq!(
        headers.text(&name).unwrap(),
        "newfangled value continued newfangled value"
    );
    assert_eq!(
        headers
            .text(&HeaderName::from_token(
                "UnknownHeaderWithUnusualValue".into()
            ))
            .unwrap(),
        ";;,,;;,;"
    );
    let contact = &headers.contacts[0];
    assert_eq!(contact.params.plain("newparam").unwrap(), "newvalue");
    assert_eq!(contact.q_thousandths(), 330);
    assert_eq!(request.body.len(), 150);
}

#[test]
fn every_character_that_may_stand_is_kept_exactly() {
    let Some(request) = torture_request("intmeth.dat") else {
        return;
    };
    assert_eq!(
        request.method.as_str(),
        "!interesting-Method0123456789_*+`.%indeed'~"
    );
    let display = request.headers.to.display.as_ref().unwrap();
    assert_eq!(display.to_plain(), "BEL:\u{7} NUL:\0 DEL:\u{7f}");
    let bytes = request.to_bytes();
    let raw = b"\"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\"";
    assert!(bytes.windows(raw.len()).any(|window| window == raw));
    assert_eq!(
        request.headers.call_id.text(),
        "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    );
    assert_eq!(
        request
            .headers
            .from
            .params
            .value("fromParam''~+*_!.-%")
            .unwrap(),
        "работающий"
    );
}

#[test]
fn a_binary_body_is_untouched() {
    let Some(request) = torture_request("mpart01.dat") else {
        return;
    };
    let parts = multipart(&request.body_part().unwrap(), &Limits::default()).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(
        parts[1].bytes.iter().filter(|octet| **octet == 0).count(),
        2
    );
    let bytes = request.to_bytes();
    assert!(bytes.ends_with(&request.body));
}

const HEAD: &str = "Via: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\nFrom: <sip:a@a.example>;tag=1\r\n\
                    To: <sip:b@b.example>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n";

fn register(lines: &str) -> Result<Message, ParseError> {
    let text = format!("REGISTER sip:b.example SIP/2.0\r\n{HEAD}{lines}\r\n");
    parse(text.as_bytes(), Framing::Datagram, &Limits::default()).map_err(|rejected| rejected.error)
}

#[test]
fn a_star_stands_alone_or_is_a_display_name() {
    assert!(register("Contact: *\r\n").is_ok());
    assert!(register("Contact: * <sip:a@a.example>\r\n").is_ok());
    let stray = ParseError::Header(HeaderName::Contact, Syntax::Separator);
    for lines in [
        "Contact: *\r\nm: *\r\n",
        "m: <sip:a>\r\nm: *\r\n",
        "m: *\r\nm: <sip:a>\r\n",
    ] {
        assert_eq!(register(lines), Err(stray.clone()), "{lines}");
    }
    assert!(register("Contact: *, <sip:a>\r\n").is_err());
}

#[test]
fn what_stands_once_is_refused_twice_and_lists_are_joined() {
    for lines in [
        "Expires: 1\r\nExpires: 1\r\n",
        "User-Agent: a\r\nUser-Agent: a\r\n",
        "l: 0\r\nContent-Length: 0\r\n",
        "f: <sip:a>\r\n",
    ] {
        assert!(
            matches!(register(lines), Err(ParseError::Duplicate(_))),
            "{lines}"
        );
    }
    let Ok(Message::Request(request)) = register("k: a\r\nSupported: b, c\r\nOdd: 1\r\nodd: 2\r\n")
    else {
        panic!("refused")
    };
    assert_eq!(request.headers.supported().unwrap(), ["a", "b", "c"]);
    assert_eq!(request.headers.fields.len(), 3);
}

#[test]
fn a_date_that_is_none_is_left_out() {
    let Ok(Message::Request(request)) = register("Date: Fri, 01 Jan 2010 16:00:00 EST\r\n") else {
        panic!("refused")
    };
    assert!(request.headers.fields.is_empty());
}

#[test]
fn a_malformed_request_is_answered_with_what_could_be_read_of_it() {
    let text = format!("REGISTER sip:b.example SIP/2.0\r\n{HEAD}Expires: x\r\n\r\n");
    let rejected = parse(text.as_bytes(), Framing::Datagram, &Limits::default()).unwrap_err();
    let answer = rejected
        .salvage
        .unwrap()
        .answer(rejected.error.status(), "t", &[("Server", "a\r\nEvil: 1")])
        .unwrap();
    let text = String::from_utf8(answer).unwrap();
    assert!(
        text.starts_with(
            "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("To: <sip:b@b.example>;tag=t\r\n") && !text.contains("\nEvil"),
        "{text}"
    );
}

#[test]
fn an_ack_is_never_answered() {
    let text = format!("ACK sip:b.example SIP/2.0\r\n{HEAD}Expires: x\r\n\r\n")
        .replace("1 REGISTER", "1 ACK");
    let rejected = parse(text.as_bytes(), Framing::Datagram, &Limits::default()).unwrap_err();
    assert_eq!(
        rejected
            .salvage
            .unwrap()
            .answer(rejected.error.status(), "t", &[]),
        None
    );
}

#[test]
fn limits_have_their_own_offences() {
    let small = Limits {
        header_fields: 8,
        header_field: 100,
        uri: 40,
        vias: 2,
        body: 4,
        ..Limits::default()
    };
    let long = "a".repeat(120);
    for (text, error) in [
        (
            format!("REGISTER sip:{long} SIP/2.0\r\n{HEAD}\r\n"),
            ParseError::RequestUriTooLong,
        ),
        (
            format!("REGISTER sip:b SIP/2.0\r\n{HEAD}Odd: {long}\r\n\r\n"),
            ParseError::HeaderFieldTooLong,
        ),
        (
            format!(
                "REGISTER sip:b SIP/2.0\r\n{HEAD}{}\r\n",
                "Odd: a\r\n".repeat(4)
            ),
            ParseError::TooManyHeaderFields,
        ),
        (
            format!("REGISTER sip:b SIP/2.0\r\n{HEAD}v: SIP/2.0/UDP a, SIP/2.0/UDP b\r\n\r\n"),
            ParseError::Header(HeaderName::Via, Syntax::TooManyValues),
        ),
        (
            format!("REGISTER sip:b SIP/2.0\r\n{HEAD}c: a/b\r\n\r\n12345"),
            ParseError::BodyTooLarge,
        ),
        (
            format!("REGISTER sip:b SIP/2.0\r\n{HEAD}\r\n12345"),
            ParseError::BodyTooLarge,
        ),
        (
            format!("REGISTER sip:b SIP/2.0\r\n{HEAD}\r\n123"),
            ParseError::BodyWithoutType,
        ),
        (
            format!("REGISTER sip:b SIP/2.0\r\n{HEAD}"),
            ParseError::HeadNotEnded,
        ),
        (
            format!("REGISTER sip:b SIP/2.0\n{HEAD}\r\n"),
            ParseError::BareLineBreak,
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), ParseError::StartLine),
        ("\r\n\r\n".to_owned(), ParseError::Empty),
    ] {
        let rejected = parse(text.as_bytes(), Framing::Datagram, &small).unwrap_err();
        assert_eq!(rejected.error, error, "{text}");
    }
}

#[test]
fn what_follows_the_body_of_a_datagram_is_thrown_away() {
    let Some(request) = torture_request("dblreq.dat") else {
        return;
    };
    assert_eq!(request.method, Method::Register);
    assert!(request.body.is_empty());
}

/// The cases of PROTOS, unpacked by `tar`; skipped where that is not to be had.
#[test]
fn protos_cases_do_no_harm() {
    let Some(folder) = testdata() else { return };
    let archive = folder.join("protos-c07-sip/cases-0000-1999.tar.zst");
    let target = tempfile::tempdir().unwrap();
    let unpacked = std::process::Command::new("tar")
        .arg("--zstd")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(target.path())
        .status();
    if !unpacked.is_ok_and(|status| status.success()) {
        eprintln!("skipped: tar cannot unpack {}", archive.display());
        return;
    }
    let mut tried = 0;
    for entry in fs::read_dir(target.path().join("protos-c07-sip")).unwrap() {
        let path = entry.unwrap().path();
        for (index, record) in records(&fs::read(&path).unwrap()).iter().enumerate() {
            let bytes = filled_in(record, index == 1);
            for framing in [Framing::Datagram, Framing::Stream] {
                let parsed = parse(&bytes, framing, &Limits::default());
                round_trip(&path, parsed);
            }
            if path.ends_with("0000000") && index == 0 {
                assert_eq!(outcome(&bytes).0, Outcome::Accept);
            }
        }
        tried += 1;
    }
    assert_eq!(tried, 2000);
}

/// `length SP octets`, twice.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file;
    let mut records = Vec::new();
    while let Some(space) = rest.iter().position(|octet| *octet == b' ') {
        let length: usize = core::str::from_utf8(&rest[..space])
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        records.push(rest[space + 1..space + 1 + length].to_vec());
        rest = &rest[space + 1 + length..];
    }
    records
}

fn filled_in(record: &[u8], teardown: bool) -> Vec<u8> {
    let mut bytes = record.to_vec();
    for (name, value) in [
        ("<From>", "user@198.51.100.20"),
        ("<To>", "1001@198.51.100.1"),
        ("<From-Address>", "198.51.100.20"),
        ("<From-IP>", "198.51.100.20"),
        ("<Local-Port>", "5060"),
        ("<Call-ID>", "1"),
        ("<CSeq>", "1"),
        ("<Branch-ID>", "z9hG4bK1"),
        (
            "<Teardown-Method>",
            if teardown { "CANCEL" } else { "INVITE" },
        ),
    ] {
        bytes = replaced(&bytes, name.as_bytes(), value.as_bytes());
    }
    let body = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(0, |at| bytes.len() - at - 4);
    replaced(&bytes, b"<Content-Length>", body.to_string().as_bytes())
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

fn round_trip(path: &Path, parsed: Result<Message, Rejected>) {
    match parsed {
        Ok(message) => {
            let again = parse(
                &message.to_bytes(),
                Framing::Stream,
                &Limits {
                    message: 1 << 20,
                    head: 1 << 20,
                    header_field: 1 << 20,
                    ..Limits::default()
                },
            );
            assert_eq!(again.as_ref(), Ok(&message), "{}", path.display());
        }
        Err(Rejected {
            salvage: Some(salvage),
            error,
            ..
        }) => {
            let _ = salvage.answer(error.status(), "tag", &[]);
        }
        Err(_) => {}
    }
}

#[test]
fn fuzz_seeds_do_no_harm() {
    let Some(folder) = testdata() else { return };
    let mut tried = 0;
    for kind in ["sip", "sip-dialog", "uri", "sdp", "sdes"] {
        for entry in fs::read_dir(folder.join("fuzz-seeds").join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            round_trip(&path, parse(&bytes, Framing::Datagram, &Limits::default()));
            let _ = crate::sdp::SessionDescription::parse(&bytes, &crate::sdp::Limits::default());
            let _ = String::from_utf8_lossy(&bytes).trim().parse::<Uri>();
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried}");
}
