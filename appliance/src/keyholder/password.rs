//! Operators' passwords as slow hashes (Argon2id, RFC 9106). Init hashes a new password before it is stored; the keyholder
//! verifies. The plain password is stored nowhere.

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};

/// Fewest characters of a password.
pub const MIN_CHARACTERS: usize = 12;
/// Most characters of a password.
pub const MAX_CHARACTERS: usize = 64;

/// Why a password cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than [`MIN_CHARACTERS`].
    #[error("a password needs at least {MIN_CHARACTERS} characters")]
    TooShort,
    /// More than [`MAX_CHARACTERS`].
    #[error("a password has at most {MAX_CHARACTERS} characters")]
    TooLong,
    /// Contains a control character.
    #[error("a password may not contain control characters")]
    Control,
    /// The hash function refused.
    #[error("the password could not be hashed")]
    Hash,
}

/// The PHC string of `password` under a salt of 16 random octets.
///
/// # Errors
/// One variant per rule.
pub fn hash(password: &str, salt: &[u8; 16]) -> Result<String, PasswordError> {
    let characters = password.chars().count();
    if characters < MIN_CHARACTERS {
        return Err(PasswordError::TooShort);
    }
    if characters > MAX_CHARACTERS {
        return Err(PasswordError::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    let salt = SaltString::encode_b64(salt).map_err(|_| PasswordError::Hash)?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|_| PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// Whether `presented` is the password behind the PHC string `stored`. A malformed `stored` opens for nobody.
#[must_use]
pub fn verify(presented: &[u8], stored: &str) -> bool {
    PasswordHash::new(stored)
        .is_ok_and(|hash| Argon2::default().verify_password(presented, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_opens() {
        let stored = hash("correct horse battery", &[7; 16]).unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(!stored.contains("horse"));
        assert!(verify(b"correct horse battery", &stored));
        assert!(!verify(b"correct horse batterY", &stored));
        assert!(!verify(b"", ""));
    }

    #[test]
    fn length_is_bounded_both_ways_and_every_printable_character_is_taken() {
        assert_eq!(
            hash(&"a".repeat(11), &[0; 16]),
            Err(PasswordError::TooShort)
        );
        assert_eq!(hash(&"a".repeat(65), &[0; 16]), Err(PasswordError::TooLong));
        assert_eq!(
            hash("with\nline end here", &[0; 16]),
            Err(PasswordError::Control)
        );
        assert!(hash("ÄÖÜ!@#$%^&*()", &[0; 16]).is_ok());
    }
}
