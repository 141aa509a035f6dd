//! A fragment of a message as a body, `message/sipfrag`: RFC 3420. A NOTIFY of a REFER tells by one how the call stands
//! that was referred (RFC 3515 §2.4.5). Read strictly, written from a status.

use super::head::{split_head, unfold};
use super::parse::{Start, request_line, status_line};
use crate::error::ParseError;
use crate::headers::{HeaderName, MediaType};
use crate::limits::Limits;
use crate::method::Method;
use crate::reader::{Origin, is_printable, is_token};
use crate::status::StatusCode;
use crate::text::Text;
use crate::uri::Uri;

/// The start line of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FragmentStart {
    /// Of a request.
    Request(Method, Uri),
    /// Of a response, with its reason phrase.
    Response(StatusCode, Text),
}

/// A fragment: a start line, header fields, or both. A body in it is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its start line, if it has one.
    pub start: Option<FragmentStart>,
    /// Its header fields as text, in their order.
    pub fields: Vec<(HeaderName, Text)>,
}

impl Fragment {
    /// The status line alone, with the usual reason phrase.
    #[must_use]
    pub const fn of_status(status: StatusCode) -> Self {
        Self {
            start: Some(FragmentStart::Response(status, status.reason())),
            fields: Vec::new(),
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type() -> MediaType {
        MediaType::new(Text::from_static("message"), Text::from_static("sipfrag"))
    }

    /// The status that it tells.
    #[must_use]
    pub const fn status(&self) -> Option<StatusCode> {
        match &self.start {
            Some(FragmentStart::Response(status, _)) => Some(*status),
            _ => None,
        }
    }

    /// Reads a body. Fails with the first offence; an empty one is none. The line break at its end may be missing, as
    /// many leave it out behind a status line.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ParseError> {
        if bytes.len() > limits.body {
            return Err(ParseError::BodyTooLarge);
        }
        let head = match split_head(bytes, limits) {
            Ok(split) => split.head,
            Err(ParseError::HeadNotEnded) => bytes.strip_suffix(b"\r\n").unwrap_or(bytes),
            Err(error) => return Err(error),
        };
        let head = core::str::from_utf8(head).map_err(|_| ParseError::NotUtf8)?;
        let head = unfold(head);
        let mut lines = head.split("\r\n").peekable();
        let first = lines.peek().copied().unwrap_or_default();
        if first.is_empty() {
            return Err(ParseError::Empty);
        }
        let start = if is_field(first) {
            None
        } else {
            lines.next();
            Some(start(first, limits)?)
        };
        let mut fields = Vec::new();
        for line in lines {
            if fields.len() >= limits.header_fields {
                return Err(ParseError::TooManyHeaderFields);
            }
            fields.push(field(line, limits)?);
        }
        Ok(Self { start, fields })
    }

    /// The fragment as a body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = match &self.start {
            Some(FragmentStart::Request(method, uri)) => format!("{method} {uri} SIP/2.0\r\n"),
            Some(FragmentStart::Response(status, reason)) => {
                format!("SIP/2.0 {status} {reason}\r\n")
            }
            None => String::new(),
        };
        for (name, value) in &self.fields {
            text.push_str(name.as_str());
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        text.into_bytes()
    }
}

/// Whether a line is a header field: its first word ends in a colon. `SIP/2.0 …` and `INVITE sip:…` do not.
fn is_field(line: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| {
        let name = name.trim_end_matches([' ', '\t']);
        !name.is_empty() && name.bytes().all(is_token)
    })
}

fn start(line: &str, limits: &Limits) -> Result<FragmentStart, ParseError> {
    let is_response = line
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("SIP/"));
    let start = if is_response {
        status_line(Origin::default(), line)?
    } else {
        request_line(Origin::default(), line, limits)?
    };
    Ok(match start {
        Start::Request(method, uri) => FragmentStart::Request(method, uri),
        Start::Response(status, reason) => FragmentStart::Response(status, reason),
    })
}

fn field(line: &str, limits: &Limits) -> Result<(HeaderName, Text), ParseError> {
    if line.len() > limits.header_field {
        return Err(ParseError::HeaderFieldTooLong);
    }
    let (name, value) = line
        .split_once(':')
        .filter(|_| is_field(line))
        .ok_or(ParseError::HeaderName)?;
    if !value.bytes().all(is_printable) {
        return Err(ParseError::HeaderName);
    }
    let name = name.trim_end_matches([' ', '\t']);
    Ok((
        HeaderName::from_token(Text::from(name)),
        Text::from(value.trim_matches([' ', '\t'])),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fragment, ParseError> {
        Fragment::parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn a_status_line_is_read_with_and_without_its_line_break() {
        for text in [
            "SIP/2.0 180 Ringing",
            "SIP/2.0 180 Ringing\r\n",
            "SIP/2.0 180 Ringing\r\nTo: <sip:a@a.example>\r\n\r\nbody",
        ] {
            assert_eq!(
                parse(text).unwrap().status(),
                Some(StatusCode::RINGING),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let fragment = Fragment::of_status(StatusCode::OK);
        assert_eq!(fragment.to_bytes(), b"SIP/2.0 200 OK\r\n");
        let all = parse("INVITE sip:a@a.example SIP/2.0\r\nSubject : a\r\n b\r\n").unwrap();
        assert_eq!(
            all.to_bytes(),
            b"INVITE sip:a@a.example SIP/2.0\r\nSubject: a b\r\n"
        );
        assert_eq!(
            Fragment::parse(&all.to_bytes(), &Limits::default()),
            Ok(all)
        );
    }

    #[test]
    fn header_fields_alone_are_a_fragment() {
        let fragment = parse("From: <sip:a@a.example>\r\nl: 4\r\n").unwrap();
        assert_eq!((fragment.start, fragment.fields.len()), (None, 2));
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        for (text, offence) in [
            ("", ParseError::Empty),
            ("\r\n\r\n", ParseError::Empty),
            ("SIP/2.0 99 x", ParseError::StatusCode),
            ("SIP/2.0 200", ParseError::StartLine),
            ("SIP/3.0 200 OK", ParseError::Version),
            ("SIP/2.0 200 OK\nTo: x", ParseError::BareLineBreak),
            ("SIP/2.0 200 OK\r\nno field", ParseError::HeaderName),
            ("SIP/2.0 200 OK\r\nTo: a\u{1}b", ParseError::HeaderName),
        ] {
            assert_eq!(parse(text), Err(offence), "{text:?}");
        }
    }
}
