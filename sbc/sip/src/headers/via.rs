//! Via: RFC 3261 §20.42, §18.2; `rport` RFC 3581. One per hop; the top one names the transaction.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

use crate::error::Syntax;
use crate::limits::Limits;
use crate::params::{Param, Params};
use crate::reader::Reader;
use crate::text::Text;
use crate::uri::{Host, HostPort};

/// First characters of a branch that RFC 3261 §8.1.1.7 makes unique.
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// Transport as Via and URIs name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// SCTP, RFC 4168.
    Sctp,
    /// TLS over SCTP.
    TlsSctp,
    /// WebSocket, RFC 7118.
    Ws,
    /// WebSocket over TLS, RFC 7118.
    Wss,
    /// Any other token.
    Other(Text),
}

impl Transport {
    /// The transport as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Sctp => "SCTP",
            Self::TlsSctp => "TLS-SCTP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
            Self::Other(text) => text,
        }
    }

    /// Whether the transport delivers for sure, so that timers A, E, G, I, J and K differ. RFC 3261 §17.
    #[must_use]
    pub const fn is_reliable(&self) -> bool {
        !matches!(self, Self::Udp | Self::Other(_))
    }

    /// Port where none is written: 5061 over TLS, 5060 elsewhere; WebSocket has its HTTP ports.
    #[must_use]
    pub const fn default_port(&self) -> u16 {
        match self {
            Self::Tls | Self::TlsSctp => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
            _ => 5060,
        }
    }

    pub(crate) fn from_token(token: Text) -> Self {
        let known = [
            Self::Udp,
            Self::Tcp,
            Self::Tls,
            Self::Sctp,
            Self::TlsSctp,
            Self::Ws,
            Self::Wss,
        ];
        known
            .into_iter()
            .find(|one| one.as_str().eq_ignore_ascii_case(&token))
            .unwrap_or(Self::Other(token))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One Via value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via {
    /// Transport of the hop.
    pub transport: Transport,
    /// Where the sender wants responses.
    pub sent_by: HostPort,
    /// Parameters: branch, received, rport, maddr, ttl and others.
    pub params: Params,
}

impl Via {
    /// A Via of our own with a branch and an empty `rport`.
    #[must_use]
    pub fn new(transport: Transport, sent_by: HostPort, branch: impl Into<Text>) -> Self {
        let mut params = Params::new();
        params.set_plain(Text::from_static("branch"), branch);
        params.set_flag(Text::from_static("rport"));
        Self {
            transport,
            sent_by,
            params,
        }
    }

    /// The branch, if there is one.
    #[must_use]
    pub fn branch(&self) -> Option<&Text> {
        self.params.plain("branch")
    }

    /// The branch if it is one of RFC 3261: begins with the magic cookie (in any case) and is longer than it.
    #[must_use]
    pub fn rfc3261_branch(&self) -> Option<&Text> {
        self.branch().filter(|branch| has_cookie(branch))
    }

    /// The `received` address, with or without brackets. RFC 5118 §4.5.
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        parse_received(self.params.plain("received")?)
    }

    /// `None`: no rport. `Some(None)`: asked for. `Some(Some(port))`: filled in. RFC 3581.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        let param = self.params.find("rport")?;
        Some(
            param
                .value
                .as_ref()
                .and_then(|value| value.to_plain().parse().ok()),
        )
    }

    /// Notes where the request came from: `received` always (RFC 3581 §4 demands it with rport, and it does no harm
    /// otherwise), `rport` only if asked for.
    pub fn set_source(&mut self, source: core::net::SocketAddr) {
        if self.params.has("rport") {
            self.params
                .set_plain(Text::from_static("rport"), source.port().to_string());
        }
        self.params
            .set_plain(Text::from_static("received"), source.ip().to_string());
    }

    /// Port to which responses go if nothing better is known.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.sent_by
            .port
            .unwrap_or_else(|| self.transport.default_port())
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limits: &Limits) -> Result<Self, Syntax> {
        let protocol = reader.token().map_err(|_| Syntax::SentProtocol)?;
        let mut good = protocol.eq_ignore_ascii_case("SIP") && reader.separator(b'/');
        let version = reader.token().map_err(|_| Syntax::SentProtocol)?;
        good = good && version == "2.0" && reader.separator(b'/');
        if !good {
            return Err(Syntax::SentProtocol);
        }
        let transport = reader.token().map_err(|_| Syntax::SentProtocol)?;
        let transport = Transport::from_token(reader.text(transport));
        if !reader.peek().is_some_and(crate::reader::is_space) {
            return Err(Syntax::SentProtocol);
        }
        reader.skip_space();
        let host = Host::parse(reader)?;
        let port = if reader.separator(b':') {
            Some(crate::uri::port(reader)?)
        } else {
            None
        };
        let params = Params::parse(reader, limits.parameters)?;
        let via = Self {
            transport,
            sent_by: HostPort { host, port },
            params,
        };
        via.check()?;
        Ok(via)
    }

    /// What of a malformed value says where an answer goes: transport and sent-by, and the parameters up to the first bad
    /// one. Of any version, because 505 is an answer too.
    pub(crate) fn salvage(reader: &mut Reader<'_>, limits: &Limits) -> Option<Self> {
        let sip = reader.token().ok()?.eq_ignore_ascii_case("SIP");
        if !sip || !reader.separator(b'/') || reader.token().is_err() || !reader.separator(b'/') {
            return None;
        }
        let transport = reader.token().ok()?;
        let transport = Transport::from_token(reader.text(transport));
        reader.skip_space();
        let host = Host::parse(reader).ok()?;
        let port = if reader.separator(b':') {
            Some(crate::uri::port(reader).ok()?)
        } else {
            None
        };
        let mut params = Params::new();
        while reader.separator(b';') {
            let added = Param::parse(reader).and_then(|param| params.add(param, limits.parameters));
            if added.is_err() {
                break;
            }
        }
        let via = Self {
            transport,
            sent_by: HostPort { host, port },
            params,
        };
        // A bad received or rport would say wrongly where the answer goes, a bare cookie which request it is for.
        via.check().is_ok().then_some(via)
    }

    fn check(&self) -> Result<(), Syntax> {
        let plain = |name: &str| {
            self.params
                .find(name)
                .is_none_or(|_| self.params.plain(name).is_some())
        };
        if !plain("branch") || self.branch().is_some_and(|branch| is_bare_cookie(branch)) {
            return Err(Syntax::Branch);
        }
        if self.params.has("received") && self.received().is_none() {
            return Err(Syntax::Host);
        }
        let rport = self
            .params
            .find("rport")
            .and_then(|param| param.value.as_ref());
        if rport.is_some() && self.rport().flatten().is_none_or(|port| port == 0) {
            return Err(Syntax::Port);
        }
        let ttl = self.params.value("ttl").map(|ttl| ttl.parse::<u8>());
        if self.params.has("ttl") && !matches!(ttl, Some(Ok(_))) {
            return Err(Syntax::Range);
        }
        Ok(())
    }
}

fn has_cookie(branch: &str) -> bool {
    let cookie = branch.get(..MAGIC_COOKIE.len());
    branch.len() > MAGIC_COOKIE.len()
        && cookie.is_some_and(|cookie| cookie.eq_ignore_ascii_case(MAGIC_COOKIE))
}

// RFC 4475 §3.2.1: all requests with the bare cookie would fall into one transaction.
fn is_bare_cookie(branch: &str) -> bool {
    branch.eq_ignore_ascii_case(MAGIC_COOKIE)
}

fn parse_received(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SIP/2.0/{} {}{}",
            self.transport, self.sent_by, self.params
        )
    }
}
