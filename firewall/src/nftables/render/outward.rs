//! The way outward: a socket sends only whereto it was lent for, by its mark. The kernel itself sends neighbour discovery
//! and echo replies, and neither errors nor resets of its own.

use broker_proto::Role;

use super::{Builder, family, inward::ports, one_of};
use crate::{
    nftables::names::mark,
    policy::{Protocol, Reason, Zone},
};

/// Echo requests per second of init's network test.
const NETWORK_TEST_RATE: u32 = 20;

/// Listener discovery that the kernel speaks so that switches deliver neighbour discovery (RFC 3810, RFC 9777).
const LISTENER_REPORT: &str =
    "icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } ip6 hoplimit 1 meta mark 0";

pub(super) fn chains(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let options = builder.refuse(Reason::EgressOptions, name);
    builder.chain(
        format!("outward/{name}"),
        "",
        vec![
            format!("ip hdrlength != 5 {options}"),
            format!("ip6 nexthdr 0 {LISTENER_REPORT} accept"),
            format!("ip6 nexthdr != {{ 6, 17, 58 }} {options}"),
            format!("meta mark {:#x} goto media_out/{name}", mark::MEDIA),
            "accept".to_owned(),
        ],
    );
    output(builder, zone);
    listeners(builder, zone);
    connecting(builder, zone);
}

fn output(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let mut rules = vec![
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 meta mark 0 accept".to_owned(),
        format!("{LISTENER_REPORT} accept"),
    ];
    if zone.v6.as_ref().is_some_and(|v6| v6.learnt) {
        rules.push("icmpv6 type nd-router-solicit ip6 hoplimit 255 meta mark 0 accept".to_owned());
    }
    if zone.v4.as_ref().is_some_and(|v4| v4.learnt) {
        rules.push(format!("meta mark {:#x} udp sport 68 udp dport 67 accept", mark::DHCP));
    }
    rules.push(format!("fib saddr . oif type != local {}", builder.refuse(Reason::EgressSource, name)));
    for v6 in [false, true] {
        let (ip, _) = family(v6);
        let icmp = if v6 { "icmpv6" } else { "icmp" };
        rules.push(format!("{icmp} type echo-reply ct state established meta mark 0 accept"));
        let targets = one_of(zone.echo_targets.iter().filter(|target| target.is_ipv6() == v6));
        rules.extend(targets.map(|targets| {
            format!(
                "{icmp} type echo-request meta mark {:#x} {ip} daddr {targets} limit rate {NETWORK_TEST_RATE}/second accept",
                mark::NETWORK_TEST
            )
        }));
    }
    rules.push(format!("meta l4proto {{ 1, 58 }} {}", builder.refuse(Reason::EgressIcmp, name)));
    rules.push(format!("meta mark {:#x} goto out_sip/{name}", mark::LISTEN_SIP));
    rules.push(format!("meta mark {:#x} goto out_management/{name}", mark::LISTEN_MANAGEMENT));
    let connecting = [(mark::CONNECT_SIP, "sip"), (mark::CONNECT_TIME, "time")];
    rules.extend(connecting.map(|(mark, class)| format!("meta mark {mark:#x} goto connect_{class}/{name}")));
    rules.push(builder.refuse(Reason::EgressUnmarked, name));
    builder.chain(format!("output/{name}"), "", rules);
}

/// Listeners answer whoever wrote first; on UDP they also write first to configured peers and to phones that came by here.
fn listeners(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let refusal = builder.refuse(Reason::EgressListener, name);
    let answer = "ct direction reply ct state established accept".to_owned();
    let mut rules = vec![answer.clone()];
    if let Some(ports) = ports(zone, Protocol::Udp, |role| role == Role::Sbc) {
        for v6 in [false, true] {
            let (ip, digit) = family(v6);
            let peers = one_of(far_ends(zone, Role::Sbc, Protocol::Udp, v6));
            rules.extend(
                peers.map(|peers| format!("udp sport {ports} {ip} daddr . udp dport {peers} accept")),
            );
            rules.push(format!("{ip} saddr . udp sport . {ip} daddr . udp dport @sip_flow{digit} accept"));
        }
    }
    rules.push(refusal.clone());
    builder.chain(format!("out_sip/{name}"), "", rules);
    builder.chain(format!("out_management/{name}"), "", vec![answer, refusal]);
}

fn connecting(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    for (class, role) in [("sip", Role::Sbc), ("time", Role::Time)] {
        let mut rules = Vec::new();
        for v6 in [false, true] {
            let (ip, _) = family(v6);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let peers = one_of(far_ends(zone, role, protocol, v6));
                let word = protocol.word();
                rules.extend(peers.map(|peers| format!("{ip} daddr . {word} dport {peers} accept")));
            }
        }
        rules.push(builder.refuse(Reason::EgressConnect, name));
        builder.chain(format!("connect_{class}/{name}"), "", rules);
    }
}

/// `address . port` of the configured far ends.
fn far_ends(zone: &Zone, role: Role, protocol: Protocol, v6: bool) -> Vec<String> {
    let peers = zone.peers.iter().filter(|peer| peer.role == role && peer.protocol == protocol);
    let ends = peers.filter(|peer| peer.address.is_ipv6() == v6);
    let mut ends: Vec<String> = ends.map(|peer| format!("{} . {}", peer.address.ip(), peer.address.port())).collect();
    ends.dedup();
    // One element in braces too: a bare concatenation is no value.
    if let [one] = ends.as_slice() {
        return vec![format!("{{ {one} }}")];
    }
    ends
}
