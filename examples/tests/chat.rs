//! The agent that asks a chat endpoint, before an endpoint of the test's own.

#[allow(dead_code, reason = "the example is a program, and its `main` is not called here")]
#[path = "../examples/agent_chat.rs"]
mod agent_chat;

use std::sync::Arc;
use std::time::Duration;

use agent_chat::Chat;
use eap_agent_sdk::testing::{TestRun, TestTask, Told};
use eap_agent_sdk::types::FailureCode;
use eap_agent_sdk::{Agent, CancelReason};
use eap_client::ReqwestCall;
use eap_orchestrator::testing::TestOrchestrator;
use eap_types::{SubmitTask, TaskStatus};
use serde_json::{Value, json};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

fn chat(endpoint: &MockServer, key: Option<&str>) -> Chat {
    let http = Arc::new(ReqwestCall::new().expect("an HTTP client"));
    Chat { http, url: format!("{}/v1/", endpoint.uri()), key: key.map(str::to_owned), model: "small".to_owned() }
}

fn completion(text: &str) -> ResponseTemplate {
    let message = json!({"role": "assistant", "content": text});
    ResponseTemplate::new(200).set_body_json(json!({
        "id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }))
}

/// An endpoint that answers so many times with the first, then with a completion.
async fn endpoint(first: ResponseTemplate, times: u64) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(first).up_to_n_times(times).mount(&server).await;
    Mock::given(method("POST")).respond_with(completion("done")).mount(&server).await;
    server
}

async fn run(endpoint: &MockServer) -> TestRun {
    TestTask::new("chat").input("Say hello.").run_with(chat(endpoint, None)).await
}

async fn asked(endpoint: &MockServer) -> usize {
    endpoint.received_requests().await.expect("requests are recorded").len()
}

#[tokio::test]
async fn the_prompt_goes_to_the_model_and_its_words_and_tokens_come_back() {
    let endpoint = MockServer::start().await;
    let body = json!({"model": "small", "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."},
    ]});
    Mock::given(path("/v1/chat/completions"))
        .and(header("authorization", "Bearer a-key"))
        .and(body_json(body))
        .respond_with(completion("Hello."))
        .mount(&endpoint)
        .await;
    let task = TestTask::new("chat").input("Say hello.").context(json!({"system": "Be brief."}));
    let run = task.run_with(chat(&endpoint, Some("a-key"))).await;
    assert_eq!((run.product::<String>().as_str(), run.result().tokens_used), ("Hello.", Some(12.0)));
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again_when_it_says() {
    for status in [429, 500, 503] {
        let endpoint = endpoint(ResponseTemplate::new(status).insert_header("retry-after", "0"), 2).await;
        assert_eq!(
            (run(&endpoint).await.product::<String>().as_str(), asked(&endpoint).await),
            ("done", 3),
            "{status}"
        );
    }
}

#[tokio::test]
async fn one_that_is_busy_for_long_or_for_ever_is_left_to_another_attempt() {
    let later = endpoint(ResponseTemplate::new(429).insert_header("retry-after", "3600"), 1).await;
    let always = endpoint(ResponseTemplate::new(503).insert_header("retry-after", "0"), 100).await;
    for (endpoint, times) in [(later, 1), (always, 4)] {
        let run = run(&endpoint).await;
        assert_eq!((run.error().is_retryable(), asked(&endpoint).await), (true, times));
        assert_eq!(run.result().error_code, Some(FailureCode::ResourceExhausted));
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_says_why() {
    for status in [400, 401, 404, 422] {
        let refusal = ResponseTemplate::new(status).set_body_json(json!({"error": {"message": "no such model"}}));
        let endpoint = endpoint(refusal, 1).await;
        let run = run(&endpoint).await;
        assert_eq!((run.error().is_retryable(), asked(&endpoint).await), (false, 1));
        assert!(
            run.error().message().contains(&status.to_string()) && run.error().message().ends_with("no such model")
        );
    }
}

#[tokio::test]
async fn a_cancelled_task_stops_waiting_for_the_model() {
    let endpoint = endpoint(completion("too late").set_delay(Duration::from_secs(3600)), 1).await;
    let reason = CancelReason::Requested { reason: None };
    let task = TestTask::new("chat").input("").cancel_after(Duration::from_millis(100), reason);
    assert_eq!(task.run_with(chat(&endpoint, None)).await.told, Told::Nothing);
}

#[tokio::test]
async fn as_an_agent_it_does_the_tasks_of_an_orchestrator() {
    let endpoint = endpoint(completion("Hello."), 1).await;
    let server = TestOrchestrator::start().await;
    let agent = Agent::builder(server.url(), "AGENT-CHAT-01").handle_with("chat", chat(&endpoint, None));
    let agent = agent.build().expect("a valid agent").start();
    let id = server.submit(SubmitTask::text("chat".parse().expect("a task type"), "Say hello.")).await;
    let done = server.finished(id).await;
    assert_eq!(done.status, TaskStatus::Completed);
    let output: Value = done.result.expect("a completed task has a result").output_data.to_value();
    assert_eq!(output, json!({"output": "Hello."}));
    agent.drain();
    agent.wait().await.expect("an ordinary end");
}
