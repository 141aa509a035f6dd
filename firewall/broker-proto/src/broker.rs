//! The only door: what a sandboxed process may ask of the firewall, and the answers. The firewall believes no claim in a
//! request; each is checked against the configuration, the asker's role, rates and quotas.

use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    RequestId,
    binding::{BindingToken, KeptBinding},
    settings::{Settings, Transport, ZoneId},
};

/// Octets of the longest packet of requests that makes sense; whoever sends a longer one is taken for mad.
pub const MAX_REQUEST: usize = 4096;

/// Name of a lent media socket (pair). Drawn by the firewall, never for two in one life of the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// Address family of a media socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Whom a pinhole lets in. The zero value lets in nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admit {
    /// Nobody.
    #[default]
    Nobody,
    /// Any address of the zone's media networks, ports 1024 and up: only while no answer names the peer.
    MediaNetworks,
    /// Any port of 1024 and up of one address: while the peer's port behind a NAT is still to be proved.
    Host(IpAddr),
    /// One address and port: proved.
    Peer(SocketAddr),
}

/// Both directions of one media socket: who may send to it and whom it may send to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Inward.
    pub admit: Admit,
    /// Outward; `None`: it may send nothing.
    pub send_to: Option<SocketAddr>,
}

/// What a ban is keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BanKey {
    /// Everything from an address.
    Host(IpAddr),
    /// One address and port: one client behind a NAT.
    Flow(SocketAddr),
}

/// What a ban takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BanScope {
    /// SIP listeners only.
    Signalling,
    /// Everything.
    All,
}

/// Requests to the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBroker {
    /// Lend the sockets of a configured listener: UDP sockets at once, TCP connections one by one as `Accepted`.
    Listen {
        /// Pairs the answer.
        id: RequestId,
        /// Configured zone.
        zone: ZoneId,
        /// Configured transport.
        transport: Transport,
        /// Configured port.
        port: u16,
    },
    /// Bind a random free port of the zone's media range. Nothing is open towards it but what `flow` says.
    OpenMedia {
        /// Pairs the answer.
        id: RequestId,
        /// Zone whose address the socket gets.
        zone: ZoneId,
        /// Family of that address.
        family: Family,
        /// RTP on an even port and RTCP on the next odd one: two sockets. Otherwise one (rtcp-mux).
        pair: bool,
        /// First state of the pinhole (of RTP; RTCP starts with the same `admit` and no `send_to`).
        flow: Flow,
        /// Seconds until the lease ends by itself unless renewed; capped by the firewall.
        ttl_seconds: u32,
    },
    /// Set the pinhole's flows. Peers must lie in the zone's media networks, at ports of 1024 and up, and be none of the
    /// box's own or management addresses. The answer comes after the kernel has it.
    LatchMedia {
        /// Pairs the answer.
        id: RequestId,
        /// Whose.
        lease: LeaseId,
        /// RTP (and everything else on a single socket).
        rtp: Flow,
        /// RTCP of a pair; ignored for a single socket.
        rtcp: Flow,
    },
    /// Push the end of a lease out to `ttl_seconds` from now.
    RenewMedia {
        /// Pairs the answer.
        id: RequestId,
        /// Whose.
        lease: LeaseId,
        /// Seconds from now, capped by the firewall.
        ttl_seconds: u32,
    },
    /// Close the pinhole; it is gone before the answer.
    CloseMedia {
        /// Pairs the answer.
        id: RequestId,
        /// Whose.
        lease: LeaseId,
    },
    /// After the firewall itself began anew: a lent media socket (or pair), which comes beside this request, back into its
    /// books under its old name. What the socket is, the kernel says; the flows are checked as those of `LatchMedia`.
    AdoptMedia {
        /// Pairs the answer.
        id: RequestId,
        /// Its name until now, and from now on.
        lease: LeaseId,
        /// Zone whose address the socket has.
        zone: ZoneId,
        /// RTP (and everything else on a single socket).
        rtp: Flow,
        /// RTCP of a pair; ignored for a single socket.
        rtcp: Flow,
        /// Seconds until the lease ends by itself unless renewed; capped by the firewall.
        ttl_seconds: u32,
    },
    /// A connected socket to a configured trunk, registrar, NTP server or the like.
    Connect {
        /// Pairs the answer.
        id: RequestId,
        /// Zone to go out by.
        zone: ZoneId,
        /// UDP or TCP (TLS runs inside TCP).
        transport: Transport,
        /// Where to; must be configured.
        peer: SocketAddr,
    },
    /// Refuse a source for a while. An allow-list always wins.
    Ban {
        /// Pairs the answer.
        id: RequestId,
        /// Who.
        key: BanKey,
        /// From what.
        scope: BanScope,
        /// How long; capped by the firewall.
        seconds: u32,
        /// For the audit; at most 200 octets are kept.
        reason: String,
    },
    /// Keep these bindings for whoever is the sbc after this one, and forget those. At most `binding::MAX_BATCH` together.
    KeepBindings {
        /// Pairs the answer.
        id: RequestId,
        /// New ones and changed ones.
        kept: Vec<KeptBinding>,
        /// Those that ended.
        gone: Vec<BindingToken>,
    },
    /// Bindings that an earlier sbc left, in the order of their names.
    RecallBindings {
        /// Pairs the answer.
        id: RequestId,
        /// From behind this one on; `None`: from the first.
        after: Option<BindingToken>,
    },
    /// Liveness; expected every 25 ms from the sbc. Not answered.
    Health {
        /// Counts up.
        sequence: u64,
    },
}

impl ToBroker {
    /// The number that pairs a request with its answer; `Health` has none.
    #[must_use]
    pub const fn id(&self) -> Option<RequestId> {
        match self {
            Self::Listen { id, .. }
            | Self::OpenMedia { id, .. }
            | Self::LatchMedia { id, .. }
            | Self::RenewMedia { id, .. }
            | Self::CloseMedia { id, .. }
            | Self::AdoptMedia { id, .. }
            | Self::Connect { id, .. }
            | Self::KeepBindings { id, .. }
            | Self::RecallBindings { id, .. }
            | Self::Ban { id, .. } => Some(*id),
            Self::Health { .. } => None,
        }
    }
}

/// Answers and events from the firewall. Descriptors come in the order in which the addresses stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBroker {
    /// First message to the sbc, and again after each commit. (Other roles get their part by `control`.)
    Settings(Box<Settings>),
    /// Answer to `Listen` (UDP: one descriptor per address; TCP: no descriptor, connections follow as `Accepted`).
    Listening {
        /// Of the request.
        id: RequestId,
        /// Local addresses of the listener.
        local: Vec<SocketAddr>,
    },
    /// A TCP connection that passed bans and limits; one descriptor.
    Accepted {
        /// Of the listener.
        zone: ZoneId,
        /// Of the listener.
        transport: Transport,
        /// The connection's own end.
        local: SocketAddr,
        /// The far end.
        peer: SocketAddr,
    },
    /// Answer to `OpenMedia`: one descriptor, or two for a pair (RTP, RTCP).
    MediaOpened {
        /// Of the request.
        id: RequestId,
        /// Its name from now on.
        lease: LeaseId,
        /// Local RTP address.
        rtp: SocketAddr,
        /// Local RTCP address of a pair.
        rtcp: Option<SocketAddr>,
        /// Seconds that were granted.
        ttl_seconds: u32,
    },
    /// Answer to `Connect`: one descriptor.
    Connected {
        /// Of the request.
        id: RequestId,
        /// Own end.
        local: SocketAddr,
        /// Far end.
        peer: SocketAddr,
    },
    /// Answer to `RecallBindings`. They are an earlier sbc's word: to be checked like any.
    Bindings {
        /// Of the request.
        id: RequestId,
        /// At most `binding::MAX_BATCH`.
        bindings: Vec<KeptBinding>,
        /// There are others behind this one.
        next: Option<BindingToken>,
    },
    /// Answer to `LatchMedia`, `RenewMedia`, `CloseMedia`, `AdoptMedia`, `Ban`, `KeepBindings`: done, and the kernel has it.
    Done {
        /// Of the request.
        id: RequestId,
    },
    /// The request was not carried out.
    Refused {
        /// Of the request.
        id: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// A lease ended by itself (time to live); its pinhole is gone.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
    },
}

impl FromBroker {
    /// How many descriptors belong to it, if it may share a packet with others; `None`: it travels alone, and whatever lies
    /// beside it is its.
    #[must_use]
    pub const fn descriptors(&self) -> Option<usize> {
        match self {
            Self::MediaOpened { rtcp: None, .. } => Some(1),
            Self::MediaOpened { .. } => Some(2),
            Self::Done { .. } | Self::Refused { .. } | Self::LeaseEnded { .. } => Some(0),
            Self::Settings(_)
            | Self::Listening { .. }
            | Self::Accepted { .. }
            | Self::Bindings { .. }
            | Self::Connected { .. } => None,
        }
    }
}

/// Why the firewall refused. Each is also a counter and a log line.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
pub enum Refusal {
    /// The role has no right to this kind of request.
    #[error("the role may not ask this")]
    NotPermitted,
    /// No such zone, listener, trunk or server in the configuration.
    #[error("not in the configuration")]
    NotConfigured,
    /// The peer lies outside the zone's media networks, below port 1024, or is one of our own or management addresses.
    #[error("the peer is outside the zone's media networks and ports")]
    PeerOutsidePolicy,
    /// No such lease of this asker.
    #[error("no such lease")]
    UnknownLease,
    /// Too many requests of this kind per second.
    #[error("rate limit")]
    RateLimit,
    /// Too many leases, bans or connections at once.
    #[error("quota")]
    Quota,
    /// No free port in the range.
    #[error("media ports exhausted")]
    PortsExhausted,
    /// The ban's key is on the allow-list.
    #[error("on the allow-list")]
    AllowListed,
    /// A value out of its range.
    #[error("value out of range")]
    OutOfRange,
    /// The kernel refused, or the far end was not heard in time.
    #[error("the system refused")]
    System,
    /// The far end takes no such connection: it reset it, or said by ICMP that it does not have the protocol or port.
    #[error("the far end refused the connection")]
    PeerRefused,
    /// The kernel did not take the ruleset; everything stays closed.
    #[error("the firewall is closed")]
    Closed,
}
