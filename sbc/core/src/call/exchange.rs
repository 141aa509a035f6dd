//! An INVITE on its way from one leg to the other. RFC 3261 §13 and §14, RFC 3264.

use std::time::Duration;

use broker_proto::{broker::Family, journal::Severity};
use sbc_media::relay::Side;
use sbc_sip::{dialog::Acceptance, message::Response, method::Method, sdp::SessionDescription};

use super::{Call, Phase, leg::Leg};
use crate::{
    context::Context,
    ledger::{self, Subject},
    offer_answer::{self, Plan},
    outgoing, policy,
    priority::Spared,
    surroundings::Peer,
    target::Target,
    transactions::{self, Owner, Task},
    transport,
};

/// How long a target may stay silent where there is another to try; timer B is for the last.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an exchange waits for.
pub(super) enum Stage {
    /// Media sockets, then the INVITE goes out.
    Media,
    /// The other side's final response.
    Response,
    /// Media sockets for an offer that came in the 2xx, which then goes back.
    LateMedia(Box<Response>),
    /// What our 2xx must not pass: it is ready.
    Ready,
    /// The ACK for our 2xx.
    Acknowledgement(Box<Acceptance>),
}

/// One INVITE through the call.
pub(super) struct Exchange {
    /// The leg that it came in by.
    pub(super) from: Side,
    /// Its server transaction.
    pub(super) server: u64,
    /// Its CSeq.
    pub(super) cseq: u32,
    /// Our INVITE on the other leg: client transaction and CSeq.
    pub(super) client: Option<(u64, u32)>,
    /// It makes the call, rather than change it.
    pub(super) initial: bool,
    /// The offer that it brought; none: the other side offers in its 2xx.
    pub(super) offer: Option<SessionDescription>,
    /// The other side's offer in its 2xx.
    pub(super) late_offer: Option<SessionDescription>,
    pub(super) stage: Stage,
}

impl Exchange {
    pub(super) fn new(
        from: Side,
        server: u64,
        cseq: u32,
        offer: Option<SessionDescription>,
        initial: bool,
    ) -> Self {
        Self {
            from,
            server,
            cseq,
            client: None,
            initial,
            offer,
            late_offer: None,
            stage: Stage::Media,
        }
    }

    /// A 2xx was sent, or is about to be.
    pub(super) fn is_answered(&self) -> bool {
        matches!(
            self.stage,
            Stage::LateMedia(_) | Stage::Ready | Stage::Acknowledgement { .. }
        )
    }

    pub(super) fn awaits_media(&self) -> bool {
        matches!(self.stage, Stage::Media | Stage::LateMedia(_))
    }
}

impl Call {
    /// Try the next target. There is at least one when this is called first.
    pub(super) fn next_target(&mut self, cx: &mut Context) {
        let Some(target) = self.targets.pop_front() else {
            return;
        };
        let (peer, word) = (target.hop.peer(), transport::word(target.hop.transport()));
        let tried = format!("tries {} at {peer} by {word}", target.uri);
        cx.decided(self.a.call_id(), &tried);
        self.aim(cx, &target);
        if let Some(old) = self.b.take() {
            old.leave(cx);
        }
        self.drop_forks(cx);
        let display = self.original.display.clone();
        let own = target.own.clone().with_display(display);
        let rules = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
        let own = self.original.crossing.from(&rules, own);
        let call_id = cx.identity.name();
        let leg = Leg::new(
            cx,
            target.hop,
            target.peer,
            call_id,
            own,
            target.other.clone(),
        );
        leg.enter(cx, self.id, Side::B);
        self.b = Some(leg);
        self.target = Some(Box::new(target));
        self.prepare(cx);
    }

    /// Of the targets that are left, forget those that a limit forbids.
    pub(super) fn drop_full_targets(&mut self, cx: &mut Context) {
        if self.spared.is_some() {
            return;
        }
        let Context {
            surroundings,
            ledger,
            now,
            ..
        } = &mut *cx;
        // The target that failed counts no more.
        let kbit = ledger.aim(*now, surroundings.settings(), self.id, Vec::new());
        let from = self.a.hop.zone();
        self.targets
            .retain(|target| target.limit(cx, from, kbit).is_none());
    }

    /// The call counts where it goes now; one that calls for help makes room for itself.
    fn aim(&self, cx: &mut Context, target: &Target) {
        let from = self.a.hop.zone();
        let Context {
            surroundings,
            ledger,
            now,
            ..
        } = cx;
        let subjects = target.subjects(surroundings, from);
        let settings = surroundings.settings();
        let preempts = match (self.spared, target.peer) {
            (Some(Spared::Emergency), Peer::Trunk(index)) => surroundings
                .trunk(index)
                .filter(|trunk| trunk.policy.preempt),
            _ => None,
        };
        let victim = preempts.and_then(|trunk| {
            let trunk = Subject::Trunk(trunk.name.clone());
            let full = ledger.may(*now, settings, &trunk, 0) == Err("calls");
            ledger.youngest(&trunk).filter(|_| full)
        });
        ledger.aim(*now, settings, self.id, subjects);
        if let Some(victim) = victim {
            cx.counters.count("calls_preempted_total", "", "");
            cx.preempted.insert(victim);
        }
    }

    /// Ask for the media sockets that the offer needs, on both legs.
    pub(super) fn prepare(&mut self, cx: &mut Context) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        exchange.stage = Stage::Media;
        if let Some(offer) = exchange.offer.clone() {
            let from = exchange.from;
            if !self.open_lines(cx, from, &offer) {
                self.refuse_exchange(cx, 488, "media-refused");
                return;
            }
        }
        if !self.media.is_opening() {
            self.media_ready(cx);
        }
    }

    /// Open what a description of `side` needs. `false`: it has no line that we can carry.
    pub(super) fn open_lines(
        &mut self,
        cx: &mut Context,
        side: Side,
        offer: &SessionDescription,
    ) -> bool {
        let zones = [side, side.other()].map(|side| {
            self.leg(side)
                .map(|leg| (leg.hop.zone(), leg.hop.peer().is_ipv4()))
        });
        let [Some((own_zone, _)), Some((other_zone, other_v4))] = zones else {
            return false;
        };
        let offer = &self.filtered(cx, side.other(), offer);
        let plan = offer_answer::plan(offer);
        self.kinds = plan.iter().flatten().map(|line| line.kind).collect();
        for (index, line) in plan.iter().enumerate() {
            match line {
                Some(Plan { v4, .. }) => {
                    self.media.open(cx, index, side, own_zone, family(*v4));
                    self.media
                        .open(cx, index, side.other(), other_zone, family(other_v4));
                    if !self.set_keys(cx, index, side, offer) {
                        self.media.close_line(cx, index);
                    }
                }
                None => self.media.close_line(cx, index),
            }
        }
        (0..plan.len()).any(|line| self.media.is_open(line))
    }

    /// Every media socket that was asked for is there.
    pub(super) fn media_ready(&mut self, cx: &mut Context) {
        if self.passage_opens() {
            self.pass_on(cx);
            return;
        }
        if self.own_opens() {
            self.own_request(cx);
            return;
        }
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match std::mem::replace(&mut exchange.stage, Stage::Response) {
            Stage::Media => self.send_invite(cx),
            Stage::LateMedia(response) => self.send_late_offer(cx, &response),
            other => exchange.stage = other,
        }
    }

    /// The INVITE on the other leg.
    pub(super) fn send_invite(&mut self, cx: &mut Context) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (to, initial, offer) = (
            exchange.from.other(),
            exchange.initial,
            exchange.offer.clone(),
        );
        let body = offer.and_then(|offer| self.own_description(cx, to, &offer));
        let session = self.session_header(cx, to, false);
        let referrer = self.referred_by();
        let extensions = self.extensions(initial, body.is_some());
        let id = self.id;
        let (original, target) = (&self.original, &self.target);
        let leg = match to {
            Side::A => Some(&mut self.a),
            Side::B => self.b.as_mut(),
        };
        let Some(leg) = leg else { return };
        let (hop, mut request) = leg.request(cx, Method::Invite);
        let cseq = leg.own_cseq();
        let contact = outgoing::contact(cx, &hop);
        outgoing::finish_invite(&mut request, contact, body);
        if initial {
            request.headers.fields.extend(referrer);
        }
        request.headers.fields.extend(session);
        request.headers.push(outgoing::supported(&extensions));
        if initial && let Some(target) = target {
            outgoing::first_invite(&mut request, target, original);
            Self::write_fields(cx, leg, &original.crossing, &mut request);
        }
        let patience = if initial && !self.targets.is_empty() {
            PATIENCE
        } else {
            transactions::TIMEOUT
        };
        let owner = Owner::Call {
            call: id,
            side: to,
            task: Task::Invite,
        };
        let client = transactions::request_within(cx, hop, request, owner, patience);
        self.inviting.push(client);
        if let Some(exchange) = &mut self.exchange {
            exchange.client = Some((client, cseq));
        }
    }

    /// What the callee may make use of. A caller that confirms nothing cannot answer an offer that comes early.
    fn extensions(&self, initial: bool, offered: bool) -> Vec<&'static str> {
        let mut tags = vec!["timer"];
        if initial && (offered || self.a.ability.reliable) {
            tags.push("100rel");
        }
        if initial && self.a.ability.early_terminated {
            tags.push("199");
        }
        tags
    }

    /// Our description towards a leg, made of the one that the other leg's far end gave.
    pub(super) fn own_description(
        &mut self,
        cx: &Context,
        to: Side,
        theirs: &SessionDescription,
    ) -> Option<SessionDescription> {
        let leases: Vec<_> = (0..theirs.media.len())
            .map(|line| {
                let lease = self.media.lease(line, to)?;
                Some((lease, self.media.keys(line, to).cloned()))
            })
            .collect();
        let theirs = self.filtered(cx, to, theirs);
        let offers = self
            .exchange
            .as_ref()
            .is_none_or(|exchange| exchange.from != to);
        let leg = self.leg_mut(to)?;
        leg.description.asks_for_edge = offers && policy::mediasec::is_spoken(cx, leg.peer);
        let address = transport::own_address(cx, &leg.hop)?.ip();
        // What its far end said last: the offer, where this answers one.
        let said = leg.described.as_ref();
        Some(leg.description.write(&theirs, said, &leases, address))
    }

    /// Both sides of an exchange have said what they want: the relay and its pinholes follow.
    pub(super) fn agree(
        &mut self,
        cx: &mut Context,
        offerer: Side,
        offer: &SessionDescription,
        answer: &SessionDescription,
    ) {
        let mut kinds = Vec::new();
        for line in 0..offer.media.len() {
            let offered = offer_answer::describe(offer, line);
            let answered = offer_answer::describe(answer, line);
            let reaches = (
                self.leg(offerer).map(Leg::reach),
                self.leg(offerer.other()).map(Leg::reach),
            );
            match (offered, answered, reaches) {
                (Some(offered), Some(answered), (Some(offerer_reach), Some(answerer_reach))) => {
                    let answered = offer_answer::fit(&offered, answered);
                    let (Some(ours), Some(theirs)) = (
                        self.agreed(line, offerer, offer),
                        self.agreed(line, offerer.other(), answer),
                    ) else {
                        cx.counters.count("media_keys_refused_total", "", "");
                        self.media.close_line(cx, line);
                        continue;
                    };
                    self.media.describe(
                        cx,
                        (line, offerer.other()),
                        answerer_reach,
                        (answered, theirs),
                    );
                    self.media
                        .describe(cx, (line, offerer), offerer_reach, (offered, ours));
                    kinds.extend(offer_answer::kind(offer, line));
                }
                _ => self.media.close_line(cx, line),
            }
        }
        self.media.close_lines_from(cx, offer.media.len());
        cx.ledger.describe(self.id, ledger::kbit_of(Some(answer)));
        self.kinds = kinds;
        for (side, description) in [(offerer, offer), (offerer.other(), answer)] {
            if let Some(leg) = self.leg_mut(side) {
                leg.described = Some(description.clone());
            }
        }
    }

    /// The other side offers in its 2xx: sockets for it, then the 2xx goes back.
    pub(super) fn late_offer(
        &mut self,
        cx: &mut Context,
        response: Response,
        offer: &SessionDescription,
    ) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        exchange.late_offer = Some(offer.clone());
        exchange.stage = Stage::LateMedia(Box::new(response));
        let offerer = exchange.from.other();
        if !self.open_lines(cx, offerer, offer) {
            self.end(cx, "media-refused");
        } else if !self.media.is_opening() {
            self.media_ready(cx);
        }
    }

    fn send_late_offer(&mut self, cx: &mut Context, response: &Response) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (from, offer) = (exchange.from, exchange.late_offer.clone());
        let body = offer.and_then(|offer| self.own_description(cx, from, &offer));
        self.accept(cx, response, body);
    }

    /// The exchange fails for a reason of our own: its INVITE gets `status`.
    pub(super) fn refuse_exchange(&mut self, cx: &mut Context, status: u16, why: &'static str) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        // A 2xx of the other side is acknowledged, whatever becomes of it: RFC 3261 §13.2.2.4.
        if let (Stage::LateMedia(_), Some((_, cseq))) = (&exchange.stage, exchange.client) {
            self.acknowledge(cx, exchange.from.other(), cseq, None);
        }
        cx.counters.count("calls_refused_total", "reason", why);
        let fields = vec![
            ("call", self.id.to_string()),
            ("reason", why.to_owned()),
            ("status", status.to_string()),
        ];
        cx.log(Severity::Notice, "exchange-refused", fields);
        transactions::respond_plain(cx, exchange.server, status);
        if exchange.initial {
            self.status = status;
            self.end(cx, why);
        } else {
            self.restore(cx);
        }
    }

    /// A re-INVITE failed: media go back to what both sides last agreed on. RFC 3261 §14.1.
    pub(super) fn restore(&mut self, cx: &mut Context) {
        self.media.drop_next(cx);
        let described = (
            self.a.described.clone(),
            self.b.as_ref().and_then(|leg| leg.described.clone()),
        );
        if let (Some(a), Some(b)) = described {
            self.agree(cx, Side::A, &a, &b);
        }
    }

    /// The callee rings for too long.
    pub(super) fn no_answer(&mut self, cx: &mut Context) {
        if matches!(self.phase, Phase::Trying | Phase::Ringing) {
            self.targets.clear();
            self.refuse_exchange(cx, 408, "no-answer");
        }
    }

    pub(super) fn ringing(&mut self) {
        if self.phase == Phase::Trying {
            self.phase = Phase::Ringing;
        }
    }

    /// The target that is being tried.
    pub(super) fn current_target(&self) -> Option<&Target> {
        self.target.as_deref()
    }
}

const fn family(v4: bool) -> Family {
    if v4 { Family::V4 } else { Family::V6 }
}
