//! URIs: sip, sips (RFC 3261 §19.1), tel (RFC 3966) and any other as an opaque absolute URI. Escapes are kept as they
//! stood and resolved only for comparison; `%00` never becomes an octet.

mod compare;
pub mod escape;
mod host;
mod telephone;

use core::fmt;
use core::str::FromStr;

pub(crate) use host::port;
pub use host::{Host, HostPort};
pub use telephone::TelUri;

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

    /// Whether the `ob` parameter is there: the flow itself is to be used for what comes back. RFC 5626 §5.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.params.has("ob")
    }

    /// The number that the user part is, if the URI says `user=phone`. RFC 3261 §19.1.6.
    #[must_use]
    pub fn telephone(&self) -> Option<TelUri> {
        let phone = self.params.plain("user")?.eq_ignore_ascii_case("phone");
        let user = self.user.as_ref().filter(|_| phone)?;
        TelUri::from_user(user)
    }

    /// The value of a header field that the URI carries, escapes resolved; none if it is there twice or is no text.
    #[must_use]
    pub fn carried(&self, name: &str) -> Option<String> {
        let mut values = self
            .headers
            .iter()
            .filter(|header| escape::resolve(&header.name).eq_ignore_ascii_case(name.as_bytes()));
        let (Some(header), None) = (values.next(), values.next()) else {
            return None;
        };
        let text = String::from_utf8(escape::resolve(&header.value).into_owned()).ok()?;
        (!text.contains(char::is_control)).then_some(text)
    }

    /// Whether the URI carries a header field of that name.
    #[must_use]
    pub fn carries(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|header| escape::resolve(&header.name).eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The same with this header field carried, escaped: `Replaces` of a Refer-To.
    #[must_use]
    pub fn carrying(mut self, name: &str, value: &str) -> Self {
        self.headers.push(UriHeader {
            name: escape::header(name),
            value: escape::header(value),
        });
        self
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
            Self::Tel(uri) => uri.fmt(f),
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
