//! What is listed, and in which order.

use std::time::Duration;

use eap_core::{Task, TaskEvent};
use eap_types::{TaskId, TaskStatus, TenantId, Timestamp};

use super::harness::{Harness, LEASE};
use super::samples;
use crate::store::{Change, Insertion, Stored, TaskFilter, TaskWrite};

fn ids(tasks: &[Stored<Task>]) -> Vec<TaskId> {
    tasks.iter().map(|stored| stored.record.id()).collect()
}

async fn due(h: &Harness, until: Timestamp, limit: usize) -> Vec<TaskId> {
    ids(&h.store.due(until, limit).await.expect("a read succeeds"))
}

async fn leases(h: &Harness, agent: &eap_core::Agent) -> Vec<TaskId> {
    ids(&h.store.leases(&agent.id).await.expect("a read succeeds"))
}

async fn leased(h: &Harness, after: Option<TaskId>, limit: usize) -> Vec<TaskId> {
    ids(&h.store.leased(after, limit).await.expect("a read succeeds"))
}

async fn listed(h: &Harness, filter: &TaskFilter) -> Vec<(Insertion, TaskId)> {
    let page = h.store.tasks(filter).await.expect("a read succeeds");
    page.iter().map(|(number, stored)| (*number, stored.record.id())).collect()
}

fn everything() -> TaskFilter {
    TaskFilter {
        tenant: TenantId::default(),
        status: None,
        agent: None,
        task_type: None,
        dead_letters: false,
        before: None,
        limit: 100,
    }
}

pub(super) async fn the_longest_due_comes_first(h: Harness) {
    let agent = h.register(&["a"]).await;
    let start = h.now();
    let after = |seconds| Some(start + Duration::from_secs(seconds));
    let leased = h.submit("a").await;
    h.take(&agent, 1).await;
    let delayed = h.submit_as("a", |spec| spec.run_at = after(30)).await;
    let expiring = h.submit_as("a", |spec| spec.expires_at = after(10)).await;
    let both = h.submit_as("a", |spec| (spec.run_at, spec.expires_at) = (after(50), after(20))).await;

    let end = start + LEASE;
    assert_eq!(due(&h, end, 9).await, [expiring, both, delayed, leased], "the moment itself is due");
    assert_eq!(due(&h, end, 2).await, [expiring, both]);
    assert_eq!(due(&h, end - Duration::from_micros(1), 9).await, [expiring, both, delayed]);
    assert_eq!(due(&h, start, 9).await, []);
}

pub(super) async fn what_is_not_due_is_not_listed(h: Harness) {
    let agent = h.register(&["a"]).await;
    let end = h.now() + Duration::from_secs(1_000_000);
    let soon = Some(h.now() + Duration::from_secs(10));
    let done = h.submit_as("a", |spec| spec.expires_at = soon).await;
    h.take(&agent, 1).await;
    h.complete(done).await;
    let cancelled = h.submit_as("a", |spec| spec.run_at = soon).await;
    h.apply(cancelled, TaskEvent::Cancel { reason: None }).await;
    h.submit("a").await;
    assert_eq!(due(&h, end, 9).await, []);

    // A renewal moves what is due.
    let renewed = h.take(&agent, 1).await[0];
    let first_end = h.now() + LEASE;
    h.advance(30);
    let lease_id = h.stored(renewed).await.record.lease().expect("the task is leased").lease_id;
    h.apply(renewed, TaskEvent::Renew { agent: agent.id.clone(), lease_id, fraction: None }).await;
    assert_eq!(due(&h, first_end, 9).await, []);
    assert_eq!(due(&h, h.now() + LEASE, 9).await, [renewed]);
}

pub(super) async fn an_agents_leases_come_oldest_first(h: Harness) {
    let (agent, other) = (h.register(&["a"]).await, h.register(&["b"]).await);
    let late = h.submit_as("a", |spec| spec.priority = eap_types::Priority::LAST).await;
    let early = h.submit("a").await;
    let theirs = h.submit("b").await;
    assert_eq!(h.take(&agent, 1).await, [early]);
    h.advance(1);
    assert_eq!(h.take(&agent, 1).await, [late]);
    assert_eq!(h.take(&other, 1).await, [theirs]);
    h.advance(30);
    let lease_id = h.stored(early).await.record.lease().expect("the task is leased").lease_id;
    h.apply(early, TaskEvent::Renew { agent: agent.id.clone(), lease_id, fraction: None }).await;

    assert_eq!(leases(&h, &agent).await, [early, late], "a renewed lease is as old as before");
    assert_eq!(leases(&h, &other).await, [theirs]);
    h.complete(early).await;
    assert_eq!(leases(&h, &agent).await, [late]);
}

pub(super) async fn leased_tasks_page_in_order_of_id(h: Harness) {
    let (agent, other) = (h.register(&["a"]).await, h.register(&["b"]).await);
    let mut expected = Vec::new();
    for (number, task_type) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        // Ids against the order of insertion.
        let id = TaskId::from_bytes([9 - number as u8; 16]);
        expected.push(h.submit_as(task_type, |spec| spec.id = id).await);
    }
    h.take(&agent, 9).await;
    h.take(&other, 9).await;
    h.submit("a").await;
    expected.sort();
    assert_eq!(leased(&h, None, 9).await, expected);
    assert_eq!(leased(&h, None, 2).await, expected[..2]);
    assert_eq!(leased(&h, Some(expected[1]), 2).await, expected[2..4]);
    h.complete(expected[2]).await;
    assert_eq!(leased(&h, Some(expected[1]), 9).await, expected[3..]);
}

pub(super) async fn tasks_page_newest_first(h: Harness) {
    let mut newest_first = Vec::new();
    for number in 0..5_u8 {
        let id = TaskId::from_bytes([9 - number; 16]);
        newest_first.insert(0, h.submit_as("a", |spec| spec.id = id).await);
    }
    h.apply(newest_first[3], TaskEvent::Cancel { reason: None }).await;

    let (mut filter, mut seen) = (TaskFilter { limit: 2, ..everything() }, Vec::new());
    loop {
        let page = listed(&h, &filter).await;
        assert!(page.len() <= 2);
        let Some((number, _)) = page.last() else { break };
        filter.before = Some(*number);
        seen.extend(page.into_iter().map(|(_, id)| id));
    }
    assert_eq!(seen, newest_first, "a change does not move a task");
}

pub(super) async fn tasks_are_listed_by_tenant_status_agent_and_type(h: Harness) {
    let (first, second) = (h.register(&["a"]).await, h.register(&["a", "b"]).await);
    let theirs = h.submit_as("a", |spec| spec.routing.tenant = samples::tenant(1)).await;
    let (done, handed_on, b, queued) =
        (h.submit("a").await, h.submit("a").await, h.submit("b").await, h.submit("a").await);
    h.take(&first, 2).await;
    h.complete(done).await;
    let lease_id = h.stored(handed_on).await.record.lease().expect("the task is leased").lease_id;
    h.apply(handed_on, TaskEvent::Forget { agent: first.id.clone(), lease_id }).await;
    assert_eq!(h.take(&second, 2).await, [handed_on, b]);

    let of =
        async |filter: TaskFilter| -> Vec<TaskId> { listed(&h, &filter).await.into_iter().map(|(_, id)| id).collect() };
    let status = |status| TaskFilter { status: Some(status), ..everything() };
    let agent = |agent: &eap_core::Agent| TaskFilter { agent: Some(agent.id.clone()), ..everything() };
    let task_type = |text: &str| text.parse().expect("the sample is a task type");
    assert_eq!(of(everything()).await, [queued, b, handed_on, done]);
    assert_eq!(of(TaskFilter { tenant: samples::tenant(1), ..everything() }).await, [theirs]);
    assert_eq!(of(status(TaskStatus::Queued)).await, [queued]);
    assert_eq!(of(status(TaskStatus::Leased)).await, [b, handed_on]);
    assert_eq!(of(status(TaskStatus::Completed)).await, [done]);
    assert_eq!(of(status(TaskStatus::Dead)).await, []);
    assert_eq!(of(agent(&first)).await, [done], "the newest attempt counts");
    assert_eq!(of(agent(&second)).await, [b, handed_on]);
    assert_eq!(of(TaskFilter { task_type: Some(task_type("a")), ..everything() }).await, [queued, handed_on, done]);
    let all = TaskFilter { task_type: Some(task_type("b")), ..agent(&second) };
    assert_eq!(of(TaskFilter { status: Some(TaskStatus::Leased), ..all.clone() }).await, [b]);
    assert_eq!(of(TaskFilter { status: Some(TaskStatus::Queued), ..all }).await, []);
}

pub(super) async fn dead_letters_are_listed_until_they_are_disposed_of(h: Harness) {
    let (first, second) = (h.register(&["a"]).await, h.register(&["b"]).await);
    let fail = async |id: TaskId| {
        let failed = TaskEvent::Report {
            agent: h.stored(id).await.record.lease().expect("the task is leased").agent.clone(),
            quote: eap_core::Quote::default(),
            report: eap_core::Report::of(&eap_types::TaskResult::failed(
                id,
                eap_types::FailureCode::InvalidInput,
                "no",
            )),
            chance: eap_core::Chance::new(0.5),
        };
        h.apply(id, failed).await;
    };
    let a = h.submit("a").await;
    let soon = Some(h.now() + Duration::from_secs(10));
    let expiring = h.submit_as("a", |spec| (spec.run_at, spec.expires_at) = (soon, soon)).await;
    let theirs = h.submit_as("a", |spec| (spec.routing.tenant, spec.expires_at) = (samples::tenant(1), soon)).await;
    let (b, queued, done, cancelled) =
        (h.submit("b").await, h.submit("c").await, h.submit("b").await, h.submit("c").await);
    assert_eq!((h.take(&first, 1).await, h.take(&second, 2).await), (vec![a], vec![b, done]));
    h.complete(done).await;
    h.apply(cancelled, TaskEvent::Cancel { reason: None }).await;

    let letters = TaskFilter { dead_letters: true, ..everything() };
    let of =
        async |filter: &TaskFilter| -> Vec<TaskId> { listed(&h, filter).await.into_iter().map(|(_, id)| id).collect() };
    assert_eq!(of(&letters).await, []);
    fail(b).await;
    fail(a).await;
    h.advance(10);
    for id in [expiring, theirs] {
        h.apply(id, TaskEvent::Due { chance: eap_core::Chance::new(0.5) }).await;
    }
    assert_eq!(of(&letters).await, [b, expiring, a], "in the order of the list of tasks");
    assert_eq!(of(&TaskFilter { tenant: samples::tenant(1), ..letters.clone() }).await, [theirs]);
    assert_eq!(of(&TaskFilter { agent: Some(first.id.clone()), ..letters.clone() }).await, [a]);
    let task_type = Some("a".parse().expect("the sample is a task type"));
    assert_eq!(of(&TaskFilter { task_type, ..letters.clone() }).await, [expiring, a]);
    assert_eq!(of(&TaskFilter { status: Some(TaskStatus::Dead), ..letters.clone() }).await, [expiring]);
    let page = listed(&h, &TaskFilter { limit: 1, ..letters.clone() }).await;
    assert_eq!(of(&TaskFilter { before: Some(page[0].0), ..letters.clone() }).await, [expiring, a]);

    // One commit takes the letter off the list and puts its successor into the queue.
    let Stored { record, revision, now } = h.stored(a).await;
    let successor = TaskId::from_bytes([77; 16]);
    let Ok(eap_core::Requeue::Anew { letter, task }) = record.requeue(successor, now) else {
        panic!("a letter can be requeued")
    };
    let letter = Task { spec: record.spec.clone(), state: letter.state };
    let tasks = vec![TaskWrite::Update { task: letter.clone(), revision }, TaskWrite::Insert(Task::clone(&task))];
    h.commit(Change { tasks, ..Change::default() }).await;
    assert_eq!(of(&letters).await, [b, expiring]);
    assert_eq!((h.stored(a).await.record, h.stored(successor).await.record), (letter, *task));
    assert_eq!(h.take(&first, 9).await, [successor], "a letter is not claimed");

    let Stored { record, revision, now } = h.stored(expiring).await;
    let discarded = record.discard(now).expect("a letter can be discarded").changed().expect("it was not before");
    let task = Task { spec: record.spec.clone(), state: discarded.state };
    h.commit(Change { tasks: vec![TaskWrite::Update { task, revision }], ..Change::default() }).await;
    assert_eq!(of(&letters).await, [b]);
    assert!(h.store.task(queued).await.expect("a read succeeds").is_some());

    // What is purged is off the list as well.
    h.advance(1);
    let mut cutoffs = super::purge::keeping_all();
    cutoffs.tasks = h.now();
    h.store.purge(&cutoffs, 100).await.expect("a purge succeeds");
    assert_eq!(of(&letters).await, []);
}
