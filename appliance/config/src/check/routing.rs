//! Routes: names they refer to, numbers that can exist, and lines that could never be reached because an earlier one
//! takes all their calls.

use std::collections::BTreeMap;

use super::Known;
use crate::{
    document::Document,
    error::say,
    sip::{Action, Called, Origin, Route},
    table::Report,
};

pub(super) fn check(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut names = BTreeMap::new();
    for (index, route) in document.routes.iter().enumerate() {
        let path = known.routes.at(index);
        if names.insert(&route.name, ()).is_some() {
            let name = &route.name;
            report.error(
                &format!("{path}.name"),
                say!(
                    "two routes are called `{name}`",
                    "zwei Routen heißen `{name}`"
                ),
            );
            continue;
        }
        references(document, known, route, path, report);
        number(route, path, report);
        let earlier = document.routes.iter().take(index).enumerate();
        if let Some((other, clash)) = earlier
            .filter_map(|(other, r)| clash(r, route).map(|clash| (other, clash)))
            .next()
        {
            let other = known.routes.at(other);
            let (line, own) = (report.place(other), report.place(path));
            let sentence = match clash {
                Clash::NeverReached => say!(
                    "line {own} is never reached: `{other}` (line {line}) before it takes all its callers and numbers",
                    "Zeile {own} wird nie erreicht: `{other}` (Zeile {line}) davor nimmt alle ihre Anrufer und Nummern"
                ),
                Clash::Contradicts => say!(
                    "lines {line} and {own} contradict each other: `{other}` sends the same numbers of the same callers elsewhere",
                    "Zeilen {line} und {own} widersprechen sich: `{other}` schickt dieselben Nummern derselben Anrufer woandershin"
                ),
            };
            report.error(path, sentence);
        }
    }
}

fn references(
    document: &Document,
    known: &Known,
    route: &Route,
    path: &str,
    report: &mut Report<'_>,
) {
    if route.from.is_empty() {
        report.error(
            &format!("{path}.from"),
            say!(
                "names no caller, so the route is for nobody; possible: registered, internal, registrar, trunk:NAME",
                "nennt keinen Anrufer, die Route gilt also für niemanden; möglich: registered, internal, registrar, trunk:NAME"
            ),
        );
    }
    let trunks: Vec<&str> = document
        .trunks
        .iter()
        .map(|trunk| trunk.name.as_str())
        .collect();
    let mut trunk = |name: &str, key: String| {
        let unread = known
            .trunks
            .unread
            .iter()
            .any(|path| path == &format!("trunk.{name}") || path.ends_with(']'));
        if !trunks.contains(&name) && !unread {
            report.error(&key, super::unknown_name(name, &trunks, ("trunk", "Trunk")));
        }
    };
    for (index, origin) in route.from.iter().enumerate() {
        if let Origin::Trunk(name) = origin {
            trunk(name, format!("{path}.from[{index}]"));
        }
    }
    if let Action::Trunks(names) = &route.action {
        for (index, name) in names.iter().enumerate() {
            trunk(name, format!("{path}.trunks[{index}]"));
        }
        let twice = names
            .iter()
            .enumerate()
            .find(|(index, name)| names.iter().take(*index).any(|other| other == *name));
        if let Some((index, _)) = twice {
            report.error(
                &format!("{path}.trunks[{index}]"),
                say!("stands twice in the list", "steht zweimal in der Liste"),
            );
        }
    }
    let twice = route
        .from
        .iter()
        .enumerate()
        .find(|(i, origin)| route.from.iter().take(*i).any(|o| o == *origin));
    if let Some((index, _)) = twice {
        report.error(
            &format!("{path}.from[{index}]"),
            say!("stands twice in the list", "steht zweimal in der Liste"),
        );
    }
    let needs_registrar = matches!(route.action, Action::Registrar | Action::Binding)
        || route.from.contains(&Origin::Registrar);
    if needs_registrar && document.sip.registrar.is_none() && known.sip {
        report.error(
            path,
            say!(
                "needs a PBX, and there is no [sip.registrar]",
                "braucht eine Telefonanlage, und [sip.registrar] fehlt"
            ),
        );
    }
}

fn number(route: &Route, path: &str, report: &mut Report<'_>) {
    let Called {
        prefix,
        digits,
        range,
    } = &route.called;
    if usize::from(digits.last) + prefix.len() > 40 {
        report.error(
            &format!("{path}.digits"),
            say!(
                "prefix and digits together are more than 40 characters",
                "prefix und digits sind zusammen mehr als 40 Zeichen"
            ),
        );
    }
    if let Some(range) = range {
        // 10^digits − 1 is the largest value of that many digits; 19 digits and more hold any u64 that was written.
        let largest = 10_u64
            .checked_pow(u32::from(digits.last))
            .map_or(u64::MAX, |power| power - 1);
        if range.last > largest || digits.last == 0 {
            let (digits, last) = (digits.last, range.last);
            report.error(
                &format!("{path}.range"),
                say!(
                    "{last} has more than the {digits} digits that this route takes",
                    "{last} hat mehr als die {digits} Ziffern, die diese Route nimmt"
                ),
            );
        }
    }
    if usize::from(route.strip) > prefix.len() + usize::from(digits.first) {
        report.error(
            &format!("{path}.strip"),
            say!(
                "cuts more characters than the shortest number of this route has",
                "schneidet mehr Zeichen ab, als die kürzeste Nummer dieser Route hat"
            ),
        );
    }
}

enum Clash {
    /// The earlier route takes everything of the later one.
    NeverReached,
    /// Same numbers, some callers in common, another action.
    Contradicts,
}

fn clash(earlier: &Route, later: &Route) -> Option<Clash> {
    let takes = |origin: &Origin| {
        // The PBX is an internal host too.
        earlier.from.contains(origin)
            || (*origin == Origin::Registrar && earlier.from.contains(&Origin::Internal))
    };
    if !later.from.is_empty()
        && later.from.iter().all(takes)
        && covers(&earlier.called, &later.called)
    {
        return Some(Clash::NeverReached);
    }
    let common = later
        .from
        .iter()
        .any(|origin| earlier.from.contains(origin));
    (common && earlier.called == later.called && earlier.action != later.action)
        .then_some(Clash::Contradicts)
}

/// Whether every number of `inner` is one of `outer`.
fn covers(outer: &Called, inner: &Called) -> bool {
    let Some(rest) = inner.prefix.strip_prefix(&outer.prefix) else {
        return false;
    };
    if !rest.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let more = rest.len();
    let (first, last) = (
        usize::from(inner.digits.first) + more,
        usize::from(inner.digits.last) + more,
    );
    if first < usize::from(outer.digits.first) || last > usize::from(outer.digits.last) {
        return false;
    }
    match (outer.range, inner.range) {
        (None, _) => true,
        (Some(outer), Some(inner)) => {
            more == 0 && outer.first <= inner.first && inner.last <= outer.last
        }
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Span;

    fn called(prefix: &str, first: u8, last: u8, range: Option<(u64, u64)>) -> Called {
        Called {
            prefix: prefix.into(),
            digits: Span { first, last },
            range: range.map(|(first, last)| Span { first, last }),
        }
    }

    #[test]
    fn a_shorter_prefix_with_room_for_the_digits_covers_a_longer_one() {
        assert!(covers(
            &called("+", 8, 15, None),
            &called("+49", 6, 13, None)
        ));
        assert!(!covers(
            &called("+", 8, 15, None),
            &called("+1900", 0, 20, None)
        ));
        assert!(!covers(
            &called("00", 0, 20, None),
            &called("+", 8, 15, None)
        ));
        assert!(covers(
            &called("", 4, 4, Some((1001, 1199))),
            &called("", 4, 4, Some((1100, 1100)))
        ));
        assert!(!covers(
            &called("", 4, 4, Some((1001, 1199))),
            &called("", 4, 4, None)
        ));
    }
}
