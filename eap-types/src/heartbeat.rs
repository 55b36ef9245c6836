//! Signs of life and what comes back with them (ADR 001, docs/protocol.md section 1).

use schemars::JsonSchema;
use serde::Serialize;

use crate::macros::{decode_via_fields, words};
use crate::{Decode, DirectiveId, Fields, JsonObject, LeaseId, TaskId, Timestamp, figure};

const MAX_WORK_LOOP_STATE_CHARS: usize = 64;

words! {
    /// How an agent says it is doing (ADR 001).
    pub enum HealthStatus {
        /// Eligible for work.
        Healthy = "healthy",
        /// Eligible, ranked lower.
        Degraded = "degraded",
        /// Gets no new work for now.
        Busy = "busy",
        /// About to leave: gets no new work.
        Offline = "offline",
    }
}

/// A sign of life: the body of `POST …/{agent_id}/heartbeat`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Heartbeat {
    /// How the agent is doing (ADR 001).
    pub status: HealthStatus,
    /// The share of the agent's capacity in use, 0 to 1 (ADR 001). Default 0.
    #[serde(default, serialize_with = "figure::write", skip_serializing_if = "figure::is_not_finite")]
    #[schemars(range(min = 0, max = 1))]
    pub current_load: f64,
    /// How many tasks the agent works on. Default 0.
    #[serde(default)]
    pub tasks_in_progress: u64,
    /// Anything the agent measures; numeric members become gauges (ADR 001). Default `{}`.
    #[serde(default)]
    pub metrics: JsonObject,
    /// The agent's time, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Counts this agent's beats, so that one that was overtaken changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The leases to renew; without the key every lease the agent holds is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<HeldTask>>,
    /// Directives that were carried out and need not be repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ack: Vec<DirectiveId>,
    /// How the agent's loop for taking work is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_loop: Option<WorkLoop>,
    /// Whether the agent finishes what it holds and takes nothing new. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

impl Heartbeat {
    /// A beat that tells the status and renews every lease.
    pub fn new(status: HealthStatus) -> Self {
        Self {
            status,
            current_load: 0.0,
            tasks_in_progress: 0,
            metrics: JsonObject::default(),
            timestamp: None,
            seq: None,
            tasks: None,
            ack: Vec::new(),
            work_loop: None,
            draining: false,
        }
    }

    /// Sets the share of capacity in use, 0 to 1.
    #[must_use]
    pub fn with_current_load(mut self, load: f64) -> Self {
        self.current_load = load;
        self
    }

    /// Sets how many tasks the agent works on.
    #[must_use]
    pub fn with_tasks_in_progress(mut self, tasks: u64) -> Self {
        self.tasks_in_progress = tasks;
        self
    }

    /// Sets what the agent measured.
    #[must_use]
    pub fn with_metrics(mut self, metrics: JsonObject) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sets the agent's time.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Numbers the beat.
    #[must_use]
    pub fn with_seq(mut self, seq: u64) -> Self {
        self.seq = Some(seq);
        self
    }

    /// Renews exactly these leases.
    #[must_use]
    pub fn with_tasks(mut self, tasks: impl IntoIterator<Item = HeldTask>) -> Self {
        self.tasks = Some(tasks.into_iter().collect());
        self
    }

    /// Acknowledges directives.
    #[must_use]
    pub fn with_ack(mut self, directives: impl IntoIterator<Item = DirectiveId>) -> Self {
        self.ack = directives.into_iter().collect();
        self
    }

    /// Tells how the agent's loop for taking work is doing.
    #[must_use]
    pub fn with_work_loop(mut self, work_loop: WorkLoop) -> Self {
        self.work_loop = Some(work_loop);
        self
    }

    /// Says whether the agent is finishing up.
    #[must_use]
    pub fn with_draining(mut self, draining: bool) -> Self {
        self.draining = draining;
        self
    }
}

impl Decode for Heartbeat {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let status = fields.required("status");
        let current_load = fields.fraction("current_load").unwrap_or(0.0);
        let tasks_in_progress = fields.or_default("tasks_in_progress");
        let metrics = fields.json_object("metrics").unwrap_or_default();
        let timestamp = fields.optional("timestamp");
        let seq = fields.optional("seq");
        let tasks = fields.array("tasks");
        let ack = fields.or_default("ack");
        let work_loop = fields.object("work_loop");
        let draining = fields.or_default("draining");
        Some(Self {
            status: status?,
            current_load,
            tasks_in_progress,
            metrics,
            timestamp,
            seq,
            tasks,
            ack,
            work_loop,
            draining,
        })
    }
}

/// A task the agent still holds; it stays listed until its result has a definitive answer.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct HeldTask {
    /// The task.
    pub task_id: TaskId,
    /// The lease under which the agent got it.
    pub lease_id: LeaseId,
    /// How far the work is, 0 to 1.
    #[serde(default, serialize_with = "figure::write_optional", skip_serializing_if = "figure::is_absent")]
    #[schemars(range(min = 0, max = 1))]
    pub progress: Option<f64>,
}

impl HeldTask {
    /// A task whose progress is unknown.
    pub fn new(task_id: TaskId, lease_id: LeaseId) -> Self {
        Self { task_id, lease_id, progress: None }
    }

    /// Sets how far the work is, 0 to 1.
    #[must_use]
    pub fn with_progress(mut self, progress: f64) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl Decode for HeldTask {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let task_id = fields.required("task_id");
        let lease_id = fields.required("lease_id");
        let progress = fields.fraction("progress");
        Some(Self { task_id: task_id?, lease_id: lease_id?, progress })
    }
}

/// How the agent's loop for taking work is doing, so that an agent that beats but no longer asks is noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkLoop {
    /// A word of the agent's own for what the loop does, at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub state: Option<String>,
    /// When the agent last asked for work, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll_at: Option<Timestamp>,
}

impl WorkLoop {
    /// A loop of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the word for what the loop does.
    #[must_use]
    pub fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Sets when the agent last asked for work.
    #[must_use]
    pub fn with_last_poll_at(mut self, at: Timestamp) -> Self {
        self.last_poll_at = Some(at);
        self
    }
}

impl Decode for WorkLoop {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            state: fields.text("state", MAX_WORK_LOOP_STATE_CHARS),
            last_poll_at: fields.optional("last_poll_at"),
        })
    }
}

decode_via_fields!(Heartbeat, HeldTask, WorkLoop);
