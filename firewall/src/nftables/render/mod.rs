//! Renders a policy's ruleset. A packet's way through the hooks, and what is decided where:
//!
//! | chain (hook, priority) | decides |
//! |---|---|
//! | `prerouting_early` (prerouting, -450: before reassembly) | what no packet may be, whatever is configured |
//! | `prerouting_raw` (prerouting, raw: before connection tracking) | source, bans, rates; all of media |
//! | `input` (input, filter) | connection state, what is offered |
//! | `forward` | nothing is forwarded |
//! | `output_raw` (output, raw) | what no packet from inside may be; all of media |
//! | `output` (output, filter) | whether the socket was lent for this |
//!
//! **One reason, one counter.** A refusal is a `goto` to a chain `drop/<reason>/<zone>` of its own, which counts, logs
//! within a limit, and drops; so a packet moves exactly one counter.
//!
//! **Between two rulesets.** A commit is atomic in each hook, but a packet may meet the old rules in one hook and the new
//! ones in the next. What depends on the configuration is therefore decided in one hook (media: in the raw ones), or the
//! packet carries the stamp of the ruleset that passed it in `prerouting_raw`, and `input` refuses another one's
//! (`between-commits`). `prerouting_early` and `output_raw` decide nothing else that depends on the configuration than
//! whether a zone takes fragments at all.
//!
//! **Numbers.** Protocols stand as numbers: names would need `/etc/protocols`, which the image lacks.
//!
//! **No anonymous sets.** They would be new in each commit, and just after a commit the kernel can find a new set empty
//! (its elements are published after the generation has changed; seen on 6.18 by the test of random commits): what the set
//! should have refused would pass. So alternatives stand as one rule each, and the only sets are those that live on.
//!
//! **Full tables.** A source for which a rate set has no room is held to the totals only: else whoever fills a set with
//! forged sources would lock out everybody else.
//!
//! **Changed limits.** An element of a rate set keeps the rate it was made with until it is forgotten (60 s after its last
//! packet; `connections`: when the source has none), so a commit with other limits reaches busy sources a little later.
//!
//! **Fragments.** Connection tracking reassembles before the raw hook. Fragments of UDP are let in to that only in zones
//! with a SIP listener on UDP (a PBX's INVITE is often larger than a frame), in limited number, size and offset;
//! everywhere else a fragment is refused. Datagrams that never become whole die in the kernel within the time and memory
//! of `policy::sysctls`, which `ReasmFails` in `/proc/net/snmp` counts.

mod early;
mod inward;
mod media;
mod outward;
mod source;

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    names::{LOG_GROUP, NO_ZONE, drop_counter, log_prefix},
    ruleset::{Chain, Ruleset},
};
use crate::policy::{Limits, Policy, Reason, Zone};

/// The ruleset of a policy.
#[must_use]
pub fn render(policy: &Policy) -> Ruleset {
    let mut builder = Builder::new(policy);
    builder.hook(
        "prerouting_early",
        "type filter hook prerouting priority -450; policy drop;",
        "Before fragments are put together: what no packet may be.",
        Hook {
            link: "iifname",
            own: &["iifname \"lo\" accept"],
            chain: "early",
            stranger: Reason::UnknownInterface,
        },
    );
    builder.hook(
        "prerouting_raw",
        "type filter hook prerouting priority raw; policy drop;",
        "Before connection tracking: source, bans, rates; and all of media.",
        Hook {
            link: "iifname",
            own: &["iifname \"lo\" accept"],
            chain: "raw",
            stranger: Reason::UnknownInterface,
        },
    );
    builder.hook(
        "input",
        "type filter hook input priority filter; policy drop;",
        "Connection state, and what is offered.",
        Hook {
            link: "iifname",
            own: &[
                "iifname \"lo\" accept",
                "meta mark 0x47480101 ct state untracked accept",
            ],
            chain: "input",
            stranger: Reason::UnknownInterface,
        },
    );
    builder.hook(
        "forward",
        "type filter hook forward priority filter; policy drop;",
        "Nothing is forwarded.",
        Hook {
            link: "iifname",
            own: &[],
            chain: "forward",
            stranger: Reason::Forward,
        },
    );
    builder.hook(
        "output_raw",
        "type filter hook output priority raw; policy drop;",
        "What no packet from inside may be; and all of media.",
        Hook {
            link: "oifname",
            own: &[
                "oifname \"lo\" meta mark & 0xffff0000 == 0x47480000 ",
                "oifname \"lo\" accept",
            ],
            chain: "outward",
            stranger: Reason::EgressUnmarked,
        },
    );
    builder.hook(
        "output",
        "type filter hook output priority filter; policy drop;",
        "Whether the socket was lent for this; media was judged before.",
        Hook {
            link: "oifname",
            own: &[
                "oifname \"lo\" accept",
                "meta mark 0x47480003 ct state untracked accept",
            ],
            chain: "output",
            stranger: Reason::EgressUnmarked,
        },
    );
    for zone in &policy.zones {
        early::chains(&mut builder, zone);
        source::chains(&mut builder, zone);
        inward::chains(&mut builder, zone);
        media::inward(&mut builder, zone);
        let refusal = builder.refuse(Reason::Forward, &zone.name);
        builder.chain(format!("forward/{}", zone.name), "", vec![refusal]);
        outward::chains(&mut builder, zone);
        media::outward(&mut builder, zone);
    }
    inward::totals(&mut builder);
    builder.finish()
}

/// What a base chain does itself before it hands over to a zone's chain.
struct Hook<'a> {
    /// `iifname` or `oifname`.
    link: &'a str,
    /// Rules before that; one that ends in a space is completed to a refusal of what goes to the box itself.
    own: &'a [&'a str],
    /// The zone's chain is `<chain>/<zone>`.
    chain: &'a str,
    /// For interfaces that no zone has.
    stranger: Reason,
}

/// Chains in the making.
struct Builder<'a> {
    policy: &'a Policy,
    limits: Limits,
    chains: Vec<Chain>,
    refusals: BTreeSet<(Reason, String)>,
}

impl<'a> Builder<'a> {
    const fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            limits: policy.limits,
            chains: Vec::new(),
            refusals: BTreeSet::new(),
        }
    }

    /// A base chain.
    fn hook(&mut self, name: &str, base: &'static str, why: &'static str, hook: Hook<'_>) {
        let mut rules = Vec::new();
        for own in hook.own {
            if own.ends_with(' ') {
                let refusal = self.refuse(Reason::EgressSelf, NO_ZONE);
                rules.push(format!("{own}{refusal}"));
            } else {
                rules.push((*own).to_owned());
            }
        }
        let zones = &self.policy.zones;
        rules.extend(zones.iter().map(|zone| {
            format!(
                "{} \"{}\" goto {}/{}",
                hook.link, zone.interface, hook.chain, zone.name
            )
        }));
        rules.push(self.refuse(hook.stranger, NO_ZONE));
        self.chains.push(Chain {
            name: name.to_owned(),
            why,
            base: Some(base),
            rules,
        });
    }

    /// A chain that is reached by `goto` or `jump`.
    fn chain(&mut self, name: String, why: &'static str, rules: Vec<String>) {
        self.chains.push(Chain {
            name,
            why,
            base: None,
            rules,
        });
    }

    /// The statement that refuses a packet for `reason`.
    fn refuse(&mut self, reason: Reason, zone: &str) -> String {
        self.refusals.insert((reason, zone.to_owned()));
        format!("goto {}", drop_counter(reason.word(), zone))
    }

    /// Adds the chains of all reasons that were used.
    fn finish(mut self) -> Ruleset {
        let refusals = core::mem::take(&mut self.refusals);
        let Limits {
            log_rate,
            log_burst,
            ..
        } = self.limits;
        let mut counters = BTreeSet::new();
        for (reason, zone) in refusals {
            let name = drop_counter(reason.word(), &zone);
            let mut rules = vec![format!("counter name \"{name}\"")];
            if log_rate > 0 {
                rules.push(format!(
                    "limit rate {log_rate}/second burst {log_burst} packets log prefix \"{}\" group {LOG_GROUP} snaplen 128",
                    log_prefix(reason.word(), &zone)
                ));
            }
            rules.push("drop".to_owned());
            self.chain(name.clone(), reason.sentence(), rules);
            counters.insert(name);
        }
        Ruleset::new(self.chains, counters)
    }
}

/// The networks of one family.
fn of_family(networks: &[IpNet], v6: bool) -> impl Iterator<Item = IpNet> + '_ {
    networks
        .iter()
        .copied()
        .filter(move |network| matches!(network, IpNet::V6(_)) == v6)
}

/// nft's words for a family: `ip` or `ip6`, the digit of its sets.
const fn family(v6: bool) -> (&'static str, char) {
    if v6 { ("ip6", '6') } else { ("ip", '4') }
}

/// Where the sbc's configured far ends of one family are, each once: addresses, and networks of those that are known by name.
fn sip_peers(zone: &Zone, v6: bool) -> Vec<IpNet> {
    let peers = zone
        .peers
        .iter()
        .filter(|peer| peer.role == broker_proto::Role::Sbc);
    let peers = peers.map(|peer| IpNet::from(peer.address.ip()));
    let named = zone.named.iter().flat_map(|named| &named.networks);
    let all: BTreeSet<IpNet> = peers.chain(named.copied()).collect();
    all.into_iter()
        .filter(|network| matches!(network, IpNet::V6(_)) == v6)
        .collect()
}
