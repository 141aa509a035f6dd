//! Zones against each other: cards, addresses, gateways, networks, media.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;

use super::Known;
use crate::{
    document::Document,
    error::{Sentence, say},
    table::Report,
    zone::{Ipv4, Ipv6, Zone, ZoneKind},
};

pub(super) fn check(document: &Document, known: &Known, report: &mut Report<'_>) {
    one_management_zone(document, known, report);
    unique_names_and_cards(document, known, report);
    for (index, zone) in document.zones.iter().enumerate() {
        let path = known.zones.at(index);
        addresses(zone, path, report);
        routed(zone, path, report);
        media(document, zone, path, report);
        lists(zone, path, report);
    }
    one_default_route(document, known, report);
    overlaps(document, known, report);
}

fn one_management_zone(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut management = document
        .zones
        .iter()
        .zip(&known.zones.read)
        .filter(|(zone, _)| zone.kind == ZoneKind::Management);
    let Some((_, first)) = management.next() else {
        if known.zones.unread.is_empty() {
            report.error(
                "zone",
                say!(
                    "no zone is of kind management; exactly one must be, or nobody could operate the box",
                    "keine Zone ist von der Art management; genau eine muss es sein, sonst könnte niemand die Anlage bedienen"
                ),
            );
        }
        return;
    };
    let line = report.place(first);
    for (_, path) in management {
        report.error(
            &format!("{path}.kind"),
            say!(
                "is a second management zone (the first is at line {line}); exactly one may be",
                "ist eine zweite Zone der Art management (die erste steht in Zeile {line}); es darf nur eine geben"
            ),
        );
    }
}

fn unique_names_and_cards(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut cards = BTreeMap::new();
    let mut links: BTreeMap<&str, String> = BTreeMap::new();
    for (index, zone) in document.zones.iter().enumerate() {
        let path = known.zones.at(index);
        // Two zones of one name have one path, so the line of the second stands for both; the sentence says it all.
        if names.insert(&zone.name, path.to_owned()).is_some() {
            let name = &zone.name;
            report.error(
                &format!("{path}.name"),
                say!(
                    "two zones are called `{name}`",
                    "zwei Zonen heißen `{name}`"
                ),
            );
            continue;
        }
        if let Some(other) = cards.insert(&zone.interface, path.to_owned()) {
            let line = report.place(&other);
            report.error(
                &format!("{path}.interface"),
                say!(
                    "is the card of `{other}` (line {line}) too; a card belongs to one zone, unless VLANs tell them apart",
                    "ist auch die Karte von `{other}` (Zeile {line}); eine Karte gehört zu einer Zone, sofern keine VLANs sie trennen"
                ),
            );
        } else if let Some(other) = links.insert(zone.ifname(), path.to_owned()) {
            let (line, link) = (report.place(&other), zone.ifname());
            report.error(
                &format!("{path}.interface"),
                say!(
                    "its link would be called {link}, as that of `{other}` (line {line})",
                    "die Schnittstelle hieße {link}, wie die von `{other}` (Zeile {line})"
                ),
            );
        }
    }
}

fn addresses(zone: &Zone, path: &str, report: &mut Report<'_>) {
    if zone.ipv4.is_none() && zone.ipv6.is_none() {
        report.error(
            path,
            say!(
                "has neither ipv4 nor ipv6; a zone needs an address of one family at least",
                "hat weder ipv4 noch ipv6; eine Zone braucht eine Adresse wenigstens einer Familie"
            ),
        );
    }
    let automatic = [
        ("ipv4", zone.ipv4 == Some(Ipv4::Dhcp)),
        ("ipv6", zone.ipv6 == Some(Ipv6::Ra)),
    ];
    for (family, automatic) in automatic {
        if automatic && zone.kind != ZoneKind::External {
            report.error(
                &format!("{path}.{family}.method"),
                say!(
                    "only external zones may take their address from the network; give this one a static address",
                    "nur externe Zonen dürfen ihre Adresse aus dem Netz beziehen; hier muss eine feste stehen"
                ),
            );
        }
    }
    if let Some(Ipv4::Static { address, gateway }) = zone.ipv4 {
        static_address(
            IpNet::V4(address),
            gateway.map(IpAddr::V4),
            &format!("{path}.ipv4"),
            report,
        );
    }
    if let Some(Ipv6::Static { address, gateway }) = zone.ipv6 {
        static_address(
            IpNet::V6(address),
            gateway.map(IpAddr::V6),
            &format!("{path}.ipv6"),
            report,
        );
    }
}

fn static_address(link: IpNet, gateway: Option<IpAddr>, path: &str, report: &mut Report<'_>) {
    if let Some(sentence) = not_a_host(link.addr(), Some(link)) {
        report.error(&format!("{path}.address"), sentence);
    }
    if link.prefix_len() < 8 {
        report.error(
            &format!("{path}.address"),
            say!(
                "the prefix length must be 8 at least",
                "die Präfixlänge muss mindestens 8 sein"
            ),
        );
    }
    let Some(gateway) = gateway else { return };
    let key = format!("{path}.gateway");
    let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let network = link.trunc();
    if gateway == link.addr() {
        report.error(
            &key,
            say!(
                "is the box's own address",
                "ist die eigene Adresse der Anlage"
            ),
        );
    } else if !link_local && !network.contains(&gateway) {
        report.error(
            &key,
            say!(
                "{gateway} does not lie in the network {network} of this zone",
                "{gateway} liegt nicht im Netz {network} dieser Zone"
            ),
        );
    } else if let Some(sentence) = (!link_local)
        .then(|| not_a_host(gateway, Some(link)))
        .flatten()
    {
        report.error(&key, sentence);
    }
}

/// Why an address cannot be that of one host, if it cannot.
pub(super) fn not_a_host(address: IpAddr, link: Option<IpNet>) -> Option<Sentence> {
    let odd = match address {
        IpAddr::V4(v4) => {
            v4.is_unspecified()
                || v4.is_loopback()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] >= 240
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some()
        }
    };
    if odd {
        return Some(say!(
            "{address} is not the address of a host",
            "{address} ist keine Adresse eines Rechners"
        ));
    }
    let link = link?;
    let ends = match link {
        IpNet::V4(v4) if v4.prefix_len() < 31 => {
            address == IpAddr::V4(v4.network()) || address == IpAddr::V4(v4.broadcast())
        }
        // RFC 4291 §2.6.1: the first address of a subnet is that of all its routers.
        IpNet::V6(v6) if v6.prefix_len() < 127 => {
            address == IpAddr::V6(Ipv6Addr::from(u128::from(v6.network())))
        }
        _ => false,
    };
    ends.then(|| {
        let network = link.trunc();
        say!(
            "{address} is the first or last address of {network}, not a host's",
            "{address} ist die erste oder letzte Adresse von {network}, nicht die eines Rechners"
        )
    })
}

fn routed(zone: &Zone, path: &str, report: &mut Report<'_>) {
    for (index, routed) in zone.routed.iter().enumerate() {
        let path = format!("{path}.routed[{index}]");
        if routed.network.prefix_len() == 0 {
            report.error(
                &format!("{path}.network"),
                say!(
                    "is the default route, which is written as gateway of the zone's ipv4 or ipv6",
                    "ist die Default-Route; sie steht als gateway unter ipv4 oder ipv6 der Zone"
                ),
            );
        }
        let gateway = routed.gateway;
        let on_link = zone
            .links()
            .iter()
            .any(|link| link.trunc().contains(&gateway) && link.addr() != gateway);
        let link_local =
            matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local()) && zone.ipv6.is_some();
        if !(on_link || link_local) {
            report.error(
                &format!("{path}.gateway"),
                say!(
                    "{gateway} is not another host in a network of this zone",
                    "{gateway} ist kein anderer Rechner in einem Netz dieser Zone"
                ),
            );
        } else if gateway.is_ipv4() != routed.network.addr().is_ipv4() {
            report.error(
                &format!("{path}.gateway"),
                say!(
                    "is of another IP version than the network",
                    "gehört zu einer anderen IP-Version als das Netz"
                ),
            );
        }
    }
}

fn media(document: &Document, zone: &Zone, path: &str, report: &mut Report<'_>) {
    let media = &zone.media;
    let ports = format!("{path}.media.ports");
    if media.ports.first < 1024 || !media.ports.first.is_multiple_of(2) {
        report.error(
            &ports,
            say!(
                "must begin with an even port of 1024 or more: RTP takes the even ones",
                "muss mit einem geraden Port ab 1024 beginnen: RTP nimmt die geraden"
            ),
        );
    }
    if media.ports.last - media.ports.first < 3 {
        report.error(
            &ports,
            say!(
                "holds less than the four ports of one call",
                "hat weniger als die vier Ports eines Gesprächs"
            ),
        );
    }
    if media.peer_ports.first < 1024 {
        report.error(
            &format!("{path}.media.peer_ports"),
            say!(
                "must begin at 1024 or above: media never go to a system port",
                "muss bei 1024 oder höher beginnen: Medien gehen nie an einen Systemport"
            ),
        );
    }
    if zone.kind == ZoneKind::Management && !media.networks.is_empty() {
        report.error(
            &format!("{path}.media.networks"),
            say!(
                "no media pass in the management zone",
                "in der Verwaltungszone gibt es keine Medien"
            ),
        );
    }
    let management: Vec<IpNet> = document
        .management_zone()
        .map(Zone::networks)
        .unwrap_or_default();
    for (index, network) in media.networks.iter().enumerate() {
        let Some(hit) = management.iter().find(|other| overlap(network, other)) else {
            continue;
        };
        if zone.kind == ZoneKind::Management || network.prefix_len() == 0 {
            // The whole Internet never includes the management zone: the renderer takes it out.
            continue;
        }
        report.error(
            &format!("{path}.media.networks[{index}]"),
            say!(
                "{network} reaches into {hit} of the management zone",
                "{network} reicht in {hit} der Verwaltungszone hinein"
            ),
        );
    }
}

fn lists(zone: &Zone, path: &str, report: &mut Report<'_>) {
    let outside = matches!(zone.kind, ZoneKind::External | ZoneKind::Partner);
    if !outside && !zone.not_bogon.is_empty() {
        report.error(
            &format!("{path}.not_bogon"),
            say!(
                "has a meaning in external and partner zones only; name other networks of this zone as routed",
                "gilt nur in externen und Partnerzonen; weitere Netze dieser Zone stehen unter routed"
            ),
        );
    }
    for (index, network) in zone.not_bogon.iter().enumerate() {
        if !NEVER
            .iter()
            .any(|never| never.parse().is_ok_and(|never| overlap(network, &never)))
        {
            continue;
        }
        report.error(
            &format!("{path}.not_bogon[{index}]"),
            say!(
                "{network} holds loopback, unspecified or multicast addresses, which are never a source",
                "{network} enthält Loopback-, unbestimmte oder Multicast-Adressen, die nie Absender sind"
            ),
        );
    }
    everybody(&zone.allow_list, &format!("{path}.allow_list"), report);
}

const NEVER: [&str; 6] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "ff00::/8",
];

/// An allow-list that holds everybody would be bans switched off under another name.
pub(super) fn everybody(list: &[IpNet], path: &str, report: &mut Report<'_>) {
    for (index, network) in list.iter().enumerate() {
        let least = if network.addr().is_ipv4() { 8 } else { 16 };
        if network.prefix_len() < least {
            report.error(
                &format!("{path}[{index}]"),
                say!(
                    "{network} is too large for an allow-list; the prefix length must be {least} at least",
                    "{network} ist zu groß für eine Ausnahmeliste; die Präfixlänge muss mindestens {least} sein"
                ),
            );
        }
    }
}

fn one_default_route(document: &Document, known: &Known, report: &mut Report<'_>) {
    for (v6, family) in [(false, "ipv4"), (true, "ipv6")] {
        let mut with = document
            .zones
            .iter()
            .zip(&known.zones.read)
            .filter(|(zone, _)| zone.has_default_route(v6) && may_be_automatic(zone, v6));
        let Some((_, first)) = with.next() else {
            continue;
        };
        let line = report.place(&format!("{first}.{family}"));
        for (_, path) in with {
            report.error(
                &format!("{path}.{family}"),
                say!(
                    "would be a second default route of {family}; the first is that of `{first}` (line {line})",
                    "wäre eine zweite Default-Route für {family}; die erste gehört zu `{first}` (Zeile {line})"
                ),
            );
        }
    }
}

/// Not a zone that is refused already for taking its address from the network.
fn may_be_automatic(zone: &Zone, v6: bool) -> bool {
    let automatic = if v6 {
        zone.ipv6 == Some(Ipv6::Ra)
    } else {
        zone.ipv4 == Some(Ipv4::Dhcp)
    };
    !automatic || zone.kind == ZoneKind::External
}

fn overlaps(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut seen: Vec<(IpNet, String)> = Vec::new();
    for (index, zone) in document.zones.iter().enumerate() {
        let path = known.zones.at(index);
        let links = zone.links().into_iter().map(|link| {
            let family = if link.addr().is_ipv4() {
                "ipv4"
            } else {
                "ipv6"
            };
            (link.trunc(), format!("{path}.{family}.address"))
        });
        let routed = zone
            .routed
            .iter()
            .enumerate()
            .map(|(i, r)| (r.network, format!("{path}.routed[{i}].network")));
        for (network, key) in links.chain(routed) {
            if network.prefix_len() == 0 {
                continue;
            }
            if let Some((other, place)) = seen.iter().find(|(other, _)| overlap(&network, other)) {
                let line = report.place(place);
                report.error(
                    &key,
                    say!(
                        "{network} overlaps with {other} of `{place}` (line {line}); a host must belong to one place",
                        "{network} überschneidet sich mit {other} von `{place}` (Zeile {line}); ein Rechner muss eindeutig zugeordnet sein"
                    ),
                );
            }
            seen.push((network, key));
        }
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
