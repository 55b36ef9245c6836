//! Whether a webhook is its platform's: the live secrets, and the two ways in which it may be signed (G25, G28).

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use eap_types::agentkit::{self, AgentKitSecret, SignedRefusal};
use eap_types::webhook::{self, Refusal, SigningSecret};
use eap_types::{Timestamp, header};
use http::HeaderMap;
use tracing::warn;

use crate::announce::lock;
use crate::auth::sha256;
use crate::config::AgentKit;
use crate::metrics::WebhookCounters;

/// So many webhooks outside the window within a minute are a matter of clocks rather than of replays.
const SUSPICIOUS: u32 = 5;
const MINUTE: i64 = 60;

/// The secrets that the platform's webhooks may be signed with now.
#[derive(Debug)]
pub(crate) struct PlatformSecrets {
    live: RwLock<Arc<[AgentKitSecret]>>,
    skew: Mutex<Skew>,
}

/// Webhooks outside the window, in the minute that began then.
#[derive(Debug, Default)]
struct Skew {
    minute: i64,
    count: u32,
}

/// Where a webhook comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    /// When it was sent; `None` if it was not signed.
    pub(super) sent_at: Option<Timestamp>,
    /// Tells a repeat.
    pub(super) digest: Option<[u8; 32]>,
}

/// Why a webhook is not taken for the platform's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("Signature headers missing")]
    Unsigned,
    #[error("Signature headers malformed")]
    Headers,
    #[error("Timestamp malformed")]
    Timestamp,
    #[error("Timestamp outside the window")]
    Window,
    #[error("Invalid signature")]
    Signature,
}

/// The headers of a signature, as they came.
#[derive(Debug)]
pub(super) enum SignatureHeaders {
    AgentKit(agentkit::Signed),
    Standard(webhook::Signed),
    None,
}

impl SignatureHeaders {
    /// Reads them, before anything is done about the body. One that is there twice, or empty, or without the others, is none
    /// that a sender meant.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Distrust> {
        let [timestamp, signature] =
            [header::AGENTKIT_TIMESTAMP, header::AGENTKIT_SIGNATURE].map(|name| one(headers, name));
        match (timestamp?, signature?) {
            (Some(timestamp), Some(signature)) => return Ok(Self::AgentKit(agentkit::Signed { timestamp, signature })),
            (None, None) => {}
            _ => return Err(Distrust::Headers),
        }
        let names = [header::WEBHOOK_ID, header::WEBHOOK_TIMESTAMP, header::WEBHOOK_SIGNATURE];
        let [id, timestamp, signature] = names.map(|name| one(headers, name));
        match (id?, timestamp?, signature?) {
            (Some(id), Some(timestamp), Some(signature)) => {
                Ok(Self::Standard(webhook::Signed { id, timestamp, signature }))
            }
            (None, None, None) => Ok(Self::None),
            _ => Err(Distrust::Headers),
        }
    }
}

fn one(headers: &HeaderMap, name: &str) -> Result<Option<String>, Distrust> {
    let mut given = headers.get_all(name).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| Distrust::Headers)?;
    if text.is_empty() || given.next().is_some() { Err(Distrust::Headers) } else { Ok(Some(text.to_owned())) }
}

impl PlatformSecrets {
    pub(crate) fn new(config: Option<&AgentKit>) -> Self {
        let live = config.map(|config| config.secrets.as_slice()).unwrap_or_default();
        Self { live: RwLock::new(live.into()), skew: Mutex::default() }
    }

    /// From the next webhook on, these count and no others.
    pub(crate) fn replace(&self, secrets: Vec<AgentKitSecret>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = secrets.into();
    }

    /// Checks a webhook by its raw bytes. `may_be_unsigned` if nobody else can be its sender.
    pub(super) fn check(
        &self,
        headers: &SignatureHeaders,
        body: &[u8],
        config: &AgentKit,
        may_be_unsigned: bool,
        now: Timestamp,
    ) -> Result<Proof, Distrust> {
        let live = Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner));
        match headers {
            SignatureHeaders::None if config.unsigned || live.is_empty() && may_be_unsigned => {
                Ok(Proof { sent_at: None, digest: None })
            }
            SignatureHeaders::None => Err(Distrust::Unsigned),
            SignatureHeaders::AgentKit(signed) => {
                let verified = agentkit::verify(&live, signed, body, now, config.tolerance);
                let verified = verified.map_err(|refusal| match refusal {
                    SignedRefusal::Timestamp => Distrust::Timestamp,
                    SignedRefusal::OutsideWindow { sent_at } => {
                        self.suspect(sent_at, now);
                        Distrust::Window
                    }
                    _ => Distrust::Signature,
                })?;
                let digest = *verified.replay_key.as_bytes();
                Ok(Proof { sent_at: Some(verified.sent_at), digest: Some(digest) })
            }
            SignatureHeaders::Standard(signed) => {
                standard(&live, signed, body, now, config.tolerance).inspect_err(|why| {
                    if let (Distrust::Window, Ok(sent_at)) = (why, signed.timestamp.parse()) {
                        self.suspect(Timestamp::from_seconds(sent_at), now);
                    }
                })
            }
        }
    }

    /// Says so once a minute when many webhooks lie outside the window.
    fn suspect(&self, sent_at: Timestamp, now: Timestamp) {
        let seconds = |at: Timestamp| at.as_micros().div_euclid(1_000_000);
        let minute = seconds(now).div_euclid(MINUTE);
        let mut skew = lock(&self.skew);
        if skew.minute != minute {
            *skew = Skew { minute, count: 0 };
        }
        skew.count += 1;
        if skew.count == SUSPICIOUS {
            let offset_seconds = seconds(sent_at) - seconds(now);
            warn!(offset_seconds, "clock_skew_suspected: webhooks keep coming from outside the window");
        }
    }
}

/// The same platform may sign as Standard Webhooks do. Its secret is then `whsec_…`, or its text is the key.
fn standard(
    live: &[AgentKitSecret],
    signed: &webhook::Signed,
    body: &[u8],
    now: Timestamp,
    tolerance: Duration,
) -> Result<Proof, Distrust> {
    let key = |secret: &AgentKitSecret| {
        let text = secret.expose();
        text.parse::<SigningSecret>().or_else(|_| SigningSecret::from_bytes(text.as_bytes())).ok()
    };
    let secrets: Vec<SigningSecret> = live.iter().filter_map(key).collect();
    webhook::verify(&secrets, signed, body, now, tolerance).map_err(|refusal| match refusal {
        Refusal::Timestamp => Distrust::Timestamp,
        Refusal::OutsideWindow => Distrust::Window,
        _ => Distrust::Signature,
    })?;
    let sent_at = signed.timestamp.parse().map(Timestamp::from_seconds).map_err(|_| Distrust::Timestamp)?;
    // The id is the sender's word for the message, and signed.
    Ok(Proof { sent_at: Some(sent_at), digest: Some(sha256(format!("standard webhook\0{}", signed.id))) })
}

impl Distrust {
    /// Counts it under its reason.
    pub(super) fn count(self, counters: &WebhookCounters) {
        let counter = match self {
            Self::Unsigned | Self::Headers => &counters.unsigned,
            Self::Timestamp => &counters.bad_timestamp,
            Self::Window => &counters.outside_window,
            Self::Signature => &counters.bad_signature,
        };
        counter.add(1);
    }
}
