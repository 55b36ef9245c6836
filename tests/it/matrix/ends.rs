//! How an attempt ends by what its handler does.

use std::time::Duration;

use eap_types::TaskStatus;

use super::world::{LONG, World};
use super::{every, every_with, hasty};
use crate::sdk_harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn normal() {
    every("completed [completed]: hello; 1 run", async |world: World| {
        let _agent = world.start_agent().await;
        format!("{}; {} run", world.run("echo hello").await, world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slower_than_a_lease() {
    every_with(hasty, "completed [completed]: slept; 1 run", async |world: World| {
        let _agent = world.start_agent().await;
        format!("{}; {} run", world.run("sleep 6000").await, world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_once() {
    every("completed [failed, completed]: calm; 2 runs", async |world: World| {
        let _agent = world.start_agent().await;
        format!("{}; {} runs", world.run("panic 2").await, world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_always() {
    every("failed [failed, failed, failed]: HANDLER_ERROR, \"handler panicked\"", async |world: World| {
        let _agent = world.start_agent().await;
        world.run("panic 9").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_until_it_works() {
    every("completed [failed, failed, completed]: at last", async |world: World| {
        let _agent = world.start_agent().await;
        world.run("retry 3").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_in_vain() {
    every("failed [failed, failed, failed]: HANDLER_ERROR, \"not yet\"", async |world: World| {
        let _agent = world.start_agent().await;
        world.run("retry 9").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fatal() {
    every("failed [failed]: HANDLER_ERROR, \"no use\"; 1 run", async |world: World| {
        let _agent = world.start_agent().await;
        format!("{}; {} run", world.run("fatal").await, world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_input() {
    every("failed [failed]: INVALID_INPUT, \"wrong for everybody\"", async |world: World| {
        let _agent = world.start_agent().await;
        world.run("invalid").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected() {
    every("queued [released]; 1 run", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("reject").await;
        let released = async || (world.site.outcomes(task).await == ["released"]).then_some(());
        until(LONG, "it is handed back", released).await;
        // The only agent is not offered it again; the next task shows that it would have been by now.
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        format!("{}; {} run", world.told(task).await, world.stage.runs() - 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_without_a_handler() {
    every("queued [released]; 0 runs", async |world: World| {
        // Two handlers, so that none is the single one for whatever comes.
        let role = world.role("AGENT-ONLY").await.with(|agent| {
            let agent = agent.capability("paint");
            agent.handle("other", |task: eap_agent_sdk::Task<String>, _| async move { Ok(task.input) })
        });
        let _agent = role.start().await;
        let task = world.site.submit("paint", "a wall").await;
        let released = async || (world.site.outcomes(task).await == ["released"]).then_some(());
        until(LONG, "it is handed back", released).await;
        format!("{}; {} runs", world.told(task).await, world.stage.runs())
    })
    .await;
}

/// Three seconds, after which the handler is told, and the agent goes on with other tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeout() {
    every("failed [failed]: TIMEOUT; told Some(Timeout)", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit_with("gate", |task| task.with_timeout_seconds(3).with_max_attempts(1)).await;
        let end = world.end_of(task).await;
        until(LONG, "the handler is told", async || (world.stage.stops().len() == 1).then_some(())).await;
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        let told = world.stage.stops().join(", ");
        format!("{}; told {told}", end.split(',').next().expect("a text has a start"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeout_of_a_handler_that_does_not_listen() {
    every("failed [failed]: TIMEOUT", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit_with("deaf", |task| task.with_timeout_seconds(2).with_max_attempts(1)).await;
        let end = world.end_of(task).await;
        world.stage.gate.open();
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        assert!(world.told(task).await == end, "nothing changes what is final");
        end.split(',').next().expect("a text has a start").to_owned()
    })
    .await;
}

/// Two seconds without a word, though its lease is renewed all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inactivity() {
    let expected = "failed [failed]: TIMEOUT, \"inactivity: the attempt told nothing for 2 s\"; told Some(Inactivity)";
    every(expected, async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit_with("gate", |task| task.with_inactivity_seconds(2).with_max_attempts(1)).await;
        let end = world.end_of(task).await;
        until(LONG, "the handler is told", async || (world.stage.stops().len() == 1).then_some(())).await;
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        assert!(world.told(task).await == end, "nothing changes what is final");
        format!("{end}; told {}", world.stage.stops().join(", "))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inactivity_of_a_handler_that_goes_on_talking() {
    every("completed [completed]: ticked", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit_with("tick 12", |task| task.with_inactivity_seconds(2).with_max_attempts(1)).await;
        world.end_of(task).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_shown() {
    every("leased at 0.5, half way; completed [completed]: reported", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.submit("progress").await;
        // A heartbeat may have told of it first, without its words.
        let shown = until(LONG, "its progress is shown", async || {
            let task = world.site.task_json(task).await;
            task["progress"]["message"].is_string().then_some(task)
        })
        .await;
        let progress = &shown["progress"];
        world.stage.gate.open();
        let end = world.end_of(task).await;
        let words = progress["message"].as_str().expect("it has a message");
        format!("{} at {}, {words}; {end}", TaskStatus::Leased, progress["progress"])
    })
    .await;
}

/// A task that dies with each agent that takes it ends as dead, and stops killing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_kills_its_agents() {
    fn impatient(config: &mut eap_orchestrator::Config) {
        hasty(config);
        config.timing.lease = Duration::from_secs(1);
        config.tasks.max_expiries = 2;
    }
    every_with(impatient, "dead [expired, expired]; 2 runs", async |world: World| {
        let role = world.role("AGENT-MORTAL").await.kept_in(world.site.dir("agent"));
        let task = world.submit("deaf").await;
        for run in 1..=2 {
            let process = role.start_process().await;
            world.until_runs(run).await;
            process.kill().await;
        }
        format!("{}; {} runs", world.end_of(task).await, world.stage.runs())
    })
    .await;
}
