//! URIs: sip, sips (RFC 3261 §19.1), tel (RFC 3966) and any other as an opaque absolute URI. Escapes are kept as they
//! stood and resolved only for comparison; `%00` never becomes an octet.

mod compare;
pub mod escape;
mod host;

use core::fmt;
use core::str::FromStr;

pub(crate) use host::port;
pub use host::{Host, HostPort};

use crate::error::Syntax;
use crate::limits::Limits;
use crate::params::{Param, Params, Value};
use crate::reader::{Origin, Reader};
use crate::text::Text;

/// A URI. `==` compares the spelling, [`Uri::equivalent`] the meaning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// `tel:`.
    Tel(TelUri),
    /// Any other scheme; carried, never interpreted.
    Absolute(AbsoluteUri),
}

/// A sip or sips URI.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SipUri {
    /// Whether the scheme is `sips`.
    pub secure: bool,
    /// User part, escapes as they stood.
    pub user: Option<Text>,
    /// Password, escapes as they stood.
    pub password: Option<Text>,
    /// Host.
    pub host: Host,
    /// Port, if one is written.
    pub port: Option<u16>,
    /// URI parameters, escapes as they stood.
    pub params: Params,
    /// Header fields after `?`, names and values with their escapes.
    pub headers: Vec<UriHeader>,
}

/// One header field in a URI.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UriHeader {
    /// Its name, escapes as they stood.
    pub name: Text,
    /// Its value, escapes as they stood; maybe empty.
    pub value: Text,
}

/// A tel URI.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TelUri {
    /// The number as it stood, visual separators included.
    pub number: Text,
    /// Parameters.
    pub params: Params,
}

/// A URI of a scheme that means nothing here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsoluteUri {
    /// The scheme as it stood.
    pub scheme: Text,
    /// What follows the colon.
    pub opaque: Text,
}

impl Uri {
    /// The sip or sips URI, if it is one.
    #[must_use]
    pub const fn sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// The user part of a sip URI or the number of a tel URI, as it stood.
    #[must_use]
    pub fn user(&self) -> Option<&Text> {
        match self {
            Self::Sip(uri) => uri.user.as_ref(),
            Self::Tel(uri) => Some(&uri.number),
            Self::Absolute(_) => None,
        }
    }

    /// The host of a sip URI.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.sip().map(|uri| &uri.host)
    }

    /// The scheme, in the case in which it stood for schemes unknown here.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match self {
            Self::Sip(uri) if uri.secure => "sips",
            Self::Sip(_) => "sip",
            Self::Tel(_) => "tel",
            Self::Absolute(uri) => &uri.scheme,
        }
    }

    /// The same in buffers of their own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Sip(uri) => Self::Sip(uri.detached()),
            Self::Tel(uri) => Self::Tel(TelUri {
                number: uri.number.detached(),
                params: uri.params.detached(),
            }),
            Self::Absolute(uri) => Self::Absolute(AbsoluteUri {
                scheme: uri.scheme.detached(),
                opaque: uri.opaque.detached(),
            }),
        }
    }

    /// Reads a whole text as a URI. Fails with the offence.
    pub(crate) fn parse(origin: Origin<'_>, text: &str, limits: &Limits) -> Result<Self, Syntax> {
        if text.len() > limits.uri {
            return Err(Syntax::UriTooLong);
        }
        let mut reader = Reader::new(origin, text);
        let scheme = reader.take_while(|octet| {
            octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.')
        });
        if !scheme
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphabetic)
        {
            return Err(Syntax::UriScheme);
        }
        reader.expect(b':', Syntax::UriScheme)?;
        if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
            return SipUri::parse(reader, scheme.len() == 4, limits).map(Self::Sip);
        }
        if scheme.eq_ignore_ascii_case("tel") {
            return TelUri::parse(reader, limits).map(Self::Tel);
        }
        AbsoluteUri::parse(reader, scheme).map(Self::Absolute)
    }
}

impl SipUri {
    /// `sip:host`, without anything else.
    #[must_use]
    pub const fn new(host: Host) -> Self {
        Self {
            secure: false,
            user: None,
            password: None,
            host,
            port: None,
            params: Params::new(),
            headers: Vec::new(),
        }
    }

    /// The same with this user, which is plain text: what may not stand there is escaped.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = Some(escape::user(user));
        self
    }

    /// The same with this port.
    #[must_use]
    pub const fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same with this parameter.
    #[must_use]
    pub fn with_param(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.params.set_plain(name, value);
        self
    }

    /// What may be a Request-URI: the same without header fields and method parameter. RFC 3261 §19.1.1, table 1; so
    /// that a Route hidden in a Contact never steers a request.
    #[must_use]
    pub fn as_request_uri(&self) -> Self {
        let mut uri = self.clone();
        uri.headers.clear();
        uri.params.remove("method");
        uri
    }

    /// Whether the `lr` parameter is there: a loose router. RFC 3261 §19.1.1.
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// The transport parameter, as it stood.
    #[must_use]
    pub fn transport(&self) -> Option<&Text> {
        self.params.plain("transport")
    }

    /// Host and port as written.
    #[must_use]
    pub fn host_port(&self) -> HostPort {
        HostPort {
            host: self.host.clone(),
            port: self.port,
        }
    }

    /// The same in buffers of their own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            secure: self.secure,
            user: self.user.as_ref().map(Text::detached),
            password: self.password.as_ref().map(Text::detached),
            host: self.host.detached(),
            port: self.port,
            params: self.params.detached(),
            headers: self
                .headers
                .iter()
                .map(|header| UriHeader {
                    name: header.name.detached(),
                    value: header.value.detached(),
                })
                .collect(),
        }
    }

    fn parse(mut reader: Reader<'_>, secure: bool, limits: &Limits) -> Result<Self, Syntax> {
        // `@` may stand nowhere but after the user part: not in hosts, parameters or header fields.
        let (user, password) = match reader.rest().split_once('@') {
            Some((userinfo, _)) => {
                let pair = parse_userinfo(&reader, userinfo)?;
                reader.advance(userinfo.len() + 1);
                pair
            }
            None => (None, None),
        };
        let HostPort { host, port } = HostPort::parse(&mut reader)?;
        let params = parse_params(&mut reader, limits)?;
        let headers = if reader.eat(b'?') {
            parse_headers(&mut reader, limits)?
        } else {
            Vec::new()
        };
        if !reader.is_empty() {
            return Err(Syntax::UriCharacter);
        }
        Ok(Self {
            secure,
            user,
            password,
            host,
            port,
            params,
            headers,
        })
    }
}

fn parse_userinfo(
    reader: &Reader<'_>,
    userinfo: &str,
) -> Result<(Option<Text>, Option<Text>), Syntax> {
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    if user.is_empty() || !escape::is_escaped(user, escape::is_user) {
        return Err(Syntax::UriUser);
    }
    if !password.is_none_or(|password| escape::is_escaped(password, escape::is_password)) {
        return Err(Syntax::UriUser);
    }
    Ok((
        Some(reader.text(user)),
        password.map(|password| reader.text(password)),
    ))
}

fn parse_params(reader: &mut Reader<'_>, limits: &Limits) -> Result<Params, Syntax> {
    let mut params = Params::new();
    while reader.eat(b';') {
        let name = escaped(reader, escape::is_param, Syntax::UriParameter)?;
        let value = match reader.eat(b'=') {
            true => Some(Value::Plain(escaped(
                reader,
                escape::is_param,
                Syntax::UriParameter,
            )?)),
            false => None,
        };
        params.add(Param { name, value }, limits.parameters)?;
    }
    Ok(params)
}

fn parse_headers(reader: &mut Reader<'_>, limits: &Limits) -> Result<Vec<UriHeader>, Syntax> {
    let mut headers = Vec::new();
    loop {
        if headers.len() >= limits.parameters {
            return Err(Syntax::TooManyParameters);
        }
        let name = escaped(reader, escape::is_header, Syntax::UriHeader)?;
        reader.expect(b'=', Syntax::UriHeader)?;
        let value = reader.take_while(|octet| octet == b'%' || escape::is_header(octet));
        if !escape::is_escaped(value, escape::is_header) {
            return Err(Syntax::UriHeader);
        }
        headers.push(UriHeader {
            name,
            value: reader.text(value),
        });
        if !reader.eat(b'&') {
            return Ok(headers);
        }
    }
}

/// Takes at least one character of those that `accept` names, or escapes.
fn escaped(
    reader: &mut Reader<'_>,
    accept: fn(u8) -> bool,
    offence: Syntax,
) -> Result<Text, Syntax> {
    let piece = reader.take_while(|octet| octet == b'%' || accept(octet));
    if piece.is_empty() || !escape::is_escaped(piece, accept) {
        return Err(offence);
    }
    Ok(reader.text(piece))
}

impl TelUri {
    /// Whether it is a global number: `+` and digits.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.number.starts_with('+')
    }

    /// The number without visual separators. RFC 3966 §3.
    #[must_use]
    pub fn digits(&self) -> String {
        self.number
            .chars()
            .filter(|character| !matches!(character, '-' | '.' | '(' | ')'))
            .collect()
    }

    fn parse(mut reader: Reader<'_>, limits: &Limits) -> Result<Self, Syntax> {
        let start = reader.rest();
        let plus = reader.eat(b'+');
        let digits = reader.take_while(|octet| {
            let separator = matches!(octet, b'-' | b'.' | b'(' | b')');
            octet.is_ascii_digit()
                || separator
                || (!plus && (octet.is_ascii_hexdigit() || matches!(octet, b'*' | b'#')))
        });
        let number = start
            .get(..digits.len() + usize::from(plus))
            .unwrap_or_default();
        let dialled = |octet: u8| octet.is_ascii_hexdigit() || matches!(octet, b'*' | b'#');
        if !digits.bytes().any(dialled) {
            return Err(Syntax::TelephoneNumber);
        }
        let params = parse_params(&mut reader, limits)?;
        // RFC 3966 §5.1.5 demands a phone-context of a local number.
        if !reader.is_empty() || !(plus || params.has("phone-context")) {
            return Err(Syntax::TelephoneNumber);
        }
        Ok(Self {
            number: reader.text(number),
            params,
        })
    }
}

impl AbsoluteUri {
    fn parse(mut reader: Reader<'_>, scheme: &str) -> Result<Self, Syntax> {
        let opaque = reader.take_rest();
        if opaque.is_empty() || !escape::is_escaped(opaque, escape::is_uric) {
            return Err(Syntax::UriCharacter);
        }
        Ok(Self {
            scheme: reader.text(scheme),
            opaque: reader.text(opaque),
        })
    }
}

impl FromStr for Uri {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        Self::parse(Origin::default(), text, &Limits::default())
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Self::Sip(uri)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Tel(uri) => write!(f, "tel:{}{}", uri.number, uri.params),
            Self::Absolute(uri) => write!(f, "{}:{}", uri.scheme, uri.opaque),
        }
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            f.write_str("@")?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)?;
        for (index, header) in self.headers.iter().enumerate() {
            write!(
                f,
                "{}{}={}",
                if index == 0 { '?' } else { '&' },
                header.name,
                header.value
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => fmt::Debug::fmt(uri, f),
            _ => write!(f, "<{self}>"),
        }
    }
}

impl fmt::Debug for SipUri {
    /// A password never prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.clone();
        if shown.password.is_some() {
            shown.password = Some(Text::from_static("…"));
        }
        write!(f, "<{shown}>")
    }
}

#[cfg(test)]
mod tests;
