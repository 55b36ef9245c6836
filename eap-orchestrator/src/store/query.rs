//! What a store is asked, and what it answers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, Credential, Task};
use eap_types::{
    AgentId, CredentialId, JsonObject, RequestId, SessionState, TaskId, TaskStatus, TaskType, TenantId, Timestamp,
    WorkflowId,
};

/// Counts the writes to a record; a write names the one it was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// The number of an event; rises with every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventSeq(pub u64);

/// The number of a task, a session or a workflow in order of arrival; each kind has its own.
///
/// The number of what was purged is not given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Insertion(pub u64);

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// To be named by the write that is decided on it.
    pub revision: Revision,
    /// The store's time when it was read: decide with this one.
    pub now: Timestamp,
}

/// An operator key or registration secret, and when it was last used.
pub type CredentialRow = (Stored<Credential>, Option<Timestamp>);

/// Which tasks to list.
#[derive(Clone, Debug)]
pub struct TaskFilter {
    /// Of this tenant.
    pub tenant: TenantId,
    /// In this state.
    pub status: Option<TaskStatus>,
    /// Whose newest attempt is this agent's.
    pub agent: Option<AgentId>,
    /// Of this type.
    pub task_type: Option<TaskType>,
    /// Only [dead letters](Task::is_dead_letter).
    pub dead_letters: bool,
    /// Inserted before this one.
    pub before: Option<Insertion>,
    /// At most so many.
    pub limit: usize,
}

/// Which sessions to list.
#[derive(Clone, Debug)]
pub struct SessionFilter {
    /// Of this tenant.
    pub tenant: TenantId,
    /// That stand here.
    pub status: Option<SessionState>,
    /// Of this workflow, whatever its version.
    pub workflow_id: Option<WorkflowId>,
    /// That were started for this agent.
    pub agent_id: Option<AgentId>,
    /// Inserted before this one.
    pub before: Option<Insertion>,
    /// At most so many.
    pub limit: usize,
}

/// Agents that can take work now, and how much.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Served in this order.
    pub asks: Vec<Ask>,
}

/// Once the inputs and contexts of an ask's tasks have so many bytes together, it gets no more: an answer of many large
/// tasks would be more than its agent reads. 4 MiB.
pub const MAX_CLAIM_BYTES: usize = 4 * 1024 * 1024;

/// One agent's wish for work.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The agent, as its caller knows it.
    pub agent: Arc<Agent>,
    /// At most so many tasks.
    pub max_tasks: u32,
    /// The request that may be repeated.
    pub request_id: Option<RequestId>,
    /// Only tasks of these types, if given.
    pub task_types: Option<BTreeSet<TaskType>>,
    /// How long a lease holds without renewal.
    pub lease: Duration,
}

/// What one ask got.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The tasks, now leased to the asking agent, in the order they were taken.
    pub tasks: Vec<Task>,
    /// Whether they were claimed before by the same request.
    pub repeated: bool,
    /// Whether nothing is left that is ready and that the ask could take: there was room for more, and nothing was
    /// refused.
    pub is_exhausted: bool,
    /// Whether other transactions on the same data had some of it in hand, and may leave it there without telling of it: an answer
    /// without tasks is then no reason to wait for news of one, but to ask again after a while.
    pub is_contended: bool,
}

/// What one claim did.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// One answer per ask, in order.
    pub answers: Vec<Claimed>,
    /// The number of the newest event, this claim's included.
    pub head: EventSeq,
}

/// An event as it was numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number.
    pub seq: EventSeq,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it happened.
    pub at: Timestamp,
    /// What happened, as [`EventKind::as_str`](super::EventKind::as_str) spells it.
    pub kind: String,
    /// The task it concerns.
    pub task: Option<TaskId>,
    /// The agent it concerns.
    pub agent: Option<AgentId>,
    /// The attempt it concerns.
    pub attempt: Option<u32>,
    /// More, where there is more to say.
    pub detail: JsonObject,
}

/// What others committed.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Their events, in order.
    pub events: Vec<Event>,
    /// From where they were read: before the place that was asked for, where it was found out since then that some before it
    /// were not known. Who asked has lost them if he goes on from behind here.
    pub from: EventSeq,
    /// Up to here there are no others.
    pub upto: EventSeq,
    /// The newest event there was.
    pub head: EventSeq,
}

/// One of the stores that share the same data, and the orchestrator over it; another one after each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is old enough to go.
#[derive(Clone, Copy, Debug)]
pub struct Cutoffs {
    /// Final tasks last changed before this go, with their results, late results and events.
    pub tasks: Timestamp,
    /// Sessions go that came to their end before this; the tasks of their steps go by their own age.
    pub sessions: Timestamp,
    /// Events before this go.
    pub events: Timestamp,
    /// Late results before this go.
    pub late_results: Timestamp,
    /// Idempotency keys before this go.
    pub idempotency_keys: Timestamp,
    /// Webhooks go that came before this.
    pub webhooks: Timestamp,
    /// States go that came before this, but the newest of each agent.
    pub states: Timestamp,
    /// Operator keys and registration secrets go that were revoked or expired before this.
    pub credentials: Timestamp,
    /// Agents go that were deregistered, superseded or last seen before this and hold no lease.
    pub agents: Timestamp,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many rows, of all kinds, those of the back end's own book-keeping included.
    pub rows: u64,
    /// The tasks.
    pub tasks: Vec<TaskId>,
    /// The agents.
    pub agents: Vec<AgentId>,
    /// The operator keys and registration secrets.
    pub credentials: Vec<CredentialId>,
}
