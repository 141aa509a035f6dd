//! The server transaction: RFC 3261 §17.2, for INVITE and for all others; RFC 6026 §8.5 and §8.7, RFC 4320. One per request
//! received, but for ACK. Made by the layer.

use core::time::Duration;
use std::time::Instant;

use super::Timers;
use crate::headers::Headers;
use crate::message::{Request, Response};
use crate::method::Method;
use crate::status::StatusCode;
use crate::text::Text;

/// How long the user may take for a first response to INVITE before a 100 is sent. RFC 3261 §17.2.1.
const TRYING_AFTER: Duration = Duration::from_millis(200);

/// States as RFC 3261 §17.2 and RFC 6026 print them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerState {
    /// A request that is no INVITE came; nothing was answered.
    Trying,
    /// INVITE came, or a provisional response was sent.
    Proceeding,
    /// A final response was sent (to INVITE: 300 and above), or none ever will be.
    Completed,
    /// ACK came for it.
    Confirmed,
    /// A 2xx to INVITE was sent; the user sends it again until ACK comes.
    Accepted,
    /// Over.
    Terminated,
}

/// How a server transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEnd {
    /// Answered, and acknowledged where that is due.
    Done,
    /// No ACK for a refusal in time.
    NoAck,
    /// Nobody answered a request that is no INVITE in the time that its sender waits. RFC 4320 §4.2.
    Unanswered,
}

/// Copies of one request that are answered although they come sooner than any timer makes them.
const SOON: u8 = 3;

/// One server transaction.
#[derive(Debug)]
pub(super) struct ServerTransaction {
    /// What responses are made of, until the final one.
    request: Option<Box<Request>>,
    invite: bool,
    reliable: bool,
    timers: Timers,
    state: ServerState,
    /// Last response sent, where it may have to be sent again.
    last: Option<Vec<u8>>,
    /// When a response was sent last.
    sent_at: Option<Instant>,
    /// Copies that were answered sooner than any client repeats itself.
    soon: u8,
    to_tag: Option<Text>,
    trying_at: Option<Instant>,
    interval: Duration,
    /// Timer G.
    resend_at: Option<Instant>,
    /// Timer H, I, J or L.
    ends_at: Option<Instant>,
    end: Option<ServerEnd>,
}

impl ServerTransaction {
    /// A request came.
    pub(super) fn new(now: Instant, request: &Request, reliable: bool, timers: Timers) -> Self {
        let invite = request.method == Method::Invite;
        Self {
            to_tag: request.headers.to.tag().cloned(),
            request: Some(Box::new(skeleton(request))),
            invite,
            reliable,
            timers,
            state: if invite {
                ServerState::Proceeding
            } else {
                ServerState::Trying
            },
            last: None,
            sent_at: None,
            soon: 0,
            trying_at: invite.then(|| now + TRYING_AFTER),
            interval: timers.t1,
            resend_at: None,
            // RFC 4320: a later answer would come to nobody.
            ends_at: (!invite).then(|| now + timers.give_up()),
            end: None,
        }
    }

    pub(super) const fn state(&self) -> ServerState {
        self.state
    }

    /// The request as far as responses need it, until the final one was sent.
    pub(super) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }

    /// To tag of the last response, or of the request.
    pub(super) const fn to_tag(&self) -> Option<&Text> {
        self.to_tag.as_ref()
    }

    /// The request came again; gives what is sent again (RFC 3261 §17.2). A few times where a response was sent this moment:
    /// then it is a copy made by the network, or one of a storm; no timer of a client makes two so soon.
    pub(super) fn handle_retransmission(&mut self, now: Instant) -> Option<Vec<u8>> {
        let quiet = self.timers.t1 / 5;
        let just_sent = self
            .sent_at
            .is_some_and(|at| now.saturating_duration_since(at) < quiet);
        if just_sent {
            if self.soon >= SOON {
                return None;
            }
            self.soon += 1;
        }
        // RFC 6026 §7.1: in Accepted it is taken in; the user repeats its 2xx by itself.
        match self.state {
            ServerState::Proceeding | ServerState::Completed => {
                self.sent_at = Some(now);
                self.last.clone()
            }
            _ => None,
        }
    }

    /// ACK for a refusal came.
    pub(super) fn handle_ack(&mut self, now: Instant) {
        if self.state == ServerState::Completed && self.invite {
            self.state = ServerState::Confirmed;
            self.resend_at = None;
            self.last = None;
            self.end_after(now, self.timers.linger(self.reliable));
        }
    }

    /// ACK for a 2xx came: what is left is to take in late repetitions of the INVITE, which live no longer than T4. RFC
    /// 6026 §8.7 would wait for timer L, which is needed only while the ACK is not there.
    pub(super) fn handle_acknowledged(&mut self, now: Instant) {
        if self.state == ServerState::Accepted {
            self.end_after(now, self.timers.linger(self.reliable));
        }
    }

    /// Takes a response of the user's; gives its octets, or none if the state does not allow it. In Accepted a 2xx is sent
    /// as often as the user gives it. RFC 6026 §7.1.
    pub(super) fn respond(&mut self, now: Instant, response: &Response) -> Option<Vec<u8>> {
        let open = matches!(self.state, ServerState::Trying | ServerState::Proceeding);
        let status = response.status;
        let again = self.state == ServerState::Accepted && status.is_success();
        if !open && !again {
            return None;
        }
        self.trying_at = None;
        self.to_tag = response.headers.to.tag().cloned().or(self.to_tag.take());
        let octets = response.to_bytes();
        self.sent_at = Some(now);
        if again {
            return Some(octets);
        }
        if !status.is_final() {
            self.state = ServerState::Proceeding;
            self.last = Some(octets.clone());
            return Some(octets);
        }
        self.request = None;
        self.last = None;
        if self.invite && status.is_success() {
            self.state = ServerState::Accepted;
            self.end_after(now, self.timers.give_up());
            return Some(octets);
        }
        self.state = ServerState::Completed;
        if self.invite {
            self.resend_at = (!self.reliable).then(|| now + self.timers.t1);
            self.end_after(now, self.timers.give_up());
        } else {
            self.end_after(now, self.timers.j(self.reliable));
        }
        self.last = Some(octets.clone());
        Some(octets)
    }

    /// Never answers, and takes repetitions in.
    pub(super) fn forget(&mut self, now: Instant) {
        if !matches!(self.state, ServerState::Trying | ServerState::Proceeding) {
            return;
        }
        self.state = ServerState::Completed;
        self.request = None;
        self.last = None;
        self.trying_at = None;
        self.end_after(now, self.timers.give_up());
    }

    /// Lets time pass; gives what is to be sent, and whether it was sent before.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<(Vec<u8>, bool)> {
        if self.ends_at.is_some_and(|at| at <= now) {
            let refused = self.state == ServerState::Completed && self.invite;
            self.terminate(match self.state {
                ServerState::Trying | ServerState::Proceeding => ServerEnd::Unanswered,
                _ if refused && self.last.is_some() => ServerEnd::NoAck,
                _ => ServerEnd::Done,
            });
            return None;
        }
        if self.trying_at.is_some_and(|at| at <= now) {
            let trying = Response::to_request(self.request()?, StatusCode::TRYING, "");
            return self.respond(now, &trying).map(|octets| (octets, false));
        }
        if self.resend_at.is_none_or(|at| at > now) {
            return None;
        }
        self.interval = self.interval.saturating_mul(2).min(self.timers.t2);
        self.resend_at = Some(now + self.interval);
        self.last.clone().map(|octets| (octets, true))
    }

    fn end_after(&mut self, now: Instant, wait: Duration) {
        self.ends_at = Some(now + wait);
        if wait.is_zero() {
            self.terminate(ServerEnd::Done);
        }
    }

    fn terminate(&mut self, end: ServerEnd) {
        self.state = ServerState::Terminated;
        self.trying_at = None;
        self.resend_at = None;
        self.ends_at = None;
        self.end = Some(end);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.trying_at, self.resend_at, self.ends_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// How it ended, if it did.
    pub(super) const fn end(&self) -> Option<ServerEnd> {
        self.end
    }
}

/// What responses to a request take from it: RFC 3261 §8.2.6 and §12.1.1. Neither body nor any other field.
fn skeleton(request: &Request) -> Request {
    let from = &request.headers;
    let mut headers = Headers::new(
        from.vias.clone(),
        from.from.clone(),
        from.to.clone(),
        from.call_id.clone(),
        from.cseq.clone(),
    );
    headers.record_routes.clone_from(&from.record_routes);
    Request::new(request.method.clone(), request.uri.clone(), headers)
}
