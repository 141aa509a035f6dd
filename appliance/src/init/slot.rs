//! A place for one process in the supervisor: whether it is wanted, how often it was started, and when it may be again.

use std::time::{Duration, Instant};

use broker_proto::Role;

use super::child::Child;

/// First wait before a process is started again.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest wait: a caller who tries again is served, and a process that dies at each start costs next to nothing.
const LONGEST: Duration = Duration::from_millis(1_500);
/// A process that lived this long may come back at once.
const STABLE: Duration = Duration::from_millis(500);

/// See the module.
pub struct Slot {
    /// Which process.
    pub role: Role,
    /// It is to run.
    pub wanted: bool,
    /// It runs.
    pub child: Option<Child>,
    /// How often it was started again.
    pub restarts: u32,
    wait: Duration,
    due: Option<Instant>,
}

impl Slot {
    /// Empty, not wanted.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            wanted: false,
            child: None,
            restarts: 0,
            wait: SHORTEST,
            due: None,
        }
    }

    /// When it is to be started, if it is.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        (self.wanted && self.child.is_none()).then(|| self.due.unwrap_or(now))
    }

    /// It ended, or could not be started.
    pub fn ended(&mut self, now: Instant) {
        let lived = self
            .child
            .take()
            .map(|child| now.duration_since(child.started));
        self.wait = next_wait(self.wait, lived);
        self.due = Some(now + self.wait);
        self.restarts += 1;
    }
}

/// The wait doubles as long as a process dies young.
fn next_wait(wait: Duration, lived: Option<Duration>) -> Duration {
    match lived {
        Some(lived) if lived >= STABLE => SHORTEST,
        _ => (wait * 2).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_dies_young_waits_ever_longer_up_to_a_bound() {
        let mut wait = SHORTEST;
        for _ in 0..20 {
            wait = next_wait(wait, Some(Duration::from_millis(5)));
        }
        assert_eq!(wait, LONGEST);
        assert_eq!(next_wait(wait, Some(Duration::from_secs(2))), SHORTEST);
        assert_eq!(next_wait(SHORTEST, None), 2 * SHORTEST);
    }
}
