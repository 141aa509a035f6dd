//! Client transactions: RFC 3261 §17.1, RFC 6026 §7.2, CANCEL by §9.1.

use std::time::{Duration, Instant};

use sbc_sip::{
    message::{Request, Response},
    method::Method,
};

use super::{Event, Owner, T1, T2, T4, TIMEOUT, TIMER_D};
use crate::{
    context::Context,
    outgoing,
    timers::TimerKey,
    transport::{self, Flow, NextHop},
};

/// States by their names in RFC 3261 §17.1 and RFC 6026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// INVITE sent, nothing heard.
    Calling,
    /// Another request sent, nothing heard.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// A final response came; repetitions are taken in.
    Completed,
    /// A 2xx to INVITE came; others may follow.
    Accepted,
}

/// One client transaction.
pub(super) struct Client {
    owner: Owner,
    request: Request,
    key: (String, String),
    hop: NextHop,
    bytes: Vec<u8>,
    state: State,
    reliable: bool,
    interval: Duration,
    resend: Option<Instant>,
    until: Option<Instant>,
    cancel: Cancel,
    ack: Option<Vec<u8>>,
}

/// How far taking an INVITE back has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    /// RFC 3261 §9.1: not before a provisional response.
    Wanted,
    Sent,
}

impl Client {
    fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    /// No final response yet.
    pub(super) fn is_pending(&self) -> bool {
        matches!(
            self.state,
            State::Calling | State::Trying | State::Proceeding
        )
    }

    fn deadline(&self) -> Option<Instant> {
        [self.resend, self.until].into_iter().flatten().min()
    }
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
    let number = cx.next_number();
    let bytes = request.to_bytes();
    let key = (
        outgoing::branch(&request.headers.vias),
        request.method.as_str().to_owned(),
    );
    let invite = request.method == Method::Invite;
    let reliable = hop.transport() != broker_proto::settings::Transport::Udp;
    let client = Client {
        owner,
        key: key.clone(),
        request,
        hop,
        bytes: bytes.clone(),
        state: if invite {
            State::Calling
        } else {
            State::Trying
        },
        reliable,
        interval: T1,
        resend: (!reliable).then_some(cx.now + T1),
        until: Some(cx.now + patience),
        cancel: Cancel::No,
        ack: None,
    };
    cx.counters.count(
        "sip_requests_sent_total",
        "method",
        outgoing::method_word(&client.request.method),
    );
    set_timer(cx, number, client.deadline());
    cx.transactions.branches.insert(key, number);
    cx.transactions.clients.insert(number, client);
    if transport::send(cx, &hop, Some(number), bytes).is_err() {
        unreachable(cx, number);
    }
    number
}

/// The request could not be sent at all: RFC 3261 §8.1.3.1 makes that a 503.
pub(crate) fn unreachable(cx: &mut Context, number: u64) {
    let pending = cx
        .transactions
        .clients
        .get(&number)
        .is_some_and(Client::is_pending);
    if pending {
        end(cx, number, Some(503));
    }
}

/// Take an INVITE back: CANCEL as soon as that is allowed.
pub(crate) fn cancel(cx: &mut Context, number: u64) {
    let Some(client) = cx.transactions.clients.get_mut(&number) else {
        return;
    };
    match (client.state, client.cancel) {
        (State::Calling, Cancel::No) => client.cancel = Cancel::Wanted,
        (State::Proceeding, Cancel::No) => send_cancel(cx, number),
        _ => {}
    }
}

fn send_cancel(cx: &mut Context, number: u64) {
    let Some(client) = cx.transactions.clients.get_mut(&number) else {
        return;
    };
    client.cancel = Cancel::Sent;
    // RFC 3261 §9.1: without a final response in 64*T1 the INVITE counts as cancelled.
    client.until = Some(cx.now + TIMEOUT);
    let (hop, deadline) = (client.hop, client.deadline());
    let cancel = outgoing::cancel_of(&client.request);
    set_timer(cx, number, deadline);
    request(cx, hop, cancel, Owner::Nobody);
}

/// An ACK for a 2xx: no transaction, sent as it is.
pub(crate) fn send_ack(cx: &mut Context, hop: NextHop, ack: Request) {
    let bytes = ack.to_bytes();
    // The far end repeats its 2xx if this does not arrive.
    let _unreachable = transport::send(cx, &hop, None, bytes);
}

/// A 2xx to INVITE once more.
pub(crate) fn send_success_again(cx: &mut Context, hop: NextHop, response: &Response) {
    let _unreachable = transport::send(cx, &hop, None, response.to_bytes());
}

/// A response from the network. `false`: it belongs to no request of ours and is thrown away.
pub(crate) fn receive_response(cx: &mut Context, flow: &Flow, response: Response) -> bool {
    let key = (
        outgoing::branch(&response.headers.vias),
        response.headers.cseq.method.as_str().to_owned(),
    );
    let Some(number) = cx.transactions.branches.get(&key).copied() else {
        return false;
    };
    let Some(client) = cx.transactions.clients.get_mut(&number) else {
        return false;
    };
    if client.hop.zone() != flow.zone || client.hop.peer().ip() != flow.peer.ip() {
        return false;
    }
    if client.request.headers.cseq.number != response.headers.cseq.number {
        return false;
    }
    let status = response.status.as_u16();
    if client.is_invite() {
        invite_response(cx, number, status, response);
    } else {
        other_response(cx, number, status, response);
    }
    true
}

fn invite_response(cx: &mut Context, number: u64, status: u16, response: Response) {
    let now = cx.now;
    let Some(client) = cx.transactions.clients.get_mut(&number) else {
        return;
    };
    let owner = client.owner;
    match (client.state, status) {
        (State::Calling | State::Proceeding, 100..=199) => {
            client.state = State::Proceeding;
            client.resend = None;
            if client.cancel != Cancel::Sent {
                client.until = None;
            }
            let (wanted, deadline) = (client.cancel == Cancel::Wanted, client.deadline());
            set_timer(cx, number, deadline);
            if wanted {
                send_cancel(cx, number);
            }
        }
        (State::Calling | State::Proceeding | State::Accepted, 200..=299) => {
            if client.state != State::Accepted {
                client.state = State::Accepted;
                client.resend = None;
                // Timer M, RFC 6026 §8.4.
                client.until = Some(now + TIMEOUT);
            }
            let deadline = client.deadline();
            set_timer(cx, number, deadline);
        }
        (State::Calling | State::Proceeding, _) => {
            client.state = State::Completed;
            client.resend = None;
            client.until = Some(if client.reliable { now } else { now + TIMER_D });
            let ack = outgoing::ack_of(&client.request, &response).to_bytes();
            client.ack = Some(ack.clone());
            let (hop, deadline) = (client.hop, client.deadline());
            set_timer(cx, number, deadline);
            let _unreachable = transport::send(cx, &hop, None, ack);
        }
        (State::Completed, 300..) => {
            let (hop, ack) = (client.hop, client.ack.clone());
            if let Some(ack) = ack {
                let _unreachable = transport::send(cx, &hop, None, ack);
            }
            return;
        }
        _ => return,
    }
    cx.transactions.events.push_back(Event::Response {
        client: number,
        owner,
        response: Box::new(response),
    });
}

fn other_response(cx: &mut Context, number: u64, status: u16, response: Response) {
    let now = cx.now;
    let Some(client) = cx.transactions.clients.get_mut(&number) else {
        return;
    };
    if !client.is_pending() {
        return;
    }
    let owner = client.owner;
    if status < 200 {
        client.state = State::Proceeding;
        client.interval = T2;
        return;
    }
    client.state = State::Completed;
    client.resend = None;
    // Timer K.
    client.until = Some(if client.reliable { now } else { now + T4 });
    let deadline = client.deadline();
    set_timer(cx, number, deadline);
    cx.transactions.events.push_back(Event::Response {
        client: number,
        owner,
        response: Box::new(response),
    });
}

pub(super) fn timer(cx: &mut Context, number: u64) {
    let now = cx.now;
    let Some(client) = cx.transactions.clients.get_mut(&number) else {
        return;
    };
    if client.until.is_some_and(|until| until <= now) {
        let failed = client.is_pending().then_some(408);
        end(cx, number, failed);
        return;
    }
    if client.resend.is_some_and(|resend| resend <= now) {
        // Timer A doubles without bound, timer E up to T2.
        client.interval = match client.state {
            State::Calling => client.interval * 2,
            _ => (client.interval * 2).min(T2),
        };
        client.resend = Some(now + client.interval);
        let (hop, bytes) = (client.hop, client.bytes.clone());
        let _unreachable = transport::send(cx, &hop, None, bytes);
        cx.counters.count("sip_retransmissions_total", "", "");
    }
    let deadline = cx
        .transactions
        .clients
        .get(&number)
        .and_then(Client::deadline);
    set_timer(cx, number, deadline);
}

fn end(cx: &mut Context, number: u64, failed: Option<u16>) {
    cx.timers.cancel(TimerKey::Client(number));
    if let Some(client) = cx.transactions.clients.remove(&number) {
        cx.transactions.branches.remove(&client.key);
        cx.transactions.events.push_back(Event::Ended {
            client: number,
            owner: client.owner,
            failed,
        });
    }
}

fn set_timer(cx: &mut Context, number: u64, deadline: Option<Instant>) {
    match deadline {
        Some(at) => cx.timers.set(TimerKey::Client(number), at),
        None => cx.timers.cancel(TimerKey::Client(number)),
    }
}
