//! A store whose calls wait at a gate, so that a test can do something while one is under way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eap_core::{Agent, DueCallback, Session, Task, Vitals};
use eap_orchestrator::store::{
    Change, Claims, Committed, CredentialRow, Cutoffs, Decide, Demand, Depths, Event, EventSeq, IdempotencyKeyRow,
    IdempotencyScope, Insertion, LateResultRow, MemoryStore, News, Purged, ReplicaId, Repository, ResultRow,
    SessionFilter, StateRow, StoreError, StoreStats, Stored, TaskFilter, WorkflowRow,
};
use eap_orchestrator::{Clock, SystemClock};
use eap_types::{
    AgentId, SessionId, SessionState, SessionView, TaskId, TenantId, Timestamp, WorkflowId, WorkflowSummary,
};
use tokio::sync::watch;

use super::in_time;

/// When a read of events waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Never,
    BeforeItReads,
    /// With what it has read.
    AfterIt,
    /// With which event is the oldest.
    WithTheOldest,
}

/// The memory store behind a gate for claims, and for commits that write tasks; one behind which a sweep waits with what
/// it has read; and one for reads of events.
#[derive(Debug)]
pub(crate) struct GatedStore {
    inner: MemoryStore,
    is_open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    may_sweep: watch::Sender<bool>,
    /// Reads of what is due so far, and how many tasks the newest of them found.
    sweeps: watch::Sender<(u64, usize)>,
    keeps_answers: watch::Sender<bool>,
    kept: watch::Sender<usize>,
    holds_events: watch::Sender<Hold>,
    readers: watch::Sender<usize>,
    lost: Mutex<HashSet<TaskId>>,
}

impl GatedStore {
    /// Open until it is closed.
    pub(crate) fn new() -> Arc<Self> {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    pub(crate) fn with_clock(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(clock),
            is_open: watch::Sender::new(true),
            waiting: watch::Sender::new(0),
            may_sweep: watch::Sender::new(true),
            sweeps: watch::Sender::default(),
            keeps_answers: watch::Sender::new(false),
            kept: watch::Sender::new(0),
            holds_events: watch::Sender::new(Hold::Never),
            readers: watch::Sender::new(0),
            lost: Mutex::default(),
        })
    }

    /// Lets the next sweep that finds something wait before it acts on it.
    pub(crate) fn hold_sweeps(&self) {
        self.may_sweep.send_replace(false);
    }

    /// Lets it go on, and waits until it has done what it meant to do.
    pub(crate) async fn release_sweep(&self) {
        let held = self.sweeps.borrow().0;
        self.may_sweep.send_replace(true);
        // A sweep acts on all it has read before it reads again.
        in_time("the next sweep", self.sweeps.subscribe().wait_for(|(count, _)| *count > held))
            .await
            .expect("it lives");
    }

    /// Waits until a sweep is held, with as many tasks in its hands.
    pub(crate) async fn until_a_sweep_holds(&self, tasks: usize) {
        in_time("a sweep", self.sweeps.subscribe().wait_for(|(_, found)| *found == tasks)).await.expect("it lives");
    }

    pub(crate) fn close_gate(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn open_gate(&self) {
        self.is_open.send_replace(true);
    }

    /// How many writes wait.
    pub(crate) fn waiting(&self) -> usize {
        *self.waiting.borrow()
    }

    /// From now on, claims are made, and their answers kept until further notice.
    pub(crate) fn keep_answers(&self) {
        self.keeps_answers.send_replace(true);
    }

    pub(crate) fn give_answers(&self) {
        self.keeps_answers.send_replace(false);
    }

    /// How many answers are kept.
    pub(crate) fn kept(&self) -> usize {
        *self.kept.borrow()
    }

    /// Lets reads of events wait from now on.
    pub(crate) fn hold_events(&self, hold: Hold) {
        self.holds_events.send_replace(hold);
    }

    /// Waits until a read of events is held.
    pub(crate) async fn until_events_are_held(&self) {
        in_time("a read of events", self.readers.subscribe().wait_for(|held| *held > 0)).await.expect("it lives");
    }

    async fn hold_reader(&self, hold: Hold) {
        if *self.holds_events.borrow() == hold {
            self.readers.send_modify(|held| *held += 1);
            let _ = self.holds_events.subscribe().wait_for(|now| *now == Hold::Never).await;
            self.readers.send_modify(|held| *held -= 1);
        }
    }

    /// From now on, a task is not found when it is looked up.
    pub(crate) fn lose(&self, task: TaskId) {
        self.lost.lock().expect("nobody panics with it").insert(task);
    }

    async fn pass(&self) {
        self.waiting.send_modify(|count| *count += 1);
        let _ = self.is_open.subscribe().wait_for(|open| *open).await;
        self.waiting.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl Repository for GatedStore {
    async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, StoreError> {
        if self.lost.lock().expect("nobody panics with it").contains(&id) {
            return Ok(None);
        }
        self.inner.task(id).await
    }

    async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, StoreError> {
        self.inner.tasks_of(ids).await
    }

    async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, StoreError> {
        self.inner.result(id).await
    }

    async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, StoreError> {
        self.inner.late_results(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, StoreError> {
        self.inner.tasks(filter).await
    }

    async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, StoreError> {
        self.inner.leases(agent).await
    }

    async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        self.inner.leased(after, limit).await
    }

    async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        let due = self.inner.due(until, limit).await?;
        self.sweeps.send_modify(|(count, found)| (*count, *found) = (*count + 1, due.len()));
        if !due.is_empty() {
            let _ = self.may_sweep.subscribe().wait_for(|may| *may).await;
        }
        Ok(due)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        self.inner.session(id).await
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, StoreError> {
        self.inner.sessions(filter).await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        self.inner.open_sessions(after, limit).await
    }

    async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, StoreError> {
        self.inner.session_of(task).await
    }

    async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        self.inner.workflow(tenant, id, version).await
    }

    async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, StoreError> {
        self.inner.workflows(tenant, before, limit).await
    }

    async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.inner.agents().await
    }

    async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.inner.agents_of(ids).await
    }

    async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, StoreError> {
        self.inner.vitals_since(since).await
    }

    async fn credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        self.inner.credentials().await
    }

    async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, StoreError> {
        self.inner.states(agent, limit).await
    }

    async fn newest_states(&self) -> Result<Vec<StateRow>, StoreError> {
        self.inner.newest_states().await
    }

    async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        self.inner.idempotent(scope).await
    }

    async fn events(&self, after: EventSeq, task: Option<TaskId>, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.hold_reader(Hold::BeforeItReads).await;
        let events = self.inner.events(after, task, limit).await;
        self.hold_reader(Hold::AfterIt).await;
        events
    }

    async fn oldest_event(&self) -> Result<Option<EventSeq>, StoreError> {
        let oldest = self.inner.oldest_event().await;
        self.hold_reader(Hold::WithTheOldest).await;
        oldest
    }

    async fn head(&self) -> Result<EventSeq, StoreError> {
        self.inner.head().await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.inner.clock()
    }

    async fn news(&self, after: EventSeq, limit: usize) -> Result<News, StoreError> {
        self.inner.news(after, limit).await
    }

    async fn noticed(&self) {
        self.inner.noticed().await;
    }

    fn replica(&self) -> ReplicaId {
        Repository::replica(&self.inner)
    }

    async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, StoreError> {
        self.inner.replicas().await
    }

    async fn pulse(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.pulse().await
    }

    async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, StoreError> {
        self.inner.callbacks(after, limit).await
    }

    async fn depths(&self) -> Result<Depths, StoreError> {
        self.inner.depths().await
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        if !change.tasks.is_empty() {
            self.pass().await;
        }
        self.inner.commit(change).await
    }

    async fn claim(&self, demand: Demand, decide: Arc<Decide>) -> Result<Claims, StoreError> {
        self.pass().await;
        let claims = self.inner.claim(demand, decide).await;
        if *self.keeps_answers.borrow() {
            self.kept.send_modify(|count| *count += 1);
            let _ = self.keeps_answers.subscribe().wait_for(|keeps| !keeps).await;
            self.kept.send_modify(|count| *count -= 1);
        }
        claims
    }

    async fn commit_and_claim(
        &self,
        change: Change,
        demand: Demand,
        decide: Arc<Decide>,
    ) -> Result<Claims, StoreError> {
        self.pass().await;
        self.inner.commit_and_claim(change, demand, decide).await
    }

    async fn purge(&self, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, StoreError> {
        self.inner.purge(cutoffs, limit).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
