//! Digest challenges that are answered for our own registrations. RFC 7616, RFC 8760. The response value is computed by
//! the keyholder.

use sbc_sip::{
    digest::{Algorithm, Auth, Quality},
    headers::Field,
    message::{Request, Response},
};

/// A challenge that we can answer, with everything but the response value.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    proxy: bool,
    challenge: Auth,
    algorithm: Algorithm,
    user: String,
    cnonce: String,
    uri: String,
}

/// The best challenge for `realm` in a response: SHA-256 before MD5 (RFC 8760 §2.4), with `auth` or without quality of
/// protection. `None`: no such challenge.
pub(crate) fn prepare(
    response: &Response,
    realm: &str,
    user: &str,
    cnonce: &str,
    uri: &str,
) -> Option<Prepared> {
    let rank = |algorithm| match algorithm {
        Algorithm::Sha256 => Some(1),
        Algorithm::Md5 => Some(0),
        Algorithm::Md5Sess | Algorithm::Sha256Sess => None,
    };
    let usable = |(proxy, challenge): (bool, &Auth)| {
        let algorithm = challenge.algorithm()?;
        let ours = challenge.is_digest()
            && challenge
                .params
                .value("realm")
                .is_some_and(|have| have == realm);
        let quality = challenge.offers_auth() || challenge.params.value("qop").is_none();
        let nonce = challenge.params.value("nonce").is_some();
        (ours && quality && nonce)
            .then(|| Some((rank(algorithm)?, proxy, challenge.clone(), algorithm)))?
    };
    let (_, proxy, challenge, algorithm) = response
        .headers
        .challenges()
        .filter_map(usable)
        .max_by_key(|(rank, ..)| *rank)?;
    let [user, cnonce, uri] = [user, cnonce, uri].map(str::to_owned);
    Some(Prepared {
        proxy,
        challenge,
        algorithm,
        user,
        cnonce,
        uri,
    })
}

impl Prepared {
    pub(crate) const fn algorithm(&self) -> &'static str {
        self.algorithm.as_str()
    }

    /// What the keyholder wants to know, in its order.
    pub(crate) fn parameters(&self, method: &str) -> [String; 8] {
        let of_challenge = |name| {
            self.challenge
                .params
                .value(name)
                .unwrap_or_default()
                .into_owned()
        };
        let quality = if self.challenge.offers_auth() {
            "auth"
        } else {
            ""
        };
        [
            self.user.clone(),
            of_challenge("realm"),
            of_challenge("nonce"),
            "00000001".to_owned(),
            self.cnonce.clone(),
            quality.to_owned(),
            method.to_owned(),
            self.uri.clone(),
        ]
    }

    /// Write the credentials into a request.
    pub(crate) fn write(&self, request: &mut Request, response: &str) {
        let quality = self.challenge.offers_auth().then_some(Quality {
            cnonce: &self.cnonce,
            count: 1,
        });
        if let Some(credentials) = self
            .challenge
            .answer(&self.user, &self.uri, quality, response)
        {
            request.headers.push(match self.proxy {
                true => Field::ProxyAuthorization(credentials),
                false => Field::Authorization(credentials),
            });
        }
    }
}
