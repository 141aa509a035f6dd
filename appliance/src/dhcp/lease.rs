//! An address that a server lends, and what it may not be: nothing that is received by DHCP may take traffic away from
//! another zone or make the box believe it is somebody else. Judged by the client before it takes an offer, and again by
//! init before it sets the address, because the client meets strangers.

use std::net::{IpAddr, Ipv4Addr};

use appliance_config::Document;
use ipnet::{IpNet, Ipv4Net};

/// Shortest lease that is taken, in s: a shorter one would only be asked for again and again.
const SHORTEST: u32 = 60;
/// Longest that is believed, in s: a week. The server is asked again before.
pub const LONGEST: u32 = 7 * 86_400;
/// Lengths of a network's prefix that make sense on a link.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The box's address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// Seconds it lasts.
    pub seconds: u32,
}

/// Why a lease is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unfit {
    /// No prefix length between 8 and 30.
    #[error("the network's prefix is not between 8 and 30")]
    Prefix,
    /// Not an address that a host can have.
    #[error("the address is none that a host can have")]
    Address,
    /// The network overlaps one of another zone, or one behind a gateway of this.
    #[error("the network overlaps another of the configuration")]
    Overlap,
    /// Not a host of the leased network, or the box's own address.
    #[error("the gateway is no other host on the link")]
    Gateway,
    /// Under a minute.
    #[error("the lease is too short")]
    Short,
}

/// Networks that are spoken for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken(Vec<IpNet>);

impl Taken {
    /// Those of the whole configuration; the zone that asks has none of its own on its link.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        Self(
            document
                .zones
                .iter()
                .flat_map(appliance_config::Zone::networks)
                .collect(),
        )
    }

    fn overlaps(&self, network: Ipv4Net) -> bool {
        self.0.iter().any(|taken| match taken {
            IpNet::V4(taken) => taken.contains(&network) || network.contains(taken),
            IpNet::V6(_) => false,
        })
    }
}

impl Lease {
    /// Whether it may be taken.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn vet(&self, taken: &Taken) -> Result<(), Unfit> {
        let network = Ipv4Net::new(self.address, self.prefix).map_err(|_| Unfit::Prefix)?;
        if !PREFIXES.contains(&self.prefix) {
            return Err(Unfit::Prefix);
        }
        if !is_host(self.address, network) {
            return Err(Unfit::Address);
        }
        if taken.overlaps(network) {
            return Err(Unfit::Overlap);
        }
        let on_link = |gateway: Ipv4Addr| {
            network.contains(&gateway) && is_host(gateway, network) && gateway != self.address
        };
        if !self.gateway.is_none_or(on_link) {
            return Err(Unfit::Gateway);
        }
        if self.seconds < SHORTEST {
            return Err(Unfit::Short);
        }
        Ok(())
    }

    /// The address with its network's prefix length.
    #[must_use]
    pub fn net(&self) -> (IpAddr, u8) {
        (IpAddr::V4(self.address), self.prefix)
    }
}

/// Whether a host of this network can have the address: no class D or E, no loopback, `0.0.0.0/8` or link-local one, and
/// neither the network's first nor its last.
fn is_host(address: Ipv4Addr, network: Ipv4Net) -> bool {
    let first = address.octets()[0];
    let unicast = first != 0 && first < 224;
    unicast
        && !address.is_loopback()
        && !address.is_link_local()
        && address != network.network()
        && address != network.broadcast()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease(address: &str, prefix: u8, gateway: &str) -> Lease {
        Lease {
            address: address.parse().unwrap(),
            prefix,
            gateway: (!gateway.is_empty()).then(|| gateway.parse().unwrap()),
            seconds: 3_600,
        }
    }

    fn taken() -> Taken {
        Taken(
            ["10.0.0.0/24", "203.0.113.0/24", "2001:db8::/32"]
                .map(|net| net.parse().unwrap())
                .into(),
        )
    }

    #[test]
    fn a_lease_of_an_ordinary_network_is_taken() {
        for good in [
            lease("198.51.100.20", 24, "198.51.100.254"),
            lease("198.51.100.20", 24, ""),
            lease("192.168.1.7", 16, "192.168.0.1"),
            lease("198.51.100.1", 30, "198.51.100.2"),
            lease("100.64.3.4", 10, "100.64.0.1"),
        ] {
            assert_eq!(good.vet(&taken()), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn a_hostile_lease_is_refused() {
        let short = Lease {
            seconds: 59,
            ..lease("198.51.100.20", 24, "")
        };
        for (bad, why) in [
            (lease("198.51.100.20", 7, ""), Unfit::Prefix),
            (lease("198.51.100.20", 31, ""), Unfit::Prefix),
            (lease("198.51.100.20", 0, ""), Unfit::Prefix),
            (lease("198.51.100.20", 33, ""), Unfit::Prefix),
            (lease("0.0.0.0", 24, ""), Unfit::Address),
            (lease("127.0.0.1", 8, ""), Unfit::Address),
            (lease("169.254.3.4", 16, ""), Unfit::Address),
            (lease("224.0.0.1", 24, ""), Unfit::Address),
            (lease("255.255.255.255", 24, ""), Unfit::Address),
            (lease("240.0.0.1", 24, ""), Unfit::Address),
            (lease("198.51.100.0", 24, ""), Unfit::Address),
            (lease("198.51.100.255", 24, ""), Unfit::Address),
            // In another zone's network, around it, and a part of it that would be preferred.
            (lease("10.0.0.7", 24, ""), Unfit::Overlap),
            (lease("10.1.0.7", 8, ""), Unfit::Overlap),
            (lease("203.0.113.130", 25, "203.0.113.129"), Unfit::Overlap),
            (lease("198.51.100.20", 24, "198.51.101.1"), Unfit::Gateway),
            (lease("198.51.100.20", 24, "198.51.100.20"), Unfit::Gateway),
            (lease("198.51.100.20", 24, "198.51.100.255"), Unfit::Gateway),
            (lease("198.51.100.20", 24, "10.0.0.1"), Unfit::Gateway),
            (short, Unfit::Short),
        ] {
            assert_eq!(bad.vet(&taken()), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn the_networks_of_all_zones_are_taken() {
        let lab = include_str!("../../../tests/lab/gatehouse.toml");
        let taken = Taken::of(&Document::parse(lab, "gatehouse.toml").unwrap());
        assert_eq!(lease("192.0.2.77", 24, "").vet(&taken), Err(Unfit::Overlap));
        assert_eq!(
            lease("203.0.113.77", 28, "").vet(&taken),
            Err(Unfit::Overlap)
        );
    }

    proptest! {
        #[test]
        fn no_lease_that_is_taken_touches_what_is_spoken_for(address: u32, prefix in 0_u8..40, gateway: Option<u32>) {
            let address = Ipv4Addr::from(address);
            let lease = Lease { address, prefix, gateway: gateway.map(Ipv4Addr::from), seconds: 3_600 };
            if lease.vet(&taken()).is_ok() {
                let network = Ipv4Net::new(address, prefix).unwrap();
                prop_assert!(!taken().overlaps(network));
                prop_assert!(lease.gateway.is_none_or(|gateway| network.contains(&gateway) && gateway != address));
            }
        }
    }
}
