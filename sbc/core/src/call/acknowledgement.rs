//! A 2xx that we sent is ours to repeat until its ACK comes (`sbc_sip::dialog`'s `Acceptance`), then BYE. RFC 3261
//! §13.3.1.4.

use std::time::Duration;

use sbc_media::relay::Side;
use sbc_sip::{
    dialog::{Acceptance, AcceptanceStep},
    headers::Field,
    message::Request,
    sdp::SessionDescription,
    status::StatusCode,
};

use super::{Call, CallTimer, exchange::Stage};
use crate::{
    context::Context,
    outgoing,
    timers::TimerKey,
    transactions::{self, TIMERS},
};

/// How long a 2xx waits for the firewall.
const PINHOLES: Duration = Duration::from_millis(200);

impl Call {
    /// The 2xx of the exchange leaves as soon as nothing is in its way: RFC 3262 §3, no response with a description
    /// that is not confirmed yet.
    pub(super) fn success_ready(
        &mut self,
        cx: &mut Context,
        fields: Vec<Field>,
        body: Option<SessionDescription>,
    ) {
        if let Some(exchange) = &mut self.exchange {
            exchange.stage = Stage::Ready;
            self.ready = Some((fields, body));
            self.latched = false;
            cx.timers
                .set(TimerKey::Call(self.id, CallTimer::Latch), cx.now + PINHOLES);
            self.release_success(cx);
        }
    }

    /// Something that a 2xx waited for has come.
    pub(super) fn release_success(&mut self, cx: &mut Context) {
        let unconfirmed = self
            .settled
            .as_ref()
            .is_some_and(|fork| fork.reliable.holds_description());
        let Some(from) = self.exchange.as_ref().map(|exchange| exchange.from) else {
            return;
        };
        // The far end sends as soon as it hears of the answer: its pinhole is to be there.
        let latching = !self.latched && cx.requests.is_latching(self.id);
        if unconfirmed || latching || self.passage.is_some() {
            return;
        }
        if let Some((fields, body)) = self.ready.take() {
            cx.timers.cancel(TimerKey::Call(self.id, CallTimer::Latch));
            self.stop_reliable(cx);
            self.send_success(cx, from, fields, body);
        }
    }

    /// Send the 2xx of the exchange and wait for its ACK.
    fn send_success(
        &mut self,
        cx: &mut Context,
        side: Side,
        mut fields: Vec<Field>,
        body: Option<SessionDescription>,
    ) {
        fields.extend(self.session_reply(cx, side));
        let Some(leg) = self.leg_mut(side) else {
            return;
        };
        leg.confirmed = true;
        let (tag, contact) = (leg.own_tag().to_owned(), outgoing::contact(cx, &leg.hop));
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        let response = transactions::respond(
            cx,
            exchange.server,
            outgoing::Answer {
                status: StatusCode::OK,
                tag: Some(&tag),
                contact,
                body,
                fields,
                allow: true,
                ..outgoing::Answer::default()
            },
        );
        let Some(response) = response else {
            // The transaction is gone (the far end gave up): there is nobody to acknowledge.
            let initial = exchange.initial;
            self.exchange = None;
            if let (true, Some(leg)) = (initial, self.leg_mut(side)) {
                leg.confirmed = false;
            }
            self.end(cx, "caller");
            return;
        };
        let acceptance = Acceptance::new(cx.now, response, TIMERS);
        cx.timers.set(
            TimerKey::Call(self.id, CallTimer::Acknowledge),
            acceptance.poll_timeout(),
        );
        exchange.stage = Stage::Acknowledgement(Box::new(acceptance));
    }

    /// The 2xx again, or the end of patience.
    pub(super) fn acknowledge_timer(&mut self, cx: &mut Context) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        let server_side = exchange.from;
        let Stage::Acknowledgement(acceptance) = &mut exchange.stage else {
            return;
        };
        match acceptance.handle_timeout(cx.now) {
            AcceptanceStep::Wait => {}
            AcceptanceStep::Resend => {
                let response = acceptance.response();
                transactions::send_success_again(cx, exchange.server, response);
            }
            AcceptanceStep::GiveUp => {
                self.exchange = None;
                self.end_unacknowledged(cx, server_side);
                return;
            }
        }
        let next = acceptance.poll_timeout();
        cx.timers
            .set(TimerKey::Call(self.id, CallTimer::Acknowledge), next);
    }

    /// No ACK came: RFC 3261 §13.3.1.4, the session is ended with BYE.
    fn end_unacknowledged(&mut self, cx: &mut Context, side: Side) {
        if self.is_ending() {
            self.say_bye(cx, side);
        } else {
            self.end(cx, "no-ack");
        }
    }

    /// An ACK inside the dialog of a leg.
    pub(crate) fn ack(&mut self, cx: &mut Context, side: Side, request: &Request) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        // By both tags and the CSeq of the INVITE: RFC 3261 §13.2.2.4.
        let awaited = exchange.from == side
            && matches!(&exchange.stage, Stage::Acknowledgement(acceptance)
                if acceptance.is_acknowledged_by(request));
        if !awaited {
            return;
        }
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        cx.timers
            .cancel(TimerKey::Call(self.id, CallTimer::Acknowledge));
        transactions::acknowledged(cx, exchange.server);
        // Whoever confirms the answer has nothing provisional left to confirm.
        self.settled = None;
        if self.is_ending() {
            self.say_bye(cx, side);
            self.check_over(cx);
            return;
        }
        let (Some(offer), Some((_, cseq))) = (exchange.late_offer, exchange.client) else {
            return;
        };
        let answer =
            outgoing::description(request.body_part()).filter(|answer| self.answers(side, answer));
        match answer {
            Some(answer) => {
                self.agree(cx, side.other(), &offer, &answer);
                let body = self.own_description(cx, side.other(), &answer);
                self.acknowledge(cx, side.other(), cseq, body);
            }
            None => {
                self.acknowledge(cx, side.other(), cseq, None);
                self.end(cx, "bad-answer");
            }
        }
    }

    /// A re-INVITE of the side whose ACK is missing: it has the 2xx, the ACK is lost or late (RFC 5407 §3.1.4). But where the
    /// ACK is to bring an answer, the offer is still open.
    pub(super) fn acknowledged_by_reinvite(&mut self, cx: &mut Context, side: Side) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let implied = exchange.from == side
            && exchange.late_offer.is_none()
            && matches!(exchange.stage, Stage::Acknowledgement { .. });
        if implied {
            transactions::acknowledged(cx, exchange.server);
            self.exchange = None;
            cx.timers
                .cancel(TimerKey::Call(self.id, CallTimer::Acknowledge));
        }
    }
}
