//! How a call ends: pinholes first, then what is still open on the legs, then the record.

use broker_proto::journal::{CallPhase, CallRecord, LegRecord, Record};
use sbc_media::relay::Side;
use sbc_sip::{
    headers::{Field, Headers},
    method::Method,
};

use super::{Call, CallTimer, INTERIM, Phase, REPORTS, exchange::Stage, leg::Leg, millis};
use crate::{
    context::Context,
    io::Output,
    quality,
    timers::TimerKey,
    trace::number,
    transactions::{self, Owner},
    transport,
};

impl Call {
    /// End the call, whatever stage it is in. `by`: who or what.
    pub(crate) fn end(&mut self, cx: &mut Context, by: &'static str) {
        if self.phase == Phase::Ending {
            return;
        }
        let answered = self.phase == Phase::Answered;
        self.phase = Phase::Ending;
        cx.decided(self.a.call_id(), &format!("the call ends: {by}"));
        cx.ending.insert(self.id);
        self.ended_by = by;
        self.ended_at = Some(cx.now);
        self.targets.clear();
        cx.ledger.end(self.id);
        cx.counters.count("calls_ended_total", "by", by);
        self.media.close(cx);
        for timer in [
            CallTimer::NoAnswer,
            CallTimer::Duration,
            CallTimer::Interim,
            CallTimer::SessionA,
            CallTimer::SessionB,
            CallTimer::Again,
            CallTimer::Referral,
            CallTimer::Parting,
            CallTimer::Latch,
        ] {
            cx.timers.cancel(TimerKey::Call(self.id, timer));
        }
        for client in self.inviting.clone() {
            transactions::cancel_with(cx, client, self.last_words(Side::B));
        }
        self.tell_referrer(cx);
        self.drop_transfer(cx);
        self.offer_lost(cx);
        self.own = None;
        self.ready = None;
        self.stop_reliable(cx);
        self.end_exchange(cx, answered);
        for side in [Side::A, Side::B] {
            // RFC 3261 §15: no BYE before the ACK for our 2xx.
            let awaiting = self
                .exchange
                .as_ref()
                .is_some_and(|exchange| exchange.from == side);
            if !awaiting {
                self.say_bye(cx, side);
            }
        }
        if self.media.is_reporting() {
            cx.timers.set(
                TimerKey::Call(self.id, CallTimer::Reports),
                cx.now + REPORTS,
            );
        } else {
            self.write_end(cx);
        }
    }

    /// A request inside a dialog failed with `status`: 481, or silence (408), says that the dialog is gone on that side, and the
    /// call with it. RFC 3261 §12.2.1.2.
    pub(super) fn end_if_lost(&mut self, cx: &mut Context, side: Side, status: u16) {
        if !matches!(status, 408 | 481) {
            return;
        }
        if let Some(leg) = self.leg_mut(side) {
            leg.over = status == 481;
        }
        self.end(cx, "dialog-lost");
    }

    /// What becomes of the INVITE that is on its way.
    fn end_exchange(&mut self, cx: &mut Context, answered: bool) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let (from, server, client) = (exchange.from, exchange.server, exchange.client);
        let late = exchange.late_offer.is_some();
        match exchange.stage {
            Stage::Acknowledgement { .. } => {
                // A callee whose 2xx still waits for an answer is acknowledged before BYE.
                if let (true, Some((_, cseq))) = (late, client) {
                    self.acknowledge(cx, from.other(), cseq, None);
                }
                // After a BYE of that side too: it may have crossed the 2xx, which is owed to its INVITE.
            }
            Stage::LateMedia(_) => {
                if let Some((_, cseq)) = client {
                    self.acknowledge(cx, from.other(), cseq, None);
                }
                self.exchange = None;
                transactions::respond_plain(cx, server, if answered { 487 } else { 500 });
            }
            Stage::Media | Stage::Response | Stage::Ready => {
                self.exchange = None;
                let gone = self.leg(from).is_some_and(|leg| leg.over);
                let status = if gone || answered { 487 } else { 480 };
                if self.status == 0 {
                    self.status = status;
                }
                transactions::respond_plain(cx, server, status);
            }
        }
    }

    /// BYE on a leg whose dialog stands and has not seen one.
    pub(super) fn say_bye(&mut self, cx: &mut Context, side: Side) {
        let words = self.last_words(side);
        let Some(leg) = self.leg_mut(side).filter(|leg| leg.confirmed && !leg.over) else {
            return;
        };
        leg.over = true;
        let (hop, mut bye) = leg.request(cx, Method::Bye);
        bye.headers.fields.extend(words);
        transactions::request(cx, hop, bye, Owner::Nobody);
    }

    /// What a BYE or CANCEL says to a side of why, as far as it crosses (RFC 3326, RFC 7433).
    pub(super) fn note_last_words(&mut self, cx: &Context, from: Side, headers: &Headers) {
        self.note_reason(headers);
        self.last_words = Some((from.other(), self.carried(cx, from, headers)));
    }

    /// What a BYE, CANCEL or final response says of why (RFC 3326, RFC 6432), for the record.
    pub(super) fn note_reason(&mut self, headers: &Headers) {
        let mut said = headers
            .reason()
            .into_iter()
            .flatten()
            .map(ToString::to_string);
        if let Some(first) = said.next() {
            self.reason = said.fold(first, |all, one| format!("{all}, {one}"));
        }
    }

    fn last_words(&self, side: Side) -> Vec<Field> {
        match &self.last_words {
            Some((to, fields)) if *to == side => fields.clone(),
            _ => Vec::new(),
        }
    }

    /// The record of the attempt: a place was found to try.
    pub(super) fn write_attempt(&mut self, cx: &mut Context) {
        self.write(cx, CallPhase::Attempt);
    }

    /// The record of the beginning: the call was answered.
    pub(super) fn write_start(&mut self, cx: &mut Context) {
        cx.counters.count("calls_answered_total", "", "");
        self.write(cx, CallPhase::Start);
        // Calls that began together do not all tell at once.
        let part = u32::try_from(cx.identity.number() % 500).unwrap_or(0);
        let first = INTERIM - INTERIM * part / 1000;
        let timer = TimerKey::Call(self.id, CallTimer::Interim);
        cx.timers.set(timer, cx.now + first);
    }

    /// The record that it goes on, so that what kills this process takes a minute of it at most.
    pub(super) fn write_interim(&mut self, cx: &mut Context) {
        if self.ended_at.is_some() || self.recorded {
            return;
        }
        self.write(cx, CallPhase::Interim);
        let timer = TimerKey::Call(self.id, CallTimer::Interim);
        cx.timers.set(timer, cx.now + INTERIM);
    }

    /// The record of the end, once.
    pub(super) fn write_end(&mut self, cx: &mut Context) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        cx.timers
            .cancel(TimerKey::Call(self.id, CallTimer::Reports));
        self.write(cx, CallPhase::End);
        self.check_over(cx);
    }

    fn write(&self, cx: &mut Context, phase: CallPhase) {
        let record = self.record(cx, phase);
        cx.events.recorded(cx.now, phase.event(), self.ended_by);
        cx.emit(Output::Journal(Record::Call(Box::new(record))));
    }

    fn record(&self, cx: &Context, phase: CallPhase) -> CallRecord {
        let ended = self.ended_at.unwrap_or(cx.now);
        let leg_record = |leg: &Leg, side: Side| {
            let mut record = LegRecord {
                zone: cx.zone_name(leg.hop.zone()),
                remote: leg.hop.peer(),
                transport: transport::word(leg.hop.transport()).to_owned(),
                call_id: leg.call_id().to_owned(),
                codecs: leg.codecs(),
                packets_received: 0,
                packets_sent: 0,
                packets_lost: 0,
                octets_received: 0,
                jitter_us: 0,
                mos_hundredths: 0,
            };
            self.media.write_record(side, &mut record);
            if self.kinds == ["audio"] {
                record.mos_hundredths = quality::mos_hundredths(
                    record.packets_received,
                    record.packets_lost,
                    record.jitter_us,
                );
            }
            record
        };
        let mut legs = vec![leg_record(&self.a, Side::A)];
        legs.extend(self.b.as_ref().map(|leg| leg_record(leg, Side::B)));
        CallRecord {
            id: self.id,
            phase,
            calling: number(&self.calling),
            called: number(&self.called),
            route: self.route.clone(),
            invited_unix_ms: cx.wall_clock_at(self.since),
            answered_unix_ms: self.answered_at.map(|at| cx.wall_clock_at(at)),
            ended_unix_ms: self.ended_at.map(|at| cx.wall_clock_at(at)),
            since_invite_ms: millis(ended, self.since),
            duration_ms: self.answered_at.map(|at| millis(ended, at)),
            status: self.status,
            ended_by: self.ended_by.to_owned(),
            reason: self.reason.clone(),
            media: if self.answered_at.is_some() {
                self.kinds.join(",")
            } else {
                String::new()
            },
            legs,
        }
    }
}
