//! An open store on a clock that stands still, and the steps that checks are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use eap_core::{Agent, Chance, Quote, Report, Session, Standing, Task, TaskEvent, TaskPolicy, TaskSpec, Vitals};
use eap_types::{AgentId, LeaseId, SessionId, TaskId, TaskResult, Timestamp};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::samples;
use crate::clock::{Clock, ManualClock};
use crate::store::{
    AgentWrite, Ask, Change, Claimed, Committed, Decide, Demand, Event, EventSeq, Repository, ResultRow, StoreError,
    Stored, TaskWrite, events_of,
};

/// How long a lease of [`Harness::ask`] holds.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// What a check is handed.
pub(super) struct Harness {
    pub(super) store: Arc<dyn Repository>,
    pub(super) clock: Arc<ManualClock>,
    drawn: Arc<AtomicU64>,
}

impl Harness {
    pub(super) fn new(store: Arc<dyn Repository>, clock: Arc<ManualClock>) -> Self {
        Self { store, clock, drawn: Arc::default() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Ten bytes never drawn before; later ones sort after earlier ones.
    pub(super) fn draw(&self) -> [u8; 10] {
        random(&self.drawn)
    }

    /// A small task of this type, not yet stored; `shape` may change what is asked for.
    pub(super) fn task(&self, task_type: &str, shape: impl FnOnce(&mut TaskSpec)) -> Task {
        let mut spec = samples::spec(TaskId::v7(self.now(), self.draw()), task_type, self.now());
        shape(&mut spec);
        Task::submitted(spec)
    }

    /// Stores a small task of this type.
    pub(super) async fn submit(&self, task_type: &str) -> TaskId {
        self.submit_as(task_type, |_| ()).await
    }

    /// Stores a task of this type that `shape` changed before.
    pub(super) async fn submit_as(&self, task_type: &str, shape: impl FnOnce(&mut TaskSpec)) -> TaskId {
        let task = self.task(task_type, shape);
        let id = task.id();
        self.commit(inserting(task)).await;
        id
    }

    /// A small agent that offers these capabilities, not yet stored.
    pub(super) fn agent(&self, capabilities: &[&str]) -> Agent {
        samples::agent(AgentId::v7(self.now(), self.draw()), capabilities, self.now())
    }

    /// Stores a small agent that offers these capabilities.
    pub(super) async fn register(&self, capabilities: &[&str]) -> Agent {
        self.register_as(capabilities, |_| ()).await
    }

    /// Stores an agent that `shape` changed before.
    pub(super) async fn register_as(&self, capabilities: &[&str], shape: impl FnOnce(&mut Agent)) -> Agent {
        let mut agent = self.agent(capabilities);
        shape(&mut agent);
        self.commit(registering(agent.clone(), self.now())).await;
        agent
    }

    /// Commits what must succeed.
    pub(super) async fn commit(&self, change: Change) -> Committed {
        self.store.commit(change).await.expect("the change fits what is stored")
    }

    /// Reads a task that must be there.
    pub(super) async fn stored(&self, id: TaskId) -> Stored<Task> {
        self.store.task(id).await.expect("a read succeeds").expect("the task is stored")
    }

    /// Reads a session that must be there.
    pub(super) async fn session(&self, id: SessionId) -> Stored<Session> {
        self.store.session(id).await.expect("a read succeeds").expect("the session is stored")
    }

    /// Reads an agent, if it is there.
    pub(super) async fn known(&self, id: &AgentId) -> Option<(Stored<Agent>, Vitals)> {
        let agents = self.store.agents().await.expect("a read succeeds");
        agents.into_iter().find(|(agent, _)| agent.record.id == *id)
    }

    /// Writes an agent's new standing.
    pub(super) async fn stand(&self, id: &AgentId, standing: Standing) {
        self.change_agent(id, |agent| agent.standing = standing).await;
    }

    /// Writes an agent's record once it is changed.
    pub(super) async fn change_agent(&self, id: &AgentId, change: impl FnOnce(&mut Agent)) {
        let (Stored { record: mut agent, revision, .. }, _) = self.known(id).await.expect("the agent is stored");
        change(&mut agent);
        self.commit(Change { agents: vec![AgentWrite::Update { agent, revision }], ..Change::default() }).await;
    }

    /// Reads every event.
    pub(super) async fn events(&self) -> Vec<Event> {
        self.store.events(EventSeq(0), None, usize::MAX >> 1).await.expect("a read succeeds")
    }

    /// Carries out what follows from `event`, as the orchestrator would.
    pub(super) async fn apply(&self, id: TaskId, event: TaskEvent) -> Task {
        self.apply_with(id, event, None).await
    }

    async fn apply_with(&self, id: TaskId, event: TaskEvent, result: Option<TaskResult>) -> Task {
        let Stored { record, revision, now } = self.stored(id).await;
        let step = record.apply(event, now, &TaskPolicy::default()).expect("the event fits the task");
        let changed = step.changed().expect("the event changes the task");
        let task = Task { spec: record.spec, state: changed.state };
        let attempt = task.newest_attempt().map_or(0, |attempt| attempt.number);
        let results = result.filter(|_| changed.result.is_some());
        self.commit(Change {
            events: events_of(&task, &changed.notes, now),
            tasks: vec![TaskWrite::Update { task: task.clone(), revision }],
            results: results
                .map(|result| ResultRow { task: id, attempt, recorded_at: now, result })
                .into_iter()
                .collect(),
            ..Change::default()
        })
        .await;
        task
    }

    /// Completes a task on behalf of its newest holder.
    pub(super) async fn complete(&self, id: TaskId) -> TaskResult {
        let holder = self.stored(id).await.record.newest_attempt().expect("the task is leased").agent.clone();
        let result = samples::result(id);
        let report = Report::of(&result);
        let event = TaskEvent::Report { agent: holder, quote: Quote::default(), report, chance: Chance::new(0.5) };
        self.apply_with(id, event, Some(result.clone())).await;
        result
    }

    /// An ask of this agent.
    pub(super) fn ask(&self, agent: &Agent, max_tasks: u32) -> Ask {
        Ask { agent: Arc::new(agent.clone()), max_tasks, request_id: None, task_types: None, lease: LEASE }
    }

    /// What grants every lease that the core allows.
    pub(super) fn granting(&self) -> Arc<Decide> {
        let drawn = Arc::clone(&self.drawn);
        Arc::new(move |task, ask, now| {
            let event = TaskEvent::Assign {
                agent: ask.agent.id.clone(),
                epoch: ask.agent.epoch,
                lease_id: LeaseId::v7(now, random(&drawn)),
                request_id: ask.request_id.clone(),
                length: ask.lease,
            };
            let step = task.apply(event, now, &TaskPolicy::default())?;
            Ok(step.changed().expect("an assignment changes its task"))
        })
    }

    /// Claims for several asks at once, granting all.
    pub(super) async fn claim_all(&self, asks: Vec<Ask>) -> Vec<Claimed> {
        let count = asks.len();
        let claims = self.store.claim(Demand { asks }, self.granting()).await.expect("a claim succeeds");
        assert_eq!(claims.answers.len(), count, "one answer per ask");
        claims.answers
    }

    /// Claims for one ask, granting all.
    pub(super) async fn claim(&self, ask: Ask) -> Claimed {
        self.claim_all(vec![ask]).await.pop().expect("one answer per ask")
    }

    /// What an agent without further wishes gets.
    pub(super) async fn take(&self, agent: &Agent, max_tasks: u32) -> Vec<TaskId> {
        ids(&self.claim(self.ask(agent, max_tasks)).await)
    }

    /// Makes the same call from many threads at the same moment; the answers come in any order.
    pub(super) async fn race<T, F>(&self, calls: impl IntoIterator<Item = F>) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let calls: Vec<F> = calls.into_iter().collect();
        let start = Arc::new(Barrier::new(calls.len()));
        let mut running = JoinSet::new();
        for call in calls {
            let (start, runtime) = (Arc::clone(&start), Handle::current());
            running.spawn_blocking(move || {
                start.wait();
                runtime.block_on(call)
            });
        }
        running.join_all().await
    }
}

fn random(drawn: &AtomicU64) -> [u8; 10] {
    let number = drawn.fetch_add(1, Ordering::SeqCst);
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The ids of what was claimed, in order.
pub(super) fn ids(claimed: &Claimed) -> Vec<TaskId> {
    claimed.tasks.iter().map(Task::id).collect()
}

/// The change that stores a new task.
pub(super) fn inserting(task: Task) -> Change {
    Change { tasks: vec![TaskWrite::Insert(task)], ..Change::default() }
}

/// The change that stores a new agent.
pub(super) fn registering(agent: Agent, now: Timestamp) -> Change {
    let vitals = Vitals::registered(agent.epoch, now);
    Change { agents: vec![AgentWrite::Insert(agent, vitals)], ..Change::default() }
}

/// Fails unless the answer is that the record is at another revision.
#[track_caller]
pub(super) fn assert_conflict<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Conflict { .. })), "a conflict was due, not {answer:?}");
}

/// Fails unless the answer is that the key is taken.
#[track_caller]
pub(super) fn assert_duplicate<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Duplicate { .. })), "a duplicate was due, not {answer:?}");
}
