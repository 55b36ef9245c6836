//! What a network loses: each call's request and each call's answer, the first two times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eap_agent_sdk::AgentBuilder;
use eap_orchestrator::Config;
use eap_tests::proxy::Leg;

use super::world::{LONG, World, online};
use super::{every, every_with, hasty, patient};
use crate::sdk_harness::until;

const TIMES: usize = 2;
/// What brings a task to an agent, and what asks for it.
const DELIVERIES: &[&str] = &["lease", "task", "task.assigned", "agent.credit"];
const RESULTS: &[&str] = &["result", "results", "task", "task.result"];

/// Loses these while one task is done.
async fn lossy(names: &'static [&'static str], leg: Leg, script: &'static str) {
    every("completed [completed]: done; 1 run", async |world: World| {
        world.lose_first(TIMES, names, leg);
        let _agent = world.start_agent().await;
        let end = world.run(script).await;
        until(LONG, "it was lost", async || (world.lost() >= 1).then_some(())).await;
        format!("{end}; {} run", world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_register() {
    lossy(&["register"], Leg::Out, "echo done").await;
}

/// The server knows the agent before the agent knows it: what is pushed meanwhile is not taken, and comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_register() {
    every("completed: done; 1 run", async |world: World| {
        world.lose_first(TIMES, &["register"], Leg::Back);
        let _agent = world.start_agent().await;
        let end = world.run("echo done").await;
        let (_, given) = end.split_once("]: ").expect("it gave something");
        format!("completed: {given}; {} run", world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats() {
    lossy(&["heartbeat"], Leg::Out, "echo done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_heartbeats() {
    lossy(&["heartbeat"], Leg::Back, "echo done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_on_their_way() {
    lossy(DELIVERIES, Leg::Out, "echo done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_deliveries() {
    lossy(DELIVERIES, Leg::Back, "echo done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_on_their_way() {
    lossy(RESULTS, Leg::Out, "echo done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_results() {
    lossy(RESULTS, Leg::Back, "echo done").await;
}

/// One of four of everything is lost, there and back, and twenty tasks are done once each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_of_everything() {
    // A push is given up after so many tries; with this network that would be soon.
    fn stubborn(config: &mut Config) {
        patient(config);
        config.push.max_tries = 100;
    }
    every_with(stubborn, "20 completed at the first attempt; 20 runs", async |world: World| {
        world.lose_one_of_four(|_| true);
        let agent = world.start_agent().await;
        // A process that does not know yet that it is registered may lose what is pushed to it.
        online(&agent).await;
        let mut tasks = Vec::new();
        for number in 0..20 {
            tasks.push(world.submit(&format!("echo {number}")).await);
        }
        for (number, task) in tasks.iter().enumerate() {
            assert_eq!(world.end_of(*task).await, format!("completed [completed]: {number}"));
        }
        format!("{} completed at the first attempt; {} runs", tasks.len(), world.stage.runs())
    })
    .await;
}

/// A partition shorter than a lease changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_for_a_moment() {
    every("completed [completed]: through; 1 run", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        let (is_cut, lost) = (Arc::new(AtomicBool::new(true)), world.lost());
        let cut = Arc::clone(&is_cut);
        world.lose(move |_, _| cut.load(Ordering::SeqCst));
        until(LONG, "something is lost", async || (world.lost() > lost).then_some(())).await;
        is_cut.store(false, Ordering::SeqCst);
        world.stage.gate.open();
        format!("{}; {} run", world.end_of(task).await, world.stage.runs())
    })
    .await;
}

/// A partition longer than a lease: another agent does it, and what the first one did comes too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_for_longer_than_a_lease() {
    every_with(hasty, "completed [expired, completed]: through; 2 runs, 1 late result", async |world: World| {
        let narrow = |agent: AgentBuilder| agent.max_concurrent_tasks(1);
        let first = world.role("AGENT-CUT-OFF").await.with(narrow).start().await;
        online(&first).await;
        let task = world.submit("deaf").await;
        world.until_at_the_gate(1).await;
        let second = world.role_past_the_network("AGENT-NEAR").await.with(narrow).start().await;
        online(&second).await;
        world.lose(|_, _| true);
        world.until_at_the_gate(2).await;
        world.stage.gate.open();
        let end = world.end_of(task).await;
        world.lose(|_, _| false);
        let late = until(LONG, "the late result is kept", async || {
            let late = world.site.history(task).await.late_results.len();
            (late > 0).then_some(late)
        })
        .await;
        format!("{end}; {} runs, {late} late result", world.stage.runs())
    })
    .await;
}
