//! How long things take and are kept, as it can be set.

use std::time::Duration;

use eap_core::LivenessPolicy;
use eap_types::limits;
use serde::{Deserialize, Serialize};

/// Intervals and lengths; a duration is given as a number of seconds, as in `"lease": 60`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timing {
    /// How long a lease holds without renewal. Default: 60 s.
    #[serde(with = "eap_core::seconds")]
    pub lease: Duration,
    /// The interval at which agents are asked to beat; suspect and offline follow from it. Default: 30 s.
    #[serde(with = "eap_core::seconds")]
    pub heartbeat_interval: Duration,
    /// How often due deadlines are looked for. Default: 1 s.
    #[serde(with = "eap_core::seconds")]
    pub sweep_interval: Duration,
    /// A gap in the sweeper's pulse after which every lease and every silence starts afresh. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub pulse_gap: Duration,
    /// How long a deregistered or silent agent is kept. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub keep_agents: Duration,
    /// How long an agent's token works on after it was rotated. Default: 10 min.
    #[serde(with = "eap_core::seconds")]
    pub rotation_overlap: Duration,
    /// How long `shutdown` waits for what is in flight. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub shutdown_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            sweep_interval: Duration::from_secs(1),
            pulse_gap: Duration::from_secs(10),
            keep_agents: Duration::from_secs(7 * 24 * 3600),
            rotation_overlap: Duration::from_secs(600),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Timing {
    /// What liveness is read by.
    #[must_use]
    pub fn liveness(&self) -> LivenessPolicy {
        let mut policy = LivenessPolicy::default();
        policy.heartbeat_interval = self.heartbeat_interval;
        policy
    }
}

/// How long things are kept once they are over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Final tasks, with results and history. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub tasks: Duration,
    /// Sessions that are over. The tasks of their steps go as every task does. Default: 30 days.
    #[serde(with = "eap_core::seconds")]
    pub sessions: Duration,
    /// Events. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub events: Duration,
    /// Late results. Default: 30 days.
    #[serde(with = "eap_core::seconds")]
    pub late_results: Duration,
    /// Idempotency keys. Default: 24 hours.
    #[serde(with = "eap_core::seconds")]
    pub idempotency_keys: Duration,
    /// That a webhook took effect. It has to be longer than a webhook is valid, so at least an hour. Default: 24 hours.
    #[serde(with = "eap_core::seconds")]
    pub webhooks: Duration,
    /// What agents of a platform said of their state, but the newest of each. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub states: Duration,
    /// Operator keys and registration secrets, once revoked or expired. Default: 30 days.
    #[serde(with = "eap_core::seconds")]
    pub credentials: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            tasks: DAY * 7,
            sessions: DAY * 30,
            events: DAY * 7,
            late_results: DAY * 30,
            idempotency_keys: DAY,
            webhooks: DAY,
            states: DAY * 7,
            credentials: DAY * 30,
        }
    }
}
