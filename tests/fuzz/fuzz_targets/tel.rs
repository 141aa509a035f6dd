//! A telephone number as a URI: written as read; comparison is reflexive and symmetric, and separators do not count.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::uri::{Host, SipUri, TelUri, Uri};

fn number(text: &str) -> Option<TelUri> {
    match format!("tel:{text}").parse() {
        Ok(Uri::Tel(uri)) => Some(uri),
        _ => None,
    }
}

fuzz_target!(|text: &str| {
    let (one, two) = text.split_once('\n').unwrap_or((text, text));
    if let Some(one) = number(one) {
        assert_eq!(
            Uri::Tel(one.clone()),
            one.to_string().parse().expect("a written number is one")
        );
        assert!(one.equivalent(&one));
        let _ = (one.extension(), one.context(), one.subaddress());
        let plain = TelUri {
            number: one.digits().into(),
            params: one.params.clone(),
        };
        assert!(plain.equivalent(&one));
        if let Some(two) = number(two) {
            assert_eq!(one.equivalent(&two), two.equivalent(&one));
        }
        if let Some(global) = TelUri::global(&one.digits()) {
            assert!(global.is_global());
        }
    }
    if let Ok(host) = Host::parse_text("a.example") {
        let uri = SipUri::new(host).with_user(text);
        let _ = uri.with_param("user", "phone").telephone();
    }
});
