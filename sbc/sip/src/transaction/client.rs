//! The client transaction: RFC 3261 §17.1, for INVITE and for all others; RFC 6026 §8.4. One per request sent, but for the
//! ACK of a 2xx, which has none. Made by the layer. What a state needs no more is let go of: the request with its final
//! response, its octets as soon as nothing is repeated.

use core::time::Duration;
use std::time::Instant;

use super::Timers;
use crate::headers::{Cseq, Field, Headers, NameAddr, Transport};
use crate::message::{Request, Response};
use crate::method::Method;
use crate::status::StatusCode;
use crate::uri::HostPort;

/// States as RFC 3261 §17.1 and RFC 6026 print them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
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

/// How a client transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// Its final response was passed up before.
    Done,
    /// No final response in time: as if a 408 had come (RFC 3261 §8.1.3.1).
    Timeout,
    /// The transport failed: as if a 503 had come.
    Unreachable,
    /// There were too many transactions already, nothing was sent: as if a 503 had come.
    NoRoom,
}

/// One client transaction.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    /// Until the final response; what ACK and CANCEL are made of.
    request: Option<Box<Request>>,
    invite: bool,
    /// What is sent again; in Completed the ACK.
    octets: Vec<u8>,
    reliable: bool,
    timers: Timers,
    state: ClientState,
    interval: Duration,
    /// Timer A or E.
    resend_at: Option<Instant>,
    /// Timer B, F, D, K or M.
    ends_at: Option<Instant>,
    cancel: Cancel,
    /// Fields of the CANCEL besides (RFC 3326).
    cancel_fields: Vec<Field>,
    end: Option<ClientEnd>,
}

/// How far taking an INVITE back has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    /// RFC 3261 §9.1: not before a provisional response.
    Wanted,
    /// Now.
    Due,
    Sent,
}

/// What a response means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is to be passed up; with an ACK to be sent for a refusal.
    Up(Option<Vec<u8>>),
    /// Taken in; with an ACK to be sent again.
    In(Option<Vec<u8>>),
}

impl ClientTransaction {
    /// The request, written as `octets`, is being sent. Something must be heard within `patience`, timer B or F.
    pub(super) fn new(
        now: Instant,
        request: Box<Request>,
        octets: Vec<u8>,
        reliable: bool,
        timers: Timers,
        patience: Duration,
    ) -> Self {
        let invite = request.method == Method::Invite;
        Self {
            request: Some(request),
            invite,
            octets,
            reliable,
            timers,
            state: ClientTransaction::first_state(invite),
            interval: timers.t1,
            resend_at: (!reliable).then(|| now + timers.t1),
            ends_at: Some(now + patience.min(timers.give_up())),
            cancel: Cancel::No,
            cancel_fields: Vec::new(),
            end: None,
        }
    }

    const fn first_state(invite: bool) -> ClientState {
        if invite {
            ClientState::Calling
        } else {
            ClientState::Trying
        }
    }

    /// No final response yet.
    pub(super) const fn is_pending(&self) -> bool {
        matches!(
            self.state,
            ClientState::Calling | ClientState::Trying | ClientState::Proceeding
        )
    }

    /// Anything came.
    pub(super) const fn was_heard(&self) -> bool {
        !matches!(self.state, ClientState::Calling | ClientState::Trying)
    }

    /// The request, until its final response came.
    pub(super) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }

    /// A response that belongs here.
    pub(super) fn handle_response(&mut self, now: Instant, response: &Response) -> Taken {
        if self.invite {
            self.handle_invite_response(now, response)
        } else {
            self.handle_other_response(now, response.status)
        }
    }

    fn handle_invite_response(&mut self, now: Instant, response: &Response) -> Taken {
        match (self.state, response.status.as_u16()) {
            (ClientState::Calling | ClientState::Proceeding, 0..=199) => {
                if self.state == ClientState::Calling {
                    self.state = ClientState::Proceeding;
                    self.resend_at = None;
                    // RFC 3261 §17.1.1.2: timer B ends with Calling; how long it may ring is for the user to say.
                    self.ends_at = None;
                    self.octets = Vec::new();
                    if self.cancel == Cancel::Wanted {
                        self.allow_cancel(now);
                    }
                }
                Taken::Up(None)
            }
            (ClientState::Calling | ClientState::Proceeding, 200..=299) => {
                // RFC 6026 §8.4: timer M.
                self.settle(now, ClientState::Accepted, self.timers.give_up());
                Taken::Up(None)
            }
            (ClientState::Accepted, 200..=299) => Taken::Up(None),
            (ClientState::Calling | ClientState::Proceeding, _) => {
                let ack = self
                    .request
                    .as_deref()
                    .map(|invite| ack_for(invite, response).to_bytes());
                self.settle(now, ClientState::Completed, self.timers.d(self.reliable));
                if !self.reliable {
                    self.octets = ack.clone().unwrap_or_default();
                }
                Taken::Up(ack)
            }
            (ClientState::Completed, 300..) => Taken::In(Some(self.octets.clone())),
            _ => Taken::In(None),
        }
    }

    fn handle_other_response(&mut self, now: Instant, status: StatusCode) -> Taken {
        match (self.state, status.is_final()) {
            (ClientState::Trying | ClientState::Proceeding, false) => {
                if self.state == ClientState::Trying {
                    self.state = ClientState::Proceeding;
                    // RFC 3261 §17.1.2.2: from now on every T2.
                    self.interval = self.timers.t2;
                }
                Taken::Up(None)
            }
            (ClientState::Trying | ClientState::Proceeding, true) => {
                self.settle(
                    now,
                    ClientState::Completed,
                    self.timers.linger(self.reliable),
                );
                Taken::Up(None)
            }
            _ => Taken::In(None),
        }
    }

    /// Wants the INVITE taken back. [`Self::take_cancel`] gives the CANCEL when it may be sent: at once, or after the first
    /// provisional response. No effect on other requests and after a final response.
    pub(super) fn cancel(&mut self, now: Instant, fields: Vec<Field>) {
        if !self.invite || self.cancel != Cancel::No {
            return;
        }
        self.cancel = Cancel::Wanted;
        self.cancel_fields = fields;
        if self.state == ClientState::Proceeding {
            self.allow_cancel(now);
        }
    }

    fn allow_cancel(&mut self, now: Instant) {
        // RFC 3261 §9.1: without a final response 64·T1 later the INVITE counts as cancelled.
        self.ends_at = Some(now + self.timers.give_up());
        self.cancel = Cancel::Due;
    }

    /// The CANCEL to be sent now, once. RFC 3261 §9.1.
    pub(super) fn take_cancel(&mut self) -> Option<Request> {
        if self.cancel != Cancel::Due {
            return None;
        }
        self.cancel = Cancel::Sent;
        let mut cancel = self.request.as_deref().map(cancel_for)?;
        cancel.headers.fields.append(&mut self.cancel_fields);
        Some(cancel)
    }

    /// The transport could not deliver.
    pub(super) fn handle_unreachable(&mut self) {
        // RFC 6026 §7.1: with an ACK that could not be sent the transaction is over too.
        if self.is_pending() {
            self.terminate(ClientEnd::Unreachable);
        } else if self.state == ClientState::Completed {
            self.terminate(ClientEnd::Done);
        }
    }

    /// Nothing came and the first transport failed: begins anew by another one, named so in Via. RFC 3261 §18.1.1. Gives
    /// the octets to send; none if it is too late for that.
    pub(super) fn restart(
        &mut self,
        now: Instant,
        transport: Transport,
        sent_by: HostPort,
        reliable: bool,
    ) -> Option<Vec<u8>> {
        if !matches!(self.state, ClientState::Calling | ClientState::Trying) {
            return None;
        }
        let request = self.request.as_deref_mut()?;
        let via = request.headers.vias.first_mut()?;
        via.transport = transport;
        via.sent_by = sent_by;
        let octets = request.to_bytes();
        self.reliable = reliable;
        self.interval = self.timers.t1;
        self.resend_at = (!reliable).then(|| now + self.timers.t1);
        if !reliable {
            self.octets.clone_from(&octets);
        }
        Some(octets)
    }

    /// Lets time pass; gives what is to be sent again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.ends_at.is_some_and(|at| at <= now) {
            self.terminate(if self.is_pending() {
                ClientEnd::Timeout
            } else {
                ClientEnd::Done
            });
            return None;
        }
        if self.resend_at.is_none_or(|at| at > now) {
            return None;
        }
        self.interval = match self.state {
            // Timer A doubles without bound, timer E up to T2.
            ClientState::Calling => self.interval.saturating_mul(2),
            ClientState::Trying => self.interval.saturating_mul(2).min(self.timers.t2),
            _ => self.timers.t2,
        };
        self.resend_at = Some(now + self.interval);
        Some(self.octets.clone())
    }

    fn settle(&mut self, now: Instant, state: ClientState, wait: Duration) {
        self.resend_at = None;
        self.state = state;
        self.ends_at = Some(now + wait);
        self.request = None;
        self.octets = Vec::new();
        if wait.is_zero() {
            self.terminate(ClientEnd::Done);
        }
    }

    fn terminate(&mut self, end: ClientEnd) {
        self.state = ClientState::Terminated;
        self.resend_at = None;
        self.ends_at = None;
        self.end = Some(end);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.resend_at, self.ends_at].into_iter().flatten().min()
    }

    /// How it ended, if it did.
    pub(super) const fn end(&self) -> Option<ClientEnd> {
        self.end
    }
}

/// The ACK for a final response that is no 2xx. RFC 3261 §17.1.1.3: same branch, To of the response, Route of the INVITE.
pub(super) fn ack_for(invite: &Request, response: &Response) -> Request {
    derived(invite, Method::Ack, response.headers.to.clone())
}

/// The CANCEL for an INVITE. RFC 3261 §9.1: same branch, To without what responses added.
pub(super) fn cancel_for(invite: &Request) -> Request {
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
