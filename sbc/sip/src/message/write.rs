//! The writer: a message from its types, header fields in one order, full names, one line each. No value can start a new
//! line: a control character that its grammar does not allow is written as a space.

use core::fmt::{self, Write};

use super::{Message, Request, Response};
use crate::headers::Headers;

impl Message {
    /// The message as it goes on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

impl Request {
    /// The request as it goes on the wire, Content-Length computed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = Head::default();
        head.line(format_args!("{} {} SIP/2.0", self.method, self.uri));
        head.headers(&self.headers);
        head.finish(&self.body)
    }
}

impl Response {
    /// The response as it goes on the wire, Content-Length computed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = Head::default();
        head.line(format_args!("SIP/2.0 {} {}", self.status, self.reason));
        head.headers(&self.headers);
        head.finish(&self.body)
    }
}

/// Start line and header fields under way.
pub(super) struct Head(String);

impl Default for Head {
    fn default() -> Self {
        Self(String::with_capacity(1024))
    }
}

impl Head {
    /// One line, made safe.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        let start = self.0.len();
        // Writing to a String fails only if a Display does; ours do not.
        let _ = self.0.write_fmt(line);
        let written = self.0.get(start..).unwrap_or_default();
        if written.bytes().any(|octet| octet.is_ascii_control()) {
            let safe = without_line_breaks(written);
            self.0.truncate(start);
            self.0.push_str(&safe);
        }
        self.0.push_str("\r\n");
    }

    fn headers(&mut self, headers: &Headers) {
        for via in &headers.vias {
            self.line(format_args!("Via: {via}"));
        }
        for route in &headers.routes {
            self.line(format_args!("Route: {route}"));
        }
        for route in &headers.record_routes {
            self.line(format_args!("Record-Route: {route}"));
        }
        self.line(format_args!("From: {}", headers.from));
        self.line(format_args!("To: {}", headers.to));
        self.line(format_args!("Call-ID: {}", headers.call_id));
        self.line(format_args!("CSeq: {}", headers.cseq));
        for contact in &headers.contacts {
            self.line(format_args!("Contact: {contact}"));
        }
        if headers.contact_star {
            self.line(format_args!("Contact: *"));
        }
        for field in &headers.fields {
            self.line(format_args!("{}: {field}", field.name()));
        }
    }

    pub(super) fn finish(mut self, body: &[u8]) -> Vec<u8> {
        self.line(format_args!("Content-Length: {}", body.len()));
        self.0.push_str("\r\n");
        let mut bytes = self.0.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Control characters become spaces, but for a tab and for what a backslash in a quoted string makes harmless (never a
/// line break: RFC 3261 §25.1 `quoted-pair`).
fn without_line_breaks(line: &str) -> String {
    let mut escaped = false;
    let mut quoted = false;
    line.chars()
        .map(|character| {
            let was_escaped = core::mem::take(&mut escaped);
            match character {
                '"' if !was_escaped => quoted = !quoted,
                '\\' if quoted && !was_escaped => escaped = true,
                _ => {}
            }
            let harmless = character == '\t' || (was_escaped && !matches!(character, '\r' | '\n'));
            if character.is_ascii_control() && !harmless {
                ' '
            } else {
                character
            }
        })
        .collect()
}
