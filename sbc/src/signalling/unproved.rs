//! Connections that were accepted and that nothing was sent by yet, half-open ones among them, and which of them goes when
//! there are too many. The shell has one; whoever holds thousands open for nothing meets it.
//!
//! Strangers and sources with a registration have room apart, so that no stranger ever costs a phone its connection; trunks
//! and the PBX are not kept here at all. Within such a room the oldest connection of the network (IPv4 /24, IPv6 /64) goes
//! that holds the most: a caller whose network holds few keeps his handshake, however many others hold connections.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sbc_core::ConnectionId;

/// Who a source is as far as room is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nobody that we know.
    Stranger,
    /// A phone is registered from there.
    Registered,
}

impl Standing {
    /// Connections of this standing that may be unproved, of `all` that there may be.
    const fn room(self, all: u32) -> u32 {
        match self {
            Self::Stranger => all.div_ceil(2),
            Self::Registered => all.div_ceil(4),
        }
    }
}

/// A network that shares its fate: IPv4 /24, IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// How many a network has, which is its oldest, and itself.
type Rank = (usize, Reverse<ConnectionId>, IpAddr);

/// Connections of one standing.
#[derive(Debug, Default)]
struct Crowd {
    by_network: BTreeMap<IpAddr, BTreeSet<ConnectionId>>,
    /// The networks by what they hold; of several that hold as much the one whose connection is oldest comes last.
    ranks: BTreeSet<Rank>,
    count: u32,
}

impl Crowd {
    fn rank(&self, network: IpAddr) -> Option<Rank> {
        let held = self.by_network.get(&network)?;
        Some((held.len(), Reverse(*held.first()?), network))
    }

    /// Changes what a network holds; its rank follows.
    fn change(&mut self, network: IpAddr, change: impl FnOnce(&mut BTreeSet<ConnectionId>)) {
        if let Some(rank) = self.rank(network) {
            self.ranks.remove(&rank);
        }
        change(self.by_network.entry(network).or_default());
        match self.rank(network) {
            Some(rank) => {
                self.ranks.insert(rank);
            }
            None => {
                self.by_network.remove(&network);
            }
        }
    }
}

/// All of them: no more than there are connections.
#[derive(Debug, Default)]
pub struct Unproved {
    crowds: BTreeMap<Standing, Crowd>,
    all: BTreeMap<ConnectionId, (Standing, IpAddr)>,
}

impl Unproved {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// A connection was accepted.
    pub fn insert(&mut self, id: ConnectionId, standing: Standing, source: IpAddr) {
        self.remove(id);
        let network = network(source);
        let crowd = self.crowds.entry(standing).or_default();
        crowd.change(network, |held| {
            held.insert(id);
        });
        crowd.count += 1;
        self.all.insert(id, (standing, network));
    }

    /// A connection has proved itself, or is gone.
    pub fn remove(&mut self, id: ConnectionId) {
        let Some((standing, network)) = self.all.remove(&id) else {
            return;
        };
        if let Some(crowd) = self.crowds.get_mut(&standing) {
            crowd.change(network, |held| {
                held.remove(&id);
            });
            crowd.count = crowd.count.saturating_sub(1);
        }
    }

    /// Takes out the next one that has to go, of `most` connections that there may be in all.
    pub fn evict(&mut self, most: u32) -> Option<ConnectionId> {
        let full = self
            .crowds
            .iter()
            .find(|(standing, crowd)| crowd.count > standing.room(most))?;
        let (_, Reverse(oldest), _) = full.1.ranks.last()?;
        let oldest = *oldest;
        self.remove(oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(unproved: &mut Unproved, from: u64, standing: Standing, sources: &[&str]) {
        for (id, source) in (from..).zip(sources) {
            unproved.insert(ConnectionId(id), standing, source.parse().unwrap());
        }
    }

    fn evicted(unproved: &mut Unproved, most: u32) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some(id) = unproved.evict(most) {
            gone.push(id.0);
        }
        gone
    }

    #[test]
    fn the_network_that_holds_the_most_loses_its_oldest() {
        let mut unproved = Unproved::default();
        let sources = ["192.0.2.1", "198.51.100.1", "198.51.100.2", "198.51.100.3"];
        fill(&mut unproved, 1, Standing::Stranger, &sources);
        assert_eq!(evicted(&mut unproved, 4), [2, 3], "never the honest one");
        let sources = ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"];
        fill(&mut unproved, 10, Standing::Stranger, &sources);
        assert_eq!(evicted(&mut unproved, 8), [10], "a /64 is one");
    }

    #[test]
    fn of_networks_that_hold_as_much_the_oldest_connection_goes() {
        let mut unproved = Unproved::default();
        let sources = ["203.0.113.1", "192.0.2.1", "198.51.100.1"];
        fill(&mut unproved, 1, Standing::Stranger, &sources);
        assert_eq!(evicted(&mut unproved, 4), [1]);
    }

    #[test]
    fn strangers_take_no_room_of_registered_sources_and_those_have_a_bound_too() {
        let mut unproved = Unproved::default();
        fill(&mut unproved, 1, Standing::Registered, &["192.0.2.7"; 3]);
        for n in 0..100u64 {
            let source = IpAddr::from([198, 18, u8::try_from(n).unwrap(), 1]);
            unproved.insert(ConnectionId(10 + n), Standing::Stranger, source);
        }
        let gone = evicted(&mut unproved, 12);
        assert_eq!(gone.len(), 94);
        assert!(gone.iter().all(|id| *id >= 10));
        fill(&mut unproved, 200, Standing::Registered, &["192.0.2.7"]);
        assert_eq!(evicted(&mut unproved, 12), [1]);
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let mut unproved = Unproved::default();
        fill(
            &mut unproved,
            1,
            Standing::Stranger,
            &["192.0.2.1", "192.0.2.2"],
        );
        for id in [1, 2, 2, 3] {
            unproved.remove(ConnectionId(id));
        }
        assert_eq!(unproved.len(), 0);
        let crowd = unproved.crowds.get(&Standing::Stranger).unwrap();
        assert!(crowd.by_network.is_empty() && crowd.ranks.is_empty() && crowd.count == 0);
    }
}
