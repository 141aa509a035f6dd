//! Server transactions: RFC 3261 §17.2, RFC 6026 §7.1. Answers go back the way that the request came (§18.2.2 and
//! RFC 3581: by its source address on UDP, by its connection on a stream).

use std::time::{Duration, Instant};

use sbc_sip::{
    message::{Request, Response},
    method::Method,
};

use super::{Event, SERVERS, ServerKey, T1, T2, T4, TIMEOUT};
use crate::{
    context::Context,
    outgoing::{self, Answer},
    timers::TimerKey,
    transport::{self, Flow, NextHop},
};

/// States by their names in RFC 3261 §17.2 and RFC 6026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No final response yet.
    Proceeding,
    /// A final response was sent; of INVITE one that awaits its ACK. Also: never to be answered.
    Completed,
    /// The ACK came.
    Confirmed,
    /// A 2xx to INVITE was sent; its repetition is the call's.
    Accepted,
}

/// One server transaction.
pub(super) struct Server {
    request: Request,
    flow: Flow,
    key: ServerKey,
    state: State,
    /// Last response, for repetitions.
    last: Option<Vec<u8>>,
    /// The call that an INVITE belongs to.
    call: Option<u64>,
    /// To tag of responses that make no dialog.
    tag: String,
    interval: Duration,
    resend: Option<Instant>,
    until: Option<Instant>,
}

impl Server {
    fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    fn reliable(&self) -> bool {
        self.flow.connection.is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.resend, self.until].into_iter().flatten().min()
    }
}

/// What a request from the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// New: to be served and answered under this number.
    New(u64),
    /// A repetition or the ACK of a refusal: dealt with.
    Absorbed,
    /// There is no room for it.
    Full,
}

fn key_of(flow: &Flow, request: &Request, method: &str) -> ServerKey {
    let (branch, sent_by) = outgoing::transaction_name(request);
    (
        flow.zone,
        flow.peer.ip(),
        branch,
        sent_by,
        method.to_owned(),
    )
}

/// Whether a request repeats one that is being served, or acknowledges a refusal: then it is dealt with. Changes no table
/// otherwise, so anybody may ask.
pub(crate) fn absorb(cx: &mut Context, flow: &Flow, request: &Request) -> bool {
    let ack = request.method == Method::Ack;
    let method = if ack {
        "INVITE"
    } else {
        request.method.as_str()
    };
    let key = key_of(flow, request, method);
    let Some(number) = cx.transactions.keys.get(&key).copied() else {
        return false;
    };
    let now = cx.now;
    let Some(server) = cx.transactions.servers.get_mut(&number) else {
        return false;
    };
    if ack {
        // The ACK of a 2xx is a request of its own, with another branch (RFC 3261 §13.2.2.4).
        if server.state == State::Completed {
            server.state = State::Confirmed;
            server.resend = None;
            // Timer I.
            server.until = Some(if server.reliable() { now } else { now + T4 });
            let deadline = server.deadline();
            set_timer(cx, number, deadline);
        }
        return server_is_refused(cx, number);
    }
    if matches!(server.state, State::Proceeding | State::Completed)
        && let Some(bytes) = server.last.clone()
    {
        let hop = NextHop::Flow(server.flow);
        let _unreachable = transport::send(cx, &hop, None, bytes);
    }
    true
}

fn server_is_refused(cx: &Context, number: u64) -> bool {
    cx.transactions
        .servers
        .get(&number)
        .is_some_and(|server| matches!(server.state, State::Completed | State::Confirmed))
}

/// A request (no ACK) that is to be served.
pub(crate) fn receive_request(cx: &mut Context, flow: Flow, request: &Request) -> Incoming {
    if absorb(cx, &flow, request) {
        return Incoming::Absorbed;
    }
    if cx.transactions.servers.len() >= SERVERS {
        return Incoming::Full;
    }
    let number = cx.next_number();
    let key = key_of(&flow, request, request.method.as_str());
    let tag = cx.identity.tag();
    let invite = request.method == Method::Invite;
    let server = Server {
        request: request.clone(),
        flow,
        key: key.clone(),
        state: State::Proceeding,
        last: None,
        call: None,
        tag,
        interval: T1,
        resend: None,
        // Whoever serves a request that is not INVITE answers in 64*T1 or never.
        until: (!invite).then_some(cx.now + TIMEOUT + T4),
    };
    set_timer(cx, number, server.deadline());
    cx.transactions.keys.insert(key, number);
    cx.transactions.servers.insert(number, server);
    Incoming::New(number)
}

/// The INVITE that a CANCEL takes back (RFC 3261 §9.2), if it is being served.
pub(crate) fn invite_of_cancel(cx: &Context, flow: &Flow, cancel: &Request) -> Option<u64> {
    cx.transactions
        .keys
        .get(&key_of(flow, cancel, "INVITE"))
        .copied()
}

/// An INVITE belongs to a call: its CANCEL will be that call's.
pub(crate) fn belongs_to(cx: &mut Context, number: u64, call: u64) {
    if let Some(server) = cx.transactions.servers.get_mut(&number) {
        server.call = Some(call);
    }
}

/// The call that an INVITE belongs to.
pub(crate) fn call_of(cx: &Context, number: u64) -> Option<u64> {
    cx.transactions.servers.get(&number)?.call
}

/// Answer a request. `None`: its transaction is over or has its final answer.
pub(crate) fn respond(cx: &mut Context, number: u64, answer: Answer<'_>) -> Option<Response> {
    let server = cx.transactions.servers.get(&number)?;
    if server.state != State::Proceeding {
        return None;
    }
    let response = outgoing::response(&server.request, &server.tag, answer);
    let bytes = response.to_bytes();
    let (now, status) = (cx.now, response.status);
    let hop = {
        let server = cx.transactions.servers.get_mut(&number)?;
        server.last = Some(bytes.clone());
        if !status.is_provisional() {
            complete(server, now, status.is_success());
        }
        let deadline = server.deadline();
        let hop = NextHop::Flow(server.flow);
        set_timer(cx, number, deadline);
        hop
    };
    cx.counters.count(
        "sip_responses_sent_total",
        "class",
        class_word(status.as_u16()),
    );
    let _unreachable = transport::send(cx, &hop, None, bytes);
    Some(response)
}

fn complete(server: &mut Server, now: Instant, success: bool) {
    let reliable = server.reliable();
    match (server.is_invite(), success) {
        (true, true) => {
            server.state = State::Accepted;
            // Timer L, RFC 6026 §8.3; a moment more, since the call's own clock is the same.
            server.until = Some(now + TIMEOUT + T1);
        }
        (true, false) => {
            server.state = State::Completed;
            server.interval = T1;
            server.resend = (!reliable).then_some(now + T1);
            // Timer H.
            server.until = Some(now + TIMEOUT);
        }
        (false, _) => {
            server.state = State::Completed;
            // Timer J.
            server.until = Some(if reliable { now } else { now + TIMEOUT });
        }
    }
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
    let Some(server) = cx.transactions.servers.get_mut(&number) else {
        return;
    };
    server.state = State::Completed;
    server.last = None;
    server.resend = None;
    server.until = Some(now + TIMEOUT);
    let deadline = server.deadline();
    set_timer(cx, number, deadline);
}

/// The ACK of a 2xx came: nothing more is to be taken in but late repetitions of the INVITE.
pub(crate) fn acknowledged(cx: &mut Context, number: u64) {
    let now = cx.now;
    let Some(server) = cx
        .transactions
        .servers
        .get_mut(&number)
        .filter(|server| server.state == State::Accepted)
    else {
        return;
    };
    server.until = Some(if server.reliable() { now } else { now + T4 });
    let deadline = server.deadline();
    set_timer(cx, number, deadline);
}

pub(super) fn timer(cx: &mut Context, number: u64) {
    let now = cx.now;
    let Some(server) = cx.transactions.servers.get_mut(&number) else {
        return;
    };
    if server.until.is_some_and(|until| until <= now) {
        let unanswered = server.state == State::Proceeding;
        if let Some(server) = cx.transactions.servers.remove(&number) {
            cx.transactions.keys.remove(&server.key);
        }
        if unanswered {
            cx.transactions
                .events
                .push_back(Event::ServerEnded { server: number });
        }
        return;
    }
    if server.resend.is_some_and(|resend| resend <= now) {
        // Timer G.
        server.interval = (server.interval * 2).min(T2);
        server.resend = Some(now + server.interval);
        let (hop, bytes) = (NextHop::Flow(server.flow), server.last.clone());
        if let Some(bytes) = bytes {
            let _unreachable = transport::send(cx, &hop, None, bytes);
        }
    }
    let deadline = cx
        .transactions
        .servers
        .get(&number)
        .and_then(Server::deadline);
    set_timer(cx, number, deadline);
}

fn set_timer(cx: &mut Context, number: u64, deadline: Option<Instant>) {
    match deadline {
        Some(at) => cx.timers.set(TimerKey::Server(number), at),
        None => cx.timers.cancel(TimerKey::Server(number)),
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
