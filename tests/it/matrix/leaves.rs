//! Agents that stop while they have tasks, or are asked to take nothing new.

use std::time::Duration;

use eap_types::{AgentState, TaskStatus};

use super::every;
use super::world::{LONG, World, stop};
use crate::sdk_harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_finish_what_ends_in_time() {
    every("completed [completed]: through; 1 completed, 0 failed, 0 released", async |world: World| {
        let agent = world.start_agent().await;
        let task = world.submit("deaf").await;
        world.until_at_the_gate(1).await;
        agent.drain();
        let draining = async || (world.site.only_agent().agent.state == AgentState::Draining).then_some(());
        until(LONG, "the server knows", draining).await;
        world.stage.gate.open();
        let report = stop(agent).await;
        format!("{}; {report}", world.end_of(task).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_hand_back_what_does_not() {
    every("completed [released, completed]: through; told Some(Shutdown); 0 completed, 0 failed, 1 released", {
        async |world: World| {
            let role = world.role("AGENT-LEAVING").await.with(|agent| agent.drain_grace(Duration::from_secs(1)));
            let agent = role.start().await;
            let task = world.submit("gate").await;
            world.until_runs(1).await;
            let report = stop(agent).await;
            let told = world.stage.stops().join(", ");
            world.stage.gate.open();
            let _next = world.role("AGENT-STAYING").await.start().await;
            format!("{}; told {told}; {report}", world.end_of(task).await)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_take_nothing_new() {
    every("completed [completed]: through, queued []", async |world: World| {
        let agent = world.start_agent().await;
        let task = world.submit("deaf").await;
        world.until_at_the_gate(1).await;
        agent.drain();
        let draining = async || (world.site.only_agent().agent.state == AgentState::Draining).then_some(());
        until(LONG, "the server knows", draining).await;
        let late = world.submit("echo late").await;
        world.stage.gate.open();
        stop(agent).await;
        format!("{}, {}", world.end_of(task).await, world.told(late).await)
    })
    .await;
}

/// Asked by an operator it stays, finishes what it holds, and goes on when it is asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn or_are_drained_and_resumed_by_the_server() {
    let expected = "completed [completed]: through, then queued [], then completed [completed]: late; epoch 1, 2 runs";
    every(expected, async |world: World| {
        let agent = world.start_agent().await;
        let task = world.submit("deaf").await;
        world.until_at_the_gate(1).await;
        let id = world.site.only_agent().agent.agent_id;
        let ask = async |what: &str| {
            world.site.operator().post(&format!("/api/v1/agents/{id}/{what}")).send().await.expect(200);
        };
        ask("drain").await;
        let heard = async || world.site.only_agent().drain.is_some_and(|drain| drain.acknowledged).then_some(());
        until(LONG, "the agent has heard", heard).await;
        let late = world.submit("echo late").await;
        world.stage.gate.open();
        let end = world.end_of(task).await;
        assert_eq!(agent.status(), eap_agent_sdk::Status::Online);
        let meanwhile = world.told(late).await;
        ask("resume").await;
        let (after, runs) = (world.end_of(late).await, world.stage.runs());
        format!("{end}, then {meanwhile}, then {after}; epoch {}, {runs} runs", world.site.only_agent().epoch)
    })
    .await;
}

/// While it stops, its calls get lost; what it has done is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_network_that_loses_every_third() {
    every("completed [completed]: through; 1 completed, 0 failed, 0 released", async |world: World| {
        let agent = world.start_agent().await;
        let task = world.submit("deaf").await;
        world.until_at_the_gate(1).await;
        let mut passed = 0_u32;
        world.lose(move |_, _| {
            passed += 1;
            passed.is_multiple_of(3)
        });
        agent.drain();
        world.stage.gate.open();
        let report = stop(agent).await;
        world.until_status(task, TaskStatus::Completed).await;
        format!("{}; {report}", world.told(task).await)
    })
    .await;
}
