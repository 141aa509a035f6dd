//! The network test of the real program under the product's ruleset: who is there answers, who is not is said not to be.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use broker_proto::{
    control::{FromChild, ToChild},
    network_test::{Host, Outcome, Probe},
};
use support::{House, ID, is_root, receive};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse-firewall");

fn tested(house: &House) -> Vec<Probe> {
    house.tell(&ToChild::NetworkTest { id: ID }, None);
    let FromChild::NetworkTested { id, probes } = receive(&house.control).0 else {
        panic!("something else")
    };
    assert_eq!(id, ID);
    probes
}

#[test]
fn hosts_that_are_there_answer_over_both_protocols_and_others_are_said_not_to() {
    if !is_root("network test") {
        return;
    }
    let house = House::process(PROGRAM);
    let document = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/lab/gatehouse.toml"
    ))
    .unwrap();
    house.commit(1, &document);
    for (link, address) in [
        ("e0", "198.51.100.254/24"),
        ("e0", "2001:db8:e::fe/64"),
        ("e0", "198.51.100.20/24"),
        ("i0", "192.0.2.10/24"),
        ("i0", "2001:db8:1::10/64"),
    ] {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        house
            .outside
            .ip(&format!("addr add {address} dev {link}{nodad}"));
    }
    let probes = tested(&house);
    for probe in &probes {
        println!("{probe:?}");
    }
    let outcome = |host: Host, address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        let mut all = probes.iter();
        let probe = all.find(|probe| probe.host == host && probe.address == address);
        probe.unwrap_or_else(|| panic!("{address}")).outcome
    };
    for (host, address) in [
        (Host::Gateway, "198.51.100.254"),
        (Host::Gateway, "2001:db8:e::fe"),
        (Host::Trunk, "198.51.100.20"),
        (Host::Pbx, "192.0.2.10"),
        (Host::Pbx, "2001:db8:1::10"),
    ] {
        let outcome = outcome(host, address);
        assert!(
            matches!(outcome, Outcome::Answered { .. }),
            "{address}: {outcome:?}"
        );
    }
    let absent = outcome(Host::Trunk, "198.51.100.21");
    assert!(
        matches!(absent, Outcome::Unreachable | Outcome::Silent),
        "{absent:?}"
    );

    // A zone whose card is gone is said to be so, and the others are tested all the same.
    house.gateway.ip("link del int0");
    let probes = tested(&house);
    let of = |zone: &'static str| probes.iter().filter(move |probe| probe.zone == zone);
    assert!(of("internal").all(|probe| probe.outcome == Outcome::NoCard));
    assert!(of("external").any(|probe| matches!(probe.outcome, Outcome::Answered { .. })));
    house.stop();
}
