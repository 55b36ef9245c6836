//! Everything in memory: for tests, demonstrations and simulations. Nothing survives the process.

mod claim;
mod commit;
mod depths;
mod purge;
mod sessions;
mod states;
mod tables;
mod workflows;

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use eap_core::{Agent, DueCallback, Session, Task, Vitals};
use eap_types::{
    AgentId, SessionId, SessionState, SessionView, TaskId, TenantId, Timestamp, WorkflowId, WorkflowSummary,
};

use tokio::sync::Notify;

use self::tables::{Row, Tables};
use super::{
    Change, Claims, Committed, CredentialRow, Cutoffs, Decide, Demand, Depths, Event, EventSeq, IdempotencyKeyRow,
    IdempotencyScope, Insertion, LateResultRow, News, Purged, ReplicaId, Repository, ResultRow, SessionFilter,
    StateRow, StoreError, StoreStats, Stored, TaskFilter, WorkflowRow,
};
use crate::announce::lock;
use crate::clock::Clock;
use crate::metrics::{Counter, StoreErrorCounters};

/// A [`Repository`] in memory.
///
/// A clone is another handle on the same data, for one orchestrator after another. Closing closes one handle: the others go
/// on, and a clone of a closed one is open. Orchestrators that share the data at the same time need a
/// [`new_replica`](Self::new_replica) each.
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// Whose writes these are, among those of all replicas.
    writer: usize,
    is_closed: AtomicBool,
}

struct Shared {
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
    commits: Counter,
    claims: Counter,
    errors: StoreErrorCounters,
    /// What each replica waits for news with, by its number.
    replicas: Mutex<Vec<Arc<Notify>>>,
}

impl MemoryStore {
    /// An empty store that takes its time from `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (commits, claims, errors) = Default::default();
        let replicas = Mutex::new(vec![Arc::default()]);
        Self::of(Arc::new(Shared { clock, tables: Mutex::default(), commits, claims, errors, replicas }), 0)
    }

    fn of(shared: Arc<Shared>, writer: usize) -> Self {
        Self { shared, writer, is_closed: AtomicBool::new(false) }
    }

    /// A store on the same data for another orchestrator at the same time, as in another process: each hears of what the
    /// others wrote. Ask for all of them before the first orchestrator is built.
    #[must_use]
    pub fn new_replica(&self) -> Self {
        let mut replicas = lock(&self.shared.replicas);
        replicas.push(Arc::default());
        let replica = Self::of(Arc::clone(&self.shared), replicas.len() - 1);
        drop(replicas);
        if let Ok((mut tables, now)) = replica.open() {
            tables.replicas.insert(replica.writer, now);
        }
        replica
    }

    /// Tells the other replicas that there is news.
    fn tell(&self) {
        let replicas = lock(&self.shared.replicas);
        replicas
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != self.writer)
            .for_each(|(_, news)| news.notify_one());
    }

    /// The tables, and the time read while holding them: later holders never see an earlier one.
    fn open(&self) -> Result<(MutexGuard<'_, Tables>, Timestamp), StoreError> {
        if self.is_closed.load(Ordering::SeqCst) {
            return self.shared.errors.count(Err(StoreError::Closed));
        }
        // What can panic under the lock is `decide` alone, and it runs between writes, never inside one.
        let mut tables = self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.writer = self.writer;
        let now = self.shared.clock.now();
        Ok((tables, now))
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.shared), self.writer)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("is_closed", &self.is_closed).finish_non_exhaustive()
    }
}

impl<T: Clone> Row<T> {
    fn stored(&self, now: Timestamp) -> Stored<T> {
        Stored { record: self.record.clone(), revision: self.revision, now }
    }
}

#[async_trait]
impl Repository for MemoryStore {
    async fn task(&self, id: TaskId) -> Result<Option<Stored<Task>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.task(id).map(|row| row.stored(now)))
    }

    async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(ids.iter().filter_map(|id| tables.task(*id)).map(|row| row.stored(now)).collect())
    }

    async fn result(&self, id: TaskId) -> Result<Option<ResultRow>, StoreError> {
        Ok(self.open()?.0.results.get(&id).cloned())
    }

    async fn late_results(&self, id: TaskId) -> Result<Vec<LateResultRow>, StoreError> {
        let (tables, _) = self.open()?;
        Ok(tables.late_results.range((id, 0)..=(id, u32::MAX)).map(|(_, row)| row.clone()).collect())
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<(Insertion, Stored<Task>)>, StoreError> {
        let (tables, now) = self.open()?;
        let page = |rows: &mut dyn Iterator<Item = (Insertion, &Row<Task>)>| {
            let asked_for = rows.filter(|(_, row)| is_asked_for(&row.record, filter)).take(filter.limit);
            asked_for.map(|(number, row)| (number, row.stored(now))).collect()
        };
        Ok(if filter.dead_letters {
            page(&mut tables.newest_letters(filter.before))
        } else {
            page(&mut tables.newest_first(filter.before))
        })
    }

    async fn leases(&self, agent: &AgentId) -> Result<Vec<Stored<Task>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.held_by(agent).map(|(_, row)| row.stored(now)).collect())
    }

    async fn leased(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.leased_after(after).take(limit).map(|row| row.stored(now)).collect())
    }

    async fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Stored<Task>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.due_until(until).take(limit).map(|row| row.stored(now)).collect())
    }

    async fn session(&self, id: SessionId) -> Result<Option<Stored<Session>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.sessions.get(id).map(|row| row.stored(now)))
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<(Insertion, SessionView)>, StoreError> {
        let (tables, _) = self.open()?;
        let rows = tables.sessions.newest_first(filter).take(filter.limit);
        Ok(rows.map(|(number, row)| (number, row.record.view_in_list())).collect())
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        let (tables, _) = self.open()?;
        let rows = tables.sessions.open_after(after).take(limit);
        Ok(rows.map(|row| (row.record.id(), row.record.status())).collect())
    }

    async fn session_of(&self, task: TaskId) -> Result<Option<Stored<Session>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.sessions.of_step(task).map(|row| row.stored(now)))
    }

    async fn workflow(
        &self,
        tenant: TenantId,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<Option<WorkflowRow>, StoreError> {
        Ok(self.open()?.0.workflows.get(tenant, id, version).cloned())
    }

    async fn workflows(
        &self,
        tenant: TenantId,
        before: Option<Insertion>,
        limit: usize,
    ) -> Result<Vec<(Insertion, WorkflowSummary)>, StoreError> {
        let (tables, _) = self.open()?;
        let rows = tables.workflows.newest_first(tenant, before).take(limit);
        Ok(rows.map(|(number, row)| (number, WorkflowSummary::of(&row.workflow, row.stored_at))).collect())
    }

    async fn agents(&self) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.agents.values().map(|known| (known.row.stored(now), known.vitals.clone())).collect())
    }

    async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, StoreError> {
        let (tables, now) = self.open()?;
        let known = ids.iter().filter_map(|id| tables.agents.get(id));
        Ok(known.map(|known| (known.row.stored(now), known.vitals.clone())).collect())
    }

    async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, StoreError> {
        let (tables, _) = self.open()?;
        let seen = tables.agents.values().filter(|known| known.vitals.last_seen >= since);
        Ok(seen.map(|known| (known.row.record.id.clone(), known.vitals.clone())).collect())
    }

    async fn credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.credentials.values().map(|known| (known.row.stored(now), known.last_used)).collect())
    }

    async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, StoreError> {
        let (tables, _) = self.open()?;
        Ok(tables.states.get(agent).into_iter().flat_map(|of| of.values().rev()).take(limit).cloned().collect())
    }

    async fn newest_states(&self) -> Result<Vec<StateRow>, StoreError> {
        let (tables, _) = self.open()?;
        Ok(tables.states.values().filter_map(|of| of.values().next_back()).cloned().collect())
    }

    async fn idempotent(&self, scope: &IdempotencyScope) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        Ok(self.open()?.0.keys.get(scope).cloned())
    }

    async fn events(&self, after: EventSeq, task: Option<TaskId>, limit: usize) -> Result<Vec<Event>, StoreError> {
        let (tables, _) = self.open()?;
        Ok(match task {
            Some(task) => tables.events_about(task, after).take(limit).cloned().collect(),
            None => tables.events_after(after).take(limit).cloned().collect(),
        })
    }

    async fn oldest_event(&self) -> Result<Option<EventSeq>, StoreError> {
        Ok(self.open()?.0.oldest_event())
    }

    async fn head(&self) -> Result<EventSeq, StoreError> {
        Ok(self.open()?.0.head)
    }

    fn is_shared(&self) -> bool {
        lock(&self.shared.replicas).len() > 1
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        Some(Arc::clone(&self.shared.clock))
    }

    async fn news(&self, after: EventSeq, limit: usize) -> Result<News, StoreError> {
        let (tables, _) = self.open()?;
        let events: Vec<_> = tables.events_of_others(after, self.writer).take(limit).cloned().collect();
        let upto = events.last().filter(|_| events.len() >= limit).map_or(tables.head, |last| last.seq);
        Ok(News { events, from: after, upto, head: tables.head })
    }

    async fn noticed(&self) {
        let news = lock(&self.shared.replicas).get(self.writer).cloned();
        match news {
            Some(news) => news.notified().await,
            None => pending().await,
        }
    }

    fn replica(&self) -> ReplicaId {
        ReplicaId(self.writer as u64)
    }

    async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, StoreError> {
        let (mut tables, now) = self.open()?;
        tables.replicas.insert(self.writer, now);
        Ok(tables.replicas.iter().map(|(writer, seen_at)| (ReplicaId(*writer as u64), *seen_at)).collect())
    }

    async fn pulse(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.open()?.0.pulse)
    }

    async fn callbacks(
        &self,
        after: Option<(Timestamp, TaskId)>,
        limit: usize,
    ) -> Result<Vec<Stored<DueCallback>>, StoreError> {
        let (tables, now) = self.open()?;
        Ok(tables.callbacks_after(after).take(limit).map(|row| row.stored(now)).collect())
    }

    async fn depths(&self) -> Result<Depths, StoreError> {
        Ok(self.open()?.0.depths())
    }

    fn stats(&self) -> StoreStats {
        let (commits, claims) = (self.shared.commits.get(), self.shared.claims.get());
        // Each goes alone.
        let transactions = commits + claims;
        StoreStats { commits, claims, transactions, errors: self.shared.errors.get(), ..StoreStats::default() }
    }

    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        let (mut tables, _) = self.open()?;
        let committed = self.shared.errors.count(tables.commit(change))?;
        self.shared.commits.add(1);
        drop(tables);
        self.tell();
        Ok(committed)
    }

    async fn claim(&self, demand: Demand, decide: Arc<Decide>) -> Result<Claims, StoreError> {
        let (mut tables, now) = self.open()?;
        let answers = demand.asks.iter().map(|ask| tables.claim(ask, now, &*decide)).collect();
        self.shared.claims.add(1);
        let head = tables.head;
        drop(tables);
        self.tell();
        Ok(Claims { answers, head })
    }

    async fn commit_and_claim(
        &self,
        change: Change,
        demand: Demand,
        decide: Arc<Decide>,
    ) -> Result<Claims, StoreError> {
        let (mut tables, now) = self.open()?;
        self.shared.errors.count(tables.commit(change))?;
        let answers = demand.asks.iter().map(|ask| tables.claim(ask, now, &*decide)).collect();
        self.shared.commits.add(1);
        self.shared.claims.add(1);
        let head = tables.head;
        drop(tables);
        self.tell();
        Ok(Claims { answers, head })
    }

    async fn purge(&self, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, StoreError> {
        Ok(self.open()?.0.purge(cutoffs, limit))
    }

    async fn close(&self) -> Result<(), StoreError> {
        if let Ok((mut tables, _)) = self.open() {
            tables.replicas.remove(&self.writer);
        }
        self.is_closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn is_asked_for(task: &Task, filter: &TaskFilter) -> bool {
    let routing = &task.spec.routing;
    routing.tenant == filter.tenant
        && filter.status.is_none_or(|status| task.status() == status)
        && filter.task_type.as_ref().is_none_or(|wanted| routing.task_type == *wanted)
        && filter
            .agent
            .as_ref()
            .is_none_or(|agent| task.newest_attempt().is_some_and(|attempt| attempt.agent == *agent))
}
