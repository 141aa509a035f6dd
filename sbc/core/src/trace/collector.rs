//! The collector of captured messages: a UDP socket that the firewall lends while the settings name one. There is at most
//! one; without it nothing is made for it.

use std::{net::SocketAddr, time::Duration};

use broker_proto::{broker::ToBroker, settings::Transport};

use super::{
    Way,
    hep::{self, Captured},
};
use crate::{
    context::Context,
    io::{ConnectionId, Output},
    requests::Purpose,
};

/// How long a refused wish for a socket rests.
const AGAIN: Duration = Duration::from_secs(10);

/// Where captured messages go.
#[derive(Default)]
pub(crate) struct Collector {
    /// Whom the socket reaches, and the socket.
    socket: Option<(SocketAddr, ConnectionId)>,
    /// A socket is asked for.
    asked: bool,
    /// Not before then again.
    rest_until: Option<std::time::Instant>,
}

impl Collector {
    /// Whether there is one to send to.
    pub(crate) const fn is_there(&self) -> bool {
        self.socket.is_some()
    }
}

impl Context {
    /// Have a socket to the collector that the settings name, and to no other.
    pub(crate) fn want_collector(&mut self) {
        let wanted = self.settings().collector;
        let now = self.now;
        let peer = wanted.map(|collector| collector.address);
        if let Some((have, connection)) = self.collector.socket
            && Some(have) != peer
        {
            self.collector.socket = None;
            self.emit(Output::CloseStream { connection });
        }
        let resting = self.collector.rest_until.is_some_and(|until| until > now);
        let Some(collector) =
            wanted.filter(|_| self.collector.socket.is_none() && !self.collector.asked && !resting)
        else {
            return;
        };
        self.collector.asked = true;
        let id = self.requests.issue(Purpose::Collector);
        self.emit(Output::Broker(ToBroker::Connect {
            id,
            zone: collector.zone,
            transport: Transport::Udp,
            peer: collector.address,
        }));
    }

    /// The socket was lent.
    pub(crate) fn collector_reached(&mut self, peer: SocketAddr, connection: ConnectionId) {
        self.collector.asked = false;
        if self.settings().collector.map(|collector| collector.address) == Some(peer) {
            self.collector.socket = Some((peer, connection));
        } else {
            self.emit(Output::CloseStream { connection });
            self.want_collector();
        }
    }

    /// The socket was not lent, or the firewall that was asked is gone.
    pub(crate) fn collector_refused(&mut self) {
        self.collector.asked = false;
        self.collector.rest_until = self.now.checked_add(AGAIN);
        self.counters.count("hep_refused_total", "", "");
    }

    /// The socket is gone.
    pub(crate) fn collector_lost(&mut self, connection: ConnectionId) {
        if self
            .collector
            .socket
            .is_some_and(|(_, have)| have == connection)
        {
            self.collector.socket = None;
        }
    }

    /// One message to the collector, `text` without its secrets.
    pub(super) fn capture(&mut self, way: Way, incoming: bool, call_id: &str, text: &str) {
        let Some((_, connection)) = self.collector.socket else {
            return;
        };
        let (source, destination) = if incoming {
            (way.peer, way.local)
        } else {
            (way.local, way.peer)
        };
        let bytes = hep::packet(&Captured {
            source,
            destination,
            transport: way.transport,
            unix_ms: self.wall_clock(),
            agent: 1,
            correlation: call_id,
            payload: text,
        });
        self.counters.count("hep_packets_total", "", "");
        self.emit(Output::Capture { connection, bytes });
    }
}
