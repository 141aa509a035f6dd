//! Identity: a signed statement on who calls, RFC 8224 §4 with the compact and full forms of RFC 8225. Read so that it can
//! be passed on by policy; its signature is not checked here.

use core::fmt;

use crate::error::Syntax;
use crate::limits::Limits;
use crate::params::{Param, Params, Value};
use crate::reader::Reader;
use crate::uri::Uri;

/// One Identity value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The signed token as it stood: base64url in three parts, the first two empty in the compact form; base64,
    /// mostly in quotes, in the form of RFC 4474, which stood before.
    pub digest: Value,
    /// Where the certificate of the signer is; in the older form a header field of its own says that.
    pub info: Option<Uri>,
    /// Other parameters: `alg`, `ppt` and extensions.
    pub params: Params,
}

impl Identity {
    /// The signature algorithm, `ES256` where none is named. RFC 8224 §4.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.params
            .value("alg")
            .map_or_else(|| "ES256".into(), |value| value.into_owned())
    }

    /// The kind of statement: `shaken` (RFC 8588), `div` (RFC 8946) or others; none is the basic one.
    #[must_use]
    pub fn extension(&self) -> Option<String> {
        self.params.value("ppt").map(|value| value.into_owned())
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limits: &Limits) -> Result<Self, Syntax> {
        if reader.peek() == Some(b'"') {
            return Ok(Self {
                digest: Value::parse(reader)?,
                info: None,
                params: Params::new(),
            });
        }
        let digest = reader.take_while(|octet| {
            octet.is_ascii_alphanumeric()
                || matches!(octet, b'-' | b'_' | b'=' | b'.' | b'+' | b'/')
        });
        if digest.is_empty() {
            return Err(Syntax::Token);
        }
        // RFC 4475 §3.1.1.11 has the older form without its quotes.
        if digest.split('.').count() != 3 {
            return Ok(Self {
                digest: Value::Plain(reader.text(digest)),
                info: None,
                params: Params::new(),
            });
        }
        let digest = Value::Plain(reader.text(digest));
        let mut info = None;
        let mut params = Params::new();
        while reader.separator(b';') {
            let before = reader.clone();
            let name = reader.token().map_err(|_| Syntax::Parameter)?;
            if name.eq_ignore_ascii_case("info") {
                if !reader.separator(b'=') {
                    return Err(Syntax::Parameter);
                }
                reader.expect(b'<', Syntax::AngleBrackets)?;
                let inside = reader.take_while(|octet| octet != b'>');
                reader.expect(b'>', Syntax::AngleBrackets)?;
                let uri = Uri::parse(reader.origin(), inside, limits)?;
                if info.replace(uri).is_some() {
                    return Err(Syntax::DuplicateParameter);
                }
            } else {
                *reader = before;
                params.add(Param::parse(reader)?, limits.parameters)?;
            }
        }
        Ok(Self {
            digest,
            info: Some(info.ok_or(Syntax::Parameter)?),
            params,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.fmt(f)?;
        if let Some(info) = &self.info {
            write!(f, ";info=<{info}>")?;
        }
        self.params.fmt(f)
    }
}
