//! Two cores back to back, a peer behind each, and the network between all of them: it loses, doubles, delays and
//! reorders by a seed. Between the cores it may be TCP, whose connections break in the middle of a message. Time jumps from one event to the next.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use broker_proto::settings::{Settings, Transport, ZoneId};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use super::{
    node::{Node, Reply, Wanted},
    peer::Peer,
};
use crate::{
    BrokerAnswer, ConnectionId, Input,
    testing::{epoch, settings},
};

/// How the network misbehaves, of a thousand datagrams each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) lost: u32,
    pub(super) doubled: u32,
    pub(super) late: u32,
}

pub(super) const FAIR: Weather = Weather {
    lost: 0,
    doubled: 0,
    late: 0,
};

enum Event {
    /// What comes to a node by a connection, in the order in which it was sent.
    Stream(usize, ConnectionId, Piece),
    /// A connection stands at the node that asked for it.
    Connected(usize, BrokerAnswer),
    /// And at the other.
    Accepted {
        node: usize,
        connection: ConnectionId,
        zone: ZoneId,
        local: SocketAddr,
        peer: SocketAddr,
    },
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Reply(usize, Reply),
}

enum Piece {
    Octets(Vec<u8>),
    End,
}

/// One end of a connection between the cores.
type End = (usize, ConnectionId);

/// Everything.
pub(super) struct Fabric {
    pub(super) now: Instant,
    start: Instant,
    pub(super) rng: StdRng,
    pub(super) weather: Weather,
    pub(super) nodes: [Node; 2],
    pub(super) peers: [Peer; 2],
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    /// The other end of each, and when the last octets that are under way to this one arrive.
    links: BTreeMap<End, (End, Instant)>,
    connections: u64,
    /// Of a thousand messages by a connection so many are its last, and may be lost or cut.
    pub(super) breaks: u32,
    pub(super) broken: u64,
    /// Peers transfer calls.
    pub(super) transfers: bool,
    /// Print every message: a seed is being replayed.
    pub(super) loud: bool,
    pub(super) datagrams: u64,
}

/// The settings of the second core: its network inside is another, and each core is the other's carrier.
fn mirrored(mut settings: Settings) -> Settings {
    let inside = ZoneId(1);
    for zone in &mut settings.zones {
        zone.addresses = zone
            .addresses
            .iter()
            .map(|address| match (zone.id, address.is_ipv4()) {
                (ZoneId(0), true) => "198.51.100.20".parse().unwrap(),
                (ZoneId(0), false) => "2001:db8:e::20".parse().unwrap(),
                (id, true) if id == inside => "192.0.3.1".parse().unwrap(),
                (id, false) if id == inside => "2001:db8:3::1".parse().unwrap(),
                _ => *address,
            })
            .collect();
        if zone.id == inside {
            zone.networks = vec![
                "192.0.3.0/24".parse().unwrap(),
                "2001:db8:3::/64".parse().unwrap(),
            ];
        }
    }
    settings
}

/// Peer, its core's address for it, and the other core as a carrier, by family.
const PLACES: [[[&str; 3]; 2]; 2] = [
    [
        ["192.0.2.10:5060", "192.0.2.1:5060", "198.51.100.20:5060"],
        [
            "[2001:db8:1::10]:5060",
            "[2001:db8:1::1]:5060",
            "[2001:db8:e::20]:5060",
        ],
    ],
    [
        ["192.0.3.10:5060", "192.0.3.1:5060", "198.51.100.1:5060"],
        [
            "[2001:db8:3::10]:5060",
            "[2001:db8:3::1]:5060",
            "[2001:db8:e::1]:5060",
        ],
    ],
];

impl Fabric {
    pub(super) fn new(seed: u64) -> Self {
        let mut near = settings();
        near.trunks.truncate(1);
        near.trunks
            .iter_mut()
            .for_each(|trunk| trunk.registration = None);
        near.limits.call_seconds = 3600;
        let mut far = mirrored(near.clone());
        // IPv4 or IPv6 behind each core, and between them.
        let family =
            |bit: u32| usize::from(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (60 + bit) & 1 == 1);
        // A third of the scenarios has TCP between the cores.
        let by_streams = seed % 3 == 1;
        let places = [PLACES[0][family(0)], PLACES[1][family(1)]];
        for (node, settings) in [&mut near, &mut far].into_iter().enumerate() {
            if let Some(registrar) = &mut settings.registrar {
                registrar.addresses = vec![places[node][0].parse().unwrap()];
            }
            let between = PLACES[node][family(2)][2];
            for trunk in &mut settings.trunks {
                trunk.addresses = vec![between.parse().unwrap()];
                if by_streams {
                    trunk.transport = Transport::Tcp;
                }
            }
        }
        let now = epoch();
        let octets = |salt: u8| {
            let mut octets = [salt; 32];
            octets[..8].copy_from_slice(&seed.to_be_bytes());
            octets
        };
        let peer = |name: &'static str, at: &str, gateway: &str, salt: u8| {
            let address = |text: &str| text.parse().unwrap();
            Peer::new(
                name,
                address(at),
                address(gateway),
                StdRng::from_seed(octets(salt)),
            )
        };
        let mut fabric = Self {
            now,
            start: now,
            rng: StdRng::from_seed(octets(9)),
            weather: FAIR,
            nodes: [
                Node::new(near, octets(1), now),
                Node::new(far, octets(2), now),
            ],
            peers: [
                peer("near", places[0][0], places[0][1], 3),
                peer("far", places[1][0], places[1][1], 4),
            ],
            queue: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            connections: 0,
            breaks: 0,
            broken: 0,
            transfers: false,
            loud: false,
            datagrams: 0,
        };
        fabric.collect();
        fabric.run(Duration::from_millis(5));
        fabric
    }

    /// A number below `bound`.
    pub(super) fn roll(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound.max(1)
    }

    pub(super) fn millis(&mut self, bound: u32) -> Duration {
        Duration::from_millis(u64::from(self.roll(bound)))
    }

    /// Time passes.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = [
                self.queue.keys().next().map(|(at, _)| *at),
                self.nodes.iter().filter_map(Node::next_timer).min(),
                self.peers.iter().filter_map(Peer::next_timer).min(),
            ]
            .into_iter()
            .flatten()
            .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self
            .queue
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            match entry.remove() {
                Event::Datagram { from, to, bytes } => self.arrive(from, to, &bytes),
                Event::Reply(node, reply) => self.nodes[node].reply(now, reply),
                Event::Connected(node, answer) => {
                    self.nodes[node].input(now, Input::Broker(answer));
                }
                Event::Accepted {
                    node,
                    connection,
                    zone,
                    local,
                    peer,
                } => {
                    let input = Input::StreamOpened {
                        connection,
                        zone,
                        transport: Transport::Tcp,
                        local,
                        peer,
                    };
                    self.nodes[node].input(now, input);
                }
                Event::Stream(node, connection, piece) => self.stream(node, connection, &piece),
            }
            self.collect();
        }
        for node in &mut self.nodes {
            node.tick(now);
        }
        for peer in &mut self.peers {
            peer.tick(now);
        }
        self.collect();
    }

    fn stream(&mut self, node: usize, connection: ConnectionId, piece: &Piece) {
        let now = self.now;
        let input = match piece {
            Piece::Octets(bytes) => {
                if self.loud {
                    self.print(self.peers[1 - node].at, self.peers[node].at, bytes);
                }
                Input::Stream { connection, bytes }
            }
            Piece::End => Input::StreamClosed { connection },
        };
        self.nodes[node].input(now, input);
    }

    /// A connection that a node wants: to the other core, or to nobody.
    fn connect(&mut self, node: usize, wanted: &Wanted) {
        let (id, zone, peer) = (wanted.id, wanted.zone, wanted.peer);
        let other = 1 - node;
        if self.nodes[other].zone_of(peer) != Some(zone) {
            let reason = broker_proto::broker::Refusal::PeerRefused;
            let answer = BrokerAnswer::Refused { id, reason };
            return self.queue_in(Duration::from_millis(1), Event::Connected(node, answer));
        }
        let number = self.connections;
        self.connections += 2;
        let ends = [number, number + 1].map(ConnectionId);
        let port = 40_000 + u16::try_from(number % 20_000).unwrap();
        let local = SocketAddr::new(wanted.local.ip(), port);
        let stands = self.now + Duration::from_millis(2);
        self.links
            .insert((node, ends[0]), ((other, ends[1]), stands));
        self.links
            .insert((other, ends[1]), ((node, ends[0]), stands));
        let accepted = Event::Accepted {
            node: other,
            connection: ends[1],
            zone,
            local: peer,
            peer: local,
        };
        self.queue_in(Duration::from_millis(1), accepted);
        let answer = BrokerAnswer::Connected {
            id,
            connection: ends[0],
            local,
            peer,
        };
        self.queue_in(Duration::from_millis(2), Event::Connected(node, answer));
    }

    /// Octets go by a connection: whole or in two pieces, in order; or it breaks, and what was under way is cut.
    fn write(&mut self, from: End, mut bytes: Vec<u8>) {
        let Some((to, _)) = self.links.get(&from).copied() else {
            return;
        };
        let breaks = self.roll(1000) < self.breaks;
        if breaks {
            let kept = self.roll(u32::try_from(bytes.len()).unwrap() + 1);
            bytes.truncate(kept as usize);
        }
        let rest = match self.roll(4) {
            0 => bytes.split_off(bytes.len() / 2),
            _ => Vec::new(),
        };
        for piece in [bytes, rest] {
            if !piece.is_empty() {
                self.follow(from, to, Piece::Octets(piece));
            }
        }
        if breaks {
            self.broken += 1;
            self.follow(from, to, Piece::End);
            self.follow(to, from, Piece::End);
            self.links.remove(&from);
            self.links.remove(&to);
        }
    }

    /// Something comes to an end after all that is under way to it.
    fn follow(&mut self, from: End, to: End, piece: Piece) {
        let delay = Duration::from_millis(u64::from(1 + self.roll(20)));
        let Some((_, last)) = self.links.get_mut(&from) else {
            return;
        };
        let at = (*last).max(self.now + delay);
        *last = at;
        let (node, connection) = to;
        self.queue_in(at - self.now, Event::Stream(node, connection, piece));
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        self.datagrams += 1;
        if self.loud {
            self.print(from, to, bytes);
        }
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.at == to) {
            peer.receive(now, bytes);
            return;
        }
        for node in &mut self.nodes {
            if let Some(zone) = node.zone_of(to) {
                let input = Input::Datagram {
                    zone,
                    local: to,
                    peer: from,
                    bytes,
                };
                return node.input(now, input);
            }
        }
    }

    #[allow(
        clippy::disallowed_macros,
        reason = "a replayed seed shows its messages"
    )]
    fn print(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let field = |name: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .to_owned()
        };
        let at = self.now.duration_since(self.start).as_millis();
        println!(
            "{at:>9} {from} > {to} {} |{} |{} |{}",
            text.lines().next().unwrap_or_default(),
            field("CSeq:"),
            field("Call-ID:"),
            field("To:"),
        );
    }

    /// What nodes and peers want done goes on its way.
    pub(super) fn collect(&mut self) {
        for index in 0..self.nodes.len() {
            for sent in std::mem::take(&mut self.nodes[index].sent) {
                self.send(sent.from, sent.to, sent.bytes);
            }
            for wanted in std::mem::take(&mut self.nodes[index].wanted) {
                self.connect(index, &wanted);
            }
            for (connection, bytes) in std::mem::take(&mut self.nodes[index].written) {
                self.write((index, connection), bytes);
            }
            for connection in std::mem::take(&mut self.nodes[index].closed) {
                let from = (index, connection);
                if let Some((to, _)) = self.links.get(&from).copied() {
                    self.follow(from, to, Piece::End);
                    self.links.remove(&from);
                    self.links.remove(&to);
                }
            }
            for (after, reply) in std::mem::take(&mut self.nodes[index].replies) {
                self.queue_in(after, Event::Reply(index, reply));
            }
        }
        for index in 0..self.peers.len() {
            let (at, gateway) = (self.peers[index].at, self.peers[index].gateway);
            for bytes in std::mem::take(&mut self.peers[index].outbox) {
                self.send(at, gateway, bytes);
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let weather = self.weather;
        if self.roll(1000) < weather.lost {
            return;
        }
        let copies = if self.roll(1000) < weather.doubled {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let late = self.roll(1000) < weather.late;
            let delay = 1 + self.roll(if late { 900 } else { 20 });
            let event = Event::Datagram {
                from,
                to,
                bytes: bytes.clone(),
            };
            self.queue_in(Duration::from_millis(u64::from(delay)), event);
        }
    }

    fn queue_in(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }
}
