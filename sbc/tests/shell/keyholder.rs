//! A keyholder and a certification authority of the tests' own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use broker_proto::keyholder::{FromKeyholder, ToKeyholder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{
    SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::SigningKey,
};

use crate::house::End;

/// What a key may sign with, best first.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// A certification authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
pub struct Certified {
    pub der: CertificateDer<'static>,
    pub key: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for these hosts and addresses that is valid until `year`.
    pub fn issue(&self, hosts: &[&str], year: i32) -> Certified {
        self.issue_for(&KeyPair::generate().unwrap(), hosts, year)
    }

    /// The same of an RSA key.
    pub fn issue_rsa(&self, hosts: &[&str], year: i32) -> Certified {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        self.issue_for(&key, hosts, year)
    }

    fn issue_for(&self, key: &KeyPair, hosts: &[&str], year: i32) -> Certified {
        let mut parameters = CertificateParams::default();
        for host in hosts {
            parameters.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().unwrap()),
            });
        }
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.signed_by(key, &self.0).unwrap();
        Certified {
            der: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }
}

impl Certified {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }
}

type Entry = (Vec<Vec<u8>>, Option<Arc<dyn SigningKey>>);

/// Answers as the keyholder does.
#[derive(Clone, Default)]
pub struct Keyholder {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    /// What was signed so far.
    pub signatures: Arc<AtomicU32>,
}

impl Keyholder {
    pub fn certificate(&self, name: &str, certified: &Certified) {
        let key = any_supported_type(&certified.private_key()).unwrap();
        let entry = (vec![certified.der.to_vec()], Some(key));
        self.entries.lock().unwrap().insert(name.into(), entry);
    }

    pub fn authority(&self, name: &str, authority: &Authority) {
        let entry = (vec![authority.der().to_vec()], None);
        self.entries.lock().unwrap().insert(name.into(), entry);
    }

    /// Serves until the far end is gone.
    pub fn serve(&self, end: Arc<End>) {
        let (entries, signatures) = (Arc::clone(&self.entries), Arc::clone(&self.signatures));
        thread::spawn(move || {
            while let Some(request) = end.next::<ToKeyholder>(Duration::from_secs(60)) {
                let answer = answer(&entries.lock().unwrap(), &request);
                let signed = matches!(answer, FromKeyholder::Signature { .. });
                signatures.fetch_add(u32::from(signed), Ordering::Relaxed);
                end.send(&answer, Vec::new());
            }
        });
    }
}

fn answer(entries: &BTreeMap<String, Entry>, request: &ToKeyholder) -> FromKeyholder {
    match request {
        ToKeyholder::Certificate { id, key } => match entries.get(key) {
            Some((der, signing)) => FromKeyholder::Chain {
                id: *id,
                der: der.clone(),
                schemes: signing.iter().flat_map(schemes).map(u16::from).collect(),
            },
            None => FromKeyholder::Refused { id: *id },
        },
        ToKeyholder::Sign {
            id,
            key,
            message,
            scheme,
        } => {
            let signing = entries.get(key).and_then(|(_, signing)| signing.clone());
            let scheme = SignatureScheme::from(*scheme);
            let signer = signing.and_then(|signing| signing.choose_scheme(&[scheme]));
            match signer {
                Some(signer) => FromKeyholder::Signature {
                    id: *id,
                    signature: signer.sign(message).unwrap(),
                },
                None => FromKeyholder::Refused { id: *id },
            }
        }
        other => panic!("{other:?}"),
    }
}

fn schemes(key: &Arc<dyn SigningKey>) -> impl Iterator<Item = SignatureScheme> {
    let able = SCHEMES.map(|scheme| key.choose_scheme(&[scheme]).map(|_| scheme));
    able.into_iter().flatten()
}
