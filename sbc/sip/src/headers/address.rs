//! Addresses: name-addr and addr-spec with header parameters, as From, To, Contact, Route and many others carry them.
//! RFC 3261 §20.10 and §25.1. Always written in angle brackets.

use core::fmt;
use std::borrow::Cow;

use crate::error::Syntax;
use crate::limits::Limits;
use crate::params::{Params, Quoted, Value};
use crate::reader::{Reader, is_space, is_token};
use crate::text::Text;
use crate::uri::Uri;

/// A display name as it stood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisplayName {
    /// Tokens with white space between.
    Tokens(Text),
    /// A quoted string.
    Quoted(Quoted),
}

impl DisplayName {
    /// A display name from plain text; always quoted.
    #[must_use]
    pub fn new(plain: &str) -> Self {
        Self::Quoted(Quoted::from_plain(plain))
    }

    /// The name meant, quotes and escapes resolved.
    #[must_use]
    pub fn to_plain(&self) -> Cow<'_, str> {
        match self {
            Self::Tokens(text) => Cow::Borrowed(text.as_str()),
            Self::Quoted(quoted) => quoted.to_plain(),
        }
    }
}

/// A URI with display name and header parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameAddr {
    /// Display name, if there is one.
    pub display: Option<DisplayName>,
    /// The URI.
    pub uri: Uri,
    /// Parameters of the header field, not of the URI.
    pub params: Params,
}

impl NameAddr {
    /// The URI without display name and parameters.
    #[must_use]
    pub fn new(uri: impl Into<Uri>) -> Self {
        Self {
            display: None,
            uri: uri.into(),
            params: Params::new(),
        }
    }

    /// The same with a tag.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<Text>) -> Self {
        self.params.set_plain(Text::from_static("tag"), tag);
        self
    }

    /// The same with a display name.
    #[must_use]
    pub fn with_display(mut self, display: Option<DisplayName>) -> Self {
        self.display = display;
        self
    }

    /// The same in buffers of its own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        let display = self.display.as_ref().map(|display| match display {
            DisplayName::Tokens(text) => DisplayName::Tokens(text.detached()),
            DisplayName::Quoted(quoted) => DisplayName::Quoted(Quoted(quoted.raw().detached())),
        });
        Self {
            display,
            uri: self.uri.detached(),
            params: self.params.detached(),
        }
    }

    /// The tag of a From or To. RFC 3261 §19.3.
    #[must_use]
    pub fn tag(&self) -> Option<&Text> {
        self.params.plain("tag")
    }

    /// The `expires` parameter of a Contact, in seconds.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.params.plain("expires")?.parse().ok()
    }

    /// The `q` parameter of a Contact in thousandths; 1000 where none is given. RFC 3261 §20.10.
    #[must_use]
    pub fn q_thousandths(&self) -> u16 {
        self.params
            .plain("q")
            .and_then(|text| qvalue(text))
            .unwrap_or(1000)
    }

    /// The `+sip.instance` of a Contact without its angle brackets: a URN, compared octet for octet but for the case of
    /// its scheme. RFC 5626 §4.1.
    #[must_use]
    pub fn instance(&self) -> Option<Text> {
        let Some(Value::Quoted(quoted)) = &self.params.find("+sip.instance")?.value else {
            return None;
        };
        let inside = quoted.raw().strip_prefix('<')?.strip_suffix('>')?;
        (!inside.is_empty()).then(|| Text::from(inside))
    }

    /// The `reg-id` of a Contact, from 1 to 2^31 - 1: which of its flows an instance registers. RFC 5626 §4.2.
    #[must_use]
    pub fn reg_id(&self) -> Option<u32> {
        let number = self.params.plain("reg-id")?.parse().ok()?;
        (1..1 << 31).contains(&number).then_some(number)
    }

    /// The `index` of a History-Info: numbers between dots. RFC 7044 §5.
    #[must_use]
    pub fn history_index(&self) -> Option<Vec<u32>> {
        let index = self.params.plain("index")?;
        index.split('.').map(|number| number.parse().ok()).collect()
    }

    /// The `reason` of a Diversion, in quotes or not. RFC 5806 §9.
    #[must_use]
    pub fn diversion_reason(&self) -> Option<Cow<'_, str>> {
        self.params.value("reason")
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limits: &Limits) -> Result<Self, Syntax> {
        let display = parse_display(reader)?;
        let uri = match display {
            None if reader.peek() != Some(b'<') => parse_bare(reader, limits)?,
            _ => parse_bracketed(reader, limits)?,
        };
        let params = Params::parse(reader, limits.parameters)?;
        let address = Self {
            display,
            uri,
            params,
        };
        address.check()?;
        Ok(address)
    }

    /// Parameters whose grammar RFC 3261 §20.10 and §25.1 fix wherever an address stands.
    fn check(&self) -> Result<(), Syntax> {
        if self.params.has("tag")
            && self
                .tag()
                .is_none_or(|tag| tag.contains(':') || tag.starts_with('['))
        {
            return Err(Syntax::Parameter);
        }
        if self.params.has("expires") && self.expires().is_none() {
            return Err(Syntax::Range);
        }
        if self.params.has("q")
            && self
                .params
                .plain("q")
                .and_then(|text| qvalue(text))
                .is_none()
        {
            return Err(Syntax::Range);
        }
        if self.params.has("reg-id") && self.reg_id().is_none() {
            return Err(Syntax::Range);
        }
        Ok(())
    }

    /// Takes a comma-separated list of at least one.
    pub(crate) fn parse_list(
        reader: &mut Reader<'_>,
        limits: &Limits,
        most: usize,
    ) -> Result<Vec<Self>, Syntax> {
        let mut list = Vec::new();
        loop {
            if list.len() >= most {
                return Err(Syntax::TooManyValues);
            }
            list.push(Self::parse(reader, limits)?);
            if !reader.separator(b',') {
                return Ok(list);
            }
        }
    }
}

/// `[ *(token LWS) / quoted-string ] "<"`: nothing taken if no bracket follows tokens.
fn parse_display(reader: &mut Reader<'_>) -> Result<Option<DisplayName>, Syntax> {
    if reader.peek() == Some(b'"') {
        let inside = reader.quoted()?;
        let display = DisplayName::Quoted(Quoted(reader.text(inside)));
        reader.skip_space();
        return if reader.peek() == Some(b'<') {
            Ok(Some(display))
        } else {
            Err(Syntax::AngleBrackets)
        };
    }
    let before = reader.clone();
    let tokens = reader
        .take_while(|octet| is_token(octet) || is_space(octet))
        .trim_end();
    if reader.peek() != Some(b'<') {
        // A space before what is no bracket, with a bracket later on: `Bell, Alexander <sip:…>` is cut here by the comma.
        let spaced = tokens.bytes().any(is_space);
        *reader = before;
        return if spaced {
            Err(Syntax::DisplayName)
        } else {
            Ok(None)
        };
    }
    Ok((!tokens.is_empty()).then(|| DisplayName::Tokens(reader.text(tokens))))
}

fn parse_bracketed(reader: &mut Reader<'_>, limits: &Limits) -> Result<Uri, Syntax> {
    reader.expect(b'<', Syntax::AngleBrackets)?;
    let inside = reader.take_while(|octet| octet != b'>');
    reader.expect(b'>', Syntax::AngleBrackets)?;
    Uri::parse(reader.origin(), inside, limits)
}

fn parse_bare(reader: &mut Reader<'_>, limits: &Limits) -> Result<Uri, Syntax> {
    let ends =
        |octet: u8| is_space(octet) || matches!(octet, b';' | b',' | b'?' | b'<' | b'>' | b'"');
    let text = reader.take_while(|octet| !ends(octet));
    // RFC 3261 §20.10: a URI with a question mark must stand in brackets.
    if matches!(reader.peek(), Some(b'?' | b'<' | b'>' | b'"')) {
        return Err(Syntax::AngleBrackets);
    }
    Uri::parse(reader.origin(), text, limits)
}

/// qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ), in thousandths.
pub(crate) fn qvalue(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3
        || !fraction.bytes().all(|octet| octet.is_ascii_digit())
        || !matches!(whole, "0" | "1")
    {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u16>().ok()?;
    let value = if whole == "1" {
        1000 + thousandths
    } else {
        thousandths
    };
    (value <= 1000).then_some(value)
}

impl core::str::FromStr for NameAddr {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        let mut reader = Reader::copying(text);
        let address = Self::parse(&mut reader, &Limits::default())?;
        reader.finish()?;
        Ok(address)
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.display {
            Some(DisplayName::Tokens(text)) => write!(f, "{text} ")?,
            Some(DisplayName::Quoted(quoted)) => write!(f, "{quoted} ")?,
            None => {}
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}
