//! TLS of the management pages: the private key stays with the keyholder, which signs each handshake. Versions, suites and
//! groups are the product's profile `default`: TLS 1.3 and 1.2 with forward secrecy and AES-GCM only.

use std::sync::{Arc, Mutex};

use broker_proto::keyholder::{FromKeyholder, ToKeyholder};
use rustls::{
    ServerConfig, SignatureAlgorithm, SignatureScheme,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite as suite, kx_group},
    },
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
    version::{TLS12, TLS13},
};

use super::link::{KeyholderLink, Unavailable, lock};

/// The certificate of the pages, once the keyholder has given it; signs through the keyholder.
pub(super) struct Resolver {
    keyholder: Arc<KeyholderLink>,
    name: Mutex<String>,
    certified: Mutex<Option<Arc<CertifiedKey>>>,
}

impl Resolver {
    /// Without a certificate yet: handshakes fail.
    pub(super) fn new(keyholder: Arc<KeyholderLink>) -> Arc<Self> {
        Arc::new(Self {
            keyholder,
            name: Mutex::new("management".into()),
            certified: Mutex::new(None),
        })
    }

    /// From now on the key of this name in the keyholder is used.
    pub(super) fn name(&self, name: &str) {
        name.clone_into(&mut lock(&self.name));
    }

    /// Asks the keyholder for the chain.
    ///
    /// # Errors
    /// The keyholder does not answer or has none; the earlier chain, if any, stays.
    pub(super) fn load(&self) -> Result<(), Unavailable> {
        let name = lock(&self.name).clone();
        let answer = self.keyholder.ask(|id| ToKeyholder::Certificate {
            id,
            key: name.clone(),
        })?;
        let FromKeyholder::Chain { der, schemes, .. } = answer else {
            return Err(Unavailable);
        };
        let schemes: Vec<SignatureScheme> =
            schemes.into_iter().map(SignatureScheme::from).collect();
        let key = Arc::new(KeyholderKey {
            keyholder: Arc::clone(&self.keyholder),
            name,
            schemes,
        });
        let chain = der.into_iter().map(CertificateDer::from).collect();
        *lock(&self.certified) = Some(Arc::new(CertifiedKey::new(chain, key)));
        Ok(())
    }

    /// Whether there is a certificate.
    pub(super) fn is_loaded(&self) -> bool {
        lock(&self.certified).is_some()
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        lock(&self.certified).clone()
    }
}

struct KeyholderKey {
    keyholder: Arc<KeyholderLink>,
    name: String,
    schemes: Vec<SignatureScheme>,
}

impl std::fmt::Debug for KeyholderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyholderKey")
    }
}

impl SigningKey for KeyholderKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self
            .schemes
            .iter()
            .find(|scheme| offered.contains(scheme))?;
        Some(Box::new(KeyholderSigner {
            keyholder: Arc::clone(&self.keyholder),
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

struct KeyholderSigner {
    keyholder: Arc<KeyholderLink>,
    name: String,
    scheme: SignatureScheme,
}

impl std::fmt::Debug for KeyholderSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyholderSigner")
    }
}

impl Signer for KeyholderSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let question = |id| ToKeyholder::Sign {
            id,
            key: self.name.clone(),
            scheme: self.scheme.into(),
            message: message.to_vec(),
        };
        match self.keyholder.ask(question) {
            Ok(FromKeyholder::Signature { signature, .. }) => Ok(signature),
            _ => Err(rustls::Error::General("the keyholder did not sign".into())),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Server side of TLS with `resolver`'s certificate. No session is resumed: operators are few, and no ticket key is kept.
///
/// # Errors
/// The library does not take the profile.
pub(super) fn server_config(resolver: Arc<Resolver>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::SECP384R1,
            kx_group::SECP256R1,
            kx_group::X25519,
        ],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.require_ems = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Lets the crypto library probe processor and randomness while the process still may: one key exchange.
///
/// # Errors
/// The library refuses.
pub(super) fn prime() -> Result<(), rustls::Error> {
    kx_group::X25519.start().map(|_| ())?;
    kx_group::X25519MLKEM768.start().map(|_| ())
}
