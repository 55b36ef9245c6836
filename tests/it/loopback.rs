//! Loopback is convenient, not trusted: who may call without a key (T27; docs/protocol.md section 5).

use eap_orchestrator::{Access, OperatorKey, RegistrationSecret};
use serde_json::json;

use crate::harness::{OPERATOR_KEY, Peer, REGISTRATION_SECRET, Server, Setup, registration};

async fn server(access: Access) -> Server {
    let setup = Setup::memory().config(|config| {
        config.operator_key = None;
        config.registration_secret = None;
        config.access = access;
    });
    setup.start().await
}

/// Calls that are not what they seem, by their headers.
const FOREIGN: [(&str, &str); 16] = [
    ("host", "eap.example.com"),
    ("host", "127.0.0.1.example.com"),
    ("host", "localhost.example.com:8080"),
    ("host", "10.0.0.7"),
    ("host", "[fe80::1]"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-host", "localhost"),
    ("x-forwarded-proto", "http"),
    ("x-real-ip", "127.0.0.1"),
    ("forwarded", "for=127.0.0.1"),
    ("via", "1.1 proxy"),
    ("origin", "https://evil.example"),
    ("origin", "null"),
    ("origin", "http://localhost.evil.example"),
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-site", "same-site"),
];

#[tokio::test]
async fn a_program_on_this_machine_needs_no_key_where_loopback_is_chosen() {
    let server = server(Access::Loopback).await;
    let port = server.address.port();
    for (name, value) in [
        ("host", format!("127.0.0.1:{port}")),
        ("host", "localhost".to_owned()),
        ("host", "[::1]:80".to_owned()),
        ("host", "LocalHost".to_owned()),
        ("origin", format!("http://localhost:{port}")),
        ("origin", "http://127.0.0.1".to_owned()),
        ("sec-fetch-site", "same-origin".to_owned()),
    ] {
        server.api.get("/api/v1/tasks").header(name, &value).send().await.expect(200);
        let call = server.api.post("/api/v1/agents/external/register").header(name, &value);
        call.json(&registration("AGENT-A", json!({}))).send().await.expect(201);
    }
    // An operator key that nobody configured is no reason to refuse.
    server.operator().list("").await;
}

#[tokio::test]
async fn a_proxy_a_browser_or_a_rebound_name_gets_nothing_without_a_key() {
    let server = server(Access::Loopback).await;
    for (name, value) in FOREIGN {
        for (method, path) in [
            (http::Method::GET, "/api/v1/tasks"),
            (http::Method::POST, "/api/v1/tasks"),
            (http::Method::GET, "/api/v1/agents"),
        ] {
            let call = server.api.call(method, path).header(name, value).json(&json!({"task_type": "work"}));
            call.send().await.problem(401, "INVALID_TOKEN");
        }
        let call = server.api.post("/api/v1/agents/external/register").header(name, value);
        call.json(&registration("AGENT-A", json!({}))).send().await.problem(403, "REGISTRATION_DENIED");
    }
    assert_eq!(server.api.get("/api/v1/tasks").send().await.expect(200), json!({"tasks": []}));
    assert_eq!(server.api.get("/api/v1/agents").send().await.expect(200), json!({"agents": []}));
}

#[tokio::test]
async fn two_hosts_or_none_are_not_loopback() {
    let server = server(Access::Loopback).await;
    for head in [
        "GET /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nhost: eap.example.com\r\n\r\n",
        "GET /api/v1/tasks HTTP/1.1\r\nhost: eap.example.com\r\nhost: localhost\r\n\r\n",
        "GET /api/v1/tasks HTTP/1.0\r\n\r\n",
        "GET /api/v1/tasks HTTP/1.1\r\nhost:\r\n\r\n",
        "GET http://eap.example.com/api/v1/tasks HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let mut peer = Peer::connect(server.address).await;
        peer.send(head.as_bytes()).await;
        let status = peer.answer().await.map(|(status, _)| status);
        assert!(matches!(status, None | Some(400..=499)), "{status:?} to {head:?}");
    }
}

#[tokio::test]
async fn an_agent_with_its_token_may_come_through_a_proxy() {
    let server = server(Access::Loopback).await;
    let agent = server.agent("AGENT-A").await;
    for (name, value) in FOREIGN {
        let call = agent.call("/heartbeat").header(name, value).json(&json!({"status": "healthy"}));
        call.send().await.expect(200);
    }
}

#[tokio::test]
async fn a_key_that_is_configured_is_demanded_on_loopback_too() {
    let setup = Setup::memory().config(|config| {
        config.access = Access::Loopback;
        config.operator_key = Some(OperatorKey::new(OPERATOR_KEY));
        config.registration_secret = Some(RegistrationSecret::new(REGISTRATION_SECRET));
    });
    let server = setup.start().await;
    server.api.get("/api/v1/tasks").send().await.problem(401, "INVALID_TOKEN");
    let call = server.api.post("/api/v1/agents/external/register").json(&registration("AGENT-A", json!({})));
    call.send().await.problem(403, "REGISTRATION_DENIED");
    server.operator().list("").await;
    server.agent("AGENT-A").await;
}

#[tokio::test]
async fn what_was_registered_openly_comes_back_openly() {
    let server = server(Access::Loopback).await;
    let register = async || {
        let call = server.api.post("/api/v1/agents/external/register");
        call.json(&registration("AGENT-A", json!({}))).send().await.expect(201)["agent_id"].clone()
    };
    assert_eq!(register().await, register().await);
}

#[tokio::test]
async fn open_access_is_open_to_everybody_the_host_lets_through() {
    let server = server(Access::Open).await;
    for (name, value) in FOREIGN {
        server.api.get("/api/v1/tasks").header(name, value).send().await.expect(200);
    }
}

#[tokio::test]
async fn with_keys_demanded_loopback_opens_nothing() {
    let server = Setup::memory().start().await;
    server.api.get("/api/v1/tasks").send().await.problem(401, "INVALID_TOKEN");
    server.api.get("/api/v1/tasks").bearer("another-operator-key-0123456").send().await.problem(401, "INVALID_TOKEN");
    server.api.get("/api/v1/tasks").bearer(REGISTRATION_SECRET).send().await.problem(401, "INVALID_TOKEN");
    let basic = server.api.get("/api/v1/tasks").header("authorization", &format!("Basic {OPERATOR_KEY}"));
    basic.send().await.problem(401, "INVALID_TOKEN");
    server.api.get("/api/v1/tasks").header("authorization", &format!("bearer {OPERATOR_KEY}")).send().await.expect(200);
}
