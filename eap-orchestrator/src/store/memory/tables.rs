//! The rows, and the indexes that every question is answered from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound;

use eap_core::{Agent, Credential, DueCallback, RoutingKey, Task, Vitals};
use eap_types::{AgentId, AgentName, CredentialId, InstanceId, Priority, TaskId, TenantId, Timestamp};

use super::sessions::Sessions;
use super::workflows::Workflows;
use crate::store::{
    Event, EventSeq, IdempotencyKeyRow, IdempotencyScope, Insertion, LateResultRow, NewEvent, ResultRow, Revision,
    StateRow,
};

/// What is unique among agents.
pub(super) type Identity = (TenantId, AgentName, InstanceId);

/// Ready tasks of one routing key, in the order they are taken.
pub(super) type Queue = BTreeSet<(Priority, Insertion)>;

/// A record and how often it was written.
pub(super) struct Row<T> {
    pub(super) record: T,
    pub(super) revision: Revision,
}

impl<T> Row<T> {
    pub(super) fn new(record: T) -> Self {
        Self { record, revision: Revision(1) }
    }

    /// Takes over a new record and gives the old one.
    pub(super) fn replace(&mut self, record: T) -> T {
        self.revision.0 += 1;
        std::mem::replace(&mut self.record, record)
    }
}

/// An agent and its vitals, which have no revision.
pub(super) struct KnownAgent {
    pub(super) row: Row<Agent>,
    pub(super) vitals: Vitals,
}

/// An operator key or registration secret and when it was last used, which has no revision.
pub(super) struct KnownCredential {
    pub(super) row: Row<Credential>,
    pub(super) last_used: Option<Timestamp>,
}

/// All there is. Tasks are named by their insertion number inside, by their id outside.
#[derive(Default)]
pub(super) struct Tables {
    tasks: BTreeMap<Insertion, Row<Task>>,
    numbers: HashMap<TaskId, Insertion>,
    last_number: u64,
    /// Queued tasks without delay; a key without any has no entry, so a claim sees live keys only.
    ready: HashMap<TenantId, HashMap<RoutingKey, Queue>>,
    /// Leased tasks by holder, the oldest lease first.
    held: HashMap<AgentId, BTreeSet<(Timestamp, Priority, Insertion)>>,
    leased: BTreeMap<TaskId, Insertion>,
    due: BTreeSet<(Timestamp, Insertion)>,
    finished: BTreeSet<(Timestamp, Insertion)>,
    letters: BTreeSet<Insertion>,
    pub(super) results: HashMap<TaskId, ResultRow>,
    pub(super) late_results: BTreeMap<(TaskId, u32), LateResultRow>,
    pub(super) agents: BTreeMap<AgentId, KnownAgent>,
    pub(super) identities: HashMap<Identity, AgentId>,
    pub(super) credentials: BTreeMap<CredentialId, KnownCredential>,
    pub(super) keys: HashMap<IdempotencyScope, IdempotencyKeyRow>,
    pub(super) webhooks: HashMap<[u8; 32], Timestamp>,
    /// By registration, time and arrival.
    pub(super) states: BTreeMap<AgentId, BTreeMap<(u64, Timestamp, u64), StateRow>>,
    pub(super) sessions: Sessions,
    pub(super) workflows: Workflows,
    callbacks: HashMap<TaskId, Row<DueCallback>>,
    callbacks_by_time: BTreeSet<(Timestamp, TaskId)>,
    /// With the number of the handle that wrote each.
    events: BTreeMap<EventSeq, (usize, Event)>,
    events_of_tasks: HashMap<TaskId, BTreeSet<EventSeq>>,
    events_by_time: BTreeSet<(Timestamp, EventSeq)>,
    pub(super) head: EventSeq,
    /// The number of the handle that holds the tables.
    pub(super) writer: usize,
    /// When each handle last said that it is in use.
    pub(super) replicas: BTreeMap<usize, Timestamp>,
    pub(super) pulse: Option<Timestamp>,
}

impl Tables {
    pub(super) fn task(&self, id: TaskId) -> Option<&Row<Task>> {
        self.numbers.get(&id).map(|number| self.row(*number))
    }

    pub(super) fn row(&self, number: Insertion) -> &Row<Task> {
        self.tasks.get(&number).expect("every number in an index is that of a stored task")
    }

    pub(super) fn newest_first(&self, before: Option<Insertion>) -> impl Iterator<Item = (Insertion, &Row<Task>)> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.tasks.range((Bound::Unbounded, end)).rev().map(|(number, row)| (*number, row))
    }

    /// The same, of dead letters alone.
    pub(super) fn newest_letters(&self, before: Option<Insertion>) -> impl Iterator<Item = (Insertion, &Row<Task>)> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.letters.range((Bound::Unbounded, end)).rev().map(|number| (*number, self.row(*number)))
    }

    pub(super) fn held_by(&self, agent: &AgentId) -> impl Iterator<Item = (Insertion, &Row<Task>)> {
        let held = self.held.get(agent).into_iter().flatten();
        held.map(|(_, _, number)| (*number, self.row(*number)))
    }

    pub(super) fn count_held_by(&self, agent: &AgentId) -> usize {
        self.held.get(agent).map_or(0, BTreeSet::len)
    }

    pub(super) fn leased_after(&self, after: Option<TaskId>) -> impl Iterator<Item = &Row<Task>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.leased.range((start, Bound::Unbounded)).map(|(_, number)| self.row(*number))
    }

    pub(super) fn due_until(&self, until: Timestamp) -> impl Iterator<Item = &Row<Task>> {
        self.due.iter().take_while(move |(at, _)| *at <= until).map(|(_, number)| self.row(*number))
    }

    /// Final tasks whose callbacks are over, the one that ended first in front.
    pub(super) fn finished_before(&self, cutoff: Timestamp) -> impl Iterator<Item = TaskId> {
        let old = self.finished.iter().take_while(move |(at, _)| *at < cutoff);
        let ids = old.map(|(_, number)| self.row(*number).record.id());
        ids.filter(|id| !self.callbacks.contains_key(id))
    }

    /// Every queue that has something in it.
    pub(super) fn all_queues(&self) -> impl Iterator<Item = (&RoutingKey, &Queue)> {
        self.ready.values().flatten()
    }

    /// Every task that the sweeper must come back to.
    pub(super) fn all_due(&self) -> impl Iterator<Item = &Task> {
        self.due.iter().map(|(_, number)| &self.row(*number).record)
    }

    /// The queues of a tenant that have something in them.
    pub(super) fn queues(&self, tenant: TenantId) -> impl Iterator<Item = (&RoutingKey, &Queue)> {
        self.ready.get(&tenant).into_iter().flatten()
    }

    pub(super) fn insert_task(&mut self, task: Task) {
        self.last_number += 1;
        let number = Insertion(self.last_number);
        self.numbers.insert(task.id(), number);
        self.index(&task, number, true);
        self.tasks.insert(number, Row::new(task));
    }

    /// Gives a stored task a new state; its spec stays. Says nothing of a task that is not stored.
    pub(super) fn update_task(&mut self, task: Task) {
        let Some(number) = self.numbers.get(&task.id()).copied() else { return };
        let Some(row) = self.tasks.get_mut(&number) else { return };
        let spec = row.record.spec.clone();
        let new = Task { spec, state: task.state };
        let old = row.replace(new.clone());
        self.index(&old, number, false);
        self.index(&new, number, true);
    }

    /// Removes a task and all that is its own; says how many rows went.
    pub(super) fn remove_task(&mut self, id: TaskId) -> u64 {
        let Some(number) = self.numbers.remove(&id) else { return 0 };
        let row = self.tasks.remove(&number).expect("every number in an index is that of a stored task");
        self.index(&row.record, number, false);
        let mut rows = 1 + u64::from(self.results.remove(&id).is_some());
        let late: Vec<_> = self.late_results.range((id, 0)..=(id, u32::MAX)).map(|(key, _)| *key).collect();
        for key in late {
            self.late_results.remove(&key);
            rows += 1;
        }
        for seq in self.events_of_tasks.remove(&id).unwrap_or_default() {
            self.remove_event(seq);
            rows += 1;
        }
        rows
    }

    /// Puts a task into every index its record belongs in, or takes it out of them.
    fn index(&mut self, task: &Task, number: Insertion, present: bool) {
        let routing = &task.spec.routing;
        let priority = task.spec.priority;
        if task.is_ready() {
            let queues = self.ready.entry(routing.tenant).or_default();
            put_under(queues, routing, (priority, number), present);
            if queues.is_empty() {
                self.ready.remove(&routing.tenant);
            }
        }
        if let Some(lease) = task.lease() {
            let since = task.attempt(lease.attempt).map_or(Timestamp::UNIX_EPOCH, |attempt| attempt.started_at);
            put_under(&mut self.held, &lease.agent, (since, priority, number), present);
            if present {
                self.leased.insert(task.id(), number);
            } else {
                self.leased.remove(&task.id());
            }
        }
        if let Some(at) = task.due_at() {
            put(&mut self.due, (at, number), present);
        }
        if task.state.phase.is_final() {
            put(&mut self.finished, (task.state.updated_at, number), present);
        }
        if task.is_dead_letter() {
            put(&mut self.letters, number, present);
        }
    }

    pub(super) fn insert_agent(&mut self, agent: Agent, vitals: Vitals) {
        if let Some(identity) = identity_of(&agent) {
            self.identities.insert(identity, agent.id.clone());
        }
        self.agents.insert(agent.id.clone(), KnownAgent { row: Row::new(agent), vitals });
    }

    /// Gives a stored agent a new record; its vitals stay. Says nothing of an agent that is not stored.
    pub(super) fn update_agent(&mut self, agent: Agent) {
        let Some(known) = self.agents.get_mut(&agent.id) else { return };
        let (id, identity) = (agent.id.clone(), identity_of(&agent));
        if let Some(identity) = identity_of(&known.row.replace(agent)) {
            self.identities.remove(&identity);
        }
        if let Some(identity) = identity {
            self.identities.insert(identity, id);
        }
    }

    pub(super) fn remove_agent(&mut self, id: &AgentId) {
        if let Some(identity) = self.agents.remove(id).and_then(|known| identity_of(&known.row.record)) {
            self.identities.remove(&identity);
        }
    }

    pub(super) fn callback(&self, task: TaskId) -> Option<&Row<DueCallback>> {
        self.callbacks.get(&task)
    }

    pub(super) fn callbacks_after(
        &self,
        after: Option<(Timestamp, TaskId)>,
    ) -> impl Iterator<Item = &Row<DueCallback>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let places = self.callbacks_by_time.range((start, Bound::Unbounded));
        places.filter_map(|(_, task)| self.callbacks.get(task))
    }

    /// Stores a callback, in the place of what was stored of it before.
    pub(super) fn put_callback(&mut self, callback: DueCallback) {
        let place = (callback.due_at, callback.task);
        match self.callbacks.get_mut(&callback.task) {
            Some(row) => {
                let old = row.replace(callback);
                self.callbacks_by_time.remove(&(old.due_at, old.task));
            }
            None => {
                self.callbacks.insert(callback.task, Row::new(callback));
            }
        }
        self.callbacks_by_time.insert(place);
    }

    pub(super) fn remove_callback(&mut self, task: TaskId) {
        if let Some(row) = self.callbacks.remove(&task) {
            self.callbacks_by_time.remove(&(row.record.due_at, task));
        }
    }

    pub(super) fn append_event(&mut self, event: NewEvent) {
        self.head.0 += 1;
        let seq = self.head;
        if let Some(task) = event.task {
            self.events_of_tasks.entry(task).or_default().insert(seq);
        }
        self.events_by_time.insert((event.at, seq));
        let NewEvent { tenant, at, kind, task, agent, attempt, detail } = event;
        let kind = kind.as_str().to_owned();
        let event = Event { seq, tenant, at, kind, task, agent, attempt, detail };
        self.events.insert(seq, (self.writer, event));
    }

    pub(super) fn remove_event(&mut self, seq: EventSeq) {
        let Some((_, event)) = self.events.remove(&seq) else { return };
        self.events_by_time.remove(&(event.at, seq));
        if let Some(task) = event.task.filter(|task| self.events_of_tasks.contains_key(task)) {
            put_under(&mut self.events_of_tasks, &task, seq, false);
        }
    }

    pub(super) fn events_after(&self, after: EventSeq) -> impl Iterator<Item = &Event> {
        self.events.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, (_, event))| event)
    }

    /// The same without those that `writer` wrote.
    pub(super) fn events_of_others(&self, after: EventSeq, writer: usize) -> impl Iterator<Item = &Event> {
        let events = self.events.range((Bound::Excluded(after), Bound::Unbounded));
        events.filter(move |(_, (of, _))| *of != writer).map(|(_, (_, event))| event)
    }

    pub(super) fn oldest_event(&self) -> Option<EventSeq> {
        self.events.keys().next().copied()
    }

    pub(super) fn events_about(&self, task: TaskId, after: EventSeq) -> impl Iterator<Item = &Event> {
        let seqs = self.events_of_tasks.get(&task).into_iter();
        let newer = seqs.flat_map(move |seqs| seqs.range((Bound::Excluded(after), Bound::Unbounded)));
        newer.filter_map(|seq| self.events.get(seq).map(|(_, event)| event))
    }

    pub(super) fn events_before(&self, cutoff: Timestamp) -> impl Iterator<Item = EventSeq> {
        self.events_by_time.iter().take_while(move |(at, _)| *at < cutoff).map(|(_, seq)| *seq)
    }
}

/// The agent's identity, if it has one: without an instance id every registration is its own.
pub(super) fn identity_of(agent: &Agent) -> Option<Identity> {
    let instance = agent.instance_id.clone()?;
    Some((agent.tenant, agent.name.clone(), instance))
}

fn put<T: Ord>(set: &mut BTreeSet<T>, value: T, present: bool) {
    if present {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}

/// The same in a set of sets, where an empty one leaves no entry behind.
fn put_under<K: Clone + Eq + Hash, T: Ord>(sets: &mut HashMap<K, BTreeSet<T>>, key: &K, value: T, present: bool) {
    let Some(set) = sets.get_mut(key) else {
        if present {
            sets.insert(key.clone(), BTreeSet::from([value]));
        }
        return;
    };
    put(set, value, present);
    if set.is_empty() {
        sets.remove(key);
    }
}
