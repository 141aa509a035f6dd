//! The keyholder: private keys and passwords live here and nowhere else. It signs, computes digest responses and says yes or
//! no; no request makes it give a secret away, and it has no network, no file and no directory. Init hands it its secrets
//! over the control channel at start.
//!
//! A secret is what its bytes say: PEM with a private key is a TLS key with its certificate chain, a text that begins with
//! `$argon2` is an operator's password as hash, anything else a password or token as it is.

mod digest;
pub mod password;

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use appliance_config::Document;
use broker_proto::{
    Role,
    control::{ChannelKind, FromChild, SecretBytes, ToChild},
    decode,
    keyholder::{FromKeyholder, ToKeyholder},
    settings::SecretId,
};
use rustls::{
    SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::SigningKey,
};
use sandbox::{Profile, channel::Channel};
use subtle::ConstantTimeEq;

use crate::dispatch::{Dispatch, Incoming};

/// Signatures a second that one process may ask for, and how many at once: management's few pages; the sbc's telephones,
/// all of which come back after a power cut.
const SIGN_RATE: (f64, f64) = (200.0, 400.0);
const SBC_SIGN_RATE: (f64, f64) = (4_000.0, 8_000.0);
/// Digest responses: a trunk needs one per registration.
const DIGEST_RATE: (f64, f64) = (20.0, 50.0);
/// Verifications of tokens and passwords; wrong ones slow further ones down.
const VERIFY_RATE: (f64, f64) = (50.0, 100.0);
/// Most secrets held.
const MAX_SECRETS: usize = 1_024;

/// Signature schemes offered, best first (security profile: no SHA-1, ECDSA and RSA-PSS). PKCS#1 v1.5 last, for telephones
/// that know TLS 1.2 and nothing better; TLS 1.3 has no place for it (RFC 8446 §4.4.3).
const SCHEMES: [SignatureScheme; 8] = [
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// The secrets and who may use which.
#[derive(Default)]
pub struct Keyholder {
    secrets: BTreeMap<String, SecretBytes>,
    keys: BTreeMap<String, Arc<dyn SigningKey>>,
    buckets: BTreeMap<(Role, Kind), Bucket>,
    management_key: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sign,
    Digest,
    Verify,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Keyholder {
    /// Takes a secret, in place of an earlier one of the same name. A private key that cannot be read is refused. True if
    /// certificates came by it that were not there before.
    ///
    /// # Errors
    /// A sentence without the secret.
    pub fn insert(&mut self, name: &str, value: SecretBytes) -> Result<bool, &'static str> {
        if self.secrets.len() >= MAX_SECRETS && !self.secrets.contains_key(name) {
            return Err("too many secrets");
        }
        if is_private_key(&value.0) {
            let der = PrivateKeyDer::from_pem_slice(&value.0)
                .map_err(|_| "not a private key in PEM form")?;
            let signing = any_supported_type(&der)
                .map_err(|_| "private key of a kind that is not supported")?;
            self.keys.insert(name.to_owned(), signing);
        } else {
            self.keys.remove(name);
        }
        let certified = value
            .0
            .windows(CERTIFICATE.len())
            .any(|window| window == CERTIFICATE);
        let earlier = self.secrets.insert(name.to_owned(), value);
        Ok(certified && earlier.as_ref() != self.secrets.get(name))
    }

    /// Answers `role`'s request. Whatever is wrong, the asker learns only that it was refused; the log says why.
    pub fn answer(&mut self, now: Instant, role: Role, request: &ToKeyholder) -> FromKeyholder {
        let (id, result) = match request {
            ToKeyholder::Certificate { id, key } => (*id, self.certificate(role, *id, key)),
            ToKeyholder::Sign {
                id,
                key,
                scheme,
                message,
            } => (*id, self.sign(now, role, *id, key, *scheme, message)),
            ToKeyholder::Digest {
                id,
                secret,
                algorithm,
                parameters,
            } => (
                *id,
                self.digest(now, role, *id, secret, algorithm, parameters),
            ),
            ToKeyholder::Verify {
                id,
                secret,
                presented,
            } => (*id, self.verify(now, role, *id, secret, presented)),
        };
        result.unwrap_or_else(|reason| {
            tracing::warn!(role = role.name(), reason, "request refused");
            FromKeyholder::Refused { id }
        })
    }

    /// From now on management uses the key of this name and the sbc all others.
    pub fn management_key(&mut self, name: &str) {
        self.management_key = Some(name.to_owned());
    }

    /// Management uses the key of its own pages; all others are for the sbc.
    fn permitted(&self, role: Role, key: &str) -> Result<(), &'static str> {
        let of_management = key == self.management_key.as_deref().unwrap_or(MANAGEMENT_KEY);
        match role {
            Role::Management if of_management => Ok(()),
            Role::Sbc if !of_management => Ok(()),
            _ => Err("the role may not use this key"),
        }
    }

    /// A secret that is no private key, without the line end of its file.
    fn plain(&self, secret: &SecretId) -> Option<&[u8]> {
        let value = self.secrets.get(&secret.0)?;
        (!self.keys.contains_key(&secret.0)).then(|| trimmed(&value.0))
    }

    fn certificate(
        &self,
        role: Role,
        id: broker_proto::RequestId,
        key: &str,
    ) -> Result<FromKeyholder, &'static str> {
        self.permitted(role, key)?;
        let pem = self.secrets.get(key).ok_or("no such certificate")?;
        let signing = self.keys.get(key);
        let der: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&pem.0)
            .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| "certificate chain is not PEM")?;
        if der.is_empty() {
            return Err("no certificate under this name");
        }
        let schemes = SCHEMES
            .iter()
            .filter(|scheme| signing.is_some_and(|key| key.choose_scheme(&[**scheme]).is_some()))
            .map(|scheme| u16::from(*scheme))
            .collect();
        Ok(FromKeyholder::Chain { id, der, schemes })
    }

    fn sign(
        &mut self,
        now: Instant,
        role: Role,
        id: broker_proto::RequestId,
        key: &str,
        scheme: u16,
        message: &[u8],
    ) -> Result<FromKeyholder, &'static str> {
        self.permitted(role, key)?;
        let rate = if role == Role::Sbc {
            SBC_SIGN_RATE
        } else {
            SIGN_RATE
        };
        self.take(now, role, Kind::Sign, rate)?;
        let scheme = SignatureScheme::from(scheme);
        if !SCHEMES.contains(&scheme) {
            return Err("signature scheme not offered");
        }
        let signing = self.keys.get(key).ok_or("no such key")?;
        let signer = signing
            .choose_scheme(&[scheme])
            .ok_or("the key cannot sign under this scheme")?;
        let signature = signer.sign(message).map_err(|_| "signature failed")?;
        Ok(FromKeyholder::Signature { id, signature })
    }

    fn digest(
        &mut self,
        now: Instant,
        role: Role,
        id: broker_proto::RequestId,
        secret: &SecretId,
        algorithm: &str,
        parameters: &[String; 8],
    ) -> Result<FromKeyholder, &'static str> {
        if role != Role::Sbc {
            return Err("only the sbc answers challenges");
        }
        self.take(now, role, Kind::Digest, DIGEST_RATE)?;
        let password = self.plain(secret).ok_or("no such password")?;
        let [user, realm, nonce, count, client_nonce, qop, method, uri] = parameters;
        let parameters = digest::Parameters {
            user,
            realm,
            nonce,
            count,
            client_nonce,
            qop,
            method,
            uri,
        };
        let response = digest::response(algorithm, &parameters, password)
            .ok_or("digest parameters refused")?;
        Ok(FromKeyholder::Response { id, response })
    }

    fn verify(
        &mut self,
        now: Instant,
        role: Role,
        id: broker_proto::RequestId,
        secret: &SecretId,
        presented: &SecretBytes,
    ) -> Result<FromKeyholder, &'static str> {
        if !matches!(role, Role::Management | Role::Init) {
            return Err("only management and init (for the console) verify log-ins");
        }
        self.take(now, role, Kind::Verify, VERIFY_RATE)?;
        let opens = self.plain(secret).is_some_and(|stored| {
            if stored.starts_with(HASH_PREFIX) {
                std::str::from_utf8(stored)
                    .is_ok_and(|stored| password::verify(&presented.0, stored))
            } else {
                !stored.is_empty() && bool::from(stored.ct_eq(&presented.0))
            }
        });
        Ok(FromKeyholder::Verified { id, opens })
    }

    fn take(
        &mut self,
        now: Instant,
        role: Role,
        kind: Kind,
        (rate, burst): (f64, f64),
    ) -> Result<(), &'static str> {
        let bucket = self.buckets.entry((role, kind)).or_insert(Bucket {
            tokens: burst,
            filled: now,
        });
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * rate).min(burst);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err("rate limit");
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

/// The key of the management pages by default.
const MANAGEMENT_KEY: &str = "management";

/// Begins every certificate in PEM form.
const CERTIFICATE: &[u8] = b"BEGIN CERTIFICATE-";

/// Begins every Argon2 hash in PHC form.
const HASH_PREFIX: &[u8] = b"$argon2";

fn is_private_key(bytes: &[u8]) -> bool {
    bytes.windows(12).any(|window| window == b"PRIVATE KEY-")
}

/// A secret from a file ends before its line end.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|octet| !matches!(octet, b'\r' | b'\n'))
        .map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

/// The process: seals itself, serves until init says stop or is gone.
///
/// # Errors
/// Init is gone, or the sandbox could not be sealed.
pub fn serve(control: Channel, profile: &Profile) -> Result<(), Box<dyn std::error::Error>> {
    prime()?;
    let mut keyholder = Keyholder::default();
    let mut dispatch = Dispatch::new(control);
    sandbox::seal(profile)?;
    dispatch.tell_init(&FromChild::Ready)?;
    loop {
        for message in dispatch.wait(None)? {
            let now = Instant::now();
            match message {
                Incoming::Control(ToChild::Stop, _) => return Ok(()),
                Incoming::Control(ToChild::Secret { name, value }, _) => {
                    match keyholder.insert(&name, value) {
                        Ok(true) if keyholder.permitted(Role::Sbc, &name).is_ok() => {
                            let changed = FromKeyholder::Changed { key: name };
                            dispatch.answer(Role::Sbc, ChannelKind::Keyholder, &changed);
                        }
                        Ok(_) => {}
                        Err(reason) => tracing::error!(name, reason, "secret refused"),
                    }
                }
                Incoming::Control(ToChild::Configuration { document, .. }, _) => {
                    if let Ok(document) = Document::parse(&document, "gatehouse.toml") {
                        keyholder.management_key(&document.management.certificate);
                    }
                }
                Incoming::Peer(role, ChannelKind::Keyholder, bytes) => {
                    match decode::<ToKeyholder>(&bytes) {
                        Ok(request) => {
                            let answer = keyholder.answer(now, role, &request);
                            dispatch.answer(role, ChannelKind::Keyholder, &answer);
                        }
                        Err(error) => tracing::warn!(role = role.name(), %error, "message refused"),
                    }
                }
                Incoming::Control(..) | Incoming::Peer(..) => {}
            }
        }
    }
}

/// Lets the crypto library probe processor and randomness while it still may: one signature with a key that is thrown away.
fn prime() -> io::Result<()> {
    let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
    let mut keyholder = Keyholder::default();
    keyholder
        .insert("prime", SecretBytes(key.serialize_pem().into_bytes()))
        .map_err(io::Error::other)?;
    let request = ToKeyholder::Sign {
        id: broker_proto::RequestId(0),
        key: "prime".into(),
        scheme: SignatureScheme::ECDSA_NISTP256_SHA256.into(),
        message: b"known answer".to_vec(),
    };
    match keyholder.answer(Instant::now() + Duration::from_secs(1), Role::Sbc, &request) {
        FromKeyholder::Signature { .. } => Ok(()),
        _ => Err(io::Error::other("the crypto library does not sign")),
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::RequestId;

    use super::*;

    const ID: RequestId = RequestId(1);

    fn keyholder() -> Keyholder {
        let mut keyholder = Keyholder::default();
        let key = rcgen::generate_simple_self_signed(vec!["mgmt.lab.test".into()]).unwrap();
        let bundle = key.cert.pem() + &key.signing_key.serialize_pem();
        for (name, value) in [
            ("management", bundle.into_bytes()),
            ("trunk2", b"trunk2-Pw-2000\n".to_vec()),
            ("api-token", b"lab-token\n".to_vec()),
            (
                "admin",
                password::hash("correct horse battery", &[1; 16])
                    .unwrap()
                    .into_bytes(),
            ),
        ] {
            keyholder.insert(name, SecretBytes(value)).unwrap();
        }
        keyholder
    }

    fn sign(role: Role, scheme: u16) -> FromKeyholder {
        let request = ToKeyholder::Sign {
            id: ID,
            key: "management".into(),
            scheme,
            message: b"x".to_vec(),
        };
        keyholder().answer(Instant::now(), role, &request)
    }

    #[test]
    fn management_gets_signatures_under_offered_schemes_only() {
        let p256 = u16::from(SignatureScheme::ECDSA_NISTP256_SHA256);
        assert!(matches!(
            sign(Role::Management, p256),
            FromKeyholder::Signature { .. }
        ));
        assert_eq!(
            sign(Role::Management, u16::from(SignatureScheme::RSA_PKCS1_SHA1)),
            FromKeyholder::Refused { id: ID }
        );
        assert_eq!(
            sign(Role::Management, u16::from(SignatureScheme::RSA_PSS_SHA256)),
            FromKeyholder::Refused { id: ID }
        );
    }

    #[test]
    fn the_sbc_may_not_use_the_key_of_management() {
        let p256 = u16::from(SignatureScheme::ECDSA_NISTP256_SHA256);
        assert_eq!(sign(Role::Sbc, p256), FromKeyholder::Refused { id: ID });
        assert_eq!(sign(Role::Time, p256), FromKeyholder::Refused { id: ID });
    }

    #[test]
    fn a_bundle_of_authorities_is_given_without_schemes_and_a_password_is_no_bundle() {
        let mut keyholder = keyholder();
        let authority = rcgen::generate_simple_self_signed(vec!["ca".into()]).unwrap();
        let bundle = SecretBytes(authority.cert.pem().into_bytes());
        assert_eq!(keyholder.insert("lab-ca", bundle.clone()), Ok(true));
        assert_eq!(keyholder.insert("lab-ca", bundle), Ok(false), "nothing new");
        let mut ask = |key: &str| {
            let request = ToKeyholder::Certificate {
                id: ID,
                key: key.into(),
            };
            keyholder.answer(Instant::now(), Role::Sbc, &request)
        };
        let expected = FromKeyholder::Chain {
            id: ID,
            der: vec![authority.cert.der().to_vec()],
            schemes: Vec::new(),
        };
        assert_eq!(ask("lab-ca"), expected);
        assert_eq!(ask("trunk2"), FromKeyholder::Refused { id: ID });
        assert_eq!(ask("management"), FromKeyholder::Refused { id: ID });
    }

    #[test]
    fn tokens_and_passwords_open_only_for_management() {
        let mut keyholder = keyholder();
        let mut ask = |role, name: &str, presented: &[u8]| {
            let request = ToKeyholder::Verify {
                id: ID,
                secret: SecretId(name.into()),
                presented: SecretBytes(presented.to_vec()),
            };
            keyholder.answer(Instant::now(), role, &request)
        };
        assert_eq!(
            ask(Role::Management, "api-token", b"lab-token"),
            FromKeyholder::Verified {
                id: ID,
                opens: true
            }
        );
        assert_eq!(
            ask(Role::Management, "api-token", b"lab-toke"),
            FromKeyholder::Verified {
                id: ID,
                opens: false
            }
        );
        assert_eq!(
            ask(Role::Management, "api-token", b""),
            FromKeyholder::Verified {
                id: ID,
                opens: false
            }
        );
        assert_eq!(
            ask(Role::Management, "nobody", b""),
            FromKeyholder::Verified {
                id: ID,
                opens: false
            }
        );
        assert_eq!(
            ask(Role::Management, "admin", b"correct horse battery"),
            FromKeyholder::Verified {
                id: ID,
                opens: true
            }
        );
        assert_eq!(
            ask(Role::Sbc, "api-token", b"lab-token"),
            FromKeyholder::Refused { id: ID }
        );
    }

    #[test]
    fn no_answer_contains_a_password() {
        let mut keyholder = keyholder();
        let parameters = [
            "gatehouse",
            "trunk2.test",
            "n",
            "00000001",
            "c",
            "auth",
            "REGISTER",
            "sip:trunk2.test",
        ];
        let request = ToKeyholder::Digest {
            id: ID,
            secret: SecretId("trunk2".into()),
            algorithm: "SHA-256".into(),
            parameters: parameters.map(str::to_owned),
        };
        let FromKeyholder::Response { response, .. } =
            keyholder.answer(Instant::now(), Role::Sbc, &request)
        else {
            panic!("refused");
        };
        assert_eq!(response.len(), 64);
        assert_eq!(
            keyholder.answer(Instant::now(), Role::Management, &request),
            FromKeyholder::Refused { id: ID }
        );
        assert!(!format!("{request:?}").contains("trunk2-Pw"));
    }

    #[test]
    fn a_private_key_is_no_password() {
        let bundle = keyholder().secrets.remove("management").unwrap();
        let request = ToKeyholder::Verify {
            id: ID,
            secret: SecretId("management".into()),
            presented: SecretBytes(bundle.0.clone()),
        };
        let answer = keyholder().answer(Instant::now(), Role::Management, &request);
        assert_eq!(
            answer,
            FromKeyholder::Verified {
                id: ID,
                opens: false
            }
        );
    }

    #[test]
    fn a_flood_of_requests_is_refused_beyond_the_burst() {
        let mut keyholder = keyholder();
        let now = Instant::now();
        let request = ToKeyholder::Verify {
            id: ID,
            secret: SecretId("api-token".into()),
            presented: SecretBytes(b"guess".to_vec()),
        };
        let answered = (0..1_000)
            .filter(|_| {
                matches!(
                    keyholder.answer(now, Role::Management, &request),
                    FromKeyholder::Verified { .. }
                )
            })
            .count();
        assert_eq!(answered, 100);
    }
}
