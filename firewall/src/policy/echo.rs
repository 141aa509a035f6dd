//! Hosts that the network test sends echo requests to, from the configuration: the ruleset lets it reach these, and the
//! daemon tries these.

use core::net::IpAddr;

use appliance_config::{Document, Ipv4, Ipv6, Zone};
use broker_proto::network_test::Host;

use super::leaves_by;

/// A host of a zone, by what it is to the box.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// What it is.
    pub host: Host,
    /// The trunk's name; empty for the others.
    pub name: String,
    /// Whereto.
    pub address: IpAddr,
}

/// The zone's gateways, name and time servers, PBX and trunks, ascending, each once. Gateways that are learnt are not
/// among them.
#[must_use]
pub fn targets(document: &Document, zone: &Zone) -> Vec<Target> {
    let plain = |host: Host| {
        move |address: IpAddr| Target {
            host,
            name: String::new(),
            address,
        }
    };
    let v4 = zone.ipv4.iter().filter_map(|v4| match v4 {
        Ipv4::Static { gateway, .. } => gateway.map(IpAddr::V4),
        Ipv4::Dhcp => None,
    });
    let v6 = zone.ipv6.iter().filter_map(|v6| match v6 {
        Ipv6::Static { gateway, .. } => gateway.map(IpAddr::V6),
        Ipv6::Ra => None,
    });
    let routed = zone.routed.iter().map(|routed| routed.gateway);
    let here = |address: &IpAddr| leaves_by(document, zone, *address);
    let names = document.host.dns.iter().copied().filter(here);
    let times = document.host.ntp.iter().map(|server| server.ip());
    let registrar = document.sip.registrar.iter();
    let registrar = registrar.filter(|registrar| registrar.zone == zone.name);
    let mut all: Vec<Target> = v4
        .chain(v6)
        .chain(routed)
        .map(plain(Host::Gateway))
        .collect();
    all.extend(names.map(plain(Host::NameServer)));
    all.extend(times.filter(here).map(plain(Host::TimeServer)));
    all.extend(
        registrar
            .flat_map(|registrar| &registrar.addresses)
            .map(|address| plain(Host::Pbx)(address.ip())),
    );
    for trunk in document
        .trunks
        .iter()
        .filter(|trunk| trunk.zone == zone.name)
    {
        all.extend(trunk.addresses.iter().map(|address| Target {
            host: Host::Trunk,
            name: trunk.name.clone(),
            address: address.ip(),
        }));
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::lab;

    #[test]
    fn every_host_is_tested_from_the_zone_by_which_packets_to_it_leave() {
        let mut document = lab();
        document.host.dns = vec![
            "192.0.2.53".parse().unwrap(),
            "198.18.0.53".parse().unwrap(),
        ];
        let of = |zone: &str| {
            let zone = document.zones.iter().find(|z| z.name == zone).unwrap();
            targets(&document, zone)
                .into_iter()
                .map(|target| (target.host, target.address.to_string()))
                .collect::<Vec<_>>()
        };
        let outside = of("external");
        for (host, address) in [
            (Host::Gateway, "198.51.100.254"),
            (Host::Gateway, "2001:db8:e::fe"),
            (Host::NameServer, "198.18.0.53"),
            (Host::Trunk, "198.51.100.20"),
        ] {
            assert!(outside.contains(&(host, address.into())), "{address}");
        }
        assert!(of("internal").contains(&(Host::NameServer, "192.0.2.53".into())));
        assert!(of("internal").contains(&(Host::Pbx, "192.0.2.10".into())));
        assert!(of("management").is_empty());
    }
}
