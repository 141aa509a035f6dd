//! A challenge for a name that the registrar does not know. The best is one that it gives at that very moment to a name that
//! it knows: [`Mask::known`] is such a name. Where that cannot be had, one of the same shape: the last challenge is the
//! pattern, its nonce is drawn anew, place by place of the same kind of character, behind what all its nonces begin with.

use std::sync::Arc;

use sbc_sip::digest::{Algorithm, Auth, AuthParams};

use crate::identity::Identity;

/// Parameters of a challenge that are written again; whatever else a registrar says is left out for all names alike.
const PARAMETERS: [&str; 7] = [
    "realm",
    "domain",
    "nonce",
    "opaque",
    "stale",
    "algorithm",
    "qop",
];
/// Those that are no quoted strings (RFC 7616 §3.3).
const TOKENS: [&str; 2] = ["stale", "algorithm"];

/// The pattern.
#[derive(Default)]
pub(crate) struct Mask {
    /// The registrar's last challenges.
    pattern: Vec<(bool, Auth)>,
    /// Nonce of the first of those before.
    before: String,
    /// A name that the registrar challenges.
    known: Option<Arc<str>>,
}

impl Mask {
    /// The registrar challenged. `known`: a name that it challenged without having seen credentials.
    pub(crate) fn learn(&mut self, challenges: &[(bool, Auth)], known: Option<Arc<str>>) {
        if let Some(nonce) = self.nonce() {
            self.before = nonce;
        }
        self.pattern = challenges.to_vec();
        self.known = known.or_else(|| self.known.take());
    }

    fn nonce(&self) -> Option<String> {
        let (_, auth) = self.pattern.first()?;
        Some(auth.params.value("nonce")?.into_owned())
    }

    /// A name to ask the registrar a challenge for.
    pub(crate) fn known(&self) -> Option<Arc<str>> {
        self.known.clone()
    }

    /// That name is known no more.
    pub(crate) fn forget_known(&mut self) {
        self.known = None;
    }

    /// A challenge that nobody can tell from the registrar's.
    pub(crate) fn challenge(&self, identity: &mut Identity, domain: &str) -> Vec<(bool, Auth)> {
        if self.pattern.is_empty() {
            return vec![(
                false,
                Auth::challenge(domain, &identity.name(), Algorithm::Md5),
            )];
        }
        self.pattern
            .iter()
            .map(|(proxy, auth)| (*proxy, renew(identity, auth, &self.before)))
            .collect()
    }
}

/// The same challenge with another nonce.
fn renew(identity: &mut Identity, challenge: &Auth, before: &str) -> Auth {
    let mut params = AuthParams::default();
    for param in challenge.params.iter() {
        let Some(name) = PARAMETERS
            .into_iter()
            .find(|name| param.name.eq_ignore_ascii_case(name))
        else {
            continue;
        };
        let value = challenge.params.value(name).unwrap_or_default();
        let value = match name {
            "nonce" => redraw(identity, &value, before),
            "opaque" => redraw(identity, &value, &value),
            // It says that the nonce of the last answer was too old; there was none.
            "stale" => continue,
            _ => value.into_owned(),
        };
        if TOKENS.contains(&name) {
            params.push_token(name, value);
        } else {
            params.push_quoted(name, &value);
        }
    }
    Auth {
        scheme: challenge.scheme.clone(),
        params,
    }
}

/// Text of the same shape: a digit for a digit, a letter for a letter of its case; hexadecimal stays hexadecimal. What it
/// begins with as the one `before` did stays: often the time, or the registrar's own name.
fn redraw(identity: &mut Identity, text: &str, before: &str) -> String {
    let same = text
        .chars()
        .zip(before.chars())
        .take_while(|(one, other)| one == other)
        .count();
    let hexadecimal = text
        .bytes()
        .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    text.chars()
        .enumerate()
        .map(|(place, character)| {
            let mut draw = |first: u8, count: u64| {
                char::from(first + u8::try_from(identity.number() % count).unwrap_or(0))
            };
            match character {
                _ if place < same => character,
                'a'..='f' | '0'..='9' if hexadecimal => {
                    char::from_digit(u32::from(draw(0, 16)), 16).unwrap_or(character)
                }
                '0'..='9' => draw(b'0', 10),
                'a'..='z' => draw(b'a', 26),
                'A'..='Z' => draw(b'A', 26),
                other => other,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrawn_nonce_keeps_its_shape() {
        let mut identity = Identity::new([3; 32]);
        let drawn = redraw(&mut identity, "Zh3Vx+aB/9=", "");
        assert_ne!(drawn, "Zh3Vx+aB/9=");
        assert_eq!(drawn.len(), 11);
        assert!(drawn.ends_with('=') && drawn.as_bytes()[5] == b'+');
        let drawn = redraw(&mut identity, "Zh3Vx+aB/9=", "Zh3Vy+cD/1=");
        assert!(drawn.starts_with("Zh3V") && drawn != "Zh3Vx+aB/9=");
        let drawn = redraw(&mut identity, "00ff17", "");
        assert!(drawn.bytes().all(|octet| octet.is_ascii_hexdigit()));
    }
}
