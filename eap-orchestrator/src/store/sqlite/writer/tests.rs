//! Batches made by hand, and what becomes of each request.

use std::time::Duration;

use eap_core::{Agent, Standing, Task, TaskEvent, TaskPolicy, Vitals};
use eap_types::{AgentId, AgentType, Capabilities, Capability, JsonObject, Labels, LeaseId, TenantId};

use super::*;
use crate::clock::ManualClock;
use crate::store::sqlite::SqliteOptions;
use crate::store::sqlite::checkpoint::Checkpointer;
use crate::store::sqlite::open::Database;
use crate::store::sqlite::sample::submitted;
use crate::store::{AgentWrite, Ask, Change, EventKind, NewEvent, TaskWrite};

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// A writer without a thread: its batches are made by hand.
fn writer() -> (tempfile::TempDir, Writer) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("eap.db"), &SqliteOptions::default()).unwrap();
    let shared = Arc::new(Shared::default());
    let (log, _) = Checkpointer::new(database.checkpointer, Arc::clone(&shared));
    let ledger = Ledger::load(database.writer, Arc::new(ManualClock::at(NOW)), Arc::default()).unwrap();
    (folder, Writer { requests: mpsc::channel(1).1, ledger, log, room: Room::default(), shared })
}

fn task(number: u8) -> Task {
    submitted(number, NOW)
}

fn agent() -> Agent {
    Agent {
        id: AgentId::v7(NOW, [0; 10]),
        tenant: TenantId::default(),
        name: "translator".parse().unwrap(),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(["translate".parse::<Capability>().unwrap()]).unwrap(),
        labels: Labels::default(),
        endpoint_url: None,
        metadata: JsonObject::default(),
        task_schemas: Default::default(),
        features: None,
        max_concurrent_tasks: 5,
        admitted_capabilities: std::collections::BTreeSet::new(),
        previous_token: None,
        rotation: None,
        orders: eap_core::Orders::default(),
        push: None,
        platform: None,
        registered_with: None,
        token_sha256: None,
        epoch: 1,
        registered_at: NOW,
        standing: Standing::Active,
    }
}

type Answered<T> = oneshot::Receiver<Result<T, StoreError>>;

fn commit(change: Change) -> (Request, Answered<Committed>) {
    let (reply, answered) = oneshot::channel();
    (Request::Commit(Box::new(Prepared::of(change).unwrap()), reply), answered)
}

fn submit(number: u8) -> (Request, Answered<Committed>) {
    commit(Change { tasks: vec![TaskWrite::Insert(task(number))], ..Change::default() })
}

/// In the tables, with their indexes, these take more room than in the journal.
fn submit_many() -> (Request, Answered<Committed>) {
    let tasks = (10..210).map(|number| TaskWrite::Insert(task(number))).collect();
    commit(Change { tasks, ..Change::default() })
}

fn register() -> (Request, Answered<Committed>) {
    let write = AgentWrite::Insert(agent(), Vitals::registered(1, NOW));
    commit(Change { agents: vec![write], ..Change::default() })
}

fn claim() -> (Request, Answered<Claims>) {
    claim_by(None)
}

fn claim_by(request: Option<&str>) -> (Request, Answered<Claims>) {
    let (reply, answered) = oneshot::channel();
    let ask = Ask {
        agent: Arc::new(agent()),
        max_tasks: 5,
        request_id: request.map(|request| request.parse().unwrap()),
        task_types: None,
        lease: Duration::from_secs(60),
    };
    let decide: Arc<Decide> = Arc::new(|task, ask, now| {
        let event = TaskEvent::Assign {
            agent: ask.agent.id.clone(),
            epoch: ask.agent.epoch,
            lease_id: LeaseId::v7(now, [1; 10]),
            request_id: ask.request_id.clone(),
            length: ask.lease,
        };
        Ok(task.apply(event, now, &TaskPolicy::default())?.changed().unwrap())
    });
    (Request::Claim(Demand { asks: vec![ask] }, decide, reply), answered)
}

#[test]
fn a_task_finds_the_agent_that_waits_in_the_same_batch() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![register().0]);
    let ((claim, mut claimed), (submit, mut submitted)) = (claim(), submit(1));
    writer.serve(vec![claim, submit]);
    assert!(submitted.try_recv().unwrap().is_ok());
    assert_eq!(claimed.try_recv().unwrap().unwrap().answers[0].tasks.len(), 1);
    assert_eq!(writer.shared.tally.stats().transactions, 2);
}

#[test]
fn a_request_that_breaks_its_batch_leaves_the_others_alone() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![register().0, submit(1).0]);
    writer.serve(vec![Request::Settle(Share::Everything, oneshot::channel().0)]);
    writer.ledger.connection.execute_batch("UPDATE task_spec SET spec = '{}'").unwrap();
    // So that the claim reads what is stored.
    writer.ledger.rollback().unwrap();
    let ((claim, mut claimed), (submit, mut submitted)) = (claim(), submit(2));
    writer.serve(vec![claim, submit]);
    assert!(matches!(claimed.try_recv().unwrap(), Err(StoreError::Unavailable { .. })));
    assert!(submitted.try_recv().unwrap().is_ok());
    assert!(writer.ledger.seq_of(task(2).id()).unwrap().is_some());
}

#[test]
fn a_failed_commit_is_no_success_for_anyone_and_what_is_known_is_undone() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![register().0]);
    // No commit can succeed, as on a disk that fills up at the last moment.
    let deferred = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER orphan AFTER INSERT ON journal BEGIN INSERT INTO child VALUES (7); END;";
    writer.ledger.connection.execute_batch(deferred).unwrap();
    let ((first, mut one), (second, mut two)) = (submit(1), submit(2));
    writer.serve(vec![first, second]);
    for answer in [&mut one, &mut two] {
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Unavailable { .. })));
    }
    assert_eq!(writer.ledger.seq_of(task(1).id()).unwrap(), None);
    writer.ledger.connection.execute_batch("DROP TRIGGER orphan").unwrap();
    let ((claim, mut claimed), (submit, mut submitted)) = (claim(), submit(3));
    writer.serve(vec![submit, claim]);
    assert!(submitted.try_recv().unwrap().is_ok());
    assert_eq!(claimed.try_recv().unwrap().unwrap().answers[0].tasks.len(), 1);
}

#[test]
fn after_a_failure_nothing_is_written_any_more() {
    let (_folder, mut writer) = writer();
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    writer.shared.fail(rusqlite::Error::SqliteFailure(error, None).into());
    let ((submit, mut submitted), (claim, mut claimed)) = (submit(1), claim());
    writer.serve(vec![submit, claim]);
    assert!(matches!(submitted.try_recv().unwrap(), Err(StoreError::Failed { .. })));
    assert!(matches!(claimed.try_recv().unwrap(), Err(StoreError::Failed { .. })));
    assert_eq!(writer.ledger.seq_of(task(1).id()).unwrap(), None);
}

fn settle() -> (Request, Answered<()>) {
    let (reply, answered) = oneshot::channel();
    (Request::Settle(Share::Everything, reply), answered)
}

fn tell(events: usize) -> (Request, Answered<Committed>) {
    let event = NewEvent {
        tenant: TenantId::default(),
        at: NOW,
        kind: EventKind::CallbackFailed,
        task: Some(task(1).id()),
        agent: None,
        attempt: None,
        detail: JsonObject::default(),
    };
    commit(Change { events: vec![event; events], ..Change::default() })
}

/// From now on, the file has room for so many more pages.
fn leave_room(writer: &Writer, pages: i64) {
    let pragma = |name: &str| writer.ledger.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
    let (used, free): (i64, i64) = (pragma("page_count").unwrap(), pragma("freelist_count").unwrap());
    assert_eq!(free, 0);
    assert_eq!(pragma(&format!("max_page_count = {}", used + pages)).unwrap(), used + pages);
}

#[test]
fn what_is_due_to_move_and_has_no_room_does_not_stop_commits() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![submit(1).0, register().0]);
    // So many events are due to move, and no row of the journal goes with them.
    writer.serve(vec![tell(4_000).0]);
    leave_room(&writer, 4);
    for number in 2..6 {
        let ((submit, mut submitted), (other, mut told)) = (submit(number), tell(1));
        writer.serve(vec![submit, other]);
        assert!(submitted.try_recv().unwrap().is_ok(), "{number}");
        assert!(told.try_recv().unwrap().is_ok(), "{number}");
    }
    let (claim, mut claimed) = claim();
    writer.serve(vec![claim]);
    assert_eq!(claimed.try_recv().unwrap().unwrap().answers[0].tasks.len(), 5);

    leave_room(&writer, 1_000);
    let (settle, mut settled) = settle();
    writer.room = Room::default();
    writer.serve(vec![settle]);
    settled.try_recv().unwrap().unwrap();
    assert!(writer.ledger.journal.is_empty());
}

#[test]
fn a_move_for_a_reader_that_has_no_room_fails_alone() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![register().0]);
    writer.serve(vec![submit_many().0]);
    leave_room(&writer, 2);
    for number in 2..4 {
        let ((settle, mut settled), (submit, mut submitted)) = (settle(), submit(number));
        let (claim, mut claimed) = claim();
        writer.serve(vec![settle, submit, claim]);
        assert!(matches!(settled.try_recv().unwrap(), Err(StoreError::Full { .. })), "{number}");
        assert!(submitted.try_recv().unwrap().is_ok(), "{number}");
        assert!(claimed.try_recv().unwrap().is_ok(), "{number}");
    }
}

fn submit_large(number: u8, bytes: usize) -> (Request, Answered<Committed>) {
    let mut task = task(number);
    Arc::make_mut(&mut task.spec).input = "x".repeat(bytes);
    commit(Change { tasks: vec![TaskWrite::Insert(task)], ..Change::default() })
}

#[test]
fn one_that_is_too_large_for_the_room_that_is_left_fails_alone() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![register().0, submit(1).0]);
    leave_room(&writer, 40);
    let sizes = [100, 1_000_000, 10, 50_000, 400_000, 20_000, 30_000, 0];
    let (mut batch, mut answers) = (Vec::new(), Vec::new());
    for (number, size) in (2..).zip(sizes) {
        let (submit, submitted) = submit_large(number, size);
        batch.push(submit);
        answers.push(submitted);
    }
    let (claim, mut claimed) = claim();
    batch.push(claim);
    writer.serve(batch);
    for (size, answer) in sizes.into_iter().zip(&mut answers) {
        let answer = answer.try_recv().unwrap();
        if size > 100_000 {
            assert!(matches!(answer, Err(StoreError::Full { .. })), "{size}: {answer:?}");
        } else {
            assert!(answer.is_ok(), "{size}: {answer:?}");
        }
    }
    assert!(!claimed.try_recv().unwrap().unwrap().answers[0].tasks.is_empty());
    // Those that had room still shared a transaction, or two.
    assert!(writer.shared.tally.stats().transactions <= 3, "{:?}", writer.shared.tally.stats());
}

#[test]
fn the_repeat_of_a_claim_needs_no_room() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![submit(1).0, register().0, submit(2).0]);
    // One that is in the tables, one that is in the journal.
    writer.serve(vec![settle().0]);
    writer.serve(vec![submit(3).0, submit_many().0]);
    let (claim, mut claimed) = claim_by(Some("request-1"));
    writer.serve(vec![claim]);
    let first = claimed.try_recv().unwrap().unwrap().answers.pop().unwrap();
    assert_eq!(first.tasks.iter().map(Task::id).collect::<Vec<_>>(), [1, 2, 3, 10, 11].map(|number| task(number).id()));
    leave_room(&writer, 0);
    for _ in 0..2 {
        let (claim, mut claimed) = claim_by(Some("request-1"));
        writer.serve(vec![claim]);
        let again = claimed.try_recv().unwrap().unwrap().answers.pop().unwrap();
        assert!(again.repeated && again.tasks == first.tasks);
    }
}

#[test]
fn what_waits_for_room_is_bounded() {
    let (_folder, mut writer) = writer();
    writer.serve(vec![submit(1).0]);
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    let full = Fault::from(rusqlite::Error::SqliteFailure(error, None));
    let mut told = 0;
    let refused = loop {
        assert!(told < 1_000_000, "there is no bound");
        // However long this takes: a move that is tried again finds none either.
        writer.room.is_missing(&full);
        let (tell, mut answered) = tell(4_000);
        writer.serve(vec![tell]);
        match answered.try_recv().unwrap() {
            Ok(_) => told += 4_000,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
    assert!(told > 100_000, "{told}");
    writer.room = Room::default();
    let (submit, mut submitted) = submit(2);
    writer.serve(vec![submit]);
    assert!(submitted.try_recv().unwrap().is_ok());
    assert_eq!(writer.ledger.journal.last_event(), None);
}
