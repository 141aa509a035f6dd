//! A dialled number as an E.164 number with `+`, and back into the form that a place wants. RFC 3966 for visual separators
//! and `phone-context`; ITU-T E.164 for what can be a number.
//!
//! Every spelling of a number has one normal form, and routes see nothing else, so a refusal of `+1900…` cannot be walked
//! round as `001900…`.

use broker_proto::settings::{NumberForm, Numbering};

/// Longer than any number of E.164 or of a dial plan.
const LONGEST: usize = 32;
/// Digits of an E.164 number at most.
const E164: usize = 15;

/// A user part or tel subscriber, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialled {
    /// Digits, maybe with `+` in front.
    pub number: String,
    /// `phone-context`: a prefix with `+`, or a domain; in small letters.
    pub context: Option<String>,
}

impl Dialled {
    /// From a user part or tel subscriber whose escapes are resolved, parameters behind semicolons. `None`: no number.
    #[must_use]
    pub fn of(user: &str) -> Option<Self> {
        let mut parts = user.split(';');
        let number = plain(parts.next().unwrap_or_default())?;
        let context = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case("phone-context"))
            .map(|(_, value)| value.trim_matches('"').to_ascii_lowercase())
            .filter(|context| !context.is_empty() && context.len() <= 253);
        Some(Self { number, context })
    }
}

/// The digits of a text, with `+` if it begins with one; visual separators (RFC 3966 §5.1.1) go. `None`: something else is
/// in it, or nothing.
#[must_use]
pub fn plain(text: &str) -> Option<String> {
    let mut number = String::with_capacity(text.len().min(LONGEST));
    for character in text.chars() {
        match character {
            '0'..='9' => number.push(character),
            '+' if number.is_empty() => number.push(character),
            '-' | '.' | '(' | ')' => {}
            _ => return None,
        }
        if number.len() > LONGEST {
            return None;
        }
    }
    (number.len() > usize::from(number.starts_with('+'))).then_some(number)
}

/// The normal form of what was dialled: `+` and E.164 digits where such a form exists, otherwise the digits as they are (an
/// extension, a service). `own_domain`: contexts that mean the caller's own habits. `None`: no number that can exist.
#[must_use]
pub fn normalise(
    dialled: &Dialled,
    numbering: Option<&Numbering>,
    own_domain: impl Fn(&str) -> bool,
) -> Option<String> {
    match dialled.context.as_deref() {
        // RFC 3966 §5.1.4: a global number has no context.
        _ if dialled.number.starts_with('+') => international(&dialled.number),
        None => by_habit(&dialled.number, numbering),
        Some(context) if context.starts_with('+') => {
            in_context(&dialled.number, &plain(context)?, numbering)
        }
        Some(domain) if own_domain(domain) => by_habit(&dialled.number, numbering),
        // Somebody else's dial plan: nothing says what the number means there.
        Some(_) => None,
    }
}

/// RFC 3966 §5.1.5: the context is the beginning of a global number. What was dialled with a prefix was dialled by the
/// habits of that country, which are known of our own alone; the rest continues the context.
fn in_context(number: &str, context: &str, numbering: Option<&Numbering>) -> Option<String> {
    let country = numbering.map(|numbering| format!("+{}", numbering.country));
    if number.starts_with('0') {
        let ours = country.is_some_and(|country| context.starts_with(&country));
        return if ours {
            by_habit(number, numbering)
        } else {
            None
        };
    }
    international(&format!("{context}{number}"))
}

fn by_habit(number: &str, numbering: Option<&Numbering>) -> Option<String> {
    if number.starts_with('+') {
        return international(number);
    }
    let prefix = numbering.map_or("00", |numbering| numbering.international_prefix.as_str());
    if !prefix.is_empty()
        && let Some(rest) = number.strip_prefix(prefix)
    {
        return international(&format!("+{rest}"));
    }
    let Some(numbering) = numbering else {
        return Some(number.to_owned());
    };
    let (country, national) = (&numbering.country, &numbering.national_prefix);
    if !national.is_empty()
        && let Some(rest) = number.strip_prefix(national.as_str())
    {
        return international(&format!("+{country}{rest}"));
    }
    let (least, most) = numbering.local_digits;
    let local = (usize::from(least)..=usize::from(most)).contains(&number.len());
    if local && !numbering.area.is_empty() {
        return international(&format!("+{country}{}{number}", numbering.area));
    }
    Some(number.to_owned())
}

/// A number with `+` if it can exist: E.164 has no country code that begins with zero.
fn international(number: &str) -> Option<String> {
    let digits = number.strip_prefix('+')?;
    let sound = !digits.is_empty() && !digits.starts_with('0');
    sound.then(|| number.to_owned())
}

/// A normal form written as a place wants it. What is no E.164 number stays as it is, and so does one whose written form
/// would be read there as another number: then it has the international prefix, or `+`.
#[must_use]
pub fn format(number: &str, numbering: Option<&Numbering>) -> String {
    let Some(numbering) = numbering else {
        return number.to_owned();
    };
    let Some(digits) = number
        .strip_prefix('+')
        .filter(|_| number.len() <= E164 + 1)
    else {
        return number.to_owned();
    };
    let written = match numbering.form {
        NumberForm::Unchanged | NumberForm::Plus => return number.to_owned(),
        NumberForm::Digits => return digits.to_owned(),
        NumberForm::International => format!("{}{digits}", numbering.international_prefix),
        NumberForm::National => match digits.strip_prefix(numbering.country.as_str()) {
            Some(rest) => format!("{}{rest}", numbering.national_prefix),
            None => format!("{}{digits}", numbering.international_prefix),
        },
    };
    let means = |text: &str| by_habit(text, Some(numbering)).as_deref() == Some(number);
    if means(&written) {
        return written;
    }
    let international = format!("{}{digits}", numbering.international_prefix);
    if means(&international) {
        international
    } else {
        number.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn berlin(form: NumberForm) -> Numbering {
        Numbering {
            country: "49".into(),
            area: "30".into(),
            international_prefix: "00".into(),
            national_prefix: "0".into(),
            local_digits: (6, 9),
            form,
        }
    }

    fn in_berlin(user: &str) -> Option<String> {
        let numbering = berlin(NumberForm::Unchanged);
        normalise(&Dialled::of(user)?, Some(&numbering), |domain| {
            domain == "example.org"
        })
    }

    fn anywhere(user: &str) -> Option<String> {
        normalise(&Dialled::of(user)?, None, |_| false)
    }

    #[test]
    fn separators_go_and_00_becomes_plus_also_without_habits() {
        assert_eq!(
            anywhere("+49-30.555(1001)").as_deref(),
            Some("+49305551001")
        );
        assert_eq!(anywhere("0049305551001").as_deref(), Some("+49305551001"));
        assert_eq!(anywhere("1001;isub=5").as_deref(), Some("1001"));
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
            assert_eq!(anywhere(user), None, "{user}");
        }
    }

    #[test]
    fn a_national_and_a_local_number_become_e164_and_an_extension_stays() {
        assert_eq!(in_berlin("030 12345678"), None, "a space is no separator");
        assert_eq!(in_berlin("030-12345678").as_deref(), Some("+493012345678"));
        assert_eq!(in_berlin("12345678").as_deref(), Some("+493012345678"));
        assert_eq!(in_berlin("0033123456789").as_deref(), Some("+33123456789"));
        assert_eq!(in_berlin("1001").as_deref(), Some("1001"));
        assert_eq!(in_berlin("112").as_deref(), Some("112"));
    }

    #[test]
    fn a_phone_context_says_what_a_local_number_means() {
        let normal = |user: &str| in_berlin(user);
        assert_eq!(
            normal("5551001;phone-context=+4930").as_deref(),
            Some("+49305551001")
        );
        assert_eq!(
            normal("555-1001;Phone-Context=+49-30").as_deref(),
            Some("+49305551001")
        );
        assert_eq!(
            normal("03012345678;phone-context=+49").as_deref(),
            Some("+493012345678")
        );
        assert_eq!(
            normal("1001;phone-context=example.org").as_deref(),
            Some("1001")
        );
        // Another country's prefixes and another domain's plan are not known.
        assert_eq!(normal("0123456;phone-context=+33"), None);
        assert_eq!(normal("1001;phone-context=evil.example"), None);
        // RFC 3966 §5.1.4: no context for a global number.
        assert_eq!(
            normal("+49301;phone-context=evil.example").as_deref(),
            Some("+49301")
        );
    }

    #[test]
    fn each_form_is_written_as_its_carrier_wants_it() {
        let written = |number: &str, form| format(number, Some(&berlin(form)));
        for (form, own, other) in [
            (NumberForm::Unchanged, "+493012345678", "+33123456789"),
            (NumberForm::Plus, "+493012345678", "+33123456789"),
            (NumberForm::International, "00493012345678", "0033123456789"),
            (NumberForm::National, "03012345678", "0033123456789"),
            (NumberForm::Digits, "493012345678", "33123456789"),
        ] {
            assert_eq!(written("+493012345678", form), own, "{form:?}");
            assert_eq!(written("+33123456789", form), other, "{form:?}");
            assert_eq!(written("112", form), "112", "{form:?}");
        }
        assert_eq!(format("+4930", None), "+4930");
    }

    #[test]
    fn a_national_form_that_would_be_read_as_another_number_is_not_used() {
        // `0` and `0123` would be the beginning of an international number.
        assert_eq!(
            format("+490123456", Some(&berlin(NumberForm::National))),
            "00490123456"
        );
    }

    fn numbering() -> impl Strategy<Value = Numbering> {
        (
            prop::sample::select(vec!["1", "49", "39", "44", "358", "7"]),
            "[1-9][0-9]{0,4}|",
            prop::sample::select(vec!["00", "011", "810", ""]),
            prop::sample::select(vec!["0", "1", "8", ""]),
            (3u8..8, 0u8..6),
            prop::sample::select(vec![
                NumberForm::Plus,
                NumberForm::International,
                NumberForm::National,
            ]),
        )
            .prop_map(|(country, area, int, nat, (least, more), form)| Numbering {
                country: country.into(),
                area,
                international_prefix: int.into(),
                national_prefix: nat.into(),
                local_digits: (least, least + more),
                form,
            })
    }

    proptest! {
        #[test]
        fn what_was_written_for_a_place_is_read_there_as_the_same_number(
            numbering in numbering(), number in "\\+[1-9][0-9]{2,14}"
        ) {
            let written = format(&number, Some(&numbering));
            let read = Dialled::of(&written).and_then(|dialled| {
                normalise(&dialled, Some(&numbering), |_| false)
            });
            prop_assert_eq!(read, Some(number));
        }

        #[test]
        fn a_normal_form_is_its_own_normal_form(numbering in numbering(), user in "[+0-9().-]{1,20}") {
            let normal = Dialled::of(&user)
                .and_then(|dialled| normalise(&dialled, Some(&numbering), |_| false));
            if let Some(normal) = normal.filter(|normal| normal.starts_with('+')) {
                let again = Dialled::of(&normal)
                    .and_then(|dialled| normalise(&dialled, Some(&numbering), |_| false));
                prop_assert_eq!(again, Some(normal));
            }
        }

        #[test]
        fn any_text_is_answered(user in "\\PC{0,60}", numbering in numbering()) {
            if let Some(dialled) = Dialled::of(&user) {
                let normal = normalise(&dialled, Some(&numbering), |_| true);
                prop_assert!(normal.is_none_or(|normal| normal.len() <= 300));
            }
        }
    }
}
