//! A URI, an address and a host from text: written as read; every URI is equivalent to itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::headers::NameAddr;
use sbc_sip::uri::{Host, Uri, escape};

fuzz_target!(|text: &str| {
    if let Ok(uri) = text.parse::<Uri>() {
        let again: Uri = uri.to_string().parse().expect("a written URI is one");
        assert_eq!(again, uri);
        assert!(uri.equivalent(&again));
        if let Uri::Sip(uri) = &uri {
            assert!(uri.as_request_uri().headers.is_empty());
        }
    }
    if let Ok(address) = text.parse::<NameAddr>() {
        assert_eq!(
            address.to_string().parse::<NameAddr>().as_ref(),
            Ok(&address)
        );
    }
    if let Ok(host) = Host::parse_text(text) {
        assert_eq!(Host::parse_text(&host.to_string()).as_ref(), Ok(&host));
    }
    assert_eq!(*escape::resolve(&escape::user(text)), *text.as_bytes());
});
