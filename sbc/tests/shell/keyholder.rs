//! A keyholder and a certification authority of the tests' own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
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

const P256: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

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
        let mut parameters = CertificateParams::default();
        for host in hosts {
            parameters.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().unwrap()),
            });
        }
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
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
pub struct Keyholder(Arc<Mutex<BTreeMap<String, Entry>>>);

impl Keyholder {
    pub fn certificate(&self, name: &str, certified: &Certified) {
        let key = any_supported_type(&certified.private_key()).unwrap();
        let entry = (vec![certified.der.to_vec()], Some(key));
        self.0.lock().unwrap().insert(name.into(), entry);
    }

    pub fn authority(&self, name: &str, authority: &Authority) {
        let entry = (vec![authority.der().to_vec()], None);
        self.0.lock().unwrap().insert(name.into(), entry);
    }

    /// Serves until the far end is gone.
    pub fn serve(&self, end: Arc<End>) {
        let entries = Arc::clone(&self.0);
        thread::spawn(move || {
            while let Some(request) = end.next::<ToKeyholder>(Duration::from_secs(60)) {
                let answer = answer(&entries.lock().unwrap(), &request);
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
                schemes: signing.iter().map(|_| P256.into()).collect(),
            },
            None => FromKeyholder::Refused { id: *id },
        },
        ToKeyholder::Sign {
            id, key, message, ..
        } => {
            let signing = entries.get(key).and_then(|(_, signing)| signing.clone());
            let signer = signing.and_then(|signing| signing.choose_scheme(&[P256]));
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
