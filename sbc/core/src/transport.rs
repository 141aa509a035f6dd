//! Ways for octets to leave: datagrams by the listener's own socket, streams by connections that a peer opened or that
//! we asked for. RFC 3261 §18; RFC 5626 §4.4.1 for the keep-alive.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    broker::ToBroker,
    settings::{Transport, ZoneId},
};

use sbc_sip::{framing::Stream, headers};

use crate::{
    context::Context,
    io::{ConnectionId, Output},
    outgoing,
    requests::Purpose,
    surroundings::Peer,
    timers::TimerKey,
};

/// Messages that wait for one connection at most.
const WAITING: usize = 32;
/// How long an unfinished message may stay so (RFC 4475 §3.1.2.2): 64*T1, as any transaction.
const UNFINISHED: Duration = Duration::from_secs(32);

/// How long a peer to which no stream could be made gets datagrams of any size.
const STREAM_AGAIN: Duration = Duration::from_secs(600);
/// How long a connection may take before datagrams are tried: a peer that drops what it does not serve never says so.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a peer that said nothing to a connection gets datagrams of any size: it may have been away for a moment.
const SILENT: Duration = Duration::from_secs(60);
/// Such peers at most; only configured ones can get here.
const NO_STREAM: usize = 256;

/// How long a stranger's connection may be idle; what is in use is kept longer by who uses it.
const STRANGER_IDLE: Duration = Duration::from_secs(60);

/// One way between us and a far end: everything that came by it may be answered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) zone: ZoneId,
    pub(crate) transport: Transport,
    /// Own end: of a datagram the listener's address, of a stream that connection's.
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// The connection of a stream.
    pub(crate) connection: Option<ConnectionId>,
}

/// Where a request is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// By this way and no other.
    Flow(Flow),
    /// To this address, by a connection that may still have to be made.
    Address {
        zone: ZoneId,
        transport: Transport,
        peer: SocketAddr,
    },
}

impl NextHop {
    pub(crate) const fn zone(&self) -> ZoneId {
        match self {
            Self::Flow(flow) => flow.zone,
            Self::Address { zone, .. } => *zone,
        }
    }

    pub(crate) const fn transport(&self) -> Transport {
        match self {
            Self::Flow(flow) => flow.transport,
            Self::Address { transport, .. } => *transport,
        }
    }

    pub(crate) const fn peer(&self) -> SocketAddr {
        match self {
            Self::Flow(flow) => flow.peer,
            Self::Address { peer, .. } => *peer,
        }
    }
}

/// Word of a transport in records.
pub(crate) const fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    }
}

/// Word of a transport in a Via.
pub(crate) const fn via_word(transport: Transport) -> headers::Transport {
    match transport {
        Transport::Udp => headers::Transport::Udp,
        Transport::Tcp => headers::Transport::Tcp,
        Transport::Tls => headers::Transport::Tls,
        Transport::Ws => headers::Transport::Ws,
        Transport::Wss => headers::Transport::Wss,
    }
}

/// There is no way there: no listener of that family, the connection is gone or refused, too much waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreachable;

/// A stream connection.
struct Connection {
    flow: Flow,
    /// Octets on their way to be messages.
    stream: Stream,
    /// Where its far end listens, if it lets us reuse the connection for that (RFC 5923).
    alias: Option<SocketAddr>,
}

/// A connection that the firewall is making for us.
struct Connecting {
    zone: ZoneId,
    transport: Transport,
    peer: SocketAddr,
    /// Messages that wait, with the client transaction that each belongs to.
    waiting: Vec<(Option<u64>, Vec<u8>)>,
}

/// All stream connections.
#[derive(Default)]
pub(crate) struct Connections {
    open: BTreeMap<ConnectionId, Connection>,
    /// Which of them leads to an address.
    by_peer: BTreeMap<(ZoneId, Transport, SocketAddr), ConnectionId>,
    connecting: BTreeMap<RequestId, Connecting>,
    /// Peers that take datagrams only, each until it is tried again.
    no_stream: BTreeMap<(ZoneId, SocketAddr), Instant>,
}

impl Connections {
    /// Whether a peer that is reached by datagrams may be tried by a stream.
    pub(crate) fn may_stream(&mut self, now: Instant, zone: ZoneId, peer: SocketAddr) -> bool {
        self.no_stream.retain(|_, until| *until > now);
        !self.no_stream.contains_key(&(zone, peer)) && self.no_stream.len() < NO_STREAM
    }

    /// How many are open or being made.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.connecting.len()
    }

    /// The way that a connection is.
    pub(crate) fn flow(&self, connection: ConnectionId) -> Option<Flow> {
        self.open.get(&connection).map(|open| open.flow)
    }

    /// What came by a connection and is not taken apart yet.
    pub(crate) fn stream_mut(&mut self, connection: ConnectionId) -> Option<&mut Stream> {
        self.open.get_mut(&connection).map(|open| &mut open.stream)
    }

    fn to(&self, zone: ZoneId, transport: Transport, peer: SocketAddr) -> Option<Flow> {
        self.flow(*self.by_peer.get(&(zone, transport, peer))?)
    }

    /// Client transactions whose message waits for a connection that will not come. `never`: the peer takes no stream, which
    /// is remembered.
    pub(crate) fn refused(&mut self, now: Instant, id: RequestId, never: bool) -> Vec<u64> {
        let Some(asked) = self.connecting.remove(&id) else {
            return Vec::new();
        };
        if asked.transport == Transport::Tcp && never {
            self.no_stream
                .insert((asked.zone, asked.peer), now + STREAM_AGAIN);
        }
        asked
            .waiting
            .into_iter()
            .filter_map(|(client, _)| client)
            .collect()
    }

    /// Of those that wait for a connection that takes long, the client transactions that have `another` way: they wait no
    /// more, and the peer gets datagrams for a while.
    pub(crate) fn overdue(
        &mut self,
        now: Instant,
        id: RequestId,
        another: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let Some(asked) = self.connecting.get_mut(&id) else {
            return Vec::new();
        };
        let leaving = asked
            .waiting
            .extract_if(.., |(client, _)| client.is_some_and(&another));
        let leaving: Vec<u64> = leaving.filter_map(|(client, _)| client).collect();
        if !leaving.is_empty() {
            self.no_stream
                .insert((asked.zone, asked.peer), now + SILENT);
        }
        leaving
    }
}

/// A connection stands that a peer opened, or that we asked for.
pub(crate) fn opened(cx: &mut Context, connection: ConnectionId, flow: Flow) {
    let limits = outgoing::limits(cx.settings().limits.message_octets);
    cx.connections.open.insert(
        connection,
        Connection {
            flow,
            stream: Stream::new(limits),
            alias: None,
        },
    );
    let peer = (flow.zone, flow.transport, flow.peer);
    cx.connections.by_peer.insert(peer, connection);
    touched(cx, connection);
}

/// The connection asked for by `id` stands: what waited for it leaves.
pub(crate) fn connected(
    cx: &mut Context,
    id: RequestId,
    connection: ConnectionId,
    local: SocketAddr,
    peer: SocketAddr,
) {
    cx.timers.cancel(TimerKey::Connecting(id.0));
    let Some(asked) = cx.connections.connecting.remove(&id) else {
        cx.emit(Output::CloseStream { connection });
        return;
    };
    let flow = Flow {
        zone: asked.zone,
        transport: asked.transport,
        local,
        peer,
        connection: Some(connection),
    };
    // It was slow, not silent.
    cx.connections.no_stream.remove(&(flow.zone, peer));
    opened(cx, connection, flow);
    for (_, bytes) in asked.waiting {
        cx.emit(Output::Stream { connection, bytes });
    }
}

/// A connection is gone.
pub(crate) fn closed(cx: &mut Context, connection: ConnectionId) -> Option<Flow> {
    cx.timers.cancel(TimerKey::Connection(connection.0));
    let open = cx.connections.open.remove(&connection)?;
    let flow = open.flow;
    for peer in [Some(flow.peer), open.alias].into_iter().flatten() {
        let key = (flow.zone, flow.transport, peer);
        if cx.connections.by_peer.get(&key) == Some(&connection) {
            cx.connections.by_peer.remove(&key);
        }
    }
    Some(flow)
}

/// A peer that proved who it is lets us send by its connection what is for its listening port: RFC 5923 §5. Over TLS only
/// (§8.1), and for one port of a connection.
pub(crate) fn reuse(cx: &mut Context, flow: Flow, port: u16) {
    let alias = SocketAddr::new(flow.peer.ip(), port);
    let Some(open) = flow
        .connection
        .and_then(|connection| cx.connections.open.get_mut(&connection))
        .filter(|open| open.alias.is_none())
    else {
        return;
    };
    open.alias = Some(alias);
    if let Some(connection) = flow.connection {
        let key = (flow.zone, flow.transport, alias);
        cx.connections.by_peer.insert(key, connection);
    }
}

/// Close a connection from our side.
pub(crate) fn close(cx: &mut Context, connection: ConnectionId) {
    if closed(cx, connection).is_some() {
        cx.emit(Output::CloseStream { connection });
    }
}

/// Something came by a connection: its time begins anew, short if a message is unfinished.
pub(crate) fn touched(cx: &mut Context, connection: ConnectionId) {
    let Some(open) = cx.connections.open.get(&connection) else {
        return;
    };
    let stranger = cx.surroundings.peer(open.flow.zone, open.flow.peer.ip()) == Peer::Stranger;
    let idle = Duration::from_secs(u64::from(
        cx.settings().limits.idle_connection_seconds.max(1),
    ));
    let wait = match (open.stream.is_waiting(), stranger) {
        (true, _) => UNFINISHED,
        (false, true) => idle.min(STRANGER_IDLE),
        (false, false) => idle,
    };
    let at = cx.now + wait;
    cx.timers.set(TimerKey::Connection(connection.0), at);
}

/// Own address in a zone that a far end can send requests to: the listener of that transport, otherwise any listener.
pub(crate) fn own_address(cx: &Context, hop: &NextHop) -> Option<SocketAddr> {
    let address = hop.peer().ip();
    [
        hop.transport(),
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Ws,
        Transport::Wss,
    ]
    .into_iter()
    .find_map(|transport| cx.surroundings.own(hop.zone(), transport, address))
    .or(match hop {
        NextHop::Flow(flow) => Some(flow.local),
        NextHop::Address { .. } => None,
    })
}

/// Send a message; one of a client transaction (`client`) may have to wait for its connection.
pub(crate) fn send(
    cx: &mut Context,
    hop: &NextHop,
    client: Option<u64>,
    bytes: Vec<u8>,
) -> Result<(), Unreachable> {
    match *hop {
        NextHop::Flow(flow) => send_by_flow(cx, flow, client, bytes),
        NextHop::Address {
            zone,
            transport: Transport::Udp,
            peer,
        } => {
            let local = cx
                .surroundings
                .own(zone, Transport::Udp, peer.ip())
                .ok_or(Unreachable)?;
            cx.emit(Output::Datagram {
                zone,
                local,
                peer,
                bytes,
            });
            Ok(())
        }
        NextHop::Address {
            zone,
            transport,
            peer,
        } => match cx.connections.to(zone, transport, peer) {
            Some(flow) => send_by_flow(cx, flow, client, bytes),
            None => send_by_new_connection(cx, zone, transport, peer, client, bytes),
        },
    }
}

fn send_by_flow(
    cx: &mut Context,
    flow: Flow,
    client: Option<u64>,
    bytes: Vec<u8>,
) -> Result<(), Unreachable> {
    match flow.connection {
        None => cx.emit(Output::Datagram {
            zone: flow.zone,
            local: flow.local,
            peer: flow.peer,
            bytes,
        }),
        Some(connection) if cx.connections.open.contains_key(&connection) => {
            cx.emit(Output::Stream { connection, bytes });
        }
        Some(_) => {
            // RFC 3261 §18.2.2: the connection is gone, its far end is not, if it is one that the settings know.
            let peer = cx
                .surroundings
                .stream_of(flow.zone, flow.transport, flow.peer.ip())
                .ok_or(Unreachable)?;
            return match cx.connections.to(flow.zone, flow.transport, peer) {
                Some(Flow {
                    connection: Some(connection),
                    ..
                }) => {
                    cx.emit(Output::Stream { connection, bytes });
                    Ok(())
                }
                _ => send_by_new_connection(cx, flow.zone, flow.transport, peer, client, bytes),
            };
        }
    }
    Ok(())
}

fn send_by_new_connection(
    cx: &mut Context,
    zone: ZoneId,
    transport: Transport,
    peer: SocketAddr,
    client: Option<u64>,
    bytes: Vec<u8>,
) -> Result<(), Unreachable> {
    let under_way = cx
        .connections
        .connecting
        .values_mut()
        .find(|asked| asked.zone == zone && asked.transport == transport && asked.peer == peer);
    if let Some(asked) = under_way {
        if asked.waiting.len() >= WAITING {
            return Err(Unreachable);
        }
        asked.waiting.push((client, bytes));
        return Ok(());
    }
    let limit = usize::try_from(cx.settings().limits.connections).unwrap_or(usize::MAX);
    if cx.connections.len() >= limit {
        return Err(Unreachable);
    }
    let id = cx.requests.issue(Purpose::Connect);
    cx.connections.connecting.insert(
        id,
        Connecting {
            zone,
            transport,
            peer,
            waiting: vec![(client, bytes)],
        },
    );
    if transport == Transport::Tcp {
        cx.timers.set(TimerKey::Connecting(id.0), cx.now + PATIENCE);
    }
    cx.emit(Output::Broker(ToBroker::Connect {
        id,
        zone,
        transport,
        peer,
    }));
    Ok(())
}
