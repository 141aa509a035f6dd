//! Closed from power-on: probes without pause on all three links from before the power until the machine is ready, and
//! scans afterwards.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use e2e::{api, machine::Machine, scan};
use serde_json::Value;

use crate::{
    MachineTest,
    house::{self, BOOT, House, await_doors, await_health},
    probes::Probes,
    wire::{self, Frame, Kind},
};

pub const TESTS: &[MachineTest] = &[
    (
        "closed_from_power_on_nothing_answers_before_the_ruleset_stands",
        from_power_on,
    ),
    (
        "after_ready_only_the_advertised_of_65535_tcp_ports_answer",
        tcp_scan,
    ),
    ("after_ready_sampled_udp_ports_are_silent", udp_scan),
];

/// Time that probes go on after the machine is ready: then the advertised ports answer them.
const AFTER: Duration = Duration::from_secs(3);

fn from_power_on(house: &House) {
    house.end_running();
    let captures = wire::capture(&house.names, "power-on");
    let probes = Probes::begin(&house.names);
    let powered = SystemTime::now();
    let machine = house.fresh("running", Some(&house::laboratory()));
    machine.wait_for(" ready", BOOT);
    let ready = SystemTime::now();
    let sent_before = probes.sent();
    std::thread::sleep(AFTER);
    let sent = probes.end();
    let frames = captures.map(wire::Capture::end);

    let mut told = Vec::new();
    for (zone, frames) in ["external", "internal", "management"].iter().zip(&frames) {
        for frame in frames {
            assert!(
                may_be(zone, frame.kind),
                "{zone}: {:?} {:?} after power-on",
                frame.kind,
                since(powered, frame)
            );
        }
        let first = frames.iter().find(|frame| frame.kind != Kind::Neighbour);
        let first = first.unwrap_or_else(|| panic!("{zone}: no answer even when ready"));
        let neighbour = frames.first().map(|frame| since(powered, frame));
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for frame in frames {
            *kinds.entry(format!("{:?}", frame.kind)).or_default() += 1;
        }
        told.push((since(powered, first), neighbour));
        println!(
            "  {zone}: first neighbour frame {:.2} s, first answer {:?} {:.2} s after power-on; all frames of the guest: {kinds:?}",
            neighbour.unwrap_or_default().as_secs_f64(),
            first.kind,
            since(powered, first).as_secs_f64()
        );
    }
    await_doors(&house.names, &machine);
    await_health(&house.names);
    order_of_events(house);
    let first = told.iter().map(|(answer, _)| *answer).min();
    println!(
        "  {sent} probes, {sent_before} of them before ready at {:.2} s; answered or forwarded before the ruleset stood: 0; \
         first answer {:.2} s after power-on",
        ready.duration_since(powered).unwrap().as_secs_f64(),
        first.unwrap_or_default().as_secs_f64()
    );
    house.keep(machine);
}

/// What the guest may ever put on a link: an answer of the one service there, echo, neighbour discovery, and outside its own
/// registration with the carrier. Nothing with somebody else's source.
fn may_be(zone: &str, kind: Kind) -> bool {
    let ports: &[u16] = match zone {
        "management" => &[8443],
        "external" => &[5060, 5061, 443],
        _ => &[5060],
    };
    match kind {
        Kind::Neighbour | Kind::Echo => true,
        // A service may end a connection that it took, by a reset too; no other port says anything.
        Kind::Accept(from) | Kind::Tcp(from) | Kind::Reset(from) => ports.contains(&from),
        Kind::Udp(from) => zone != "management" && from == 5060,
        Kind::Icmp(_) | Kind::Passed(_) | Kind::Unknown(_) => false,
    }
}

fn since(powered: SystemTime, frame: &Frame) -> Duration {
    frame.at.duration_since(powered).unwrap_or_default()
}

/// The journal says the same: the closed ruleset, then the links, then the configured ruleset, then ready.
fn order_of_events(house: &House) {
    let records = api::get(&house.names, "/api/v1/records?limit=200");
    let codes: Vec<&str> = records["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| record["code"].as_str())
        .collect();
    let place = |code: &str| {
        codes
            .iter()
            .position(|own| *own == code)
            .unwrap_or_else(|| panic!("no record `{code}`: {codes:?}"))
    };
    let order = [
        "ruleset-closed",
        "links-up",
        "configuration-applied",
        "ready",
    ]
    .map(place);
    assert!(order.is_sorted(), "{codes:?}");
    println!("  journal: ruleset-closed < links-up < configuration-applied < ready");
}

fn tcp_scan(house: &House) {
    house.with_running(|_: &mut Machine| {
        api::reset(&house.names);
        let before = dropped(house);
        let captures = wire::capture(&house.names, "scan");
        scan::only_the_advertised_answer(&house.names);
        let frames = captures.map(wire::Capture::end);
        for (zone, frames) in ["external", "internal", "management"].iter().zip(&frames) {
            let wrong = frames.iter().find(|frame| !may_be(zone, frame.kind));
            assert!(wrong.is_none(), "{zone}: {wrong:?}");
        }
        // The guest must have seen the scan: what a queue on the way lost was not tried.
        let seen = dropped(house) - before;
        println!(
            "  6 addresses of 65,535 ports each; the guest's ruleset counted {seen} refused packets"
        );
        assert!(seen > 6 * 65_535 * 95 / 100, "the guest saw only {seen}");
    });
}

fn udp_scan(house: &House) {
    house.with_running(|_: &mut Machine| {
        let before = dropped(house);
        scan::udp_is_silent(&house.names);
        println!(
            "  the guest's ruleset counted {} refused packets",
            dropped(house) - before
        );
    });
}

/// All packets that the ruleset ever refused.
fn dropped(house: &House) -> u64 {
    let drops = api::get(&house.names, "/api/v1/drops");
    drops
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|drop| drop["count"].as_u64())
        .sum()
}

/// A record's code and fields, for tests that look one up.
pub fn codes(records: &Value) -> Vec<String> {
    records["records"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|record| Some(record["code"].as_str()?.to_owned()))
        .collect()
}
