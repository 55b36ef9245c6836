//! The durations and limits that decisions are made under.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits a task's life cycle keeps (docs/reliability.md, section 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TaskPolicy {
    /// How many lapsed leases make a task dead; 3.
    pub max_expiries: u32,
    /// How many rejections and failed deliveries make a task dead; 20.
    pub max_releases: u32,
    /// The first back-off after a retryable failure; doubles each time; 1 s.
    #[serde(with = "crate::seconds")]
    pub backoff_base: Duration,
    /// The longest back-off; 5 min.
    #[serde(with = "crate::seconds")]
    pub backoff_cap: Duration,
    /// How long an agent that rejected a task is not offered it again; 10 min.
    #[serde(with = "crate::seconds")]
    pub rejection_cooldown: Duration,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self {
            max_expiries: 3,
            max_releases: 20,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(5 * 60),
            rejection_cooldown: Duration::from_secs(10 * 60),
        }
    }
}

/// How often and for how long a receiver is called that does not take its callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CallbackPolicy {
    /// How many tries there are; 10.
    pub max_tries: u32,
    /// The longest wait after the first try; four times as long after each further one; 10 s.
    #[serde(with = "crate::seconds")]
    pub backoff_base: Duration,
    /// The longest wait of all; 6 h.
    #[serde(with = "crate::seconds")]
    pub backoff_cap: Duration,
}

impl Default for CallbackPolicy {
    fn default() -> Self {
        Self { max_tries: 10, backoff_base: Duration::from_secs(10), backoff_cap: Duration::from_secs(6 * 3600) }
    }
}

/// How tasks are brought to an agent that serves (docs/protocol.md, section 1, "Task push").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PushPolicy {
    /// How often one attempt is sent; 5.
    pub max_tries: u32,
    /// The longest wait after the first try, and after the first delivery that failed; doubles each time; 1 s.
    #[serde(with = "crate::seconds")]
    pub backoff_base: Duration,
    /// The longest wait between two tries of one attempt; 30 s.
    #[serde(with = "crate::seconds")]
    pub backoff_cap: Duration,
    /// The longest time for which an agent that takes nothing is left alone; 1 min.
    #[serde(with = "crate::seconds")]
    pub pause_cap: Duration,
    /// How long an agent may take to answer that may answer before its result; 30 s.
    #[serde(with = "crate::seconds")]
    pub answer_timeout: Duration,
    /// After so many failed deliveries in a row, pushing is suspended; 10.
    pub suspend_failures: u32,
    /// But not before the first of them is so long ago; 10 min.
    #[serde(with = "crate::seconds")]
    pub suspend_after: Duration,
}

impl Default for PushPolicy {
    fn default() -> Self {
        Self {
            max_tries: 5,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(30),
            pause_cap: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(30),
            suspend_failures: 10,
            suspend_after: Duration::from_secs(10 * 60),
        }
    }
}

/// How long an agent that keeps failing gets no work (docs/protocol.md, section 3, "Breaker").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerPolicy {
    /// The first cool-down; doubles each time a trial fails; 30 s.
    #[serde(with = "crate::seconds")]
    pub cooldown: Duration,
    /// The longest cool-down; 10 min.
    #[serde(with = "crate::seconds")]
    pub max_cooldown: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { cooldown: Duration::from_secs(30), max_cooldown: Duration::from_secs(10 * 60) }
    }
}

/// How silence is read (docs/reliability.md, G13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LivenessPolicy {
    /// The interval H at which agents are asked to beat; 30 s.
    #[serde(with = "crate::seconds")]
    pub heartbeat_interval: Duration,
}

impl LivenessPolicy {
    /// Silence after which an agent is suspect: 1.5 H.
    #[must_use]
    pub fn suspect_after(&self) -> Duration {
        self.heartbeat_interval * 3 / 2
    }

    /// Silence after which an agent is offline: 3 H.
    #[must_use]
    pub fn offline_after(&self) -> Duration {
        self.heartbeat_interval * 3
    }

    /// The lease of a plain 1.0 agent, which renews by heartbeat alone: 3 H.
    #[must_use]
    pub fn plain_lease(&self) -> Duration {
        self.heartbeat_interval * 3
    }
}

impl Default for LivenessPolicy {
    fn default() -> Self {
        Self { heartbeat_interval: Duration::from_secs(30) }
    }
}
