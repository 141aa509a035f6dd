//! The whole: one [`Core`] in the process. Takes inputs apart, hands each piece to the part that it is for, and keeps the
//! tables of calls and bindings.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    broker::ToBroker,
    settings::{Settings, Transport, ZoneId},
    status::{CallInfo, LadderStep},
};
use sbc_media::relay::{MediaEvent, StreamId};

use crate::{
    admission::Rates,
    call::Call,
    context::Context,
    health,
    io::{BrokerAnswer, ConnectionId, Input, Output},
    ledger::Subject,
    message::Messages,
    pinhole,
    registration::Registration,
    requests::Purpose,
    resolve::{Resolver, Who},
    subscription::Subscriptions,
    timers::TimerKey,
    transactions::{self, Event, Owner, Task},
    transport::{self, Flow},
    trunk_registration::TrunkRegistrations,
};

/// Wait before a refused listener is asked for again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The back-to-back user agent with everything that belongs to it.
pub struct Core {
    pub(crate) cx: Context,
    /// Boxed: a call is large, and a tree has room for more than it holds.
    pub(crate) calls: BTreeMap<u64, Box<Call>>,
    pub(crate) registration: Registration,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) messages: Messages,
    pub(crate) trunks: TrunkRegistrations,
    pub(crate) names: Resolver,
    pub(crate) rates: Rates,
    /// Live calls by the source that they count against.
    pub(crate) per_source: BTreeMap<IpAddr, u32>,
    pub(crate) stopping: bool,
}

impl Core {
    /// A core with these settings and nothing else. `seed`: where all names are drawn from; `unix_ms`: the wall clock at
    /// `now`. The first outputs are the listeners that it asks for.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32], now: Instant, unix_ms: u64) -> Self {
        let mut core = Self {
            cx: Context::new(Box::new(settings), seed, now),
            calls: BTreeMap::new(),
            registration: Registration::new(now),
            subscriptions: Subscriptions::default(),
            messages: Messages::default(),
            trunks: TrunkRegistrations::default(),
            names: Resolver::default(),
            rates: Rates::new(now),
            per_source: BTreeMap::new(),
            stopping: false,
        };
        core.cx.set_wall_clock(unix_ms);
        core.cx.want_collector();
        // Before any listener: what an earlier life left is here before the first phone is heard.
        core.registration.recall(&mut core.cx, None);
        core.listen();
        core.trunks.configure(&mut core.cx);
        health::configure(&mut core.cx);
        core.names.configure(&mut core.cx);
        core
    }

    /// Something happened at `now`, which never runs backwards. Drain [`Core::poll`] afterwards.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.cx.now = self.cx.now.max(now);
        match input {
            Input::Settings(settings) => self.configure(settings),
            Input::WallClock { unix_ms } => {
                self.cx.set_wall_clock(unix_ms);
                self.cx.want_collector();
            }
            Input::Tick => {}
            Input::Listening {
                zone,
                transport,
                port,
                local,
            } => self.listening(zone, transport, port, local),
            Input::Datagram {
                zone,
                local,
                peer,
                bytes,
            } => {
                let flow = Flow {
                    zone,
                    transport: Transport::Udp,
                    local,
                    peer,
                    connection: None,
                };
                self.datagram(flow, bytes);
            }
            Input::StreamOpened {
                connection,
                zone,
                transport,
                local,
                peer,
            } => {
                self.stream_opened(Flow {
                    zone,
                    transport,
                    local,
                    peer,
                    connection: Some(connection),
                });
            }
            Input::Stream { connection, bytes } => self.stream(connection, bytes),
            Input::StreamClosed { connection } => self.stream_closed(connection),
            Input::Answer { connection, bytes } => {
                let moved = self.names.answer(&mut self.cx, connection, bytes);
                self.moved(&moved);
            }
            Input::Broker(answer) => self.broker(answer),
            Input::BrokerLost => self.broker_lost(),
            Input::Media(event) => self.media(event),
            Input::Keyholder(answer) => self.trunks.answer(&mut self.cx, &answer),
            Input::Stop => self.stop(),
        }
        self.settle();
        self.fire();
    }

    /// The next thing to be done; `None`: wait for an input or [`Core::poll_timeout`].
    pub fn poll(&mut self) -> Option<Output> {
        self.cx.next_output()
    }

    /// When to call [`Core::handle`] with `Tick` if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.cx.timers.next(), self.cx.transactions.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a phone is registered from there (IPv6: from its /64), which connections of strangers must not hinder.
    #[must_use]
    pub fn is_registered(&self, source: std::net::IpAddr) -> bool {
        self.registration.is_source(source)
    }

    /// Live calls in order of their names, from the `offset`-th on, at most `limit`; and whether there are more.
    #[must_use]
    pub fn calls(&self, now: Instant, offset: u32, limit: u32) -> (Vec<CallInfo>, bool) {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let mut live = self
            .calls
            .values()
            .filter(|call| !call.is_ending())
            .skip(size(offset));
        let listed = live
            .by_ref()
            .take(size(limit))
            .map(|call| call.info(&self.cx, now))
            .collect();
        (listed, live.next().is_some())
    }

    /// How many calls are live.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.calls.len().saturating_sub(self.cx.ending.len())
    }

    /// What happened in a call that lives or ended lately, from the `offset`-th step on, and whether there is more;
    /// `None`: no such call is kept.
    #[must_use]
    pub fn ladder(&self, call: u64, offset: u32) -> Option<(Vec<LadderStep>, bool)> {
        self.cx.ladder(call, offset)
    }

    /// Counters and sizes of tables, each with its Prometheus name and labels.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = self.cx.counters.list();
        counters.extend(self.cx.events.list());
        counters.extend(
            self.gauges()
                .into_iter()
                .map(|(name, value)| (format!("sbc_{name}"), value)),
        );
        counters.extend(self.trunks.gauges(self.cx.now));
        counters.extend(self.trunk_gauges());
        let (traces, octets) = self.cx.traces.sizes();
        for (name, size) in [("sbc_traces", traces), ("sbc_trace_octets", octets)] {
            counters.push((name.to_owned(), u64::try_from(size).unwrap_or(u64::MAX)));
        }
        counters
    }

    /// Watched addresses of trunks, and what goes through zones and trunks.
    fn trunk_gauges(&self) -> Vec<(String, u64)> {
        let health = self.cx.health.list().map(|(trunk, address, up)| {
            let labels = format!("trunk=\"{trunk}\",address=\"{address}\"");
            (format!("sbc_trunk_up{{{labels}}}"), u64::from(up))
        });
        let settings = self.cx.settings();
        // Accounts are people: how much each of them calls is not for the metrics.
        let named = |subject: &Subject| !matches!(subject, Subject::Account(_));
        let loads = self.cx.ledger.list().filter(|(subject, ..)| named(subject));
        let loads = loads.flat_map(|(subject, calls, kbit)| {
            let label = format!("{}=\"{}\"", subject.word(), subject.name(settings));
            [("calls", calls), ("kbit", kbit)]
                .map(|(what, value)| (format!("sbc_load_{what}{{{label}}}"), value))
        });
        health.chain(loads).collect()
    }

    /// Sizes of all tables.
    pub(crate) fn gauges(&self) -> Vec<(&'static str, u64)> {
        let sizes = [
            ("calls", self.calls.len()),
            ("bindings", self.registration.bindings.len()),
            ("registrations_under_way", self.registration.under_way()),
            ("subscriptions", self.subscriptions.len()),
            ("messages_under_way", self.messages.len()),
            ("client_transactions", self.cx.transactions.clients()),
            ("server_transactions", self.cx.transactions.servers()),
            ("dialogs", self.cx.dialogs.len()),
            ("connections", self.cx.connections.len()),
            ("broker_requests", self.cx.requests.len()),
            ("dns_questions", self.names.len()),
            ("dns_answers_known", self.names.known()),
            ("call_sources", self.per_source.len()),
            ("calls_in_ledger", self.cx.ledger.len()),
            ("sources", self.rates.len()),
            ("registration_sources", self.registration.sources()),
            ("timers", self.cx.timers.len()),
        ];
        sizes
            .map(|(name, size)| (name, u64::try_from(size).unwrap_or(u64::MAX)))
            .to_vec()
    }

    /// Laboratory only: forget bindings, rates and counters. Calls go on. `false` and no effect unless the settings say
    /// `lab`.
    pub fn reset(&mut self, now: Instant) -> bool {
        if !self.cx.settings().lab {
            return false;
        }
        self.cx.now = self.cx.now.max(now);
        self.registration.clear(&mut self.cx);
        self.rates.clear(now);
        self.cx.counters.clear();
        self.cx.events.clear();
        true
    }

    /// After `Stop`: every call is recorded and nothing awaits an answer any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.values().all(|call| call.is_recorded()) && !self.cx.transactions.awaits_answers()
    }

    fn configure(&mut self, mut settings: Box<Settings>) {
        self.cx.surroundings.fill(&mut settings);
        if self.cx.settings().registrar != settings.registrar {
            self.registration.registrar_changed(&mut self.cx);
        }
        self.cx.surroundings.replace(settings);
        self.cx.want_collector();
        self.cx.mediasec.clear();
        self.listen();
        self.registration.firewall_is_back(&mut self.cx);
        self.trunks.configure(&mut self.cx);
        health::configure(&mut self.cx);
        let moved = self.names.configure(&mut self.cx);
        self.moved(&moved);
    }

    /// Peers that are known by name are elsewhere now.
    pub(crate) fn moved(&mut self, moved: &[Who]) {
        if moved.is_empty() {
            return;
        }
        for who in moved {
            match who {
                Who::Registrar => self.registration.registrar_changed(&mut self.cx),
                Who::Trunk(name) => self.trunks.moved(&mut self.cx, name),
            }
        }
        health::configure(&mut self.cx);
    }

    /// Ask for every listener that is configured and does not stand.
    fn listen(&mut self) {
        for listener in self.cx.settings().listeners.clone() {
            let (zone, transport, port) = (listener.zone, listener.transport, listener.port);
            if !self.cx.surroundings.hears(&listener)
                && !self.cx.requests.listens(zone, transport, port)
            {
                let purpose = Purpose::Listen(zone, transport, port);
                let id = self.cx.requests.issue(purpose);
                self.cx.emit(Output::Broker(ToBroker::Listen {
                    id,
                    zone,
                    transport,
                    port,
                }));
            }
        }
    }

    fn listening(&mut self, zone: ZoneId, transport: Transport, port: u16, local: Vec<SocketAddr>) {
        self.cx.requests.listening(zone, transport, port);
        self.cx.surroundings.listening(zone, transport, port, local);
        self.trunks.way_opened(&mut self.cx, zone);
    }

    /// Deadlines that have come, each with what follows from it.
    fn fire(&mut self) {
        let due = |at: Option<Instant>, now| at.is_some_and(|at| at <= now);
        while due(self.cx.transactions.poll_timeout(), self.cx.now) {
            transactions::handle_timeout(&mut self.cx);
            self.settle();
        }
        while let Some(key) = self.cx.timers.expired(self.cx.now) {
            match key {
                TimerKey::Call(id, timer) => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.timer(&mut self.cx, timer);
                    }
                }
                TimerKey::Binding(number) => self.registration.binding_timer(&mut self.cx, number),
                TimerKey::Legacy => self.registration.hand_over(&mut self.cx),
                TimerKey::RegistrarProbe => self.registration.probe(&mut self.cx),
                TimerKey::Subscription(number) => {
                    self.subscriptions.expired(&mut self.cx, number);
                }
                TimerKey::RegisterSlot(server) => self.registration.slot(&mut self.cx, server),
                TimerKey::Health(id) => health::timer(&mut self.cx, id),
                TimerKey::TrunkRegistration(index) => self.trunks.timer(&mut self.cx, index),
                TimerKey::Connection(number) => self.connection_timer(ConnectionId(number)),
                TimerKey::Connecting(id) => {
                    transactions::connection_overdue(&mut self.cx, RequestId(id));
                }
                TimerKey::Listen => self.listen(),
                TimerKey::Names => {
                    let moved = self.names.timer(&mut self.cx);
                    self.moved(&moved);
                }
                TimerKey::Sweep => self.sweep(),
            }
            self.settle();
        }
    }

    /// Deal with what became of transactions, then let go of calls that are over.
    fn settle(&mut self) {
        while let Some(event) = transactions::next_event(&mut self.cx) {
            match event {
                Event::Response {
                    client,
                    owner,
                    response,
                } => self.response_event(client, owner, *response),
                Event::Ended {
                    client,
                    owner,
                    failed,
                } => self.ended_event(client, owner, failed),
                Event::ServerEnded { server } => {
                    self.registration.server_ended(&mut self.cx, server);
                    self.messages.server_ended(server);
                }
            }
        }
        while self.take_turn() {}
        while let Some(id) = self.cx.preempted.pop_first() {
            if let Some(call) = self.calls.get_mut(&id) {
                call.end(&mut self.cx, "preempted");
            }
        }
        while let Some(id) = self.cx.over.pop_first() {
            self.cx.ending.remove(&id);
            self.let_go(id);
        }
        let to_sweep = self.rates.len() + self.registration.sources() > 0;
        if (to_sweep || self.cx.events.is_suppressing()) && !self.cx.timers.is_set(TimerKey::Sweep)
        {
            self.cx
                .timers
                .set(TimerKey::Sweep, self.cx.now + Duration::from_secs(10));
        }
    }

    fn let_go(&mut self, id: u64) {
        let Some(mut call) = self.calls.remove(&id) else {
            return;
        };
        call.leave(&mut self.cx);
        self.cx.ledger.end(id);
        if let Some(source) = call.source
            && let Some(count) = self.per_source.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    fn response_event(&mut self, client: u64, owner: Owner, response: sbc_sip::message::Response) {
        let status = response.status.as_u16();
        match owner {
            Owner::Nobody => {}
            Owner::Call { call, side, task } => {
                let Some(call) = self.calls.get_mut(&call) else {
                    return;
                };
                match task {
                    Task::Invite => call.invite_response(&mut self.cx, side, client, response),
                    Task::Pass(server) => call.passed(&mut self.cx, side, server, status),
                    Task::Passage => {
                        call.passage_response(&mut self.cx, side, client, status, Some(&response))
                    }
                    Task::Own => {
                        call.own_response(&mut self.cx, side, client, status, Some(&response))
                    }
                    Task::Refer(server) => {
                        call.refer_answered(&mut self.cx, side, server, status, Some(&response))
                    }
                    Task::Report => call.report_answered(&mut self.cx),
                }
            }
            Owner::Registration(server) => {
                self.registration
                    .response(&mut self.cx, server, Some(&response))
            }
            Owner::RegistrarProbe(address) => {
                self.registration
                    .probe_answered(&mut self.cx, address, status);
            }
            Owner::Keepalive(number) => {
                self.registration
                    .keepalive_ended(&mut self.cx, number, true);
            }
            Owner::Message(server) => self.message_answered(server, Ok(&response)),
            Owner::Subscription(number, task) => {
                self.subscription_answered(number, task, Ok(&response));
            }
            Owner::TrunkRegistration(index) => {
                self.trunks.response(&mut self.cx, index, Some(&response))
            }
            Owner::TrunkHealth(id) => health::response(&mut self.cx, id, Some(status)),
        }
    }

    fn ended_event(&mut self, client: u64, owner: Owner, failed: Option<u16>) {
        match (owner, failed) {
            (
                Owner::Call {
                    call,
                    side,
                    task: Task::Invite,
                },
                _,
            ) => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.invite_ended(&mut self.cx, side, client, failed);
                }
            }
            (
                Owner::Call {
                    call,
                    side,
                    task: task @ (Task::Passage | Task::Own | Task::Refer(_) | Task::Report),
                },
                failed,
            ) => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.request_ended(&mut self.cx, side, client, task, failed);
                }
            }
            (
                Owner::Call {
                    call,
                    side,
                    task: Task::Pass(server),
                },
                Some(status),
            ) => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.passed(&mut self.cx, side, server, status);
                }
            }
            (Owner::Registration(server), Some(_)) => {
                self.registration.response(&mut self.cx, server, None)
            }
            (Owner::Keepalive(number), Some(_)) => {
                self.registration
                    .keepalive_ended(&mut self.cx, number, false);
            }
            (Owner::TrunkHealth(id), Some(_)) => health::response(&mut self.cx, id, None),
            (Owner::Message(server), Some(status)) => self.message_answered(server, Err(status)),
            (Owner::Subscription(number, task), Some(status)) => {
                self.subscription_answered(number, task, Err(status));
            }
            (Owner::TrunkRegistration(index), Some(_)) => {
                self.trunks.response(&mut self.cx, index, None)
            }
            _ => {}
        }
    }

    fn broker(&mut self, answer: BrokerAnswer) {
        match answer {
            BrokerAnswer::MediaOpened {
                id,
                lease,
                rtp,
                rtcp,
                ttl_seconds,
            } => {
                let taken = match self.cx.requests.answered(id) {
                    Some(Purpose::OpenMedia { call, line, side }) => {
                        self.calls.get_mut(&call).is_some_and(|call| {
                            call.media_opened(
                                &mut self.cx,
                                id,
                                (line, side),
                                (lease, rtp, rtcp),
                                ttl_seconds,
                            )
                        })
                    }
                    _ => false,
                };
                if !taken {
                    pinhole::close_lease(&mut self.cx, lease);
                }
            }
            BrokerAnswer::Connected {
                id,
                connection,
                local,
                peer,
            } => match self.cx.requests.answered(id) {
                Some(Purpose::Collector) => self.cx.collector_reached(peer, connection),
                Some(Purpose::NameServer) => {
                    self.names.connected(&mut self.cx, id, connection);
                }
                _ => transport::connected(&mut self.cx, id, connection, local, peer),
            },
            BrokerAnswer::Done { id } => match self.cx.requests.answered(id) {
                Some(Purpose::LatchMedia { call }) => {
                    if let Some(call) = self.calls.get_mut(&call) {
                        call.latched(&mut self.cx);
                    }
                }
                Some(Purpose::KeepBindings) => self.registration.handed_over(&mut self.cx, true),
                _ => {}
            },
            BrokerAnswer::Bindings { id, bindings, next } => {
                if self.cx.requests.answered(id) == Some(Purpose::RecallBindings) {
                    self.registration.recalled(&mut self.cx, bindings, next);
                }
            }
            BrokerAnswer::Refused { id, reason } => self.refused(id, reason),
            BrokerAnswer::LeaseEnded { lease } => {
                if let Some(call) = self.calls.values_mut().find(|call| call.holds(lease)) {
                    call.lease_ended(&mut self.cx, lease);
                }
            }
        }
    }

    fn refused(&mut self, id: broker_proto::RequestId, reason: broker_proto::broker::Refusal) {
        let Some(purpose) = self.cx.requests.answered(id) else {
            return;
        };
        self.cx
            .counters
            .count("broker_refusals_total", "request", purpose.word());
        let fields = vec![
            ("request", purpose.word().to_owned()),
            ("reason", reason.to_string()),
        ];
        self.cx.log(
            broker_proto::journal::Severity::Warning,
            "broker-refused",
            fields,
        );
        match purpose {
            Purpose::Listen(..) => self
                .cx
                .timers
                .set(TimerKey::Listen, self.cx.now + LISTEN_AGAIN),
            Purpose::OpenMedia { call, .. } | Purpose::LatchMedia { call } => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.media_refused(&mut self.cx, reason);
                }
            }
            Purpose::RenewMedia { call } => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.renewal_refused(&mut self.cx, reason);
                }
            }
            Purpose::KeepBindings => self.registration.handed_over(&mut self.cx, false),
            // Phones register again in their own time.
            Purpose::RecallBindings => {}
            // The lease is gone already; that is what was wanted.
            Purpose::CloseMedia => {}
            Purpose::Collector => self.cx.collector_refused(),
            Purpose::NameServer => {
                let moved = self.names.refused(&mut self.cx, id);
                self.moved(&moved);
            }
            Purpose::Connect => {
                use broker_proto::broker::Refusal::{NotConfigured, PeerRefused, System};
                // Silence is no refusal: a peer that is away is not there by UDP either (RFC 3261 §18.1.1).
                let tried = reason == System;
                let never = matches!(reason, PeerRefused | NotConfigured);
                self.cx.timers.cancel(TimerKey::Connecting(id.0));
                for client in self.cx.connections.refused(self.cx.now, id, never) {
                    if tried {
                        transactions::failed(&mut self.cx, client);
                    } else {
                        transactions::unreachable(&mut self.cx, client);
                    }
                }
            }
        }
    }

    /// The firewall is gone: what was asked will not be answered. Its successor takes leases back with the flows that were
    /// asked for last; of those that it does not take, `LeaseEnded` tells.
    fn broker_lost(&mut self) {
        self.cx.surroundings.deaf();
        self.registration.firewall_is_gone(&mut self.cx);
        for (id, purpose) in self.cx.requests.all_lost() {
            match purpose {
                Purpose::OpenMedia { call, .. } => {
                    if let Some(call) = self.calls.get_mut(&call) {
                        call.media_refused(&mut self.cx, broker_proto::broker::Refusal::Closed);
                    }
                }
                Purpose::LatchMedia { call } => {
                    if let Some(call) = self.calls.get_mut(&call) {
                        call.latched(&mut self.cx);
                    }
                }
                Purpose::Connect => {
                    self.cx.timers.cancel(TimerKey::Connecting(id.0));
                    for client in self.cx.connections.refused(self.cx.now, id, false) {
                        transactions::unreachable(&mut self.cx, client);
                    }
                }
                Purpose::Collector => self.cx.collector_refused(),
                Purpose::NameServer => {
                    let moved = self.names.refused(&mut self.cx, id);
                    self.moved(&moved);
                }
                Purpose::Listen(..)
                | Purpose::RenewMedia { .. }
                | Purpose::CloseMedia
                | Purpose::KeepBindings
                | Purpose::RecallBindings => {}
            }
        }
    }

    fn media(&mut self, event: MediaEvent) {
        let stream: StreamId = match event {
            MediaEvent::Proved { stream, .. }
            | MediaEvent::SecondSource { stream, .. }
            | MediaEvent::Silent { stream, .. }
            | MediaEvent::Report { stream, .. }
            | MediaEvent::Failed { stream, .. } => stream,
        };
        if let Some(call) = self.cx.streams.get(&stream).copied()
            && let Some(call) = self.calls.get_mut(&call)
        {
            call.media_event(&mut self.cx, &event);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        for call in self.calls.values_mut() {
            call.end(&mut self.cx, "shutdown");
        }
        self.subscriptions.stop(&mut self.cx);
        self.trunks.stop(&mut self.cx);
    }

    fn sweep(&mut self) {
        self.registration.sweep(&self.cx);
        self.cx.tell_suppressed();
        if let Some(wait) = self.rates.sweep(self.cx.now) {
            self.cx.timers.set(TimerKey::Sweep, self.cx.now + wait);
        }
    }
}
