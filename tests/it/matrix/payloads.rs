//! What tasks and results carry arrives as it was sent.

use serde_json::{Value, json};

use super::world::{World, online};
use super::{every, every_with, patient};

const MEGABYTE: usize = 1024 * 1024;

async fn output(world: &World, script: &str) -> Value {
    let task = world.submit(script).await;
    assert!(world.end_of(task).await.starts_with("completed [completed]"));
    world.site.task_json(task).await["result"]["output_data"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_result() {
    every("4194304 bytes", async |world: World| {
        let _agent = world.start_agent().await;
        let given = output(&world, &format!("swell {}", 4 * MEGABYTE)).await;
        let text = given["output"].as_str().expect("it is text");
        assert!(text.bytes().all(|byte| byte == b'x'));
        format!("{} bytes", text.len())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_beyond_the_limit() {
    every_with(
        patient,
        "failed [failed]: RESOURCE_EXHAUSTED; then completed [completed]: next",
        async |world: World| {
            let _agent = world.start_agent().await;
            let end = world.run(&format!("swell {}", 8 * MEGABYTE + 1)).await;
            let next = world.run("echo next").await;
            format!("{}; then {next}", end.split(',').next().unwrap_or_default())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_input() {
    every("{\"output\":500000}", async |world: World| {
        let _agent = world.start_agent().await;
        output(&world, &format!("length {}", "y".repeat(500_000))).await.to_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_stays_an_object() {
    every("{\"said\":\"hello\"}", async |world: World| {
        let _agent = world.start_agent().await;
        output(&world, "object hello").await.to_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_letter_and_what_is_none() {
    const SAID: &str = "Grüße, 世界! \u{1F980} \"quoted\" \\ \u{0}\u{7f}\u{2028} e\u{301}";
    every("as it was sent", async |world: World| {
        let _agent = world.start_agent().await;
        let given = output(&world, &format!("echo {SAID}")).await;
        assert_eq!(given, json!({"output": SAID}));
        "as it was sent".to_owned()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_refused() {
    every("input: must have at most 10 characters; then completed [completed]: next; 1 run", async |world: World| {
        let short = json!({"type": "string", "maxLength": 10});
        let role = world.role("AGENT-ONLY").await.with(move |agent| agent.task_schema("work", short.clone()));
        let agent = role.start().await;
        online(&agent).await;
        let long = json!({"task_type": "work", "input": "echo what is too long"});
        let problem = world.site.operator().try_submit(&long).await.problem(422, "VALIDATION_ERROR");
        let refusal = problem["details"][0]["message"].as_str().expect("a problem has words");
        format!("input: {refusal}; then {}; {} run", world.run("echo next").await, world.stage.runs())
    })
    .await;
}
