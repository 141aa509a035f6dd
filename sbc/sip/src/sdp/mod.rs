//! Session descriptions: RFC 8866, strictly read into types and written from them. One per offer or answer; the core
//! builds new ones from the attributes that a list of its own lets pass, never from the text that came in.

mod attribute;
mod offer_answer;
mod parse;
#[cfg(test)]
mod tests;

use core::fmt;
use core::net::IpAddr;

use thiserror::Error;

pub use attribute::{Attribute, Crypto, Direction, Fmtp, Rtcp, Rtpmap};
pub use offer_answer::{Mismatch, answers};

use crate::text::Text;

/// How much a session description may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets.
    pub octets: usize,
    /// Media descriptions.
    pub media: usize,
    /// Formats of one media description.
    pub formats: usize,
    /// Attributes of the session or of one media description.
    pub attributes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            octets: 32_768,
            media: 32,
            formats: 64,
            attributes: 256,
        }
    }
}

/// Why a session description is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum SdpError {
    /// More octets than the limit.
    #[error("too large")]
    TooLarge,
    /// Not UTF-8, or with control characters.
    #[error("no text")]
    NotText,
    /// A line that is not `x=value`.
    #[error("bad line")]
    Line,
    /// A line where its type may not stand, or twice what stands once.
    #[error("line out of order")]
    Order,
    /// `v=0`, `o=`, `s=` or `t=` is missing.
    #[error("mandatory line missing")]
    Missing,
    /// A version that is not 0.
    #[error("unknown version")]
    Version,
    /// `o=` is malformed.
    #[error("bad origin")]
    Origin,
    /// `c=` is malformed, or an address of another family than it says.
    #[error("bad connection")]
    Connection,
    /// `b=` is malformed.
    #[error("bad bandwidth")]
    Bandwidth,
    /// `t=` is malformed.
    #[error("bad time")]
    Timing,
    /// `m=` is malformed.
    #[error("bad media")]
    Media,
    /// A media description has no connection and the session neither. RFC 8866 §5.7.
    #[error("no connection")]
    NoConnection,
    /// `a=` is malformed, or the value of an attribute that has a type here.
    #[error("bad attribute")]
    Attribute,
    /// More media descriptions than the limit.
    #[error("too many media descriptions")]
    TooManyMedia,
    /// More formats than the limit.
    #[error("too many formats")]
    TooManyFormats,
    /// More attributes than the limit.
    #[error("too many attributes")]
    TooManyAttributes,
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDescription {
    /// `o=`.
    pub origin: Origin,
    /// `s=`.
    pub name: Text,
    /// `c=` of the session.
    pub connection: Option<Connection>,
    /// `b=` of the session.
    pub bandwidth: Vec<Bandwidth>,
    /// `t=`, start and stop; at least one.
    pub timing: Vec<(u64, u64)>,
    /// `a=` of the session.
    pub attributes: Vec<Attribute>,
    /// `m=` and what follows each.
    pub media: Vec<Media>,
}

/// `o=`: RFC 8866 §5.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// User name, `-` for none.
    pub user: Text,
    /// Session number.
    pub session: u64,
    /// Version of the description.
    pub version: u64,
    /// Address of the maker.
    pub address: Address,
}

/// An address or a host name; a name is carried, never resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address.
    Ip(IpAddr),
    /// A name, with the address family that the line claims (`true`: IPv6).
    Name(Text, bool),
}

impl Address {
    /// The address; an IPv4 address mapped into IPv6 comes out as IPv4, so that no filter for IPv4 is passed by it.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.to_canonical()),
            Self::Name(..) => None,
        }
    }
}

/// `c=`: RFC 8866 §5.7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address.
    pub address: Address,
    /// Time to live and number of multicast addresses, as they stood after the first slash.
    pub multicast: Option<Text>,
}

impl Connection {
    /// Where one host is.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address: Address::Ip(address),
            multicast: None,
        }
    }

    /// See [`Address::ip`].
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        self.address.ip()
    }
}

/// `b=`: RFC 8866 §5.8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS`, `CT`, `TIAS`, …
    pub kind: Text,
    /// In kbit/s, or what the kind says.
    pub value: u64,
}

/// A media description: RFC 8866 §5.14.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, …
    pub kind: Text,
    /// Port; 0 refuses the stream.
    pub port: u16,
    /// Number of ports, if one is written.
    pub ports: Option<u16>,
    /// `RTP/AVP`, …
    pub proto: Text,
    /// Formats; payload types for RTP.
    pub formats: Vec<Text>,
    /// `c=` of the media description; the first counts for us.
    pub connections: Vec<Connection>,
    /// `b=`.
    pub bandwidth: Vec<Bandwidth>,
    /// `a=`.
    pub attributes: Vec<Attribute>,
}

impl SessionDescription {
    /// A description of our own: no name, no time limit, no attribute, no media.
    #[must_use]
    pub fn new(session: u64, version: u64, address: IpAddr) -> Self {
        Self {
            origin: Origin {
                user: Text::from_static("-"),
                session,
                version,
                address: Address::Ip(address),
            },
            name: Text::from_static("-"),
            connection: Some(Connection::new(address)),
            bandwidth: Vec::new(),
            timing: vec![(0, 0)],
            attributes: Vec::new(),
            media: Vec::new(),
        }
    }

    /// The address of a media description: its own, else the session's.
    #[must_use]
    pub fn address_of(&self, media: &Media) -> Option<IpAddr> {
        media
            .connections
            .first()
            .or(self.connection.as_ref())
            .and_then(Connection::ip)
    }

    /// The direction of a media description: its own, else the session's, else both ways. RFC 8866 §6.7.
    #[must_use]
    pub fn direction_of(&self, media: &Media) -> Direction {
        let word = |attributes: &[Attribute]| {
            attributes.iter().find_map(|attribute| match attribute {
                Attribute::Direction(direction) => Some(*direction),
                _ => None,
            })
        };
        word(&media.attributes)
            .or_else(|| word(&self.attributes))
            .unwrap_or_default()
    }
}

impl Media {
    /// The mapping of a payload type, if one is written.
    #[must_use]
    pub fn rtpmap(&self, payload: u8) -> Option<&Rtpmap> {
        self.attributes
            .iter()
            .find_map(|attribute| match attribute {
                Attribute::Rtpmap(map) if map.payload == payload => Some(map),
                _ => None,
            })
    }

    /// `a=rtcp`, if it is written. RFC 3605.
    #[must_use]
    pub fn rtcp(&self) -> Option<&Rtcp> {
        self.attributes
            .iter()
            .find_map(|attribute| match attribute {
                Attribute::Rtcp(rtcp) => Some(rtcp),
                _ => None,
            })
    }

    /// Whether the formats are RTP payload types.
    #[must_use]
    pub fn is_rtp(&self) -> bool {
        self.proto
            .split('/')
            .any(|part| part.eq_ignore_ascii_case("RTP"))
    }

    /// Formats as payload types, those that are none left out.
    pub fn payloads(&self) -> impl Iterator<Item = u8> + '_ {
        self.formats
            .iter()
            .filter_map(|format| format.parse().ok())
            .filter(|payload| *payload < 128)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(address)) => write!(f, "IN IP4 {address}"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "IN IP6 {address}"),
            Self::Name(name, v6) => write!(f, "IN {} {name}", if *v6 { "IP6" } else { "IP4" }),
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.multicast {
            Some(suffix) => write!(f, "c={}/{suffix}\r\n", self.address),
            None => write!(f, "c={}\r\n", self.address),
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b={}:{}\r\n", self.kind, self.value)
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin {
            user,
            session,
            version,
            address,
        } = &self.origin;
        // An empty session name is written as a single space: RFC 8866 §5.3.
        let name = if self.name.is_empty() {
            " "
        } else {
            self.name.as_str()
        };
        write!(
            f,
            "v=0\r\no={user} {session} {version} {address}\r\ns={name}\r\n"
        )?;
        self.connection.iter().try_for_each(|line| line.fmt(f))?;
        self.bandwidth.iter().try_for_each(|line| line.fmt(f))?;
        self.timing
            .iter()
            .try_for_each(|(start, stop)| write!(f, "t={start} {stop}\r\n"))?;
        self.attributes
            .iter()
            .try_for_each(|line| write!(f, "a={line}\r\n"))?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {}", self.kind, self.port)?;
        if let Some(ports) = self.ports {
            write!(f, "/{ports}")?;
        }
        write!(f, " {}", self.proto)?;
        self.formats
            .iter()
            .try_for_each(|format| write!(f, " {format}"))?;
        f.write_str("\r\n")?;
        self.connections.iter().try_for_each(|line| line.fmt(f))?;
        self.bandwidth.iter().try_for_each(|line| line.fmt(f))?;
        self.attributes
            .iter()
            .try_for_each(|line| write!(f, "a={line}\r\n"))
    }
}
