//! The table of a small organisation, asked.

use broker_proto::settings::{
    Called as Numbers, Caps, Limits, NumberForm, NumberPattern, Numbering, Origin, Registrar,
    Route, RouteAction, RouteConditions, Schedule, Settings, TimeZone, Transport, Trunk,
    TrunkChoice, TrunkPolicy, Zone, ZoneId, ZoneKind, ZonePolicy,
};
use proptest::prelude::*;

use super::*;

const NOON: u64 = 43_200_000;

/// Trunks by index: state and calls; and lots in order.
#[derive(Default)]
struct World {
    down: Vec<usize>,
    full: Vec<usize>,
    calls: Vec<u32>,
    lots: Vec<u32>,
}

impl Live for World {
    fn trunk(&self, index: usize) -> TrunkState {
        if self.down.contains(&index) {
            TrunkState::Down
        } else if self.full.contains(&index) {
            TrunkState::Full("calls")
        } else {
            TrunkState::Up
        }
    }

    fn calls(&self, index: usize) -> u32 {
        self.calls.get(index).copied().unwrap_or(0)
    }

    fn draw(&mut self, bound: u32) -> u32 {
        self.lots.pop().unwrap_or(0) % bound
    }
}

fn berlin(form: NumberForm) -> Numbering {
    Numbering {
        country: "49".into(),
        area: "30".into(),
        international_prefix: "00".into(),
        national_prefix: "0".into(),
        local_digits: (6, 9),
        form,
    }
}

fn trunk(name: &str, form: Option<NumberForm>) -> Trunk {
    Trunk {
        name: name.into(),
        zone: ZoneId(0),
        addresses: vec!["192.0.2.1:5060".parse().unwrap()],
        named: None,
        transport: Transport::Udp,
        large_requests_by_tcp: true,
        registration: None,
        tls: None,
        policy: TrunkPolicy {
            numbering: form.map(berlin),
            ..TrunkPolicy::default()
        },
    }
}

fn route(
    name: &str,
    from: &[Origin],
    prefix: &str,
    digits: (u8, u8),
    action: RouteAction,
) -> Route {
    Route {
        name: name.into(),
        from: from.to_vec(),
        called: Numbers::Number(NumberPattern {
            prefix: prefix.into(),
            digits_min: digits.0,
            digits_max: digits.1,
            range: None,
        }),
        conditions: RouteConditions::default(),
        strip: 0,
        prepend: String::new(),
        action,
    }
}

fn to(choices: &[(&str, u8, u16)]) -> RouteAction {
    let choices = choices.iter().map(|(name, priority, weight)| TrunkChoice {
        name: (*name).into(),
        priority: *priority,
        weight: *weight,
        below: None,
    });
    RouteAction::Trunks(choices.collect())
}

fn settings(routes: Vec<Route>) -> Settings {
    let zone = |id, name: &str, kind, policy| Zone {
        id: ZoneId(id),
        name: name.into(),
        kind,
        addresses: vec![format!("198.51.100.{id}").parse().unwrap()],
        networks: Vec::new(),
        policy,
    };
    Settings {
        revision: 1,
        domain: "example.org".into(),
        zones: vec![
            zone(0, "external", ZoneKind::External, ZonePolicy::default()),
            zone(
                1,
                "internal",
                ZoneKind::Internal,
                ZonePolicy {
                    numbering: Some(berlin(NumberForm::Unchanged)),
                    emergency: vec!["110".into(), "112".into()],
                    ..ZonePolicy::default()
                },
            ),
        ],
        listeners: Vec::new(),
        registrar: Some(Registrar {
            zone: ZoneId(1),
            addresses: vec!["10.0.0.1:5060".parse().unwrap()],
            named: None,
            transport: Transport::Udp,
            large_requests_by_tcp: true,
            tls: None,
        }),
        trunks: vec![
            trunk("plus", Some(NumberForm::Plus)),
            trunk("national", Some(NumberForm::National)),
            trunk("bare", None),
        ],
        routes,
        account: Caps::default(),
        policies: Vec::new(),
        collector: None,
        name_servers: Vec::new(),
        registration: broker_proto::settings::Registration::default(),
        limits: Limits {
            calls: 1,
            calls_per_source: 1,
            call_rate: 1,
            registrations: 1,
            connections: 1,
            message_octets: 1,
            media_timeout_seconds: 1,
            call_seconds: 1,
            idle_connection_seconds: 1,
            handshake_seconds: 1,
            min_se_seconds: 1,
            session_expires_seconds: 1,
        },
        lab: false,
    }
}

const OWN: [Origin; 2] = [Origin::Registered, Origin::Internal];

fn world_route(choices: &[(&str, u8, u16)]) -> Route {
    route("world", &OWN, "+", (8, 15), to(choices))
}

fn ask(
    settings: &Settings,
    origins: &[Origin],
    user: &str,
    live: &mut World,
) -> Result<Way, NoWay> {
    ask_at(settings, origins, (user, "example.org"), NOON, live)
}

fn ask_at(
    settings: &Settings,
    origins: &[Origin],
    (user, host): (&str, &str),
    unix_ms: u64,
    live: &mut World,
) -> Result<Way, NoWay> {
    let caller = Caller {
        zone: Some(ZoneId(1)),
        origins,
    };
    let called = Called {
        user,
        host,
        calling: "03012345",
        spared: false,
    };
    find(
        settings,
        &caller,
        &called,
        unix_ms,
        live,
        &mut crate::Silent,
    )
}

fn trunks(way: &Way) -> Vec<usize> {
    match &way.goal {
        Goal::Trunks(tries) => tries.iter().map(|one| one.index).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_trunk_gets_numbers_in_its_own_form() {
    let settings = settings(vec![world_route(&[
        ("plus", 1, 1),
        ("national", 2, 1),
        ("bare", 3, 1),
    ])]);
    let way = ask(
        &settings,
        &[Origin::Internal],
        "030 1234567",
        &mut World::default(),
    );
    assert_eq!(way.unwrap_err().status, 404, "a space is no number");
    let way = ask(
        &settings,
        &[Origin::Internal],
        "030-1234567",
        &mut World::default(),
    )
    .unwrap();
    let Goal::Trunks(tries) = way.goal else {
        panic!("trunks")
    };
    let written: Vec<(&str, &str)> = tries
        .iter()
        .map(|one| (one.called.as_str(), one.calling.as_str()))
        .collect();
    assert_eq!(
        written,
        [
            ("+49301234567", "+493012345"),
            ("0301234567", "03012345"),
            ("+49301234567", "+493012345"),
        ]
    );
}

#[test]
fn the_first_route_counts_and_only_for_its_callers() {
    let settings = settings(vec![
        route(
            "premium",
            &[Origin::Registered],
            "+1900",
            (0, 12),
            RouteAction::Refuse(403),
        ),
        route(
            "world",
            &[Origin::Registered],
            "+",
            (8, 15),
            to(&[("plus", 1, 1)]),
        ),
        route(
            "zone",
            &[Origin::Zone("internal".into())],
            "7",
            (2, 2),
            RouteAction::Binding,
        ),
    ]);
    let asked =
        |origins: &[Origin], user: &str| ask(&settings, origins, user, &mut World::default());
    assert_eq!(
        asked(&[Origin::Registered], "001900555")
            .unwrap_err()
            .status,
        403
    );
    assert_eq!(
        asked(&[Origin::Registered], "+49301234567").unwrap().route,
        "world"
    );
    assert_eq!(
        asked(&[Origin::Internal], "+49301234567")
            .unwrap_err()
            .reason,
        "no-route"
    );
    assert_eq!(asked(&[], "+49301234567").unwrap_err().reason, "stranger");
    assert_eq!(
        asked(&[Origin::Zone("internal".into())], "711")
            .unwrap()
            .route,
        "zone"
    );
}

#[test]
fn domains_and_hours_bound_a_route() {
    let mut partner = route("partner", &OWN, "", (0, 0), to(&[("bare", 1, 1)]));
    partner.called = Numbers::Anything;
    partner.conditions.domains = vec!["partner.example".into()];
    let mut day = route("day", &OWN, "7", (2, 2), RouteAction::Binding);
    day.conditions.when = Some(Schedule {
        days: 0x7f,
        hours: vec![(8 * 60, 18 * 60 - 1)],
        zone: TimeZone::Fixed(0),
    });
    day.conditions.domains = vec!["own".into()];
    let night = route("night", &OWN, "7", (2, 2), RouteAction::Refuse(480));
    let settings = settings(vec![partner, day, night]);
    let asked = |user: &str, host: &str, hour: u64| {
        let mut live = World::default();
        ask_at(
            &settings,
            &[Origin::Internal],
            (user, host),
            hour * 3_600_000,
            &mut live,
        )
    };
    let alice = asked("alice", "PARTNER.example", 12).unwrap();
    assert_eq!(alice.route, "partner");
    assert!(matches!(&alice.goal, Goal::Trunks(tries) if tries[0].called == "alice"));
    assert_eq!(asked("alice", "example.org", 12).unwrap_err().status, 404);
    for host in ["example.org", "EXAMPLE.ORG", "198.51.100.1", ""] {
        assert_eq!(asked("711", host, 12).unwrap().route, "day", "{host}");
    }
    assert_eq!(asked("711", "other.example", 12).unwrap_err().status, 480);
    assert_eq!(asked("711", "example.org", 19).unwrap_err().status, 480);
}

#[test]
fn a_trunk_that_is_down_full_or_loaded_is_left_out() {
    let mut settings = settings(vec![world_route(&[
        ("plus", 1, 1),
        ("national", 2, 1),
        ("bare", 3, 1),
    ])]);
    let asked = |settings: &Settings, live: &mut World| {
        ask(settings, &[Origin::Internal], "+4930123456", live)
    };
    let mut live = World {
        down: vec![0],
        ..World::default()
    };
    assert_eq!(trunks(&asked(&settings, &mut live).unwrap()), [1, 2]);
    live.full = vec![1];
    assert_eq!(trunks(&asked(&settings, &mut live).unwrap()), [2]);
    if let RouteAction::Trunks(choices) = &mut settings.routes[0].action {
        choices[2].below = Some(10);
    }
    live.calls = vec![0, 0, 9];
    assert_eq!(trunks(&asked(&settings, &mut live).unwrap()), [2]);
    live.calls = vec![0, 0, 10];
    let refused = asked(&settings, &mut live).unwrap_err();
    assert_eq!(
        (refused.status, refused.reason, refused.passing),
        (503, "trunks-full", true)
    );
}

#[test]
fn without_a_usable_trunk_the_next_route_may_try_if_the_first_lets_it() {
    let first = world_route(&[("plus", 1, 1)]);
    let second = route("second", &OWN, "+", (8, 15), to(&[("bare", 1, 1)]));
    let mut settings = settings(vec![first, second]);
    let mut live = World {
        down: vec![0],
        ..World::default()
    };
    let asked = |settings: &Settings, live: &mut World| {
        ask(settings, &[Origin::Internal], "+4930123456", live)
    };
    let refused = asked(&settings, &mut live).unwrap_err();
    assert_eq!((refused.status, refused.reason), (503, "trunks-down"));
    settings.routes[0].conditions.next_if_unavailable = true;
    assert_eq!(asked(&settings, &mut live).unwrap().route, "second");
    live.down = vec![0, 2];
    assert_eq!(asked(&settings, &mut live).unwrap_err().status, 503);
}

#[test]
fn an_emergency_call_is_stopped_by_no_limit_and_tries_dead_trunks_last() {
    let mut settings = settings(vec![route(
        "emergency",
        &OWN,
        "112",
        (0, 0),
        to(&[("plus", 1, 1), ("national", 2, 1)]),
    )]);
    if let RouteAction::Trunks(choices) = &mut settings.routes[0].action {
        choices[1].below = Some(1);
    }
    let mut live = World {
        down: vec![0],
        full: vec![1],
        calls: vec![0, 50],
        ..World::default()
    };
    let way = ask(&settings, &[Origin::Internal], "1-1-2", &mut live).unwrap();
    assert!(way.emergency);
    assert_eq!(trunks(&way), [1, 0]);
    assert!(
        matches!(&way.goal, Goal::Trunks(tries) if tries.iter().all(|one| one.called == "112"))
    );
    // A carrier's call to 112 is nobody's cry for help.
    let carrier = [Origin::Trunk("plus".into())];
    assert!(!is_emergency(
        &settings,
        &Caller {
            zone: None,
            origins: &carrier
        },
        "112"
    ));
    assert!(!is_emergency(
        &settings,
        &Caller {
            zone: Some(ZoneId(1)),
            origins: &[]
        },
        "112"
    ));
}

#[test]
fn the_pbx_is_not_called_by_itself() {
    let settings = settings(vec![route(
        "pbx",
        &[Origin::Internal],
        "7",
        (2, 2),
        RouteAction::Registrar,
    )]);
    let pbx = [Origin::Registrar, Origin::Internal];
    let refused = ask(&settings, &pbx, "711", &mut World::default()).unwrap_err();
    assert_eq!((refused.status, refused.reason), (482, "loop"));
}

#[test]
fn equal_priorities_share_by_weight_and_lower_ones_come_first() {
    let settings = settings(vec![world_route(&[
        ("plus", 1, 70),
        ("national", 1, 30),
        ("bare", 0, 1),
    ])]);
    let mut first = [0; 3];
    for lot in 0..100 {
        let mut live = World {
            // Taken from the end: the one for priority 0, then the shares.
            lots: vec![0, lot, 0],
            ..World::default()
        };
        let order = trunks(&ask(&settings, &[Origin::Internal], "+4930123456", &mut live).unwrap());
        assert_eq!((order.len(), order[0]), (3, 2));
        first[order[1]] += 1;
    }
    assert_eq!(first, [70, 30, 0]);
}

#[test]
fn weight_zero_is_tried_after_the_others_of_its_priority() {
    let settings = settings(vec![world_route(&[("plus", 1, 0), ("national", 1, 5)])]);
    let way = ask(
        &settings,
        &[Origin::Internal],
        "+4930123456",
        &mut World::default(),
    )
    .unwrap();
    assert_eq!(trunks(&way), [1, 0]);
}

#[test]
fn a_claim_of_priority_is_believed_of_whom_the_settings_name() {
    let mut settings = settings(Vec::new());
    settings.trunks[0].policy.resource_priority = vec!["esnet.0".into()];
    settings.zones[1].policy.resource_priority = vec!["wps.*".into()];
    let trunk = [Origin::Trunk("plus".into())];
    let claims = |zone, origins: &[Origin], value: &str| {
        Caller {
            zone: Some(ZoneId(zone)),
            origins,
        }
        .may_claim(&settings, value)
    };
    assert!(claims(0, &trunk, "ESNET.0"));
    assert!(!claims(0, &trunk, "wps.0"));
    assert!(claims(1, &[Origin::Internal], "wps.0"));
    assert!(!claims(1, &[], "wps.0"));
}

proptest! {
    /// Whatever is down, full, weighted: every trunk that can take the call is in the order once, no other is, and
    /// priorities never go down.
    #[test]
    fn the_order_holds_every_usable_trunk_once(
        choices in prop::collection::vec((0u8..4, 0u16..5), 1..12),
        states in prop::collection::vec(0u8..3, 12),
        lots in prop::collection::vec(any::<u32>(), 16),
    ) {
        let mut settings = settings(Vec::new());
        settings.trunks = (0..choices.len()).map(|n| trunk(&format!("t{n}"), None)).collect();
        let written = choices.iter().enumerate().map(|(n, (priority, weight))| TrunkChoice {
            name: format!("t{n}"),
            priority: *priority,
            weight: *weight,
            below: None,
        });
        settings.routes = vec![route("world", &OWN, "+", (8, 15), RouteAction::Trunks(written.collect()))];
        let of = |state| (0..choices.len()).filter(|n| states[*n] == state).collect::<Vec<_>>();
        let mut live = World { down: of(1), full: of(2), calls: Vec::new(), lots };
        let good = of(0);
        match ask(&settings, &[Origin::Internal], "+4930123456", &mut live) {
            Ok(way) => {
                let order = trunks(&way);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, good);
                prop_assert!(order.windows(2).all(|pair| choices[pair[0]].0 <= choices[pair[1]].0));
            }
            Err(refused) => {
                prop_assert!(good.is_empty());
                prop_assert_eq!(refused.status, 503);
            }
        }
    }

    #[test]
    fn any_question_is_answered(user in "\\PC{0,40}", host in "\\PC{0,20}", at in any::<u64>()) {
        let settings = settings(vec![world_route(&[("plus", 1, 1)])]);
        let mut steps = Vec::new();
        let caller = Caller { zone: Some(ZoneId(1)), origins: &OWN };
        let called = Called { user: &user, host: &host, calling: &user, spared: false };
        let _ = find(&settings, &caller, &called, at, &mut World::default(), &mut steps);
        prop_assert!(!steps.is_empty());
    }
}
