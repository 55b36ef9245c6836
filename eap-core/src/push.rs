//! Tasks brought to agents that serve: what an answer means for its attempt, and when pushing pauses or ends.

use std::time::Duration;

use eap_types::{CallFailure, PushStop, Timestamp};
use serde::{Deserialize, Serialize};

use crate::backoff::{Chance, full_jitter};
use crate::policy::PushPolicy;

/// How an agent is pushed to: a part of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// What the server proves itself with, encrypted.
    pub sealed: String,
    /// Whether that is the agent's own token, as an older peer expects it, and not a secret to sign with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_token: bool,
    /// Since when nothing is pushed, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<PushSuspension>,
}

impl Push {
    /// To an agent whose platform takes its tasks: nothing is proved to it.
    #[must_use]
    pub fn by_platform() -> Self {
        Self { sealed: String::new(), with_token: false, suspended: None }
    }
}

/// Nothing is pushed to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushSuspension {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub why: PushStop,
}

impl PushSuspension {
    /// Whether a sign of life from the endpoint ends it: not where the agent has to say so by registering.
    #[must_use]
    pub fn ends_by_probe(&self) -> bool {
        !matches!(self.why, PushStop::Gone | PushStop::Sealed)
    }
}

/// What came back of one try, other than a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// An answer that is no result.
    Status {
        /// Its status.
        status: u16,
        /// How long the agent asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer.
    Lost {
        /// Why, in a word.
        failure: CallFailure,
        /// Whether the agent surely does not have it.
        is_unsent: bool,
    },
}

impl PushOutcome {
    /// Whether the agent surely did not take this try.
    #[must_use]
    pub fn is_untaken(self) -> bool {
        matches!(self, Self::Status { status: 429 | 503, .. } | Self::Lost { is_unsent: true, .. })
    }
}

/// What follows for the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStep {
    /// The same attempt is sent again after this.
    Repeat {
        /// How long to wait.
        after: Duration,
    },
    /// The agent does not have it: the attempt ends as released.
    Release {
        /// Why.
        failure: CallFailure,
        /// How long the agent asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The attempt has failed, and the task may be tried again.
    Fail {
        /// Why.
        failure: CallFailure,
    },
    /// Nothing is pushed there any more; the attempt ends as released.
    Suspend(PushStop),
}

impl PushPolicy {
    /// What follows from a try, of so many that were made.
    ///
    /// What the agent surely does not have is sent again, and given to others in the end. What it may have is sent again
    /// only to an agent that answers a repeat without a second run (`deduplicates`), and has failed in the end.
    #[must_use]
    pub fn after(&self, outcome: PushOutcome, tries: u32, deduplicates: bool, chance: Chance) -> PushStep {
        let (failure, is_free, may_repeat, retry_after) = match outcome {
            PushOutcome::Status { status: 410, .. } => return PushStep::Suspend(PushStop::Gone),
            PushOutcome::Lost { failure: CallFailure::Policy, .. } => return PushStep::Suspend(PushStop::Policy),
            PushOutcome::Status { status: 429 | 503, retry_after } => (CallFailure::Status, true, true, retry_after),
            PushOutcome::Status { status: 408 | 500..=599, .. } => (CallFailure::Status, false, deduplicates, None),
            PushOutcome::Status { .. } => (CallFailure::Status, false, false, None),
            PushOutcome::Lost { failure, is_unsent } => (failure, is_unsent, is_unsent || deduplicates, None),
        };
        let asked = retry_after.unwrap_or_default();
        if may_repeat && tries < self.max_tries && asked <= self.backoff_cap {
            let after = full_jitter(self.backoff_base, self.backoff_cap, tries, chance).max(asked);
            PushStep::Repeat { after }
        } else if is_free {
            PushStep::Release { failure, retry_after }
        } else {
            PushStep::Fail { failure }
        }
    }
}

/// How deliveries to one agent went lately: its circuit breaker.
///
/// After one that failed, the agent is left alone for a growing while; then one delivery at a time tries whether it is
/// back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushHealth {
    failures: u32,
    since: Option<Timestamp>,
    not_before: Option<Timestamp>,
}

impl PushHealth {
    /// A delivery got an answer of use.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    /// A delivery failed; says whether pushing is to be suspended.
    pub fn fail(&mut self, retry_after: Option<Duration>, now: Timestamp, chance: Chance, policy: &PushPolicy) -> bool {
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        // The longer half: an agent that is down is not asked at once again.
        let chance = Chance::new(0.5 + chance.get() / 2.0);
        let pause = full_jitter(policy.backoff_base, policy.pause_cap, self.failures, chance);
        self.not_before = Some(now + pause.max(retry_after.unwrap_or_default().min(policy.pause_cap)));
        self.failures >= policy.suspend_failures && now.saturating_since(since) >= policy.suspend_after
    }

    /// Whether another delivery may begin while so many are under way.
    #[must_use]
    pub fn admits(&self, under_way: usize, now: Timestamp) -> bool {
        self.failures == 0 || (under_way == 0 && self.not_before.is_none_or(|at| at <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn status(status: u16) -> PushOutcome {
        PushOutcome::Status { status, retry_after: None }
    }

    fn lost(failure: CallFailure, is_unsent: bool) -> PushOutcome {
        PushOutcome::Lost { failure, is_unsent }
    }

    fn after(outcome: PushOutcome, tries: u32, deduplicates: bool) -> PushStep {
        PushPolicy::default().after(outcome, tries, deduplicates, Chance::new(0.5))
    }

    #[test]
    fn what_an_agent_surely_does_not_have_is_sent_again_and_then_released() {
        let unsent = [status(429), status(503), lost(CallFailure::Connect, true), lost(CallFailure::Timeout, true)];
        for outcome in unsent {
            for deduplicates in [true, false] {
                let first = after(outcome, 1, deduplicates);
                assert_eq!(first, PushStep::Repeat { after: Duration::from_millis(500) }, "{outcome:?}");
                assert!(matches!(after(outcome, 5, deduplicates), PushStep::Release { .. }), "{outcome:?}");
            }
        }
    }

    #[test]
    fn what_it_may_have_is_sent_again_only_if_it_tells_a_repeat() {
        let unsure = [status(408), status(500), status(502), status(504), lost(CallFailure::Connect, false)];
        for outcome in unsure {
            assert!(matches!(after(outcome, 1, true), PushStep::Repeat { .. }), "{outcome:?}");
            assert!(matches!(after(outcome, 5, true), PushStep::Fail { .. }), "{outcome:?}");
            assert!(matches!(after(outcome, 1, false), PushStep::Fail { .. }), "{outcome:?}");
        }
        for refused in [300, 302, 400, 401, 404, 409, 422] {
            assert_eq!(after(status(refused), 1, true), PushStep::Fail { failure: CallFailure::Status }, "{refused}");
        }
    }

    #[test]
    fn a_longer_pause_than_a_try_waits_gives_the_task_to_others() {
        let asks = |seconds| PushOutcome::Status { status: 429, retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(after(asks(7), 1, true), PushStep::Repeat { after: Duration::from_secs(7) });
        let retry_after = Some(Duration::from_secs(90));
        assert_eq!(after(asks(90), 1, true), PushStep::Release { failure: CallFailure::Status, retry_after });
    }

    #[test]
    fn gone_and_policy_end_pushing_at_once() {
        assert_eq!(after(status(410), 1, false), PushStep::Suspend(PushStop::Gone));
        assert_eq!(after(lost(CallFailure::Policy, true), 1, true), PushStep::Suspend(PushStop::Policy));
    }

    #[test]
    fn an_agent_that_takes_nothing_is_left_alone_and_tried_by_one_task_at_a_time() {
        let (policy, half) = (PushPolicy::default(), Chance::new(0.5));
        let mut health = PushHealth::default();
        assert!(health.admits(7, NOW));
        assert!(!health.fail(None, NOW, half, &policy));
        assert!(!health.admits(0, NOW));
        let later = NOW + Duration::from_secs(1);
        assert!(health.admits(0, later) && !health.admits(1, later));
        health.fail(Some(Duration::from_secs(40)), later, half, &policy);
        assert!(!health.admits(0, later + Duration::from_secs(39)));
        assert!(health.admits(0, later + Duration::from_secs(40)));
        health.succeed();
        assert!(health.admits(7, later));
    }

    #[test]
    fn pushing_is_suspended_after_ten_failures_over_ten_minutes() {
        let (policy, half) = (PushPolicy::default(), Chance::new(0.5));
        let mut health = PushHealth::default();
        for _ in 0..20 {
            assert!(!health.fail(None, NOW, half, &policy), "not in a moment");
        }
        assert!(health.fail(None, NOW + policy.suspend_after, half, &policy));
        let mut rare = PushHealth::default();
        for hour in 0..9 {
            assert!(!rare.fail(None, NOW + Duration::from_secs(3600 * hour), half, &policy), "not for a few");
        }
        assert!(rare.fail(None, NOW + Duration::from_secs(36_000), half, &policy));
    }
}
