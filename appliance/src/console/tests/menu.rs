//! A box that is set up: status, tests, power, factory reset, reconfiguration.

use appliance_config::{Document, Ipv4};
use broker_proto::{
    control::Command,
    network_test::{Cable, Host, Outcome, Probe},
};

use super::{Session, running};

#[test]
fn status_shows_complaints_first_and_the_menu() {
    let mut session = running();
    session
        .sees("revision 8 is passed over")
        .sees("calls")
        .sees("AB:CD:EF")
        .sees("#7");
    session.press("Network test").sees("Please wait");
    let (id, command) = session.command().expect("asked");
    assert_eq!(command, Command::NetworkTest);
    let probe = |zone: &str, host, address: &str, outcome| Probe {
        zone: zone.into(),
        host,
        name: if host == Host::Trunk { "carrier" } else { "" }.into(),
        address: address.parse().expect("address"),
        outcome,
    };
    session.app.tested(
        id,
        vec![
            ("external".into(), Cable::Connected),
            ("internal".into(), Cable::Unplugged),
            ("management".into(), Cable::NoCard),
        ],
        vec![
            probe(
                "external",
                Host::Gateway,
                "198.51.100.254",
                Outcome::Answered {
                    microseconds: 1_234,
                },
            ),
            probe("external", Host::Trunk, "2001:db8::20", Outcome::NoRoute),
            probe("internal", Host::Pbx, "192.0.2.10", Outcome::Silent),
        ],
    );
    session.settle();
    session
        .sees("external: cable connected")
        .sees("gateway            198.51.100.254: answers (1.2 ms)")
        .sees("carrier carrier    2001:db8::20: there is no way to it")
        .sees("internal: no cable")
        .sees("PBX                192.0.2.10: does not answer")
        .sees("the card is missing")
        .press("Back")
        .sees("Reconfigure");
    session.press("Self-test");
    assert_eq!(
        session.command().map(|(_, command)| command),
        Some(Command::SelfTest)
    );
    session.escape().sees("Reconfigure");
}

#[test]
fn power_and_factory_reset_ask_first_and_the_reset_twice() {
    let mut session = running();
    session
        .press("Power")
        .sees("Live calls end")
        .press("Back")
        .press("Factory reset")
        .sees("cannot be undone")
        .keys("\r");
    session
        .sees("Reconfigure")
        .press("Factory reset")
        .press("Yes")
        .sees("ERASE")
        .press("Erase everything")
        .sees("Nothing was erased");
    assert!(session.command().is_none());
    session.fill("Word", "ERASE").press("Erase everything");
    assert_eq!(
        session.command().map(|(_, command)| command),
        Some(Command::FactoryReset)
    );
    let mut session = running();
    session.press("Power").press("Restart");
    assert_eq!(
        session.command().map(|(_, command)| command),
        Some(Command::Reboot)
    );
}

#[test]
fn reconfiguring_changes_only_what_was_changed() {
    let mut session = running();
    let before = Document::parse(include_str!("../../../../tests/lab/gatehouse.toml"), "lab")
        .expect("valid");
    session
        .press("Reconfigure")
        .press("Next")
        .fill("Host name", "other")
        .press("Next")
        .sees("ext0");
    for _ in 0..8 {
        session.press("Next");
    }
    session
        .sees("Changes:")
        .sees("~ host.name = \"gatehouse\" -> \"other\"")
        .press("Confirm");
    let (id, text, secrets) = session.proposal().expect("proposed");
    let after = Document::parse(&text, "proposed").expect("valid");
    let keys: Vec<String> = appliance_config::diff(&before, &after)
        .into_iter()
        .map(|change| change.key)
        .collect();
    assert_eq!(keys, ["host.name"]);
    assert!(secrets.is_empty(), "an empty password leaves the old one");
    session.app.configuration(8, &text);
    session.app.answer(id, Ok(String::new()));
    session.settle();
    session.sees("in force");
}

#[test]
fn leaving_a_reconfiguration_keeps_it_for_later() {
    let mut session = running();
    session
        .press("Reconfigure")
        .press("Next")
        .fill("Host name", "half-done")
        .keys("\x03")
        .press("Leave")
        .sees("Reconfigure");
    session
        .press("Reconfigure")
        .sees("go on with what you typed")
        .press("Next")
        .sees("half-done");
}

#[test]
fn a_configuration_from_elsewhere_ends_the_first_set_up() {
    let mut session = Session::first();
    session
        .app
        .configuration(1, include_str!("../../../../tests/lab/gatehouse.toml"));
    session.settle();
    session.sees("[ Log in ]");
    let (_, _, document) = session.app.all_problems();
    assert!(matches!(document.zones[0].ipv4, Some(Ipv4::Static { .. })));
}
