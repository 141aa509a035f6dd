//! Random lives of an sbc: whatever it does, no lease outlives its owner or its time, and at rest the kernel holds nothing
//! of what it was lent. Random requests of every role: one answer each, and never what no policy could allow.

use broker_proto::binding::KeptBinding;
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
        (key, scope, any::<u32>(), any::<String>()).prop_map(|(key, scope, seconds, reason)| {
            ToBroker::Ban {
                id: ID,
                key,
                scope,
                seconds,
                reason,
            }
        }),
        (
            zone(),
            transport(),
            arbitrary_peer(),
            any::<[u8; 12]>(),
            any::<u32>()
        )
            .prop_map(
                |(zone, transport, peer, token, left)| ToBroker::KeepBindings {
                    id: ID,
                    kept: vec![KeptBinding {
                        token,
                        zone,
                        transport,
                        peer,
                        left,
                        ..super::kept::binding(1)
                    }],
                    gone: vec![token],
                }
            ),
        proptest::option::of(any::<[u8; 12]>())
            .prop_map(|after| ToBroker::RecallBindings { id: ID, after }),
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
            house.broker.request(house.now, role, &request);
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
