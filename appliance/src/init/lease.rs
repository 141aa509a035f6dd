//! Addresses that the DHCP process says were lent, by zone: judged here once more (it meets strangers), set on the links,
//! taken away when they end, and recorded. The kernel knows their end too, so none outlives it. The last address of each
//! zone is kept on the data partition, to be asked for again after a restart; it is used only if a server says yes.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

use appliance_config::{Document, Ipv4, Zone};
use broker_proto::{Role, control::ToChild, journal::Severity};

use super::{
    house::House,
    rtnetlink::{Link, Netlink},
};
use crate::dhcp::lease::{LONGEST, Lease, Taken};

/// A lease in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    lease: Lease,
    ends: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<String, Held>);

impl Leases {
    /// Whether this address of the zone's link is lent.
    pub(super) fn has(&self, zone: &Zone, address: IpAddr, prefix: u8) -> bool {
        zone.ipv4 == Some(Ipv4::Dhcp)
            && self
                .0
                .get(&zone.name)
                .is_some_and(|held| held.lease.net() == (address, prefix))
    }

    /// Gives the zone's link what is lent to it, for as long as it is.
    pub(super) fn set(&self, netlink: &mut Netlink, link: &Link, zone: &Zone) -> io::Result<()> {
        let Some(held) = self.0.get(&zone.name) else {
            return Ok(());
        };
        let left = held.ends.saturating_duration_since(Instant::now());
        let seconds = u32::try_from(left.as_secs()).unwrap_or(LONGEST);
        if seconds == 0 {
            return Ok(());
        }
        let (address, prefix) = held.lease.net();
        netlink.lend_address(link.index, address, prefix, seconds)?;
        match held.lease.gateway {
            Some(gateway) => netlink.set_route(link.index, [0; 4].into(), 0, gateway.into()),
            // One of an earlier lease: this server lends none.
            None => netlink.delete_default_route(link.index),
        }
    }

    /// Forgets what has ended, or what the configuration does not bear any more.
    fn prune(&mut self, document: &Document, now: Instant) {
        let taken = Taken::of(document);
        self.0.retain(|name, held| {
            held.ends > now && learns(document, name) && held.lease.vet(&taken).is_ok()
        });
    }
}

/// Whether the configuration has a zone of that name that takes its address from the network.
fn learns(document: &Document, name: &str) -> bool {
    let mut zones = document.zones.iter();
    zones.any(|zone| zone.name == name && zone.ipv4 == Some(Ipv4::Dhcp))
}

impl House {
    /// The DHCP process says that an address was lent, or lent for longer.
    pub(super) fn leased(&mut self, zone: &str, lease: Lease, now: Instant) {
        let Some(running) = &self.running else { return };
        let fit = if learns(&running.document, zone) {
            // How long is left of it is no question of policy: it is bounded by what is set.
            let whole = Lease {
                seconds: LONGEST,
                ..lease
            };
            whole
                .vet(&Taken::of(&running.document))
                .map_err(|unfit| unfit.to_string())
        } else {
            Err("the zone takes no address from the network".to_owned())
        };
        if let Err(reason) = fit {
            self.say(&format!("dhcp: lease refused: {reason}"));
            self.record(Severity::Alert, "lease-refused", &[("reason", &reason)]);
            return;
        }
        let seconds = lease.seconds.min(LONGEST);
        let held = Held {
            lease,
            ends: now + Duration::from_secs(seconds.into()),
        };
        let before = self.leases.0.insert(zone.to_owned(), held);
        let gateway = lease
            .gateway
            .map_or_else(|| "none".to_owned(), |gateway| gateway.to_string());
        let address = format!("{}/{}", lease.address, lease.prefix);
        self.say(&format!(
            "dhcp: zone {zone} has {address}, gateway {gateway}, for {seconds} s"
        ));
        let same =
            |held: Held| (held.lease.net(), held.lease.gateway) == (lease.net(), lease.gateway);
        if !before.is_some_and(same) {
            let fields = [
                ("zone", zone),
                ("address", &address),
                ("gateway", &gateway),
                ("seconds", &seconds.to_string()),
            ];
            self.record(Severity::Notice, "lease-taken", &fields);
            self.remember(zone, Some(lease.address));
        }
        // An address of before goes, and its routes with it, before the new one's are set again.
        self.apply_links();
    }

    /// The DHCP process says that the address is the box's no longer.
    pub(super) fn lease_lost(&mut self, zone: &str) {
        if let Some(held) = self.leases.0.remove(zone) {
            let address = held.lease.address.to_string();
            self.say(&format!("dhcp: zone {zone} has lost {address}"));
            self.record(
                Severity::Warning,
                "lease-lost",
                &[("zone", zone), ("address", &address)],
            );
            self.apply_links();
        }
        self.remember(zone, None);
    }

    /// Where a zone's last address is kept. A zone's name is a word of the configuration.
    fn memory(&self, zone: &str) -> PathBuf {
        self.data_directory().join("leases").join(zone)
    }

    /// Keeps the address, or forgets it. What cannot be kept is asked for anew.
    fn remember(&mut self, zone: &str, address: Option<Ipv4Addr>) {
        let path = self.memory(zone);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let kept = match address {
            Some(address) => folder.and_then(|()| fs::write(&path, address.to_string())),
            None => fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
        };
        if let Err(error) = kept {
            self.say(&format!(
                "dhcp: address of zone {zone} not remembered: {error}"
            ));
        }
    }

    fn remembered(&self, zone: &str) -> Option<Ipv4Addr> {
        fs::read_to_string(self.memory(zone)).ok()?.parse().ok()
    }

    /// Before links are set: what is lent no longer.
    pub(super) fn prune_leases(&mut self, now: Instant) {
        if let Some(running) = &self.running {
            self.leases.prune(&running.document, now);
        }
    }

    /// Tells the DHCP process the links of its zones as they are.
    pub(super) fn tell_links(&mut self) {
        let Some(running) = &self.running else { return };
        let zones: Vec<(String, String)> = running
            .document
            .zones
            .iter()
            .filter(|zone| zone.ipv4 == Some(Ipv4::Dhcp))
            .map(|zone| (zone.name.clone(), zone.ifname().to_owned()))
            .collect();
        if zones.is_empty() {
            return;
        }
        let links = match self.netlink.links() {
            Ok(links) => links,
            Err(error) => return self.say(&format!("links not listed: {error}")),
        };
        for (zone, ifname) in zones {
            let link = links.iter().find(|link| link.name == ifname);
            if let Some((link, Ok(mac))) = link.map(|link| (link, link.mac[..].try_into())) {
                let carrier = link.has_carrier;
                let remembered = self.remembered(&zone);
                let message = ToChild::Link {
                    zone,
                    mac,
                    carrier,
                    remembered,
                };
                self.tell(Role::Dhcp, &message, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(method: &str) -> Document {
        let lab = include_str!("../../../tests/lab/gatehouse.toml");
        let fixed = "address = \"198.51.100.1/24\"\ngateway = \"198.51.100.254\"";
        assert!(lab.contains(fixed));
        Document::parse(&lab.replace(fixed, method), "gatehouse.toml").unwrap()
    }

    #[test]
    fn what_is_lent_ends_with_its_time_or_its_zone() {
        let (dhcp, fixed) = (
            document("method = \"dhcp\""),
            document("address = \"198.51.100.1/24\""),
        );
        let now = Instant::now();
        let lease = Lease {
            address: [198, 51, 100, 20].into(),
            prefix: 24,
            gateway: None,
            seconds: 100,
        };
        let held = Held {
            lease,
            ends: now + Duration::from_secs(100),
        };
        let mut leases = Leases::default();
        leases.0.insert("external".into(), held);
        leases.prune(&dhcp, now);
        assert!(leases.has(&dhcp.zones[0], lease.net().0, 24));
        assert!(!leases.has(&dhcp.zones[0], lease.net().0, 25));
        assert!(!leases.has(&dhcp.zones[1], lease.net().0, 24));
        assert!(!leases.has(&fixed.zones[0], lease.net().0, 24));
        let mut later = Leases(leases.0.clone());
        later.prune(&dhcp, held.ends);
        assert!(later.0.is_empty());
        leases.prune(&fixed, now);
        assert!(leases.0.is_empty());
    }
}
