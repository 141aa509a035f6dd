//! Which way a message takes where the standard leaves no choice: a request too large for a datagram goes by a stream
//! (RFC 3261 §18.1.1), an answer goes back where its request came from (§18.2.2, RFC 3581).

use std::net::SocketAddr;

use broker_proto::settings::Transport;
use sbc_sip::{headers, message::Request, uri::HostPort};

use crate::{
    context::Context,
    transport::{self, Flow, NextHop},
};

/// Octets of a request that may go by a datagram: the path's MTU is never known here (RFC 3261 §18.1.1).
const DATAGRAM: usize = 1300;

/// A request with the way that its size allows.
pub(super) struct Sized {
    pub(super) hop: NextHop,
    pub(super) message: (Request, Vec<u8>),
    /// The datagram's way, if it was too large for that: should there be no stream, it goes by it all the same.
    pub(super) small: Option<NextHop>,
}

/// The way of a request: a stream instead of datagrams if it is too large. Clients are reached by the way that they came
/// and no other, and where no stream can be had a large datagram is better than none.
pub(super) fn for_size(
    cx: &mut Context,
    hop: NextHop,
    (mut request, octets): (Request, Vec<u8>),
) -> Sized {
    let stream = match hop {
        NextHop::Address {
            zone,
            transport: Transport::Udp,
            peer,
        } if octets.len() > DATAGRAM
            && cx.surroundings.may_stream(zone, peer)
            && cx.connections.may_stream(cx.now, zone, peer) =>
        {
            NextHop::Address {
                zone,
                transport: Transport::Tcp,
                peer,
            }
        }
        _ => {
            return Sized {
                hop,
                message: (request, octets),
                small: None,
            };
        }
    };
    let Some((via, (transport, sent_by))) =
        request.headers.vias.first_mut().zip(via_of(cx, &stream))
    else {
        return Sized {
            hop,
            message: (request, octets),
            small: None,
        };
    };
    via.transport = transport;
    via.sent_by = sent_by;
    cx.counters.count("sip_requests_too_large_total", "", "");
    let octets = request.to_bytes();
    Sized {
        hop: stream,
        message: (request, octets),
        small: Some(hop),
    }
}

/// What a Via says of a way: transport, and where that transport is listened to. None if it is not: the far end could not
/// answer after the connection is gone.
pub(super) fn via_of(cx: &Context, hop: &NextHop) -> Option<(headers::Transport, HostPort)> {
    let own = cx
        .surroundings
        .own(hop.zone(), hop.transport(), hop.peer().ip())?;
    Some((transport::via_word(hop.transport()), own.into()))
}

/// The way back of a request's answers: where it came from. A datagram's sender that listens elsewhere than it sends from,
/// and does not ask for `rport`, is answered where its Via says, if the settings know that address as a peer's: nobody else
/// can aim our answers, and the firewall would not let them pass. `maddr` is not followed for the same reason.
pub(super) fn back(cx: &Context, flow: Flow, request: &Request) -> NextHop {
    let named = request
        .top_via()
        .filter(|via| flow.connection.is_none() && via.rport().is_none())
        .map(|via| SocketAddr::new(flow.peer.ip(), via.port()))
        .filter(|named| cx.surroundings.is_configured(flow.zone, *named));
    NextHop::Flow(Flow {
        peer: named.unwrap_or(flow.peer),
        ..flow
    })
}
