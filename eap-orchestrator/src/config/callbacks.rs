//! How the end of a task is told, as it can be set.

use std::time::Duration;

use eap_core::CallbackPolicy;
use eap_types::webhook::SigningSecret;
use serde::{Deserialize, Serialize};

/// How the end of a task is told to its `callback_url`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Callbacks {
    /// What callbacks are signed with, as in `whsec_…`, at most 8; each signs, so that one can be replaced without a gap.
    /// Default: none, and a task with a `callback_url` is refused.
    pub secrets: Vec<SigningSecret>,
    /// How long a receiver may take to answer, from finding its address on. Default: 30 s.
    #[serde(with = "eap_core::seconds")]
    pub timeout: Duration,
    /// How often a callback is tried. Default: 10, which takes about a day.
    pub max_tries: u32,
    /// The longest wait after the first try; four times as long after each further one. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub backoff_base: Duration,
    /// The longest wait of all. Default: 6 h.
    #[serde(with = "eap_core::seconds")]
    pub backoff_cap: Duration,
    /// How many are on their way at once. Default: 32.
    pub at_once: usize,
    /// How many of them to the same scheme, host and port. Default: 4.
    pub per_receiver: usize,
}

impl Default for Callbacks {
    fn default() -> Self {
        let CallbackPolicy { max_tries, backoff_base, backoff_cap, .. } = CallbackPolicy::default();
        Self {
            secrets: Vec::new(),
            timeout: Duration::from_secs(30),
            max_tries,
            backoff_base,
            backoff_cap,
            at_once: 32,
            per_receiver: 4,
        }
    }
}

impl Callbacks {
    /// What is decided by after each try.
    pub(crate) fn policy(&self) -> CallbackPolicy {
        let mut policy = CallbackPolicy::default();
        policy.max_tries = self.max_tries;
        policy.backoff_base = self.backoff_base;
        policy.backoff_cap = self.backoff_cap;
        policy
    }
}
