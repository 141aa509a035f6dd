//! Leases: pinholes as narrow as they are named, and none that outlives its owner, its time or its permission.

use super::*;
use crate::broker::kernel::Binding;

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
    house.broker.request(
        house.now,
        Role::Sbc,
        &ToBroker::CloseMedia { id: ID, lease },
    );
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

/// Lends what an earlier firewall would have, and offers it.
fn adopt(house: &mut House, lease: u64, bindings: &[Binding], flow: Flow) -> FromBroker {
    let fake = Fake {
        world: Rc::clone(&house.world),
    };
    let sockets = bindings.iter().map(|binding| fake.make(binding)).collect();
    let request = ToBroker::AdoptMedia {
        id: ID,
        lease: LeaseId(lease),
        zone: EXTERNAL,
        rtp: flow,
        rtcp: Flow::default(),
        ttl_seconds: 60,
    };
    house
        .broker
        .request_with(house.now, Role::Sbc, &request, sockets);
    let mut messages = house.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0).0
}

fn media(local: &str) -> Binding {
    Binding {
        device: "ext0".into(),
        local: local.parse().unwrap(),
        mark: mark::MEDIA,
        receive_buffer: 0,
    }
}

#[test]
fn media_sockets_of_an_earlier_life_are_taken_back_with_their_pinhole() {
    let mut house = House::new();
    let alice = to("198.51.100.10:4000");
    let pair = [media("198.51.100.1:20000"), media("198.51.100.1:20001")];
    let done = FromBroker::Done { id: ID };
    assert_eq!(adopt(&mut house, 77, &pair, alice), done);
    let rtp = peer("198.51.100.1:20000");
    let at = |set| {
        let there = peer("198.51.100.10:4000");
        Element::new(set, rtp.ip())
            .port(rtp.port())
            .address(there.ip())
            .port(there.port())
    };
    assert_eq!(
        house.elements(),
        [at(Set::MediaPeer), at(Set::MediaOut)].into()
    );
    // From now on it is a lease like any other.
    assert_eq!(house.latch(LeaseId(77), Flow::default()), done);
    assert!(house.elements().is_empty());
    assert_eq!(
        adopt(&mut house, 77, &[media("198.51.100.1:20002")], alice),
        refused(Refusal::OutOfRange),
        "a name that is in use"
    );
    assert_eq!(
        adopt(&mut house, 78, &pair[..1], alice),
        refused(Refusal::NotPermitted),
        "a port that is lent"
    );
    house.now += Duration::from_secs(61);
    house.broker.tick(house.now);
    assert_eq!(
        house.messages().pop().map(|(message, _)| message),
        Some(FromBroker::LeaseEnded { lease: LeaseId(77) })
    );
}

#[test]
fn what_is_no_media_socket_of_the_zone_is_not_taken_back() {
    let mut house = House::new();
    let alice = to("198.51.100.10:4000");
    let good = media("198.51.100.1:20000");
    let but = |change: fn(&mut Binding)| {
        let mut binding = good.clone();
        change(&mut binding);
        vec![binding]
    };
    let not_ours = refused(Refusal::NotPermitted);
    for (what, bindings) in [
        ("a listener's mark", but(|b| b.mark = mark::MEDIA + 1)),
        ("no mark", but(|b| b.mark = 0)),
        ("another device", but(|b| b.device = "int0".into())),
        ("no device", but(|b| b.device.clear())),
        (
            "another zone's address",
            but(|b| b.local.set_ip([192, 0, 2, 1].into())),
        ),
        (
            "a port outside the range",
            but(|b| b.local.set_port(16_382)),
        ),
        (
            "two that are no pair",
            vec![good.clone(), media("198.51.100.1:20003")],
        ),
        (
            "an odd port first",
            vec![media("198.51.100.1:20001"), media("198.51.100.1:20002")],
        ),
    ] {
        assert_eq!(adopt(&mut house, 1, &bindings, alice), not_ours, "{what}");
    }
    let three = [
        "198.51.100.1:20000",
        "198.51.100.1:20001",
        "198.51.100.1:20002",
    ]
    .map(media);
    let no_number = refused(Refusal::OutOfRange);
    assert_eq!(adopt(&mut house, 1, &[], alice), no_number);
    assert_eq!(adopt(&mut house, 1, &three, alice), no_number);
    let elsewhere = to("203.0.113.10:4000");
    assert_eq!(
        adopt(&mut house, 1, std::slice::from_ref(&good), elsewhere),
        refused(Refusal::PeerOutsidePolicy)
    );
    assert!(house.elements().is_empty());
    assert!(
        house
            .broker
            .counters()
            .contains(&("firewall_leases".into(), 0))
    );
}
