//! Reliable provisional responses: RFC 3262, on either leg by itself.
//!
//! From the callee: each is confirmed by PRACK once, in its order. One with a description that goes on to a caller who
//! confirms too waits for the caller's PRACK, so that an offer in it reaches the callee. To the caller: sent reliably if
//! it wants that, or if it can and the callee's was; repeated until its PRACK comes, one at a time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sbc_media::relay::Side;
use sbc_sip::{
    headers::{Cseq, Field, Rack},
    message::{Request, Response},
    method::Method,
    sdp::SessionDescription,
    status::StatusCode,
};

use super::{Call, CallTimer, ability, early::Fork};
use crate::{
    context::Context,
    outgoing,
    timers::TimerKey,
    transactions::{self, Owner, T1, TIMEOUT},
};

/// Reliable responses that wait for those before them, at most.
const QUEUE: usize = 8;

/// A response that is to go to the caller.
pub(super) struct Provisional {
    pub(super) status: StatusCode,
    /// What crosses of the callee's.
    pub(super) fields: Vec<Field>,
    pub(super) body: Option<SessionDescription>,
}

/// A reliable response whose PRACK has not come.
struct Unconfirmed {
    rseq: u32,
    response: Response,
    interval: Duration,
    next: Instant,
    until: Instant,
    described: bool,
}

/// Reliable responses in one early dialog of the caller.
pub(super) struct Reliable {
    next: u32,
    waiting: Option<Unconfirmed>,
    queue: VecDeque<Provisional>,
}

impl Reliable {
    pub(super) const fn new(first: u32) -> Self {
        Self {
            next: first,
            waiting: None,
            queue: VecDeque::new(),
        }
    }

    /// Whether a response with a description has not been confirmed: no 2xx may pass it (RFC 3262 §3).
    pub(super) fn holds_description(&self) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|waiting| waiting.described)
            || self.queue.iter().any(|queued| queued.body.is_some())
    }

    fn deadline(&self) -> Option<Instant> {
        self.waiting
            .as_ref()
            .map(|waiting| waiting.next.min(waiting.until))
    }
}

/// What a provisional response of the callee is.
pub(super) enum Heard {
    /// Not reliable.
    Plain,
    /// The next one, to be confirmed with this RSeq.
    Next(u32),
    /// A repetition, or one whose predecessor is missing: not to be dealt with.
    Again,
}

impl Call {
    /// Whether a response wants PRACK. RFC 3262 §4.
    pub(super) fn heard(&mut self, index: usize, response: &Response) -> Heard {
        let required = response.headers.require().unwrap_or_default();
        let (true, Some(rseq)) = (ability::has(required, "100rel"), response.headers.rseq()) else {
            return Heard::Plain;
        };
        let Some(fork) = self.forks.get_mut(index) else {
            return Heard::Again;
        };
        if fork
            .rseq
            .is_some_and(|last| last.checked_add(1) != Some(rseq))
        {
            return Heard::Again;
        }
        fork.rseq = Some(rseq);
        Heard::Next(rseq)
    }

    /// PRACK for a response of the callee in an early dialog. With an owner's task, what becomes of it is of interest.
    pub(super) fn confirm(
        &mut self,
        cx: &mut Context,
        index: usize,
        rseq: u32,
        body: Option<&SessionDescription>,
        owner: Owner,
    ) -> Option<u64> {
        let invite = self.exchange.as_ref()?.client?.1;
        let cseq = self.b.as_mut()?.next_cseq();
        let fork = self.forks.get_mut(index)?;
        fork.unconfirmed = None;
        let (hop, mut prack) = fork.dialog.request_numbered(cx, Method::Prack, cseq);
        prack.headers.push(Field::Rack(Rack {
            rseq,
            cseq: Cseq {
                number: invite,
                method: Method::Invite,
            },
        }));
        if let Some(body) = body {
            outgoing::set_description(&mut prack, body);
        }
        Some(transactions::request(cx, hop, prack, owner))
    }

    /// A provisional response in an early dialog of the caller.
    pub(super) fn tell(
        &mut self,
        cx: &mut Context,
        index: usize,
        provisional: Provisional,
        reliably: bool,
    ) {
        if !reliably {
            self.send_provisional(cx, index, provisional, None);
            return;
        }
        let Some(fork) = self.forks.get_mut(index) else {
            return;
        };
        if fork.reliable.waiting.is_none() {
            let rseq = fork.reliable.next;
            fork.reliable.next = rseq.saturating_add(1);
            self.send_provisional(cx, index, provisional, Some(rseq));
        } else if fork.reliable.queue.len() < QUEUE {
            fork.reliable.queue.push_back(provisional);
        } else {
            cx.counters.count("sip_provisionals_dropped_total", "", "");
        }
    }

    fn send_provisional(
        &mut self,
        cx: &mut Context,
        index: usize,
        provisional: Provisional,
        rseq: Option<u32>,
    ) {
        let (Some(exchange), Some(fork)) = (&self.exchange, self.forks.get_mut(index)) else {
            return;
        };
        let described = provisional.body.is_some();
        let mut fields = provisional.fields;
        if let Some(rseq) = rseq {
            fields.push(Field::Require(vec!["100rel".into()]));
            fields.push(Field::Rseq(rseq));
        }
        let answer = outgoing::Answer {
            status: provisional.status,
            tag: Some(&fork.own_tag),
            contact: outgoing::contact(cx, &self.a.hop),
            body: provisional.body,
            allow: rseq.is_some(),
            fields,
            ..outgoing::Answer::default()
        };
        let response = transactions::respond(cx, exchange.server, answer);
        if let (Some(rseq), Some(response)) = (rseq, response) {
            fork.reliable.waiting = Some(Unconfirmed {
                rseq,
                response,
                interval: T1,
                next: cx.now + T1,
                until: cx.now + TIMEOUT,
                described,
            });
            self.set_reliable_timer(cx);
        }
    }

    fn set_reliable_timer(&self, cx: &mut Context) {
        let key = TimerKey::Call(self.id, CallTimer::Reliable);
        let forks = self.forks.iter().chain(self.settled.as_deref());
        match forks.filter_map(|fork| fork.reliable.deadline()).min() {
            Some(at) => cx.timers.set(key, at),
            None => cx.timers.cancel(key),
        }
    }

    /// Reliable responses are sent again; one that nobody confirms in 64*T1 ends the call (RFC 3262 §3).
    pub(super) fn reliable_timer(&mut self, cx: &mut Context) {
        let (now, server) = (cx.now, self.invite.0);
        let mut given_up = false;
        for fork in self.forks.iter_mut().chain(self.settled.as_deref_mut()) {
            let Some(waiting) = &mut fork.reliable.waiting else {
                continue;
            };
            if waiting.until <= now {
                given_up = true;
            } else if waiting.next <= now {
                // Unlike a 2xx, without bound T2.
                waiting.interval *= 2;
                waiting.next = now + waiting.interval;
                transactions::send_success_again(cx, server, &waiting.response);
            }
        }
        if given_up {
            self.refuse_exchange(cx, 500, "no-prack");
            self.end(cx, "no-prack");
            return;
        }
        self.set_reliable_timer(cx);
    }

    /// Nothing provisional is sent any more.
    pub(super) fn stop_reliable(&mut self, cx: &mut Context) {
        for fork in self.forks.iter_mut().chain(self.settled.as_deref_mut()) {
            fork.reliable.waiting = None;
            fork.reliable.queue.clear();
        }
        self.set_reliable_timer(cx);
    }

    /// A PRACK of the caller, in an early dialog or just after the 2xx.
    pub(super) fn prack(&mut self, cx: &mut Context, server: u64, request: &Request) {
        let tag = request.headers.to.tag().map(|tag| tag.to_string());
        let invite = self.invite.1;
        let place = self
            .forks
            .iter()
            .position(|fork| Some(&fork.own_tag) == tag.as_ref());
        let fork = match place {
            Some(index) => self.forks.get_mut(index),
            None => self.settled.as_deref_mut(),
        };
        let confirmed = fork.and_then(|fork| confirmed_by(fork, request, invite));
        let Some(described) = confirmed else {
            transactions::respond_plain(cx, server, 481);
            return;
        };
        self.set_reliable_timer(cx);
        self.confirmed(cx, place, server, request, described);
        self.next_provisional(cx, place);
        self.release_success(cx);
    }

    /// What the caller's PRACK brings: an answer, an offer, or nothing.
    fn confirmed(
        &mut self,
        cx: &mut Context,
        place: Option<usize>,
        server: u64,
        request: &Request,
        described: bool,
    ) {
        let brought = match outgoing::offer_of(request) {
            Ok(brought) => brought,
            Err(status) => {
                transactions::respond_plain(cx, server, status);
                return;
            }
        };
        let Some(index) = place else {
            let status = if brought.is_some() { 488 } else { 200 };
            transactions::respond_plain(cx, server, status);
            return;
        };
        if self.awaits_answer(index) {
            self.answered_by_prack(cx, index, server, brought);
            return;
        }
        let Some(fork) = self.forks.get_mut(index) else {
            return;
        };
        fork.told |= described;
        let (settled, held) = (fork.told && fork.firm, fork.unconfirmed);
        match brought {
            Some(offer) if settled => self.offer_by_prack(cx, index, server, offer),
            Some(_) => transactions::respond_plain(cx, server, 488),
            None => {
                transactions::respond_plain(cx, server, 200);
                if let Some(rseq) = held {
                    self.confirm(cx, index, rseq, None, Owner::Nobody);
                }
            }
        }
    }

    fn next_provisional(&mut self, cx: &mut Context, place: Option<usize>) {
        let Some(index) = place else { return };
        let queued = self
            .forks
            .get_mut(index)
            .filter(|fork| fork.reliable.waiting.is_none())
            .and_then(|fork| fork.reliable.queue.pop_front());
        if let Some(provisional) = queued {
            self.tell(cx, index, provisional, true);
        }
    }

    /// A PRACK without a description that is waited for ends an exchange that needs one.
    fn answered_by_prack(
        &mut self,
        cx: &mut Context,
        index: usize,
        server: u64,
        brought: Option<SessionDescription>,
    ) {
        let Some(offer) = self.take_early_offer() else {
            return;
        };
        let answer = brought.filter(|answer| self.answers(Side::A, answer));
        let Some(answer) = answer else {
            transactions::respond_plain(cx, server, 488);
            self.refuse_exchange(cx, 500, "bad-answer");
            return;
        };
        transactions::respond_plain(cx, server, 200);
        self.agree(cx, Side::B, &offer, &answer);
        let body = self.own_description(cx, Side::B, &answer);
        let Some(fork) = self.forks.get_mut(index) else {
            return;
        };
        fork.described = Some(offer);
        (fork.firm, fork.told) = (true, true);
        if let Some(rseq) = fork.unconfirmed {
            self.confirm(cx, index, rseq, body.as_ref(), Owner::Nobody);
        }
    }
}

/// Whether a PRACK confirms what waits in an early dialog, and whether that had a description. RFC 3262 §3.
fn confirmed_by(fork: &mut Fork, request: &Request, invite: u32) -> Option<bool> {
    let rack = request.headers.rack()?;
    let fits = rack.cseq.method == Method::Invite && rack.cseq.number == invite;
    let waiting = fork
        .reliable
        .waiting
        .take_if(|waiting| fits && waiting.rseq == rack.rseq)?;
    Some(waiting.described)
}
