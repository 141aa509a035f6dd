//! Kernel settings that the ruleset relies on or that close what it cannot see (ARP, memory of reassembly, time-outs of
//! connection tracking). Data only: `nftables::commit` writes [`boot`] with the closed ruleset, before the first link goes
//! up, and [`link`] for each zone's link at each commit.

use super::Zone;

/// A file below `/proc/sys` and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Path below `/proc/sys`, with slashes.
    pub path: String,
    /// Value.
    pub value: String,
    /// The machine may lack the file (no IPv6, connection tracking not loaded yet): then it is passed over.
    pub optional: bool,
}

fn must(path: &str, value: &str) -> Sysctl {
    Sysctl {
        path: path.to_owned(),
        value: value.to_owned(),
        optional: false,
    }
}

fn may(path: &str, value: &str) -> Sysctl {
    Sysctl {
        optional: true,
        ..must(path, value)
    }
}

/// Settings of the whole machine or network namespace, to be written before any link is up.
#[must_use]
pub fn boot() -> Vec<Sysctl> {
    let mut all = vec![
        // Nothing is ever forwarded, whatever the rules say.
        must("net/ipv4/ip_forward", "0"),
        may("net/ipv6/conf/all/forwarding", "0"),
        // Sockets bind to addresses that exist; marks come from sockets only.
        must("net/ipv4/ip_nonlocal_bind", "0"),
        may("net/ipv6/ip_nonlocal_bind", "0"),
        must("net/ipv4/fwmark_reflect", "0"),
        must("net/ipv4/tcp_fwmark_accept", "0"),
        may("net/ipv6/fwmark_reflect", "0"),
        // Media ports are lent one by one: the kernel's own choice begins above them.
        must("net/ipv4/ip_local_port_range", "32768 60999"),
        // Half-open connections: cookies when the queue is full (FFW_RUL_EXT.1.10).
        must("net/ipv4/tcp_syncookies", "1"),
        must("net/ipv4/tcp_max_syn_backlog", "1024"),
        must("net/ipv4/tcp_synack_retries", "2"),
        must("net/ipv4/tcp_rfc1337", "1"),
        // Echo sockets, which give their owner nothing but the replies to its own requests, are for group root alone.
        may("net/ipv4/ping_group_range", "0 0"),
        must("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
        must("net/ipv4/icmp_ignore_bogus_error_responses", "1"),
        // Reassembly: little memory, little time (FFW_RUL_EXT.1.6b). The low mark first: the kernel refuses a high one below it.
        must("net/ipv4/ipfrag_low_thresh", "786432"),
        must("net/ipv4/ipfrag_high_thresh", "1048576"),
        must("net/ipv4/ipfrag_time", "5"),
        may("net/ipv6/ip6frag_low_thresh", "786432"),
        may("net/ipv6/ip6frag_high_thresh", "1048576"),
        may("net/ipv6/ip6frag_time", "5"),
        may("net/netfilter/nf_conntrack_frag6_timeout", "5"),
        may("net/netfilter/nf_conntrack_frag6_low_thresh", "786432"),
        may("net/netfilter/nf_conntrack_frag6_high_thresh", "1048576"),
        // Connection tracking: sequence numbers count, no pick-up in the middle, what is over is forgotten at once.
        may("net/netfilter/nf_conntrack_tcp_loose", "0"),
        may("net/netfilter/nf_conntrack_tcp_be_liberal", "0"),
        may("net/netfilter/nf_conntrack_checksum", "1"),
        may("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
        may("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
        may("net/netfilter/nf_conntrack_tcp_timeout_syn_recv", "15"),
        may("net/netfilter/nf_conntrack_tcp_timeout_syn_sent", "15"),
        may("net/netfilter/nf_conntrack_tcp_timeout_established", "7440"),
        may("net/netfilter/nf_conntrack_udp_timeout", "15"),
        may("net/netfilter/nf_conntrack_udp_timeout_stream", "120"),
        may("net/netfilter/nf_conntrack_icmp_timeout", "5"),
        may("net/netfilter/nf_conntrack_icmpv6_timeout", "5"),
        may("net/netfilter/nf_conntrack_generic_timeout", "5"),
    ];
    for link in ["all", "default"] {
        all.extend(of_link(link, false));
    }
    all
}

/// Settings of a zone's link; a link that is not there yet has no files.
#[must_use]
pub fn link(zone: &Zone) -> Vec<Sysctl> {
    let mut all = of_link(
        &zone.interface,
        zone.v6.as_ref().is_some_and(|v6| v6.learnt),
    );
    // Not among those of all links: there it would reach the links of zones that have no IPv6.
    let disabled = if zone.v6.is_some() { "0" } else { "1" };
    all.push(may(
        &format!("net/ipv6/conf/{}/disable_ipv6", zone.interface),
        disabled,
    ));
    all
}

fn of_link(link: &str, advertisements: bool) -> Vec<Sysctl> {
    let path4 = |name: &str| format!("net/ipv4/conf/{link}/{name}");
    let path6 = |name: &str| format!("net/ipv6/conf/{link}/{name}");
    let accept = if advertisements { "1" } else { "0" };
    vec![
        may(&path4("forwarding"), "0"),
        may(&path4("accept_redirects"), "0"),
        may(&path4("secure_redirects"), "0"),
        may(&path4("send_redirects"), "0"),
        may(&path4("accept_source_route"), "0"),
        may(&path4("bootp_relay"), "0"),
        may(&path4("proxy_arp"), "0"),
        may(&path4("route_localnet"), "0"),
        may(&path4("accept_local"), "0"),
        // ARP is outside of the table: answer only for the link's own addresses, and only to its own network.
        may(&path4("arp_ignore"), "2"),
        may(&path4("arp_announce"), "2"),
        may(&path4("arp_accept"), "0"),
        may(&path4("drop_gratuitous_arp"), "1"),
        may(&path4("drop_unicast_in_l2_multicast"), "1"),
        // Every zone has its anti-spoofing rules; this is the second line.
        may(&path4("rp_filter"), "1"),
        may(&path6("forwarding"), "0"),
        may(&path6("accept_redirects"), "0"),
        may(&path6("accept_source_route"), "-1"),
        may(&path6("accept_ra"), accept),
        may(&path6("autoconf"), accept),
        may(&path6("accept_ra_defrtr"), accept),
        may(&path6("accept_ra_rtr_pref"), "0"),
        may(&path6("accept_ra_rt_info_max_plen"), "0"),
        may(&path6("proxy_ndp"), "0"),
        may(&path6("drop_unicast_in_l2_multicast"), "1"),
        may(&path6("drop_unsolicited_na"), "1"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, testing::lab};

    #[test]
    fn a_zone_without_ipv6_has_it_switched_off_and_none_listens_to_advertisements() {
        let mut policy = Policy::of(&lab());
        let zone = &mut policy.zones[0];
        let value = |zone: &Zone, name: &str| {
            link(zone)
                .into_iter()
                .find(|s| s.path == format!("net/ipv6/conf/ext0/{name}"))
                .unwrap()
                .value
        };
        assert_eq!(value(zone, "disable_ipv6"), "0");
        assert_eq!(value(zone, "accept_ra"), "0");
        zone.v6 = None;
        assert_eq!(value(zone, "disable_ipv6"), "1");
    }
}
