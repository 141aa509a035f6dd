//! Digest authentication as it stands in header fields: challenges, credentials, authentication info. RFC 3261 §22,
//! RFC 7616, RFC 8760. The sbc passes them on or puts a computed response in; it never holds the secret.

use core::fmt;
use std::borrow::Cow;

use crate::error::Syntax;
use crate::params::{Param, Quoted, Value};
use crate::reader::{Reader, is_token};
use crate::text::Text;

/// Parameters separated by commas. `Debug` shows names only: nonces and responses are nobody's business in a log.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthParams(Vec<Param>);

/// A challenge (WWW-Authenticate, Proxy-Authenticate) or credentials (Authorization, Proxy-Authorization): a scheme with
/// parameters. RFC 3261 §25.1: both have one grammar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Auth {
    /// The scheme, as it stood.
    pub scheme: Text,
    /// Its parameters.
    pub params: AuthParams,
}

/// Hash that a challenge asks for. RFC 7616 §3.3, RFC 8760 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5: what a challenge without algorithm means.
    Md5,
    /// MD5 with the session key.
    Md5Sess,
    /// SHA-256.
    Sha256,
    /// SHA-256 with the session key.
    Sha256Sess,
}

impl Algorithm {
    /// The name in a header field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let all = [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess];
        all.into_iter()
            .find(|one| one.as_str().eq_ignore_ascii_case(name))
    }
}

impl AuthParams {
    /// The value with quotes and escapes resolved.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find(name)?.value.as_ref().map(Value::to_plain)
    }

    /// Appends `name=token`.
    pub fn push_token(&mut self, name: &'static str, value: impl Into<Text>) {
        self.0.push(Param {
            name: Text::from_static(name),
            value: Some(Value::Plain(value.into())),
        });
    }

    /// Appends `name="value"` from plain text.
    pub fn push_quoted(&mut self, name: &'static str, plain: &str) {
        let value = Value::Quoted(Quoted::from_plain(plain));
        self.0.push(Param {
            name: Text::from_static(name),
            value: Some(value),
        });
    }

    /// All in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.0.iter()
    }

    /// Those of these names, in their order and in buffers of their own.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        let named = |param: &&Param| {
            names
                .iter()
                .any(|name| param.name.eq_ignore_ascii_case(name))
        };
        let own = |param: &Param| Param {
            name: param.name.detached(),
            value: param.value.as_ref().map(Value::detached),
        };
        Self(self.0.iter().filter(named).map(own).collect())
    }

    fn find(&self, name: &str) -> Option<&Param> {
        self.0
            .iter()
            .find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// Takes `name=value` separated by commas, at least one, none twice.
    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let mut params = Self::default();
        loop {
            let name = reader.token().map_err(|_| Syntax::Authentication)?;
            let name = reader.text(name);
            if !reader.separator(b'=') {
                return Err(Syntax::Authentication);
            }
            let value = parse_value(reader)?;
            if params.0.len() >= limit {
                return Err(Syntax::TooManyParameters);
            }
            if params.find(&name).is_some() {
                return Err(Syntax::DuplicateParameter);
            }
            params.0.push(Param {
                name,
                value: Some(value),
            });
            if !reader.separator(b',') {
                return Ok(params);
            }
        }
    }
}

/// token / quoted-string; base64 and URIs come unquoted from some and do no harm.
fn parse_value(reader: &mut Reader<'_>) -> Result<Value, Syntax> {
    if reader.peek() == Some(b'"') {
        let inside = reader.quoted()?;
        return Ok(Value::Quoted(Quoted(reader.text(inside))));
    }
    match reader.take_while(|octet| is_token(octet) || matches!(octet, b':' | b'/' | b'@' | b'=')) {
        "" => Err(Syntax::Authentication),
        value => Ok(Value::Plain(reader.text(value))),
    }
}

impl Auth {
    /// Whether the scheme is Digest.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// The algorithm: MD5 where none is named, none where it is not known here.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self.params.value("algorithm") {
            None => Some(Algorithm::Md5),
            Some(name) => Algorithm::named(&name),
        }
    }

    /// Whether `auth` is among the qualities of protection offered.
    #[must_use]
    pub fn offers_auth(&self) -> bool {
        let listed = |list: Cow<'_, str>| {
            list.split(',')
                .any(|one| one.trim().eq_ignore_ascii_case("auth"))
        };
        self.params.value("qop").is_some_and(listed)
    }

    /// A challenge of our own. RFC 8760 §2.
    #[must_use]
    pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm) -> Self {
        let mut params = AuthParams::default();
        params.push_quoted("realm", realm);
        params.push_quoted("nonce", nonce);
        params.push_token("algorithm", Text::from_static(algorithm.as_str()));
        params.push_quoted("qop", "auth");
        Self {
            scheme: Text::from_static("Digest"),
            params,
        }
    }

    /// Credentials that answer this challenge. `response` is what the holder of the secret computed. None if the
    /// challenge has no realm or nonce, or asks for what is not offered here.
    #[must_use]
    pub fn answer(
        &self,
        user: &str,
        uri: &str,
        quality: Option<Quality<'_>>,
        response: &str,
    ) -> Option<Self> {
        let (realm, nonce, algorithm) = (
            self.params.value("realm")?,
            self.params.value("nonce")?,
            self.algorithm()?,
        );
        let mut params = AuthParams::default();
        params.push_quoted("username", user);
        params.push_quoted("realm", &realm);
        params.push_quoted("nonce", &nonce);
        params.push_quoted("uri", uri);
        params.push_quoted("response", response);
        params.push_token("algorithm", Text::from_static(algorithm.as_str()));
        if let Some(quality) = quality {
            params.push_quoted("cnonce", quality.cnonce);
            params.push_token("qop", Text::from_static("auth"));
            params.push_token("nc", format!("{:08x}", quality.count));
        }
        if let Some(opaque) = self.params.value("opaque") {
            params.push_quoted("opaque", &opaque);
        }
        Some(Self {
            scheme: Text::from_static("Digest"),
            params,
        })
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let scheme = reader.token().map_err(|_| Syntax::Authentication)?;
        let scheme = reader.text(scheme);
        if !reader.peek().is_some_and(crate::reader::is_space) {
            return Err(Syntax::Authentication);
        }
        reader.skip_space();
        Ok(Self {
            scheme,
            params: AuthParams::parse(reader, limit)?,
        })
    }
}

/// Client nonce and nonce count for `qop=auth`.
#[derive(Clone, Copy)]
pub struct Quality<'a> {
    /// Client nonce.
    pub cnonce: &'a str,
    /// How often this nonce was used, this time included.
    pub count: u32,
}

impl fmt::Display for AuthParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, param) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", param.name)?;
            if let Some(value) = &param.value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for AuthParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|param| &param.name))
            .finish()
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.scheme, self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Auth, Syntax> {
        let mut reader = Reader::copying(text);
        let auth = Auth::parse(&mut reader, 16)?;
        reader.finish()?;
        Ok(auth)
    }

    #[test]
    fn a_challenge_is_read_and_answered() {
        let challenge =
            parse("Digest realm=\"trunk2.test\", nonce=\"a\\\"b\",algorithm=SHA-256, qop=\"auth,auth-int\", opaque=\"x\"")
                .unwrap();
        assert!(challenge.is_digest() && challenge.offers_auth());
        assert_eq!(challenge.algorithm(), Some(Algorithm::Sha256));
        let quality = Some(Quality {
            cnonce: "c",
            count: 1,
        });
        let answer = challenge
            .answer("gatehouse", "sip:trunk2.test", quality, "beef")
            .unwrap();
        assert_eq!(
            answer.to_string(),
            "Digest username=\"gatehouse\", realm=\"trunk2.test\", nonce=\"a\\\"b\", uri=\"sip:trunk2.test\", \
             response=\"beef\", algorithm=SHA-256, cnonce=\"c\", qop=auth, nc=00000001, opaque=\"x\""
        );
        assert_eq!(parse(&answer.to_string()).unwrap(), answer);
    }

    #[test]
    fn an_unknown_algorithm_is_not_taken_for_md5() {
        assert_eq!(
            parse("Digest realm=\"a\", algorithm=SHA-512-256")
                .unwrap()
                .algorithm(),
            None
        );
        assert_eq!(
            parse("Digest realm=\"a\"").unwrap().algorithm(),
            Some(Algorithm::Md5)
        );
    }

    #[test]
    fn what_is_no_list_of_parameters_is_refused() {
        for text in [
            "Digest",
            "Digest ",
            "Digest a",
            "Digest a=1,",
            "Digest a=1 b=2",
            "Digest a=1,A=2",
            "=",
            "Digest a=\"x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_of_credentials_do_not_print() {
        let auth = parse("Digest username=\"alice\", response=\"deadbeef\"").unwrap();
        let printed = format!("{auth:?}");
        assert!(
            !printed.contains("deadbeef") && !printed.contains("alice"),
            "{printed}"
        );
    }
}
