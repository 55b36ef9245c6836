//! The production exchange over real sockets.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eap_client::{CallError, HttpCall, MAX_ANSWER_BYTES, OperatorClient, ReqwestCall};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

fn get(url: &str) -> http::Request<Bytes> {
    http::Request::get(url).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn an_answer_comes_whole_and_a_redirect_is_not_followed() {
    let server = MockServer::start().await;
    let health = ResponseTemplate::new(200).set_body_string("{\"status\":\"ok\"}");
    Mock::given(path("/health")).respond_with(health).mount(&server).await;
    let redirect = ResponseTemplate::new(307).insert_header("location", "/health");
    Mock::given(path("/moved")).respond_with(redirect).mount(&server).await;
    let call = ReqwestCall::new().unwrap();
    let client = OperatorClient::new(&server.uri(), Arc::new(call.clone())).unwrap();
    assert_eq!(client.health().await.unwrap().status, "ok");
    let moved = call.call(get(&format!("{}/moved", server.uri())), Duration::from_secs(5)).await.unwrap();
    assert_eq!(moved.status(), 307);
}

#[tokio::test]
async fn a_late_answer_and_a_huge_one_are_errors() {
    let server = MockServer::start().await;
    let late = ResponseTemplate::new(200).set_delay(Duration::from_secs(5));
    Mock::given(path("/late")).respond_with(late).mount(&server).await;
    let huge = ResponseTemplate::new(200).set_body_bytes(vec![b' '; MAX_ANSWER_BYTES + 1]);
    Mock::given(path("/huge")).respond_with(huge).mount(&server).await;
    let call = ReqwestCall::new().unwrap();
    let late = call.call(get(&format!("{}/late", server.uri())), Duration::from_millis(100)).await;
    assert!(matches!(late, Err(CallError::Timeout { .. })));
    let huge = call.call(get(&format!("{}/huge", server.uri())), Duration::from_secs(5)).await;
    assert!(matches!(huge, Err(CallError::TooLarge { limit: MAX_ANSWER_BYTES })));
}

#[tokio::test]
async fn a_refused_connection_surely_sent_nothing_and_names_no_url() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let call = ReqwestCall::new().unwrap();
    let error = call.call(get(&format!("http://{address}/secret-path")), Duration::from_secs(5)).await.unwrap_err();
    assert!(error.surely_not_sent());
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    assert!(!text.contains("secret-path"), "{text}");
}
