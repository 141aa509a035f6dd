//! The server transaction: RFC 3261 §17.2, for INVITE and for all others; RFC 6026 §8.5 and §8.7. One per request received,
//! but for ACK. Made by the layer.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Timers;
use crate::message::{Request, Response};
use crate::method::Method;
use crate::status::StatusCode;
use crate::text::Text;

/// How long the user may take for a first response to INVITE before a 100 is sent. RFC 3261 §17.2.1.
const TRYING_AFTER: Duration = Duration::from_millis(200);

/// States as RFC 3261 §17.2 and RFC 6026 print them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// A request that is no INVITE came; nothing was answered.
    Trying,
    /// INVITE came, or a provisional response was sent.
    Proceeding,
    /// A final response was sent (to INVITE: 300 and above).
    Completed,
    /// ACK came for it.
    Confirmed,
    /// A 2xx to INVITE was sent; the user sends it again until ACK comes.
    Accepted,
    /// Over.
    Terminated,
}

/// What a server transaction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// No ACK for a refusal in time.
    NoAck,
    /// The transport failed.
    Unreachable,
    /// Over; the machine may be thrown away.
    Terminated,
}

/// One server transaction.
#[derive(Debug)]
pub struct ServerTransaction {
    request: Request,
    reliable: bool,
    timers: Timers,
    state: ServerState,
    /// Last response sent.
    last: Option<Arc<[u8]>>,
    to_tag: Option<Text>,
    trying_at: Option<Instant>,
    interval: Duration,
    /// Timer G.
    resend_at: Option<Instant>,
    /// Timer H, I, J or L.
    ends_at: Option<Instant>,
    transmits: VecDeque<Arc<[u8]>>,
    events: VecDeque<ServerEvent>,
}

impl ServerTransaction {
    /// A request came.
    #[must_use]
    pub fn new(now: Instant, request: Request, reliable: bool, timers: Timers) -> Self {
        let invite = request.method == Method::Invite;
        Self {
            to_tag: request.headers.to.tag().cloned(),
            request,
            reliable,
            timers,
            state: if invite {
                ServerState::Proceeding
            } else {
                ServerState::Trying
            },
            last: None,
            trying_at: invite.then(|| now + TRYING_AFTER),
            interval: timers.t1,
            resend_at: None,
            ends_at: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> ServerState {
        self.state
    }

    /// The request that came.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// To tag of the last response, or of the request.
    #[must_use]
    pub const fn to_tag(&self) -> Option<&Text> {
        self.to_tag.as_ref()
    }

    /// The request came again.
    pub fn handle_retransmission(&mut self) {
        // RFC 6026 §7.1: in Accepted it is taken in; the user repeats its 2xx by itself.
        if matches!(self.state, ServerState::Proceeding | ServerState::Completed) {
            self.transmits.extend(self.last.clone());
        }
    }

    /// ACK for a refusal came.
    pub fn handle_ack(&mut self, now: Instant) {
        if self.state == ServerState::Completed && self.request.method == Method::Invite {
            self.state = ServerState::Confirmed;
            self.resend_at = None;
            self.end_after(now, self.timers.linger(self.reliable));
        }
    }

    /// Sends a response of the user's. `false`: the state does not allow it, nothing is sent. In Accepted a 2xx is sent
    /// as often as the user gives it. RFC 6026 §7.1.
    pub fn respond(&mut self, now: Instant, response: &Response) -> bool {
        let class = (self.state, response.status.as_u16());
        let invite = self.request.method == Method::Invite;
        match class {
            (ServerState::Trying | ServerState::Proceeding, 0..=199) => {
                self.state = ServerState::Proceeding;
            }
            (ServerState::Trying | ServerState::Proceeding, 200..=299) if invite => {
                self.state = ServerState::Accepted;
                self.end_after(now, self.timers.give_up());
            }
            (ServerState::Accepted, 200..=299) => {}
            (ServerState::Trying | ServerState::Proceeding, _) if invite => {
                self.state = ServerState::Completed;
                self.resend_at = (!self.reliable).then(|| now + self.timers.t1);
                self.end_after(now, self.timers.give_up());
            }
            (ServerState::Trying | ServerState::Proceeding, _) => {
                self.state = ServerState::Completed;
                self.end_after(now, self.timers.j(self.reliable));
            }
            _ => return false,
        }
        self.trying_at = None;
        self.to_tag = response.headers.to.tag().cloned().or(self.to_tag.take());
        let octets = Arc::<[u8]>::from(response.to_bytes());
        self.transmits.push_back(Arc::clone(&octets));
        self.last = Some(octets);
        true
    }

    /// The transport could not deliver.
    pub fn handle_unreachable(&mut self) {
        if self.state != ServerState::Terminated {
            self.events.push_back(ServerEvent::Unreachable);
            self.terminate();
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ends_at.is_some_and(|at| at <= now) {
            if self.state == ServerState::Completed && self.request.method == Method::Invite {
                self.events.push_back(ServerEvent::NoAck);
            }
            self.terminate();
            return;
        }
        if self.trying_at.is_some_and(|at| at <= now) {
            self.respond(
                now,
                &Response::to_request(&self.request, StatusCode::TRYING, ""),
            );
        }
        if self.resend_at.is_some_and(|at| at <= now) {
            self.transmits.extend(self.last.clone());
            self.interval = self.interval.saturating_mul(2).min(self.timers.t2);
            self.resend_at = Some(now + self.interval);
        }
    }

    fn end_after(&mut self, now: Instant, wait: Duration) {
        self.ends_at = Some(now + wait);
        if wait.is_zero() {
            self.terminate();
        }
    }

    fn terminate(&mut self) {
        self.state = ServerState::Terminated;
        self.trying_at = None;
        self.resend_at = None;
        self.ends_at = None;
        self.events.push_back(ServerEvent::Terminated);
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.trying_at, self.resend_at, self.ends_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Octets to send.
    pub fn poll_transmit(&mut self) -> Option<Arc<[u8]>> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }
}
