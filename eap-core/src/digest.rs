//! A fingerprint by which a repeated result is known.

use std::fmt;

use eap_types::TaskResult;
use serde::{Deserialize, Serialize, de};
use sha2::{Digest as _, Sha256};

/// SHA-256 of what a result says, whatever its spelling.
///
/// Two results that parse to the same values have the same digest: order of keys, white space and
/// the `lease_id` and `attempt` they quote do not count. Records keep this instead of the body.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResultDigest([u8; 32]);

impl ResultDigest {
    /// The fingerprint of `result`.
    #[must_use]
    pub fn of(result: &TaskResult) -> Self {
        Self(Sha256::digest(result.canonical_text()).into())
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl ResultDigest {
    /// Every record with a result has one: written digit by digit through a formatter, it cost more than its SHA-256.
    fn with_text<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        take(str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

impl fmt::Display for ResultDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for ResultDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResultDigest({self})")
    }
}

impl Serialize for ResultDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for ResultDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("a result digest is 64 hex digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}
