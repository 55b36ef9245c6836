//! Sessions by every question that is asked of them, and the tasks that are their steps.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use eap_core::{Session, StepRun};
use eap_types::{SessionId, TaskId, Timestamp};

use super::commit::{must_be_at, must_be_new};
use super::tables::Row;
use crate::store::{Insertion, RecordRef, SessionFilter, SessionWrite, StoreError};

/// The sessions; named by their insertion number inside, by their id outside.
#[derive(Default)]
pub(super) struct Sessions {
    rows: BTreeMap<Insertion, Row<Session>>,
    numbers: HashMap<SessionId, Insertion>,
    last_number: u64,
    open: BTreeMap<SessionId, Insertion>,
    ended: BTreeSet<(Timestamp, Insertion)>,
    /// The session of every step's task.
    steps: HashMap<TaskId, Insertion>,
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Row<Session>> {
        self.numbers.get(&id).map(|number| self.row(*number))
    }

    pub(super) fn of_step(&self, task: TaskId) -> Option<&Row<Session>> {
        self.steps.get(&task).map(|number| self.row(*number))
    }

    fn row(&self, number: Insertion) -> &Row<Session> {
        self.rows.get(&number).expect("every number in an index is that of a stored session")
    }

    pub(super) fn newest_first(&self, filter: &SessionFilter) -> impl Iterator<Item = (Insertion, &Row<Session>)> {
        let end = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.range((Bound::Unbounded, end)).rev();
        rows.filter(|(_, row)| is_asked_for(&row.record, filter)).map(|(number, row)| (*number, row))
    }

    pub(super) fn open_after(&self, after: Option<SessionId>) -> impl Iterator<Item = &Row<Session>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.open.range((start, Bound::Unbounded)).map(|(_, number)| self.row(*number))
    }

    pub(super) fn check(&self, writes: &[SessionWrite]) -> Result<(), StoreError> {
        let (mut seen, mut begun) = (HashSet::new(), HashSet::new());
        for write in writes {
            let session = write.session();
            let record = RecordRef::Session(session.id());
            let is_first = seen.insert(session.id());
            let stored = self.get(session.id());
            let revision = stored.map(|row| row.revision);
            match write {
                SessionWrite::Insert(_) => must_be_new(is_first && stored.is_none(), record)?,
                SessionWrite::Update { revision: read, .. } => {
                    must_be_at(*read, revision.filter(|_| is_first), record)?;
                }
            }
            for step in steps_since(session, stored) {
                let is_new = begun.insert(step.task) && !self.steps.contains_key(&step.task);
                must_be_new(is_new, RecordRef::Step(step.task))?;
            }
        }
        Ok(())
    }

    /// Writes sessions that were checked.
    pub(super) fn write(&mut self, writes: Vec<SessionWrite>) {
        for write in writes {
            match write {
                SessionWrite::Insert(session) => self.insert(session),
                SessionWrite::Update { session, .. } => self.update(session),
            }
        }
    }

    fn insert(&mut self, session: Session) {
        self.last_number += 1;
        let number = Insertion(self.last_number);
        self.numbers.insert(session.id(), number);
        self.steps.extend(session.run.steps.iter().map(|step| (step.task, number)));
        self.index(&session, number, true);
        self.rows.insert(number, Row::new(session));
    }

    /// Gives a stored session a new run; its spec stays.
    fn update(&mut self, session: Session) {
        let Some(number) = self.numbers.get(&session.id()).copied() else { return };
        let Some(row) = self.rows.get_mut(&number) else { return };
        let new = Session { spec: row.record.spec.clone(), run: session.run };
        self.steps.extend(steps_since(&new, Some(row)).iter().map(|step| (step.task, number)));
        let old = row.replace(new.clone());
        self.index(&old, number, false);
        self.index(&new, number, true);
    }

    /// Puts a session into the index its record belongs in, or takes it out.
    fn index(&mut self, session: &Session, number: Insertion, present: bool) {
        match (session.run.phase.ended_at(), present) {
            (Some(at), true) => drop(self.ended.insert((at, number))),
            (Some(at), false) => drop(self.ended.remove(&(at, number))),
            (None, true) => drop(self.open.insert(session.id(), number)),
            (None, false) => drop(self.open.remove(&session.id())),
        }
    }

    /// Removes at most `limit` sessions that ended before the cut-off; says how many went.
    pub(super) fn purge(&mut self, cutoff: Timestamp, limit: usize) -> u64 {
        let old: Vec<_> = self.ended.iter().take_while(|(at, _)| *at < cutoff).take(limit).copied().collect();
        for place in &old {
            self.ended.remove(place);
            let Some(row) = self.rows.remove(&place.1) else { continue };
            self.numbers.remove(&row.record.id());
            for step in &row.record.run.steps {
                self.steps.remove(&step.task);
            }
        }
        old.len() as u64
    }
}

/// The steps that were begun since a session was stored.
fn steps_since<'a>(session: &'a Session, stored: Option<&Row<Session>>) -> &'a [StepRun] {
    let known = stored.map_or(0, |row| row.record.run.steps.len());
    session.run.steps.get(known..).unwrap_or_default()
}

fn is_asked_for(session: &Session, filter: &SessionFilter) -> bool {
    let spec = &session.spec;
    spec.tenant == filter.tenant
        && filter.status.is_none_or(|status| session.status() == status)
        && filter.workflow_id.as_ref().is_none_or(|id| spec.workflow.id == *id)
        && filter.agent_id.as_ref().is_none_or(|id| spec.agent_id.as_ref() == Some(id))
}
