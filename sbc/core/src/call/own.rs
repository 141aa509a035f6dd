//! Requests with which we change or refresh a session on our own account: a refresh (RFC 4028 §7.4), and the offers that
//! join two legs after a transfer. Glare is backed off from as RFC 3261 §14.1 says.

use std::time::Duration;

use sbc_media::relay::Side;
use sbc_sip::{message::Response, method::Method, sdp::SessionDescription};

use super::{Call, CallTimer, Phase};
use crate::{
    context::Context,
    outgoing,
    timers::TimerKey,
    transactions::{self, Owner, Task},
};

/// Tries that end in 491 before an offer is given up.
const TRIES: u8 = 10;

/// What a request of our own is for.
#[derive(Clone)]
pub(super) enum Purpose {
    /// The session goes on.
    Refresh,
    /// The leg meets a new far end, whose description this is.
    Join(SessionDescription),
    /// The new far end hears what the other chose.
    Settle(SessionDescription),
}

/// A request of our own under way.
pub(super) struct Own {
    side: Side,
    purpose: Purpose,
    client: Option<(u64, u32, Method)>,
    tries: u8,
    /// Media sockets are awaited.
    opening: bool,
}

impl Call {
    fn is_busy(&self, cx: &Context) -> bool {
        self.exchange.is_some()
            || self.passage.is_some()
            || self.own.is_some()
            || !self.inviting_is_idle(cx)
    }

    /// Refresh a leg's session. `false`: something else is in the way.
    pub(super) fn refresh(&mut self, cx: &mut Context, side: Side) -> bool {
        if self.is_busy(cx) {
            return false;
        }
        self.own = Some(Box::new(Own {
            side,
            purpose: Purpose::Refresh,
            client: None,
            tries: 0,
            opening: false,
        }));
        self.own_request(cx);
        true
    }

    /// Offer a leg what the other side's description says.
    pub(super) fn offer_own(&mut self, cx: &mut Context, side: Side, purpose: Purpose) {
        let theirs = match &purpose {
            Purpose::Refresh => None,
            Purpose::Join(theirs) | Purpose::Settle(theirs) => Some(theirs.clone()),
        };
        self.own = Some(Box::new(Own {
            side,
            purpose,
            client: None,
            tries: 0,
            opening: true,
        }));
        let carried = theirs.is_none_or(|theirs| self.open_lines(cx, side.other(), &theirs));
        if !carried {
            self.own = None;
            self.end(cx, "media-refused");
        } else if !self.media.is_opening() {
            self.own_request(cx);
        }
    }

    /// Whether media sockets of an offer of our own are awaited.
    pub(super) fn own_opens(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.opening)
    }

    /// The request leaves, or leaves again.
    pub(super) fn own_request(&mut self, cx: &mut Context) {
        let Some(own) = &mut self.own else { return };
        own.opening = false;
        let (side, purpose) = (own.side, own.purpose.clone());
        let body = match &purpose {
            Purpose::Refresh => self
                .leg(side)
                .and_then(|leg| leg.description.last().cloned()),
            Purpose::Join(theirs) | Purpose::Settle(theirs) => {
                self.own_description(cx, side, theirs)
            }
        };
        let session = self.session_header(cx, side, false);
        let owner = Owner::Call {
            call: self.id,
            side,
            task: Task::Own,
        };
        let Some(leg) = self.leg_mut(side).filter(|leg| leg.confirmed && !leg.over) else {
            self.own = None;
            return;
        };
        let update = leg.ability.update && matches!(purpose, Purpose::Refresh);
        let (method, body) = match (update, body) {
            (true, _) => (Method::Update, None),
            (false, Some(body)) => (Method::Invite, Some(body)),
            (false, None) => {
                self.own = None;
                return;
            }
        };
        let (hop, mut request) = leg.request(cx, method.clone());
        let cseq = leg.own_cseq();
        let contact = outgoing::contact(cx, &hop);
        outgoing::finish_invite(&mut request, contact, body);
        request.headers.fields.extend(session);
        let client = transactions::request(cx, hop, request, owner);
        if method == Method::Invite {
            self.inviting.push(client);
        }
        if let Some(own) = &mut self.own {
            own.client = Some((client, cseq, method));
        }
    }

    /// A response to a request of our own; `None`: there was none in time, and the status stands for it.
    pub(crate) fn own_response(
        &mut self,
        cx: &mut Context,
        side: Side,
        client: u64,
        status: u16,
        response: Option<&Response>,
    ) {
        let ours = self.own.as_ref().and_then(|own| own.client.clone());
        let heard = (client, status, response);
        let Some(method) = self.offer_heard(cx, side, heard, ours) else {
            return;
        };
        match (status, response) {
            (200..=299, Some(response)) => self.own_accepted(cx, side, response),
            (422, Some(response)) if self.session_raised(side, &response.headers) => {
                self.own_request(cx);
            }
            (405 | 501, _) if method == Method::Update => {
                if let Some(leg) = self.leg_mut(side) {
                    leg.ability.update = false;
                }
                self.own_request(cx);
            }
            (491, _) => self.back_off(cx, side),
            (408 | 481, _) => {
                self.own = None;
                self.end_if_lost(cx, side, status);
            }
            _ => {
                let own = self.own.take();
                if own.is_some_and(|own| matches!(own.purpose, Purpose::Join(_))) {
                    self.end(cx, "join-refused");
                }
            }
        }
        self.check_over(cx);
    }

    /// RFC 3261 §14.1: who made the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, in steps of 10 ms.
    fn back_off(&mut self, cx: &mut Context, side: Side) {
        let Some(own) = &mut self.own else { return };
        own.client = None;
        own.tries += 1;
        if own.tries > TRIES {
            // Legs that never agreed are no call. Two parties that transferred each other at the same moment leave a ring of
            // border elements with nobody at its ends, in which each meets its own offer for ever.
            let joins = matches!(own.purpose, Purpose::Join(_) | Purpose::Settle(_));
            self.own = None;
            if joins {
                self.end(cx, "join-refused");
            }
            return;
        }
        let draw = cx.identity.number();
        let wait = match self.leg(side).is_some_and(|leg| leg.owns_call_id) {
            true => 2_100 + draw % 191 * 10,
            false => draw % 201 * 10,
        };
        cx.timers.set(
            TimerKey::Call(self.id, CallTimer::Again),
            cx.now + Duration::from_millis(wait),
        );
    }

    /// After a back-off.
    pub(super) fn again(&mut self, cx: &mut Context) {
        if self.phase == Phase::Ending || self.own.as_ref().is_none_or(|own| own.client.is_some()) {
            return;
        }
        self.own_request(cx);
    }

    fn own_accepted(&mut self, cx: &mut Context, side: Side, response: &Response) {
        let Some(own) = self.own.take() else { return };
        self.session_answered(cx, side, &response.headers);
        let described = match self.leg_mut(side) {
            Some(leg) => {
                leg.refresh_target_from(&response.headers.contacts);
                leg.ability.learn(&response.headers);
                leg.described.clone()
            }
            None => return,
        };
        let answer = outgoing::description(response.body_part());
        let offer = match own.purpose.clone() {
            Purpose::Refresh => self.leg(side.other()).and_then(|leg| leg.described.clone()),
            Purpose::Join(theirs) | Purpose::Settle(theirs) => Some(theirs),
        };
        let (Some(offer), Some(answer)) = (offer, answer) else {
            return;
        };
        if !self.answers(side, &answer) {
            cx.counters.count("sip_bad_answers_total", "", "");
            if matches!(own.purpose, Purpose::Join(_)) {
                self.end(cx, "bad-answer");
            }
            return;
        }
        if matches!(own.purpose, Purpose::Refresh) && described.as_ref() == Some(&answer) {
            return;
        }
        self.agree(cx, side.other(), &offer, &answer);
        if matches!(own.purpose, Purpose::Join(_)) {
            self.settle_join(cx, side, answer);
        }
    }

    /// The new far end hears what the remaining one chose, unless that is what it was told already.
    fn settle_join(&mut self, cx: &mut Context, side: Side, answer: SessionDescription) {
        let before = self
            .leg(side.other())
            .and_then(|leg| leg.description.last().cloned());
        let now = self.own_description(cx, side.other(), &answer);
        if before.is_some() && before == now {
            return;
        }
        self.offer_own(cx, side.other(), Purpose::Settle(answer));
    }
}
