//! The rendered ruleset of the laboratory as a file that people review: `tests/golden/`. A change of the renderer shows
//! there. `GATEHOUSE_BLESS=1` writes it anew.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::path::PathBuf;

use appliance_config::Document;
use firewall::{nftables::render, policy::Policy};

fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("GATEHOUSE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let first = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "{name} differs, first at line {first:?}; GATEHOUSE_BLESS=1 writes it anew"
    );
}

fn lab() -> Policy {
    Policy::of(
        &Document::parse(
            include_str!("../../tests/lab/gatehouse.toml"),
            "gatehouse.toml",
        )
        .unwrap(),
    )
}

#[test]
fn the_laboratorys_ruleset_is_the_reviewed_one() {
    compare("lab.nft", &render(&lab()).text());
}

#[test]
fn a_trunk_that_is_known_by_name_is_met_in_its_networks_and_a_name_server_at_its_address() {
    let text = include_str!("../../appliance/config/example.toml");
    let document = Document::parse(text, "example.toml").unwrap();
    let rules = render(&Policy::of(&document)).text();
    let count = |rule: &str| rules.matches(rule).count();
    for port in [5060, 5070] {
        for protocol in ["udp", "tcp"] {
            let rule = format!("\t\tip daddr 192.0.35.0/24 {protocol} dport {port} accept");
            assert_eq!(count(&rule), 1, "{rule}");
        }
        let first = format!("udp sport 5060 ip daddr 192.0.35.0/24 udp dport {port} accept");
        assert_eq!(count(&first), 1, "{first}");
    }
    assert_eq!(count("ip daddr 192.0.35.0/24"), 6);
    assert_eq!(count("ip saddr 192.0.35.0/24 goto listen_peer/external"), 1);
    // The name server is asked by the zone that it lies in, and by sockets with that mark only.
    assert_eq!(count("dport 53 "), 3);
    let limit = "limit rate 50/second burst 100 packets accept";
    assert!(rules.contains(&format!("ip daddr 10.20.0.53 udp dport 53 {limit}")));
    let connect = "ip daddr 10.20.0.53 tcp dport 53 ct state";
    assert!(rules.contains(&format!("{connect} established accept")));
    assert!(rules.contains(&format!("{connect} new {limit}")));
    assert_eq!(count("goto connect_names/"), 1);
    assert!(rules.contains("meta mark 0x47480006 goto connect_names/internal"));
    // Nobody is asked where nobody is known by name.
    assert!(!render(&lab()).text().contains("connect_names"));
}

#[test]
fn the_closed_ruleset_is_the_reviewed_one() {
    compare("closed.nft", &render(&Policy::closed()).text());
}

#[test]
fn no_rule_accepts_a_range_of_ports() {
    let text = render(&lab()).text();
    let ranges: Vec<_> = text
        .lines()
        .filter(|line| line.contains("16384-32767"))
        .collect();
    assert!(!ranges.is_empty());
    for line in ranges {
        assert!(line.contains("goto media/"), "{line}");
    }
}

#[test]
fn every_base_chain_drops_what_no_rule_names() {
    for policy in [lab(), Policy::closed()] {
        let ruleset = render(&policy);
        let bases: Vec<_> = ruleset
            .chains()
            .iter()
            .filter_map(|chain| chain.base)
            .collect();
        assert_eq!(bases.len(), 6);
        assert!(bases.iter().all(|base| base.ends_with("policy drop;")));
    }
}

#[test]
fn no_rule_uses_an_anonymous_set() {
    let ruleset = render(&lab());
    for rule in ruleset.chains().iter().flat_map(|chain| &chain.rules) {
        assert!(
            !rule.contains('{') || rule.contains("update @") || rule.contains("add @"),
            "{rule}"
        );
    }
}
