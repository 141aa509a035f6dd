//! Bindings that one sbc leaves for the next, so that a crash makes no phone unreachable. In memory alone: they end with
//! their time, or with this process, and then the sbc of that day brings them again.
//!
//! What a captured sbc gains by it: while it lives it decides anyway where calls go, so leaving bindings adds nothing to
//! that. They outlive it, but not for long: each ends with the seconds it came with, at most
//! [`MAX_SECONDS`](broker_proto::binding::MAX_SECONDS), only an sbc that serves can push that out, and the next one checks
//! each as it checks a stranger's word. The way of each must be one that the zone may have: never a management address, the
//! box itself, or another zone's. Their number is that of the registrations that the configuration allows, and an sbc that
//! floods or speaks nonsense loses all that it left.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    binding::{BindingToken, KeptBinding, MAX_BATCH, MAX_OCTETS, MAX_SECONDS},
    broker::{FromBroker, Refusal},
    journal::Severity,
    settings::ZoneId,
};

use super::{Broker, kernel::Kernel, ledger::word};

/// Word for them in counters and records.
const WHAT: &str = "binding";

/// One binding; its number of seconds is that at `ends`.
#[derive(Debug)]
struct Entry {
    binding: KeptBinding,
    /// A commit may number the zones anew.
    zone: String,
    ends: Instant,
}

/// All of them. Bounded by the registrations of the configuration.
#[derive(Debug, Default)]
pub(super) struct Kept {
    all: BTreeMap<BindingToken, Entry>,
    ends: BTreeSet<(Instant, BindingToken)>,
}

impl Kept {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Lets those go whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, token)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            self.remove(&token);
        }
    }

    /// Keeps no more than this, those that last longest.
    pub(super) fn shrink(&mut self, most: u32) {
        while self.len() > usize::try_from(most).unwrap_or(usize::MAX) {
            let Some((_, token)) = self.ends.first().copied() else {
                return;
            };
            self.remove(&token);
        }
    }

    fn remove(&mut self, token: &BindingToken) -> bool {
        let entry = self.all.remove(token);
        if let Some(entry) = &entry {
            self.ends.remove(&(entry.ends, *token));
        }
        entry.is_some()
    }

    fn insert(&mut self, entry: Entry) {
        let token = entry.binding.token;
        self.remove(&token);
        self.ends.insert((entry.ends, token));
        self.all.insert(token, entry);
    }
}

impl<K: Kernel> Broker<K> {
    /// Keeps and forgets. One that is refused is counted and told, and keeps no other from being kept.
    pub(super) fn keep_bindings(
        &mut self,
        now: Instant,
        role: Role,
        kept: &[KeptBinding],
        gone: &[BindingToken],
    ) -> Result<(), Refusal> {
        if kept.len().saturating_add(gone.len()) > MAX_BATCH {
            return Err(Refusal::OutOfRange);
        }
        self.kept.expire(now);
        for token in gone {
            let known = self.kept.remove(token);
            let result = if known { "forgotten" } else { "unknown" };
            self.ledger.count(role.name(), WHAT, result);
        }
        for binding in kept {
            match self.vet_binding(binding) {
                Ok(zone) => {
                    let seconds = binding.left.min(MAX_SECONDS);
                    let ends = now + Duration::from_secs(u64::from(seconds));
                    let binding = binding.clone();
                    self.kept.insert(Entry {
                        binding,
                        zone,
                        ends,
                    });
                    self.ledger.count(role.name(), WHAT, "kept");
                }
                Err(reason) => {
                    // Whose it is, is nobody's business in a log.
                    let detail = || format!("octets={}", binding.octets());
                    self.ledger.refused(now, role, WHAT, reason, detail);
                    // What it said of it before is as little worth.
                    self.kept.remove(&binding.token);
                }
            }
        }
        Ok(())
    }

    /// Name of its zone, if it may be kept.
    fn vet_binding(&self, binding: &KeptBinding) -> Result<String, Refusal> {
        if binding.octets() > MAX_OCTETS || binding.left == 0 || binding.user.is_empty() {
            return Err(Refusal::OutOfRange);
        }
        let most = usize::try_from(self.permissions.bounds.registrations).unwrap_or(usize::MAX);
        if self.kept.len() >= most && !self.kept.all.contains_key(&binding.token) {
            return Err(Refusal::Quota);
        }
        let way = (binding.zone, binding.transport);
        let zone = self.permissions.vet_way(way, binding.local, binding.peer)?;
        Ok(zone.name.clone())
    }

    /// Gives back those behind `after`, as many as one message holds, with the seconds that are left to each.
    pub(super) fn recall_bindings(
        &mut self,
        now: Instant,
        role: Role,
        id: RequestId,
        after: Option<BindingToken>,
    ) {
        use core::ops::Bound::{Excluded, Unbounded};
        self.kept.expire(now);
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.kept.all.range((from, Unbounded));
        let page: Vec<_> = rest.by_ref().take(MAX_BATCH).collect();
        let more = rest.next().is_some();
        let next = page.last().map(|(token, _)| **token).filter(|_| more);
        let mut bindings = Vec::with_capacity(page.len());
        let mut unfit = Vec::new();
        for (token, entry) in page {
            let mut zones = self.permissions.zones.iter();
            let zone = zones
                .position(|zone| zone.name == entry.zone)
                .and_then(|index| u8::try_from(index).ok())
                .map(ZoneId);
            let mut binding = entry.binding.clone();
            let left = entry.ends.saturating_duration_since(now).as_secs();
            binding.left = u32::try_from(left).unwrap_or(u32::MAX);
            let fits = zone.ok_or(Refusal::NotConfigured).and_then(|zone| {
                binding.zone = zone;
                let way = (zone, binding.transport);
                self.permissions.vet_way(way, binding.local, binding.peer)
            });
            match fits {
                Ok(_) => bindings.push(binding),
                // A commit took its zone or listener away.
                Err(reason) => unfit.push((*token, word(reason))),
            }
        }
        for (token, reason) in unfit {
            self.kept.remove(&token);
            self.ledger.count(role.name(), WHAT, reason);
        }
        self.send(role, FromBroker::Bindings { id, bindings, next });
    }

    /// A process misbehaves: what it left is not believed.
    pub(super) fn disbelieve(&mut self, now: Instant, role: Role) {
        if role != Role::Sbc || self.kept.len() == 0 {
            return;
        }
        let fields = [("bindings", self.kept.len().to_string())];
        self.kept = Kept::default();
        self.ledger.count(role.name(), WHAT, "disbelieved");
        self.ledger
            .rare_event(now, Severity::Warning, "bindings-disbelieved", fields);
    }
}
