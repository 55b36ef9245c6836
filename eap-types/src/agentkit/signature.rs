//! The signature of a platform's webhooks: made and checked.
//!
//! What is signed is `timestamp.body` by HMAC-SHA256, where `timestamp` is the text of its header. That text has two
//! forms, neither of which begins another one of them and a dot: so a dot cannot be moved between time and body.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::AgentKitSecret;
use crate::{Timestamp, header};

/// How far the time of a webhook may lie from the receiver's own, before or after.
pub const TOLERANCE: Duration = crate::webhook::TOLERANCE;

/// Digits of a timestamp in seconds: those of the years 2001 to 2286.
const SECONDS_DIGITS: usize = 10;
/// What a replay key of this signature begins with, so that it is no digest of anything else.
const REPLAY_CONTEXT: &[u8] = b"agentkit webhook\0";

/// The two headers of a signed webhook, as they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// When it was sent: [`header::AGENTKIT_TIMESTAMP`].
    pub timestamp: String,
    /// The signature in hexadecimal digits: [`header::AGENTKIT_SIGNATURE`].
    pub signature: String,
}

impl Signed {
    /// The headers by name.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 2] {
        [(header::AGENTKIT_TIMESTAMP, &self.timestamp), (header::AGENTKIT_SIGNATURE, &self.signature)]
    }
}

/// Why a webhook is not taken for its platform's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedRefusal {
    /// The timestamp is neither ten digits nor RFC 3339 with an offset.
    #[error("the timestamp is neither a number of seconds nor RFC 3339 with an offset")]
    Timestamp,
    /// It was sent too long ago, or by a clock that is ahead: perhaps a replay.
    #[error("the timestamp is too far from the present")]
    OutsideWindow {
        /// When it says it was sent.
        sent_at: Timestamp,
    },
    /// The signature was not made with a live secret.
    #[error("the signature fits no live secret")]
    Signature,
}

/// What a webhook that its platform signed says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// When it was sent: what later webhooks are ordered by.
    pub sent_at: Timestamp,
    /// Tells whether the same webhook was taken before.
    pub replay_key: ReplayKey,
}

/// Names a signed webhook, whichever secret it was signed with and however its headers were spelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplayKey([u8; 32]);

impl ReplayKey {
    /// Gives the 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whoever can make one such webhook with a given key has signed its body at that time: a repeat does no more.
    fn of(sent_at: Timestamp, body: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(REPLAY_CONTEXT);
        digest.update(sent_at.as_micros().to_be_bytes());
        digest.update(body);
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Signs a webhook that is sent at `at`, as AgentKit does: in whole seconds and lower-case digits.
#[must_use]
pub fn sign(secret: &AgentKitSecret, at: Timestamp, body: &[u8]) -> Signed {
    signed(secret, seconds(at).to_string(), body)
}

/// The same with the time in RFC 3339 and to the microsecond: of two webhooks within a second it tells which is later.
#[must_use]
pub fn sign_rfc3339(secret: &AgentKitSecret, at: Timestamp, body: &[u8]) -> Signed {
    signed(secret, at.to_string(), body)
}

fn signed(secret: &AgentKitSecret, timestamp: String, body: &[u8]) -> Signed {
    let mac = mac_of(secret, &timestamp, body).finalize().into_bytes();
    Signed { signature: mac.iter().map(|byte| format!("{byte:02x}")).collect(), timestamp }
}

/// Checks the raw `body` of a webhook against its headers, in a time that does not tell how far a guess was right.
///
/// Whoever acts on a webhook remembers its [`ReplayKey`] for twice the tolerance: within it, it can be sent again as it is.
///
/// # Errors
///
/// If the signature fits none of `secrets`, or the webhook was not sent within `tolerance` of `now`.
pub fn verify(
    secrets: &[AgentKitSecret],
    signed: &Signed,
    body: &[u8],
    now: Timestamp,
    tolerance: Duration,
) -> Result<Verified, SignedRefusal> {
    let sent_at = read_timestamp(&signed.timestamp).ok_or(SignedRefusal::Timestamp)?;
    // In whole seconds, as most platforms count: whoever signs in the last microsecond of one is not later than another.
    if seconds(sent_at).abs_diff(seconds(now)) > tolerance.as_secs() {
        return Err(SignedRefusal::OutsideWindow { sent_at });
    }
    let given = read_hex(&signed.signature).ok_or(SignedRefusal::Signature)?;
    let mut fits = false;
    for secret in secrets {
        fits |= mac_of(secret, &signed.timestamp, body).verify_slice(&given).is_ok();
    }
    if fits {
        Ok(Verified { sent_at, replay_key: ReplayKey::of(sent_at, body) })
    } else {
        Err(SignedRefusal::Signature)
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000_000)
}

fn mac_of(secret: &AgentKitSecret, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
    for part in [timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

/// Reads ten digits, or RFC 3339 with an offset and nothing of what else is read as a timestamp elsewhere.
fn read_timestamp(text: &str) -> Option<Timestamp> {
    let is_seconds = text.len() == SECONDS_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_seconds {
        text.parse().ok().map(Timestamp::from_seconds)
    } else {
        is_rfc3339(text).then(|| text.parse().ok())?
    }
}

/// Whether it is `YYYY-MM-DDThh:mm:ss`, perhaps a fraction, and an offset; whether there is such a day is not asked.
fn is_rfc3339(text: &str) -> bool {
    const DIGIT: u8 = b'0';
    let fits = |text: &[u8], pattern: &[u8]| {
        text.len() == pattern.len()
            && text.iter().zip(pattern).all(|(byte, wanted)| match *wanted {
                DIGIT => byte.is_ascii_digit(),
                b'T' => matches!(byte, b'T' | b't' | b' '),
                wanted => *byte == wanted,
            })
    };
    let Some((at, rest)) = text.as_bytes().split_at_checked(19) else { return false };
    let offset = match rest.strip_prefix(b".") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &rest[digits..]
        }
        None => rest,
    };
    let is_offset = matches!(offset, b"Z" | b"z") || fits(offset, b"+00:00") || fits(offset, b"-00:00");
    fits(at, b"0000-00-00T00:00:00") && is_offset
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}
