//! Servers and agents that go and come back, in good order or not.

use eap_types::TaskStatus;

use super::every;
use super::world::{LONG, World, online, stop};
use crate::sdk_harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_server_while_a_task_waits() {
    every("completed [completed]: done; 1 run", async |mut world: World| {
        let task = world.submit("echo done").await;
        world.site.stop().await;
        world.site.come_back().await;
        let _agent = world.start_agent().await;
        format!("{}; {} run", world.end_of(task).await, world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_server_while_a_handler_works() {
    every("completed [completed]: through; 1 run, epoch 1", async |mut world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        world.site.stop().await;
        world.site.come_back().await;
        world.stage.gate.open();
        let end = world.end_of(task).await;
        format!("{end}; {} run, epoch {}", world.stage.runs(), world.site.only_agent().epoch)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_server_while_a_result_is_ready() {
    every("completed [completed]: through; 1 run", async |mut world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        world.site.stop().await;
        // The handler ends while nobody is there to hear of it.
        world.stage.gate.open();
        let lost = world.lost();
        assert_eq!(lost, 0, "nothing but the server is gone");
        world.site.come_back().await;
        format!("{}; {} run", world.end_of(task).await, world.stage.runs())
    })
    .await;
}

/// It comes back with an empty store: the agent registers anew and goes on with new tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_server_with_nothing_left() {
    every("completed [completed]: again", async |mut world: World| {
        let agent = world.start_agent().await;
        assert_eq!(world.run("echo once").await, "completed [completed]: once");
        world.site.stop().await;
        world.site.come_back_empty().await;
        let end = world.run("echo again").await;
        online(&agent).await;
        end
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_agent_in_good_order() {
    every("completed [completed]: one, completed [completed]: two; 1 agent", async |world: World| {
        let role = world.role("AGENT-AGAIN").await.kept_in(world.site.dir("agent"));
        let first = role.start().await;
        let one = world.run("echo one").await;
        let report = stop(first).await;
        assert_eq!((report.completed, report.unsent), (1, 0), "{report}");
        let _second = role.start().await;
        let two = world.run("echo two").await;
        format!("{one}, {two}; {} agent", world.site.agents().len())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_agent_that_is_killed_at_work() {
    every("completed: through after 1 that did not end; 2 runs", async |world: World| {
        let role = world.role("AGENT-MORTAL").await.kept_in(world.site.dir("agent"));
        let process = role.start_process().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        process.kill().await;
        let process = role.start_process().await;
        world.until_runs(2).await;
        world.stage.gate.open();
        world.site.until_final(task, LONG).await;
        process.stop().await;
        // Whether the next process says that it has nothing or the lease runs out first is chance.
        let outcomes = world.site.outcomes(task).await;
        assert!(outcomes[0] == "expired" || outcomes[0] == "released", "{outcomes:?}");
        let end = world.told(task).await;
        let (_, given) = end.split_once("]: ").expect("it gave something");
        format!("completed: {given} after {} that did not end; {} runs", outcomes.len() - 1, world.stage.runs())
    })
    .await;
}

/// The result is kept on the agent's disk; nobody does the work again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_agent_that_is_killed_with_its_work_done() {
    every("completed [completed]: done; 1 run", async |world: World| {
        let role = world.role("AGENT-MORTAL").await.kept_in(world.site.dir("agent"));
        let process = role.start_process().await;
        // Results do not arrive, by whatever call or frame they are sent.
        world.lose(|what, _| matches!(what, "result" | "results" | "task.result"));
        let task = world.submit("echo done").await;
        until(LONG, "a result is lost", async || (world.lost() > 0).then_some(())).await;
        process.kill().await;
        world.lose(|_, _| false);
        let process = role.start_process().await;
        let end = world.end_of(task).await;
        process.stop().await;
        format!("{end}; {} run", world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_both_at_once() {
    every("completed: through; 2 runs", async |mut world: World| {
        let role = world.role("AGENT-MORTAL").await.kept_in(world.site.dir("agent"));
        let process = role.start_process().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        process.kill().await;
        world.site.stop().await;
        world.site.come_back().await;
        let process = role.start_process().await;
        world.until_runs(2).await;
        world.stage.gate.open();
        world.site.until_final(task, LONG).await;
        process.stop().await;
        let end = world.told(task).await;
        let (_, given) = end.split_once("]: ").expect("it gave something");
        format!("{}: {given}; {} runs", TaskStatus::Completed, world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_agent_s_token_while_a_handler_works() {
    every("completed [completed]: through, then completed [completed]: next; epoch 1", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("gate").await;
        world.until_runs(1).await;
        let id = world.site.only_agent().agent.agent_id;
        world.site.operator().post(&format!("/api/v1/agents/{id}/rotate-token")).send().await.expect(200);
        until(LONG, "the agent has rotated", async || {
            world.site.only_agent().rotation_asked_at.is_none().then_some(())
        })
        .await;
        world.stage.gate.open();
        let end = world.end_of(task).await;
        let next = world.run("echo next").await;
        format!("{end}, then {next}; epoch {}", world.site.only_agent().epoch)
    })
    .await;
}
