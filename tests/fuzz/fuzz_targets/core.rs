//! Anything from anybody at the core: no panic, no lease closed that is not held, every message that leaves can be read, and
//! nothing is left of it all when its time is over.

#![no_main]

#[path = "../../src/border.rs"]
mod border;

use std::sync::OnceLock;
use std::time::Duration;

use border::{Border, settings};
use broker_proto::settings::Settings;
use libfuzzer_sys::fuzz_target;
use sbc_sip::limits::Limits;
use sbc_sip::message::{Framing, parse};

static SETTINGS: OnceLock<Settings> = OnceLock::new();

fuzz_target!(|octets: &[u8]| {
    let settings = SETTINGS.get_or_init(settings).clone();
    let mut border = Border::new(settings, 7);
    border.play(octets);
    // Two minutes of a call, the longest transaction behind it, and as much again.
    border.wait(Duration::from_secs(600));
    let left = border.left();
    assert!(left.is_empty(), "{left:?}");
    for sent in &border.sent {
        if sent.local.is_some() && sent.bytes.iter().any(|octet| !octet.is_ascii_whitespace()) {
            if let Err(rejected) = parse(&sent.bytes, Framing::Stream, &Limits::default()) {
                // RFC 3261 §8.2.6.2: a refusal of a malformed request says again what its sender said.
                let echo =
                    sent.bytes.starts_with(b"SIP/2.0 4") || sent.bytes.starts_with(b"SIP/2.0 5");
                let text = String::from_utf8_lossy(&sent.bytes);
                assert!(echo, "{rejected:?}: {text}");
            }
        }
    }
});
