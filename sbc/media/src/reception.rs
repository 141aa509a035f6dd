//! What was received from one synchronisation source: sequence numbers, loss and jitter as RFC 3550 counts them. Every
//! source of every leg has one; the relay asks it for the figures of a call record.

use std::time::Duration;

use crate::rtp::Header;

/// RFC 3550 A.1: a jump forward below this is loss, a larger one a restart.
const MAX_DROPOUT: u16 = 3000;
/// RFC 3550 A.1: a step back below this is reordering or a duplicate.
const MAX_MISORDER: u16 = 100;

/// Counts of one source since its first packet.
#[derive(Clone, Copy, Debug)]
pub struct Reception {
    ssrc: u32,
    /// Sequence number at the start, or at the last restart.
    base: u16,
    highest: u16,
    /// Wraps of the sequence number since `base`, times 65,536.
    cycles: u64,
    /// The next number after a jump: seen, the jump was a restart of the sender.
    restart_at: Option<u16>,
    /// Packets since `base`.
    received: u64,
    /// Loss before the last restart.
    lost_before: u64,
    /// Relative transit time of the last packet in clock units, for the jitter.
    transit: Option<u32>,
    /// RFC 3550 A.8: sixteen times the jitter, in clock units.
    jitter_q4: u32,
}

impl Reception {
    /// Counts `first`.
    #[must_use]
    pub fn new(first: &Header) -> Self {
        Self {
            ssrc: first.ssrc,
            base: first.sequence_number,
            highest: first.sequence_number,
            cycles: 0,
            restart_at: None,
            received: 1,
            lost_before: 0,
            transit: None,
            jitter_q4: 0,
        }
    }

    /// Whose counts these are.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Counts a further packet of this source (RFC 3550 A.1, without its probation: the source address was proved).
    pub fn count(&mut self, header: &Header) {
        let ahead = header.sequence_number.wrapping_sub(self.highest);
        if ahead < MAX_DROPOUT {
            if header.sequence_number < self.highest {
                self.cycles += 1 << 16;
            }
            self.highest = header.sequence_number;
        } else if ahead <= u16::MAX - MAX_MISORDER {
            if self.restart_at == Some(header.sequence_number) {
                self.restart(header);
            } else {
                self.restart_at = Some(header.sequence_number.wrapping_add(1));
                return;
            }
        }
        self.received += 1;
    }

    /// Two packets in a row after a large jump: the sender began anew.
    fn restart(&mut self, header: &Header) {
        self.lost_before = self.lost();
        // The first packet after the jump was not counted when it came.
        self.base = header.sequence_number.wrapping_sub(1);
        self.highest = header.sequence_number;
        self.cycles = if header.sequence_number == 0 {
            1 << 16
        } else {
            0
        };
        self.restart_at = None;
        self.received = 1;
        self.transit = None;
    }

    /// Takes the arrival of a packet into the jitter (RFC 3550 A.8). `arrival`: time since any fixed moment.
    pub fn time(&mut self, header: &Header, arrival: Duration, clock_hz: u32) {
        let units = u64::try_from(arrival.as_nanos()).unwrap_or(u64::MAX);
        // Wraps like the timestamp it is compared with; whole seconds apart, so that nothing overflows.
        let seconds = (units / 1_000_000_000).wrapping_mul(u64::from(clock_hz));
        let fraction = units % 1_000_000_000 * u64::from(clock_hz) / 1_000_000_000;
        let transit = (seconds.wrapping_add(fraction) as u32).wrapping_sub(header.timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            // A new timestamp base is no jitter.
            if difference < clock_hz {
                let decay = self.jitter_q4.saturating_add(8) >> 4;
                self.jitter_q4 = self
                    .jitter_q4
                    .saturating_add(difference)
                    .saturating_sub(decay);
            }
        }
    }

    /// Packets missing by sequence number; late ones are not missing, duplicates never make it negative (RFC 3550 A.3).
    #[must_use]
    pub fn lost(&self) -> u64 {
        let extended = self.cycles + u64::from(self.highest);
        let expected = (extended + 1).saturating_sub(u64::from(self.base));
        self.lost_before + expected.saturating_sub(self.received)
    }

    /// Interarrival jitter in µs; 0 for a clock of 0 Hz.
    #[must_use]
    pub fn jitter_us(&self, clock_hz: u32) -> u32 {
        let units = u64::from(self.jitter_q4 >> 4);
        (units * 1_000_000)
            .checked_div(u64::from(clock_hz))
            .and_then(|us| u32::try_from(us).ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(sequence_number: u16, timestamp: u32) -> Header {
        Header {
            marker: false,
            payload_type: 8,
            sequence_number,
            timestamp,
            ssrc: 1,
            header_octets: 12,
            payload_octets: 160,
        }
    }

    fn after(sequence_numbers: impl IntoIterator<Item = u16>) -> Reception {
        let mut numbers = sequence_numbers.into_iter();
        let mut reception = Reception::new(&packet(numbers.next().unwrap(), 0));
        numbers.for_each(|number| reception.count(&packet(number, 0)));
        reception
    }

    #[test]
    fn nothing_is_lost_across_a_wrap_of_the_sequence_number() {
        assert_eq!(
            after((0..200_000_u32).map(|n| (n as u16).wrapping_add(60_000))).lost(),
            0
        );
    }

    #[test]
    fn a_gap_is_loss_and_a_late_packet_fills_it() {
        assert_eq!(after([1, 2, 5, 6]).lost(), 2);
        assert_eq!(after([1, 2, 5, 6, 3]).lost(), 1);
        assert_eq!(after([65_534, 65_535, 1, 0]).lost(), 0);
    }

    #[test]
    fn a_duplicate_does_not_make_the_loss_negative() {
        assert_eq!(after([1, 2, 2, 2, 3]).lost(), 0);
    }

    #[test]
    fn a_single_jump_is_passed_over_and_a_restart_begins_anew() {
        assert_eq!(after([1, 2, 20_000, 3, 4]).lost(), 0);
        assert_eq!(after([1, 2, 4, 20_000, 20_001, 20_002]).lost(), 1);
        assert_eq!(after([1, 2, 4, 20_000, 20_001, 20_003]).lost(), 2);
        assert_eq!(after([20_000, 65_535, 0, 2]).lost(), 1);
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_the_one_of_the_standard() {
        let mut even = Reception::new(&packet(0, 0));
        let mut uneven = even;
        for n in 0..500_u32 {
            let header = packet(n as u16, n * 160);
            let arrival = Duration::from_millis(u64::from(n) * 20);
            even.time(&header, arrival, 8000);
            uneven.time(
                &header,
                arrival + Duration::from_millis(u64::from(n % 2) * 4),
                8000,
            );
        }
        assert_eq!(even.jitter_us(8000), 0);
        // Every difference is 4 ms, so the mean deviation tends to 4 ms.
        assert!(
            (3800..=4100).contains(&uneven.jitter_us(8000)),
            "{} µs",
            uneven.jitter_us(8000)
        );
    }

    #[test]
    fn a_clock_of_zero_measures_nothing() {
        let mut reception = Reception::new(&packet(0, 0));
        reception.time(&packet(1, 5), Duration::from_secs(9), 0);
        reception.time(&packet(2, 9), Duration::from_secs(10), 0);
        assert_eq!(reception.jitter_us(0), 0);
    }

    proptest! {
        #[test]
        fn loss_is_what_was_taken_out_of_an_ordered_stream(start in any::<u16>(), kept in proptest::collection::vec(any::<bool>(), 1..2000)) {
            let first = kept.iter().position(|&kept| kept);
            let last = kept.iter().rposition(|&kept| kept);
            if let (Some(first), Some(last)) = (first, last) {
                let sent = (0..kept.len()).filter(|&n| kept[n]).map(|n| start.wrapping_add(n as u16));
                let missing = kept[first..=last].iter().filter(|&&kept| !kept).count() as u64;
                prop_assert_eq!(after(sent).lost(), missing);
            }
        }

        #[test]
        fn no_sequence_of_packets_makes_it_panic(
            packets in proptest::collection::vec((any::<u16>(), any::<u32>(), any::<u64>(), any::<u32>()), 1..200)
        ) {
            let mut reception = Reception::new(&packet(0, 0));
            for (number, timestamp, nanoseconds, clock_hz) in packets {
                let header = packet(number, timestamp);
                reception.count(&header);
                reception.time(&header, Duration::from_nanos(nanoseconds), clock_hz);
            }
            let _ = (reception.lost(), reception.jitter_us(8000));
        }
    }
}
