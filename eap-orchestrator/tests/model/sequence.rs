//! One sequence: each operation is made on the store and on the reference, and what they answer is compared.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eap_core::{
    Agent, Chance, EndOfLease, Note, NoteKind, Progress, Quote, Refusal, Standing, Step, Task, TaskEvent, TaskPolicy,
    TaskSpec, Vitals,
};
use eap_orchestrator::store::{
    AgentWrite, Ask, Change, Claimed, Claims, Committed, Cutoffs, Decide, Demand, EventSeq, IdempotencyKeyRow,
    IdempotentTarget, LateResultRow, Repository, ResultRow, Revision, StoreError, TaskFilter, TaskWrite, events_of,
};
use eap_orchestrator::{Clock as _, ManualClock};
use eap_types::{AgentId, FailureCode, JsonObject, LeaseId, TaskId, TaskResult, TaskStatus, Timestamp};
use futures_util::future::join_all;

use crate::ops::{AGENTS, Happening, KEYS, Offer, Op, Shape, What, Wish, Write};
use crate::records::{agent, agent_id, failed, reporting, scope, spec, task_type, tenant_id};
use crate::reference::{Kept, Reference, Wrong};

/// How long a lease holds.
const LEASE: Duration = Duration::from_secs(60);

/// Opens and reopens the store under test.
#[async_trait]
pub(crate) trait BackEnd {
    /// Opens it on what it has; the first time that is nothing.
    async fn open(&mut self) -> Arc<dyn Repository>;

    /// Whether several stores can share what it has.
    fn can_be_shared(&self) -> bool {
        true
    }

    /// Whether claims wait behind the changes that were handed over before them.
    fn has_one_queue(&self) -> bool {
        true
    }
}

/// How often something happened that a run must have seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) operations: u64,
    pub(crate) leased: u64,
    pub(crate) repeated: u64,
    pub(crate) conflicts: u64,
    pub(crate) duplicates: u64,
    pub(crate) results: u64,
    pub(crate) late_results: u64,
    pub(crate) purged: u64,
    pub(crate) reopened: u64,
}

/// A store, its reference, and the time that both are told.
pub(crate) struct Sequence<'a> {
    back_end: &'a mut dyn BackEnd,
    store: Arc<dyn Repository>,
    reference: Reference,
    clock: Arc<ManualClock>,
    policy: TaskPolicy,
    /// Every task there ever was, in order of insertion.
    ids: Vec<TaskId>,
    /// What was last known of those that were purged.
    gone: HashMap<TaskId, Kept<Task>>,
    drawn: u64,
    pub(crate) seen: Seen,
}

/// A write, ready to be made.
enum Made {
    Commit(Box<Change>),
    Claim(Demand, Arc<Decide>),
    Both(Box<Change>, Demand, Arc<Decide>),
}

/// What a write must answer.
enum Due {
    Committed(Result<EventSeq, Vec<Wrong>>),
    Claimed(Vec<Claimed>, EventSeq),
}

/// What a write did answer.
enum Answer {
    Committed(Result<Committed, StoreError>),
    Claimed(Result<Claims, StoreError>),
}

impl<'a> Sequence<'a> {
    pub(crate) async fn new(back_end: &'a mut dyn BackEnd, clock: Arc<ManualClock>) -> Self {
        let mut policy = TaskPolicy::default();
        policy.max_expiries = 2;
        policy.rejection_cooldown = Duration::from_secs(60);
        let store = back_end.open().await;
        let reference = Reference { can_be_shared: back_end.can_be_shared(), ..Reference::default() };
        Self {
            back_end,
            store,
            reference,
            clock,
            policy,
            ids: Vec::new(),
            gone: HashMap::new(),
            drawn: 0,
            seen: Seen::default(),
        }
    }

    /// Makes every step, then reads everything.
    pub(crate) async fn run(&mut self, ops: &[Op]) {
        for op in ops {
            self.seen.operations += 1;
            match op {
                Op::Write(write) => self.write(std::slice::from_ref(write)).await,
                Op::Burst(writes) => self.write(writes).await,
                Op::Advance { millis } => self.clock.advance(Duration::from_millis(*millis)),
                Op::Purge { millis, limit } => self.purge(*millis, *limit).await,
                Op::Reopen => self.reopen().await,
                Op::ReadAll => self.read_all().await,
            }
        }
        self.read_all().await;
        self.store.close().await.expect("an open store closes");
    }

    async fn reopen(&mut self) {
        self.store.close().await.expect("an open store closes");
        self.store = self.back_end.open().await;
        self.seen.reopened += 1;
        self.read_all().await;
    }

    async fn purge(&mut self, millis: u64, limit: usize) {
        let before = self.now() - Duration::from_millis(millis);
        let cutoffs = Cutoffs {
            tasks: before,
            events: before - Duration::from_secs(60),
            late_results: before,
            idempotency_keys: before,
            sessions: before,
            webhooks: before,
            states: before,
            agents: before - Duration::from_secs(120),
            credentials: before,
        };
        let known: HashMap<TaskId, Kept<Task>> =
            self.reference.tasks.iter().map(|kept| (kept.record.id(), kept.clone())).collect();
        let (mut tasks, mut agents) = self.reference.purge(&cutoffs);
        self.gone.extend(tasks.iter().map(|id| (*id, known[id].clone())));
        self.seen.purged += tasks.len() as u64;
        let (mut gone_tasks, mut gone_agents) = (Vec::new(), Vec::new());
        loop {
            let purged = self.store.purge(&cutoffs, limit).await.expect("a purge succeeds");
            assert!(purged.tasks.len() <= limit && purged.agents.len() <= limit, "at most {limit}: {purged:?}");
            if purged.rows == 0 {
                break;
            }
            gone_tasks.extend(purged.tasks);
            gone_agents.extend(purged.agents);
        }
        tasks.sort();
        gone_tasks.sort();
        agents.sort();
        gone_agents.sort();
        assert_eq!((gone_tasks, gone_agents), (tasks, agents), "what went");
    }

    /// Hands all over before the first is answered, claims last: so their order is the same in any transaction. Where
    /// claims do not wait behind changes, the last change goes with the first claim instead, if it fits.
    async fn write(&mut self, writes: &[Write]) {
        let (claims, commits): (Vec<_>, Vec<_>) = writes.iter().partition(|write| matches!(write, Write::Claim(_)));
        let mut due = Vec::new();
        for write in commits.into_iter().chain(claims) {
            if let Some(made) = self.make(write) {
                due.push((self.expect(&made), made));
            }
        }
        let first = due.iter().position(|(_, made)| matches!(made, Made::Claim(..))).unwrap_or(due.len());
        if !self.back_end.has_one_queue() && first < due.len() {
            let mut claims = due.split_off(first);
            let fitting = due.pop_if(|(due, _)| matches!(due, Due::Committed(Ok(_))));
            if let Some((_, Made::Commit(change))) = fitting {
                let (due, claim) = claims.remove(0);
                let Made::Claim(demand, decide) = claim else { unreachable!("the first of the claims") };
                claims.insert(0, (due, Made::Both(change, demand, decide)));
            }
            self.hand_over(std::mem::replace(&mut due, claims)).await;
        }
        self.hand_over(due).await;
    }

    async fn hand_over(&mut self, writes: Vec<(Due, Made)>) {
        let (due, made): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        let calls = made.into_iter().map(|made| {
            let store = Arc::clone(&self.store);
            async move {
                match made {
                    Made::Commit(change) => Answer::Committed(store.commit(*change).await),
                    Made::Claim(demand, decide) => Answer::Claimed(store.claim(demand, decide).await),
                    Made::Both(change, demand, decide) => {
                        Answer::Claimed(store.commit_and_claim(*change, demand, decide).await)
                    }
                }
            }
        });
        for (due, answer) in due.into_iter().zip(join_all(calls).await) {
            self.compare(due, answer);
        }
    }

    /// Carries the write out on the reference.
    fn expect(&mut self, made: &Made) -> Due {
        match made {
            Made::Commit(change) => Due::Committed(self.reference.commit(change)),
            Made::Claim(demand, decide) | Made::Both(_, demand, decide) => {
                let now = self.now();
                let serve = |ask: &Ask| self.reference.claim(ask, now, &**decide);
                let answers = demand.asks.iter().map(serve).collect();
                Due::Claimed(answers, EventSeq(self.reference.head))
            }
        }
    }

    fn compare(&mut self, due: Due, answer: Answer) {
        match (due, answer) {
            (Due::Committed(Ok(head)), Answer::Committed(committed)) => {
                assert_eq!(committed.expect("the change fits what is stored").head, head, "the newest event");
            }
            (Due::Committed(Err(wrong)), Answer::Committed(committed)) => {
                let error = committed.expect_err(&format!("one of {wrong:?} was due"));
                assert!(wrong.iter().any(|wrong| wrong.is(&error)), "one of {wrong:?} was due, not {error:?}");
                match error {
                    StoreError::Conflict { .. } => self.seen.conflicts += 1,
                    _ => self.seen.duplicates += 1,
                }
            }
            (Due::Claimed(due, head), Answer::Claimed(claims)) => {
                let claims = claims.expect("a claim succeeds");
                assert_eq!(claims.head, head, "the newest event");
                assert_eq!(claims.answers.len(), due.len(), "one answer per ask");
                for (mut claimed, mut due) in claims.answers.into_iter().zip(due) {
                    assert_eq!(claimed.repeated, due.repeated, "whether it was claimed before: {claimed:?}");
                    assert_eq!(claimed.is_exhausted, due.is_exhausted, "whether anything is left: {claimed:?}");
                    if due.repeated {
                        self.seen.repeated += 1;
                        // In which order they come again is not said.
                        claimed.tasks.sort_by_key(Task::id);
                        due.tasks.sort_by_key(Task::id);
                    }
                    assert_eq!(claimed.tasks, due.tasks, "what was claimed");
                    self.seen.leased += claimed.tasks.len() as u64;
                }
            }
            _ => unreachable!("a commit answers as a commit, a claim as a claim"),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn make(&mut self, write: &Write) -> Option<Made> {
        let change = match write {
            Write::Submit { shapes, key, taken } => self.submit(shapes, *key, *taken),
            Write::Register { agent, offer, anew } => self.register(*agent, offer, *anew),
            Write::Stand { agent, standing, is_stale } => self.stand(*agent, *standing, *is_stale)?,
            Write::Happen(happening) => self.happen(happening)?,
            Write::Both(one, other) => {
                let (one, other) = (self.happen(one)?, self.happen(other)?);
                let is_same = |write: &TaskWrite| one.tasks.iter().any(|first| first.task().id() == write.task().id());
                // A task is written at most once in a change.
                if other.tasks.iter().any(is_same) || one.tasks.is_empty() || other.tasks.is_empty() {
                    return None;
                }
                Change {
                    tasks: [one.tasks, other.tasks].concat(),
                    results: [one.results, other.results].concat(),
                    events: [one.events, other.events].concat(),
                    ..Change::default()
                }
            }
            Write::Result { task } => {
                let id = self.known(*task)?.record.id();
                let result = TaskResult::completed(id, JsonObject::default());
                let row = ResultRow { task: id, attempt: 1, recorded_at: self.now(), result };
                Change { results: vec![row], ..Change::default() }
            }
            Write::Late { task, attempt, said } => {
                let id = self.known(*task)?.record.id();
                self.late(id, *attempt, agent_id(0), &failed(id, FailureCode::HandlerError, &said.to_string()))
            }
            Write::Vitals { agent, seq } => {
                let mut vitals = Vitals::registered(1, self.now());
                vitals.seq = Some(*seq);
                Change { vitals: vec![(agent_id(*agent), vitals)], ..Change::default() }
            }
            Write::Pulse => Change { pulse: Some(self.now()), ..Change::default() },
            Write::Claim(wishes) => return Some(self.claim(wishes)),
        };
        self.seen.results += change.results.len() as u64;
        self.seen.late_results += change.late_results.len() as u64;
        Some(Made::Commit(Box::new(change)))
    }

    fn submit(&mut self, shapes: &[Shape], key: Option<u8>, taken: Option<u8>) -> Change {
        let now = self.now();
        let mut taken = taken.and_then(|task| self.known(task)).map(|kept| kept.record.id());
        let mut change = Change::default();
        for shape in shapes {
            self.drawn += 1;
            let mut random = [0; 10];
            random[2..].copy_from_slice(&self.drawn.to_be_bytes());
            let id = taken.take().unwrap_or_else(|| TaskId::v7(now, random));
            let task = Task::submitted(spec(id, shape, now));
            let note = Note::of(NoteKind::Submitted);
            change.events.extend(events_of(&task, &[note], now));
            change.tasks.push(TaskWrite::Insert(task));
            self.ids.push(id);
        }
        change.idempotency = key.map(|key| {
            let target = IdempotentTarget::Task(change.tasks[0].task().id());
            IdempotencyKeyRow { scope: scope(key), body_sha256: [key; 32], target, created_at: now }
        });
        change
    }

    fn register(&self, slot: u8, offer: &Offer, anew: bool) -> Change {
        let now = self.now();
        let known = self.reference.agent(&agent_id(slot)).map(|(kept, _)| kept);
        let mut agent = agent(slot, offer, now);
        match known.filter(|_| !anew) {
            Some(kept) => {
                agent.epoch = kept.record.epoch + 1;
                let write = AgentWrite::Update { agent: agent.clone(), revision: kept.revision };
                let vitals = vec![(agent.id, Vitals::registered(agent.epoch, now))];
                Change { agents: vec![write], vitals, ..Change::default() }
            }
            None => {
                let vitals = Vitals::registered(1, now);
                Change { agents: vec![AgentWrite::Insert(agent, vitals)], ..Change::default() }
            }
        }
    }

    fn stand(&self, slot: u8, standing: u8, is_stale: bool) -> Option<Change> {
        let now = self.now();
        let (kept, _) = self.reference.agent(&agent_id(slot))?;
        let standing = match standing {
            0 => Standing::Active,
            1 => Standing::Draining,
            2 => Standing::Superseded { at: now },
            _ => Standing::Deregistered { at: now },
        };
        let revision = if is_stale { Revision(kept.revision.0 + 1) } else { kept.revision };
        let write = AgentWrite::Update { agent: Agent { standing, ..kept.record.clone() }, revision };
        Some(Change { agents: vec![write], ..Change::default() })
    }

    /// The task of this number, counted from the newest, as it stands or as it was when it was purged.
    fn known(&self, number: u8) -> Option<&Kept<Task>> {
        let id = self.ids.iter().rev().nth(usize::from(number) % self.ids.len().max(1))?;
        self.reference.task(*id).or_else(|| self.gone.get(id))
    }

    /// What follows from an event, written as the orchestrator writes it.
    fn happen(&self, happening: &Happening) -> Option<Change> {
        let now = self.now();
        let Kept { record, revision } = self.known(happening.task)?;
        let id = record.id();
        let newest = record.newest_attempt();
        let agent = newest.map_or_else(|| agent_id(0), |attempt| attempt.agent.clone());
        let chance = Chance::new(0.5);
        let (event, reported) = match happening.what {
            What::Complete => {
                let output = JsonObject::parse(r#"{"done": true}"#).expect("an object");
                reporting(agent.clone(), TaskResult::completed(id, output))
            }
            What::Fail { retryable } => {
                let result = failed(id, FailureCode::HandlerError, "broken").with_retryable(retryable);
                reporting(agent.clone(), result)
            }
            What::Reject => reporting(agent.clone(), failed(id, FailureCode::Rejected, "no")),
            What::Release => {
                let why = EndOfLease::HandedBack { reason: None, retry_after: None };
                (TaskEvent::Release { agent: agent.clone(), quote: Quote::default(), why, chance }, None)
            }
            What::Drain => {
                let (quote, why) = (Quote::default(), EndOfLease::Draining);
                (TaskEvent::Release { agent: agent.clone(), quote, why, chance }, None)
            }
            What::Renew => {
                (TaskEvent::Renew { agent: agent.clone(), lease_id: newest?.lease_id, fraction: Some(0.25) }, None)
            }
            What::Progress { seq } => {
                let progress = Progress { seq: Some(seq), fraction: Some(0.5), message: Some("half".to_owned()) };
                let output = (seq & 1 == 0).then(|| format!("part {seq}"));
                (TaskEvent::Progress { agent: agent.clone(), quote: Quote::default(), progress, output }, None)
            }
            What::Due => (TaskEvent::Due { chance }, None),
            What::FreshStart => (TaskEvent::FreshStart, None),
            What::Cancel => (TaskEvent::Cancel { reason: None }, None),
        };
        match (record.apply(event, now, &self.policy), reported) {
            (Ok(Step::Changed(changed)), reported) => {
                let mut task = Task { spec: Arc::clone(&record.spec), state: changed.state };
                let events = events_of(&task, &changed.notes, now);
                let attempt = task.newest_attempt().map_or(0, |attempt| attempt.number);
                let result = reported.filter(|_| changed.result.is_some());
                let results = result.map(|result| ResultRow { task: id, attempt, recorded_at: now, result });
                if happening.is_spoiled {
                    let spec = TaskSpec { input: "another input".to_owned(), ..(*task.spec).clone() };
                    task.spec = Arc::new(spec);
                }
                let revision = if happening.is_stale { Revision(revision.0.wrapping_sub(1)) } else { *revision };
                let tasks = vec![TaskWrite::Update { task, revision }];
                Some(Change { tasks, results: results.into_iter().collect(), events, ..Change::default() })
            }
            (
                Err(Refusal::LeaseLost { attempt: Some(attempt) } | Refusal::TaskFinal { attempt: Some(attempt), .. }),
                Some(result),
            ) => Some(self.late(id, attempt, agent, &result)),
            _ => None,
        }
    }

    fn late(&self, task: TaskId, attempt: u32, agent: AgentId, result: &TaskResult) -> Change {
        let row = LateResultRow { task, attempt, agent, received_at: self.now(), result: result.clone() };
        Change { late_results: vec![row], ..Change::default() }
    }

    fn claim(&self, wishes: &[Wish]) -> Made {
        let choosy: BTreeSet<AgentId> =
            wishes.iter().filter(|wish| wish.is_choosy).map(|wish| agent_id(wish.agent)).collect();
        let asks = wishes.iter().map(|wish| {
            let known = self.reference.agent(&agent_id(wish.agent)).map(|(kept, _)| kept.record.clone());
            let nobody = Offer { capabilities: 1, has_label: false, room: 1, instance: None };
            let mut agent = known.unwrap_or_else(|| agent(wish.agent, &nobody, self.now()));
            agent.epoch -= u64::from(wish.is_stale);
            Ask {
                agent: Arc::new(agent),
                max_tasks: wish.max_tasks,
                request_id: wish.request.map(|request| format!("request-{request}").parse().expect("a request id")),
                task_types: wish.only_type.map(|number| BTreeSet::from([task_type(number)])),
                lease: LEASE,
            }
        });
        let policy = self.policy.clone();
        let decide: Arc<Decide> = Arc::new(move |task, ask, now| {
            if choosy.contains(&ask.agent.id) && task.spec.priority.get() % 2 == 1 {
                return Err(Refusal::NotReady);
            }
            // The same for the reference and the store, and never the same for two attempts.
            let mut lease = *task.id().as_bytes();
            lease[0] = task.state.attempts.len() as u8;
            let event = TaskEvent::Assign {
                agent: ask.agent.id.clone(),
                epoch: ask.agent.epoch,
                lease_id: LeaseId::from_bytes(lease),
                request_id: ask.request_id.clone(),
                length: ask.lease,
            };
            Ok(task.apply(event, now, &policy)?.changed().expect("an assignment changes its task"))
        });
        Made::Claim(Demand { asks: asks.collect() }, decide)
    }

    /// Reads everything there is, by every question there is.
    async fn read_all(&self) {
        let (store, reference, now) = (&self.store, &self.reference, self.now());
        for id in &self.ids {
            let read = store.task(*id).await.expect("a read succeeds");
            let due = reference.task(*id);
            assert_eq!(
                read.map(|stored| (stored.record, stored.revision, stored.now)),
                due.map(|kept| (kept.record.clone(), kept.revision, now)),
                "task {id}"
            );
            let result = store.result(*id).await.expect("a read succeeds");
            assert_eq!(result.as_ref(), reference.results.get(id), "result of {id}");
            let late = store.late_results(*id).await.expect("a read succeeds");
            let due: Vec<_> = reference.late.range((*id, 0)..=(*id, u32::MAX)).map(|(_, row)| row.clone()).collect();
            assert_eq!(late, due, "late results of {id}");
            let events = store.events(EventSeq(0), Some(*id), 1_000).await.expect("a read succeeds");
            let due: Vec<_> = reference.events.iter().filter(|event| event.task == Some(*id)).cloned().collect();
            assert_eq!(events, due, "events of {id}");
        }
        self.read_lists().await;
        let mut agents = store.agents().await.expect("a read succeeds");
        agents.sort_by(|(one, _), (other, _)| one.record.id.cmp(&other.record.id));
        let agents: Vec<_> =
            agents.into_iter().map(|(stored, vitals)| (stored.record, stored.revision, vitals)).collect();
        let mut due: Vec<_> = reference
            .agents
            .iter()
            .map(|(kept, vitals)| (kept.record.clone(), kept.revision, vitals.clone()))
            .collect();
        due.sort_by(|(one, ..), (other, ..)| one.id.cmp(&other.id));
        assert_eq!(agents, due, "agents");
        for key in 0..KEYS {
            let row = store.idempotent(&scope(key)).await.expect("a read succeeds");
            assert_eq!(row.as_ref(), reference.keys.get(&scope(key)), "key {key}");
        }
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(EventSeq(0), |event: &eap_orchestrator::store::Event| event.seq);
            let page = store.events(after, None, 7).await.expect("a read succeeds");
            if page.is_empty() {
                break;
            }
            events.extend(page);
        }
        assert_eq!(events, reference.events, "events");
        assert_eq!(store.head().await.expect("a read succeeds"), EventSeq(reference.head), "the newest event");
        assert_eq!(store.pulse().await.expect("a read succeeds"), reference.pulse, "pulse");
        let depths = store.depths().await.expect("a read succeeds");
        let count = |depths: &[eap_orchestrator::store::Depth]| depths.iter().map(|depth| depth.tasks).sum::<u64>();
        let ready = depths.ready.iter().map(|depth| depth.tasks).sum::<u64>();
        assert_eq!([ready, count(&depths.delayed), count(&depths.leased)], reference.depths(), "{depths:?}");
    }

    async fn read_lists(&self) {
        let (store, reference) = (&self.store, &self.reference);
        for tenant in 0..2 {
            let all = TaskFilter {
                tenant: tenant_id(tenant),
                status: None,
                agent: None,
                task_type: None,
                dead_letters: false,
                before: None,
                limit: 5,
            };
            let filters = [
                all.clone(),
                TaskFilter { status: Some(TaskStatus::Queued), ..all.clone() },
                TaskFilter { status: Some(TaskStatus::Completed), ..all.clone() },
                TaskFilter { agent: Some(agent_id(0)), ..all.clone() },
                TaskFilter { dead_letters: true, ..all.clone() },
                TaskFilter { task_type: Some(task_type(1)), ..all },
            ];
            for mut filter in filters {
                let mut listed = Vec::new();
                loop {
                    let page = store.tasks(&filter).await.expect("a read succeeds");
                    let Some((last, _)) = page.last() else { break };
                    assert!(filter.before.is_none_or(|before| *last < before), "pages go on: {page:?}");
                    filter.before = Some(*last);
                    listed.extend(page.iter().map(|(_, stored)| stored.record.id()));
                }
                assert_eq!(listed, reference.listed(&filter), "{filter:?}");
            }
        }
        let mut leased = Vec::new();
        for agent in (0..AGENTS).map(agent_id) {
            let leases = store.leases(&agent).await.expect("a read succeeds");
            let began = |task: &Task| task.newest_attempt().map(|attempt| attempt.started_at);
            let leases: Vec<Task> = leases.into_iter().map(|stored| stored.record).collect();
            assert!(leases.is_sorted_by_key(began), "the oldest comes first: {leases:?}");
            assert_eq!(by_id(leases), by_id(reference.leases(&agent)), "leases of {agent}");
            leased.extend(reference.leases(&agent).iter().map(Task::id));
        }
        leased.sort();
        let mut read = Vec::new();
        loop {
            let page = store.leased(read.last().copied(), 3).await.expect("a read succeeds");
            if page.is_empty() {
                break;
            }
            read.extend(page.iter().map(|stored| stored.record.id()));
        }
        assert_eq!(read, leased, "all leases, in order of id");
        let until = self.now() + Duration::from_secs(30);
        let due = store.due(until, 1_000).await.expect("a read succeeds");
        let due: Vec<Task> = due.into_iter().map(|stored| stored.record).collect();
        assert!(due.is_sorted_by_key(Task::due_at), "the longest due comes first: {due:?}");
        let tasks = reference.tasks.iter().map(|kept| kept.record.clone());
        assert_eq!(by_id(due.clone()), by_id(tasks.filter(|task| task.due_at().is_some_and(|at| at <= until))), "due");
        let first = store.due(until, 2).await.expect("a read succeeds");
        let at = |tasks: &[Task]| tasks.iter().take(2).map(Task::due_at).collect::<Vec<_>>();
        assert_eq!(first.iter().map(|stored| stored.record.due_at()).collect::<Vec<_>>(), at(&due), "the first due");
    }
}

fn by_id(tasks: impl IntoIterator<Item = Task>) -> Vec<Task> {
    let mut tasks: Vec<Task> = tasks.into_iter().collect();
    tasks.sort_by_key(Task::id);
    tasks
}
