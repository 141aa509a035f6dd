//! What a media thread counted since the process began. Written by the thread once a batch, read by the signalling thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sbc_media::relay::DropReason;

const REASONS: usize = DropReason::ALL.len();

/// The thread's own counts, between two batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    relayed: u64,
    send_failures: u64,
    events_late: u64,
    dropped: [u64; REASONS],
}

impl Tally {
    /// A packet was given to the kernel.
    pub const fn relayed(&mut self) {
        self.relayed += 1;
    }

    /// The kernel refused a packet.
    pub const fn send_failure(&mut self) {
        self.send_failures += 1;
    }

    /// The signalling thread does not keep up; an event waits.
    pub const fn event_late(&mut self) {
        self.events_late += 1;
    }

    /// A packet was not relayed.
    pub fn dropped(&mut self, reason: DropReason) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// The same where the signalling thread can see it.
#[derive(Debug, Default)]
pub struct Counters {
    progress: AtomicU64,
    relayed: AtomicU64,
    send_failures: AtomicU64,
    events_late: AtomicU64,
    streams: AtomicU64,
    dropped: [AtomicU64; REASONS],
}

impl Counters {
    /// One turn of the loop is over: adds what it counted.
    pub fn publish(&self, tally: &mut Tally, streams: usize) {
        let Tally {
            relayed,
            send_failures,
            events_late,
            dropped,
        } = core::mem::take(tally);
        add(&self.relayed, relayed);
        add(&self.send_failures, send_failures);
        add(&self.events_late, events_late);
        for (total, count) in self.dropped.iter().zip(dropped) {
            add(total, count);
        }
        self.streams.store(streams as u64, Relaxed);
        self.progress.fetch_add(1, Relaxed);
    }

    /// Turns of the loop; stands still only if the thread does.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.progress.load(Relaxed)
    }

    /// Packets given to the kernel.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        self.relayed.load(Relaxed)
    }

    /// Packets dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped
            .get(reason as usize)
            .map_or(0, |count| count.load(Relaxed))
    }
}

/// Sums of all threads, with their names for `/metrics`.
#[must_use]
pub fn totals(threads: &[std::sync::Arc<Counters>]) -> Vec<(String, u64)> {
    let sum = |of: &dyn Fn(&Counters) -> u64| threads.iter().map(|thread| of(thread)).sum::<u64>();
    let mut totals = vec![
        (
            "media_packets_relayed_total".to_owned(),
            sum(&Counters::relayed),
        ),
        (
            "media_send_failures_total".to_owned(),
            sum(&|thread| thread.send_failures.load(Relaxed)),
        ),
        (
            "media_events_late_total".to_owned(),
            sum(&|thread| thread.events_late.load(Relaxed)),
        ),
        (
            "media_streams".to_owned(),
            sum(&|thread| thread.streams.load(Relaxed)),
        ),
    ];
    for reason in DropReason::ALL {
        let name = format!(
            "media_packets_dropped_total{{reason=\"{}\"}}",
            reason.name()
        );
        totals.push((name, sum(&|thread| thread.dropped(reason))));
    }
    totals
}

fn add(total: &AtomicU64, count: u64) {
    if count > 0 {
        total.fetch_add(count, Relaxed);
    }
}
