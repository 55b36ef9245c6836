//! What became of tasks lately, in the order of the commits.
//!
//! A commit costs the pages that it dirties. Written where it is looked up, a task on its way from submit to result would
//! dirty those of its row and of every index three times, at another place each time. So what is done with a young task is
//! first written here, one row for each commit, at the end of one table; and once the task is over, or something has to be
//! looked up, it moves as it then is into the tables, many at once and in their order. In memory, the writer has what is
//! written here as it stands; a start reads it back.
//!
//! A row goes once all that it tells of has moved. So a row may tell of what is in the tables already, which a start passes
//! over.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use eap_core::{RoutingKey, Task};
use eap_types::{AgentId, TaskId, Timestamp};
use rusqlite::{Connection, params};

use super::event_row::EventRow;
use super::fault::Fault;
use super::pages::{Page, Record};
use super::read::MOVED;
use super::recent::Known;
use crate::maps::IdMap;
use crate::store::Revision;
use crate::store::prepared::Kept;

/// How many tasks are over, or how many events are here, when they move on: enough to share pages, and few enough not to
/// keep others waiting.
const MOVING_TASKS: usize = 512;
const MOVING_EVENTS: usize = 2_048;
/// How many bytes are here before all of them move. Where there is no room for that, as many again may come.
const MAX_BYTES: usize = 16 << 20;
/// How many rows there are when a task moves that is not over.
const MAX_ROWS: i64 = 256;
/// The largest spec of a task that begins here.
pub(super) const MAX_SPEC: usize = 64 << 10;
const ROWS: &str = "SELECT seq, page FROM journal ORDER BY seq";
const INSERT: &str = "INSERT INTO journal (seq, page) VALUES (?1, ?2)";

/// A place in the order of claims: priority, then number.
pub(super) type Place = (i64, i64);

/// A task that is in the journal and in no table yet.
#[derive(Debug)]
pub(super) struct Young {
    pub(super) known: Known,
    pub(super) spec: String,
    pub(super) state: String,
    /// Where it waits, while it is ready.
    pub(super) route: Option<i64>,
    /// The row that tells of it first.
    first_row: i64,
}

impl Young {
    fn is_over(&self) -> bool {
        self.known.task.status().is_final()
    }

    fn bytes(&self) -> usize {
        self.spec.len() + self.known.result.as_ref().map_or(0, |kept| kept.text.len())
    }
}

/// How much of the journal moves into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Everything,
    /// The events, and the tasks that are over or have been here for long.
    Done,
}

/// What is in the journal as the open transaction has it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    tasks: BTreeMap<i64, Young>,
    numbers: IdMap<TaskId, i64>,
    ready: IdMap<i64, BTreeSet<Place>>,
    events: Vec<EventRow>,
    /// How many of the tasks are over.
    over: usize,
    bytes: usize,
    /// No task has to be looked at before.
    next_due: Option<Timestamp>,
    /// What the open transaction has done so far.
    page: Page,
    last_row: i64,
}

/// What moves on into the tables.
#[derive(Debug, Default)]
pub(super) struct Moving {
    pub(super) tasks: Vec<(i64, Young)>,
    pub(super) events: Vec<EventRow>,
}

impl Journal {
    /// Reads it back; `route_of` finds the route of a task that is ready.
    pub(super) fn load(
        connection: &Connection,
        mut route_of: impl FnMut(&RoutingKey) -> Result<i64, Fault>,
    ) -> Result<Self, Fault> {
        let mut journal = Self::default();
        let moved: i64 = connection.prepare_cached(MOVED)?.query_row([], |row| row.get(0))?;
        let mut has_moved = connection.prepare_cached("SELECT 1 FROM task WHERE seq = ?1")?;
        let mut statement = connection.prepare_cached(ROWS)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // What is read is of the row before the next one to be written.
            journal.last_row = row.get::<_, i64>(0)? - 1;
            let page = row.get_ref(1)?.as_blob().map_err(Fault::nonsense)?;
            for record in Page::records(page) {
                let record = record?;
                let is_here = match &record {
                    Record::Task { seq, .. } => !has_moved.exists([seq])?,
                    Record::State { seq, .. } | Record::Result { seq, .. } => journal.contains(*seq),
                    Record::Event(event) => event.number > moved,
                };
                if is_here {
                    journal.replay(record)?;
                }
            }
            journal.last_row += 1;
        }
        journal.next_due = journal.tasks.values().filter_map(|young| young.known.task.due_at()).min();
        journal.over = journal.tasks.values().filter(|young| young.is_over()).count();
        for (seq, young) in &mut journal.tasks {
            if young.known.task.is_ready() {
                let route = route_of(&young.known.task.spec.routing)?;
                young.route = Some(route);
                journal.ready.entry(route).or_default().insert(place(*seq, &young.known.task));
            }
        }
        Ok(journal)
    }

    fn replay(&mut self, record: Record<'_>) -> Result<(), Fault> {
        match record {
            Record::Task { seq, revision, spec, state } => {
                let task = Task { spec: Arc::new(serde_json::from_str(spec)?), state: serde_json::from_str(state)? };
                let known =
                    Known { seq, revision: Revision(revision.unsigned_abs()), task: Arc::new(task), result: None };
                self.put(known, spec.to_owned(), state.to_owned(), None);
            }
            Record::State { seq, revision, state } => {
                let young = self.tasks.get_mut(&seq).ok_or_else(|| Fault::nonsense(UNKNOWN))?;
                let spec = Arc::clone(&young.known.task.spec);
                young.known.task = Arc::new(Task { spec, state: serde_json::from_str(state)? });
                young.known.revision = Revision(revision.unsigned_abs());
                state.clone_into(&mut young.state);
            }
            Record::Result { seq, kept } => {
                let young = self.tasks.get_mut(&seq).ok_or_else(|| Fault::nonsense(UNKNOWN))?;
                self.bytes += kept.text.len();
                young.known.result = Some(Arc::new(kept));
            }
            Record::Event(event) => self.keep(event),
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.events.is_empty()
    }

    /// Whether no more may be written here before something has moved.
    pub(super) fn is_overfull(&self) -> bool {
        self.bytes >= 2 * MAX_BYTES
    }

    /// The tasks that are here.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Known> {
        self.tasks.values().map(|young| &young.known)
    }

    /// What it is time to move.
    pub(super) fn due(&self) -> Option<Share> {
        let is_old = self.first_row().is_some_and(|row| row <= self.last_row - MAX_ROWS);
        if self.bytes >= MAX_BYTES {
            Some(Share::Everything)
        } else {
            (self.over >= MOVING_TASKS || self.events.len() >= MOVING_EVENTS || is_old).then_some(Share::Done)
        }
    }

    /// The first row that tells of a task that is here. The rows of tasks rise with their numbers.
    fn first_row(&self) -> Option<i64> {
        self.tasks.first_key_value().map(|(_, young)| young.first_row)
    }

    /// When a task that is here has to be looked at, or earlier.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.next_due
    }

    /// The number of the newest event, if there is one here.
    pub(super) fn last_event(&self) -> Option<i64> {
        self.events.last().map(|event| event.number)
    }

    /// The number of the oldest event, if there is one here.
    pub(super) fn first_event(&self) -> Option<i64> {
        self.events.first().map(|event| event.number)
    }

    /// The number of the newest task, if there is one here.
    pub(super) fn last_task(&self) -> Option<i64> {
        self.tasks.last_key_value().map(|(seq, _)| *seq)
    }

    pub(super) fn contains(&self, seq: i64) -> bool {
        self.tasks.contains_key(&seq)
    }

    pub(super) fn by_number(&self, seq: i64) -> Option<&Known> {
        self.tasks.get(&seq).map(|young| &young.known)
    }

    pub(super) fn by_id(&self, id: TaskId) -> Option<&Known> {
        self.numbers.get(&id).and_then(|seq| self.by_number(*seq))
    }

    /// The tasks that an agent holds.
    pub(super) fn held_by<'j>(&'j self, agent: &'j AgentId) -> impl Iterator<Item = (i64, &'j Task)> {
        let tasks = self.tasks.iter().map(|(seq, young)| (*seq, &*young.known.task));
        tasks.filter(move |(_, task)| task.lease().is_some_and(|lease| lease.agent == *agent))
    }

    /// The first ready task of a route behind a place.
    pub(super) fn next_ready(&self, route: i64, behind: Option<Place>) -> Option<Place> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.ready.get(&route)?.range((from, Bound::Unbounded)).next().copied()
    }

    /// A new task.
    pub(super) fn insert(&mut self, known: Known, spec: &str, state: &str, route: Option<i64>) {
        self.page.task(known.seq, 1, spec, state);
        if let Some(route) = route {
            self.ready.entry(route).or_default().insert(place(known.seq, &known.task));
        }
        self.put(known, spec.to_owned(), state.to_owned(), route);
    }

    fn put(&mut self, known: Known, spec: String, state: String, route: Option<i64>) {
        self.bytes += spec.len();
        self.numbers.insert(known.task.id(), known.seq);
        self.expect(&known.task);
        self.over += usize::from(known.task.status().is_final());
        self.tasks.insert(known.seq, Young { known, spec, state, route, first_row: self.last_row + 1 });
    }

    fn expect(&mut self, task: &Task) {
        if let Some(due) = task.due_at() {
            self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
        }
    }

    /// The new state of a task that is here.
    pub(super) fn update(&mut self, known: Known, state: &str, route: Option<i64>) {
        self.expect(&known.task);
        let Some(young) = self.tasks.get_mut(&known.seq) else { return };
        self.page.state(known.seq, known.revision, state);
        if young.route != route {
            let place = place(known.seq, &known.task);
            if let Some(places) = young.route.and_then(|route| self.ready.get_mut(&route)) {
                places.remove(&place);
            }
            if let Some(route) = route {
                self.ready.entry(route).or_default().insert(place);
            }
            young.route = route;
        }
        state.clone_into(&mut young.state);
        let was_over = young.is_over();
        young.known = known;
        match (was_over, young.is_over()) {
            (false, true) => self.over += 1,
            (true, false) => self.over -= 1,
            _ => {}
        }
    }

    /// The result of a task that is here; says whether it is.
    pub(super) fn record(&mut self, seq: i64, kept: &Arc<Kept>) -> bool {
        let Some(young) = self.tasks.get_mut(&seq) else { return false };
        self.page.result(seq, kept);
        self.bytes += kept.text.len();
        young.known.result = Some(Arc::clone(kept));
        true
    }

    pub(super) fn tell(&mut self, event: EventRow) {
        self.page.event(&event);
        self.keep(event);
    }

    fn keep(&mut self, event: EventRow) {
        self.bytes += event.bytes();
        self.events.push(event);
    }

    /// Forgets the events of tasks that are purged; says how many those were.
    pub(super) fn forget_events_of(&mut self, tasks: &HashSet<i64>) -> u64 {
        let is_of_them = |event: &mut EventRow| event.task_seq.is_some_and(|task| tasks.contains(&task));
        let forgotten: Vec<_> = self.events.extract_if(.., is_of_them).collect();
        self.bytes -= forgotten.iter().map(EventRow::bytes).sum::<usize>();
        forgotten.len() as u64
    }

    /// Takes out what moves on.
    pub(super) fn take(&mut self, connection: &Connection, share: Share) -> Result<Moving, Fault> {
        let (oldest, everything) = (self.last_row - MAX_ROWS, share == Share::Everything);
        let stays = |young: &Young| !everything && !young.is_over() && young.first_row > oldest;
        let (staying, leaving): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.tasks).into_iter().partition(|(_, young)| stays(young));
        for (seq, young) in &leaving {
            self.numbers.remove(&young.known.task.id());
            if let Some(places) = young.route.and_then(|route| self.ready.get_mut(&route)) {
                places.remove(&place(*seq, &young.known.task));
            }
        }
        self.ready.retain(|_, places| !places.is_empty());
        self.tasks = staying;
        let first_row = self.first_row().unwrap_or(i64::MAX);
        connection.prepare_cached("DELETE FROM journal WHERE seq < ?1")?.execute([first_row])?;
        if self.tasks.is_empty() {
            // Nothing here, nothing written: a row that is left would tell of tasks that may be purged before it goes.
            self.page = Page::default();
        }
        self.over = 0;
        self.bytes = self.tasks.values().map(Young::bytes).sum();
        self.next_due = self.tasks.values().filter_map(|young| young.known.task.due_at()).min();
        Ok(Moving { tasks: leaving.into_iter().collect(), events: std::mem::take(&mut self.events) })
    }

    /// Writes all that is here anew, into the page of the open transaction, so that no row tells of anything else.
    pub(super) fn rewrite(&mut self, connection: &Connection) -> Result<(), Fault> {
        connection.prepare_cached("DELETE FROM journal")?.execute([])?;
        self.page = Page::default();
        for (seq, young) in &mut self.tasks {
            young.first_row = self.last_row + 1;
            self.page.task(*seq, young.known.revision.0.cast_signed(), &young.spec, &young.state);
            if let Some(kept) = &young.known.result {
                self.page.result(*seq, kept);
            }
        }
        self.events.iter().for_each(|event| self.page.event(event));
        Ok(())
    }

    /// Writes down what the open transaction has done.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<(), Fault> {
        let page = std::mem::take(&mut self.page);
        if !page.is_empty() {
            self.last_row += 1;
            connection.prepare_cached(INSERT)?.execute(params![self.last_row, page.bytes()])?;
        }
        Ok(())
    }
}

const UNKNOWN: &str = "the journal tells of a task that it does not have";

pub(super) fn place(seq: i64, task: &Task) -> Place {
    (i64::from(task.spec.priority.get()), seq)
}

#[cfg(test)]
mod tests;
