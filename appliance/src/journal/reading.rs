//! Reading the journal back: both streams merged by sequence number, by name and time, oldest or newest first found, as
//! much as one answer holds. Management asks, for its pages of events and records.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, UNIX_EPOCH},
};

use broker_proto::journal::{CallPhase, Wanted};

use super::{Journal, rfc3339};

/// Octets of lines in one answer.
const ANSWER_OCTETS: usize = 48 * 1024;
/// Lines in one answer.
const ANSWER_LINES: usize = 1_000;
/// Names in one question.
const NAMES: usize = 16;

impl Journal {
    /// Lines after `after` that are wanted, both streams merged by sequence number, bounded for one answer: of the oldest
    /// the first ones, of the newest the last ones.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, after: u64, limit: u16, wanted: &Wanted) -> io::Result<Vec<String>> {
        if after >= self.sequence {
            return Ok(Vec::new());
        }
        let filter = Filter::of(wanted);
        let limit = usize::from(limit).min(ANSWER_LINES);
        let mut lines = VecDeque::new();
        for chain in [&self.house, &self.sbc] {
            lines.extend(match wanted.newest {
                true => chain.read_newest(after, limit, |line| filter.takes(line))?,
                false => chain.read(after, limit, |line| filter.takes(line))?,
            });
        }
        lines
            .make_contiguous()
            .sort_by_key(|(sequence, _)| *sequence);
        if wanted.newest {
            lines.drain(..lines.len().saturating_sub(limit));
        }
        lines.truncate(limit);
        let mut octets: usize = lines.iter().map(|(_, line)| line.len() + 8).sum();
        while octets > ANSWER_OCTETS {
            let gone = match wanted.newest {
                true => lines.pop_front(),
                false => lines.pop_back(),
            };
            octets -= gone.map_or(octets, |(_, line)| line.len() + 8);
        }
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }
}

/// A question as texts that a wanted line has. No value can forge them: its quotes are escaped.
struct Filter {
    codes: Vec<String>,
    phases: Vec<&'static str>,
    every: bool,
    since: Option<String>,
}

impl Filter {
    fn of(wanted: &Wanted) -> Self {
        let mut filter = Self {
            codes: Vec::new(),
            phases: Vec::new(),
            every: wanted.names.is_empty(),
            since: (wanted.since_unix_ms > 0)
                .then(|| rfc3339(UNIX_EPOCH + Duration::from_millis(wanted.since_unix_ms))),
        };
        for name in wanted.names.iter().take(NAMES) {
            match CallPhase::ALL.iter().find(|phase| phase.event() == name) {
                Some(phase) => filter.phases.push(phase.word()),
                None => filter.codes.push(format!("\"code\":\"{name}\"")),
            }
        }
        filter
    }

    fn takes(&self, line: &str) -> bool {
        self.is_named(line) && self.is_late_enough(line)
    }

    fn is_named(&self, line: &str) -> bool {
        if self.every || self.codes.iter().any(|code| line.contains(code)) {
            return true;
        }
        let phase = line
            .contains("\"kind\":\"call\"")
            .then(|| value(line, "\"phase\":\""));
        phase
            .flatten()
            .is_some_and(|phase| self.phases.contains(&phase))
    }

    /// RFC 3339 in UTC with a fixed number of digits sorts by time.
    fn is_late_enough(&self, line: &str) -> bool {
        let Some(since) = &self.since else {
            return true;
        };
        // The record's own time is its last field.
        let own = line
            .rfind("\"time\":\"")
            .and_then(|at| value(line.get(at..)?, "\"time\":\""));
        own.is_some_and(|time| time >= since.as_str())
    }
}

/// The text between `key` and the next quote.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(key)?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use broker_proto::{
        Role,
        journal::{CallRecord, Record, Severity},
    };

    use super::*;

    fn event(code: &str, value: &str) -> Record {
        Record::Event {
            severity: Severity::Info,
            code: code.into(),
            fields: vec![("value".into(), value.into())],
        }
    }

    fn call(phase: CallPhase) -> Record {
        Record::Call(Box::new(CallRecord {
            id: 7,
            phase,
            calling: String::new(),
            called: "\",\"phase\":\"end".into(),
            route: String::new(),
            invited_unix_ms: 0,
            answered_unix_ms: None,
            ended_unix_ms: None,
            since_invite_ms: 0,
            duration_ms: None,
            status: 0,
            ended_by: String::new(),
            reason: String::new(),
            media: String::new(),
            legs: Vec::new(),
        }))
    }

    fn journal(directory: &std::path::Path) -> Journal {
        let mut journal = Journal::open(directory).unwrap();
        let now = Instant::now();
        for number in 0..10 {
            journal.append(now, Role::Sbc, &event("drop", &number.to_string()));
            journal.append(now, Role::Firewall, &event("ban", &number.to_string()));
        }
        journal.append(now, Role::Sbc, &call(CallPhase::Attempt));
        journal.append(now, Role::Sbc, &event("other", "\"code\":\"drop\""));
        journal
    }

    fn names(names: &[&str]) -> Wanted {
        Wanted {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Wanted::default()
        }
    }

    #[test]
    fn records_are_found_by_name_and_no_value_passes_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(directory.path());
        let count = |wanted: &Wanted| journal.read(0, 100, wanted).unwrap().len();
        assert_eq!(count(&names(&["drop"])), 10);
        assert_eq!(count(&names(&["drop", "ban", "call-attempt"])), 21);
        assert_eq!(count(&names(&["call-end"])), 0);
        assert_eq!(count(&names(&["call-attempt"])), 1);
        assert_eq!(count(&names(&["nothing"])), 0);
        assert_eq!(count(&Wanted::default()), 23);
    }

    #[test]
    fn the_newest_are_the_last_ones_of_both_streams_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(directory.path());
        let wanted = Wanted {
            newest: true,
            ..names(&["drop", "ban"])
        };
        let lines = journal.read(0, 3, &wanted).unwrap();
        let values: Vec<&str> = lines
            .iter()
            .filter_map(|line| value(line, "\"value\":\""))
            .collect();
        assert_eq!(values, ["8", "9", "9"]);
        assert!(lines[2].contains("\"code\":\"ban\""));
        assert!(journal.read(1_000, 3, &wanted).unwrap().is_empty());
    }

    #[test]
    fn what_is_older_than_a_moment_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(directory.path());
        for (since_unix_ms, count) in [(0, 10), (1, 10), (200_000_000_000_000, 0)] {
            let wanted = Wanted {
                since_unix_ms,
                ..names(&["drop"])
            };
            assert_eq!(journal.read(0, 100, &wanted).unwrap().len(), count);
        }
    }
}
