//! A callback is kept until it is over, and found when it is due.

use std::time::Duration;

use eap_core::{DueCallback, TaskEvent};
use eap_types::{TaskId, Timestamp};

use super::harness::{Harness, assert_conflict, assert_duplicate, inserting};
use super::purge::{keeping_all, purge};
use super::samples;
use crate::store::{CallbackWrite, Change, Cutoffs, Revision, Stored, TaskWrite};

fn writing(write: CallbackWrite) -> Change {
    Change { callbacks: vec![write], ..Change::default() }
}

fn callback(task: TaskId, due_at: Timestamp) -> DueCallback {
    let mut callback = DueCallback::new(task, "https://hooks.example.com:443".to_owned(), due_at);
    callback.due_at = due_at;
    callback
}

/// Stores a task and its callback, due so many seconds from now.
async fn due_in(h: &Harness, seconds: u64) -> TaskId {
    let task = h.task("a", |_| ());
    let id = task.id();
    let due = callback(id, h.now() + Duration::from_secs(seconds));
    h.commit(Change { callbacks: vec![CallbackWrite::Insert(due)], ..inserting(task) }).await;
    id
}

async fn all(h: &Harness) -> Vec<Stored<DueCallback>> {
    h.store.callbacks(None, 100).await.expect("a read succeeds")
}

async fn tasks(h: &Harness) -> Vec<TaskId> {
    all(h).await.into_iter().map(|stored| stored.record.task).collect()
}

pub(super) async fn a_callback_reads_back_as_it_was_written(h: Harness) {
    let id = h.submit("a").await;
    let first = DueCallback {
        task: id,
        receiver: samples::AWKWARD.to_owned(),
        ended_at: h.now(),
        tries: 0,
        due_at: h.now() + Duration::from_micros(1),
    };
    h.commit(writing(CallbackWrite::Insert(first.clone()))).await;
    assert_eq!(all(&h).await, [Stored { record: first.clone(), revision: Revision(1), now: h.now() }]);

    h.advance(5);
    let second = DueCallback { tries: u32::MAX, due_at: h.now() + Duration::from_secs(1), ..first };
    h.commit(writing(CallbackWrite::Update { callback: second.clone(), revision: Revision(1) })).await;
    assert_eq!(all(&h).await, [Stored { record: second, revision: Revision(2), now: h.now() }]);

    h.commit(writing(CallbackWrite::Remove { task: id, revision: Revision(2) })).await;
    assert_eq!(all(&h).await, []);
    h.stored(id).await;
}

pub(super) async fn callbacks_come_by_time_then_task_and_page_on(h: Harness) {
    let mut expected = Vec::new();
    for seconds in [3, 1, 2, 1, 3, 0] {
        expected.push((h.now() + Duration::from_secs(seconds), due_in(&h, seconds).await));
    }
    expected.sort();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = h.store.callbacks(after, 2).await.expect("a read succeeds");
        assert!(page.len() <= 2);
        let places = page.iter().map(|stored| (stored.record.due_at, stored.record.task));
        seen.extend(places);
        if page.len() < 2 {
            break;
        }
        after = seen.last().copied();
    }
    assert_eq!(seen, expected);

    // One that moves on is found at its new place and not at its old one.
    let (due_at, task) = expected.remove(0);
    let moved = callback(task, due_at + Duration::from_secs(60));
    h.commit(writing(CallbackWrite::Update { callback: moved, revision: Revision(1) })).await;
    expected.push((due_at + Duration::from_secs(60), task));
    assert_eq!(tasks(&h).await, expected.into_iter().map(|(_, task)| task).collect::<Vec<_>>());
}

pub(super) async fn a_stale_callback_writes_nothing_of_its_change(h: Harness) {
    let id = due_in(&h, 1).await;
    let before = all(&h).await;
    for stale in [
        CallbackWrite::Update { callback: callback(id, h.now()), revision: Revision(2) },
        CallbackWrite::Remove { task: id, revision: Revision(0) },
        CallbackWrite::Update { callback: callback(h.submit("a").await, h.now()), revision: Revision(1) },
        CallbackWrite::Remove { task: h.submit("a").await, revision: Revision(1) },
    ] {
        let task = h.task("b", |_| ());
        let inserted = task.id();
        let change = Change { tasks: vec![TaskWrite::Insert(task)], ..writing(stale) };
        assert_conflict(&h.store.commit(change).await);
        assert_eq!(h.store.task(inserted).await.expect("a read succeeds"), None);
    }
    let remove = CallbackWrite::Remove { task: id, revision: Revision(1) };
    let twice = Change { callbacks: vec![remove.clone(), remove], ..Change::default() };
    assert_conflict(&h.store.commit(twice).await);
    assert_eq!(all(&h).await, before);
}

pub(super) async fn a_second_callback_of_a_task_is_a_duplicate(h: Harness) {
    let id = due_in(&h, 1).await;
    let before = all(&h).await;
    let second = CallbackWrite::Insert(callback(id, h.now()));
    assert_duplicate(&h.store.commit(writing(second)).await);
    assert_eq!(all(&h).await, before);
    let other = CallbackWrite::Insert(callback(h.submit("a").await, h.now()));
    let twice = Change { callbacks: vec![other.clone(), other], ..Change::default() };
    assert_duplicate(&h.store.commit(twice).await);
    assert_eq!(all(&h).await, before);
}

pub(super) async fn a_callback_of_what_is_not_there_is_a_conflict(h: Harness) {
    let absent = h.task("a", |_| ()).id();
    assert_conflict(&h.store.commit(writing(CallbackWrite::Insert(callback(absent, h.now())))).await);
    assert_eq!(all(&h).await, []);
}

pub(super) async fn a_callback_that_is_not_written_leaves_its_task_alone(h: Harness) {
    // The end of a task and its callback are one change: neither is there without the other.
    let id = due_in(&h, 1).await;
    let Stored { record, revision, now } = h.stored(id).await;
    let step = record.apply(TaskEvent::Cancel { reason: None }, now, &eap_core::TaskPolicy::default());
    let changed = step.expect("a queued task can be cancelled").changed().expect("that changes it");
    let cancelled = eap_core::Task { spec: record.spec.clone(), state: changed.state };
    let change = Change {
        tasks: vec![TaskWrite::Update { task: cancelled, revision }],
        ..writing(CallbackWrite::Insert(callback(id, now)))
    };
    assert_duplicate(&h.store.commit(change).await);
    assert_eq!(h.stored(id).await, Stored { record, revision, now });
}

pub(super) async fn a_task_whose_callback_is_not_over_is_not_purged(h: Harness) {
    let (pending, told) = (due_in(&h, 1).await, due_in(&h, 1).await);
    for id in [pending, told] {
        h.apply(id, TaskEvent::Cancel { reason: None }).await;
    }
    h.commit(writing(CallbackWrite::Remove { task: told, revision: Revision(1) })).await;
    h.advance(1_000);
    let cutoffs = Cutoffs { tasks: h.now(), ..keeping_all() };
    assert_eq!(purge(&h, cutoffs).await.tasks, [told]);
    assert_eq!(tasks(&h).await, [pending]);
    h.commit(writing(CallbackWrite::Remove { task: pending, revision: Revision(1) })).await;
    assert_eq!(purge(&h, cutoffs).await.tasks, [pending]);
}
