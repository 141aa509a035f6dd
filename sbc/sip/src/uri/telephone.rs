//! Telephone numbers as URIs: RFC 3966, its comparison included; and the same number in the user part of a sip URI that
//! says `user=phone` (RFC 3261 §19.1.6).

use core::fmt;

use super::{Uri, escape, parse_params};
use crate::error::Syntax;
use crate::limits::Limits;
use crate::params::{Param, Params};
use crate::reader::Reader;
use crate::text::Text;

/// A tel URI. `==` compares the spelling, [`TelUri::equivalent`] the meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TelUri {
    /// The number as it stood, visual separators included.
    pub number: Text,
    /// Parameters.
    pub params: Params,
}

impl TelUri {
    /// Whether it is a global number: `+` and digits.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.number.starts_with('+')
    }

    /// A global number of at most 15 digits, `+` before them or not. RFC 3966 §5.1.4, E.164 §6.
    #[must_use]
    pub fn global(digits: &str) -> Option<Self> {
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        let good =
            (1..=15).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
        good.then(|| Self {
            number: Text::from(format!("+{digits}")),
            params: Params::new(),
        })
    }

    /// A local number with the context in which it means something: a global prefix or a domain. RFC 3966 §5.1.5.
    #[must_use]
    pub fn local(digits: &str, context: &str) -> Option<Self> {
        format!("tel:{digits};phone-context={context}")
            .parse()
            .ok()
            .and_then(|uri| match uri {
                super::Uri::Tel(tel) if !tel.is_global() => Some(tel),
                _ => None,
            })
    }

    /// The user part of a sip URI as a telephone-subscriber. RFC 3261 §19.1.6.
    pub(super) fn from_user(user: &str) -> Option<Self> {
        let plain = String::from_utf8(escape::resolve(user).into_owned()).ok()?;
        let limits = Limits::default();
        let whole = Self::parse(Reader::copying(&plain), &limits);
        // The context of a local number is the host then; it may be missing.
        whole.ok().or_else(|| {
            let digits = !plain.is_empty()
                && plain
                    .bytes()
                    .all(|octet| is_dialled(octet) || is_separator(octet));
            (digits && plain.bytes().any(is_dialled)).then(|| Self {
                number: Text::from(plain.as_str()),
                params: Params::new(),
            })
        })
    }

    /// The number without visual separators. RFC 3966 §3.
    #[must_use]
    pub fn digits(&self) -> String {
        without_separators(&self.number)
    }

    /// The extension, without visual separators.
    #[must_use]
    pub fn extension(&self) -> Option<String> {
        self.params
            .plain("ext")
            .map(|text| without_separators(text))
    }

    /// The ISDN subaddress, escapes as they stood.
    #[must_use]
    pub fn subaddress(&self) -> Option<&Text> {
        self.params.plain("isub")
    }

    /// Where a local number means something: a global prefix without separators, or a domain in lower case.
    #[must_use]
    pub fn context(&self) -> Option<String> {
        self.params
            .plain("phone-context")
            .map(|text| normal_context(text))
    }

    /// Whether both are the same number with the same parameters: separators, case and order do not count, and a local
    /// number is never a global one. RFC 3966 §4.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        let covers = |one: &Self, two: &Self| {
            one.params.iter().all(|param| {
                two.params
                    .find(&param.name)
                    .is_some_and(|other| same_value(param, other))
            })
        };
        self.is_global() == other.is_global()
            && self.digits().eq_ignore_ascii_case(&other.digits())
            && covers(self, other)
            && covers(other, self)
    }

    pub(super) fn parse(mut reader: Reader<'_>, limits: &Limits) -> Result<Self, Syntax> {
        let start = reader.rest();
        let plus = reader.eat(b'+');
        let digits = reader.take_while(|octet| {
            octet.is_ascii_digit() || is_separator(octet) || (!plus && is_dialled(octet))
        });
        let number = start
            .get(..digits.len() + usize::from(plus))
            .unwrap_or_default();
        if !digits.bytes().any(is_dialled) {
            return Err(Syntax::TelephoneNumber);
        }
        let params = parse_params(&mut reader, limits)?;
        // RFC 3966 §5.1.5 demands a phone-context of a local number.
        if !reader.is_empty() || !(plus || params.has("phone-context")) {
            return Err(Syntax::TelephoneNumber);
        }
        let uri = Self {
            number: reader.text(number),
            params,
        };
        uri.check()?;
        Ok(uri)
    }

    /// Parameters whose grammar RFC 3966 §3 fixes.
    fn check(&self) -> Result<(), Syntax> {
        let phone = |text: &str| {
            text.bytes().any(|octet| octet.is_ascii_digit())
                && text
                    .bytes()
                    .all(|octet| octet.is_ascii_digit() || is_separator(octet))
        };
        if self.params.has("ext") && !self.params.plain("ext").is_some_and(|ext| phone(ext)) {
            return Err(Syntax::TelephoneNumber);
        }
        if self.params.has("isub") && self.subaddress().is_none() {
            return Err(Syntax::TelephoneNumber);
        }
        let context = self.params.plain("phone-context");
        let good = context.is_some_and(|context| match context.strip_prefix('+') {
            Some(digits) => phone(digits),
            None => is_domain(context),
        });
        if self.params.has("phone-context") && !good {
            return Err(Syntax::TelephoneNumber);
        }
        Ok(())
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    };
    text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

const fn is_separator(octet: u8) -> bool {
    matches!(octet, b'-' | b'.' | b'(' | b')')
}

const fn is_dialled(octet: u8) -> bool {
    octet.is_ascii_hexdigit() || matches!(octet, b'*' | b'#')
}

fn without_separators(text: &str) -> String {
    text.chars()
        .filter(|character| !matches!(character, '-' | '.' | '(' | ')'))
        .collect()
}

fn normal_context(text: &str) -> String {
    if text.starts_with('+') {
        without_separators(text)
    } else {
        text.to_ascii_lowercase()
    }
}

/// Numbers without separators, domains and all others without regard to case.
fn same_value(one: &Param, two: &Param) -> bool {
    let (Some(one_value), Some(two_value)) = (&one.value, &two.value) else {
        return one.value.is_none() && two.value.is_none();
    };
    let (first, second) = (one_value.to_plain(), two_value.to_plain());
    match one.name.to_ascii_lowercase().as_str() {
        "ext" => without_separators(&first) == without_separators(&second),
        "phone-context" => normal_context(&first) == normal_context(&second),
        _ => escape::resolve(&first).eq_ignore_ascii_case(&escape::resolve(&second)),
    }
}

impl fmt::Display for TelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tel:{}{}", self.number, self.params)
    }
}

impl From<TelUri> for Uri {
    fn from(uri: TelUri) -> Self {
        Self::Tel(uri)
    }
}
