//! Tasks that are pushed while several replicas could bring them.

use std::time::Duration;

use eap_orchestrator::Config;
use serde_json::json;

use super::{Pair, over_both};
use crate::harness::{Agent, Endpoint, Server, Turn};

over_both! {
    quick => every_attempt_is_brought_by_one_of_them, what_one_had_in_hand_is_brought_by_another,
        one_that_comes_later_brings_nothing_that_is_being_brought;
}

fn quick(config: &mut Config) {
    config.push.backoff_base = Duration::from_millis(20);
    config.timing.shutdown_grace = Duration::from_millis(200);
}

async fn older(server: &Server, endpoint: &Endpoint) -> Agent {
    let body = json!({"name": "AGENT-OLD", "capabilities": ["work"], "endpoint_url": endpoint.url()});
    Agent::of(server.api.clone(), server.register(&body).await.expect(201))
}

fn done() -> Turn {
    Turn::result(json!({"status": "completed", "output_data": {"pushed": true}}))
}

async fn every_attempt_is_brought_by_one_of_them(Pair { a, b, .. }: Pair) {
    let endpoint = Endpoint::start((0..20).map(|_| done())).await;
    older(&a, &endpoint).await;
    let mut ids = Vec::new();
    for server in [&a, &b].into_iter().cycle().take(20) {
        ids.push(server.operator().submit(json!({})).await);
    }
    for id in &ids {
        b.operator().until(id, "completed").await;
    }
    let tasks: Vec<_> = endpoint.received().iter().map(|push| push.received.json()["task_id"].clone()).collect();
    assert_eq!(tasks.len(), ids.len(), "none is sent twice: {tasks:?}");
}

async fn what_one_had_in_hand_is_brought_by_another(pair: Pair) {
    let mut pair = pair;
    // Only one is left that can begin with it.
    pair.b.begin_stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let endpoint = Endpoint::start([Turn::Hang, done()]).await;
    older(&pair.a, &endpoint).await;
    let id = pair.a.operator().submit(json!({})).await;
    endpoint.until(1).await;
    let stays = pair.another(quick).await;
    pair.a.begin_stop();
    let task = stays.operator().until(&id, "completed").await;
    assert_eq!((&task["attempt"], endpoint.received().len()), (&json!(1), 2));
}

async fn one_that_comes_later_brings_nothing_that_is_being_brought(pair: Pair) {
    let late = Turn::Late(Duration::from_millis(1_500), json!({"status": "completed", "output_data": {}}));
    let endpoint = Endpoint::start([late]).await;
    older(&pair.a, &endpoint).await;
    let id = pair.a.operator().submit(json!({})).await;
    endpoint.until(1).await;
    let third = pair.another(quick).await;
    third.operator().until(&id, "completed").await;
    assert_eq!(endpoint.received().len(), 1);
}
