//! Tasks that are pushed while several replicas could bring them.

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::Config;
use eap_orchestrator::store::{PostgresOptions, PostgresStore};
use eap_tests::link::Link;
use eap_tests::postgres::{Schema, server};
use serde_json::json;

use super::{Pair, over_both, start};
use crate::harness::{Agent, Endpoint, Server, Turn, eventually};

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

fn soon_dead(config: &mut Config) {
    quick(config);
    config.timing.pulse_gap = Duration::from_secs(2);
}

/// While their database is away, all of them are silent.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_makes_nobody_take_the_others_for_dead() {
    let Some((schema, link, url)) = linked().await else { return };
    let mut servers = Vec::new();
    for _ in 0..2 {
        let options = PostgresOptions::default().with_schema(schema.name()).with_max_connections(5);
        let store = PostgresStore::connect(&url, options).await.expect("the schema can be opened");
        servers.push(start(Arc::new(store), soon_dead).await);
    }
    let late = |seconds| Turn::Late(Duration::from_secs(seconds), json!({"status": "completed", "output_data": {}}));
    let endpoint = Endpoint::start((0..4).map(|_| late(9))).await;
    older(&servers[0], &endpoint).await;
    let mut ids = Vec::new();
    for server in servers.iter().cycle().take(4) {
        ids.push(server.operator().submit(json!({})).await);
    }
    endpoint.until(4).await;
    link.cut();
    tokio::time::sleep(Duration::from_secs(4)).await;
    link.heal();
    for id in &ids {
        eventually("the store is there again", async || {
            let answer = servers[1].operator().get(&format!("/api/v1/tasks/{id}")).send().await;
            (answer.status == 200 && answer.body["status"] == json!("completed")).then_some(())
        })
        .await;
    }
    assert_eq!(endpoint.received().len(), 4, "none is sent again");
}

/// A schema, a way to its database that can be cut, and the URL that goes there by it.
async fn linked() -> Option<(Schema, Link, String)> {
    let (before, rest) = server()?.url().split_once("127.0.0.1:")?;
    let (port, after) = rest.split_once('/')?;
    let target = format!("127.0.0.1:{port}").parse().ok()?;
    let link = Link::start(vec![target]).await.expect("loopback has a free port");
    let url = format!("{before}{}/{after}", link.address());
    Some((Schema::new(), link, url))
}
