//! What every part of the core works with: the moment, the outputs, timers, settings, transactions and transport. There
//! is one; it holds no call and no binding, so that a call can be changed while it uses this.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use broker_proto::{
    journal::{Record, Severity},
    settings::{Settings, Transport, ZoneId},
};
use sbc_media::relay::{Side, StreamId};
use sbc_sip::headers::NameAddr;

use crate::{
    bodies::Told,
    call::transfer::{Turn, Wish},
    counters::Counters,
    event::Events,
    health::TrunkHealth,
    identity::Identity,
    io::Output,
    ledger::Ledger,
    own_leases::OwnLeases,
    policy::mediasec::Agreements,
    requests::Requests,
    surroundings::Surroundings,
    timers::Timers,
    trace::{Collector, Traces, Way},
    transactions::Transactions,
    transport::Connections,
};

/// The surroundings of one input.
pub(crate) struct Context {
    /// The moment of the input.
    pub(crate) now: Instant,
    /// Settings and listeners.
    pub(crate) surroundings: Surroundings,
    pub(crate) identity: Identity,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    pub(crate) requests: Requests,
    pub(crate) transactions: Transactions,
    pub(crate) connections: Connections,
    /// Calls by Call-ID and own tag of a leg.
    pub(crate) dialogs: BTreeMap<(String, String), (u64, Side)>,
    /// Calls by relayed stream.
    pub(crate) streams: BTreeMap<StreamId, u64>,
    /// Media addresses of our own, of all calls.
    pub(crate) leases: OwnLeases,
    /// Calls that are over but for what is left to be tidied up.
    pub(crate) ending: BTreeSet<u64>,
    /// Of these, calls with nothing left.
    pub(crate) over: BTreeSet<u64>,
    /// When the wall clock was heard last, and what it said: ms since the Unix epoch.
    wall: (Instant, u64),
    /// What carriers want calls to go through (RFC 3608), by index of the trunk.
    pub(crate) service_routes: BTreeMap<usize, Vec<NameAddr>>,
    /// The registrar does not answer.
    pub(crate) registrar_away: bool,
    /// Transfers that are asked for and not decided about.
    pub(crate) wishes: VecDeque<Wish>,
    /// What calls have to tell each other.
    pub(crate) turns: VecDeque<Turn>,
    /// Watched addresses of trunks.
    pub(crate) health: TrunkHealth,
    /// How much goes through zones, trunks and accounts.
    pub(crate) ledger: Ledger,
    /// Calls that make room for a cry for help.
    pub(crate) preempted: BTreeSet<u64>,
    /// What happened in each call.
    pub(crate) traces: Traces,
    /// Where captured messages go.
    pub(crate) collector: Collector,
    /// What happened, and how often.
    pub(crate) events: Events,
    /// Security mechanisms of carriers.
    pub(crate) mediasec: Agreements,
    /// Dialogs of the PBX that subscribers were told of.
    pub(crate) told: Told,
    out: VecDeque<Output>,
    next: u64,
    next_stream: u64,
}

impl Context {
    pub(crate) fn new(settings: Box<Settings>, seed: [u8; 32], now: Instant) -> Self {
        Self {
            now,
            surroundings: Surroundings::new(settings),
            identity: Identity::new(seed),
            timers: Timers::default(),
            counters: Counters::default(),
            requests: Requests::default(),
            transactions: Transactions::default(),
            connections: Connections::default(),
            dialogs: BTreeMap::new(),
            streams: BTreeMap::new(),
            leases: OwnLeases::default(),
            ending: BTreeSet::new(),
            over: BTreeSet::new(),
            wall: (now, 0),
            service_routes: BTreeMap::new(),
            registrar_away: false,
            wishes: VecDeque::new(),
            turns: VecDeque::new(),
            health: TrunkHealth::default(),
            ledger: Ledger::default(),
            preempted: BTreeSet::new(),
            traces: Traces::default(),
            collector: Collector::default(),
            events: Events::default(),
            mediasec: Agreements::default(),
            told: Told::default(),
            out: VecDeque::new(),
            next: 0,
            next_stream: 0,
        }
    }

    /// The wall clock was heard.
    pub(crate) fn set_wall_clock(&mut self, unix_ms: u64) {
        self.wall = (self.now, unix_ms);
    }

    /// What the wall clock shows now, in ms since the Unix epoch.
    pub(crate) fn wall_clock(&self) -> u64 {
        let (heard, unix_ms) = self.wall;
        let since = self.now.saturating_duration_since(heard).as_millis();
        unix_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// What the wall clock showed at a moment that has been.
    pub(crate) fn wall_clock_at(&self, then: Instant) -> u64 {
        let since = self.now.saturating_duration_since(then).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.wall_clock().saturating_sub(since)
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.surroundings.settings()
    }

    pub(crate) fn zone_name(&self, zone: ZoneId) -> String {
        self.surroundings.zone_name(zone).to_owned()
    }

    /// Something that is to be done outside.
    pub(crate) fn emit(&mut self, output: Output) {
        self.trace(&output);
        self.out.push_back(output);
    }

    /// A message that leaves is part of its call's ladder.
    fn trace(&mut self, output: &Output) {
        let (way, bytes) = match output {
            Output::Datagram {
                zone,
                local,
                peer,
                bytes,
            } => {
                let way = Way {
                    zone: *zone,
                    transport: Transport::Udp,
                    local: *local,
                    peer: *peer,
                };
                (way, bytes)
            }
            Output::Stream { connection, bytes } => match self.connections.flow(*connection) {
                Some(flow) => (Way::from(flow), bytes),
                None => return,
            },
            _ => return,
        };
        self.said(way, bytes);
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// A number for a call or transaction; never used twice.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A number for a relayed stream; never used twice.
    pub(crate) fn next_stream(&mut self) -> u64 {
        self.next_stream += 1;
        self.next_stream
    }

    /// A line for the process's log.
    pub(crate) fn log(
        &mut self,
        severity: Severity,
        code: &'static str,
        fields: Vec<(&'static str, String)>,
    ) {
        self.emit(Output::Log {
            severity,
            code,
            fields,
        });
    }

    /// An event for the journal and the log.
    pub(crate) fn record(
        &mut self,
        severity: Severity,
        code: &'static str,
        fields: Vec<(&'static str, String)>,
    ) {
        let owned = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        self.emit(Output::Journal(Record::Event {
            severity,
            code: code.to_owned(),
            fields: owned,
        }));
        self.log(severity, code, fields);
    }
}
