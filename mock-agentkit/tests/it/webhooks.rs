//! Webhooks when nothing goes wrong: what is told, in which order, and signed how (A41).

use eap_types::Timestamp;
use serde_json::json;

use crate::http::call;
use crate::receiver::{Receiver, SECRET, agent, platform_agent};

#[tokio::test]
async fn an_agent_that_comes_or_leaves_is_told_of_exactly_so() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    call("POST", &format!("{}/v1/agents", mock.url()), Some(&agent("a1"))).await;
    call("DELETE", &format!("{}/v1/agents/a1", mock.url()), None).await;
    let calls = receiver.calls();
    let bodies = [
        json!({ "event_type": "REGISTER", "agent_details": agent("a1") }),
        json!({ "event_type": "DEREGISTER", "agent_details": { "agentId": "a1" } }),
    ];
    assert_eq!(calls.len(), 2);
    for (call, body) in calls.iter().zip(bodies) {
        assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/v1/opscore/internal/agent/notify"));
        assert_eq!((call.header("content-type"), call.json()), (Some("application/json"), body));
        assert!(call.is_signed_with(SECRET) && !call.is_signed_with("another"));
        assert!(call.header("authorization").is_none());
        let sent: i64 = call.header("x-agentkit-timestamp").unwrap().parse().expect("whole seconds");
        let written = mock.sent()[0].at.as_micros() / 1_000_000;
        assert!((written..=written + 60).contains(&sent), "{sent}, {written}");
    }
    mock.stop().await;
}

#[tokio::test]
async fn whoever_registers_or_removes_is_answered_once_the_webhook_is() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    let agents = format!("{}/v1/agents", mock.url());
    let real = json!({
        "agentName": "Real", "version": "1", "capabilities": [], "contactEndpoint": "http://127.0.0.1:9",
    });
    let calls = [
        ("POST", agents.clone(), Some(agent("a1")), 200),
        ("POST", format!("{agents}/register"), Some(real), 201),
        ("DELETE", format!("{agents}/a1"), None, 200),
    ];
    for (count, (method, url, body, status)) in calls.into_iter().enumerate() {
        receiver.holds(true);
        let asked = tokio::spawn(async move { call(method, &url, body.as_ref()).await });
        receiver.wait_for(count + 1).await;
        // Whatever is to be answered without the webhook is answered by now.
        call("GET", &format!("{}/health", mock.url()), None).await;
        assert!(!asked.is_finished(), "{method} was answered before its webhook");
        receiver.holds(false);
        assert_eq!(asked.await.unwrap().0, status);
    }
    mock.stop().await;
}

#[tokio::test]
async fn the_time_can_be_signed_to_the_microsecond() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().signs_rfc3339().start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let calls = receiver.calls();
    let timestamp = calls[0].header("x-agentkit-timestamp").unwrap();
    assert!(timestamp.ends_with('Z') && timestamp.contains('T'), "{timestamp}");
    assert_eq!(timestamp.parse::<Timestamp>().unwrap(), mock.sent()[0].at);
    assert!(calls[0].is_signed_with(SECRET));
    mock.stop().await;
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let receiver = Receiver::start().await;
    let mock = mock_agentkit::MockAgentKit::builder().notifies(&receiver.url).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let call = &receiver.calls()[0];
    assert!(call.header("x-agentkit-signature").is_none() && call.header("x-agentkit-timestamp").is_none());
    mock.stop().await;
}

#[tokio::test]
async fn a_base_may_have_a_path_and_the_webhook_an_address_of_its_own() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().notifies(format!("{}/ops/", receiver.url)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    mock.stop().await;
    let mock = receiver.mock().notifies_at(format!("{}/hook?x=1", receiver.url)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    mock.stop().await;
    let paths: Vec<String> = receiver.calls().into_iter().map(|call| call.path).collect();
    assert_eq!(paths, ["/ops/v1/opscore/internal/agent/notify", "/hook"]);
}

#[tokio::test]
async fn what_is_told_of_one_agent_goes_in_order_however_often_it_is_tried() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    receiver.answers(&[503, 503, 503]);
    mock.register(platform_agent("a1")).await.unwrap();
    mock.remove(&"a1".parse().unwrap()).await.unwrap();
    let events: Vec<String> = receiver.wait_for(5).await.iter().map(|call| call.event().0).collect();
    assert_eq!(events, ["REGISTER", "REGISTER", "REGISTER", "REGISTER", "DEREGISTER"]);
    mock.stop().await;
}

#[tokio::test]
async fn a_library_call_does_what_the_http_call_does() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    mock.register_real(platform_agent("a2")).await.unwrap();
    assert!(mock.register_real(platform_agent("a2")).await.is_err(), "the name is taken");
    assert_eq!(mock.agents(), [platform_agent("a1"), platform_agent("a2")]);
    assert!(mock.remove(&"a1".parse().unwrap()).await.unwrap());
    assert!(!mock.remove(&"a1".parse().unwrap()).await.unwrap());
    assert_eq!(receiver.calls().len(), 3);
    mock.stop().await;
}
