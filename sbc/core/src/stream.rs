//! Streams: connections that come and go, octets cut into messages. RFC 3261 §18.3, RFC 5626 §3.5.1 for keep-alives.

use crate::{
    core::Core,
    framing::{self, Front},
    io::{ConnectionId, Output},
    surroundings::Peer,
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
        if let Some(flow) = transport::closed(&mut self.cx, connection) {
            self.registration.connection_closed(&mut self.cx, &flow);
        }
    }

    /// Close a connection and forget what lived by it.
    pub(crate) fn close_stream(&mut self, connection: ConnectionId) {
        if let Some(flow) = self.cx.connections.flow(connection) {
            transport::close(&mut self.cx, connection);
            self.registration.connection_closed(&mut self.cx, &flow);
        }
    }

    pub(crate) fn stream(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(flow) = self.cx.connections.flow(connection) else {
            return;
        };
        let Some(buffer) = self.cx.connections.buffer_mut(connection) else {
            return;
        };
        let was_empty = buffer.is_empty();
        buffer.extend_from_slice(bytes);
        let mut pending = std::mem::take(buffer);
        let complete = self.take_messages(flow, &mut pending);
        let Some(buffer) = self.cx.connections.buffer_mut(connection) else {
            return;
        };
        *buffer = pending;
        // A sender that trickles one octet at a time wins no time by it.
        if complete || was_empty {
            transport::touched(&mut self.cx, connection);
        }
    }

    /// Take whole messages off the front. `true`: at least one was there, or nothing is left.
    fn take_messages(&mut self, flow: Flow, pending: &mut Vec<u8>) -> bool {
        let limit = usize::try_from(self.cx.settings().limits.message_octets).unwrap_or(usize::MAX);
        let mut taken = 0;
        let mut any = false;
        while let Some(rest) = pending.get(taken..).filter(|rest| !rest.is_empty()) {
            match framing::front(rest, limit) {
                Front::Unfinished => break,
                Front::KeepAlive { octets, ping } => {
                    taken += octets;
                    any = true;
                    if ping {
                        self.pong(flow);
                    }
                }
                Front::Message(octets) => {
                    let Some(message) = rest.get(..octets) else {
                        break;
                    };
                    any = true;
                    let message = message.to_vec();
                    taken += octets;
                    self.message(flow, &message);
                    // The message may have been the connection's last.
                    if flow
                        .connection
                        .is_some_and(|connection| self.cx.connections.flow(connection).is_none())
                    {
                        pending.clear();
                        return true;
                    }
                }
                Front::Lost => {
                    let whole = rest.to_vec();
                    pending.clear();
                    self.framing_lost(flow, &whole);
                    return true;
                }
            }
        }
        pending.drain(..taken);
        any || pending.is_empty()
    }

    fn pong(&mut self, flow: Flow) {
        let known = self.cx.surroundings.peer(flow.zone, flow.peer.ip()) != Peer::Stranger
            || self.registration.bindings.is_registered(&flow);
        if let (true, Some(connection)) = (known, flow.connection) {
            self.cx.emit(Output::Stream {
                connection,
                bytes: b"\r\n".to_vec(),
            });
        }
    }

    /// Where the next message begins is not to be known any more: whoever we know is told, then the connection goes.
    fn framing_lost(&mut self, flow: Flow, bytes: &[u8]) {
        self.message(flow, bytes);
        if let Some(connection) = flow.connection {
            self.close_stream(connection);
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
            .buffer_mut(connection)
            .is_some_and(|buffer| !buffer.is_empty());
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
