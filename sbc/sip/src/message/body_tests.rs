//! Multiparts: which parts count, which refuse the whole, how deep and how many.

use super::*;

const SDP: &str = "Content-Type: application/sdp\r\n\r\nv=0\r\n";

fn mixed(subtype: &str, boundary: &str, parts: &[String]) -> (MediaType, Vec<u8>) {
    let mut text = String::from("preamble\r\n");
    for part in parts {
        text.push_str(&format!("--{boundary}\r\n{part}\r\n"));
    }
    text.push_str(&format!("--{boundary}--\r\n"));
    let mut kind = MediaType::new("multipart", subtype);
    kind.params.set_plain("boundary", boundary);
    (kind, text.into_bytes())
}

fn find(subtype: &str, parts: &[&str]) -> Result<Vec<String>, BodyRefusal> {
    let parts: Vec<String> = parts.iter().map(|part| (*part).into()).collect();
    let (kind, bytes) = mixed(subtype, "b1", &parts);
    let known = |kind: &MediaType| kind.is_sdp() || kind.is("text", "plain");
    let found = understood(&BodyPart::new(kind, &bytes), &known, &Limits::default())?;
    Ok(found
        .iter()
        .map(|part| String::from_utf8_lossy(part.bytes).into_owned())
        .collect())
}

#[test]
fn of_mixed_parts_each_must_be_understood_or_be_optional() {
    let odd = "Content-Type: image/png\r\n\r\nx";
    let optional =
        "Content-Type: image/png\r\nContent-Disposition: render;\r\n handling=optional\r\n\r\nx";
    let plain = "\r\nhello";
    assert_eq!(find("mixed", &[SDP, plain]).unwrap(), ["v=0\r\n", "hello"]);
    assert_eq!(find("mixed", &[SDP, optional]).unwrap(), ["v=0\r\n"]);
    assert_eq!(find("mixed", &[SDP, odd]), Err(BodyRefusal::NotUnderstood));
    assert_eq!(find("unheard-of", &[odd]), Err(BodyRefusal::NotUnderstood));
}

#[test]
fn of_alternatives_the_last_that_is_understood_counts() {
    let odd = "Content-Type: image/png\r\n\r\nx";
    assert_eq!(
        find("alternative", &["\r\none", SDP, odd]).unwrap(),
        ["v=0\r\n"]
    );
    assert_eq!(find("alternative", &[odd]), Err(BodyRefusal::NotUnderstood));
}

#[test]
fn of_related_parts_the_root_counts() {
    let odd = "Content-Type: image/png\r\nContent-ID: <2@a>\r\n\r\nx";
    assert_eq!(find("related", &[SDP, odd]).unwrap(), ["v=0\r\n"]);
    assert_eq!(
        find("related", &[odd, SDP]),
        Err(BodyRefusal::NotUnderstood)
    );
    let root = format!("Content-ID: <1@a>\r\n{SDP}");
    let (mut kind, bytes) = mixed("related", "b1", &[odd.into(), root]);
    kind.params.set(
        "start",
        Some(crate::params::Value::Quoted(
            crate::params::Quoted::from_plain("<1@a>"),
        )),
    );
    let found = understood(
        &BodyPart::new(kind, &bytes),
        &MediaType::is_sdp,
        &Limits::default(),
    );
    assert_eq!(found.unwrap()[0].id.as_deref(), Some("1@a"));
}

#[test]
fn a_signature_is_no_reason_to_refuse_what_is_signed() {
    let signature = "Content-Type: application/pkcs7-signature\r\n\r\nx";
    assert_eq!(find("signed", &[SDP, signature]).unwrap(), ["v=0\r\n"]);
}

#[test]
fn an_encoded_part_is_not_understood() {
    for line in [
        "Content-Transfer-Encoding: base64",
        "Content-Encoding: gzip",
    ] {
        let part = format!("{line}\r\n{SDP}");
        assert_eq!(
            find("mixed", &[&part]),
            Err(BodyRefusal::NotUnderstood),
            "{line}"
        );
    }
    let binary = format!("Content-Transfer-Encoding: binary\r\n{SDP}");
    assert_eq!(find("mixed", &[&binary]).unwrap(), ["v=0\r\n"]);
}

#[test]
fn a_session_description_is_found_among_others_and_not_one_for_something_else() {
    let early = format!("Content-Disposition: early-session\r\n{SDP}");
    let odd = "Content-Type: application/isup\r\nContent-Disposition: signal;handling=required\r\n\r\n\u{1}";
    let (kind, bytes) = mixed(
        "mixed",
        "b1",
        &[odd.into(), early, SDP.replace("v=0", "v=1")],
    );
    let found = session_description(&BodyPart::new(kind, &bytes), &Limits::default()).unwrap();
    assert_eq!(found.bytes, b"v=1\r\n");
}

fn nested(depth: usize) -> (MediaType, Vec<u8>) {
    let mut part: String = SDP.into();
    let mut whole = mixed("mixed", "b0", std::slice::from_ref(&part));
    for level in 1..depth {
        let inner = String::from_utf8(whole.1).unwrap();
        part = format!("Content-Type: {}\r\n\r\n{inner}", whole.0);
        whole = mixed("mixed", &format!("b{level}"), std::slice::from_ref(&part));
    }
    whole
}

#[test]
fn of_alternatives_a_session_description_is_found_before_what_is_not_understood() {
    let (kind, bytes) = mixed(
        "alternative",
        "b1",
        &[SDP.into(), "Content-Type: application/odd\r\n\r\nx".into()],
    );
    let found = session_description(&BodyPart::new(kind, &bytes), &Limits::default()).unwrap();
    assert_eq!(found.bytes, b"v=0\r\n");
}

#[test]
fn multiparts_are_entered_to_the_limit_and_no_deeper() {
    let limits = Limits::default();
    let (kind, bytes) = nested(limits.body_nesting);
    assert!(session_description(&BodyPart::new(kind, &bytes), &limits).is_some());
    let (kind, bytes) = nested(limits.body_nesting + 1);
    assert_eq!(
        understood(&BodyPart::new(kind, &bytes), &|_| true, &limits),
        Err(BodyRefusal::Malformed(MultipartError::TooDeep))
    );
}

#[test]
fn parts_are_counted_at_all_depths_together() {
    let limits = Limits {
        body_parts: 4,
        ..Limits::default()
    };
    let (kind, bytes) = mixed("mixed", "in", &["\r\na".into(), "\r\nb".into()]);
    let inner = format!(
        "Content-Type: {kind}\r\n\r\n{}",
        String::from_utf8(bytes).unwrap()
    );
    let (kind, bytes) = mixed("mixed", "out", &[inner.clone(), "\r\nc".into()]);
    assert_eq!(
        understood(&BodyPart::new(kind, &bytes), &|_| true, &limits)
            .unwrap()
            .len(),
        3
    );
    let (kind, bytes) = mixed("mixed", "out", &[inner.clone(), inner]);
    assert_eq!(
        understood(&BodyPart::new(kind, &bytes), &|_| true, &limits),
        Err(BodyRefusal::Malformed(MultipartError::TooManyParts))
    );
}

#[test]
fn what_cannot_be_taken_apart_is_malformed() {
    for (subtype, text) in [
        ("mixed", "--b1\r\n\r\nx\r\n"),
        ("mixed", "--b1\r\nno field\r\n\r\nx\r\n--b1--\r\n"),
        (
            "mixed",
            "--b1\r\nContent-Type: a/b\r\nc: a/b\r\n\r\nx\r\n--b1--\r\n",
        ),
        (
            "mixed",
            "--b1\r\nContent-Disposition: \r\n\r\nx\r\n--b1--\r\n",
        ),
    ] {
        let mut kind = MediaType::new("multipart", subtype);
        kind.params.set_plain("boundary", "b1");
        let body = BodyPart::new(kind, text.as_bytes());
        let result = understood(&body, &|_| true, &Limits::default());
        assert!(matches!(result, Err(BodyRefusal::Malformed(_))), "{text}");
    }
}
