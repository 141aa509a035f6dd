//! Zones, their listeners and certificates, and the peers in them.

use super::*;

#[test]
fn zones_must_agree_with_each_other() {
    one(
        "gateway = \"192.0.33.129\"",
        "gateway = \"192.0.34.1\"",
        "zone.external.ipv4.gateway",
        "does not lie in the network 192.0.33.128/28",
    );
    one(
        "gateway = \"192.0.33.129\"",
        "gateway = \"192.0.33.130\"",
        "zone.external.ipv4.gateway",
        "own address",
    );
    one(
        "address = \"192.0.33.130/28\"",
        "address = \"192.0.33.143/28\"",
        "zone.external.ipv4.address",
        "first or last",
    );
    one(
        "address = \"10.99.0.1/24\"",
        "address = \"10.20.0.9/24\"",
        "zone.management.ipv4.address",
        "overlaps with 10.20.0.0/24",
    );
    one(
        "address = \"10.99.0.1/24\"",
        "address = \"10.21.5.1/24\"",
        "zone.management.ipv4.address",
        "overlaps with 10.21.0.0/16",
    );
    one(
        "gateway = \"10.20.0.254\"",
        "gateway = \"10.99.0.254\"",
        "zone.internal.routed[0].gateway",
        "not another host",
    );
    one(
        "network = \"172.20.8.0/24\"",
        "network = \"0.0.0.0/0\"",
        "zone.carrier.routed[0].network",
        "default route",
    );
    one(
        "vlan = 99",
        "vlan = 4095",
        "zone.management.interface.vlan",
        "1 to 4094",
    );
    one(
        "mac = \"52:54:00:12:34:03\"",
        "mac = \"52:54:00:12:34:01\"",
        "zone.carrier.interface",
        "the card of `zone.external`",
    );
    one(
        "mac = \"52:54:00:12:34:03\"",
        "name = \"internal\"",
        "zone.carrier.interface",
        "link would be called internal",
    );
    one(
        "address = \"10.99.0.1/24\"",
        "method = \"dhcp\"",
        "zone.management.ipv4.method",
        "only external zones",
    );
    one(
        "ports = \"16384-32767\"",
        "ports = \"16385-32767\"",
        "zone.external.media.ports",
        "even port",
    );
    one(
        "ports = \"16384-32767\"",
        "ports = \"512-4000\"",
        "zone.external.media.ports",
        "1024 or more",
    );
    one(
        "peer_ports = \"1024-65535\"",
        "peer_ports = \"53-65535\"",
        "zone.external.media.peer_ports",
        "1024",
    );
    one(
        "not_bogon = []",
        "not_bogon = [\"127.0.0.0/8\"]",
        "zone.external.not_bogon[0]",
        "never a source",
    );
    one(
        "allow_list = []",
        "allow_list = [\"0.0.0.0/0\"]",
        "zone.external.allow_list[0]",
        "too large",
    );
    one(
        "networks = []",
        "networks = [\"10.99.0.0/16\"]",
        "zone.external.media.networks[0]",
        "management zone",
    );
}

#[test]
fn exactly_one_zone_is_the_management_zone() {
    let (text, _) = changed("kind = \"management\"", "kind = \"internal\"");
    let errors = refused(&text);
    assert!(
        list(&errors).contains("exactly one must be"),
        "{}",
        list(&errors)
    );
    let (text, line) = changed("kind = \"partner\"", "kind = \"management\"");
    let errors = refused(&text);
    assert!(
        errors.iter().any(|e| e.line == line
            && e.sentence
                .english
                .contains("second management zone (the first is at line")),
        "{}",
        list(&errors)
    );
}

#[test]
fn tls_needs_certificates_and_authorities_and_nothing_else_has_them() {
    let (udp, backup) = ("service = \"sip-udp\"", "addresses = [\"192.0.34.20\"]");
    for (line, more, key, words) in [
        (
            udp,
            "service = \"sip-tls\"",
            "listener[0].certificates",
            "sip-tls needs a certificate",
        ),
        (
            udp,
            "service = \"sip-udp\"\ncertificates = [\"sip\"]",
            "listener[0].certificates",
            "shows no certificate",
        ),
        (
            udp,
            "service = \"wss\"\ncertificates = [\"management\"]",
            "listener[0].certificates",
            "key of the management pages",
        ),
        (
            udp,
            "service = \"sip-udp\"\norigins = [\"*\"]",
            "listener[0].origins",
            "only WebSocket",
        ),
        (
            backup,
            "addresses = [\"192.0.34.20\"]\ntransport = \"tls\"",
            "trunk.backup.transport",
            "who vouches",
        ),
        (
            backup,
            "addresses = [\"192.0.34.20\"]\ntls = { names = [\"Upper.example\"], authorities = [\"ca\"] }",
            "trunk.backup.tls.names[0]",
            "no name of a certificate",
        ),
    ] {
        let errors = refused(&changed(line, more).0);
        assert!(
            errors
                .iter()
                .any(|error| error.key == key && error.to_string().contains(words)),
            "`{more}`:\n{}",
            list(&errors)
        );
    }
}

#[test]
fn listeners_and_peers_must_fit_their_zones() {
    one(
        "port = 5060",
        "port = 20000",
        "listener[0].port",
        "media ports 16384-32767",
    );
    one(
        "zone = \"management\"",
        "zone = \"carrier\"",
        "listener[6].zone",
        "management zone only",
    );
    one(
        "addresses = [\"192.0.34.20\"]",
        "addresses = [\"10.99.0.20\"]",
        "trunk.backup.addresses[0]",
        "lies in zone `management`",
    );
    one(
        "addresses = [\"192.0.34.20\"]",
        "addresses = [\"172.20.8.5\"]",
        "trunk.backup.addresses[0]",
        "told apart",
    );
    one(
        "addresses = [\"192.0.34.20\"]",
        "addresses = [\"192.0.33.130\"]",
        "trunk.backup.addresses[0]",
        "own address",
    );
    by_name();
    one(
        "addresses = [\"172.20.8.5\", \"172.20.8.6\"]",
        "addresses = [\"192.0.34.1\"]",
        "trunk.carrier.addresses[0]",
        "out of reach",
    );
    one(
        "addresses = [\"10.20.0.10:5060\"]",
        "addresses = [\"[2001:db8::1]:5060\"]",
        "sip.registrar.addresses[0]",
        "no IPv6",
    );
    one(
        "interval_seconds = 300",
        "interval_seconds = 5",
        "trunk.backup.registration.interval_seconds",
        "30 to 86400",
    );
    one(
        "transport = \"udp\"",
        "transport = \"tls\"",
        "sip.registrar.transport",
        "over TLS",
    );
}

#[test]
fn no_sip_is_spoken_in_the_management_zone() {
    let (text, _) = changed("service = \"management-https\"", "service = \"sip-udp\"");
    let errors = refused(&text);
    assert_eq!(
        errors.first().map(|error| error.key.as_str()),
        Some("listener[6].zone"),
        "{}",
        list(&errors)
    );
}

#[test]
fn a_second_listener_on_a_port_is_refused_with_the_line_of_the_first() {
    let text = format!("{EXAMPLE}\n[[listener]]\nzone = \"external\"\nservice = \"sip-udp\"\n");
    let errors = refused(&text);
    let [error] = errors.as_slice() else {
        panic!("{}", list(&errors))
    };
    assert!(
        error
            .sentence
            .english
            .contains("port 5060 of zone `external` is already taken by the listener at line"),
        "{error}"
    );
}

/// A peer that is looked up is bounded.
fn by_name() {
    let (host, networks) = (
        "host = \"sip.cloud.example\"",
        "networks = [\"192.0.35.0/24\"]",
    );
    one(
        networks,
        "networks = []",
        "trunk.cloud.networks",
        "not believed without bounds",
    );
    one(
        networks,
        "networks = [\"192.0.0.0/12\"]",
        "trunk.cloud.networks[0]",
        "too wide",
    );
    one(
        networks,
        "networks = [\"10.21.7.0/24\"]",
        "trunk.cloud.networks[0]",
        "lies in zone `internal`",
    );
    one(
        networks,
        "networks = [\"192.0.34.0/24\"]",
        "trunk.cloud.networks",
        "could not be told apart",
    );
    one(
        networks,
        "networks = [\"2001:db8:77::/48\", \"224.0.0.0/24\"]",
        "trunk.cloud.networks[1]",
        "not the address of a host",
    );
    one(
        host,
        "host = \"sip:cloud.example\"",
        "trunk.cloud.host",
        "without sip:",
    );
    one(
        host,
        "host = \"192.0.35.7\"",
        "trunk.cloud.host",
        "not a host name",
    );
    one(
        "transport = \"naptr\"",
        "transport = \"tls\"",
        "trunk.cloud.transport",
        "authorities",
    );
    one(
        "ports = [5060, 5070]",
        "ports = [0]",
        "trunk.cloud.ports",
        "no port",
    );
}
