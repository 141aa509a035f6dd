//! The wall clock: what the time process measures is applied here within bounds, and each jump is recorded. Calls and leases
//! run on the monotonic clock and never notice.

use std::time::Duration;

/// What to do about an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// Nothing worth doing.
    None,
    /// Set the clock at once by this many ns.
    Step(i64),
    /// Let the clock drift by this many ns.
    Slew(i64),
    /// Too large to believe from one source after the start.
    Refuse,
}

/// Below this the clock is right.
const GOOD: Duration = Duration::from_millis(1);
/// Up to this it drifts there.
const SLEW: Duration = Duration::from_millis(128);
/// Largest step once the clock was set.
const LARGEST: Duration = Duration::from_secs(1_000);

/// Decides. `first`: the clock was never set since the start, and may be off by any amount.
#[must_use]
pub(super) fn correction(offset_ns: i64, first: bool) -> Correction {
    let size = Duration::from_nanos(offset_ns.unsigned_abs());
    match size {
        _ if size < GOOD => Correction::None,
        _ if size <= SLEW && !first => Correction::Slew(offset_ns),
        _ if size <= LARGEST || first => Correction::Step(offset_ns),
        _ => Correction::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_measurement_may_step_far_and_later_ones_may_not() {
        let day = 86_400_000_000_000;
        assert_eq!(correction(-day, true), Correction::Step(-day));
        assert_eq!(correction(day, false), Correction::Refuse);
        assert_eq!(correction(i64::MIN, false), Correction::Refuse);
        assert_eq!(
            correction(2_000_000_000, false),
            Correction::Step(2_000_000_000)
        );
        assert_eq!(
            correction(-50_000_000, false),
            Correction::Slew(-50_000_000)
        );
        assert_eq!(correction(900_000, true), Correction::None);
    }
}
