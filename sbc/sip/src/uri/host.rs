//! Host and port: name, IPv4 address, bracketed IPv6 address. RFC 3261 §25.1, RFC 5118 §4.10.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::Syntax;
use crate::reader::Reader;
use crate::text::Text;

/// A host as it stands in a URI or a Via.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A domain name, in the case in which it stood; [`Host::matches`] compares without case.
    Name(Text),
    /// An address; IPv6 is written in brackets.
    Address(IpAddr),
}

impl Host {
    /// The address, if it is one; an IPv4 address mapped into IPv6 comes out as IPv4, so that no filter for IPv4 is passed
    /// by it. RFC 5118 §4.9.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.to_canonical()),
            Self::Name(_) => None,
        }
    }

    /// The host that a text is: `example.com`, `192.0.2.1`, `[2001:db8::1]`. Fails with [`Syntax::Host`].
    pub fn parse_text(text: &str) -> Result<Self, Syntax> {
        let mut reader = Reader::copying(text);
        let host = Self::parse(&mut reader)?;
        if reader.is_empty() {
            Ok(host)
        } else {
            Err(Syntax::Host)
        }
    }

    /// Whether both are the same host: names without regard to case, addresses by value.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(two)) => one.eq_ignore_ascii_case(two),
            (Self::Address(one), Self::Address(two)) => one == two,
            _ => false,
        }
    }

    /// The same in a buffer of its own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(name.detached()),
            Self::Address(address) => Self::Address(*address),
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        if reader.eat(b'[') {
            let inside = reader.take_while(|octet| octet != b']');
            reader.expect(b']', Syntax::Host)?;
            return inside
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(address.into()))
                .map_err(|_| Syntax::Host);
        }
        let name = reader.take_while(|octet| {
            octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_')
        });
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        if is_domain_name(name) {
            Ok(Self::Name(reader.text(name)))
        } else {
            Err(Syntax::Host)
        }
    }
}

/// Labels of letters, digits and inner hyphens; the last begins with a letter, so that no address in another spelling
/// (`192.0.2.01`, `3221225985`) passes for a name. Underscores are let pass: hosts in the field bear them in Via and Contact.
fn is_domain_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let good = |label: &str| {
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    let top = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(good)
        && !top
            .bytes()
            .next()
            .is_none_or(|octet| octet.is_ascii_digit())
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A host with an optional port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port, if one is written; never 0.
    pub port: Option<u16>,
}

impl HostPort {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let host = Host::parse(reader)?;
        let port = if reader.eat(b':') {
            Some(port(reader)?)
        } else {
            None
        };
        Ok(Self { host, port })
    }
}

pub(crate) fn port(reader: &mut Reader<'_>) -> Result<u16, Syntax> {
    let port = reader.number().map_err(|_| Syntax::Port)?;
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(Syntax::Port)
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: Host::Address(address.ip()),
            port: Some(address.port()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_strange_spelling_is_no_name() {
        for text in [
            "192.0.2.01",
            "192.0.2",
            "3221225985",
            "0x7f.1",
            "1.2.3.4.5",
            "-a.example",
            "a..b",
            "",
        ] {
            assert_eq!(Host::parse_text(text), Err(Syntax::Host), "{text}");
        }
    }

    #[test]
    fn three_colons_are_no_ipv6_address() {
        assert_eq!(
            Host::parse_text("[2001:db8:::192.0.2.1]"),
            Err(Syntax::Host)
        );
        assert!(Host::parse_text("[2001:db8::192.0.2.1]").is_ok());
    }

    #[test]
    fn a_mapped_address_is_seen_as_ipv4_and_written_as_it_stood() {
        let host = Host::parse_text("[::ffff:192.0.2.2]").unwrap();
        assert_eq!(host.address().unwrap().to_string(), "192.0.2.2");
        assert_eq!(host.to_string(), "[::ffff:192.0.2.2]");
    }

    #[test]
    fn names_compare_without_case() {
        assert!(
            Host::parse_text("Example.COM")
                .unwrap()
                .matches(&Host::parse_text("example.com").unwrap())
        );
    }

    #[test]
    fn ports_are_1_to_65535() {
        for (text, good) in [
            ("a:0", false),
            ("a:65536", false),
            ("a:65535", true),
            ("a:", false),
            ("a:05060", true),
        ] {
            assert_eq!(
                HostPort::parse(&mut Reader::copying(text)).is_ok(),
                good,
                "{text}"
            );
        }
    }
}
