//! The secret behind a signature.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::IdError;

const PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks wants them.
const LEAST_BYTES: usize = 24;
const MOST_BYTES: usize = 64;
const WHAT: &str = "signing secret";

/// A secret that messages are signed with: 24 to 64 bytes, written as `whsec_` and their base64.
///
/// `Debug` hides it, and there is no `PartialEq`: a comparison that stops at the first difference tells how far a guess
/// was right.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// Takes the bytes of a secret, which should be random.
    ///
    /// # Errors
    ///
    /// If there are fewer than 24 or more than 64.
    pub fn from_bytes(key: impl Into<Vec<u8>>) -> Result<Self, IdError> {
        let key = key.into();
        if (LEAST_BYTES..=MOST_BYTES).contains(&key.len()) {
            Ok(Self(key))
        } else {
            Err(IdError::new(WHAT, "must have 24 to 64 bytes behind `whsec_`"))
        }
    }

    /// Shows the secret as it is written, for the one who is to verify with it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for SigningSecret {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(IdError::new(WHAT, "must begin with `whsec_`"))?;
        let key = STANDARD.decode(encoded);
        Self::from_bytes(key.map_err(|_| IdError::new(WHAT, "must be base64 behind `whsec_`"))?)
    }
}

impl TryFrom<String> for SigningSecret {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<SigningSecret> for String {
    fn from(secret: SigningSecret) -> Self {
        secret.expose()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
