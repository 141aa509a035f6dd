//! Session keys out of a master key: RFC 3711 §4.3 with the counter mode of the key's own length (RFC 6188 §3, RFC 7714
//! §11). The key derivation rate is 0: keys are derived once.

use aws_lc_rs::{
    aead::{self, LessSafeKey, UnboundKey},
    cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    hmac,
    iv::FixedLength,
};
use zeroize::Zeroizing;

use super::{MasterKey, Suite};

/// RFC 3711 §4.3.1: labels of SRTP; SRTCP's are three more.
const ENCRYPTION: u8 = 0;
const AUTHENTICATION: u8 = 1;
const SALT: u8 = 2;
/// Octets of the HMAC-SHA1 key (RFC 3711 §5.2).
const AUTHENTICATION_OCTETS: usize = 20;

/// What a kind of packet is sealed with.
pub(super) enum Cipher {
    /// Counter mode, then HMAC-SHA1 over it.
    Counter {
        key: Box<EncryptingKey>,
        tag: Box<hmac::Key>,
        salt: [u8; 14],
    },
    /// GCM.
    Gcm { key: LessSafeKey, salt: [u8; 12] },
}

/// Which packets a key is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rtp,
    Rtcp,
}

/// Derives what seals packets of a kind.
pub(super) fn derive(master: &MasterKey, kind: Kind) -> Result<Cipher, Unspecified> {
    let first = if kind == Kind::Rtp { 0 } else { 3 };
    let suite = master.suite();
    let mut key = Zeroizing::new([0_u8; 32]);
    let key = key.get_mut(..suite.key_octets()).ok_or(Unspecified)?;
    stream(master, first + ENCRYPTION, key)?;
    if suite.is_aead() {
        let mut salt = [0; 12];
        stream(master, first + SALT, &mut salt)?;
        let algorithm = match suite {
            Suite::AeadAes256Gcm => &aead::AES_256_GCM,
            _ => &aead::AES_128_GCM,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key)?);
        return Ok(Cipher::Gcm { key, salt });
    }
    let mut tag = Zeroizing::new([0; AUTHENTICATION_OCTETS]);
    stream(master, first + AUTHENTICATION, &mut *tag)?;
    let mut salt = [0; 14];
    stream(master, first + SALT, &mut salt)?;
    Ok(Cipher::Counter {
        key: Box::new(counter(key)?),
        tag: Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &*tag)),
        salt,
    })
}

/// AES in counter mode with a key of 16 or 32 octets.
fn counter(key: &[u8]) -> Result<EncryptingKey, Unspecified> {
    let algorithm = match key.len() {
        16 => &cipher::AES_128,
        _ => &cipher::AES_256,
    };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)
}

/// The pseudo-random function of a label: the key stream that begins at the salt with the label in its seventh octet.
fn stream(master: &MasterKey, label: u8, out: &mut [u8]) -> Result<(), Unspecified> {
    let mut iv = [0_u8; 16];
    // A salt of 96 bits is followed by zeros (RFC 7714 §11).
    for (place, octet) in iv.iter_mut().zip(master.salt()) {
        *place = *octet;
    }
    if let Some(place) = iv.get_mut(7) {
        *place ^= label;
    }
    out.fill(0);
    apply(&counter(master.key())?, iv, out)
}

/// Adds a key stream to octets, in place.
pub(super) fn apply(
    key: &EncryptingKey,
    iv: [u8; 16],
    octets: &mut [u8],
) -> Result<(), Unspecified> {
    key.less_safe_encrypt(octets, EncryptionContext::Iv128(FixedLength::from(iv)))
        .map(drop)
}
