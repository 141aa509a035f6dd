//! How much goes through zones, trunks and accounts: calls at once, new calls per second, media bandwidth; and which call
//! counts where. Asked before a call is taken and before each target is tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use broker_proto::settings::{Caps, Settings, ZoneId};
use sbc_sip::sdp::{Bandwidth, SessionDescription};

use crate::admission::{Bucket, Rate};

/// What a description without a word about bandwidth takes: G.711 in packets of 20 ms over IPv6 (RFC 3551, RFC 8200).
const AUDIO_KBIT: u64 = 96;
/// A room system's video, as long as nothing is declared.
const VIDEO_KBIT: u64 = 2_000;
/// Anything else.
const OTHER_KBIT: u64 = 64;
/// Accounts whose rate is kept at once.
const ACCOUNTS: usize = 20_000;

/// What a limit is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Zone(ZoneId),
    /// By its name, which a commit does not change.
    Trunk(String),
    /// A registered user.
    Account(String),
}

impl Subject {
    /// Stable word for counters.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Zone(_) => "zone",
            Self::Trunk(_) => "trunk",
            Self::Account(_) => "account",
        }
    }

    /// Its name for records.
    pub(crate) fn name(&self, settings: &Settings) -> String {
        match self {
            Self::Zone(id) => {
                let mut zones = settings.zones.iter();
                let zone = zones.find(|zone| zone.id == *id);
                zone.map(|zone| zone.name.clone()).unwrap_or_default()
            }
            Self::Trunk(name) | Self::Account(name) => name.clone(),
        }
    }

    fn caps(&self, settings: &Settings) -> Caps {
        match self {
            Self::Zone(id) => {
                let mut zones = settings.zones.iter();
                let zone = zones.find(|zone| zone.id == *id);
                zone.map(|zone| zone.policy.caps).unwrap_or_default()
            }
            Self::Trunk(name) => {
                let mut trunks = settings.trunks.iter();
                let trunk = trunks.find(|trunk| trunk.name == *name);
                trunk.map(|trunk| trunk.policy.caps).unwrap_or_default()
            }
            Self::Account(_) => settings.account,
        }
    }
}

/// Which limit is reached: a stable word.
pub(crate) type Reached = &'static str;

#[derive(Default)]
struct Account {
    calls: BTreeSet<u64>,
    kbit: u64,
    rate: Option<Bucket>,
}

/// A call and where it counts.
#[derive(Default)]
struct Held {
    caller: Vec<Subject>,
    callee: Vec<Subject>,
    kbit: u64,
    exempt: bool,
}

/// The ledger.
#[derive(Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<Subject, Account>,
    held: BTreeMap<u64, Held>,
}

impl Ledger {
    /// Whether one more call of so much bandwidth may go through; the call itself does not count yet.
    pub(crate) fn may(
        &mut self,
        now: Instant,
        settings: &Settings,
        subject: &Subject,
        kbit: u64,
    ) -> Result<(), Reached> {
        let caps = subject.caps(settings);
        let (calls, used) = self
            .accounts
            .get(subject)
            .map_or((0, 0), |account| (account.calls.len(), account.kbit));
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        if caps.calls.is_some_and(|most| calls >= most) {
            return Err("calls");
        }
        let most = caps.bandwidth_kbit.map(u64::from);
        if most.is_some_and(|most| used.saturating_add(kbit) > most) {
            return Err("bandwidth");
        }
        let Some(per_second) = caps.call_rate else {
            return Ok(());
        };
        let rate = Rate {
            per_second,
            burst: per_second,
        };
        let mut bucket = match self.accounts.get(subject).and_then(|account| account.rate) {
            Some(bucket) => bucket,
            None => Bucket::full(rate, now),
        };
        if bucket.has(rate, now) {
            Ok(())
        } else {
            Err("call-rate")
        }
    }

    /// A call begins on the caller's side.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        settings: &Settings,
        call: u64,
        caller: Vec<Subject>,
        (kbit, exempt): (u64, bool),
    ) {
        for subject in &caller {
            self.count(now, settings, subject, call, kbit);
        }
        let held = Held {
            caller,
            callee: Vec::new(),
            kbit,
            exempt,
        };
        self.held.insert(call, held);
    }

    /// It tries a target, and the one before counts no more. What its media take, in kbit/s.
    pub(crate) fn aim(
        &mut self,
        now: Instant,
        settings: &Settings,
        call: u64,
        callee: Vec<Subject>,
    ) -> u64 {
        let Some(held) = self.held.get_mut(&call) else {
            return 0;
        };
        let (kbit, before) = (
            held.kbit,
            std::mem::replace(&mut held.callee, callee.clone()),
        );
        for subject in before {
            self.release(&subject, call, kbit);
        }
        for subject in &callee {
            self.count(now, settings, subject, call, kbit);
        }
        kbit
    }

    /// What its media take is known better now.
    pub(crate) fn describe(&mut self, call: u64, kbit: u64) {
        let Some(held) = self.held.get_mut(&call) else {
            return;
        };
        let before = std::mem::replace(&mut held.kbit, kbit);
        for subject in held.caller.iter().chain(&held.callee) {
            if let Some(account) = self.accounts.get_mut(subject) {
                account.kbit = account.kbit.saturating_sub(before).saturating_add(kbit);
            }
        }
    }

    /// The call is over.
    pub(crate) fn end(&mut self, call: u64) {
        let Some(held) = self.held.remove(&call) else {
            return;
        };
        for subject in held.caller.iter().chain(&held.callee) {
            self.release(subject, call, held.kbit);
        }
    }

    /// Calls that count for a subject.
    pub(crate) fn calls(&self, subject: &Subject) -> u32 {
        let calls = self
            .accounts
            .get(subject)
            .map_or(0, |account| account.calls.len());
        u32::try_from(calls).unwrap_or(u32::MAX)
    }

    /// The youngest call of a subject that no limit spares.
    pub(crate) fn youngest(&self, subject: &Subject) -> Option<u64> {
        let account = self.accounts.get(subject)?;
        let mut calls = account.calls.iter().rev().copied();
        calls.find(|call| self.held.get(call).is_some_and(|held| !held.exempt))
    }

    /// Calls that count anywhere.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Subjects that carry something, with calls and kbit/s.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&Subject, u64, u64)> {
        self.accounts.iter().map(|(subject, account)| {
            let calls = u64::try_from(account.calls.len()).unwrap_or(u64::MAX);
            (subject, calls, account.kbit)
        })
    }

    fn count(
        &mut self,
        now: Instant,
        settings: &Settings,
        subject: &Subject,
        call: u64,
        kbit: u64,
    ) {
        if self.accounts.len() >= ACCOUNTS && !self.accounts.contains_key(subject) {
            self.accounts.retain(|_, account| !account.calls.is_empty());
        }
        let account = self.accounts.entry(subject.clone()).or_default();
        if !account.calls.insert(call) {
            return;
        }
        account.kbit = account.kbit.saturating_add(kbit);
        if let Some(per_second) = subject.caps(settings).call_rate {
            let rate = Rate {
                per_second,
                burst: per_second,
            };
            let bucket = account.rate.get_or_insert_with(|| Bucket::full(rate, now));
            bucket.take(rate, now);
        }
    }

    fn release(&mut self, subject: &Subject, call: u64, kbit: u64) {
        let Some(account) = self.accounts.get_mut(subject) else {
            return;
        };
        if account.calls.remove(&call) {
            account.kbit = account.kbit.saturating_sub(kbit);
        }
        if account.calls.is_empty() && account.rate.is_none() {
            self.accounts.remove(subject);
        }
    }
}

/// What the media of a description take one way, in kbit/s: as declared (RFC 8866 §5.8, RFC 3890), otherwise by kind.
pub(crate) fn kbit_of(description: Option<&SessionDescription>) -> u64 {
    let Some(description) = description else {
        return AUDIO_KBIT;
    };
    let lines = description.media.iter().filter(|media| media.port != 0);
    let sum = lines
        .map(|media| {
            let usual = match media.kind.as_str() {
                "audio" => AUDIO_KBIT,
                "video" => VIDEO_KBIT,
                _ => OTHER_KBIT,
            };
            declared(&media.bandwidth).unwrap_or(usual)
        })
        .fold(0, u64::saturating_add);
    declared(&description.bandwidth).map_or(sum, |whole| whole.min(sum))
}

fn declared(lines: &[Bandwidth]) -> Option<u64> {
    lines.iter().find_map(|line| match line.kind.as_str() {
        "AS" => Some(line.value),
        "TIAS" => Some(line.value.div_ceil(1000)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{epoch, settings};

    fn trunk() -> Subject {
        Subject::Trunk("trunk1".into())
    }

    fn capped(caps: Caps) -> Settings {
        let mut settings = settings();
        settings.trunks[0].policy.caps = caps;
        settings
    }

    #[test]
    fn calls_count_until_they_end_and_bandwidth_with_them() {
        let settings = capped(Caps {
            calls: Some(2),
            call_rate: None,
            bandwidth_kbit: Some(250),
        });
        let mut ledger = Ledger::default();
        let now = epoch();
        let begin = |ledger: &mut Ledger, call| {
            ledger.begin(now, &settings, call, vec![trunk()], (96, false));
        };
        begin(&mut ledger, 1);
        assert_eq!(ledger.may(now, &settings, &trunk(), 154), Ok(()));
        assert_eq!(ledger.may(now, &settings, &trunk(), 155), Err("bandwidth"));
        ledger.describe(1, 200);
        assert_eq!(ledger.may(now, &settings, &trunk(), 96), Err("bandwidth"));
        ledger.describe(1, 96);
        begin(&mut ledger, 2);
        assert_eq!(ledger.may(now, &settings, &trunk(), 1), Err("calls"));
        assert_eq!(ledger.youngest(&trunk()), Some(2));
        ledger.end(2);
        ledger.end(2);
        assert_eq!(ledger.may(now, &settings, &trunk(), 1), Ok(()));
        ledger.end(1);
        assert_eq!((ledger.len(), ledger.list().count()), (0, 0));
    }

    #[test]
    fn the_rate_of_a_subject_comes_back_with_time() {
        let settings = capped(Caps {
            calls: None,
            call_rate: Some(2),
            bandwidth_kbit: None,
        });
        let mut ledger = Ledger::default();
        let now = epoch();
        for call in 0..2 {
            assert_eq!(ledger.may(now, &settings, &trunk(), 0), Ok(()));
            ledger.begin(now, &settings, call, vec![trunk()], (0, false));
            ledger.end(call);
        }
        assert_eq!(ledger.may(now, &settings, &trunk(), 0), Err("call-rate"));
        let later = now + Duration::from_millis(500);
        assert_eq!(ledger.may(later, &settings, &trunk(), 0), Ok(()));
    }

    #[test]
    fn a_target_that_is_left_counts_no_more_and_the_spared_are_never_youngest() {
        let settings = settings();
        let mut ledger = Ledger::default();
        let now = epoch();
        let other = Subject::Trunk("trunk2".into());
        ledger.begin(now, &settings, 1, Vec::new(), (96, false));
        ledger.begin(now, &settings, 2, Vec::new(), (96, true));
        for call in [1, 2] {
            ledger.aim(now, &settings, call, vec![trunk()]);
        }
        assert_eq!(ledger.youngest(&trunk()), Some(1));
        ledger.aim(now, &settings, 1, vec![other.clone()]);
        assert_eq!((ledger.calls(&trunk()), ledger.calls(&other)), (1, 1));
        assert_eq!(ledger.youngest(&trunk()), None);
    }
}
