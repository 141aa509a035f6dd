//! Small fields that cross as typed values: what is none of the listed words and numbers stays behind. RFC 3326, 7433,
//! 8224, 5806, 5009, 7315, and RFC 3261 §20.

use sbc_sip::{
    Params, Quoted, Value,
    headers::{Identity, ResourcePriority, TokenValue, UserToUser},
    text::Text,
};

/// Octets of user-to-user information (RFC 7433 §4.1 wants 128 at least; ISDN has no more).
const USER_TO_USER: usize = 128;
/// Octets of a PASSporT.
const PASSPORT: usize = 4_096;
/// Language ranges.
const LANGUAGES: usize = 8;

/// RFC 3326: the protocols that are known, each with its cause. Text is dropped: it is free, and names hosts in practice.
pub(crate) fn reasons(values: &[TokenValue]) -> Vec<TokenValue> {
    values.iter().take(4).filter_map(reason).collect()
}

fn reason(value: &TokenValue) -> Option<TokenValue> {
    let cause: u16 = value.params.plain("cause")?.parse().ok()?;
    if value.token.eq_ignore_ascii_case("SIP") && (100..=699).contains(&cause) {
        Some(TokenValue::reason("SIP", cause, None))
    } else if value.token.eq_ignore_ascii_case("Q.850") && cause <= 127 {
        Some(TokenValue::reason("Q.850", cause, None))
    } else {
        None
    }
}

/// The parameters of these names whose values are among the words beside them, spelt as there.
pub(crate) fn words(params: &Params, allowed: &[(&'static str, &[&'static str])]) -> Params {
    let mut kept = Params::new();
    for (name, words) in allowed {
        let Some(value) = params.value(name) else {
            continue;
        };
        let word = words.iter().find(|word| word.eq_ignore_ascii_case(&value));
        if let Some(word) = word {
            kept.set_plain(Text::from_static(name), Text::from_static(word));
        }
    }
    kept
}

/// A number of at most nine digits.
pub(crate) fn number(text: &str) -> Option<u32> {
    let good = (1..=9).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

/// RFC 7433: octets in hexadecimal, with what they are for.
pub(crate) fn user_to_user(value: &UserToUser) -> Option<UserToUser> {
    let Value::Plain(data) = &value.data else {
        return None;
    };
    let hexadecimal = value.encoding().eq_ignore_ascii_case("hex")
        && data.len().is_multiple_of(2)
        && data.len() <= 2 * USER_TO_USER
        && data.bytes().all(|octet| octet.is_ascii_hexdigit());
    let mut params = words(
        &value.params,
        &[("purpose", &["isdn-uui"]), ("content", &["isdn-uui"])],
    );
    params.set_plain(Text::from_static("encoding"), Text::from_static("hex"));
    hexadecimal.then(|| UserToUser {
        data: Value::Plain(Text::from(data.to_ascii_lowercase())),
        params,
    })
}

/// RFC 8224: a signed token and where its certificate is. The token signs the numbers of the call and is of no use if
/// one octet is changed, so it crosses whole or not at all.
pub(crate) fn passport(value: &Identity) -> Option<Identity> {
    let Value::Plain(token) = &value.digest else {
        return None;
    };
    let part = |part: &str| {
        part.bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    // RFC 8225 §7: the compact form leaves out header and claims.
    let sound = parts.next().is_none()
        && [header, claims, signature].into_iter().all(part)
        && !signature.is_empty()
        && header.is_empty() == claims.is_empty()
        && token.len() <= PASSPORT;
    let info = value
        .info
        .as_ref()
        .filter(|info| is_certificate(&info.to_string()))?;
    let mut params = words(&value.params, &[("alg", &["ES256"])]);
    if value.params.has("ppt") {
        let kinds: [(&str, &[&str]); 1] = [("ppt", &["shaken", "div", "rph", "rcd"])];
        let ppt = words(&value.params, &kinds).plain("ppt")?.clone();
        params.set(
            Text::from_static("ppt"),
            Some(Value::Quoted(Quoted::from_plain(&ppt))),
        );
    }
    sound.then(|| Identity {
        digest: Value::Plain(token.detached()),
        info: Some(info.detached()),
        params,
    })
}

/// `https://…` without anything that a URL of a certificate does not need.
fn is_certificate(text: &str) -> bool {
    text.strip_prefix("https://").is_some_and(|inside| {
        (1..=256).contains(&inside.len())
            && inside
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"-._~/:%".contains(&octet))
    })
}

/// RFC 4412: the namespaces of its registry with their short priorities.
pub(crate) fn resource_priority(value: &ResourcePriority) -> Option<ResourcePriority> {
    let namespace = word(
        &value.namespace,
        &["dsn", "drsn", "q735", "ets", "wps", "esnet"],
    )?;
    let priority = word(
        &value.priority,
        &[
            "0",
            "1",
            "2",
            "3",
            "4",
            "routine",
            "priority",
            "immediate",
            "flash",
            "flash-override",
            "flash-override-override",
        ],
    )?;
    ResourcePriority::new(namespace, priority)
}

/// RFC 3261 §20.3: language ranges with their preference.
pub(crate) fn languages(text: &str) -> Option<String> {
    let mut kept = Vec::new();
    for one in text.split(',').take(LANGUAGES) {
        let (range, rest) = one.split_once(';').unwrap_or((one, ""));
        let range = range.trim();
        let mut tags = range.split('-');
        let alphabetic = |tag: &str| {
            (1..=8).contains(&tag.len()) && tag.bytes().all(|octet| octet.is_ascii_alphabetic())
        };
        let good = range == "*"
            || (tags
                .next()
                .is_some_and(|tag| (1..=3).contains(&tag.len()) && alphabetic(tag))
                && tags.clone().count() <= 2
                && tags.all(|tag| tag.len() <= 4 && alphabetic(tag)));
        if !good {
            continue;
        }
        let quality = rest
            .trim()
            .strip_prefix("q=")
            .and_then(|q| q.parse::<f32>().ok())
            .filter(|q| (0.0..=1.0).contains(q));
        kept.push(match quality {
            Some(quality) => format!("{range};q={quality:.1}"),
            None => range.to_owned(),
        });
    }
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// One of some words, spelt as there.
pub(crate) fn word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let text = text.trim();
    words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(text))
        .copied()
}

/// RFC 5009: those of its words that are there.
pub(crate) fn early_media(text: &str) -> Option<String> {
    const WORDS: [&str; 6] = [
        "sendrecv",
        "sendonly",
        "recvonly",
        "inactive",
        "gated",
        "supported",
    ];
    let kept: Vec<&str> = text
        .split(',')
        .take(WORDS.len())
        .filter_map(|one| word(one, &WORDS))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// RFC 7315 §4.4: the kind of access; where it is stays behind.
pub(crate) fn access_network(text: &str) -> Option<String> {
    const KINDS: [&str; 16] = [
        "IEEE-802.11",
        "IEEE-802.11a",
        "IEEE-802.11b",
        "IEEE-802.11g",
        "IEEE-802.11n",
        "IEEE-802.3",
        "IEEE-802.3a",
        "3GPP-GERAN",
        "3GPP-UTRAN-FDD",
        "3GPP-E-UTRAN-FDD",
        "3GPP-NR",
        "ADSL",
        "VDSL",
        "DOCSIS",
        "GPON",
        "FTTH",
    ];
    word(text.split(';').next().unwrap_or_default(), &KINDS).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_keeps_protocol_and_cause_alone() {
        let read = |token: &'static str, cause: &'static str| {
            let mut value = TokenValue::new(Text::from_static(token));
            value
                .params
                .set_plain(Text::from_static("cause"), Text::from_static(cause));
            value
                .params
                .set_plain(Text::from_static("text"), Text::from_static("pbx"));
            reasons(&[value]).first().map(ToString::to_string)
        };
        assert_eq!(read("q.850", "16").as_deref(), Some("Q.850;cause=16"));
        assert_eq!(read("SIP", "486").as_deref(), Some("SIP;cause=486"));
        for (token, cause) in [("Q.850", "128"), ("SIP", "99"), ("X", "16"), ("SIP", "pbx")] {
            assert_eq!(read(token, cause), None, "{token} {cause}");
        }
    }

    /// The fields of an INVITE with these lines.
    fn headers(lines: &str) -> sbc_sip::headers::Headers {
        let text = format!(
            "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:a>\r\n\
             Call-ID: c\r\nCSeq: 1 OPTIONS\r\n{lines}\r\nContent-Length: 0\r\n\r\n"
        );
        let limits = sbc_sip::limits::Limits::default();
        match sbc_sip::message::parse(
            text.as_bytes(),
            sbc_sip::message::Framing::Datagram,
            &limits,
        ) {
            Ok(sbc_sip::message::Message::Request(request)) => request.headers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn user_to_user_information_is_hexadecimal() {
        let read = |text: &str| {
            let headers = headers(&format!("User-to-User: {text}"));
            Some(user_to_user(&headers.user_to_user()?[0])?.to_string())
        };
        let crossed = read("56A390F3D2B7;purpose=isdn-uui;content=isdn-uui;encoding=hex;x=pbx");
        let expected = "56a390f3d2b7;purpose=isdn-uui;content=isdn-uui;encoding=hex";
        assert_eq!(crossed.as_deref(), Some(expected));
        for bad in [
            "pbx",
            "abc",
            "\"ab\"",
            "ab;encoding=text",
            &"ab".repeat(129),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_passport_crosses_whole_or_not_at_all() {
        let read = |text: &str| {
            let headers = headers(&format!("Identity: {text}"));
            Some(passport(&headers.identity()?[0])?.to_string())
        };
        let whole = "eyJ.eyK.sIg-_;info=<https://cert.example/a.pem>;alg=ES256;ppt=\"shaken\"";
        assert_eq!(read(whole).as_deref(), Some(whole));
        assert!(read("..sIg;info=<https://cert.example/a.pem>").is_some());
        assert_eq!(read(&format!("{whole};x=pbx")).as_deref(), Some(whole));
        for bad in [
            "a..b;info=<https://c.example/>",
            "a.b.c;info=<sip:pbx>",
            "a.b.c;info=<https://c.example/?pbx>",
            "a.b.c;info=<https://c.example/>;ppt=pbx",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn languages_and_words_are_those_that_are_known() {
        assert_eq!(
            languages("de-AT, en;q=0.5, pbx.lan, *;q=x").as_deref(),
            Some("de-AT, en;q=0.5, *")
        );
        assert_eq!(languages("secret-host"), None);
        assert_eq!(
            early_media("sendonly, Gated, pbx").as_deref(),
            Some("sendonly, gated")
        );
        assert_eq!(
            access_network("ieee-802.11;i-wlan-node-id=aabb").as_deref(),
            Some("IEEE-802.11")
        );
        assert_eq!(access_network("pbx"), None);
    }
}
