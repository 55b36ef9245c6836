//! Who gets which task when.

use std::time::Duration;

use eap_orchestrator::{Clock as _, SystemClock};
use eap_types::{Labels, Priority, Timestamp};
use serde_json::json;

use super::every;
use super::world::{LONG, World, online};
use crate::sdk_harness::until;

fn in_a_while(wait: Duration) -> Timestamp {
    SystemClock::new().now() + wait
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_one_place_works_on_one_at_a_time() {
    every("5 completed, 1 at once", async |world: World| {
        let _agent = world.role("AGENT-NARROW").await.with(|agent| agent.max_concurrent_tasks(1)).start().await;
        let mut tasks = Vec::new();
        for number in 0..5 {
            tasks.push(world.submit(&format!("echo {number}")).await);
        }
        for (number, task) in tasks.iter().enumerate() {
            assert_eq!(world.end_of(*task).await, format!("completed [completed]: {number}"));
        }
        format!("{} completed, {} at once", tasks.len(), world.stage.most_at_once())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_places_works_on_as_many_at_once() {
    every("3 at once, 1 waits", async |world: World| {
        let _agent = world.role("AGENT-WIDE").await.with(|agent| agent.max_concurrent_tasks(3)).start().await;
        for _ in 0..4 {
            world.submit("deaf").await;
        }
        world.until_at_the_gate(3).await;
        let statuses = world.site.operator().list("status=queued").await;
        let waiting = statuses["tasks"].as_array().expect("it is a list").len();
        let most = world.stage.most_at_once();
        world.stage.gate.open();
        format!("{most} at once, {waiting} waits")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_ones_come_first_and_equals_in_order_of_arrival() {
    every("echo urgent, echo one, echo two, echo idle", async |world: World| {
        let priority =
            |number: u8| move |task: eap_types::SubmitTask| task.with_priority(Priority::new(number).expect("0 to 4"));
        let mut tasks = Vec::new();
        for (script, number) in [("echo idle", 4), ("echo one", 2), ("echo two", 2), ("echo urgent", 0)] {
            tasks.push(world.submit_with(script, priority(number)).await);
        }
        let _agent = world.role("AGENT-NARROW").await.with(|agent| agent.max_concurrent_tasks(1)).start().await;
        for task in tasks {
            world.end_of(task).await;
        }
        world.stage.begun().join(", ")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_share_and_nothing_is_done_twice() {
    every("30 completed, 30 runs", async |world: World| {
        let one = world.role("AGENT-ONE").await.start().await;
        let two = world.role("AGENT-TWO").await.start().await;
        online(&one).await;
        online(&two).await;
        let mut tasks = Vec::new();
        for number in 0..30 {
            tasks.push(world.submit(&format!("echo {number}")).await);
        }
        for (number, task) in tasks.iter().enumerate() {
            assert_eq!(world.end_of(*task).await, format!("completed [completed]: {number}"));
        }
        format!("{} completed, {} runs", tasks.len(), world.stage.runs())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_decide_who_may() {
    every("queued [], completed [completed]: here", async |world: World| {
        let labels =
            |region: &str| -> Labels { serde_json::from_value(json!({"region": region})).expect("they are labels") };
        let _agent = world.role("AGENT-EU").await.with(|agent| agent.label("region", "eu")).start().await;
        let elsewhere = world.submit_with("echo there", |task| task.with_labels(labels("us"))).await;
        let here = world.submit_with("echo here", |task| task.with_labels(labels("eu"))).await;
        let end = world.end_of(here).await;
        format!("{}, {end}", world.told(elsewhere).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_for_one_agent_goes_to_no_other() {
    every("completed [completed]: mine, by the one it is for", async |world: World| {
        let one = world.role("AGENT-ONE").await.start().await;
        let two = world.role("AGENT-TWO").await.start().await;
        online(&one).await;
        online(&two).await;
        let id = two.agent_id().expect("it is registered");
        let wanted = id.clone();
        let task = world.submit_with("echo mine", move |task| task.with_agent_id(wanted)).await;
        let end = world.end_of(task).await;
        assert_eq!(world.site.task(task).await.agent_id, Some(id));
        format!("{end}, by the one it is for")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_for_later_waits_for_its_time() {
    every("completed [completed]: later, not before its time", async |world: World| {
        let _agent = world.start_agent().await;
        let at = in_a_while(Duration::from_secs(1));
        let task = world.submit_with("echo later", |task| task.with_run_at(at)).await;
        let end = world.end_of(task).await;
        let begun = world.site.history(task).await.attempts[0].started_at;
        assert!(begun >= at, "{begun} is before {at}");
        format!("{end}, not before its time")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_nobody_took_in_time_is_over() {
    every("dead []; 0 runs", async |world: World| {
        let soon = in_a_while(Duration::from_millis(300));
        let task = world.submit_with("echo never", |task| task.with_expires_at(soon)).await;
        let end = world.end_of(task).await;
        let _agent = world.start_agent().await;
        assert_eq!(world.run("echo next").await, "completed [completed]: next");
        format!("{end}; {} runs", world.stage.runs() - 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_nobody_can_do_says_so() {
    every("queued [], no capable agent", async |world: World| {
        let _agent = world.start_agent().await;
        let task = world.site.submit("paint", "a wall").await;
        until(LONG, "it is said", async || {
            (world.site.task_json(task).await["no_capable_agent"] == true).then_some(())
        })
        .await;
        format!("{}, no capable agent", world.told(task).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_done_whole() {
    every("50 completed, 50 runs", async |world: World| {
        let _agent = world.role("AGENT-WIDE").await.with(|agent| agent.max_concurrent_tasks(20)).start().await;
        let tasks: Vec<_> =
            (0..50).map(|number| json!({"task_type": "work", "input": format!("echo {number}")})).collect();
        let answer = world.site.operator().post("/api/v1/tasks/batch").json(&json!({"tasks": tasks})).send().await;
        let submitted = answer.expect(200);
        for (number, task) in submitted["tasks"].as_array().expect("it is a list").iter().enumerate() {
            let id = task["task_id"].as_str().expect("it was taken").parse().expect("it is an id");
            assert_eq!(world.end_of(id).await, format!("completed [completed]: {number}"));
        }
        format!("50 completed, {} runs", world.stage.runs())
    })
    .await;
}
