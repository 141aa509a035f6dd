//! For any document: printing and reading give it back, differences are found key by key, and no text, however hostile,
//! does more than be refused.

#![allow(clippy::indexing_slicing, reason = "tests may fail loudly")]

use std::net::SocketAddr;

use appliance_config::{
    Action, AddedField, AddressField, Bans, Called, Caps, Card, Clock, Codec, Document,
    EventPackage, Health, Host, Hours, IfUnavailable, InfoKind, Interface, Ipv4, Ipv6, Language,
    Limits, Listener, Logging, Mac, Management, Media, NumberForm, Numbering, Origin, Party,
    PeerTls, Policy, PolicyField, Prefixed, Priority, Registrar, Registration, Registrations,
    Rewrite, Route, Routed, SCHEMA, Schedule, Service, Sip, Span, StatusMap, Transfer, Transport,
    Trunk, TrunkChoice, TrunkPolicy, Zone, ZoneKind, ZonePolicy, diff,
};
use proptest::{collection::vec, prelude::*, sample::subsequence};

const EXAMPLE: &str = include_str!("../example.toml");

/// Zone number `n`: networks 10.n.0.0/16 and 2001:db8:n::/48 are its alone.
fn zone(n: u8, kind: ZoneKind) -> impl Strategy<Value = Zone> {
    let ports = (512_u16..16_000, 2_u16..1000).prop_map(|(half, pairs)| Span {
        first: half * 2,
        last: half * 2 + pairs * 2,
    });
    (
        any::<[bool; 6]>(),
        8_u8..31,
        1_u16..4095,
        ports,
        1_u8..200,
        1024_u16..60_000,
    )
        .prop_map(
            move |([by_mac, vlan, v4, v6, routed, more], length, id, ports, host, peer)| {
                let external = kind == ZoneKind::External;
                let length = length.max(17);
                let v6 = v6 || !v4;
                let card = if by_mac {
                    Card::Mac(Mac([2, 0, 0, 0, 0, n]))
                } else {
                    Card::Name(format!("eth{n}"))
                };
                let ipv4 = format!("10.{n}.0.1/{length}").parse().expect("network");
                let ipv6 = format!("2001:db8:{n:x}::{host:x}1/64")
                    .parse()
                    .expect("network");
                let via_gateway = |gateway: &str| gateway.parse().expect("address");
                Zone {
                    name: format!("zone-{n}"),
                    kind,
                    interface: Interface {
                        card,
                        vlan: vlan.then_some(id),
                    },
                    ipv4: v4.then_some(if external && more {
                        Ipv4::Dhcp
                    } else {
                        Ipv4::Static {
                            address: ipv4,
                            gateway: external
                                .then(|| format!("10.{n}.0.2").parse().expect("address")),
                        }
                    }),
                    ipv6: v6.then_some(if external && routed {
                        Ipv6::Ra
                    } else {
                        Ipv6::Static {
                            address: ipv6,
                            gateway: external.then(|| "fe80::1".parse().expect("address")),
                        }
                    }),
                    routed: if routed && v4 && !external {
                        vec![Routed {
                            network: format!("10.{n}.192.0/18").parse().expect("network"),
                            gateway: via_gateway(&format!("10.{n}.0.2")),
                        }]
                    } else {
                        Vec::new()
                    },
                    media: Media {
                        networks: if more && kind != ZoneKind::Management {
                            vec![format!("10.{n}.0.0/16").parse().expect("network")]
                        } else {
                            Vec::new()
                        },
                        ports,
                        peer_ports: Span {
                            first: peer,
                            last: 65535,
                        },
                    },
                    not_bogon: if more && external {
                        vec!["100.64.0.0/10".parse().expect("network")]
                    } else {
                        Vec::new()
                    },
                    allow_list: if by_mac {
                        vec![format!("10.{n}.0.{host}/32").parse().expect("network")]
                    } else {
                        Vec::new()
                    },
                    policy: ZonePolicy {
                        emergency: if vlan {
                            Vec::new()
                        } else {
                            vec!["110".into(), "112".into()]
                        },
                        resource_priority: if more { priorities() } else { Vec::new() },
                        numbering: by_mac.then(|| numbering(length)),
                        caps: caps(routed, host.into()),
                    },
                }
            },
        )
}

fn numbering(some: u8) -> Numbering {
    Numbering {
        country: "49".into(),
        area: if some > 24 {
            "30".into()
        } else {
            String::new()
        },
        international_prefix: "00".into(),
        national_prefix: "0".into(),
        local_digits: Span { first: 5, last: 9 },
        form: NumberForm::ALL[usize::from(some) % NumberForm::ALL.len()],
    }
}

fn priorities() -> Vec<Priority> {
    vec![Priority("esnet.0".into()), Priority("wps.*".into())]
}

fn caps(some: bool, calls: u32) -> Caps {
    Caps {
        calls: some.then_some(calls),
        call_rate: None,
        bandwidth_kbit: some.then_some(64_000),
    }
}

fn schedule(some: u8) -> Schedule {
    Schedule {
        days: some % 127 + 1,
        hours: vec![
            Hours {
                from: 8 * 60,
                to: 24 * 60,
            },
            Hours {
                from: 1320,
                to: 360,
            },
        ],
        zone: [
            Clock::Fixed(-90),
            Clock::Fixed(0),
            Clock::European("Europe/Berlin", 60),
        ][usize::from(some) % 3],
    }
}

fn digits() -> impl Strategy<Value = Span<u8>> {
    (0_u8..12, 0_u8..12).prop_map(|(a, b)| Span {
        first: a.min(b),
        last: a.max(b),
    })
}

/// Route number `n`: prefix `+n…` is its alone.
fn route(n: usize, trunks: Vec<String>) -> impl Strategy<Value = Route> {
    let origins: Vec<Origin> = [Origin::Registered, Origin::Internal, Origin::Registrar]
        .into_iter()
        .chain(trunks.iter().cloned().map(Origin::Trunk))
        .collect();
    let some_origins = subsequence(origins.clone(), 1..=origins.len()).prop_shuffle();
    let some_trunks =
        subsequence(trunks.clone(), trunks.len().min(1)..=trunks.len()).prop_shuffle();
    (
        some_origins,
        digits(),
        0_u8..4,
        "[0-9*#]{0,6}",
        0_u8..4,
        400_u16..700,
        some_trunks,
        any::<bool>(),
    )
        .prop_map(
            move |(from, digits, strip, prepend, action, status, trunks, range)| Route {
                name: format!("route-{n}"),
                from,
                called: match status % 3 {
                    0 => Called::Pattern(
                        format!("+{n:03}[1-5]{{1,3}}x?[^0]")
                            .parse()
                            .expect("pattern"),
                    ),
                    1 if strip == 0 => Called::Anything,
                    _ => Called::Number(Prefixed {
                        prefix: format!("+{n:03}"),
                        digits,
                        range: (range && digits.last > 0).then_some(Span { first: 1, last: 9 }),
                    }),
                },
                domains: match status % 3 {
                    0 => vec![format!("d{n}.example"), "own".into()],
                    1 => vec![format!("d{n}.example")],
                    _ => Vec::new(),
                },
                when: (status % 5 == 0).then(|| schedule(digits.last + strip)),
                strip,
                prepend,
                action: match action {
                    0 => Action::Registrar,
                    1 => Action::Binding,
                    2 if !trunks.is_empty() => Action::Trunks(
                        trunks
                            .iter()
                            .enumerate()
                            .map(|(index, name)| TrunkChoice {
                                weight: if range { 1 } else { status },
                                below: range.then_some(u32::from(status)),
                                ..TrunkChoice::in_order(name, index)
                            })
                            .collect(),
                    ),
                    _ => Action::Refuse(status),
                },
                failover: match action {
                    2 if !trunks.is_empty() && range => vec![404, 480],
                    _ => Vec::new(),
                },
                if_unavailable: match action {
                    2 if !trunks.is_empty() && !range => IfUnavailable::Next,
                    _ => IfUnavailable::Refuse,
                },
            },
        )
}

fn trunk(n: u8) -> impl Strategy<Value = Trunk> {
    (
        1_u16..65535,
        any::<bool>(),
        30_u32..86_400,
        "[a-z0-9]{1,20}",
    )
        .prop_map(move |(port, register, interval, user)| Trunk {
            name: format!("trunk-{n}"),
            zone: "inside".into(),
            addresses: vec![SocketAddr::new(
                format!("10.200.1.{n}").parse().expect("address"),
                port,
            )],
            large_requests_by_tcp: register,
            named: None,
            transport: if register {
                Transport::Udp
            } else {
                Transport::Tcp
            },
            tls: (!register).then(|| PeerTls {
                names: vec![format!("sip:{user}.example"), "2001:db8::1".into()],
                authorities: vec!["carrier-ca".into()],
                certificate: Some("sip".into()).filter(|_| port % 2 == 0),
            }),
            registration: register.then(|| Registration {
                user: user.clone(),
                realm: format!("{user}.example"),
                interval_seconds: interval,
                secret: format!("secret-{n}"),
            }),
            policy: TrunkPolicy {
                resource_priority: if register { priorities() } else { Vec::new() },
                preempt: register,
                numbering: (interval % 2 == 0).then(|| numbering(n)),
                health: register.then_some(Health {
                    interval_seconds: 30,
                    down_after: n.max(1),
                    up_after: 2,
                    retry_seconds_max: 300,
                }),
                caps: caps(register, interval),
            },
        })
}

/// Where registrar and trunks stand, so that every random set of other zones will do.
fn inside() -> Zone {
    Zone {
        name: "inside".into(),
        kind: ZoneKind::Internal,
        interface: Interface {
            card: Card::Name("inside0".into()),
            vlan: None,
        },
        ipv4: Some(Ipv4::Static {
            address: "10.200.0.1/16".parse().expect("network"),
            gateway: None,
        }),
        ipv6: None,
        routed: Vec::new(),
        media: Media::default(),
        not_bogon: Vec::new(),
        allow_list: Vec::new(),
        policy: ZonePolicy::default(),
    }
}

prop_compose! {
    fn limits()(calls in 1_u32..100_000, rate in 1_u32..1_000_000, timeout in 5_u32..86_400) -> Limits {
        Limits { calls, syn_rate: rate, media_timeout_seconds: timeout, ..Limits::default() }
    }
}

prop_compose! {
    fn parts()(external in zone(1, ZoneKind::External), partner in zone(2, ZoneKind::Partner), internal in zone(3, ZoneKind::Internal),
               management in zone(4, ZoneKind::Management), order in any::<u8>(), count in 0_u8..5)
              (zones in Just({
                  let mut zones = vec![management, external, partner, internal, inside()];
                  zones.rotate_left(usize::from(order % 5));
                  zones
              }), trunks in (0..count).map(trunk).collect::<Vec<_>>())
              -> (Vec<Zone>, Vec<Trunk>) {
        (zones, trunks)
    }
}

/// A policy for the zone `inside` and maybe for the PBX, with any of what may stand in one.
fn policy() -> impl Strategy<Value = Policy> {
    let fields = || subsequence(PolicyField::ALL.to_vec(), 0..=PolicyField::ALL.len());
    let events = subsequence(EventPackage::ALL.to_vec(), 0..=EventPackage::ALL.len());
    let rewrites = subsequence(AddressField::ALL.to_vec(), 0..=3);
    let audio = vec![Codec::Opus, Codec::Pcma, Codec::G722, Codec::AmrWb];
    let audio = subsequence(audio, 0..=4);
    let values = (any::<bool>(), any::<bool>(), 0_u32..32_000, 0_u8..9);
    (fields(), fields(), events, rewrites, audio, values).prop_map(
        |(accept, send, events, rewrites, audio_codecs, (some, pbx, octets, strip))| Policy {
            name: "inside".into(),
            parties: if pbx {
                vec![Party::Zone("inside".into()), Party::Registrar]
            } else {
                vec![Party::Zone("inside".into())]
            },
            trusted: some.then_some(pbx),
            accept: some.then_some(accept),
            send: pbx.then_some(send),
            events: some.then_some(events),
            publish: pbx.then_some(some),
            message_octets: some.then_some(octets),
            info: pbx.then(|| vec![InfoKind::Dtmf, InfoKind::Package("infoDtmf".into())]),
            response_map: vec![StatusMap { from: 603, to: 486 }],
            audio_codecs,
            video_codecs: vec![Codec::H264],
            denied_codecs: vec![Codec::G729],
            transfer: pbx.then_some(Transfer::Resolve),
            mediasec: some,
            add: vec![AddedField {
                name: "X-Customer".into(),
                value: "4711 \"a\"".into(),
            }],
            rewrite: rewrites
                .into_iter()
                .map(|field| Rewrite {
                    field,
                    user: None,
                    host: some.then(|| "sip.example.net".into()),
                    strip,
                    prepend: "+49".into(),
                })
                .collect(),
        },
    )
}

fn document() -> impl Strategy<Value = Document> {
    (parts(), 0_usize..8).prop_flat_map(|((zones, trunks), routes)| {
        let names: Vec<String> = trunks.iter().map(|trunk| trunk.name.clone()).collect();
        let routes: Vec<_> = (0..routes).map(|n| route(n, names.clone())).collect();
        let ports = vec((1_u16..1000, any::<bool>()), 0..6);
        (
            Just(zones),
            Just(trunks),
            routes,
            limits(),
            ports,
            "[a-z][a-z0-9]{0,20}",
            any::<bool>(),
            vec(policy(), 0..2),
        )
            .prop_map(
                |(zones, trunks, routes, limits, ports, name, lab, policies)| {
                    let mut listeners: Vec<Listener> = Vec::new();
                    for (port, udp) in ports {
                        let service = if udp {
                            Service::SipUdp
                        } else {
                            Service::SipTcp
                        };
                        let listener = Listener {
                            zone: "inside".into(),
                            service,
                            port,
                            certificates: Vec::new(),
                            origins: Vec::new(),
                        };
                        if !listeners.contains(&listener) {
                            listeners.push(listener);
                        }
                    }
                    Document {
                        schema: SCHEMA,
                        lab,
                        host: Host {
                            name: name.clone(),
                            language: if lab {
                                Language::German
                            } else {
                                Language::English
                            },
                            dns: vec!["10.200.0.53".parse().expect("address")],
                            ntp: vec![
                                "10.200.0.53:123".parse().expect("address"),
                                "10.200.0.54:1230".parse().expect("address"),
                            ],
                        },
                        sip: Sip {
                            domain: format!("{name}.example"),
                            registrar: Some(Registrar {
                                zone: "inside".into(),
                                addresses: vec!["10.200.0.10:5060".parse().expect("address")],
                                named: None,
                                transport: Transport::Udp,
                                large_requests_by_tcp: false,
                                tls: None,
                            }),
                            account: caps(lab, 3),
                        },
                        management: Management::default(),
                        zones,
                        listeners,
                        trunks,
                        routes,
                        policies,
                        limits,
                        registration: Registrations::default(),
                        bans: Bans::default(),
                        logging: Logging::default(),
                    }
                },
            )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_what_was_printed_gives_the_same_document(document in document()) {
        let text = document.canonical();
        match Document::parse(&text, "canonical") {
            Ok(read) => {
                prop_assert_eq!(&read, &document);
                prop_assert_eq!(read.canonical(), text);
                prop_assert!(diff(&read, &document).is_empty());
            }
            Err(errors) => prop_assert!(false, "{errors:?}\n{text}"),
        }
    }

    #[test]
    fn two_documents_differ_exactly_if_the_difference_has_a_key(a in document(), b in document()) {
        prop_assert_eq!(diff(&a, &b).is_empty(), a == b);
        let forth = diff(&a, &b);
        let back = diff(&b, &a);
        prop_assert_eq!(forth.len(), back.len());
        for (forth, back) in forth.iter().zip(&back) {
            prop_assert_eq!((&forth.key, &forth.old, &forth.new), (&back.key, &back.new, &back.old));
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,400}") {
        let _ = Document::parse(&text, "any");
    }

    /// Bytes of a good document exchanged, cut out, doubled: refused or valid, never a panic, never more than the bounds.
    #[test]
    fn a_mutated_document_is_answered(changes in vec((any::<usize>(), any::<u8>(), 0_u8..4), 1..12)) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, byte, kind) in changes {
            let at = at % bytes.len();
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => { let piece = bytes[at..(at + 40).min(bytes.len())].to_vec(); bytes.splice(at..at, piece); }
            }
        }
        if let Err(errors) = Document::parse(&String::from_utf8_lossy(&bytes), "mutated") {
            prop_assert!(!errors.is_empty() && errors.len() <= 100);
            prop_assert!(errors.iter().all(|error| error.sentence.english.len() < 4096));
        }
    }
}

#[test]
fn a_document_that_is_too_large_is_refused_unread() {
    let text = format!("{EXAMPLE}\n#{}", "x".repeat(appliance_config::MAX_DOCUMENT));
    let errors = Document::parse(&text, "large").expect_err("too large");
    assert_eq!(errors.len(), 1);
}

#[test]
fn deep_and_wide_documents_end_in_bounded_refusals() {
    let hostile = [
        format!(
            "schema = 1\nx = {}{}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
        format!("schema = 1\n{} = 1", vec!["a"; 100_000].join(".")),
        format!("schema = 1\nx = {}", "{a=".repeat(60_000)),
        format!(
            "schema = 1\n{}",
            (0..20_000)
                .map(|n| format!("k{n} = 1\n"))
                .collect::<String>()
        ),
        format!("schema = 1\n{}", "[[zone]]\n".repeat(25_000)),
        format!(
            "schema = 1\n{}",
            "[[route]]\nfrom = [\"trunk:x\"]\n".repeat(8_000)
        ),
        format!("schema = 1\n[host]\nname = \"{}\"", "x".repeat(200_000)),
        "\u{0}".repeat(200_000),
        "=".repeat(200_000),
        "\"".repeat(200_000),
    ];
    for text in &hostile {
        let errors = Document::parse(text, "hostile").expect_err("hostile");
        assert!(!errors.is_empty() && errors.len() <= 100);
    }
}

#[test]
fn the_largest_routing_table_is_checked_within_a_second() {
    let head = EXAMPLE.split("[[route]]").next().expect("head");
    let routes: String = (0..1000)
        .map(|n| format!("[[route]]\nname = \"r{n}\"\nfrom = [\"internal\"]\nprefix = \"+{n:04}\"\ndigits = \"1-9\"\naction = \"refuse\"\n"))
        .collect();
    let start = std::time::Instant::now();
    let document = Document::parse(&format!("{head}{routes}"), "large").expect("valid");
    assert_eq!(document.routes.len(), 1000);
    assert!(
        start.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}
