//! The documents that are shipped with the product: they are read, and the laboratory's says what its contract says.

use std::path::Path;

use appliance_config::{Action, Called, Document, Ipv4, Ipv6, Origin, TrunkChoice, ZoneKind, diff};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(path: &str) -> Document {
    Document::parse(&read(path), path).unwrap_or_else(|errors| {
        panic!(
            "{}",
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })
}

#[test]
fn the_commented_example_is_valid_and_keeps_its_meaning_when_printed() {
    let example = parse("example.toml");
    let printed =
        Document::parse(&example.canonical(), "canonical").expect("canonical form is valid");
    assert_eq!(printed, example);
    assert_eq!(diff(&example, &printed), []);
    assert_eq!(printed.canonical(), example.canonical());
}

#[test]
fn the_numbers_of_the_example_are_the_defaults() {
    let example = parse("example.toml");
    assert_eq!(example.limits, appliance_config::Limits::default());
    assert_eq!(
        example.bans.numbers,
        appliance_config::BanNumbers::default()
    );
    assert_eq!(
        example.logging.numbers,
        appliance_config::Logging::default().numbers
    );
    assert_eq!(example.management, appliance_config::Management::default());
}

#[test]
fn a_vlan_lies_on_the_link_of_the_zone_that_has_the_card_untagged() {
    let example = parse("example.toml");
    let (_, management) = example.zone("management").expect("zone");
    assert_eq!(management.ifname(), "management");
    assert_eq!(
        example.parent_ifname(management).as_deref(),
        Some("internal")
    );
    let (_, external) = example.zone("external").expect("zone");
    assert_eq!(example.parent_ifname(external), None);
}

#[test]
fn the_laboratory_is_as_its_contract_says() {
    let lab = parse("../../tests/lab/gatehouse.toml");
    assert!(lab.lab);
    assert_eq!(lab.sip.domain, "lab.test");
    let links: Vec<&str> = lab
        .zones
        .iter()
        .map(appliance_config::Zone::ifname)
        .collect();
    assert_eq!(links, ["ext0", "int0", "mgmt0"]);
    let addresses: Vec<String> = lab
        .own_addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        addresses,
        [
            "198.51.100.1",
            "2001:db8:e::1",
            "192.0.2.1",
            "2001:db8:1::1",
            "203.0.113.1",
            "2001:db8:2::1"
        ]
    );
    let (_, external) = lab.zone("external").expect("zone");
    assert_eq!(external.kind, ZoneKind::External);
    assert!(
        matches!(external.ipv4, Some(Ipv4::Static { gateway: Some(gateway), .. }) if gateway.to_string() == "198.51.100.254")
    );
    assert!(
        matches!(external.ipv6, Some(Ipv6::Static { gateway: Some(gateway), .. }) if gateway.to_string() == "2001:db8:e::fe")
    );
    let listeners: Vec<String> = lab
        .listeners
        .iter()
        .map(|l| format!("{} {} {}", l.zone, l.service, l.port))
        .collect();
    assert_eq!(
        listeners,
        [
            "external sip-udp 5060",
            "external sip-tcp 5060",
            "external sip-tls 5061",
            "external wss 443",
            "internal sip-udp 5060",
            "internal sip-tcp 5060",
            "management management-https 8443"
        ]
    );
    assert!(
        lab.listeners
            .iter()
            .all(|l| l.service.is_sip_over_tls() != l.certificates.is_empty())
    );
    let trunk = lab.trunks.get(1).expect("trunk2");
    assert_eq!(
        trunk.addresses.first().map(ToString::to_string).as_deref(),
        Some("198.51.100.21:5060")
    );
    let registration = trunk.registration.as_ref().expect("registration");
    assert_eq!(
        (registration.user.as_str(), registration.realm.as_str()),
        ("gatehouse", "trunk2.test")
    );
    assert!(registration.interval_seconds <= 300);
}

#[test]
fn the_laboratory_weakens_no_default() {
    let lab = parse("../../tests/lab/gatehouse.toml");
    assert_eq!(lab.limits, appliance_config::Limits::default());
    assert_eq!(lab.bans, appliance_config::Bans::default());
    assert_eq!(
        lab.logging.numbers,
        appliance_config::Logging::default().numbers
    );
    assert!(
        lab.zones
            .iter()
            .all(|zone| zone.media == appliance_config::Media::default()
                && zone.allow_list.is_empty())
    );
}

#[test]
fn the_laboratory_believes_its_own_ranges_and_no_others() {
    let lab = parse("../../tests/lab/gatehouse.toml");
    let (_, external) = lab.zone("external").expect("zone");
    let bogons = lab.bogons(external);
    let bogon = |address: &str| {
        bogons
            .iter()
            .any(|net| net.contains(&address.parse::<std::net::IpAddr>().expect("address")))
    };
    for believed in [
        "198.51.100.66",
        "198.18.7.7",
        "2001:db8:e::66",
        "2001:db8:f::1",
        "8.8.8.8",
    ] {
        assert!(!bogon(believed), "{believed}");
    }
    for refused in [
        "192.0.2.10",
        "203.0.113.10",
        "198.19.0.1",
        "2001:db8:1::10",
        "2001:db8:2::10",
        "10.0.0.1",
        "127.0.0.1",
    ] {
        assert!(bogon(refused), "{refused}");
    }
    let (_, internal) = lab.zone("internal").expect("zone");
    assert!(lab.bogons(internal).is_empty());
}

/// Which route takes a call, by the rule of the document: first match.
fn route<'a>(
    document: &'a Document,
    from: &Origin,
    number: &str,
) -> Option<&'a appliance_config::Route> {
    document.routes.iter().find(|route| {
        let Called::Number(called) = &route.called else {
            return false;
        };
        let Some(rest) = number.strip_prefix(&called.prefix) else {
            return false;
        };
        route.from.contains(from)
            && rest.bytes().all(|b| b.is_ascii_digit())
            && (usize::from(called.digits.first)..=usize::from(called.digits.last))
                .contains(&rest.len())
            && called.range.is_none_or(|range| {
                rest.parse()
                    .is_ok_and(|v: u64| range.first <= v && v <= range.last)
            })
    })
}

#[test]
fn the_laboratory_routes_numbers_as_its_contract_says() {
    let lab = parse("../../tests/lab/gatehouse.toml");
    let trunk = Origin::Trunk("trunk1".into());
    let action =
        |from: &Origin, number: &str| route(&lab, from, number).map(|route| route.action.clone());
    let out = Some(Action::Trunks(vec![
        TrunkChoice::in_order("trunk1", 0),
        TrunkChoice::in_order("trunk2", 1),
    ]));
    for from in [&Origin::Registered, &Origin::Internal] {
        assert_eq!(action(from, "1001"), Some(Action::Registrar));
        assert_eq!(action(from, "1199"), Some(Action::Registrar));
        assert_eq!(action(from, "1200"), None);
        assert_eq!(action(from, "+493055512345"), out);
        assert_eq!(action(from, "00493055512345"), out);
        assert_eq!(action(from, "+1234567"), None);
        assert_eq!(action(from, "+1234567890123456"), None);
        for dear in [
            "+19001234567",
            "+8821234567",
            "+88312345678",
            "0019001234567",
        ] {
            assert_eq!(action(from, dear), Some(Action::Refuse(403)), "{dear}");
        }
    }
    assert_eq!(action(&trunk, "1001"), Some(Action::Registrar));
    assert_eq!(action(&trunk, "+49305551001"), Some(Action::Registrar));
    assert_eq!(
        route(&lab, &trunk, "+49305551001").map(|route| route.strip),
        Some(8)
    );
    assert_eq!(action(&trunk, "+493055599"), None);
    assert_eq!(action(&trunk, "+4930123456"), None);
    assert_eq!(action(&Origin::Registrar, "1001"), Some(Action::Binding));
}
