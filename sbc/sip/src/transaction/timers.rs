//! Constants of RFC 3261 §17 and the table of its timers in Annex A.

use core::time::Duration;

/// T1, T2 and T4; everything else follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round trip.
    pub t1: Duration,
    /// Longest wait between retransmissions, but for INVITE requests.
    pub t2: Duration,
    /// Longest life of a message in the network.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timers {
    /// 64·T1: timers B, F, H, J (UDP), L and M.
    #[must_use]
    pub const fn give_up(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// Timer D: at least 32 s over UDP, nothing to wait for elsewhere.
    #[must_use]
    pub fn d(&self, reliable: bool) -> Duration {
        if reliable {
            Duration::ZERO
        } else {
            self.give_up().max(Duration::from_secs(32))
        }
    }

    /// Timers I and K: T4 over UDP, nothing elsewhere.
    #[must_use]
    pub const fn linger(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// Timer J: 64·T1 over UDP, nothing elsewhere.
    #[must_use]
    pub const fn j(&self, reliable: bool) -> Duration {
        if reliable {
            Duration::ZERO
        } else {
            self.give_up()
        }
    }
}
