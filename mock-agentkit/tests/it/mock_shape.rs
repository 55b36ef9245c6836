//! The mock shape: the platform plays the agents itself.

use serde_json::{Value, json};

use crate::http::{call, send};
use crate::receiver::{Receiver, agent, message};

fn is_problem_at(body: &Value, loc: &Value) -> bool {
    let problems = body["detail"].as_array().expect("a list of problems");
    problems.iter().any(|problem| problem["loc"] == *loc && problem["type"].is_string() && problem["msg"].is_string())
}

#[tokio::test]
async fn an_agent_is_registered_under_the_id_that_it_comes_with() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let agents = format!("{}/v1/agents", mock.url());
    let registered = json!({ "status": "success", "message": "Agent a1 registered (webhook notification attempted)" });
    assert_eq!(call("POST", &agents, Some(&agent("a1"))).await, (200, registered.clone()));
    assert_eq!(receiver.calls().len(), 1, "the answer comes after the webhook");
    assert_eq!(call("POST", &agents, Some(&agent("a1"))).await, (200, registered));
    assert_eq!(receiver.calls().len(), 2, "again is told again");
    call("POST", &agents, Some(&agent("a0"))).await;
    let listed = json!({ "status": "success", "message": "2 agents registered", "data": [agent("a0"), agent("a1")] });
    assert_eq!(call("GET", &agents, None).await, (200, listed));
    assert_eq!(mock.stop().await, 0);
}

#[tokio::test]
async fn a_task_is_reported_busy_and_idle_before_run_is_answered() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    receiver.answers(&[200, 202, 202]);
    let answer = call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("task-1"))).await;
    let text = "Mock AgentKit: Task received by agent a1 (state updates attempted)";
    assert_eq!(answer, (200, json!({ "status": "success", "message": text })));
    // All of it is there already: nothing is waited for.
    let calls = receiver.calls();
    let [_, busy, idle] = &calls[..] else { panic!("{calls:?}") };
    for report in [busy, idle] {
        assert_eq!((report.method.as_str(), report.path.as_str()), ("POST", "/v1/opscore/agent/a1/state"));
        assert_eq!(report.header("authorization"), Some("Bearer operator-key"));
        assert_eq!(report.header("content-type"), Some("application/json"));
        assert!(report.header("x-agentkit-signature").is_none());
        let mut members: Vec<String> = report.json().as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(
            (members.join(" ").as_str(), &report.json()["agentId"]),
            ("agentId details state timestamp", &json!("a1"))
        );
    }
    assert_eq!((busy.state(), &busy.json()["details"]), ("BUSY".into(), &json!({ "current_task": "task-1" })));
    let success = json!({ "last_task_result": "simulated_success" });
    assert_eq!((idle.state(), &idle.json()["details"]), ("IDLE".into(), &success));
    let time = |report: &Value| report["timestamp"].as_str().unwrap().parse::<eap_types::Timestamp>().unwrap();
    assert!(time(&busy.json()) < time(&idle.json()));
    mock.stop().await;
}

#[tokio::test]
async fn an_agent_that_leaves_is_told_of_and_gone() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let one = format!("{}/v1/agents/a1", mock.url());
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    let gone = json!({ "status": "success", "message": "Agent a1 deregistered (webhook notification attempted)" });
    assert_eq!(call("DELETE", &one, None).await, (200, gone));
    assert_eq!(receiver.calls()[1].event(), ("DEREGISTER".into(), "a1".into()));
    let unknown = json!({ "status": "error", "message": "Agent a1 not found", "error_code": "AGENT_NOT_FOUND" });
    assert_eq!(call("DELETE", &one, None).await, (404, unknown.clone()));
    assert_eq!(call("POST", &format!("{one}/run"), Some(&message("t"))).await, (404, unknown));
    assert_eq!(receiver.calls().len(), 2, "nobody is told of who was not there");
    mock.stop().await;
}

#[tokio::test]
async fn it_says_that_it_is_there() {
    let mock = Receiver::start().await.mock().start().await.unwrap();
    assert_eq!(call("GET", &format!("{}/health", mock.url()), None).await, (200, json!({ "status": "ok" })));
    let running = json!({ "status": "success", "message": "mock-agentkit is running" });
    assert_eq!(call("GET", &format!("{}/", mock.url()), None).await, (200, running));
    assert_eq!(call("GET", &format!("{}/v2", mock.url()), None).await, (404, json!({ "detail": "Not Found" })));
    let answer = call("PATCH", &format!("{}/v1/agents", mock.url()), None).await;
    assert_eq!(answer, (405, json!({ "detail": "Method Not Allowed" })));
    mock.stop().await;
}

#[tokio::test]
async fn a_wrong_body_is_answered_with_all_its_problems_and_does_nothing() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let agents = format!("{}/v1/agents", mock.url());
    let (status, body) = call("POST", &agents, Some(&json!({ "agentName": 7 }))).await;
    assert_eq!(status, 422);
    for name in ["agentId", "agentName", "version", "capabilities", "contactEndpoint"] {
        assert!(is_problem_at(&body, &json!(["body", name])), "{name}: {body}");
    }
    let (status, text) = send("POST", &agents, "{".to_owned()).await;
    assert!(status == 422 && text.contains("json_invalid"), "{status} {text}");
    call("POST", &agents, Some(&agent("a1"))).await;
    let (status, body) = call("POST", &format!("{agents}/a1/run"), Some(&json!({ "payload": [] }))).await;
    assert_eq!(status, 422);
    for name in ["senderId", "messageType", "payload"] {
        assert!(is_problem_at(&body, &json!(["body", name])), "{name}: {body}");
    }
    assert_eq!(receiver.calls().len(), 1, "the one that was right");
    mock.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let mock = Receiver::start().await.mock().start().await.unwrap();
    let (status, _) = send("POST", &format!("{}/v1/agents", mock.url()), " ".repeat(3 * 1024 * 1024)).await;
    assert_eq!(status, 413);
    mock.stop().await;
}

#[tokio::test]
async fn without_an_orchestrator_the_platform_works_for_itself() {
    let mock = mock_agentkit::MockAgentKit::builder().works_for(std::time::Duration::ZERO).start().await.unwrap();
    let (status, _) = call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    assert_eq!(status, 200);
    let (status, _) = call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("t"))).await;
    assert_eq!((status, mock.sent().len(), mock.received().len()), (200, 0, 2));
    mock.stop().await;
}
