//! Bodies: taken apart by their boundary, octets untouched. RFC 2046 §5.1, RFC 5621. [`understood`] finds the parts that
//! a receiver has to look at, through nested multiparts up to [`crate::limits::Limits::body_nesting`]; the judge of
//! requests and the offer/answer of the core ask it.

use thiserror::Error;

use super::head::unfold;
use crate::error::Syntax;
use crate::headers::{MediaType, TokenValue};
use crate::limits::Limits;
use crate::reader::Reader;
use crate::text::Text;

/// A body or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart<'a> {
    /// Its Content-Type.
    pub kind: MediaType,
    /// Its Content-Disposition: what it is for and whether it may be ignored. RFC 5621 §8.
    pub disposition: Option<TokenValue>,
    /// Its Content-ID without angle brackets, by which other parts name it. RFC 2392.
    pub id: Option<Text>,
    /// Whether its octets are written in some encoding that is not undone here.
    pub encoded: bool,
    /// Its octets.
    pub bytes: &'a [u8],
}

impl<'a> BodyPart<'a> {
    /// Octets of that type, with nothing else said of them.
    #[must_use]
    pub const fn new(kind: MediaType, bytes: &'a [u8]) -> Self {
        Self {
            kind,
            disposition: None,
            id: None,
            encoded: false,
            bytes,
        }
    }

    /// Whether it may be ignored by who does not understand it.
    #[must_use]
    pub fn may_be_ignored(&self) -> bool {
        self.disposition
            .as_ref()
            .is_some_and(TokenValue::may_be_ignored)
    }

    /// Whether it describes the session: SDP that nothing else is said of. RFC 3261 §20.11.
    #[must_use]
    pub fn describes_session(&self) -> bool {
        self.kind.is_sdp()
            && !self.encoded
            && self
                .disposition
                .as_ref()
                .is_none_or(|value| value.token.eq_ignore_ascii_case("session"))
    }

    fn is_multipart(&self) -> bool {
        self.kind.kind.eq_ignore_ascii_case("multipart")
    }
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyRefusal {
    /// It cannot be taken apart: 400.
    #[error("malformed body: {0}")]
    Malformed(MultipartError),
    /// A part that must be understood is not: 415.
    #[error("body not understood")]
    NotUnderstood,
}

/// How a multipart says what its parts are to each other.
enum Kind {
    /// Each counts. RFC 2046 §5.1.3; any unknown one is read so (§5.1.7).
    Mixed,
    /// The last that is understood counts. RFC 2046 §5.1.4.
    Alternative,
    /// The root counts, the others belong to it. RFC 2387.
    Related,
    /// The first counts, the second is its signature, which is not checked here. RFC 1847.
    Signed,
}

impl Kind {
    fn of(kind: &MediaType) -> Self {
        let is = |name: &str| kind.subtype.eq_ignore_ascii_case(name);
        match () {
            () if is("alternative") => Self::Alternative,
            () if is("related") => Self::Related,
            () if is("signed") => Self::Signed,
            () => Self::Mixed,
        }
    }
}

/// The parts of a body that `known` names, in their order; a body that is no multipart is its only part. Fails if it
/// cannot be taken apart, or if a part is not understood that may not be ignored. RFC 5621 §3.
pub fn understood<'a>(
    body: &BodyPart<'a>,
    known: &dyn Fn(&MediaType) -> bool,
    limits: &Limits,
) -> Result<Vec<BodyPart<'a>>, BodyRefusal> {
    let mut search = Search {
        known,
        limits,
        parts: limits.body_parts,
        lenient: false,
    };
    search.part(body, 0)
}

/// The session description of a body, through any multiparts; parts that are something else do not matter.
#[must_use]
pub fn session_description<'a>(body: &BodyPart<'a>, limits: &Limits) -> Option<BodyPart<'a>> {
    let mut search = Search {
        known: &MediaType::is_sdp,
        limits,
        parts: limits.body_parts,
        lenient: true,
    };
    let parts = search.part(body, 0).ok()?;
    parts.into_iter().find(BodyPart::describes_session)
}

/// One body under way.
struct Search<'s> {
    known: &'s dyn Fn(&MediaType) -> bool,
    limits: &'s Limits,
    /// How many parts there may still be, at any depth.
    parts: usize,
    /// What is not understood does not matter, whatever it says.
    lenient: bool,
}

impl Search<'_> {
    fn part<'a>(
        &mut self,
        part: &BodyPart<'a>,
        depth: usize,
    ) -> Result<Vec<BodyPart<'a>>, BodyRefusal> {
        let result = if part.is_multipart() {
            self.multipart(part, depth)
        } else if (self.known)(&part.kind) && !part.encoded {
            Ok(vec![part.clone()])
        } else {
            Err(BodyRefusal::NotUnderstood)
        };
        match result {
            Err(BodyRefusal::NotUnderstood) if self.lenient || part.may_be_ignored() => {
                Ok(Vec::new())
            }
            // Nobody has to take apart what may be ignored; how much there is to look at stays limited.
            Err(BodyRefusal::Malformed(
                MultipartError::Boundary | MultipartError::NotClosed | MultipartError::PartHead,
            )) if depth > 0 && part.may_be_ignored() => Ok(Vec::new()),
            result => result,
        }
    }

    fn multipart<'a>(
        &mut self,
        body: &BodyPart<'a>,
        depth: usize,
    ) -> Result<Vec<BodyPart<'a>>, BodyRefusal> {
        if depth >= self.limits.body_nesting {
            return Err(BodyRefusal::Malformed(MultipartError::TooDeep));
        }
        let mut parts = multipart(body, self.limits).map_err(BodyRefusal::Malformed)?;
        self.parts = self
            .parts
            .checked_sub(parts.len())
            .ok_or(BodyRefusal::Malformed(MultipartError::TooManyParts))?;
        match Kind::of(&body.kind) {
            Kind::Mixed => self.all(&parts, depth),
            Kind::Alternative => self.last(&parts, depth),
            Kind::Signed => {
                parts.truncate(1);
                self.all(&parts, depth)
            }
            Kind::Related => {
                let start = body.kind.params.value("start");
                let start = start.as_deref().map(|id| id.trim_matches(['<', '>']));
                let root = parts
                    .iter()
                    .position(|part| start.is_some() && part.id.as_deref() == start)
                    .unwrap_or(0);
                let last = parts.len().saturating_sub(1);
                if parts.is_empty() {
                    return Ok(Vec::new());
                }
                parts.swap(0, root.min(last));
                let (root, others) = parts.split_at(1.min(parts.len()));
                let mut found = self.all(root, depth)?;
                for part in others {
                    match self.part(part, depth + 1) {
                        Ok(more) => found.extend(more),
                        // What belongs to the root is understood with it or not at all.
                        Err(BodyRefusal::NotUnderstood) => {}
                        Err(refusal) => return Err(refusal),
                    }
                }
                Ok(found)
            }
        }
    }

    fn all<'a>(
        &mut self,
        parts: &[BodyPart<'a>],
        depth: usize,
    ) -> Result<Vec<BodyPart<'a>>, BodyRefusal> {
        let mut found = Vec::new();
        for part in parts {
            found.extend(self.part(part, depth + 1)?);
        }
        Ok(found)
    }

    fn last<'a>(
        &mut self,
        parts: &[BodyPart<'a>],
        depth: usize,
    ) -> Result<Vec<BodyPart<'a>>, BodyRefusal> {
        for part in parts.iter().rev() {
            match self.part(part, depth + 1) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) | Err(BodyRefusal::NotUnderstood) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Err(BodyRefusal::NotUnderstood)
    }
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
    /// A part's head does not end or has a bad header field that says what the part is.
    #[error("bad part head")]
    PartHead,
    /// More multiparts inside each other than the limit.
    #[error("nested too deep")]
    TooDeep,
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
    if let Some(bytes) = part.strip_prefix(b"\r\n") {
        return Ok(BodyPart::new(text_plain(), bytes));
    }
    // RFC 2046 §5.1.1: a part may be a head alone, and the line break after that belongs to the delimiter.
    let head_end = part
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(part.len(), |place| place + 4);
    let (head, bytes) = part
        .split_at_checked(head_end)
        .ok_or(MultipartError::PartHead)?;
    let head = core::str::from_utf8(head).map_err(|_| MultipartError::PartHead)?;
    let head = unfold(head.trim_end_matches("\r\n"));
    let (mut kind, mut encoding) = (None, None);
    let mut whole = BodyPart::new(text_plain(), bytes);
    let mut wrong = Ok(());
    for (index, line) in head.split("\r\n").enumerate() {
        if index >= limits.header_fields || line.len() > limits.header_field {
            return Err(MultipartError::PartHead);
        }
        let (name, value) = line.split_once(':').ok_or(MultipartError::PartHead)?;
        let (name, value) = (name.trim(), value.trim());
        let is = |long: &str| name.eq_ignore_ascii_case(long);
        if is("Content-Type") || is("c") {
            let read = |reader: &mut Reader<'_>| MediaType::parse(reader, limits.parameters);
            wrong = wrong.and(once(&mut kind, value, read));
        } else if is("Content-Disposition") {
            let read = |reader: &mut Reader<'_>| TokenValue::parse(reader, limits.parameters);
            once(&mut whole.disposition, value, read)?;
        } else if is("Content-Transfer-Encoding") {
            let read = |reader: &mut Reader<'_>| reader.token().map(str::to_ascii_lowercase);
            wrong = wrong.and(once(&mut encoding, value, read));
        } else if is("Content-ID") {
            let read = |reader: &mut Reader<'_>| Ok(Text::from(reader.take_rest()));
            wrong = wrong.and(once(&mut whole.id, value.trim_matches(['<', '>']), read));
        } else if is("Content-Encoding") || is("e") {
            whole.encoded |= !value.eq_ignore_ascii_case("identity");
        }
    }
    whole.kind = kind.unwrap_or(whole.kind);
    match wrong {
        // Of no type that anybody knows: it is not understood, whatever it says.
        Err(_) if whole.may_be_ignored() => whole.encoded = true,
        wrong => wrong?,
    }
    whole.encoded |=
        encoding.is_some_and(|encoding| !matches!(encoding.as_str(), "binary" | "8bit" | "7bit"));
    Ok(whole)
}

fn text_plain() -> MediaType {
    MediaType::new(Text::from_static("text"), Text::from_static("plain"))
}

/// Reads the whole of a value that may stand once.
fn once<'v, T>(
    slot: &mut Option<T>,
    value: &'v str,
    read: impl Fn(&mut Reader<'v>) -> Result<T, Syntax>,
) -> Result<(), MultipartError> {
    let mut reader = Reader::copying(value);
    let parsed = read(&mut reader).map_err(|_| MultipartError::PartHead)?;
    reader.finish().map_err(|_| MultipartError::PartHead)?;
    match slot.replace(parsed) {
        None => Ok(()),
        Some(_) => Err(MultipartError::PartHead),
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
