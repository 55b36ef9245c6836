//! What a start, a move and a purge make of the journal.

use std::path::Path;
use std::time::Duration;

use eap_core::{Note, NoteKind, Quote, Report, TaskEvent, TaskPolicy};
use eap_types::{JsonObject, LeaseId, TaskResult, TaskStatus};

use super::*;
use crate::clock::ManualClock;
use crate::store::sqlite::SqliteOptions;
use crate::store::sqlite::ledger::Ledger;
use crate::store::sqlite::open::Database;
use crate::store::sqlite::rows::Prepared;
use crate::store::sqlite::sample::submitted;
use crate::store::{Change, Cutoffs, EventSeq, ResultRow, TaskWrite, events_of};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn open(folder: &Path) -> Ledger {
    let database = Database::open(&folder.join("eap.db"), &SqliteOptions::default()).unwrap();
    Ledger::load(database.writer, Arc::new(ManualClock::at(NOW)), Arc::default()).unwrap()
}

fn write(ledger: &mut Ledger, change: Change) {
    ledger.begin().unwrap();
    assert!(ledger.apply(&Prepared::of(change).unwrap()).is_ok());
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
}

fn submit(ledger: &mut Ledger, number: u8) -> Task {
    let task = submitted(number, NOW);
    let note = Note::of(NoteKind::Submitted);
    let events = events_of(&task, &[note], NOW);
    write(ledger, Change { tasks: vec![TaskWrite::Insert(task.clone())], events, ..Change::default() });
    task
}

fn step(ledger: &mut Ledger, task: &Task, event: TaskEvent, result: Option<TaskResult>) -> Task {
    let revision = ledger.stored(task.id()).unwrap().unwrap().revision;
    let changed = task.apply(event, NOW, &TaskPolicy::default()).unwrap().changed().unwrap();
    let task = Task { spec: Arc::clone(&task.spec), state: changed.state };
    let events = events_of(&task, &changed.notes, NOW);
    let results = result.map(|result| ResultRow { task: task.id(), attempt: 1, recorded_at: NOW, result });
    let tasks = vec![TaskWrite::Update { task: task.clone(), revision }];
    write(ledger, Change { tasks, events, results: results.into_iter().collect(), ..Change::default() });
    task
}

fn lease(ledger: &mut Ledger, task: &Task) -> Task {
    let event = TaskEvent::Assign {
        agent: "a".parse().unwrap(),
        epoch: 1,
        lease_id: LeaseId::v7(NOW, [7; 10]),
        request_id: None,
        length: Duration::from_secs(60),
    };
    step(ledger, task, event, None)
}

fn complete(ledger: &mut Ledger, task: &Task) -> Task {
    let result = TaskResult::completed(task.id(), JsonObject::default());
    let event = TaskEvent::Report {
        agent: "a".parse().unwrap(),
        quote: Quote::default(),
        report: Report::of(&result),
        chance: eap_core::Chance::new(0.5),
    };
    step(ledger, task, event, Some(result))
}

/// A queued task, a leased one and one that is over, in the order of their numbers.
fn three(ledger: &mut Ledger) -> [Task; 3] {
    let [queued, leased, over] = [1, 2, 3].map(|number| submit(ledger, number));
    let (leased, over) = (lease(ledger, &leased), lease(ledger, &over));
    [queued, leased, complete(ledger, &over)]
}

fn count(ledger: &Ledger, table: &str) -> u32 {
    ledger.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn assert_all_there(ledger: &Ledger, tasks: &[Task; 3]) {
    for (number, task) in (1..).zip(tasks) {
        let known = ledger.stored(task.id()).unwrap().unwrap();
        assert_eq!((known.seq, &*known.task), (number, task));
    }
    assert_eq!(ledger.head().0, 6);
}

#[test]
fn what_is_here_is_in_no_table_and_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let tasks = three(&mut ledger);
    for table in ["task", "task_spec", "event", "result"] {
        assert_eq!(count(&ledger, table), 0, "{table}");
    }
    drop(ledger);
    let mut ledger = open(folder.path());
    assert_all_there(&ledger, &tasks);
    let journal = &ledger.journal;
    assert_eq!(journal.next_ready(1, None), Some(place(1, &tasks[0])));
    assert_eq!(journal.held_by(&"a".parse().unwrap()).map(|(seq, _)| seq).collect::<Vec<_>>(), [2]);
    assert_eq!(journal.next_due(), tasks[1].due_at());
    assert!(ledger.has_result(3).unwrap() && !ledger.has_result(2).unwrap());

    ledger.begin().unwrap();
    ledger.settle().unwrap();
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
    assert!(ledger.journal.is_empty());
    let rows = ["task", "task_spec", "event", "result", "journal"].map(|table| count(&ledger, table));
    assert_eq!(rows, [3, 3, 6, 1, 0]);
    assert_all_there(&ledger, &tasks);
}

#[test]
fn a_row_that_tells_of_what_has_moved_brings_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let [queued, leased, over] = three(&mut ledger);
    ledger.begin().unwrap();
    ledger.move_on(Share::Done).unwrap();
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
    let rows = ["task", "event", "result", "journal"].map(|table| count(&ledger, table));
    // All rows stay: the first of them tells of the task that is still queued.
    assert_eq!(rows, [1, 6, 1, 6]);
    let leased = complete(&mut ledger, &leased);
    drop(ledger);
    let mut ledger = open(folder.path());
    assert_eq!(ledger.journal.tasks.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ledger.journal.events.iter().map(|event| event.number).collect::<Vec<_>>(), [7]);
    ledger.begin().unwrap();
    ledger.settle().unwrap();
    ledger.commit().unwrap();
    let rows = ["task", "event", "result", "journal"].map(|table| count(&ledger, table));
    assert_eq!(rows, [3, 7, 2, 0]);
    let status = |task: &Task| ledger.stored(task.id()).unwrap().unwrap().task.status();
    let statuses = [&queued, &leased, &over].map(status);
    assert_eq!(statuses, [TaskStatus::Queued, TaskStatus::Completed, TaskStatus::Completed]);
}

#[test]
fn once_nothing_is_here_no_row_is_left_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let task = submit(&mut ledger, 1);
    ledger.begin().unwrap();
    // It is over and moves in the transaction that tells of it.
    let cancelled = task.apply(TaskEvent::Cancel { reason: None }, NOW, &TaskPolicy::default()).unwrap();
    let state = cancelled.changed().unwrap().state;
    let update = TaskWrite::Update { task: Task { spec: Arc::clone(&task.spec), state }, revision: Revision(1) };
    let change = Prepared::of(Change { tasks: vec![update], ..Change::default() }).unwrap();
    assert!(ledger.apply(&change).is_ok());
    ledger.move_on(Share::Done).unwrap();
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
    assert!(ledger.journal.is_empty());
    assert_eq!(["task", "journal"].map(|table| count(&ledger, table)), [1, 0]);
}

#[test]
fn what_is_written_anew_is_read_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let tasks = three(&mut ledger);
    ledger.begin().unwrap();
    ledger.journal.rewrite(&ledger.connection).unwrap();
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
    assert_eq!(count(&ledger, "journal"), 1);
    drop(ledger);
    let ledger = open(folder.path());
    assert_all_there(&ledger, &tasks);
    assert!(ledger.has_result(3).unwrap());
}

#[test]
fn a_purge_without_room_takes_all_that_is_of_its_tasks_and_no_number_is_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let task = submit(&mut ledger, 1);
    let task = lease(&mut ledger, &task);
    let old = complete(&mut ledger, &task);
    ledger.begin().unwrap();
    ledger.settle().unwrap();
    ledger.commit().unwrap();
    // What is told of it later is in the journal, before and behind what is told of another.
    let tell = |ledger: &mut Ledger| {
        write(ledger, Change { events: events_of(&old, &[note()], NOW), ..Change::default() });
    };
    tell(&mut ledger);
    let young = submit(&mut ledger, 2);
    tell(&mut ledger);
    let head = ledger.head();

    ledger.begin().unwrap();
    let purged = ledger.purge(&all_that_is_over(), 10, true).unwrap();
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
    assert_eq!(purged.tasks, [old.id()]);
    assert_eq!(["task", "event"].map(|table| count(&ledger, table)), [0, 0]);
    let numbers = |ledger: &Ledger| ledger.journal.events.iter().map(|event| event.number).collect::<Vec<_>>();
    assert_eq!(numbers(&ledger), [head.0.cast_signed() - 1]);
    drop(ledger);

    let mut ledger = open(folder.path());
    assert_eq!(numbers(&ledger), [head.0.cast_signed() - 1]);
    assert_eq!(ledger.head(), head);
    assert_eq!(ledger.stored(young.id()).unwrap().unwrap().seq, 2);
    submit(&mut ledger, 3);
    assert_eq!(ledger.head(), EventSeq(head.0 + 1));
    ledger.begin().unwrap();
    ledger.settle().unwrap();
    ledger.catch_up().unwrap();
    ledger.commit().unwrap();
    let rows = ["task", "event", "event_of_task", "task_of_agent"].map(|table| count(&ledger, table));
    assert_eq!(rows, [2, 2, 2, 0]);
}

#[test]
fn what_a_purge_without_room_took_is_not_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let task = submit(&mut ledger, 1);
    let task = lease(&mut ledger, &task);
    complete(&mut ledger, &task);
    ledger.begin().unwrap();
    ledger.settle().unwrap();
    ledger.commit().unwrap();
    ledger.begin().unwrap();
    ledger.purge(&all_that_is_over(), 10, true).unwrap();
    ledger.catch_up().unwrap();
    ledger.commit().unwrap();
    let rows = ["task", "event", "event_of_task", "task_of_agent"].map(|table| count(&ledger, table));
    assert_eq!(rows, [0; 4]);
}

#[test]
fn a_task_that_is_not_over_moves_when_it_holds_up_many_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path());
    let slow = submit(&mut ledger, 1);
    for _ in 0..MAX_ROWS {
        write(&mut ledger, Change { pulse: Some(NOW), events: events_of(&slow, &[note()], NOW), ..Change::default() });
    }
    assert_eq!(ledger.journal.due(), Some(Share::Done));
    ledger.begin().unwrap();
    ledger.tidy().unwrap();
    ledger.write_down().unwrap();
    ledger.commit().unwrap();
    assert_eq!(["task", "journal"].map(|table| count(&ledger, table)), [1, 0]);
}

fn all_that_is_over() -> Cutoffs {
    let never = Timestamp::UNIX_EPOCH;
    Cutoffs {
        tasks: NOW + Duration::from_secs(1),
        events: never,
        late_results: never,
        idempotency_keys: never,
        sessions: never,
        webhooks: never,
        states: never,
        credentials: never,
        agents: never,
    }
}

fn note() -> Note {
    Note::of(NoteKind::Ready)
}

#[test]
fn a_page_that_ends_early_is_an_error() {
    let mut page = Page::default();
    page.task(1, 1, "{}", "{}");
    assert_eq!(Page::records(page.bytes()).filter(Result::is_ok).count(), 1);
    for length in 1..page.bytes().len() {
        let read: Vec<_> = Page::records(&page.bytes()[..length]).collect();
        assert!(read.len() == 1 && read[0].is_err(), "{length} bytes");
    }
}
