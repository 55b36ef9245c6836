//! A cancelled task ends once, and whoever works on it hears why.

use eap_tests::proxy::Leg;
use eap_types::TaskStatus;
use serde_json::json;

use super::every;
use super::world::{LONG, World};
use crate::sdk_harness::until;

async fn cancel(world: &World, task: eap_types::TaskId) -> u16 {
    let reason = json!({"reason": "not wanted"});
    world.site.operator().cancel(&task.to_string(), Some(&reason)).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_anybody_has_it() {
    every("200, cancelled []; 0 runs", async |world: World| {
        let task = world.submit("echo never").await;
        let answer = cancel(&world, task).await;
        let _agent = world.start_agent().await;
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        format!("{answer}, {}; {} runs", world.told(task).await, world.stage.runs() - 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_handler_has_it() {
    every("200, cancelled [cancelled]; told requested: not wanted", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        let answer = cancel(&world, task).await;
        let end = world.told(task).await;
        until(LONG, "the handler is told", async || (world.stage.stops().len() == 1).then_some(())).await;
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        assert_eq!(world.told(task).await, end, "nothing changes what is final");
        format!("{answer}, {end}; told {}", world.stage.stops()[0])
    })
    .await;
}

/// The first that the agent hears of it may be the refusal of what it reports: that says why as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_handler_emits() {
    every("cancelled [cancelled]; told requested: not wanted", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("tick 99").await;
        world.until_runs(1).await;
        // No news in the answers to heartbeats, nor by a call.
        world.lose(|what, leg| (what == "heartbeat" && leg == Leg::Back) || what == "task");
        assert_eq!(cancel(&world, task).await, 200);
        until(LONG, "the handler is told", async || (world.stage.stops().len() == 1).then_some(())).await;
        format!("{}; told {}", world.told(task).await, world.stage.stops()[0])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_handler_that_does_not_listen_has_it() {
    every("200, cancelled [cancelled]; 1 run", async |world: World| {
        let agent = world.start_agent().await;
        let task = world.submit("deaf").await;
        world.until_at_the_gate(1).await;
        let answer = cancel(&world, task).await;
        world.stage.gate.open();
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        // All that it had to say is said.
        super::world::stop(agent).await;
        format!("{answer}, {}; {} run", world.told(task).await, world.stage.runs() - 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_end() {
    every("409, completed [completed]: done", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("echo done").await;
        world.until_status(task, TaskStatus::Completed).await;
        format!("{}, {}", cancel(&world, task).await, world.told(task).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice() {
    every("200, 200, cancelled [cancelled]", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        let answers = [cancel(&world, task).await, cancel(&world, task).await];
        format!("{}, {}, {}", answers[0], answers[1], world.told(task).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_attempts() {
    fn slow_to_retry(config: &mut eap_orchestrator::Config) {
        super::hasty(config);
        config.tasks.backoff_base = std::time::Duration::from_secs(600);
        config.tasks.backoff_cap = std::time::Duration::from_secs(600);
    }
    super::every_with(slow_to_retry, "200, cancelled [failed]", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("retry 2").await;
        let failed = async || (world.site.outcomes(task).await == ["failed"]).then_some(());
        until(LONG, "the first attempt has failed", failed).await;
        format!("{}, {}", cancel(&world, task).await, world.told(task).await.split(':').next().unwrap_or_default())
    })
    .await;
}

/// The agent hears of it although the server was away meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_the_server_restarts() {
    every("cancelled [cancelled]; told requested: not wanted", async |mut world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        // Nothing arrives, so that the news waits.
        world.lose(|_, _| true);
        assert_eq!(cancel(&world, task).await, 200);
        world.site.stop().await;
        world.site.come_back().await;
        world.lose(|_, _| false);
        until(LONG, "the handler is told", async || (world.stage.stops().len() == 1).then_some(())).await;
        format!("{}; told {}", world.told(task).await, world.stage.stops()[0])
    })
    .await;
}
