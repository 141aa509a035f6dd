//! Bans: the table of them with reason and evidence, beside the kernel's sets, whose elements time out by themselves.
//! The allow-list wins when a ban is asked for and whenever the list changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::{
    Role,
    broker::{BanKey, BanScope, Refusal},
    status::BanInfo,
};

use crate::{
    netlink::{Change, Element},
    nftables::names::Set,
};

use super::permissions::Permissions;

/// Most bans at once, whatever the configuration says: below the size of each of the kernel's sets.
pub const MAX_BANS: usize = 65_000;
/// Octets of a reason that are kept.
const REASON_OCTETS: usize = 200;
/// Most bans in one answer of the status channel.
const PAGE: usize = 128;

/// What a ban is found by.
type Name = (BanKey, BanScope);

#[derive(Clone, Debug)]
struct Ban {
    reason: String,
    asked_by: Role,
    asked: u64,
    ends: Instant,
}

/// The table.
#[derive(Debug, Default)]
pub struct Bans {
    table: BTreeMap<Name, Ban>,
    ends: BTreeSet<(Instant, Name)>,
}

/// A ban that may be put into the kernel: not on the allow-list, within the quota, seconds within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Vetted {
    name: Name,
    seconds: u32,
}

impl Vetted {
    /// The change that the kernel is to make. Taking out first, because an element's timeout does not change by adding
    /// it again.
    #[must_use]
    pub fn changes(&self) -> [Change; 2] {
        let element = element(&self.name);
        [
            Change::Remove(element),
            Change::Add(element, Some(Duration::from_secs(u64::from(self.seconds)))),
        ]
    }

    /// Seconds after bounds.
    #[must_use]
    pub const fn seconds(&self) -> u32 {
        self.seconds
    }
}

impl Bans {
    /// Checks a request.
    ///
    /// # Errors
    /// `OutOfRange` for no time at all, `AllowListed`, `Quota`.
    pub fn vet(
        &self,
        permissions: &Permissions,
        key: BanKey,
        scope: BanScope,
        seconds: u32,
    ) -> Result<Vetted, Refusal> {
        if seconds == 0 {
            return Err(Refusal::OutOfRange);
        }
        if permissions.is_allow_listed(&key) {
            return Err(Refusal::AllowListed);
        }
        let most = usize::try_from(permissions.bounds.bans)
            .unwrap_or(MAX_BANS)
            .min(MAX_BANS);
        if self.table.len() >= most && !self.table.contains_key(&(key, scope)) {
            return Err(Refusal::Quota);
        }
        Ok(Vetted {
            name: (key, scope),
            seconds: seconds.min(permissions.bounds.ban_seconds),
        })
    }

    /// Enters a ban that the kernel has.
    pub fn enter(&mut self, now: Instant, vetted: &Vetted, reason: &str, asked_by: Role) {
        let ends = now + Duration::from_secs(u64::from(vetted.seconds));
        let asked = self.remove(&vetted.name).map_or(0, |old| old.asked);
        let ban = Ban {
            reason: sanitise(reason),
            asked_by,
            asked: asked + 1,
            ends,
        };
        self.table.insert(vetted.name, ban);
        self.ends.insert((ends, vetted.name));
    }

    /// Enters what the kernel's sets still hold from an earlier life of the firewall: an element of `set` with its octets
    /// and the time that is left to it. What is no ban is passed over.
    pub fn remember(&mut self, now: Instant, set: Set, key: &[u8], left: Duration) {
        let Some(key) = read(key) else { return };
        let scope = match (set, key) {
            (Set::BanHostSip, BanKey::Host(_)) | (Set::BanFlowSip, BanKey::Flow(_)) => {
                BanScope::Signalling
            }
            (Set::BanHostAll, BanKey::Host(_)) | (Set::BanFlowAll, BanKey::Flow(_)) => {
                BanScope::All
            }
            _ => return,
        };
        let name = (key, scope);
        if self.table.len() >= MAX_BANS || self.table.contains_key(&name) {
            return;
        }
        let ends = now + left;
        let ban = Ban {
            reason: "from before the firewall's restart".to_owned(),
            asked_by: Role::Firewall,
            asked: 1,
            ends,
        };
        self.table.insert(name, ban);
        self.ends.insert((ends, name));
    }

    /// Whether a source is banned from signalling.
    #[must_use]
    pub fn covers(&self, source: core::net::SocketAddr) -> bool {
        [BanScope::Signalling, BanScope::All]
            .into_iter()
            .any(|scope| {
                self.table.contains_key(&(BanKey::Host(source.ip()), scope))
                    || self.table.contains_key(&(BanKey::Flow(source), scope))
            })
    }

    /// Forgets bans whose time is over; the kernel has done so by itself.
    pub fn expire(&mut self, now: Instant) {
        while let Some((ends, name)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            self.ends.remove(&(ends, name));
            self.table.remove(&name);
        }
    }

    /// When [`Self::expire`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// Takes out all bans that are listed as `key`. The kernel's changes; empty if there is none.
    pub fn lift(&mut self, key: &str) -> Vec<Change> {
        let names: Vec<Name> = [parse(key)]
            .into_iter()
            .flatten()
            .flat_map(|key| [(key, BanScope::Signalling), (key, BanScope::All)])
            .filter(|name| self.table.contains_key(name))
            .collect();
        self.take_out(&names)
    }

    /// Takes out all bans that the allow-list of a new configuration covers.
    pub fn lift_allowed(&mut self, permissions: &Permissions) -> Vec<Change> {
        let names: Vec<Name> = self
            .table
            .keys()
            .filter(|(key, _)| permissions.is_allow_listed(key))
            .copied()
            .collect();
        self.take_out(&names)
    }

    /// Takes out all.
    pub fn lift_all(&mut self) -> Vec<Change> {
        let names: Vec<Name> = self.table.keys().copied().collect();
        self.take_out(&names)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bans from the `offset`-th on, and whether there are more than fit.
    #[must_use]
    pub fn list(&self, now: Instant, offset: u32) -> (Vec<BanInfo>, bool) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = self
            .table
            .iter()
            .skip(offset)
            .take(PAGE)
            .map(|((key, scope), ban)| {
                let left = ban.ends.saturating_duration_since(now).as_secs();
                BanInfo {
                    key: text(key),
                    reason: ban.reason.clone(),
                    evidence: format!(
                        "{}, asked {} times by {}",
                        scope_word(*scope),
                        ban.asked,
                        ban.asked_by
                    ),
                    expires_in_seconds: u32::try_from(left).unwrap_or(u32::MAX),
                }
            });
        (
            page.collect(),
            self.table.len() > offset.saturating_add(PAGE),
        )
    }

    fn take_out(&mut self, names: &[Name]) -> Vec<Change> {
        for name in names {
            self.remove(name);
        }
        names
            .iter()
            .map(|name| Change::Remove(element(name)))
            .collect()
    }

    fn remove(&mut self, name: &Name) -> Option<Ban> {
        let ban = self.table.remove(name)?;
        self.ends.remove(&(ban.ends, *name));
        Some(ban)
    }
}

/// Text form of a key, as operators read and type it.
#[must_use]
pub fn text(key: &BanKey) -> String {
    match key {
        BanKey::Host(host) => host.to_string(),
        BanKey::Flow(flow) => flow.to_string(),
    }
}

fn parse(key: &str) -> Option<BanKey> {
    key.parse()
        .map(BanKey::Host)
        .or_else(|_| key.parse().map(BanKey::Flow))
        .ok()
}

/// A key as the kernel has it: an address, with a port and two zero octets behind it if it is a flow's.
fn read(key: &[u8]) -> Option<BanKey> {
    let (address, rest): (IpAddr, &[u8]) = match key.len() {
        4 | 8 => {
            let (address, rest) = key.split_first_chunk::<4>()?;
            (IpAddr::from(*address), rest)
        }
        16 | 20 => {
            let (address, rest) = key.split_first_chunk::<16>()?;
            (IpAddr::from(*address), rest)
        }
        _ => return None,
    };
    Some(match rest.first_chunk::<2>() {
        None => BanKey::Host(address),
        Some(port) => BanKey::Flow(SocketAddr::new(address, u16::from_be_bytes(*port))),
    })
}

const fn scope_word(scope: BanScope) -> &'static str {
    match scope {
        BanScope::Signalling => "signalling",
        BanScope::All => "everything",
    }
}

fn element((key, scope): &Name) -> Element {
    match (key, scope) {
        (BanKey::Host(host), BanScope::Signalling) => Element::new(Set::BanHostSip, *host),
        (BanKey::Host(host), BanScope::All) => Element::new(Set::BanHostAll, *host),
        (BanKey::Flow(flow), BanScope::Signalling) => {
            Element::new(Set::BanFlowSip, flow.ip()).port(flow.port())
        }
        (BanKey::Flow(flow), BanScope::All) => {
            Element::new(Set::BanFlowAll, flow.ip()).port(flow.port())
        }
    }
}

/// A reason as it is kept: printable ASCII, no more than [`REASON_OCTETS`] octets. It comes from a process that may be
/// captured and goes to terminals and browsers.
#[must_use]
pub fn sanitise(reason: &str) -> String {
    let printable = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    reason.chars().map(printable).take(REASON_OCTETS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::fake::lab_permissions;

    fn ban(bans: &mut Bans, now: Instant, key: BanKey, seconds: u32) -> Result<(), Refusal> {
        let vetted = bans.vet(&lab_permissions(), key, BanScope::Signalling, seconds)?;
        bans.enter(now, &vetted, "scanner", Role::Sbc);
        Ok(())
    }

    fn host(address: &str) -> BanKey {
        BanKey::Host(address.parse().unwrap())
    }

    #[test]
    fn the_allow_list_wins() {
        let mut bans = Bans::default();
        let now = Instant::now();
        assert_eq!(
            ban(&mut bans, now, host("192.0.2.10"), 60),
            Err(Refusal::AllowListed)
        );
        let flow = BanKey::Flow("198.51.100.20:5060".parse().unwrap());
        assert_eq!(ban(&mut bans, now, flow, 60), Err(Refusal::AllowListed));
        assert_eq!(
            ban(&mut bans, now, host("198.51.100.1"), 60),
            Err(Refusal::AllowListed)
        );
    }

    #[test]
    fn a_ban_for_no_time_is_out_of_range() {
        assert_eq!(
            ban(
                &mut Bans::default(),
                Instant::now(),
                host("198.51.100.66"),
                0
            ),
            Err(Refusal::OutOfRange)
        );
    }

    #[test]
    fn a_ban_for_ever_lasts_as_long_as_the_longest() {
        let vetted = Bans::default()
            .vet(
                &lab_permissions(),
                host("198.51.100.66"),
                BanScope::All,
                u32::MAX,
            )
            .unwrap();
        assert_eq!(vetted.seconds(), 86_400);
    }

    #[test]
    fn a_ban_ends_by_itself() {
        let mut bans = Bans::default();
        let now = Instant::now();
        ban(&mut bans, now, host("198.51.100.66"), 10).unwrap();
        bans.expire(now + Duration::from_secs(9));
        assert_eq!(bans.len(), 1);
        bans.expire(now + Duration::from_secs(10));
        assert!(bans.is_empty());
        assert_eq!(bans.deadline(), None);
    }

    #[test]
    fn asking_again_prolongs_and_counts() {
        let mut bans = Bans::default();
        let now = Instant::now();
        ban(&mut bans, now, host("198.51.100.66"), 10).unwrap();
        ban(
            &mut bans,
            now + Duration::from_secs(5),
            host("198.51.100.66"),
            10,
        )
        .unwrap();
        bans.expire(now + Duration::from_secs(10));
        let (list, more) = bans.list(now + Duration::from_secs(10), 0);
        assert_eq!((list.len(), more), (1, false));
        assert_eq!(list[0].evidence, "signalling, asked 2 times by sbc");
        assert_eq!(list[0].expires_in_seconds, 5);
    }

    #[test]
    fn the_quota_holds_and_a_known_key_may_still_be_prolonged() {
        let mut bans = Bans::default();
        let now = Instant::now();
        for n in 0..u32::try_from(MAX_BANS).unwrap() {
            let address = core::net::Ipv4Addr::from(0x0a00_0000 + n);
            ban(&mut bans, now, BanKey::Host(address.into()), 60).unwrap();
        }
        assert_eq!(
            ban(&mut bans, now, host("198.51.100.66"), 60),
            Err(Refusal::Quota)
        );
        assert_eq!(ban(&mut bans, now, host("10.0.0.0"), 60), Ok(()));
        assert!(bans.list(now, 0).1);
    }

    #[test]
    fn a_listed_key_lifts_its_ban() {
        let mut bans = Bans::default();
        let now = Instant::now();
        ban(
            &mut bans,
            now,
            BanKey::Flow("[2001:db8:e::66]:5060".parse().unwrap()),
            60,
        )
        .unwrap();
        let key = bans.list(now, 0).0.remove(0).key;
        assert_eq!(bans.lift(&key).len(), 1);
        assert!(bans.lift(&key).is_empty());
        assert!(bans.lift("no address").is_empty());
    }

    #[test]
    fn bans_of_an_earlier_life_are_listed_under_their_keys_and_can_be_lifted() {
        let mut bans = Bans::default();
        let now = Instant::now();
        let names = [
            (host("198.51.100.66"), BanScope::All),
            (host("2001:db8:e::66"), BanScope::Signalling),
            (
                BanKey::Flow("198.51.100.66:5060".parse().unwrap()),
                BanScope::Signalling,
            ),
            (
                BanKey::Flow("[2001:db8:e::66]:5061".parse().unwrap()),
                BanScope::All,
            ),
        ];
        for name in &names {
            let element = element(name);
            bans.remember(now, element.set, element.key(), Duration::from_secs(90));
        }
        bans.remember(now, Set::BanHostAll, &[1, 2, 3], Duration::from_secs(90));
        let (list, _) = bans.list(now, 0);
        assert_eq!(list.len(), 4);
        for (key, scope) in &names {
            let found = list.iter().any(|ban| {
                ban.key == text(key)
                    && ban.evidence.starts_with(scope_word(*scope))
                    && ban.expires_in_seconds == 90
            });
            assert!(found, "{}: {list:?}", text(key));
        }
        assert_eq!(bans.lift("198.51.100.66").len(), 1);
        bans.expire(now + Duration::from_secs(90));
        assert!(bans.is_empty());
    }

    #[test]
    fn a_reason_is_printable_and_short() {
        assert_eq!(sanitise("a\u{1b}[31m\nb\u{202e}é"), "a?[31m?b??");
        assert_eq!(sanitise(&"x".repeat(5000)).len(), REASON_OCTETS);
    }
}
