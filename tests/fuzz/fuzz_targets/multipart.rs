//! A body with its type on the first line: taken apart without panic; its parts are octets of it, and no more than there
//! may be.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::headers::MediaType;
use sbc_sip::limits::Limits;
use sbc_sip::message::{BodyPart, multipart, session_description, understood};

fuzz_target!(|octets: &[u8]| {
    let Some(end) = octets.iter().position(|octet| *octet == b'\n') else {
        return;
    };
    let (line, body) = octets.split_at(end);
    let mut line = line.split(|octet| *octet == b' ');
    let mut word = || {
        let word = line.next().unwrap_or_default();
        String::from_utf8_lossy(word).into_owned()
    };
    let mut kind = MediaType::new("multipart", word());
    kind.params.set_plain("boundary", word());
    let start = word();
    if !start.is_empty() {
        kind.params.set_plain("start", start);
    }
    let whole = BodyPart::new(kind, body);
    let limits = Limits::default();
    if let Ok(parts) = multipart(&whole, &limits) {
        assert!(parts.len() <= limits.body_parts);
        assert!(parts.iter().map(|part| part.bytes.len()).sum::<usize>() <= body.len());
    }
    if let Ok(parts) = understood(&whole, &|kind| kind.is_sdp(), &limits) {
        assert!(parts.len() <= limits.body_parts);
        assert!(parts.iter().all(|part| part.kind.is_sdp() && !part.encoded));
    }
    if let Some(part) = session_description(&whole, &limits) {
        assert!(part.describes_session());
    }
});
