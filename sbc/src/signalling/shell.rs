//! The core and everything that it may use. One for the process.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    time::Instant,
};

use broker_proto::{
    Packet, RequestId,
    broker::{Flow, MAX_REQUEST, Refusal, ToBroker},
    journal::{Record, Severity, ToJournal},
    settings::{Limits, NameServer, Settings, Transport, ZoneId},
    status::{CallInfo, LadderStep},
};
use sbc_core::{BrokerAnswer, ConnectionId, Input, Output};
use sbc_media::relay::{MediaCommand, MediaEvent};
use tokio::sync::Notify;

use super::{
    Task,
    adoption::Adoption,
    connection::Connection,
    names::NameSocket,
    secure::Secure,
    udp::UdpListener,
    unproved::{Standing, Unproved},
};
use crate::{
    engine::Engine,
    health::Pulse,
    link::{Link, LinkError},
    media::{counters, lease::Leases, pool::Pool},
};

/// Makes the core once the first settings are here: settings, now, wall clock in ms.
pub type Factory<E> = Box<dyn Fn(Settings, Instant, u64) -> E>;

/// Octets of requests that leave together.
const PACKET: usize = MAX_REQUEST / 2;

/// Inputs that carrying out an output brought about.
enum Aftermath {
    Media(MediaEvent),
    Done(RequestId),
    Refused(RequestId),
    Closed(ConnectionId),
}

/// What was asked of the firewall, as far as its answer does not say it again.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) zone: ZoneId,
    pub(super) transport: Transport,
    /// Of a listener; of a connection its far end's.
    pub(super) port: u16,
}

/// A channel to another process and the task that reads it.
pub(super) struct Peer {
    pub(super) link: Rc<Link>,
    pub(super) _task: Task,
}

/// Channels to the other processes; each comes, goes and comes again with its process.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) broker: Option<Peer>,
    pub(super) journal: Option<Peer>,
    pub(super) keyholder: Option<Peer>,
    pub(super) status: Option<Peer>,
}

/// What the shell itself counted, for `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShellCounters {
    pub(super) datagrams_unsent: u64,
    pub(super) connections_refused: u64,
    pub(super) connections_idle: u64,
    pub(super) connections_choked: u64,
    /// Of strangers that nothing was ever sent to, for room for newer ones.
    pub(super) connections_evicted: u64,
    pub(super) handshakes: u64,
    pub(super) handshakes_failed: u64,
    pub(super) handshakes_late: u64,
    /// All threads were busy, and more waited than may.
    pub(super) handshakes_shed: u64,
    pub(super) websockets_refused: u64,
    pub(super) records_lost: u64,
    pub(super) broker_lost: u64,
    pub(super) captures_unsent: u64,
    pub(super) questions_unsent: u64,
}

/// The state of the signalling thread.
pub struct Shell<E> {
    factory: Factory<E>,
    engine: Option<E>,
    pool: Pool,
    pub(super) leases: Leases,
    pub(super) peers: Peers,
    pub(super) listeners: BTreeMap<SocketAddr, UdpListener>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// Accepted, not of trunks or PBX, and nothing was sent by them yet. Half-open ones among them.
    pub(super) unproved: Unproved,
    /// The socket to the collector of captured messages.
    pub(super) collector: Option<(ConnectionId, UdpSocket)>,
    /// Sockets to name servers, one for each question under way.
    pub(super) questions: BTreeMap<ConnectionId, NameSocket>,
    name_servers: Vec<NameServer>,
    next_connection: u64,
    pub(super) secure: Secure,
    pub(super) asked: BTreeMap<RequestId, Asked>,
    /// Media sockets asked for.
    pub(super) opening: BTreeMap<RequestId, (ZoneId, Flow)>,
    pub(super) adoption: Adoption,
    pub(super) limits: Option<Limits>,
    aftermath: VecDeque<Aftermath>,
    /// Of this turn, for the firewall.
    wishes: Vec<ToBroker>,
    pub(super) pulse: Pulse,
    pub(super) counters: ShellCounters,
    stopping: bool,
    finished: Rc<Notify>,
}

impl<E: Engine> Shell<E> {
    /// A shell without core, channels and sockets. `finished` is told when an orderly stop is done.
    #[must_use]
    pub(super) fn new(
        factory: Factory<E>,
        pool: Pool,
        pulse: Pulse,
        secure: Secure,
        finished: Rc<Notify>,
    ) -> Self {
        Self {
            factory,
            engine: None,
            pool,
            leases: Leases::default(),
            peers: Peers::default(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            unproved: Unproved::default(),
            collector: None,
            questions: BTreeMap::new(),
            name_servers: Vec::new(),
            next_connection: 0,
            secure,
            asked: BTreeMap::new(),
            opening: BTreeMap::new(),
            adoption: Adoption::default(),
            limits: None,
            aftermath: VecDeque::new(),
            wishes: Vec::new(),
            pulse,
            counters: ShellCounters::default(),
            stopping: false,
            finished,
        }
    }

    /// Hands `input` to the core and carries out what it wants. Before the first settings there is no core: nothing
    /// happens.
    pub fn handle(&mut self, input: Input<'_>) {
        let now = Instant::now();
        if let Some(engine) = &mut self.engine {
            engine.handle(now, input);
            self.drain(now);
        }
    }

    /// Settings of a commit: the first ones bring the core to life.
    pub(super) fn configure(&mut self, settings: Box<Settings>) {
        let now = Instant::now();
        self.limits = Some(settings.limits);
        self.name_servers.clone_from(&settings.name_servers);
        self.secure(&settings);
        self.listeners.retain(|local, listener| {
            let configured = settings.listeners.iter().any(|wanted| {
                wanted.zone == listener.zone
                    && wanted.transport == Transport::Udp
                    && wanted.port == local.port()
            });
            configured
                && settings
                    .zones
                    .iter()
                    .any(|zone| zone.addresses.contains(&local.ip()))
        });
        log(
            Severity::Notice,
            "settings",
            &[("revision", settings.revision.to_string())],
        );
        match &mut self.engine {
            Some(engine) => engine.handle(now, Input::Settings(settings)),
            None => self.engine = Some((self.factory)(*settings, now, super::unix_ms())),
        }
        self.drain(now);
    }

    /// Begins the orderly end.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.handle(Input::Stop);
        if self.engine.is_none() {
            self.finished.notify_one();
        }
    }

    /// Whether the core wants its `Tick` by now.
    pub(super) fn is_due(&self) -> bool {
        let due = self.engine.as_ref().and_then(Engine::poll_timeout);
        due.is_some_and(|due| due <= Instant::now())
    }

    /// Live calls from the `offset`-th on, at most `limit`, and whether there are more.
    pub(super) fn calls(&self, offset: u32, limit: u32) -> (Vec<CallInfo>, bool) {
        let now = Instant::now();
        self.engine
            .as_ref()
            .map(|engine| engine.calls(now, offset, limit))
            .unwrap_or_default()
    }

    /// What happened in a call from the `offset`-th step on, and whether there is more.
    pub(super) fn ladder(&self, call: u64, offset: u32) -> Option<(Vec<LadderStep>, bool)> {
        self.engine.as_ref()?.ladder(call, offset)
    }

    /// Laboratory: forget bindings and counts. False: not allowed.
    pub(super) fn reset(&mut self) -> bool {
        let now = Instant::now();
        let done = self.engine.as_mut().is_some_and(|engine| engine.reset(now));
        self.drain(now);
        done
    }

    /// Whether a UDP connection leads to a name server; otherwise it is the collector's.
    pub(super) fn is_name_server(&self, zone: ZoneId, peer: SocketAddr) -> bool {
        let mut servers = self.name_servers.iter();
        servers.any(|server| server.zone == zone && server.address == peer)
    }

    /// A name for a connection.
    pub(super) const fn name_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }

    /// Drops a connection and tells the core. Nothing, if it is gone already.
    pub(super) fn close_connection(&mut self, id: ConnectionId) {
        self.unproved.remove(id);
        if let Some(connection) = self.connections.remove(&id) {
            self.gone(id, connection);
        }
    }

    /// Notes a connection of no trunk or PBX, and closes those that nothing was sent by beyond the room that there is for
    /// them: whoever comes now to speak SIP finds room, however many others are held open for nothing.
    pub(super) fn make_room(&mut self, id: ConnectionId, source: IpAddr) {
        let engine = self.engine.as_ref();
        let standing = if engine.is_some_and(|engine| engine.is_registered(source)) {
            Standing::Registered
        } else {
            Standing::Stranger
        };
        self.unproved.insert(id, standing, source);
        let most = self.limits.map_or(0, |limits| limits.connections);
        while let Some(oldest) = self.unproved.evict(most) {
            self.counters.connections_evicted += 1;
            self.close_connection(oldest);
        }
    }

    /// Whether there is no room for a connection. The last tenth is for trunks, PBX and sources with a registration.
    pub(super) fn is_full(&self, zone: ZoneId, source: IpAddr) -> bool {
        let most = self.limits.map_or(0, |limits| limits.connections);
        let have = self.connections.len() as u64;
        let engine = self.engine.as_ref();
        have >= u64::from(most)
            || have >= u64::from(most - most / 10)
                && !self.secure.is_peer(zone, source)
                && !engine.is_some_and(|engine| engine.is_registered(source))
    }

    /// Gives waiting messages and commands another chance.
    pub(super) fn flush(&mut self) {
        self.pool.flush();
        let peers = [
            &self.peers.broker,
            &self.peers.journal,
            &self.peers.keyholder,
            &self.peers.status,
        ];
        for peer in peers.into_iter().flatten() {
            // A far end that is gone is noticed by the task that reads it.
            let _ = peer.link.flush();
        }
        self.offer_orphans();
    }

    /// Everything that is counted in this process.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let own = self.counters;
        let mut counts = self
            .engine
            .as_ref()
            .map(Engine::counters)
            .unwrap_or_default();
        counts.extend(counters::totals(&self.pool.counters()));
        counts.extend(self.secure.refusals());
        counts.extend(
            [
                ("sip_datagrams_unsent_total", own.datagrams_unsent),
                ("sip_connections", self.connections.len() as u64),
                ("sip_connections_refused_total", own.connections_refused),
                ("sip_connections_idle_total", own.connections_idle),
                ("sip_connections_choked_total", own.connections_choked),
                ("sip_connections_unproved", self.unproved.len() as u64),
                ("sip_connections_evicted_total", own.connections_evicted),
                ("tls_handshakes_total", own.handshakes),
                ("tls_handshakes_failed_total", own.handshakes_failed),
                ("tls_handshakes_shed_total", own.handshakes_shed),
                ("sip_handshakes_late_total", own.handshakes_late),
                ("websocket_refused_total", own.websockets_refused),
                ("journal_records_lost_total", own.records_lost),
                ("broker_lost_total", own.broker_lost),
                ("hep_unsent_total", own.captures_unsent),
                ("dns_questions_unsent_total", own.questions_unsent),
                ("media_leases", self.leases.len() as u64),
            ]
            .map(|(name, count)| (name.to_owned(), count)),
        );
        counts
    }

    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.engine.as_mut().and_then(Engine::poll) {
                self.carry_out(output);
            }
            self.send_wishes();
            let (Some(engine), Some(next)) = (&mut self.engine, self.aftermath.pop_front()) else {
                break;
            };
            engine.handle(
                now,
                match next {
                    Aftermath::Media(event) => Input::Media(event),
                    Aftermath::Done(id) => Input::Broker(BrokerAnswer::Done { id }),
                    Aftermath::Refused(id) => Input::Broker(BrokerAnswer::Refused {
                        id,
                        reason: Refusal::System,
                    }),
                    Aftermath::Closed(connection) => Input::StreamClosed { connection },
                },
            );
        }
        if self.stopping && self.engine.as_ref().is_none_or(Engine::is_idle) {
            self.finished.notify_one();
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Datagram {
                local, peer, bytes, ..
            } => {
                let sent = self
                    .listeners
                    .get(&local)
                    .is_some_and(|listener| listener.send(peer, &bytes));
                self.counters.datagrams_unsent += u64::from(!sent);
            }
            Output::Stream { connection, bytes } => self.write(connection, &bytes),
            Output::Capture { connection, bytes } => {
                let collector = self.collector.as_ref();
                let socket = collector.filter(|(have, _)| *have == connection);
                let mut sent = socket.map(|(_, socket)| socket.send(&bytes));
                if let (Some((_, socket)), Some(Err(error))) = (socket, &sent)
                    && error.kind() == std::io::ErrorKind::ConnectionRefused
                {
                    // The kernel speaks of an earlier packet, which is lost; this one has not left yet.
                    self.counters.captures_unsent += 1;
                    sent = Some(socket.send(&bytes));
                }
                self.counters.captures_unsent += u64::from(!matches!(sent, Some(Ok(_))));
            }
            Output::Ask { connection, bytes } => {
                let socket = self.questions.get(&connection);
                let sent = socket.is_some_and(|socket| socket.send(&bytes));
                self.counters.questions_unsent += u64::from(!sent);
            }
            Output::CloseStream { connection } => {
                self.collector.take_if(|(have, _)| *have == connection);
                self.questions.remove(&connection);
                if self
                    .connections
                    .get_mut(&connection)
                    .is_some_and(Connection::close)
                {
                    self.connections.remove(&connection);
                    self.unproved.remove(connection);
                    self.aftermath.push_back(Aftermath::Closed(connection));
                }
            }
            Output::Broker(request) => self.ask_broker(request),
            Output::Media(command) => self.command(command),
            Output::Keyholder(request) => {
                let sent = self
                    .peers
                    .keyholder
                    .as_ref()
                    .map(|peer| peer.link.send(&request));
                if !matches!(sent, Some(Ok(()))) {
                    // The core's own timer gives the request up.
                    log(Severity::Warning, "keyholder-unreachable", &[]);
                }
            }
            Output::Journal(record) => self.append(record),
            Output::Log {
                severity,
                code,
                fields,
            } => log(severity, code, &fields),
        }
    }

    fn write(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        self.unproved.remove(id);
        if connection.write(bytes).is_err() {
            self.counters.connections_choked += 1;
            self.connections.remove(&id);
            self.aftermath.push_back(Aftermath::Closed(id));
        }
    }

    /// Notes what an answer will not say again. What is asked in one turn leaves together at its end.
    fn ask_broker(&mut self, request: ToBroker) {
        match &request {
            ToBroker::Listen {
                id,
                zone,
                transport,
                port,
            } => {
                self.note(*id, *zone, *transport, *port);
            }
            ToBroker::Connect {
                id,
                zone,
                transport,
                peer,
            } => {
                self.note(*id, *zone, *transport, peer.port());
            }
            ToBroker::CloseMedia { id, lease } => {
                let orphan = self.leases.is_orphan(lease.0);
                self.leases.close(lease.0);
                if orphan {
                    return self.aftermath.push_back(Aftermath::Done(*id));
                }
            }
            ToBroker::LatchMedia {
                id,
                lease,
                rtp,
                rtcp,
            } => {
                // The next firewall opens it so, or the lease ends.
                if self.leases.latch(lease.0, [*rtp, *rtcp]) {
                    return self.aftermath.push_back(Aftermath::Done(*id));
                }
            }
            ToBroker::RenewMedia { id, lease, .. } => {
                if self.leases.is_orphan(lease.0) {
                    return self.aftermath.push_back(Aftermath::Done(*id));
                }
            }
            ToBroker::OpenMedia { id, zone, flow, .. } => {
                self.opening.insert(*id, (*zone, *flow));
            }
            ToBroker::Ban { .. }
            | ToBroker::KeepBindings { .. }
            | ToBroker::RecallBindings { .. }
            | ToBroker::AdoptMedia { .. }
            | ToBroker::Health { .. } => {}
        }
        self.wishes.push(request);
    }

    fn send_wishes(&mut self) {
        let mut rest = std::mem::take(&mut self.wishes);
        while !rest.is_empty() {
            let mut packet = Packet::default();
            let in_it = |request: &&ToBroker| matches!(packet.push(*request, PACKET), Ok(true));
            let count = rest.iter().take_while(in_it).count();
            let sent = match &self.peers.broker {
                // Of a request that has no encoding: refused like one that finds no room.
                _ if count == 0 => Err(LinkError::Full),
                Some(peer) => peer.link.send_together(packet),
                None => Err(LinkError::Full),
            };
            let asked = rest.drain(..count.max(1));
            if let Err(error) = sent {
                log(
                    Severity::Error,
                    "firewall-unreachable",
                    &[("error", error.to_string())],
                );
                for id in asked.filter_map(|request| request.id()) {
                    self.asked.remove(&id);
                    self.opening.remove(&id);
                    self.aftermath.push_back(Aftermath::Refused(id));
                }
            }
        }
    }

    fn note(&mut self, id: RequestId, zone: ZoneId, transport: Transport, port: u16) {
        let asked = Asked {
            zone,
            transport,
            port,
        };
        self.asked.insert(id, asked);
    }

    fn command(&mut self, command: MediaCommand) {
        if let Err(event) = self.pool.command(command, &self.leases) {
            self.aftermath.push_back(Aftermath::Media(event));
        }
    }

    pub(super) fn append(&mut self, record: Record) {
        let sent = self
            .peers
            .journal
            .as_ref()
            .map(|peer| peer.link.send(&ToJournal::Append(record)));
        if !matches!(sent, Some(Ok(()))) {
            self.counters.records_lost += 1;
            log(
                Severity::Error,
                "journal-record-lost",
                &[("lost", self.counters.records_lost.to_string())],
            );
        }
    }
}

/// A line on standard error, which init reads.
pub(super) fn log(severity: Severity, code: &str, fields: &[(&'static str, String)]) {
    let details = fields
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect::<Vec<_>>()
        .join(" ");
    match severity {
        Severity::Alert | Severity::Error => tracing::error!(code, "{details}"),
        Severity::Warning => tracing::warn!(code, "{details}"),
        Severity::Notice | Severity::Info => tracing::info!(code, "{details}"),
    }
}
