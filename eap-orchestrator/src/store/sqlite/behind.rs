//! What is found by task and by agent: written in bulk, some way behind the events.
//!
//! Every event belongs to a task, every lease makes a task one of its agent's. Kept with each commit, indexes of that
//! would dirty a page for every agent and every running task, and pages are what a commit costs. So two tables follow
//! the events from a distance, and who reads them looks at the newest events as well (see `read`).

use std::collections::HashSet;

use eap_core::NoteKind;
use eap_types::{AgentId, TaskId, TenantId};
use rusqlite::Connection;

use super::event_row::EventRow;
use super::fault::Fault;
use super::journal::Journal;
use super::ledger::Ledger;
use super::many::write_rows;
use super::rows::word;

/// How far behind they are at most, in events: so many are looked at by who reads.
const DISTANCE: usize = 4_096;

/// The number of the event up to which the tables are complete.
const INDEXED: &str = "SELECT value FROM meta WHERE key = 'indexed'";
const SINCE: &str = "SELECT t.seq, e.seq, e.tenant, e.agent, e.kind, e.task \
     FROM event e LEFT JOIN task t ON t.id = e.task WHERE e.task IS NOT NULL \
     AND e.seq > ifnull((SELECT value FROM meta WHERE key = 'indexed'), 0) ORDER BY e.seq";

/// An event that is not in the tables yet.
#[derive(Debug)]
struct Entry {
    task: i64,
    event: i64,
    /// Whose the task became by it.
    holder: Option<(TenantId, AgentId)>,
}

/// The events that the tables do not have yet, those of the open transaction among them.
#[derive(Debug, Default)]
pub(super) struct Behind(Vec<Entry>);

impl Behind {
    /// Finds out what is missing; the task of an event may be in the journal still.
    pub(super) fn load(connection: &Connection, journal: &Journal) -> Result<Self, Fault> {
        let mut statement = connection.prepare_cached(SINCE)?;
        let mut rows = statement.query([])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let young = || Ok(journal.by_id(TaskId::from_bytes(row.get(5)?)).map(|known| known.seq));
            let task: Option<i64> = row.get(0)?;
            // Without one, it was purged.
            let Some(task) = task.map_or_else(young, |task| Ok::<_, Fault>(Some(task)))? else { continue };
            let is_lease = row.get_ref(4)?.as_str().map_err(Fault::nonsense)? == NoteKind::Leased.as_str();
            let holder = if is_lease { Some((TenantId::from_bytes(row.get(2)?), word(row, 3)?)) } else { None };
            entries.push(Entry { task, event: row.get(1)?, holder });
        }
        Ok(Self(entries))
    }

    /// Takes note of an event of a task.
    pub(super) fn note(&mut self, event: &EventRow) {
        if let Some(task) = event.task_seq {
            self.0.push(Entry { task, event: event.number, holder: event.holder() });
        }
    }

    /// Forgets tasks that are purged; says which events of theirs are in no table but that of all events.
    pub(super) fn forget(&mut self, tasks: &HashSet<i64>) -> Vec<i64> {
        self.0.extract_if(.., |entry| tasks.contains(&entry.task)).map(|entry| entry.event).collect()
    }

    /// Whether it is time to catch up.
    pub(super) fn is_far(&self) -> bool {
        self.0.len() >= DISTANCE
    }
}

impl Ledger {
    /// Brings the tables up to the newest event.
    pub(super) fn catch_up(&mut self) -> Result<(), Fault> {
        // In the order of the tables: what stands together is written together.
        let mut entries = std::mem::take(&mut self.behind).0;
        entries.sort_unstable_by_key(|entry| (entry.task, entry.event));
        write_rows(&self.connection, "INSERT OR IGNORE INTO event_of_task", 2, &entries, |entry, places| {
            places.take(entry.task)?;
            places.take(entry.event)
        })?;
        let mut held: Vec<_> = entries.iter().filter_map(|entry| Some((entry.holder.as_ref()?, entry.task))).collect();
        held.sort_unstable();
        write_rows(&self.connection, "INSERT OR IGNORE INTO task_of_agent", 3, &held, |held, places| {
            let ((tenant, agent), task) = held;
            places.take(tenant.as_bytes())?;
            places.take(agent.as_str())?;
            places.take(task)
        })?;
        match entries.iter().map(|entry| entry.event).max() {
            Some(newest) => self.write_meta("indexed", newest),
            None => Ok(()),
        }
    }
}

/// The number of the newest event that the tables have.
pub(super) fn indexed(connection: &Connection) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached(INDEXED)?;
    let mut rows = statement.query([])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use eap_core::{Note, Task, TaskEvent, TaskPolicy};
    use eap_types::{LeaseId, Timestamp};

    use super::*;
    use crate::clock::ManualClock;
    use crate::store::sqlite::SqliteOptions;
    use crate::store::sqlite::journal::Share;
    use crate::store::sqlite::open::Database;
    use crate::store::sqlite::read;
    use crate::store::sqlite::rows::Prepared;
    use crate::store::sqlite::sample::submitted;
    use crate::store::{Change, EventSeq, Revision, TaskFilter, TaskWrite, events_of};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn ledger() -> (tempfile::TempDir, Ledger, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("eap.db"), &SqliteOptions::default()).unwrap();
        let reader = database.readers.pop().unwrap();
        let ledger = Ledger::load(database.writer, Arc::new(ManualClock::at(NOW)), Arc::default()).unwrap();
        (folder, ledger, reader)
    }

    fn agent() -> AgentId {
        "a".parse().unwrap()
    }

    /// Submits a task and leases it, in two transactions.
    fn run(ledger: &mut Ledger, number: u8) -> TaskId {
        let task = submitted(number, NOW);
        let note = Note::of(NoteKind::Submitted);
        let events = events_of(&task, &[note], NOW);
        write(ledger, Change { tasks: vec![TaskWrite::Insert(task.clone())], events, ..Change::default() });
        let lease = TaskEvent::Assign {
            agent: agent(),
            epoch: 1,
            lease_id: LeaseId::v7(NOW, [number; 10]),
            request_id: None,
            length: Duration::from_secs(60),
        };
        let changed = task.apply(lease, NOW, &TaskPolicy::default()).unwrap().changed().unwrap();
        let events = events_of(&task, &changed.notes, NOW);
        let task = Task { spec: task.spec, state: changed.state };
        let id = task.id();
        let tasks = vec![TaskWrite::Update { task, revision: Revision(1) }];
        write(ledger, Change { tasks, events, ..Change::default() });
        id
    }

    fn write(ledger: &mut Ledger, change: Change) {
        ledger.begin().unwrap();
        assert!(ledger.apply(&Prepared::of(change).unwrap()).is_ok());
        ledger.settle().unwrap();
        ledger.write_down().unwrap();
        ledger.commit().unwrap();
    }

    fn catch_up(ledger: &mut Ledger) {
        ledger.begin().unwrap();
        ledger.catch_up().unwrap();
        ledger.commit().unwrap();
    }

    fn kinds(reader: &Connection, task: TaskId) -> Vec<String> {
        let events = read::events(reader, EventSeq(0), Some(task), 10).unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }

    fn tasks_of_agent(reader: &Connection, limit: usize) -> Vec<TaskId> {
        let filter = TaskFilter {
            tenant: TenantId::default(),
            status: None,
            agent: Some(agent()),
            task_type: None,
            dead_letters: false,
            before: None,
            limit,
        };
        read::tasks(reader, &filter, NOW).unwrap().into_iter().map(|(_, stored)| stored.record.id()).collect()
    }

    #[test]
    fn what_is_read_does_not_depend_on_how_far_behind_the_tables_are() {
        let (_folder, mut ledger, reader) = ledger();
        let first = run(&mut ledger, 1);
        assert_eq!(kinds(&reader, first), ["task.submitted", "task.leased"]);
        assert_eq!(tasks_of_agent(&reader, 9), [first]);
        catch_up(&mut ledger);
        assert_eq!(indexed(&reader).unwrap(), 2);
        let second = run(&mut ledger, 2);
        for _ in 0..2 {
            assert_eq!(kinds(&reader, first), ["task.submitted", "task.leased"]);
            assert_eq!(kinds(&reader, second), ["task.submitted", "task.leased"]);
            assert_eq!(tasks_of_agent(&reader, 9), [second, first]);
            assert_eq!(tasks_of_agent(&reader, 1), [second]);
            catch_up(&mut ledger);
        }
    }

    #[test]
    fn an_event_that_moved_before_its_task_is_not_forgotten_by_a_start() {
        let (_folder, mut ledger, reader) = ledger();
        let task = submitted(1, NOW);
        let note = Note::of(NoteKind::Submitted);
        let events = events_of(&task, &[note], NOW);
        let change = Change { tasks: vec![TaskWrite::Insert(task.clone())], events, ..Change::default() };
        ledger.begin().unwrap();
        assert!(ledger.apply(&Prepared::of(change).unwrap()).is_ok());
        ledger.write_down().unwrap();
        ledger.commit().unwrap();
        ledger.begin().unwrap();
        ledger.move_on(Share::Done).unwrap();
        ledger.commit().unwrap();
        assert!(ledger.journal.last_event().is_none() && ledger.journal.contains(1));
        ledger.rollback().unwrap();
        ledger.begin().unwrap();
        ledger.settle().unwrap();
        ledger.commit().unwrap();
        // A later one, so that the tables are said to be complete behind it.
        run(&mut ledger, 2);
        catch_up(&mut ledger);
        assert_eq!(kinds(&reader, task.id()), ["task.submitted"]);
    }

    #[test]
    fn a_start_or_a_rollback_finds_out_anew_what_is_missing() {
        let (_folder, mut ledger, reader) = ledger();
        let first = run(&mut ledger, 1);
        ledger.begin().unwrap();
        ledger.catch_up().unwrap();
        ledger.rollback().unwrap();
        assert_eq!(indexed(&reader).unwrap(), 0);
        catch_up(&mut ledger);
        let rows = "SELECT (SELECT count(*) FROM event_of_task), (SELECT count(*) FROM task_of_agent)";
        let counts: (u32, u32) = reader.query_row(rows, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(counts, (2, 1));
        assert_eq!(kinds(&reader, first).len(), 2);
    }
}
