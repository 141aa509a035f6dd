//! Whether the sbc lives: it says `Health` every 25 ms. A silent one loses its pinholes and listeners, then its
//! life. Nothing is demanded before the first `Health`, so a slow start is no silence.

use std::time::{Duration, Instant};

/// Silence after which pinholes and listeners are taken away; they come back with the next `Health`.
pub const SUSPEND_AFTER: Duration = Duration::from_millis(75);
/// Silence after which init is asked to kill the process.
pub const KILL_AFTER: Duration = Duration::from_millis(500);

/// State of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Liveness {
    /// No `Health` yet.
    #[default]
    ExpectFirst,
    /// `Health` came at that time.
    ExpectNext(Instant),
    /// Silent since that time; its pinholes are closed.
    Suspended(Instant),
    /// Init was told.
    Condemned,
}

/// What follows from the passing of time or from a `Health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take the pinholes away.
    Suspend,
    /// Put them back.
    Resume,
    /// Have the process killed.
    Condemn,
}

impl Liveness {
    /// A `Health` came.
    pub const fn health(&mut self, now: Instant) -> Option<Step> {
        match *self {
            Self::ExpectFirst | Self::ExpectNext(_) => {
                *self = Self::ExpectNext(now);
                None
            }
            Self::Suspended(_) => {
                *self = Self::ExpectNext(now);
                Some(Step::Resume)
            }
            // Too late: init is already at work, and what it was lent stays closed.
            Self::Condemned => None,
        }
    }

    /// It was heard, if not with a `Health`: puts off what is due, brings nothing back.
    pub const fn busy(&mut self, now: Instant) {
        if let Self::ExpectNext(last) = self {
            *last = now;
        }
    }

    /// Time passed. Call again at once while it yields a step.
    pub fn tick(&mut self, now: Instant) -> Option<Step> {
        match *self {
            Self::ExpectNext(last) if now.saturating_duration_since(last) >= SUSPEND_AFTER => {
                *self = Self::Suspended(last);
                Some(Step::Suspend)
            }
            Self::Suspended(last) if now.saturating_duration_since(last) >= KILL_AFTER => {
                *self = Self::Condemned;
                Some(Step::Condemn)
            }
            _ => None,
        }
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::ExpectNext(last) => Some(last + SUSPEND_AFTER),
            Self::Suspended(last) => Some(last + KILL_AFTER),
            Self::ExpectFirst | Self::Condemned => None,
        }
    }

    /// Whether pinholes may be open.
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        matches!(self, Self::ExpectFirst | Self::ExpectNext(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn nothing_is_demanded_before_the_first_health() {
        let mut liveness = Liveness::default();
        assert_eq!(liveness.tick(Instant::now() + ms(10_000)), None);
        assert_eq!(liveness.deadline(), None);
    }

    #[test]
    fn silence_suspends_then_condemns() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        assert_eq!(liveness.health(start), None);
        assert_eq!(liveness.tick(start + ms(74)), None);
        assert_eq!(liveness.tick(start + ms(75)), Some(Step::Suspend));
        assert_eq!(liveness.tick(start + ms(499)), None);
        assert_eq!(liveness.tick(start + ms(500)), Some(Step::Condemn));
        assert_eq!(liveness.health(start + ms(501)), None);
        assert!(!liveness.is_trusted());
    }

    #[test]
    fn health_in_time_resumes() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.health(start);
        liveness.tick(start + ms(80));
        assert_eq!(liveness.health(start + ms(90)), Some(Step::Resume));
        assert!(liveness.is_trusted());
    }

    #[test]
    fn a_long_gap_takes_both_steps_in_order() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        liveness.health(start);
        assert_eq!(liveness.tick(start + ms(900)), Some(Step::Suspend));
        assert_eq!(liveness.tick(start + ms(900)), Some(Step::Condemn));
    }
}
