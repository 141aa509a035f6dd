//! A 2xx to INVITE on its way: sent again by the user, not by the transaction, until ACK comes. RFC 3261 §13.3.1.4. One per
//! 2xx sent, owned by the leg that sent it.

use core::time::Duration;
use std::time::Instant;

use crate::message::{Request, Response};
use crate::transaction::Timers;

/// A 2xx that waits for its ACK. Over every transport, because a stream may end at a proxy.
#[derive(Clone, Debug)]
pub struct Acceptance {
    response: Response,
    timers: Timers,
    interval: Duration,
    resend_at: Instant,
    ends_at: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptanceStep {
    /// Nothing yet.
    Wait,
    /// Send [`Acceptance::response`] again.
    Resend,
    /// No ACK came in 64·T1: the session is to be ended with BYE.
    GiveUp,
}

impl Acceptance {
    /// The 2xx was sent for the first time.
    #[must_use]
    pub fn new(now: Instant, response: Response, timers: Timers) -> Self {
        Self {
            response,
            timers,
            interval: timers.t1,
            resend_at: now + timers.t1,
            ends_at: now + timers.give_up(),
        }
    }

    /// The response.
    #[must_use]
    pub const fn response(&self) -> &Response {
        &self.response
    }

    /// Whether `ack` is the one awaited: the CSeq number of the INVITE, Call-ID and both tags of the response.
    #[must_use]
    pub fn is_acknowledged_by(&self, ack: &Request) -> bool {
        let (ours, theirs) = (&self.response.headers, &ack.headers);
        ours.cseq.number == theirs.cseq.number
            && ours.call_id == theirs.call_id
            && ours.to.tag() == theirs.to.tag()
            && ours.from.tag() == theirs.from.tag()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) -> AcceptanceStep {
        if self.ends_at <= now {
            return AcceptanceStep::GiveUp;
        }
        if self.resend_at > now {
            return AcceptanceStep::Wait;
        }
        self.interval = self.interval.saturating_mul(2).min(self.timers.t2);
        self.resend_at = now + self.interval;
        AcceptanceStep::Resend
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.resend_at.min(self.ends_at)
    }
}
