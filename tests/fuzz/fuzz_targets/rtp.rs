//! A packet at a media socket: told apart and read without panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let _ = sbc_media::rtp::Header::read(octets);
    let _ = sbc_media::rtcp::Compound::read(octets);
});
