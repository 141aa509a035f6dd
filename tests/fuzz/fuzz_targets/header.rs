//! Lines of header fields in a message: no panic; each value is written as it was read, in full and in compact form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::headers::Replaces;
use sbc_sip::limits::Limits;
use sbc_sip::message::{Framing, Message, Request, parse};

const FIXED: &str = "Via: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\nFrom: <sip:a@a.example>;tag=1\r\n\
                     To: <sip:b@b.example>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";

fn read(lines: &[u8], limits: &Limits) -> Option<Request> {
    let mut octets = format!("INVITE sip:b@b.example SIP/2.0\r\n{FIXED}").into_bytes();
    octets.extend_from_slice(lines);
    octets.extend_from_slice(b"\r\n\r\n");
    match parse(&octets, Framing::Datagram, limits) {
        Ok(Message::Request(request)) => Some(*request),
        _ => None,
    }
}

fuzz_target!(|lines: &[u8]| {
    let Some(request) = read(lines, &Limits::default()) else {
        return;
    };
    let wide = Limits {
        message: 1 << 20,
        head: 1 << 20,
        header_field: 1 << 20,
        ..Limits::default()
    };
    for field in &request.headers.fields {
        let line = format!("{}: {field}", field.name());
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        let again = read(line.as_bytes(), &wide).expect("a written field is one");
        assert_eq!(again.headers.fields.first(), Some(field), "{line}");
    }
    if let Some(replaces) = request
        .headers
        .refer_to()
        .and_then(|to| to.uri.sip()?.carried("Replaces"))
    {
        let _ = replaces.parse::<Replaces>();
    }
});
