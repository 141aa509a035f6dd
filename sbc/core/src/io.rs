//! What goes into the core and what comes out of it: the whole contract with the shell.
//!
//! The shell hands over one [`Input`] with its `now`, drains every [`Output`] with `Core::poll`, then sleeps until the
//! next input or `Core::poll_timeout`. It takes no decision: a datagram leaves by the socket whose own address is
//! `local`, an octet string by the connection of that name, a broker message as it stands.

use std::net::SocketAddr;

use broker_proto::{
    RequestId,
    binding::{BindingToken, KeptBinding},
    broker::{LeaseId, Refusal, ToBroker},
    journal::{Record, Severity},
    keyholder::{FromKeyholder, ToKeyholder},
    settings::{Settings, Transport, ZoneId},
};
use sbc_media::relay::{MediaCommand, MediaEvent};

/// Name of a TCP (or TLS) connection, accepted or opened. Given by the shell, never used twice in one life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// A connection of an earlier life of the process: the shell gives this name to none.
    pub const GONE: Self = Self(0);
}

/// An answer of the firewall without its descriptors, which stay with the shell. `Settings`, `Listening` and `Accepted`
/// are inputs of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerAnswer {
    /// Media sockets of a lease; the shell keeps the descriptors under `lease`.
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
    /// A connection that the core asked for stands; the shell reads from it from now on. Over UDP it is the collector's
    /// socket, by which `Capture` leaves and nothing comes, or one to a name server, by which `Ask` leaves and `Answer`
    /// comes.
    Connected {
        /// Of the request.
        id: RequestId,
        /// Its name from now on.
        connection: ConnectionId,
        /// Own end.
        local: SocketAddr,
        /// Far end.
        peer: SocketAddr,
    },
    /// Bindings that an earlier sbc left.
    Bindings {
        /// Of the request.
        id: RequestId,
        /// Some of them.
        bindings: Vec<KeptBinding>,
        /// There are others behind this one.
        next: Option<BindingToken>,
    },
    /// `LatchMedia`, `RenewMedia`, `CloseMedia`, `KeepBindings` or `Ban` was carried out.
    Done {
        /// Of the request.
        id: RequestId,
    },
    /// A request was not carried out.
    Refused {
        /// Of the request.
        id: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// A lease ended by itself; its pinhole is gone.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
    },
}

/// Everything that can happen to the core.
#[derive(Debug)]
pub enum Input<'a> {
    /// A commit: what changed takes effect for what comes next, calls and bindings stay.
    Settings(Box<Settings>),
    /// What the wall clock says at `now`; needed for records and the hours of routes, never for timers.
    WallClock {
        /// ms since the Unix epoch.
        unix_ms: u64,
    },
    /// `poll_timeout` has come.
    Tick,
    /// Answer to a `Listen` of the core: the shell holds the listener's sockets (UDP) or gets its connections (TCP).
    Listening {
        /// Of the listener.
        zone: ZoneId,
        /// Of the listener.
        transport: Transport,
        /// Of the listener.
        port: u16,
        /// Own addresses and port, one of each family at least that the zone has.
        local: Vec<SocketAddr>,
    },
    /// A datagram from a SIP listener.
    Datagram {
        /// Of the listener.
        zone: ZoneId,
        /// Own address that it came to.
        local: SocketAddr,
        /// Source address.
        peer: SocketAddr,
        /// Its octets.
        bytes: &'a [u8],
    },
    /// A connection was accepted by a listener, and is ready for messages: over TLS and WebSocket after their handshakes. A
    /// trunk's over TLS has shown the trunk's certificate.
    StreamOpened {
        /// Its name from now on.
        connection: ConnectionId,
        /// Of the listener.
        zone: ZoneId,
        /// Of the listener.
        transport: Transport,
        /// Own end.
        local: SocketAddr,
        /// Far end.
        peer: SocketAddr,
    },
    /// Octets of a connection, in order, cut anywhere; over WebSocket exactly one message (RFC 7118 §4).
    Stream {
        /// Which.
        connection: ConnectionId,
        /// At least one octet.
        bytes: &'a [u8],
    },
    /// A connection is gone, for whatever reason (also after `CloseStream`).
    StreamClosed {
        /// Which.
        connection: ConnectionId,
    },
    /// A datagram of a name server, by the socket that it was asked by.
    Answer {
        /// Name of the socket.
        connection: ConnectionId,
        /// Its octets.
        bytes: &'a [u8],
    },
    /// The firewall answered.
    Broker(BrokerAnswer),
    /// The channel to the firewall is dead: every request under way is lost and the listeners with it. The next
    /// `Settings` makes the core ask for them again.
    BrokerLost,
    /// The media threads have something to say.
    Media(MediaEvent),
    /// The keyholder answered.
    Keyholder(FromKeyholder),
    /// Orderly end: calls get a BYE, trunks are unregistered. `Core::is_idle` says when all is done.
    Stop,
}

/// Everything that the core wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send by the UDP listener socket whose address is `local`.
    Datagram {
        /// Of the listener.
        zone: ZoneId,
        /// Source address.
        local: SocketAddr,
        /// Destination.
        peer: SocketAddr,
        /// One SIP message or a keep-alive.
        bytes: Vec<u8>,
    },
    /// Write to a connection; over WebSocket as one message. The shell closes it if more than it is willing to hold is
    /// waiting.
    Stream {
        /// Which.
        connection: ConnectionId,
        /// Any number of SIP messages or keep-alives.
        bytes: Vec<u8>,
    },
    /// Close a connection once everything written before has left.
    CloseStream {
        /// Which.
        connection: ConnectionId,
    },
    /// Send a captured message by the lent socket of the collector. Lost ones are not missed.
    Capture {
        /// Name of the socket.
        connection: ConnectionId,
        /// One packet of HEP version 3.
        bytes: Vec<u8>,
    },
    /// Send a question by the lent socket of a name server. Lost ones are asked again.
    Ask {
        /// Name of the socket.
        connection: ConnectionId,
        /// One DNS message.
        bytes: Vec<u8>,
    },
    /// Ask the firewall.
    Broker(ToBroker),
    /// Tell the media threads.
    Media(MediaCommand),
    /// Ask the keyholder.
    Keyholder(ToKeyholder),
    /// Append to the journal: call records and security events.
    Journal(Record),
    /// A line for the process's own log.
    Log {
        /// How grave.
        severity: Severity,
        /// Stable word, `request-refused`.
        code: &'static str,
        /// Details in order; no secret, no message body.
        fields: Vec<(&'static str, String)>,
    },
}
