//! All transactions of the core: `sbc_sip::transaction`'s layer (RFC 3261 §17, RFC 6026) with what the core keeps beside
//! each, and the ways that its messages go. The functions here are all that the rest of the core sees of it.
//!
//! A request that leaves has an [`Owner`]; what becomes of it is an [`Event`], taken by the core after each input. A
//! request that comes in gets a number by which whoever serves it answers. Answers go back the way that the request came
//! (RFC 3261 §18.2.2, RFC 3581: by its source address on UDP, by its connection on a stream).

mod way;

use std::{net::IpAddr, time::Duration, time::Instant};

use broker_proto::{
    RequestId,
    settings::{Transport, ZoneId},
};
use sbc_media::relay::Side;
use sbc_sip::{
    headers::Field,
    message::{Request, Response},
    method::Method,
    status::StatusCode,
    transaction::{self, ClientEnd, ClientId, Layer, LayerLimits, Of, ServerEnd, ServerId, Timers},
};

use crate::{
    context::Context,
    outgoing::{self, Answer},
    policy::session_id,
    transport::{self, Flow, NextHop},
};

/// Estimate of the round trip (RFC 3261 §17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// Longest wait between retransmissions of a request that is not INVITE, or of a response to INVITE.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// Longest time a message stays in the network.
const T4: Duration = Duration::from_secs(5);
/// 64*T1: timers B, F, H, J, L, M.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(32);

/// All of them.
pub(crate) const TIMERS: Timers = Timers {
    t1: T1,
    t2: T2,
    t4: T4,
};

/// An INVITE that was answered stays for 64*T1 on our side as client (some 300 octets), for T4 after the ACK as server.
const LIMITS: LayerLimits = LayerLimits {
    clients: 200_000,
    servers: 50_000,
};
/// Room in the table that only requests inside dialogs and CANCEL get, one part of so many.
const RESERVED: usize = 10;

/// What a request of a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The INVITE of an exchange.
    Invite,
    /// An offer on its way by another request than the INVITE of an exchange.
    Passage,
    /// A refresh or offer of our own.
    Own,
    /// A REFER passed through, whose server transaction this is.
    Refer(u64),
    /// A NOTIFY about a transfer.
    Report,
    /// A request passed through from the other leg, whose server transaction this is.
    Pass(u64),
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody wants to know.
    #[default]
    Nobody,
    /// A call.
    Call { call: u64, side: Side, task: Task },
    /// A relayed REGISTER, by its server transaction.
    Registration(u64),
    /// Asks whether the registrar is there, by its address of that index.
    RegistrarProbe(usize),
    /// Keeps the way to a phone open, by its binding.
    Keepalive(u64),
    /// A request beside calls that was sent on, by its server transaction.
    Message(u64),
    /// A subscription and what of it.
    Subscription(u64, crate::subscription::Task),
    /// Our registration at the trunk of that index.
    TrunkRegistration(usize),
    /// A question whether a trunk's address is alive, by its number.
    TrunkHealth(u64),
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

/// What is kept with a client transaction.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    owner: Owner,
    /// The datagram's way, for a request that was too large for one and goes by a stream.
    small: Option<NextHop>,
}

/// What is kept with a server transaction.
#[derive(Debug)]
struct Served {
    /// To tag of responses that make no dialog.
    tag: String,
    /// The call that an INVITE belongs to.
    call: Option<u64>,
    /// Session-ID of its answers.
    session: Option<Field>,
}

/// One zone and one address share transactions, no others (RFC 3261 §17.2.3 goes by sent-by, which anybody can write).
impl transaction::Flow for NextHop {
    type Scope = (ZoneId, IpAddr);

    fn scope(&self) -> Self::Scope {
        (self.zone(), self.peer().ip())
    }

    fn is_reliable(&self) -> bool {
        self.transport() != Transport::Udp
    }
}

/// The tables.
pub(crate) struct Transactions {
    layer: Layer<NextHop, Asked, Served>,
    /// Server transactions from which on new calls and registrations find no room.
    crowded: usize,
}

impl Default for Transactions {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl Transactions {
    /// Empty tables with room for so many.
    pub(crate) fn new(limits: LayerLimits) -> Self {
        Self {
            layer: Layer::new(limits, TIMERS),
            crowded: limits.servers - limits.servers / RESERVED,
        }
    }

    /// Whether there is no room but for what ends calls.
    pub(crate) fn is_crowded(&self) -> bool {
        self.servers() >= self.crowded
    }

    /// Client transactions under way.
    pub(crate) fn clients(&self) -> usize {
        self.layer.len().0
    }

    /// Server transactions under way.
    pub(crate) fn servers(&self) -> usize {
        self.layer.len().1
    }

    /// Whether a request of ours has no final response yet.
    pub(crate) fn awaits_answers(&self) -> bool {
        self.layer.awaits_responses()
    }

    /// Whether an INVITE of ours has no final response yet.
    pub(crate) fn is_inviting(&self, client: u64) -> bool {
        self.layer.client(ClientId(client)).is_some()
    }

    /// The earliest deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.layer.poll_timeout()
    }

    /// Whether the same request is being served that came by another way. RFC 3261 §8.2.2.2.
    pub(crate) fn is_merged(&self, request: &Request) -> bool {
        self.layer.is_merged(request)
    }

    /// Whether a request is one of ours that has come back unchanged: a Via of ours in it, and the Request-URI with which
    /// we sent it. With another Request-URI it is a spiral, which is how a proxy inside hands a call back to us. RFC 3261
    /// §16.3.
    pub(crate) fn is_looped(&self, request: &Request) -> bool {
        request.vias().iter().skip(1).any(|via| {
            self.layer
                .sent(via, &request.method)
                .is_some_and(|sent| sent.uri == request.uri)
        })
    }
}

/// Something that became of a transaction and has not been dealt with.
pub(crate) fn next_event(cx: &mut Context) -> Option<Event> {
    loop {
        match cx.transactions.layer.poll_event()? {
            transaction::Event::Response(client, asked, response) => {
                let invite = response.headers.cseq.method == Method::Invite;
                if invite || response.status.is_final() {
                    return Some(Event::Response {
                        client: client.0,
                        owner: asked.owner,
                        response,
                    });
                }
            }
            transaction::Event::ClientEnded(client, asked, end) => {
                return Some(Event::Ended {
                    client: client.0,
                    owner: asked.owner,
                    failed: failure(cx, end),
                });
            }
            transaction::Event::ServerEnded(server, _, ServerEnd::Unanswered) => {
                return Some(Event::ServerEnded { server: server.0 });
            }
            transaction::Event::ServerEnded(_, _, ServerEnd::NoAck) => {
                cx.counters.count("sip_unacknowledged_total", "", "");
            }
            transaction::Event::ServerEnded(_, _, ServerEnd::Done) => {}
        }
    }
}

/// The status that stands for an end without final response. RFC 3261 §8.1.3.1.
fn failure(cx: &mut Context, end: ClientEnd) -> Option<u16> {
    let (reason, status) = match end {
        ClientEnd::Done => return None,
        ClientEnd::Timeout => ("timeout", 408),
        ClientEnd::Unreachable => ("unreachable", 503),
        ClientEnd::NoRoom => ("transactions-full", 503),
    };
    cx.counters
        .count("sip_requests_failed_total", "reason", reason);
    Some(status)
}

/// Deadlines of transactions that have come.
pub(crate) fn handle_timeout(cx: &mut Context) {
    cx.transactions.layer.handle_timeout(cx.now);
    flush(cx);
}

/// Send a request; what becomes of it is an event for its owner.
pub(crate) fn request(cx: &mut Context, hop: NextHop, request: Request, owner: Owner) -> u64 {
    request_within(cx, hop, request, owner, TIMEOUT)
}

/// The same where something must be heard within `patience`, which is less than timer B where there is another target.
pub(crate) fn request_within(
    cx: &mut Context,
    hop: NextHop,
    request: Request,
    owner: Owner,
    patience: Duration,
) -> u64 {
    let octets = request.to_bytes();
    let sized = way::for_size(cx, hop, (request, octets));
    let asked = Asked {
        owner,
        small: sized.small,
    };
    let now = cx.now;
    let client = cx
        .transactions
        .layer
        .request(now, sized.message, sized.hop, asked, patience);
    flush(cx);
    client.0
}

/// The request could not be sent, and no other way is to be tried. RFC 3261 §8.1.3.1.
pub(crate) fn failed(cx: &mut Context, number: u64) {
    cx.transactions.layer.handle_unreachable(ClientId(number));
    flush(cx);
}

/// The request could not be sent at all: by another way if there is one, otherwise RFC 3261 §8.1.3.1 makes that a 503.
pub(crate) fn unreachable(cx: &mut Context, number: u64) {
    let client = ClientId(number);
    let small = cx
        .transactions
        .layer
        .client(client)
        .and_then(|(_, asked)| asked.small);
    let now = cx.now;
    let rerouted = small.is_some_and(|hop| match way::via_of(cx, &hop) {
        Some(via) => cx.transactions.layer.reroute(now, client, hop, via),
        None => false,
    });
    if !rerouted {
        cx.transactions.layer.handle_unreachable(client);
    }
    flush(cx);
}

/// A connection takes long: what may go by a datagram all the same does (RFC 3261 §18.1.1 speaks of an answer that says no;
/// a peer whose filter drops the attempt never gives one).
pub(crate) fn connection_overdue(cx: &mut Context, id: RequestId) {
    let layer = &cx.transactions.layer;
    let another = |number| {
        let asked = layer.client(ClientId(number));
        asked.is_some_and(|(_, asked)| asked.small.is_some())
    };
    for client in cx.connections.overdue(cx.now, id, another) {
        cx.counters.count("sip_streams_overdue_total", "", "");
        unreachable(cx, client);
    }
}

/// A connection is gone. What went by it and no other way fails; what went to an address fails if nothing was heard yet:
/// whoever has heard us answers by a connection of its own (RFC 3261 §18.2.2).
pub(crate) fn connection_gone(cx: &mut Context, flow: &Flow) {
    let lost = cx.transactions.layer.pending(|hop, heard| match *hop {
        NextHop::Flow(by) => by.connection == flow.connection,
        NextHop::Address {
            zone,
            transport,
            peer,
        } => !heard && (zone, transport, peer) == (flow.zone, flow.transport, flow.peer),
    });
    for client in lost {
        unreachable(cx, client.0);
    }
}

/// Take an INVITE back: CANCEL as soon as that is allowed.
pub(crate) fn cancel(cx: &mut Context, number: u64) {
    let now = cx.now;
    cx.transactions.layer.cancel(now, ClientId(number));
    flush(cx);
}

/// The same with more fields in the CANCEL (RFC 3326).
pub(crate) fn cancel_with(cx: &mut Context, number: u64, fields: Vec<Field>) {
    let now = cx.now;
    cx.transactions
        .layer
        .cancel_with(now, ClientId(number), fields);
    flush(cx);
}

/// An ACK for a 2xx: no transaction, sent as it is.
pub(crate) fn send_ack(cx: &mut Context, hop: NextHop, ack: Request) {
    let bytes = ack.to_bytes();
    // The far end repeats its 2xx if this does not arrive.
    let _unreachable = transport::send(cx, &hop, None, bytes);
}

/// A 2xx to INVITE once more. RFC 3261 §13.3.1.4.
pub(crate) fn send_success_again(cx: &mut Context, server: u64, response: &Response) {
    let now = cx.now;
    cx.transactions
        .layer
        .respond(now, ServerId(server), response);
    flush(cx);
}

/// A response from the network. `false`: it belongs to no request of ours and is thrown away.
pub(crate) fn receive_response(cx: &mut Context, flow: &Flow, response: Box<Response>) -> bool {
    let now = cx.now;
    let taken = cx
        .transactions
        .layer
        .handle_response(now, response, &NextHop::Flow(*flow));
    flush(cx);
    taken
}

/// Whether a request repeats one that is being served, or acknowledges a refusal: then it is dealt with. Changes no table
/// otherwise, so anybody may ask.
pub(crate) fn absorb(cx: &mut Context, flow: &Flow, request: &Request) -> bool {
    let now = cx.now;
    let absorbed = cx
        .transactions
        .layer
        .absorb(now, request, &NextHop::Flow(*flow));
    flush(cx);
    absorbed
}

/// A request (no ACK) that is to be served; its number, or none if there is no room.
pub(crate) fn receive_request(cx: &mut Context, flow: Flow, request: &Request) -> Option<u64> {
    let served = Served {
        tag: cx.identity.tag(),
        call: None,
        session: session_id::of_answer(cx, &flow, request),
    };
    let hop = way::back(cx, flow, request);
    let now = cx.now;
    let server = cx.transactions.layer.serve(now, request, hop, served);
    server.ok().map(|server| server.0)
}

/// The INVITE that a CANCEL takes back (RFC 3261 §9.2), if it is being served.
pub(crate) fn invite_of_cancel(cx: &Context, flow: &Flow, cancel: &Request) -> Option<u64> {
    let invite = cx
        .transactions
        .layer
        .invite_of(cancel, &NextHop::Flow(*flow))?;
    Some(invite.0)
}

/// An INVITE belongs to a call: its CANCEL will be that call's.
pub(crate) fn belongs_to(cx: &mut Context, number: u64, call: u64) {
    if let Some(served) = cx.transactions.layer.user_mut(ServerId(number)) {
        served.call = Some(call);
    }
}

/// The call that an INVITE belongs to.
pub(crate) fn call_of(cx: &Context, number: u64) -> Option<u64> {
    cx.transactions.layer.server(ServerId(number))?.1.call
}

/// Answer a request. `None`: its transaction is over or has its final answer.
pub(crate) fn respond(cx: &mut Context, number: u64, mut answer: Answer<'_>) -> Option<Response> {
    let server = ServerId(number);
    let (request, served) = cx.transactions.layer.server(server)?;
    if answer.status == StatusCode::REQUEST_TIMEOUT && request.method != Method::Invite {
        // RFC 4320 §4.2: its sender has given up by now, and would take the 408 for another's.
        forget_server(cx, number);
        return None;
    }
    answer.fields.extend(served.session.clone());
    let response = outgoing::response(request, &served.tag, answer);
    let now = cx.now;
    if !cx.transactions.layer.respond(now, server, &response) {
        return None;
    }
    cx.counters.count(
        "sip_responses_sent_total",
        "class",
        class_word(response.status.as_u16()),
    );
    flush(cx);
    Some(response)
}

/// Answer a request that has no transaction and is remembered nowhere: its repetition is answered anew. RFC 3261 §8.2.7.
/// `tag`: the same for the same request.
pub(crate) fn respond_statelessly(
    cx: &mut Context,
    flow: &Flow,
    request: &Request,
    tag: &str,
    answer: Answer<'_>,
) {
    let response = outgoing::response(request, tag, answer);
    cx.counters.count(
        "sip_responses_sent_total",
        "class",
        class_word(response.status.as_u16()),
    );
    let hop = way::back(cx, *flow, request);
    let _unreachable = transport::send(cx, &hop, None, response.to_bytes());
}

/// Answer a request with a status and nothing else.
pub(crate) fn respond_plain(cx: &mut Context, number: u64, status: u16) {
    respond(
        cx,
        number,
        Answer {
            status: outgoing::status(status),
            ..Answer::default()
        },
    );
}

/// Never answer a request, nor its repetitions.
pub(crate) fn forget_server(cx: &mut Context, number: u64) {
    let now = cx.now;
    cx.transactions.layer.forget(now, ServerId(number));
}

/// The ACK of a 2xx came: nothing more is to be taken in but late repetitions of the INVITE.
pub(crate) fn acknowledged(cx: &mut Context, number: u64) {
    let now = cx.now;
    cx.transactions.layer.acknowledged(now, ServerId(number));
}

/// Sends what transactions have to send.
fn flush(cx: &mut Context) {
    while let Some(transmit) = cx.transactions.layer.poll_transmit() {
        let client = match transmit.of {
            Of::Request(client) => Some(client),
            Of::Ack | Of::Response(_) => None,
        };
        if transmit.again {
            cx.counters.count("sip_retransmissions_total", "", "");
        } else if let Some((request, _)) = client.and_then(|id| cx.transactions.layer.client(id)) {
            let method = outgoing::method_word(&request.method);
            cx.counters
                .count("sip_requests_sent_total", "method", method);
        }
        let number = client.map(|client| client.0);
        let sent = transport::send(cx, &transmit.flow, number, transmit.octets);
        // What was sent before may have arrived; and the far end repeats what an answer or ACK lost is for.
        if let (Err(transport::Unreachable), Some(number), false) = (sent, number, transmit.again) {
            unreachable(cx, number);
        }
    }
}

const fn class_word(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "6xx",
    }
}
