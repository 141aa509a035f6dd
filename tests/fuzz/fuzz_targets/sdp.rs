//! A session description: written and read as the same; an answer to itself reversed is judged without harm.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::sdp::{Limits, SessionDescription, answers};

fuzz_target!(|octets: &[u8]| {
    if let Ok(description) = SessionDescription::parse(octets, &Limits::default()) {
        let wide = Limits {
            octets: 1 << 20,
            ..Limits::default()
        };
        let written = description.to_string();
        let again = SessionDescription::parse(written.as_bytes(), &wide)
            .expect("a written description is one");
        assert_eq!(again, description);
        let _ = answers(&description, &again);
        for media in &description.media {
            let _ = (
                description.address_of(media),
                description.direction_of(media),
                media.payloads().count(),
            );
        }
    }
});
