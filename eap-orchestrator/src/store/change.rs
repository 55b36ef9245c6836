//! What one commit writes.

use eap_core::{Agent, CheckedWorkflow, Credential, DueCallback, Note, NoteKind, Session, Task, Vitals};
use eap_types::{AgentId, CredentialId, JsonObject, TaskId, TaskResult, TenantId, Timestamp};

use super::query::{EventSeq, Revision};

/// Everything one commit writes: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Tasks, each at most once.
    pub tasks: Vec<TaskWrite>,
    /// Agents, each at most once.
    pub agents: Vec<AgentWrite>,
    /// Recorded results; a task has at most one ever.
    pub results: Vec<ResultRow>,
    /// Late results; the first of an attempt is kept, a further one is dropped without error.
    pub late_results: Vec<LateResultRow>,
    /// Sessions, each at most once.
    pub sessions: Vec<SessionWrite>,
    /// Workflows to keep, each version once and for ever.
    pub workflows: Vec<WorkflowRow>,
    /// Callbacks, each at most once.
    pub callbacks: Vec<CallbackWrite>,
    /// A key and what it stands for from now on.
    pub idempotency: Option<IdempotencyKeyRow>,
    /// A webhook that takes effect with this change, and never again.
    pub webhook: Option<WebhookRow>,
    /// What agents of a platform said of their state; each is kept beside those before it.
    pub states: Vec<StateRow>,
    /// Agents' vitals; they have no revision, the last writer wins. Where several stores can share the data, those are passed
    /// over that are [older](Vitals::are_newer_than) than what is stored. Unknown agents are passed over.
    pub vitals: Vec<(AgentId, Vitals)>,
    /// Operator keys and registration secrets, each at most once.
    pub credentials: Vec<CredentialWrite>,
    /// When keys and secrets were last used; without revision, the last writer wins. Unknown ones are passed over.
    pub last_used: Vec<(CredentialId, Timestamp)>,
    /// The sweeper's pulse; an older one than is stored is passed over.
    pub pulse: Option<Timestamp>,
    /// What observers are told, numbered in this order.
    pub events: Vec<NewEvent>,
}

impl Change {
    /// What takes in a task that was not there before: its record, and the event that tells of it.
    pub(crate) fn submitting(task: Task) -> Self {
        let events = events_of(&task, &[Note::of(NoteKind::Submitted)], task.spec.created_at);
        Self { tasks: vec![TaskWrite::Insert(task)], events, ..Self::default() }
    }

    /// Writes along what another change does to tasks; what it does to anything else is not for this.
    pub(crate) fn add(&mut self, of_a_task: Self) {
        debug_assert!(of_a_task.sessions.is_empty() && of_a_task.agents.is_empty() && of_a_task.states.is_empty());
        let Self { tasks, results, callbacks, events, .. } = of_a_task;
        self.tasks.extend(tasks);
        self.results.extend(results);
        self.callbacks.extend(callbacks);
        self.events.extend(events);
    }
}

/// A task to write.
#[derive(Clone, Debug)]
pub enum TaskWrite {
    /// A new one; gets the next insertion number.
    Insert(Task),
    /// A new state for one that was read at `revision`; the spec is not written again.
    Update {
        /// The whole record.
        task: Task,
        /// What it was read at.
        revision: Revision,
    },
}

impl TaskWrite {
    /// The record.
    #[must_use]
    pub fn task(&self) -> &Task {
        match self {
            Self::Insert(task) | Self::Update { task, .. } => task,
        }
    }
}

/// An agent to write. (tenant, name, instance_id) is unique among agents with an instance_id.
#[derive(Clone, Debug)]
pub enum AgentWrite {
    /// A new one, with its first vitals.
    Insert(Agent, Vitals),
    /// A new record for one that was read at `revision`.
    Update {
        /// The whole record.
        agent: Agent,
        /// What it was read at.
        revision: Revision,
    },
}

/// A session to write.
#[derive(Clone, Debug)]
pub enum SessionWrite {
    /// A new one; gets the next insertion number among sessions.
    Insert(Session),
    /// A new run for one that was read at `revision`; the spec is not written again.
    Update {
        /// The whole record. Its steps are those that were read, and what was begun since behind them.
        session: Session,
        /// What it was read at.
        revision: Revision,
    },
}

impl SessionWrite {
    /// The record.
    #[must_use]
    pub fn session(&self) -> &Session {
        match self {
            Self::Insert(session) | Self::Update { session, .. } => session,
        }
    }
}

/// An operator key or registration secret to write.
#[derive(Clone, Debug)]
pub enum CredentialWrite {
    /// A new one, not used yet.
    Insert(Credential),
    /// A new record for one that was read at `revision`; when it was last used stays.
    Update {
        /// The whole record.
        credential: Credential,
        /// What it was read at.
        revision: Revision,
    },
}

impl CredentialWrite {
    /// The record.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        match self {
            Self::Insert(credential) | Self::Update { credential, .. } => credential,
        }
    }
}

/// A callback to write. A task has at most one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackWrite {
    /// One that became due.
    Insert(DueCallback),
    /// A new state for one that was read at `revision`.
    Update {
        /// The whole record.
        callback: DueCallback,
        /// What it was read at.
        revision: Revision,
    },
    /// It is over.
    Remove {
        /// The task it belongs to.
        task: TaskId,
        /// What it was read at.
        revision: Revision,
    },
}

impl CallbackWrite {
    /// The task it belongs to.
    #[must_use]
    pub fn task(&self) -> TaskId {
        match self {
            Self::Insert(callback) | Self::Update { callback, .. } => callback.task,
            Self::Remove { task, .. } => *task,
        }
    }
}

/// A workflow that is kept. (tenant, id, version) is unique, and what it names never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it consists of.
    pub workflow: CheckedWorkflow,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// The result a task is recorded with.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// The task.
    pub task: TaskId,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What was reported.
    pub result: TaskResult,
}

/// A report that came too late; evidence that changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct LateResultRow {
    /// The task.
    pub task: TaskId,
    /// The attempt its agent held.
    pub attempt: u32,
    /// The agent.
    pub agent: AgentId,
    /// When it came.
    pub received_at: Timestamp,
    /// What was reported.
    pub result: TaskResult,
}

/// A webhook that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookRow {
    /// Tells it from every other one; the same for a repeat.
    pub digest: [u8; 32],
    /// When it came.
    pub received_at: Timestamp,
}

/// What an agent of a platform said of its state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRow {
    /// The agent.
    pub agent: AgentId,
    /// Its registration then.
    pub epoch: u64,
    /// Since when, by the clock of whoever said so.
    pub reported_at: Timestamp,
    /// When it came.
    pub received_at: Timestamp,
    /// The word, as it was said.
    pub state: String,
    /// What was said beside it.
    pub details: Option<JsonObject>,
}

/// Within what an idempotency key is unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyScope {
    /// Who used it.
    pub principal: String,
    /// For which route.
    pub route: &'static str,
    /// The key itself.
    pub key: String,
}

/// An idempotency key and what it was first used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKeyRow {
    /// The key within its scope.
    pub scope: IdempotencyScope,
    /// SHA-256 of the canonical body it came with.
    pub body_sha256: [u8; 32],
    /// What was made.
    pub target: IdempotentTarget,
    /// When.
    pub created_at: Timestamp,
}

/// What a call with an idempotency key made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdempotentTarget {
    /// A task.
    Task(TaskId),
    /// Tasks, in the order they were sent; `None` stands for one that was refused.
    Tasks(Vec<Option<TaskId>>),
    /// An agent.
    Agent(AgentId),
}

/// What happened, by its word on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// Something about a task.
    Task(NoteKind),
    /// An agent registered, for the first time or again.
    AgentRegistered,
    /// An agent drains.
    AgentDraining,
    /// A draining agent takes work again.
    AgentResumed,
    /// A newer registration took an agent's place.
    AgentSuperseded,
    /// An agent left.
    AgentDeregistered,
    /// An operator asked an agent to get a new token.
    AgentRotationAsked,
    /// An operator asked that an agent take nothing new.
    AgentDrainAsked,
    /// An operator asked that an agent take work again.
    AgentResumeAsked,
    /// An operator asked an agent to beat at another interval.
    AgentIntervalAsked,
    /// An agent got a new token.
    AgentTokenRotated,
    /// Nothing is pushed to an agent any more.
    AgentPushSuspended,
    /// Tasks are pushed to an agent again.
    AgentPushResumed,
    /// An agent opened its WebSocket to one of several replicas.
    AgentConnected,
    /// An operator key was created.
    KeyCreated,
    /// An operator key was revoked.
    KeyRevoked,
    /// A registration secret was created.
    RegistrationSecretCreated,
    /// A registration secret was revoked.
    RegistrationSecretRevoked,
    /// The receiver of a task's callback took it.
    CallbackDelivered,
    /// The receiver of a task's callback did not take it, and will be called again.
    CallbackFailed,
    /// The receiver of a task's callback did not take it, and will not be called again.
    CallbackGivenUp,
    /// A workflow was started.
    WorkflowStarted,
    /// An agent began with a workflow, or a paused one goes on.
    WorkflowRunning,
    /// No further step of a workflow begins until it is resumed.
    WorkflowPaused,
    /// Every step of a workflow is done.
    WorkflowCompleted,
    /// A step of a workflow failed for good, and nothing more of it is done.
    WorkflowFailed,
    /// A workflow was stopped on request.
    WorkflowCancelled,
}

impl EventKind {
    /// The word on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task(kind) => kind.as_str(),
            Self::AgentRegistered => "agent.registered",
            Self::AgentDraining => "agent.draining",
            Self::AgentResumed => "agent.resumed",
            Self::AgentSuperseded => "agent.superseded",
            Self::AgentDeregistered => "agent.deregistered",
            Self::AgentRotationAsked => "agent.rotation_asked",
            Self::AgentDrainAsked => "agent.drain_asked",
            Self::AgentResumeAsked => "agent.resume_asked",
            Self::AgentIntervalAsked => "agent.interval_asked",
            Self::AgentTokenRotated => "agent.token_rotated",
            Self::AgentPushSuspended => "agent.push_suspended",
            Self::AgentPushResumed => "agent.push_resumed",
            Self::AgentConnected => "agent.connected",
            Self::KeyCreated => "key.created",
            Self::KeyRevoked => "key.revoked",
            Self::RegistrationSecretCreated => "registration_secret.created",
            Self::RegistrationSecretRevoked => "registration_secret.revoked",
            Self::CallbackDelivered => "callback.delivered",
            Self::CallbackFailed => "callback.failed",
            Self::CallbackGivenUp => "callback.given_up",
            Self::WorkflowStarted => "workflow.started",
            Self::WorkflowRunning => "workflow.running",
            Self::WorkflowPaused => "workflow.paused",
            Self::WorkflowCompleted => "workflow.completed",
            Self::WorkflowFailed => "workflow.failed",
            Self::WorkflowCancelled => "workflow.cancelled",
        }
    }
}

/// An event to be numbered by the commit that writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Whose it is.
    pub tenant: TenantId,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The task it concerns.
    pub task: Option<TaskId>,
    /// The agent it concerns.
    pub agent: Option<AgentId>,
    /// The attempt it concerns.
    pub attempt: Option<u32>,
    /// More, where there is more to say.
    pub detail: JsonObject,
}

/// The events that a task's notes become.
#[must_use]
pub fn events_of(task: &Task, notes: &[Note], at: Timestamp) -> Vec<NewEvent> {
    let event = |note: &Note| NewEvent {
        tenant: task.spec.routing.tenant,
        at,
        kind: EventKind::Task(note.kind),
        task: Some(task.id()),
        agent: note.agent.clone(),
        attempt: note.attempt,
        detail: detail_of(note),
    };
    notes.iter().map(event).collect()
}

/// What an event says beside whom it is about.
fn detail_of(note: &Note) -> JsonObject {
    #[derive(serde::Serialize)]
    struct Detail<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        progress: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        output_delta: Option<&'a str>,
    }
    let (message, output_delta) = (note.message.as_deref(), note.output.as_deref());
    let detail = Detail { message, progress: note.fraction, output_delta };
    if message.is_none() && output_delta.is_none() && note.fraction.is_none() {
        return JsonObject::default();
    }
    JsonObject::from_serialize(&detail).expect("texts and a fraction make a JSON object")
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The number of the newest event, this commit's included.
    pub head: EventSeq,
}
