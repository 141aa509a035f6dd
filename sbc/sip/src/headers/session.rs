//! Values that go along with a session from end to end: Session-ID (RFC 7989 §5), User-to-User (RFC 7433 §4),
//! Resource-Priority (RFC 4412 §3).

use core::fmt;

use crate::error::Syntax;
use crate::params::{Params, Value};
use crate::reader::{Reader, is_token};
use crate::text::Text;

/// Digits of a session identifier.
const DIGITS: usize = 32;

/// Session-ID: the identifiers of both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Identifier of the sender: 32 hexadecimal digits in lower case.
    pub local: Text,
    /// Parameters, `remote` among them.
    pub params: Params,
}

impl SessionId {
    /// Identifiers of both ends; the null identifier where the other is not known yet. RFC 7989 §5.
    #[must_use]
    pub fn new(local: u128, remote: u128) -> Self {
        Self {
            local: Text::from(format!("{local:032x}")),
            params: Params::new().with(Text::from_static("remote"), format!("{remote:032x}")),
        }
    }

    /// Identifier of the receiver, if one is named. None is the form of RFC 7329, which stood before.
    #[must_use]
    pub fn remote(&self) -> Option<&Text> {
        self.params.plain("remote")
    }

    /// The sender's identifier as a number.
    #[must_use]
    pub fn local_number(&self) -> Option<u128> {
        u128::from_str_radix(&self.local, 16).ok()
    }

    /// The receiver's identifier as a number.
    #[must_use]
    pub fn remote_number(&self) -> Option<u128> {
        u128::from_str_radix(self.remote()?, 16).ok()
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let local = reader.token()?;
        let local = reader.text(local);
        let params = Params::parse(reader, limit)?;
        let value = Self { local, params };
        let remote = value.remote();
        if !is_identifier(&value.local)
            || (value.params.has("remote") && !remote.is_some_and(|remote| is_identifier(remote)))
        {
            return Err(Syntax::Token);
        }
        Ok(value)
    }
}

fn is_identifier(text: &str) -> bool {
    text.len() == DIGITS
        && text
            .bytes()
            .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.local, self.params)
    }
}

/// One User-to-User value: octets that mean something to the ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserToUser {
    /// The data: a token (hexadecimal where nothing else is said) or a quoted string.
    pub data: Value,
    /// Parameters: `purpose`, `content`, `encoding` and others.
    pub params: Params,
}

impl UserToUser {
    /// What it is for; `isdn-uui` where nothing is said. RFC 7433 §4.2.
    #[must_use]
    pub fn purpose(&self) -> &str {
        self.params
            .plain("purpose")
            .map_or("isdn-uui", |text| text.as_str())
    }

    /// How it is written; `hex` where nothing is said.
    #[must_use]
    pub fn encoding(&self) -> &str {
        self.params
            .plain("encoding")
            .map_or("hex", |text| text.as_str())
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let data = match reader.peek() {
            Some(b'"') => Value::parse(reader)?,
            _ => {
                let token = reader.token()?;
                Value::Plain(reader.text(token))
            }
        };
        Ok(Self {
            data,
            params: Params::parse(reader, limit)?,
        })
    }
}

impl fmt::Display for UserToUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.data, self.params)
    }
}

/// One value of Resource-Priority or Accept-Resource-Priority: `namespace.priority`, both without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourcePriority {
    /// Namespace: `esnet`, `wps`, `ets`, `dsn`, `q735` and others.
    pub namespace: Text,
    /// Priority within the namespace.
    pub priority: Text,
}

impl ResourcePriority {
    /// A value of our own; none if one of the two is no token without a dot.
    #[must_use]
    pub fn new(namespace: &str, priority: &str) -> Option<Self> {
        let good = |text: &str| !text.is_empty() && text.bytes().all(is_token_without_dot);
        (good(namespace) && good(priority)).then(|| Self {
            namespace: Text::from(namespace),
            priority: Text::from(priority),
        })
    }

    /// Whether it is that value.
    #[must_use]
    pub fn is(&self, namespace: &str, priority: &str) -> bool {
        self.namespace.eq_ignore_ascii_case(namespace)
            && self.priority.eq_ignore_ascii_case(priority)
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let namespace = reader.take_while(is_token_without_dot);
        reader.expect(b'.', Syntax::Token)?;
        let priority = reader.take_while(is_token_without_dot);
        if namespace.is_empty() || priority.is_empty() {
            return Err(Syntax::Token);
        }
        Ok(Self {
            namespace: reader.text(namespace),
            priority: reader.text(priority),
        })
    }
}

const fn is_token_without_dot(octet: u8) -> bool {
    is_token(octet) && octet != b'.'
}

impl fmt::Display for ResourcePriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.priority)
    }
}
