//! Whether a number in its normal form fits a route. Patterns are sequences of digit classes, matched as a set of places at
//! once, so that no pattern takes longer than its length times the number's.

use broker_proto::settings::{Called, DigitClass, NumberPattern};

/// Whether a route is for this normal form; `None`: the called user is no number.
#[must_use]
pub fn fits(called: &Called, number: Option<&str>) -> bool {
    match (called, number) {
        (Called::Anything, _) => true,
        (Called::Number(pattern), Some(number)) => prefixed(pattern, number),
        (Called::Pattern(classes), Some(number)) => whole(classes, number),
        (Called::Number(_) | Called::Pattern(_), None) => false,
    }
}

fn prefixed(pattern: &NumberPattern, number: &str) -> bool {
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

/// Whether a character is one of a class.
#[must_use]
pub fn class_matches(class: &DigitClass, character: char) -> bool {
    let bit = match character {
        '+' => 10,
        _ => match character.to_digit(10) {
            Some(digit) => digit,
            None => return false,
        },
    };
    class.digits & (1 << bit) != 0
}

/// A place: class, and how many characters it has taken.
type Place = (usize, u8);

fn whole(classes: &[DigitClass], number: &str) -> bool {
    let mut places = Vec::new();
    enter(classes, (0, 0), &mut places);
    for character in number.chars() {
        let mut next = Vec::new();
        for (index, taken) in places {
            let fits = classes
                .get(index)
                .is_some_and(|class| taken < class.most && class_matches(class, character));
            if fits {
                enter(classes, (index, taken.saturating_add(1)), &mut next);
            }
        }
        if next.is_empty() {
            return false;
        }
        places = next;
    }
    places.iter().any(|(index, _)| *index == classes.len())
}

/// A place and those that are reached from it without a character.
fn enter(classes: &[DigitClass], (mut index, mut taken): Place, places: &mut Vec<Place>) {
    loop {
        if places.contains(&(index, taken)) {
            return;
        }
        places.push((index, taken));
        match classes.get(index) {
            Some(class) if taken >= class.least => (index, taken) = (index + 1, 0),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(digits: &str, least: u8, most: u8) -> DigitClass {
        let bit = |character: char| character.to_digit(10).unwrap_or(10);
        DigitClass {
            digits: digits.chars().map(|c| 1 << bit(c)).fold(0, |a, b| a | b),
            least,
            most,
        }
    }

    fn number(prefix: &str, digits: (u8, u8), range: Option<(u64, u64)>) -> Called {
        Called::Number(NumberPattern {
            prefix: prefix.into(),
            digits_min: digits.0,
            digits_max: digits.1,
            range,
        })
    }

    #[test]
    fn a_pattern_is_matched_from_end_to_end() {
        // +49[1-9]x{2,4}
        let pattern = Called::Pattern(vec![
            class("+", 1, 1),
            class("4", 1, 1),
            class("9", 1, 1),
            class("123456789", 1, 1),
            class("0123456789", 2, 4),
        ]);
        for yes in ["+49100", "+4919999"] {
            assert!(fits(&pattern, Some(yes)), "{yes}");
        }
        for no in [
            "",
            "+49",
            "+4910",
            "+490100",
            "+49100000",
            "49100",
            "+4910a",
            "+49100+",
        ] {
            assert!(!fits(&pattern, Some(no)), "{no}");
        }
        assert!(!fits(&pattern, None));
    }

    #[test]
    fn optional_classes_in_a_row_do_not_blow_up() {
        let pattern = Called::Pattern(vec![class("1", 0, 40); 40]);
        assert!(fits(&pattern, Some(&"1".repeat(32))));
        assert!(!fits(&pattern, Some(&format!("{}2", "1".repeat(31)))));
    }

    #[test]
    fn a_range_bounds_the_digits_after_the_prefix() {
        let called = number("+4930555", (4, 4), Some((1001, 1199)));
        assert!(fits(&called, Some("+49305551001")));
        assert!(!fits(&called, Some("+49305551200")));
        assert!(!fits(&called, Some("+4930555100")));
    }

    #[test]
    fn a_prefix_written_with_00_means_the_international_form() {
        assert!(fits(&number("00", (8, 15), None), Some("+49301234567")));
    }

    #[test]
    fn anything_is_also_a_name() {
        assert!(fits(&Called::Anything, None));
    }
}
