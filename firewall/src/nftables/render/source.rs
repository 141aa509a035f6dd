//! Who may be a source in a zone, and who is banned: chains `source4|6/<zone>` and `ban_*/<zone>`, which return to their
//! caller if all is well. RFC 2827 and RFC 3704: each zone's prefixes only from its own wire.

use super::{Builder, early::dhcp, family, of_family};
use crate::{
    nftables::ruleset::STAMP,
    policy::{Addressing, Reason, Zone},
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
    for (scope, why) in [
        ("all", "Banned from everything."),
        ("sip", "Banned from SIP."),
    ] {
        builder.chain(format!("ban_{scope}/{}", zone.name), why, bans(zone, scope));
    }
    let rules = banned(builder, zone);
    builder.chain(
        format!("banned/{}", zone.name),
        "The allow-list wins.",
        rules,
    );
}

fn source(
    builder: &mut Builder<'_>,
    zone: &Zone,
    addressing: &Addressing,
    v6: bool,
) -> Vec<String> {
    let (ip, _) = family(v6);
    let name = &zone.name;
    let mut rules = Vec::new();
    if v6 {
        // Neighbour discovery alone came so far with these, see `early`.
        rules.extend([
            "ip6 saddr :: return".to_owned(),
            "ip6 saddr fe80::/10 return".to_owned(),
        ]);
    } else {
        rules.extend(dhcp(zone).map(|answer| format!("{answer} meta mark set {STAMP} accept")));
    }
    let own = of_family(&zone.networks, v6).map(|network| format!("{ip} saddr {network} return"));
    let spoofed = builder.refuse(Reason::SpoofedSource, name);
    if !addressing.strangers {
        rules.extend(own);
        rules.push(spoofed);
        return rules;
    }
    let others = builder.policy.networks_of_others(zone);
    rules.extend(of_family(&others, v6).map(|network| format!("{ip} saddr {network} {spoofed}")));
    rules.extend(own);
    rules.extend(
        of_family(&zone.not_bogon, v6).map(|network| format!("{ip} saddr {network} return")),
    );
    if v6 {
        // RFC 4291 §2.4: what IANA gives out begins with 001.
        rules.push(format!(
            "ip6 saddr != 2000::/3 {}",
            builder.refuse(Reason::NotGlobalSource, name)
        ));
    }
    let bogon = builder.refuse(Reason::BogonSource, name);
    rules
        .extend(of_family(&zone.bogons, v6).map(|network| format!("{ip} saddr {network} {bogon}")));
    rules
}

/// `ban_<scope>/<zone>` looks for a ban, `banned/<zone>` gives in to the allow-list.
fn bans(zone: &Zone, scope: &str) -> Vec<String> {
    let refusal = format!("goto banned/{}", zone.name);
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let (ip, digit) = family(v6);
        rules.push(format!("{ip} saddr @ban_host_{scope}{digit} {refusal}"));
        for protocol in ["tcp", "udp"] {
            rules.push(format!(
                "{ip} saddr . {protocol} sport @ban_flow_{scope}{digit} {refusal}"
            ));
        }
    }
    rules
}

fn banned(builder: &mut Builder<'_>, zone: &Zone) -> Vec<String> {
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let (ip, _) = family(v6);
        rules.extend(
            of_family(&zone.allow_list, v6).map(|allowed| format!("{ip} saddr {allowed} return")),
        );
    }
    rules.push(builder.refuse(Reason::Ban, &zone.name));
    rules
}
