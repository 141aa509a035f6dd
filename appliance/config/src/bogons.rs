//! Addresses that no honest packet from the outside has as its source: IANA's special-purpose registries (RFC 6890),
//! multicast and reserved space. A zone takes networks out of the list with `not_bogon`; its own networks never count.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The whole list, disjoint networks.
#[must_use]
pub fn all() -> Vec<IpNet> {
    let v4 = IPV4.iter().filter_map(|(address, length)| {
        Ipv4Net::new(Ipv4Addr::from(*address), *length)
            .ok()
            .map(IpNet::V4)
    });
    let v6 = IPV6.iter().filter_map(|(address, length)| {
        Ipv6Net::new(Ipv6Addr::from(*address), *length)
            .ok()
            .map(IpNet::V6)
    });
    v4.chain(v6).collect()
}

/// The list less some networks, still disjoint.
#[must_use]
pub fn without(exceptions: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut left = all();
    for exception in exceptions {
        left = left
            .into_iter()
            .flat_map(|network| subtract(network, exception))
            .collect();
    }
    IpNet::aggregate(&left)
}

/// `network` less `hole`: at most one piece for each bit between the two prefix lengths.
fn subtract(network: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&network) {
        return Vec::new();
    }
    if !network.contains(&hole) {
        return vec![network];
    }
    let mut pieces = Vec::new();
    let mut around = network;
    while around != hole {
        let Ok(halves) = around.subnets(around.prefix_len() + 1) else {
            break;
        };
        let mut next = None;
        for half in halves {
            if half.contains(&hole) {
                next = Some(half)
            } else {
                pieces.push(half)
            }
        }
        let Some(next) = next else { break };
        around = next;
    }
    pieces
}

const IPV4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),       // this network, RFC 791
    ([10, 0, 0, 0], 8),      // private, RFC 1918
    ([100, 64, 0, 0], 10),   // shared address space, RFC 6598
    ([127, 0, 0, 0], 8),     // loopback, RFC 1122
    ([169, 254, 0, 0], 16),  // link local, RFC 3927
    ([172, 16, 0, 0], 12),   // private, RFC 1918
    ([192, 0, 0, 0], 24),    // protocol assignments, RFC 6890
    ([192, 0, 2, 0], 24),    // documentation, RFC 5737
    ([192, 88, 99, 0], 24),  // 6to4 relay, RFC 7526
    ([192, 168, 0, 0], 16),  // private, RFC 1918
    ([198, 18, 0, 0], 15),   // benchmarking, RFC 2544
    ([198, 51, 100, 0], 24), // documentation, RFC 5737
    ([203, 0, 113, 0], 24),  // documentation, RFC 5737
    ([224, 0, 0, 0], 4),     // multicast, RFC 5771
    ([240, 0, 0, 0], 4),     // reserved and broadcast, RFC 1112
];

// Link local (fe80::/10) is missing on purpose: neighbour discovery speaks with it.
const IPV6: [([u16; 8], u8); 14] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 96), // unspecified, loopback, IPv4-compatible, RFC 4291
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), // IPv4-mapped, RFC 4291
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), // local translation, RFC 8215
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64), // discard only, RFC 6666
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), // Teredo, RFC 4380
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), // benchmarking, RFC 5180
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), // ORCHID, RFC 4843
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation, RFC 3849
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4, RFC 7526
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation, RFC 9637
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), // segment routing, RFC 9602
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), // unique local, RFC 4193
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), // site local, RFC 3879
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), // multicast, RFC 4291
];

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("network")
    }

    #[test]
    fn the_list_is_disjoint_and_every_entry_is_a_network() {
        let all = all();
        assert_eq!(all.len(), IPV4.len() + IPV6.len());
        for (i, a) in all.iter().enumerate() {
            assert_eq!(*a, a.trunc());
            assert!(
                all.iter()
                    .skip(i + 1)
                    .all(|b| !a.contains(b) && !b.contains(a)),
                "{a}"
            );
        }
    }

    #[test]
    fn an_exception_takes_out_exactly_itself() {
        let left = without([
            net("198.18.0.0/16"),
            net("2001:db8:f::/48"),
            net("198.51.100.0/24"),
        ]);
        let bogon = |address: &str| {
            left.iter()
                .any(|n| n.contains(&address.parse::<std::net::IpAddr>().expect("address")))
        };
        for free in [
            "198.18.0.1",
            "198.18.255.255",
            "2001:db8:f::1",
            "198.51.100.7",
        ] {
            assert!(!bogon(free), "{free}");
        }
        for bad in [
            "198.19.0.0",
            "2001:db8:e::1",
            "2001:db8:10::1",
            "203.0.113.1",
            "10.0.0.1",
            "127.0.0.1",
            "::1",
        ] {
            assert!(bogon(bad), "{bad}");
        }
    }

    #[test]
    fn an_exception_larger_than_an_entry_takes_it_out_whole() {
        assert!(without([net("0.0.0.0/0"), net("::/0")]).is_empty());
    }
}
