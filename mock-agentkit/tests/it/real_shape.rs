//! The real shape: the platform gives the id, and forwards work to where the agent can be called.

use serde_json::{Value, json};

use crate::http::{call, send};
use crate::receiver::{Receiver, SOON, agent, message};

/// An agent as it registers, to be called at `endpoint`.
fn coming(name: &str, endpoint: &str) -> Value {
    json!({
        "agentName": name, "version": "1.2.3", "capabilities": ["summarize"], "contactEndpoint": endpoint,
        "metadata": { "team": "x" },
    })
}

async fn register(url: &str, agent: &Value) -> String {
    let (status, body) = call("POST", &format!("{url}/v1/agents/register"), Some(agent)).await;
    assert_eq!(status, 201, "{body}");
    body["data"]["agentId"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn an_agent_gets_an_id_and_is_told_of_under_it() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let body = coming("Summarizer", "http://127.0.0.1:9/run");
    let (status, answer) = call("POST", &format!("{}/v1/agents/register", mock.url()), Some(&body)).await;
    let id = answer["data"]["agentId"].clone();
    assert_eq!(
        (status, answer),
        (
            201,
            json!({
                "status": "success", "message": "Agent 'Summarizer' registered successfully.",
                "data": { "agentId": id }, "error_code": null,
            })
        )
    );
    let told = receiver.calls()[0].json();
    assert_eq!((&told["event_type"], &told["agent_details"]["agentId"]), (&json!("REGISTER"), &id));
    assert_eq!(told["agent_details"]["agentName"], "Summarizer");
    mock.stop().await;
}

#[tokio::test]
async fn a_name_is_given_once() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let path = format!("{}/v1/agents/register", mock.url());
    register(&mock.url(), &coming("Summarizer", "http://127.0.0.1:9")).await;
    let again = call("POST", &path, Some(&coming("Summarizer", "http://127.0.0.1:10"))).await;
    assert_eq!(
        again,
        (
            409,
            json!({
                "status": "error", "message": "Agent with name 'Summarizer' is already registered.",
                "data": null, "error_code": "DUPLICATE_AGENT",
            })
        )
    );
    assert_eq!((receiver.calls().len(), mock.agents().len()), (1, 1));
    let (status, body) = call("POST", &path, Some(&json!({}))).await;
    assert_eq!((status, body["detail"].as_array().unwrap().len()), (422, 4), "{body}");
    mock.stop().await;
}

#[tokio::test]
async fn work_is_scheduled_and_forwarded_byte_for_byte() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let mock = receiver.mock().start().await.unwrap();
    let id = register(&mock.url(), &coming("Summarizer", &format!("{}/hook", elsewhere.url))).await;
    elsewhere.answers(&[503, 200]);
    let body = format!("{} \n", serde_json::to_string_pretty(&message("task-1")).unwrap());
    let (status, answer) = send("POST", &format!("{}/v1/agents/{id}/run", mock.url()), body.clone()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let text = format!("Message accepted and scheduled for dispatch to agent {id}.");
    assert_eq!(
        (status, answer),
        (
            202,
            json!({
                "status": "success", "message": text,
                "data": { "agentId": id, "dispatch_status": "scheduled" }, "error_code": null,
            })
        )
    );
    let calls = elsewhere.wait_for(2).await;
    for call in &calls {
        assert_eq!((call.path.as_str(), &call.body[..]), ("/hook", body.as_bytes()));
        assert!(call.header("authorization").is_none(), "the key is the orchestrator's");
    }
    let sent = mock.sent_when(SOON, |sent| sent.iter().all(|call| call.status() == Some(200))).await.unwrap();
    assert_eq!((sent.len(), sent[1].attempts.len()), (2, 2));
    assert_eq!(receiver.calls().len(), 1, "the agent reports for itself");
    mock.stop().await;
}

#[tokio::test]
async fn the_mock_plays_a_real_agent_that_is_called_at_it() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().names_tasks().start().await.unwrap();
    let id = register(&mock.url(), &coming("summarizer", &mock.simulated_endpoint("summarizer"))).await;
    call("POST", &format!("{}/v1/agents/{id}/run", mock.url()), Some(&message("task-1"))).await;
    let calls = receiver.wait_for(3).await;
    assert_eq!((calls[1].state(), calls[2].state()), ("BUSY".into(), "IDLE".into()));
    assert_eq!(calls[2].json()["details"], json!({ "task_id": "task-1", "last_task_result": "simulated_success" }));
    assert_eq!(calls[1].path, format!("/v1/opscore/agent/{id}/state"));
    let (status, _) = call("POST", &mock.simulated_endpoint("nobody"), Some(&message("t"))).await;
    assert_eq!(status, 404);
    mock.stop().await;
}

#[tokio::test]
async fn both_shapes_are_in_one_list_and_leave_alike() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    let id = register(&mock.url(), &coming("Summarizer", "http://127.0.0.1:9")).await;
    let (_, listed) = call("GET", &format!("{}/v1/agents", mock.url()), None).await;
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|agent| agent["agentId"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids.contains(&"a1") && ids.contains(&id.as_str()), "{listed}");
    let (status, _) = call("DELETE", &format!("{}/v1/agents/{id}", mock.url()), None).await;
    assert_eq!((status, receiver.calls()[2].event()), (200, ("DEREGISTER".into(), id)));
    register(&mock.url(), &coming("Summarizer", "http://127.0.0.1:9")).await;
    mock.stop().await;
}
