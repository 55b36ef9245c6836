//! Where everything that was acknowledged is kept: the [`Repository`] contract.
//!
//! A back end is one file beside this one. What all of them must do is said at [`Repository`], and
//! `conformance` is the same contract as tests.

mod change;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
#[cfg(feature = "faulty")]
pub mod faulty;
mod memory;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod prepared;
mod query;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod queue;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod routing;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stats;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod tally;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use eap_core::{Agent, Changed, DueCallback, Refusal, Session, Task, Vitals};
use eap_types::{
    AgentId, SessionId, SessionState, SessionView, TaskId, TenantId, Timestamp, WorkflowId, WorkflowSummary,
};

pub use change::{
    AgentWrite, CallbackWrite, Change, Committed, CredentialWrite, EventKind, IdempotencyKeyRow, IdempotencyScope,
    IdempotentTarget, LateResultRow, NewEvent, ResultRow, SessionWrite, StateRow, TaskWrite, WebhookRow, WorkflowRow,
    events_of,
};
pub use error::{BoxError, RecordRef, StoreError};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{NewTask, PostgresOptions, PostgresStore};
pub use query::{
    Ask, Claimed, Claims, CredentialRow, Cutoffs, Demand, Event, EventSeq, Insertion, MAX_CLAIM_BYTES, News, Purged,
    ReplicaId, Revision, SessionFilter, Stored, TaskFilter,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
pub use stats::{Depth, Depths, Distribution, InboxDepth, ReadyDepth, StoreErrors, StoreStats};

use crate::clock::Clock;

/// Says for one ready task and one ask whether the ask gets it, and the record that follows.
///
/// Called inside the store's transaction, with the store's time; it must be quick and do nothing else.
pub type Decide = dyn Fn(&Task, &Ask, Timestamp) -> Result<Changed, Refusal> + Send + Sync;

/// Durable storage for tasks, agents, results, workflows, sessions and events.
///
/// # Contract
///
/// - **Acknowledged means kept.** When a write returns `Ok`, all of it survives whatever the back end
///   promises to survive (SQLite: kill -9 at any instruction, and loss of power). When it returns an
///   error, either none of it is there, or ([`StoreError::Unavailable`], [`StoreError::Failed`]) it is
///   unknown whether all or none of it is; never a part.
/// - **Revisions count writes**: a record has revision 1 once inserted, and one more after each update, claims
///   included.
/// - **A write names the revision it was decided on.** If any record of a [`Change`] is at another
///   revision, the whole change fails with [`StoreError::Conflict`] and nothing of it is written. An
///   insert whose id or unique key exists fails with [`StoreError::Duplicate`]. Changes may share a
///   transaction; one that fails leaves its neighbours alone.
/// - **A result belongs to a task.** A result or late result of a task that is neither stored nor inserted by
///   the same change fails with [`StoreError::Conflict`]: the task was purged since it was read.
/// - **A callback belongs to a task**, like a result; and a task whose callback is not over is not purged.
/// - **A session goes on in one commit** with the end of a step's task, its result and the task of the next step. Its spec
///   is written once; its steps are only ever added to. A task is a step of one session at most: a session that begins a
///   step with the task of another one, or of an earlier step, fails with [`StoreError::Duplicate`].
/// - **A workflow that is kept stays as it is**: a version that was kept before fails with [`StoreError::Duplicate`],
///   whatever its content, and no purge takes one.
/// - **A webhook takes effect once**: a change with one that was written before, and is not purged, fails with
///   [`StoreError::Duplicate`], and nothing of it is written.
/// - **Writes do not depend on their caller.** Once a write was handed over, dropping the future that
///   waits for it does not undo or cut it.
/// - **Events are numbered without gaps that close later**: a reader that has seen number *n* will never
///   be shown a smaller new one. The numbers rise in the order of the commits.
/// - **Reads see every acknowledged write** that returned before they began.
/// - **Claims are one operation.** See [`claim`](Repository::claim).
/// - **Time is the store's**: [`Stored::now`] and the time handed to [`Decide`] come from one clock for
///   all users of the same data, in whole microseconds.
///
/// No method has a default body: a forgotten one is a compile error, not a wrong answer.
#[async_trait]
pub trait Repository: fmt::Debug + Send + Sync + 'static {
    /// Reads one task, or `None` if it was never submitted or is purged.
    async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, StoreError>;

    /// Reads tasks, in any order; those that are not there are left out.
    async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, StoreError>;

    /// Reads the recorded result of a task: there is one exactly if it is completed or failed.
    async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, StoreError>;

    /// Reads the reports that came too late for a task, in order of attempt.
    async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, StoreError>;

    /// Reads tasks, newest first, with the insertion number that continues the page.
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, StoreError>;

    /// Reads the tasks an agent holds now, oldest lease first.
    async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, StoreError>;

    /// Reads every leased task after `after` in id order, at most `limit`: for the fresh start after an outage.
    async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, StoreError>;

    /// Reads tasks whose [`Task::due_at`] is at or before `until`, the longest due first.
    async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, StoreError>;

    /// Reads one session, or `None` if it was never started or is purged.
    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError>;

    /// Reads sessions as [`Session::view_in_list`] shows them, newest first, with the insertion number that continues the
    /// page.
    ///
    /// What it costs does not grow with their results.
    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, StoreError>;

    /// Reads where every session stands that is not over, after `after` in id order, at most `limit`: for the start.
    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError>;

    /// Reads the session that a task is a step of, an earlier step too; `None` if there is none. The task itself may be
    /// purged.
    async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, StoreError>;

    /// Reads one version of a workflow; without a version, the one that was kept last.
    async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, StoreError>;

    /// Reads workflows, without their steps, by the version of each that was kept last, those that were kept last first, with
    /// the insertion number that continues the page.
    async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, StoreError>;

    /// Reads every agent that is not purged, deregistered ones too.
    async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError>;

    /// The same of these agents, in any order; those that are not there are left out.
    async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError>;

    /// Reads the vitals of agents that were last seen at this time or since.
    async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, StoreError>;

    /// Reads every operator key and registration secret that is not purged, revoked and expired ones too, in order
    /// of id, with the time each was last used.
    async fn credentials(&self) -> Result<Vec<CredentialRow>, StoreError>;

    /// Reads what a key was first used for, within its scope.
    async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, StoreError>;

    /// Reads what an agent of a platform said of its state: the newest registration first, within it in order of
    /// (`reported_at`, arrival) from the newest, at most `limit`.
    async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, StoreError>;

    /// The first of these of every agent.
    async fn newest_states(&self) -> Result<Vec<StateRow>, StoreError>;

    /// Reads events after `after`, oldest first, at most `limit`; of one task if `task` is given.
    async fn events(&self, after: EventSeq, task: Option<TaskId>, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// The number of the oldest event that is still there, if one is. Behind it, numbers are missing only where a task was
    /// purged with its events.
    async fn oldest_event(&self) -> Result<Option<EventSeq>, StoreError>;

    /// The number of the newest event.
    async fn head(&self) -> Result<EventSeq, StoreError>;

    /// Whether other stores may stand on the same data, each with an orchestrator that keeps some of it in memory. What they
    /// write is then told by [`news`](Repository::news).
    fn is_shared(&self) -> bool;

    /// What tells the store's time, if it has one of its own: all decisions about the same data are then made by it.
    fn clock(&self) -> Option<Arc<dyn Clock>>;

    /// Reads the events after `after` that were not written by this store, at most `limit`; and those of writes whose end it
    /// could not learn. Nothing for a store that is not shared.
    async fn news(&self, after: EventSeq, limit: usize) -> Result<News, StoreError>;

    /// Waits until there may be such news since this was last waited for. It may miss some: who waits has to look after a
    /// while in any case. Safe to drop; pending for ever for a store that is not shared.
    async fn noticed(&self);

    /// This store among those that share the data.
    fn replica(&self) -> ReplicaId;

    /// Notes that this store is in use now, and reads when all that share the data were so last. Those that closed are not
    /// among them, and those that were not for an hour need not be.
    async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, StoreError>;

    /// The newest pulse that a sweeper wrote, if ever one did.
    async fn pulse(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Reads callbacks in the order of (time when due, task), those that are not due yet as well; after the given place
    /// in that order, at most `limit`.
    async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, StoreError>;

    /// Counts the tasks that are not over, all at one moment.
    ///
    /// Its cost may grow with their number; whoever asks does so rarely (see `metrics`).
    async fn depths(&self) -> Result<Depths, StoreError>;

    /// What the store did since it was opened. Quick, waits for nothing, and answers even once the store was closed or
    /// has failed.
    fn stats(&self) -> StoreStats;

    /// Applies all of `change` or none of it, events included.
    ///
    /// Whoever wants one write to follow another waits for the answer to the first: of calls that overlap, either may be made
    /// first.
    async fn commit(&self, change: Change) -> Result<Committed, StoreError>;

    /// Leases ready tasks to those who ask, in one transaction; one answer per ask, in order.
    ///
    /// For each ask in turn: if its `request_id` is bound to live leases of that agent, the answer is those
    /// tasks again and nothing else. Otherwise the ask's room is the smaller of `max_tasks` and what the
    /// agent's `max_concurrent_tasks` leaves beside the leases it holds, earlier asks of this claim included.
    /// Ready tasks ([`Task::is_ready`]) whose routing key [admits](eap_core::RoutingKey::admits) the agent,
    /// of the ask's `task_types` if it names some, are put to `decide` in order of (priority, insertion number)
    /// until the room is filled, or the tasks' payloads have [`MAX_CLAIM_BYTES`] together; each that `decide` grants is written, with the events of its notes. A refused
    /// task is passed over. An ask whose agent is unknown, not `Active`, or stored under another epoch gets
    /// nothing.
    ///
    /// The cost does not grow with the number of tasks that are queued, delayed or final.
    async fn claim(&self, demand: Demand, decide: Arc<Decide>) -> Result<Claims, StoreError>;

    /// As [`commit`](Repository::commit) and then [`claim`](Repository::claim), in one transaction: a task that somebody
    /// waits for is written and leased at once. A change that is refused fails the whole call.
    async fn commit_and_claim(&self, change: Change, demand: Demand, decide: Arc<Decide>)
    -> Result<Claims, StoreError>;

    /// Deletes what is older than the cut-offs, at most `limit` rows of a kind; call again while something goes.
    async fn purge(&self, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, StoreError>;

    /// Finishes what was handed over and lets go of files and locks. Later calls fail with [`StoreError::Closed`],
    /// except this one: to close what is closed is `Ok`.
    async fn close(&self) -> Result<(), StoreError>;
}
