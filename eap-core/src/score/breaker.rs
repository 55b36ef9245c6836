//! The breaker: an agent that fails again and again gets no work for a while, then one task to prove itself.

use std::time::Duration;

use eap_types::{BreakerState, LeaseId, Timestamp};
use serde::{Deserialize, Serialize};

use super::track_record::Verdict;
use crate::policy::BreakerPolicy;

/// Whether an agent's failures keep work from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Breaker {
    /// They do not.
    #[default]
    Closed,
    /// Nothing until `until`; from then on one trial task.
    Open {
        until: Timestamp,
        /// How long this cool-down is; the next one is twice as long.
        #[serde(with = "crate::seconds")]
        cooldown: Duration,
        /// The lease of the trial task. Not kept over a restart: another trial is then as good.
        #[serde(skip)]
        trial: Option<LeaseId>,
    },
}

/// How much work a breaker lets through to its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As much as it has room for.
    Any,
    /// One task, which decides.
    Trial,
    /// None: it cools down.
    Cooling {
        /// Until when.
        until: Timestamp,
    },
    /// None: its trial task is with it.
    OnTrial,
}

/// What a verdict did to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerTurn {
    /// It opened, for the first time or again.
    Opened {
        /// When the next trial may follow.
        until: Timestamp,
    },
    /// The trial went well.
    Closed,
}

impl Breaker {
    pub(super) fn allowance(&self, now: Timestamp) -> Allowance {
        match self {
            Self::Closed => Allowance::Any,
            Self::Open { trial: Some(_), .. } => Allowance::OnTrial,
            Self::Open { until, .. } if *until > now => Allowance::Cooling { until: *until },
            Self::Open { .. } => Allowance::Trial,
        }
    }

    pub(super) fn state(&self, now: Timestamp) -> BreakerState {
        match self.allowance(now) {
            Allowance::Any => BreakerState::Closed,
            Allowance::Cooling { .. } => BreakerState::Open,
            Allowance::Trial | Allowance::OnTrial => BreakerState::HalfOpen,
        }
    }

    /// The agent got a task: its trial, if one was due.
    pub(super) fn serve(&mut self, lease_id: LeaseId, now: Timestamp) {
        if self.allowance(now) == Allowance::Trial
            && let Self::Open { trial, .. } = self
        {
            *trial = Some(lease_id);
        }
    }

    pub(super) fn open_first(&mut self, now: Timestamp, policy: &BreakerPolicy) -> BreakerTurn {
        self.open(policy.cooldown.min(policy.max_cooldown), now)
    }

    /// The attempt under `lease_id` ended. What is not the trial decides nothing; a trial that ends without a verdict
    /// makes room for another one.
    pub(super) fn conclude(
        &mut self,
        lease_id: LeaseId,
        verdict: Option<Verdict>,
        now: Timestamp,
        policy: &BreakerPolicy,
    ) -> Option<BreakerTurn> {
        let Self::Open { cooldown, trial, .. } = self else { return None };
        if *trial != Some(lease_id) {
            return None;
        }
        match verdict {
            None => {
                *trial = None;
                None
            }
            Some(Verdict::Failure) => {
                let doubled = cooldown.saturating_mul(2).min(policy.max_cooldown);
                Some(self.open(doubled, now))
            }
            Some(Verdict::Success) => {
                *self = Self::Closed;
                Some(BreakerTurn::Closed)
            }
        }
    }

    fn open(&mut self, cooldown: Duration, now: Timestamp) -> BreakerTurn {
        let until = now + cooldown;
        *self = Self::Open { until, cooldown, trial: None };
        BreakerTurn::Opened { until }
    }
}
