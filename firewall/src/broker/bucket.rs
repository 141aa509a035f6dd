//! A token bucket: so many at once, so many per second. One per kind of request and asker, one per lease, one per kind
//! of log line; whatever an asker does, the work it causes stays bounded.

use std::time::Instant;

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: u32,
    burst: u32,
    /// In thousandths of a token, so that slow rates do not round to nothing.
    level: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `per_second`.
    #[must_use]
    pub fn new(now: Instant, per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst,
            level: u64::from(burst) * 1000,
            filled: now,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        match self.level.checked_sub(1000) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.filled).as_millis())
            .unwrap_or(u64::MAX);
        // Only whole milliseconds are accounted for, so that many calls within one do not lose it.
        if passed > 0 {
            let gain = passed.saturating_mul(u64::from(self.per_second));
            self.level = self
                .level
                .saturating_add(gain)
                .min(u64::from(self.burst) * 1000);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 10, 5);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 5);
        let taken = (1..=1000)
            .filter(|ms| bucket.take(start + Duration::from_millis(*ms)))
            .count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn it_never_holds_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 1000, 3);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3);
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 1000, 1);
        assert!(bucket.take(start));
        assert!(!bucket.take(start));
    }
}
