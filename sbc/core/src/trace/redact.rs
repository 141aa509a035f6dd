//! A message without its secrets: credentials, keys of SDES and ICE, passwords in URIs, digits of a keypad and those dialled
//! behind a number, text that people wrote. For the ladder and the collector; the message itself is not touched.

use std::borrow::Cow;

/// What stands in the place of a secret.
const HIDDEN: &str = "[hidden]";

/// Header fields whose value is not shown; of the first two the scheme is.
const HIDDEN_FIELDS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "authentication-info",
    "proxy-authentication-info",
    "identity",
    "y",
    "user-to-user",
    "subject",
];

/// Header fields that have no room for a URI: shown as they are.
const PLAIN_FIELDS: [&str; 11] = [
    "via",
    "v",
    "cseq",
    "max-forwards",
    "content-length",
    "l",
    "allow",
    "supported",
    "k",
    "require",
    "expires",
];

/// The message as text to be shown.
pub(super) fn redact(bytes: &[u8]) -> String {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let (head, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    let body = rest.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let mut text = String::with_capacity(bytes.len());
    let mut kind = Cow::Borrowed("");
    let mut hidden = false;
    for (index, line) in head.split("\r\n").enumerate() {
        if index > 0 && line.starts_with([' ', '\t']) {
            // The rest of a folded value goes with its beginning.
            if !hidden {
                push_line(&mut text, &without_passwords(line));
            }
            continue;
        }
        let (name, value) = match line.split_once(':') {
            Some((name, value)) if index > 0 => (name.trim_end(), value.trim()),
            _ => ("", line),
        };
        hidden = HIDDEN_FIELDS
            .iter()
            .any(|field| name.eq_ignore_ascii_case(field));
        if hidden {
            let scheme = match name.to_ascii_lowercase().as_str() {
                "authorization" | "proxy-authorization" => value.split(' ').next(),
                _ => None,
            };
            push_line(
                &mut text,
                &format!(
                    "{name}: {}{HIDDEN}",
                    scheme.map(|word| format!("{word} ")).unwrap_or_default()
                ),
            );
            continue;
        }
        if name.eq_ignore_ascii_case("content-type") || name.eq_ignore_ascii_case("c") {
            kind = Cow::Owned(value.to_ascii_lowercase());
        }
        let plain = PLAIN_FIELDS
            .iter()
            .any(|field| name.eq_ignore_ascii_case(field));
        if plain {
            push_line(&mut text, line);
        } else {
            push_line(&mut text, &without_passwords(line));
        }
    }
    text.push_str("\r\n");
    push_body(
        &mut text,
        kind.split(';').next().unwrap_or_default().trim(),
        body,
    );
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

fn push_body(text: &mut String, kind: &str, body: &[u8]) {
    if body.is_empty() {
        return;
    }
    match kind {
        "application/sdp" => {
            for line in String::from_utf8_lossy(body).lines() {
                push_line(text, &description_line(line));
            }
        }
        // RFC 3420: the status is what it is for; what follows may be a whole message.
        "message/sipfrag" => {
            let body = String::from_utf8_lossy(body);
            push_line(
                text,
                &without_passwords(body.lines().next().unwrap_or_default()),
            );
        }
        _ => push_line(text, &format!("[{kind}, {} octets]", body.len())),
    }
}

/// A line of a session description without its key. RFC 4568 §9.1, RFC 8839 §5.4, RFC 8866 §5.12, RFC 4567.
fn description_line(line: &str) -> Cow<'_, str> {
    if let [b'v' | b'o' | b'c' | b't' | b'b' | b'm', b'=', ..] = line.as_bytes() {
        return Cow::Borrowed(line);
    }
    let is = |start: &str| {
        line.get(..start.len())
            .is_some_and(|have| have.eq_ignore_ascii_case(start))
    };
    if is("a=crypto:") {
        let shown: Vec<&str> = line.split(' ').take(2).collect();
        return Cow::Owned(format!("{} {HIDDEN}", shown.join(" ")));
    }
    for start in ["k=", "a=ice-pwd:", "a=key-mgmt:"] {
        if is(start) {
            return Cow::Owned(format!("{start}{HIDDEN}"));
        }
    }
    without_passwords(line)
}

/// A line in which no URI carries a password or credentials.
pub(super) fn without_passwords(line: &str) -> Cow<'_, str> {
    if !is_suspicious(line) {
        return Cow::Borrowed(line);
    }
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = scheme(rest) {
        let (before, uri) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let end = uri.find([' ', '\t', '<', '>', '"']).unwrap_or(uri.len());
        let (uri, after) = uri.split_at_checked(end).unwrap_or((uri, ""));
        shown.push_str(before);
        push_uri(&mut shown, uri);
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// A number or room without the digits that are dialled behind it: after a pause (`,`, RFC 3966 `postd`), a hash, or the
/// point between a room and its PIN.
pub(crate) fn number(text: &str) -> String {
    let behind = |at: usize| -> Option<usize> {
        let rest = text.as_bytes().get(at..)?;
        let is = |word: &[u8]| {
            rest.get(..word.len())
                .is_some_and(|have| have.eq_ignore_ascii_case(word))
        };
        let head = text.as_bytes().get(..at)?;
        let of_digits = |octets: &[u8]| {
            octets.first().is_some_and(u8::is_ascii_digit) && octets.iter().all(u8::is_ascii_digit)
        };
        let digit_follows = || rest.get(1).is_some_and(u8::is_ascii_digit);
        match rest.first()? {
            b',' | b'#' => Some(1),
            b'%' if is(b"%2c") || is(b"%23") => Some(3),
            b';' if is(b";postd=") => Some(7),
            b'.' if of_digits(head) && digit_follows() => Some(1),
            _ => None,
        }
    };
    let cut = (0..text.len()).find_map(|at| behind(at).map(|length| at + length));
    match cut.and_then(|cut| text.split_at_checked(cut)) {
        Some((shown, hidden)) if !hidden.is_empty() => format!("{shown}{HIDDEN}"),
        _ => text.to_owned(),
    }
}

/// Whether a line may hold what is to be hidden. Asked of each line of each message: one look at each octet.
fn is_suspicious(line: &str) -> bool {
    let octets = line.as_bytes();
    octets.iter().enumerate().any(|(at, octet)| match octet {
        b'@' => true,
        b':' => ends_with(octets.get(..at), b"tel"),
        b'=' => ends_with(octets.get(..at), b"authorization"),
        _ => false,
    })
}

fn ends_with(octets: Option<&[u8]>, word: &[u8]) -> bool {
    let octets = octets.unwrap_or_default();
    let start = octets.len().saturating_sub(word.len());
    let end = octets.get(start..).unwrap_or_default();
    end.eq_ignore_ascii_case(word)
}

/// Where the next sip, sips or tel URI begins.
fn scheme(text: &str) -> Option<usize> {
    let octets = text.as_bytes();
    octets.iter().enumerate().find_map(|(at, octet)| {
        if *octet != b':' {
            return None;
        }
        let before = octets.get(..at);
        let mut words = [&b"sips"[..], b"sip", b"tel"].into_iter();
        let word = words.find(|word| ends_with(before, word))?;
        Some(at - word.len())
    })
}

fn push_uri(shown: &mut String, uri: &str) {
    if let Some((tel, subscriber)) = uri.split_at_checked(4)
        && tel.eq_ignore_ascii_case("tel:")
    {
        shown.push_str(tel);
        shown.push_str(&number(subscriber));
        return;
    }
    let (uri, headers) = match uri.split_once('?') {
        Some((uri, headers)) if !headers.contains('@') => (uri, Some(headers)),
        _ => (uri, None),
    };
    match uri.rsplit_once('@') {
        Some((user, host)) => {
            let mut parts = user.splitn(3, ':');
            let (scheme, user) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            shown.push_str(scheme);
            shown.push(':');
            shown.push_str(&number(user));
            if parts.next().is_some() {
                shown.push(':');
                shown.push_str(HIDDEN);
            }
            shown.push('@');
            shown.push_str(host);
        }
        None => shown.push_str(uri),
    }
    for (index, header) in headers
        .into_iter()
        .flat_map(|headers| headers.split('&'))
        .enumerate()
    {
        shown.push(if index == 0 { '?' } else { '&' });
        let name = header.split('=').next().unwrap_or_default();
        if name.to_ascii_lowercase().ends_with("authorization") || name.contains('%') {
            shown.push_str(name);
            shown.push('=');
            shown.push_str(HIDDEN);
        } else {
            shown.push_str(header);
        }
    }
}

/// Call-ID of a message that we wrote.
pub(super) fn call_id(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"\r\nCall-ID: ";
    let start = bytes
        .windows(NAME.len())
        .position(|window| window == NAME)?
        + NAME.len();
    let rest = bytes.get(start..)?;
    let end = rest.iter().position(|octet| *octet == b'\r')?;
    core::str::from_utf8(rest.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_wherever_it_stands() {
        let description = "v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:SECRET0000|2^20\r\nk=clear:SECRET\r\na=ice-pwd:SECRET\r\n\
                           A=Crypto:2 X inline:SECRET\r\na=sendrecv\r\n";
        let text = format!(
            "REFER sip:a:SECRET@a.example SIP/2.0\r\nAuthorization: Digest username=\"a\",\r\n response=\"SECRET\"\r\n\
             proxy-authorization : Digest response=SECRET\r\nAuthentication-Info: rspauth=\"SECRET\"\r\nIdentity: SECRET\r\ny: SECRET\r\n\
             User-to-User: SECRET\r\nSubject: SECRET\r\nTo: \"x\" <SIPS:b:SECRET@b.example;x=y>\r\n\
             Refer-To: <sip:c@c.example?Authorization=SECRET&Replaces=x>, sip:d:SECRET@d.example\r\n\
             Contact: <sip:e:SEC?RET@e.example>\r\nCall-ID: 1@a\r\nc: application/sdp;x=y\r\n\r\n{description}"
        );
        let shown = redact(text.as_bytes());
        assert!(
            !shown.contains("SECRET") && !shown.contains("RET@"),
            "{shown}"
        );
        for kept in [
            "a=sendrecv",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 ",
            "Replaces=x",
            "<SIPS:b:[hidden]@b.example;x=y>",
            "Authorization: Digest [hidden]",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }

    #[test]
    fn digits_dialled_behind_a_number_are_not_shown() {
        for (dialled, shown) in [
            ("+493055599,,123456,987654#", "+493055599,[hidden]"),
            ("123456.987654", "123456.[hidden]"),
            ("123456%2C987654", "123456%2C[hidden]"),
            ("123456%23987654", "123456%23[hidden]"),
            ("123456#987654", "123456#[hidden]"),
            ("+4930;postd=987654", "+4930;postd=[hidden]"),
            ("*21#", "*21#"),
            ("+49.30.1234", "+49.30.1234"),
            ("first.last", "first.last"),
            (
                "1001;phone-context=a.example",
                "1001;phone-context=a.example",
            ),
            ("", ""),
            ("ä,1", "ä,[hidden]"),
        ] {
            assert_eq!(number(dialled), shown);
        }
        let text = "INVITE sip:123456.987654@a.example;user=phone SIP/2.0\r\nTo: <tel:+4930;postd=987654>, <sip:1,987654@a>\r\n\
                    P-Asserted-Identity: <tel:+4930123>\r\n\r\n";
        let shown = redact(text.as_bytes());
        assert!(!shown.contains("987654"), "{shown}");
        assert!(shown.contains("<tel:+4930123>"), "{shown}");
    }

    #[test]
    fn bodies_that_are_not_descriptions_are_not_shown() {
        for (kind, body) in [
            ("application/dtmf-relay", "Signal=SECRET"),
            ("text/plain", "SECRET"),
            ("multipart/mixed;boundary=x", "--x\r\n\r\nSECRET\r\n--x--"),
            ("", "SECRET"),
            ("message/sipfrag", "SIP/2.0 200 OK\r\nAuthorization: SECRET"),
        ] {
            let text = format!("INFO sip:a SIP/2.0\r\nContent-Type: {kind}\r\n\r\n{body}");
            let shown = redact(text.as_bytes());
            assert!(!shown.contains("SECRET"), "{shown}");
        }
        let fragment =
            b"NOTIFY sip:a SIP/2.0\r\nContent-Type: message/sipfrag\r\n\r\nSIP/2.0 180 Ringing\r\n";
        assert!(redact(fragment).contains("180 Ringing"));
    }

    #[test]
    fn octets_that_are_no_text_do_no_harm() {
        let octets: Vec<u8> = (0..=255).cycle().take(2_000).collect();
        let _ = redact(&octets);
        let _ = redact("sip:ä@ö;ü <sip:x:é@".as_bytes());
        assert_eq!(call_id(b"a\r\nCall-ID: x\r\n"), Some("x"));
        assert_eq!(call_id(&octets), None);
    }
}
