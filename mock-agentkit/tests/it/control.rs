//! Faults at run time, and what was received and sent.

use std::time::Duration;

use mock_agentkit::{Faults, WebhookFaults};
use serde_json::json;

use crate::http::{call, send};
use crate::receiver::{Receiver, SECRET, agent, message};

#[tokio::test]
async fn faults_are_set_shown_and_ended_while_it_runs() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let faults = format!("{}/control/faults", mock.url());
    let none = json!({
        "webhooks": { "drop": false, "duplicate": 0, "reorder": false, "forge": false, "wrong_secret": false,
                      "unsigned": false, "clock_offset_seconds": 0 },
        "runs": {}, "work": { "crash": false, "fail": false },
        "reports": { "drop": false, "duplicate": 0, "reorder": false },
    });
    assert_eq!(call("GET", &faults, None).await, (200, none.clone()));
    let (status, shown) = call("PUT", &faults, Some(&json!({ "webhooks": { "drop": true, "times": 1 } }))).await;
    assert_eq!((status, &shown["webhooks"]["drop"], &shown["webhooks"]["times"]), (200, &json!(true), &json!(1)));
    assert_eq!(mock.faults(), Faults::none().with_webhooks(WebhookFaults::dropped().times(1)));
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    assert_eq!(receiver.calls().len(), 0);
    assert_eq!(call("GET", &faults, None).await, (200, none.clone()), "it was for once");
    call("PUT", &faults, Some(&json!({ "runs": { "status": 500 } }))).await;
    assert_eq!(call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("t"))).await.0, 500);
    assert_eq!(call("DELETE", &faults, None).await, (200, none));
    assert_eq!(call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("t"))).await.0, 200);
    mock.stop().await;
}

#[tokio::test]
async fn a_fault_that_there_is_not_is_refused_and_changes_nothing() {
    let mock = Receiver::start().await.mock().start().await.unwrap();
    mock.set_faults(Faults::none().with_webhooks(WebhookFaults::forged()));
    for wrong in [r#"{"webhooks": {"explode": true}}"#, r#"{"webhooks": {"drop": "yes"}}"#, "[", ""] {
        let (status, text) = send("PUT", &format!("{}/control/faults", mock.url()), wrong.to_owned()).await;
        assert!(status == 422 && text.contains("detail"), "{wrong}: {status} {text}");
    }
    assert_eq!(mock.faults().webhooks, WebhookFaults::forged());
    mock.stop().await;
}

#[tokio::test]
async fn work_is_changed_while_it_runs() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().works_for(Duration::from_secs(3600)).start().await.unwrap();
    let work = format!("{}/control/work", mock.url());
    let before = json!({ "duration_ms": 3_600_000, "outcome": "success", "names_tasks": false });
    assert_eq!(call("GET", &work, None).await, (200, before));
    let quick = json!({ "duration_ms": 1, "outcome": "failure", "names_tasks": true });
    assert_eq!(call("PUT", &work, Some(&quick)).await, (200, quick));
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("t"))).await;
    assert_eq!(receiver.calls()[2].state(), "ERROR");
    mock.stop().await;
}

#[tokio::test]
async fn what_was_received_and_sent_is_shown_without_secrets() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("task-1"))).await;
    let received = call("GET", &format!("{}/control/received", mock.url()), None).await.1;
    let calls = received["received"].as_array().unwrap();
    assert_eq!(calls.len(), 2, "those to the control are left out");
    assert_eq!(
        (&calls[0]["method"], &calls[0]["path"], &calls[0]["status"]),
        (&json!("POST"), &json!("/v1/agents"), &json!(200))
    );
    let body: serde_json::Value = serde_json::from_str(calls[1]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&calls[1]["path"], body), (&json!("/v1/agents/a1/run"), message("task-1")));

    let sent = call("GET", &format!("{}/control/sent", mock.url()), None).await.1;
    let messages = sent["sent"].as_array().unwrap();
    let kinds: Vec<&str> = messages.iter().map(|message| message["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["register", "state", "state"]);
    for message in messages {
        assert_eq!((&message["ending"], &message["agent_id"]), (&json!("taken"), &json!("a1")));
        assert_eq!(message["attempts"][0]["answer"], json!({ "answered": { "status": 200, "body": "{}" } }));
    }
    let printed = format!("{mock:?} {:?} {:?}", mock.received(), mock.sent());
    for text in [received.to_string(), sent.to_string(), printed] {
        for secret in ["operator-key", "callers-key", SECRET] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    assert!(!format!("{:?} {:?}", mock.received(), mock.sent()).contains("Summarizer"), "bodies stay out of logs");
    assert_eq!(mock.received().len(), 2);

    let (_, cleared) = call("DELETE", &format!("{}/control/sent", mock.url()), None).await;
    assert_eq!(cleared, json!({ "sent": [] }));
    let (_, cleared) = call("DELETE", &format!("{}/control/received", mock.url()), None).await;
    assert_eq!(cleared, json!({ "received": [] }));
    assert!(mock.sent().is_empty() && mock.received().is_empty());
    mock.stop().await;
}

#[tokio::test]
async fn waiting_in_vain_says_what_came_instead() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    call("GET", &format!("{}/health", mock.url()), None).await;
    let error = mock.received_when(Duration::from_millis(10), |calls| calls.len() == 2).await.expect_err("one came");
    assert!(error.to_string().contains("#1 GET /health (0 bytes) -> Some(200)"), "{error}");
    let error = mock.sent_when(Duration::from_millis(10), |sent| !sent.is_empty()).await.expect_err("none came");
    assert!(error.to_string().contains("nothing"), "{error}");
    mock.stop().await;
}
