//! How many tasks a claim takes.

use std::sync::Arc;

use super::harness::{Harness, ids};
use crate::store::{Demand, MAX_CLAIM_BYTES};

pub(super) async fn a_claim_fills_the_room_and_no_more(h: Harness) {
    let agent = h.register_as(&["a"], |agent| agent.max_concurrent_tasks = 3).await;
    for _ in 0..8 {
        h.submit("a").await;
    }
    assert_eq!(h.take(&agent, 0).await.len(), 0);
    let first = h.take(&agent, 2).await;
    assert_eq!(first.len(), 2, "as many as it asks for");
    assert_eq!(h.take(&agent, 2).await.len(), 1, "as many as it has room for");
    assert_eq!(h.take(&agent, 2).await.len(), 0, "none when it is full");
    h.complete(first[0]).await;
    assert_eq!(h.take(&agent, 2).await.len(), 1, "an ended lease makes room");
}

pub(super) async fn earlier_asks_of_the_same_claim_count(h: Harness) {
    let agent = h.register_as(&["a"], |agent| agent.max_concurrent_tasks = 3).await;
    for _ in 0..8 {
        h.submit("a").await;
    }
    let answers = h.claim_all(vec![h.ask(&agent, 2), h.ask(&agent, 2), h.ask(&agent, 2)]).await;
    let counts: Vec<usize> = answers.iter().map(|answer| answer.tasks.len()).collect();
    assert_eq!(counts, [2, 1, 0]);
    assert_eq!(h.store.leases(&agent.id).await.expect("a read succeeds").len(), 3);
}

pub(super) async fn large_tasks_fill_an_answer_before_the_room_does(h: Harness) {
    let agent = h.register_as(&["a"], |agent| agent.max_concurrent_tasks = 9).await;
    for _ in 0..6 {
        h.submit_as("a", |spec| spec.input = "x".repeat(MAX_CLAIM_BYTES / 2)).await;
    }
    let counts = [h.take(&agent, 9).await.len(), h.take(&agent, 9).await.len(), h.take(&agent, 9).await.len()];
    assert_eq!(counts, [2, 2, 2]);
    h.submit_as("a", |spec| spec.input = "x".repeat(MAX_CLAIM_BYTES + 1)).await;
    assert_eq!(h.take(&agent, 9).await.len(), 1, "one task goes out, however large");
}

pub(super) async fn there_is_one_answer_per_ask_in_order(h: Harness) {
    let (first, idle, last) = (h.register(&["a"]).await, h.register(&["b"]).await, h.register(&["a"]).await);
    let (t1, t2) = (h.submit("a").await, h.submit("a").await);
    let asks = vec![h.ask(&last, 1), h.ask(&idle, 5), h.ask(&first, 5)];
    let answers: Vec<_> = h.claim_all(asks).await.iter().map(ids).collect();
    assert_eq!(answers, [vec![t1], vec![], vec![t2]]);
    assert_eq!(h.claim_all(Vec::new()).await.len(), 0);
}

pub(super) async fn racing_claims_of_one_agent_keep_within_its_room(h: Harness) {
    let agent = h.register_as(&["a"], |agent| agent.max_concurrent_tasks = 5).await;
    for _ in 0..20 {
        h.submit("a").await;
    }
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (store, grant) = (Arc::clone(&h.store), h.granting());
            let demand = Demand { asks: vec![h.ask(&agent, 2)] };
            async move { store.claim(demand, grant).await.expect("a claim succeeds").answers }
        })
        .collect();
    let given: usize = h.race(calls).await.iter().flatten().map(|answer| answer.tasks.len()).sum();
    assert_eq!(given, 5);
    assert_eq!(h.store.leases(&agent.id).await.expect("a read succeeds").len(), 5);
}
