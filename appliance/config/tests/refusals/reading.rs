//! The text of a document: keys, kinds of values, what is missing, what may not stand there; offences counted and in order.

use super::*;

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    one(
        "dns = [\"10.20.0.53\"]",
        "dsn = [\"10.20.0.53\"]",
        "host.dsn",
        "did you mean `dns`?",
    );
    one("lab = false", "labs = false", "labs", "did you mean `lab`?");
    one(
        "syn_rate = 2000",
        "syn_rates = 2000",
        "limits.syn_rates",
        "did you mean `syn_rate`?",
    );
    one(
        "drops_burst = 10",
        "colour = 10",
        "logging.colour",
        "possible: drops_per_second",
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_the_right_spelling() {
    one("lab = false", "lab = 0", "lab", "true or false");
    one(
        "calls = 2000",
        "calls = \"many\"",
        "limits.calls",
        "whole number",
    );
    one(
        "calls = 2000",
        "calls = -1",
        "limits.calls",
        "0 to 4294967295",
    );
    one(
        "calls = 2000",
        "calls = 0",
        "limits.calls",
        "from 1 to 100000",
    );
    one(
        "dns = [\"10.20.0.53\"]",
        "dns = [\"10.20.0.53\", \"ns.example.org\"]",
        "host.dns[1]",
        "names are not looked up",
    );
    one(
        "dns = [\"10.20.0.53\"]",
        "dns = \"10.20.0.53\"",
        "host.dns",
        "list in square brackets",
    );
    one(
        "mac = \"52:54:00:12:34:01\"",
        "mac = \"52:54:00:12:34\"",
        "zone.external.interface.mac",
        "hardware address",
    );
    one(
        "mac = \"52:54:00:12:34:01\"",
        "mac = \"01:00:5e:00:00:01\"",
        "zone.external.interface.mac",
        "group or null",
    );
    one(
        "network = \"10.21.0.0/16\"",
        "network = \"10.21.0.1/16\"",
        "zone.internal.routed[0].network",
        "10.21.0.0/16",
    );
    one(
        "kind = \"partner\"",
        "kind = \"partners\"",
        "zone.carrier.kind",
        "did you mean `partner`?",
    );
    one(
        "name = \"gatehouse\"",
        "name = \"Gate House\"",
        "host.name",
        "small letters",
    );
}

#[test]
fn several_offences_are_reported_at_once_in_the_order_of_the_lines() {
    let text = EXAMPLE
        .replace("language = \"de\"", "language = \"fr\"")
        .replace("gateway = \"192.0.33.129\"", "gateway = \"192.0.34.1\"")
        .replace("vlan = 99", "vlan = \"ninety-nine\"")
        .replace("seconds_max = 86400", "seconds_maximum = 86400");
    let errors = refused(&text);
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "host.language",
            "zone.external.ipv4.gateway",
            "zone.management.interface.vlan",
            "bans.seconds_maximum"
        ]
    );
    assert!(errors.windows(2).all(|pair| pair[0].line < pair[1].line));
}

#[test]
fn what_is_missing_is_said_where_it_is_missing() {
    let keys: Vec<String> = refused("schema = 1\n")
        .into_iter()
        .map(|error| error.key)
        .collect();
    assert_eq!(keys, ["zone", "host", "sip"]);
    let errors = refused("[host]\nname = \"x\"\n");
    assert_eq!(
        errors
            .first()
            .map(|e| (e.key.as_str(), e.sentence.english.as_str())),
        Some(("schema", "is missing here"))
    );
}

#[test]
fn another_schema_is_refused_without_a_flood() {
    let errors = refused(&EXAMPLE.replace("schema = 1", "schema = 2"));
    let [error] = errors.as_slice() else {
        panic!("{}", list(&errors))
    };
    assert!(error.sentence.english.contains("reads schema 1"), "{error}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let errors = refused("schema = 1\n[host\nname = \"x\"\n");
    assert_eq!(
        errors.first().map(|error| error.line),
        Some(2),
        "{}",
        list(&errors)
    );
}

#[test]
fn a_key_given_twice_is_refused() {
    let errors = refused(&EXAMPLE.replace("lab = false", "lab = false\nlab = true"));
    assert!(list(&errors).contains("duplicate key"), "{}", list(&errors));
}

#[test]
fn secrets_cannot_stand_in_the_document() {
    let errors =
        refused(&EXAMPLE.replace("secret = \"backup-password\"", "password = \"hunter2\""));
    assert!(
        errors
            .iter()
            .any(|e| e.key == "trunk.backup.registration.password"),
        "{}",
        list(&errors)
    );
    assert!(!list(&errors).contains("hunter2"));
}
