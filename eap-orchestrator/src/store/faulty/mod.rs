//! A store that fails on purpose, for tests of what stands on one (feature `faulty`).
//!
//! [`FaultyStore`] wraps any [`Repository`] and keeps its contract: a failure is one that a real back end could have
//! given, at a moment at which it could have given it. What goes wrong is said call by call
//! ([`FaultyStore::inject`]) or drawn ([`FaultyStore::with_random`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use eap_orchestrator::store::faulty::{Fault, FaultyStore, StoreCall};
//! use eap_orchestrator::store::{Change, MemoryStore, Repository, StoreError};
//! use eap_orchestrator::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock::new()))));
//! store.inject(StoreCall::Commit, Fault::AnswerLost);
//! assert!(matches!(store.commit(Change::default()).await, Err(StoreError::Unavailable { .. })));
//! assert!(store.commit(Change::default()).await.is_ok());
//! # }
//! ```

mod fault;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use eap_core::{Agent, DueCallback, Session, Task, Vitals};
use eap_types::{
    AgentId, SessionId, SessionState, SessionView, TaskId, TenantId, Timestamp, WorkflowId, WorkflowSummary,
};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

pub use self::fault::{Fault, FaultCounts, FaultOdds, StoreCall};
use super::{
    AgentWrite, BoxError, Change, Claims, Committed, CredentialRow, Cutoffs, Decide, Demand, Depths, Event, EventSeq,
    IdempotencyKeyRow, IdempotencyScope, Insertion, LateResultRow, News, Purged, RecordRef, ReplicaId, Repository,
    ResultRow, SessionFilter, SessionWrite, StateRow, StoreError, StoreStats, Stored, TaskFilter, TaskWrite,
    WorkflowRow,
};
use crate::clock::{Clock, Entropy};

/// A [`Repository`] that fails on purpose and otherwise does what the one inside does.
///
/// Needs a tokio runtime with time, as slow calls wait for it.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Repository>,
    chance: Option<(Arc<dyn Entropy>, FaultOdds)>,
    state: Mutex<State>,
    /// Late writes, which go on without those who wait for them.
    late: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    scripted: HashMap<StoreCall, VecDeque<Fault>>,
    is_calm: bool,
    full_until: Option<Instant>,
    has_failed: bool,
    counts: FaultCounts,
}

/// What becomes of one call.
enum Fate {
    Passes,
    Late(Duration),
    Refused(StoreError),
    LosesAnswer,
    /// Carried out, then told of the failed fsync.
    Fails,
}

impl FaultyStore {
    /// Wraps a store; nothing fails until something is [injected](Self::inject).
    #[must_use]
    pub fn new(inner: Arc<dyn Repository>) -> Self {
        Self { inner, chance: None, state: Mutex::default(), late: TaskTracker::new() }
    }

    /// Lets calls fail by chance as well. A seeded `entropy` draws the same faults for the same order of calls.
    #[must_use]
    pub fn with_random(mut self, entropy: Arc<dyn Entropy>, odds: FaultOdds) -> Self {
        self.chance = Some((entropy, odds));
        self
    }

    /// Lets the next call of this kind meet `fault`; several are met in the order they were injected.
    pub fn inject(&self, call: StoreCall, fault: Fault) {
        self.state().scripted.entry(call).or_default().push_back(fault);
    }

    /// Ends all faults but a failed fsync, which no store recovers from.
    pub fn heal(&self) {
        let mut state = self.state();
        state.is_calm = true;
        state.full_until = None;
        state.scripted.clear();
    }

    /// Lets chance strike again after [`heal`](Self::heal).
    pub fn resume(&self) {
        self.state().is_calm = false;
    }

    /// How often each fault struck so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.state().counts
    }

    /// Whether an fsync has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state().has_failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the next call of this kind. `updated` is a record that it updates, if it updates one.
    fn fate(&self, call: StoreCall, updated: Option<RecordRef>) -> Fate {
        let is_write = call != StoreCall::Read;
        let mut state = self.state();
        if is_write && state.has_failed {
            state.counts.failed += 1;
            return Fate::Refused(failed());
        }
        let is_full = state.full_until.is_some_and(|until| Instant::now() < until);
        if is_write && is_full {
            state.counts.full += 1;
            return Fate::Refused(full());
        }
        let scripted = state.scripted.get_mut(&call).and_then(VecDeque::pop_front);
        let fault = scripted.or_else(|| match &self.chance {
            Some((entropy, odds)) if !state.is_calm => odds.draw(&**entropy),
            _ => None,
        });
        match fault {
            Some(Fault::Conflict) => match updated {
                Some(record) => {
                    state.counts.conflicts += 1;
                    Fate::Refused(StoreError::Conflict { record })
                }
                None => Fate::Passes,
            },
            Some(Fault::Unavailable) => {
                state.counts.unavailable += 1;
                Fate::Refused(unavailable("the back end does not answer"))
            }
            Some(Fault::AnswerLost) => Fate::LosesAnswer,
            Some(Fault::Slow(delay)) => {
                state.counts.slow += 1;
                Fate::Late(delay)
            }
            Some(Fault::Full(length)) if is_write => {
                state.full_until = Some(Instant::now() + length);
                state.counts.full += 1;
                Fate::Refused(full())
            }
            Some(Fault::FsyncFailed { written }) if is_write => {
                state.has_failed = true;
                state.counts.failed += 1;
                if written { Fate::Fails } else { Fate::Refused(failed()) }
            }
            Some(Fault::Full(_) | Fault::FsyncFailed { .. }) | None => Fate::Passes,
        }
    }

    /// An answer that was made and does not arrive; one that the store refused is told as it is.
    fn lose<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer?;
        self.state().counts.answers_lost += 1;
        Err(unavailable("the answer was lost"))
    }

    async fn read<T>(&self, query: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        match self.fate(StoreCall::Read, None) {
            Fate::Passes | Fate::Fails => query.await,
            Fate::Refused(error) => Err(error),
            Fate::LosesAnswer => self.lose(query.await),
            Fate::Late(delay) => {
                sleep(delay).await;
                query.await
            }
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        call: StoreCall,
        updated: Option<RecordRef>,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.fate(call, updated) {
            Fate::Passes => work.await,
            Fate::Refused(error) => Err(error),
            Fate::LosesAnswer => self.lose(work.await),
            Fate::Fails => {
                // Whatever the store made of it: the caller is told of the failed fsync alone.
                let _ = work.await;
                Err(failed())
            }
            Fate::Late(delay) => {
                // In a task of its own: a write that was handed over does not depend on who waits for it.
                let late = self.late.spawn(async move {
                    sleep(delay).await;
                    work.await
                });
                late.await.unwrap_or_else(|error| Err(StoreError::Unavailable { source: error.into() }))
            }
        }
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable { source: BoxError::from(why) }
}

fn full() -> StoreError {
    StoreError::Full { source: BoxError::from("no space left on the device") }
}

fn failed() -> StoreError {
    StoreError::Failed { source: BoxError::from("fsync failed") }
}

/// A record that `change` writes at a revision, so that another writer may have been faster.
fn updated_by(change: &Change) -> Option<RecordRef> {
    let task = change.tasks.iter().find_map(|write| match write {
        TaskWrite::Update { task, .. } => Some(RecordRef::Task(task.id())),
        TaskWrite::Insert(_) => None,
    });
    let session = change.sessions.iter().find_map(|write| match write {
        SessionWrite::Update { session, .. } => Some(RecordRef::Session(session.id())),
        SessionWrite::Insert(_) => None,
    });
    task.or(session).or_else(|| {
        change.agents.iter().find_map(|write| match write {
            AgentWrite::Update { agent, .. } => Some(RecordRef::Agent(agent.id.clone())),
            AgentWrite::Insert(..) => None,
        })
    })
}

#[async_trait]
impl Repository for FaultyStore {
    async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, StoreError> {
        self.read(self.inner.task(id)).await
    }

    async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, StoreError> {
        self.read(self.inner.tasks_of(ids)).await
    }

    async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, StoreError> {
        self.read(self.inner.result(id)).await
    }

    async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, StoreError> {
        self.read(self.inner.late_results(id)).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, StoreError> {
        self.read(self.inner.tasks(filter)).await
    }

    async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, StoreError> {
        self.read(self.inner.leases(agent)).await
    }

    async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        self.read(self.inner.leased(after, limit)).await
    }

    async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        self.read(self.inner.due(until, limit)).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        self.read(self.inner.session(id)).await
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, StoreError> {
        self.read(self.inner.sessions(filter)).await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        self.read(self.inner.open_sessions(after, limit)).await
    }

    async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, StoreError> {
        self.read(self.inner.session_of(task)).await
    }

    async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        self.read(self.inner.workflow(tenant, id, version)).await
    }

    async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, StoreError> {
        self.read(self.inner.workflows(tenant, before, limit)).await
    }

    async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.read(self.inner.agents()).await
    }

    async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        self.read(self.inner.agents_of(ids)).await
    }

    async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, StoreError> {
        self.read(self.inner.vitals_since(since)).await
    }

    async fn credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        self.read(self.inner.credentials()).await
    }

    async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, StoreError> {
        self.read(self.inner.states(agent, limit)).await
    }

    async fn newest_states(&self) -> Result<Vec<StateRow>, StoreError> {
        self.read(self.inner.newest_states()).await
    }

    async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        self.read(self.inner.idempotent(scope)).await
    }

    async fn events(&self, after: EventSeq, task: Option<TaskId>, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(self.inner.events(after, task, limit)).await
    }

    async fn oldest_event(&self) -> Result<Option<EventSeq>, StoreError> {
        self.read(self.inner.oldest_event()).await
    }

    async fn head(&self) -> Result<EventSeq, StoreError> {
        self.read(self.inner.head()).await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.inner.clock()
    }

    async fn news(&self, after: EventSeq, limit: usize) -> Result<News, StoreError> {
        self.read(self.inner.news(after, limit)).await
    }

    async fn noticed(&self) {
        self.inner.noticed().await;
    }

    fn replica(&self) -> ReplicaId {
        self.inner.replica()
    }

    async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, StoreError> {
        self.read(self.inner.replicas()).await
    }

    async fn pulse(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(self.inner.pulse()).await
    }

    async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, StoreError> {
        self.read(self.inner.callbacks(after, limit)).await
    }

    async fn depths(&self) -> Result<Depths, StoreError> {
        self.read(self.inner.depths()).await
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        let (inner, updated) = (Arc::clone(&self.inner), updated_by(&change));
        self.write(StoreCall::Commit, updated, async move { inner.commit(change).await }).await
    }

    async fn claim(&self, demand: Demand, decide: Arc<Decide>) -> Result<Claims, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.write(StoreCall::Claim, None, async move { inner.claim(demand, decide).await }).await
    }

    async fn commit_and_claim(
        &self,
        change: Change,
        demand: Demand,
        decide: Arc<Decide>,
    ) -> Result<Claims, StoreError> {
        let (inner, updated) = (Arc::clone(&self.inner), updated_by(&change));
        let both = async move { inner.commit_and_claim(change, demand, decide).await };
        self.write(StoreCall::Commit, updated, both).await
    }

    async fn purge(&self, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, StoreError> {
        let (inner, cutoffs) = (Arc::clone(&self.inner), *cutoffs);
        self.write(StoreCall::Purge, None, async move { inner.purge(&cutoffs, limit).await }).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.late.close();
        self.late.wait().await;
        self.inner.close().await
    }
}
