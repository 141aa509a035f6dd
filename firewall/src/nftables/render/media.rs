//! Media, judged wholly in the raw hooks and kept from connection tracking. A pinhole is an element of a set; what passes
//! it must look like STUN, DTLS, TURN channel data, RTP or RTCP by its first octet (RFC 7983 §7), have a size that its kind
//! can have, and keep to the rate. There is no rule that accepts a range of ports.

use super::{Builder, family, of_family};
use crate::{
    nftables::names::mark,
    policy::{Reason, Zone},
};

/// Octets of UDP header and payload at most: one Ethernet frame. A batch that the kernel has not cut up yet is longer.
const MOST: u32 = 1_480;

/// First octets of a kind, and octets of UDP header and payload at least.
const KINDS: [(&str, u32); 4] = [
    ("128-191", 8 + 8), // RTP (12) and RTCP (8: an empty receiver report), RFC 3550
    ("0-3", 8 + 20),    // STUN, RFC 8489 §5
    ("20-63", 8 + 13),  // DTLS, RFC 6347 §4.1
    ("64-79", 8 + 4),   // TURN channel data, RFC 8656 §12.4
];

pub(super) fn inward(builder: &mut Builder<'_>, zone: &Zone) {
    let Some(media) = &zone.media else { return };
    let name = &zone.name;
    let ports = format!("{}-{}", media.peer_ports.start(), media.peer_ports.end());
    let mut rules = Vec::new();
    for v6 in [false, true] {
        if zone.family(v6).is_none() {
            continue;
        }
        let (ip, digit) = family(v6);
        let local = format!("{ip} daddr . udp dport");
        let shape = format!("goto media_shape/{name}");
        rules.push(format!(
            "{local} . {ip} saddr . udp sport @media_peer{digit} {shape}"
        ));
        rules.push(format!(
            "udp sport {ports} {local} . {ip} saddr @media_host{digit} {shape}"
        ));
        let any = format!("{local} @media_any{digit} {shape}");
        if media.networks.is_empty() {
            // Whoever may be a source in the zone, which was judged before.
            rules.push(format!("udp sport {ports} {any}"));
        }
        let networks = of_family(&media.networks, v6);
        rules.extend(
            networks.map(|network| format!("udp sport {ports} {ip} saddr {network} {any}")),
        );
    }
    rules.push(builder.refuse(Reason::NoPinhole, name));
    builder.chain(format!("media/{name}"), "Pinholes.", rules);

    let rules = shape(
        builder,
        name,
        &format!("media_rate/{name}"),
        Reason::MediaShape,
        Reason::MediaSize,
    );
    builder.chain(
        format!("media_shape/{name}"),
        "First octet and size, RFC 7983.",
        rules,
    );
    let refusal = builder.refuse(Reason::MediaRate, name);
    let mut rules = rate(builder, "media_rate", "daddr", "dport", &refusal);
    rules.push(format!(
        "meta mark set {:#x} notrack accept",
        mark::PASSED_PINHOLE
    ));
    builder.chain(format!("media_rate/{name}"), "", rules);
}

pub(super) fn outward(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let refusal = builder.refuse(Reason::EgressMedia, name);
    if zone.media.is_none() {
        builder.chain(format!("media_out/{name}"), "", vec![refusal]);
        return;
    }
    let mut rules = Vec::new();
    for v6 in [false, true] {
        if zone.family(v6).is_some() {
            let (ip, digit) = family(v6);
            rules.push(format!(
                "{ip} saddr . udp sport . {ip} daddr . udp dport @media_out{digit} goto media_out_shape/{name}"
            ));
        }
    }
    rules.push(refusal);
    builder.chain(
        format!("media_out/{name}"),
        "Where a media socket may send.",
        rules,
    );
    let next = format!("media_out_rate/{name}");
    let rules = shape(
        builder,
        name,
        &next,
        Reason::EgressShape,
        Reason::EgressShape,
    );
    builder.chain(format!("media_out_shape/{name}"), "", rules);
    let refusal = builder.refuse(Reason::EgressRate, name);
    let mut rules = rate(builder, "media_out_rate", "saddr", "sport", &refusal);
    rules.push("notrack accept".to_owned());
    builder.chain(next, "", rules);
}

/// Positive throughout: a packet whose payload cannot be read matches nothing and is refused.
fn shape(
    builder: &mut Builder<'_>,
    name: &str,
    next: &str,
    shape: Reason,
    size: Reason,
) -> Vec<String> {
    let mut rules: Vec<String> = KINDS
        .map(|(first, least)| format!("@th,64,8 {first} udp length {least}-{MOST} goto {next}"))
        .into();
    if size != shape {
        let refusal = builder.refuse(size, name);
        rules.extend(KINDS.map(|(first, _)| format!("@th,64,8 {first} {refusal}")));
    }
    rules.push(builder.refuse(shape, name));
    rules
}

fn rate(builder: &Builder<'_>, set: &str, address: &str, port: &str, refusal: &str) -> Vec<String> {
    let rate = builder.limits.media_packet_rate;
    [false, true]
        .map(|v6| {
            let (ip, digit) = family(v6);
            format!(
                "update @{set}{digit} {{ {ip} {address} . udp {port} limit rate over {rate}/second burst {rate} packets }} {refusal}"
            )
        })
        .into()
}
