//! Signed messages as [Standard Webhooks](https://www.standardwebhooks.com) has them: made and checked.
//!
//! A message travels with three headers: an id that stays the same over all retries, the time it was sent, and one
//! signature for each live secret. What is signed is `id.timestamp.body`, by HMAC-SHA256. Several secrets at once let
//! a secret be replaced without a gap: the receiver takes a message that any of its own secrets explains.
//!
//! ```
//! use eap_types::Timestamp;
//! use eap_types::webhook::{self, SigningSecret, TOLERANCE};
//!
//! let secrets: [SigningSecret; 1] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?];
//! let now = Timestamp::from_seconds(1_767_225_600);
//! let signed = webhook::sign(&secrets, "msg-1", now, b"{}");
//! assert_eq!(webhook::verify(&secrets, &signed, b"{}", now, TOLERANCE), Ok(()));
//! assert!(webhook::verify(&secrets, &signed, b"{ }", now, TOLERANCE).is_err());
//! # Ok::<(), eap_types::IdError>(())
//! ```

mod secret;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub use self::secret::SigningSecret;
use crate::{Timestamp, header};

/// How far the time of a message may lie from the receiver's own, before or after.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Precedes each signature by HMAC-SHA256; signatures of other kinds are passed over.
const VERSION: &str = "v1,";
/// Digits of a timestamp: those of the years 2001 to 2286.
const TIMESTAMP_DIGITS: usize = 10;

/// The three headers of a signed message, as they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Names the message: [`header::WEBHOOK_ID`].
    pub id: String,
    /// When it was sent, in seconds since 1970: [`header::WEBHOOK_TIMESTAMP`].
    pub timestamp: String,
    /// The signatures, separated by spaces: [`header::WEBHOOK_SIGNATURE`].
    pub signature: String,
}

impl Signed {
    /// The headers by name.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        [
            (header::WEBHOOK_ID, &self.id),
            (header::WEBHOOK_TIMESTAMP, &self.timestamp),
            (header::WEBHOOK_SIGNATURE, &self.signature),
        ]
    }
}

/// Why a message is not taken for its sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The timestamp is not ten digits. Anything looser would let a dot be moved between time and body.
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    /// It was sent too long ago, or by a clock that is ahead: perhaps a replay.
    #[error("the timestamp is too far from the present")]
    OutsideWindow,
    /// None of the signatures was made with a live secret.
    #[error("no signature fits a live secret")]
    Signature,
}

/// Signs a message that is sent at `at`, once with each secret.
///
/// The id must not be the choice of whoever chose the body.
#[must_use]
pub fn sign(secrets: &[SigningSecret], id: &str, at: Timestamp, body: &[u8]) -> Signed {
    let timestamp = seconds(at).to_string();
    let one = |secret: &SigningSecret| {
        let mac = mac_of(secret, id, &timestamp, body).finalize().into_bytes();
        format!("{VERSION}{}", STANDARD.encode(mac))
    };
    let signatures: Vec<String> = secrets.iter().map(one).collect();
    Signed { id: id.to_owned(), signature: signatures.join(" "), timestamp }
}

/// Checks the raw `body` of a message against its headers, in a time that does not tell how far a guess was right.
///
/// Whoever acts on a message remembers its id for twice the tolerance: within it, a message can be sent again as it is.
///
/// # Errors
///
/// If no signature fits one of `secrets`, or it was not sent within `tolerance` of `now`.
pub fn verify(
    secrets: &[SigningSecret],
    signed: &Signed,
    body: &[u8],
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), Refusal> {
    let Signed { id, timestamp, signature } = signed;
    if timestamp.len() != TIMESTAMP_DIGITS || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Timestamp);
    }
    let sent: i64 = timestamp.parse().map_err(|_| Refusal::Timestamp)?;
    if sent.abs_diff(seconds(now)) > tolerance.as_secs() {
        return Err(Refusal::OutsideWindow);
    }
    let given: Vec<Vec<u8>> =
        signature.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix(VERSION)?).ok()).collect();
    let mut fits = false;
    for secret in secrets {
        let mac = mac_of(secret, id, timestamp, body);
        for signature in &given {
            fits |= mac.clone().verify_slice(signature).is_ok();
        }
    }
    if fits { Ok(()) } else { Err(Refusal::Signature) }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000_000)
}

fn mac_of(secret: &SigningSecret, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(secret.key()).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}
