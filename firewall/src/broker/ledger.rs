//! What the broker did and refused, counted and told: counters for the status channel, log lines and journal records at
//! a bounded rate, so that an asker who is refused all the time can fill neither log nor journal.

use std::{collections::BTreeMap, time::Instant};

use broker_proto::{
    Role,
    broker::{Refusal, ToBroker},
    journal::{Record, Severity},
};

use super::bucket::Bucket;

/// Log lines about refusals per second, and at once.
const LOG_RATE: (u32, u32) = (10, 50);
/// Journal records about refusals and the like per second, and at once.
const JOURNAL_RATE: (u32, u32) = (2, 20);
/// Journal records about bans per second, and at once: apart, so that no flood of refusals hides a ban.
const BAN_RATE: (u32, u32) = (20, 200);

/// Word for a kind of request, in counters and records.
#[must_use]
pub const fn kind(request: &ToBroker) -> &'static str {
    match request {
        ToBroker::Listen { .. } => "listen",
        ToBroker::OpenMedia { .. } => "open-media",
        ToBroker::LatchMedia { .. } => "latch-media",
        ToBroker::RenewMedia { .. } => "renew-media",
        ToBroker::CloseMedia { .. } => "close-media",
        ToBroker::AdoptMedia { .. } => "adopt-media",
        ToBroker::Connect { .. } => "connect",
        ToBroker::Ban { .. } => "ban",
        ToBroker::KeepBindings { .. } => "keep-bindings",
        ToBroker::RecallBindings { .. } => "recall-bindings",
        ToBroker::Health { .. } => "health",
    }
}

/// Word for a refusal, in counters and records.
#[must_use]
pub const fn word(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NotPermitted => "not-permitted",
        Refusal::NotConfigured => "not-configured",
        Refusal::PeerOutsidePolicy => "peer-outside-policy",
        Refusal::UnknownLease => "unknown-lease",
        Refusal::RateLimit => "rate-limit",
        Refusal::Quota => "quota",
        Refusal::PortsExhausted => "ports-exhausted",
        Refusal::AllowListed => "allow-listed",
        Refusal::OutOfRange => "out-of-range",
        Refusal::System => "system",
        Refusal::PeerRefused => "peer-refused",
        Refusal::Closed => "closed",
    }
}

/// Counters and the bounds on what is told.
#[derive(Debug)]
pub struct Ledger {
    counts: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    log: Bucket,
    journal: Bucket,
    bans: Bucket,
    untold: u64,
    records: Vec<Record>,
}

impl Ledger {
    /// Everything at zero.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            counts: BTreeMap::new(),
            log: Bucket::new(now, LOG_RATE.0, LOG_RATE.1),
            journal: Bucket::new(now, JOURNAL_RATE.0, JOURNAL_RATE.1),
            bans: Bucket::new(now, BAN_RATE.0, BAN_RATE.1),
            untold: 0,
            records: Vec::new(),
        }
    }

    /// Counts an event of `subject` (a role's name or a part of the broker).
    pub fn count(&mut self, subject: &'static str, what: &'static str, result: &'static str) {
        let count = self.counts.entry((subject, what, result)).or_default();
        *count = count.saturating_add(1);
    }

    /// A request that was refused: counted always, told as the rates allow.
    pub fn refused(
        &mut self,
        now: Instant,
        role: Role,
        what: &'static str,
        reason: Refusal,
        detail: impl FnOnce() -> String,
    ) {
        self.count(role.name(), what, word(reason));
        let (log, journal) = (self.log.take(now), self.journal.take(now));
        if !log && !journal {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        let detail = detail();
        if log {
            let (role, reason) = (role.name(), word(reason));
            tracing::warn!(role, request = what, reason, detail, "request refused");
        }
        let fields = [
            ("role", role.name().to_owned()),
            ("request", what.to_owned()),
            ("reason", word(reason).to_owned()),
            ("detail", detail),
        ];
        self.rare(journal, Severity::Warning, "broker-refused", fields);
    }

    /// Something that went wrong in the broker or the system.
    pub fn fault(&mut self, now: Instant, what: &'static str, detail: &str) {
        self.count("firewall", what, "failed");
        if self.log.take(now) {
            tracing::error!(what, detail, "the system refused");
        }
        let fields = [("what", what.to_owned()), ("detail", detail.to_owned())];
        self.rare_event(now, Severity::Error, "firewall-fault", fields);
    }

    /// A record that an outsider can not cause at will.
    pub fn event<const N: usize>(
        &mut self,
        severity: Severity,
        code: &str,
        fields: [(&str, String); N],
    ) {
        let fields = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        self.records.push(Record::Event {
            severity,
            code: code.to_owned(),
            fields,
        });
    }

    /// A ban: as its own rate allows.
    pub fn ban<const N: usize>(&mut self, now: Instant, fields: [(&str, String); N]) {
        if self.bans.take(now) {
            self.event(Severity::Warning, "ban", fields);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
    }

    /// A record that an outsider can cause: as the rate allows, with the number of those left out before.
    pub fn rare_event<const N: usize>(
        &mut self,
        now: Instant,
        severity: Severity,
        code: &str,
        fields: [(&str, String); N],
    ) {
        let journal = self.journal.take(now);
        self.rare(journal, severity, code, fields);
    }

    fn rare<const N: usize>(
        &mut self,
        journal: bool,
        severity: Severity,
        code: &str,
        fields: [(&str, String); N],
    ) {
        if !journal {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        let mut fields: Vec<_> = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        if self.untold > 0 {
            fields.push((
                "left-out-before".to_owned(),
                core::mem::take(&mut self.untold).to_string(),
            ));
        }
        self.records.push(Record::Event {
            severity,
            code: code.to_owned(),
            fields,
        });
    }

    /// Records to be sent, in order.
    pub fn take_records(&mut self) -> Vec<Record> {
        core::mem::take(&mut self.records)
    }

    /// All counts with their Prometheus names.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        self.counts.iter().map(|((subject, what, result), count)| {
            let name = format!(
                "firewall_broker_events_total{{asker=\"{subject}\",kind=\"{what}\",result=\"{result}\"}}"
            );
            (name, *count)
        })
    }

    /// One count.
    #[must_use]
    pub fn of(&self, subject: &'static str, what: &'static str, result: &'static str) -> u64 {
        self.counts
            .get(&(subject, what, result))
            .copied()
            .unwrap_or(0)
    }

    /// Sets all counts to zero.
    pub fn zero(&mut self) {
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_counted_and_few_are_recorded() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        for _ in 0..10_000 {
            ledger.refused(now, Role::Sbc, "ban", Refusal::RateLimit, String::new);
        }
        assert_eq!(ledger.of("sbc", "ban", "rate-limit"), 10_000);
        assert_eq!(ledger.take_records().len(), 20);
    }

    #[test]
    fn the_next_record_says_how_many_were_left_out() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        for _ in 0..30 {
            ledger.refused(now, Role::Sbc, "ban", Refusal::RateLimit, String::new);
        }
        let _ = ledger.take_records();
        ledger.refused(
            now + std::time::Duration::from_secs(2),
            Role::Sbc,
            "ban",
            Refusal::RateLimit,
            String::new,
        );
        let records = ledger.take_records();
        let [Record::Event { fields, .. }] = records.as_slice() else {
            panic!("{records:?}")
        };
        assert!(fields.contains(&("left-out-before".to_owned(), "10".to_owned())));
    }
}
