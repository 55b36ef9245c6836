//! What becomes of a task whose handler fails, each way it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eap_agent_sdk::{HandlerError, Task, TaskContext};
use eap_orchestrator::Config;
use eap_types::{SubmitTask, TaskStatus};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sdk_harness::{Fate, Network, Passing, Site, until};

const LONG: Duration = Duration::from_secs(5);

/// Failures wait a blink instead of seconds.
fn quick_retries(config: &mut Config) {
    config.tasks.backoff_base = Duration::from_millis(10);
    config.tasks.backoff_cap = Duration::from_millis(20);
    // Agents that fail on purpose are soon tried again.
    config.breaker.cooldown = Duration::from_millis(10);
    config.breaker.max_cooldown = Duration::from_millis(20);
}

/// The members of a task's result that tell why it failed.
fn told(task: &Value) -> (&Value, &Value, &Value) {
    let result = &task["result"];
    (&task["status"], &result["error_code"], &result["error_message"])
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_task_and_the_agent_goes_on() {
    let site = Site::start_with(quick_retries).await;
    let work = |task: Task<String>, _: TaskContext| async move {
        assert!(task.input != "always", "a canary that is nobody's business");
        assert!(task.input != "once" || task.attempt > 1, "a canary that is nobody's business");
        Ok(task.input)
    };
    let agent = site.agent("AGENT-PANIC").max_concurrent_tasks(1).handle("work", work).build().unwrap().start();

    let once = SubmitTask::text("work".parse().unwrap(), "always").with_max_attempts(1);
    let failed = site.submit_task(once).await;
    site.until_final(failed, LONG).await;
    let task = site.task_json(failed).await;
    assert_eq!(told(&task), (&json!("failed"), &json!("HANDLER_ERROR"), &json!("handler panicked")));
    assert!(!task.to_string().contains("canary"));

    // Its one slot is free again, and a panic may be tried again.
    let next = site.submit("work", "calm").await;
    assert_eq!(site.until_final(next, LONG).await.status, TaskStatus::Completed);
    let again = site.submit("work", "once").await;
    assert_eq!(site.until_final(again, LONG).await.status, TaskStatus::Completed);
    assert_eq!(site.outcomes(again).await, ["failed", "completed"]);
    assert_eq!(site.only_agent().epoch, 1);
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.failed), (2, 2), "{report}");
    println!(
        "acceptance 4, panic: task failed with HANDLER_ERROR, \"handler panicked\"; the same agent completed the next 2"
    );
}

#[tokio::test]
async fn input_that_is_not_what_the_handler_takes_fails_for_good() {
    #[derive(Deserialize)]
    struct Page {
        number: u32,
    }
    let site = Site::start_with(quick_retries).await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let turn = move |task: Task<Page>, _: TaskContext| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(task.input.number + 1) }
    };
    let _agent = site.agent("AGENT-TYPED").handle("turn", turn).build().unwrap().start();

    let bad = site.submit("turn", r#"{"number": "three"}"#).await;
    let worse = site.submit("turn", "no JSON at all").await;
    let task = SubmitTask::json("turn".parse().unwrap(), &json!({"number": 3})).unwrap();
    let good = site.submit_task(task).await;
    for task in [bad, worse] {
        site.until_final(task, LONG).await;
        let shown = site.task_json(task).await;
        assert_eq!((&shown["status"], told(&shown).1), (&json!("failed"), &json!("INVALID_INPUT")));
        assert_eq!(site.outcomes(task).await, ["failed"], "nobody tries it again");
    }
    site.until_final(good, LONG).await;
    assert_eq!(site.task_json(good).await["result"]["output_data"], json!({"output": 4}));
    assert_eq!(runs.load(Ordering::Relaxed), 1, "the handler never saw the bad ones");
}

#[tokio::test]
async fn retry_is_tried_again_and_fatal_is_not() {
    let site = Site::start_with(quick_retries).await;
    let work = |task: Task<String>, _: TaskContext| async move {
        match task.input.as_str() {
            "fatal" => Err(HandlerError::fatal("no use").with_output(json!({"seen": "this far"}))),
            "retry" if task.attempt < 3 => Err(HandlerError::retry("not yet")),
            "hopeless" => Err(std::io::Error::other("broken pipe"))?,
            _ => Ok(task.attempt),
        }
    };
    let _agent = site.agent("AGENT-RETRY").handle("work", work).build().unwrap().start();
    let [retry, fatal, hopeless] =
        [site.submit("work", "retry").await, site.submit("work", "fatal").await, site.submit("work", "hopeless").await];

    site.until_final(retry, LONG).await;
    assert_eq!(site.outcomes(retry).await, ["failed", "failed", "completed"]);
    assert_eq!(site.task_json(retry).await["result"]["output_data"], json!({"output": 3}));

    site.until_final(fatal, LONG).await;
    assert_eq!(site.outcomes(fatal).await, ["failed"]);
    let task = site.task_json(fatal).await;
    assert_eq!(told(&task), (&json!("failed"), &json!("HANDLER_ERROR"), &json!("no use")));
    assert_eq!(task["result"]["output_data"], json!({"seen": "this far"}));

    site.until_final(hopeless, LONG).await;
    assert_eq!(site.outcomes(hopeless).await, ["failed", "failed", "failed"]);
    let task = site.task_json(hopeless).await;
    assert_eq!(told(&task), (&json!("failed"), &json!("HANDLER_ERROR"), &json!("broken pipe")));
}

#[tokio::test]
async fn a_rejected_task_goes_to_another_agent() {
    let site = Site::start_with(quick_retries).await;
    let reject = |_: Task<String>, _: TaskContext| async { Err::<String, _>(HandlerError::reject("not me")) };
    let accept = |task: Task<String>, _: TaskContext| async move { Ok(task.input) };
    let picky = site.agent("AGENT-PICKY").handle("work", reject).build().unwrap().start();
    let task = site.submit("work", "anything").await;
    until(LONG, "it was rejected", async || (site.outcomes(task).await == ["released"]).then_some(())).await;
    let willing = site.agent("AGENT-WILLING").handle("work", accept).build().unwrap().start();

    let done = site.until_final(task, LONG).await;
    assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 2));
    assert_eq!(
        (done.agent_id, site.outcomes(task).await),
        (willing.agent_id(), vec!["released".into(), "completed".into()])
    );
    assert_eq!(site.agents().len(), 2);
    drop(picky);
}

/// The limit that the server announces when an agent registers.
#[tokio::test]
async fn a_result_beyond_the_announced_limit_fails_its_task_with_resource_exhausted() {
    let site = Site::start().await;
    let swell = |task: Task<usize>, _: TaskContext| async move { Ok("x".repeat(task.input)) };
    let _agent = site.agent("AGENT-LARGE").handle("swell", swell).build().unwrap().start();
    too_large_and_then_small(&site, 8 * 1024 * 1024 + 1).await;
}

#[tokio::test]
async fn a_result_that_is_answered_413_fails_its_task_with_resource_exhausted() {
    const LIMIT: usize = 16 * 1024;
    let site = Site::start_with(|config| config.capacity.result_bytes = LIMIT).await;
    let refusals = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&refusals);
    // An agent that was not told of the limit meets it.
    let network = Network::new(move |path, passing| {
        if let Passing::Answer(answer) = passing {
            counted.fetch_add(u32::from(answer.status() == 413), Ordering::Relaxed);
            if path.ends_with("/register") {
                let mut body: Value = serde_json::from_slice(answer.body()).expect("a registration is JSON");
                body.as_object_mut().expect("it is an object").remove("limits");
                *answer.body_mut() = Bytes::from(body.to_string());
            }
        }
        Fate::Arrives
    });
    let swell = |task: Task<usize>, _: TaskContext| async move { Ok("x".repeat(task.input)) };
    let _agent = site.agent("AGENT-LARGER").http(network).handle("swell", swell).build().unwrap().start();
    too_large_and_then_small(&site, LIMIT + 1).await;
    assert_eq!(refusals.load(Ordering::Relaxed), 1, "what is too large is sent once");
}

async fn too_large_and_then_small(site: &Site, size: usize) {
    let large = site.submit("swell", &size.to_string()).await;
    let failed = site.until_final(large, LONG).await;
    assert_eq!((failed.status, failed.attempt), (TaskStatus::Failed, 1));
    let task = site.task_json(large).await;
    assert_eq!((told(&task).1, &task["result"]["retryable"]), (&json!("RESOURCE_EXHAUSTED"), &json!(false)));
    assert_eq!(site.outcomes(large).await, ["failed"], "nobody tries it again");
    let small = site.submit("swell", "3").await;
    site.until_final(small, LONG).await;
    assert_eq!(site.task_json(small).await["result"]["output_data"], json!({"output": "xxx"}));
}
