//! Passwords: argon2id with the parameters of OWASP's password storage sheet (19 MiB, 2 passes, 1 lane).

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use zlh_authn::token::{TokenError, random_base64};

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A password that can be used. It is hashed exactly as sent: nothing is trimmed or cut off.
#[derive(Clone)]
pub struct Password(String);

/// Why a text cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Easily guessed.
    #[error("a password has at least 8 characters")]
    TooShort,
    /// Would only cost time to hash.
    #[error("a password has at most 256 characters")]
    TooLong,
}

impl Password {
    /// 8 to 256 characters of any kind.
    ///
    /// # Errors
    ///
    /// [`PasswordError`] says which bound it misses.
    pub fn parse(text: String) -> Result<Self, PasswordError> {
        match text.chars().count() {
            0..8 => Err(PasswordError::TooShort),
            8..=256 => Ok(Self(text)),
            _ => Err(PasswordError::TooLong),
        }
    }
}

/// A password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// No salt.
    #[error(transparent)]
    Random(#[from] TokenError),
    /// The parameters or the stored hash are not valid.
    #[error("argon2: {0}")]
    Argon2(String),
}

/// The hash to store, in PHC string format.
///
/// # Errors
///
/// [`HashError`] when there is no salt to be had.
pub fn hash(password: &Password) -> Result<String, HashError> {
    hash_text(&password.0)
}

fn hash_text(text: &str) -> Result<String, HashError> {
    let argon2_error = |error: argon2::password_hash::Error| HashError::Argon2(error.to_string());
    let salt = SaltString::from_b64(&random_base64::<16>()?.replace('-', "+").replace('_', "/"))
        .map_err(argon2_error)?;
    let hash = hasher()?.hash_password(text.as_bytes(), &salt).map_err(argon2_error)?;
    Ok(hash.to_string())
}

/// Whether a text is the password behind a stored hash. Without a hash it takes as long and says no, so that
/// an unknown account cannot be told from a wrong password.
///
/// # Errors
///
/// [`HashError`] when the stored hash is not one.
pub fn verify(text: &str, stored: Option<&str>) -> Result<bool, HashError> {
    let Some(stored) = stored else {
        return hash_text(text).map(|_| false);
    };
    Ok(hasher()?.verify_password(text.as_bytes(), &parsed(stored)?).is_ok())
}

/// A new hash of a text that was just verified, if the stored one is weaker than today's.
///
/// # Errors
///
/// [`HashError`] when the stored hash is not one, or there is no salt to be had.
pub fn stronger(text: &str, stored: &str) -> Result<Option<String>, HashError> {
    let stored = parsed(stored)?;
    let params = Params::try_from(&stored).map_err(|error| HashError::Argon2(error.to_string()))?;
    let weaker = stored.algorithm != Algorithm::Argon2id.ident()
        || params.m_cost() < MEMORY_KIB
        || params.t_cost() < PASSES
        || params.p_cost() < LANES;
    weaker.then(|| hash_text(text)).transpose()
}

fn parsed(stored: &str) -> Result<PasswordHash<'_>, HashError> {
    PasswordHash::new(stored).map_err(|error| HashError::Argon2(error.to_string()))
}

fn hasher() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| HashError::Argon2(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_exactly_as_it_was_sent() {
        let stored = hash(&Password::parse(" pässword ".into()).unwrap()).unwrap();

        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify(" pässword ", Some(&stored)).unwrap());
        for other in ["pässword", " pässword", " PÄSSWORD ", ""] {
            assert!(!verify(other, Some(&stored)).unwrap(), "{other:?}");
        }
        assert!(!verify(" pässword ", None).unwrap());
    }

    #[test]
    fn length_counts_characters() {
        assert_eq!(Password::parse("äöüäöüä".into()).err(), Some(PasswordError::TooShort));
        assert!(Password::parse("äöüäöüäö".into()).is_ok());
        assert!(Password::parse("x".repeat(256)).is_ok());
        assert_eq!(Password::parse("x".repeat(257)).err(), Some(PasswordError::TooLong));
    }
}
