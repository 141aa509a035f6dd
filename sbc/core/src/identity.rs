//! Names of our own: Call-IDs, tags, branches, tokens. Drawn from the seed, so that they say nothing and every run of a
//! test says the same.

use rand::{RngCore, SeedableRng, rngs::StdRng};
use sbc_media::srtp::{MasterKey, Suite};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Draws names.
pub(crate) struct Identity {
    rng: StdRng,
    /// Key of names that must come out alike for the same thing.
    key: [u8; 32],
}

impl Identity {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self { rng, key }
    }

    /// 64 random bits.
    pub(crate) fn number(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A name nobody can guess: 128 bits in lower-case hexadecimal.
    pub(crate) fn name(&mut self) -> String {
        let mut octets = [0; 16];
        self.rng.fill_bytes(&mut octets);
        hexadecimal(&octets)
    }

    /// A master key of a media line; `None`: never, the octets fit.
    pub(crate) fn master_key(&mut self, suite: Suite) -> Option<MasterKey> {
        let mut octets = Zeroizing::new([0; 46]);
        let octets = octets.get_mut(..suite.master_octets())?;
        self.rng.fill_bytes(octets);
        MasterKey::new(suite, octets)
    }

    /// A tag: 64 bits (RFC 3261 §19.3 asks for 32).
    pub(crate) fn tag(&mut self) -> String {
        format!("{:016x}", self.rng.next_u64())
    }

    /// A branch with the magic cookie (RFC 3261 §8.1.1.7).
    pub(crate) fn branch(&mut self) -> String {
        format!(
            "z9hG4bK{:016x}{:08x}",
            self.rng.next_u64(),
            self.rng.next_u32()
        )
    }

    /// A name that is always the same for the same parts, and that says nothing about them without the key.
    pub(crate) fn derived(&self, parts: &[&str]) -> String {
        hexadecimal(&self.derived_octets(parts))
    }

    /// The octets of [`Self::derived`].
    pub(crate) fn derived_octets(&self, parts: &[&str]) -> [u8; 12] {
        let mut octets = [0; 12];
        octets
            .iter_mut()
            .zip(self.digest(parts))
            .for_each(|(octet, drawn)| *octet = drawn);
        octets
    }

    /// A number that is always the same for the same parts; nobody without the key finds other parts with it.
    pub(crate) fn derived_number(&self, parts: &[&str]) -> u64 {
        self.digest(parts)
            .into_iter()
            .take(8)
            .fold(0, |number, octet| number << 8 | u64::from(octet))
    }

    fn digest(&self, parts: &[&str]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}

/// Octets in lower-case hexadecimal.
pub(crate) fn hexadecimal(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 15])
        .filter_map(|nibble| {
            DIGITS
                .get(usize::from(nibble))
                .map(|digit| char::from(*digit))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_names() {
        let (mut one, mut two) = (Identity::new([7; 32]), Identity::new([7; 32]));
        assert_eq!(one.name(), two.name());
        assert_eq!(one.branch(), two.branch());
        assert_ne!(one.tag(), one.tag());
    }

    #[test]
    fn derived_names_depend_on_how_the_parts_are_cut() {
        let identity = Identity::new([7; 32]);
        assert_eq!(
            identity.derived(&["ab", "c"]),
            identity.derived(&["ab", "c"])
        );
        assert_ne!(
            identity.derived(&["ab", "c"]),
            identity.derived(&["a", "bc"])
        );
        assert_ne!(
            identity.derived(&["ab"]),
            Identity::new([8; 32]).derived(&["ab"])
        );
    }
}
