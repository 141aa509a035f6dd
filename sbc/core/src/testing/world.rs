//! Everything round one core: a network that loses, delays and reorders by a seed, agents, a firewall that lends what it
//! is asked for, media threads that prove and report, a keyholder. Time jumps from one event to the next.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::{
    binding::{BindingToken, KeptBinding},
    broker::{Admit, Family, Flow, LeaseId, Refusal, ToBroker},
    journal::{CallPhase, CallRecord, Record},
    keyholder::{FromKeyholder, ToKeyholder},
    settings::{Settings, Transport, ZoneId},
};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use sbc_media::relay::{
    Component, Learn, LegMedia, LegStats, MediaCommand, MediaEvent, Side, StreamId,
};

use super::{
    agent::{Agent, Script},
    epoch,
    marks::{self, Marks},
    settings,
    settings::{EXTERNAL, INTERNAL},
};
use crate::{BrokerAnswer, ConnectionId, Core, Input, Output};

/// What is on its way.
enum Event {
    ToCore {
        zone: ZoneId,
        local: SocketAddr,
        peer: SocketAddr,
        bytes: Vec<u8>,
    },
    ToAgent {
        agent: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Stream {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    Broker(BrokerAnswer),
    Answer(ConnectionId, Vec<u8>),
    Listening {
        zone: ZoneId,
        transport: Transport,
        port: u16,
        local: Vec<SocketAddr>,
    },
    Media(MediaEvent),
    Keyholder(FromKeyholder),
}

/// A datagram or stream octets that the core sent or got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) at: Duration,
    pub(crate) zone: ZoneId,
    pub(crate) from_core: bool,
    pub(crate) peer: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Lease {
    pub(crate) zone: ZoneId,
    pub(crate) rtp: SocketAddr,
    pub(crate) admit: Admit,
    pub(crate) send_to: Option<SocketAddr>,
    until: Instant,
}

/// How the network misbehaves.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    /// Datagrams lost of a thousand.
    pub(crate) loss: u32,
    /// Datagrams that come twice of a thousand.
    pub(crate) twice: u32,
    /// Greatest delay in ms; the least is 1.
    pub(crate) delay_ms: u32,
}

pub(crate) const PERFECT: Network = Network {
    loss: 0,
    twice: 0,
    delay_ms: 1,
};

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Instant,
    start: Instant,
    rng: StdRng,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    pub(crate) network: Network,
    pub(crate) agents: BTreeMap<SocketAddr, Agent>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) closed_at: BTreeMap<LeaseId, Duration>,
    pub(crate) streams: BTreeMap<StreamId, (LegMedia, LegMedia)>,
    /// Media of this source never proves anything.
    pub(crate) mute: Vec<IpAddr>,
    pub(crate) refuse_media: Option<Refusal>,
    /// How long the firewall takes for a pinhole.
    pub(crate) latch_delay: Duration,
    pub(crate) wire: Vec<Wire>,
    pub(crate) records: Vec<CallRecord>,
    /// Records of calls that were only tried so far.
    pub(crate) attempts: Vec<CallRecord>,
    /// Records of calls that went on.
    pub(crate) interims: Vec<CallRecord>,
    /// Events for the journal: names and fields.
    pub(crate) events: Vec<(String, Vec<(String, String)>)>,
    pub(crate) log: Vec<(&'static str, Vec<(&'static str, String)>)>,
    pub(crate) streams_closed: Vec<ConnectionId>,
    /// Why no connection is made to an agent; none: each is made.
    pub(crate) refuse_connect: Option<Refusal>,
    /// How long until it is made, or not.
    pub(crate) connect_delay: Duration,
    /// Connections that were made to agents, with our own end.
    pub(crate) connected: BTreeMap<ConnectionId, (SocketAddr, SocketAddr)>,
    /// Puts marks into everything that peers send.
    pub(crate) marks: Option<Marks>,
    /// What a name server says to a question, if anything.
    pub(crate) name_server: fn(&[u8]) -> Option<Vec<u8>>,
    /// What the core left with the firewall, and when it ends.
    pub(crate) kept: BTreeMap<BindingToken, (KeptBinding, Instant)>,
    /// Messages that it did so by.
    pub(crate) handed_over: u32,
    next_lease: u64,
    pub(super) next_socket: u64,
    pub(crate) digests: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        // Registrations at carriers never rest; the tests that want them say so.
        let mut settings = settings();
        settings
            .trunks
            .iter_mut()
            .for_each(|trunk| trunk.registration = None);
        Self::with(seed, settings)
    }

    pub(crate) fn with(seed: u64, settings: Settings) -> Self {
        let start = epoch();
        let mut octets = [0; 32];
        octets[..8].copy_from_slice(&seed.to_be_bytes());
        let mut world = Self {
            core: Core::new(settings, octets, start, 1_700_000_000_000),
            now: start,
            start,
            rng: StdRng::from_seed(octets),
            queue: BTreeMap::new(),
            sequence: 0,
            network: PERFECT,
            agents: BTreeMap::new(),
            leases: BTreeMap::new(),
            closed_at: BTreeMap::new(),
            streams: BTreeMap::new(),
            mute: Vec::new(),
            refuse_media: None,
            latch_delay: Duration::from_micros(200),
            wire: Vec::new(),
            records: Vec::new(),
            attempts: Vec::new(),
            interims: Vec::new(),
            events: Vec::new(),
            log: Vec::new(),
            streams_closed: Vec::new(),
            refuse_connect: Some(Refusal::PeerRefused),
            connect_delay: Duration::from_micros(200),
            connected: BTreeMap::new(),
            marks: None,
            name_server: |_| None,
            kept: BTreeMap::new(),
            handed_over: 0,
            next_lease: 0,
            next_socket: 1_000_000,
            digests: 0,
        };
        world.drain();
        world.run(Duration::from_millis(5));
        world
    }

    /// The process dies, and another takes its place with another secret; sockets, leases and connections are gone.
    pub(crate) fn restart(&mut self, settings: Settings) {
        let mut octets = [0; 32];
        self.rng.fill_bytes(&mut octets);
        self.core = Core::new(settings, octets, self.now, 1_700_000_000_000);
        self.leases.clear();
        self.streams.clear();
        self.drain();
        self.run(Duration::from_millis(5));
    }

    pub(crate) fn add(&mut self, address: &str, user: &str, script: Script) -> SocketAddr {
        let agent = Agent::new(address, user, script);
        let at = agent.address;
        self.agents.insert(at, agent);
        at
    }

    pub(crate) fn agent(&mut self, at: SocketAddr) -> &mut Agent {
        self.agents.get_mut(&at).expect("an agent")
    }

    /// The product's address for an agent.
    pub(crate) fn gateway(at: SocketAddr) -> SocketAddr {
        let host = match at.ip() {
            IpAddr::V4(address) if address.octets()[0] == 192 => "192.0.2.1:5060",
            IpAddr::V4(_) => "198.51.100.1:5060",
            IpAddr::V6(address) if address.segments()[2] == 1 => "[2001:db8:1::1]:5060",
            IpAddr::V6(_) => "[2001:db8:e::1]:5060",
        };
        host.parse().unwrap()
    }

    pub(crate) fn zone(at: SocketAddr) -> ZoneId {
        let gateway = Self::gateway(at).to_string();
        if gateway.starts_with("192") || gateway.starts_with("[2001:db8:1:") {
            INTERNAL
        } else {
            EXTERNAL
        }
    }

    /// Let an agent do something, then send what it has to say.
    pub(crate) fn act<R>(
        &mut self,
        at: SocketAddr,
        act: impl FnOnce(&mut Agent, Instant, SocketAddr) -> R,
    ) -> R {
        let now = self.now;
        let result = act(self.agent(at), now, Self::gateway(at));
        self.flush(at);
        result
    }

    /// A datagram by hand.
    pub(crate) fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let event = Event::ToCore {
            zone: Self::zone(from),
            local: Self::gateway(from),
            peer: from,
            bytes: self.dressed(from, bytes),
        };
        self.later(Duration::from_millis(1), event);
    }

    /// An input by hand.
    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.core.handle(self.now, input);
        self.drain();
    }

    /// Time passes.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = [
                self.queue.keys().next().map(|(at, _)| *at),
                self.core.poll_timeout(),
                self.agents.values().filter_map(Agent::next_timer).min(),
                self.leases.values().map(|lease| lease.until).min(),
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

    pub(crate) fn calls(&self) -> Vec<broker_proto::status::CallInfo> {
        self.core.calls(self.now, 0, 64).0
    }

    /// Size of a table.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        self.core
            .gauges()
            .into_iter()
            .find(|(have, _)| *have == name)
            .expect("a table")
            .1
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The record of the end of the only call.
    pub(crate) fn end_record(&self) -> &CallRecord {
        let mut ends = self
            .records
            .iter()
            .filter(|record| record.phase == CallPhase::End);
        let record = ends.next().expect("an end record");
        assert!(ends.next().is_none(), "more than one call ended");
        record
    }

    /// The record of the first call's answer.
    pub(crate) fn start_record(&self) -> &CallRecord {
        let mut records = self.records.iter();
        let start = records.find(|record| record.phase == CallPhase::Start);
        start.expect("a start record")
    }

    /// Fields of the events of a name, in order.
    pub(crate) fn events_of(&self, name: &str) -> impl Iterator<Item = &Vec<(String, String)>> {
        let events = self.events.iter();
        events
            .filter(move |(have, _)| have == name)
            .map(|(_, fields)| fields)
    }

    /// Everything that the core sent into a zone, as text.
    pub(crate) fn sent_to(&self, zone: ZoneId) -> Vec<String> {
        self.wire
            .iter()
            .filter(|wire| wire.from_core && wire.zone == zone)
            .map(|wire| String::from_utf8_lossy(&wire.bytes).into_owned())
            .collect()
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn step(&mut self) {
        let due: Vec<(Instant, u64)> = self
            .queue
            .keys()
            .take_while(|(at, _)| *at <= self.now)
            .copied()
            .collect();
        for key in due {
            let event = self.queue.remove(&key).expect("an event");
            self.happen(event);
        }
        if self.core.poll_timeout().is_some_and(|at| at <= self.now) {
            self.input(Input::Tick);
        }
        let ticking: Vec<SocketAddr> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.next_timer().is_some_and(|at| at <= self.now))
            .map(|(at, _)| *at)
            .collect();
        for at in ticking {
            let now = self.now;
            self.agent(at).tick(now);
            self.flush(at);
        }
        let ended: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.until <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for lease in ended {
            self.leases.remove(&lease);
            self.input(Input::Broker(BrokerAnswer::LeaseEnded { lease }));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToCore {
                zone,
                local,
                peer,
                bytes,
            } => {
                self.capture(zone, false, peer, &bytes);
                self.input(Input::Datagram {
                    zone,
                    local,
                    peer,
                    bytes: &bytes,
                });
            }
            Event::ToAgent { agent, from, bytes } => {
                let now = self.now;
                let bytes = match &self.marks {
                    Some(_) => marks::undress(Self::zone(agent), &bytes),
                    None => bytes,
                };
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.receive(now, from, &bytes);
                }
                self.flush(agent);
            }
            Event::Stream { connection, bytes } => {
                let bytes = &bytes;
                self.input(Input::Stream { connection, bytes });
            }
            Event::Broker(answer) => self.input(Input::Broker(answer)),
            Event::Answer(connection, bytes) => self.input(Input::Answer {
                connection,
                bytes: &bytes,
            }),
            Event::Listening {
                zone,
                transport,
                port,
                local,
            } => self.input(Input::Listening {
                zone,
                transport,
                port,
                local,
            }),
            Event::Media(event) => {
                let of = match event {
                    MediaEvent::Proved { stream, .. } => Some(stream),
                    _ => None,
                };
                // A proof of a stream that was stopped meanwhile does not arrive.
                if of.is_none_or(|stream| self.streams.contains_key(&stream)) {
                    self.input(Input::Media(event));
                }
            }
            Event::Keyholder(answer) => self.input(Input::Keyholder(answer)),
        }
    }

    fn capture(&mut self, zone: ZoneId, from_core: bool, peer: SocketAddr, bytes: &[u8]) {
        let at = self.elapsed();
        self.wire.push(Wire {
            at,
            zone,
            from_core,
            peer,
            bytes: bytes.to_vec(),
        });
    }

    /// Send what an agent has to say.
    fn flush(&mut self, at: SocketAddr) {
        let Some(agent) = self.agents.get_mut(&at) else {
            return;
        };
        for (to, bytes) in std::mem::take(&mut agent.outbox) {
            let (zone, local) = (Self::zone(at), to);
            let bytes = self.dressed(at, &bytes);
            let by_stream = self
                .connected
                .iter()
                .find(|(_, (peer, own))| (*peer, *own) == (at, to));
            if let Some((connection, _)) = by_stream {
                let connection = *connection;
                self.later(
                    Duration::from_millis(1),
                    Event::Stream { connection, bytes },
                );
                continue;
            }
            for delay in self.deliveries() {
                self.later(
                    delay,
                    Event::ToCore {
                        zone,
                        local,
                        peer: at,
                        bytes: bytes.clone(),
                    },
                );
            }
        }
    }

    fn dressed(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        match &mut self.marks {
            Some(marks) => marks.dress(Self::zone(from), bytes),
            None => bytes.to_vec(),
        }
    }

    /// When a datagram comes: never, once or twice.
    fn deliveries(&mut self) -> Vec<Duration> {
        let network = self.network;
        if self.rng.next_u32() % 1000 < network.loss {
            return Vec::new();
        }
        let times = if self.rng.next_u32() % 1000 < network.twice {
            2
        } else {
            1
        };
        (0..times)
            .map(|_| Duration::from_millis(u64::from(1 + self.rng.next_u32() % network.delay_ms)))
            .collect()
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Datagram {
                    zone,
                    local,
                    peer,
                    bytes,
                } => {
                    self.capture(zone, true, peer, &bytes);
                    for delay in self.deliveries() {
                        self.later(
                            delay,
                            Event::ToAgent {
                                agent: peer,
                                from: local,
                                bytes: bytes.clone(),
                            },
                        );
                    }
                }
                Output::Stream { connection, bytes }
                    if self.connected.contains_key(&connection) =>
                {
                    let (agent, from) = self.connected[&connection];
                    self.capture(Self::zone(agent), true, agent, &bytes);
                    self.later(
                        Duration::from_millis(1),
                        Event::ToAgent { agent, from, bytes },
                    );
                }
                Output::Stream { connection, bytes } => {
                    let peer = SocketAddr::new(
                        IpAddr::from([0, 0, 0, 0]),
                        u16::try_from(connection.0).unwrap(),
                    );
                    self.capture(EXTERNAL, true, peer, &bytes);
                }
                Output::CloseStream { connection } => self.streams_closed.push(connection),
                Output::Capture { .. } => {}
                Output::Ask { connection, bytes } => {
                    if let Some(answer) = (self.name_server)(&bytes) {
                        let answer = Event::Answer(connection, answer);
                        self.later(Duration::from_millis(1), answer);
                    }
                }
                Output::Broker(request) => self.broker(request),
                Output::Media(command) => self.media(command),
                Output::Keyholder(request) => self.keyholder(request),
                Output::Journal(Record::Call(record)) if record.phase == CallPhase::Attempt => {
                    self.attempts.push(*record);
                }
                Output::Journal(Record::Call(record)) if record.phase == CallPhase::Interim => {
                    self.interims.push(*record);
                }
                Output::Journal(Record::Call(record)) => self.records.push(*record),
                Output::Journal(Record::Event { code, fields, .. }) => {
                    self.events.push((code, fields));
                }
                Output::Log { code, fields, .. } => self.log.push((code, fields)),
            }
        }
    }

    fn broker(&mut self, request: ToBroker) {
        let delay = match request {
            ToBroker::LatchMedia { .. } => self.latch_delay,
            ToBroker::Connect { .. } => self.connect_delay,
            _ => Duration::from_micros(200),
        };
        let answer = match request {
            ToBroker::Listen {
                zone,
                transport,
                port,
                ..
            } => {
                let local = settings()
                    .zones
                    .iter()
                    .filter(|have| have.id == zone)
                    .flat_map(|have| {
                        have.addresses
                            .iter()
                            .map(|address| SocketAddr::new(*address, port))
                    })
                    .collect();
                return self.later(
                    Duration::from_micros(200),
                    Event::Listening {
                        zone,
                        transport,
                        port,
                        local,
                    },
                );
            }
            ToBroker::OpenMedia { id, .. } if self.refuse_media.is_some() => {
                BrokerAnswer::Refused {
                    id,
                    reason: self.refuse_media.unwrap(),
                }
            }
            ToBroker::OpenMedia {
                id,
                zone,
                family,
                flow,
                ttl_seconds,
                ..
            } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                let address = settings().zones[usize::from(zone.0)].addresses
                    [usize::from(family == Family::V6)];
                let port = 16_384 + u16::try_from(self.next_lease % 8_000).unwrap() * 2;
                let until = self.now + Duration::from_secs(u64::from(ttl_seconds));
                let rtp = SocketAddr::new(address, port);
                self.leases.insert(
                    lease,
                    Lease {
                        zone,
                        rtp,
                        admit: flow.admit,
                        send_to: flow.send_to,
                        until,
                    },
                );
                let rtcp = Some(SocketAddr::new(address, port + 1));
                BrokerAnswer::MediaOpened {
                    id,
                    lease,
                    rtp,
                    rtcp,
                    ttl_seconds,
                }
            }
            ToBroker::LatchMedia { id, rtp, .. } if names_ourselves(&rtp) => {
                BrokerAnswer::Refused {
                    id,
                    reason: Refusal::PeerOutsidePolicy,
                }
            }
            ToBroker::LatchMedia { id, lease, rtp, .. } => match self.leases.get_mut(&lease) {
                Some(have) => {
                    have.admit = rtp.admit;
                    have.send_to = rtp.send_to;
                    BrokerAnswer::Done { id }
                }
                None => panic!("LatchMedia for a lease that is not held"),
            },
            ToBroker::RenewMedia {
                id,
                lease,
                ttl_seconds,
            } => match self.leases.get_mut(&lease) {
                Some(have) => {
                    have.until = self.now + Duration::from_secs(u64::from(ttl_seconds));
                    BrokerAnswer::Done { id }
                }
                None => panic!("RenewMedia for a lease that is not held"),
            },
            ToBroker::CloseMedia { id, lease } => {
                assert!(
                    self.leases.remove(&lease).is_some(),
                    "CloseMedia for a lease that is not held"
                );
                self.closed_at.insert(lease, self.elapsed());
                BrokerAnswer::Done { id }
            }
            ToBroker::Connect {
                id,
                zone,
                transport: Transport::Udp,
                peer,
            } if peer.port() == 53 => self.question(id, zone, peer),
            ToBroker::Connect { id, peer, .. } => self.connect(id, peer),
            ToBroker::Ban { id, .. } => BrokerAnswer::Done { id },
            ToBroker::KeepBindings { id, kept, gone } => self.keep(id, kept, gone),
            ToBroker::RecallBindings { id, after } => self.recall(id, after),
            ToBroker::AdoptMedia { .. } | ToBroker::Health { .. } => return,
        };
        self.later(delay, Event::Broker(answer));
    }

    fn media(&mut self, command: MediaCommand) {
        match command {
            MediaCommand::Start { stream, a, b, .. } => {
                for leg in [&a, &b] {
                    assert!(
                        self.leases.contains_key(&LeaseId(leg.lease)),
                        "a stream on a lease that is not held"
                    );
                }
                assert!(
                    self.streams
                        .insert(stream, (a.clone(), b.clone()))
                        .is_none(),
                    "a stream's name used twice"
                );
                self.prove(stream, Side::A, &a);
                self.prove(stream, Side::B, &b);
            }
            MediaCommand::Change { stream, side, leg } => {
                let have = self.streams.get_mut(&stream).expect("a stream to change");
                let old = match side {
                    Side::A => std::mem::replace(&mut have.0, leg.clone()),
                    Side::B => std::mem::replace(&mut have.1, leg.clone()),
                };
                if old.learn != leg.learn {
                    self.prove(stream, side, &leg);
                }
            }
            MediaCommand::Stop { stream } => {
                assert!(
                    self.streams.remove(&stream).is_some(),
                    "Stop of a stream that does not run"
                );
                let stats = LegStats {
                    packets_received: 50,
                    packets_sent: 40,
                    ..LegStats::default()
                };
                let report = MediaEvent::Report {
                    stream,
                    a: stats,
                    b: stats,
                    last: true,
                };
                self.later(Duration::from_micros(300), Event::Media(report));
            }
        }
    }

    /// The far end of a leg sends, from the port that a media socket of an agent has.
    fn prove(&mut self, stream: StreamId, side: Side, leg: &LegMedia) {
        let Learn::Host { host, .. } = leg.learn else {
            return;
        };
        if self.mute.contains(&host) || !leg.receive {
            return;
        }
        let port = leg.send_to.map_or(49_000, |to| to.port());
        for (component, after, port) in
            [(Component::Rtp, 20, port), (Component::Rtcp, 900, port + 1)]
        {
            let source = SocketAddr::new(host, port);
            let proved = MediaEvent::Proved {
                stream,
                side,
                component,
                source,
            };
            self.later(Duration::from_millis(after), Event::Media(proved));
        }
    }

    fn keyholder(&mut self, request: ToKeyholder) {
        let ToKeyholder::Digest { id, .. } = request else {
            panic!("only digests are asked for")
        };
        self.digests += 1;
        let answer = FromKeyholder::Response {
            id,
            response: "0123456789abcdef0123456789abcdef".into(),
        };
        self.later(Duration::from_micros(200), Event::Keyholder(answer));
    }
}

/// The firewall opens no pinhole to an address of the product's own.
fn names_ourselves(flow: &Flow) -> bool {
    let admitted = match flow.admit {
        Admit::Host(host) => Some(host),
        Admit::Peer(peer) => Some(peer.ip()),
        Admit::Nobody | Admit::MediaNetworks => None,
    };
    let zones = settings().zones;
    [admitted, flow.send_to.map(|to| to.ip())]
        .into_iter()
        .flatten()
        .any(|peer| zones.iter().any(|zone| zone.addresses.contains(&peer)))
}
