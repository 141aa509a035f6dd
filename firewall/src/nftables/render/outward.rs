//! The way outward: a socket sends only whereto it was lent for, by its mark. The kernel itself sends neighbour discovery
//! and echo replies, and neither errors nor resets of its own.

use core::net::IpAddr;
use std::collections::BTreeSet;

use broker_proto::Role;

use super::{Builder, family, inward::ports, of_family};
use crate::{
    nftables::names::mark,
    policy::{Protocol, Reason, Zone},
};

/// Echo requests per second of the network test.
const NETWORK_TEST_RATE: u32 = 20;

/// Questions per second to one name server: more than all configured names need, and little to carry secrets away by.
const QUESTION_RATE: u32 = 50;

/// Listener discovery that the kernel speaks so that switches deliver neighbour discovery (RFC 3810, RFC 9777).
const LISTENER_REPORTS: [&str; 3] = [
    "icmpv6 type mld-listener-report ip6 hoplimit 1 meta mark 0 accept",
    "icmpv6 type mld-listener-done ip6 hoplimit 1 meta mark 0 accept",
    "icmpv6 type mld2-listener-report ip6 hoplimit 1 meta mark 0 accept",
];

pub(super) fn chains(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let options = builder.refuse(Reason::EgressOptions, name);
    let mut rules = vec![format!("ip hdrlength != 5 {options}")];
    rules.extend(LISTENER_REPORTS.map(|report| format!("ip6 nexthdr 0 {report}")));
    rules.extend([
        format!("ip6 nexthdr != 6 ip6 nexthdr != 17 ip6 nexthdr != 58 {options}"),
        format!("meta mark {:#x} goto media_out/{name}", mark::MEDIA),
        "accept".to_owned(),
    ]);
    builder.chain(format!("outward/{name}"), "", rules);
    output(builder, zone);
    listeners(builder, zone);
    connecting(builder, zone);
}

fn output(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let mut rules = vec![
        "icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 meta mark 0 accept".to_owned(),
        "icmpv6 type nd-neighbor-advert ip6 hoplimit 255 meta mark 0 accept".to_owned(),
    ];
    rules.extend(LISTENER_REPORTS.map(ToOwned::to_owned));
    if zone.v6.as_ref().is_some_and(|v6| v6.learnt) {
        rules.push("icmpv6 type nd-router-solicit ip6 hoplimit 255 meta mark 0 accept".to_owned());
    }
    if zone.v4.as_ref().is_some_and(|v4| v4.learnt) {
        let request = format!("meta mark {:#x} udp sport 68 udp dport 67", mark::DHCP);
        // RFC 2131 §4.1: whoever has no address yet sends from 0.0.0.0; the kernel would take one of another zone.
        rules.push(format!(
            "{request} ip daddr 255.255.255.255 fib saddr . oif type != local ip saddr set 0.0.0.0 accept"
        ));
        rules.push(format!("{request} fib saddr . oif type local accept"));
    }
    rules.push(format!(
        "fib saddr . oif type != local {}",
        builder.refuse(Reason::EgressSource, name)
    ));
    for v6 in [false, true] {
        let (ip, _) = family(v6);
        let icmp = if v6 { "icmpv6" } else { "icmp" };
        rules.push(format!(
            "{icmp} type echo-reply ct state established meta mark 0 accept"
        ));
        let marked = format!(
            "{icmp} type echo-request meta mark {:#x}",
            mark::NETWORK_TEST
        );
        let limit = format!("limit rate {NETWORK_TEST_RATE}/second accept");
        let targets: BTreeSet<IpAddr> = zone
            .echo_targets
            .iter()
            .map(|target| target.address)
            .filter(|address| address.is_ipv6() == v6)
            .collect();
        rules.extend(
            targets
                .iter()
                .map(|target| format!("{marked} {ip} daddr {target} {limit}")),
        );
        // The gateway is known only when it is lent; nobody but the network test has the mark.
        if zone.family(v6).is_some_and(|addressing| addressing.learnt) {
            rules.push(format!("{marked} {limit}"));
        }
    }
    let refusal = builder.refuse(Reason::EgressIcmp, name);
    rules.extend([1, 58].map(|icmp| format!("meta l4proto {icmp} {refusal}")));
    rules.push(format!(
        "meta mark {:#x} goto out_sip/{name}",
        mark::LISTEN_SIP
    ));
    rules.push(format!(
        "meta mark {:#x} goto out_management/{name}",
        mark::LISTEN_MANAGEMENT
    ));
    let mut connecting = vec![(mark::CONNECT_SIP, "sip"), (mark::CONNECT_TIME, "time")];
    if !zone.name_servers.is_empty() {
        connecting.push((mark::CONNECT_NAMES, "names"));
    }
    rules.extend(
        connecting
            .into_iter()
            .map(|(mark, class)| format!("meta mark {mark:#x} goto connect_{class}/{name}")),
    );
    rules.push(builder.refuse(Reason::EgressUnmarked, name));
    builder.chain(format!("output/{name}"), "", rules);
}

/// Listeners answer whoever wrote first; on UDP they also write first to configured peers and to phones that came by here.
fn listeners(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let refusal = builder.refuse(Reason::EgressListener, name);
    let answer = "ct direction reply ct state established accept".to_owned();
    let mut rules = vec![answer.clone()];
    let mut phones = Vec::new();
    for port in ports(zone, Protocol::Udp, |role| role == Role::Sbc) {
        for v6 in [false, true] {
            let (ip, digit) = family(v6);
            let peers = far_ends(zone, Role::Sbc, Protocol::Udp, v6);
            let named = named_ends(zone, Protocol::Udp, v6);
            let peers = peers.chain(named);
            rules.extend(peers.map(|peer| format!("udp sport {port} {peer} accept")));
            phones.push(format!(
                "udp sport {port} {ip} saddr . udp sport . {ip} daddr . udp dport @sip_flow{digit} accept"
            ));
        }
    }
    rules.extend(phones);
    rules.push(refusal.clone());
    builder.chain(format!("out_sip/{name}"), "", rules);
    builder.chain(format!("out_management/{name}"), "", vec![answer, refusal]);
}

fn connecting(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    for (class, role) in [("sip", Role::Sbc), ("time", Role::Time)] {
        let mut rules = Vec::new();
        for v6 in [false, true] {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                rules.extend(
                    far_ends(zone, role, protocol, v6).map(|peer| format!("{peer} accept")),
                );
                if role == Role::Sbc {
                    let named = named_ends(zone, protocol, v6);
                    rules.extend(named.map(|peer| format!("{peer} accept")));
                }
            }
        }
        rules.push(builder.refuse(Reason::EgressConnect, name));
        builder.chain(format!("connect_{class}/{name}"), "", rules);
    }
    if !zone.name_servers.is_empty() {
        let limit = format!(
            "limit rate {QUESTION_RATE}/second burst {} packets",
            QUESTION_RATE * 2
        );
        let servers = zone.name_servers.iter().flat_map(|server| {
            let (ip, _) = family(server.is_ipv6());
            let (address, port) = (server.ip(), server.port());
            // What does not fit into a datagram is asked for by TCP (RFC 7766); the rate is that of connections.
            [
                format!("{ip} daddr {address} udp dport {port} {limit} accept"),
                format!("{ip} daddr {address} tcp dport {port} ct state established accept"),
                format!("{ip} daddr {address} tcp dport {port} ct state new {limit} accept"),
            ]
        });
        let mut rules: Vec<String> = servers.collect();
        rules.push(builder.refuse(Reason::EgressConnect, name));
        builder.chain(format!("connect_names/{name}"), "", rules);
    }
}

/// Matches far ends that are known by name, by network and port.
fn named_ends(zone: &Zone, protocol: Protocol, v6: bool) -> impl Iterator<Item = String> + '_ {
    let (ip, _) = family(v6);
    let named = zone.named.iter();
    let named = named.filter(move |named| named.protocol == protocol);
    named.flat_map(move |named| {
        of_family(&named.networks, v6).flat_map(move |network| {
            named
                .ports
                .iter()
                .map(move |port| format!("{ip} daddr {network} {} dport {port}", protocol.word()))
        })
    })
}

/// Matches the configured far ends, one each.
fn far_ends(
    zone: &Zone,
    role: Role,
    protocol: Protocol,
    v6: bool,
) -> impl Iterator<Item = String> + '_ {
    let (ip, _) = family(v6);
    let peers = zone
        .peers
        .iter()
        .filter(move |peer| peer.role == role && peer.protocol == protocol);
    let peers = peers
        .map(|peer| peer.address)
        .filter(move |address| address.is_ipv6() == v6);
    peers.map(move |peer| {
        format!(
            "{ip} daddr {} {} dport {}",
            peer.ip(),
            protocol.word(),
            peer.port()
        )
    })
}
