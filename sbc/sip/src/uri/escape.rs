//! Character classes and `%HH` escapes of URIs. RFC 3261 §25.1. Who builds a user part from plain text calls [`user`].

use core::fmt::Write as _;
use std::borrow::Cow;

use crate::text::Text;

const fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')'
        )
}

pub(crate) fn is_user(octet: u8) -> bool {
    is_unreserved(octet) || matches!(octet, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/')
        // `#` is outside the grammar, yet dial strings (service codes) come with it everywhere.
        || octet == b'#'
}

pub(crate) fn is_password(octet: u8) -> bool {
    is_unreserved(octet) || matches!(octet, b'&' | b'=' | b'+' | b'$' | b',')
}

pub(crate) fn is_param(octet: u8) -> bool {
    is_unreserved(octet) || matches!(octet, b'[' | b']' | b'/' | b':' | b'&' | b'+' | b'$')
}

pub(crate) fn is_header(octet: u8) -> bool {
    is_unreserved(octet) || matches!(octet, b'[' | b']' | b'/' | b'?' | b':' | b'+' | b'$')
}

/// `uric`: what may stand in an absolute URI of an unknown scheme.
pub(crate) fn is_uric(octet: u8) -> bool {
    is_unreserved(octet)
        || matches!(
            octet,
            b';' | b'/'
                | b'?'
                | b':'
                | b'@'
                | b'&'
                | b'='
                | b'+'
                | b'$'
                | b','
                | b'#'
                | b'['
                | b']'
        )
}

/// Whether every octet is of the class or part of a `%HH`.
pub(crate) fn is_escaped(text: &str, accept: fn(u8) -> bool) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let good = match octet {
            b'%' => {
                let mut hexadecimal =
                    || octets.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                hexadecimal() && hexadecimal()
            }
            _ => accept(octet),
        };
        if !good {
            return false;
        }
    }
    true
}

/// Plain text as a user part: every octet that may not stand there is written `%HH`.
#[must_use]
pub fn user(plain: &str) -> Text {
    escape(plain, |octet| is_user(octet) && octet != b'#')
}

/// Plain text as the name or value of a header field in a URI.
#[must_use]
pub fn header(plain: &str) -> Text {
    escape(plain, is_header)
}

fn escape(plain: &str, accept: fn(u8) -> bool) -> Text {
    if plain.bytes().all(accept) {
        return Text::from(plain);
    }
    let mut escaped = String::with_capacity(plain.len() + 8);
    for octet in plain.bytes() {
        if accept(octet) {
            escaped.push(char::from(octet));
        } else {
            // Writing to a String does not fail.
            let _ = write!(escaped, "%{octet:02X}");
        }
    }
    Text::from(escaped)
}

/// The octets that an escaped text means, with reserved characters still escaped (in upper case). RFC 3261 §19.1.4.
pub(crate) fn resolve_unreserved(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let reserved = |octet: u8| {
        matches!(
            octet,
            b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b'%'
        )
    };
    let mut plain = Vec::with_capacity(text.len());
    for (octet, escaped) in Octets(text.as_bytes()) {
        if escaped && reserved(octet) {
            plain.extend(format!("%{octet:02X}").into_bytes());
        } else {
            plain.push(octet);
        }
    }
    Cow::Owned(plain)
}

/// The octets that an escaped text means. Not text: it may hold NUL and need not be UTF-8.
#[must_use]
pub fn resolve(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(Octets(text.as_bytes()).map(|(octet, _)| octet).collect())
}

/// Octets of an escaped text, each with whether it was written as an escape.
struct Octets<'a>(&'a [u8]);

impl Iterator for Octets<'_> {
    type Item = (u8, bool);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, after) = self.0.split_first()?;
        let escaped = match (first, after.split_at_checked(2)) {
            (b'%', Some((digits, after))) => hexadecimal(digits).map(|octet| (octet, after)),
            _ => None,
        };
        let (octet, rest) = escaped.unwrap_or((*first, after));
        self.0 = rest;
        Some((octet, escaped.is_some()))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}
