//! Peers that are known by name: RFC 3263 with name servers of the configuration, over sockets that the firewall lends one
//! by one. One [`Resolver`] in the core.
//!
//! Names are few and known before any call, so they are looked up ahead of calls and again when the answers end: no call
//! waits for a name server, and one that is dead stops none, since what was known stays in use until somebody says
//! otherwise. Each try of a question has a socket of its own, so that its source port, its number and the case of its
//! letters must all be guessed by who wants to answer for somebody else (RFC 5452).
//!
//! | module | noun |
//! |---|---|
//! | [`message`] | questions and answers as octets |
//! | [`cache`] | what was said, while it holds |
//! | [`selection`] | RFC 3263 and RFC 2782: from names to places |
//! | `errand` | one question on its way |

pub mod cache;
mod errand;
pub mod message;
pub mod selection;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    settings::{NameServer, Named, Settings, ZoneId},
};

use crate::{
    context::Context, event::Event, io::ConnectionId, surroundings::Place, timers::TimerKey,
};
use cache::Cache;
use errand::Errands;
use message::Question;
use selection::{Nowhere, Reached, Wanted};

/// Least wait between two looks at the same name.
const LEAST: Duration = Duration::from_secs(1);
/// Places that an event shows.
const SHOWN: usize = 16;

/// Who is known by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The PBX.
    Registrar,
    /// The trunk of that name.
    Trunk(String),
}

impl Who {
    fn word(&self) -> &str {
        match self {
            Self::Registrar => "registrar",
            Self::Trunk(name) => name,
        }
    }
}

/// A peer that is known by name.
struct Look {
    zone: ZoneId,
    named: Named,
    /// When to look again; `None`: answers are waited for.
    due: Option<Instant>,
    /// Why it was not found when it was looked for last.
    missed: Option<Nowhere>,
    /// Addresses that were refused then.
    refused: Vec<SocketAddr>,
}

/// All names, what is known and what is asked.
#[derive(Default)]
pub(crate) struct Resolver {
    servers: Vec<NameServer>,
    cache: Cache,
    looks: BTreeMap<Who, Look>,
    errands: Errands,
}

/// The peers of these settings that are known by name.
pub(crate) fn named(settings: &Settings) -> impl Iterator<Item = (Who, ZoneId, &Named)> {
    let registrar = settings
        .registrar
        .iter()
        .filter_map(|registrar| Some((Who::Registrar, registrar.zone, registrar.named.as_ref()?)));
    let trunks = settings.trunks.iter().filter_map(|trunk| {
        let who = Who::Trunk(trunk.name.clone());
        Some((who, trunk.zone, trunk.named.as_ref()?))
    });
    registrar.chain(trunks)
}

impl Resolver {
    /// The settings are new: names that are the same stay known. Returns whose places are others now.
    pub(crate) fn configure(&mut self, cx: &mut Context) -> Vec<Who> {
        if self.servers != cx.settings().name_servers {
            self.servers.clone_from(&cx.settings().name_servers);
            self.cache.clear();
            self.errands.drop_all(cx);
        }
        let mut old = std::mem::take(&mut self.looks);
        for (who, zone, named) in named(cx.settings()) {
            let same = |look: &Look| look.zone == zone && look.named == *named;
            let look = old.remove(&who).filter(same).unwrap_or_else(|| Look {
                zone,
                named: named.clone(),
                due: None,
                missed: None,
                refused: Vec::new(),
            });
            // The zone may have other addresses now.
            let look = Look {
                due: Some(cx.now),
                ..look
            };
            self.looks.insert(who, look);
        }
        self.progress(cx)
    }

    /// It is time to look again, or a question took too long.
    pub(crate) fn timer(&mut self, cx: &mut Context) -> Vec<Who> {
        self.errands.timer(cx, &self.servers, &mut self.cache);
        self.progress(cx)
    }

    /// The firewall lent a socket.
    pub(crate) fn connected(&mut self, cx: &mut Context, id: RequestId, socket: ConnectionId) {
        self.errands.connected(cx, id, socket);
        self.set_timer(cx);
    }

    /// The firewall did not.
    pub(crate) fn refused(&mut self, cx: &mut Context, id: RequestId) -> Vec<Who> {
        self.errands.refused(cx, id, &self.servers, &mut self.cache);
        self.progress(cx)
    }

    /// A name server's datagram.
    pub(crate) fn answer(
        &mut self,
        cx: &mut Context,
        socket: ConnectionId,
        bytes: &[u8],
    ) -> Vec<Who> {
        let servers = &self.servers;
        self.errands
            .answer(cx, socket, bytes, servers, &mut self.cache);
        self.progress(cx)
    }

    /// Octets by a connection to a name server. Nothing happens if it is none.
    pub(crate) fn stream(
        &mut self,
        cx: &mut Context,
        socket: ConnectionId,
        bytes: &[u8],
    ) -> Vec<Who> {
        let servers = &self.servers;
        if !self
            .errands
            .stream(cx, socket, bytes, servers, &mut self.cache)
        {
            return Vec::new();
        }
        self.progress(cx)
    }

    /// A socket is gone: nobody listens there.
    pub(crate) fn lost(&mut self, cx: &mut Context, socket: ConnectionId) -> Vec<Who> {
        let servers = &self.servers;
        if !self.errands.lost(cx, socket, servers, &mut self.cache) {
            return Vec::new();
        }
        self.progress(cx)
    }

    /// Questions under way.
    pub(crate) fn len(&self) -> usize {
        self.errands.len()
    }

    /// Answers that are remembered.
    pub(crate) fn known(&self) -> usize {
        self.cache.len()
    }

    /// Looks for every name whose time has come. Returns whose places are others now.
    fn progress(&mut self, cx: &mut Context) -> Vec<Who> {
        let mut changed = Vec::new();
        let own: Vec<_> = cx
            .settings()
            .zones
            .iter()
            .flat_map(|zone| zone.addresses.iter().copied())
            .collect();
        for (who, look) in &mut self.looks {
            if look.due.is_some_and(|due| due > cx.now) {
                continue;
            }
            let mut families: Vec<bool> = Vec::new();
            for address in cx
                .surroundings
                .zone(look.zone)
                .iter()
                .flat_map(|zone| &zone.addresses)
            {
                if !families.contains(&address.is_ipv6()) {
                    families.push(address.is_ipv6());
                }
            }
            let wanted = Wanted {
                named: &look.named,
                families: &families,
                own: &own,
            };
            let walk = wanted.walk(&self.cache, cx.now);
            if self.servers.is_empty() {
                look.due = Some(cx.now + Duration::from_secs(3_600));
                look.missing(cx, who, Nowhere::Failed);
                continue;
            }
            if !walk.ask.is_empty() {
                look.due = None;
                for question in walk.ask {
                    self.errands
                        .run(cx, question, &self.servers, &mut self.cache);
                }
                continue;
            }
            let soon = cx.now + LEAST;
            look.due = Some(walk.until.map_or(soon, |until| until.max(soon)));
            look.refuse(cx, who, walk.refused.into_iter().collect());
            match walk.found {
                Ok(reached) => {
                    if look.found(cx, who, reached) {
                        changed.push(who.clone());
                    }
                }
                Err(why) => {
                    look.missing(cx, who, why);
                    // RFC 8767 §4: a denial is an answer; silence is none, and what was known stays in use.
                    if why == Nowhere::Denied && cx.surroundings.reach(who, None) {
                        changed.push(who.clone());
                    }
                }
            }
        }
        self.set_timer(cx);
        changed
    }

    fn set_timer(&self, cx: &mut Context) {
        let dues = self.looks.values().filter_map(|look| look.due);
        match dues.chain(self.errands.next()).min() {
            Some(at) => cx.timers.set(TimerKey::Names, at),
            None => cx.timers.cancel(TimerKey::Names),
        }
    }
}

impl Look {
    /// It is there. True if it is elsewhere than before.
    fn found(&mut self, cx: &mut Context, who: &Who, reached: Reached) -> bool {
        let back = self.missed.take().is_some();
        let known = cx
            .surroundings
            .reached(who)
            .is_some_and(|have| *have == reached);
        if back || !known {
            let sites = reached.sites.iter();
            cx.event(&Event::NameResolved {
                peer: who.word(),
                host: &self.named.host,
                transport: crate::transport::word(reached.transport),
                places: &words(sites.flat_map(|site| &site.addresses)),
            });
        }
        if known {
            return false;
        }
        let identity = &mut cx.identity;
        let mut draw = |bound| identity.number().checked_rem(bound).unwrap_or(0);
        let place = Place {
            zone: self.zone,
            named: self.named.clone(),
            drawn: reached.order(&mut draw),
            reached,
        };
        cx.surroundings.reach(who, Some(place))
    }

    /// It is not. What happens again and again is said once.
    fn missing(&mut self, cx: &mut Context, who: &Who, why: Nowhere) {
        cx.counters
            .count("names_missed_total", "reason", why.word());
        if self.missed.replace(why) == Some(why) {
            return;
        }
        let stays = why != Nowhere::Denied && cx.surroundings.reached(who).is_some();
        cx.event(&Event::NameUnresolved {
            peer: who.word(),
            host: &self.named.host,
            reason: why.word(),
            stays,
        });
    }

    /// Places that were named and may not be: the configuration is old, or somebody lies.
    fn refuse(&mut self, cx: &mut Context, who: &Who, refused: Vec<SocketAddr>) {
        if self.refused == refused {
            return;
        }
        self.refused = refused;
        if self.refused.is_empty() {
            return;
        }
        for _ in &self.refused {
            cx.counters.count("names_refused_total", "", "");
        }
        cx.event(&Event::NameRefused {
            peer: who.word(),
            host: &self.named.host,
            places: &words(&self.refused),
        });
    }
}

/// The first of them as text: a hostile answer names many.
fn words<'a>(places: impl IntoIterator<Item = &'a SocketAddr>) -> String {
    let words: Vec<String> = places
        .into_iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    words.join(" ")
}
