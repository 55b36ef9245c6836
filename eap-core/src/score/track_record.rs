//! How an agent has done so far: its last results, and what follows from them.

use eap_types::{AgentId, AgentTier, AttemptOutcome, BreakerState, FailureCode, LeaseId, Timestamp};
use serde::{Deserialize, Serialize};

use super::breaker::{Allowance, Breaker, BreakerTurn};
use crate::policy::BreakerPolicy;
use crate::task::{Attempt, Task, TaskState};

/// How many results are looked at.
const WINDOW: u32 = 50;
/// With fewer results an agent is new: too little to call it good or bad.
const ENOUGH: u32 = 5;

/// What one attempt says of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The work was done.
    Success,
    /// It failed, or its agent vanished with it.
    Failure,
}

/// The end of one attempt, as its agent's record takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// Whose attempt it was.
    pub agent: AgentId,
    /// The lease it was held under.
    pub lease_id: LeaseId,
    /// What it says of the agent; `None` if nothing.
    pub verdict: Option<Verdict>,
}

impl Conclusion {
    /// What a change of `before` into `after` ended, if it ended an attempt.
    ///
    /// A result counts, but for INVALID_INPUT: that is the submitter's fault. An attempt that ran out of time or whose
    /// agent vanished is a failure; if its result is recorded after all, a success counts beside it and a failure not
    /// again. Releases, rejections and cancels say nothing.
    #[must_use]
    pub fn of(before: &Task, after: &TaskState) -> Option<Self> {
        // Whatever an event ends, it is the newest attempt: older ones are fenced.
        let ended = after.attempts.last()?;
        Self::since(before.attempt(ended.number)?.outcome, ended)
    }

    /// What became of an attempt since its outcome was `was`, if anything did.
    #[must_use]
    pub fn since(was: AttemptOutcome, ended: &Attempt) -> Option<Self> {
        if was == ended.outcome {
            return None;
        }
        Some(Self { agent: ended.agent.clone(), lease_id: ended.lease_id, verdict: Verdict::on(was, ended) })
    }
}

impl Verdict {
    fn on(was: AttemptOutcome, ended: &Attempt) -> Option<Self> {
        match ended.outcome {
            AttemptOutcome::Completed => Some(Self::Success),
            AttemptOutcome::Failed if ended.error_code == Some(FailureCode::InvalidInput) => None,
            // Its expiry counted already.
            AttemptOutcome::Failed if was == AttemptOutcome::Expired => None,
            AttemptOutcome::Failed | AttemptOutcome::Expired => Some(Self::Failure),
            _ => None,
        }
    }
}

/// An agent's last results, when it was last served, and its breaker.
///
/// It belongs to the agent's id and outlives registrations: to register anew is no way around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrackRecord {
    /// The last results, the newest in the lowest bit; a one is a success.
    recent: u64,
    /// How many of them there are.
    results: u32,
    /// How many of those came since the breaker last closed: what was before it opened does not open it again.
    since_closed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_served: Option<Timestamp>,
    breaker: Breaker,
}

impl TrackRecord {
    /// Whether nothing is known yet.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// How many results are looked at, at most 50.
    #[must_use]
    pub fn results(&self) -> u32 {
        self.results.min(WINDOW)
    }

    /// The share of them that was good; `None` without a result.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let results = self.results();
        (results > 0).then(|| f64::from(self.successes(results)) / f64::from(results))
    }

    /// What the success rate makes of the agent; a new one is competent.
    #[must_use]
    pub fn tier(&self) -> AgentTier {
        let results = self.results();
        let percent = match results {
            0..ENOUGH => return AgentTier::Competent,
            _ => self.successes(results) * 100,
        };
        match percent {
            good if good >= results * 95 => AgentTier::Elite,
            good if good >= results * 85 => AgentTier::Advanced,
            good if good >= results * 70 => AgentTier::Competent,
            good if good >= results * 50 => AgentTier::Trainee,
            _ => AgentTier::Degraded,
        }
    }

    /// When it last got a task.
    #[must_use]
    pub fn last_served(&self) -> Option<Timestamp> {
        self.last_served
    }

    /// How much work its breaker lets through.
    #[must_use]
    pub fn allowance(&self, now: Timestamp) -> Allowance {
        self.breaker.allowance(now)
    }

    /// The word for its breaker.
    #[must_use]
    pub fn breaker(&self, now: Timestamp) -> BreakerState {
        self.breaker.state(now)
    }

    /// The agent got a task under `lease_id`.
    pub fn serve(&mut self, lease_id: LeaseId, now: Timestamp) {
        self.last_served = self.last_served.max(Some(now));
        self.breaker.serve(lease_id, now);
    }

    /// The attempt under `lease_id` ended with `verdict`, if it says anything; returns what that did to the breaker.
    pub fn conclude(
        &mut self,
        lease_id: LeaseId,
        verdict: Option<Verdict>,
        now: Timestamp,
        policy: &BreakerPolicy,
    ) -> Option<BreakerTurn> {
        if let Some(verdict) = verdict {
            let newest = u64::from(verdict == Verdict::Success);
            self.recent = (self.recent << 1 | newest) & newest_of(WINDOW);
            self.results = (self.results + 1).min(WINDOW);
            self.since_closed = (self.since_closed + 1).min(WINDOW);
        }
        let decided = self.breaker.conclude(lease_id, verdict, now, policy);
        if decided == Some(BreakerTurn::Closed) {
            self.since_closed = 0;
        }
        if decided.is_none() && self.breaker == Breaker::Closed && self.fails_too_often() {
            return Some(self.breaker.open_first(now, policy));
        }
        decided
    }

    /// At least 5 results since the breaker last closed, and fewer than three in ten of them good.
    fn fails_too_often(&self) -> bool {
        let counted = self.since_closed.min(WINDOW);
        counted >= ENOUGH && self.successes(counted) * 10 < counted * 3
    }

    /// How many of the newest `count` results were good.
    fn successes(&self, count: u32) -> u32 {
        (self.recent & newest_of(count)).count_ones()
    }
}

/// The bits of the newest `count` results.
fn newest_of(count: u32) -> u64 {
    (1 << count) - 1
}
