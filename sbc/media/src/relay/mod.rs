//! The media relay (RFC 7092 §3.2.1): what the core tells it and what it says back. The core is not on the way of a
//! packet; it gives [`MediaCommand`]s and gets [`MediaEvent`]s. The shell's media threads own the streams.
//!
//! | module | noun |
//! |---|---|
//! | `stream` | two legs and the verdict on each packet |
//! | `leg` | one of them: whom it hears, whom it speaks to, what it counted |
//! | `source` | which source address is believed, and when |

mod leg;
mod source;
mod stream;

pub use leg::DropReason;
pub use stream::{LentLeg, Stream, Verdict};

use core::net::{IpAddr, SocketAddr};

use crate::srtp::Security;

/// Name of a relayed stream: one media line of one call. Given by the core, never used twice in one life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Which leg of a stream: `A` faces the caller, `B` the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The caller's.
    A,
    /// The callee's.
    B,
}

impl Side {
    /// The opposite leg, where a packet of this one leaves.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What a packet is part of (RFC 8445 §4: a component has a transport address of its own, unless multiplexed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Media.
    Rtp,
    /// Reports about it.
    Rtcp,
}

/// Set of RTP payload types, 0–127. The default holds none: nothing is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadSet(u128);

impl PayloadSet {
    /// Holds no payload type.
    pub const EMPTY: Self = Self(0);

    /// Adds a payload type; values above 127 do not exist in RTP and are passed over.
    pub const fn insert(&mut self, payload_type: u8) {
        if payload_type < 128 {
            self.0 |= 1 << payload_type;
        }
    }

    /// Whether a payload type is in the set.
    #[must_use]
    pub const fn contains(self, payload_type: u8) -> bool {
        payload_type < 128 && self.0 >> payload_type & 1 == 1
    }

    /// Whether the set holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<u8> for PayloadSet {
    fn from_iter<I: IntoIterator<Item = u8>>(payload_types: I) -> Self {
        let mut set = Self::EMPTY;
        for payload_type in payload_types {
            set.insert(payload_type);
        }
        set
    }
}

/// Whose packets a leg hears. The same rule as the pinhole in the kernel, checked a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    /// These addresses and no other.
    Exact {
        /// Source of RTP (and of RTCP where both share one port).
        rtp: SocketAddr,
        /// Source of RTCP.
        rtcp: SocketAddr,
    },
    /// Any port of one host until the first valid RTP packet proves one, once, inside the window; afterwards that port
    /// alone. RTCP then follows from the same host with the proved SSRC, also once. Out of the window: nobody.
    Host {
        /// Whose.
        host: IpAddr,
        /// ms from the moment that the leg gets this rule.
        window_ms: u32,
    },
}

/// The far end of a leg is a lease of our own: two calls of ours meet behind somebody who relays no media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// That lease.
    pub lease: u64,
    /// Its address for RTP, from which its packets seem to come.
    pub rtp: SocketAddr,
    /// Its address for RTCP.
    pub rtcp: SocketAddr,
}

/// One leg of a stream as the core wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegMedia {
    /// Lease of the sockets on this leg, `broker_proto::broker::LeaseId`.
    pub lease: u64,
    /// Payload types that are taken from this leg's far end.
    pub payloads: PayloadSet,
    /// Whose packets are taken.
    pub learn: Learn,
    /// Where RTP for this leg's far end goes; `None`: nowhere yet. The relay never sends elsewhere, and a proof does not
    /// change it: the core does, by `Change`, once the kernel lets packets go there.
    pub send_to: Option<SocketAddr>,
    /// The same for RTCP. On a single socket (rtcp-mux) the address of `send_to`.
    pub send_rtcp_to: Option<SocketAddr>,
    /// Whether RTP is taken from the far end (direction attribute, RFC 3264 §5.1). RTCP always is.
    pub receive: bool,
    /// Whether RTP is sent to the far end. RTCP always is.
    pub send: bool,
    /// RTP clock of the first format, in Hz; jitter is measured by it. 0: jitter is not measured.
    pub clock_hz: u32,
    /// The name that this leg's far end sees, in reports, for whoever speaks on the other leg.
    pub name: u64,
    /// Keys of both directions; `None`: the leg is in the clear. A leg with keys neither takes nor sends a packet in the
    /// clear.
    pub security: Option<Box<Security>>,
    /// Packets go to the stream of that lease by hand, and come from it, if it names this one's lease as well; none of them
    /// meets a socket on the way.
    pub joined: Option<Box<Joined>>,
}

/// From the core to the media threads. Commands for streams of one call are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a few in each call, each moved twice: two more allocations cost as much"
)]
pub enum MediaCommand {
    /// Relay between two legs from now on.
    Start {
        /// Its name from now on.
        stream: StreamId,
        /// The call it belongs to: all its streams run on one media thread.
        call: u64,
        /// Caller's leg.
        a: LegMedia,
        /// Callee's leg.
        b: LegMedia,
        /// ms without an accepted packet after which a leg that receives is `Silent`; 0: never.
        silence_ms: u32,
    },
    /// A leg is as described from now on. The proof of a source survives as long as the rule it was made under stays
    /// the same, or becomes `Exact` with the proved address.
    Change {
        /// Whose.
        stream: StreamId,
        /// Which of its legs.
        side: Side,
        /// From now on.
        leg: LegMedia,
    },
    /// Relay no more. Answered by a `Report` that says `last`. The sockets stay with the shell until the lease is closed.
    Stop {
        /// Which.
        stream: StreamId,
    },
}

/// Why a `Start` or `Change` was not carried out. All of them are bugs on our side, or a table that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The lease has no sockets here: closed, or never lent.
    #[error("no sockets of that lease")]
    UnknownLease,
    /// No such stream, or one of that name exists.
    #[error("no such stream, or one too many")]
    UnknownStream,
    /// The lease's sockets are in use by another stream.
    #[error("the lease is in use")]
    LeaseInUse,
    /// More streams than the media thread has room for, or its commands queue is full.
    #[error("the media thread is full")]
    Full,
}

/// From the media threads to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// The first valid packet of an accepted source arrived (under `Learn::Host`: it is the proved one from now on).
    /// Once for each component of each leg and rule. The core narrows the pinhole.
    Proved {
        /// Of which stream.
        stream: StreamId,
        /// Of which leg.
        side: Side,
        /// Of what.
        component: Component,
        /// Where it came from.
        source: SocketAddr,
    },
    /// Something that looks like media came from elsewhere. It was neither relayed nor answered. At most one a second
    /// for each leg.
    SecondSource {
        /// To which stream.
        stream: StreamId,
        /// To which leg.
        side: Side,
        /// From where.
        source: SocketAddr,
    },
    /// Nothing was accepted on a leg that receives for `silence_ms`; again after each further `silence_ms`.
    Silent {
        /// Of which stream.
        stream: StreamId,
        /// Of which leg.
        side: Side,
        /// ms since the last accepted packet, or since the start.
        ms: u64,
    },
    /// Counts since the start: every 30 s, and at the end.
    Report {
        /// Of which stream.
        stream: StreamId,
        /// Caller's leg.
        a: LegStats,
        /// Callee's leg.
        b: LegStats,
        /// Nothing follows about this stream.
        last: bool,
    },
    /// A `Start` or `Change` was not carried out.
    Failed {
        /// Of which stream.
        stream: StreamId,
        /// Why.
        reason: Failure,
    },
}

/// What one leg counted since the start of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegStats {
    /// RTP and RTCP packets accepted from the far end.
    pub packets_received: u64,
    /// RTP and RTCP packets given to the kernel for the far end.
    pub packets_sent: u64,
    /// RTP packets that are missing by sequence number among what was received (RFC 3550 A.3; never below 0).
    pub packets_lost: u64,
    /// Octets of RTP payload received.
    pub octets_received: u64,
    /// Interarrival jitter of what was received, in µs (RFC 3550 A.8).
    pub jitter_us: u32,
    /// Packets refused: not media, wrong payload type, wrong source, held.
    pub rejected: u64,
}
