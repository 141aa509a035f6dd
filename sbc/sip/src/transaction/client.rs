//! The client transaction: RFC 3261 §17.1, for INVITE and for all others; RFC 6026 §8.4. One per request sent, but for the
//! ACK of a 2xx, which has none. Made by the layer.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Timers;
use crate::headers::{Cseq, Field, Headers, NameAddr};
use crate::message::{Request, Response};
use crate::method::Method;

/// States as RFC 3261 §17.1 and RFC 6026 print them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// INVITE is sent, nothing came.
    Calling,
    /// Another request is sent, nothing came.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// A final response came (to INVITE: 300 and above); its repetitions are taken in.
    Completed,
    /// A 2xx to INVITE came; others may follow, each is passed up.
    Accepted,
    /// Over.
    Terminated,
}

/// What a client transaction says besides responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// No final response in time: as if a 408 had come (RFC 3261 §8.1.3.1).
    Timeout,
    /// The transport failed: as if a 503 had come.
    Unreachable,
    /// Over; the machine may be thrown away.
    Terminated,
}

/// One client transaction.
#[derive(Debug)]
pub struct ClientTransaction {
    request: Request,
    octets: Arc<[u8]>,
    reliable: bool,
    timers: Timers,
    state: ClientState,
    interval: Duration,
    /// Timer A or E.
    resend_at: Option<Instant>,
    /// Timer B, F, D, K or M.
    ends_at: Option<Instant>,
    ack: Option<Arc<[u8]>>,
    cancel_wanted: bool,
    may_cancel: bool,
    transmits: VecDeque<Arc<[u8]>>,
    events: VecDeque<ClientEvent>,
}

impl ClientTransaction {
    /// Sends the request and waits.
    #[must_use]
    pub fn new(now: Instant, request: Request, reliable: bool, timers: Timers) -> Self {
        let octets = Arc::<[u8]>::from(request.to_bytes());
        let state = if request.method == Method::Invite {
            ClientState::Calling
        } else {
            ClientState::Trying
        };
        Self {
            transmits: VecDeque::from([Arc::clone(&octets)]),
            request,
            octets,
            reliable,
            timers,
            state,
            interval: timers.t1,
            resend_at: (!reliable).then(|| now + timers.t1),
            ends_at: Some(now + timers.give_up()),
            ack: None,
            cancel_wanted: false,
            may_cancel: false,
            events: VecDeque::new(),
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> ClientState {
        self.state
    }

    /// The request that was sent.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// A response that belongs here. `true`: it is to be passed up.
    pub fn handle_response(&mut self, now: Instant, response: &Response) -> bool {
        if self.request.method == Method::Invite {
            self.handle_invite_response(now, response)
        } else {
            self.handle_other_response(now, response)
        }
    }

    fn handle_invite_response(&mut self, now: Instant, response: &Response) -> bool {
        match (self.state, response.status.as_u16()) {
            (ClientState::Calling | ClientState::Proceeding, 0..=199) => {
                if self.state == ClientState::Calling {
                    self.state = ClientState::Proceeding;
                    self.resend_at = None;
                    // RFC 3261 §17.1.1.2: timer B ends with Calling; how long it may ring is for the user to say.
                    self.ends_at = None;
                    if self.cancel_wanted {
                        self.allow_cancel(now);
                    }
                }
                true
            }
            (ClientState::Calling | ClientState::Proceeding, 200..=299) => {
                // RFC 6026 §8.4: timer M.
                self.settle(now, ClientState::Accepted, self.timers.give_up());
                true
            }
            (ClientState::Accepted, 200..=299) => true,
            (ClientState::Calling | ClientState::Proceeding, _) => {
                let ack = Arc::<[u8]>::from(ack_for(&self.request, response).to_bytes());
                self.transmits.push_back(Arc::clone(&ack));
                self.ack = Some(ack);
                self.settle(now, ClientState::Completed, self.timers.d(self.reliable));
                true
            }
            (ClientState::Completed, 300..) => {
                self.transmits.extend(self.ack.clone());
                false
            }
            _ => false,
        }
    }

    fn handle_other_response(&mut self, now: Instant, response: &Response) -> bool {
        match (self.state, response.status.is_final()) {
            (ClientState::Trying | ClientState::Proceeding, false) => {
                if self.state == ClientState::Trying {
                    self.state = ClientState::Proceeding;
                    // RFC 3261 §17.1.2.2: from now on every T2.
                    self.interval = self.timers.t2;
                }
                true
            }
            (ClientState::Trying | ClientState::Proceeding, true) => {
                self.settle(
                    now,
                    ClientState::Completed,
                    self.timers.linger(self.reliable),
                );
                true
            }
            _ => false,
        }
    }

    /// Wants the INVITE taken back. [`Self::take_may_cancel`] says when a CANCEL may be sent: at once, or after the first
    /// provisional response. No effect on other requests and after a final response.
    pub fn cancel(&mut self, now: Instant) {
        if self.request.method != Method::Invite || self.cancel_wanted {
            return;
        }
        self.cancel_wanted = true;
        if self.state == ClientState::Proceeding {
            self.allow_cancel(now);
        }
    }

    fn allow_cancel(&mut self, now: Instant) {
        // RFC 3261 §9.1: without a final response 64·T1 later the INVITE counts as cancelled.
        self.ends_at = Some(now + self.timers.give_up());
        self.may_cancel = true;
    }

    /// Whether a CANCEL is to be sent now; says so once. RFC 3261 §9.1.
    pub const fn take_may_cancel(&mut self) -> bool {
        core::mem::replace(&mut self.may_cancel, false)
    }

    /// The transport could not deliver.
    pub fn handle_unreachable(&mut self) {
        let waiting = matches!(
            self.state,
            ClientState::Calling | ClientState::Trying | ClientState::Proceeding
        );
        // RFC 6026 §7.1: with an ACK that could not be sent the transaction is over too.
        if waiting || self.state == ClientState::Completed {
            if waiting {
                self.events.push_back(ClientEvent::Unreachable);
            }
            self.terminate();
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ends_at.is_some_and(|at| at <= now) {
            if matches!(
                self.state,
                ClientState::Calling | ClientState::Trying | ClientState::Proceeding
            ) {
                self.events.push_back(ClientEvent::Timeout);
            }
            self.terminate();
        } else if self.resend_at.is_some_and(|at| at <= now) {
            self.transmits.push_back(Arc::clone(&self.octets));
            self.interval = match self.state {
                // Timer A doubles without bound, timer E up to T2.
                ClientState::Calling => self.interval.saturating_mul(2),
                ClientState::Trying => self.interval.saturating_mul(2).min(self.timers.t2),
                _ => self.timers.t2,
            };
            self.resend_at = Some(now + self.interval);
        }
    }

    fn settle(&mut self, now: Instant, state: ClientState, wait: Duration) {
        self.resend_at = None;
        self.state = state;
        self.ends_at = Some(now + wait);
        if wait.is_zero() {
            self.terminate();
        }
    }

    fn terminate(&mut self) {
        self.state = ClientState::Terminated;
        self.resend_at = None;
        self.ends_at = None;
        self.events.push_back(ClientEvent::Terminated);
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.resend_at, self.ends_at].into_iter().flatten().min()
    }

    /// Octets to send.
    pub fn poll_transmit(&mut self) -> Option<Arc<[u8]>> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }
}

/// The ACK for a final response that is no 2xx. RFC 3261 §17.1.1.3: same branch, To of the response, Route of the INVITE.
#[must_use]
pub fn ack_for(invite: &Request, response: &Response) -> Request {
    derived(invite, Method::Ack, response.headers.to.clone())
}

/// The CANCEL for an INVITE. RFC 3261 §9.1: same branch, To without what responses added.
#[must_use]
pub fn cancel_for(invite: &Request) -> Request {
    derived(invite, Method::Cancel, invite.headers.to.clone())
}

fn derived(invite: &Request, method: Method, to: NameAddr) -> Request {
    let from = &invite.headers;
    let cseq = Cseq {
        number: from.cseq.number,
        method: method.clone(),
    };
    let vias = from.vias.first().cloned().into_iter().collect();
    let mut headers = Headers::new(vias, from.from.clone(), to, from.call_id.clone(), cseq);
    headers.routes.clone_from(&from.routes);
    headers.push(Field::MaxForwards(70));
    Request::new(method, invite.uri.clone(), headers)
}
