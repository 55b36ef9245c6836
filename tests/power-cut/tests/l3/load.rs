//! What is written while the power may go, and what of it was acknowledged.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eap_core::{
    Agent, Chance as CoreChance, Note, NoteKind, Quote, Report, RoutingKey, Standing, Task, TaskEvent, TaskPolicy,
    TaskSpec, Vitals,
};
use eap_orchestrator::store::{
    AgentWrite, Ask, Change, Decide, Demand, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, Repository,
    ResultRow, SqliteOptions, SqliteStore, StoreError, Stored, TaskWrite, events_of,
};
use eap_orchestrator::{Clock, ManualClock};
use eap_power_cut::{Chance, Disk, Image, VFS};
use eap_types::{
    AgentId, AgentType, Capabilities, Capability, JsonObject, Labels, LeaseId, Priority, SessionId, TaskId, TaskResult,
    TenantId, Timestamp,
};
use futures_util::future::join_all;

/// The database on each disk.
pub(crate) const FILE: &str = "eap.db";

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// A disk with nothing on it but an empty file, as the store's own `open` makes one.
pub(crate) fn empty() -> Image {
    Image::new()
}

/// Something that was acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Acknowledged {
    /// A change of so many tasks, with as many events and a key.
    Submitted { change: u64, tasks: usize },
    /// The result of a task.
    Completed { task: TaskId, said: u64 },
}

/// A load and its book of what was acknowledged; clones write in the same book.
#[derive(Debug)]
pub(crate) struct Load {
    tag: u64,
    next: AtomicUsize,
    book: Arc<Mutex<Vec<Acknowledged>>>,
    refused: AtomicUsize,
    ended_well: AtomicUsize,
}

impl Load {
    pub(crate) fn new(tag: u64) -> Self {
        Self {
            tag,
            next: AtomicUsize::new(0),
            book: Arc::default(),
            refused: AtomicUsize::new(0),
            ended_well: AtomicUsize::new(0),
        }
    }

    /// Goes on from a cut: what is there now stays for good, acknowledged before or not.
    pub(crate) fn cut_back(&self, acknowledged: usize, left: &BTreeSet<u64>) -> Self {
        let mut book = self.book()[..acknowledged].to_vec();
        for entry in self.book().iter().skip(acknowledged) {
            if matches!(entry, Acknowledged::Submitted { change, .. } if left.contains(change)) {
                book.push(entry.clone());
            }
        }
        let next = AtomicUsize::new(self.next.load(Ordering::Relaxed));
        Self { tag: self.tag, next, book: Arc::new(Mutex::new(book)), ..Self::new(self.tag) }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Vec<Acknowledged>> {
        self.book.lock().expect("no test panics while it writes something down")
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.book().len()
    }

    /// Tells the length of the book to whoever photographs.
    pub(crate) fn counter(&self) -> impl Fn() -> usize + Send + 'static {
        let book = Arc::clone(&self.book);
        move || book.lock().map_or(0, |book| book.len())
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the last write succeeded.
    pub(crate) fn ended_well(&self) -> bool {
        self.ended_well.load(Ordering::Relaxed) == 1
    }

    fn note<T>(&self, answer: &Result<T, StoreError>, entry: impl FnOnce() -> Option<Acknowledged>) {
        if answer.is_ok() {
            self.book().extend(entry());
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.ended_well.store(usize::from(answer.is_ok()), Ordering::Relaxed);
    }

    /// Opens the store, writes in so many steps, closes it. Writes that are refused are not repeated.
    pub(crate) async fn run(&self, disk: &Disk, chance: &mut Chance, steps: usize) {
        let Ok(store) = open(disk) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.ended_well.store(0, Ordering::Relaxed);
            return;
        };
        let store = Arc::new(store);
        let agent = agent();
        // There already if an earlier run made it.
        let insert = AgentWrite::Insert(agent.clone(), Vitals::registered(1, NOW));
        let _ = store.commit(Change { agents: vec![insert], ..Change::default() }).await;
        let mut held = Vec::new();
        for _ in 0..steps {
            match chance.below(4) {
                0 => held.extend(self.claim(&store, &agent, 1 + chance.below(3) as u32).await),
                1 => self.complete(&store, &mut held, chance).await,
                // Several at once share a transaction.
                _ => self.submit(&store, 1 + chance.below(4), chance).await,
            }
        }
        let _ = store.close().await;
    }

    async fn submit(&self, store: &Arc<SqliteStore>, changes: u64, chance: &mut Chance) {
        let calls = (0..changes).map(|_| {
            let change = self.next.fetch_add(1, Ordering::Relaxed) as u64;
            let (tasks, bytes) = (1 + chance.below(3) as usize, chance.below(6_000) as usize);
            let write = submission(self.tag, change, tasks, bytes);
            let store = Arc::clone(store);
            async move {
                let answer = store.commit(write).await;
                self.note(&answer, || Some(Acknowledged::Submitted { change, tasks }));
            }
        });
        join_all(calls.collect::<Vec<_>>()).await;
    }

    async fn claim(&self, store: &SqliteStore, agent: &Agent, max_tasks: u32) -> Vec<TaskId> {
        let ask = Ask {
            agent: Arc::new(agent.clone()),
            max_tasks,
            request_id: None,
            task_types: None,
            lease: Duration::from_secs(60),
        };
        let decide: Arc<Decide> = Arc::new(|task, ask, now| {
            let event = TaskEvent::Assign {
                agent: ask.agent.id.clone(),
                epoch: ask.agent.epoch,
                lease_id: LeaseId::from_bytes(*task.id().as_bytes()),
                request_id: None,
                length: ask.lease,
            };
            Ok(task.apply(event, now, &TaskPolicy::default())?.changed().expect("an assignment changes its task"))
        });
        let claims = store.claim(Demand { asks: vec![ask] }, decide).await;
        self.note(&claims, || None);
        let tasks = claims.into_iter().flat_map(|claims| claims.answers).flat_map(|claimed| claimed.tasks);
        tasks.map(|task| task.id()).collect()
    }

    async fn complete(&self, store: &SqliteStore, held: &mut Vec<TaskId>, chance: &mut Chance) {
        let Some(id) = held.pop() else { return };
        let Ok(Some(Stored { record, revision, now })) = store.task(id).await else { return };
        let Some(holder) = record.newest_attempt().map(|attempt| attempt.agent.clone()) else { return };
        let said = chance.below(1_000_000);
        let result = result(id, said);
        let report = Report::of(&result);
        let event = TaskEvent::Report { agent: holder, quote: Quote::default(), report, chance: CoreChance::new(0.5) };
        let Ok(step) = record.apply(event, now, &TaskPolicy::default()) else { return };
        let Some(changed) = step.changed() else { return };
        let task = Task { spec: record.spec, state: changed.state };
        let change = Change {
            events: events_of(&task, &changed.notes, now),
            tasks: vec![TaskWrite::Update { task, revision }],
            results: vec![ResultRow { task: id, attempt: 1, recorded_at: now, result }],
            ..Change::default()
        };
        let answer = store.commit(change).await;
        self.note(&answer, || Some(Acknowledged::Completed { task: id, said }));
    }
}

/// Opens the store on a disk, whose file is there once it was opened for the first time.
pub(crate) fn open(disk: &Disk) -> Result<SqliteStore, StoreError> {
    disk.create(FILE);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    SqliteStore::open_on_vfs(VFS, disk.path(FILE), clock, SqliteOptions::default().with_readers(1))
}

/// The key under which a change is known.
pub(crate) fn scope(change: u64) -> IdempotencyScope {
    IdempotencyScope { principal: "host".to_owned(), route: "submit", key: format!("change-{change}") }
}

/// The result that an agent reports with this number in it.
pub(crate) fn result(task: TaskId, said: u64) -> TaskResult {
    let output = format!(r#"{{"said": {said}, "text": "{}"}}"#, "result ".repeat((said % 400) as usize));
    TaskResult::completed(task, JsonObject::parse(&output).expect("an object"))
}

/// A change of some tasks, as many events, and a key: all of it or nothing.
fn submission(tag: u64, change: u64, count: usize, bytes: usize) -> Change {
    let tasks: Vec<Task> = (0..count)
        .map(|number| {
            let mut random = [0; 10];
            random[..8].copy_from_slice(&(tag.wrapping_mul(1_000_003) + change).to_be_bytes());
            random[9] = number as u8;
            let input = format!("{change} {}", "x".repeat(bytes));
            Task::submitted(spec(TaskId::v7(NOW, random), input))
        })
        .collect();
    let note = Note::of(NoteKind::Submitted);
    let row = IdempotencyKeyRow {
        scope: scope(change),
        body_sha256: [0; 32],
        target: IdempotentTarget::Task(tasks[0].id()),
        created_at: NOW,
    };
    Change {
        events: tasks.iter().flat_map(|task| events_of(task, std::slice::from_ref(&note), NOW)).collect(),
        tasks: tasks.into_iter().map(TaskWrite::Insert).collect(),
        idempotency: Some(row),
        ..Change::default()
    }
}

fn spec(id: TaskId, input: String) -> TaskSpec {
    TaskSpec {
        id,
        routing: RoutingKey::of_type(TenantId::default(), "work".parse().expect("a task type")),
        session_id: SessionId::from_bytes(*id.as_bytes()),
        input,
        context: JsonObject::default(),
        requirements: Vec::new(),
        priority: Priority::default(),
        timeout: Duration::from_secs(3600),
        inactivity: None,
        max_attempts: 3,
        run_at: None,
        expires_at: None,
        created_at: NOW,
        traceparent: None,
        requeued_from: None,
        is_step: false,
        callback_url: None,
        preferred_agents: BTreeSet::new(),
    }
}

fn agent() -> Agent {
    Agent {
        id: AgentId::v7(NOW, [0; 10]),
        tenant: TenantId::default(),
        name: "AGENT-POWER-01".parse().expect("a name"),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(["work".parse::<Capability>().expect("a capability")]).expect("one is enough"),
        labels: Labels::default(),
        endpoint_url: None,
        metadata: JsonObject::default(),
        features: None,
        max_concurrent_tasks: 1_000,
        registered_with: None,
        task_schemas: Default::default(),
        admitted_capabilities: BTreeSet::new(),
        token_sha256: None,
        previous_token: None,
        rotation: None,
        orders: eap_core::Orders::default(),
        push: None,
        platform: None,
        epoch: 1,
        registered_at: NOW,
        standing: Standing::Active,
    }
}
