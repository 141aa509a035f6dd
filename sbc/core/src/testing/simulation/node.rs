//! One core with what it lives in: a firewall that lends what it is asked for and takes note of what it gets back, media
//! threads that prove and report. Every lease that is used after its end, or given back twice, is a failed test.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    broker::{Family, LeaseId, Refusal, ToBroker},
    journal::{CallPhase, CallRecord, Record},
    settings::{Settings, Transport, ZoneId},
};
use sbc_media::relay::{
    Component, Learn, LegMedia, LegStats, MediaCommand, MediaEvent, Side, StreamId,
};

use crate::{BrokerAnswer, ConnectionId, Core, Input, Output};

/// What a node's surroundings do later.
pub(super) enum Reply {
    Broker(BrokerAnswer),
    Listening {
        zone: ZoneId,
        transport: Transport,
        port: u16,
        local: Vec<SocketAddr>,
    },
    Media(MediaEvent),
}

/// A datagram that a node sends.
pub(super) struct Sent {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// A connection that a node wants.
pub(super) struct Wanted {
    pub(super) id: RequestId,
    pub(super) zone: ZoneId,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// One core.
pub(super) struct Node {
    pub(super) core: Core,
    settings: Settings,
    leases: BTreeMap<LeaseId, Instant>,
    /// RTP ports of leases.
    ports: BTreeMap<LeaseId, u16>,
    streams: BTreeMap<StreamId, (LegMedia, LegMedia)>,
    next_lease: u64,
    /// Records of calls that ended.
    pub(super) ends: Vec<CallRecord>,
    pub(super) sent: Vec<Sent>,
    /// Octets for connections, connections that it closes, and such that it wants.
    pub(super) written: Vec<(ConnectionId, Vec<u8>)>,
    pub(super) closed: Vec<ConnectionId>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) replies: Vec<(Duration, Reply)>,
    /// Refuse media sockets.
    pub(super) miserly: bool,
    /// The other core is reached by TCP.
    by_streams: bool,
}

impl Node {
    pub(super) fn new(settings: Settings, seed: [u8; 32], now: Instant) -> Self {
        let by_streams = settings
            .trunks
            .iter()
            .any(|it| it.transport == Transport::Tcp);
        let mut node = Self {
            core: Core::new(settings.clone(), seed, now, 1_700_000_000_000),
            settings,
            leases: BTreeMap::new(),
            ports: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_lease: 0,
            ends: Vec::new(),
            sent: Vec::new(),
            written: Vec::new(),
            closed: Vec::new(),
            wanted: Vec::new(),
            replies: Vec::new(),
            miserly: false,
            by_streams,
        };
        node.drain(now);
        node
    }

    /// Whether an address is this node's own, and in which zone.
    pub(super) fn zone_of(&self, address: SocketAddr) -> Option<ZoneId> {
        let mut zones = self.settings.zones.iter();
        zones
            .find(|zone| zone.addresses.contains(&address.ip()))
            .map(|zone| zone.id)
    }

    pub(super) fn input(&mut self, now: Instant, input: Input<'_>) {
        self.core.handle(now, input);
        self.drain(now);
    }

    pub(super) fn reply(&mut self, now: Instant, reply: Reply) {
        match reply {
            Reply::Broker(answer) => self.input(now, Input::Broker(answer)),
            Reply::Listening {
                zone,
                transport,
                port,
                local,
            } => {
                let input = Input::Listening {
                    zone,
                    transport,
                    port,
                    local,
                };
                self.input(now, input);
            }
            Reply::Media(event) => {
                let gone = match event {
                    MediaEvent::Proved { stream, .. } => !self.streams.contains_key(&stream),
                    _ => false,
                };
                if !gone {
                    self.input(now, Input::Media(event));
                }
            }
        }
    }

    /// When something is due by itself.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        [
            self.core.poll_timeout(),
            self.leases.values().min().copied(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.input(now, Input::Tick);
        }
        let ended: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(lease, _)| *lease)
            .collect();
        for lease in ended {
            self.leases.remove(&lease);
            self.input(now, Input::Broker(BrokerAnswer::LeaseEnded { lease }));
        }
    }

    /// What is left that should not be.
    pub(super) fn left(&self) -> Vec<String> {
        let gauges = self.core.gauges();
        let mut gauges = gauges.iter();
        let connections = gauges.find(|(name, _)| *name == "connections");
        let connections = connections.map_or(0, |(_, value)| *value);
        let mut left: Vec<String> = self
            .core
            .gauges()
            .into_iter()
            .filter(|(name, value)| {
                // The connection between the cores may stay.
                let stays = name.starts_with("sources") || *name == "connections";
                // It has a timer, at both ends of each.
                let own = if *name == "timers" { connections } else { 0 };
                *value > own && !stays
            })
            .map(|(name, value)| format!("{name} is {value}"))
            .collect();
        if !self.leases.is_empty() {
            left.push(format!("{} leases", self.leases.len()));
        }
        if !self.streams.is_empty() {
            left.push(format!("{} streams", self.streams.len()));
        }
        left
    }

    /// Where the leg with that RTP port of ours sends its media.
    pub(super) fn sends_to(&self, port: u16) -> Option<u16> {
        let legs = self.streams.values().flat_map(|(a, b)| [a, b]);
        let mut own = legs.filter(|leg| self.ports.get(&LeaseId(leg.lease)) == Some(&port));
        own.next()?.send_to.map(|to| to.port())
    }

    fn later(&mut self, micros: u64, reply: Reply) {
        self.replies.push((Duration::from_micros(micros), reply));
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Datagram {
                    local, peer, bytes, ..
                } => self.sent.push(Sent {
                    from: local,
                    to: peer,
                    bytes,
                }),
                Output::Stream { connection, bytes } => self.written.push((connection, bytes)),
                Output::CloseStream { connection } => self.closed.push(connection),
                Output::Broker(request) => self.broker(now, request),
                Output::Media(command) => self.media(command),
                Output::Journal(Record::Call(record)) if record.phase == CallPhase::End => {
                    self.ends.push(*record);
                }
                _ => {}
            }
        }
    }

    fn broker(&mut self, now: Instant, request: ToBroker) {
        let seconds = |count: u32| Duration::from_secs(u64::from(count));
        let answer = match request {
            ToBroker::Listen {
                zone,
                transport,
                port,
                ..
            } => {
                let mut zones = self.settings.zones.iter();
                let own = zones.find(|have| have.id == zone).expect("a zone");
                let local = own
                    .addresses
                    .iter()
                    .map(|address| SocketAddr::new(*address, port))
                    .collect();
                let reply = Reply::Listening {
                    zone,
                    transport,
                    port,
                    local,
                };
                return self.later(200, reply);
            }
            ToBroker::OpenMedia { id, .. } if self.miserly => BrokerAnswer::Refused {
                id,
                reason: Refusal::PortsExhausted,
            },
            ToBroker::OpenMedia {
                id,
                zone,
                family,
                ttl_seconds,
                ..
            } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                let mut zones = self.settings.zones.iter();
                let own = zones.find(|have| have.id == zone).expect("a zone");
                let address = own.addresses[usize::from(family == Family::V6)];
                let port = 16_384 + u16::try_from(self.next_lease % 8_000).unwrap() * 2;
                self.leases.insert(lease, now + seconds(ttl_seconds));
                self.ports.insert(lease, port);
                BrokerAnswer::MediaOpened {
                    id,
                    lease,
                    rtp: SocketAddr::new(address, port),
                    rtcp: Some(SocketAddr::new(address, port + 1)),
                    ttl_seconds,
                }
            }
            ToBroker::LatchMedia { id, lease, .. } => {
                assert!(
                    self.leases.contains_key(&lease),
                    "LatchMedia of a lost lease"
                );
                BrokerAnswer::Done { id }
            }
            ToBroker::RenewMedia {
                id,
                lease,
                ttl_seconds,
            } => {
                let until = self.leases.get_mut(&lease).expect("a lease to renew");
                *until = now + seconds(ttl_seconds);
                BrokerAnswer::Done { id }
            }
            ToBroker::CloseMedia { id, lease } => {
                assert!(
                    self.leases.remove(&lease).is_some(),
                    "CloseMedia of a lost lease"
                );
                BrokerAnswer::Done { id }
            }
            ToBroker::Connect {
                id,
                zone,
                transport: Transport::Tcp,
                peer,
            } if self.by_streams => {
                let mut zones = self.settings.zones.iter();
                let own = zones.find(|have| have.id == zone).expect("a zone");
                let address = own.addresses[usize::from(peer.is_ipv6())];
                let local = SocketAddr::new(address, 0);
                return self.wanted.push(Wanted {
                    id,
                    zone,
                    local,
                    peer,
                });
            }
            ToBroker::Connect { id, .. } => BrokerAnswer::Refused {
                id,
                reason: Refusal::NotConfigured,
            },
            ToBroker::Ban { id, .. } | ToBroker::KeepBindings { id, .. } => {
                BrokerAnswer::Done { id }
            }
            ToBroker::RecallBindings { id, .. } => BrokerAnswer::Bindings {
                id,
                bindings: Vec::new(),
                next: None,
            },
            ToBroker::AdoptMedia { .. } | ToBroker::Health { .. } => return,
        };
        self.later(200, Reply::Broker(answer));
    }

    fn media(&mut self, command: MediaCommand) {
        match command {
            MediaCommand::Start { stream, a, b, .. } => {
                for (side, leg) in [(Side::A, &a), (Side::B, &b)] {
                    assert!(
                        self.leases.contains_key(&LeaseId(leg.lease)),
                        "a stream on a lost lease"
                    );
                    self.prove(stream, side, leg);
                }
                let old = self.streams.insert(stream, (a, b));
                assert!(old.is_none(), "a stream's name used twice");
            }
            MediaCommand::Change { stream, side, leg } => {
                self.prove(stream, side, &leg);
                let have = self.streams.get_mut(&stream).expect("a stream to change");
                match side {
                    Side::A => have.0 = leg,
                    Side::B => have.1 = leg,
                }
            }
            MediaCommand::Stop { stream } => {
                assert!(self.streams.remove(&stream).is_some(), "a stream to stop");
                let report = MediaEvent::Report {
                    stream,
                    a: LegStats::default(),
                    b: LegStats::default(),
                    last: true,
                };
                self.later(300, Reply::Media(report));
            }
        }
    }

    fn prove(&mut self, stream: StreamId, side: Side, leg: &LegMedia) {
        let (Learn::Host { host, .. }, true) = (leg.learn, leg.receive) else {
            return;
        };
        let port = leg.send_to.map_or(49_000, |to| to.port());
        let proved = MediaEvent::Proved {
            stream,
            side,
            component: Component::Rtp,
            source: SocketAddr::new(host, port),
        };
        self.later(20_000, Reply::Media(proved));
    }
}
