//! Streams: connections that come and go, octets cut into messages. RFC 3261 §18.3, RFC 5626 §3.5.1 for keep-alives.

use sbc_sip::framing::{Frame, PING, PONG};

use crate::{
    core::Core,
    io::{ConnectionId, Output},
    surroundings::Peer,
    transactions,
    transport::{self, Flow},
};

impl Core {
    pub(crate) fn stream_opened(&mut self, flow: Flow) {
        let Some(connection) = flow.connection else {
            return;
        };
        let limit = usize::try_from(self.cx.settings().limits.connections).unwrap_or(usize::MAX);
        if self.stopping || self.cx.connections.len() >= limit {
            self.cx
                .counters
                .count("sip_refused_total", "reason", "connections");
            self.cx.emit(Output::CloseStream { connection });
            return;
        }
        transport::opened(&mut self.cx, connection, flow);
    }

    pub(crate) fn stream_closed(&mut self, connection: ConnectionId) {
        self.cx.collector_lost(connection);
        let moved = self.names.lost(&mut self.cx, connection);
        self.moved(&moved);
        if let Some(flow) = transport::closed(&mut self.cx, connection) {
            self.connection_gone(&flow);
        }
    }

    /// What was asked by a connection fails with it (RFC 3261 §18.4), and who was registered by it is reached no more.
    fn connection_gone(&mut self, flow: &Flow) {
        let known = self.cx.surroundings.peer(flow.zone, flow.peer.ip()) != Peer::Stranger
            || self.registration.bindings.is_registered(flow);
        if known {
            transactions::connection_gone(&mut self.cx, flow);
        }
        self.registration.connection_closed(&mut self.cx, flow);
    }

    /// Close a connection and forget what lived by it.
    pub(crate) fn close_stream(&mut self, connection: ConnectionId) {
        if let Some(flow) = self.cx.connections.flow(connection) {
            transport::close(&mut self.cx, connection);
            self.connection_gone(&flow);
        }
    }

    pub(crate) fn stream(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(flow) = self.cx.connections.flow(connection) else {
            let moved = self.names.stream(&mut self.cx, connection, bytes);
            return self.moved(&moved);
        };
        if flow.transport.is_websocket() {
            return self.websocket_message(connection, flow, bytes);
        }
        let Some(stream) = self.cx.connections.stream_mut(connection) else {
            return;
        };
        let was_waiting = stream.is_waiting();
        stream.handle(bytes);
        let mut any = false;
        // A message may be the connection's last.
        while let Some(stream) = self.cx.connections.stream_mut(connection) {
            match stream.poll() {
                Ok(Some(Frame::Message(message))) => self.message(flow, &message),
                Ok(Some(Frame::Ping)) => self.pong(flow),
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => break,
                Err(offence) => {
                    self.cx
                        .counters
                        .count("sip_refused_total", "reason", offence.reason());
                    self.close_stream(connection);
                    return;
                }
            }
            any = true;
        }
        // A sender that trickles one octet at a time wins no time by it.
        if any || !was_waiting {
            transport::touched(&mut self.cx, connection);
        }
    }

    /// RFC 7118 §4: a WebSocket message is one SIP message, or a keep-alive of RFC 5626 as over TCP.
    fn websocket_message(&mut self, connection: ConnectionId, flow: Flow, bytes: &[u8]) {
        match bytes {
            PING => self.pong(flow),
            PONG => {}
            message => self.message(flow, message),
        }
        // A stranger wins no time by keep-alives.
        if bytes != PING && bytes != PONG || self.knows(&flow) {
            transport::touched(&mut self.cx, connection);
        }
    }

    fn knows(&self, flow: &Flow) -> bool {
        self.cx.surroundings.peer(flow.zone, flow.peer.ip()) != Peer::Stranger
            || self.registration.bindings.is_registered(flow)
    }

    fn pong(&mut self, flow: Flow) {
        if let (true, Some(connection)) = (self.knows(&flow), flow.connection) {
            self.cx.emit(Output::Stream {
                connection,
                bytes: PONG.to_vec(),
            });
        }
    }

    /// A connection was idle for too long, or a message stayed unfinished.
    pub(crate) fn connection_timer(&mut self, connection: ConnectionId) {
        let Some(flow) = self.cx.connections.flow(connection) else {
            return;
        };
        let unfinished = self
            .cx
            .connections
            .stream_mut(connection)
            .is_some_and(|stream| stream.is_waiting());
        let in_use = !unfinished
            && (self.registration.bindings.is_registered(&flow)
                || self.calls.values().any(|call| call.lives_by(&flow)));
        if in_use {
            transport::touched(&mut self.cx, connection);
        } else {
            self.cx.counters.count(
                "sip_connections_closed_total",
                "reason",
                if unfinished { "unfinished" } else { "idle" },
            );
            self.close_stream(connection);
        }
    }
}
