//! Single values of the document: how each is spelt, read and printed. Every spelling has one canonical form, which is
//! what [`crate::Document::canonical`] writes.

use core::{fmt, net::IpAddr, net::SocketAddr, str::FromStr};
use std::{net::Ipv4Addr, net::Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::error::{Sentence, say};

/// A value that stands in one place of the document.
pub(crate) trait Scalar: Sized {
    /// Reads it, or says what would have been right.
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence>;
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Sentence> {
    match value {
        DeValue::String(text) if text.len() <= 1024 => Ok(text),
        DeValue::String(_) => Err(say!(
            "is longer than 1024 octets",
            "ist länger als 1024 Oktette"
        )),
        other => {
            let (english, german) = kind(other);
            Err(say!(
                "must be a text in quotation marks, not {english}",
                "muss ein Text in Anführungszeichen sein, nicht {german}"
            ))
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &DeValue<'_>) -> (&'static str, &'static str) {
    match value {
        DeValue::String(_) => ("a text", "ein Text"),
        DeValue::Integer(_) => ("a number", "eine Zahl"),
        DeValue::Float(_) => ("a number with a fraction", "eine Kommazahl"),
        DeValue::Boolean(_) => ("true or false", "true oder false"),
        DeValue::Datetime(_) => ("a date", "ein Datum"),
        DeValue::Array(_) => ("a list", "eine Liste"),
        DeValue::Table(_) => ("a table", "eine Tabelle"),
    }
}

fn parsed<T: FromStr>(
    value: &DeValue<'_>,
    wrong: impl Fn(&str) -> Sentence,
) -> Result<T, Sentence> {
    let text = text(value)?;
    text.parse().map_err(|_| wrong(&shown(text)))
}

/// Outside text inside a sentence: short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(60)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(60).is_some() {
        out.push('…');
    }
    out
}

impl Scalar for String {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        text(value).map(str::to_owned)
    }
}

impl Scalar for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        match value {
            DeValue::Boolean(value) => Ok(*value),
            other => {
                let (english, german) = kind(other);
                Err(say!(
                    "must be true or false, not {english}",
                    "muss true oder false sein, nicht {german}"
                ))
            }
        }
    }
}

impl Scalar for u32 {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        match value {
            DeValue::Integer(number) => Self::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| {
                    say!(
                        "must be a whole number from 0 to 4294967295",
                        "muss eine ganze Zahl von 0 bis 4294967295 sein"
                    )
                }),
            other => {
                let (english, german) = kind(other);
                Err(say!(
                    "must be a whole number, not {english}",
                    "muss eine ganze Zahl sein, nicht {german}"
                ))
            }
        }
    }
}

impl Scalar for u16 {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        Self::try_from(u32::read(value)?).map_err(|_| {
            say!(
                "must be a whole number from 0 to 65535",
                "muss eine ganze Zahl von 0 bis 65535 sein"
            )
        })
    }
}

impl Scalar for u8 {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        Self::try_from(u32::read(value)?).map_err(|_| {
            say!(
                "must be a whole number from 0 to 255",
                "muss eine ganze Zahl von 0 bis 255 sein"
            )
        })
    }
}

impl Scalar for IpAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        parsed(value, |text| {
            say!(
                "`{text}` is not an IP address; write it like 192.0.2.53 or 2001:db8::53 (names are not looked up here)",
                "`{text}` ist keine IP-Adresse; Schreibweise 192.0.2.53 oder 2001:db8::53 (Namen werden hier nicht aufgelöst)"
            )
        })
    }
}

impl Scalar for Ipv4Addr {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        parsed(value, |text| {
            say!(
                "`{text}` is not an IPv4 address; write it like 192.0.2.1",
                "`{text}` ist keine IPv4-Adresse; Schreibweise 192.0.2.1"
            )
        })
    }
}

impl Scalar for Ipv6Addr {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        parsed(value, |text| {
            say!(
                "`{text}` is not an IPv6 address; write it like 2001:db8::1",
                "`{text}` ist keine IPv6-Adresse; Schreibweise 2001:db8::1"
            )
        })
    }
}

impl Scalar for Ipv4Net {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        parsed(value, |text| {
            say!(
                "`{text}` is not an IPv4 address with prefix length; write it like 192.0.2.1/24",
                "`{text}` ist keine IPv4-Adresse mit Präfixlänge; Schreibweise 192.0.2.1/24"
            )
        })
    }
}

impl Scalar for Ipv6Net {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        parsed(value, |text| {
            say!(
                "`{text}` is not an IPv6 address with prefix length; write it like 2001:db8::1/64",
                "`{text}` ist keine IPv6-Adresse mit Präfixlänge; Schreibweise 2001:db8::1/64"
            )
        })
    }
}

impl Scalar for IpNet {
    /// A network: host bits must be zero, so that nobody believes a single host was meant.
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        let net: Self = parsed(value, |text| {
            say!(
                "`{text}` is not a network; write it like 192.0.2.0/24 or 2001:db8::/64",
                "`{text}` ist kein Netz; Schreibweise 192.0.2.0/24 oder 2001:db8::/64"
            )
        })?;
        let right = net.trunc();
        if right == net {
            Ok(net)
        } else {
            Err(say!(
                "`{net}` has bits set behind its prefix length; the network is {right}",
                "`{net}` hat Bits hinter der Präfixlänge; das Netz heißt {right}"
            ))
        }
    }
}

/// Address and port; the port may be left out where the service has a usual one.
pub(crate) fn endpoint(value: &DeValue<'_>, default_port: u16) -> Result<SocketAddr, Sentence> {
    let written = text(value)?;
    parse_endpoint(written, default_port).ok_or_else(|| {
        let written = shown(written);
        say!(
            "`{written}` is not an address with port; write it like 192.0.2.10:{default_port}, [2001:db8::10]:{default_port}, or without port",
            "`{written}` ist keine Adresse mit Port; Schreibweise 192.0.2.10:{default_port}, [2001:db8::10]:{default_port} oder ohne Port"
        )
    })
}

/// `192.0.2.10:5060`, `[2001:db8::10]:5060`, or a bare address that gets `default_port`. `None`: neither, or port 0.
#[must_use]
pub fn parse_endpoint(text: &str, default_port: u16) -> Option<SocketAddr> {
    let endpoint = match text.parse::<SocketAddr>() {
        Ok(endpoint) => endpoint,
        Err(_) => SocketAddr::new(text.parse().ok()?, default_port),
    };
    let scoped = matches!(endpoint, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.flowinfo() != 0);
    (endpoint.port() != 0 && !scoped).then_some(endpoint)
}

/// Hardware address of a network card.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() {
            Err(())
        } else {
            Ok(Self(octets))
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for Mac {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        let mac: Self = parsed(value, |text| {
            say!(
                "`{text}` is not a hardware address; write it like 52:54:00:12:34:56",
                "`{text}` ist keine Hardware-Adresse; Schreibweise 52:54:00:12:34:56"
            )
        })?;
        if mac.0 == [0; 6] || mac.0.first().is_some_and(|first| first & 1 == 1) {
            return Err(say!(
                "`{mac}` is a group or null address, no network card has it",
                "`{mac}` ist eine Gruppen- oder Nulladresse, keine Karte trägt sie"
            ));
        }
        Ok(mac)
    }
}

/// First and last of something, both included: ports, digits, numbers. Printed `16384-32767`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span<T> {
    /// Lowest.
    pub first: T,
    /// Highest, at least `first`.
    pub last: T,
}

/// A range of ports.
pub type PortRange = Span<u16>;

impl<T: fmt::Display + PartialEq> fmt::Display for Span<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl<T: fmt::Display + PartialEq> Serialize for Span<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<T: FromStr + Copy + PartialOrd> FromStr for Span<T> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| -> Result<T, ()> {
            // `+5` and the like are numbers for Rust and riddles for a reader.
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(());
            }
            text.parse().map_err(|_| ())
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(())
        }
    }
}

impl<T: FromStr + Copy + PartialOrd> Scalar for Span<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        if let DeValue::Integer(number) = value
            && number.radix() == 10
            && let Ok(span) = number.as_str().parse()
        {
            return Ok(span);
        }
        parsed(value, |text| {
            say!(
                "`{text}` is not a range; write it like \"1000-1999\", the lower number first",
                "`{text}` ist kein Bereich; Schreibweise \"1000-1999\", die kleinere Zahl zuerst"
            )
        })
    }
}

/// A closed set of words. Gives an enum its spelling, reading, printing and the list in the error's sentence.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in the document.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl $crate::value::Scalar for $name {
            fn read(value: &toml::de::DeValue<'_>) -> Result<Self, $crate::error::Sentence> {
                let written = <String as $crate::value::Scalar>::read(value)?;
                Self::ALL.iter().copied().find(|one| one.word() == written).ok_or_else(|| {
                    $crate::value::not_one_of(&written, &[$($word),+])
                })
            }
        }
    };
}
pub(crate) use words;

/// The sentence for a word outside its set, with the nearest right one.
pub(crate) fn not_one_of(written: &str, words: &[&str]) -> Sentence {
    let list = words.join(", ");
    let nearest = nearest(written, words);
    let written = shown(written);
    match nearest {
        Some(near) => say!(
            "`{written}` is not known here; did you mean `{near}`? (possible: {list})",
            "`{written}` ist hier unbekannt; ist `{near}` gemeint? (möglich: {list})"
        ),
        None => say!(
            "`{written}` is not known here; possible: {list}",
            "`{written}` ist hier unbekannt; möglich: {list}"
        ),
    }
}

/// The word that is so close that it was probably meant: at most a third of the letters differ.
pub(crate) fn nearest<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    words
        .iter()
        .map(|word| (distance(written, word), *word))
        .filter(|(distance, word)| *distance <= word.chars().count().max(3) / 3)
        .min()
        .map(|(_, word)| word)
}

/// Damerau–Levenshtein distance (adjacent transpositions count once); both texts are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, ca) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], k: usize| row.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(ca != *cb))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = j > 0 && previous == Some(*cb) && b.get(j - 1) == Some(&ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut last, row);
        previous = Some(ca);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

/// Prints endpoints, the usual port left out.
pub(crate) fn print_endpoint(endpoint: &SocketAddr, default_port: u16) -> String {
    if endpoint.port() == default_port {
        endpoint.ip().to_string()
    } else {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_or_missing_letter_is_recognised() {
        let words = ["gateway", "address", "method"];
        assert_eq!(nearest("gatewya", &words), Some("gateway"));
        assert_eq!(nearest("adress", &words), Some("address"));
        assert_eq!(nearest("colour", &words), None);
    }

    #[test]
    fn ranges_are_read_in_both_forms_and_never_backwards() {
        assert_eq!("7".parse::<PortRange>(), Ok(Span { first: 7, last: 7 }));
        assert_eq!(
            "16384 - 32767".parse::<PortRange>(),
            Ok(Span {
                first: 16384,
                last: 32767
            })
        );
        for wrong in ["", "-", "9-", "-9", "9-8", "+1-2", "1-70000", "1-2-3"] {
            assert_eq!(wrong.parse::<PortRange>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_without_port_gets_the_usual_one() {
        assert_eq!(
            parse_endpoint("192.0.2.1", 123)
                .map(|e| e.to_string())
                .as_deref(),
            Some("192.0.2.1:123")
        );
        assert_eq!(
            parse_endpoint("2001:db8::1", 123)
                .map(|e| e.to_string())
                .as_deref(),
            Some("[2001:db8::1]:123")
        );
        assert_eq!(
            parse_endpoint("[2001:db8::1]:5", 123).map(|e| e.port()),
            Some(5)
        );
        for wrong in [
            "",
            "192.0.2.1:0",
            "pool.ntp.org",
            "192.0.2.1:",
            "fe80::1%2",
            "[fe80::1%2]:5",
        ] {
            assert_eq!(parse_endpoint(wrong, 123), None, "{wrong}");
        }
    }

    #[test]
    fn hardware_addresses_have_one_printed_form() {
        let mac: Mac = "52-54-00-AB-cd-01".parse().expect("valid");
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for wrong in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "52:54:00:ab:cd:+1",
            "5:54:00:ab:cd:01",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
