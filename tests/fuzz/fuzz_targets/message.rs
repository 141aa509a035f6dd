//! One datagram: no panic; what is read is written and read as the same; what is refused can be answered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::limits::Limits;
use sbc_sip::message::{Framing, Message, multipart, parse};

fuzz_target!(|octets: &[u8]| {
    let limits = Limits::default();
    match parse(octets, Framing::Datagram, &limits) {
        Ok(message) => {
            let written = message.to_bytes();
            // White space that folding had hidden may make a written message longer than a read one.
            let wide = Limits {
                message: 1 << 20,
                head: 1 << 20,
                header_field: 1 << 20,
                ..limits
            };
            assert_eq!(
                parse(&written, Framing::Stream, &wide).as_ref(),
                Ok(&message)
            );
            let body = match &message {
                Message::Request(request) => request.body_part(),
                Message::Response(response) => response.body_part(),
            };
            if let Some(body) = body {
                let _ = multipart(&body, &limits);
            }
        }
        Err(rejected) => {
            if let Some(salvage) = rejected.salvage {
                let _ = salvage.answer(rejected.error.status(), "tag", &[]);
            }
        }
    }
});
