//! What is old goes, and nothing else.

use eap_core::{Agent, Chance, Standing, TaskEvent};
use eap_types::{TaskId, Timestamp};

use super::harness::{Harness, inserting, registering};
use super::samples;
use crate::store::{Change, Cutoffs, EventSeq, NewEvent, Purged};

/// Cut-offs before which there is nothing.
pub(super) fn keeping_all() -> Cutoffs {
    let never = Timestamp::MIN;
    Cutoffs {
        tasks: never,
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

pub(super) async fn purge(h: &Harness, cutoffs: Cutoffs) -> Purged {
    h.store.purge(&cutoffs, 100).await.expect("a purge succeeds")
}

/// A task that was completed now, with something of every kind that belongs to it.
async fn finished(h: &Harness, agent: &Agent) -> TaskId {
    let id = h.submit("a").await;
    assert_eq!(h.take(agent, 1).await, [id]);
    h.complete(id).await;
    let late_results = vec![samples::late(id, 1, "one", h.now()), samples::late(id, 2, "two", h.now())];
    h.commit(Change { late_results, ..Change::default() }).await;
    id
}

pub(super) async fn old_final_tasks_go_with_all_that_is_theirs(h: Harness) {
    let agent = h.register(&["a"]).await;
    let (old, cancelled) = (finished(&h, &agent).await, h.submit("b").await);
    h.apply(cancelled, TaskEvent::Cancel { reason: None }).await;
    h.advance(1);
    let young = finished(&h, &agent).await;
    let purged = purge(&h, Cutoffs { tasks: h.now(), ..keeping_all() }).await;
    let mut tasks = purged.tasks;
    tasks.sort();
    assert_eq!(tasks, [old, cancelled]);
    assert!(purged.rows >= 2 && purged.agents.is_empty());

    assert_eq!(h.store.task(old).await.expect("a read succeeds"), None);
    assert_eq!(h.store.task(cancelled).await.expect("a read succeeds"), None);
    assert_eq!(h.store.result(old).await.expect("a read succeeds"), None);
    assert_eq!(h.store.late_results(old).await.expect("a read succeeds"), []);
    assert_eq!(h.store.events(EventSeq(0), Some(old), 9).await.expect("a read succeeds"), []);

    assert!(h.store.result(young).await.expect("a read succeeds").is_some(), "what is younger stays");
    assert_eq!(h.store.late_results(young).await.expect("a read succeeds").len(), 2);
    assert_eq!(h.store.events(EventSeq(0), Some(young), 9).await.expect("a read succeeds").len(), 2);
    assert!(h.events().await.iter().all(|event| event.task == Some(young)));
}

pub(super) async fn what_is_not_final_or_not_old_stays(h: Harness) {
    let agent = h.register(&["a"]).await;
    let (leased, queued) = (h.submit("a").await, h.submit("a").await);
    let run_at = h.now() + std::time::Duration::from_secs(1);
    let delayed = h.submit_as("a", |spec| spec.run_at = Some(run_at)).await;
    assert_eq!(h.take(&agent, 1).await, [leased]);
    // Its age counts from its end.
    let cancelled = h.submit("a").await;
    h.advance(1_000_000);
    h.apply(cancelled, TaskEvent::Cancel { reason: None }).await;
    let cutoffs = Cutoffs { tasks: h.now(), ..keeping_all() };
    let Purged { tasks, agents, .. } = purge(&h, cutoffs).await;
    assert!(tasks.is_empty() && agents.is_empty(), "what ended at the cut-off itself stays as well");

    h.advance(1_000_000);
    let cutoffs = Cutoffs { tasks: h.now(), ..keeping_all() };
    assert_eq!(purge(&h, cutoffs).await.tasks, [cancelled]);
    for id in [leased, queued, delayed] {
        h.stored(id).await;
    }
    h.apply(leased, TaskEvent::Due { chance: Chance::new(0.0) }).await;
}

pub(super) async fn a_purge_goes_on_in_steps(h: Harness) {
    let agent = h.register(&["a"]).await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(finished(&h, &agent).await);
    }
    let head = h.store.head().await.expect("a read succeeds");
    h.advance(1);
    let cutoffs = Cutoffs { tasks: h.now(), ..keeping_all() };
    let mut gone = Vec::new();
    for step in 0.. {
        assert!(step < 50, "a purge comes to its end");
        let purged = h.store.purge(&cutoffs, 2).await.expect("a purge succeeds");
        assert!(purged.tasks.len() <= 2);
        gone.extend(purged.tasks);
        if purged.rows == 0 {
            break;
        }
    }
    gone.sort();
    assert_eq!(gone, tasks);
    assert_eq!(h.store.head().await.expect("a read succeeds"), head, "the count of events goes on");
    assert_eq!(h.store.oldest_event().await.expect("a read succeeds"), None);
    assert_eq!(h.commit(samples::events(1, h.now())).await.head, EventSeq(head.0 + 1));
}

pub(super) async fn events_late_results_and_keys_go_by_their_own_age(h: Harness) {
    let task = h.task("a", |_| ());
    let id = task.id();
    h.commit(inserting(task)).await;
    for attempt in [1, 2] {
        let event = NewEvent { task: Some(id), attempt: Some(attempt), ..samples::event(h.now()) };
        h.commit(Change {
            late_results: vec![samples::late(id, attempt, "late", h.now())],
            idempotency: Some(samples::key(&attempt.to_string(), id, h.now())),
            events: vec![event],
            ..Change::default()
        })
        .await;
        h.advance(1);
    }
    let cutoff = h.now() - std::time::Duration::from_secs(1);
    let events = async || h.events().await.iter().map(|event| event.attempt).collect::<Vec<_>>();
    let late = async || h.store.late_results(id).await.expect("a read succeeds").len();
    let key = async |key| h.store.idempotent(&samples::scope(key)).await.expect("a read succeeds").is_some();

    let oldest = async || h.store.oldest_event().await.expect("a read succeeds");
    assert_eq!(oldest().await, Some(EventSeq(1)));
    assert!(purge(&h, Cutoffs { events: cutoff, ..keeping_all() }).await.rows >= 1);
    assert_eq!(oldest().await, Some(EventSeq(2)));
    assert_eq!((events().await, late().await, key("1").await), (vec![Some(2)], 2, true));
    assert_eq!(h.store.events(EventSeq(0), Some(id), 9).await.expect("a read succeeds").len(), 1);
    assert!(purge(&h, Cutoffs { late_results: cutoff, ..keeping_all() }).await.rows >= 1);
    assert_eq!((late().await, key("1").await), (1, true));
    assert!(purge(&h, Cutoffs { idempotency_keys: cutoff, ..keeping_all() }).await.rows >= 1);
    assert_eq!((key("1").await, key("2").await), (false, true));
    let again = samples::key("1", id, h.now());
    h.commit(Change { idempotency: Some(again), ..Change::default() }).await;
    h.stored(id).await;
}

pub(super) async fn agents_go_unless_they_hold_a_lease(h: Harness) {
    let (holder, silent) = (h.register(&["a"]).await, h.register(&["b"]).await);
    let (left, replaced) = (h.register(&["b"]).await, h.register(&["b"]).await);
    let id = h.submit("a").await;
    assert_eq!(h.take(&holder, 1).await, [id]);
    h.stand(&left.id, Standing::Deregistered { at: h.now() }).await;
    h.stand(&replaced.id, Standing::Superseded { at: h.now() }).await;
    let early = Cutoffs { agents: h.now(), ..keeping_all() };
    assert_eq!(purge(&h, early).await.agents, []);
    h.advance(10);
    let present = h.register(&["b"]).await;
    let heard = h.register_as(&["b"], |agent| agent.registered_at = Timestamp::UNIX_EPOCH).await;

    let cutoffs = Cutoffs { agents: h.now(), ..keeping_all() };
    let mut purged = purge(&h, cutoffs).await;
    purged.agents.sort();
    let mut gone = vec![silent.id, left.id, replaced.id];
    gone.sort();
    assert!(purged.rows >= 3);
    assert_eq!(purged.agents, gone);
    for id in gone {
        assert!(h.known(&id).await.is_none());
    }
    for agent in [&holder, &present, &heard] {
        assert!(h.known(&agent.id).await.is_some());
    }
    h.complete(id).await;
    assert_eq!(purge(&h, cutoffs).await.agents, [holder.id]);
}

pub(super) async fn a_purged_agent_leaves_its_identity_free(h: Harness) {
    let instance = Some("1".parse().expect("the sample is an instance id"));
    h.register_as(&["a"], |agent| agent.instance_id = instance.clone()).await;
    h.advance(1);
    assert_eq!(purge(&h, Cutoffs { agents: h.now(), ..keeping_all() }).await.agents.len(), 1);
    let successor = Agent { instance_id: instance, ..h.agent(&["a"]) };
    h.commit(registering(successor, h.now())).await;
}
