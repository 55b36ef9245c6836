//! How much waits, and what a store says of itself.

use std::collections::BTreeSet;
use std::time::Duration;

use eap_core::{EndOfLease, Quote, TaskEvent};
use eap_types::{Capability, TaskType, TenantId};

use super::harness::Harness;
use super::samples;
use crate::store::{Change, Depth, Depths, ReadyDepth};

async fn depths(h: &Harness) -> Depths {
    h.store.depths().await.expect("a read succeeds")
}

fn of(tenant: TenantId, task_type: &str, tasks: u64) -> Depth {
    Depth { tenant, task_type: word(task_type), tasks }
}

fn word(text: &str) -> TaskType {
    text.parse().expect("the sample is a task type")
}

fn capabilities(words: &[&str]) -> BTreeSet<Capability> {
    words.iter().map(|text| text.parse().expect("the sample is a capability")).collect()
}

pub(super) async fn tasks_are_counted_by_what_they_wait_for(h: Harness) {
    assert_eq!(depths(&h).await, Depths::default());
    let agent = h.register(&["a", "b"]).await;
    let ours = TenantId::default();
    let later = Some(h.now() + Duration::from_secs(100));
    let (done, released) = (h.submit("a").await, h.submit("a").await);
    h.take(&agent, 2).await;
    h.submit("b").await;
    h.submit_as("b", |spec| spec.expires_at = later).await;
    for task_type in ["b", "a", "b"] {
        h.submit_as(task_type, |spec| spec.run_at = later).await;
    }
    let counted = depths(&h).await;
    let waiting: Vec<_> = counted.ready.iter().map(|depth| (depth.task_type.as_str(), depth.tasks)).collect();
    assert_eq!(waiting, [("b", 2)]);
    assert_eq!(counted.delayed, [of(ours, "a", 1), of(ours, "b", 2)]);
    assert_eq!(counted.leased, [of(ours, "a", 2)]);

    // On their way from one list to the next.
    h.complete(done).await;
    let lease_id = h.stored(released).await.record.lease().expect("the task is leased").lease_id;
    let why = EndOfLease::HandedBack { reason: None, retry_after: Some(Duration::from_secs(50)) };
    let (quote, chance) = (Quote::lease(lease_id), eap_core::Chance::new(0.5));
    h.apply(released, TaskEvent::Release { agent: agent.id.clone(), quote, why, chance }).await;
    let counted = depths(&h).await;
    assert_eq!(counted.delayed, [of(ours, "a", 2), of(ours, "b", 2)]);
    assert_eq!(counted.leased, []);
    h.advance(50);
    h.apply(released, TaskEvent::Due { chance }).await;
    let counted = depths(&h).await;
    let waiting: Vec<_> = counted.ready.iter().map(|depth| (depth.task_type.as_str(), depth.tasks)).collect();
    assert_eq!((waiting, counted.delayed), (vec![("a", 1), ("b", 2)], vec![of(ours, "a", 1), of(ours, "b", 2)]));
    h.apply(released, TaskEvent::Cancel { reason: None }).await;
    assert_eq!(depths(&h).await.ready.len(), 1);
}

pub(super) async fn ready_tasks_are_counted_by_what_they_need(h: Harness) {
    let start = h.now();
    let (ours, theirs) = (TenantId::default(), samples::tenant(1));
    h.submit_as("b", |spec| spec.priority = eap_types::Priority::LAST).await;
    h.advance(10);
    // Labels and a named agent route apart and need the same.
    h.submit_as("b", |spec| spec.routing.labels = samples::labels(&[("region", "eu")])).await;
    h.submit_as("b", |spec| spec.routing.agent_id = Some(samples::agent_id("one"))).await;
    h.submit_as("b", |spec| spec.routing.required_capabilities = capabilities(&["gpu", "b"])).await;
    h.submit_as("a", |spec| spec.routing.tenant = theirs).await;
    let ready = |tenant, task_type, needs: &[&str], tasks, seconds| ReadyDepth {
        tenant,
        task_type: word(task_type),
        required_capabilities: capabilities(needs),
        tasks,
        oldest: start + Duration::from_secs(seconds),
    };
    let expected =
        [ready(ours, "b", &["b"], 3, 0), ready(ours, "b", &["b", "gpu"], 1, 10), ready(theirs, "a", &["a"], 1, 10)];
    assert_eq!(depths(&h).await.ready, expected, "the first by insertion is the oldest, whatever its priority");
}

pub(super) async fn a_delayed_task_is_as_old_as_its_start(h: Harness) {
    let run_at = h.now() + Duration::from_secs(30);
    let id = h.submit_as("a", |spec| spec.run_at = Some(run_at)).await;
    h.advance(40);
    h.apply(id, TaskEvent::Due { chance: eap_core::Chance::new(0.5) }).await;
    assert_eq!(depths(&h).await.ready[0].oldest, run_at);
    let past = h.now() - Duration::from_secs(1_000);
    let now = h.now();
    h.submit_as("b", |spec| spec.run_at = Some(past)).await;
    assert_eq!(depths(&h).await.ready[1].oldest, now, "a time that had passed is no delay");
}

pub(super) async fn what_was_done_is_counted(h: Harness) {
    let before = h.store.stats();
    let agent = h.register(&["a"]).await;
    let id = h.submit("a").await;
    h.take(&agent, 1).await;
    h.commit(Change::default()).await;
    let twice = h.task("a", |spec| spec.id = id);
    let refused = h.store.commit(super::harness::inserting(twice)).await;
    super::harness::assert_duplicate(&refused);
    let after = h.store.stats();
    assert_eq!((after.commits - before.commits, after.claims - before.claims), (3, 1));
    assert_eq!(after.errors.duplicate - before.errors.duplicate, 1);
    assert_eq!((after.errors.conflict, after.errors.closed), (before.errors.conflict, before.errors.closed));
    if let (Some(batch), Some(claimed)) = (&after.batch, &after.claimed) {
        assert_eq!((batch.count(), claimed.count(), claimed.sum), (after.transactions, after.claims, 1));
    }
    h.store.close().await.expect("a store closes");
    assert!(h.store.depths().await.is_err());
    assert_eq!(h.store.stats().errors.closed - after.errors.closed, 1, "it still tells what it did");
}
