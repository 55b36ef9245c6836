//! Webhooks that were lost are made up for by the platform's own list.

use std::time::Duration;

use eap_types::agentkit::PlatformAgent;
use mock_agentkit::WebhookFaults;
use serde_json::json;

use super::platform::{SECRET, Webhook, deregister, register, registry, with_face};
use super::with_mock::World;
use crate::harness::{Answer, Endpoint, Server, Setup, Turn, eventually};

async fn reconcile(server: &Server) -> Answer {
    server.operator().post("/api/v1/agentkit/reconcile").send().await
}

#[tokio::test]
async fn what_webhooks_did_not_tell_the_list_does_and_says_what_it_changed() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let world = World::start(setup, |mock| mock).await;
        let ours = world.server.agent("AGENT-A").await;
        world.register("stays").await;
        world.register("goes").await;
        world.mock.set_faults(mock_agentkit::Faults::none().with_webhooks(WebhookFaults::dropped()));
        world.register("comes").await;
        let changed = PlatformAgent::new("our-own".parse().unwrap(), "x", "http://127.0.0.1:9");
        world.mock.register(changed).await.unwrap();
        world.mock.remove(&"goes".parse().unwrap()).await.expect("it is there");
        assert_eq!(registry(&world.server, "comes").await, "404");
        let done = reconcile(&world.server).await.expect(200);
        assert_eq!(done, json!({"added": ["comes", "our-own"], "changed": [], "removed": ["goes"], "skipped": 0}));
        for (agent, state) in [("comes", "online"), ("stays", "online"), ("goes", "deregistered"), (&ours.id, "online")]
        {
            assert_eq!(registry(&world.server, agent).await, state, "{agent}");
        }
        let again = reconcile(&world.server).await.expect(200);
        assert_eq!(again, json!({"added": [], "changed": [], "removed": [], "skipped": 0}));
        world.stop().await;
    }
}

fn list(agents: &serde_json::Value) -> Turn {
    Turn::raw(200, json!({"status": "success", "message": "", "data": agents}).to_string())
}

fn told(agent: &str, version: &str) -> serde_json::Value {
    json!({"agentId": agent, "agentName": "x", "version": version, "capabilities": ["c"],
           "contactEndpoint": "http://x", "metadata": {}})
}

/// A server whose platform answers these to the question for its agents, the first of them at the start.
async fn asking(turns: Vec<Turn>) -> (Server, Endpoint) {
    let platform = Endpoint::listing(turns).await;
    let url = platform.url().to_owned();
    let setup = with_face(Setup::memory(), &[SECRET]).manual_clock().config(|config| {
        config.agentkit.as_mut().expect("it is there").url = Some(url);
    });
    (setup.start().await, platform)
}

#[tokio::test]
async fn at_the_start_the_platform_is_asked_until_it_answers() {
    let (server, platform) = asking(vec![Turn::status(500), Turn::Cut, list(&json!([told("a1", "1")]))]).await;
    eventually("the agent is known", async || (registry(&server, "a1").await == "online").then_some(())).await;
    assert_eq!(platform.received().len(), 3);
}

/// A webhook is signed to the second, by the platform's clock: its time alone does not say that it is newer than the list.
#[tokio::test]
async fn what_webhooks_tell_while_the_list_is_on_its_way_stays() {
    let late =
        Turn::Late(Duration::from_secs(1), json!({"status": "success", "message": "", "data": [told("a1", "1")]}));
    let (server, platform) = asking(vec![list(&json!([told("a1", "1")])), late]).await;
    eventually("the agent is known", async || (registry(&server, "a1").await == "online").then_some(())).await;
    server.advance(2);
    let meanwhile = async {
        platform.until(2).await;
        Webhook::at(&server, -1, &register("a2")).send(&server).await.expect(200);
        Webhook::at(&server, -1, &deregister("a1")).send(&server).await.expect(200);
    };
    let (done, ()) = tokio::join!(reconcile(&server), meanwhile);
    assert_eq!(done.expect(200), json!({"added": [], "changed": [], "removed": [], "skipped": 0}));
    assert_eq!(
        (registry(&server, "a1").await, registry(&server, "a2").await),
        ("deregistered".into(), "online".into())
    );
}

#[tokio::test]
async fn a_list_that_makes_no_sense_takes_nobody_away() {
    let good = list(&json!([told("a1", "1"), {"agentId": "broken"}]));
    let (server, platform) = asking(vec![
        good,
        Turn::status(503),
        Turn::raw(200, "[]".to_owned()),
        Turn::raw(200, json!({"status": "success", "message": "", "data": {"agents": []}}).to_string()),
        list(&json!([told("a1", "2"), told("AGENT-A", "1")])),
        Turn::status(404),
        list(&json!([])),
    ])
    .await;
    platform.until(1).await;
    eventually("the agent is known", async || (registry(&server, "a1").await == "online").then_some(())).await;
    for _ in 0..3 {
        reconcile(&server).await.problem(503, "UNAVAILABLE");
        assert_eq!(registry(&server, "a1").await, "online");
    }
    let done = reconcile(&server).await.expect(200);
    assert_eq!(done, json!({"added": ["AGENT-A"], "changed": ["a1"], "removed": [], "skipped": 0}));
    reconcile(&server).await.problem(404, "NOT_FOUND");
    assert_eq!(registry(&server, "a1").await, "online");
    let done = reconcile(&server).await.expect(200);
    assert_eq!(done["removed"], json!(["AGENT-A", "a1"]));
}

#[tokio::test]
async fn without_a_platform_there_is_nothing_to_compare_with() {
    let server = with_face(Setup::memory(), &[SECRET]).start().await;
    reconcile(&server).await.problem(404, "NOT_FOUND");
}
