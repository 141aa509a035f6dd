//! All transactions: matched, timed, answered. RFC 3261 §17, with the Accepted state of RFC 6026.
//!
//! A request that leaves has an [`Owner`]; what becomes of it is an [`Event`], taken by the core after each input. A
//! request that comes in gets a number by which whoever serves it answers.

mod client;
mod server;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use broker_proto::settings::ZoneId;
use sbc_media::relay::Side;
use sbc_sip::message::Response;

pub(crate) use client::{
    cancel, receive_response, request, request_within, send_ack, send_success_again, unreachable,
};
pub(crate) use server::{
    Incoming, absorb, acknowledged, belongs_to, call_of, forget_server, invite_of_cancel,
    receive_request, respond, respond_plain,
};

use client::Client;
use server::Server;

use crate::context::Context;

/// Estimate of the round trip (RFC 3261 §17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// Longest wait between retransmissions of a request that is not INVITE, or of a response to INVITE.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// Longest time a message stays in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// 64*T1: timers B, F, H, J, L, M.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(32);
/// Timer D: at least 32 s on unreliable transports.
const TIMER_D: Duration = Duration::from_secs(32);

/// Server transactions at most; a request beyond is not served.
const SERVERS: usize = 50_000;

/// What a request of a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The INVITE of an exchange.
    Invite,
    /// A request passed through from the other leg, whose server transaction this is.
    Pass(u64),
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody wants to know.
    Nobody,
    /// A call.
    Call { call: u64, side: Side, task: Task },
    /// A relayed REGISTER, by its server transaction.
    Registration(u64),
    /// Our registration at the trunk of that index.
    TrunkRegistration(usize),
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Event {
    /// A response; for a request that is not INVITE final ones only.
    Response {
        client: u64,
        owner: Owner,
        response: Box<Response>,
    },
    /// Over without (another) final response: `failed` with the status that stands for it, or done with its 2xx.
    Ended {
        client: u64,
        owner: Owner,
        failed: Option<u16>,
    },
    /// A server transaction ended that nobody had answered.
    ServerEnded { server: u64 },
}

/// What tells one server transaction from another (RFC 3261 §17.2.3), and one source from another.
type ServerKey = (ZoneId, IpAddr, String, String, String);

/// The tables.
#[derive(Default)]
pub(crate) struct Transactions {
    clients: BTreeMap<u64, Client>,
    /// By branch and method.
    branches: BTreeMap<(String, String), u64>,
    servers: BTreeMap<u64, Server>,
    keys: BTreeMap<ServerKey, u64>,
    events: VecDeque<Event>,
}

impl Transactions {
    /// Something that became of a transaction and has not been dealt with.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Client transactions under way.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Server transactions under way.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Whether a request of ours has no final response yet.
    pub(crate) fn awaits_answers(&self) -> bool {
        self.clients.values().any(Client::is_pending)
    }

    /// Whether an INVITE of ours has no final response yet.
    pub(crate) fn is_inviting(&self, client: u64) -> bool {
        self.clients.get(&client).is_some_and(Client::is_pending)
    }
}

/// A client transaction's deadline has come.
pub(crate) fn client_timer(cx: &mut Context, client: u64) {
    client::timer(cx, client);
}

/// A server transaction's deadline has come.
pub(crate) fn server_timer(cx: &mut Context, server: u64) {
    server::timer(cx, server);
}
