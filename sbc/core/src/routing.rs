//! Which way a called number goes: normalised, then the first route of the table that is for this caller and number.
//!
//! A number is matched in its international form (`00` and `+` are one) and, where that form exists, never in another,
//! so a refusal of `+1900…` cannot be walked round as `001900…`.

use broker_proto::settings::{NumberPattern, Origin, Route, RouteAction};

/// What the table says about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The route's name.
    pub(crate) route: String,
    /// The number to call, after stripping and prepending.
    pub(crate) number: String,
    /// What is done.
    pub(crate) action: RouteAction,
}

/// The first route for this caller and called user; `None`: none, or the user is no number.
pub(crate) fn decide(routes: &[Route], origins: &[Origin], user: &str) -> Option<Decision> {
    let number = normalise(user)?;
    let route = routes.iter().find(|route| {
        route.from.iter().any(|origin| origins.contains(origin)) && matches(&route.called, &number)
    })?;
    let rest = number.get(usize::from(route.strip)..)?;
    Some(Decision {
        route: route.name.clone(),
        number: format!("{}{rest}", route.prepend),
        action: route.action.clone(),
    })
}

/// The digits of a user part, with `+` in front if it is an international number: visual separators (RFC 3966 §5.1.1)
/// and user parameters go, `00` becomes `+`. `None`: no number, or one that cannot exist (E.164 has no leading zero).
pub(crate) fn normalise(user: &str) -> Option<String> {
    let bare = user.split(';').next().unwrap_or_default();
    let mut number = String::with_capacity(bare.len());
    for character in bare.chars() {
        match character {
            '0'..='9' => number.push(character),
            '+' if number.is_empty() => number.push(character),
            '-' | '.' | '(' | ')' => {}
            _ => return None,
        }
        // Longer than any number of E.164 or of a dial plan.
        if number.len() > 32 {
            return None;
        }
    }
    if let Some(rest) = number.strip_prefix("00") {
        number = format!("+{rest}");
    }
    let digits = number.strip_prefix('+').unwrap_or(&number);
    if digits.is_empty() || (number.starts_with('+') && digits.starts_with('0')) {
        return None;
    }
    Some(number)
}

fn matches(pattern: &NumberPattern, number: &str) -> bool {
    // A prefix written with `00` means the international form.
    let international;
    let prefix = match pattern.prefix.strip_prefix("00") {
        Some(rest) => {
            international = format!("+{rest}");
            international.as_str()
        }
        None => pattern.prefix.as_str(),
    };
    let Some(rest) = number.strip_prefix(prefix) else {
        return false;
    };
    if !rest.bytes().all(|octet| octet.is_ascii_digit())
        || rest.len() < usize::from(pattern.digits_min)
        || rest.len() > usize::from(pattern.digits_max)
    {
        return false;
    }
    match pattern.range {
        None => true,
        Some((low, high)) => rest
            .parse::<u64>()
            .is_ok_and(|value| (low..=high).contains(&value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(
        name: &str,
        from: Origin,
        prefix: &str,
        digits: (u8, u8),
        range: Option<(u64, u64)>,
    ) -> Route {
        Route {
            name: name.into(),
            from: vec![from],
            called: NumberPattern {
                prefix: prefix.into(),
                digits_min: digits.0,
                digits_max: digits.1,
                range,
            },
            strip: 0,
            prepend: String::new(),
            action: RouteAction::Registrar,
        }
    }

    #[test]
    fn separators_go_and_00_becomes_plus() {
        assert_eq!(
            normalise("+49-30.555(1001)").as_deref(),
            Some("+49305551001")
        );
        assert_eq!(normalise("0049305551001").as_deref(), Some("+49305551001"));
        assert_eq!(normalise("1001;phone-context=x").as_deref(), Some("1001"));
    }

    #[test]
    fn what_is_no_number_has_no_form() {
        for user in [
            "",
            "+",
            "00",
            "alice",
            "1+2",
            "+0123",
            "000123",
            "1001%00",
            "١٢",
            &"1".repeat(33),
        ] {
            assert_eq!(normalise(user), None, "{user}");
        }
    }

    #[test]
    fn the_first_route_counts_and_only_for_its_callers() {
        let routes = [
            route("premium", Origin::Registered, "+1900", (0, 12), None),
            route("world", Origin::Registered, "+", (8, 15), None),
        ];
        let found = |user: &str| {
            decide(&routes, &[Origin::Registered], user).map(|decision| decision.route)
        };
        assert_eq!(found("001900555").as_deref(), Some("premium"));
        assert_eq!(found("+49301234567").as_deref(), Some("world"));
        assert_eq!(found("+4930123"), None);
        assert_eq!(decide(&routes, &[Origin::Internal], "+49301234567"), None);
        assert_eq!(decide(&routes, &[], "+49301234567"), None);
    }

    #[test]
    fn a_range_bounds_the_digits_after_the_prefix() {
        let mut inbound = route(
            "did",
            Origin::Trunk("trunk1".into()),
            "+4930555",
            (4, 4),
            Some((1001, 1199)),
        );
        inbound.strip = 8;
        let routes = [inbound];
        let origins = [Origin::Trunk("trunk1".into())];
        assert_eq!(
            decide(&routes, &origins, "+49305551001").unwrap().number,
            "1001"
        );
        assert_eq!(decide(&routes, &origins, "+49305551200"), None);
        assert_eq!(
            decide(&routes, &[Origin::Trunk("trunk2".into())], "+49305551001"),
            None
        );
    }

    #[test]
    fn a_prefix_written_with_00_means_the_international_form() {
        let routes = [route("world", Origin::Internal, "00", (8, 15), None)];
        assert!(decide(&routes, &[Origin::Internal], "+49301234567").is_some());
    }
}
