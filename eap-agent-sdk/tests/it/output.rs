//! What handlers emit while they work: in parts, in order, before the result.

use std::time::{Duration, Instant};

use eap_agent_sdk::types::ErrorCode;
use eap_agent_sdk::{AgentHandle, CancelReason, HandlerError, Task, TaskContext};
use serde_json::{Value, json};

use crate::fake::{Fake, Rule, State, lease};

const LIMIT: usize = 1 << 20;
const LARGEST: usize = 1 << 16;

/// Emits each line of its input, and gives the number of lines.
async fn recite(task: Task<String>, ctx: TaskContext) -> Result<usize, HandlerError> {
    for line in task.input.split_inclusive('\n') {
        ctx.emit(line).await;
    }
    Ok(task.input.lines().count())
}

fn poem() -> String {
    (0..500).map(|line| format!("line {line}, ärgerlich\n")).collect()
}

/// The reports with output, each number once.
fn parts(state: &State) -> Vec<Value> {
    let mut parts: Vec<Value> = Vec::new();
    for call in state.calls("/progress").filter(|call| call.body["output_delta"].is_string()) {
        match parts.iter().find(|part| part["seq"] == call.body["seq"]) {
            Some(part) => assert_eq!(*part, call.body, "a repeat is the same"),
            None => parts.push(call.body.clone()),
        }
    }
    parts
}

fn output(state: &State) -> String {
    parts(state).iter().filter_map(|part| part["output_delta"].as_str()).collect()
}

/// Where in the order of all calls the last report with output and the result stand.
fn last_part_and_result(state: &State) -> (usize, usize) {
    let last = state.seen.iter().rposition(|seen| seen.body["output_delta"].is_string());
    let result = state.seen.iter().position(|seen| seen.route == "/result");
    (last.expect("there was output"), result.expect("there was a result"))
}

async fn stop(agent: AgentHandle) {
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn what_is_emitted_arrives_in_order_in_few_reports_and_before_the_result() {
    let fake = Fake::new();
    fake.submit(1, "recite", &poem());
    let start = Instant::now();
    let agent = fake.agent().handle("recite", recite).build().unwrap().start();
    fake.until("a result", |state| state.result(1).cloned()).await;
    {
        let state = fake.state();
        assert_eq!(output(&state), poem());
        let most = 2 + start.elapsed().as_millis() / 200;
        assert!(parts(&state).len() as u128 <= most, "500 lines within a moment become few reports");
        let (last, result) = last_part_and_result(&state);
        assert!(last < result);
        let first = &parts(&state)[0];
        assert_eq!((&first["lease_id"], &first["attempt"]), (&json!(lease(1)), &json!(1)));
        assert!(first.get("progress").is_none() && first.get("message").is_none(), "nothing was said of progress");
    }
    stop(agent).await;
}

#[tokio::test]
async fn reports_with_output_follow_each_other_no_closer_than_five_a_second() {
    let fake = Fake::new();
    fake.submit(1, "tick", "");
    let (go, wait) = tokio::sync::watch::channel(false);
    let tick = move |_: Task<String>, ctx: TaskContext| {
        let wait = wait.clone();
        async move {
            while !*wait.borrow() {
                ctx.emit(".").await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }
    };
    let agent = fake.agent().handle("tick", tick).build().unwrap().start();
    fake.until_seen("/progress", 4).await;
    {
        let state = fake.state();
        let times: Vec<_> = state.calls("/progress").map(|call| call.at).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(200)), "{times:?}");
    }
    go.send(true).unwrap();
    stop(agent).await;
}

#[tokio::test]
async fn a_report_whose_answer_was_lost_is_sent_again_as_it_was() {
    let fake = Fake::new();
    fake.rule("/progress", [Rule::LoseAnswer, Rule::Unreachable, Rule::Refuse(ErrorCode::Unavailable)]);
    fake.submit(1, "recite", &poem());
    let agent = fake.agent().handle("recite", recite).build().unwrap().start();
    fake.until("a result", |state| state.result(1).cloned()).await;
    {
        let state = fake.state();
        assert_eq!(output(&state), poem());
        let seqs: Vec<_> = state.calls("/progress").map(|call| call.body["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs[..4], [1, 1, 1, 1], "nothing overtakes what has no answer");
        let (last, result) = last_part_and_result(&state);
        assert!(last < result);
    }
    stop(agent).await;
}

#[tokio::test]
async fn a_result_does_not_wait_for_ever_for_output_that_cannot_be_told() {
    let fake = Fake::new();
    fake.rule("/progress", (0..10_000).map(|_| Rule::Unreachable));
    fake.submit(1, "recite", &poem());
    let agent = fake.agent().handle("recite", recite).build().unwrap().start();
    fake.until_seen("/progress", 2).await;
    assert_eq!(fake.state().result(1), None, "it waits");
    fake.until("a result", |state| state.result(1).cloned()).await;
    let told = fake.state().count("/progress");
    stop(agent).await;
    assert_eq!(fake.state().count("/progress"), told, "what was left is given up");
}

#[tokio::test]
async fn an_agent_that_stops_waits_less_for_output_and_loses_no_result() {
    let fake = Fake::new();
    fake.rule("/progress", (0..10_000).map(|_| Rule::Unreachable));
    fake.submit(1, "recite", &poem());
    let agent = fake.agent().handle("recite", recite).build().unwrap().start();
    fake.until_seen("/progress", 1).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.unsent), (1, 0), "{report}");
}

#[tokio::test]
async fn an_attempt_emits_a_mebibyte_in_parts_of_64_kibibytes_and_not_more() {
    let fake = Fake::new();
    fake.submit(1, "flood", "");
    let flood = |_: Task<String>, ctx: TaskContext| async move {
        for _ in 0..3 {
            ctx.emit("ä".repeat(LIMIT / 4)).await;
        }
        Ok(())
    };
    let agent = fake.agent().handle("flood", flood).build().unwrap().start();
    fake.until("a result", |state| state.result(1).cloned()).await;
    let parts = parts(&fake.state());
    assert_eq!(output(&fake.state()), "ä".repeat(LIMIT / 2));
    assert!(parts.iter().all(|part| part["output_delta"].as_str().unwrap().len() <= LARGEST));
    stop(agent).await;
}

#[tokio::test]
async fn an_orchestrator_that_takes_no_more_output_is_told_the_progress_alone() {
    let fake = Fake::new();
    fake.rule("/progress", [Rule::Refuse(ErrorCode::PayloadTooLarge)]);
    fake.submit(1, "work", "");
    let (go, wait) = tokio::sync::watch::channel(false);
    let work = move |_: Task<String>, ctx: TaskContext| {
        let mut wait = wait.clone();
        async move {
            // Both in one turn, and so in one report.
            tokio::join!(ctx.emit("too much"), ctx.progress(0.5, "half way"));
            wait.wait_for(|go| *go).await?;
            ctx.emit("more").await;
            Ok(())
        }
    };
    let agent = fake.agent().handle("work", work).build().unwrap().start();
    fake.until("the progress alone", |state| {
        state
            .calls("/progress")
            .any(|call| call.body["message"] == "half way" && call.body.get("output_delta").is_none())
            .then_some(())
    })
    .await;
    go.send(true).unwrap();
    fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(output(&fake.state()), "too much", "once refused, no more is sent");
    stop(agent).await;
}

#[tokio::test]
async fn output_of_a_lost_lease_is_given_up_and_the_handler_told() {
    let fake = Fake::new();
    fake.rule("/progress", [Rule::Refuse(ErrorCode::LeaseLost)]);
    fake.submit(1, "work", "");
    let work = |_: Task<String>, ctx: TaskContext| async move {
        ctx.emit("one").await;
        ctx.cancelled().await;
        assert_eq!(ctx.cancel_reason(), Some(CancelReason::LeaseLost));
        ctx.emit("two").await;
        // A product may be the first one, or evidence.
        Ok("product")
    };
    let agent = fake.agent().handle("work", work).build().unwrap().start();
    fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(output(&fake.state()), "one");
    stop(agent).await;
}
