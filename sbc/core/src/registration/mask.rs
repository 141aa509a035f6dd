//! A challenge for a name that the registrar does not know, of the same shape as those that it gives to names that it
//! knows: the last of them is the pattern, its nonce is drawn anew, place by place of the same kind of character.

use sbc_sip::{
    digest::{Algorithm, Auth, AuthParams},
    message::Response,
};

use crate::{identity::Identity, outgoing};

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
}

impl Mask {
    /// The registrar challenged.
    pub(crate) fn learn(&mut self, response: &Response) {
        self.pattern = outgoing::challenges(response);
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
            .map(|(proxy, auth)| (*proxy, renew(identity, auth)))
            .collect()
    }
}

/// The same challenge with another nonce.
fn renew(identity: &mut Identity, challenge: &Auth) -> Auth {
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
            "nonce" | "opaque" => redraw(identity, &value),
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

/// Text of the same shape: a digit for a digit, a letter for a letter of its case; hexadecimal stays hexadecimal.
fn redraw(identity: &mut Identity, text: &str) -> String {
    let hexadecimal = text
        .bytes()
        .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    text.chars()
        .map(|character| {
            let mut draw = |first: u8, count: u64| {
                char::from(first + u8::try_from(identity.number() % count).unwrap_or(0))
            };
            match character {
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
        let drawn = redraw(&mut identity, "Zh3Vx+aB/9=");
        assert_ne!(drawn, "Zh3Vx+aB/9=");
        assert_eq!(drawn.len(), 11);
        assert!(drawn.ends_with('=') && drawn.as_bytes()[5] == b'+');
        let drawn = redraw(&mut identity, "00ff17");
        assert!(drawn.bytes().all(|octet| octet.is_ascii_hexdigit()));
    }
}
