//! What may pass. Everything here is decided from the checked configuration alone: a [`Policy`] is made of a
//! [`Document`], the renderer in `nftables` turns it into rules, the broker asks it about every request. It knows no kernel.
//!
//! | module | noun |
//! |---|---|
//! | [`echo`] | hosts of the network test |
//! | `peers` | what passes besides calls, for the sbc |
//! | [`reason`] | why a packet is refused |
//! | [`permissions`] | the broker's part of the configuration |
//! | [`settings`] | the sbc's part of the configuration |
//! | [`sysctls`] | kernel settings that the ruleset relies on |

mod dialplan;
pub mod echo;
mod peers;
pub mod permissions;
pub mod reason;
pub mod settings;
pub mod sysctls;

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use std::collections::BTreeSet;

use appliance_config::{Document, Ipv4, Ipv6, Named, Service, ZoneKind};
use broker_proto::{
    Role,
    settings::{Transport, ZoneId},
};
use ipnet::IpNet;

pub use reason::Reason;

/// Everything that the ruleset and the broker need to know. The zero value has no zone: nothing passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Zones in the order of their numbers.
    pub zones: Vec<Zone>,
    /// Bounds.
    pub limits: Limits,
}

/// A network the box stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its number, the same as in the sbc's settings.
    pub id: ZoneId,
    /// Its name.
    pub name: String,
    /// Name of its link.
    pub interface: String,
    /// IPv4 in this zone; `None`: everything of it is refused.
    pub v4: Option<Addressing>,
    /// IPv6 in this zone; `None`: everything of it is refused.
    pub v6: Option<Addressing>,
    /// Networks on the link and behind gateways, of both families, without the default route.
    pub networks: Vec<IpNet>,
    /// Sources that are not believed although the default route leads here; disjoint.
    pub bogons: Vec<IpNet>,
    /// Sources outside 2000::/3 that are believed besides [`Self::networks`].
    pub not_bogon: Vec<IpNet>,
    /// Sources that are never banned; disjoint.
    pub allow_list: Vec<IpNet>,
    /// Media; `None`: no media socket is ever lent here.
    pub media: Option<Media>,
    /// Ports on which the box answers.
    pub listeners: Vec<Listener>,
    /// Far ends that listeners may write to first and connecting sockets may be connected to.
    pub peers: Vec<Peer>,
    /// Far ends that are known by name: where they may be.
    pub named: Vec<NamedPeer>,
    /// Name servers that the sbc may ask.
    pub name_servers: Vec<SocketAddr>,
    /// Hosts that the network test may send echo requests to: gateways, name and time servers, PBX, trunks.
    pub echo_targets: Vec<echo::Target>,
}

/// How a zone comes by its addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// The box's own addresses; empty if they are learnt.
    pub own: Vec<IpAddr>,
    /// By DHCP or router advertisement.
    pub learnt: bool,
    /// Any address that is no bogon and in no other zone may be a source: the default route leads here, to strangers.
    pub strangers: bool,
}

/// Media in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Networks of peers, disjoint; empty: whatever may be a source in the zone.
    pub networks: Vec<IpNet>,
    /// The box's own ports.
    pub ports: RangeInclusive<u16>,
    /// Ports of peers; none below 1024.
    pub peer_ports: RangeInclusive<u16>,
}

/// Protocol of a listener or peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP
    Udp,
    /// TCP
    Tcp,
}

impl Protocol {
    /// nft's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A port on which the box answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Over what.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Whose socket it is.
    pub role: Role,
}

/// A far end that may be written to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Whose sockets may.
    pub role: Role,
    /// Over what.
    pub protocol: Protocol,
    /// Where it is.
    pub address: SocketAddr,
}

/// A far end of the sbc that is known by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPeer {
    /// Over what.
    pub protocol: Protocol,
    /// Where it may be; disjoint.
    pub networks: Vec<IpNet>,
    /// Its ports, ascending.
    pub ports: Vec<u16>,
}

/// Bounds of the packet filter; rates are per second. Values and meanings of `[limits]` and `[logging]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// SYN by source.
    pub syn_rate_per_source: u32,
    /// SYN in all.
    pub syn_rate: u32,
    /// New UDP flows by source.
    pub flow_rate_per_source: u32,
    /// New UDP flows in all.
    pub flow_rate: u32,
    /// TCP connections at once by source.
    pub connections_per_source: u32,
    /// Datagrams to listeners by source.
    pub sip_rate_per_source: u32,
    /// ICMP in all, neighbour discovery apart.
    pub icmp_rate: u32,
    /// Neighbour discovery by zone.
    pub nd_rate: u32,
    /// Packets through a pinhole, each way.
    pub media_packet_rate: u32,
    /// Logged refusals by reason and zone; 0: none.
    pub log_rate: u32,
    /// Logged refusals at once.
    pub log_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(
            &appliance_config::Limits::default(),
            &appliance_config::Logging::default(),
        )
    }
}

impl Limits {
    fn of(limits: &appliance_config::Limits, logging: &appliance_config::Logging) -> Self {
        Self {
            syn_rate_per_source: limits.syn_rate_per_source,
            syn_rate: limits.syn_rate,
            flow_rate_per_source: limits.flow_rate_per_source,
            flow_rate: limits.flow_rate,
            connections_per_source: limits.connections_per_source,
            sip_rate_per_source: limits.sip_rate_per_source,
            icmp_rate: limits.icmp_rate,
            nd_rate: limits.nd_rate,
            media_packet_rate: limits.media_packet_rate,
            log_rate: logging.numbers.drops_per_second,
            log_burst: logging.numbers.drops_burst,
        }
    }
}

impl Policy {
    /// Before any configuration: no zone, nothing passes.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// The policy of a checked document.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let zones = document
            .zones
            .iter()
            .zip(0u8..)
            .map(|(zone, id)| Zone::of(document, zone, ZoneId(id)))
            .collect();
        Self {
            zones,
            limits: Limits::of(&document.limits, &document.logging),
        }
    }

    /// The zone of that number.
    #[must_use]
    pub fn zone(&self, id: ZoneId) -> Option<&Zone> {
        self.zones.get(usize::from(id.0))
    }

    /// Networks of all zones but this one, disjoint.
    #[must_use]
    pub fn networks_of_others(&self, zone: &Zone) -> Vec<IpNet> {
        disjoint(
            self.zones
                .iter()
                .filter(|other| other.id != zone.id)
                .flat_map(|other| other.networks.iter().copied()),
        )
    }
}

impl Zone {
    fn of(document: &Document, zone: &appliance_config::Zone, id: ZoneId) -> Self {
        let outside = matches!(zone.kind, ZoneKind::External | ZoneKind::Partner);
        let own = |v6: bool| {
            zone.addresses()
                .into_iter()
                .filter(|address| address.is_ipv6() == v6)
                .collect()
        };
        let v4 = zone.ipv4.as_ref().map(|v4| Addressing {
            own: own(false),
            learnt: matches!(v4, Ipv4::Dhcp),
            strangers: outside && zone.has_default_route(false),
        });
        let v6 = zone.ipv6.as_ref().map(|v6| Addressing {
            own: own(true),
            learnt: matches!(v6, Ipv6::Ra),
            strangers: outside && zone.has_default_route(true),
        });
        let learnt_v4 = v4.as_ref().is_some_and(|v4| v4.learnt);
        Self {
            id,
            name: zone.name.clone(),
            interface: zone.ifname().to_owned(),
            v4,
            v6,
            networks: disjoint(zone.networks()),
            bogons: disjoint(
                document
                    .bogons(zone)
                    .into_iter()
                    .filter(|bogon| !(learnt_v4 && behind_nat(bogon))),
            ),
            not_bogon: disjoint(zone.not_bogon.iter().copied()),
            allow_list: disjoint(document.allow_list(zone)),
            media: Media::of(document, zone),
            listeners: listeners(document, &zone.name),
            echo_targets: echo::targets(document, zone),
            peers: peers(document, zone),
            named: named(document, zone),
            name_servers: settings::name_servers(document)
                .filter(|(by, _)| by.name == zone.name)
                .map(|(_, address)| address)
                .collect(),
        }
    }

    /// Addressing of one family.
    #[must_use]
    pub const fn family(&self, v6: bool) -> Option<&Addressing> {
        if v6 {
            self.v6.as_ref()
        } else {
            self.v4.as_ref()
        }
    }
}

impl Media {
    fn of(document: &Document, zone: &appliance_config::Zone) -> Option<Self> {
        let serves_sip = document
            .listeners
            .iter()
            .any(|l| l.zone == zone.name && l.service.is_sip());
        if zone.kind == ZoneKind::Management || !serves_sip {
            return None;
        }
        let networks = match (zone.media.networks.as_slice(), zone.kind) {
            ([], ZoneKind::Internal) => zone.networks(),
            (networks, _) => networks.to_vec(),
        };
        Some(Self {
            networks: disjoint(networks),
            ports: zone.media.ports.first..=zone.media.ports.last,
            peer_ports: zone.media.peer_ports.first.max(1024)..=zone.media.peer_ports.last,
        })
    }
}

/// Private networks: who gets his address by DHCP mostly stands behind a router that translates it, so there the private
/// addresses on the link are no bogons. (The link's own network is not known when the rules are written.)
fn behind_nat(bogon: &IpNet) -> bool {
    match bogon {
        IpNet::V4(net) => {
            net.addr().is_private()
                || (net.addr().octets() >= [100, 64, 0, 0]
                    && net.addr().octets() < [100, 128, 0, 0])
        }
        IpNet::V6(_) => false,
    }
}

fn listeners(document: &Document, zone: &str) -> Vec<Listener> {
    let mut all: Vec<Listener> = document
        .listeners
        .iter()
        .filter(|listener| listener.zone == zone)
        .map(|listener| Listener {
            protocol: if listener.service.is_udp() {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
            port: listener.port,
            role: if listener.service == Service::ManagementHttps {
                Role::Management
            } else {
                Role::Sbc
            },
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The registrar or a trunk.
pub(crate) struct SipPeer<'a> {
    pub(crate) zone: &'a str,
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) named: Option<&'a Named>,
    /// By what it may be reached: as configured, and over TCP where requests too large for a datagram go by that (RFC 3261
    /// §18.1.1).
    pub(crate) transports: Vec<Transport>,
}

/// All of them.
pub(crate) fn sip_peers(document: &Document) -> impl Iterator<Item = SipPeer<'_>> {
    let transports = |reach, tls, large_by_tcp| {
        let mut transports = settings::transports(reach, tls).to_vec();
        let large = large_by_tcp && transports.contains(&Transport::Udp);
        if large && !transports.contains(&Transport::Tcp) {
            transports.push(Transport::Tcp);
        }
        transports
    };
    let registrar = document.sip.registrar.iter().map(move |pbx| SipPeer {
        zone: &pbx.zone,
        addresses: &pbx.addresses,
        named: pbx.named.as_ref(),
        transports: transports(pbx.transport, pbx.tls.is_some(), pbx.large_requests_by_tcp),
    });
    let trunks = document.trunks.iter().map(move |trunk| SipPeer {
        zone: &trunk.zone,
        addresses: &trunk.addresses,
        named: trunk.named.as_ref(),
        transports: transports(
            trunk.transport,
            trunk.tls.is_some(),
            trunk.large_requests_by_tcp,
        ),
    });
    registrar.chain(trunks)
}

const fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => Protocol::Tcp,
    }
}

/// Registrar and trunks of the zone for the sbc; name and time servers, which leave by the zone that their address lies in.
fn peers(document: &Document, zone: &appliance_config::Zone) -> Vec<Peer> {
    let mut all = Vec::new();
    for peer in sip_peers(document).filter(|peer| peer.zone == zone.name) {
        for address in peer.addresses {
            let by = |transport: &Transport| Peer {
                role: Role::Sbc,
                protocol: protocol(*transport),
                address: *address,
            };
            all.extend(peer.transports.iter().map(by));
        }
    }
    for server in document
        .host
        .ntp
        .iter()
        .filter(|server| leaves_by(document, zone, server.ip()))
    {
        all.push(Peer {
            role: Role::Time,
            protocol: Protocol::Udp,
            address: *server,
        });
    }
    all.extend(
        document
            .logging
            .hep
            .filter(|collector| leaves_by(document, zone, collector.ip()))
            .map(|address| Peer {
                role: Role::Sbc,
                protocol: Protocol::Udp,
                address,
            }),
    );
    all.sort_unstable();
    all.dedup();
    all
}

/// Registrar and trunks of the zone that are known by name, by each protocol that they may have.
fn named(document: &Document, zone: &appliance_config::Zone) -> Vec<NamedPeer> {
    let mut all = Vec::new();
    for peer in sip_peers(document).filter(|peer| peer.zone == zone.name) {
        let Some(named) = peer.named else { continue };
        let protocols: BTreeSet<Protocol> = peer.transports.iter().copied().map(protocol).collect();
        let ports: BTreeSet<u16> = named.ports.iter().copied().collect();
        all.extend(protocols.into_iter().map(|protocol| NamedPeer {
            protocol,
            networks: disjoint(named.networks.iter().copied()),
            ports: ports.iter().copied().collect(),
        }));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether packets to `address` leave by `zone`: by the zone that it lies in, else by the default route.
pub(crate) fn leaves_by(
    document: &Document,
    zone: &appliance_config::Zone,
    address: IpAddr,
) -> bool {
    match document.zones.iter().find(|other| other.contains(address)) {
        Some(other) => other.name == zone.name,
        None => zone.has_default_route(address.is_ipv6()),
    }
}

/// The same addresses in the fewest networks, ascending: nft refuses overlapping intervals in one set.
#[must_use]
pub fn disjoint(networks: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut merged = IpNet::aggregate(
        &networks
            .into_iter()
            .map(|network| network.trunc())
            .collect(),
    );
    merged.sort();
    merged
}

/// The laboratory's document, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::Document;

    pub(crate) fn lab() -> Document {
        Document::parse(
            include_str!("../../../tests/lab/gatehouse.toml"),
            "gatehouse.toml",
        )
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::lab, *};

    #[test]
    fn the_zero_value_has_no_zone() {
        assert!(Policy::closed().zones.is_empty());
    }

    #[test]
    fn strangers_are_met_only_where_the_default_route_leads_out() {
        let policy = Policy::of(&lab());
        let strangers =
            |zone: &Zone| [&zone.v4, &zone.v6].map(|family| family.as_ref().unwrap().strangers);
        assert_eq!(
            policy.zones.iter().map(strangers).collect::<Vec<_>>(),
            [[true; 2], [false; 2], [false; 2]]
        );
    }

    #[test]
    fn media_is_lent_where_sip_is_offered_and_never_to_management() {
        let policy = Policy::of(&lab());
        let media: Vec<_> = policy
            .zones
            .iter()
            .map(|zone| zone.media.is_some())
            .collect();
        assert_eq!(media, [true, true, false]);
        assert!(
            policy
                .zones
                .iter()
                .flat_map(|zone| &zone.media)
                .all(|media| *media.peer_ports.start() >= 1024)
        );
    }

    #[test]
    fn networks_of_others_are_all_but_ones_own() {
        let policy = Policy::of(&lab());
        let others = policy.networks_of_others(&policy.zones[0]);
        let holds = |address: &str| {
            others
                .iter()
                .any(|n| n.contains(&address.parse::<IpAddr>().unwrap()))
        };
        assert!(holds("192.0.2.1") && holds("203.0.113.9") && holds("2001:db8:2::1"));
        assert!(!holds("198.51.100.1") && !holds("2001:db8:e::1"));
    }
}
