//! What the simulated agents do with a task.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::millis;

/// How the simulated agents work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Work {
    /// How long a task takes; 0.1 s unless it is said otherwise. In JSON `duration_ms`.
    #[serde(rename = "duration_ms", with = "millis::always")]
    pub duration: Duration,
    /// How tasks end.
    pub outcome: Outcome,
    /// Whether the last report of a task names it, in `details.task_id`. AgentKit's own mock does not.
    pub names_tasks: bool,
}

/// How simulated tasks end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The agent reports IDLE, with `{"last_task_result": "simulated_success"}`.
    #[default]
    Success,
    /// The agent reports ERROR, with `{"last_task_result": "simulated_failure", "error": …}`.
    Failure,
}

impl Default for Work {
    fn default() -> Self {
        Self { duration: Duration::from_millis(100), outcome: Outcome::default(), names_tasks: false }
    }
}

impl Work {
    /// A tenth of a second, to a good end.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a task takes.
    #[must_use]
    pub fn for_duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Sets how tasks end.
    #[must_use]
    pub fn ending_in(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Says whether the last report of a task names it.
    #[must_use]
    pub fn naming_tasks(mut self, names_tasks: bool) -> Self {
        self.names_tasks = names_tasks;
        self
    }
}
