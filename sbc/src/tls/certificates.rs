//! Our certificates: chains as the keyholder gives them, which of a listener's is shown (SNI, RFC 6066 §3), and keys that
//! are no more than a name at the desk.

use std::sync::Arc;

use rustls::{
    SignatureAlgorithm, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};

use super::desk::Desk;

/// What the keyholder gives under one name: a chain and what its key signs with, or authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// DER; of a chain the leaf first.
    pub der: Vec<CertificateDer<'static>>,
    /// Best first; none for authorities.
    pub schemes: Vec<SignatureScheme>,
}

/// The chain of `name` with its key at the desk; `None` if there is no key.
#[must_use]
pub fn certified(name: &str, chain: &Chain, desk: &Desk) -> Option<Arc<CertifiedKey>> {
    (!chain.schemes.is_empty()).then(|| {
        let key = KeyAtDesk {
            desk: desk.clone(),
            name: name.to_owned(),
            schemes: chain.schemes.clone(),
        };
        Arc::new(CertifiedKey::new(chain.der.clone(), Arc::new(key)))
    })
}

/// A listener's certificates in their order.
pub struct Listeners(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl Listeners {
    /// These certificates; one that cannot be read speaks for no name.
    #[must_use]
    pub fn new(keys: Vec<Arc<CertifiedKey>>) -> Self {
        let named = keys.into_iter().map(|key| (dns_names(&key), key));
        Self(named.collect())
    }

    /// The first that speaks for `server_name` and can sign for this client; else the first that can sign.
    fn choose(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let able = || {
            self.0
                .iter()
                .filter(|(_, key)| key.key.choose_scheme(schemes).is_some())
        };
        let named = server_name.and_then(|wanted| {
            able().find(|(names, _)| names.iter().any(|name| speaks_for(name, wanted)))
        });
        named
            .or_else(|| able().next())
            .map(|(_, key)| Arc::clone(key))
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(names, _)| names))
            .finish()
    }
}

impl ResolvesServerCert for Listeners {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// What we show to a far end that asks for our certificate, or that there is none.
#[derive(Debug)]
pub struct Shown(pub Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.clone()?;
        shown.key.choose_scheme(schemes).map(|_| shown)
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

fn dns_names(key: &CertifiedKey) -> Vec<String> {
    let leaf = key.cert.first().map(webpki::EndEntityCert::try_from);
    leaf.and_then(Result::ok).map_or_else(Vec::new, |leaf| {
        leaf.valid_dns_names().map(str::to_owned).collect()
    })
}

/// RFC 6125 §6.4: names are compared without case; `*` stands for one label at the left.
fn speaks_for(name: &str, wanted: &str) -> bool {
    let wild = || {
        let rest = name.strip_prefix("*.")?;
        let (_, domain) = wanted.split_once('.')?;
        Some(domain.eq_ignore_ascii_case(rest))
    };
    name.eq_ignore_ascii_case(wanted) || wild().unwrap_or(false)
}

struct KeyAtDesk {
    desk: Desk,
    name: String,
    schemes: Vec<SignatureScheme>,
}

impl std::fmt::Debug for KeyAtDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyAtDesk({})", self.name)
    }
}

impl SigningKey for KeyAtDesk {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let mut ours = self.schemes.iter();
        let scheme = *ours.find(|scheme| offered.contains(scheme))?;
        Some(Box::new(SignerAtDesk {
            desk: self.desk.clone(),
            name: self.name.clone(),
            scheme,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.schemes.first() {
            Some(
                SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384,
            ) => SignatureAlgorithm::ECDSA,
            _ => SignatureAlgorithm::RSA,
        }
    }
}

struct SignerAtDesk {
    desk: Desk,
    name: String,
    scheme: SignatureScheme,
}

impl std::fmt::Debug for SignerAtDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignerAtDesk({})", self.name)
    }
}

impl Signer for SignerAtDesk {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.desk
            .sign(&self.name, self.scheme.into(), message)
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, hosts: &[&str], scheme: SignatureScheme) -> Arc<CertifiedKey> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        let chain = Chain {
            der: vec![made.cert.der().clone()],
            schemes: vec![scheme],
        };
        certified(name, &chain, &Desk::default()).unwrap()
    }

    #[test]
    fn the_certificate_that_speaks_for_the_wanted_host_is_shown_and_else_the_first() {
        let p256 = SignatureScheme::ECDSA_NISTP256_SHA256;
        let pss = SignatureScheme::RSA_PSS_SHA256;
        let a = key("a", &["a.example", "*.wild.example"], p256);
        let b = key("b", &["b.example"], p256);
        let rsa = key("c", &["b.example"], pss);
        let listeners = Listeners::new(vec![a.clone(), b.clone(), rsa.clone()]);
        let chosen = |name: Option<&str>, schemes: &[SignatureScheme]| {
            let chosen = listeners.choose(name, schemes);
            chosen.map(|key| key.cert.first().unwrap().clone())
        };
        let leaf = |key: &CertifiedKey| key.cert.first().cloned();
        let both = [p256, pss];
        for (name, expected) in [
            (None, &a),
            (Some("a.example"), &a),
            (Some("B.Example"), &b),
            (Some("x.wild.example"), &a),
            (Some("x.y.wild.example"), &a),
            (Some("unknown.example"), &a),
        ] {
            assert_eq!(chosen(name, &both), leaf(expected), "{name:?}");
        }
        assert_eq!(chosen(Some("b.example"), &[pss]), leaf(&rsa));
        assert_eq!(chosen(None, &[SignatureScheme::ED25519]), None);
    }

    #[test]
    fn authorities_are_no_certificate_to_show() {
        let chain = Chain {
            der: Vec::new(),
            schemes: Vec::new(),
        };
        assert!(certified("ca", &chain, &Desk::default()).is_none());
    }
}
