//! Asking for work and giving it back (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{DEFAULT_LEASE_WAIT, MAX_LEASE_TASKS, MAX_RELEASE_DELAY, MAX_WAIT};
use crate::macros::decode_via_fields;
use crate::{Assignment, Decode, Fields, LeaseId, RequestId, TaskId, TaskType};

/// Characters of the reason for a release.
const MAX_REASON_CHARS: usize = 4096;

/// A request for work: the body of `POST …/tasks/lease`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct LeaseRequest {
    /// The same id again gets the same tasks, so that a lost answer strands nothing.
    pub request_id: RequestId,
    /// How many tasks to hand out at most, 1 to 100. Default 1.
    #[serde(default = "one_task")]
    #[schemars(range(min = 1, max = 100))]
    pub max_tasks: u32,
    /// How long to wait for the first task, 0 to 60 seconds. Default 25.
    #[serde(default = "default_wait")]
    #[schemars(range(min = 0, max = 60))]
    pub wait_seconds: u64,
    /// Only tasks of these types; absent: all that the agent can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_types: Option<Vec<TaskType>>,
    /// Every lease the agent holds: what it got since it registered and is not listed is brought again, first and at once.
    /// For an agent whose WebSocket broke; absent: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<LeaseId>>,
}

impl LeaseRequest {
    /// Asks for one task and waits 25 seconds for it.
    pub fn new(request_id: RequestId) -> Self {
        Self { request_id, max_tasks: one_task(), wait_seconds: default_wait(), task_types: None, held: None }
    }

    /// Sets how many tasks to hand out at most.
    #[must_use]
    pub fn with_max_tasks(mut self, tasks: u32) -> Self {
        self.max_tasks = tasks;
        self
    }

    /// Sets how long to wait for the first task.
    #[must_use]
    pub fn with_wait_seconds(mut self, seconds: u64) -> Self {
        self.wait_seconds = seconds;
        self
    }

    /// Asks for tasks of these types only.
    #[must_use]
    pub fn with_task_types(mut self, task_types: impl IntoIterator<Item = TaskType>) -> Self {
        self.task_types = Some(task_types.into_iter().collect());
        self
    }

    /// Lists every lease the agent holds, so that others it was given are brought again.
    #[must_use]
    pub fn with_held(mut self, leases: impl IntoIterator<Item = LeaseId>) -> Self {
        self.held = Some(leases.into_iter().collect());
        self
    }
}

impl Decode for LeaseRequest {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let request_id = fields.required("request_id");
        let max_tasks =
            fields.range("max_tasks", 1..=MAX_LEASE_TASKS.into(), Some(1)).and_then(|tasks| u32::try_from(tasks).ok());
        let wait_seconds = decode_wait(fields);
        let task_types = fields.optional("task_types");
        let held = fields.optional("held");
        Some(Self { request_id: request_id?, max_tasks: max_tasks?, wait_seconds: wait_seconds?, task_types, held })
    }
}

/// The answer 200 to a request for work; nothing within the wait is 204 without a body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LeaseReply {
    /// The tasks, each with its lease.
    pub tasks: Vec<Assignment>,
}

impl LeaseReply {
    /// The tasks handed out.
    pub fn new(tasks: impl IntoIterator<Item = Assignment>) -> Self {
        Self { tasks: tasks.into_iter().collect() }
    }
}

/// A request for one task, made for curl: the body of `POST …/tasks/next`, which may also be empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct NextRequest {
    /// How long to wait for the task, 0 to 60 seconds. Default 25.
    #[serde(default = "default_wait")]
    #[schemars(range(min = 0, max = 60))]
    pub wait_seconds: u64,
    /// Only a task of one of these types; absent: all that the agent can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_types: Option<Vec<TaskType>>,
}

impl NextRequest {
    /// What an empty body means: any task, waiting 25 seconds.
    pub fn new() -> Self {
        Self { wait_seconds: default_wait(), task_types: None }
    }

    /// Sets how long to wait for the task.
    #[must_use]
    pub fn with_wait_seconds(mut self, seconds: u64) -> Self {
        self.wait_seconds = seconds;
        self
    }

    /// Asks for a task of one of these types.
    #[must_use]
    pub fn with_task_types(mut self, task_types: impl IntoIterator<Item = TaskType>) -> Self {
        self.task_types = Some(task_types.into_iter().collect());
        self
    }
}

impl Default for NextRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl Decode for NextRequest {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let wait_seconds = decode_wait(fields);
        let task_types = fields.optional("task_types");
        Some(Self { wait_seconds: wait_seconds?, task_types })
    }
}

/// Gives a task back: the body of `…/tasks/{task_id}/release`, which may also be empty.
///
/// The attempt's number is spent and does not count against `max_attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ReleaseRequest {
    /// Why, for people; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reason: Option<String>,
    /// How long nobody is to be offered the task, 0 to 3600 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub retry_after_seconds: Option<u64>,
    /// The lease the task was held under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// Which attempt is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Whether the agent is leaving, so that the release says nothing about the task. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

impl ReleaseRequest {
    /// Gives the task back without a word.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets why.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Sets how long nobody is to be offered the task.
    #[must_use]
    pub fn with_retry_after_seconds(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Names the lease and the attempt that are given back.
    #[must_use]
    pub fn with_lease(mut self, lease_id: LeaseId, attempt: u32) -> Self {
        self.lease_id = Some(lease_id);
        self.attempt = Some(attempt);
        self
    }

    /// Says whether the agent is leaving.
    #[must_use]
    pub fn with_draining(mut self, draining: bool) -> Self {
        self.draining = draining;
        self
    }
}

impl Decode for ReleaseRequest {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            reason: fields.text("reason", MAX_REASON_CHARS),
            retry_after_seconds: fields.range("retry_after_seconds", 0..=MAX_RELEASE_DELAY.as_secs(), None),
            lease_id: fields.optional("lease_id"),
            attempt: fields.optional("attempt"),
            draining: fields.or_default("draining"),
        })
    }
}

/// The answer 200 to a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Released {
    /// The task.
    pub task_id: TaskId,
    /// Always `"released"`.
    pub status: String,
}

impl Released {
    /// The task is back in the queue.
    pub fn new(task_id: TaskId) -> Self {
        Self { task_id, status: "released".to_owned() }
    }
}

fn decode_wait(fields: &mut Fields<'_>) -> Option<u64> {
    fields.range("wait_seconds", 0..=MAX_WAIT.as_secs(), Some(default_wait()))
}

fn one_task() -> u32 {
    1
}

fn default_wait() -> u64 {
    DEFAULT_LEASE_WAIT.as_secs()
}

decode_via_fields!(LeaseRequest, NextRequest, ReleaseRequest);
