//! A fragment of a message: no panic; what is read is written and read as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::limits::Limits;
use sbc_sip::message::Fragment;

fuzz_target!(|octets: &[u8]| {
    let wide = Limits {
        body: 1 << 20,
        head: 1 << 20,
        header_field: 1 << 20,
        ..Limits::default()
    };
    if let Ok(fragment) = Fragment::parse(octets, &Limits::default()) {
        assert_eq!(
            Fragment::parse(&fragment.to_bytes(), &wide).as_ref(),
            Ok(&fragment)
        );
    }
});
