//! Test certificates of the laboratory (lab contract §5), valid for 30 days, made when they are missing or about to end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::root;

const DAY: Duration = Duration::from_secs(86_400);
/// Validity of everything but `expired.pem`.
const VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// Age at which the set is made anew.
const RENEWAL: Duration = Duration::from_secs(25 * 86_400);

/// The folder: `GH_PKI`, or `tests/lab/pki`.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("GH_PKI").map_or_else(|| root().join("tests/lab/pki"), PathBuf::from)
}

/// Makes the set unless a fresh one is there.
///
/// # Errors
/// The folder cannot be written, or the crypto library refuses.
pub fn ensure() -> io::Result<PathBuf> {
    let folder = folder();
    let fresh = fs::metadata(folder.join("expired.key"))
        .and_then(|file| file.modified())
        .is_ok_and(|made| {
            SystemTime::now()
                .duration_since(made)
                .is_ok_and(|age| age < RENEWAL)
        });
    if !fresh {
        make(&folder).map_err(io::Error::other)?;
    }
    Ok(folder)
}

fn make(folder: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    fs::create_dir_all(folder)?;
    let now = SystemTime::now();
    let (ca, ca_certificate) = authority("Gatehouse Lab CA", now)?;
    fs::write(folder.join("ca.pem"), ca_certificate.pem())?;
    write_key(folder, "ca", ca.key())?;
    let (rogue_ca, _) = authority("Rogue CA", now)?;
    let valid = (now - DAY, now + VALIDITY);
    let sbc = [
        "sbc.lab.test",
        "lab.test",
        "198.51.100.1",
        "192.0.2.1",
        "2001:db8:e::1",
    ];
    let management = ["mgmt.lab.test", "203.0.113.1", "2001:db8:2::1"];
    let trunk = ["trunk1.lab.test", "198.51.100.20"];
    issue(folder, "sbc", &sbc, &ca, valid)?;
    issue(folder, "mgmt", &management, &ca, valid)?;
    issue(folder, "trunk1", &trunk, &ca, valid)?;
    issue(folder, "rogue", &trunk, &rogue_ca, valid)?;
    issue(folder, "expired", &trunk, &ca, (now - VALIDITY, now - DAY))
}

fn authority(
    name: &str,
    now: SystemTime,
) -> Result<(Issuer<'static, KeyPair>, Certificate), Box<dyn std::error::Error + Send + Sync>> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_before = (now - DAY).into();
    parameters.not_after = (now + VALIDITY).into();
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((Issuer::new(parameters, key), certificate))
}

fn issue(
    folder: &Path,
    name: &str,
    names: &[&str],
    issuer: &Issuer<'static, KeyPair>,
    (from, to): (SystemTime, SystemTime),
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut parameters = CertificateParams::new(
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    )?;
    if let Some(first) = names.first() {
        parameters
            .distinguished_name
            .push(DnType::CommonName, *first);
    }
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.use_authority_key_identifier_extension = true;
    parameters.not_before = from.into();
    parameters.not_after = to.into();
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?;
    fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    write_key(folder, name, &key)
}

fn write_key(
    folder: &Path,
    name: &str,
    key: &KeyPair,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    io::Write::write_all(
        &mut options.open(folder.join(format!("{name}.key")))?,
        key.serialize_pem().as_bytes(),
    )?;
    Ok(())
}
