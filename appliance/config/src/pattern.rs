//! Number patterns: `+49[1-9]x{3,9}`. A sequence of digits, `x` for any digit, sets in brackets, each maybe repeated; from
//! the first to the last character of a number in its normal form. Whether one pattern takes all of another, or some of it,
//! is what the checks of the routing table ask.

use core::{fmt, str::FromStr};
use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use crate::error::{Sentence, say};

/// Classes of a pattern at most.
const MAX_CLASSES: usize = 40;
/// Times that a class may repeat.
const MAX_DIGITS: usize = 32;
/// Characters that the longest number of a pattern has at most.
const MAX_CHARACTERS: usize = 40;
/// Bit of `+` in a class.
const PLUS: u16 = 1 << 10;
/// All ten digits.
const ANY: u16 = 0x3ff;

/// Digits out of a set, so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigitClass {
    /// Bit n is set if the digit n fits; bit 10: `+`; bits 11 and 12: `*` and `#`, of prefixes alone.
    pub digits: u16,
    /// Fewest.
    pub least: u8,
    /// Most.
    pub most: u8,
}

/// A number pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    /// Its classes, at least one.
    pub classes: Vec<DigitClass>,
}

/// The bit of a character in a class.
pub(crate) fn bit(character: char) -> Option<u16> {
    match character {
        '+' => Some(PLUS),
        '*' => Some(1 << 11),
        '#' => Some(1 << 12),
        _ => character.to_digit(10).map(|digit| 1 << digit),
    }
}

/// A class of one character, once.
pub(crate) fn literal(character: char) -> Option<DigitClass> {
    bit(character).map(|digits| DigitClass {
        digits,
        least: 1,
        most: 1,
    })
}

/// Any digits, so many.
pub(crate) const fn digits(least: u8, most: u8) -> DigitClass {
    DigitClass {
        digits: ANY,
        least,
        most,
    }
}

impl FromStr for Pattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut classes: Vec<DigitClass> = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = rest.get(first.len_utf8()..).unwrap_or("");
            let digits = match first {
                '+' if classes.is_empty() => PLUS,
                'x' => ANY,
                '0'..='9' => bit(first).ok_or(())?,
                '[' => {
                    let (set, after) = rest.split_once(']').ok_or(())?;
                    rest = after;
                    read_set(set)?
                }
                _ => return Err(()),
            };
            let (least, most) = match rest.chars().next() {
                Some('?') => {
                    rest = rest.get(1..).unwrap_or("");
                    (0, 1)
                }
                Some('{') => {
                    let (times, after) = rest.get(1..).and_then(|r| r.split_once('}')).ok_or(())?;
                    rest = after;
                    read_times(times)?
                }
                _ => (1, 1),
            };
            if digits == PLUS && (least, most) != (1, 1) {
                return Err(());
            }
            classes.push(DigitClass {
                digits,
                least,
                most,
            });
            if classes.len() > MAX_CLASSES {
                return Err(());
            }
        }
        let pattern = Self { classes };
        let shortest = pattern.shortest();
        let longest: usize = pattern
            .classes
            .iter()
            .map(|class| usize::from(class.most))
            .sum();
        if shortest == 0 || longest > MAX_CHARACTERS {
            return Err(());
        }
        Ok(pattern)
    }
}

/// `1-35` or `^0`.
fn read_set(text: &str) -> Result<u16, ()> {
    let (negated, text) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits: Vec<char> = text.chars().collect();
    let mut set = 0;
    let mut rest = digits.as_slice();
    loop {
        rest = match rest {
            [] => break,
            [first, '-', last, rest @ ..] => {
                let (first, last) = (first.to_digit(10).ok_or(())?, last.to_digit(10).ok_or(())?);
                if first > last {
                    return Err(());
                }
                set |= (first..=last).fold(0, |set, digit| set | 1 << digit);
                rest
            }
            [digit, rest @ ..] => {
                set |= 1 << digit.to_digit(10).ok_or(())?;
                rest
            }
        };
    }
    let set = if negated { ANY & !set } else { set };
    if digits.is_empty() || set == 0 {
        return Err(());
    }
    Ok(set)
}

/// `3` or `3,9`.
fn read_times(text: &str) -> Result<(u8, u8), ()> {
    let number = |text: &str| -> Result<u8, ()> {
        let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| plain).ok_or(())
    };
    let (least, most) = match text.split_once(',') {
        Some((least, most)) => (number(least)?, number(most)?),
        None => (number(text)?, number(text)?),
    };
    let fits = least <= most && (1..=MAX_DIGITS).contains(&usize::from(most));
    fits.then_some((least, most)).ok_or(())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for class in &self.classes {
            match class.digits {
                PLUS => f.write_str("+")?,
                ANY => f.write_str("x")?,
                one if one.count_ones() == 1 => write!(f, "{}", one.trailing_zeros())?,
                set => {
                    f.write_str("[")?;
                    for digit in (0..10).filter(|digit| set & 1 << digit != 0) {
                        write!(f, "{digit}")?;
                    }
                    f.write_str("]")?;
                }
            }
            match (class.least, class.most) {
                (1, 1) => {}
                (0, 1) => f.write_str("?")?,
                (least, most) if least == most => write!(f, "{{{least}}}")?,
                (least, most) => write!(f, "{{{least},{most}}}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl crate::value::Scalar for Pattern {
    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        written.parse().map_err(|()| {
            let written = crate::value::shown(&written);
            say!(
                "`{written}` is no number pattern; write it like \"+49[1-9]x{{3,9}}\": digits, x for any digit, sets in brackets, {{n}}, {{n,m}} or ? behind what repeats, + only in front",
                "`{written}` ist kein Nummernmuster; Schreibweise \"+49[1-9]x{{3,9}}\": Ziffern, x für jede Ziffer, Mengen in eckigen Klammern, {{n}}, {{n,m}} oder ? hinter dem, was sich wiederholt, + nur vorn"
            )
        })
    }
}

impl Pattern {
    /// Characters of the shortest number.
    #[must_use]
    pub fn shortest(&self) -> usize {
        self.classes
            .iter()
            .map(|class| usize::from(class.least))
            .sum()
    }
}

/// A place in a pattern: class, and how many characters it has taken.
type Place = (usize, u8);

/// How much may still be looked at before the question is left open: a bound for a document that was made to be slow.
pub(crate) struct Effort(pub(crate) u32);

impl Effort {
    /// Whether looking at so many places more is too much.
    fn spent(&mut self, places: usize) -> bool {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        self.0 = self.0.saturating_sub(places.saturating_add(1));
        self.0 == 0
    }
}

/// Whether every number of `inner` is one of `outer`. `false` also if the effort does not suffice to know.
pub(crate) fn covers(outer: &[DigitClass], inner: &[DigitClass], effort: &mut Effort) -> bool {
    if apart(outer, inner) {
        return false;
    }
    let mut seen = BTreeSet::new();
    let mut open: Vec<(Place, BTreeSet<Place>)> = Vec::new();
    let start = entered(outer, [(0, 0)]);
    open.extend(
        entered(inner, [(0, 0)])
            .into_iter()
            .map(|place| (place, start.clone())),
    );
    while let Some((place, places)) = open.pop() {
        if effort.spent(places.len().saturating_mul(13)) {
            return false;
        }
        if place.0 == inner.len() {
            if !places.iter().any(|(index, _)| *index == outer.len()) {
                return false;
            }
            continue;
        }
        let Some(class) = inner.get(place.0).filter(|class| place.1 < class.most) else {
            continue;
        };
        for bit in 0..13 {
            if class.digits & (1 << bit) == 0 {
                continue;
            }
            let after = entered(
                outer,
                places.iter().filter_map(|place| taken(outer, *place, bit)),
            );
            for next in entered(inner, [(place.0, place.1 + 1)]) {
                if seen.insert((next, after.clone())) {
                    open.push((next, after.clone()));
                }
            }
        }
    }
    true
}

/// Whether some number is one of both. `false` also if the effort does not suffice to know.
pub(crate) fn overlap(one: &[DigitClass], other: &[DigitClass], effort: &mut Effort) -> bool {
    if apart(one, other) {
        return false;
    }
    let mut seen = BTreeSet::new();
    let mut open = Vec::new();
    let pairs = |one_from: Place, other_from: Place| {
        let others = entered(other, [other_from]);
        entered(one, [one_from])
            .into_iter()
            .flat_map(|a| others.iter().map(|b| (a, *b)).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    open.extend(pairs((0, 0), (0, 0)));
    while let Some((a, b)) = open.pop() {
        if effort.spent(1) {
            return false;
        }
        if a.0 == one.len() && b.0 == other.len() {
            return true;
        }
        let (Some(left), Some(right)) = (one.get(a.0), other.get(b.0)) else {
            continue;
        };
        if left.digits & right.digits == 0 || a.1 >= left.most || b.1 >= right.most {
            continue;
        }
        for pair in pairs((a.0, a.1 + 1), (b.0, b.1 + 1)) {
            if seen.insert(pair) {
                open.push(pair);
            }
        }
    }
    false
}

/// Quick: the single characters that both begin with differ.
fn apart(one: &[DigitClass], other: &[DigitClass]) -> bool {
    let fixed = |class: &&DigitClass| class.least == 1 && class.most == 1;
    let (one, other) = (one.iter().take_while(fixed), other.iter().take_while(fixed));
    one.zip(other).any(|(a, b)| a.digits & b.digits == 0)
}

/// Places and those that are reached from them without a character.
fn entered(classes: &[DigitClass], from: impl IntoIterator<Item = Place>) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for place in from {
        let mut place = place;
        while places.insert(place) {
            match classes.get(place.0) {
                Some(class) if place.1 >= class.least => place = (place.0 + 1, 0),
                _ => break,
            }
        }
    }
    places
}

fn taken(classes: &[DigitClass], (index, count): Place, bit: u16) -> Option<Place> {
    let class = classes.get(index)?;
    (count < class.most && class.digits & (1 << bit) != 0).then_some((index, count + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|()| panic!("{text}"))
    }

    fn takes_all(outer: &str, inner: &str) -> bool {
        covers(
            &pattern(outer).classes,
            &pattern(inner).classes,
            &mut Effort(100_000),
        )
    }

    fn takes_some(one: &str, other: &str) -> bool {
        overlap(
            &pattern(one).classes,
            &pattern(other).classes,
            &mut Effort(100_000),
        )
    }

    #[test]
    fn every_pattern_has_one_printed_form() {
        for (written, printed) in [
            ("+49[1-9]x{3,9}", "+49[123456789]x{3,9}"),
            ("[^0]x{2}", "[123456789]x{2}"),
            ("1[0-15]x?", "1[015]x?"),
            ("[0-9]{3}", "x{3}"),
            ("[7]", "7"),
        ] {
            assert_eq!(pattern(written).to_string(), printed);
            assert_eq!(pattern(printed), pattern(written));
        }
        for wrong in [
            "",
            "1+",
            "++",
            "+?",
            "[",
            "[]",
            "[^0-9]",
            "[9-1]",
            "[a]",
            "x{",
            "x{}",
            "x{2,1}",
            "x{33}",
            "x?",
            "x{0,3}",
            "alice",
            "x{33,40}",
            "?",
            "{2}",
            "1 2",
            "x{+1}",
            "x{20}x{1,21}",
        ] {
            assert_eq!(wrong.parse::<Pattern>(), Err(()), "{wrong}");
        }
        assert!("1?".repeat(41).parse::<Pattern>().is_err());
    }

    #[test]
    fn a_pattern_that_takes_all_of_another_is_recognised() {
        assert!(takes_all("+x{8,15}", "+49[1-9]x{6,9}"));
        assert!(!takes_all("+49[1-9]x{6,9}", "+x{8,15}"));
        assert!(takes_all("1x{3}", "1[0-5]x{2}"));
        assert!(!takes_all("1[0-5]x{2}", "1x{3}"));
        assert!(takes_all("x{1,3}", "x?x?x"));
        assert!(takes_all("x?x?x", "x{1,3}"));
        assert!(!takes_all("x{4}", "x{3,4}"));
        assert!(!takes_all("2x{3}", "1x{3}"));
    }

    #[test]
    fn patterns_that_share_a_number_are_recognised() {
        assert!(takes_some("1[0-5]xx", "1[5-9]xx"));
        assert!(!takes_some("1[0-4]xx", "1[5-9]xx"));
        assert!(!takes_some("x{3}", "x{4,5}"));
        assert!(takes_some("x{1,20}1", "2x{0,20}"));
    }

    #[test]
    fn a_pattern_made_to_be_slow_ends_with_the_effort() {
        let slow = "[1-9]?".repeat(39) + "1";
        let mut effort = Effort(10_000);
        assert!(!covers(
            &pattern(&slow).classes,
            &pattern(&slow.replace('9', "8")).classes,
            &mut effort
        ));
        assert_eq!(effort.0, 0);
    }
}
