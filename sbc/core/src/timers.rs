//! All timers of the core but those of transactions, whose layer keeps its own: one queue, one deadline per key. Setting
//! a key again moves it.

use std::{collections::BTreeMap, time::Instant};

use crate::call::CallTimer;

/// What a deadline is for; at most one deadline each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// A call and which of its timers.
    Call(u64, CallTimer),
    /// Expiry of a binding or its next keep-alive, by its number.
    Binding(u64),
    /// The end of a subscription, by its number.
    Subscription(u64),
    /// A REGISTER answer that waits for its slot, by the server transaction.
    RegisterSlot(u64),
    /// Bindings that changed are handed to the firewall.
    Legacy,
    /// Ask whether the registrar is back.
    RegistrarProbe,
    /// Next question to a watched address of a trunk, by its number.
    Health(u64),
    /// Next registration at the trunk of that index.
    TrunkRegistration(usize),
    /// A connection: idle, or an unfinished message.
    Connection(u64),
    /// A connection that is being made takes long, by the number of its request.
    Connecting(u32),
    /// A listener that was refused is asked for again.
    Listen,
    /// Names are looked up again, or a name server took too long.
    Names,
    /// Old entries of the rate tables go.
    Sweep,
}

/// The queue. Deterministic: equal deadlines fire in the order in which they were set.
#[derive(Default)]
pub(crate) struct Timers {
    queue: BTreeMap<(Instant, u64), TimerKey>,
    deadlines: BTreeMap<TimerKey, (Instant, u64)>,
    sequence: u64,
}

impl Timers {
    /// Set or move a deadline.
    pub(crate) fn set(&mut self, key: TimerKey, at: Instant) {
        self.cancel(key);
        self.sequence = self.sequence.wrapping_add(1);
        self.queue.insert((at, self.sequence), key);
        self.deadlines.insert(key, (at, self.sequence));
    }

    /// Forget a deadline, if there is one.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        if let Some(entry) = self.deadlines.remove(&key) {
            self.queue.remove(&entry);
        }
    }

    /// Whether a deadline is set.
    pub(crate) fn is_set(&self, key: TimerKey) -> bool {
        self.deadlines.contains_key(&key)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Take the earliest deadline that has come.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<TimerKey> {
        let (&entry, &key) = self.queue.iter().next()?;
        if entry.0 > now {
            return None;
        }
        self.queue.remove(&entry);
        self.deadlines.remove(&key);
        Some(key)
    }

    /// How many deadlines are set.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn a_key_has_one_deadline_and_equal_ones_keep_their_order() {
        let start = epoch();
        let second = Duration::from_secs(1);
        let mut timers = Timers::default();
        timers.set(TimerKey::Binding(1), start + second);
        timers.set(TimerKey::Binding(2), start + second);
        timers.set(TimerKey::Binding(1), start + second);
        assert_eq!(timers.len(), 2);
        assert_eq!(timers.expired(start), None);
        assert_eq!(timers.expired(start + second), Some(TimerKey::Binding(2)));
        assert_eq!(timers.expired(start + second), Some(TimerKey::Binding(1)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_cancelled_deadline_never_fires() {
        let start = epoch();
        let mut timers = Timers::default();
        timers.set(TimerKey::Sweep, start);
        timers.cancel(TimerKey::Sweep);
        assert_eq!(timers.expired(start), None);
    }
}
