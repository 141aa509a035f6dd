//! The way inward after the early judgement: `raw/<zone>` before connection tracking, `input/<zone>` after it.

use std::collections::BTreeSet;

use broker_proto::Role;
use ipnet::IpNet;

use super::{Builder, early, family, of_family, sip_peers};
use crate::{
    nftables::ruleset::STAMP,
    policy::{Protocol, Reason, Zone, disjoint},
};

/// How many times the rate of a stranger a configured peer may send: a trunk or PBX speaks for many.
const PEER_FACTOR: u32 = 50;
/// Datagrams per second of a source on the greylist: enough for one caller.
const GREY_RATE: u32 = 10;

pub(super) fn chains(builder: &mut Builder<'_>, zone: &Zone) {
    raw(builder, zone);
    tcp(builder, zone);
    listen(builder, zone);
    input(builder, zone);
    begin(builder, zone);
    icmp(builder, zone);
}

/// Chains of all zones that hold the totals: each passes packets within its limit and returns with the rest.
pub(super) fn totals(builder: &mut Builder<'_>) {
    let limits = builder.limits;
    let within = |rate: u32| format!("limit rate {rate}/second burst {rate} packets");
    builder.chain(
        "syn_total".into(),
        "SYN of all zones together.",
        vec![format!(
            "{} meta mark set {STAMP} accept",
            within(limits.syn_rate)
        )],
    );
    builder.chain(
        "flow_total".into(),
        "New UDP flows of all zones together.",
        vec![format!("{} accept", within(limits.flow_rate))],
    );
    let icmp = if limits.icmp_rate == 0 {
        Vec::new()
    } else {
        vec![format!("{} accept", within(limits.icmp_rate))]
    };
    builder.chain(
        "icmp_total".into(),
        "ICMP of all zones together, neighbour discovery apart.",
        icmp,
    );
}

fn raw(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let mut rules = vec![
        format!("meta nfproto ipv4 jump source4/{name}"),
        format!("meta nfproto ipv6 jump source6/{name}"),
        format!("jump ban_all/{name}"),
        // Only neighbour discovery came so far with a group as destination.
        format!("ip6 daddr ff00::/8 meta mark set {STAMP} accept"),
        format!("fib daddr . iif type != local goto elsewhere/{name}"),
        format!("meta l4proto 1 meta mark set {STAMP} accept"),
        format!("meta l4proto 58 meta mark set {STAMP} accept"),
        format!("th sport 0 {}", builder.refuse(Reason::PortZero, name)),
        format!("th dport 0 {}", builder.refuse(Reason::PortZero, name)),
        format!("meta l4proto 6 goto tcp/{name}"),
    ];
    if let Some(media) = &zone.media {
        rules.push(format!(
            "udp dport {}-{} goto media/{name}",
            media.ports.start(),
            media.ports.end()
        ));
    }
    rules.extend(
        ports(zone, Protocol::Udp, |_| true)
            .map(|port| format!("udp dport {port} goto listen/{name}")),
    );
    rules.push(format!("meta mark set {STAMP} accept"));
    let foreign = builder.refuse(Reason::ForeignAddress, name);
    let forward = builder.refuse(Reason::Forward, name);
    builder.chain(format!("raw/{name}"), "", rules);
    builder.chain(
        format!("elsewhere/{name}"),
        "",
        vec![format!("fib daddr type local {foreign}"), forward],
    );
}

fn tcp(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let flags = builder.refuse(Reason::TcpFlags, name);
    // RFC 9293 §3.1: without SYN or RST every segment bears ACK; what ends never begins.
    let mut rules: Vec<String> = [
        "tcp flags & (fin|syn|rst|psh|ack|urg) == 0",
        "tcp flags & (fin|syn) == (fin|syn)",
        "tcp flags & (syn|rst) == (syn|rst)",
        "tcp flags & (fin|rst) == (fin|rst)",
        "tcp flags & (fin|ack) == fin",
        "tcp flags & (psh|ack) == psh",
        "tcp flags & (urg|ack) == urg",
    ]
    .map(|impossible| format!("{impossible} {flags}"))
    .into();
    let sip = ports(zone, Protocol::Tcp, |role| role == Role::Sbc);
    rules.extend(sip.map(|port| format!("tcp dport {port} jump ban_sip/{name}")));
    rules.push(format!(
        "tcp flags & (fin|syn|rst|ack) == syn goto syn/{name}"
    ));
    rules.push(format!("meta mark set {STAMP} accept"));
    builder.chain(format!("tcp/{name}"), "", rules);

    let mut rules: Vec<String> = ports(zone, Protocol::Tcp, |_| true)
        .map(|port| format!("tcp dport {port} goto syn_rate/{name}"))
        .collect();
    rules.push(builder.refuse(Reason::NotOffered, name));
    builder.chain(format!("syn/{name}"), "", rules);
    per_source(
        builder,
        zone,
        "syn_rate",
        builder.limits.syn_rate_per_source,
        Reason::SynRate,
    );
    let total = builder.refuse(Reason::SynRateTotal, name);
    builder.chain(
        format!("syn_rate/{name}"),
        "",
        vec![
            format!("jump syn_rate_source/{name}"),
            "jump syn_total".to_owned(),
            total,
        ],
    );
}

/// Datagrams to listeners.
fn listen(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    if ports(zone, Protocol::Udp, |_| true).next().is_none() {
        return;
    }
    let rate = builder.limits.sip_rate_per_source;
    let mut rules = vec![format!("jump ban_sip/{name}")];
    for v6 in [false, true] {
        let (ip, _) = family(v6);
        rules.extend(
            sip_peers(zone, v6)
                .iter()
                .map(|peer| format!("{ip} saddr {} goto listen_peer/{name}", plain(peer))),
        );
    }
    let grey = builder.refuse(Reason::GreyRate, name);
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        let over = over("grey_rate", digit, &format!("{ip} saddr"), GREY_RATE);
        rules.push(format!("{ip} saddr @greylist{digit} {over} {grey}"));
    }
    per_source(builder, zone, "udp_rate", rate, Reason::UdpRate);
    rules.push(format!("jump udp_rate_source/{name}"));
    rules.push(format!("meta mark set {STAMP} accept"));
    builder.chain(format!("listen/{name}"), "Datagrams to listeners.", rules);

    let refusal = builder.refuse(Reason::PeerRate, name);
    let mut rules: Vec<String> = [false, true]
        .map(|v6| {
            let (ip, digit) = family(v6);
            format!(
                "{} {refusal}",
                over(
                    "peer_rate",
                    digit,
                    &format!("{ip} saddr"),
                    rate.saturating_mul(PEER_FACTOR)
                )
            )
        })
        .into();
    rules.push(format!("meta mark set {STAMP} accept"));
    builder.chain(format!("listen_peer/{name}"), "", rules);
}

fn input(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let invalid = builder.refuse(Reason::CtInvalid, name);
    let mut rules = vec![
        format!(
            "meta mark != {STAMP} {}",
            builder.refuse(Reason::BetweenCommits, name)
        ),
        format!("meta l4proto 1 goto icmp4/{name}"),
        format!("meta l4proto 58 goto icmp6/{name}"),
        format!("ct state invalid {invalid}"),
    ];
    for port in ports(zone, Protocol::Udp, |_| true) {
        for v6 in [false, true] {
            let (ip, digit) = family(v6);
            // Answered before, and writing again: a phone that may be called when its connection entry is gone.
            rules.push(format!(
                "ct state established udp dport {port} update @sip_flow{digit} \
                 {{ {ip} daddr . udp dport . {ip} saddr . udp sport }}"
            ));
        }
    }
    rules.push("ct state established accept".to_owned());
    let tcp = ports(zone, Protocol::Tcp, |_| true)
        .map(|port| format!("tcp dport {port} ct state new goto connect/{name}"));
    let udp = ports(zone, Protocol::Udp, |_| true)
        .map(|port| format!("udp dport {port} ct state new goto flow/{name}"));
    rules.extend(tcp.chain(udp));
    rules.extend(early::dhcp(zone).map(|answer| format!("{answer} accept")));
    rules.push(builder.refuse(Reason::NotOffered, name));
    builder.chain(format!("input/{name}"), "", rules);
}

/// New connections and flows: `connect/<zone>` and `flow/<zone>`.
fn begin(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let refusal = builder.refuse(Reason::Connections, name);
    let most = builder.limits.connections_per_source;
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        rules.extend(
            exempt(zone, v6)
                .iter()
                .map(|trusted| format!("{ip} saddr {trusted} accept")),
        );
        rules.push(format!(
            "add @connections{digit} {{ {ip} saddr ct count over {most} }} {refusal}"
        ));
    }
    rules.push("accept".to_owned());
    builder.chain(format!("connect/{name}"), "", rules);

    per_source(
        builder,
        zone,
        "flow_rate",
        builder.limits.flow_rate_per_source,
        Reason::NewRate,
    );
    let refusal = builder.refuse(Reason::NewRate, name);
    let rules = vec![
        format!("jump flow_rate_source/{name}"),
        "jump flow_total".to_owned(),
        refusal,
    ];
    builder.chain(format!("flow/{name}"), "", rules);
}

fn icmp(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let other = builder.refuse(Reason::Icmp, name);
    let rate = builder.refuse(Reason::IcmpRate, name);
    let invalid = format!(
        "ct state invalid {}",
        builder.refuse(Reason::CtInvalid, name)
    );
    for (chain, icmp, errors) in [
        (
            "icmp4",
            "icmp",
            [
                "destination-unreachable",
                "time-exceeded",
                "parameter-problem",
            ]
            .as_slice(),
        ),
        (
            "icmp6",
            "icmpv6",
            &[
                "destination-unreachable",
                "packet-too-big",
                "time-exceeded",
                "parameter-problem",
            ],
        ),
    ] {
        let mut rules = Vec::new();
        if icmp == "icmpv6" {
            let discovery = early::discovery(zone).into_iter();
            rules.extend(discovery.map(|message| format!("{message} goto discovery/{name}")));
        }
        rules.push(invalid.clone());
        rules.push(format!(
            "{icmp} type echo-reply ct state established accept"
        ));
        rules.push(format!(
            "{icmp} type echo-request {icmp} code 0 goto icmp/{name}"
        ));
        rules.extend(
            errors
                .iter()
                .map(|error| format!("{icmp} type {error} ct state related goto icmp/{name}")),
        );
        rules.push(other.clone());
        builder.chain(format!("{chain}/{name}"), "", rules);
    }
    builder.chain(
        format!("icmp/{name}"),
        "",
        vec!["jump icmp_total".to_owned(), rate.clone()],
    );
    let discovery = builder.limits.nd_rate;
    builder.chain(
        format!("discovery/{name}"),
        "",
        vec![
            format!("limit rate over {discovery}/second burst {discovery} packets {rate}"),
            "accept".to_owned(),
        ],
    );
}

/// Ports of the zone's listeners of one protocol, ascending.
pub(super) fn ports(
    zone: &Zone,
    protocol: Protocol,
    of: impl Fn(Role) -> bool,
) -> impl Iterator<Item = u16> {
    let listeners = zone
        .listeners
        .iter()
        .filter(|listener| listener.protocol == protocol && of(listener.role));
    listeners
        .map(|listener| listener.port)
        .collect::<BTreeSet<u16>>()
        .into_iter()
}

/// A network as nft prints it: one address without its length.
fn plain(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// Sources that limits per source do not count: the allow-list, trunks and PBX.
fn exempt(zone: &Zone, v6: bool) -> Vec<IpNet> {
    let peers = sip_peers(zone, v6).into_iter();
    disjoint(of_family(&zone.allow_list, v6).chain(peers))
}

/// Chain `<set>_source/<zone>`: refuses what is over `rate` by source, returns otherwise. A source is an address; in IPv6,
/// away from the zone's own networks, it is a /64, since one subscriber has at least that many addresses (RFC 6177). The
/// burst is one second's worth.
fn per_source(builder: &mut Builder<'_>, zone: &Zone, set: &str, rate: u32, reason: Reason) {
    let refusal = builder.refuse(reason, &zone.name);
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        rules.extend(
            exempt(zone, v6)
                .iter()
                .map(|trusted| format!("{ip} saddr {trusted} return")),
        );
        let address = over(set, digit, &format!("{ip} saddr"), rate);
        if v6 {
            for near in of_family(&zone.networks, true) {
                rules.push(format!("ip6 saddr {near} {address} {refusal}"));
                rules.push(format!("ip6 saddr {near} return"));
            }
            let network = over(set, digit, "ip6 saddr & ffff:ffff:ffff:ffff::", rate);
            rules.push(format!("{network} {refusal}"));
        } else {
            rules.push(format!("{address} {refusal}"));
        }
    }
    builder.chain(format!("{set}_source/{}", zone.name), "", rules);
}

/// Matches what is over `rate` by `key`.
fn over(set: &str, digit: char, key: &str, rate: u32) -> String {
    format!("update @{set}{digit} {{ {key} limit rate over {rate}/second burst {rate} packets }}")
}
