//! The way inward after the early judgement: `raw/<zone>` before connection tracking, `input/<zone>` after it.

use std::collections::BTreeSet;

use broker_proto::Role;

use super::{Builder, early, family, of_family, one_of, sip_peers};
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
    icmp(builder, zone);
}

/// Chains of all zones that hold the totals: each passes packets within its limit and returns with the rest.
pub(super) fn totals(builder: &mut Builder<'_>) {
    let limits = builder.limits;
    let within = |rate: u32| format!("limit rate {rate}/second burst {rate} packets");
    builder.chain(
        "syn_total".into(),
        "SYN of all zones together.",
        vec![format!("{} meta mark set {STAMP} accept", within(limits.syn_rate))],
    );
    builder.chain(
        "flow_total".into(),
        "New UDP flows of all zones together.",
        vec![format!("{} accept", within(limits.flow_rate))],
    );
    let icmp = if limits.icmp_rate == 0 { Vec::new() } else { vec![format!("{} accept", within(limits.icmp_rate))] };
    builder.chain("icmp_total".into(), "ICMP of all zones together, neighbour discovery apart.", icmp);
}

fn raw(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let mut rules = vec![
        format!("meta nfproto vmap {{ ipv4 : jump source4/{name}, ipv6 : jump source6/{name} }}"),
        format!("jump ban_all/{name}"),
        // Only neighbour discovery came so far with a group as destination.
        format!("ip6 daddr ff00::/8 meta mark set {STAMP} accept"),
        format!("fib daddr . iif type != local goto elsewhere/{name}"),
        format!("meta l4proto {{ 1, 58 }} meta mark set {STAMP} accept"),
        format!("th sport 0 {}", builder.refuse(Reason::PortZero, name)),
        format!("th dport 0 {}", builder.refuse(Reason::PortZero, name)),
        format!("meta l4proto 6 goto tcp/{name}"),
    ];
    if let Some(media) = &zone.media {
        rules.push(format!("udp dport {}-{} goto media/{name}", media.ports.start(), media.ports.end()));
    }
    rules.extend(ports(zone, Protocol::Udp, |_| true).map(|ports| format!("udp dport {ports} goto listen/{name}")));
    rules.push(format!("meta mark set {STAMP} accept"));
    let foreign = builder.refuse(Reason::ForeignAddress, name);
    let forward = builder.refuse(Reason::Forward, name);
    builder.chain(format!("raw/{name}"), "", rules);
    builder.chain(format!("elsewhere/{name}"), "", vec![format!("fib daddr type local {foreign}"), forward]);
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
    rules.extend(sip.map(|ports| format!("tcp dport {ports} jump ban_sip/{name}")));
    rules.push(format!("tcp flags & (fin|syn|rst|ack) == syn goto syn/{name}"));
    rules.push(format!("meta mark set {STAMP} accept"));
    builder.chain(format!("tcp/{name}"), "", rules);

    let not_offered = builder.refuse(Reason::NotOffered, name);
    let Some(ports) = ports(zone, Protocol::Tcp, |_| true) else {
        builder.chain(format!("syn/{name}"), "", vec![not_offered]);
        return;
    };
    let mut rules = vec![format!("tcp dport != {ports} {not_offered}")];
    let refusal = builder.refuse(Reason::SynRate, name);
    let rate = builder.limits.syn_rate_per_source;
    rules.extend(per_source(zone, "syn_rate", rate, &refusal, true));
    rules.push("jump syn_total".to_owned());
    rules.push(builder.refuse(Reason::SynRateTotal, name));
    builder.chain(format!("syn/{name}"), "", rules);
}

/// Datagrams to listeners.
fn listen(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    if ports(zone, Protocol::Udp, |_| true).is_none() {
        return;
    }
    let rate = builder.limits.sip_rate_per_source;
    let mut rules = vec![format!("jump ban_sip/{name}")];
    for v6 in [false, true] {
        let (ip, _) = family(v6);
        let peers = one_of(sip_peers(zone, v6));
        rules.extend(peers.map(|peers| format!("{ip} saddr {peers} goto listen_peer/{name}")));
    }
    let grey = builder.refuse(Reason::GreyRate, name);
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        let over = over("grey_rate", digit, &format!("{ip} saddr"), GREY_RATE);
        rules.push(format!("{ip} saddr @greylist{digit} {over} {grey}"));
    }
    let refusal = builder.refuse(Reason::UdpRate, name);
    rules.extend(per_source(zone, "udp_rate", rate, &refusal, false));
    rules.push(format!("meta mark set {STAMP} accept"));
    builder.chain(format!("listen/{name}"), "Datagrams to listeners.", rules);

    let refusal = builder.refuse(Reason::PeerRate, name);
    let mut rules: Vec<String> = [false, true]
        .map(|v6| {
            let (ip, digit) = family(v6);
            format!("{} {refusal}", over("peer_rate", digit, &format!("{ip} saddr"), rate.saturating_mul(PEER_FACTOR)))
        })
        .into();
    rules.push(format!("meta mark set {STAMP} accept"));
    builder.chain(format!("listen_peer/{name}"), "", rules);
}

fn input(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let invalid = builder.refuse(Reason::CtInvalid, name);
    let mut rules = vec![
        format!("meta mark != {STAMP} {}", builder.refuse(Reason::BetweenCommits, name)),
        format!("meta l4proto 1 goto icmp4/{name}"),
        format!("meta l4proto 58 goto icmp6/{name}"),
        format!("ct state invalid {invalid}"),
    ];
    let udp = ports(zone, Protocol::Udp, |_| true);
    if let Some(ports) = &udp {
        for v6 in [false, true] {
            let (ip, digit) = family(v6);
            // Answered before, and writing again: a phone that may be called when its connection entry is gone.
            rules.push(format!(
                "ct state established udp dport {ports} update @sip_flow{digit} \
                 {{ {ip} daddr . udp dport . {ip} saddr . udp sport }}"
            ));
        }
    }
    rules.push("ct state established accept".to_owned());
    if let Some(ports) = ports(zone, Protocol::Tcp, |_| true) {
        rules.push(format!("tcp dport {ports} ct state new goto connect/{name}"));
        let refusal = builder.refuse(Reason::Connections, name);
        let most = builder.limits.connections_per_source;
        let mut rules: Vec<String> = Vec::new();
        for v6 in [false, true] {
            let (ip, digit) = family(v6);
            let trusted = exempt(zone, v6).map(|trusted| format!("{ip} saddr != {trusted} ")).unwrap_or_default();
            rules.push(format!("{trusted}add @connections{digit} {{ {ip} saddr ct count over {most} }} {refusal}"));
        }
        rules.push("accept".to_owned());
        builder.chain(format!("connect/{name}"), "", rules);
    }
    if let Some(ports) = udp {
        rules.push(format!("udp dport {ports} ct state new goto flow/{name}"));
        let refusal = builder.refuse(Reason::NewRate, name);
        let mut rules = per_source(zone, "flow_rate", builder.limits.flow_rate_per_source, &refusal, true);
        rules.push("jump flow_total".to_owned());
        rules.push(refusal);
        builder.chain(format!("flow/{name}"), "", rules);
    }
    rules.extend(early::dhcp(zone).map(|answer| format!("{answer} accept")));
    rules.push(builder.refuse(Reason::NotOffered, name));
    builder.chain(format!("input/{name}"), "", rules);
}

fn icmp(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let other = builder.refuse(Reason::Icmp, name);
    let rate = builder.refuse(Reason::IcmpRate, name);
    let invalid = format!("ct state invalid {}", builder.refuse(Reason::CtInvalid, name));
    builder.chain(
        format!("icmp4/{name}"),
        "",
        vec![
            invalid.clone(),
            "icmp type echo-reply ct state established accept".to_owned(),
            format!("icmp type echo-request icmp code 0 goto icmp/{name}"),
            format!("icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} ct state related goto icmp/{name}"),
            other.clone(),
        ],
    );
    let discovery = early::discovery(zone).into_iter().map(|message| format!("{message} goto discovery/{name}"));
    let mut rules: Vec<String> = discovery.collect();
    rules.extend([
        invalid,
        "icmpv6 type echo-reply ct state established accept".to_owned(),
        format!("icmpv6 type echo-request icmpv6 code 0 goto icmp/{name}"),
        format!("icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }} ct state related goto icmp/{name}"),
        other,
    ]);
    builder.chain(format!("icmp6/{name}"), "", rules);
    builder.chain(format!("icmp/{name}"), "", vec!["jump icmp_total".to_owned(), rate.clone()]);
    let discovery = builder.limits.nd_rate;
    builder.chain(
        format!("discovery/{name}"),
        "",
        vec![format!("limit rate over {discovery}/second burst {discovery} packets {rate}"), "accept".to_owned()],
    );
}

/// Ports of the zone's listeners of one protocol, as one match.
pub(super) fn ports(zone: &Zone, protocol: Protocol, of: impl Fn(Role) -> bool) -> Option<String> {
    let listeners = zone.listeners.iter().filter(|listener| listener.protocol == protocol && of(listener.role));
    one_of(listeners.map(|listener| listener.port).collect::<BTreeSet<u16>>())
}

/// Sources that limits per source do not count: the allow-list, trunks and PBX.
fn exempt(zone: &Zone, v6: bool) -> Option<String> {
    let peers = sip_peers(zone, v6).into_iter().map(Into::into);
    let all = disjoint(of_family(&zone.allow_list, v6).chain(peers));
    one_of(all)
}

/// Refuses what is over `rate` by source. A source is an address; in IPv6, away from the zone's own networks, it is a /64,
/// since one subscriber has at least that many addresses (RFC 6177). The burst is one second's worth.
fn per_source(zone: &Zone, set: &str, rate: u32, refusal: &str, but_exempt: bool) -> Vec<String> {
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        let exempt = if but_exempt { exempt(zone, v6) } else { None };
        let exempt = exempt.map(|exempt| format!("{ip} saddr != {exempt} ")).unwrap_or_default();
        let address = over(set, digit, &format!("{ip} saddr"), rate);
        let near = if v6 { one_of(of_family(&zone.networks, true)) } else { None };
        match near {
            Some(near) => {
                let network = over(set, digit, "ip6 saddr & ffff:ffff:ffff:ffff::", rate);
                rules.push(format!("{exempt}ip6 saddr {near} {address} {refusal}"));
                rules.push(format!("{exempt}ip6 saddr != {near} {network} {refusal}"));
            }
            None => rules.push(format!("{exempt}{address} {refusal}")),
        }
    }
    rules
}

/// Matches what is over `rate` by `key`.
fn over(set: &str, digit: char, key: &str, rate: u32) -> String {
    format!("update @{set}{digit} {{ {key} limit rate over {rate}/second burst {rate} packets }}")
}
