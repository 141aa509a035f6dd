//! Values of the smaller header fields: CSeq, RAck, Call-ID, media types, session timer, Reason, Refer-Sub, Retry-After,
//! Warning. One type each, with its grammar and its spelling.

use core::fmt;

use crate::error::Syntax;
use crate::method::Method;
use crate::params::{Params, Quoted, Value};
use crate::reader::{Reader, is_printable, is_token, is_word, steps};
use crate::text::Text;

/// Call-ID: `word [ "@" word ]`, compared octet for octet. RFC 3261 §20.8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) Text);

impl CallId {
    /// A Call-ID of our own; characters that may not stand in one become `-`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let good = |character: char| {
            u8::try_from(character).is_ok_and(|octet| is_word(octet) || octet == b'@')
        };
        Self(Text::from(
            text.chars()
                .map(|character| if good(character) { character } else { '-' })
                .collect::<String>(),
        ))
    }

    /// As it stood.
    #[must_use]
    pub const fn text(&self) -> &Text {
        &self.0
    }

    /// The same in a buffer of its own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let whole = reader.rest();
        let first = reader.take_while(is_word).len();
        let second = if reader.eat(b'@') {
            Some(reader.take_while(is_word).len())
        } else {
            None
        };
        if first == 0 || second == Some(0) {
            return Err(Syntax::Character);
        }
        let length = first + second.map_or(0, |second| second + 1);
        Ok(Self(reader.text(whole.get(..length).unwrap_or_default())))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// CSeq: number below 2^31 and method. RFC 3261 §8.1.1.5 and §20.16.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cseq {
    /// Sequence number.
    pub number: u32,
    /// Method of the request.
    pub method: Method,
}

impl Cseq {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let number = reader.number_u32()?;
        if number >= 1 << 31 {
            return Err(Syntax::Range);
        }
        reader.skip_space();
        Ok(Self {
            number,
            method: method(reader)?,
        })
    }
}

impl fmt::Display for Cseq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// RAck: which reliable provisional response a PRACK confirms. RFC 3262 §7.2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rack {
    /// RSeq of the response.
    pub rseq: u32,
    /// CSeq of the response.
    pub cseq: Cseq,
}

impl Rack {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let rseq = rseq(reader)?;
        reader.skip_space();
        Ok(Self {
            rseq,
            cseq: Cseq::parse(reader)?,
        })
    }
}

/// RSeq: from 1 to 2^32 - 1. RFC 3262 §7.1.
pub(crate) fn rseq(reader: &mut Reader<'_>) -> Result<u32, Syntax> {
    match reader.number_u32()? {
        0 => Err(Syntax::Range),
        number => Ok(number),
    }
}

impl fmt::Display for Rack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}

/// Media type or range with parameters: Content-Type, Accept. RFC 3261 §20.15 and §20.1; `*` stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType {
    /// Type, as it stood.
    pub kind: Text,
    /// Subtype, as it stood.
    pub subtype: Text,
    /// Parameters.
    pub params: Params,
}

impl MediaType {
    /// `application/sdp`.
    #[must_use]
    pub const fn sdp() -> Self {
        Self {
            kind: Text::from_static("application"),
            subtype: Text::from_static("sdp"),
            params: Params::new(),
        }
    }

    /// A media type without parameters.
    #[must_use]
    pub fn new(kind: impl Into<Text>, subtype: impl Into<Text>) -> Self {
        Self {
            kind: kind.into(),
            subtype: subtype.into(),
            params: Params::new(),
        }
    }

    /// Whether it is that type, without regard to case and parameters.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// Whether it is `application/sdp`.
    #[must_use]
    pub fn is_sdp(&self) -> bool {
        self.is("application", "sdp")
    }

    /// Whether a media range of Accept covers that type.
    #[must_use]
    pub fn covers(&self, kind: &str, subtype: &str) -> bool {
        let part = |range: &str, part: &str| range == "*" || range.eq_ignore_ascii_case(part);
        part(&self.kind, kind) && part(&self.subtype, subtype)
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let kind = reader.token().map_err(|_| Syntax::MediaType)?;
        let kind = reader.text(kind);
        if !reader.separator(b'/') {
            return Err(Syntax::MediaType);
        }
        let subtype = reader.token().map_err(|_| Syntax::MediaType)?;
        Ok(Self {
            kind,
            subtype: reader.text(subtype),
            params: Params::parse(reader, limit)?,
        })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.kind, self.subtype, self.params)
    }
}

/// A token with parameters: Content-Disposition, Reason, Info-Package, Security-Client and its kin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenValue {
    /// The token, as it stood.
    pub token: Text,
    /// Parameters.
    pub params: Params,
}

impl TokenValue {
    /// The token without parameters.
    #[must_use]
    pub fn new(token: impl Into<Text>) -> Self {
        Self {
            token: token.into(),
            params: Params::new(),
        }
    }

    /// A Reason: protocol, cause and maybe text. RFC 3326.
    #[must_use]
    pub fn reason(protocol: &'static str, cause: u16, text: Option<&str>) -> Self {
        let mut value = Self::new(Text::from_static(protocol));
        value
            .params
            .set_plain(Text::from_static("cause"), cause.to_string());
        if let Some(text) = text {
            value.params.set(
                Text::from_static("text"),
                Some(Value::Quoted(Quoted::from_plain(text))),
            );
        }
        value
    }

    /// The `cause` of a Reason: a status code or one of Q.850.
    #[must_use]
    pub fn cause(&self) -> Option<u16> {
        self.params.plain("cause")?.parse().ok()
    }

    /// The `handling` of a Content-Disposition: whether a body that is not understood may be ignored; required where
    /// nothing is said. RFC 3261 §20.11.
    #[must_use]
    pub fn may_be_ignored(&self) -> bool {
        self.params
            .value("handling")
            .is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let token = reader.token()?;
        Ok(Self {
            token: reader.text(token),
            params: Params::parse(reader, limit)?,
        })
    }

    /// The same for Reason: a `cause` is a number. RFC 3326 §2.
    pub(crate) fn parse_reason(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let value = Self::parse(reader, limit)?;
        if value.params.has("cause") && value.cause().is_none() {
            return Err(Syntax::Range);
        }
        Ok(value)
    }

    /// The same for a security mechanism: a preference `q` is one. RFC 3329 §2.2; mediasec adds a flag.
    pub(crate) fn parse_mechanism(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let value = Self::parse(reader, limit)?;
        let q = value.params.plain("q");
        if value.params.has("q") && q.and_then(|q| super::address::qvalue(q)).is_none() {
            return Err(Syntax::Range);
        }
        Ok(value)
    }
}

impl fmt::Display for TokenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.token, self.params)
    }
}

/// Seconds with parameters: Session-Expires, Min-SE. RFC 4028 §4 and §5.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delta {
    /// Seconds.
    pub seconds: u32,
    /// Parameters, `refresher` among them.
    pub params: Params,
}

/// Who refreshes a session. RFC 4028 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refresher {
    /// The client of the request.
    Uac,
    /// The server of the request.
    Uas,
}

impl Delta {
    /// Seconds without parameters.
    #[must_use]
    pub const fn new(seconds: u32) -> Self {
        Self {
            seconds,
            params: Params::new(),
        }
    }

    /// Seconds with a refresher.
    #[must_use]
    pub fn with_refresher(mut self, refresher: Refresher) -> Self {
        let value = match refresher {
            Refresher::Uac => "uac",
            Refresher::Uas => "uas",
        };
        self.params
            .set_plain(Text::from_static("refresher"), Text::from_static(value));
        self
    }

    /// The refresher, if one is named.
    #[must_use]
    pub fn refresher(&self) -> Option<Refresher> {
        match self.params.plain("refresher")? {
            text if text.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            text if text.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            _ => None,
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let delta = Self {
            seconds: reader.number_u32()?,
            params: Params::parse(reader, limit)?,
        };
        if delta.params.has("refresher") && delta.refresher().is_none() {
            return Err(Syntax::Parameter);
        }
        Ok(delta)
    }
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.seconds, self.params)
    }
}

/// Refer-Sub: whether a REFER makes a subscription. RFC 4488 §4.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferSub {
    /// Whether it does.
    pub wanted: bool,
    /// Parameters.
    pub params: Params,
}

impl ReferSub {
    /// The value without parameters.
    #[must_use]
    pub const fn new(wanted: bool) -> Self {
        Self {
            wanted,
            params: Params::new(),
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let wanted = match reader.token()? {
            word if word.eq_ignore_ascii_case("true") => true,
            word if word.eq_ignore_ascii_case("false") => false,
            _ => return Err(Syntax::Token),
        };
        Ok(Self {
            wanted,
            params: Params::parse(reader, limit)?,
        })
    }
}

impl fmt::Display for ReferSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.wanted, self.params)
    }
}

/// Retry-After. RFC 3261 §20.33.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryAfter {
    /// Seconds.
    pub seconds: u32,
    /// What stands in the parentheses, escapes and nested parentheses as they stood.
    pub comment: Option<Text>,
    /// Parameters.
    pub params: Params,
}

impl RetryAfter {
    /// Seconds only.
    #[must_use]
    pub const fn new(seconds: u32) -> Self {
        Self {
            seconds,
            comment: None,
            params: Params::new(),
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let seconds = reader.number_u32()?;
        reader.skip_space();
        let comment = if reader.peek() == Some(b'(') {
            Some(comment(reader)?)
        } else {
            None
        };
        Ok(Self {
            seconds,
            comment,
            params: Params::parse(reader, limit)?,
        })
    }
}

/// Takes `( … )` with nested comments and gives what is inside.
fn comment(reader: &mut Reader<'_>) -> Result<Text, Syntax> {
    let whole = reader.rest();
    steps::count(whole.len());
    let (mut depth, mut escaped) = (0_usize, false);
    for (index, octet) in whole.bytes().enumerate() {
        match octet {
            _ if escaped => {
                if !octet.is_ascii() {
                    return Err(Syntax::Comment);
                }
                escaped = false;
            }
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' if depth == 1 => {
                reader.advance(index + 1);
                return Ok(reader.text(whole.get(1..index).unwrap_or_default()));
            }
            b')' => depth -= 1,
            _ if !is_printable(octet) => return Err(Syntax::Comment),
            _ => {}
        }
    }
    Err(Syntax::Comment)
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        if let Some(comment) = &self.comment {
            write!(f, " ({comment})")?;
        }
        write!(f, "{}", self.params)
    }
}

/// One warning. RFC 3261 §20.43.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Warning {
    /// Three digits.
    pub code: u16,
    /// Who warns: host and port, or a pseudonym.
    pub agent: Text,
    /// The text.
    pub text: Quoted,
}

impl Warning {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let code = reader.take_while(|octet| octet.is_ascii_digit());
        if code.len() != 3 {
            return Err(Syntax::Range);
        }
        let code = code.parse().map_err(|_| Syntax::Range)?;
        reader.expect(b' ', Syntax::Separator)?;
        reader.skip_space();
        let agent =
            reader.take_while(|octet| is_token(octet) || matches!(octet, b':' | b'[' | b']'));
        if agent.is_empty() {
            return Err(Syntax::Host);
        }
        let agent = reader.text(agent);
        reader.skip_space();
        let inside = reader.quoted()?;
        Ok(Self {
            code,
            agent,
            text: Quoted(reader.text(inside)),
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {} {}", self.code, self.agent, self.text)
    }
}

pub(crate) fn method(reader: &mut Reader<'_>) -> Result<Method, Syntax> {
    let token = reader.token()?;
    Ok(Method::from_token(reader.text(token)))
}
