//! The life of a callback: from the end of its task until its receiver has taken it, or it is given up.

use std::time::Duration;

use eap_types::{CallFailure, TaskId, Timestamp};

use crate::backoff::{Chance, full_jitter};
use crate::policy::CallbackPolicy;

/// A callback whose receiver has not taken it yet; kept from the commit that ended its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueCallback {
    /// The task that is over. One task has one callback.
    pub task: TaskId,
    /// Scheme, host and port of the receiver: callbacks with the same ones may wait for each other.
    pub receiver: String,
    /// When the task ended.
    pub ended_at: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub due_at: Timestamp,
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// The receiver took it.
    Taken,
    /// The receiver wants none, now or ever.
    Gone,
    /// It was not taken, as far as is known.
    Failed {
        /// Why, in a word.
        failure: CallFailure,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
}

impl Receipt {
    /// What an answer with this status says.
    #[must_use]
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            200..=299 => Self::Taken,
            410 => Self::Gone,
            _ => Self::Failed { failure: CallFailure::Status, retry_after },
        }
    }
}

/// What follows from a try.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackStep {
    /// Done: it goes.
    Delivered,
    /// It is tried again.
    Retry {
        /// The record from now on.
        callback: DueCallback,
        /// Why it was not taken.
        failure: CallFailure,
    },
    /// It goes without having been taken.
    GivenUp {
        /// Why it was not taken at the last try.
        failure: CallFailure,
    },
}

impl DueCallback {
    /// The callback of a task that just ended; due at once.
    #[must_use]
    pub fn new(task: TaskId, receiver: String, ended_at: Timestamp) -> Self {
        Self { task, receiver, ended_at, tries: 0, due_at: ended_at }
    }

    /// What follows from a try that ended at `now`.
    #[must_use]
    pub fn after(&self, receipt: Receipt, now: Timestamp, chance: Chance, policy: &CallbackPolicy) -> CallbackStep {
        let (failure, retry_after) = match receipt {
            Receipt::Taken => return CallbackStep::Delivered,
            Receipt::Gone => return CallbackStep::GivenUp { failure: CallFailure::Status },
            Receipt::Failed { failure, retry_after } => (failure, retry_after),
        };
        let tries = self.tries.saturating_add(1);
        if tries >= policy.max_tries {
            return CallbackStep::GivenUp { failure };
        }
        // A receiver cannot put its callback off beyond what is usual between two tries.
        let asked = retry_after.unwrap_or_default().min(policy.backoff_cap);
        let due_at = now + policy.delay(tries, chance).max(asked);
        CallbackStep::Retry { callback: Self { tries, due_at, ..self.clone() }, failure }
    }
}

impl CallbackPolicy {
    /// How long to wait after so many tries: four times as long after each one, and a random part of it, the longer half.
    fn delay(&self, tries: u32, chance: Chance) -> Duration {
        // Twice doubled is fourfold.
        let doublings = tries.saturating_mul(2).saturating_sub(1);
        full_jitter(self.backoff_base, self.backoff_cap, doublings, Chance::new(0.5 + chance.get() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn due() -> DueCallback {
        DueCallback::new(TaskId::v7(ENDED, [1; 10]), "https://hooks.example.com:443".to_owned(), ENDED)
    }

    fn failed(failure: CallFailure) -> Receipt {
        Receipt::Failed { failure, retry_after: None }
    }

    /// How long until the next try after so many.
    fn wait(tries: u32, chance: f64, retry_after: Option<u64>) -> u64 {
        let callback = DueCallback { tries: tries - 1, ..due() };
        let receipt =
            Receipt::Failed { failure: CallFailure::Status, retry_after: retry_after.map(Duration::from_secs) };
        match callback.after(receipt, ENDED, Chance::new(chance), &CallbackPolicy::default()) {
            CallbackStep::Retry { callback, .. } => {
                assert_eq!(callback.tries, tries);
                (callback.due_at.saturating_since(ENDED)).as_secs_f64().round() as u64
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statuses_say_taken_gone_or_try_again() {
        for taken in [200, 201, 202, 204, 299] {
            assert_eq!(Receipt::of_status(taken, None), Receipt::Taken, "{taken}");
        }
        for failed in [100, 199, 300, 301, 302, 307, 400, 401, 404, 409, 429, 500, 503] {
            let again = Receipt::Failed { failure: CallFailure::Status, retry_after: None };
            assert_eq!(Receipt::of_status(failed, None), again, "{failed}");
        }
        assert_eq!(Receipt::of_status(410, None), Receipt::Gone);
    }

    #[test]
    fn what_was_taken_or_is_not_wanted_is_over() {
        let policy = CallbackPolicy::default();
        let after = |receipt| due().after(receipt, ENDED, Chance::new(0.0), &policy);
        assert_eq!(after(Receipt::Taken), CallbackStep::Delivered);
        assert_eq!(after(Receipt::Gone), CallbackStep::GivenUp { failure: CallFailure::Status });
    }

    #[test]
    fn waits_grow_to_hours_and_spread_over_half_of_each() {
        let longest: Vec<u64> = (1..10).map(|tries| wait(tries, 1.0, None)).collect();
        assert_eq!(longest, [10, 40, 160, 640, 2_560, 10_240, 21_600, 21_600, 21_600]);
        let shortest: Vec<u64> = (1..10).map(|tries| wait(tries, 0.0, None)).collect();
        assert_eq!(shortest, [5, 20, 80, 320, 1_280, 5_120, 10_800, 10_800, 10_800]);
        assert!((20 * 3600..28 * 3600).contains(&longest.iter().sum::<u64>()), "about a day");
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_within_reason() {
        assert_eq!(wait(1, 0.0, Some(120)), 120);
        assert_eq!(wait(1, 0.0, Some(1)), 5, "less than usual is not heeded");
        assert_eq!(wait(1, 0.0, Some(u64::MAX)), 21_600, "nor is more than the longest wait");
    }

    #[test]
    fn after_the_last_try_it_is_given_up_with_the_reason() {
        let mut callback = due();
        let policy = CallbackPolicy::default();
        for _ in 1..policy.max_tries {
            match callback.after(failed(CallFailure::Timeout), ENDED, Chance::new(0.5), &policy) {
                CallbackStep::Retry { callback: next, failure: CallFailure::Timeout } => callback = next,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(callback.tries, 9);
        let step = callback.after(failed(CallFailure::Tls), ENDED, Chance::new(0.5), &policy);
        assert_eq!(step, CallbackStep::GivenUp { failure: CallFailure::Tls });
    }
}
