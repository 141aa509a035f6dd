//! Bindings that one sbc leaves for the next.

use broker_proto::binding::{BindingToken, KeptBinding, MAX_BATCH, MAX_OCTETS, MAX_SECONDS};

use super::*;

pub(super) fn binding(number: u8) -> KeptBinding {
    KeptBinding {
        token: [number; 12],
        zone: EXTERNAL,
        transport: Transport::Udp,
        local: "198.51.100.1:5060".parse().unwrap(),
        peer: "198.51.100.10:5060".parse().unwrap(),
        user: "1001".to_owned(),
        contact: "sip:1001@198.51.100.10".to_owned(),
        path: Vec::new(),
        outbound: None,
        q: 1000,
        told: 3600,
        granted: 3600,
        left: 3600,
        call_id: "c".to_owned(),
        cseq: 1,
    }
}

impl House {
    fn keep(&mut self, kept: Vec<KeptBinding>, gone: Vec<BindingToken>) -> Vec<FromBroker> {
        vec![self.ask_sbc(ToBroker::KeepBindings { id: ID, kept, gone })]
    }

    fn recall(&mut self) -> Vec<KeptBinding> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let answer = self.ask_sbc(ToBroker::RecallBindings { id: ID, after });
            let FromBroker::Bindings { bindings, next, .. } = answer else {
                panic!("{answer:?}");
            };
            all.extend(bindings);
            after = next;
            if after.is_none() {
                return all;
            }
        }
    }

    fn restart_sbc(&mut self) {
        self.broker.detach(self.now, Role::Sbc);
        self.attach(Role::Sbc);
    }

    fn counted(&self, result: &'static str) -> u64 {
        self.broker.ledger.of("sbc", "binding", result)
    }
}

#[test]
fn the_next_sbc_gets_what_the_last_one_left_with_the_time_that_is_left() {
    let mut house = House::new();
    assert_eq!(
        house.keep(vec![binding(1), binding(2)], Vec::new()),
        [FromBroker::Done { id: ID }]
    );
    house.keep(Vec::new(), vec![[2; 12]]);
    house.pass(600_000);
    house.restart_sbc();
    let left = house.recall();
    assert_eq!(
        left,
        [KeptBinding {
            left: 3000,
            ..binding(1)
        }]
    );
    house.pass(3_000_000);
    assert_eq!(house.recall(), []);
}

#[test]
fn as_many_are_kept_as_may_be_registered_and_come_back_page_by_page() {
    let mut house = House::with(Permissions {
        bounds: super::super::permissions::Bounds {
            registrations: 100,
            ..lab_permissions().bounds
        },
        ..lab_permissions()
    });
    for number in 0..=200 {
        house.keep(vec![binding(number)], Vec::new());
        house.pass(20);
    }
    assert_eq!((house.counted("kept"), house.counted("quota")), (100, 101));
    assert_eq!(house.recall().len(), 100);
    // What is kept may change all the same.
    house.keep(
        vec![KeptBinding {
            cseq: 9,
            ..binding(1)
        }],
        Vec::new(),
    );
    assert_eq!(house.recall()[1].cseq, 9);
}

#[test]
fn what_is_no_phone_of_the_zone_is_refused_one_by_one() {
    let mut house = House::new();
    type Forge = fn(&mut KeptBinding);
    let forged: [(&str, Forge); 14] = [
        ("not-configured", |one| one.zone = ZoneId(77)),
        ("not-configured", |one| one.local.set_port(5061 + 1000)),
        ("not-configured", |one| {
            one.local.set_ip([203, 0, 113, 1].into())
        }),
        ("peer-outside-policy", |one| {
            one.peer.set_ip([203, 0, 113, 10].into())
        }),
        ("peer-outside-policy", |one| {
            one.peer.set_ip([192, 0, 2, 40].into())
        }),
        ("peer-outside-policy", |one| {
            one.peer.set_ip([198, 51, 100, 1].into())
        }),
        ("peer-outside-policy", |one| {
            one.peer.set_ip([127, 0, 0, 1].into())
        }),
        ("peer-outside-policy", |one| {
            one.peer = "[2001:db8:e::66]:5060".parse().unwrap()
        }),
        ("peer-outside-policy", |one| {
            one.peer = "[::ffff:198.51.100.10]:5060".parse().unwrap()
        }),
        ("peer-outside-policy", |one| one.peer.set_port(0)),
        ("out-of-range", |one| one.user = String::new()),
        ("out-of-range", |one| one.left = 0),
        ("out-of-range", |one| one.contact = "x".repeat(MAX_OCTETS)),
        ("out-of-range", |one| one.path = vec![String::new(); 200]),
    ];
    for (reason, forge) in forged {
        let before = house.counted(reason);
        let mut one = binding(3);
        forge(&mut one);
        house.keep(vec![one, binding(4)], Vec::new());
        house.pass(20);
        assert_eq!(house.counted(reason), before + 1, "{reason}");
        assert_eq!(
            house.recall(),
            [KeptBinding {
                left: house.recall()[0].left,
                ..binding(4)
            }]
        );
    }
}

#[test]
fn too_many_at_once_too_often_and_of_others_are_refused() {
    let mut house = House::new();
    let many = vec![binding(1); MAX_BATCH + 1];
    assert_eq!(
        house.keep(many, Vec::new()),
        [FromBroker::Refused {
            id: ID,
            reason: Refusal::OutOfRange
        }]
    );
    house.keep(Vec::new(), vec![[9; 12]; MAX_BATCH]);
    assert_eq!(house.counted("unknown"), MAX_BATCH as u64);
    let refused = FromBroker::Refused {
        id: ID,
        reason: Refusal::RateLimit,
    };
    let answers = (0..300).flat_map(|_| house.keep(vec![binding(1)], Vec::new()));
    assert!(answers.collect::<Vec<_>>().contains(&refused));
    for role in [Role::Management, Role::Time, Role::Dhcp] {
        house.attach(role);
        for request in [
            ToBroker::RecallBindings {
                id: ID,
                after: None,
            },
            ToBroker::KeepBindings {
                id: ID,
                kept: vec![binding(5)],
                gone: Vec::new(),
            },
        ] {
            house.broker.request(house.now, role, &request);
            let answers = house.messages();
            let message = answers.into_iter().map(|(message, _)| message).next();
            let reason = Refusal::NotPermitted;
            assert_eq!(message, Some(FromBroker::Refused { id: ID, reason }));
        }
    }
}

#[test]
fn what_is_left_ends_after_two_hours_whatever_is_said() {
    let mut house = House::new();
    house.keep(
        vec![KeptBinding {
            left: u32::MAX,
            ..binding(1)
        }],
        Vec::new(),
    );
    assert_eq!(house.recall()[0].left, MAX_SECONDS);
    house.pass(u64::from(MAX_SECONDS) * 1000);
    assert_eq!(house.recall(), []);
}

#[test]
fn an_sbc_that_floods_or_speaks_nonsense_leaves_nothing() {
    let mut house = House::new();
    house.keep(vec![binding(1)], Vec::new());
    house.broker.malformed(house.now, Role::Time, "nonsense");
    assert_eq!(house.recall().len(), 1);
    house.broker.malformed(house.now, Role::Sbc, "nonsense");
    house.restart_sbc();
    assert_eq!(house.recall(), []);
    house.keep(vec![binding(1)], Vec::new());
    let request = ToBroker::KeepBindings {
        id: ID,
        kept: vec![binding(1)],
        gone: Vec::new(),
    };
    while house.expelled.is_empty() {
        house.broker.request(house.now, Role::Sbc, &request);
        house.messages();
    }
    house.restart_sbc();
    assert_eq!(house.recall(), []);
}

#[test]
fn a_commit_that_takes_the_zone_or_the_room_away_takes_the_bindings_with_it() {
    let mut house = House::new();
    house.keep((1..=10).map(binding).collect(), Vec::new());
    let mut fewer = lab_permissions();
    fewer.bounds.registrations = 4;
    house.broker.commit(house.now, fewer.clone(), settings(2));
    house.messages();
    assert_eq!(house.recall().len(), 4);
    fewer.zones[0].name = "elsewhere".to_owned();
    house.broker.commit(house.now, fewer, settings(3));
    house.messages();
    assert_eq!(house.recall(), []);
    assert_eq!(house.counted("not-configured"), 4);
}
