//! Secrets that a configuration needs and nobody gave: the API token, keys and certificates of management pages and SIP. Made
//! here, where randomness is the kernel's, and stored with the revision that needs them.

use std::net::IpAddr;

use appliance_config::Document;
use broker_proto::control::SecretBytes;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, SanType,
};
use sha2::{Digest, Sha256};

use crate::keyholder::password;

/// Why secrets could not be completed; for the person at the console.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// The password breaks a rule.
    #[error("the management password: {0}")]
    Password(#[from] password::PasswordError),
    /// Not a text.
    #[error("the management password is not a text")]
    NotText,
    /// The crypto library refuses.
    #[error("the certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// No randomness.
    #[error("the kernel gives no random numbers: {0}")]
    Random(#[from] std::io::Error),
}

/// Key and certificate of the management pages, made before the first configuration is confirmed so that its fingerprint
/// can be read there; in memory alone. One exists at most.
pub struct Prepared {
    names: (String, Vec<IpAddr>),
    pem: SecretBytes,
}

impl Prepared {
    /// For the host and the management addresses of a document.
    ///
    /// # Errors
    /// The crypto library's.
    pub(super) fn make(document: &Document) -> Result<Self, SecretError> {
        Ok(Self {
            names: names(document),
            pem: certificate(names(document))?,
        })
    }

    /// Whether it was made for these names.
    pub(super) fn fits(&self, document: &Document) -> bool {
        self.names == names(document)
    }

    /// As [`fingerprint`].
    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.pem.0).unwrap_or_default()
    }
}

/// What the certificate of a document is for.
fn names(document: &Document) -> (String, Vec<IpAddr>) {
    let zone = document.management_zone();
    let addresses = zone
        .map(appliance_config::Zone::addresses)
        .unwrap_or_default();
    (document.host.name.clone(), addresses)
}

/// Replaces a plain operator's password by its slow hash, and adds the token and the certificate if neither `given` nor
/// `present` (names of stored secrets) has them: the certificate that was `prepared`, if it fits.
///
/// # Errors
/// See [`SecretError`]; nothing is stored then.
pub(super) fn complete(
    document: &Document,
    mut given: Vec<(String, SecretBytes)>,
    present: &[String],
    prepared: Option<&Prepared>,
) -> Result<Vec<(String, SecretBytes)>, SecretError> {
    for (name, value) in &mut given {
        if *name == document.management.password && !value.0.starts_with(b"$argon2") {
            let text = std::str::from_utf8(&value.0).map_err(|_| SecretError::NotText)?;
            let hash = password::hash(text.trim_end_matches(['\r', '\n']), &random()?)?;
            *value = SecretBytes(hash.into_bytes());
        }
    }
    let has = |given: &[(String, SecretBytes)], name: &String| {
        present.contains(name) || given.iter().any(|(own, _)| own == name)
    };
    if !has(&given, &document.management.token) {
        let token: String = random::<32>()?
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        given.push((
            document.management.token.clone(),
            SecretBytes(token.into_bytes()),
        ));
    }
    if !has(&given, &document.management.certificate) {
        let pem = match prepared.filter(|prepared| prepared.fits(document)) {
            Some(prepared) => prepared.pem.clone(),
            None => certificate(names(document))?,
        };
        given.push((document.management.certificate.clone(), pem));
    }
    // A listener answers from the first start; its telephones believe it once it has a certificate that they know.
    for listener in &document.listeners {
        for name in &listener.certificates {
            if !has(&given, name) {
                let zone = document.zone(&listener.zone);
                let addresses = zone.map(|(_, zone)| zone.addresses());
                let named = (document.sip.domain.clone(), addresses.unwrap_or_default());
                given.push((name.clone(), certificate(named)?));
            }
        }
    }
    Ok(given)
}

/// Self-signed certificate and key for this name and these addresses, as one PEM text.
fn certificate((host, addresses): (String, Vec<IpAddr>)) -> Result<SecretBytes, SecretError> {
    let mut parameters = CertificateParams::new(vec![host.clone()])?;
    parameters
        .subject_alt_names
        .extend(addresses.into_iter().map(SanType::IpAddress));
    parameters.distinguished_name.push(DnType::CommonName, host);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Clocks of new machines are wrong, so validity begins long ago; browsers refuse more than a person can trust anyway,
    // and the operator compares the fingerprint.
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2049, 12, 31);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let certificate = parameters.self_signed(&key)?;
    Ok(SecretBytes(
        (certificate.pem() + &key.serialize_pem()).into_bytes(),
    ))
}

/// SHA-256 of the first certificate of a PEM text as browsers print it, `AB:CD:…`; `None` if there is none.
#[must_use]
pub(super) fn fingerprint(pem: &[u8]) -> Option<String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let parts: Vec<String> = Sha256::digest(&certificate)
        .iter()
        .map(|octet| format!("{octet:02X}"))
        .collect();
    Some(parts.join(":"))
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    use rand::TryRngCore as _;
    let mut octets = [0; N];
    rand::rngs::OsRng
        .try_fill_bytes(&mut octets)
        .map_err(std::io::Error::other)?;
    Ok(octets)
}
