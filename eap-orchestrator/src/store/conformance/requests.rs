//! A claim that may be repeated (G17).

use std::sync::Arc;

use eap_core::Agent;

use super::harness::{Harness, ids};
use crate::store::{Ask, Demand};

/// An ask under this request id.
fn request(h: &Harness, agent: &Agent, max_tasks: u32, id: &str) -> Ask {
    let request_id = Some(id.parse().expect("the sample is a request id"));
    Ask { request_id, ..h.ask(agent, max_tasks) }
}

pub(super) async fn a_repeated_request_gets_the_same_tasks(h: Harness) {
    let agent = h.register(&["a"]).await;
    for _ in 0..5 {
        h.submit("a").await;
    }
    let first = h.claim(request(&h, &agent, 2, "one")).await;
    assert_eq!((first.tasks.len(), first.repeated), (2, false));
    h.take(&agent, 1).await;
    h.advance(3600);
    let head = h.store.head().await.expect("a read succeeds");

    // A lapsed lease lives until the sweeper ends it.
    let again = h.claim(request(&h, &agent, 5, "one")).await;
    assert!(again.repeated);
    assert_eq!(again.tasks, first.tasks, "the same attempts under the same leases, and nothing else");
    assert_eq!(h.store.head().await.expect("a read succeeds"), head, "a repeat writes nothing");

    h.complete(first.tasks[0].id()).await;
    let rest = h.claim(request(&h, &agent, 5, "one")).await;
    assert_eq!((ids(&rest), rest.repeated), (vec![first.tasks[1].id()], true), "what still lives of it");
    assert_eq!(h.claim(request(&h, &agent, 5, "two")).await.tasks.len(), 2, "another request gets others");
}

pub(super) async fn a_request_id_belongs_to_one_agent(h: Harness) {
    let (agent, other) = (h.register(&["a"]).await, h.register(&["a"]).await);
    let (t1, t2) = (h.submit("a").await, h.submit("a").await);
    assert_eq!(ids(&h.claim(request(&h, &agent, 1, "one")).await), [t1]);
    let answer = h.claim(request(&h, &other, 1, "one")).await;
    assert_eq!((ids(&answer), answer.repeated), (vec![t2], false));
}

pub(super) async fn a_request_id_is_free_again_after_its_leases(h: Harness) {
    let agent = h.register(&["a"]).await;
    let nothing = h.claim(request(&h, &agent, 1, "one")).await;
    assert!(nothing.tasks.is_empty() && !nothing.repeated, "an empty answer binds nothing");
    for _ in 0..2 {
        let id = h.submit("a").await;
        let answer = h.claim(request(&h, &agent, 1, "one")).await;
        assert_eq!((ids(&answer), answer.repeated), (vec![id], false));
        h.complete(id).await;
    }
}

pub(super) async fn racing_repeats_get_the_same_tasks(h: Harness) {
    let agent = h.register(&["a"]).await;
    for _ in 0..20 {
        h.submit("a").await;
    }
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (store, grant) = (Arc::clone(&h.store), h.granting());
            let demand = Demand { asks: vec![request(&h, &agent, 2, "one")] };
            async move {
                let mut claims = store.claim(demand, grant).await.expect("a claim succeeds");
                claims.answers.pop().expect("one answer per ask")
            }
        })
        .collect();
    let answers = h.race(calls).await;
    assert!(answers.iter().all(|answer| answer.tasks == answers[0].tasks), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert_eq!(h.store.leases(&agent.id).await.expect("a read succeeds").len(), 2);
}
