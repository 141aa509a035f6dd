//! Responses to our INVITE on their way back: early dialogs, the answer, refusals, and the next target after a failure.
//! RFC 3261 §13.2.2 and §12.1.2; §16.7 for which refusal is worth another try.

use sbc_media::relay::Side;
use sbc_sip::{
    message::{Request, Response},
    method::Method,
    sdp::SessionDescription,
};

use super::{Call, CallTimer, FORKS, Fork, Phase, exchange::Stage};
use crate::{
    context::Context,
    offer_answer, outgoing,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::NextHop,
};

impl Call {
    /// A response to an INVITE of ours on leg `side` by the client transaction `client`.
    pub(crate) fn invite_response(
        &mut self,
        cx: &mut Context,
        side: Side,
        client: u64,
        response: Response,
    ) {
        let status = response.status.as_u16();
        let current = self
            .exchange
            .as_ref()
            .and_then(|exchange| {
                exchange
                    .client
                    .map(|(have, _)| have == client && exchange.from != side)
            })
            .unwrap_or(false);
        match status {
            100 => {}
            101..=199 if current => self.provisional(cx, side, &response),
            101..=199 => {}
            200..=299 => self.success(cx, side, client, current, response),
            _ => {
                self.inviting.retain(|have| *have != client);
                if current {
                    self.failure(cx, side, status, Some(&response));
                }
            }
        }
        self.check_over(cx);
    }

    /// Our INVITE got no final response in time, or could not be sent; or its transaction is done with 2xx.
    pub(crate) fn invite_ended(
        &mut self,
        cx: &mut Context,
        side: Side,
        client: u64,
        failed: Option<u16>,
    ) {
        self.inviting.retain(|have| *have != client);
        let current = self
            .exchange
            .as_ref()
            .is_some_and(|exchange| exchange.client.is_some_and(|(have, _)| have == client));
        if let (true, Some(status)) = (current, failed) {
            self.failure(cx, side, status, None);
        }
        self.check_over(cx);
    }

    fn provisional(&mut self, cx: &mut Context, side: Side, response: &Response) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (server, initial, offer) = (exchange.server, exchange.initial, exchange.offer.clone());
        if !matches!(exchange.stage, Stage::Response) || !initial {
            return;
        }
        self.ringing();
        let Some(tag) = self.fork(cx, response) else {
            return;
        };
        // An early answer is one only if we offered.
        let answer = offer
            .as_ref()
            .and_then(|_| outgoing::description(response.body_part()));
        let body = match (offer, answer) {
            (Some(offer), Some(answer)) if offer_answer::answers(&offer, &answer) => {
                self.agree(cx, side.other(), &offer, &answer);
                self.own_description(cx, side.other(), &answer)
            }
            _ => None,
        };
        let contact = outgoing::contact(cx, &self.a.hop);
        let fields = self.carried(cx, side, &response.headers);
        transactions::respond(
            cx,
            server,
            outgoing::Answer {
                status: response.status,
                tag: Some(&tag),
                contact,
                body,
                fields,
                ..outgoing::Answer::default()
            },
        );
    }

    /// The tag under which the caller sees the early dialog of a response; `None`: too many of them.
    fn fork(&mut self, cx: &mut Context, response: &Response) -> Option<String> {
        let remote_tag = response.headers.to.tag()?.to_string();
        if let Some(fork) = self.forks.iter().find(|fork| fork.remote_tag == remote_tag) {
            return Some(fork.own_tag.clone());
        }
        if self.forks.len() >= FORKS {
            cx.counters.count("sip_forks_refused_total", "", "");
            return None;
        }
        let own_tag = match self.forks.is_empty() {
            true => self.a.own_tag.clone(),
            false => cx.identity.tag(),
        };
        cx.dialogs.insert(
            (self.a.call_id.clone(), own_tag.clone()),
            (self.id, Side::A),
        );
        self.forks.push(Fork {
            remote_tag,
            own_tag: own_tag.clone(),
        });
        Some(own_tag)
    }

    fn success(
        &mut self,
        cx: &mut Context,
        side: Side,
        client: u64,
        current: bool,
        response: Response,
    ) {
        let Some(tag) = response.headers.to.tag().map(|tag| tag.to_string()) else {
            return;
        };
        let awaited = current
            && self
                .exchange
                .as_ref()
                .is_some_and(|exchange| matches!(exchange.stage, Stage::Response));
        if awaited && self.phase != Phase::Ending {
            self.accepted(cx, side, response);
            return;
        }
        let cseq = response.headers.cseq.number;
        let Some(leg) = self.leg(side) else { return };
        match &leg.acknowledged {
            Some((acknowledged, ack))
                if leg.remote_tag.as_deref() == Some(&tag) && *acknowledged == cseq =>
            {
                // RFC 3261 §13.2.2.4: each repeated 2xx gets the ACK again.
                let (hop, ack) = (leg.hop, ack.clone());
                transactions::send_ack(cx, hop, ack);
            }
            // Waits for the caller's ACK, which brings the answer.
            None if leg.remote_tag.as_deref() == Some(&tag)
                && leg.confirmed
                && self.phase != Phase::Ending => {}
            _ => self.abandon(cx, side, client, &response),
        }
    }

    /// A 2xx that nobody wants any more, of another branch or after CANCEL: ACK, then BYE.
    fn abandon(&mut self, cx: &mut Context, side: Side, _client: u64, response: &Response) {
        cx.counters.count("sip_abandoned_answers_total", "", "");
        let cseq = response.headers.cseq.number;
        let Some(leg) = self.leg(side) else { return };
        let mut stray = leg.stray();
        stray.adopt_response(response);
        let (hop, ack) = stray.request_numbered(cx, Method::Ack, cseq);
        transactions::send_ack(cx, hop, ack);
        let (hop, bye) = stray.request(cx, Method::Bye);
        transactions::request(cx, hop, bye, Owner::Nobody);
    }

    /// The first 2xx: the dialog stands.
    fn accepted(&mut self, cx: &mut Context, side: Side, response: Response) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (from, initial, offer, cseq) = (
            exchange.from,
            exchange.initial,
            exchange.offer.clone(),
            response.headers.cseq.number,
        );
        if initial {
            let tag = self
                .fork(cx, &response)
                .unwrap_or_else(|| self.a.own_tag.clone());
            self.settle_fork(cx, tag);
        }
        let Some(leg) = self.leg_mut(side) else {
            return;
        };
        if initial {
            leg.adopt_response(&response);
            leg.confirmed = true;
        } else {
            leg.refresh_target_from(&response.headers.contacts);
        }
        let description = outgoing::description(response.body_part());
        match (offer, description) {
            (Some(offer), answer) => {
                // A callee that answered early may leave the 2xx empty.
                let answer = answer.or_else(|| self.early_answer(initial, side));
                self.acknowledge(cx, side, cseq, None);
                match answer.filter(|answer| offer_answer::answers(&offer, answer)) {
                    Some(answer) => {
                        self.agree(cx, from, &offer, &answer);
                        let body = self.own_description(cx, from, &answer);
                        self.accept(cx, &response, body);
                    }
                    None => self.refuse_exchange_and_end(cx, "bad-answer"),
                }
            }
            (None, Some(late)) => self.late_offer(cx, response, &late),
            (None, None) => {
                self.acknowledge(cx, side, cseq, None);
                self.refuse_exchange_and_end(cx, "no-offer");
            }
        }
    }

    fn early_answer(&self, initial: bool, side: Side) -> Option<SessionDescription> {
        if initial {
            self.leg(side)?.described.clone()
        } else {
            None
        }
    }

    fn refuse_exchange_and_end(&mut self, cx: &mut Context, why: &'static str) {
        self.refuse_exchange(cx, 502, why);
        self.end(cx, why);
    }

    /// Of the caller's early dialogs, one becomes the dialog; the others are forgotten.
    fn settle_fork(&mut self, cx: &mut Context, tag: String) {
        for fork in std::mem::take(&mut self.forks) {
            if fork.own_tag != tag {
                cx.dialogs.remove(&(self.a.call_id.clone(), fork.own_tag));
            }
        }
        if self.a.own_tag != tag {
            self.a.leave(cx);
            self.a.own_tag = tag;
        }
        self.a.enter(cx, self.id, Side::A);
    }

    /// ACK for a 2xx on a leg, kept for its repetitions.
    pub(super) fn acknowledge(
        &mut self,
        cx: &mut Context,
        side: Side,
        cseq: u32,
        body: Option<SessionDescription>,
    ) {
        let Some(leg) = self.leg_mut(side) else {
            return;
        };
        let (hop, mut ack): (NextHop, Request) = leg.request_numbered(cx, Method::Ack, cseq);
        if let Some(body) = body {
            outgoing::set_description(&mut ack, &body);
        }
        leg.acknowledged = Some((cseq, ack.clone()));
        transactions::send_ack(cx, hop, ack);
    }

    /// Our INVITE failed with `status`: another target, or the caller is told.
    fn failure(&mut self, cx: &mut Context, side: Side, status: u16, response: Option<&Response>) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        if !matches!(exchange.stage, Stage::Response) {
            return;
        }
        let (server, initial) = (exchange.server, exchange.initial);
        if initial && self.try_next(cx, status, response.is_some()) {
            return;
        }
        self.exchange = None;
        let passed = self
            .current_target()
            .is_some_and(|target| target.passes_challenges);
        let told = self.mapped(cx, side, told(status, initial && passed));
        let fields = response.map(|response| self.carried(cx, side, &response.headers));
        transactions::respond(
            cx,
            server,
            outgoing::Answer {
                status: outgoing::status(told),
                challenges: match response {
                    Some(response) if told == status && matches!(told, 401 | 407) => {
                        outgoing::challenges(response)
                    }
                    _ => Vec::new(),
                },
                fields: fields.unwrap_or_default(),
                ..outgoing::Answer::default()
            },
        );
        if initial {
            self.status = told;
            self.end(cx, "refused");
            return;
        }
        self.restore(cx);
        // RFC 3261 §12.2.1.2: the dialog is gone on the other side.
        if matches!(status, 408 | 481) {
            if let Some(leg) = self.leg_mut(side) {
                leg.over = status == 481;
            }
            self.end(cx, "dialog-lost");
        }
    }

    /// Go on with the next target if this failure is the target's own, not the callee's.
    fn try_next(&mut self, cx: &mut Context, status: u16, spoke: bool) -> bool {
        if let (true, Some(failed)) = (spoke, self.current_target().map(|target| target.peer)) {
            // A carrier that refuses by one of its addresses is not asked by the others.
            self.targets.retain(|target| target.peer != failed);
        }
        let worth = matches!(status, 408 | 430 | 500..=599);
        if !worth || self.targets.is_empty() || self.phase == Phase::Ending {
            return false;
        }
        cx.counters.count("calls_failover_total", "", "");
        self.media.forget(cx, Side::B);
        if let Some(exchange) = &mut self.exchange {
            exchange.client = None;
        }
        self.next_target(cx);
        true
    }

    /// A final 2xx goes back; the call is answered.
    pub(super) fn accept(
        &mut self,
        cx: &mut Context,
        response: &Response,
        body: Option<SessionDescription>,
    ) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (from, initial) = (exchange.from, exchange.initial);
        if initial {
            self.phase = Phase::Answered;
            self.answered_at = Some(cx.now);
            self.status = response.status.as_u16();
            self.a.confirmed = true;
            self.targets.clear();
            cx.timers
                .cancel(TimerKey::Call(self.id, CallTimer::NoAnswer));
            let longest =
                std::time::Duration::from_secs(u64::from(cx.settings().limits.call_seconds.max(1)));
            cx.timers.set(
                TimerKey::Call(self.id, CallTimer::Duration),
                cx.now + longest,
            );
        }
        let fields = self.carried(cx, from.other(), &response.headers);
        self.send_success(cx, from, fields, body);
        if initial {
            self.media.answered(cx);
            self.write_start(cx);
        }
    }
}

/// The status that the caller is told for a status of the callee's side. A redirection is not followed and not passed on:
/// it would show addresses of the other side. A challenge means the caller only where it came from the registrar.
const fn told(status: u16, passes_challenges: bool) -> u16 {
    match status {
        401 | 407 if passes_challenges => status,
        401 | 407 => 500,
        300..=399 => 480,
        // Of no use to a caller that has no such extension with us.
        420 | 421 | 494 => 500,
        _ => status,
    }
}
