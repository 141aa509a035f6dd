//! Who may be a source in a zone, and who is banned: chains `source4|6/<zone>` and `ban_*/<zone>`, which return to their
//! caller if all is well. RFC 2827 and RFC 3704: each zone's prefixes only from its own wire.

use super::{Builder, early::dhcp, family, of_family, one_of};
use crate::{
    nftables::ruleset::STAMP,
    policy::{Addressing, Reason, Zone, disjoint},
};

pub(super) fn chains(builder: &mut Builder<'_>, zone: &Zone) {
    for v6 in [false, true] {
        let (_, digit) = family(v6);
        let rules = match zone.family(v6) {
            None => vec![builder.refuse(Reason::FamilyOff, &zone.name)],
            Some(addressing) => source(builder, zone, addressing, v6),
        };
        builder.chain(format!("source{digit}/{}", zone.name), "", rules);
    }
    for (scope, why) in [("all", "Banned from everything; the allow-list wins."), ("sip", "Banned from SIP.")] {
        let rules = bans(builder, zone, scope);
        builder.chain(format!("ban_{scope}/{}", zone.name), why, rules);
    }
}

fn source(builder: &mut Builder<'_>, zone: &Zone, addressing: &Addressing, v6: bool) -> Vec<String> {
    let (ip, _) = family(v6);
    let name = &zone.name;
    let own = one_of(of_family(&zone.networks, v6));
    let mut rules = Vec::new();
    if v6 {
        // Neighbour discovery alone came so far with these, see `early`.
        rules.push("ip6 saddr { ::, fe80::/10 } return".to_owned());
    } else {
        rules.extend(dhcp(zone).map(|answer| format!("{answer} meta mark set {STAMP} accept")));
    }
    if !addressing.strangers {
        let spoofed = builder.refuse(Reason::SpoofedSource, name);
        rules.push(match own {
            Some(own) => format!("{ip} saddr != {own} {spoofed}"),
            None => spoofed,
        });
        return rules;
    }
    let others = builder.policy.networks_of_others(zone);
    if let Some(others) = one_of(of_family(&others, v6)) {
        rules.push(format!("{ip} saddr {others} {}", builder.refuse(Reason::SpoofedSource, name)));
    }
    rules.extend(own.map(|own| format!("{ip} saddr {own} return")));
    if v6 {
        // RFC 4291 §2.4: what IANA gives out begins with 001.
        let believed = disjoint(zone.not_bogon.iter().copied().chain(["2000::/3".parse().unwrap_or_default()]));
        if let Some(believed) = one_of(of_family(&believed, true)) {
            rules.push(format!("ip6 saddr != {believed} {}", builder.refuse(Reason::NotGlobalSource, name)));
        }
    }
    if let Some(bogons) = one_of(of_family(&zone.bogons, v6)) {
        rules.push(format!("{ip} saddr {bogons} {}", builder.refuse(Reason::BogonSource, name)));
    }
    rules
}

fn bans(builder: &mut Builder<'_>, zone: &Zone, scope: &str) -> Vec<String> {
    let refusal = builder.refuse(Reason::Ban, &zone.name);
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        rules.extend(one_of(of_family(&zone.allow_list, v6)).map(|allowed| format!("{ip} saddr {allowed} return")));
        rules.push(format!("{ip} saddr @ban_host_{scope}{digit} {refusal}"));
        rules.push(format!("meta l4proto {{ 6, 17 }} {ip} saddr . th sport @ban_flow_{scope}{digit} {refusal}"));
    }
    rules
}
