//! Ready, draining, stopped; and the refusal to start exposed (G24, A50).

use std::net::SocketAddr;
use std::time::Duration;

use eap_orchestrator::{Access, Config, OperatorKey, Orchestrator, RegistrationSecret, StartError, Tls};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::harness::{
    Agent, Api, OPERATOR_KEY, Operator, Peer, REGISTRATION_SECRET, Server, Setup, in_time, registration, work,
};

/// Serves the router as a host application would.
async fn host(orchestrator: &Orchestrator) -> Api {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let api = Api::at(format!("http://{}", listener.local_addr().expect("it is bound")));
    let app = orchestrator.router();
    tokio::spawn(async move { axum::serve(listener, app).await });
    api
}

#[tokio::test]
async fn health_is_open_to_everybody_and_says_little() {
    let server = Server::start().await;
    assert_eq!(server.api.get("/health").send().await.expect(200), json!({"status": "ok"}));
    assert_eq!(server.api.get("/health/ready").send().await.expect(200), json!({"status": "ready"}));
}

#[tokio::test]
async fn before_it_has_started_it_is_alive_and_not_ready_and_takes_nothing() {
    let (orchestrator, ..) = Setup::memory().build();
    let api = host(&orchestrator).await;
    assert_eq!(api.get("/health").send().await.expect(200), json!({"status": "ok"}));
    let ready = api.get("/health/ready").send().await;
    assert_eq!((ready.status, ready.body), (503, json!({"status": "not_ready", "reason": "starting"})));
    let operator = Operator::new(api.clone());
    operator.try_submit(&work(json!({}))).await.problem(503, "UNAVAILABLE");
    operator.get("/api/v1/tasks").send().await.problem(503, "UNAVAILABLE");
    let call = api.post("/api/v1/agents/external/register").bearer(REGISTRATION_SECRET);
    call.json(&registration("AGENT-A", json!({}))).send().await.problem(503, "UNAVAILABLE");

    let _running = orchestrator.start().await.expect("the store is new");
    assert_eq!(api.get("/health/ready").send().await.expect(200), json!({"status": "ready"}));
    operator.submit(json!({})).await;
    assert!(matches!(orchestrator.start().await, Err(StartError::Running)), "it starts once");
}

#[tokio::test]
async fn after_a_shutdown_a_mounted_router_says_that_it_is_draining() {
    let (orchestrator, ..) = Setup::memory().build();
    let _running = orchestrator.start().await.expect("the store is new");
    let api = host(&orchestrator).await;
    let operator = Operator::new(api.clone());
    let call = api.post("/api/v1/agents/external/register").bearer(REGISTRATION_SECRET);
    let reply = call.json(&registration("AGENT-A", json!({}))).send().await.expect(201);
    let agent = Agent::of(api.clone(), reply);
    operator.submit(json!({})).await;
    let report = orchestrator.shutdown().await;
    assert_eq!(report.to_string(), "all calls were answered");
    let ready = api.get("/health/ready").send().await;
    assert_eq!((ready.status, ready.body), (503, json!({"status": "not_ready", "reason": "stopping"})));
    assert_eq!(api.get("/health").send().await.expect(200), json!({"status": "ok"}));
    agent.lease(json!({"request_id": "r", "wait_seconds": 5})).await.problem(503, "DRAINING");
    operator.try_submit(&work(json!({}))).await.problem(503, "DRAINING");
}

#[tokio::test]
async fn long_polls_end_within_a_second_of_a_stop() {
    let mut server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({"run_at": "2100-01-01T00:00:00Z"})).await;
    let body = json!({"request_id": "r", "wait_seconds": 60});
    let poll = server.park(&agent, "/tasks/lease", Some(body)).await;
    let waiting = tokio::spawn(server.operator().get(&format!("/api/v1/tasks/{id}?wait_seconds=60")).send());
    // One more exchange, so that the wait has most likely begun.
    server.operator().status(&id).await;
    let start = Instant::now();
    server.begin_stop();
    in_time("the poll ends", poll).await.expect("it does not panic").expect(204);
    let shown = in_time("the wait ends", waiting).await.expect("it does not panic").expect(200);
    assert_eq!(shown["status"], "queued");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let report = server.stop().await;
    assert_eq!((report.connections_cut, report.writes_cut), (0, false));
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish_and_closes_idle_connections() {
    let mut server = Server::start().await;
    let body = work(json!({})).to_string();
    let head = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len(),
    );
    let (mut busy, mut idle) = (Peer::connect(server.address).await, Peer::connect(server.address).await);
    idle.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(idle.answer().await.map(|(status, _)| status), Some(200));
    busy.send(head.as_bytes()).await;
    busy.send(&body.as_bytes()[..5]).await;
    // Another exchange, so that the server has seen the header.
    server.api.get("/health").send().await.expect(200);
    server.begin_stop();
    assert!(idle.is_closed_within(Duration::from_secs(1)).await);
    busy.send(&body.as_bytes()[5..]).await;
    let (status, task) = busy.answer().await.expect("the request in flight is answered");
    assert_eq!((status, &task["status"]), (201, &json!("queued")));
    assert!(busy.is_closed_within(Duration::from_secs(1)).await);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_end_is_cut_when_the_grace_is_over() {
    let setup = Setup::memory().config(|config| config.timing.shutdown_grace = Duration::from_millis(100));
    let mut server = setup.start().await;
    let mut slow = Peer::connect(server.address).await;
    slow.send(
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n\
             content-length: 1000\r\n\r\n{{"
        )
        .as_bytes(),
    )
    .await;
    server.api.get("/health").send().await.expect(200);
    server.begin_stop();
    assert!(slow.is_closed_within(Duration::from_secs(1)).await);
    assert_eq!(server.stop().await.connections_cut, 1);
}

#[tokio::test]
async fn a_stopped_server_takes_no_connections() {
    let server = Server::start().await;
    let address = server.address;
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// What `serve` says to a listener that everybody can reach.
async fn missing(change: impl FnOnce(&mut Config)) -> Option<Vec<&'static str>> {
    let mut config = Config::default();
    config.access = Access::Open;
    change(&mut config);
    let orchestrator = Orchestrator::builder_in_memory().config(config).build().expect("the configuration is valid");
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("there is a free port");
    let address: SocketAddr = listener.local_addr().expect("it is bound");
    match in_time("serve decides at once", orchestrator.serve(listener, async {})).await {
        Err(StartError::Exposed { address: refused, missing }) => {
            assert_eq!(refused, address);
            Some(missing)
        }
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn serve_refuses_a_public_listener_without_protection_and_names_what_is_missing() {
    const TLS: &str = "a TLS decision (tls: files, behind_proxy or plaintext)";
    let key = || Some(OperatorKey::new(OPERATOR_KEY));
    let secret = || Some(RegistrationSecret::new(REGISTRATION_SECRET));
    assert_eq!(missing(|_| {}).await, Some(vec!["operator_key", "registration_secret", TLS]));
    assert_eq!(missing(|config| config.access = Access::Loopback).await.map(|missing| missing.len()), Some(3));
    assert_eq!(missing(|config| config.operator_key = key()).await, Some(vec!["registration_secret", TLS]));
    assert_eq!(missing(|config| config.registration_secret = secret()).await, Some(vec!["operator_key", TLS]));
    let plaintext = missing(|config| config.tls = Tls::Plaintext).await;
    assert_eq!(plaintext, Some(vec!["operator_key", "registration_secret"]));
    let both = missing(|config| {
        config.operator_key = key();
        config.registration_secret = secret();
    })
    .await;
    assert_eq!(both, Some(vec![TLS]));
    for tls in [Tls::Plaintext, Tls::BehindProxy] {
        let all = missing(|config| {
            config.operator_key = key();
            config.registration_secret = secret();
            config.tls = tls;
        })
        .await;
        assert_eq!(all, None, "with everything decided it serves");
    }
}

#[tokio::test]
async fn a_refusal_to_start_says_in_one_line_what_is_missing() {
    let mut config = Config::default();
    config.access = Access::Loopback;
    let orchestrator = Orchestrator::builder_in_memory().config(config).build().expect("it is valid");
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("there is a free port");
    let refused = orchestrator.serve(listener, async {}).await.expect_err("it is exposed").to_string();
    for word in ["operator_key", "registration_secret", "TLS"] {
        assert!(refused.contains(word), "{refused}");
    }
    assert_eq!(refused.lines().count(), 1);
}

#[tokio::test]
async fn a_configuration_without_keys_or_a_choice_of_access_is_refused() {
    let problems = Orchestrator::builder_in_memory().build().expect_err("nobody could ever call").to_string();
    assert!(problems.contains("operator_key") && problems.contains("registration_secret"), "{problems}");
    let short = Orchestrator::builder_in_memory().operator_key("x".repeat(23)).registration_secret("y".repeat(23));
    let problems = short.build().expect_err("both are too short").to_string();
    assert_eq!(problems.matches("fewer than 24 bytes").count(), 2, "{problems}");
    assert!(!problems.contains("xxx") && !problems.contains("yyy"), "secrets are not quoted");
}
