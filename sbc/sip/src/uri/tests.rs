use super::*;

fn uri(text: &str) -> Uri {
    text.parse()
        .unwrap_or_else(|offence| panic!("{text}: {offence}"))
}

#[test]
fn the_user_part_keeps_its_semicolons_and_escapes() {
    let uri = uri("sip:user;par=u%40example.net@example.com");
    assert_eq!(uri.user().unwrap(), "user;par=u%40example.net");
    assert!(uri.sip().unwrap().params.is_empty());
    assert_eq!(uri.to_string(), "sip:user;par=u%40example.net@example.com");
}

#[test]
fn an_ipv6_reference_ends_where_its_bracket_does() {
    let ambiguous = uri("sip:[2001:db8::10:5070]");
    assert_eq!(ambiguous.sip().unwrap().port, None);
    assert_eq!(
        uri("sip:[2001:db8::10]:5070").sip().unwrap().port,
        Some(5070)
    );
    assert!("sip:2001:db8::10".parse::<Uri>().is_err());
}

#[test]
fn escaped_nul_stays_escaped_and_tells_users_apart() {
    let (one, two) = (
        uri("sip:null-%00-null@example.com"),
        uri("sip:null-%00-nulm@example.com"),
    );
    assert_eq!(one.user().unwrap(), "null-%00-null");
    assert!(!one.equivalent(&two));
}

#[test]
fn broken_uris_are_refused_with_their_offence() {
    for (text, offence) in [
        ("sip:", Syntax::Host),
        ("sip:@example.com", Syntax::UriUser),
        ("sip:a b@example.com", Syntax::UriUser),
        ("sip:a%4@example.com", Syntax::UriUser),
        ("sip:a@example.com:0", Syntax::Port),
        ("sip:a@example.com;", Syntax::UriParameter),
        ("sip:a@example.com;lr;LR", Syntax::DuplicateParameter),
        ("sip:a@example.com?", Syntax::UriHeader),
        ("sip:a@example.com?a", Syntax::UriHeader),
        ("sip:a@example.com>", Syntax::UriCharacter),
        ("1sip:a", Syntax::UriScheme),
        ("no scheme", Syntax::UriScheme),
        ("tel:555", Syntax::TelephoneNumber),
        ("tel:+", Syntax::TelephoneNumber),
        ("isbn:2 3", Syntax::UriCharacter),
    ] {
        assert_eq!(text.parse::<Uri>(), Err(offence), "{text}");
    }
}

/// The examples of RFC 3261 §19.1.4.
#[test]
fn comparison_follows_the_examples_of_the_rfc() {
    for (one, two) in [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;newparam=5",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
    ] {
        assert!(uri(one).equivalent(&uri(two)), "{one} {two}");
    }
    for (one, two) in [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        (
            "sip:bob@biloxi.com;transport=udp",
            "sip:bob@biloxi.com;transport=tcp",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000"),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        ("sip:carol@chicago.com;user=phone", "sip:carol@chicago.com"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sips:bob@biloxi.com", "sip:bob@biloxi.com"),
        // Reserved characters differ from their escapes.
        ("sip:a;b@example.com", "sip:a%3Bb@example.com"),
    ] {
        assert!(!uri(one).equivalent(&uri(two)), "{one} {two}");
    }
}

#[test]
fn telephone_numbers_compare_without_visual_separators() {
    assert!(uri("tel:+1-201-555-0123").equivalent(&uri("tel:+12015550123")));
    assert!(
        !uri("tel:7042;phone-context=a.example")
            .equivalent(&uri("tel:7042;phone-context=b.example"))
    );
}

#[test]
fn a_password_never_prints() {
    let uri = uri("sip:alice:secret@example.com");
    assert!(!format!("{uri:?}").contains("secret"));
    assert!(uri.to_string().contains("secret"));
}

#[test]
fn a_request_uri_made_from_a_contact_has_no_hidden_headers() {
    let contact = uri("sip:a@example.com;method=BYE?Route=%3Csip:evil.example%3E");
    assert_eq!(
        contact.sip().unwrap().as_request_uri().to_string(),
        "sip:a@example.com"
    );
}

#[test]
fn plain_text_as_user_part_is_escaped() {
    let uri =
        Uri::from(SipUri::new(Host::parse_text("example.com").unwrap()).with_user("a@b\r\n c"));
    assert_eq!(uri.to_string(), "sip:a%40b%0D%0A%20c@example.com");
}

#[test]
fn separators_case_and_order_do_not_tell_numbers_apart() {
    for (one, two, same) in [
        ("tel:+1-201-555-0123", "tel:+12015550123", true),
        (
            "tel:+1(201)555.0123;ext=1-2",
            "tel:+12015550123;EXT=12",
            true,
        ),
        ("tel:+12015550123;ext=12", "tel:+12015550123", false),
        (
            "tel:7042;phone-context=Example.COM",
            "tel:7042;phone-context=example.com",
            true,
        ),
        (
            "tel:863-1234;phone-context=+1-914-555",
            "tel:8631234;phone-context=+1914555",
            true,
        ),
        ("tel:1;phone-context=+1", "tel:+11", false),
        (
            "tel:1A;phone-context=a.example",
            "tel:1a;phone-context=a.example",
            true,
        ),
        ("tel:+1;isub=12;x=y", "tel:+1;x=Y;isub=12", true),
    ] {
        assert_eq!(uri(one).equivalent(&uri(two)), same, "{one} {two}");
    }
}

#[test]
fn a_local_number_needs_a_context_that_is_a_prefix_or_a_domain() {
    for text in [
        "tel:123",
        "tel:123;phone-context=",
        "tel:123;phone-context=+",
        "tel:123;phone-context=-a.example",
        "tel:123;phone-context=a%20b",
        "tel:+1;ext=x",
        "tel:+1;ext",
        "tel:+1;isub",
        "tel:+1a",
    ] {
        assert!(text.parse::<Uri>().is_err(), "{text}");
    }
    assert_eq!(
        TelUri::local("*21#", "+49").unwrap().to_string(),
        "tel:*21#;phone-context=+49"
    );
    assert_eq!(TelUri::local("+49", "+49"), None);
    assert_eq!(
        TelUri::global("4930123").unwrap().to_string(),
        "tel:+4930123"
    );
    assert_eq!(TelUri::global("+1234567890123456"), None);
    assert_eq!(TelUri::global("49 30"), None);
}

#[test]
fn the_user_of_a_phone_uri_is_a_number() {
    let number = |text: &str| uri(text).sip().unwrap().telephone();
    assert_eq!(
        number("sip:+1-212-555;ext=9@a.example;user=phone")
            .unwrap()
            .extension()
            .unwrap(),
        "9"
    );
    assert_eq!(
        number("sip:112@a.example;user=phone").unwrap().digits(),
        "112"
    );
    assert_eq!(
        number("sip:%2B49@a.example;user=phone").unwrap().digits(),
        "+49"
    );
    assert_eq!(number("sip:112@a.example"), None);
    assert_eq!(number("sip:alice@b.example;user=phone"), None);
}
