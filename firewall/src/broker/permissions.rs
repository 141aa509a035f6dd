//! What the checked configuration allows, as the broker asks it: who may listen where, connect whereto, and which peers
//! a media socket may have. Made from the policy by the daemon at each commit; the zero value allows nothing.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeSet;

use broker_proto::{
    Role,
    broker::{Admit, BanKey, Family, Flow, Refusal},
    settings::{Transport, ZoneId},
};
use ipnet::IpNet;

/// Lowest port that a media peer may have.
pub const LOWEST_PEER_PORT: u16 = 1024;

/// A zone as the broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZonePermissions {
    /// Its name, for log lines.
    pub name: String,
    /// Its network device.
    pub device: String,
    /// The box's own addresses in it; media sockets are bound to the first of each family.
    pub addresses: Vec<IpAddr>,
    /// Its addresses are learnt (DHCP, router advertisement): [`Self::addresses`] follows the device.
    pub learnt: bool,
    /// Media; `None`: no media socket is ever lent here.
    pub media: Option<MediaPermissions>,
    /// On its link and behind its gateways, without the default route: no other zone's media peer may lie here.
    pub networks: Vec<IpNet>,
    /// Strangers of this family are met here: the default route leads out.
    pub strangers: Strangers,
    /// Strangers that are not believed to be ones.
    pub bogons: Vec<IpNet>,
    /// Addresses outside 2000::/3 that are believed nonetheless.
    pub not_bogon: Vec<IpNet>,
}

/// Media in a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaPermissions {
    /// Networks of peers. Empty: whoever may be a source in the zone.
    pub networks: Vec<IpNet>,
    /// First and last of the box's own ports.
    pub ports: (u16, u16),
    /// First and last port of peers; below 1024 none is allowed whatever stands here.
    pub peer_ports: (u16, u16),
}

/// Families in which a zone meets strangers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    /// IPv4
    pub v4: bool,
    /// IPv6
    pub v6: bool,
}

impl ZonePermissions {
    /// Whether a host may be a source in this zone at all.
    fn may_be_source(&self, host: IpAddr) -> bool {
        if contain(&self.networks, host) {
            return true;
        }
        // RFC 4291 §2.4: what IANA gives out of IPv6 unicast space begins with 001.
        let (strangers, global) = match host {
            IpAddr::V4(_) => (self.strangers.v4, true),
            IpAddr::V6(host) => (self.strangers.v6, host.segments()[0] & 0xe000 == 0x2000),
        };
        strangers && !contain(&self.bogons, host) && (global || contain(&self.not_bogon, host))
    }
}

/// A listener of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenPermission {
    /// Who may ask for it.
    pub role: Role,
    /// Zone.
    pub zone: ZoneId,
    /// Transport.
    pub transport: Transport,
    /// Port.
    pub port: u16,
}

/// A far end of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectPermission {
    /// Who may ask for it.
    pub role: Role,
    /// Zone it lies in.
    pub zone: ZoneId,
    /// Transport.
    pub transport: Transport,
    /// Where.
    pub peer: SocketAddr,
}

/// Networks of a far end that is known by name: any host of them at one of its ports may be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPermission {
    /// Who may ask for it.
    pub role: Role,
    /// Zone it lies in.
    pub zone: ZoneId,
    /// Transports.
    pub transports: Vec<Transport>,
    /// Its networks.
    pub networks: Vec<IpNet>,
    /// Its ports.
    pub ports: Vec<u16>,
}

/// What a connection is for: decides its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Trunks, the PBX, the collector of captured messages.
    Sip,
    /// Time servers.
    Time,
    /// Name servers.
    Names,
}

/// Bounds that follow from the configuration's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Calls at once.
    pub calls: u32,
    /// New calls per second.
    pub call_rate: u32,
    /// Registrations at once.
    pub registrations: u32,
    /// Media sockets lent at once.
    pub media_sockets: u32,
    /// Bans at once.
    pub bans: u32,
    /// Seconds of the longest ban.
    pub ban_seconds: u32,
    /// TCP connections at once of all listeners of a role.
    pub connections: u32,
    /// TCP connections at once from one source that is not on the allow-list.
    pub connections_per_source: u32,
}

/// Everything the broker may grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// By [`ZoneId`].
    pub zones: Vec<ZonePermissions>,
    /// Listeners.
    pub listen: BTreeSet<ListenPermission>,
    /// Far ends.
    pub connect: BTreeSet<ConnectPermission>,
    /// Far ends that are known by name.
    pub connect_networks: Vec<NetworkPermission>,
    /// Name servers that the sbc may ask, over UDP and, for what does not fit into a datagram, over TCP.
    pub name_servers: BTreeSet<(ZoneId, SocketAddr)>,
    /// Networks that no media peer may lie in: the management zones'.
    pub forbidden_networks: Vec<IpNet>,
    /// Sources that are never banned nor counted against the limit per source.
    pub allow_list: Vec<IpNet>,
    /// Bounds.
    pub bounds: Bounds,
    /// The configuration says `lab = true`.
    pub lab: bool,
}

impl Permissions {
    /// The zone of that number.
    ///
    /// # Errors
    /// `NotConfigured`.
    pub fn zone(&self, zone: ZoneId) -> Result<&ZonePermissions, Refusal> {
        self.zones
            .get(usize::from(zone.0))
            .ok_or(Refusal::NotConfigured)
    }

    /// What a connection of that role to a far end is for.
    ///
    /// # Errors
    /// `NotConfigured`; `PeerOutsidePolicy`: a far end that is known by name is asked for where it can not be.
    pub fn vet_connect(&self, wanted: &ConnectPermission) -> Result<Purpose, Refusal> {
        let ConnectPermission {
            role,
            zone,
            transport,
            peer,
        } = *wanted;
        if self.connect.contains(wanted) {
            return Ok(match role {
                Role::Time => Purpose::Time,
                _ => Purpose::Sip,
            });
        }
        let names = role == Role::Sbc && matches!(transport, Transport::Udp | Transport::Tcp);
        if names && self.name_servers.contains(&(zone, peer)) {
            return Ok(Purpose::Names);
        }
        let here = |one: &&NetworkPermission| {
            one.role == role && one.zone == zone && one.transports.contains(&transport)
        };
        let mut named = self.connect_networks.iter().filter(here).peekable();
        if named.peek().is_none() {
            return Err(Refusal::NotConfigured);
        }
        let host = peer.ip();
        // What a name server says is nobody's word: the same care as with a peer of media.
        let plain = host.to_canonical() == host && is_one_host(host);
        let own = self.zones.iter().any(|zone| zone.addresses.contains(&host));
        let elsewhere = self.is_in_another_zone(zone, host);
        let forbidden = contain(&self.forbidden_networks, host);
        let covered =
            named.any(|one| contain(&one.networks, host) && one.ports.contains(&peer.port()));
        if plain && covered && !own && !elsewhere && !forbidden {
            Ok(Purpose::Sip)
        } else {
            Err(Refusal::PeerOutsidePolicy)
        }
    }

    /// Checks the way to a phone that the sbc says registered: one of its listeners, and a source that the zone may have.
    ///
    /// # Errors
    /// `NotConfigured`, `PeerOutsidePolicy`.
    pub fn vet_way(
        &self,
        (zone, transport): (ZoneId, Transport),
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<&ZonePermissions, Refusal> {
        let listener = ListenPermission {
            role: Role::Sbc,
            zone,
            transport,
            port: local.port(),
        };
        let permissions = self.zone(zone)?;
        if !self.listen.contains(&listener) || !permissions.addresses.contains(&local.ip()) {
            return Err(Refusal::NotConfigured);
        }
        let host = peer.ip();
        let plain = host.to_canonical() == host && is_one_host(host) && peer.port() > 0;
        let own = self.zones.iter().any(|zone| zone.addresses.contains(&host));
        let elsewhere = self.is_in_another_zone(zone, host);
        let forbidden = contain(&self.forbidden_networks, host);
        let allowed = plain && permissions.may_be_source(host) && !own && !elsewhere && !forbidden;
        if allowed && family_of(host) == family_of(local.ip()) {
            Ok(permissions)
        } else {
            Err(Refusal::PeerOutsidePolicy)
        }
    }

    /// Whether a host lies in the networks of another zone.
    fn is_in_another_zone(&self, zone: ZoneId, host: IpAddr) -> bool {
        let mut others = self
            .zones
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != usize::from(zone.0));
        others.any(|(_, other)| contain(&other.networks, host))
    }

    /// Checks both directions of a media socket in `zone`.
    ///
    /// # Errors
    /// `PeerOutsidePolicy`, `NotConfigured`.
    pub fn vet_flow(&self, zone: ZoneId, family: Family, flow: &Flow) -> Result<(), Refusal> {
        match flow.admit {
            Admit::Nobody => {}
            Admit::MediaNetworks => {
                if self.zone(zone)?.media.is_none() {
                    return Err(Refusal::NotConfigured);
                }
            }
            Admit::Host(host) => self.vet_host(zone, family, host)?,
            Admit::Peer(peer) => self.vet_peer(zone, family, peer)?,
        }
        flow.send_to
            .map_or(Ok(()), |peer| self.vet_peer(zone, family, peer))
    }

    fn vet_peer(&self, zone: ZoneId, family: Family, peer: SocketAddr) -> Result<(), Refusal> {
        let (first, last) = self
            .zone(zone)?
            .media
            .as_ref()
            .ok_or(Refusal::NotConfigured)?
            .peer_ports;
        if !(first.max(LOWEST_PEER_PORT)..=last).contains(&peer.port()) {
            return Err(Refusal::PeerOutsidePolicy);
        }
        self.vet_host(zone, family, peer.ip())
    }

    fn vet_host(&self, zone: ZoneId, family: Family, host: IpAddr) -> Result<(), Refusal> {
        let permissions = self.zone(zone)?;
        let media = permissions.media.as_ref().ok_or(Refusal::NotConfigured)?;
        // An IPv4 address in IPv6 clothes would be looked up among the IPv6 networks and sent to as IPv4.
        let plain = host.to_canonical() == host;
        let one_host = is_one_host(host);
        let inside = if media.networks.is_empty() {
            permissions.may_be_source(host)
        } else {
            contain(&media.networks, host)
        };
        let forbidden = contain(&self.forbidden_networks, host);
        let own = self.zones.iter().any(|zone| zone.addresses.contains(&host));
        let elsewhere = self.is_in_another_zone(zone, host);
        let allowed = plain && one_host && inside && !forbidden && !own && !elsewhere;
        if allowed && family_of(host) == family {
            Ok(())
        } else {
            Err(Refusal::PeerOutsidePolicy)
        }
    }

    /// Whether the source that a ban names may never be banned: on the allow-list, one of the box's own addresses, a
    /// configured peer (a spoofed packet could otherwise shut a carrier out), or in the management networks (a captured
    /// sbc could otherwise shut the operators out).
    #[must_use]
    pub fn is_allow_listed(&self, key: &BanKey) -> bool {
        let host = match key {
            BanKey::Host(host) => *host,
            BanKey::Flow(flow) => flow.ip(),
        };
        self.is_allowed_source(host)
            || self.zones.iter().any(|zone| zone.addresses.contains(&host))
            || self
                .connect
                .iter()
                .any(|permission| permission.peer.ip() == host)
            || self
                .connect_networks
                .iter()
                .any(|permission| contain(&permission.networks, host))
            || contain(&self.forbidden_networks, host)
    }

    /// Whether a source is a registrar's or trunk's address.
    #[must_use]
    pub fn is_configured_peer(&self, zone: ZoneId, host: IpAddr) -> bool {
        let mut peers = self.connect.iter();
        let mut named = self.connect_networks.iter();
        peers.any(|may| may.role == Role::Sbc && may.zone == zone && may.peer.ip() == host)
            || named.any(|may| {
                may.role == Role::Sbc && may.zone == zone && contain(&may.networks, host)
            })
    }

    /// Whether the allow-list covers a source.
    #[must_use]
    pub fn is_allowed_source(&self, host: IpAddr) -> bool {
        contain(&self.allow_list, host)
    }
}

fn contain(networks: &[IpNet], host: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&host))
}

/// The family of an address.
#[must_use]
pub const fn family_of(host: IpAddr) -> Family {
    match host {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

const fn is_one_host(host: IpAddr) -> bool {
    !(host.is_unspecified() || host.is_multicast() || host.is_loopback() || is_broadcast(host))
}

const fn is_broadcast(host: IpAddr) -> bool {
    match host {
        IpAddr::V4(host) => host.is_broadcast(),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::fake::{lab_permissions, named_permissions};

    const EXTERNAL: ZoneId = ZoneId(0);
    const INTERNAL: ZoneId = ZoneId(1);

    fn verdict(zone: ZoneId, peer: &str) -> Result<(), Refusal> {
        let peer: SocketAddr = peer.parse().unwrap();
        let flow = Flow {
            admit: Admit::Peer(peer),
            send_to: Some(peer),
        };
        lab_permissions().vet_flow(zone, family_of(peer.ip()), &flow)
    }

    #[test]
    fn a_peer_in_the_media_networks_is_allowed() {
        assert_eq!(verdict(EXTERNAL, "198.51.100.10:4000"), Ok(()));
        assert_eq!(verdict(EXTERNAL, "[2001:db8:f::9]:1024"), Ok(()));
        assert_eq!(verdict(INTERNAL, "192.0.2.10:30000"), Ok(()));
    }

    #[test]
    fn a_peer_outside_the_media_networks_is_refused() {
        assert_eq!(
            verdict(INTERNAL, "198.51.100.10:4000"),
            Err(Refusal::PeerOutsidePolicy)
        );
    }

    #[test]
    fn a_system_port_is_refused() {
        assert_eq!(
            verdict(EXTERNAL, "198.51.100.10:1023"),
            Err(Refusal::PeerOutsidePolicy)
        );
    }

    #[test]
    fn a_system_port_is_refused_whatever_the_configuration_says() {
        let mut permissions = lab_permissions();
        permissions.zones[0].media.as_mut().unwrap().peer_ports = (1, 65535);
        let peer = |port| Flow {
            admit: Admit::Peer(SocketAddr::from(([198, 51, 100, 10], port))),
            send_to: None,
        };
        let vet = |port| permissions.vet_flow(EXTERNAL, Family::V4, &peer(port));
        assert_eq!(
            (vet(1023), vet(1024)),
            (Err(Refusal::PeerOutsidePolicy), Ok(()))
        );
    }

    #[test]
    fn the_box_itself_is_refused_in_every_zone() {
        for own in ["198.51.100.1:4000", "192.0.2.1:4000", "203.0.113.1:8443"] {
            assert_eq!(
                verdict(EXTERNAL, own),
                Err(Refusal::PeerOutsidePolicy),
                "{own}"
            );
            assert_eq!(
                verdict(INTERNAL, own),
                Err(Refusal::PeerOutsidePolicy),
                "{own}"
            );
        }
    }

    #[test]
    fn another_zones_hosts_are_refused_even_where_any_address_is_allowed() {
        assert_eq!(
            verdict(EXTERNAL, "192.0.2.10:5004"),
            Err(Refusal::PeerOutsidePolicy)
        );
        assert_eq!(
            verdict(EXTERNAL, "203.0.113.10:5004"),
            Err(Refusal::PeerOutsidePolicy)
        );
    }

    #[test]
    fn what_is_no_single_host_is_refused() {
        for peer in [
            "0.0.0.0:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "127.0.0.1:4000",
            "[::]:4000",
            "[ff02::1]:4000",
        ] {
            assert_eq!(
                verdict(EXTERNAL, peer),
                Err(Refusal::PeerOutsidePolicy),
                "{peer}"
            );
        }
    }

    #[test]
    fn without_media_networks_whoever_may_be_a_source_may_be_a_peer_and_no_bogon() {
        assert_eq!(
            verdict(EXTERNAL, "10.0.0.1:4000"),
            Err(Refusal::PeerOutsidePolicy)
        );
        assert_eq!(
            verdict(EXTERNAL, "[fd00::1]:4000"),
            Err(Refusal::PeerOutsidePolicy)
        );
        let mut permissions = lab_permissions();
        permissions.zones[0].strangers = Strangers::default();
        let flow = |host: &str| Flow {
            admit: Admit::Host(host.parse().unwrap()),
            send_to: None,
        };
        assert_eq!(
            permissions.vet_flow(EXTERNAL, Family::V4, &flow("198.51.100.9")),
            Ok(())
        );
        assert_eq!(
            permissions.vet_flow(EXTERNAL, Family::V4, &flow("198.18.0.9")),
            Err(Refusal::PeerOutsidePolicy)
        );
    }

    #[test]
    fn a_zone_without_media_has_no_peers_at_all() {
        let flow = Flow {
            admit: Admit::MediaNetworks,
            send_to: None,
        };
        assert_eq!(
            lab_permissions().vet_flow(ZoneId(2), Family::V4, &flow),
            Err(Refusal::NotConfigured)
        );
        assert_eq!(
            verdict(ZoneId(2), "203.0.113.10:4000"),
            Err(Refusal::NotConfigured)
        );
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_refused() {
        assert_eq!(
            verdict(EXTERNAL, "[::ffff:192.0.2.10]:4000"),
            Err(Refusal::PeerOutsidePolicy)
        );
    }

    #[test]
    fn a_peer_of_the_other_family_is_refused() {
        let flow = Flow {
            admit: Admit::Host("198.51.100.10".parse().unwrap()),
            send_to: None,
        };
        assert_eq!(
            lab_permissions().vet_flow(EXTERNAL, Family::V6, &flow),
            Err(Refusal::PeerOutsidePolicy)
        );
    }

    #[test]
    fn a_far_end_that_is_known_by_name_is_one_inside_its_networks_and_ports_only() {
        let vet = |role, zone, transport, peer: &str| {
            named_permissions().vet_connect(&ConnectPermission {
                role,
                zone,
                transport,
                peer: peer.parse().unwrap(),
            })
        };
        let (sbc, udp, tcp) = (Role::Sbc, Transport::Udp, Transport::Tcp);
        let good = Ok(Purpose::Sip);
        let outside = Err(Refusal::PeerOutsidePolicy);
        assert_eq!(vet(sbc, EXTERNAL, tcp, "198.51.100.77:5070"), good);
        assert_eq!(vet(sbc, EXTERNAL, udp, "198.51.100.77:5060"), good);
        for peer in [
            // Another port, another network.
            "198.51.100.77:22",
            "198.51.100.200:5060",
            // The box itself; another zone's host, although the networks name it; an IPv4 address in IPv6 clothes.
            "198.51.100.1:5060",
            "192.0.2.10:5060",
            "[::ffff:198.51.100.77]:5060",
        ] {
            assert_eq!(vet(sbc, EXTERNAL, tcp, peer), outside, "{peer}");
        }
        let nobody = Err(Refusal::NotConfigured);
        let tls = Transport::Tls;
        assert_eq!(vet(sbc, EXTERNAL, tls, "198.51.100.77:5060"), nobody);
        assert_eq!(vet(sbc, INTERNAL, tcp, "198.51.100.77:5060"), nobody);
        assert_eq!(vet(Role::Time, EXTERNAL, udp, "198.51.100.77:5060"), nobody);
        let guarded = BanKey::Host("198.51.100.77".parse().unwrap());
        assert!(named_permissions().is_allow_listed(&guarded));
    }

    #[test]
    fn only_the_sbc_asks_configured_name_servers_by_datagrams_and_plain_streams() {
        let vet = |role, transport, peer: &str| {
            named_permissions().vet_connect(&ConnectPermission {
                role,
                zone: EXTERNAL,
                transport,
                peer: peer.parse().unwrap(),
            })
        };
        let server = "198.51.100.53:53";
        assert_eq!(vet(Role::Sbc, Transport::Udp, server), Ok(Purpose::Names));
        assert_eq!(vet(Role::Sbc, Transport::Tcp, server), Ok(Purpose::Names));
        assert!(vet(Role::Sbc, Transport::Tls, server).is_err());
        assert!(vet(Role::Time, Transport::Tcp, server).is_err());
        assert!(vet(Role::Sbc, Transport::Tcp, "198.51.100.54:53").is_err());
        assert!(vet(Role::Time, Transport::Udp, server).is_err());
        assert!(vet(Role::Sbc, Transport::Udp, "198.51.100.54:53").is_err());
    }

    #[test]
    fn operators_and_configured_peers_cannot_be_banned() {
        let permissions = Permissions {
            forbidden_networks: vec!["203.0.113.0/24".parse().unwrap()],
            connect: [ConnectPermission {
                role: Role::Sbc,
                zone: EXTERNAL,
                transport: Transport::Udp,
                peer: "198.51.100.20:5060".parse().unwrap(),
            }]
            .into(),
            ..Permissions::default()
        };
        let is_safe =
            |host: &str| permissions.is_allow_listed(&BanKey::Host(host.parse().unwrap()));
        assert!(is_safe("203.0.113.10"));
        assert!(is_safe("198.51.100.20"));
        assert!(!is_safe("198.51.100.66"));
    }

    #[test]
    fn the_zero_value_allows_nothing() {
        let flow = Flow {
            admit: Admit::Host("198.51.100.10".parse().unwrap()),
            send_to: None,
        };
        assert_eq!(
            Permissions::default().vet_flow(EXTERNAL, Family::V4, &flow),
            Err(Refusal::NotConfigured)
        );
    }
}
