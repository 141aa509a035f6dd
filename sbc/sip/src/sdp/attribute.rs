//! Attributes: typed where something here depends on them, name and value otherwise. RFC 8866 §6, RFC 3605 (rtcp),
//! RFC 4568 (crypto), RFC 5761 (rtcp-mux).

use core::fmt;
use core::net::IpAddr;

use zeroize::Zeroizing;

use super::SdpError;
use crate::text::Text;

/// One `a=` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// Encoding of a payload type.
    Rtpmap(Rtpmap),
    /// Parameters of a format.
    Fmtp(Fmtp),
    /// Packet time, in ms.
    Ptime(u32),
    /// Longest packet time, in ms.
    Maxptime(u32),
    /// Direction of a stream.
    Direction(Direction),
    /// Where RTCP is received.
    Rtcp(Rtcp),
    /// RTCP on RTP's port.
    RtcpMux,
    /// A key for SRTP; never printed.
    Crypto(Crypto),
    /// Any other: its name and what follows the colon. RFC 8866 §6.
    Other(Text, Option<Text>),
}

/// Direction of a stream as its describer sees it. RFC 8866 §6.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Both ways: what holds where nothing is said.
    #[default]
    SendRecv,
    /// The describer only sends.
    SendOnly,
    /// The describer only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// The direction of who sends and receives.
    #[must_use]
    pub const fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether the describer sends.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the describer receives.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// As the other end sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// The attribute's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// `a=rtpmap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtpmap {
    /// Payload type, below 128.
    pub payload: u8,
    /// Encoding name, as it stood.
    pub encoding: Text,
    /// Clock rate, in Hz; not 0.
    pub clock_hz: u32,
    /// Encoding parameters, for audio the number of channels.
    pub parameters: Option<Text>,
}

/// `a=fmtp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fmtp {
    /// The format.
    pub format: Text,
    /// Its parameters, as they stood.
    pub parameters: Text,
}

/// `a=rtcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtcp {
    /// Port.
    pub port: u16,
    /// Address, if it is not RTP's.
    pub address: Option<IpAddr>,
}

/// `a=crypto`. Key material does not print: `Debug` shows tag and suite.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Tag, at most nine digits.
    pub tag: u32,
    /// Crypto suite, as it stood.
    pub suite: Text,
    /// Key parameters, as they stood: `inline:` and key material, several separated by semicolons. Overwritten when
    /// dropped.
    keys: Zeroizing<String>,
    /// Session parameters, as they stood.
    pub session: Vec<Text>,
}

impl Crypto {
    /// A line of our own. `keys`: `inline:` and base64.
    #[must_use]
    pub const fn new(tag: u32, suite: Text, keys: Zeroizing<String>) -> Self {
        Self {
            tag,
            suite,
            keys,
            session: Vec::new(),
        }
    }

    /// The key parameters; who calls this holds a secret.
    #[must_use]
    pub fn dangerous_keys(&self) -> &str {
        self.keys.as_str()
    }

    #[cfg(test)]
    pub(super) const fn key_material(&self) -> &impl zeroize::ZeroizeOnDrop {
        &self.keys
    }
}

impl Attribute {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Rtpmap(_) => "rtpmap",
            Self::Fmtp(_) => "fmtp",
            Self::Ptime(_) => "ptime",
            Self::Maxptime(_) => "maxptime",
            Self::Direction(direction) => direction.as_str(),
            Self::Rtcp(_) => "rtcp",
            Self::RtcpMux => "rtcp-mux",
            Self::Crypto(_) => "crypto",
            Self::Other(name, _) => name,
        }
    }

    /// Reads what follows `a=`. RFC 8866 §9: names are tokens, compared with regard to case.
    pub(super) fn parse(line: &str) -> Result<Self, SdpError> {
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() || !name.bytes().all(is_token) || value.is_some_and(str::is_empty) {
            return Err(SdpError::Attribute);
        }
        let typed = match (name, value) {
            ("rtpmap", Some(value)) => Rtpmap::parse(value).map(Self::Rtpmap),
            ("fmtp", Some(value)) => Fmtp::parse(value).map(Self::Fmtp),
            ("ptime", Some(value)) => milliseconds(value).map(Self::Ptime),
            ("maxptime", Some(value)) => milliseconds(value).map(Self::Maxptime),
            ("rtcp", Some(value)) => Rtcp::parse(value).map(Self::Rtcp),
            ("crypto", Some(value)) => Crypto::parse(value).map(Self::Crypto),
            ("sendrecv", None) => Some(Self::Direction(Direction::SendRecv)),
            ("sendonly", None) => Some(Self::Direction(Direction::SendOnly)),
            ("recvonly", None) => Some(Self::Direction(Direction::RecvOnly)),
            ("inactive", None) => Some(Self::Direction(Direction::Inactive)),
            ("rtcp-mux", None) => Some(Self::RtcpMux),
            (
                "rtpmap" | "fmtp" | "ptime" | "maxptime" | "rtcp" | "crypto" | "sendrecv"
                | "sendonly" | "recvonly" | "inactive" | "rtcp-mux",
                _,
            ) => None,
            _ => Some(Self::Other(Text::from(name), value.map(Text::from))),
        };
        typed.ok_or(SdpError::Attribute)
    }
}

/// RFC 8866 §9 `token-char`.
pub(super) const fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'{'..=b'~')
}

/// Whole milliseconds; some write a fraction, which is cut off.
fn milliseconds(value: &str) -> Option<u32> {
    let (whole, fraction) = value
        .trim_end()
        .split_once('.')
        .unwrap_or((value.trim_end(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    if digits(whole) && digits(fraction) {
        whole.parse().ok()
    } else {
        None
    }
}

impl Rtpmap {
    fn parse(value: &str) -> Option<Self> {
        let (payload, rest) = value.split_once(' ')?;
        let payload = number::<u8>(payload).filter(|payload| *payload < 128)?;
        let mut parts = rest.trim_matches(' ').split('/');
        let (encoding, clock) = (parts.next()?, parts.next()?);
        let parameters = parts.next();
        let good = |text: &str| !text.is_empty() && text.bytes().all(is_token);
        if parts.next().is_some() || !good(encoding) || !parameters.is_none_or(good) {
            return None;
        }
        let clock_hz = number::<u32>(clock).filter(|clock| *clock > 0)?;
        Some(Self {
            payload,
            encoding: Text::from(encoding),
            clock_hz,
            parameters: parameters.map(Text::from),
        })
    }
}

impl Fmtp {
    fn parse(value: &str) -> Option<Self> {
        let (format, parameters) = value.split_once(' ')?;
        let parameters = parameters.trim_matches(' ');
        if format.is_empty() || !format.bytes().all(is_token) || parameters.is_empty() {
            return None;
        }
        Some(Self {
            format: Text::from(format),
            parameters: Text::from(parameters),
        })
    }
}

impl Rtcp {
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.trim_end_matches(' ').split(' ');
        let port = number(words.next()?)?;
        let address = match (words.next(), words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some("IN"), Some(family), Some(address), None) => {
                Some(family_address(family, address)?)
            }
            _ => return None,
        };
        Some(Self { port, address })
    }
}

impl Crypto {
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let tag = words
            .next()
            .filter(|tag| tag.len() <= 9 && (*tag == "0" || !tag.starts_with('0')))?;
        let (tag, suite, keys) = (number(tag)?, words.next()?, words.next()?);
        let suite_is_good = suite
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
        if suite.is_empty() || !suite_is_good || !keys.split(';').all(|key| key.contains(':')) {
            return None;
        }
        let session: Vec<Text> = words.map(Text::from).collect();
        let session_is_good = session.iter().all(|word| !word.is_empty());
        session_is_good.then_some(Self {
            tag,
            suite: Text::from(suite),
            keys: Zeroizing::new(keys.to_owned()),
            session,
        })
    }
}

/// Digits only: no sign, no white space.
pub(super) fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// An address of the family that the line claims.
pub(super) fn family_address(family: &str, text: &str) -> Option<IpAddr> {
    match family {
        "IP4" => text.parse().ok().map(IpAddr::V4),
        "IP6" => text.parse().ok().map(IpAddr::V6),
        _ => None,
    }
}

/// What follows `a=`.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtpmap(map) => {
                write!(
                    f,
                    "rtpmap:{} {}/{}",
                    map.payload, map.encoding, map.clock_hz
                )?;
                map.parameters
                    .iter()
                    .try_for_each(|parameters| write!(f, "/{parameters}"))
            }
            Self::Fmtp(fmtp) => write!(f, "fmtp:{} {}", fmtp.format, fmtp.parameters),
            Self::Ptime(ms) => write!(f, "ptime:{ms}"),
            Self::Maxptime(ms) => write!(f, "maxptime:{ms}"),
            Self::Direction(direction) => f.write_str(direction.as_str()),
            Self::Rtcp(Rtcp {
                port,
                address: None,
            }) => write!(f, "rtcp:{port}"),
            Self::Rtcp(Rtcp {
                port,
                address: Some(address),
            }) => {
                write!(
                    f,
                    "rtcp:{port} IN {} {address}",
                    if address.is_ipv4() { "IP4" } else { "IP6" }
                )
            }
            Self::RtcpMux => f.write_str("rtcp-mux"),
            Self::Crypto(crypto) => {
                write!(
                    f,
                    "crypto:{} {} {}",
                    crypto.tag,
                    crypto.suite,
                    crypto.dangerous_keys()
                )?;
                crypto
                    .session
                    .iter()
                    .try_for_each(|word| write!(f, " {word}"))
            }
            Self::Other(name, Some(value)) => write!(f, "{name}:{value}"),
            Self::Other(name, None) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto")
            .field("tag", &self.tag)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
