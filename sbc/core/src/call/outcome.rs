//! Responses to our INVITE on their way back: early dialogs, the answer, refusals, and the next target after a failure.
//! RFC 3261 §13.2.2 and §12.1.2; §16.7 for which refusal is worth another try.

use sbc_media::relay::Side;
use sbc_sip::{
    message::{Request, Response},
    method::Method,
    sdp::SessionDescription,
    status::StatusCode,
};

use super::{
    Abandoned, Call, CallTimer, FORKS, Phase,
    exchange::Stage,
    leg::Leg,
    reliable::{Heard, Provisional},
    transfer::Turn,
};
use crate::{
    context::Context,
    health, outgoing, policy,
    surroundings::Peer,
    timers::TimerKey,
    transactions::{self, Owner, Task},
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

    /// A request with an offer of ours is over: without a response in time, or done with its 2xx.
    pub(crate) fn request_ended(
        &mut self,
        cx: &mut Context,
        side: Side,
        client: u64,
        task: Task,
        failed: Option<u16>,
    ) {
        self.inviting.retain(|have| *have != client);
        match (task, failed) {
            (Task::Passage, Some(status)) => {
                self.passage_response(cx, side, client, status, None);
            }
            (Task::Own, Some(status)) => self.own_response(cx, side, client, status, None),
            _ => self.check_over(cx),
        }
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
        let (initial, offer) = (exchange.initial, exchange.offer.clone());
        if !matches!(exchange.stage, Stage::Response) || !initial || side != Side::B {
            return;
        }
        self.ringing();
        let Some(index) = self.fork(cx, response) else {
            return;
        };
        let rseq = match self.heard(index, response) {
            Heard::Plain => None,
            Heard::Next(rseq) => Some(rseq),
            Heard::Again => return,
        };
        let ability = self.a.ability;
        let reliably = ability.reliable_only || (ability.reliable && rseq.is_some());
        let description = outgoing::description(response.body_part());
        if let (None, Some(early), Some(rseq), true) = (&offer, &description, rseq, reliably) {
            if let Some(fork) = self.forks.get_mut(index) {
                fork.unconfirmed = Some(rseq);
            }
            self.offer_by_provisional(cx, index, response.status, early.clone());
            return;
        }
        let body = offer
            .and_then(|offer| self.early_media(cx, index, &offer, description?, rseq.is_some()));
        if let Some(rseq) = rseq {
            // RFC 3262 §5: where the caller confirms too, its PRACK may bring an offer for the callee.
            if reliably && body.is_some() {
                if let Some(fork) = self.forks.get_mut(index) {
                    fork.unconfirmed = Some(rseq);
                }
            } else {
                self.confirm(cx, index, rseq, None, Owner::Nobody);
            }
        }
        let status = response.status;
        let fields = self.carried(cx, side, &response.headers);
        if status == StatusCode::EARLY_DIALOG_TERMINATED {
            if ability.early_terminated {
                let last = Provisional {
                    status,
                    fields,
                    body: None,
                };
                self.tell(cx, index, last, reliably);
            }
            self.end_fork(cx, index);
            return;
        }
        let provisional = Provisional {
            status,
            fields,
            body,
        };
        self.tell(cx, index, provisional, reliably);
    }

    /// The callee's answer in a provisional response: the caller hears the early dialog that spoke last (RFC 3960 §3).
    /// Our description for the caller, if there is something to say.
    fn early_media(
        &mut self,
        cx: &mut Context,
        index: usize,
        offer: &SessionDescription,
        answer: SessionDescription,
        firm: bool,
    ) -> Option<SessionDescription> {
        if !self.answers(Side::B, &answer) {
            return None;
        }
        let fork = self.forks.get_mut(index)?;
        if fork.firm {
            // RFC 6337 §3.1: the first that was reliable counts.
            return None;
        }
        let again = fork.described.as_ref() == Some(&answer);
        fork.described = Some(answer.clone());
        fork.firm = firm;
        if again && self.b.as_ref().is_some_and(|leg| leg.described.is_some()) {
            // Said before, and maybe another one speaks now.
            return self.own_description(cx, Side::A, &answer);
        }
        self.agree(cx, Side::A, offer, &answer);
        self.own_description(cx, Side::A, &answer)
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
        // The leg has gone over to another call.
        let call_id = response.headers.call_id.text();
        if self
            .leg(side)
            .is_some_and(|leg| leg.call_id() != call_id.as_str())
        {
            cx.turns.push_back(Turn::Again(Box::new(response)));
            return;
        }
        let awaited = current
            && self
                .exchange
                .as_ref()
                .is_some_and(|exchange| matches!(exchange.stage, Stage::Response));
        // Inside a dialog its tag does not change: RFC 3261 §12.2.1.2.
        let ours = self.exchange.as_ref().is_some_and(|it| it.initial)
            || self
                .leg(side)
                .is_some_and(|leg| leg.remote_tag() == Some(&tag));
        if awaited && ours && self.phase != Phase::Ending {
            self.accepted(cx, side, response);
            return;
        }
        let cseq = response.headers.cseq.number;
        let Some(leg) = self.leg(side) else { return };
        let same = leg.remote_tag() == Some(&tag);
        match leg.ack_of(cseq).filter(|_| same) {
            // RFC 3261 §13.2.2.4: each repeated 2xx gets the ACK again.
            Some(ack) => {
                let (hop, ack) = (leg.hop, ack.clone());
                transactions::send_ack(cx, hop, ack);
            }
            // The dialog stands, and no 2xx of it is a reason to end it.
            None if same && leg.confirmed && self.phase != Phase::Ending => {
                let exchange = self.exchange.as_ref();
                let waits = exchange
                    .and_then(|exchange| exchange.client)
                    .is_some_and(|(_, have)| have == cseq);
                // One that waits for the caller's ACK has its answer there.
                if !waits {
                    self.acknowledge(cx, side, cseq, None);
                }
            }
            None => self.abandon(cx, side, client, &response),
        }
    }

    /// A 2xx that nobody wants any more, of another branch or after CANCEL: ACK, then BYE; the ACK again when it comes again.
    fn abandon(&mut self, cx: &mut Context, side: Side, _client: u64, response: &Response) {
        cx.counters.count("sip_abandoned_answers_total", "", "");
        let cseq = response.headers.cseq.number;
        let tag = response.headers.to.tag().map(|tag| tag.to_string());
        let known = self
            .abandoned
            .iter()
            .find(|it| it.cseq == cseq && it.side == side && it.tag == tag);
        if let Some(known) = known {
            return transactions::send_ack(cx, known.hop, known.ack.clone());
        }
        let Some(leg) = self.leg(side) else { return };
        if self.abandoned.len() >= FORKS {
            return;
        }
        let mut stray = leg.stray();
        stray.adopt_response(response);
        let (hop, ack) = stray.request_numbered(cx, Method::Ack, cseq);
        transactions::send_ack(cx, hop, ack.clone());
        let (bye_hop, bye) = stray.request(cx, Method::Bye);
        transactions::request(cx, bye_hop, bye, Owner::Nobody);
        self.abandoned.push(Abandoned {
            side,
            tag,
            cseq,
            hop,
            ack,
        });
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
            let index = self.fork(cx, &response);
            self.settle_fork(cx, index);
        }
        let Some(leg) = self.leg_mut(side) else {
            return;
        };
        if initial && !leg.confirmed {
            leg.adopt_response(&response);
            leg.confirmed = true;
        } else {
            leg.refresh_target_from(&response.headers.contacts);
            leg.ability.learn(&response.headers);
        }
        self.session_answered(cx, side, &response.headers);
        let settled = self.settled.as_ref().filter(|_| initial);
        if let Some(fork) = settled.filter(|fork| fork.firm) {
            let (described, told) = (fork.described.clone(), fork.told);
            self.acknowledge(cx, side, cseq, None);
            self.answered_early(cx, &response, offer, described, told);
            return;
        }
        // A callee that answered early may leave the 2xx empty.
        let early = settled.and_then(|fork| fork.described.clone());
        let description = outgoing::description(response.body_part());
        match (offer, description) {
            (Some(offer), answer) => {
                let answer = answer.or(early);
                self.acknowledge(cx, side, cseq, None);
                match answer.filter(|answer| self.answers(side, answer)) {
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

    /// Offer and answer were through before the 2xx: what it describes is not heard (RFC 6337 §3.1), and a caller that
    /// has confirmed its answer gets none in ours.
    fn answered_early(
        &mut self,
        cx: &mut Context,
        response: &Response,
        offer: Option<SessionDescription>,
        described: Option<SessionDescription>,
        told: bool,
    ) {
        let current = self.b.as_ref().and_then(|leg| leg.described.clone());
        let callers = self.a.described.clone().or(offer);
        if let (Some(callers), Some(described)) = (callers, &described)
            && current.as_ref() != Some(described)
        {
            // Another branch was heard last.
            self.agree(cx, Side::A, &callers, described);
        }
        // A caller whose PRACK is still on its way has the answer in the response that it confirms.
        let waits = self
            .settled
            .as_ref()
            .is_some_and(|fork| fork.reliable.holds_description());
        let body = match described {
            Some(described) if !told && !waits => self.own_description(cx, Side::A, &described),
            _ => None,
        };
        self.accept(cx, response, body);
    }

    fn refuse_exchange_and_end(&mut self, cx: &mut Context, why: &'static str) {
        self.refuse_exchange(cx, 502, why);
        self.end(cx, why);
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
        leg.keep_ack(cseq, ack.clone());
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
        if initial {
            self.drop_forks(cx);
        }
        let raised = status == 422
            && response.is_some_and(|response| self.session_raised(side, &response.headers));
        if raised || (initial && status == 494 && self.agrees_anew(cx, side, response)) {
            self.send_invite(cx);
            return;
        }
        if initial && self.try_next(cx, status, response) {
            return;
        }
        self.exchange = None;
        let passed = self
            .current_target()
            .is_some_and(|target| target.passes_challenges);
        if let (true, Some(response)) = (initial, response) {
            self.note_reason(&response.headers);
        }
        let told = self.mapped(cx, side, told(status, initial && passed));
        let whose = if response.is_some() {
            "said"
        } else {
            "no answer, as if"
        };
        let decision = format!("{whose} {status}: {told} goes back");
        cx.decided(self.a.call_id(), &decision);
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
            match self.replaces.take() {
                Some((old, side)) => cx.turns.push_back(Turn::NotReplaced {
                    new: self.id,
                    old,
                    side,
                }),
                None => self.end(cx, "refused"),
            }
            return;
        }
        self.restore(cx);
        self.end_if_lost(cx, side, status);
    }

    /// A carrier said what media security it has, and may be asked again with that. RFC 3329 §2.3.1.
    fn agrees_anew(&mut self, cx: &mut Context, side: Side, response: Option<&Response>) -> bool {
        let peer = self.leg(side).map(|leg| leg.peer);
        let (Some(Peer::Trunk(index)), Some(response)) = (peer, response) else {
            return false;
        };
        let agreed = policy::mediasec::learn(cx, index, &response.headers);
        agreed && !std::mem::replace(&mut self.agreed, true)
    }

    /// Go on with the next target if this failure is the target's own, not the callee's.
    fn try_next(&mut self, cx: &mut Context, status: u16, response: Option<&Response>) -> bool {
        let spoke = response.is_some();
        let hop = self.current_target().map(|target| target.hop);
        if let (false, 408 | 503, Some(hop)) = (spoke, status, hop) {
            health::suspect(cx, &hop);
        }
        if let (true, Some(failed @ (Peer::Trunk(_) | Peer::Registrar))) =
            (spoke, self.current_target().map(|target| target.peer))
        {
            // A carrier that refuses by one of its addresses is not asked by the others, but RFC 3263 §4.3 says that each
            // target of a name speaks for itself when it has no room. Phones speak for themselves.
            let alone = status == 503 && cx.surroundings.is_by_name(failed);
            let later = response.and_then(|response| response.headers.retry_after());
            if let (503, Some(later)) = (status, later) {
                let others = self.targets.iter();
                let others = others.filter(|target| !alone && target.peer == failed);
                for hop in others.map(|target| target.hop).chain(hop) {
                    health::overloaded(cx, &hop, later.seconds);
                }
            }
            if !alone {
                self.targets.retain(|target| target.peer != failed);
            }
        }
        let worth = matches!(status, 408 | 430 | 500..=599) || self.failover.contains(&status);
        if !worth || self.phase == Phase::Ending {
            return false;
        }
        self.drop_full_targets(cx);
        if self.targets.is_empty() {
            return false;
        }
        cx.counters.count("calls_failover_total", "", "");
        let decision = format!("{status}: the next place is tried");
        cx.decided(self.a.call_id(), &decision);
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
            // Not cleared: nobody needs their room any more.
            self.targets = std::collections::VecDeque::new();
            cx.timers
                .cancel(TimerKey::Call(self.id, CallTimer::NoAnswer));
            let longest =
                std::time::Duration::from_secs(u64::from(cx.settings().limits.call_seconds.max(1)));
            cx.timers.set(
                TimerKey::Call(self.id, CallTimer::Duration),
                cx.now + longest,
            );
        }
        if initial {
            self.media.answered(cx);
        }
        let fields = self.carried(cx, from.other(), &response.headers);
        if self.made_for.is_some() {
            self.answered_for_transfer(cx);
        } else {
            self.success_ready(cx, fields, body);
        }
        if let Some((old, _)) = self.replaces.take() {
            cx.turns.push_back(Turn::Replaced(old));
        }
        if initial {
            let theirs = self.b.as_ref().map(Leg::codecs).unwrap_or_default();
            let decision = format!("answered with {} | {theirs}", self.a.codecs());
            cx.decided(self.a.call_id(), &decision);
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
        420 | 421 | 422 | 494 => 500,
        _ => status,
    }
}
