//! The parser: octets to a [`Message`], strictly. RFC 3261 §7 and §25, RFC 4475, RFC 5118. Every octet of the head is
//! looked at a fixed number of times; the first offence is kept and reading goes on, so that the refusal can be answered.

use std::sync::Arc;

use super::head::{skip_line_breaks, split_head, unfold};
use super::salvage::Raw;
use super::{Message, Request, Response, Salvage};
use crate::error::{ParseError, Syntax};
use crate::headers::{CallId, Cseq, Field, HeaderName, Headers, Join, NameAddr, Via};
use crate::limits::Limits;
use crate::method::Method;
use crate::reader::{Origin, Reader, is_printable, is_token, steps};
use crate::status::StatusCode;
use crate::text::Text;
use crate::uri::Uri;

/// Heads up to this size are shared by all texts of the message; larger ones are copied piece by piece, so that a kept tag
/// never holds more than this. Octets.
const SHARED: usize = 4_096;

/// How the octets were delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A datagram: what follows the body is thrown away. RFC 3261 §18.3.
    Datagram,
    /// Cut out of a stream by [`crate::framing`]: Content-Length is there and right.
    Stream,
}

/// A message that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The first offence.
    pub error: ParseError,
    /// Whether it looked like a response, which is never answered.
    pub is_response: bool,
    /// What it takes to answer, if that much could be read.
    pub salvage: Option<Box<Salvage>>,
}

impl Rejected {
    fn bare(error: ParseError) -> Self {
        Self {
            error,
            is_response: false,
            salvage: None,
        }
    }
}

/// Reads one message. Fails with the first offence.
pub fn parse(bytes: &[u8], framing: Framing, limits: &Limits) -> Result<Message, Rejected> {
    if bytes.len() > limits.message {
        return Err(Rejected::bare(ParseError::MessageTooLarge));
    }
    let bytes = skip_line_breaks(bytes);
    if bytes.is_empty() {
        return Err(Rejected::bare(ParseError::Empty));
    }
    let split = split_head(bytes, limits).map_err(Rejected::bare)?;
    let head = core::str::from_utf8(split.head).map_err(|_| Rejected::bare(ParseError::NotUtf8))?;
    let unfolded;
    let head = if split.folded {
        unfolded = unfold(head);
        unfolded.as_str()
    } else {
        head
    };
    if head.len() <= SHARED {
        let shared = Arc::<str>::from(head);
        return Parser::new(Origin::shared(&shared), limits).run(&shared, split.body, framing);
    }
    Parser::new(Origin::default(), limits).run(head, split.body, framing)
}

pub(super) enum Start {
    Request(Method, Uri),
    Response(StatusCode, Text),
}

/// One head under way.
struct Parser<'a> {
    origin: Origin<'a>,
    limits: &'a Limits,
    error: Option<ParseError>,
    raw: Raw<'a>,
    top_via_is_sound: bool,
    vias: Vec<Via>,
    from: Option<NameAddr>,
    to: Option<NameAddr>,
    call_id: Option<CallId>,
    cseq: Option<Cseq>,
    contacts: Vec<NameAddr>,
    contact_star: bool,
    routes: Vec<NameAddr>,
    record_routes: Vec<NameAddr>,
    content_length: Option<u32>,
    fields: Vec<Field>,
}

impl<'a> Parser<'a> {
    const fn new(origin: Origin<'a>, limits: &'a Limits) -> Self {
        Self {
            origin,
            limits,
            error: None,
            raw: Raw {
                from: None,
                to: None,
                call_id: None,
                cseq: None,
            },
            top_via_is_sound: true,
            vias: Vec::new(),
            from: None,
            to: None,
            call_id: None,
            cseq: None,
            contacts: Vec::new(),
            contact_star: false,
            routes: Vec::new(),
            record_routes: Vec::new(),
            content_length: None,
            fields: Vec::new(),
        }
    }

    fn run(mut self, head: &'a str, body: &[u8], framing: Framing) -> Result<Message, Rejected> {
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let is_response = first
            .as_bytes()
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
        let start = if is_response {
            status_line(self.origin, first)
        } else {
            request_line(self.origin, first, self.limits)
        };
        let start = match start {
            Ok(start) => Some(start),
            Err(error) => {
                self.note(error);
                None
            }
        };
        for (index, line) in lines.enumerate() {
            if index >= self.limits.header_fields {
                self.note(ParseError::TooManyHeaderFields);
                break;
            }
            if let Err(error) = self.line(line) {
                self.note(error);
            }
        }
        self.check_start(start.as_ref());
        let body = self.body(body, framing);
        self.finish(start, body, is_response)
    }

    /// Keeps the first offence.
    fn note(&mut self, error: ParseError) {
        self.error.get_or_insert(error);
    }

    fn line(&mut self, line: &'a str) -> Result<(), ParseError> {
        steps::count(line.len());
        if line.len() > self.limits.header_field {
            return Err(ParseError::HeaderFieldTooLong);
        }
        let (name, value) = line.split_once(':').ok_or(ParseError::HeaderName)?;
        // RFC 3261 §25.1 `HCOLON`: white space may stand before the colon.
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(ParseError::HeaderName);
        }
        let name = HeaderName::from_token(self.origin.text(name));
        let value = value.trim_matches([' ', '\t']);
        let twice = self.echo(&name, value);
        if twice {
            return Err(ParseError::Duplicate(name));
        }
        let result = self.value(&name, Reader::new(self.origin, value));
        // RFC 4475 §3.1.2.12: a call goes on without a Date that is none; it is carried nowhere.
        if name == HeaderName::Date && result.is_err() {
            return Ok(());
        }
        result
    }

    /// Notes the text of a field that an answer echoes. `true`: it is there already.
    fn echo(&mut self, name: &HeaderName, value: &'a str) -> bool {
        let slot = match name {
            HeaderName::From => &mut self.raw.from,
            HeaderName::To => &mut self.raw.to,
            HeaderName::CallId => &mut self.raw.call_id,
            HeaderName::Cseq => &mut self.raw.cseq,
            _ => return false,
        };
        let twice = slot.is_some();
        slot.get_or_insert(value);
        twice
    }

    fn value(&mut self, name: &HeaderName, mut reader: Reader<'a>) -> Result<(), ParseError> {
        let limits = self.limits;
        let offence = |offence: Syntax| ParseError::Header(name.clone(), offence);
        match name {
            HeaderName::Via => return self.via(reader),
            HeaderName::From => {
                self.from = Some(NameAddr::parse(&mut reader, limits).map_err(offence)?)
            }
            HeaderName::To => {
                self.to = Some(NameAddr::parse(&mut reader, limits).map_err(offence)?)
            }
            HeaderName::CallId => self.call_id = Some(CallId::parse(&mut reader).map_err(offence)?),
            HeaderName::Cseq => self.cseq = Some(Cseq::parse(&mut reader).map_err(offence)?),
            HeaderName::Contact => self.contact(&mut reader)?,
            HeaderName::Route => {
                append(&mut self.routes, &mut reader, limits, limits.routes).map_err(offence)?
            }
            HeaderName::RecordRoute => {
                append(&mut self.record_routes, &mut reader, limits, limits.routes)
                    .map_err(offence)?;
            }
            HeaderName::ContentLength => {
                let length = reader.number_u32().map_err(offence)?;
                // RFC 4475 §3.3.9: two of them are a way to smuggle, even if they agree.
                if self.content_length.replace(length).is_some() {
                    return Err(ParseError::Duplicate(HeaderName::ContentLength));
                }
            }
            _ => {
                let field = Field::parse(name, &mut reader, limits).map_err(offence)?;
                reader.finish().map_err(offence)?;
                return self.field(name, field);
            }
        }
        reader.finish().map_err(offence)
    }

    fn via(&mut self, mut reader: Reader<'a>) -> Result<(), ParseError> {
        let offence = |offence: Syntax| ParseError::Header(HeaderName::Via, offence);
        loop {
            if self.vias.len() >= self.limits.vias {
                return Err(offence(Syntax::TooManyValues));
            }
            let mut before = reader.clone();
            match Via::parse(&mut reader, self.limits) {
                Ok(via) => self.vias.push(via),
                Err(error) => {
                    if self.vias.is_empty() {
                        self.vias.extend(Via::salvage(&mut before, self.limits));
                        self.top_via_is_sound = !self.vias.is_empty();
                    }
                    return Err(offence(error));
                }
            }
            if !reader.separator(b',') {
                return reader.finish().map_err(offence);
            }
        }
    }

    fn contact(&mut self, reader: &mut Reader<'a>) -> Result<(), ParseError> {
        let offence = |offence: Syntax| ParseError::Header(HeaderName::Contact, offence);
        // RFC 3261 §10.2.2: `*` stands alone; before a bracket it is a display name.
        let star = reader.rest() == "*";
        if self.contact_star || (star && !self.contacts.is_empty()) {
            return Err(offence(Syntax::Separator));
        }
        if star {
            self.contact_star = reader.eat(b'*');
            return Ok(());
        }
        append(
            &mut self.contacts,
            reader,
            self.limits,
            self.limits.contacts,
        )
        .map_err(offence)
    }

    fn field(&mut self, name: &HeaderName, field: Field) -> Result<(), ParseError> {
        steps::count(self.fields.len());
        let Some(have) = self.fields.iter_mut().find(|have| have.has_name(name)) else {
            self.fields.push(field);
            return Ok(());
        };
        match have.join(field, self.limits) {
            Ok(apart) => self.fields.extend(apart),
            Err(Join::Once) => return Err(ParseError::Duplicate(name.clone())),
            Err(Join::TooMany) => {
                return Err(ParseError::Header(name.clone(), Syntax::TooManyValues));
            }
        }
        Ok(())
    }

    /// What start line and header fields say about each other.
    fn check_start(&mut self, start: Option<&Start>) {
        let differs = match (start, &self.cseq) {
            (Some(Start::Request(method, _)), Some(cseq)) => *method != cseq.method,
            _ => false,
        };
        if differs {
            self.note(ParseError::CseqMethod);
        }
        let missing = [
            (self.vias.is_empty(), HeaderName::Via),
            (self.raw.from.is_none(), HeaderName::From),
            (self.raw.to.is_none(), HeaderName::To),
            (self.raw.call_id.is_none(), HeaderName::CallId),
            (self.raw.cseq.is_none(), HeaderName::Cseq),
        ];
        for (_, name) in missing.into_iter().filter(|(missing, _)| *missing) {
            self.note(ParseError::Missing(name));
        }
    }

    /// The body as Content-Length cuts it. RFC 3261 §18.3 and §20.14.
    fn body(&mut self, rest: &[u8], framing: Framing) -> Vec<u8> {
        let body = match self
            .content_length
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
        {
            Some(length) => {
                let body = rest.get(..length);
                if body.is_none() {
                    self.note(ParseError::ContentLengthBeyondEnd);
                }
                body.unwrap_or_default()
            }
            None => {
                if framing == Framing::Stream {
                    self.note(ParseError::ContentLengthMissing);
                }
                rest
            }
        };
        if body.len() > self.limits.body {
            self.note(ParseError::BodyTooLarge);
            return Vec::new();
        }
        // RFC 3261 §20.15.
        if !body.is_empty()
            && !self
                .fields
                .iter()
                .any(|field| matches!(field, Field::ContentType(_)))
        {
            self.note(ParseError::BodyWithoutType);
        }
        body.to_vec()
    }

    fn finish(
        mut self,
        start: Option<Start>,
        body: Vec<u8>,
        is_response: bool,
    ) -> Result<Message, Rejected> {
        let error = self.error.take();
        let parts = (
            start,
            self.from.take(),
            self.to.take(),
            self.call_id.take(),
            self.cseq.take(),
        );
        let (start, from, to, call_id, cseq) = match (error, parts) {
            (None, (Some(start), Some(from), Some(to), Some(call_id), Some(cseq))) => {
                (start, from, to, call_id, cseq)
            }
            // Nothing is missing without an offence noted; if it were, it would be the start line.
            (error, (start, _, to, _, cseq)) => {
                let error = error.unwrap_or(ParseError::StartLine);
                let method = match &start {
                    Some(Start::Request(method, _)) => Some(method),
                    _ => cseq.as_ref().map(|cseq| &cseq.method),
                };
                let salvage = if is_response {
                    None
                } else {
                    self.salvage(to.as_ref(), method)
                };
                return Err(Rejected {
                    error,
                    is_response,
                    salvage,
                });
            }
        };
        let mut headers = Headers::new(self.vias, from, to, call_id, cseq);
        headers.contacts = self.contacts;
        headers.contact_star = self.contact_star;
        headers.routes = self.routes;
        headers.record_routes = self.record_routes;
        headers.fields = self.fields;
        Ok(match start {
            Start::Request(method, uri) => Message::Request(Box::new(Request {
                method,
                uri,
                headers,
                body,
            })),
            Start::Response(status, reason) => Message::Response(Box::new(Response {
                status,
                reason,
                headers,
                body,
            })),
        })
    }

    fn salvage(&mut self, to: Option<&NameAddr>, method: Option<&Method>) -> Option<Box<Salvage>> {
        if !self.top_via_is_sound {
            return None;
        }
        let is_ack = method.is_some_and(|method| *method == Method::Ack);
        let has_tag = to.map(|to| to.tag().is_some());
        Salvage::new(core::mem::take(&mut self.vias), &self.raw, has_tag, is_ack).map(Box::new)
    }
}

fn append(
    list: &mut Vec<NameAddr>,
    reader: &mut Reader<'_>,
    limits: &Limits,
    most: usize,
) -> Result<(), Syntax> {
    let more = NameAddr::parse_list(reader, limits, most.saturating_sub(list.len()))?;
    list.extend(more);
    Ok(())
}

/// `SIP/2.0 200 OK`.
pub(super) fn status_line(origin: Origin<'_>, line: &str) -> Result<Start, ParseError> {
    let (version, rest) = line.split_once(' ').ok_or(ParseError::StartLine)?;
    check_version(version)?;
    let (code, reason) = rest.split_once(' ').ok_or(ParseError::StartLine)?;
    let digits = code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit());
    let status = code
        .parse()
        .ok()
        .filter(|_| digits)
        .and_then(StatusCode::new)
        .ok_or(ParseError::StatusCode)?;
    if !reason.bytes().all(is_printable) {
        return Err(ParseError::ReasonPhrase);
    }
    Ok(Start::Response(status, origin.text(reason)))
}

/// `INVITE sip:b@b.example SIP/2.0`.
pub(super) fn request_line(
    origin: Origin<'_>,
    line: &str,
    limits: &Limits,
) -> Result<Start, ParseError> {
    let mut words = line.split(' ');
    let (method, uri, version) = match (words.next(), words.next(), words.next()) {
        (Some(method), Some(uri), Some(version)) => (method, uri, version),
        _ => return Err(ParseError::StartLine),
    };
    if words.next().is_some() || uri.is_empty() || version.is_empty() {
        return Err(ParseError::StartLineSpace);
    }
    check_version(version)?;
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(ParseError::Method);
    }
    if uri.starts_with('<') {
        return Err(ParseError::RequestUriBrackets);
    }
    let uri = Uri::parse(origin, uri, limits).map_err(|offence| match offence {
        Syntax::UriTooLong => ParseError::RequestUriTooLong,
        offence => ParseError::RequestUri(offence),
    })?;
    // RFC 3261 §19.1.1: no header fields in a Request-URI; a Route hidden there must never be obeyed.
    if uri.sip().is_some_and(|uri| !uri.headers.is_empty()) {
        return Err(ParseError::RequestUriHeaders);
    }
    Ok(Start::Request(Method::from_token(origin.text(method)), uri))
}

fn check_version(version: &str) -> Result<(), ParseError> {
    let Some((protocol, number)) = version.split_once('/') else {
        return Err(ParseError::StartLine);
    };
    if !protocol.eq_ignore_ascii_case("SIP") {
        return Err(ParseError::StartLine);
    }
    if number == "2.0" {
        Ok(())
    } else {
        Err(ParseError::Version)
    }
}
