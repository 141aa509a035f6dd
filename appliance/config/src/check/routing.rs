//! Routes: names they refer to, numbers that can exist, and lines that could never be reached because an earlier one
//! takes all their calls. Of what is only probably not meant (two lines that share some numbers, emergency numbers that go
//! nowhere) there is a warning.

use std::collections::BTreeMap;

use super::Known;
use crate::{
    document::Document,
    error::say,
    pattern::{DigitClass, Effort, digits, literal},
    route::{Action, Called, IfUnavailable, ORIGINS, OWN_DOMAIN, Origin, Prefixed, Route},
    table::Report,
    zone::ZoneKind,
};

/// Steps of comparing patterns in one document.
const EFFORT: u32 = 200_000;

pub(super) fn check(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut names = BTreeMap::new();
    let mut effort = Effort(EFFORT);
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
            .filter_map(|(other, r)| {
                clash(document, r, route, &mut effort).map(|clash| (other, clash))
            })
            .next()
        {
            let other = known.routes.at(other);
            let (line, own) = (report.place(other), report.place(path));
            if let Clash::Overlaps = clash {
                report.warn(
                    path,
                    say!(
                        "shares some numbers of the same callers with `{other}` (line {line}), which takes them: neither is a part of the other",
                        "hat einige Nummern derselben Anrufer mit `{other}` (Zeile {line}) gemeinsam, die sie nimmt: keine ist ein Teil der anderen"
                    ),
                );
                continue;
            }
            let sentence = match clash {
                Clash::NeverReached => say!(
                    "line {own} is never reached: `{other}` (line {line}) before it takes all its callers and numbers",
                    "Zeile {own} wird nie erreicht: `{other}` (Zeile {line}) davor nimmt alle ihre Anrufer und Nummern"
                ),
                Clash::Overlaps | Clash::Contradicts => say!(
                    "lines {line} and {own} contradict each other: `{other}` sends the same numbers of the same callers elsewhere",
                    "Zeilen {line} und {own} widersprechen sich: `{other}` schickt dieselben Nummern derselben Anrufer woandershin"
                ),
            };
            report.error(path, sentence);
        }
    }
    emergency(document, report);
}

/// Emergency numbers of zones with callers, that no route takes.
fn emergency(document: &Document, report: &mut Report<'_>) {
    for zone in document
        .zones
        .iter()
        .filter(|zone| zone.kind == ZoneKind::Internal)
    {
        let own = Origin::Zone(zone.name.clone());
        let here = |domain: &String| domain == OWN_DOMAIN || *domain == document.sip.domain;
        let from = |route: &&Route| {
            (route.from.contains(&Origin::Internal) || route.from.contains(&own))
                && (route.domains.is_empty() || route.domains.iter().any(here))
        };
        for number in &zone.policy.emergency {
            let classes: Vec<DigitClass> = number.chars().filter_map(literal).collect();
            let takes = |route: &Route| {
                language(&route.called)
                    .is_none_or(|all| crate::pattern::covers(&all, &classes, &mut Effort(EFFORT)))
            };
            if !document.routes.iter().filter(from).any(takes) {
                let zone = &zone.name;
                report.warn(
                    &format!("zone.{zone}.emergency"),
                    say!(
                        "no route takes the emergency number {number} of the hosts in `{zone}`",
                        "keine Route nimmt die Notrufnummer {number} der Rechner in `{zone}`"
                    ),
                );
            }
        }
    }
}

/// The numbers of a route as a pattern, its range left out; `None`: anything.
fn language(called: &Called) -> Option<Vec<DigitClass>> {
    match called {
        Called::Anything => None,
        Called::Pattern(pattern) => Some(pattern.classes.clone()),
        Called::Number(called) => {
            let prefix = called.prefix.chars().filter_map(literal);
            let rest = digits(called.digits.first, called.digits.last);
            Some(prefix.chain([rest]).collect())
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
    let list = ORIGINS.join(", ");
    if route.from.is_empty() {
        report.error(
            &format!("{path}.from"),
            say!(
                "names no caller, so the route is for nobody; possible: {list}",
                "nennt keinen Anrufer, die Route gilt also für niemanden; möglich: {list}"
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
    if let Action::Trunks(choices) = &route.action {
        for (index, choice) in choices.iter().enumerate() {
            trunk(&choice.name, format!("{path}.trunks[{index}]"));
        }
        let same =
            |index: usize, name: &str| choices.iter().take(index).any(|other| other.name == name);
        let twice = choices
            .iter()
            .enumerate()
            .find(|(index, choice)| same(*index, &choice.name));
        if let Some((index, _)) = twice {
            report.error(
                &format!("{path}.trunks[{index}]"),
                say!("stands twice in the list", "steht zweimal in der Liste"),
            );
        }
    }
    zones(document, known, route, path, report);
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

/// Zones among the callers: they exist and have callers.
fn zones(document: &Document, known: &Known, route: &Route, path: &str, report: &mut Report<'_>) {
    let names: Vec<&str> = document
        .zones
        .iter()
        .map(|zone| zone.name.as_str())
        .collect();
    for (index, origin) in route.from.iter().enumerate() {
        let Origin::Zone(name) = origin else { continue };
        let key = format!("{path}.from[{index}]");
        match document.zone(name) {
            Some((_, zone)) if zone.kind == ZoneKind::Management => report.error(
                &key,
                say!(
                    "nobody calls from the management zone",
                    "aus der Verwaltungszone ruft niemand an"
                ),
            ),
            Some(_) => {}
            None if known.zones.unread.is_empty() => {
                report.error(&key, super::unknown_name(name, &names, ("zone", "Zone")));
            }
            None => {}
        }
    }
}

fn number(route: &Route, path: &str, report: &mut Report<'_>) {
    let too_short = |report: &mut Report<'_>| {
        report.error(
            &format!("{path}.strip"),
            say!(
                "cuts more characters than the shortest number of this route has",
                "schneidet mehr Zeichen ab, als die kürzeste Nummer dieser Route hat"
            ),
        );
    };
    let called = match &route.called {
        Called::Number(called) => called,
        Called::Pattern(pattern) => {
            if usize::from(route.strip) > pattern.shortest() {
                too_short(report);
            }
            let zero =
                |class: Option<&DigitClass>| class.is_some_and(|c| (c.digits, c.least) == (1, 1));
            if zero(pattern.classes.first()) && zero(pattern.classes.get(1)) {
                report.error(
                    &format!("{path}.pattern"),
                    say!(
                        "never fits: numbers come here in their normal form, + instead of 00",
                        "passt nie: Nummern kommen hier in ihrer Normalform an, + statt 00"
                    ),
                );
            }
            return;
        }
        Called::Anything => {
            if route.strip != 0 {
                too_short(report);
            }
            return;
        }
    };
    let Prefixed {
        prefix,
        digits,
        range,
    } = called;
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
        too_short(report);
    }
}

enum Clash {
    /// The earlier route takes everything of the later one.
    NeverReached,
    /// Same numbers, some callers in common, another action.
    Contradicts,
    /// Some numbers and callers in common, another action, and neither line is the rule to the other's exception.
    Overlaps,
}

fn clash(
    document: &Document,
    earlier: &Route,
    later: &Route,
    effort: &mut Effort,
) -> Option<Clash> {
    let common = later
        .from
        .iter()
        .any(|origin| takes_origin(document, earlier, origin));
    // A line that is not always for its calls leaves some to later ones.
    let always = earlier.when.is_none() && earlier.if_unavailable == IfUnavailable::Refuse;
    let domains = earlier.domains.is_empty()
        || (!later.domains.is_empty() && later.domains.iter().all(|d| earlier.domains.contains(d)));
    if !common || !always || !domains {
        return None;
    }
    let all = later
        .from
        .iter()
        .all(|origin| takes_origin(document, earlier, origin));
    let (whole, part) = match (&earlier.called, &later.called) {
        (Called::Number(outer), Called::Number(inner)) => (covers(outer, inner), false),
        (outer, inner) => compare(outer, inner, effort),
    };
    if all && whole {
        return Some(Clash::NeverReached);
    }
    if earlier.action == later.action {
        return None;
    }
    if earlier.called == later.called && earlier.domains == later.domains {
        return Some(Clash::Contradicts);
    }
    part.then_some(Clash::Overlaps)
}

/// Whether a line is for the callers of an origin, by its own name or by a wider one.
fn takes_origin(document: &Document, route: &Route, origin: &Origin) -> bool {
    let zone_of = |origin: &Origin| match origin {
        Origin::Registrar => document.sip.registrar.as_ref().map(|pbx| pbx.zone.clone()),
        Origin::Trunk(name) => {
            let trunk = document.trunks.iter().find(|trunk| trunk.name == *name);
            trunk.map(|trunk| trunk.zone.clone())
        }
        _ => None,
    };
    route.from.contains(origin)
        // The PBX is an internal host too.
        || (*origin == Origin::Registrar && route.from.contains(&Origin::Internal))
        || zone_of(origin).is_some_and(|zone| route.from.contains(&Origin::Zone(zone)))
}

/// Whether all numbers of the later line are the earlier's, and whether they share some without either having all.
fn compare(earlier: &Called, later: &Called, effort: &mut Effort) -> (bool, bool) {
    let (Some(outer), Some(inner)) = (language(earlier), language(later)) else {
        return (*earlier == Called::Anything, false);
    };
    // A range is left out of the pattern, so that what it seems to take may not be taken.
    let ranged = matches!(earlier, Called::Number(called) if called.range.is_some());
    let whole = !ranged && crate::pattern::covers(&outer, &inner, effort);
    // What begins with more fixed characters is the exception that stands before its rule.
    let fixed = |classes: &[DigitClass]| {
        let one =
            |class: &&DigitClass| (class.digits.count_ones(), class.least, class.most) == (1, 1, 1);
        classes.iter().take_while(one).count()
    };
    let part = !whole
        && !ranged
        && fixed(&outer) <= fixed(&inner)
        && crate::pattern::overlap(&outer, &inner, effort)
        && !crate::pattern::covers(&inner, &outer, effort);
    (whole, part)
}

/// Whether every number of `inner` is one of `outer`.
fn covers(outer: &Prefixed, inner: &Prefixed) -> bool {
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

    fn called(prefix: &str, first: u8, last: u8, range: Option<(u64, u64)>) -> Prefixed {
        Prefixed {
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
