//! Zones: one per network the box stands in, with its interface, its addresses, what lies behind its gateways and from
//! where media may come. `firewall` renders rules from it, init makes links and addresses of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    dialplan::ZonePolicy,
    error::say,
    table::{Report, Section, is_name},
    value::{Mac, PortRange, Span, words},
};

/// Most zones a document may have.
pub const MAX_ZONES: usize = 32;
/// Most entries of a list of networks.
pub const MAX_NETWORKS: usize = 256;

words! {
    /// What a zone is to the organisation.
    pub enum ZoneKind {
        /// Strangers.
        External = "external",
        /// The organisation's own hosts.
        Internal = "internal",
        /// Operators; exactly one zone is of this kind.
        Management = "management",
        /// A named partner or carrier.
        Partner = "partner",
    }
}

/// A network the box stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Zone {
    /// Its name: at most 15 octets, because links are named after it.
    pub name: String,
    /// What it is.
    pub kind: ZoneKind,
    /// The card it is connected to.
    pub interface: Interface,
    /// Static address or DHCP; `None`: no IPv4 in this zone, everything of it is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4>,
    /// Static address or router advertisement; `None`: no IPv6 in this zone, everything of it is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// Networks behind gateways of this zone, besides the default route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routed: Vec<Routed>,
    /// From where media may come and where it may go.
    pub media: Media,
    /// Networks that are believed here although they are on the bogon list (see [`crate::bogons`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_bogon: Vec<IpNet>,
    /// Sources that are never banned in this zone, besides those of `bans.allow_list`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_list: Vec<IpNet>,
    /// Numbers, limits and priority of its callers.
    #[serde(flatten)]
    pub policy: ZonePolicy,
}

/// How the zone's card is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Card {
    /// By the name the kernel gave it; it keeps that name.
    Name(String),
    /// By its hardware address; the link is renamed to the zone's name.
    Mac(Mac),
}

/// A card, maybe with a VLAN on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interface {
    /// The card.
    pub card: Card,
    /// IEEE 802.1Q identifier, 1–4094; the link of the VLAN is named after the zone.
    pub vlan: Option<u16>,
}

impl Serialize for Interface {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("interface", 2)?;
        match &self.card {
            Card::Name(name) => out.serialize_field("name", name)?,
            Card::Mac(mac) => out.serialize_field("mac", mac)?,
        }
        if let Some(vlan) = self.vlan {
            out.serialize_field("vlan", &vlan)?;
        }
        out.end()
    }
}

words! {
    /// Spelling of the two ways to an IPv4 address.
    pub enum Ipv4Method {
        /// Written in the document.
        Static = "static",
        /// RFC 2131.
        Dhcp = "dhcp",
    }
}

words! {
    /// Spelling of the two ways to an IPv6 address.
    pub enum Ipv6Method {
        /// Written in the document.
        Static = "static",
        /// Router advertisement and RFC 4862.
        Ra = "ra",
    }
}

/// The zone's IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4 {
    /// Written in the document.
    Static {
        /// The box's address with the network's prefix length.
        address: Ipv4Net,
        /// Next hop of the box's default route; at most one zone has one.
        gateway: Option<Ipv4Addr>,
    },
    /// Address and default route from a DHCP server.
    Dhcp,
}

impl Serialize for Ipv4 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ipv4", 3)?;
        match self {
            Self::Static { address, gateway } => {
                out.serialize_field("method", &Ipv4Method::Static)?;
                out.serialize_field("address", address)?;
                if let Some(gateway) = gateway {
                    out.serialize_field("gateway", gateway)?;
                }
            }
            Self::Dhcp => out.serialize_field("method", &Ipv4Method::Dhcp)?,
        }
        out.end()
    }
}

/// The zone's IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// Written in the document.
    Static {
        /// The box's address with the network's prefix length.
        address: Ipv6Net,
        /// Next hop of the box's default route; at most one zone has one. May be link-local.
        gateway: Option<Ipv6Addr>,
    },
    /// Address and default route from router advertisements.
    Ra,
}

impl Serialize for Ipv6 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ipv6", 3)?;
        match self {
            Self::Static { address, gateway } => {
                out.serialize_field("method", &Ipv6Method::Static)?;
                out.serialize_field("address", address)?;
                if let Some(gateway) = gateway {
                    out.serialize_field("gateway", gateway)?;
                }
            }
            Self::Ra => out.serialize_field("method", &Ipv6Method::Ra)?,
        }
        out.end()
    }
}

/// A network behind a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Routed {
    /// The network; never the default route.
    pub network: IpNet,
    /// Next hop, on the zone's link.
    pub gateway: IpAddr,
}

impl Routed {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["network", "gateway"]);
        let network = section.required(report, "network");
        let gateway = section.required(report, "gateway");
        Some(Self {
            network: network?,
            gateway: gateway?,
        })
    }
}

/// Bounds of media in a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Media {
    /// Networks of peers; empty: external and partner zones any unicast address that is no bogon, not the box's own and in
    /// no network of another zone; internal zones the zone's own networks; management none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// The box's own ports, lent one by one.
    pub ports: PortRange,
    /// Ports of peers; never below 1024.
    pub peer_ports: PortRange,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            ports: Span {
                first: 16384,
                last: 32767,
            },
            peer_ports: Span {
                first: 1024,
                last: 65535,
            },
        }
    }
}

impl Zone {
    /// Name of the link that carries the zone's addresses: the card's name if the document gives it, else the zone's name;
    /// a VLAN's link is always named after the zone.
    #[must_use]
    pub fn ifname(&self) -> &str {
        match (&self.interface.card, self.interface.vlan) {
            (Card::Name(name), None) => name,
            _ => &self.name,
        }
    }

    /// Name of the link below a VLAN, `None` without VLAN: the card's name, or `p` and the twelve digits of its address
    /// unless another zone has the same card untagged (then that zone's link is it; see [`crate::Document::parent_ifname`]).
    #[must_use]
    pub fn vlan_parent(&self) -> Option<String> {
        self.interface.vlan?;
        Some(match &self.interface.card {
            Card::Name(name) => name.clone(),
            Card::Mac(mac) => format!("p{}", mac.to_string().replace(':', "")),
        })
    }

    /// The box's own static addresses in the zone.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.links().into_iter().map(|link| link.addr()).collect()
    }

    /// The zone's static addresses with their prefix lengths (host bits kept).
    #[must_use]
    pub fn links(&self) -> Vec<IpNet> {
        let v4 = match self.ipv4 {
            Some(Ipv4::Static { address, .. }) => Some(IpNet::V4(address)),
            _ => None,
        };
        let v6 = match self.ipv6 {
            Some(Ipv6::Static { address, .. }) => Some(IpNet::V6(address)),
            _ => None,
        };
        v4.into_iter().chain(v6).collect()
    }

    /// Networks on the link and behind its gateways, without the default route; those of a DHCP or RA zone are not known here.
    #[must_use]
    pub fn networks(&self) -> Vec<IpNet> {
        self.links()
            .iter()
            .map(IpNet::trunc)
            .chain(self.routed.iter().map(|routed| routed.network))
            .collect()
    }

    /// Whether the box's default route of that family leaves by this zone.
    #[must_use]
    pub fn has_default_route(&self, v6: bool) -> bool {
        if v6 {
            matches!(
                self.ipv6,
                Some(
                    Ipv6::Static {
                        gateway: Some(_),
                        ..
                    } | Ipv6::Ra
                )
            )
        } else {
            matches!(
                self.ipv4,
                Some(
                    Ipv4::Static {
                        gateway: Some(_),
                        ..
                    } | Ipv4::Dhcp
                )
            )
        }
    }

    /// Whether packets to `address` would leave by this zone without any default route.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks()
            .iter()
            .any(|network| network.prefix_len() != 0 && network.contains(&address))
    }

    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        let own = [
            "name",
            "kind",
            "interface",
            "ipv4",
            "ipv6",
            "routed",
            "media",
            "not_bogon",
            "allow_list",
        ];
        section.only(report, &[&own[..], &ZonePolicy::KEYS].concat());
        let name = read_name(section, report);
        let name = name.filter(|name| {
            let fits = name.len() <= 15 && !RESERVED.contains(&name.as_str());
            if !fits {
                report.error(
                    &section.key("name"),
                    say!(
                        "a zone's name has at most 15 letters and is none of lo, all, default: a link bears it",
                        "ein Zonenname hat höchstens 15 Zeichen und ist nicht lo, all oder default: eine Schnittstelle heißt so"
                    ),
                );
            }
            fits
        });
        let kind = section.required(report, "kind");
        let interface = match section.table(report, "interface") {
            Some(table) => Interface::read(&table, report),
            None => {
                if !report.has(&section.key("interface")) {
                    section.missing(report, "interface");
                }
                None
            }
        };
        let ipv4 = match section.table(report, "ipv4") {
            Some(table) => Some(read_ipv4(&table, report)?),
            None => None,
        };
        let ipv6 = match section.table(report, "ipv6") {
            Some(table) => Some(read_ipv6(&table, report)?),
            None => None,
        };
        let tables = section.tables(report, "routed", MAX_NETWORKS);
        let count = tables.len();
        let routed: Vec<Routed> = tables
            .iter()
            .filter_map(|table| Routed::read(table, report))
            .collect();
        if routed.len() != count {
            return None;
        }
        let media = match section.table(report, "media") {
            Some(table) => Media::read(&table, report)?,
            None => Media::default(),
        };
        let not_bogon = section.list(report, "not_bogon", MAX_NETWORKS);
        let allow_list = section.list(report, "allow_list", MAX_NETWORKS);
        let policy = ZonePolicy::read(section, report);
        Some(Self {
            name: name?,
            kind: kind?,
            interface: interface?,
            ipv4,
            ipv6,
            routed,
            media,
            not_bogon: not_bogon?,
            allow_list: allow_list?,
            policy: policy?,
        })
    }
}

/// Names that a link may not bear because the kernel uses them.
const RESERVED: [&str; 3] = ["lo", "all", "default"];

/// The key `name`: see [`is_name`].
pub(crate) fn read_name(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<String> {
    let name: String = section.required(report, "name")?;
    check_name(report, &section.key("name"), name)
}

pub(crate) fn check_name(report: &mut Report<'_>, key: &str, name: String) -> Option<String> {
    if is_name(&name) {
        return Some(name);
    }
    report.error(
        key,
        say!(
            "a name is 1 to 32 small letters, digits, - and _, and begins with a letter or digit",
            "ein Name besteht aus 1 bis 32 Kleinbuchstaben, Ziffern, - und _ und beginnt mit Buchstabe oder Ziffer"
        ),
    );
    None
}

impl Interface {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["name", "mac", "vlan"]);
        let name: Option<String> = section.optional(report, "name")?;
        let mac: Option<Mac> = section.optional(report, "mac")?;
        let vlan: Option<u16> = section.optional(report, "vlan")?;
        let card = match (name, mac) {
            (Some(name), None) => {
                // What the kernel takes as a link's name, less the characters that would need quoting in a ruleset.
                let fits = (1..=15).contains(&name.len())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                    && !RESERVED.contains(&name.as_str())
                    && name != "."
                    && name != "..";
                if !fits {
                    report.error(
                        &section.key("name"),
                        say!(
                            "is not a link's name: 1 to 15 letters, digits, - _ .",
                            "ist kein Schnittstellenname: 1 bis 15 Buchstaben, Ziffern, - _ ."
                        ),
                    );
                    return None;
                }
                Card::Name(name)
            }
            (None, Some(mac)) => Card::Mac(mac),
            (Some(_), Some(_)) => {
                report.error(
                    &section.path,
                    say!(
                        "gives both name and mac; one of them says which card it is",
                        "nennt name und mac zugleich; eines davon bestimmt die Karte"
                    ),
                );
                return None;
            }
            (None, None) => {
                report.error(
                    &section.path,
                    say!(
                        "names no card: give its hardware address as mac, or name",
                        "nennt keine Karte: mac (Hardware-Adresse) oder name fehlt"
                    ),
                );
                return None;
            }
        };
        if vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
            report.error(
                &section.key("vlan"),
                say!(
                    "a VLAN's number is from 1 to 4094",
                    "eine VLAN-Nummer liegt zwischen 1 und 4094"
                ),
            );
            return None;
        }
        Some(Self { card, vlan })
    }
}

fn read_ipv4(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Ipv4> {
    section.only(report, &["method", "address", "gateway"]);
    let method = section.or(report, "method", Ipv4Method::Static)?;
    let address: Option<Ipv4Net> = section.optional(report, "address")?;
    let gateway: Option<Ipv4Addr> = section.optional(report, "gateway")?;
    match (method, address) {
        (Ipv4Method::Static, Some(address)) => Some(Ipv4::Static { address, gateway }),
        (Ipv4Method::Static, None) => {
            section.missing(report, "address");
            None
        }
        (Ipv4Method::Dhcp, None) if gateway.is_none() => Some(Ipv4::Dhcp),
        (Ipv4Method::Dhcp, _) => {
            not_with_automatic(section, report);
            None
        }
    }
}

fn read_ipv6(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Ipv6> {
    section.only(report, &["method", "address", "gateway"]);
    let method = section.or(report, "method", Ipv6Method::Static)?;
    let address: Option<Ipv6Net> = section.optional(report, "address")?;
    let gateway: Option<Ipv6Addr> = section.optional(report, "gateway")?;
    match (method, address) {
        (Ipv6Method::Static, Some(address)) => Some(Ipv6::Static { address, gateway }),
        (Ipv6Method::Static, None) => {
            section.missing(report, "address");
            None
        }
        (Ipv6Method::Ra, None) if gateway.is_none() => Some(Ipv6::Ra),
        (Ipv6Method::Ra, _) => {
            not_with_automatic(section, report);
            None
        }
    }
}

fn not_with_automatic(section: &Section<'_, '_>, report: &mut Report<'_>) {
    report.error(
        &section.path,
        say!(
            "takes address and gateway from the network, so it cannot also give them here",
            "bezieht Adresse und Gateway aus dem Netz, sie können hier nicht zugleich stehen"
        ),
    );
}

impl Media {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["networks", "ports", "peer_ports"]);
        let default = Self::default();
        let networks = section.list(report, "networks", MAX_NETWORKS);
        let ports = section.or(report, "ports", default.ports);
        let peer_ports = section.or(report, "peer_ports", default.peer_ports);
        Some(Self {
            networks: networks?,
            ports: ports?,
            peer_ports: peer_ports?,
        })
    }
}
