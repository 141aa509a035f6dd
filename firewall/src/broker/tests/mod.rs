//! The broker against a kernel that is a few sets: what is granted, what is refused, and that nothing outlives its owner.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    broker::{Admit, BanKey, BanScope, Family, Flow, FromBroker, LeaseId, Refusal, ToBroker},
    settings::{Limits, Settings, Transport, ZoneId},
};

use super::{
    Broker, Output, Token,
    fake::{Fake, FakeSocket, World, lab_permissions},
    lease::MAX_TTL_SECONDS,
    permissions::Permissions,
};
use crate::{
    netlink::Element,
    nftables::names::{Set, mark},
};

mod bound;
mod kept;
mod lease;
mod model;
mod socket;

const EXTERNAL: ZoneId = ZoneId(0);
const INTERNAL: ZoneId = ZoneId(1);
const ID: RequestId = RequestId(7);

pub(super) fn settings(revision: u64) -> Box<Settings> {
    let limits = Limits {
        calls: 1000,
        calls_per_source: 10,
        call_rate: 100,
        registrations: 10,
        connections: 10,
        message_octets: 1500,
        media_timeout_seconds: 60,
        call_seconds: 60,
        handshake_seconds: 10,
        idle_connection_seconds: 60,
        session_expires_seconds: 0,
        min_se_seconds: 90,
    };
    Box::new(Settings {
        revision,
        domain: "lab.test".into(),
        zones: Vec::new(),
        listeners: Vec::new(),
        registrar: None,
        trunks: Vec::new(),
        routes: Vec::new(),
        account: broker_proto::settings::Caps::default(),
        policies: Vec::new(),
        limits,
        collector: None,
        name_servers: Vec::new(),
        registration: broker_proto::settings::Registration::default(),
        lab: true,
    })
}

struct House {
    broker: Broker<Fake>,
    world: Rc<World>,
    now: Instant,
    silent: Vec<Role>,
    expelled: Vec<Role>,
    watched: BTreeSet<Token>,
}

impl House {
    /// A broker with the laboratory's configuration and an sbc that has its settings.
    fn new() -> Self {
        Self::with(lab_permissions())
    }

    fn with(permissions: Permissions) -> Self {
        let mut house = Self::closed();
        house.broker.commit(house.now, permissions, settings(1));
        house.attach(Role::Sbc);
        house
    }

    fn closed() -> Self {
        let now = Instant::now();
        let fake = Fake::default();
        let world = Rc::clone(&fake.world);
        Self {
            broker: Broker::new(fake, now, [3; 32]),
            world,
            now,
            silent: Vec::new(),
            expelled: Vec::new(),
            watched: BTreeSet::new(),
        }
    }

    fn attach(&mut self, role: Role) -> Vec<FromBroker> {
        self.broker.attach(self.now, role);
        self.messages()
            .into_iter()
            .map(|(message, _)| message)
            .collect()
    }

    fn pass(&mut self, milliseconds: u64) -> Vec<FromBroker> {
        self.now += Duration::from_millis(milliseconds);
        self.broker.tick(self.now);
        self.messages()
            .into_iter()
            .map(|(message, _)| message)
            .collect()
    }

    fn messages(&mut self) -> Vec<(FromBroker, Vec<Rc<FakeSocket>>)> {
        let mut messages = Vec::new();
        while let Some(output) = self.broker.poll() {
            match output {
                Output::Send {
                    message, sockets, ..
                } => messages.push((message, sockets)),
                Output::Silent(role) => self.silent.push(role),
                Output::Expel(role) => self.expelled.push(role),
                Output::Watch { token, .. } => {
                    self.watched.insert(token);
                }
                Output::Unwatch { .. } | Output::Journal(_) => {}
            }
        }
        messages
    }

    fn ask(&mut self, role: Role, request: ToBroker) -> (FromBroker, Vec<Rc<FakeSocket>>) {
        self.broker.request(self.now, role, &request);
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "one answer to one request: {messages:?}");
        messages.remove(0)
    }

    fn ask_sbc(&mut self, request: ToBroker) -> FromBroker {
        self.ask(Role::Sbc, request).0
    }

    fn open(&mut self, zone: ZoneId, pair: bool, flow: Flow) -> FromBroker {
        self.ask_sbc(ToBroker::OpenMedia {
            id: ID,
            zone,
            family: Family::V4,
            pair,
            flow,
            ttl_seconds: 60,
        })
    }

    fn opened(&mut self, zone: ZoneId, pair: bool, flow: Flow) -> (LeaseId, SocketAddr) {
        match self.open(zone, pair, flow) {
            FromBroker::MediaOpened { lease, rtp, .. } => (lease, rtp),
            other => panic!("{other:?}"),
        }
    }

    fn latch(&mut self, lease: LeaseId, rtp: Flow) -> FromBroker {
        self.ask_sbc(ToBroker::LatchMedia {
            id: ID,
            lease,
            rtp,
            rtcp: Flow::default(),
        })
    }

    fn health(&mut self, sequence: u64) {
        self.broker
            .request(self.now, Role::Sbc, &ToBroker::Health { sequence });
        assert!(self.messages().is_empty());
    }

    fn ban(&mut self, key: &str) -> FromBroker {
        let key = BanKey::Host(key.parse().unwrap());
        let scope = BanScope::Signalling;
        self.ask_sbc(ToBroker::Ban {
            id: ID,
            key,
            scope,
            seconds: 60,
            reason: "scanner".into(),
        })
    }

    fn elements(&self) -> BTreeSet<Element> {
        self.world.elements.borrow().clone()
    }
}

fn peer(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn to(text: &str) -> Flow {
    Flow {
        admit: Admit::Peer(peer(text)),
        send_to: Some(peer(text)),
    }
}

fn host(text: &str) -> Flow {
    Flow {
        admit: Admit::Host(text.parse().unwrap()),
        send_to: None,
    }
}

const fn refused(reason: Refusal) -> FromBroker {
    FromBroker::Refused { id: ID, reason }
}
