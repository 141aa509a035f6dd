//! Versions, cipher suites and groups: TLS 1.3 and 1.2, forward secrecy and authenticated encryption only (RFC 9325).

use std::sync::Arc;

use rustls::{
    SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite as suite, kx_group},
    },
    version::{TLS12, TLS13},
};

/// Allowed versions, best first.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// The crypto library with the allowed suites and groups alone.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        // X25519 before the rest: a telephone's handshake is one packet each way, and a wave of them is cheap.
        kx_groups: vec![
            kx_group::X25519,
            kx_group::X25519MLKEM768,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// Lets the crypto library probe processor and randomness while the process still may: one key exchange of each kind.
///
/// # Errors
/// The library refuses.
pub fn prime() -> Result<(), rustls::Error> {
    for group in &provider().kx_groups {
        group.start()?;
    }
    Ok(())
}
