//! What changes from one ruleset to another, chain by chain and rule by rule, for the operator who is about to commit it.
//! Called by `gatehouse-config diff`.

use std::collections::{BTreeMap, BTreeSet};

use super::ruleset::{Chain, Ruleset};

/// Rules of two chains whose product is larger are told as all gone and all new: nobody reads that line by line.
const MAX_PAIRS: usize = 4_000_000;

/// Lines `chain NAME`, `- rule`, `+ rule`; none exactly if the rulesets are equal but for their stamps.
#[must_use]
pub fn difference(old: &Ruleset, new: &Ruleset) -> Vec<String> {
    let (before, after) = (by_name(old), by_name(new));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let mut lines = Vec::new();
    for name in names {
        let changed = changes(
            before.get(name).map_or(&[], Vec::as_slice),
            after.get(name).map_or(&[], Vec::as_slice),
        );
        let fate = match (before.contains_key(name), after.contains_key(name)) {
            (true, false) => "  (gone)",
            (false, true) => "  (new)",
            _ if changed.is_empty() => continue,
            _ => "",
        };
        lines.push(format!("chain {name}{fate}"));
        lines.extend(changed);
    }
    lines
}

fn by_name(ruleset: &Ruleset) -> BTreeMap<&str, Vec<String>> {
    ruleset
        .chains()
        .iter()
        .map(|chain| (chain.name.as_str(), rules(chain)))
        .collect()
}

/// A chain's rules, its hook first, without the stamp, which differs in any two rulesets.
fn rules(chain: &Chain) -> Vec<String> {
    let rules = chain.rules.iter().map(|rule| without_stamp(rule));
    chain
        .base
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(rules)
        .collect()
}

fn without_stamp(rule: &str) -> String {
    let words = rule.split(' ').map(|word| match word.strip_prefix("0x") {
        // Marks of sockets and pinholes have the highest bit clear.
        Some(digits)
            if digits.len() == 8
                && digits
                    .as_bytes()
                    .first()
                    .is_some_and(|first| *first >= b'8') =>
        {
            if digits == "ffff0000" {
                word
            } else {
                "STAMP"
            }
        }
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The fewest removed and added rules that lead from one chain to the other (longest common subsequence).
fn changes(old: &[String], new: &[String]) -> Vec<String> {
    let removed = |rule: &String| format!("  - {rule}");
    let added = |rule: &String| format!("  + {rule}");
    let width = new.len() + 1;
    if old.len().saturating_mul(width) > MAX_PAIRS {
        return old
            .iter()
            .map(removed)
            .chain(new.iter().map(added))
            .collect();
    }
    // common[i * width + j]: length of the longest common subsequence of old[i..] and new[j..].
    let mut common = vec![0u32; (old.len() + 1) * width];
    let at = |common: &[u32], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    for (i, before) in old.iter().enumerate().rev() {
        for (j, after) in new.iter().enumerate().rev() {
            let best = if before == after {
                at(&common, i + 1, j + 1) + 1
            } else {
                at(&common, i + 1, j).max(at(&common, i, j + 1))
            };
            if let Some(cell) = common.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    loop {
        match (old.get(i), new.get(j)) {
            (Some(before), Some(after)) if before == after => (i, j) = (i + 1, j + 1),
            (Some(before), after)
                if after.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) =>
            {
                lines.push(removed(before));
                i += 1;
            }
            (_, Some(after)) => {
                lines.push(added(after));
                j += 1;
            }
            (_, None) => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nftables::render,
        policy::{Policy, testing::lab},
    };

    #[test]
    fn equal_rulesets_have_no_difference() {
        let ruleset = render(&Policy::of(&lab()));
        assert_eq!(difference(&ruleset, &ruleset), Vec::<String>::new());
    }

    #[test]
    fn a_changed_port_shows_where_it_counts_and_nowhere_else() {
        let old = Policy::of(&lab());
        let mut new = old.clone();
        new.zones[0]
            .listeners
            .iter_mut()
            .for_each(|listener| listener.port = 5070);
        let lines = difference(&render(&old), &render(&new));
        assert!(
            lines.contains(&"chain raw/external".to_owned()),
            "{lines:#?}"
        );
        assert!(lines.contains(&"  - udp dport 5060 goto listen/external".to_owned()));
        assert!(lines.contains(&"  + udp dport 5070 goto listen/external".to_owned()));
        assert!(
            !lines
                .iter()
                .any(|line| line.contains("internal") || line.contains("management")),
            "{lines:#?}"
        );
    }

    #[test]
    fn a_zone_that_goes_takes_its_chains_along() {
        let old = Policy::of(&lab());
        let lines = difference(&render(&old), &render(&Policy::closed()));
        assert!(lines.contains(&"chain raw/external  (gone)".to_owned()));
        assert!(
            lines.iter().all(|line| !line.starts_with("  + ")),
            "only the closed ruleset's own rules stay"
        );
    }

    #[test]
    fn the_fewest_changes_are_told() {
        let rules = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(changes(&rules("abcd"), &rules("acxd")), ["  - b", "  + x"]);
        assert_eq!(changes(&rules(""), &rules("ab")), ["  + a", "  + b"]);
        assert_eq!(changes(&rules("ab"), &rules("")), ["  - a", "  - b"]);
    }
}
