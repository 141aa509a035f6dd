//! An offer on its way through the call by another message than INVITE: UPDATE (RFC 3311), PRACK or a reliable
//! provisional response (RFC 3262 §5), in an early dialog or in one that stands. RFC 6337 §2 for who may offer when.
//!
//! At most one is on its way; another is 491 or 500 with Retry-After meanwhile, as RFC 3311 §5.2 says. To a far end that
//! does not know UPDATE it goes by re-INVITE.

use sbc_media::relay::Side;
use sbc_sip::{
    headers::Headers,
    message::{Request, Response},
    method::Method,
    sdp::SessionDescription,
    status::StatusCode,
};

use super::{Call, Phase, reliable::Provisional};
use crate::{
    context::Context,
    outgoing::{self, Answer},
    transactions::{self, Owner, Task},
};

/// What brought an offer.
#[derive(Clone, Copy)]
enum Carrier {
    /// An UPDATE, to be answered in this server transaction.
    Update(u64),
    /// The caller's PRACK.
    Prack(u64),
    /// A reliable response of the callee; the answer comes in the caller's PRACK.
    Provisional(StatusCode),
}

/// An offer on its way.
pub(super) struct Passage {
    from: Side,
    /// Of an early dialog: the caller's tag in it.
    early: Option<String>,
    offer: SessionDescription,
    carrier: Carrier,
    /// Our request with it on the other leg: transaction, CSeq and method.
    client: Option<(u64, u32, Method)>,
    /// Media sockets are awaited.
    opening: bool,
}

impl Call {
    /// Seconds after which a far end may offer again: 0 to 10 (RFC 3261 §14.2, RFC 3311 §5.2).
    pub(super) fn offer_again_later(cx: &mut Context) -> Answer<'static> {
        Answer {
            status: StatusCode::SERVER_INTERNAL_ERROR,
            retry_after: Some(1 + u32::from(cx.identity.number().to_le_bytes()[0]) % 10),
            ..Answer::default()
        }
    }

    /// An UPDATE in a dialog that stands (`early` none) or in that early dialog.
    pub(super) fn update(
        &mut self,
        cx: &mut Context,
        side: Side,
        early: Option<usize>,
        server: u64,
        request: &Request,
    ) {
        let offer = match outgoing::offer_of(request) {
            Ok(offer) => offer,
            Err(status) => {
                transactions::respond_plain(cx, server, status);
                return;
            }
        };
        if let Some(answer) = self.session_too_short(cx, side, &request.headers) {
            transactions::respond(cx, server, answer);
            return;
        }
        match offer {
            None => self.refreshed_by_update(cx, side, early, server, &request.headers),
            Some(offer) => self.offer_by_update(cx, side, early, server, request, offer),
        }
    }

    /// An UPDATE without offer: the far end has moved, or the session goes on. The other leg has its own clock.
    fn refreshed_by_update(
        &mut self,
        cx: &mut Context,
        side: Side,
        early: Option<usize>,
        server: u64,
        headers: &Headers,
    ) {
        self.moved(side, early, headers);
        self.answer_update(cx, side, early, server, headers, None);
    }

    /// A target refresh request changes where a far end is.
    fn moved(&mut self, side: Side, early: Option<usize>, headers: &Headers) {
        match (side, early) {
            (Side::B, Some(index)) => {
                if let Some(fork) = self.forks.get_mut(index) {
                    fork.dialog.refresh_target_from(&headers.contacts);
                    fork.dialog.ability.learn(headers);
                }
            }
            _ => {
                if let Some(leg) = self.leg_mut(side) {
                    leg.refresh_target_from(&headers.contacts);
                    leg.ability.learn(headers);
                }
            }
        }
    }

    fn answer_update(
        &mut self,
        cx: &mut Context,
        side: Side,
        early: Option<usize>,
        server: u64,
        headers: &Headers,
        body: Option<SessionDescription>,
    ) {
        let extra = match early {
            None => self.session_asked(cx, side, headers),
            Some(_) => Vec::new(),
        };
        let Some(leg) = self.leg(side) else { return };
        let answer = Answer {
            status: StatusCode::OK,
            contact: outgoing::contact(cx, &leg.hop),
            body,
            allow: true,
            fields: extra,
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }

    fn offer_by_update(
        &mut self,
        cx: &mut Context,
        side: Side,
        early: Option<usize>,
        server: u64,
        request: &Request,
        offer: SessionDescription,
    ) {
        if let Err(answer) = self.may_offer(cx, side, early) {
            transactions::respond(cx, server, *answer);
            return;
        }
        self.moved(side, early, &request.headers);
        if early.is_none() {
            // Taken note of now; told in the answer.
            self.session_offered(side, &request.headers);
        }
        self.pass(cx, side, early, offer, Carrier::Update(server));
    }

    /// Whether a side may offer now; otherwise what it is answered.
    fn may_offer(
        &mut self,
        cx: &mut Context,
        side: Side,
        early: Option<usize>,
    ) -> Result<(), Box<Answer<'static>>> {
        let refusal = |status| {
            Err(Box::new(Answer {
                status: outgoing::status(status),
                ..Answer::default()
            }))
        };
        if let Some(passage) = &self.passage {
            // Its own offer is not answered yet, or ours to it.
            return if passage.from == side {
                Err(Box::new(Self::offer_again_later(cx)))
            } else {
                refusal(491)
            };
        }
        if self.own.is_some() {
            return refusal(491);
        }
        let Some(index) = early else {
            let busy = self.exchange.as_ref().map(|exchange| exchange.from == side);
            return match busy {
                Some(true) => Err(Box::new(Self::offer_again_later(cx))),
                Some(false) => refusal(491),
                None => Ok(()),
            };
        };
        let Some(fork) = self.forks.get(index) else {
            return refusal(481);
        };
        let other_takes_it = match side {
            Side::A => fork.dialog.ability.update,
            Side::B => self.a.ability.update,
        };
        match (side, fork.firm, fork.told) {
            (_, true, true) if other_takes_it => Ok(()),
            (_, true, true) => refusal(488),
            // The caller's offer has no answer that stands.
            (Side::A, _, false) => Err(Box::new(Self::offer_again_later(cx))),
            (Side::B, false, _) => refusal(491),
            // One side has its answer, the other does not yet: it will.
            _ => Err(Box::new(Self::offer_again_later(cx))),
        }
    }

    /// An offer in the caller's PRACK.
    pub(super) fn offer_by_prack(
        &mut self,
        cx: &mut Context,
        index: usize,
        server: u64,
        offer: SessionDescription,
    ) {
        if self.passage.is_some() {
            transactions::respond_plain(cx, server, 491);
            return;
        }
        let by = self
            .forks
            .get(index)
            .is_some_and(|fork| fork.unconfirmed.is_some() || fork.dialog.ability.update);
        if !by {
            transactions::respond_plain(cx, server, 488);
            return;
        }
        self.pass(cx, Side::A, Some(index), offer, Carrier::Prack(server));
    }

    /// An offer in a reliable response to an INVITE that had none.
    pub(super) fn offer_by_provisional(
        &mut self,
        cx: &mut Context,
        index: usize,
        status: StatusCode,
        offer: SessionDescription,
    ) {
        if self.passage.is_none() {
            self.pass(
                cx,
                Side::B,
                Some(index),
                offer,
                Carrier::Provisional(status),
            );
        }
    }

    fn pass(
        &mut self,
        cx: &mut Context,
        from: Side,
        early: Option<usize>,
        offer: SessionDescription,
        carrier: Carrier,
    ) {
        let early = early
            .and_then(|index| self.forks.get(index))
            .map(|fork| fork.own_tag.clone());
        self.passage = Some(Box::new(Passage {
            from,
            early,
            offer: offer.clone(),
            carrier,
            client: None,
            opening: true,
        }));
        if !self.open_lines(cx, from, &offer) {
            self.refuse_passage(cx, 488, "media-refused");
        } else if !self.media.is_opening() {
            self.pass_on(cx);
        }
    }

    /// Whether media sockets of an offer on its way are awaited.
    pub(super) fn passage_opens(&self) -> bool {
        self.passage.as_ref().is_some_and(|passage| passage.opening)
    }

    /// Whether the caller's PRACK in that early dialog is to bring an answer.
    pub(super) fn awaits_answer(&self, index: usize) -> bool {
        let fork = self.forks.get(index).map(|fork| &fork.own_tag);
        self.passage.as_ref().is_some_and(|passage| {
            matches!(passage.carrier, Carrier::Provisional(_))
                && !passage.opening
                && passage.early.as_ref() == fork
        })
    }

    /// The callee's offer that the caller's PRACK answers.
    pub(super) fn take_early_offer(&mut self) -> Option<SessionDescription> {
        self.passage.take().map(|passage| passage.offer)
    }

    /// Media sockets are there: the offer goes out on the other leg.
    pub(super) fn pass_on(&mut self, cx: &mut Context) {
        let Some(passage) = &mut self.passage else {
            return;
        };
        passage.opening = false;
        let (to, offer, carrier) = (passage.from.other(), passage.offer.clone(), passage.carrier);
        let early = passage.early.clone();
        let index = early
            .as_ref()
            .and_then(|tag| self.forks.iter().position(|fork| fork.own_tag == *tag));
        let body = self.own_description(cx, to, &offer);
        match (carrier, index) {
            (Carrier::Provisional(status), Some(index)) => {
                let provisional = Provisional {
                    status,
                    fields: Vec::new(),
                    body,
                };
                self.tell(cx, index, provisional, true);
            }
            (_, None) if early.is_some() => self.refuse_passage(cx, 481, "early-dialog-gone"),
            _ => self.request_with_offer(cx, to, index, body),
        }
    }

    fn request_with_offer(
        &mut self,
        cx: &mut Context,
        to: Side,
        index: Option<usize>,
        body: Option<SessionDescription>,
    ) {
        let owner = Owner::Call {
            call: self.id,
            side: to,
            task: Task::Passage,
        };
        let by_prack = self
            .passage
            .as_ref()
            .is_some_and(|passage| matches!(passage.carrier, Carrier::Prack(_)));
        let unconfirmed = index
            .and_then(|index| self.forks.get(index))
            .and_then(|fork| fork.unconfirmed);
        let sent = match (index, unconfirmed) {
            (Some(index), Some(rseq)) if by_prack && to == Side::B => self
                .confirm(cx, index, rseq, body.as_ref(), owner)
                .map(|client| (client, 0, Method::Prack)),
            _ => self.update_or_reinvite(cx, to, index, body, owner),
        };
        match (&mut self.passage, sent) {
            (Some(passage), Some(sent)) => passage.client = Some(sent),
            _ => self.refuse_passage(cx, 500, "dialog-lost"),
        }
    }

    fn update_or_reinvite(
        &mut self,
        cx: &mut Context,
        to: Side,
        index: Option<usize>,
        body: Option<SessionDescription>,
        owner: Owner,
    ) -> Option<(u64, u32, Method)> {
        let (session, ability) = (
            self.session_header(cx, to, index.is_some()),
            self.leg(to)?.ability,
        );
        let method = if index.is_some() || ability.update {
            Method::Update
        } else {
            Method::Invite
        };
        let cseq = self.leg_mut(to)?.next_cseq();
        let (hop, mut request) = match (to, index) {
            (Side::B, Some(index)) => {
                self.forks
                    .get(index)?
                    .dialog
                    .request_numbered(cx, method.clone(), cseq)
            }
            (Side::A, Some(index)) => {
                let tag = self.forks.get(index)?.own_tag.clone();
                self.a.request_as(cx, method.clone(), cseq, &tag)
            }
            (_, None) => self.leg(to)?.request_numbered(cx, method.clone(), cseq),
        };
        let contact = outgoing::contact(cx, &hop);
        outgoing::finish_invite(&mut request, contact, body);
        request.headers.fields.extend(session);
        let client = transactions::request(cx, hop, request, owner);
        if method == Method::Invite {
            self.inviting.push(client);
        }
        Some((client, cseq, method))
    }

    /// A response to our request with the offer; `None`: there was none in time, and the status stands for it.
    pub(crate) fn passage_response(
        &mut self,
        cx: &mut Context,
        side: Side,
        client: u64,
        status: u16,
        response: Option<&Response>,
    ) {
        let ours = self.passage.as_ref().and_then(|it| it.client.clone());
        let heard = (client, status, response);
        if self.offer_heard(cx, side, heard, ours).is_none() {
            return;
        }
        match (status, response) {
            (200..=299, Some(response)) => self.passage_accepted(cx, side, response),
            (422, Some(response)) if self.session_raised(side, &response.headers) => {
                self.pass_on(cx);
            }
            _ => self.passage_refused(cx, side, status),
        }
        self.check_over(cx);
    }

    /// A response to a request of ours that brings an offer, one that passes or one of our own: the method if it is the
    /// final response to the request `ours`, with a 2xx to INVITE acknowledged; otherwise it is dealt with.
    pub(super) fn offer_heard(
        &mut self,
        cx: &mut Context,
        side: Side,
        (client, status, response): (u64, u16, Option<&Response>),
        ours: Option<(u64, u32, Method)>,
    ) -> Option<Method> {
        if status < 200 {
            return None;
        }
        let success = (200..=299).contains(&status);
        if !success {
            self.inviting.retain(|have| *have != client);
        }
        let Some((_, cseq, method)) = ours.filter(|(have, ..)| *have == client) else {
            self.repeated(cx, side, response);
            self.check_over(cx);
            return None;
        };
        if success && response.is_some() && method == Method::Invite {
            self.acknowledge(cx, side, cseq, None);
        }
        Some(method)
    }

    /// A 2xx to a re-INVITE that was accepted before, or is of no interest any more.
    pub(super) fn repeated(&mut self, cx: &mut Context, side: Side, response: Option<&Response>) {
        let Some(response) = response.filter(|response| {
            response.status.is_success() && response.headers.cseq.method == Method::Invite
        }) else {
            return;
        };
        let cseq = response.headers.cseq.number;
        let Some(leg) = self.leg(side) else { return };
        match leg.ack_of(cseq) {
            Some(ack) => {
                let (hop, ack) = (leg.hop, ack.clone());
                transactions::send_ack(cx, hop, ack);
            }
            _ => {
                cx.counters.count("sip_abandoned_answers_total", "", "");
                self.acknowledge(cx, side, cseq, None);
            }
        }
    }

    fn passage_accepted(&mut self, cx: &mut Context, side: Side, response: &Response) {
        let index = self.passage_fork();
        self.moved(side, index, &response.headers);
        let standing = self
            .passage
            .as_ref()
            .is_some_and(|passage| passage.early.is_none());
        if standing && self.phase == Phase::Answered {
            self.session_answered(cx, side, &response.headers);
        }
        let Some(passage) = self.passage.take() else {
            return;
        };
        let answer = outgoing::description(response.body_part())
            .filter(|answer| self.answers(passage.from.other(), answer));
        let Some(answer) = answer else {
            self.passage = Some(passage);
            self.refuse_passage(cx, 500, "bad-answer");
            return;
        };
        self.agree(cx, passage.from, &passage.offer, &answer);
        if let Some(fork) = index.and_then(|index| self.forks.get_mut(index)) {
            fork.described = Some(match passage.from {
                Side::A => answer.clone(),
                Side::B => passage.offer.clone(),
            });
        }
        let body = self.own_description(cx, passage.from, &answer);
        match passage.carrier {
            Carrier::Update(server) => {
                let extra = match standing {
                    true => self.session_reply(cx, passage.from),
                    false => Vec::new(),
                };
                let Some(leg) = self.leg(passage.from) else {
                    return;
                };
                let answer = Answer {
                    status: StatusCode::OK,
                    contact: outgoing::contact(cx, &leg.hop),
                    body,
                    allow: true,
                    fields: extra,
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            }
            Carrier::Prack(server) => {
                let answer = Answer {
                    status: StatusCode::OK,
                    body,
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            }
            Carrier::Provisional(_) => {}
        }
        self.release_success(cx);
    }

    fn passage_fork(&self) -> Option<usize> {
        let tag = self.passage.as_ref()?.early.as_ref()?;
        self.forks.iter().position(|fork| fork.own_tag == *tag)
    }

    /// The other side refused the offer: the session stays as it was. RFC 3264 §8, RFC 3311 §5.3.
    fn passage_refused(&mut self, cx: &mut Context, side: Side, status: u16) {
        let told = match status {
            // The far end does not do UPDATE, or wants something of us alone: the offerer keeps the session.
            405 | 501 | 401 | 407 | 420 | 421 | 494 | 300..=399 => 488,
            408 => 504,
            _ => status,
        };
        self.refuse_passage(cx, told, "offer-refused");
        if self.phase == Phase::Answered {
            self.end_if_lost(cx, side, status);
        }
    }

    /// An offer on its way fails: what brought it is refused, the session goes back to what it was.
    pub(super) fn refuse_passage(&mut self, cx: &mut Context, status: u16, why: &'static str) {
        let Some(passage) = self.passage.take() else {
            return;
        };
        cx.counters.count("offers_refused_total", "reason", why);
        let fields = vec![
            ("call", self.id.to_string()),
            ("reason", why.to_owned()),
            ("status", status.to_string()),
        ];
        cx.log(
            broker_proto::journal::Severity::Info,
            "offer-refused",
            fields,
        );
        match passage.carrier {
            Carrier::Update(server) | Carrier::Prack(server) => {
                transactions::respond_plain(cx, server, status);
                self.restore(cx);
            }
            // The INVITE has no other offer.
            Carrier::Provisional(_) => self.refuse_exchange(cx, status, why),
        }
    }

    /// The call or its try at a callee ends: an offer on its way is answered that way.
    pub(super) fn offer_lost(&mut self, cx: &mut Context) {
        let Some(passage) = self.passage.take() else {
            return;
        };
        if let Carrier::Update(server) | Carrier::Prack(server) = passage.carrier {
            transactions::respond_plain(cx, server, 481);
        }
        if let Some((client, _, Method::Invite)) = passage.client {
            transactions::cancel(cx, client);
        }
    }
}
