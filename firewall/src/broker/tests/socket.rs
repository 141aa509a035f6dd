//! Listeners, the connections that arrive at them, and connections to configured far ends.

use super::*;
use crate::broker::fake::named_permissions;

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
fn a_silent_or_dead_process_has_no_listener_until_it_speaks_or_is_started_again() {
    let mut house = House::new();
    let udp = ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        port: 5060,
    };
    let tcp = ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Tcp,
        port: 5060,
    };
    house.ask(Role::Sbc, udp.clone());
    house.ask(Role::Sbc, tcp);
    house.health(1);
    let watched = house.watched.len();
    assert!(house.world.withheld.borrow().is_empty());
    house.pass(75);
    assert_eq!(house.world.withheld.borrow().len(), 2, "both addresses");
    let tokens: Vec<Token> = house.watched.iter().copied().collect();
    let accepts = |house: &House| {
        tokens
            .iter()
            .any(|token| house.broker.listeners.has(*token))
    };
    assert!(!accepts(&house), "no connection is accepted for it");
    house.health(2);
    assert!(house.world.withheld.borrow().is_empty());
    assert!(
        house.watched.len() > watched,
        "connections are accepted again"
    );
    house.attach(Role::Sbc);
    assert_eq!(house.world.withheld.borrow().len(), 2);
    house.ask(Role::Sbc, udp);
    assert!(house.world.withheld.borrow().is_empty());
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
        30,
        "and neither they nor configured peers are stopped by what others hold"
    );
    house.now += Duration::from_secs(1);
    *house.world.live.borrow_mut() = vec!["198.51.100.66".parse().unwrap(); 21];
    assert_eq!(
        arrive(&mut house, &["198.51.100.30"]),
        0,
        "the limit in all is 20"
    );
    assert_eq!(arrive(&mut house, &["198.51.100.20"]), 1);
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
    house.broker.request(house.now, Role::Sbc, &connect.clone());
    assert!(house.messages().is_empty());
    house
        .broker
        .ready(house.now, *house.watched.last().unwrap());
    assert!(matches!(
        house.messages().remove(0).0,
        FromBroker::Connected { .. }
    ));

    house.broker.request(house.now, Role::Sbc, &connect.clone());
    assert!(house.messages().is_empty());
    house.world.refuse_connect.set(true);
    house
        .broker
        .ready(house.now, *house.watched.last().unwrap());
    assert_eq!(house.messages().remove(0).0, refused(Refusal::PeerRefused));

    house.broker.request(house.now, Role::Sbc, &connect);
    assert!(house.messages().is_empty());
    assert_eq!(house.pass(5000), [refused(Refusal::System)]);
}

#[test]
fn a_question_to_a_name_server_has_a_socket_of_its_own_with_a_mark_of_its_own() {
    let mut house = House::with(named_permissions());
    let connect = |peer_at: &str| ToBroker::Connect {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        peer: peer(peer_at),
    };
    let marks = ["198.51.100.53:53", "198.51.100.77:5060"].map(|far| {
        let (answer, sockets) = house.ask(Role::Sbc, connect(far));
        assert!(matches!(answer, FromBroker::Connected { .. }), "{answer:?}");
        sockets[0].binding.mark
    });
    assert_eq!(marks, [mark::CONNECT_NAMES, mark::CONNECT_SIP]);
    assert_eq!(
        house.ask_sbc(connect("198.51.100.77:53")),
        refused(Refusal::PeerOutsidePolicy)
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
fn the_dhcp_client_gets_its_one_socket_where_it_is_configured_and_nothing_else() {
    let mut permissions = lab_permissions();
    permissions.zones[0].addresses.clear();
    permissions.zones[0].learnt = true;
    permissions
        .listen
        .insert(crate::broker::permissions::ListenPermission {
            role: Role::Dhcp,
            zone: EXTERNAL,
            transport: Transport::Udp,
            port: 68,
        });
    let mut house = House::with(permissions);
    house.attach(Role::Dhcp);
    let listen = |zone, port| ToBroker::Listen {
        id: ID,
        zone,
        transport: Transport::Udp,
        port,
    };
    let (answer, sockets) = house.ask(Role::Dhcp, listen(EXTERNAL, 68));
    let local = vec![peer("0.0.0.0:68")];
    assert_eq!(answer, FromBroker::Listening { id: ID, local });
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].binding.device, "ext0");
    assert_eq!(sockets[0].binding.mark, crate::nftables::names::mark::DHCP);
    for other in [listen(INTERNAL, 68), listen(EXTERNAL, 5060)] {
        assert_eq!(
            house.ask(Role::Dhcp, other).0,
            refused(Refusal::NotConfigured)
        );
    }
    let connect = ToBroker::Connect {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        peer: peer("198.51.100.254:123"),
    };
    assert_eq!(
        house.ask(Role::Dhcp, connect).0,
        refused(Refusal::NotPermitted)
    );
    assert_eq!(
        house.ask_sbc(listen(EXTERNAL, 68)),
        refused(Refusal::NotConfigured)
    );
}

#[test]
fn sockets_come_in_the_order_of_their_addresses_whenever_each_was_learnt() {
    let mut permissions = lab_permissions();
    permissions.zones[0].learnt = true;
    let mut house = House::with(permissions);
    let listen = ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Udp,
        port: 5060,
    };
    for learnt in [&["2001:db8:e::1"][..], &["198.51.100.1", "2001:db8:e::1"]] {
        let learnt: Vec<_> = learnt.iter().map(|host| host.parse().unwrap()).collect();
        *house.world.learnt.borrow_mut() = learnt;
        house.pass(1000);
        let (answer, sockets) = house.ask(Role::Sbc, listen.clone());
        let FromBroker::Listening { local, .. } = answer else {
            panic!("{answer:?}")
        };
        let bound: Vec<_> = sockets.iter().map(|socket| socket.binding.local).collect();
        assert_eq!(bound, local);
    }
}

#[test]
fn without_descriptors_a_listener_rests_and_is_accepted_from_again() {
    let mut house = House::new();
    house.ask_sbc(ToBroker::Listen {
        id: ID,
        zone: EXTERNAL,
        transport: Transport::Tcp,
        port: 5060,
    });
    let token = *house.watched.first().unwrap();
    house
        .world
        .arriving
        .borrow_mut()
        .push_back(peer("198.51.100.9:1234"));
    house.world.no_descriptors.set(true);
    house.broker.ready(house.now, token);
    assert!(house.messages().is_empty());
    house.world.no_descriptors.set(false);
    house.broker.ready(house.now, token);
    assert!(house.messages().is_empty(), "it rests");
    house.pass(100);
    house
        .broker
        .ready(house.now, *house.watched.last().unwrap());
    assert!(matches!(
        house.messages().remove(0).0,
        FromBroker::Accepted { .. }
    ));
}
