//! SHA-256 of content: in hexadecimal digits within messages, as RFC 9530 has it in headers.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::IdError;
use crate::checked::read_text;

/// The name of the algorithm in `Content-Digest` and `Repr-Digest`.
const ALGORITHM: &str = "sha-256";

/// The SHA-256 of some content; 64 lower-case hexadecimal digits in messages.
///
/// ```
/// use eap_types::ContentDigest;
///
/// let digest = ContentDigest::of(b"abc");
/// assert!(digest.to_string().starts_with("ba7816bf"));
/// assert_eq!(digest.header(), "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
/// assert_eq!(ContentDigest::from_header(&digest.header()), Some(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// The digest of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// Takes the 32 bytes of a digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Gives the 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The value of a header `Content-Digest` or `Repr-Digest` (RFC 9530).
    #[must_use]
    pub fn header(&self) -> String {
        format!("{ALGORITHM}=:{}:", STANDARD.encode(self.0))
    }

    /// Reads such a value; digests by other algorithms in it are passed over. `None` if there is no SHA-256 or it is broken.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        value.split(',').find_map(|member| {
            let (algorithm, digest) = member.trim().split_once('=')?;
            let text = digest.strip_prefix(':')?.strip_suffix(':')?;
            let bytes = (algorithm == ALGORITHM).then(|| STANDARD.decode(text).ok())??;
            bytes.try_into().ok().map(Self)
        })
    }
}

/// Takes in content piece by piece and gives its digest.
#[derive(Clone, Default)]
pub struct ContentHasher(Sha256);

impl ContentHasher {
    /// Nothing taken in yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece in.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> ContentDigest {
        ContentDigest(self.0.finalize().into())
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentHasher")
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = IdError::new("digest", "must have 64 lower-case hexadecimal digits");
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(refused.clone()),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| refused.clone())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, str::parse)
    }
}

impl JsonSchema for ContentDigest {
    fn schema_name() -> Cow<'static, str> {
        "ContentDigest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_headers_are_read_back_and_nothing_else_is() {
        let digest = ContentDigest::of(b"content");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let both = format!("md5=:AAAA:, {}", digest.header());
        assert_eq!(ContentDigest::from_header(&both), Some(digest));
        let upper = digest.to_string().to_uppercase();
        for text in ["", "ab", upper.as_str(), &format!("{digest}0"), &format!("{}é", &digest.to_string()[..62])] {
            assert!(text.parse::<ContentDigest>().is_err(), "{text}");
        }
        for header in ["", "sha-256", "sha-256=AAAA", "sha-256=:AAAA:", "sha-512=:AAAA:", "sha-256=:!:"] {
            assert_eq!(ContentDigest::from_header(header), None, "{header}");
        }
    }

    #[test]
    fn pieces_come_to_the_digest_of_the_whole() {
        let mut hasher = ContentHasher::new();
        hasher.update(b"con");
        let mut other = hasher.clone();
        other.update(b"cord");
        hasher.update(b"tent");
        assert_eq!((hasher.finish(), other.finish()), (ContentDigest::of(b"content"), ContentDigest::of(b"concord")));
    }
}
