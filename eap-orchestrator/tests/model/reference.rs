//! The contract of a store as plain lists: no index, no cache, every question answered by looking at everything.
//!
//! Written from the documentation of `Repository` alone.

use std::collections::{BTreeMap, HashMap};

use eap_core::{Agent, Phase, Standing, Task, Vitals};
use eap_orchestrator::store::{
    AgentWrite, Ask, Change, Claimed, Cutoffs, Decide, Event, EventSeq, IdempotencyKeyRow, IdempotencyScope,
    LateResultRow, NewEvent, RecordRef, ResultRow, Revision, StoreError, TaskFilter, TaskWrite, events_of,
};
use eap_types::{AgentId, TaskId, Timestamp};

/// A record and how often it was written.
#[derive(Clone, Debug)]
pub(crate) struct Kept<T> {
    pub(crate) record: T,
    pub(crate) revision: Revision,
}

/// All that a store has to know.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    /// Vitals that are older than those stored are then passed over.
    pub(crate) can_be_shared: bool,
    /// In the order of their insertion.
    pub(crate) tasks: Vec<Kept<Task>>,
    pub(crate) agents: Vec<(Kept<Agent>, Vitals)>,
    pub(crate) results: HashMap<TaskId, ResultRow>,
    pub(crate) late: BTreeMap<(TaskId, u32), LateResultRow>,
    pub(crate) keys: HashMap<IdempotencyScope, IdempotencyKeyRow>,
    pub(crate) events: Vec<Event>,
    pub(crate) head: u64,
    pub(crate) pulse: Option<Timestamp>,
}

/// Why a change must be refused; a store may name any one of several reasons.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wrong {
    Conflict(RecordRef),
    Duplicate(RecordRef),
}

impl Wrong {
    pub(crate) fn is(&self, error: &StoreError) -> bool {
        match (self, error) {
            (Self::Conflict(due), StoreError::Conflict { record })
            | (Self::Duplicate(due), StoreError::Duplicate { record }) => due == record,
            _ => false,
        }
    }
}

impl Reference {
    pub(crate) fn task(&self, id: TaskId) -> Option<&Kept<Task>> {
        self.tasks.iter().find(|kept| kept.record.id() == id)
    }

    pub(crate) fn agent(&self, id: &AgentId) -> Option<&(Kept<Agent>, Vitals)> {
        self.agents.iter().find(|(kept, _)| kept.record.id == *id)
    }

    /// Writes the change, or gives every reason why it must be refused.
    pub(crate) fn commit(&mut self, change: &Change) -> Result<EventSeq, Vec<Wrong>> {
        let wrong = self.wrongs(change);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        for write in &change.tasks {
            match write {
                TaskWrite::Insert(task) => self.tasks.push(Kept { record: task.clone(), revision: Revision(1) }),
                TaskWrite::Update { task, .. } => self.update(task),
            }
        }
        for write in &change.agents {
            match write {
                AgentWrite::Insert(agent, vitals) => {
                    self.agents.push((Kept { record: agent.clone(), revision: Revision(1) }, vitals.clone()));
                }
                AgentWrite::Update { agent, .. } => {
                    let known = self.agents.iter_mut().find(|(kept, _)| kept.record.id == agent.id);
                    let (kept, _) = known.expect("an update of what is not there is a conflict");
                    kept.record = agent.clone();
                    kept.revision.0 += 1;
                }
            }
        }
        for row in &change.results {
            self.results.insert(row.task, row.clone());
        }
        for row in &change.late_results {
            self.late.entry((row.task, row.attempt)).or_insert_with(|| row.clone());
        }
        if let Some(row) = &change.idempotency {
            self.keys.insert(row.scope.clone(), row.clone());
        }
        for (agent, told) in &change.vitals {
            for (_, vitals) in self.agents.iter_mut().filter(|(kept, _)| kept.record.id == *agent) {
                if self.can_be_shared && vitals.are_newer_than(told) {
                    continue;
                }
                vitals.clone_from(told);
            }
        }
        self.pulse = change.pulse.or(self.pulse);
        self.tell(&change.events);
        Ok(EventSeq(self.head))
    }

    fn update(&mut self, task: &Task) {
        let id = task.id();
        let kept = self.tasks.iter_mut().find(|kept| kept.record.id() == id);
        let kept = kept.expect("an update of what is not there is a conflict");
        kept.record.state = task.state.clone();
        kept.revision.0 += 1;
    }

    fn wrongs(&self, change: &Change) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for write in &change.tasks {
            let id = write.task().id();
            let revision = self.task(id).map(|kept| kept.revision);
            match write {
                TaskWrite::Insert(_) if revision.is_some() => wrong.push(Wrong::Duplicate(RecordRef::Task(id))),
                TaskWrite::Update { revision: named, .. } if revision != Some(*named) => {
                    wrong.push(Wrong::Conflict(RecordRef::Task(id)));
                }
                _ => {}
            }
        }
        for write in &change.agents {
            let (AgentWrite::Insert(agent, _) | AgentWrite::Update { agent, .. }) = write;
            let revision = self.agent(&agent.id).map(|(kept, _)| kept.revision);
            match write {
                AgentWrite::Insert(..) if revision.is_some() => {
                    wrong.push(Wrong::Duplicate(RecordRef::Agent(agent.id.clone())));
                }
                AgentWrite::Update { revision: named, .. } if revision != Some(*named) => {
                    wrong.push(Wrong::Conflict(RecordRef::Agent(agent.id.clone())));
                }
                _ => {}
            }
            let identity = |agent: &Agent| (agent.tenant, agent.name.clone(), agent.instance_id.clone());
            let mut others = self.agents.iter().map(|(kept, _)| &kept.record).filter(|other| other.id != agent.id);
            if agent.instance_id.is_some()
                && let Some(owner) = others.find(|other| identity(other) == identity(agent))
            {
                wrong.push(Wrong::Duplicate(RecordRef::Agent(owner.id.clone())));
            }
        }
        let is_there = |id: TaskId| self.task(id).is_some() || change.tasks.iter().any(|write| write.task().id() == id);
        for row in &change.results {
            if !is_there(row.task) {
                wrong.push(Wrong::Conflict(RecordRef::Task(row.task)));
            } else if self.results.contains_key(&row.task) {
                wrong.push(Wrong::Duplicate(RecordRef::Task(row.task)));
            }
        }
        for row in change.late_results.iter().filter(|row| !is_there(row.task)) {
            wrong.push(Wrong::Conflict(RecordRef::Task(row.task)));
        }
        if change.idempotency.as_ref().is_some_and(|row| self.keys.contains_key(&row.scope)) {
            wrong.push(Wrong::Duplicate(RecordRef::IdempotencyKey));
        }
        wrong
    }

    fn tell(&mut self, events: &[NewEvent]) {
        for event in events {
            self.head += 1;
            let NewEvent { tenant, at, kind, task, agent, attempt, detail } = event.clone();
            let (seq, kind) = (EventSeq(self.head), kind.as_str().to_owned());
            self.events.push(Event { seq, tenant, at, kind, task, agent, attempt, detail });
        }
    }

    /// Serves one ask of a claim.
    pub(crate) fn claim(&mut self, ask: &Ask, now: Timestamp, decide: &Decide) -> Claimed {
        let Some((Kept { record: agent, .. }, _)) = self.agent(&ask.agent.id) else { return Claimed::default() };
        if agent.standing != Standing::Active || agent.epoch != ask.agent.epoch {
            return Claimed::default();
        }
        let agent = agent.clone();
        let held = self.leases(&agent.id);
        let of_request = |task: &Task| task.lease().is_some_and(|lease| lease.request_id == ask.request_id);
        let again: Vec<Task> = held.iter().filter(|task| of_request(task)).cloned().collect();
        if ask.request_id.is_some() && !again.is_empty() {
            return Claimed { tasks: again, repeated: true, ..Claimed::default() };
        }
        let room = (ask.max_tasks as usize).min((agent.max_concurrent_tasks as usize).saturating_sub(held.len()));
        let is_wanted = |task: &Task| {
            let task_type = &task.spec.routing.task_type;
            task.is_ready()
                && task.spec.routing.admits(&agent)
                && ask.task_types.as_ref().is_none_or(|types| types.contains(task_type))
        };
        let mut wanted: Vec<Task> = self.tasks.iter().map(|kept| kept.record.clone()).filter(is_wanted).collect();
        // The order of insertion stays within a priority: the sort is stable.
        wanted.sort_by_key(|task| task.spec.priority);
        let (mut tasks, mut is_any_refused) = (Vec::new(), false);
        for task in wanted {
            if tasks.len() == room {
                break;
            }
            let Ok(changed) = decide(&task, ask, now) else {
                is_any_refused = true;
                continue;
            };
            let task = Task { spec: task.spec, state: changed.state };
            self.update(&task);
            self.tell(&events_of(&task, &changed.notes, now));
            tasks.push(task);
        }
        let is_exhausted = tasks.len() < room && !is_any_refused;
        Claimed { tasks, is_exhausted, ..Claimed::default() }
    }

    /// The tasks that an agent holds.
    pub(crate) fn leases(&self, agent: &AgentId) -> Vec<Task> {
        let tasks = self.tasks.iter().map(|kept| &kept.record);
        tasks.filter(|task| task.lease().is_some_and(|lease| lease.agent == *agent)).cloned().collect()
    }

    /// The ids of the tasks that a filter asks for, newest first, were its limit none.
    pub(crate) fn listed(&self, filter: &TaskFilter) -> Vec<TaskId> {
        let is_asked_for = |task: &&Task| {
            let routing = &task.spec.routing;
            routing.tenant == filter.tenant
                && (!filter.dead_letters || task.is_dead_letter())
                && filter.status.is_none_or(|status| status == task.status())
                && filter.task_type.as_ref().is_none_or(|task_type| *task_type == routing.task_type)
                && filter
                    .agent
                    .as_ref()
                    .is_none_or(|agent| task.newest_attempt().is_some_and(|attempt| attempt.agent == *agent))
        };
        self.tasks.iter().rev().map(|kept| &kept.record).filter(is_asked_for).map(Task::id).collect()
    }

    /// Deletes everything that is older, and gives the tasks and agents that went.
    pub(crate) fn purge(&mut self, cutoffs: &Cutoffs) -> (Vec<TaskId>, Vec<AgentId>) {
        let is_old = |task: &Task| task.state.phase.is_final() && task.state.updated_at < cutoffs.tasks;
        let tasks: Vec<TaskId> =
            self.tasks.iter().map(|kept| &kept.record).filter(|task| is_old(task)).map(Task::id).collect();
        self.tasks.retain(|kept| !tasks.contains(&kept.record.id()));
        self.results.retain(|id, _| !tasks.contains(id));
        self.late.retain(|(id, _), row| !tasks.contains(id) && row.received_at >= cutoffs.late_results);
        self.events.retain(|event| event.at >= cutoffs.events && event.task.is_none_or(|task| !tasks.contains(&task)));
        self.keys.retain(|_, row| row.created_at >= cutoffs.idempotency_keys);
        let last = |agent: &Agent, vitals: &Vitals| match agent.standing {
            Standing::Deregistered { at } | Standing::Superseded { at } => at,
            Standing::Active | Standing::Draining => vitals.last_seen,
        };
        let gone = self.agents.iter().filter(|(kept, vitals)| {
            last(&kept.record, vitals) < cutoffs.agents && self.leases(&kept.record.id).is_empty()
        });
        let gone: Vec<AgentId> = gone.map(|(kept, _)| kept.record.id.clone()).collect();
        self.agents.retain(|(kept, _)| !gone.contains(&kept.record.id));
        (tasks, gone)
    }

    /// How many tasks are ready, delayed and leased.
    pub(crate) fn depths(&self) -> [u64; 3] {
        let count =
            |which: fn(&Phase) -> bool| self.tasks.iter().filter(|kept| which(&kept.record.state.phase)).count() as u64;
        [
            count(|phase| matches!(phase, Phase::Queued { ready_at: None })),
            count(|phase| matches!(phase, Phase::Queued { ready_at: Some(_) })),
            count(|phase| matches!(phase, Phase::Leased(_))),
        ]
    }
}
