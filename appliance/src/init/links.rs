//! Links, addresses and routes as the configuration wants them. Called by init after the closed ruleset stands, after each
//! commit, and whenever a link comes or goes. What is already right is left alone, so a call on a zone never notices.

use std::{fs, io, net::IpAddr, path::Path};

use appliance_config::{Card, Document, Ipv4, Ipv6, Zone};

use super::{
    lease::Leases,
    rtnetlink::{Address, Link, Netlink},
};

/// Scope of a link-local address.
const SCOPE_LINK: u8 = 253;

/// Brings every zone's link into the state that `document` wants. Returns what could not be done, one sentence each; the
/// rest is done all the same.
///
/// # Errors
/// The kernel does not list links at all.
pub(super) fn apply(
    netlink: &mut Netlink,
    document: &Document,
    leases: &Leases,
) -> io::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let loopback = netlink.links()?.into_iter().find(|link| link.name == "lo");
    if let Some(loopback) = loopback.filter(|link| !link.is_up) {
        netlink.set_up(loopback.index, true)?;
    }
    for zone in &document.zones {
        if let Err(error) = apply_zone(netlink, document, zone, leases) {
            complaints.push(format!("zone {}: {error}", zone.name));
        }
    }
    for link in unused(netlink, document)? {
        // A card that no zone names carries nothing.
        if let Err(error) = netlink.set_up(link.index, false) {
            complaints.push(format!("card {}: {error}", link.name));
        }
    }
    Ok(complaints)
}

/// Ethernet links that are up but belong to no zone.
fn unused(netlink: &mut Netlink, document: &Document) -> io::Result<Vec<Link>> {
    let names: Vec<String> = document
        .zones
        .iter()
        .flat_map(|zone| [Some(zone.ifname().to_owned()), document.parent_ifname(zone)])
        .flatten()
        .collect();
    let links = netlink.links()?;
    Ok(links
        .into_iter()
        .filter(|link| link.is_ethernet && link.is_up && !names.contains(&link.name))
        .collect())
}

fn apply_zone(
    netlink: &mut Netlink,
    document: &Document,
    zone: &Zone,
    leases: &Leases,
) -> io::Result<()> {
    let link = match zone.interface.vlan {
        None => card(netlink, &zone.interface.card, zone.ifname())?,
        Some(vlan) => {
            let parent_name = document.parent_ifname(zone).unwrap_or_default();
            let parent = card(netlink, &zone.interface.card, &parent_name)?;
            if !parent.is_up {
                netlink.set_up(parent.index, true)?;
            }
            if find(netlink, |link| link.name == zone.name)?.is_none() {
                netlink.add_vlan(parent.index, &zone.name, vlan)?;
            }
            find(netlink, |link| link.name == zone.name)?.ok_or_else(|| missing(&zone.name))?
        }
    };
    harden(&link.name, zone);
    set_addresses(netlink, &link, zone, leases)?;
    if !link.is_up {
        netlink.set_up(link.index, true)?;
        // IPv6 addresses of a link are lost while it is down.
        set_addresses(netlink, &link, zone, leases)?;
    }
    set_routes(netlink, &link, zone)?;
    if zone.ipv4 == Some(Ipv4::Dhcp) {
        netlink.set_last_route(link.index)?;
        leases.set(netlink, &link, zone)?;
    }
    Ok(())
}

/// The zone's card under the name it is to have.
fn card(netlink: &mut Netlink, card: &Card, name: &str) -> io::Result<Link> {
    match card {
        Card::Name(own) => find(netlink, |link| link.name == *own)?.ok_or_else(|| missing(own)),
        Card::Mac(mac) => {
            let wanted = mac.to_string();
            // A VLAN has its parent's address: the card is the one that is no VLAN of ours.
            let matches = |link: &Link| print_mac(&link.mac) == wanted && link.is_ethernet;
            let named = find(netlink, |link| matches(link) && link.name == name)?;
            let Some(link) = (match named {
                Some(link) => Some(link),
                None => find(netlink, |link| matches(link) && !is_vlan(&link.name))?,
            }) else {
                return Err(missing(&wanted));
            };
            if link.name == name {
                return Ok(link);
            }
            if link.is_up {
                netlink.set_up(link.index, false)?;
            }
            netlink.rename(link.index, name)?;
            Ok(Link {
                name: name.to_owned(),
                is_up: false,
                ..link
            })
        }
    }
}

fn find(netlink: &mut Netlink, wanted: impl Fn(&Link) -> bool) -> io::Result<Option<Link>> {
    Ok(netlink.links()?.into_iter().find(wanted))
}

fn missing(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no network card {name}"),
    )
}

fn is_vlan(name: &str) -> bool {
    fs::read_to_string(format!("/sys/class/net/{name}/uevent"))
        .is_ok_and(|lines| lines.contains("DEVTYPE=vlan"))
}

/// `52:54:00:67:68:01`.
#[must_use]
pub(super) fn print_mac(mac: &[u8]) -> String {
    let parts: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    parts.join(":")
}

/// Gives the link the zone's static addresses and takes away every other that is not link-local (or, in a zone with router
/// advertisements, IPv6) and not lent to the zone.
fn set_addresses(
    netlink: &mut Netlink,
    link: &Link,
    zone: &Zone,
    leases: &Leases,
) -> io::Result<()> {
    let wanted = zone.links();
    let present: Vec<Address> = netlink
        .addresses()?
        .into_iter()
        .filter(|address| address.index == link.index)
        .collect();
    for net in &wanted {
        let has = present
            .iter()
            .any(|own| own.address == net.addr() && own.prefix == net.prefix_len());
        if !has {
            netlink.add_address(link.index, net.addr(), net.prefix_len())?;
        }
    }
    for own in present {
        let is_wanted = wanted
            .iter()
            .any(|net| own.address == net.addr() && own.prefix == net.prefix_len());
        let is_learned = match own.address {
            IpAddr::V6(_) => own.scope == SCOPE_LINK || matches!(zone.ipv6, Some(Ipv6::Ra)),
            IpAddr::V4(_) => leases.has(zone, own.address, own.prefix),
        };
        if !is_wanted && !is_learned {
            netlink.delete_address(link.index, own.address, own.prefix)?;
        }
    }
    Ok(())
}

fn set_routes(netlink: &mut Netlink, link: &Link, zone: &Zone) -> io::Result<()> {
    for routed in &zone.routed {
        netlink.set_route(
            link.index,
            routed.network.network(),
            routed.network.prefix_len(),
            routed.gateway,
        )?;
    }
    if let Some(Ipv4::Static {
        gateway: Some(gateway),
        ..
    }) = zone.ipv4
    {
        netlink.set_route(link.index, IpAddr::from([0; 4]), 0, gateway.into())?;
    }
    if let Some(Ipv6::Static {
        gateway: Some(gateway),
        ..
    }) = zone.ipv6
    {
        netlink.set_route(link.index, IpAddr::from([0_u8; 16]), 0, gateway.into())?;
    }
    Ok(())
}

/// Settings of one link that keep it deaf to redirects and foreign routers (house rule: never route dynamically).
fn harden(name: &str, zone: &Zone) {
    // The firewall makes the same settings with each commit; here they stand before the link first goes up.
    let learns = if matches!(zone.ipv6, Some(Ipv6::Ra)) {
        "1"
    } else {
        "0"
    };
    let disable_v6 = if zone.ipv6.is_some() { "0" } else { "1" };
    for (path, value) in [
        ("ipv6/conf", "disable_ipv6", disable_v6),
        ("ipv6/conf", "accept_ra", learns),
        ("ipv6/conf", "autoconf", learns),
        ("ipv6/conf", "accept_redirects", "0"),
        ("ipv6/conf", "accept_source_route", "0"),
        ("ipv4/conf", "accept_redirects", "0"),
        ("ipv4/conf", "send_redirects", "0"),
        ("ipv4/conf", "accept_source_route", "0"),
        ("ipv4/conf", "arp_ignore", "2"),
        ("ipv4/conf", "arp_announce", "2"),
        ("ipv4/conf", "rp_filter", "1"),
    ]
    .map(|(family, key, value)| {
        (
            format!("/proc/sys/net/{family}/{name}/{key}"),
            value.to_owned(),
        )
    }) {
        if Path::new(&path).exists()
            && let Err(error) = fs::write(&path, value)
        {
            tracing::warn!(path, %error, "kernel setting not made");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_written_in_small_hex() {
        assert_eq!(
            print_mac(&[0x52, 0x54, 0, 0x67, 0x68, 1]),
            "52:54:00:67:68:01"
        );
        assert_eq!(print_mac(&[]), "");
    }
}
