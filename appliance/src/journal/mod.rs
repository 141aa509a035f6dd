//! The journal: appends what the others say, hash-chained, and lets management read it. One process, sandboxed, with one
//! directory. It stamps time and role itself, so no process can speak in another's name, and answers no one but
//! management and init: the sbc can only append.

mod chain;
mod reading;
mod record;

use std::{
    io,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use broker_proto::{
    Role,
    control::{ChannelKind, FromChild, ToChild},
    decode,
    journal::{FromJournal, Record, Severity, ToJournal},
};
use sandbox::{Profile, channel::Channel};

pub use chain::{Bounds, Chain, Recovery, verify};

use crate::dispatch::{Dispatch, Incoming};

/// The sbc's records: 16 segments of 2 MiB. The house's: the same, in a stream of its own.
const BOUNDS: Bounds = Bounds {
    segment_octets: 2 * 1024 * 1024,
    segments: 16,
};
/// Records a second that one process may write for long, and how many at once; more are counted and not written. Calls
/// have a rate of their own, so that no event crowds them out: three records each at the usual limit of 500 a second.
const EVENTS: Rate = Rate {
    per_second: 200.0,
    burst: 2_000.0,
};
const CALLS: Rate = Rate {
    per_second: 1_500.0,
    burst: 6_000.0,
};
/// What comes within this time is written and made to last together. Until then it lies in the channels, which no death
/// of its writer empties.
const PAUSE_MS: u16 = 10;
/// Looks for messages after init's word to stop, at most.
const LAST_ROUNDS: usize = 64;

/// Both streams and the counters of who wrote too much.
pub struct Journal {
    house: Chain,
    sbc: Chain,
    sequence: u64,
    buckets: Vec<Bucket>,
    dirty: bool,
}

#[derive(Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

struct Bucket {
    role: Role,
    of_calls: bool,
    tokens: f64,
    filled: Instant,
    lost: u64,
}

impl Journal {
    /// Opens both streams in `directory`, says in a record what recovery found.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let (house, house_recovery) = Chain::open(directory, "house", BOUNDS)?;
        let (sbc, sbc_recovery) = Chain::open(directory, "sbc", BOUNDS)?;
        let sequence = house.sequence().max(sbc.sequence());
        let mut journal = Self {
            house,
            sbc,
            sequence,
            buckets: Vec::new(),
            dirty: false,
        };
        for (name, recovery) in [("house", house_recovery), ("sbc", sbc_recovery)] {
            if recovery.torn_octets > 0 {
                journal.note(
                    Severity::Warning,
                    "journal-recovered",
                    &[
                        ("stream", name),
                        ("torn_octets", &recovery.torn_octets.to_string()),
                    ],
                );
            }
            if let Some(place) = recovery.broken_at {
                journal.note(
                    Severity::Alert,
                    "journal-chain-broken",
                    &[("stream", name), ("at", &place)],
                );
            }
        }
        journal.note(Severity::Notice, "journal-started", &[]);
        Ok(journal)
    }

    /// Writes a record of `role`'s, unless it writes too much.
    pub fn append(&mut self, now: Instant, role: Role, record: &Record) {
        let of_calls = matches!(record, Record::Call(_));
        let Some(lost_before) = self.admit(now, role, of_calls) else {
            return;
        };
        if lost_before > 0 {
            let lost = lost_before.to_string();
            self.note(
                Severity::Warning,
                "records-lost",
                &[("role", role.name()), ("count", &lost), ("reason", "rate")],
            );
        }
        self.write(role, record);
    }

    /// Makes everything survive a power cut; called when no more records are waiting.
    pub fn sync(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        for chain in [&mut self.house, &mut self.sbc] {
            if let Err(error) = chain.sync() {
                tracing::error!(%error, "journal not synced");
            }
        }
        let dropped = self.house.take_dropped() + self.sbc.take_dropped();
        if dropped > 0 {
            self.note(
                Severity::Warning,
                "records-overwritten",
                &[("count", &dropped.to_string())],
            );
        }
    }

    /// Takes a token of `role`'s; `None`: none left. Otherwise how many records were lost since the last one.
    fn admit(&mut self, now: Instant, role: Role, of_calls: bool) -> Option<u64> {
        let rate = if of_calls { CALLS } else { EVENTS };
        let is = |bucket: &Bucket| (bucket.role, bucket.of_calls) == (role, of_calls);
        if !self.buckets.iter().any(is) {
            self.buckets.push(Bucket {
                role,
                of_calls,
                tokens: rate.burst,
                filled: now,
                lost: 0,
            });
        }
        let bucket = self.buckets.iter_mut().find(|bucket| is(bucket))?;
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * rate.per_second).min(rate.burst);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            bucket.lost += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.lost))
    }

    fn note(&mut self, severity: Severity, code: &str, fields: &[(&str, &str)]) {
        let fields = fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.write(
            Role::Journal,
            &Record::Event {
                severity,
                code: code.to_owned(),
                fields,
            },
        );
    }

    fn write(&mut self, role: Role, record: &Record) {
        let body = record::body(role, &rfc3339(SystemTime::now()), record);
        let sequence = self.sequence + 1;
        let chain = if role == Role::Sbc {
            &mut self.sbc
        } else {
            &mut self.house
        };
        match chain.append(sequence, &body) {
            Ok(()) => self.sequence = sequence,
            Err(error) => tracing::error!(%error, role = role.name(), "record not written"),
        }
        self.dirty = true;
    }
}

/// `time` as RFC 3339 in UTC with ms, `2026-01-31T23:59:59.000Z`. Before 1970 counts as 1970.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since.subsec_millis()
    )
}

/// Does what messages want; whether one of them is init's word to stop.
fn take(journal: &mut Journal, dispatch: &mut Dispatch, incoming: Vec<Incoming>) -> bool {
    let now = Instant::now();
    let mut stop = false;
    for message in incoming {
        match message {
            Incoming::Control(ToChild::Stop, _) => stop = true,
            Incoming::Peer(role, ChannelKind::Journal, bytes) => {
                answer(journal, dispatch, now, role, &bytes)
            }
            Incoming::Control(..) | Incoming::Peer(..) => {}
        }
    }
    stop
}

/// The process: opens the journal in the profile's directory, seals itself, serves until init says stop or is gone.
///
/// # Errors
/// The store cannot be opened, or init is gone.
pub fn serve(
    control: Channel,
    profile: &Profile,
    directory: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut journal = Journal::open(directory)?;
    let mut dispatch = Dispatch::new(control);
    sandbox::seal(profile)?;
    dispatch.tell_init(&FromChild::Ready)?;
    loop {
        let incoming = dispatch.wait(None)?;
        let stop = take(&mut journal, &mut dispatch, incoming);
        journal.sync();
        if stop {
            break;
        }
        dispatch.pause(PAUSE_MS)?;
    }
    // What was said before init's word may still be on its way through the other channels.
    for _ in 0..LAST_ROUNDS {
        let incoming = dispatch.wait(Some(0))?;
        if incoming.is_empty() {
            break;
        }
        take(&mut journal, &mut dispatch, incoming);
    }
    journal.note(Severity::Notice, "journal-stopped", &[]);
    journal.sync();
    Ok(())
}

fn answer(journal: &mut Journal, dispatch: &mut Dispatch, now: Instant, role: Role, bytes: &[u8]) {
    match decode::<ToJournal>(bytes) {
        Ok(ToJournal::Append(record)) => journal.append(now, role, &record),
        Ok(ToJournal::Query {
            id,
            after,
            limit,
            wanted,
        }) => {
            let permitted = matches!(role, Role::Management | Role::Init);
            let lines = permitted
                .then(|| journal.read(after, limit, &wanted))
                .and_then(|lines| {
                    lines
                        .inspect_err(|error| tracing::error!(%error, "journal not read"))
                        .ok()
                });
            let reply = match lines {
                Some(lines) => FromJournal::Records {
                    id,
                    lines,
                    newest: journal.sequence,
                },
                None => FromJournal::Refused { id },
            };
            dispatch.answer(role, ChannelKind::Journal, &reply);
        }
        Err(error) => {
            let reason = error.to_string();
            tracing::warn!(role = role.name(), %reason, "message refused");
            let event = Record::Event {
                severity: Severity::Warning,
                code: "message-refused".into(),
                fields: vec![("reason".into(), reason)],
            };
            journal.append(now, role, &event);
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::journal::Wanted;

    use super::*;

    fn event(code: &str) -> Record {
        Record::Event {
            severity: Severity::Info,
            code: code.into(),
            fields: Vec::new(),
        }
    }

    #[test]
    fn dates_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (1_795_510_009, "2026-11-24T08:46:49.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_flood_from_the_sbc_leaves_the_house_its_records() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let now = Instant::now();
        journal.append(now, Role::Firewall, &event("before"));
        for _ in 0..10_000 {
            journal.append(now, Role::Sbc, &event("flood"));
        }
        journal.append(now, Role::Firewall, &event("after"));
        journal.append(now + Duration::from_secs(1), Role::Sbc, &event("later"));
        journal.sync();
        let lines = journal.read(0, 1_000, &Wanted::default()).unwrap();
        assert!(lines.iter().any(|line| line.contains("\"before\"")));
        let house = journal.house.read(0, 100, |_| true).unwrap();
        assert!(house.iter().any(|(_, line)| line.contains("\"after\"")));
        assert!(
            house
                .iter()
                .any(|(_, line)| line.contains("records-lost") && line.contains("8000"))
        );
    }

    #[test]
    fn sequence_numbers_go_on_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.append(Instant::now(), Role::Sbc, &event("one"));
        let last = journal.sequence;
        drop(journal);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.sequence, last + 1);
        assert_eq!(verify(directory.path(), "sbc").unwrap(), None);
        assert_eq!(verify(directory.path(), "house").unwrap(), None);
    }
}
