use super::*;
use crate::limits;

fn parse(text: &str) -> Result<SessionDescription, SdpError> {
    SessionDescription::parse(text.as_bytes(), &Limits::default())
}

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

#[test]
fn a_description_is_written_as_it_was_read() {
    let text = "v=0\r\no=alice 2890844526 2890844527 IN IP6 2001:db8::1\r\ns=a call\r\nc=IN IP6 2001:db8::1\r\n\
                b=AS:128\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=sendonly\r\n\
                m=audio 49170 RTP/SAVP 0 8 101\r\nb=TIAS:64000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:111 opus/48000/2\r\n\
                a=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:40\r\na=rtcp:49171 IN IP6 2001:db8::1\r\na=rtcp-mux\r\n\
                a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:32 KDR=1\r\n\
                a=recvonly\r\nm=video 0/2 RTP/AVP 31\r\nc=IN IP4 224.2.1.1/127/3\r\na=mid:1\r\n";
    let description = parse(text).unwrap();
    assert_eq!(description.to_string(), text);
    let audio = &description.media[0];
    assert_eq!(description.direction_of(audio), Direction::RecvOnly);
    assert_eq!(
        description.direction_of(&description.media[1]),
        Direction::SendOnly
    );
    assert_eq!(audio.rtpmap(111).unwrap().clock_hz, 48_000);
    assert_eq!(audio.rtcp().unwrap().port, 49_171);
    assert_eq!(
        description.address_of(audio).unwrap().to_string(),
        "2001:db8::1"
    );
    assert_eq!(audio.payloads().collect::<Vec<_>>(), [0, 8, 101]);
}

#[test]
fn key_material_does_not_print() {
    let text = format!(
        "{HEAD}m=audio 1 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n"
    );
    let printed = format!("{:?}", parse(&text).unwrap());
    assert!(
        !printed.contains("c2VjcmV0") && printed.contains("AES_CM"),
        "{printed}"
    );
}

#[test]
fn each_offence_has_its_name() {
    for (text, error) in [
        ("", SdpError::Missing),
        ("v=1\r\n", SdpError::Version),
        ("o=- 1 2 IN IP4 192.0.2.1\r\nv=0\r\n", SdpError::Order),
        ("v=0\r\nv=0\r\n", SdpError::Order),
        ("v=0\r\nx\r\n", SdpError::Line),
        ("v=0\r\n\r\n", SdpError::Line),
        ("v=0\r\no=- 1 2 IN IP4\r\n", SdpError::Origin),
        ("v=0\r\no=- -1 2 IN IP4 192.0.2.1\r\n", SdpError::Origin),
        (
            "v=0\r\no=- 18446744073709551616 2 IN IP4 192.0.2.1\r\n",
            SdpError::Origin,
        ),
        ("v=0\r\no=- 1 2 IN IP6 192.0.2.1\r\n", SdpError::Origin),
        (
            "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 1 RTP/AVP 0\r\n",
            SdpError::Missing,
        ),
        (
            "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\n",
            SdpError::NoConnection,
        ),
        (
            "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=\u{1}\r\n",
            SdpError::NotText,
        ),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    for (lines, error) in [
        ("m=audio 65536 RTP/AVP 0\r\n", SdpError::Media),
        ("m=audio 1 RTP/AVP\r\n", SdpError::Media),
        ("m=audio 1/0 RTP/AVP 0\r\n", SdpError::Media),
        ("m=audio 1 RTP/AVP  0\r\n", SdpError::Media),
        (
            "m=audio 1 RTP/AVP 0\r\na=rtpmap:128 A/8000\r\n",
            SdpError::Attribute,
        ),
        (
            "m=audio 1 RTP/AVP 0\r\na=rtpmap:0 A/0\r\n",
            SdpError::Attribute,
        ),
        (
            "m=audio 1 RTP/AVP 0\r\na=rtcp:70000\r\n",
            SdpError::Attribute,
        ),
        (
            "m=audio 1 RTP/AVP 0\r\na=crypto:01 A inline:x\r\n",
            SdpError::Attribute,
        ),
        (
            "m=audio 1 RTP/AVP 0\r\na=sendrecv:1\r\n",
            SdpError::Attribute,
        ),
        ("m=audio 1 RTP/AVP 0\r\na=\r\n", SdpError::Attribute),
        ("m=audio 1 RTP/AVP 0\r\nb=AS\r\n", SdpError::Bandwidth),
        (
            "m=audio 1 RTP/AVP 0\r\nc=IN IP4 300.0.0.1\r\n",
            SdpError::Connection,
        ),
        ("m=audio 1 RTP/AVP 0\r\nt=0 0\r\n", SdpError::Order),
        (
            "m=audio 1 RTP/AVP 0\r\na=sendrecv\r\nc=IN IP4 192.0.2.1\r\n",
            SdpError::Order,
        ),
    ] {
        assert_eq!(parse(&format!("{HEAD}{lines}")), Err(error), "{lines}");
    }
}

#[test]
fn a_mapped_address_is_seen_as_ipv4() {
    let text = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP6 ::ffff:192.0.2.2\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\n";
    let description = parse(text).unwrap();
    assert_eq!(
        description
            .address_of(&description.media[0])
            .unwrap()
            .to_string(),
        "192.0.2.2"
    );
}

#[test]
fn limits_hold() {
    let many =
        |count: usize, line: &str| format!("{HEAD}m=audio 1 RTP/AVP 0\r\n{}", line.repeat(count));
    assert_eq!(
        parse(&many(33, "m=audio 1 RTP/AVP 0\r\n")),
        Err(SdpError::TooManyMedia)
    );
    assert_eq!(
        parse(&many(257, "a=x\r\n")),
        Err(SdpError::TooManyAttributes)
    );
    assert_eq!(
        parse(&format!("{HEAD}m=audio 1 RTP/AVP{}\r\n", " 0".repeat(65))),
        Err(SdpError::TooManyFormats)
    );
    assert_eq!(parse(&many(20_000, "a=x\r\n")), Err(SdpError::TooLarge));
    assert!(limits::Limits::default().body >= Limits::default().octets);
}

#[test]
fn an_answer_must_mirror_its_offer() {
    let description = |lines: &str| parse(&format!("{HEAD}{lines}")).unwrap();
    let offer = description("m=audio 1 RTP/AVP 0\r\na=sendonly\r\nm=video 0 RTP/AVP 31\r\n");
    for (lines, result) in [
        (
            "m=audio 2 RTP/AVP 0\r\na=recvonly\r\nm=video 0 RTP/AVP 31\r\n",
            Ok(()),
        ),
        (
            "m=audio 2 RTP/AVP 0\r\na=inactive\r\nm=video 0 RTP/AVP 31\r\n",
            Ok(()),
        ),
        (
            "m=audio 2 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\n",
            Err(Mismatch::Direction(0)),
        ),
        (
            "m=audio 2 RTP/AVP 0\r\na=recvonly\r\nm=video 4 RTP/AVP 31\r\n",
            Err(Mismatch::Refused(1)),
        ),
        (
            "m=audio 2 RTP/SAVP 0\r\nm=video 0 RTP/AVP 31\r\n",
            Err(Mismatch::Kind(0)),
        ),
        ("m=audio 2 RTP/AVP 0\r\n", Err(Mismatch::Count)),
    ] {
        assert_eq!(answers(&offer, &description(lines)), result, "{lines}");
    }
}

#[test]
fn a_bare_line_feed_is_let_pass() {
    assert!(parse(&HEAD.replace("\r\n", "\n")).is_ok());
}

#[test]
fn key_material_is_overwritten_when_dropped_and_does_not_print() {
    fn is_overwritten<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    let line = "m=audio 1 RTP/SAVP 0\r\na=crypto:1 A inline:c2VjcmV0LWtleQ|2^20\r\n";
    let description = parse(&format!("{HEAD}{line}")).unwrap();
    assert!(!format!("{description:?}").contains("c2VjcmV0"));
    let [Attribute::Crypto(crypto)] = &description.media[0].attributes[..] else {
        panic!("a crypto attribute")
    };
    is_overwritten(crypto.key_material());
    assert_eq!(crypto.dangerous_keys(), "inline:c2VjcmV0LWtleQ|2^20");
}
