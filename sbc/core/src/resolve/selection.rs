//! From a name to places: RFC 3263 §4.1 (transport), §4.2 (port and address), RFC 2782 (priority and weight). Pure: walks
//! over what the cache knows and says what is still to be asked. Called by the resolver whenever it learnt something.
//!
//! What DNS says is nobody's word: an address counts only inside the networks that the configuration names for the peer, a
//! port only if it is one of its ports.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use broker_proto::settings::{Named, Transport};

use super::{
    cache::{Cache, Known},
    message::{CHAIN, Kind, Question, Record},
};

/// Hosts of SRV records that are looked at, those of the lowest priority first.
const SITES: usize = 16;
/// Addresses of one host.
const ADDRESSES: usize = 16;

/// A host that answers for the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The lowest is tried first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
    /// At least one.
    pub addresses: Vec<SocketAddr>,
}

/// Where the name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// How it is reached.
    pub transport: Transport,
    /// At least one, ascending.
    pub sites: Vec<Site>,
}

impl Reached {
    /// All addresses in an order to try: sites by priority, among those of one priority by lot and weight (RFC 2782).
    /// `draw` gives a number below its argument.
    pub fn order(&self, draw: &mut dyn FnMut(u64) -> u64) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        let mut rest: Vec<&Site> = self.sites.iter().collect();
        while let Some(priority) = rest.iter().map(|site| site.priority).min() {
            let same = |site: &&&Site| site.priority == priority;
            let sum: u64 = rest.iter().filter(same).map(|s| u64::from(s.weight)).sum();
            let lot = draw(sum + 1);
            let mut running = 0;
            // Sites ascend by weight: those without any stand first, and have the small chance that the RFC gives them.
            let chosen = rest.iter().position(|site| {
                running += u64::from(site.weight) * u64::from(site.priority == priority);
                site.priority == priority && running >= lot
            });
            let Some(chosen) = chosen else { break };
            addresses.extend(rest.remove(chosen).addresses.iter().copied());
        }
        let mut seen = BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        addresses
    }
}

/// Why a name leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// The name servers deny it.
    Denied,
    /// They say what no configured transport, network, port or family fits.
    Unfit,
    /// They do not answer.
    Failed,
}

impl Nowhere {
    /// Word for records and counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Denied => "no-such-name",
            Self::Unfit => "unusable",
            Self::Failed => "no-answer",
        }
    }
}

/// What a walk came to.
#[derive(Debug)]
pub struct Walk {
    /// Questions without which it can not be said.
    pub ask: BTreeSet<Question>,
    /// Where it leads; counts once there is nothing to ask.
    pub found: Result<Reached, Nowhere>,
    /// When something of it ends.
    pub until: Option<Instant>,
    /// Addresses that DNS names and the configuration does not allow.
    pub refused: BTreeSet<SocketAddr>,
}

/// A peer to look for.
pub struct Wanted<'a> {
    /// Its name and bounds.
    pub named: &'a Named,
    /// Families of its zone, the preferred one first; true: IPv6.
    pub families: &'a [bool],
    /// The box's own addresses, which are nobody else's.
    pub own: &'a [IpAddr],
}

impl Wanted<'_> {
    /// Walks over what is known at `now`.
    #[must_use]
    pub fn walk(&self, cache: &Cache, now: Instant) -> Walk {
        let mut walker = Walker {
            wanted: self,
            cache,
            now,
            ask: BTreeSet::new(),
            until: None,
            failed: false,
            unfit: false,
            refused: BTreeSet::new(),
        };
        let reached = walker.locate();
        let found = reached.ok_or(if walker.failed {
            Nowhere::Failed
        } else if walker.unfit || !walker.refused.is_empty() {
            Nowhere::Unfit
        } else {
            Nowhere::Denied
        });
        Walk {
            ask: walker.ask,
            found,
            until: walker.until,
            refused: walker.refused,
        }
    }
}

struct Walker<'a> {
    wanted: &'a Wanted<'a>,
    cache: &'a Cache,
    now: Instant,
    ask: BTreeSet<Question>,
    until: Option<Instant>,
    failed: bool,
    unfit: bool,
    refused: BTreeSet<SocketAddr>,
}

impl Walker<'_> {
    fn locate(&mut self) -> Option<Reached> {
        let named = self.wanted.named;
        let usual = *named.transports.first()?;
        // RFC 3263 §4.2: with a port the name is a host's.
        if let Some(port) = named.port {
            return self.host(&named.host, port, usual);
        }
        if named.by_naptr {
            let records = self.records(&named.host, Kind::Naptr);
            if !self.ask.is_empty() {
                return None;
            }
            if !records.is_empty() {
                return self.by_naptr(&records);
            }
        }
        // RFC 3263 §4.1: without NAPTR, by SRV of each transport that we have.
        for transport in named.transports.clone() {
            let name = format!("{}.{}", service(transport), named.host);
            let found = self.by_srv(&name, transport);
            if found.is_some() || !self.ask.is_empty() {
                return found;
            }
        }
        if self.failed || self.unfit || !self.refused.is_empty() {
            return None;
        }
        // RFC 3263 §4.2: without SRV the name is a host's, at the usual port.
        self.host(&named.host, usual_port(usual), usual)
    }

    fn by_naptr(&mut self, records: &[Record]) -> Option<Reached> {
        let mut ways: Vec<_> = records
            .iter()
            .filter_map(|record| match record {
                Record::Naptr {
                    order,
                    preference,
                    service,
                    replacement,
                } => {
                    let transport = match service.as_str() {
                        "SIP+D2U" => Transport::Udp,
                        "SIP+D2T" => Transport::Tcp,
                        "SIPS+D2T" => Transport::Tls,
                        _ => return None,
                    };
                    let ours = self.wanted.named.transports.contains(&transport);
                    ours.then(|| (*order, *preference, transport, replacement.clone()))
                }
                _ => None,
            })
            .collect();
        ways.sort_by_key(|(order, preference, ..)| (*order, *preference));
        // RFC 3263 §4.1: what does not fit us is passed over; nothing that fits: the domain can not be reached.
        self.unfit = true;
        for (_, _, transport, name) in ways {
            let found = self.by_srv(&name, transport);
            if found.is_some() || !self.ask.is_empty() {
                return found;
            }
        }
        None
    }

    fn by_srv(&mut self, name: &str, transport: Transport) -> Option<Reached> {
        let mut hosts: Vec<_> = self
            .records(name, Kind::Srv)
            .into_iter()
            .filter_map(|record| match record {
                Record::Srv {
                    priority,
                    weight,
                    port,
                    target,
                } => Some((priority, weight, target, port)),
                _ => None,
            })
            .collect();
        hosts.sort();
        // RFC 2782: a target of `.` says that there is no such service here, whatever the host itself may be.
        let before = hosts.len();
        hosts.retain(|(_, _, target, _)| !target.is_empty());
        let mut sites: Vec<Site> = Vec::new();
        for (priority, weight, target, port) in hosts.into_iter().take(SITES) {
            let addresses = self.addresses(&target, port);
            if !addresses.is_empty() {
                sites.push(Site {
                    priority,
                    weight,
                    addresses,
                });
            }
        }
        // RFC 3263 §4.2: where there is a record, the name itself is not asked for.
        self.unfit |= before > 0 && sites.is_empty() && self.ask.is_empty();
        sites.sort();
        (!sites.is_empty()).then_some(Reached { transport, sites })
    }

    fn host(&mut self, host: &str, port: u16, transport: Transport) -> Option<Reached> {
        let addresses = self.addresses(host, port);
        (!addresses.is_empty()).then(|| Reached {
            transport,
            sites: vec![Site {
                priority: 0,
                weight: 0,
                addresses,
            }],
        })
    }

    /// Addresses of a host that may be its, the preferred family first.
    fn addresses(&mut self, host: &str, port: u16) -> Vec<SocketAddr> {
        let wanted = self.wanted;
        let mut good = Vec::new();
        for v6 in wanted.families {
            let kind = if *v6 { Kind::Aaaa } else { Kind::A };
            for record in self.records(host, kind).into_iter().take(ADDRESSES) {
                let Record::Address(address) = record else {
                    continue;
                };
                let place = SocketAddr::new(address, port);
                if wanted.named.allows(place) && !wanted.own.contains(&address) {
                    good.push(place);
                } else {
                    self.refused.insert(place);
                }
            }
        }
        good
    }

    /// Records of a name and kind as far as they are known; what is not is to be asked.
    fn records(&mut self, name: &str, kind: Kind) -> Vec<Record> {
        let mut question = Question {
            name: name.to_owned(),
            kind,
        };
        for _ in 0..=CHAIN {
            let Some((known, until)) = self.cache.find(&question, self.now) else {
                self.ask.insert(question);
                return Vec::new();
            };
            self.until = Some(self.until.map_or(until, |least| least.min(until)));
            match known {
                Known::Records(records) => return records.clone(),
                Known::Nothing => return Vec::new(),
                Known::Failed => {
                    self.failed = true;
                    return Vec::new();
                }
                Known::Alias(next) => question.name.clone_from(next),
            }
        }
        // Aliases without end.
        self.failed = true;
        Vec::new()
    }
}

const fn service(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "_sips._tcp",
        Transport::Tcp => "_sip._tcp",
        Transport::Udp | Transport::Ws | Transport::Wss => "_sip._udp",
    }
}

/// RFC 3261 §19.1.2.
const fn usual_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tls => 5061,
        _ => 5060,
    }
}
