//! A task's record: what was asked, how far it got, and who tried.

mod apply;
mod attempt;
mod event;
mod letter;
mod phase;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use eap_types::{AgentId, CancelCause, JsonObject, Priority, SessionId, TaskId, TaskStatus, Timestamp};
use serde::{Deserialize, Serialize};

pub use attempt::{Attempt, AttemptOutcome, Stop};
pub use event::{EndOfLease, Quote, Report, ReportKind, TaskEvent};
pub use letter::{Disposal, Requeue};
pub use phase::{Lease, Phase};
pub use step::{Changed, Note, NoteKind, RecordedResult, Refusal, Step};

use crate::routing::RoutingKey;

/// What was asked for; written once at submission and never changed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The task's id.
    pub id: TaskId,
    /// Who may take it; carries the tenant and the task type.
    pub routing: RoutingKey,
    /// The conversation or workflow it belongs to.
    pub session_id: SessionId,
    /// The input as the text the agent receives.
    pub input: String,
    /// Opaque JSON for the handler.
    #[serde(default)]
    pub context: JsonObject,
    /// Agents that get it before others that suit as well; restricts nothing and is no part of `routing`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub preferred_agents: BTreeSet<AgentId>,
    /// Free words for the handler; never matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// 0 is taken first, 4 last.
    pub priority: Priority,
    /// The hard limit of one attempt.
    pub timeout: Duration,
    /// How long an attempt may go on without its handler telling anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactivity: Option<Duration>,
    /// How many attempts may fail or expire.
    pub max_attempts: u32,
    /// Not offered before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// No attempt starts after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// The W3C trace the submitter was in, passed through to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The dead letter that it does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_from: Option<TaskId>,
    /// Whether it was made for a step of its session, which goes on when it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_step: bool,
    /// Who is told once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
}

/// Shows how much input there is, not what: payloads stay out of logs.
impl fmt::Debug for TaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpec")
            .field("id", &self.id)
            .field("routing", &self.routing)
            .field("session_id", &self.session_id)
            .field("input", &format_args!("{} bytes", self.input.len()))
            .field("context", &self.context)
            .field("preferred_agents", &self.preferred_agents)
            .field("requirements", &self.requirements)
            .field("priority", &self.priority)
            .field("timeout", &self.timeout)
            .field("inactivity", &self.inactivity)
            .field("max_attempts", &self.max_attempts)
            .field("run_at", &self.run_at)
            .field("expires_at", &self.expires_at)
            .field("created_at", &self.created_at)
            .field("traceparent", &self.traceparent)
            .field("requeued_from", &self.requeued_from)
            .field("is_step", &self.is_step)
            // Its path or query may be the receiver's secret.
            .field("has_callback", &self.callback_url.is_some())
            .finish()
    }
}

impl TaskSpec {
    /// The bytes that its agent has to take in: input and context.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.input.len() + self.context.as_str().len()
    }
}

/// How far a task got; the part of the record that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// Where it is in its life.
    pub phase: Phase,
    /// Every assignment, oldest first; number *n* stands at index *n - 1*.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// What the newest attempt last said of its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How many bytes of output the newest attempt has told while it ran.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_bytes: u64,
    /// Agents that rejected it, and until when they are not offered it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excluded: BTreeMap<AgentId, Timestamp>,
    /// What an operator decided about it, once it had failed for good or died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposal: Option<Disposal>,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

/// What a holder says of a running attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The number of the report, of which a lower one is ignored; `None` if none came and a heartbeat told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The part that is done, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// What is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl TaskState {
    /// How many of `max_attempts` are used up. Counted from outcomes, so that a late failure takes the
    /// place of its expiry.
    #[must_use]
    pub fn attempts_used(&self) -> u32 {
        let used = self.attempts.iter().filter(|attempt| attempt.counts()).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// The newest attempt that is over.
    #[must_use]
    pub fn last_end(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| attempt.outcome != AttemptOutcome::Open)
    }
}

/// A task as it stands: the request and its state.
///
/// [`Task::apply`] is the only way on from here. The record has no clock: every decision takes the
/// time as an argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What was asked for; shared, since it never changes.
    pub spec: Arc<TaskSpec>,
    /// How far it got.
    pub state: TaskState,
}

impl Task {
    /// A task that was just submitted: queued, at once or from its `run_at` on.
    #[must_use]
    pub fn submitted(spec: TaskSpec) -> Self {
        let now = spec.created_at;
        let ready_at = spec.run_at.filter(|at| *at > now);
        let state = TaskState {
            phase: Phase::Queued { ready_at },
            attempts: Vec::new(),
            progress: None,
            output_bytes: 0,
            excluded: BTreeMap::new(),
            disposal: None,
            updated_at: now,
        };
        Self { spec: Arc::new(spec), state }
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.spec.id
    }

    /// The word for its phase on the wire.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.state.phase.status()
    }

    /// The newest attempt, if there was any.
    #[must_use]
    pub fn newest_attempt(&self) -> Option<&Attempt> {
        self.state.attempts.last()
    }

    /// The attempt of this number.
    #[must_use]
    pub fn attempt(&self, number: u32) -> Option<&Attempt> {
        self.state.attempts.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// Why the server ended one of its attempts under the holder, if it did.
    #[must_use]
    pub fn stop_of(&self, attempt: &Attempt) -> Option<Stop> {
        match &self.state.phase {
            Phase::Cancelled { reason } => Some(Stop { cause: CancelCause::Cancelled, reason: reason.clone() }),
            _ => attempt.stopped().map(|cause| Stop { cause, reason: attempt.message.clone() }),
        }
    }

    /// Whether `agent` was ever assigned this task; to any other it does not exist.
    #[must_use]
    pub fn was_assigned_to(&self, agent: &AgentId) -> bool {
        self.state.attempts.iter().any(|attempt| attempt.agent == *agent)
    }

    /// The live lease, if an agent holds the task.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state.phase {
            Phase::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether a claim may take it now, by anyone its routing key admits.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state.phase, Phase::Queued { ready_at: None })
    }

    /// Whether `agent` may be offered it at `now`: not after it rejected the task a short while ago,
    /// and not once the task has expired.
    #[must_use]
    pub fn may_be_offered_to(&self, agent: &AgentId, now: Timestamp) -> bool {
        self.spec.expires_at.is_none_or(|at| at > now)
            && self.state.excluded.get(agent).is_none_or(|until| *until <= now)
    }

    /// When the sweeper must next look at it with [`TaskEvent::Due`]; `None` if never.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match &self.state.phase {
            Phase::Queued { ready_at } => [*ready_at, self.spec.expires_at].into_iter().flatten().min(),
            Phase::Leased(lease) => Some(lease.due_at()),
            _ => None,
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
