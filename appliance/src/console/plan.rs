//! The dial plan that the wizard writes: internal numbers, direct dialling, calls outside, and what is refused because it is
//! dear. Routes that were made elsewhere are never touched.

use appliance_config::{Action, Called, Origin, Prefixed, Route, Span, TrunkChoice};

/// Internal numbers: how many digits, and their first and last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    digits: u8,
    range: Span<u64>,
}

/// `1000-1999`, or one number; both ends with equally many digits.
#[must_use]
pub fn numbers(text: &str) -> Option<Numbers> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim(), last.trim());
    let all_digits =
        |text: &str| (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(first) || !all_digits(last) || first.len() != last.len() {
        return None;
    }
    let range = Span {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
    };
    let digits = u8::try_from(first.len()).ok()?;
    (range.first <= range.last).then_some(Numbers { digits, range })
}

/// The routes for these numbers, trunks and this front of the numbers that trunks send.
#[must_use]
pub fn routes(numbers: Option<Numbers>, trunks: &[&str], prefix: &str) -> Vec<Route> {
    let inside = || vec![Origin::Registered, Origin::Internal];
    let mut routes = Vec::new();
    if !trunks.is_empty() {
        // Before everything else: no internal number may stand in the way of a cry for help.
        for number in ["110", "112"] {
            routes.push(route(
                &format!("emergency-{number}"),
                inside(),
                number,
                (0, 0),
                to(trunks),
            ));
        }
    }
    if let Some(Numbers { digits, range }) = numbers {
        let range = Some(range);
        let internal = |name: &str, from: Vec<Origin>, prefix: &str, action: Action| Route {
            called: Called::Number(Prefixed {
                prefix: prefix.to_owned(),
                digits: Span {
                    first: digits,
                    last: digits,
                },
                range,
            }),
            strip: u8::try_from(prefix.len()).unwrap_or(0),
            ..route(name, from, "", (0, 0), action)
        };
        routes.push(internal(
            "binding",
            vec![Origin::Registrar],
            "",
            Action::Binding,
        ));
        routes.push(internal("extension", inside(), "", Action::Registrar));
        if !trunks.is_empty() && !prefix.is_empty() {
            let from = trunks
                .iter()
                .map(|trunk| Origin::Trunk((*trunk).to_owned()))
                .collect();
            routes.push(internal("direct-dial", from, prefix, Action::Registrar));
        }
    }
    if trunks.is_empty() {
        return routes;
    }
    for (name, number) in DEAR {
        for (spelling, front) in [("", "+"), ("-00", "00")] {
            routes.push(route(
                &format!("{name}{spelling}"),
                inside(),
                &format!("{front}{number}"),
                (0, 20),
                Action::Refuse(403),
            ));
        }
    }
    routes.push(route("international", inside(), "+", (8, 15), to(trunks)));
    routes.push(route(
        "international-00",
        inside(),
        "00",
        (8, 15),
        to(trunks),
    ));
    routes
}

/// Premium-rate and satellite ranges, with which a stolen account is turned into money.
const DEAR: [(&str, &str); 6] = [
    ("premium-us", "1900"),
    ("premium-de", "49900"),
    ("satellite-870", "870"),
    ("satellite-881", "881"),
    ("networks-882", "882"),
    ("networks-883", "883"),
];

fn to(trunks: &[&str]) -> Action {
    let trunks = trunks.iter().enumerate();
    Action::Trunks(
        trunks
            .map(|(index, trunk)| TrunkChoice::in_order(trunk, index))
            .collect(),
    )
}

fn route(
    name: &str,
    from: Vec<Origin>,
    prefix: &str,
    (first, last): (u8, u8),
    action: Action,
) -> Route {
    let called = Prefixed {
        prefix: prefix.to_owned(),
        digits: Span { first, last },
        range: None,
    };
    Route::plain(name, from, called, action)
}

/// The fields "internal numbers" and "front of the trunk's numbers" of routes that [`routes`] may have written.
#[must_use]
pub fn recognise(routes: &[Route]) -> (String, String) {
    let named = |name: &str| routes.iter().find(|route| route.name == name);
    let numbers = named("extension").and_then(|route| {
        let called = route.called.prefixed()?;
        let width = usize::from(called.digits.first);
        let range = called.range?;
        Some(format!("{:0width$}-{:0width$}", range.first, range.last))
    });
    let prefix =
        named("direct-dial").and_then(|route| Some(route.called.prefixed()?.prefix.clone()));
    (numbers.unwrap_or_default(), prefix.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_equally_many_digits_and_keep_leading_zeros() {
        assert!(
            numbers("1000-1999").is_some() && numbers("00-99").is_some() && numbers("7").is_some()
        );
        for wrong in [
            "",
            "100-1999",
            "1999-1000",
            "1000-",
            "-5",
            "a-b",
            "1000 1999",
            "1234567890123-1234567890124",
        ] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
        let written = routes(numbers("010-099"), &[], "");
        assert_eq!(recognise(&written).0, "010-099");
    }

    #[test]
    fn without_a_trunk_no_call_leaves_the_house() {
        let written = routes(numbers("1000-1999"), &[], "+49301234");
        assert!(
            written
                .iter()
                .all(|route| !matches!(route.action, Action::Trunks(_)))
        );
    }

    #[test]
    fn an_emergency_call_passes_even_where_an_internal_number_looks_the_same() {
        let written = routes(numbers("100-199"), &["trunk1"], "+49301234");
        let first = written
            .iter()
            .find(|route| {
                let called = route.called.prefixed().expect("prefix");
                "112".starts_with(&called.prefix)
            })
            .expect("route");
        let trunk = TrunkChoice::in_order("trunk1", 0);
        assert_eq!(first.action, Action::Trunks(vec![trunk]));
    }
}
