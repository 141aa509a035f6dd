//! Requests inside a dialog of the call: BYE, CANCEL, OPTIONS, re-INVITE; INFO and MESSAGE are `information`'s. RFC 3261 §12.2.2, §14.2, §15, §9.2.

use sbc_media::relay::Side;
use sbc_sip::{message::Request, method::Method, status::StatusCode};

use super::{Call, Phase, exchange::Exchange};
use crate::{
    context::Context,
    outgoing::{self, Answer},
    transactions,
};

impl Call {
    /// A request (no ACK, no CANCEL) on a leg's dialog, in the server transaction `server`.
    pub(crate) fn request(&mut self, cx: &mut Context, side: Side, server: u64, request: &Request) {
        if self.phase != Phase::Ending
            && let Some(index) = self.fork_of(side, request)
        {
            self.early_request(cx, side, index, server, request);
            return;
        }
        let Some(leg) = self.leg_mut(side) else {
            return;
        };
        if !leg.is_from_remote(request) {
            cx.counters
                .count("sip_refused_total", "reason", "tag-changed");
            transactions::respond_plain(cx, server, 481);
            return;
        }
        if self.phase == Phase::Ending {
            // RFC 5407 §3.2.1: a BYE that crosses ours is answered all the same.
            let bye = request.method == Method::Bye;
            if bye && let Some(leg) = self.leg_mut(side) {
                leg.over = true;
            }
            transactions::respond_plain(cx, server, if bye { 200 } else { 481 });
            return;
        }
        let Some(leg) = self.leg_mut(side) else {
            return;
        };
        if !leg.in_order(request.headers.cseq.number) {
            // RFC 3261 §12.2.2.
            cx.counters
                .count("sip_refused_total", "reason", "cseq-order");
            transactions::respond_plain(cx, server, 500);
            return;
        }
        match request.method {
            Method::Bye => self.bye(cx, side, server, request),
            Method::Invite => self.reinvite(cx, side, server, request),
            Method::Info => self.info_request(cx, side, server, request),
            Method::Prack => self.prack(cx, server, request),
            Method::Update => self.update(cx, side, None, server, request),
            Method::Refer => self.refer(cx, side, server, request),
            Method::Notify => self.referral_news(cx, side, server, request),
            Method::Message => self.message_request(cx, side, server, request),
            _ => of_any_dialog(cx, server, &request.method),
        }
    }

    /// A request in an early dialog.
    fn early_request(
        &mut self,
        cx: &mut Context,
        side: Side,
        index: usize,
        server: u64,
        request: &Request,
    ) {
        let cseq = request.headers.cseq.number;
        let in_order = self
            .forks
            .get_mut(index)
            .is_some_and(|fork| fork.in_order(side, cseq));
        if !in_order {
            transactions::respond_plain(cx, server, 500);
            return;
        }
        match (side, &request.method) {
            (Side::A, Method::Prack) => self.prack(cx, server, request),
            (_, Method::Update) => self.update(cx, side, Some(index), server, request),
            // RFC 3261 §15: the caller may end an early dialog so, the callee may not.
            (Side::A, Method::Bye) => self.bye(cx, side, server, request),
            (Side::A, Method::Info) => self.info_request(cx, side, server, request),
            (_, method) => of_any_dialog(cx, server, method),
        }
    }

    fn bye(&mut self, cx: &mut Context, side: Side, server: u64, request: &Request) {
        self.note_last_words(cx, side, &request.headers);
        transactions::respond_plain(cx, server, 200);
        if let Some(leg) = self.leg_mut(side) {
            leg.over = true;
        }
        // A referrer may hang up as soon as it was promised its transfer.
        if self.has_promised(side) {
            return;
        }
        self.end(cx, if side == Side::A { "caller" } else { "callee" });
    }

    /// The caller takes its INVITE (or a side its re-INVITE) back. RFC 3261 §9.2.
    pub(crate) fn cancel(&mut self, cx: &mut Context, server: u64, request: &Request) {
        let Some(exchange) = self
            .exchange
            .as_ref()
            .filter(|exchange| exchange.server == server)
        else {
            return;
        };
        if exchange.is_answered() {
            return;
        }
        let (initial, client) = (exchange.initial, exchange.client);
        self.note_last_words(cx, Side::A, &request.headers);
        self.exchange = None;
        transactions::respond_plain(cx, server, 487);
        if initial {
            self.status = 487;
            self.targets.clear();
            self.end(cx, "caller");
        } else {
            if let Some((client, _)) = client {
                transactions::cancel(cx, client);
            }
            self.restore(cx);
        }
    }

    fn reinvite(&mut self, cx: &mut Context, side: Side, server: u64, request: &Request) {
        let other_confirmed = self
            .leg(side.other())
            .is_some_and(|leg| leg.confirmed && !leg.over);
        self.acknowledged_by_reinvite(cx, side);
        match &self.exchange {
            // RFC 3261 §14.2: a second INVITE before the first is answered.
            Some(exchange) if exchange.from == side => {
                let answer = Self::offer_again_later(cx);
                transactions::respond(cx, server, answer);
                return;
            }
            Some(_) => {
                transactions::respond_plain(cx, server, 491);
                return;
            }
            None => {}
        }
        // The last re-INVITE towards this side is still running there (cancelled, not yet finished).
        if !self.inviting_is_idle(cx)
            || !other_confirmed
            || self.passage.is_some()
            || self.own.is_some()
        {
            transactions::respond_plain(cx, server, 491);
            return;
        }
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
        self.session_offered(side, &request.headers);
        if let Some(leg) = self.leg_mut(side) {
            leg.refresh_target_from(&request.headers.contacts);
            leg.ability.learn(&request.headers);
        }
        transactions::belongs_to(cx, server, self.id);
        self.exchange = Some(Box::new(Exchange::new(
            side,
            server,
            request.headers.cseq.number,
            offer,
            false,
        )));
        self.prepare(cx);
    }

    pub(super) fn inviting_is_idle(&self, cx: &Context) -> bool {
        !self
            .inviting
            .iter()
            .any(|client| cx.transactions.is_inviting(*client))
    }

    /// The final response to a request that was passed through, or none in time.
    pub(crate) fn passed(&mut self, cx: &mut Context, side: Side, server: u64, status: u16) {
        // A final status of the other side is told as it is; challenges and redirections mean nothing to this one.
        let told = crate::message::told(self.mapped(cx, side, status), false);
        transactions::respond_plain(cx, server, told);
        if self.phase == Phase::Answered {
            self.end_if_lost(cx, side, status);
        }
    }
}

/// What any dialog answers alike: OPTIONS, and methods that have no business here.
fn of_any_dialog(cx: &mut Context, server: u64, method: &Method) {
    let options = *method == Method::Options;
    let answer = Answer {
        status: match options {
            true => StatusCode::OK,
            false => StatusCode::METHOD_NOT_ALLOWED,
        },
        allow: true,
        accept: options,
        ..Answer::default()
    };
    transactions::respond(cx, server, answer);
}
