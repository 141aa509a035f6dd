//! A ruleset as a value: chains and counters of the table, and the text in nft's language that puts them in place of
//! those that are there. Made by `render`, committed by `kernel`; sets are the same in every ruleset and never replaced.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::names::{Field, Set, SetFamily, TABLE, Writer};

/// Stands in rules for the mark that says by which ruleset a packet was judged; [`Ruleset::new`] puts the number in.
pub(super) const STAMP: &str = "$stamp";

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// For the reader of the text; empty: none.
    pub why: &'static str,
    /// Type, hook, priority and policy of a base chain.
    pub base: Option<&'static str>,
    /// Rules in order.
    pub rules: Vec<String>,
}

/// Everything in the table but the elements of its sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    chains: Vec<Chain>,
    counters: BTreeSet<String>,
}

/// Names of what the kernel's table holds already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Chains.
    pub chains: BTreeSet<String>,
    /// Counters.
    pub counters: BTreeSet<String>,
    /// Sets.
    pub sets: BTreeSet<String>,
}

impl Ruleset {
    /// Chains that refer to `counters`. The stamp is drawn from the rules themselves, so the same rules bear the same one.
    #[must_use]
    pub(super) fn new(mut chains: Vec<Chain>, counters: BTreeSet<String>) -> Self {
        let mut hash = 0x811c_9dc5_u32;
        for octet in chains
            .iter()
            .flat_map(|chain| chain.rules.iter().chain([&chain.name]))
            .flat_map(|s| s.bytes())
        {
            // FNV-1a. Two rulesets in sequence should differ in it; no enemy chooses them.
            hash = (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
        }
        // The highest bit keeps it apart from every mark of a socket.
        let stamp = format!("{:#010x}", hash | 0x8000_0000);
        for rule in chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            if rule.contains(STAMP) {
                *rule = rule.replace(STAMP, &stamp);
            }
        }
        Self { chains, counters }
    }

    /// Chains in order.
    #[must_use]
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// Names of the counters.
    #[must_use]
    pub const fn counters(&self) -> &BTreeSet<String> {
        &self.counters
    }

    /// The table in nft's language, as operators read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("table inet {TABLE} {{\n");
        for set in Set::ALL {
            for family in SetFamily::ALL {
                push(&mut out, format_args!("{}\n", declaration(set, family)));
            }
        }
        for counter in &self.counters {
            push(&mut out, format_args!("\tcounter {counter} {{ }}\n"));
        }
        for chain in &self.chains {
            out.push('\n');
            if !chain.why.is_empty() {
                push(&mut out, format_args!("\t# {}\n", chain.why));
            }
            push(&mut out, format_args!("\tchain {} {{\n", chain.name));
            if let Some(base) = chain.base {
                push(&mut out, format_args!("\t\t{base}\n"));
            }
            for rule in &chain.rules {
                push(&mut out, format_args!("\t\t{rule}\n"));
            }
            out.push_str("\t}\n");
        }
        out.push_str("}\n");
        out
    }

    /// One transaction that puts this ruleset in the place of the one that is there: all of it or nothing. Rules, chains
    /// and counters that the new one lacks go; sets with their elements and the other counters' values stay.
    #[must_use]
    pub fn transaction(&self, present: &Present) -> String {
        let mut out = format!("add table inet {TABLE}\nflush table inet {TABLE}\n");
        let chains: BTreeSet<&str> = self
            .chains
            .iter()
            .map(|chain| chain.name.as_str())
            .collect();
        for chain in present
            .chains
            .iter()
            .filter(|name| !chains.contains(name.as_str()))
        {
            push(
                &mut out,
                format_args!("delete chain inet {TABLE} {chain}\n"),
            );
        }
        for counter in present.counters.difference(&self.counters) {
            push(
                &mut out,
                format_args!("delete counter inet {TABLE} {counter}\n"),
            );
        }
        let sets: BTreeSet<String> = Set::ALL
            .iter()
            .flat_map(|set| SetFamily::ALL.map(|family| set.name(family)))
            .collect();
        // Only another version of this program can have left one behind.
        for set in present.sets.difference(&sets) {
            push(&mut out, format_args!("delete set inet {TABLE} {set}\n"));
        }
        out.push_str(&self.text());
        out
    }
}

/// A set's declaration, on one line.
fn declaration(set: Set, family: SetFamily) -> String {
    let key = set.key().iter().map(|field| match field {
        Field::Address => family.address_type(),
        Field::Port => "inet_service",
    });
    let life = match (set.writer(), set) {
        (Writer::Broker, _) => "flags timeout;".to_owned(),
        // The kernel counts the connections themselves and forgets a source that has none.
        (Writer::Rules, Set::Connections) => "flags dynamic;".to_owned(),
        (Writer::Rules, _) => format!("flags dynamic,timeout; timeout {}s;", set.timeout_seconds()),
    };
    format!(
        "\tset {} {{ type {}; size {}; {life} }}",
        set.name(family),
        key.collect::<Vec<_>>().join(" . "),
        set.size()
    )
}

fn push(out: &mut String, text: core::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(rule: &str) -> Ruleset {
        let chain = Chain {
            name: "input".into(),
            why: "",
            base: None,
            rules: vec![rule.into()],
        };
        Ruleset::new(vec![chain], ["drop/a/b".to_owned()].into())
    }

    #[test]
    fn the_stamp_follows_from_the_rules_alone() {
        let stamped = |rule: &str| ruleset(rule).chains()[0].rules[0].clone();
        assert_eq!(
            stamped("meta mark set $stamp"),
            stamped("meta mark set $stamp")
        );
        assert_ne!(
            stamped("meta mark set $stamp"),
            stamped("meta mark set $stamp accept").replace(" accept", "")
        );
        assert!(stamped("$stamp").len() == 10 && *stamped("$stamp") >= *"0x80000000");
    }

    #[test]
    fn a_transaction_removes_what_the_new_ruleset_lacks_and_no_set_of_ours() {
        let present = Present {
            chains: ["input".to_owned(), "old".to_owned()].into(),
            counters: ["drop/a/b".to_owned(), "drop/a/old".to_owned()].into(),
            sets: ["media_peer4".to_owned(), "foreign".to_owned()].into(),
        };
        let text = ruleset("drop").transaction(&present);
        let deleted: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("delete"))
            .collect();
        assert_eq!(
            deleted,
            [
                "delete chain inet gatehouse old",
                "delete counter inet gatehouse drop/a/old",
                "delete set inet gatehouse foreign"
            ]
        );
        assert!(!text.contains("flush set") && !text.contains("delete table"));
    }
}
