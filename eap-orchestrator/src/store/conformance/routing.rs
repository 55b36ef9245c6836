//! Who gets which work.

use std::collections::BTreeSet;

use eap_core::{Agent, Chance, Orders, Standing, TaskEvent};
use eap_types::{AgentId, Capability};

use super::harness::{Harness, ids};
use super::samples;
use crate::store::{AgentWrite, Ask, Change, Demand, Stored};

pub(super) async fn an_unknown_agent_gets_nothing(h: Harness) {
    h.submit("a").await;
    assert_eq!(h.take(&h.agent(&["a"]), 1).await, []);
}

pub(super) async fn an_agent_that_is_not_active_gets_nothing(h: Harness) {
    let agent = h.register(&["a"]).await;
    let id = h.submit("a").await;
    let at = h.now();
    for standing in [Standing::Draining, Standing::Superseded { at }, Standing::Deregistered { at }] {
        h.stand(&agent.id, standing).await;
        // Its caller has not heard of it yet.
        assert_eq!(h.take(&agent, 1).await, [], "{standing:?}");
    }
    h.stand(&agent.id, Standing::Active).await;
    let drained = agent.orders.drained("directive#1".parse().expect("it is a directive id"), None, at);
    h.change_agent(&agent.id, |agent| agent.orders = drained.expect("it was not drained")).await;
    assert_eq!(h.take(&agent, 1).await, [], "drained");
    h.change_agent(&agent.id, |agent| agent.orders = Orders::default()).await;
    assert_eq!(h.take(&agent, 1).await, [id]);
}

pub(super) async fn an_agent_of_another_epoch_gets_nothing(h: Harness) {
    let agent = h.register_as(&["a"], |agent| agent.epoch = 2).await;
    let id = h.submit("a").await;
    for epoch in [1, 3] {
        assert_eq!(h.take(&Agent { epoch, ..agent.clone() }, 1).await, [], "epoch {epoch}");
    }
    assert_eq!(h.take(&agent, 1).await, [id]);
}

pub(super) async fn an_agent_that_changed_is_matched_as_it_is_now(h: Harness) {
    let agent = h.register(&["a"]).await;
    let b = h.submit("b").await;
    let (Stored { record, revision, .. }, _) = h.known(&agent.id).await.expect("the agent is stored");
    let changed = Agent { capabilities: h.agent(&["b"]).capabilities, ..record };
    let update = AgentWrite::Update { agent: changed.clone(), revision };
    let change = Change { agents: vec![update], ..Change::default() };
    // Who asks in the same transaction has not heard of it yet, and wants what is not there.
    let task_types = Some(BTreeSet::from(["a".parse().expect("the sample is a task type")]));
    let demand = Demand { asks: vec![Ask { task_types, ..h.ask(&agent, 9) }] };
    h.store.commit_and_claim(change, demand, h.granting()).await.expect("the change fits what is stored");
    h.submit("a").await;
    assert_eq!(h.take(&changed, 9).await, [b]);
}

pub(super) async fn work_never_crosses_tenants(h: Harness) {
    let ours = h.register(&["a"]).await;
    let theirs = h.register_as(&["a"], |agent| agent.tenant = samples::tenant(1)).await;
    let id = h.submit_as("a", |spec| spec.routing.tenant = samples::tenant(1)).await;
    assert_eq!(h.take(&ours, 1).await, []);
    assert_eq!(h.take(&theirs, 1).await, [id]);
}

pub(super) async fn an_ask_may_name_task_types(h: Harness) {
    let agent = h.register(&["a", "b", "c"]).await;
    let (a, b, c) = (h.submit("a").await, h.submit("b").await, h.submit("c").await);
    let of = |types: &[&str]| {
        let word = |text: &&str| text.parse().expect("the sample is a task type");
        Ask { task_types: Some(types.iter().map(word).collect()), ..h.ask(&agent, 9) }
    };
    assert_eq!(ids(&h.claim(of(&["x"])).await), []);
    assert_eq!(ids(&h.claim(of(&["c", "x", "a"])).await), [a, c]);
    assert_eq!(h.take(&agent, 9).await, [b]);
}

pub(super) async fn capabilities_labels_and_agent_id_route(h: Harness) {
    let plain = h.register(&["a"]).await;
    let able = h.register(&["a", "b"]).await;
    let european = h.register_as(&["a"], |agent| agent.labels = samples::labels(&[("region", "eu"), ("x", "y")])).await;
    let named: AgentId = samples::agent_id("näme @ \"home\"");
    let chosen = h.register_as(&["a"], |agent| agent.id = named.clone()).await;

    let b: Capability = "b".parse().expect("the sample is a capability");
    let needs_b = h.submit_as("a", |spec| spec.routing.required_capabilities.extend([b])).await;
    let needs_eu = h.submit_as("a", |spec| spec.routing.labels = samples::labels(&[("region", "eu")])).await;
    let needs_us = h.submit_as("a", |spec| spec.routing.labels = samples::labels(&[("region", "us")])).await;
    let needs_chosen = h.submit_as("a", |spec| spec.routing.agent_id = Some(named)).await;
    let needs_nothing = h.submit_as("a", |spec| spec.routing.required_capabilities = BTreeSet::new()).await;

    assert_eq!(h.take(&plain, 1).await, [needs_nothing]);
    assert_eq!(h.take(&plain, 9).await, []);
    assert_eq!(h.take(&able, 9).await, [needs_b]);
    assert_eq!(h.take(&european, 9).await, [needs_eu]);
    assert_eq!(h.take(&chosen, 9).await, [needs_chosen]);
    assert!(h.stored(needs_us).await.record.is_ready(), "for which nobody is right");
}

pub(super) async fn a_delayed_task_waits_until_it_is_made_ready(h: Harness) {
    let agent = h.register(&["a"]).await;
    let run_at = h.now() + std::time::Duration::from_secs(10);
    let id = h.submit_as("a", |spec| spec.run_at = Some(run_at)).await;
    assert_eq!(h.take(&agent, 1).await, []);
    h.advance(20);
    assert_eq!(h.take(&agent, 1).await, [], "its time alone does not make it ready");
    h.apply(id, TaskEvent::Due { chance: Chance::new(0.5) }).await;
    assert_eq!(h.take(&agent, 1).await, [id]);
}

pub(super) async fn leased_and_final_tasks_are_not_claimed(h: Harness) {
    let agent = h.register(&["a"]).await;
    let (done, running, cancelled) = (h.submit("a").await, h.submit("a").await, h.submit("a").await);
    assert_eq!(h.take(&agent, 2).await, [done, running]);
    h.complete(done).await;
    h.apply(cancelled, TaskEvent::Cancel { reason: None }).await;
    let other = h.register(&["a"]).await;
    h.advance(3600);
    assert_eq!(h.take(&other, 9).await, [], "a lapsed lease is the sweeper's to end");
    h.apply(running, TaskEvent::Due { chance: Chance::new(0.0) }).await;
    assert_eq!(h.take(&other, 9).await, [running]);
}
