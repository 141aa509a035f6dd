//! Crypto suites by their names in SDES (IANA "SRTP Crypto Suite Registrations") and their sizes.

/// A suite. What is not here is not spoken: no NULL cipher, no F8, no 32-bit tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// RFC 7714.
    AeadAes256Gcm,
    /// RFC 7714.
    AeadAes128Gcm,
    /// RFC 6188.
    Aes256CmHmacSha1,
    /// RFC 4568 §6.2.1.
    AesCm128HmacSha1,
}

impl Suite {
    /// All, best first.
    pub const ALL: [Self; 4] = [
        Self::AeadAes256Gcm,
        Self::AeadAes128Gcm,
        Self::Aes256CmHmacSha1,
        Self::AesCm128HmacSha1,
    ];

    /// Its name in SDES.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes256CmHmacSha1 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm128HmacSha1 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    /// The suite of a name; `None`: none that is spoken. Names are case-sensitive (RFC 4568 §9.2).
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Octets of the key.
    #[must_use]
    pub const fn key_octets(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::Aes256CmHmacSha1 => 32,
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1 => 16,
        }
    }

    /// Octets of the master salt.
    #[must_use]
    pub const fn salt_octets(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Octets of key and salt together, as `inline:` has them.
    #[must_use]
    pub const fn master_octets(self) -> usize {
        self.key_octets() + self.salt_octets()
    }

    /// Octets of the authentication tag.
    #[must_use]
    pub const fn tag_octets(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }

    pub(super) const fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes256Gcm | Self::AeadAes128Gcm)
    }
}
