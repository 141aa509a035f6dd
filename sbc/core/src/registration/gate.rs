//! How many REGISTERs go to the registrar, and whether it is there at all.
//!
//! After a power cut thousands of phones come back within seconds. The registrar gets them at the configured rate; who has
//! to wait is told a moment of its own to come back (503 with Retry-After), so that the crowd comes back as a queue. A
//! phone that answers a challenge goes before one that asks for one: work that was begun is brought to its end.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use broker_proto::settings::Registration as Settings;

use crate::admission::{Bucket, Rate, aggregate};

/// 503 answers a second to strangers; who asks beyond that is not answered and asks again by himself.
const ANSWERS: Rate = Rate {
    per_second: 2_000,
    burst: 4_000,
};
/// Sources whose rates are kept at once; a source beyond that waits.
const SOURCES: usize = 20_000;
/// Seconds to be told at least and at most.
const WAIT: (u64, u64) = (5, 1_800);
/// REGISTERs that a registration takes: one is challenged, one answers.
const ROUNDS: u32 = 2;
/// What a wrong password costs of a source's rate, in REGISTERs.
const WRONG_PASSWORD: u32 = 10;

/// Why a REGISTER does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The source asks too often.
    Source,
    /// The registrar has enough to do.
    Busy,
    /// The registrar does not answer.
    Away,
}

impl Closed {
    /// Stable word for counters and logs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Source => "source-rate",
            Self::Busy => "relay-rate",
            Self::Away => "registrar-away",
        }
    }
}

/// Rates of REGISTERs.
pub(crate) struct Gate {
    relay: Bucket,
    answers: Bucket,
    sources: BTreeMap<IpAddr, Bucket>,
    /// The last moment that somebody was told to come back at.
    appointment: Instant,
    /// The registrar answered last.
    pub(crate) answered: Option<Instant>,
}

const fn relay_rate(settings: &Settings) -> Rate {
    Rate {
        per_second: settings.relay_rate,
        burst: settings.relay_rate,
    }
}

const fn source_rate(settings: &Settings) -> Rate {
    Rate {
        per_second: settings.source_rate,
        burst: settings.source_rate.saturating_mul(2),
    }
}

impl Gate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            // Full at the first REGISTER: the rate is a setting and not known here.
            relay: Bucket::brimming(now),
            answers: Bucket::full(ANSWERS, now),
            sources: BTreeMap::new(),
            appointment: now,
            answered: None,
        }
    }

    /// A REGISTER of a source that has no binding.
    pub(crate) fn source(
        &mut self,
        now: Instant,
        settings: &Settings,
        source: IpAddr,
    ) -> Result<(), Closed> {
        let (rate, key) = (source_rate(settings), aggregate(source));
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&key) {
            self.sweep(now, settings);
            if self.sources.len() >= SOURCES {
                return Err(Closed::Source);
            }
        }
        let bucket = self
            .sources
            .entry(key)
            .or_insert_with(|| Bucket::full(rate, now));
        if bucket.take(rate, now) {
            Ok(())
        } else {
            Err(Closed::Source)
        }
    }

    /// A source answered a challenge wrongly.
    pub(crate) fn wrong_password(&mut self, source: IpAddr) {
        if let Some(bucket) = self.sources.get_mut(&aggregate(source)) {
            bucket.charge(WRONG_PASSWORD);
        }
    }

    /// One REGISTER for the registrar. Half of what may go at once is kept for those that answer a challenge.
    pub(crate) fn relay(
        &mut self,
        now: Instant,
        settings: &Settings,
        answers: bool,
    ) -> Result<(), Closed> {
        let rate = relay_rate(settings);
        self.relay.cap(rate);
        let reserve = if answers { 0 } else { rate.burst / 2 };
        if self.relay.take_above(rate, reserve, now) {
            Ok(())
        } else {
            Err(Closed::Busy)
        }
    }

    /// One more REGISTER goes to the registrar, come what may.
    pub(crate) fn charge(&mut self) {
        self.relay.charge(1);
    }

    /// Whether a stranger may be told to come back.
    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        self.answers.take(ANSWERS, now)
    }

    /// Seconds after which to come back: everybody who is told so comes at a moment of his own, as far apart as the
    /// registrar takes a whole registration, with some time to spare.
    pub(crate) fn appointment(&mut self, now: Instant, settings: &Settings) -> u32 {
        let apart = Duration::from_secs(1) * ROUNDS * 5 / 4 / settings.relay_rate.max(1);
        let (least, most) = WAIT;
        let first = now + Duration::from_secs(least);
        self.appointment = (self.appointment + apart).max(first);
        let wait = self.appointment.saturating_duration_since(now).as_secs();
        if wait >= most {
            // Nobody waits for ever; the line begins anew.
            self.appointment = first;
        }
        u32::try_from(wait.min(most)).unwrap_or(u32::MAX)
    }

    /// Forget sources that have been quiet.
    pub(crate) fn sweep(&mut self, now: Instant, settings: &Settings) {
        let rate = source_rate(settings);
        self.sources.retain(|_, bucket| !bucket.is_full(rate, now));
    }

    /// How many sources are kept.
    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    fn settings() -> Settings {
        Settings {
            relay_rate: 100,
            ..Settings::default()
        }
    }

    #[test]
    fn who_answers_a_challenge_goes_before_who_asks_for_one() {
        let mut gate = Gate::new(epoch());
        let asked = (0..1_000)
            .filter(|_| gate.relay(epoch(), &settings(), false).is_ok())
            .count();
        let answered = (0..1_000)
            .filter(|_| gate.relay(epoch(), &settings(), true).is_ok())
            .count();
        assert_eq!((asked, answered), (50, 50));
    }

    #[test]
    fn appointments_are_as_far_apart_as_the_registrar_takes_a_registration() {
        let mut gate = Gate::new(epoch());
        let told: Vec<u32> = (0..10_000)
            .map(|_| gate.appointment(epoch(), &settings()))
            .collect();
        let busiest = (0..=1_800)
            .map(|second| told.iter().filter(|wait| **wait == second).count())
            .max();
        assert_eq!(told.first(), Some(&5));
        assert_eq!(told.last(), Some(&254));
        // Two REGISTERs each: 80 of 100 a second.
        assert!(busiest <= Some(41), "{busiest:?}");
    }

    #[test]
    fn a_wrong_password_slows_a_source_down() {
        let mut gate = Gate::new(epoch());
        let source = "198.51.100.66".parse().unwrap();
        let mut guesses = 0;
        while gate.source(epoch(), &settings(), source).is_ok() {
            gate.wrong_password(source);
            guesses += 1;
        }
        assert!(guesses <= 10, "{guesses}");
        gate.sweep(epoch() + Duration::from_secs(60), &settings());
        assert_eq!(gate.len(), 0);
    }
}
