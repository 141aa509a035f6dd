//! What name servers said, for as long as it holds: TTL within bounds (RFC 1035 §3.2.1), denials by SOA (RFC 2308),
//! failures for a moment so that a dead server is not asked without pause. One in the resolver.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::message::{Question, Record, Said};

/// Least and greatest time of records.
const RECORDS: (u32, u32) = (10, 86_400);
/// Least and greatest time of denials (RFC 2308 §5 advises three hours at most).
const DENIALS: (u32, u32) = (10, 10_800);
/// A denial without SOA.
const NO_SOA: u32 = 60;
/// How long a failure is remembered (RFC 2308 §7: five minutes at most).
const FAILURE: Duration = Duration::from_secs(30);
/// Entries at most; configured names are few, what they lead to is bounded.
const ENTRIES: usize = 2048;

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// At least one record.
    Records(Vec<Record>),
    /// Ask for that name.
    Alias(String),
    /// There is none.
    Nothing,
    /// Nobody says.
    Failed,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<Question, (Known, Instant)>,
}

impl Cache {
    /// What is known now, and until when.
    #[must_use]
    pub fn find(&self, question: &Question, now: Instant) -> Option<(&Known, Instant)> {
        let (known, until) = self.entries.get(question)?;
        (*until > now).then_some((known, *until))
    }

    /// An answer.
    pub fn learn(&mut self, question: Question, said: Said, now: Instant) {
        let within = |seconds: u32, (least, most)| {
            Duration::from_secs(u64::from(seconds.clamp(least, most)))
        };
        let (known, wait) = match said {
            Said::Records(records, ttl) => (Known::Records(records), within(ttl, RECORDS)),
            Said::Alias(name, ttl) => (Known::Alias(name), within(ttl, RECORDS)),
            Said::Nothing(ttl) => (Known::Nothing, within(ttl.unwrap_or(NO_SOA), DENIALS)),
        };
        self.keep(question, known, wait, now);
    }

    /// No server answered.
    pub fn failed(&mut self, question: Question, now: Instant) {
        self.keep(question, Known::Failed, FAILURE, now);
    }

    /// Forgets everything: the servers are others.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn keep(&mut self, question: Question, known: Known, wait: Duration, now: Instant) {
        if self.entries.len() >= ENTRIES && !self.entries.contains_key(&question) {
            self.entries.retain(|_, (_, until)| *until > now);
            // Full of what holds still: what ends next makes room.
            if self.entries.len() >= ENTRIES {
                let next = self.entries.iter().min_by_key(|(_, (_, until))| *until);
                if let Some(next) = next.map(|(question, _)| question.clone()) {
                    self.entries.remove(&next);
                }
            }
        }
        self.entries.insert(question, (known, now + wait));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::Kind, *};
    use crate::testing::epoch;

    fn question(name: &str) -> Question {
        Question {
            name: name.to_owned(),
            kind: Kind::A,
        }
    }

    fn address() -> Vec<Record> {
        vec![Record::Address("198.51.100.20".parse().unwrap())]
    }

    #[test]
    fn an_answer_holds_for_its_time_and_no_longer() {
        let (mut cache, now) = (Cache::default(), epoch());
        cache.learn(question("a.test"), Said::Records(address(), 60), now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(cache.find(&question("a.test"), at(59)).is_some());
        assert!(cache.find(&question("a.test"), at(60)).is_none());
    }

    #[test]
    fn times_have_a_floor_and_a_ceiling() {
        let (mut cache, now) = (Cache::default(), epoch());
        let until = |said, cache: &mut Cache| {
            cache.learn(question("a.test"), said, now);
            let (_, until) = cache.find(&question("a.test"), now).unwrap();
            (until - now).as_secs()
        };
        assert_eq!(until(Said::Records(address(), 0), &mut cache), 10);
        assert_eq!(
            until(Said::Records(address(), u32::MAX), &mut cache),
            86_400
        );
        assert_eq!(until(Said::Nothing(Some(900)), &mut cache), 900);
        assert_eq!(until(Said::Nothing(None), &mut cache), 60);
        assert_eq!(until(Said::Nothing(Some(u32::MAX)), &mut cache), 10_800);
        cache.failed(question("a.test"), now);
        let (known, until) = cache.find(&question("a.test"), now).unwrap();
        assert_eq!((known, until - now), (&Known::Failed, FAILURE));
    }

    #[test]
    fn a_full_cache_lets_go_of_what_ends_next() {
        let (mut cache, now) = (Cache::default(), epoch());
        cache.learn(question("soon.test"), Said::Records(address(), 20), now);
        for number in 0..ENTRIES {
            let name = question(&format!("h{number}.test"));
            cache.learn(name, Said::Records(address(), 600), now);
        }
        assert_eq!(cache.len(), ENTRIES);
        assert!(cache.find(&question("soon.test"), now).is_none());
        assert!(cache.find(&question("h0.test"), now).is_some());
    }
}
