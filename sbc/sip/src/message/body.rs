//! Bodies: taken apart by their boundary, octets untouched. RFC 2046 §5.1, RFC 5621. Nested multiparts are not entered
//! here; who wants to calls [`multipart`] on the part, up to [`crate::limits::Limits::body_nesting`].

use thiserror::Error;

use crate::headers::MediaType;
use crate::limits::Limits;
use crate::reader::Reader;

/// A body or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart<'a> {
    /// Its Content-Type.
    pub kind: MediaType,
    /// Its octets.
    pub bytes: &'a [u8],
}

/// Why a multipart body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MultipartError {
    /// Content-Type is no multipart with a boundary of 1 to 70 characters.
    #[error("no boundary")]
    Boundary,
    /// The closing delimiter is missing.
    #[error("not closed")]
    NotClosed,
    /// A part's head does not end or has a bad Content-Type.
    #[error("bad part head")]
    PartHead,
    /// More parts than the limit.
    #[error("too many parts")]
    TooManyParts,
}

/// Takes a multipart body apart. A part without Content-Type is `text/plain` (RFC 2046 §5.1).
pub fn multipart<'a>(
    body: &BodyPart<'a>,
    limits: &Limits,
) -> Result<Vec<BodyPart<'a>>, MultipartError> {
    let boundary = body
        .kind
        .params
        .value("boundary")
        .filter(|_| body.kind.kind.eq_ignore_ascii_case("multipart"));
    let boundary = boundary
        .filter(|text| (1..=70).contains(&text.len()))
        .ok_or(MultipartError::Boundary)?;
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    for Line { start, end, next } in lines(body.bytes) {
        let line = body.bytes.get(start..end).unwrap_or_default();
        let Some(rest) = line.strip_prefix(delimiter.as_bytes()) else {
            continue;
        };
        let closing = rest.trim_ascii_end() == b"--";
        if !closing && !rest.trim_ascii_end().is_empty() {
            continue;
        }
        if let Some(from) = open {
            // The line break before a delimiter belongs to it.
            let part = body
                .bytes
                .get(from..start.saturating_sub(2).max(from))
                .unwrap_or_default();
            if parts.len() >= limits.body_parts {
                return Err(MultipartError::TooManyParts);
            }
            parts.push(parse_part(part, limits)?);
        }
        if closing {
            return Ok(parts);
        }
        open = Some(next);
    }
    Err(MultipartError::NotClosed)
}

struct Line {
    start: usize,
    end: usize,
    next: usize,
}

/// Lines that end in CRLF, and what is left after the last.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> + '_ {
    let mut start = 0;
    core::iter::from_fn(move || {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.windows(2).position(|pair| pair == b"\r\n");
        let (end, next) = match length {
            Some(length) => (start + length, start + length + 2),
            None => (bytes.len(), bytes.len()),
        };
        let line = Line { start, end, next };
        start = next;
        Some(line)
    })
}

fn parse_part<'a>(part: &'a [u8], limits: &Limits) -> Result<BodyPart<'a>, MultipartError> {
    let text_plain = MediaType::new("text", "plain");
    if let Some(bytes) = part.strip_prefix(b"\r\n") {
        return Ok(BodyPart {
            kind: text_plain,
            bytes,
        });
    }
    let head_end = part
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or(MultipartError::PartHead)?;
    let (head, bytes) = part
        .split_at_checked(head_end + 4)
        .ok_or(MultipartError::PartHead)?;
    let head = core::str::from_utf8(head).map_err(|_| MultipartError::PartHead)?;
    let mut kind = None;
    for line in head.split("\r\n").take(limits.header_fields) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let name = name.trim();
        if !name.eq_ignore_ascii_case("Content-Type") && !name.eq_ignore_ascii_case("c") {
            continue;
        }
        let mut reader = Reader::copying(value.trim());
        let parsed = MediaType::parse(&mut reader, limits.parameters)
            .map_err(|_| MultipartError::PartHead)?;
        if kind.is_some() || reader.finish().is_err() {
            return Err(MultipartError::PartHead);
        }
        kind = Some(parsed);
    }
    Ok(BodyPart {
        kind: kind.unwrap_or(text_plain),
        bytes,
    })
}
