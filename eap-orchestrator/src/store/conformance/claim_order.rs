//! Which ready tasks a claim takes, and what it writes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use eap_core::{Chance, EndOfLease, Quote, Refusal, TaskEvent};
use eap_types::{Priority, TaskId, TaskStatus};

use super::harness::{Harness, LEASE, assert_duplicate, ids, inserting};
use super::samples;
use crate::store::{Ask, Change, Decide, Demand, TaskWrite};

fn priority(number: u8) -> Priority {
    Priority::new(number).expect("the sample is a priority")
}

/// Stores tasks of these types and priorities, in this order.
async fn submit_all(h: &Harness, wanted: &[(&str, u8)]) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for (task_type, number) in wanted {
        ids.push(h.submit_as(task_type, |spec| spec.priority = priority(*number)).await);
    }
    ids
}

pub(super) async fn a_claim_takes_by_priority_then_insertion(h: Harness) {
    let agent = h.register(&["a"]).await;
    let t = submit_all(&h, &[("a", 2), ("a", 0), ("a", 4), ("a", 2), ("a", 0), ("a", 1)]).await;
    assert_eq!(h.take(&agent, 3).await, [t[1], t[4], t[5]]);
    assert_eq!(h.take(&agent, 9).await, [t[0], t[3], t[2]]);
}

pub(super) async fn a_claim_merges_all_routing_keys_into_that_order(h: Harness) {
    let agent = h.register(&["a", "b", "c"]).await;
    let t = submit_all(&h, &[("c", 2), ("a", 2), ("b", 2), ("a", 0), ("c", 2), ("b", 0), ("a", 4), ("b", 3)]).await;
    assert_eq!(h.take(&agent, 4).await, [t[3], t[5], t[0], t[1]]);
    assert_eq!(h.take(&agent, 9).await, [t[2], t[4], t[7], t[6]]);
}

pub(super) async fn a_released_task_keeps_its_place(h: Harness) {
    let agent = h.register(&["a"]).await;
    let t = submit_all(&h, &[("a", 2), ("a", 2), ("a", 2)]).await;
    assert_eq!(h.take(&agent, 1).await, [t[0]]);
    let release = TaskEvent::Release {
        agent: agent.id.clone(),
        quote: Quote::default(),
        why: EndOfLease::Draining,
        chance: Chance::new(0.5),
    };
    h.apply(t[0], release).await;
    assert_eq!(h.take(&agent, 2).await, [t[0], t[1]]);
}

pub(super) async fn refused_tasks_are_passed_over(h: Harness) {
    let agent = h.register(&["a"]).await;
    let refused: Vec<_> = (0..200).map(|_| h.task("a", |spec| spec.priority = Priority::FIRST)).collect();
    let first = refused[0].id();
    let tasks = refused.into_iter().map(TaskWrite::Insert).collect();
    h.commit(Change { tasks, ..Change::default() }).await;
    let t = submit_all(&h, &[("a", 2), ("a", 2), ("a", 2)]).await;

    let grant = h.granting();
    let choosy: Arc<Decide> =
        Arc::new(
            move |task, ask, now| {
                if task.spec.priority == Priority::FIRST { Err(Refusal::NotReady) } else { grant(task, ask, now) }
            },
        );
    let demand = Demand { asks: vec![h.ask(&agent, 2)] };
    let claimed = h.store.claim(demand, choosy).await.expect("a claim succeeds");
    assert_eq!(ids(&claimed.answers[0]), [t[0], t[1]]);
    assert_eq!(h.stored(first).await.record.status(), TaskStatus::Queued);
    assert_eq!(h.take(&agent, 1).await, [first], "a refused task stays ready for others");
}

pub(super) async fn decide_is_asked_about_what_may_be_taken_alone(h: Harness) {
    let (agent, other) = (h.register(&["a"]).await, h.register(&["b"]).await);
    let (done, leased, cancelled) = (h.submit("a").await, h.submit("a").await, h.submit("a").await);
    assert_eq!(h.take(&agent, 2).await, [done, leased]);
    h.complete(done).await;
    h.apply(cancelled, TaskEvent::Cancel { reason: None }).await;
    let later = h.now() + LEASE;
    h.submit_as("a", |spec| spec.run_at = Some(later)).await;
    h.submit_as("a", |spec| spec.routing.tenant = samples::tenant(1)).await;
    h.submit("b").await;
    let t = submit_all(&h, &[("a", 2), ("a", 2), ("a", 2)]).await;

    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let (grant, seen) = (h.granting(), Arc::clone(&asked));
    let decide: Arc<Decide> = Arc::new(move |task, ask, now| {
        seen.lock().expect("no holder panics").insert((task.id(), ask.agent.id.clone()));
        grant(task, ask, now)
    });
    let mut wish = h.ask(&other, 9);
    wish.task_types = Some(BTreeSet::from(["x".parse().expect("the sample is a task type")]));
    let demand = Demand { asks: vec![h.ask(&agent, 2), wish] };
    h.store.claim(demand, decide).await.expect("a claim succeeds");
    let expected = BTreeSet::from([(t[0], agent.id.clone()), (t[1], agent.id)]);
    assert_eq!(*asked.lock().expect("no holder panics"), expected, "until the room is filled");
}

pub(super) async fn a_claim_is_written_whole(h: Harness) {
    let agent = h.register(&["a"]).await;
    let id = h.submit("a").await;
    let before = h.stored(id).await;
    let head = h.store.head().await.expect("a read succeeds");
    h.advance(5);

    let claimed = h.claim(h.ask(&agent, 1)).await;
    assert!(!claimed.repeated);
    let [task] = claimed.tasks.as_slice() else { panic!("one task was ready, not {:?}", claimed.tasks) };
    let lease = task.lease().expect("a claimed task is leased");
    assert_eq!((&lease.agent, lease.expires_at), (&agent.id, h.now() + LEASE), "decided with the store's time");
    let after = h.stored(id).await;
    assert_eq!(after.record, *task);
    assert_ne!(after.revision, before.revision);

    let events = h.store.events(head, None, 10).await.expect("a read succeeds");
    let [event] = events.as_slice() else { panic!("one event was due, not {events:?}") };
    assert_eq!((event.kind.as_str(), event.task, event.attempt), ("task.leased", Some(id), Some(1)));
    assert_eq!((event.agent.as_ref(), event.at), (Some(&agent.id), h.now()));
}

pub(super) async fn a_claim_tells_the_newest_events_number(h: Harness) {
    let agent = h.register(&["a"]).await;
    h.commit(samples::events(3, h.now())).await;
    let claim = async |id: &str| {
        let request_id = Some(id.parse().expect("the sample is a request id"));
        let asks = vec![Ask { request_id, ..h.ask(&agent, 2) }];
        h.store.claim(Demand { asks }, h.granting()).await.expect("a claim succeeds").head.0
    };
    assert_eq!(claim("one").await, 3, "it took nothing");
    submit_all(&h, &[("a", 2), ("a", 2)]).await;
    assert_eq!(claim("one").await, 5, "its own are included");
    assert_eq!(h.store.head().await.expect("a read succeeds").0, 5);
    h.commit(samples::events(1, h.now())).await;
    assert_eq!(claim("one").await, 6, "a repeat adds none");
}

pub(super) async fn racing_claims_never_share_a_task(h: Harness) {
    let tasks: BTreeSet<TaskId> = submit_all(&h, &[("a", 2); 8]).await.into_iter().collect();
    let mut calls = Vec::new();
    for _ in 0..16 {
        let agent = h.register(&["a"]).await;
        let (store, grant) = (Arc::clone(&h.store), h.granting());
        let demand = Demand { asks: vec![h.ask(&agent, 2)] };
        calls.push(async move { store.claim(demand, grant).await.expect("a claim succeeds").answers });
    }
    let given: Vec<TaskId> = h.race(calls).await.iter().flatten().flat_map(ids).collect();
    assert_eq!(given.len(), tasks.len(), "no task was given twice or left behind");
    assert_eq!(given.into_iter().collect::<BTreeSet<_>>(), tasks);
    for id in tasks {
        assert_eq!(h.stored(id).await.record.state.attempts.len(), 1);
    }
}

pub(super) async fn a_claim_says_when_nothing_is_left(h: Harness) {
    let (agent, other) = (h.register(&["a", "c"]).await, h.register(&["b"]).await);
    submit_all(&h, &[("a", 2), ("b", 2), ("c", 2)]).await;
    assert!(!h.claim(h.ask(&agent, 1)).await.is_exhausted, "there is one more");
    assert!(!h.claim(h.ask(&agent, 1)).await.is_exhausted, "its room is filled");
    assert!(!h.claim(h.ask(&agent, 0)).await.is_exhausted, "it has no room");
    let none = h.claim(h.ask(&agent, 1)).await;
    assert!(none.tasks.is_empty() && none.is_exhausted, "what is left is not for it");
    let refusing: Arc<Decide> = Arc::new(|_, _, _| Err(Refusal::NotReady));
    let claims = h.store.claim(Demand { asks: vec![h.ask(&other, 1)] }, refusing).await.expect("a claim succeeds");
    assert!(!claims.answers[0].is_exhausted, "one was refused");
    assert!(h.claim(h.ask(&other, 2)).await.is_exhausted, "it could have taken two");
}

pub(super) async fn a_task_is_written_and_claimed_in_one_call(h: Harness) {
    let agent = h.register(&["a"]).await;
    let (older, task) = (h.submit("a").await, h.task("a", |_| {}));
    let id = task.id();
    let demand = |room| Demand { asks: vec![h.ask(&agent, room)] };
    let both = h.store.commit_and_claim(inserting(task), demand(2), h.granting()).await;
    let claims = both.expect("a new task is written");
    assert_eq!(ids(&claims.answers[0]), [older, id], "the order is that of every claim");
    assert_eq!(claims.head, h.store.head().await.expect("the head can be read"));
    assert_eq!(h.stored(id).await.record.status(), TaskStatus::Leased);

    let next = h.task("a", |_| {});
    let id = next.id();
    let both = h.store.commit_and_claim(inserting(next), demand(0), h.granting()).await;
    assert!(both.expect("a new task is written").answers[0].tasks.is_empty());
    assert_eq!(h.stored(id).await.record.status(), TaskStatus::Queued, "written though nobody took it");
}

pub(super) async fn a_change_that_is_refused_claims_nothing(h: Harness) {
    let agent = h.register(&["a"]).await;
    let (task, other) = (h.task("a", |_| {}), h.submit("a").await);
    h.commit(inserting(task.clone())).await;
    let demand = Demand { asks: vec![h.ask(&agent, 2)] };
    let both = h.store.commit_and_claim(inserting(task.clone()), demand, h.granting()).await;
    assert_duplicate(&both);
    for id in [task.id(), other] {
        assert_eq!(h.stored(id).await.record.status(), TaskStatus::Queued);
    }
}
