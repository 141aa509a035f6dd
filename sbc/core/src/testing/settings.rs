//! The laboratory's configuration (lab contract §1–3) as typed values.

use broker_proto::settings::{
    Called, Caps, Limits, Listener, NumberPattern, Origin, Registrar, Route, RouteAction,
    RouteConditions, SecretId, Settings, Transport, Trunk, TrunkChoice, TrunkPolicy,
    TrunkRegistration, Zone, ZoneId, ZoneKind, ZonePolicy,
};

pub(crate) const EXTERNAL: ZoneId = ZoneId(0);
pub(crate) const INTERNAL: ZoneId = ZoneId(1);
const MANAGEMENT: ZoneId = ZoneId(2);

fn zone(id: ZoneId, name: &str, kind: ZoneKind, addresses: [&str; 2], networks: [&str; 2]) -> Zone {
    Zone {
        id,
        name: name.into(),
        kind,
        addresses: addresses.map(|address| address.parse().unwrap()).to_vec(),
        networks: networks.map(|network| network.parse().unwrap()).to_vec(),
        policy: ZonePolicy::default(),
    }
}

fn trunk(name: &str, host: u8, registration: Option<TrunkRegistration>) -> Trunk {
    Trunk {
        name: name.into(),
        zone: EXTERNAL,
        addresses: vec![
            format!("198.51.100.{host}:5060").parse().unwrap(),
            format!("[2001:db8:e::{host}]:5060").parse().unwrap(),
        ],
        named: None,
        transport: Transport::Udp,
        large_requests_by_tcp: true,
        tls: None,
        registration,
        policy: TrunkPolicy::default(),
    }
}

fn pattern(prefix: &str, digits: (u8, u8), range: Option<(u64, u64)>) -> Called {
    Called::Number(NumberPattern {
        prefix: prefix.into(),
        digits_min: digits.0,
        digits_max: digits.1,
        range,
    })
}

fn routes() -> Vec<Route> {
    let own = vec![Origin::Registered, Origin::Internal];
    let trunks = vec![
        Origin::Trunk("trunk1".into()),
        Origin::Trunk("trunk2".into()),
    ];
    let everybody = own.iter().chain(&trunks).cloned().collect();
    let refuse = |prefix: &str| Route {
        name: format!("refuse {prefix}"),
        from: own.clone(),
        called: pattern(prefix, (0, 15), None),
        conditions: RouteConditions::default(),
        strip: 0,
        prepend: String::new(),
        action: RouteAction::Refuse(403),
    };
    vec![
        refuse("+1900"),
        refuse("+882"),
        refuse("+883"),
        Route {
            name: "accounts".into(),
            from: everybody,
            called: pattern("", (4, 4), Some((1001, 1199))),
            conditions: RouteConditions::default(),
            strip: 0,
            prepend: String::new(),
            action: RouteAction::Registrar,
        },
        Route {
            name: "inbound".into(),
            from: trunks,
            called: pattern("+4930555", (4, 4), Some((1001, 1199))),
            conditions: RouteConditions::default(),
            strip: 8,
            prepend: String::new(),
            action: RouteAction::Registrar,
        },
        Route {
            name: "world".into(),
            from: own,
            called: pattern("+", (8, 15), None),
            conditions: RouteConditions::default(),
            strip: 0,
            prepend: String::new(),
            action: RouteAction::Trunks(vec![
                TrunkChoice::in_order("trunk1", 0),
                TrunkChoice::in_order("trunk2", 1),
            ]),
        },
    ]
}

/// The laboratory.
pub(crate) fn settings() -> Settings {
    let listener = |zone, transport| Listener {
        zone,
        transport,
        port: 5060,
        certificates: Vec::new(),
        origins: Vec::new(),
    };
    Settings {
        revision: 1,
        domain: "lab.test".into(),
        zones: vec![
            zone(
                EXTERNAL,
                "external",
                ZoneKind::External,
                ["198.51.100.1", "2001:db8:e::1"],
                ["198.51.100.0/24", "2001:db8:e::/64"],
            ),
            zone(
                INTERNAL,
                "internal",
                ZoneKind::Internal,
                ["192.0.2.1", "2001:db8:1::1"],
                ["192.0.2.0/24", "2001:db8:1::/64"],
            ),
            zone(
                MANAGEMENT,
                "management",
                ZoneKind::Management,
                ["203.0.113.1", "2001:db8:2::1"],
                ["203.0.113.0/24", "2001:db8:2::/64"],
            ),
        ],
        listeners: vec![
            listener(EXTERNAL, Transport::Udp),
            listener(EXTERNAL, Transport::Tcp),
            listener(INTERNAL, Transport::Udp),
            listener(INTERNAL, Transport::Tcp),
        ],
        registrar: Some(Registrar {
            zone: INTERNAL,
            addresses: vec![
                "192.0.2.10:5060".parse().unwrap(),
                "[2001:db8:1::10]:5060".parse().unwrap(),
            ],
            named: None,
            transport: Transport::Udp,
            large_requests_by_tcp: true,
            tls: None,
        }),
        trunks: vec![
            trunk("trunk1", 20, None),
            trunk(
                "trunk2",
                21,
                Some(TrunkRegistration {
                    user: "gatehouse".into(),
                    realm: "trunk2.test".into(),
                    interval_seconds: 300,
                    secret: SecretId("trunk2".into()),
                }),
            ),
        ],
        routes: routes(),
        policies: Vec::new(),
        collector: None,
        name_servers: Vec::new(),
        registration: broker_proto::settings::Registration::default(),
        account: Caps::default(),
        limits: Limits {
            calls: 1_000,
            calls_per_source: 4,
            call_rate: 100,
            registrations: 1_000,
            connections: 100,
            message_octets: 16_384,
            media_timeout_seconds: 60,
            call_seconds: 4 * 3600,
            handshake_seconds: 10,
            session_expires_seconds: 1800,
            min_se_seconds: 90,
            idle_connection_seconds: 600,
        },
        lab: true,
    }
}
