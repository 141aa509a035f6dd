//! What a captured sbc can not do: roles, rates, quotas, bans, and faults of the kernel in between.

use super::*;

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
fn without_a_configuration_everything_is_closed_again() {
    let mut house = House::new();
    let (lease, _) = house.opened(EXTERNAL, false, to("198.51.100.10:4000"));
    house.broker.close(house.now);
    let messages: Vec<_> = house
        .messages()
        .into_iter()
        .map(|(message, _)| message)
        .collect();
    assert_eq!(messages, [FromBroker::LeaseEnded { lease }]);
    assert!(house.elements().is_empty());
    assert_eq!(
        house.open(EXTERNAL, false, Flow::default()),
        refused(Refusal::Closed)
    );
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
fn who_asks_more_than_all_its_rates_together_is_expelled() {
    let mut house = House::new();
    let request = ToBroker::CloseMedia {
        id: ID,
        lease: LeaseId(1),
    };
    let asked = (0..1_000_000).find(|_| {
        house.broker.request(house.now, Role::Sbc, &request);
        house.messages();
        !house.expelled.is_empty()
    });
    // Bursts of all kinds at 100 calls a second and 1,000 calls.
    assert_eq!(
        asked,
        Some(64 + 800 + 3200 + 8000 + 8000 + 8000 + 64 + 500 + 200 + 51 + 400)
    );
    assert_eq!(house.expelled, [Role::Sbc]);
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
