//! The broker's part of the configuration: who may listen where, connect whereto, and lend media to whom.

use appliance_config::{Document, Service, ZoneKind};
use broker_proto::{
    Role,
    settings::{Transport, ZoneId},
};

use super::{
    Addressing, Policy, Protocol, Zone, disjoint, leaves_by, settings::name_servers, sip_peers,
};
use crate::broker::permissions::{
    Bounds, ConnectPermission, ListenPermission, MediaPermissions, NetworkPermission, Permissions,
    Strangers, ZonePermissions,
};

/// What the broker may grant under `document`, whose policy is `policy`.
#[must_use]
pub fn permissions(document: &Document, policy: &Policy) -> Permissions {
    let named = |name: &str| {
        policy
            .zones
            .iter()
            .find(|zone| zone.name == name)
            .map(|zone| zone.id)
    };
    let listen = document.listeners.iter().filter_map(|listener| {
        let (role, transport) = match listener.service {
            Service::SipUdp => (Role::Sbc, Transport::Udp),
            Service::SipTcp => (Role::Sbc, Transport::Tcp),
            Service::SipTls => (Role::Sbc, Transport::Tls),
            Service::Ws => (Role::Sbc, Transport::Ws),
            Service::Wss => (Role::Sbc, Transport::Wss),
            Service::ManagementHttps => (Role::Management, Transport::Tls),
        };
        Some(ListenPermission {
            role,
            zone: named(&listener.zone)?,
            transport,
            port: listener.port,
        })
    });
    let learning = policy
        .zones
        .iter()
        .filter(|zone| zone.v4.as_ref().is_some_and(|v4| v4.learnt));
    // RFC 2131 §4.1: clients are answered at port 68.
    let dhcp = learning.map(|zone| ListenPermission {
        role: Role::Dhcp,
        zone: zone.id,
        transport: Transport::Udp,
        port: 68,
    });
    let peers: Vec<_> = sip_peers(document).collect();
    let sip = peers.iter().flat_map(|peer| {
        let each = peer.addresses.iter().flat_map(move |address| {
            let transports = peer.transports.iter();
            transports.map(move |transport| (*address, *transport))
        });
        let zone = named(peer.zone);
        each.filter_map(move |(peer, transport)| {
            Some(ConnectPermission {
                role: Role::Sbc,
                zone: zone?,
                transport,
                peer,
            })
        })
    });
    let networks = peers.iter().filter_map(|peer| {
        let bounds = peer.named?;
        Some(NetworkPermission {
            role: Role::Sbc,
            zone: named(peer.zone)?,
            transports: peer.transports.clone(),
            networks: bounds.networks.clone(),
            ports: bounds.ports.clone(),
        })
    });
    let names =
        name_servers(document).filter_map(|(zone, address)| Some((named(&zone.name)?, address)));
    let others = policy
        .zones
        .iter()
        .flat_map(|zone| zone.peers.iter().map(|peer| (zone.id, peer)));
    let others = others
        .filter(|(_, peer)| peer.role != Role::Sbc)
        .map(|(zone, peer)| ConnectPermission {
            role: peer.role,
            zone,
            transport: if peer.protocol == Protocol::Udp {
                Transport::Udp
            } else {
                Transport::Tcp
            },
            peer: peer.address,
        });
    let collector = document.logging.hep.into_iter().flat_map(|peer| {
        let zones = document.zones.iter();
        zones
            .filter(move |zone| leaves_by(document, zone, peer.ip()))
            .filter_map(move |zone| {
                Some(ConnectPermission {
                    role: Role::Sbc,
                    zone: named(&zone.name)?,
                    transport: Transport::Udp,
                    peer,
                })
            })
    });
    let limits = &document.limits;
    Permissions {
        zones: policy.zones.iter().map(zone_permissions).collect(),
        listen: listen.chain(dhcp).collect(),
        connect: sip.chain(others).chain(collector).collect(),
        connect_networks: networks.collect(),
        name_servers: names.collect(),
        forbidden_networks: management_networks(document, policy),
        allow_list: disjoint(
            policy
                .zones
                .iter()
                .flat_map(|zone| zone.allow_list.iter().copied()),
        ),
        bounds: Bounds {
            calls: limits.calls,
            call_rate: limits.call_rate,
            registrations: limits.registrations,
            media_sockets: limits.media_sockets,
            bans: document.bans.numbers.maximum,
            ban_seconds: document.bans.numbers.seconds_max,
            connections: limits.connections,
            connections_per_source: limits.connections_per_source,
        },
        lab: document.lab,
    }
}

fn zone_permissions(zone: &Zone) -> ZonePermissions {
    let families = || zone.v4.iter().chain(&zone.v6);
    let strangers =
        |family: &Option<Addressing>| family.as_ref().is_some_and(|family| family.strangers);
    ZonePermissions {
        name: zone.name.clone(),
        device: zone.interface.clone(),
        addresses: families()
            .flat_map(|family| family.own.iter().copied())
            .collect(),
        learnt: families().any(|family| family.learnt),
        media: zone.media.as_ref().map(|media| MediaPermissions {
            networks: media.networks.clone(),
            ports: (*media.ports.start(), *media.ports.end()),
            peer_ports: (*media.peer_ports.start(), *media.peer_ports.end()),
        }),
        networks: zone.networks.clone(),
        strangers: Strangers {
            v4: strangers(&zone.v4),
            v6: strangers(&zone.v6),
        },
        bogons: zone.bogons.clone(),
        not_bogon: zone.not_bogon.clone(),
    }
}

/// Networks of the management zones: no media peer may lie there.
fn management_networks(document: &Document, policy: &Policy) -> Vec<ipnet::IpNet> {
    let managed = |id: ZoneId| {
        document
            .zones
            .get(usize::from(id.0))
            .is_some_and(|zone| zone.kind == ZoneKind::Management)
    };
    let zones = policy.zones.iter().filter(|zone| managed(zone.id));
    disjoint(zones.flat_map(|zone| zone.networks.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::lab;

    #[test]
    fn the_laboratory_grants_what_it_names_and_nothing_else() {
        let document = lab();
        let permissions = permissions(&document, &Policy::of(&document));
        assert_eq!(permissions.listen.len(), 7);
        // Registrar and two trunks, two addresses each, by UDP and for large requests by TCP; where captured messages go.
        let others = document.host.ntp.len() + document.logging.hep.iter().len();
        assert_eq!(permissions.connect.len(), 12 + others);
        let mut managed = permissions.connect.iter().filter(|c| c.zone == ZoneId(2));
        assert!(managed.all(|c| Some(c.peer) == document.logging.hep));
        assert!(permissions.zones[0].media.is_some() && permissions.zones[2].media.is_none());
        assert!(permissions.zones[0].strangers.v4 && !permissions.zones[1].strangers.v4);
        assert_eq!(
            permissions.forbidden_networks,
            disjoint(document.zones[2].networks())
        );
    }

    #[test]
    fn a_peer_over_udp_is_reached_by_tcp_too_unless_that_is_switched_off() {
        let by_tcp = |document: &Document| {
            let permissions = permissions(document, &Policy::of(document));
            let peers = Policy::of(document).zones[1].peers.clone();
            let granted = permissions.connect.iter().filter(|may| {
                (may.role, may.zone, may.transport) == (Role::Sbc, ZoneId(1), Transport::Tcp)
            });
            let passed = peers.iter().filter(|peer| peer.protocol == Protocol::Tcp);
            (granted.count(), passed.count())
        };
        let mut document = lab();
        assert_eq!(by_tcp(&document), (2, 2), "the PBX's two addresses");
        if let Some(pbx) = &mut document.sip.registrar {
            pbx.large_requests_by_tcp = false;
        }
        assert_eq!(by_tcp(&document), (0, 0));
    }
}
