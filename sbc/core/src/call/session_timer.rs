//! Session timers: RFC 4028, on each leg by itself. A far end that keeps them agrees with us on an interval and on who
//! refreshes; who does not hear a refresh in time ends the call. Any INVITE or UPDATE that succeeds is a refresh.

use std::time::{Duration, Instant};

use sbc_media::relay::Side;
use sbc_sip::{
    headers::{Delta, Field, Headers, Refresher},
    status::StatusCode,
};

use super::{Call, CallTimer, Phase, ability};
use crate::{context::Context, outgoing::Answer, timers::TimerKey};

/// 422 in a row that are followed by another try.
const RAISES: u8 = 3;
/// Wait before a refresh that something else was in the way of.
const BUSY: Duration = Duration::from_secs(2);

/// What a far end's request says about the session's time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    expires: Option<u32>,
    refresher: Option<Refresher>,
    min: u32,
    timer: bool,
}

impl Asked {
    /// Read from a request.
    pub(crate) fn of(headers: &Headers) -> Self {
        let tags = [headers.supported(), headers.require()];
        Self {
            expires: headers.session_expires().map(|delta| delta.seconds),
            refresher: headers.session_expires().and_then(Delta::refresher),
            min: headers.min_se().map_or(0, |delta| delta.seconds),
            timer: tags
                .into_iter()
                .flatten()
                .any(|tags| ability::has(tags, "timer")),
        }
    }

    /// Whether the session is asked to be shorter than we allow, by somebody who understands 422.
    pub(crate) fn too_short(&self, least: u32) -> bool {
        self.timer && self.expires.is_some_and(|expires| expires < least)
    }
}

/// 422 with the shortest that we allow.
pub(crate) fn too_short(least: u32) -> Answer<'static> {
    Answer {
        status: StatusCode::SESSION_INTERVAL_TOO_SMALL,
        fields: vec![Field::MinSe(Delta::new(least))],
        ..Answer::default()
    }
}

/// A session that is timed.
#[derive(Clone, Copy)]
struct Running {
    seconds: u32,
    we_refresh: bool,
    expires: Instant,
}

/// The clock of one leg.
#[derive(Default)]
pub(super) struct Session {
    asked: Asked,
    /// The far end's shortest, from its 422 or Min-SE.
    least: u32,
    raises: u8,
    running: Option<Running>,
}

const fn timer(side: Side) -> CallTimer {
    match side {
        Side::A => CallTimer::SessionA,
        Side::B => CallTimer::SessionB,
    }
}

impl Call {
    pub(super) fn session(&mut self, side: Side) -> &mut Session {
        let [a, b] = &mut self.sessions;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// 422 for a request inside the dialog that asks for too short a session.
    pub(super) fn session_too_short(
        &self,
        cx: &Context,
        _side: Side,
        headers: &Headers,
    ) -> Option<Answer<'static>> {
        let least = cx.settings().limits.min_se_seconds;
        Asked::of(headers)
            .too_short(least)
            .then(|| too_short(least))
    }

    /// Note what a request says; the 2xx tells what came of it.
    pub(super) fn session_offered(&mut self, side: Side, headers: &Headers) {
        self.session_noted(side, Asked::of(headers));
    }

    /// The same, read before.
    pub(super) fn session_noted(&mut self, side: Side, asked: Asked) {
        let session = self.session(side);
        session.asked = asked;
        session.least = session.least.max(asked.min);
    }

    /// Note and answer at once.
    pub(super) fn session_asked(
        &mut self,
        cx: &mut Context,
        side: Side,
        headers: &Headers,
    ) -> Vec<Field> {
        self.session_offered(side, headers);
        self.session_reply(cx, side)
    }

    /// Fields of our 2xx to what was asked; the clock starts anew. RFC 4028 §9.
    pub(super) fn session_reply(&mut self, cx: &mut Context, side: Side) -> Vec<Field> {
        let limits = cx.settings().limits;
        let (want, least) = (limits.session_expires_seconds, limits.min_se_seconds);
        let asked = self.session(side).asked;
        let seconds = match asked.expires {
            Some(theirs) if want == 0 => theirs,
            Some(theirs) => theirs.min(want),
            None if want == 0 || !asked.timer => {
                self.session_stops(cx, side);
                return Vec::new();
            }
            None => want,
        };
        let seconds = seconds.max(asked.min).max(least);
        // Table 2: who does not know the timer cannot refresh.
        let refresher = match (asked.timer, asked.refresher) {
            (true, Some(refresher)) => refresher,
            (true, None) => Refresher::Uac,
            (false, _) => Refresher::Uas,
        };
        self.session_runs(cx, side, seconds, refresher == Refresher::Uas);
        let mut fields = vec![Field::SessionExpires(
            Delta::new(seconds).with_refresher(refresher),
        )];
        if refresher == Refresher::Uac {
            fields.push(Field::Require(vec!["timer".into()]));
        }
        fields
    }

    /// Fields of a request of ours on a leg. RFC 4028 §7.1 and §7.4. An early UPDATE does not touch the clock.
    pub(super) fn session_header(&mut self, cx: &Context, side: Side, early: bool) -> Vec<Field> {
        let limits = cx.settings().limits;
        let session = self.session(side);
        let running = session.running;
        let want = running.map_or(limits.session_expires_seconds, |running| running.seconds);
        if want == 0 || early {
            return Vec::new();
        }
        let least = session.least.max(limits.min_se_seconds);
        let mut delta = Delta::new(want.max(least));
        if let Some(running) = running {
            delta = delta.with_refresher(if running.we_refresh {
                Refresher::Uac
            } else {
                Refresher::Uas
            });
        }
        vec![
            Field::SessionExpires(delta),
            Field::MinSe(Delta::new(least)),
        ]
    }

    /// A 422: whether the request is worth another try with the far end's shortest. RFC 4028 §7.3.
    pub(super) fn session_raised(&mut self, side: Side, headers: &Headers) -> bool {
        let Some(least) = headers.min_se().map(|delta| delta.seconds) else {
            return false;
        };
        let session = self.session(side);
        session.raises += 1;
        let more = least > session.least && session.raises <= RAISES;
        session.least = session.least.max(least);
        if let Some(running) = &mut session.running {
            running.seconds = running.seconds.max(least);
        }
        more
    }

    /// A 2xx to a request of ours: what the far end agreed to. RFC 4028 §7.2.
    pub(super) fn session_answered(&mut self, cx: &mut Context, side: Side, headers: &Headers) {
        self.session(side).raises = 0;
        match headers.session_expires() {
            Some(delta) => {
                let we = delta.refresher() != Some(Refresher::Uas);
                self.session_runs(cx, side, delta.seconds.max(1), we);
            }
            None => self.session_stops(cx, side),
        }
    }

    fn session_runs(&mut self, cx: &mut Context, side: Side, seconds: u32, we_refresh: bool) {
        let interval = Duration::from_secs(u64::from(seconds));
        self.session(side).running = Some(Running {
            seconds,
            we_refresh,
            expires: cx.now + interval,
        });
        let wait = if we_refresh {
            interval / 2
        } else {
            interval - margin(seconds)
        };
        cx.timers
            .set(TimerKey::Call(self.id, timer(side)), cx.now + wait);
    }

    fn session_stops(&mut self, cx: &mut Context, side: Side) {
        self.session(side).running = None;
        cx.timers.cancel(TimerKey::Call(self.id, timer(side)));
    }

    /// A leg leaves this call: its clock goes with it.
    pub(super) fn session_rests(&self, cx: &mut Context, side: Side) {
        cx.timers.cancel(TimerKey::Call(self.id, timer(side)));
    }

    /// A leg has come to this call with its clock.
    pub(super) fn session_goes_on(&mut self, cx: &mut Context, side: Side) {
        let Some(running) = self.session(side).running else {
            return;
        };
        let interval = Duration::from_secs(u64::from(running.seconds));
        let before = if running.we_refresh {
            interval / 2
        } else {
            margin(running.seconds)
        };
        let at = running.expires - before;
        cx.timers
            .set(TimerKey::Call(self.id, timer(side)), at.max(cx.now));
    }

    /// A refresh is due, or none came. RFC 4028 §10.
    pub(super) fn session_timer(&mut self, cx: &mut Context, side: Side) {
        let Some(running) = self.session(side).running else {
            return;
        };
        if self.phase == Phase::Ending {
            return;
        }
        let last = running.expires - margin(running.seconds);
        if cx.now >= last {
            cx.counters.count("sessions_expired_total", "", "");
            self.end(cx, "session-expired");
            return;
        }
        let next = if self.refresh(cx, side) {
            last
        } else {
            (cx.now + BUSY).min(last)
        };
        cx.timers.set(TimerKey::Call(self.id, timer(side)), next);
    }
}

/// How long before its end a session that nobody refreshed is given up: a third, 32 s at most.
fn margin(seconds: u32) -> Duration {
    Duration::from_secs(u64::from((seconds / 3).min(32)))
}
