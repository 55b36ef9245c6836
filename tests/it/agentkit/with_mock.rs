//! The whole way with `mock-agentkit`, and every way in which it misbehaves, over both stores.

use std::time::Duration;

use eap_tests::ports::free_address;
use eap_types::agentkit::PlatformAgent;
use mock_agentkit::{
    Ending, Faults, MockAgentKit, MockBuilder, ReportFaults, RunFaults, SentKind, WebhookFaults, WorkFaults,
};
use serde_json::{Value, json};

use super::platform::{SECRET, registry, with_face};
use crate::harness::{OPERATOR_KEY, Server, Setup, eventually};

/// A server and the platform that it reaches.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) mock: MockAgentKit,
}

impl World {
    pub(super) async fn start(setup: Setup, shape: impl FnOnce(MockBuilder) -> MockBuilder) -> Self {
        let address = free_address();
        let url = format!("http://{address}");
        let builder = MockAgentKit::builder().notifies(&url).reports_to(&url).secret(SECRET).key(OPERATOR_KEY);
        let builder = builder.works_for(Duration::from_millis(5)).tries(5, Duration::from_millis(20));
        let mock = shape(builder).start().await.expect("a port is free");
        let reached = mock.url();
        let setup = with_face(setup, &[SECRET]).config(|config| {
            config.agentkit.as_mut().expect("it is there").url = Some(reached);
            config.tasks.backoff_base = Duration::from_millis(10);
            config.tasks.backoff_cap = Duration::from_millis(50);
        });
        Self { server: setup.start_at(address).await, mock }
    }

    pub(super) async fn register(&self, agent: &str) {
        let details = PlatformAgent::new(agent.parse().unwrap(), format!("Agent {agent}"), "http://127.0.0.1:9");
        self.mock.register(details.with_capabilities(["summarize"])).await.expect("its id is new");
    }

    /// The answers to every webhook, once all were sent.
    pub(super) async fn answered(&self) -> Vec<u16> {
        eventually("the webhooks are sent", async || self.mock.is_idle().then_some(())).await;
        let sent = self.mock.sent();
        let webhooks = sent.iter().filter(|sent| matches!(sent.kind, SentKind::Register | SentKind::Deregister));
        webhooks.flat_map(|sent| sent.attempts.iter().filter_map(|attempt| attempt.answer.status())).collect()
    }

    async fn until_online(&self, agent: &str) {
        eventually("the agent is known", async || (registry(&self.server, agent).await == "online").then_some(()))
            .await;
    }

    async fn submit(&self, members: Value) -> String {
        let mut body = json!({"task_type": "summarize"});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.server.operator().submit(body).await
    }

    async fn history(&self, task: &str) -> Vec<String> {
        let shown = self.server.operator().get(&format!("/api/v1/tasks/{task}/history")).send().await.expect(200);
        let attempts = shown["attempts"].as_array().expect("a list").clone();
        attempts.into_iter().map(|attempt| attempt["outcome"].as_str().expect("a word").to_owned()).collect()
    }

    pub(super) async fn stop(self) {
        self.mock.stop().await;
        self.server.stop().await;
    }
}

fn setups() -> [Setup; 2] {
    [Setup::memory(), Setup::sqlite()]
}

/// The sequence of the integration plan, without its workflow.
#[tokio::test]
async fn an_agent_comes_works_and_goes() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock).await;
        world.register("a1").await;
        let state = async || world.server.operator().get("/v1/opscore/agent/a1/state").send().await.expect(200);
        assert_eq!(state().await["state"], "UNKNOWN");
        let task = world.submit(json!({"input": "some text"})).await;
        let done = world.server.operator().until(&task, "completed").await;
        assert_eq!(done["result"]["output_data"], json!({"last_task_result": "simulated_success"}));
        eventually("it is idle", async || (state().await["state"] == "IDLE").then_some(())).await;
        let tasks = futures_util::future::join_all((0..5).map(|_| world.submit(json!({})))).await;
        for task in tasks {
            world.server.operator().until(&task, "completed").await;
        }
        world.mock.remove(&"a1".parse().unwrap()).await.expect("the webhook is tried");
        assert_eq!(registry(&world.server, "a1").await, "deregistered");
        assert_eq!(world.answered().await, [200, 200]);
        world.stop().await;
    }
}

/// Every fault of webhooks: what it is answered, and what the registry says then.
#[tokio::test]
async fn webhooks_that_go_wrong_are_answered_as_they_deserve() {
    for (name, fault, answers, state) in [
        ("late", WebhookFaults::late(Duration::from_millis(80)), &[200][..], "online"),
        ("dropped", WebhookFaults::dropped(), &[], "404"),
        ("duplicated", WebhookFaults::duplicated(2), &[200, 200, 200], "online"),
        ("forged", WebhookFaults::forged(), &[401], "404"),
        ("of a wrong secret", WebhookFaults::under_a_wrong_secret(), &[401], "404"),
        ("unsigned", WebhookFaults::unsigned(), &[401], "404"),
        ("old", WebhookFaults::off_by_seconds(-310), &[401], "404"),
        ("of the future", WebhookFaults::off_by_seconds(310), &[401], "404"),
        ("a little old", WebhookFaults::off_by_seconds(-290), &[200], "online"),
        ("a little ahead", WebhookFaults::off_by_seconds(290), &[200], "online"),
    ] {
        for setup in setups() {
            let world = World::start(setup, |mock| mock.with_webhooks(fault.clone())).await;
            world.register("a1").await;
            assert_eq!(world.answered().await, answers, "{name}");
            assert_eq!(registry(&world.server, "a1").await, state, "{name}");
            world.stop().await;
        }
    }
}

/// A DEREGISTER that overtakes its REGISTER leaves the agent gone.
#[tokio::test]
async fn webhooks_that_overtake_each_other_are_put_in_order() {
    for setup in setups() {
        let world =
            World::start(setup, |mock| mock.signs_rfc3339().with_webhooks(WebhookFaults::reordered().times(1))).await;
        world.register("a1").await;
        world.mock.remove(&"a1".parse().unwrap()).await.expect("it is there");
        assert_eq!(world.answered().await, [200, 200]);
        assert_eq!(registry(&world.server, "a1").await, "deregistered");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_webhook_that_is_sent_again_much_later_changes_nothing() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock).await;
        world.register("a1").await;
        let first = world.mock.sent().remove(0);
        assert_eq!(first.ending, Ending::Taken);
        world.mock.remove(&"a1".parse().unwrap()).await.expect("it is there");
        let replayed = world.mock.replay(&first).await;
        assert_eq!(replayed.status(), Some(200));
        assert_eq!(registry(&world.server, "a1").await, "deregistered");
        world.stop().await;
    }
}

/// What goes wrong with the work: how the attempts end, and that the task is done in the end.
#[tokio::test]
async fn work_that_goes_wrong_is_tried_again() {
    let once = |faults: Faults| faults;
    for (name, faults, ends) in [
        (
            "refused",
            once(Faults::none().with_runs(RunFaults::answered_with(400).times(1))),
            &["failed", "completed"][..],
        ),
        ("failed", once(Faults::none().with_work(WorkFaults::failed().times(1))), &["failed", "completed"]),
        ("busy", once(Faults::none().with_runs(RunFaults::answered_with(503).times(1))), &["completed"]),
        ("slow", once(Faults::none().with_runs(RunFaults::late(Duration::from_millis(200)).times(1))), &["completed"]),
        ("out of order", once(Faults::none().with_reports(ReportFaults::reordered().times(1))), &["completed"]),
        ("said twice", once(Faults::none().with_reports(ReportFaults::duplicated(1).times(1))), &["completed"]),
    ] {
        for setup in setups() {
            let world = World::start(setup, |mock| mock.with_faults(faults.clone())).await;
            world.register("a1").await;
            world.until_online("a1").await;
            let task = world.submit(json!({})).await;
            // An agent in error gets nothing before it says that it is well again.
            if name == "failed" {
                eventually("it has failed once", async || (!world.history(&task).await.is_empty()).then_some(())).await;
                eventually("it is in error", async || {
                    let state = world.server.operator().get("/v1/opscore/agent/a1/state").send().await.expect(200);
                    (state["state"] == "ERROR").then_some(())
                })
                .await;
                let now = eap_types::Timestamp::from_seconds(4_000_000_000);
                let well = json!({"agentId": "a1", "timestamp": now, "state": "IDLE"});
                world.server.operator().post("/v1/opscore/agent/a1/state").json(&well).send().await.expect(202);
            }
            world.server.operator().until(&task, "completed").await;
            // What reached an agent that had begun with something else was handed back, and is no attempt that counts.
            let history = world.history(&task).await.into_iter().filter(|outcome| outcome != "released");
            assert_eq!(history.collect::<Vec<_>>(), ends, "{name}");
            world.stop().await;
        }
    }
}

#[tokio::test]
async fn an_agent_that_crashes_at_work_costs_the_attempt_its_time() {
    for setup in setups() {
        let world = World::start(setup, |mock| mock.with_work(WorkFaults::crashed().times(1))).await;
        world.register("a1").await;
        world.register("a2").await;
        let task = world.submit(json!({"timeout_seconds": 1})).await;
        world.server.operator().until(&task, "completed").await;
        assert_eq!(world.history(&task).await, ["failed", "completed"]);
        world.stop().await;
    }
}
