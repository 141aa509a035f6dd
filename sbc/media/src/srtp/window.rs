//! Which indices of one source were seen: RFC 3711 §3.3.1 (guessing the index) and §3.3.2 (replay). On the way out it keeps
//! an index from being used twice: under GCM that would give the key away.

/// Indices back from the highest that are still told apart.
const DEPTH: u64 = 128;
/// RFC 3711 §9.2.
const LAST_RTP: u64 = (1 << 48) - 1;
/// RFC 3711 §9.2: SRTCP has 31 bits.
const LAST_RTCP: u64 = (1 << 31) - 1;

/// Seen indices of one SSRC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u128,
}

impl Window {
    /// The first packet of a source with this index is about to be believed.
    pub(super) const fn new(index: u64) -> Self {
        Self {
            highest: index,
            seen: 0,
        }
    }

    /// The index that a sequence number most likely has; `None`: none that the source may still use.
    pub(super) const fn guess(&self, sequence: u16) -> Option<u64> {
        let (rollover, last) = (self.highest >> 16, (self.highest & 0xffff) as i32);
        let sequence_number = sequence as i32;
        let rollover = if last < 0x8000 {
            if sequence_number - last > 0x8000 {
                rollover.checked_sub(1)
            } else {
                Some(rollover)
            }
        } else if last - 0x8000 > sequence_number {
            Some(rollover + 1)
        } else {
            Some(rollover)
        };
        match rollover {
            Some(rollover) => {
                let index = rollover << 16 | sequence as u64;
                if index <= LAST_RTP { Some(index) } else { None }
            }
            None => None,
        }
    }

    /// Whether an index may still be taken.
    pub(super) const fn is_fresh(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let back = self.highest - index;
        back < DEPTH && self.seen >> back & 1 == 0
    }

    /// Takes an index that is fresh.
    pub(super) const fn take(&mut self, index: u64) {
        if index > self.highest {
            let ahead = index - self.highest;
            self.seen = if ahead < DEPTH { self.seen << ahead } else { 0 };
            self.highest = index;
        }
        let back = self.highest - index;
        if back < DEPTH {
            self.seen |= 1 << back;
        }
    }
}

/// The next SRTCP index after one; `None`: the key is used up.
pub(super) const fn next_rtcp(index: u64) -> Option<u64> {
    if index < LAST_RTCP {
        Some(index + 1)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_taken_once_in_any_order() {
        let mut window = Window::new(1000);
        for index in [1000, 1002, 1001, 1130, 1003] {
            assert!(window.is_fresh(index), "{index}");
            window.take(index);
            assert!(!window.is_fresh(index), "{index}");
        }
        assert!(!window.is_fresh(1002), "behind the window");
        assert!(!window.is_fresh(1001));
    }

    #[test]
    fn what_is_late_by_more_than_the_window_is_refused() {
        let mut window = Window::new(5000);
        window.take(5000);
        assert!(window.is_fresh(5000 - 127));
        assert!(!window.is_fresh(5000 - 128));
    }

    #[test]
    fn the_rollover_counts_up_and_a_late_packet_belongs_to_the_one_before() {
        let mut window = Window::new(65_530);
        window.take(65_535);
        assert_eq!(window.guess(3), Some(65_536 + 3));
        window.take(65_536 + 3);
        assert_eq!(window.guess(65_534), Some(65_534));
        assert_eq!(window.guess(40_000), None.or(Some(40_000)));
        assert_eq!(Window::new(3).guess(65_530), None);
    }

    #[test]
    fn a_used_up_key_has_no_next_index() {
        assert_eq!(Window::new(LAST_RTP).guess(0), None);
        assert_eq!(next_rtcp(LAST_RTCP), None);
        assert_eq!(next_rtcp(7), Some(8));
    }
}
