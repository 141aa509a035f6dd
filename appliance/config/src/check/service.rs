//! Listeners, registrar, trunks, servers and numbers: each against the zone it names.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{
    Known,
    network::{everybody, not_a_host},
};
use crate::{
    document::Document,
    error::say,
    named::Named,
    sip::{Listener, PeerTls, Service, Transport},
    table::Report,
    zone::{Zone, ZoneKind},
};

pub(super) fn check(document: &Document, known: &Known, report: &mut Report<'_>) {
    listeners(document, known, report);
    peers(document, known, report);
    servers(document, known, report);
    numbers(document, report);
}

/// The zone of that name; reports it if the document has none. `None` also for zones that could not be read.
fn zone<'a>(
    document: &'a Document,
    known: &Known,
    report: &mut Report<'_>,
    name: &str,
    key: &str,
) -> Option<&'a Zone> {
    if let Some((_, zone)) = document.zone(name) {
        return Some(zone);
    }
    let unread = known
        .zones
        .unread
        .iter()
        .any(|path| path == &format!("zone.{name}") || path.ends_with(']'));
    if !unread {
        let names: Vec<&str> = document
            .zones
            .iter()
            .map(|zone| zone.name.as_str())
            .collect();
        report.error(key, super::unknown_name(name, &names, ("zone", "Zone")));
    }
    None
}

fn listeners(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut seen: BTreeMap<(&str, bool, u16), u32> = BTreeMap::new();
    for (index, listener) in document.listeners.iter().enumerate() {
        let path = known.listeners.at(index);
        tls_of(document, listener, path, report);
        let line = report.place(path);
        if let Some(first) = seen.insert(
            (&listener.zone, listener.service.is_udp(), listener.port),
            line,
        ) {
            let (port, name) = (listener.port, &listener.zone);
            report.error(
                &format!("{path}.port"),
                say!(
                    "port {port} of zone `{name}` is already taken by the listener at line {first}",
                    "Port {port} der Zone `{name}` ist schon durch den Listener in Zeile {first} belegt"
                ),
            );
        }
        let Some(zone) = zone(
            document,
            known,
            report,
            &listener.zone,
            &format!("{path}.zone"),
        ) else {
            continue;
        };
        let management = zone.kind == ZoneKind::Management;
        if listener.service == Service::ManagementHttps && !management {
            report.error(
                &format!("{path}.zone"),
                say!(
                    "management is offered in the management zone only",
                    "die Verwaltung wird nur in der Verwaltungszone angeboten"
                ),
            );
        }
        if listener.service.is_sip() && management {
            report.error(
                &format!("{path}.zone"),
                say!(
                    "no SIP is spoken in the management zone",
                    "in der Verwaltungszone gibt es kein SIP"
                ),
            );
        }
        let media = zone.media.ports;
        if listener.service.is_sip() && (media.first..=media.last).contains(&listener.port) {
            report.error(
                &format!("{path}.port"),
                say!(
                    "lies in the zone's media ports {media}",
                    "liegt in den Medienports {media} der Zone"
                ),
            );
        }
    }
}

/// Certificates where, and only where, there is TLS; origins where there is WebSocket.
fn tls_of(document: &Document, listener: &Listener, path: &str, report: &mut Report<'_>) {
    let service = listener.service;
    let key = format!("{path}.certificates");
    match (service.is_sip_over_tls(), listener.certificates.as_slice()) {
        (true, []) => report.error(
            &key,
            say!(
                "{service} needs a certificate: certificates = [\"NAME\"], a secret with certificate chain and private key",
                "{service} braucht ein Zertifikat: certificates = [\"NAME\"], ein Geheimnis aus Zertifikatskette und privatem Schlüssel"
            ),
        ),
        (false, [_, ..]) => report.error(
            &key,
            say!(
                "{service} shows no certificate",
                "{service} zeigt kein Zertifikat"
            ),
        ),
        _ => {}
    }
    // What management uses, no other process may.
    if let Some(name) = listener
        .certificates
        .iter()
        .find(|name| **name == document.management.certificate)
    {
        report.error(
            &key,
            say!(
                "`{name}` is the key of the management pages; SIP needs one of its own",
                "`{name}` ist der Schlüssel der Verwaltungsseiten; SIP braucht einen eigenen"
            ),
        );
    }
    if !service.is_websocket() && !listener.origins.is_empty() {
        report.error(
            &format!("{path}.origins"),
            say!(
                "only WebSocket listeners are used by pages",
                "nur WebSocket-Listener werden von Webseiten benutzt"
            ),
        );
    }
}

fn peers(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut seen: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut nets: Vec<(IpNet, String)> = Vec::new();
    if let Some(registrar) = &document.sip.registrar {
        let path = "sip.registrar";
        transport(registrar.transport, registrar.tls.as_ref(), path, report);
        let zone = zone(
            document,
            known,
            report,
            &registrar.zone,
            &format!("{path}.zone"),
        );
        if let Some(zone) = zone
            && zone.kind != ZoneKind::Internal
        {
            let kind = zone.kind;
            report.error(
                &format!("{path}.zone"),
                say!(
                    "the PBX stands in an internal zone, this one is {kind}",
                    "die Telefonanlage steht in einer internen Zone, diese ist {kind}"
                ),
            );
        }
        endpoints(
            document,
            zone,
            &registrar.addresses,
            path,
            &mut seen,
            report,
        );
        if let Some(named) = &registrar.named {
            named_peer(document, zone, named, path, &mut nets, report);
        }
    }
    let mut names: BTreeMap<&str, ()> = BTreeMap::new();
    for (index, trunk) in document.trunks.iter().enumerate() {
        let path = known.trunks.at(index);
        transport(trunk.transport, trunk.tls.as_ref(), path, report);
        if names.insert(&trunk.name, ()).is_some() {
            let name = &trunk.name;
            report.error(
                &format!("{path}.name"),
                say!(
                    "two trunks are called `{name}`",
                    "zwei Trunks heißen `{name}`"
                ),
            );
            continue;
        }
        let zone = zone(
            document,
            known,
            report,
            &trunk.zone,
            &format!("{path}.zone"),
        );
        if zone.is_some_and(|zone| zone.kind == ZoneKind::Management) {
            report.error(
                &format!("{path}.zone"),
                say!(
                    "no trunk stands in the management zone",
                    "in der Verwaltungszone steht kein Trunk"
                ),
            );
        }
        endpoints(document, zone, &trunk.addresses, path, &mut seen, report);
        if let Some(named) = &trunk.named {
            named_peer(document, zone, named, path, &mut nets, report);
        }
        if let Some(registration) = &trunk.registration
            && !(30..=86_400).contains(&registration.interval_seconds)
        {
            report.error(
                &format!("{path}.registration.interval_seconds"),
                say!(
                    "must be from 30 to 86400",
                    "muss zwischen 30 und 86400 liegen"
                ),
            );
        }
    }
    for (address, other) in &seen {
        let mut nets = nets.iter();
        if let Some((network, path)) =
            nets.find(|(network, path)| network.contains(address) && path != other)
        {
            let line = report.place(other);
            report.error(
                &format!("{path}.networks"),
                say!(
                    "{network} holds {address} of `{other}` (line {line}); requests from it could not be told apart",
                    "in {network} liegt {address} von `{other}` (Zeile {line}); Anfragen von dort wären nicht zu unterscheiden"
                ),
            );
        }
    }
}

/// A peer that is known by name: somebody can be asked, and its networks are few, within reach and nobody else's.
fn named_peer(
    document: &Document,
    zone: Option<&Zone>,
    named: &Named,
    path: &str,
    nets: &mut Vec<(IpNet, String)>,
    report: &mut Report<'_>,
) {
    // After another offence the list may be empty because it could not be read.
    if document.host.dns.is_empty() && report.is_clean() {
        report.error(
            &format!("{path}.host"),
            say!(
                "nobody can be asked for a name: host.dns lists no name server",
                "niemand kann nach einem Namen gefragt werden: host.dns nennt keinen Nameserver"
            ),
        );
    }
    if named.ports.contains(&0) {
        report.error(
            &format!("{path}.ports"),
            say!("0 is no port", "0 ist kein Port"),
        );
    }
    for (index, network) in named.networks.iter().enumerate() {
        let key = format!("{path}.networks[{index}]");
        // Wider ones bound nothing.
        let least = if network.addr().is_ipv6() { 32 } else { 16 };
        if network.prefix_len() < least {
            report.error(
                &key,
                say!(
                    "{network} is too wide to tell the peer from others; at least /{least}",
                    "{network} ist zu weit, um die Gegenstelle von anderen zu unterscheiden; mindestens /{least}"
                ),
            );
            continue;
        }
        let overlaps = |other: &IpNet| {
            other.prefix_len() > 0
                && (other.contains(&network.network()) || network.contains(&other.network()))
        };
        let mut others = nets.iter();
        if let Some((_, other)) = others.find(|(other, name)| overlaps(other) && name != path) {
            let line = report.place(other);
            report.error(
                &key,
                say!(
                    "{network} is shared with `{other}` (line {line}); requests from there could not be told apart",
                    "{network} teilt sich die Gegenstelle mit `{other}` (Zeile {line}); Anfragen von dort wären nicht zu unterscheiden"
                ),
            );
            continue;
        }
        nets.push((*network, path.to_owned()));
        let own = document.own_addresses();
        let host = network.hosts().find(|host| !own.contains(host));
        let (Some(zone), Some(host)) = (zone, host) else {
            continue;
        };
        if let Some(sentence) = not_a_host(host, None) {
            report.error(&key, sentence);
            continue;
        }
        let elsewhere = document
            .zones
            .iter()
            .filter(|other| other.name != zone.name)
            .find(|other| other.networks().iter().any(overlaps));
        match elsewhere {
            Some(other) => {
                let (name, other) = (&zone.name, &other.name);
                report.error(
                    &key,
                    say!(
                        "{network} lies in zone `{other}`, not in `{name}`",
                        "{network} liegt in Zone `{other}`, nicht in `{name}`"
                    ),
                );
            }
            None => reach(document, zone, host, &key, report),
        }
    }
}

/// Who is reached over TLS must be told apart.
fn transport(transport: Transport, tls: Option<&PeerTls>, path: &str, report: &mut Report<'_>) {
    if transport == Transport::Tls && tls.is_none() {
        report.error(
            &format!("{path}.transport"),
            say!(
                "over TLS a table `tls` must say who vouches for the far end: authorities = [\"NAME\"]",
                "über TLS muss eine Tabelle `tls` sagen, wer für die Gegenstelle bürgt: authorities = [\"NAME\"]"
            ),
        );
    }
}

/// Addresses of a peer: hosts, inside the reach of its zone, nobody else's.
fn endpoints(
    document: &Document,
    zone: Option<&Zone>,
    addresses: &[SocketAddr],
    path: &str,
    seen: &mut BTreeMap<IpAddr, String>,
    report: &mut Report<'_>,
) {
    for (index, endpoint) in addresses.iter().enumerate() {
        let key = format!("{path}.addresses[{index}]");
        let address = endpoint.ip();
        if let Some(sentence) = not_a_host(address, None) {
            report.error(&key, sentence);
            continue;
        }
        match seen.get(&address) {
            Some(other) if other != path => {
                let line = report.place(other);
                report.error(
                    &key,
                    say!(
                        "{address} is an address of `{other}` (line {line}) too; requests from it could not be told apart",
                        "{address} gehört auch zu `{other}` (Zeile {line}); Anfragen von dort wären nicht zu unterscheiden"
                    ),
                );
                continue;
            }
            _ => {
                seen.insert(address, path.to_owned());
            }
        }
        if addresses.iter().take(index).any(|other| other == endpoint) {
            report.error(
                &key,
                say!("stands twice in the list", "steht zweimal in der Liste"),
            );
        }
        let Some(zone) = zone else { continue };
        reach(document, zone, address, &key, report);
    }
}

fn reach(document: &Document, zone: &Zone, address: IpAddr, key: &str, report: &mut Report<'_>) {
    let name = &zone.name;
    if document.own_addresses().contains(&address) {
        report.error(
            key,
            say!(
                "is the box's own address",
                "ist die eigene Adresse der Anlage"
            ),
        );
        return;
    }
    let family = if address.is_ipv6() {
        zone.ipv6.is_some()
    } else {
        zone.ipv4.is_some()
    };
    if !family {
        let version = if address.is_ipv6() { "IPv6" } else { "IPv4" };
        report.error(
            key,
            say!(
                "zone `{name}` has no {version}, so {address} is out of its reach",
                "Zone `{name}` hat kein {version}, {address} ist von dort nicht erreichbar"
            ),
        );
        return;
    }
    if zone
        .networks()
        .iter()
        .any(|network| network.contains(&address))
    {
        return;
    }
    if let Some(other) = document.zones.iter().find(|other| other.contains(address)) {
        let other = &other.name;
        report.error(
            key,
            say!(
                "{address} lies in zone `{other}`, not in `{name}`",
                "{address} liegt in Zone `{other}`, nicht in `{name}`"
            ),
        );
    } else if !zone.has_default_route(address.is_ipv6()) {
        report.error(
            key,
            say!(
                "{address} is out of reach: zone `{name}` has no network with it and no gateway",
                "{address} ist nicht erreichbar: Zone `{name}` hat weder ein Netz damit noch ein Gateway"
            ),
        );
    }
}

/// Name and time servers lie in a zone's network or behind the default route.
fn servers(document: &Document, known: &Known, report: &mut Report<'_>) {
    let dns = document
        .host
        .dns
        .iter()
        .enumerate()
        .map(|(i, address)| (*address, format!("host.dns[{i}]")));
    let ntp = document
        .host
        .ntp
        .iter()
        .enumerate()
        .map(|(i, server)| (server.ip(), format!("host.ntp[{i}]")));
    let hep = document
        .logging
        .hep
        .map(|hep| (hep.ip(), "logging.hep".to_owned()));
    for (address, key) in dns.chain(ntp).chain(hep) {
        if let Some(sentence) = not_a_host(address, None) {
            report.error(&key, sentence);
        } else if document.own_addresses().contains(&address) {
            report.error(
                &key,
                say!(
                    "is the box's own address",
                    "ist die eigene Adresse der Anlage"
                ),
            );
        } else if known.zones.unread.is_empty()
            && !document
                .zones
                .iter()
                .any(|zone| zone.contains(address) || zone.has_default_route(address.is_ipv6()))
        {
            report.error(
                &key,
                say!(
                    "{address} is out of reach: no zone has a network with it, and there is no default route",
                    "{address} ist nicht erreichbar: keine Zone hat ein Netz damit, und es gibt keine Default-Route"
                ),
            );
        }
    }
}

fn numbers(document: &Document, report: &mut Report<'_>) {
    let tables = [
        ("limits", document.limits.bounds()),
        ("registration", document.registration.numbers.bounds()),
        ("bans", document.bans.numbers.bounds()),
        ("logging", document.logging.numbers.bounds()),
    ];
    for (table, bounds) in tables {
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                report.error(
                    &format!("{table}.{key}"),
                    say!(
                        "must be from {least} to {most}, not {value}",
                        "muss zwischen {least} und {most} liegen, nicht {value}"
                    ),
                );
            }
        }
    }
    let registration = &document.registration.numbers;
    for (key, seconds) in [
        ("refresh_udp_seconds", registration.refresh_udp_seconds),
        (
            "refresh_stream_seconds",
            registration.refresh_stream_seconds,
        ),
    ] {
        if seconds.saturating_mul(2) > registration.registrar_expires_seconds {
            report.error(
                &format!("registration.{key}"),
                say!(
                    "is more than half of registrar_expires_seconds: every refresh would go to the PBX",
                    "ist mehr als die Hälfte von registrar_expires_seconds: jede Auffrischung ginge an die Telefonanlage"
                ),
            );
        }
        if seconds < registration.min_expires_seconds {
            report.error(
                &format!("registration.{key}"),
                say!(
                    "is less than min_expires_seconds",
                    "ist weniger als min_expires_seconds"
                ),
            );
        }
    }
    if document.bans.numbers.seconds > document.bans.numbers.seconds_max {
        report.error(
            "bans.seconds",
            say!("is more than seconds_max", "ist mehr als seconds_max"),
        );
    }
    everybody(&document.bans.allow_list, "bans.allow_list", report);
}
