//! Requests to the keyholder: it signs and computes digest responses; no key or password ever leaves it.

use serde::{Deserialize, Serialize};

use crate::{RequestId, settings::SecretId};

/// To the keyholder, from sbc or management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeyholder {
    /// The certificate chain of a key, DER each, leaf first; or, where no key belongs to the name, a bundle of authorities.
    Certificate {
        /// Pairs the answer.
        id: RequestId,
        /// Name of the key or bundle, `management`.
        key: String,
    },
    /// Sign `message` (at most 64 KiB) with a key under a TLS SignatureScheme (IANA number).
    Sign {
        /// Pairs the answer.
        id: RequestId,
        /// Name of the key.
        key: String,
        /// RFC 8446 §4.2.3 code point.
        scheme: u16,
        /// What to sign, unhashed.
        message: Vec<u8>,
    },
    /// A digest response (RFC 8760) with an account's password.
    Digest {
        /// Pairs the answer.
        id: RequestId,
        /// Whose password.
        secret: SecretId,
        /// `MD5` or `SHA-256`.
        algorithm: String,
        /// User name, realm, nonce, nc (8 hex digits), cnonce, qop (empty: RFC 2069 form), method, uri: in this order.
        parameters: [String; 8],
    },
    /// Does this password open this account? (management's API tokens and operator log-in; slow on purpose for passwords)
    Verify {
        /// Pairs the answer.
        id: RequestId,
        /// Name of the account or token, `api-token`.
        secret: SecretId,
        /// What was presented.
        presented: crate::control::SecretBytes,
    },
}

/// From the keyholder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeyholder {
    /// Answer to `Certificate`.
    Chain {
        /// Of the request.
        id: RequestId,
        /// DER, leaf first.
        der: Vec<Vec<u8>>,
        /// IANA numbers of the schemes the key can sign with, best first; none for a bundle of authorities.
        schemes: Vec<u16>,
    },
    /// Answer to `Sign`.
    Signature {
        /// Of the request.
        id: RequestId,
        /// As TLS wants it.
        signature: Vec<u8>,
    },
    /// Answer to `Digest`: lower-case hex.
    Response {
        /// Of the request.
        id: RequestId,
        /// The response value.
        response: String,
    },
    /// Answer to `Verify`.
    Verified {
        /// Of the request.
        id: RequestId,
        /// Whether it opens.
        opens: bool,
    },
    /// Not asked for: key or bundle of this name has changed. To the sbc alone.
    Changed {
        /// Its name.
        key: String,
    },
    /// No such key, not permitted, rate limit: not told which.
    Refused {
        /// Of the request.
        id: RequestId,
    },
}
