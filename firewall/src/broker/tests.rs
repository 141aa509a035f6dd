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
        idle_connection_seconds: 60,
    };
    Box::new(Settings {
        revision,
        domain: "lab.test".into(),
        zones: Vec::new(),
        listeners: Vec::new(),
        registrar: None,
        trunks: Vec::new(),
        routes: Vec::new(),
        limits,
        lab: true,
    })
}

struct House {
    broker: Broker<Fake>,
    world: Rc<World>,
    now: Instant,
    silent: Vec<Role>,
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
                Output::Watch { token, .. } => {
                    self.watched.insert(token);
                }
                Output::Unwatch { .. } | Output::Journal(_) => {}
            }
        }
        messages
    }

    fn ask(&mut self, role: Role, request: ToBroker) -> (FromBroker, Vec<Rc<FakeSocket>>) {
        self.broker.request(self.now, role, request);
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
            .request(self.now, Role::Sbc, ToBroker::Health { sequence });
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

#[test]
fn before_the_first_commit_everything_is_closed() {
    let mut house = House::closed();
    assert!(house.attach(Role::Sbc).is_empty());
    assert_eq!(
        house.open(EXTERNAL, true, Flow::default()),
        refused(Refusal::Closed)
    );
    assert_eq!(house.ban("198.51.100.66"), refused(Refusal::Closed));
    assert!(house.world.bound.borrow().is_empty());
}

#[test]
fn the_first_message_to_the_sbc_is_its_settings_and_each_commit_sends_them_again() {
    let mut house = House::closed();
    house
        .broker
        .commit(house.now, lab_permissions(), settings(1));
    assert_eq!(house.attach(Role::Sbc), [FromBroker::Settings(settings(1))]);
    assert_eq!(house.attach(Role::Time), []);
    house
        .broker
        .commit(house.now, lab_permissions(), settings(2));
    let messages: Vec<_> = house
        .messages()
        .into_iter()
        .map(|(message, _)| message)
        .collect();
    assert_eq!(messages, [FromBroker::Settings(settings(2))]);
}

#[test]
fn a_pair_is_an_even_port_and_the_next_bound_with_the_media_mark_to_the_zones_device() {
    let mut house = House::new();
    let request = ToBroker::OpenMedia {
        id: ID,
        zone: EXTERNAL,
        family: Family::V6,
        pair: true,
        flow: Flow::default(),
        ttl_seconds: 60,
    };
    let (message, sockets) = house.ask(Role::Sbc, request);
    let FromBroker::MediaOpened {
        rtp,
        rtcp: Some(rtcp),
        ttl_seconds: 60,
        ..
    } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!((rtp.port() % 2, rtcp.port()), (0, rtp.port() + 1));
    assert_eq!(
        rtp.ip(),
        "2001:db8:e::1".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(
        sockets
            .iter()
            .map(|socket| socket.binding.local)
            .collect::<Vec<_>>(),
        [rtp, rtcp]
    );
    assert!(
        sockets
            .iter()
            .all(|socket| socket.binding.mark == mark::MEDIA && socket.binding.device == "ext0")
    );
    assert!(
        house.elements().is_empty(),
        "nobody is admitted, so nothing is open"
    );
}

#[test]
fn a_pinhole_is_as_narrow_as_the_flow_says() {
    let mut house = House::new();
    let (lease, rtp) = house.opened(EXTERNAL, false, host("198.51.100.10"));
    let at = |set| Element::new(set, rtp.ip()).port(rtp.port());
    let alice = peer("198.51.100.10:4000");
    assert_eq!(
        house.elements(),
        [at(Set::MediaHost).address(alice.ip())].into()
    );
    assert_eq!(
        house.latch(lease, to("198.51.100.10:4000")),
        FromBroker::Done { id: ID }
    );
    let exact = |set| at(set).address(alice.ip()).port(alice.port());
    assert_eq!(
        house.elements(),
        [exact(Set::MediaPeer), exact(Set::MediaOut)].into()
    );
    assert_eq!(
        house.latch(lease, Flow::default()),
        FromBroker::Done { id: ID }
    );
    assert!(house.elements().is_empty());
}

#[test]
fn a_latch_is_one_transaction() {
    let mut house = House::new();
    let (lease, _) = house.opened(EXTERNAL, false, host("198.51.100.10"));
    let before = house.world.changes.get();
    house.latch(lease, to("198.51.100.10:4000"));
    assert_eq!(house.world.changes.get(), before + 1);
}

#[test]
fn a_socket_is_connected_only_to_a_peer_of_both_directions() {
    let mut house = House::new();
    let (lease, rtp) = house.opened(EXTERNAL, false, host("198.51.100.10"));
    let alice = peer("198.51.100.10:4000");
    house.latch(
        lease,
        Flow {
            admit: Admit::Peer(alice),
            send_to: Some(peer("198.51.100.10:4002")),
        },
    );
    assert!(house.world.aimed.borrow().is_empty());
    house.latch(lease, to("198.51.100.10:4000"));
    house.latch(lease, host("198.51.100.10"));
    assert_eq!(
        *house.world.aimed.borrow(),
        [(rtp, Some(alice)), (rtp, None)]
    );
}

#[test]
fn a_peer_outside_the_policy_is_refused_and_changes_nothing() {
    let mut house = House::new();
    assert_eq!(
        house.open(INTERNAL, true, to("198.51.100.10:4000")),
        refused(Refusal::PeerOutsidePolicy)
    );
    let (lease, _) = house.opened(EXTERNAL, true, host("198.51.100.10"));
    let before = house.elements();
    for bad in [
        "198.51.100.10:1023",
        "192.0.2.10:4000",
        "203.0.113.10:8443",
        "198.51.100.1:5060",
    ] {
        assert_eq!(
            house.latch(lease, to(bad)),
            refused(Refusal::PeerOutsidePolicy),
            "{bad}"
        );
    }
    assert_eq!(house.elements(), before);
}

#[test]
fn a_bad_rtcp_flow_of_a_pair_is_refused_and_of_a_single_socket_ignored() {
    let mut house = House::new();
    let bad = to("192.0.2.10:4000");
    for (pair, answer) in [
        (true, refused(Refusal::PeerOutsidePolicy)),
        (false, FromBroker::Done { id: ID }),
    ] {
        let (lease, _) = house.opened(EXTERNAL, pair, Flow::default());
        let latch = ToBroker::LatchMedia {
            id: ID,
            lease,
            rtp: to("198.51.100.10:4000"),
            rtcp: bad,
        };
        assert_eq!(house.ask_sbc(latch), answer);
    }
}

#[test]
fn an_unknown_lease_is_refused() {
    let mut house = House::new();
    let (lease, _) = house.opened(EXTERNAL, true, Flow::default());
    let other = LeaseId(lease.0 + 1);
    assert_eq!(
        house.latch(other, Flow::default()),
        refused(Refusal::UnknownLease)
    );
    assert_eq!(
        house.ask_sbc(ToBroker::CloseMedia {
            id: ID,
            lease: other
        }),
        refused(Refusal::UnknownLease)
    );
    let renew = ToBroker::RenewMedia {
        id: ID,
        lease: other,
        ttl_seconds: 1,
    };
    assert_eq!(house.ask_sbc(renew), refused(Refusal::UnknownLease));
}

#[test]
fn close_takes_the_pinhole_away_before_the_answer_and_shuts_the_socket() {
    let mut house = House::new();
    let (lease, rtp) = house.opened(EXTERNAL, false, to("198.51.100.10:4000"));
    assert_eq!(house.elements().len(), 2);
    house
        .broker
        .request(house.now, Role::Sbc, ToBroker::CloseMedia { id: ID, lease });
    assert!(house.elements().is_empty());
    assert!(house.world.shut.borrow().contains(&rtp));
    assert_eq!(house.messages().remove(0).0, FromBroker::Done { id: ID });
    assert!(
        house.world.bound.borrow().is_empty(),
        "the port is free again"
    );
    assert_eq!(
        house.ask_sbc(ToBroker::CloseMedia { id: ID, lease }),
        refused(Refusal::UnknownLease)
    );
}

#[test]
fn a_lease_ends_by_itself_unless_renewed() {
    let mut house = House::new();
    let (lease, _) = house.opened(EXTERNAL, false, to("198.51.100.10:4000"));
    assert_eq!(house.pass(59_000), []);
    assert_eq!(
        house.ask_sbc(ToBroker::RenewMedia {
            id: ID,
            lease,
            ttl_seconds: 30
        }),
        FromBroker::Done { id: ID }
    );
    assert_eq!(house.pass(29_999), []);
    assert_eq!(house.elements().len(), 2);
    assert_eq!(house.pass(1), [FromBroker::LeaseEnded { lease }]);
    assert!(house.elements().is_empty());
    assert_eq!(house.broker.deadline(), None);
}

#[test]
fn times_to_live_are_capped_and_never_zero() {
    let mut house = House::new();
    let open = |ttl_seconds| ToBroker::OpenMedia {
        id: ID,
        zone: EXTERNAL,
        family: Family::V4,
        pair: false,
        flow: Flow::default(),
        ttl_seconds,
    };
    assert_eq!(house.ask_sbc(open(0)), refused(Refusal::OutOfRange));
    let answer = house.ask_sbc(open(u32::MAX));
    assert!(
        matches!(
            answer,
            FromBroker::MediaOpened {
                ttl_seconds: MAX_TTL_SECONDS,
                ..
            }
        ),
        "{answer:?}"
    );
}

#[test]
fn the_death_of_the_sbc_ends_all_leases_in_one_transaction() {
    let mut house = House::new();
    for _ in 0..100 {
        house.opened(EXTERNAL, true, to("198.51.100.10:4000"));
    }
    assert_eq!(house.elements().len(), 300);
    let before = house.world.changes.get();
    house.broker.detach(house.now, Role::Sbc);
    assert_eq!(house.world.changes.get(), before + 1);
    assert!(house.elements().is_empty());
    assert!(house.messages().is_empty());
    assert!(house.world.bound.borrow().is_empty());
}

#[test]
fn a_new_sbc_does_not_inherit_the_leases_of_the_old() {
    let mut house = House::new();
    let (lease, _) = house.opened(EXTERNAL, true, to("198.51.100.10:4000"));
    house.attach(Role::Sbc);
    assert!(house.elements().is_empty());
    assert_eq!(
        house.latch(lease, Flow::default()),
        refused(Refusal::UnknownLease)
    );
}

#[test]
fn silence_closes_pinholes_health_opens_them_again_and_long_silence_kills() {
    let mut house = House::new();
    house.opened(EXTERNAL, false, to("198.51.100.10:4000"));
    house.pass(60_000 - 1000);
    assert_eq!(
        house.elements().len(),
        2,
        "nothing is demanded before the first Health"
    );
    house.health(1);
    house.pass(74);
    assert_eq!(house.elements().len(), 2);
    house.pass(1);
    assert!(house.elements().is_empty());
    let during = house.opened(EXTERNAL, false, to("198.51.100.11:4000"));
    assert!(
        house.elements().is_empty(),
        "a silent process opens nothing"
    );
    house.health(2);
    assert_eq!(house.elements().len(), 4);
    house.ask_sbc(ToBroker::CloseMedia {
        id: ID,
        lease: during.0,
    });
    assert_eq!(house.elements().len(), 2);
    house.pass(75);
    house.pass(424);
    assert_eq!(house.silent, []);
    house.pass(1);
    assert_eq!(house.silent, [Role::Sbc]);
    house.health(3);
    assert!(house.elements().is_empty());
}

#[test]
fn a_role_gets_only_its_own_kinds_of_request() {
    let mut house = House::new();
    for role in [Role::Management, Role::Time, Role::Console] {
        house.attach(role);
        let open = ToBroker::OpenMedia {
            id: ID,
            zone: EXTERNAL,
            family: Family::V4,
            pair: true,
            flow: Flow::default(),
            ttl_seconds: 9,
        };
        assert_eq!(
            house.ask(role, open).0,
            refused(Refusal::NotPermitted),
            "{role}"
        );
        let ban = ToBroker::Ban {
            id: ID,
            key: BanKey::Host("198.51.100.66".parse().unwrap()),
            scope: BanScope::All,
            seconds: 1,
            reason: String::new(),
        };
        assert_eq!(
            house.ask(role, ban).0,
            refused(Refusal::NotPermitted),
            "{role}"
        );
    }
    let listen = ToBroker::Listen {
        id: ID,
        zone: ZoneId(2),
        transport: Transport::Tls,
        port: 8443,
    };
    assert_eq!(
        house.ask(Role::Time, listen.clone()).0,
        refused(Refusal::NotPermitted)
    );
    assert_eq!(
        house.ask(Role::Sbc, listen.clone()).0,
        refused(Refusal::NotConfigured),
        "management's own"
    );
    assert!(matches!(
        house.ask(Role::Management, listen).0,
        FromBroker::Listening { .. }
    ));
}

#[test]
fn a_udp_listener_is_lent_with_one_socket_per_address_and_the_same_ones_again() {
    let mut house = House::new();
    let listen = ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        port: 5060,
    };
    let (message, sockets) = house.ask(Role::Sbc, listen.clone());
    let local = vec![peer("198.51.100.1:5060"), peer("[2001:db8:e::1]:5060")];
    assert_eq!(
        message,
        FromBroker::Listening {
            id: ID,
            local: local.clone()
        }
    );
    assert_eq!(
        sockets
            .iter()
            .map(|socket| socket.binding.local)
            .collect::<Vec<_>>(),
        local
    );
    house.attach(Role::Sbc);
    let (_, again) = house.ask(Role::Sbc, listen);
    assert!(
        sockets
            .iter()
            .zip(&again)
            .all(|(one, other)| Rc::ptr_eq(one, other))
    );
}

#[test]
fn a_listener_that_is_not_configured_is_refused() {
    let mut house = House::new();
    let ask = |zone, transport, port| ToBroker::Listen {
        id: ID,
        zone,
        transport,
        port,
    };
    for listen in [
        ask(EXTERNAL, Transport::Udp, 5061),
        ask(INTERNAL, Transport::Tcp, 5060),
        ask(ZoneId(9), Transport::Udp, 5060),
        ask(EXTERNAL, Transport::Tls, 5060),
    ] {
        assert_eq!(house.ask_sbc(listen), refused(Refusal::NotConfigured));
    }
}

#[test]
fn connections_are_handed_over_until_a_source_or_the_listener_is_full() {
    let mut house = House::new();
    house.ask_sbc(ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Tcp,
        port: 5060,
    });
    let token = *house.watched.first().unwrap();
    let arrive = |house: &mut House, sources: &[&str]| {
        house
            .world
            .arriving
            .borrow_mut()
            .extend(sources.iter().map(|source| peer(&format!("{source}:1234"))));
        house.broker.ready(house.now, token);
        house.messages().len()
    };
    // The sixth is held while the kernel is asked.
    *house.world.live.borrow_mut() = vec!["198.51.100.66".parse().unwrap(); 6];
    assert_eq!(
        arrive(&mut house, &["198.51.100.66"; 8]),
        5,
        "the limit per source"
    );
    assert_eq!(
        arrive(&mut house, &["198.51.100.20"; 8]),
        8,
        "sources of the allow-list are not counted alone"
    );
    // The kernel was asked once, and says now that all but two are gone.
    *house.world.live.borrow_mut() = vec!["198.51.100.66".parse().unwrap(); 3];
    house.now += Duration::from_secs(1);
    assert_eq!(arrive(&mut house, &["198.51.100.66"; 8]), 3);
    assert_eq!(
        arrive(&mut house, &["198.51.100.20"; 30]),
        15,
        "the limit in all is 20"
    );
}

#[test]
fn a_banned_source_is_not_handed_over() {
    let mut house = House::new();
    house.ask_sbc(ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Tcp,
        port: 5060,
    });
    let token = *house.watched.first().unwrap();
    assert_eq!(house.ban("198.51.100.66"), FromBroker::Done { id: ID });
    house
        .world
        .arriving
        .borrow_mut()
        .push_back(peer("198.51.100.66:1234"));
    house.broker.ready(house.now, token);
    assert!(house.messages().is_empty());
}

#[test]
fn only_configured_far_ends_are_connected_to_and_only_by_their_role() {
    let mut house = House::new();
    house.attach(Role::Time);
    let connect = |zone, transport, far: &str| ToBroker::Connect {
        id: ID,
        zone,
        transport,
        peer: peer(far),
    };
    let trunk = connect(EXTERNAL, Transport::Udp, "198.51.100.20:5060");
    let ntp = connect(EXTERNAL, Transport::Udp, "198.51.100.254:123");
    let (answer, sockets) = house.ask(Role::Sbc, trunk.clone());
    assert!(matches!(answer, FromBroker::Connected { .. }));
    assert_eq!(sockets[0].binding.mark, mark::CONNECT_SIP);
    let (answer, sockets) = house.ask(Role::Time, ntp.clone());
    assert!(matches!(answer, FromBroker::Connected { .. }));
    assert_eq!(sockets[0].binding.mark, mark::CONNECT_TIME);
    assert_eq!(
        house.ask(Role::Time, trunk).0,
        refused(Refusal::NotConfigured)
    );
    assert_eq!(house.ask(Role::Sbc, ntp).0, refused(Refusal::NotConfigured));
    let elsewhere = connect(EXTERNAL, Transport::Udp, "198.51.100.20:5061");
    assert_eq!(house.ask_sbc(elsewhere), refused(Refusal::NotConfigured));
}

#[test]
fn a_tcp_connection_is_lent_when_it_stands_and_refused_when_it_fails_or_takes_too_long() {
    let mut house = House::new();
    let connect = ToBroker::Connect {
        id: ID,
        zone: INTERNAL,
        transport: Transport::Tcp,
        peer: peer("192.0.2.10:5060"),
    };
    house.broker.request(house.now, Role::Sbc, connect.clone());
    assert!(house.messages().is_empty());
    house
        .broker
        .ready(house.now, *house.watched.last().unwrap());
    assert!(matches!(
        house.messages().remove(0).0,
        FromBroker::Connected { .. }
    ));

    house.broker.request(house.now, Role::Sbc, connect.clone());
    assert!(house.messages().is_empty());
    house.world.refuse_connect.set(true);
    house
        .broker
        .ready(house.now, *house.watched.last().unwrap());
    assert_eq!(house.messages().remove(0).0, refused(Refusal::System));

    house.broker.request(house.now, Role::Sbc, connect);
    assert!(house.messages().is_empty());
    assert_eq!(house.pass(5000), [refused(Refusal::System)]);
}

#[test]
fn the_rate_of_each_kind_is_bounded_apart() {
    let mut house = House::new();
    let granted = (0..3000)
        .filter(|_| house.ban("198.51.100.66") == FromBroker::Done { id: ID })
        .count();
    assert_eq!(granted, 500);
    assert!(matches!(
        house.open(EXTERNAL, true, Flow::default()),
        FromBroker::MediaOpened { .. }
    ));
    house.now += Duration::from_secs(1);
    let granted = (0..3000)
        .filter(|_| house.ban("198.51.100.66") == FromBroker::Done { id: ID })
        .count();
    assert_eq!(granted, 100);
}

#[test]
fn one_lease_can_not_be_changed_without_end() {
    let mut house = House::new();
    let (lease, _) = house.opened(EXTERNAL, false, Flow::default());
    let done = (0..100)
        .filter(|_| house.latch(lease, host("198.51.100.10")) == FromBroker::Done { id: ID })
        .count();
    assert_eq!(done, 20);
}

#[test]
fn the_quota_of_leases_holds() {
    let mut permissions = lab_permissions();
    permissions.bounds.calls = 10;
    let mut house = House::with(permissions);
    let opened = (0..400)
        .filter(|_| {
            matches!(
                house.open(EXTERNAL, true, Flow::default()),
                FromBroker::MediaOpened { .. }
            )
        })
        .count();
    assert_eq!(opened, 10 * 6 + 16);
    assert_eq!(
        house.open(EXTERNAL, true, Flow::default()),
        refused(Refusal::Quota)
    );
}

#[test]
fn the_quota_of_media_sockets_holds() {
    let mut permissions = lab_permissions();
    permissions.bounds.media_sockets = 5;
    let mut house = House::with(permissions);
    house.opened(EXTERNAL, true, Flow::default());
    house.opened(EXTERNAL, true, Flow::default());
    assert_eq!(
        house.open(EXTERNAL, true, Flow::default()),
        refused(Refusal::Quota)
    );
    house.opened(EXTERNAL, false, Flow::default());
    assert_eq!(
        house.open(EXTERNAL, false, Flow::default()),
        refused(Refusal::Quota)
    );
}

#[test]
fn when_no_port_is_left_the_request_is_refused() {
    let mut permissions = lab_permissions();
    permissions.zones[0].media.as_mut().unwrap().ports = (20_001, 20_010);
    let mut house = House::with(permissions);
    house.world.foreign_ports.borrow_mut().insert(20_004);
    let mut pairs = BTreeSet::new();
    for _ in 0..3 {
        let (_, rtp) = house.opened(EXTERNAL, true, Flow::default());
        pairs.insert(rtp.port());
    }
    assert_eq!(pairs, [20_002, 20_006, 20_008].into());
    assert_eq!(
        house.open(EXTERNAL, true, Flow::default()),
        refused(Refusal::PortsExhausted)
    );
    let (_, single) = house.opened(EXTERNAL, false, Flow::default());
    assert!([20_001, 20_005, 20_010].contains(&single.port()));
}

/// 8,192 pairs, 10,000 draws: the statistic is near 8,191 with a standard deviation of 128; six of them are allowed.
#[test]
fn media_ports_are_drawn_uniformly_and_never_in_sequence() {
    let mut house = House::new();
    let mut counts = BTreeMap::<u16, u32>::new();
    let mut in_sequence = 0;
    let mut last = 0;
    for _ in 0..10_000 {
        house.now += Duration::from_millis(10);
        let (lease, rtp) = house.opened(EXTERNAL, true, Flow::default());
        house.ask_sbc(ToBroker::CloseMedia { id: ID, lease });
        *counts.entry(rtp.port()).or_default() += 1;
        in_sequence += u32::from(rtp.port() == last + 2);
        last = rtp.port();
    }
    let cells = 8192.0;
    let expected = 10_000.0 / cells;
    let met: f64 = counts
        .values()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    let unmet = (cells - counts.len() as f64) * expected;
    let chi_square = met + unmet;
    assert!(
        (chi_square - 8191.0).abs() < 6.0 * 128.0,
        "chi-square {chi_square:.0} at 8191 degrees of freedom"
    );
    assert!(
        in_sequence < 10,
        "{in_sequence} successors of 10,000 (1.2 expected)"
    );
}

#[test]
fn a_failed_change_grants_nothing() {
    let mut house = House::new();
    house.world.fail_changes.set(true);
    assert_eq!(
        house.open(EXTERNAL, false, to("198.51.100.10:4000")),
        refused(Refusal::System)
    );
    assert_eq!(house.ban("198.51.100.66"), refused(Refusal::System));
    assert!(house.world.bound.borrow().is_empty());
    assert_eq!(house.broker.bans(house.now, 0).0.len(), 0);
}

#[test]
fn elements_that_the_kernel_would_not_take_out_are_tried_again() {
    let mut house = House::new();
    let (lease, rtp) = house.opened(EXTERNAL, false, to("198.51.100.10:4000"));
    house.world.fail_changes.set(true);
    house.ask_sbc(ToBroker::CloseMedia { id: ID, lease });
    assert!(
        house.world.shut.borrow().contains(&rtp),
        "the socket is shut in any case"
    );
    house.pass(20);
    assert_eq!(house.elements().len(), 2);
    house.world.fail_changes.set(false);
    house.pass(20);
    assert!(house.elements().is_empty());
    assert_eq!(house.broker.deadline(), None);
}

#[test]
fn a_commit_keeps_leases_and_bans_that_it_allows_and_ends_the_others() {
    let mut house = House::new();
    let (kept, _) = house.opened(INTERNAL, false, to("192.0.2.10:4000"));
    let (ended, _) = house.opened(EXTERNAL, false, to("198.51.100.10:4000"));
    house.ban("198.51.100.66");
    house.ban("198.51.100.67");
    let mut permissions = lab_permissions();
    permissions.zones[0].media.as_mut().unwrap().networks = vec!["198.18.0.0/16".parse().unwrap()];
    permissions
        .allow_list
        .push("198.51.100.67/32".parse().unwrap());
    house.broker.commit(house.now, permissions, settings(2));
    let messages: Vec<_> = house
        .messages()
        .into_iter()
        .map(|(message, _)| message)
        .collect();
    assert!(messages.contains(&FromBroker::LeaseEnded { lease: ended }));
    assert_eq!(
        house.latch(kept, to("192.0.2.11:4000")),
        FromBroker::Done { id: ID }
    );
    let bans = house.broker.bans(house.now, 0).0;
    assert_eq!(
        bans.iter().map(|ban| ban.key.as_str()).collect::<Vec<_>>(),
        ["198.51.100.66"]
    );
}

#[test]
fn a_commit_closes_listeners_that_it_does_not_have() {
    let mut house = House::new();
    house.ask_sbc(ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        port: 5060,
    });
    house.ask_sbc(ToBroker::Listen {
        id: ID,
        zone: INTERNAL,
        transport: Transport::Udp,
        port: 5060,
    });
    let mut permissions = lab_permissions();
    permissions.listen.retain(|listen| listen.zone != EXTERNAL);
    house.broker.commit(house.now, permissions, settings(2));
    let shut: Vec<_> = house.world.shut.borrow().iter().copied().collect();
    assert_eq!(
        shut,
        [peer("198.51.100.1:5060"), peer("[2001:db8:e::1]:5060")]
    );
}

#[test]
fn a_zone_that_learns_its_addresses_is_told_of_them() {
    let mut permissions = lab_permissions();
    permissions.zones[0].addresses.clear();
    permissions.zones[0].learnt = true;
    let mut house = House::with(permissions);
    let listen = ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        port: 5060,
    };
    assert_eq!(
        house.ask_sbc(listen.clone()),
        refused(Refusal::NotConfigured)
    );
    *house.world.learnt.borrow_mut() = vec!["198.51.100.1".parse().unwrap()];
    assert_eq!(house.pass(1000), [FromBroker::Settings(settings(1))]);
    let local = vec![peer("198.51.100.1:5060")];
    assert_eq!(
        house.ask_sbc(listen),
        FromBroker::Listening { id: ID, local }
    );
    let (lease, _) = house.opened(EXTERNAL, false, Flow::default());
    assert_eq!(house.pass(1000), []);
    *house.world.learnt.borrow_mut() = vec!["198.51.100.2".parse().unwrap()];
    assert_eq!(
        house.pass(1000),
        [
            FromBroker::LeaseEnded { lease },
            FromBroker::Settings(settings(1))
        ]
    );
}

#[test]
fn bans_can_be_lifted_and_reset() {
    let mut house = House::new();
    house.ban("198.51.100.66");
    house.ban("198.51.100.67");
    assert_eq!(house.elements().len(), 2);
    assert!(house.broker.unban(house.now, "198.51.100.66"));
    assert!(!house.broker.unban(house.now, "198.51.100.66"));
    assert_eq!(house.elements().len(), 1);
    house.broker.reset(house.now);
    assert!(house.elements().is_empty());
    assert_eq!(house.broker.bans(house.now, 0), (Vec::new(), false));
}

mod model {
    //! Random lives of an sbc: whatever it does, no lease outlives its owner or its time, and the kernel holds exactly
    //! the elements of the leases that live.

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Open { pair: bool, flow: u8, ttl: u8 },
        Latch { lease: usize, flow: u8 },
        Renew { lease: usize, ttl: u8 },
        Close { lease: usize },
        Pass { ms: u16 },
        Health,
        Die,
        FailNext(bool),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (any::<bool>(), 0_u8..4, 1_u8..5).prop_map(|(pair, flow, ttl)| Act::Open { pair, flow, ttl }),
            3 => (any::<usize>(), 0_u8..4).prop_map(|(lease, flow)| Act::Latch { lease, flow }),
            1 => (any::<usize>(), 1_u8..5).prop_map(|(lease, ttl)| Act::Renew { lease, ttl }),
            2 => any::<usize>().prop_map(|lease| Act::Close { lease }),
            3 => (0_u16..3000).prop_map(|ms| Act::Pass { ms }),
            2 => Just(Act::Health),
            1 => Just(Act::Die),
            1 => any::<bool>().prop_map(Act::FailNext),
        ]
    }

    fn flow(number: u8) -> Flow {
        match number {
            0 => Flow::default(),
            1 => host("198.51.100.10"),
            2 => to("198.51.100.10:4000"),
            _ => Flow {
                admit: Admit::MediaNetworks,
                send_to: Some(peer("198.18.0.9:4000")),
            },
        }
    }

    fn arbitrary_address() -> impl Strategy<Value = std::net::IpAddr> {
        prop_oneof![
            any::<std::net::Ipv4Addr>().prop_map(Into::into),
            any::<std::net::Ipv6Addr>().prop_map(Into::into),
            (0_u8..5, 0_u8..=255).prop_map(|(net, host)| {
                let nets = [
                    [198, 51, 100],
                    [192, 0, 2],
                    [203, 0, 113],
                    [127, 0, 0],
                    [198, 18, 0],
                ];
                let [a, b, c] = nets[usize::from(net)];
                std::net::Ipv4Addr::new(a, b, c, host).into()
            }),
        ]
    }

    fn arbitrary_peer() -> impl Strategy<Value = SocketAddr> {
        (arbitrary_address(), prop_oneof![0_u16..2000, any::<u16>()])
            .prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    fn arbitrary_flow() -> impl Strategy<Value = Flow> {
        let admit = prop_oneof![
            Just(Admit::Nobody),
            Just(Admit::MediaNetworks),
            arbitrary_address().prop_map(Admit::Host),
            arbitrary_peer().prop_map(Admit::Peer),
        ];
        (admit, proptest::option::of(arbitrary_peer()))
            .prop_map(|(admit, send_to)| Flow { admit, send_to })
    }

    fn arbitrary_request() -> impl Strategy<Value = ToBroker> {
        let zone = || (0_u8..5).prop_map(ZoneId);
        let transport = || {
            prop_oneof![
                Just(Transport::Udp),
                Just(Transport::Tcp),
                Just(Transport::Tls)
            ]
        };
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        let key = prop_oneof![
            arbitrary_address().prop_map(BanKey::Host),
            arbitrary_peer().prop_map(BanKey::Flow)
        ];
        let scope = prop_oneof![Just(BanScope::All), Just(BanScope::Signalling)];
        let port = prop_oneof![Just(5060_u16), any::<u16>()];
        prop_oneof![
            (zone(), transport(), port).prop_map(|(zone, transport, port)| ToBroker::Listen {
                id: ID,
                zone,
                transport,
                port
            }),
            (
                zone(),
                family,
                any::<bool>(),
                arbitrary_flow(),
                any::<u32>()
            )
                .prop_map(|(zone, family, pair, flow, ttl_seconds)| {
                    ToBroker::OpenMedia {
                        id: ID,
                        zone,
                        family,
                        pair,
                        flow,
                        ttl_seconds,
                    }
                }),
            (any::<u64>(), arbitrary_flow(), arbitrary_flow()).prop_map(|(lease, rtp, rtcp)| {
                ToBroker::LatchMedia {
                    id: ID,
                    lease: LeaseId(lease),
                    rtp,
                    rtcp,
                }
            }),
            (any::<u64>(), any::<u32>()).prop_map(|(lease, ttl_seconds)| {
                ToBroker::RenewMedia {
                    id: ID,
                    lease: LeaseId(lease),
                    ttl_seconds,
                }
            }),
            any::<u64>().prop_map(|lease| ToBroker::CloseMedia {
                id: ID,
                lease: LeaseId(lease)
            }),
            (zone(), transport(), arbitrary_peer()).prop_map(|(zone, transport, peer)| {
                ToBroker::Connect {
                    id: ID,
                    zone,
                    transport,
                    peer,
                }
            }),
            (key, scope, any::<u32>(), any::<String>()).prop_map(
                |(key, scope, seconds, reason)| {
                    ToBroker::Ban {
                        id: ID,
                        key,
                        scope,
                        seconds,
                        reason,
                    }
                }
            ),
            any::<u64>().prop_map(|sequence| ToBroker::Health { sequence }),
        ]
    }

    /// Whether a media element lets in, or out to, somebody that no policy could allow.
    fn is_outrageous(element: &Element) -> bool {
        let key = element.key();
        let peer = match (element.set, key.len()) {
            (Set::MediaHost, 12) | (Set::MediaPeer | Set::MediaOut, 16) => &key[8..12],
            _ => return false,
        };
        let port = key
            .get(12..14)
            .map_or(u16::MAX, |port| u16::from_be_bytes([port[0], port[1]]));
        let management = peer.starts_with(&[203, 0, 113]);
        let own = [[198, 51, 100, 1], [192, 0, 2, 1]]
            .iter()
            .any(|own| peer == own);
        management || own || peer[0] == 127 || port < 1024
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn whatever_a_process_asks_it_gets_one_answer_and_never_what_no_policy_allows(
            requests in proptest::collection::vec((0_usize..8, arbitrary_request()), 1..60),
        ) {
            let mut house = House::new();
            house.attach(Role::Management);
            house.attach(Role::Time);
            for (role, request) in requests {
                let role = Role::ALL[role];
                let answered = !matches!(request, ToBroker::Health { .. } | ToBroker::Connect { .. });
                house.broker.request(house.now, role, request);
                let answers = house.messages().len();
                prop_assert!(answers <= 1 && (answers == 1 || !answered));
                prop_assert!(!house.elements().iter().any(is_outrageous), "{:?}", house.elements());
            }
        }

        #[test]
        fn no_lease_outlives_owner_or_time(acts in proptest::collection::vec(act(), 1..80)) {
            let mut house = House::new();
            let mut known: Vec<LeaseId> = Vec::new();
            let pick = |known: &[LeaseId], n: usize| {
                known.get(n % known.len().max(1)).copied().unwrap_or(LeaseId(1))
            };
            for act in acts {
                match act {
                    Act::Open { pair, flow: n, ttl } => {
                        let ttl_seconds = u32::from(ttl);
                        let open = ToBroker::OpenMedia {
                            id: ID, zone: EXTERNAL, family: Family::V4, pair, flow: flow(n), ttl_seconds,
                        };
                        if let FromBroker::MediaOpened { lease, .. } = house.ask_sbc(open) {
                            prop_assert!(!known.contains(&lease), "a name is never used twice");
                            known.push(lease);
                        }
                    }
                    Act::Latch { lease, flow: n } => {
                        house.latch(pick(&known, lease), flow(n));
                    }
                    Act::Renew { lease, ttl } => {
                        let lease = pick(&known, lease);
                        house.ask_sbc(ToBroker::RenewMedia { id: ID, lease, ttl_seconds: u32::from(ttl) });
                    }
                    Act::Close { lease } => {
                        house.ask_sbc(ToBroker::CloseMedia { id: ID, lease: pick(&known, lease) });
                    }
                    Act::Pass { ms } => {
                        house.pass(u64::from(ms));
                    }
                    Act::Health => house.health(0),
                    Act::Die => {
                        house.attach(Role::Sbc);
                        if !house.world.fail_changes.get() {
                            prop_assert!(house.elements().is_empty());
                        }
                        prop_assert!(house.world.bound.borrow().is_empty());
                    }
                    Act::FailNext(fail) => house.world.fail_changes.set(fail),
                }
            }
            // At rest: everything ends by time alone, also what could not be taken out before.
            house.world.fail_changes.set(false);
            house.pass(6_000);
            house.pass(100);
            prop_assert!(house.elements().is_empty(), "{:?}", house.elements());
            prop_assert!(house.world.bound.borrow().is_empty());
        }
    }
}
