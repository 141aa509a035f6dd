//! A master key with its salt. Held by descriptions and commands on their way to a session; zeroed when it goes, never
//! printed, compared in constant time.

use core::fmt;

use base64ct::{Base64, Base64Unpadded, Encoding as _};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Suite;

/// Key and salt of the longest suite, CM-256.
const LONGEST: usize = 46;
/// Characters of the longest key in base64, padded.
const LONGEST_TEXT: usize = 64;

/// A master key of one direction.
#[derive(Clone)]
pub struct MasterKey {
    suite: Suite,
    octets: Zeroizing<[u8; LONGEST]>,
}

impl MasterKey {
    /// Of key and salt. `None`: not as many octets as the suite has.
    #[must_use]
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<Self> {
        if key_and_salt.len() != suite.master_octets() {
            return None;
        }
        let mut octets = Zeroizing::new([0; LONGEST]);
        octets
            .get_mut(..key_and_salt.len())?
            .copy_from_slice(key_and_salt);
        Some(Self { suite, octets })
    }

    /// Of the text after `inline:` (RFC 4568 §6.1), with its padding or, as some telephones have it, without. `None`: no
    /// base64, or not as many octets as the suite has.
    #[must_use]
    pub fn from_base64(suite: Suite, text: &str) -> Option<Self> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        let mut room = Zeroizing::new([0_u8; 48]);
        let padded = text.ends_with('=') || suite.master_octets().is_multiple_of(3);
        let octets = if padded {
            Base64::decode(text, &mut *room)
        } else {
            Base64Unpadded::decode(text, &mut *room)
        };
        Self::new(suite, octets.ok()?)
    }

    /// The text after `inline:`, padded as the RFC has it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(self.octets()))
    }

    /// Its suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn key(&self) -> &[u8] {
        self.octets()
            .get(..self.suite.key_octets())
            .unwrap_or_default()
    }

    pub(super) fn salt(&self) -> &[u8] {
        self.octets()
            .get(self.suite.key_octets()..)
            .unwrap_or_default()
    }

    fn octets(&self) -> &[u8] {
        self.octets
            .get(..self.suite.master_octets())
            .unwrap_or_default()
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.suite == other.suite && bool::from(self.octets.ct_eq(&*other.octets))
    }
}

impl Eq for MasterKey {}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suite.name())
    }
}
