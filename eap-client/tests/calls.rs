//! Each call against a scripted exchange: what is sent, and what an answer becomes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_client::{AgentClient, AgentQuery, CallError, ClientError, Credentials, HttpCall, OperatorClient};
use eap_types::{
    CreateKey, CreateRegistrationSecret, Endpoints, ErrorCode, HealthStatus, Heartbeat, IdempotencyKey, JsonObject,
    LeaseRequest, PageQuery, ProblemBody, Registration, ResultOutcome, ScopePreset, Secret, SubmitBatch, SubmitOutcome,
    SubmitTask, TaskId, TaskQuery, TaskResult, TaskStatus,
};
use serde_json::{Value, json};

#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Result<http::Response<Bytes>, CallError>>>,
    seen: Mutex<Vec<(http::Request<Bytes>, Duration)>>,
}

#[async_trait]
impl HttpCall for Script {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, CallError> {
        self.seen.lock().unwrap().push((request, deadline));
        self.answers.lock().unwrap().pop_front().unwrap_or_else(|| Ok(answer(204, "")))
    }
}

impl Script {
    fn with(answers: impl IntoIterator<Item = http::Response<Bytes>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().map(Ok).collect()), ..Self::default() })
    }

    fn last(&self) -> (http::Request<Bytes>, Duration) {
        self.seen.lock().unwrap().last().cloned().expect("a request was sent")
    }

    fn last_line(&self) -> String {
        let (request, _) = self.last();
        format!("{} {}", request.method(), request.uri())
    }
}

fn answer(status: u16, body: impl Into<Bytes>) -> http::Response<Bytes> {
    http::Response::builder().status(status).body(body.into()).unwrap()
}

fn json_answer(status: u16, body: &Value) -> http::Response<Bytes> {
    answer(status, body.to_string())
}

fn refusal(code: ErrorCode) -> http::Response<Bytes> {
    answer(code.status(), serde_json::to_vec(&ProblemBody::new(code, "no", "r1")).unwrap())
}

fn task_id() -> TaskId {
    "0190b2c4-0000-7000-8000-000000000001".parse().unwrap()
}

fn session(http: Arc<Script>, endpoints: Option<Endpoints>) -> eap_client::AgentSession {
    let client = AgentClient::new("http://orchestrator.test/eap/", http).unwrap();
    client.session("a 1".parse().unwrap(), Secret::new("eap_token"), endpoints)
}

#[tokio::test]
async fn registering_sends_the_secrets_as_headers_and_hides_them() {
    let reply = json!({ "agent_id": "a-1", "status": "registered", "auth_token": "eap_new",
        "heartbeat_interval_seconds": 30, "features": ["pull.v1"], "lease_seconds": 60 });
    let http = Script::with([json_answer(201, &reply)]);
    let client = AgentClient::new("http://orchestrator.test", http.clone()).unwrap();
    let name = "AGENT-A-01".parse().unwrap();
    let registration = Registration::new(name, eap_types::Capabilities::new(["work"]).unwrap());
    let credentials = Credentials {
        registration_secret: Some(Secret::new("the-secret")),
        live_token: Some(Secret::new("eap_old")),
        idempotency_key: Some("key-1".parse().unwrap()),
    };
    assert!(!format!("{credentials:?}").contains("the-secret"));
    let registered = client.register(&registration, credentials).await.unwrap();
    assert_eq!(registered.auth_token.expose(), "eap_new");
    assert_eq!(http.last_line(), "POST http://orchestrator.test/api/v1/agents/external/register");
    let (request, _) = http.last();
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-registration-token"), "the-secret");
    assert_eq!(header("x-agent-token"), "eap_old");
    assert_eq!(header("idempotency-key"), "key-1");
    assert_eq!(header("content-type"), "application/json");
    assert!(!format!("{request:?}").contains("the-secret"));
}

#[tokio::test]
async fn calls_go_to_the_endpoints_given_and_else_below_the_base() {
    let http = Script::with([]);
    let beat = Heartbeat::new(HealthStatus::Healthy);
    session(http.clone(), None).heartbeat(&beat).await.unwrap();
    let base = "http://orchestrator.test/eap/api/v1/agents/external/a%201";
    assert_eq!(http.last_line(), format!("POST {base}/heartbeat"));

    let mut endpoints = Endpoints::new();
    endpoints.heartbeat = "/elsewhere/beat".to_owned();
    endpoints.result = "/elsewhere/{task_id}/result".to_owned();
    let session = session(http.clone(), Some(endpoints));
    session.heartbeat(&beat).await.unwrap();
    assert_eq!(http.last_line(), "POST http://orchestrator.test/elsewhere/beat");
    let result = TaskResult::completed(task_id(), JsonObject::default());
    session.result(&result).await.unwrap_err();
    assert_eq!(http.last_line(), format!("POST http://orchestrator.test/elsewhere/{}/result", task_id()));
}

#[tokio::test]
async fn an_endpoint_that_would_take_the_token_elsewhere_is_not_used() {
    let http = Script::with([]);
    for evil in [".evil.test/", "@evil.test/", "http://evil.test/", ":81/", "/white space"] {
        let mut endpoints = Endpoints::new();
        endpoints.heartbeat = evil.to_owned();
        let beat = Heartbeat::new(HealthStatus::Healthy);
        session(http.clone(), Some(endpoints)).heartbeat(&beat).await.unwrap();
        assert!(http.last_line().starts_with("POST http://orchestrator.test/eap/api/"), "{evil}");
    }
}

#[tokio::test]
async fn a_lease_request_waits_and_an_empty_answer_is_no_task() {
    let http = Script::with([answer(204, "")]);
    let request = LeaseRequest::new("r-1".parse().unwrap()).with_wait_seconds(25);
    assert!(session(http.clone(), None).lease(&request).await.unwrap().is_empty());
    assert_eq!(http.last().1, Duration::from_secs(35));
}

#[tokio::test]
async fn a_batch_tells_what_became_of_each_result() {
    let accepted = json!({ "task_id": task_id(), "status": "accepted", "duplicate": false });
    let problem = serde_json::to_value(ProblemBody::new(ErrorCode::LeaseLost, "no", "r1")).unwrap();
    let http = Script::with([
        json_answer(200, &json!({ "results": [accepted, problem] })),
        json_answer(200, &json!({ "results": [accepted] })),
    ]);
    let session = session(http, None);
    let result = TaskResult::completed(task_id(), JsonObject::default());
    let both = [result.clone(), result];
    let outcomes = session.results(&both).await.unwrap();
    assert!(matches!(&outcomes[0], ResultOutcome::Accepted(_)));
    assert!(matches!(&outcomes[1], ResultOutcome::Refused(p) if p.error_code() == Some(ErrorCode::LeaseLost)));
    assert!(matches!(session.results(&both).await, Err(ClientError::Unreadable { status: 200, .. })));
}

#[tokio::test]
async fn a_refusal_keeps_its_code_its_status_and_the_pause_asked_for() {
    let mut busy = refusal(ErrorCode::RateLimited);
    busy.headers_mut().insert("retry-after", "7".parse().unwrap());
    let html = answer(502, "<html>bad gateway</html>");
    let opencode = json_answer(401, &json!({ "detail": "Invalid agent token" }));
    let ingress = answer(404, "<html>default backend</html>");
    let captive = answer(200, "<html>please log in</html>");
    let http = Script::with([busy, refusal(ErrorCode::LeaseLost), html, answer(413, ""), opencode, ingress, captive]);
    let session = session(http, None);
    let beat = Heartbeat::new(HealthStatus::Healthy);
    let expected = [
        (429, Some(ErrorCode::RateLimited), false, Some(Duration::from_secs(7))),
        (409, Some(ErrorCode::LeaseLost), true, None),
        (502, None, false, None),
        (413, None, true, None),
        (401, None, false, None),
        (404, None, false, None),
        (200, None, false, None),
    ];
    for (status, code, is_definitive, retry_after) in expected {
        let error = session.heartbeat(&beat).await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.code(), code, "{status}");
        assert_eq!(error.is_definitive(), is_definitive, "{status}");
        assert_eq!(error.retry_after(), retry_after, "{status}");
    }
}

#[tokio::test]
async fn no_answer_is_not_definitive() {
    let http = Arc::new(Script::default());
    http.answers.lock().unwrap().push_back(Err(CallError::Timeout { deadline: Duration::from_secs(1) }));
    let error = session(http, None).heartbeat(&Heartbeat::new(HealthStatus::Healthy)).await.unwrap_err();
    assert!(!error.is_definitive());
    assert_eq!(error.status(), None);
}

#[tokio::test]
async fn operators_send_their_key_and_their_questions() {
    let http = Script::with([]);
    let client = OperatorClient::new("https://orchestrator.test:8443/eap", http.clone())
        .unwrap()
        .with_key(Secret::new("the-operator-key"));
    assert!(!format!("{client:?}").contains("the-operator-key"));

    let key: IdempotencyKey = "once".parse().unwrap();
    let task = SubmitTask::text("work".parse().unwrap(), "input");
    client.submit(&task, Some(&key)).await.unwrap_err();
    let (request, _) = http.last();
    assert_eq!(request.headers()["authorization"], "Bearer the-operator-key");
    assert_eq!(request.headers()["idempotency-key"], "once");
    assert_eq!(http.last_line(), "POST https://orchestrator.test:8443/eap/api/v1/tasks");

    client.task(task_id(), Some(Duration::from_secs(20))).await.unwrap_err();
    let base = "https://orchestrator.test:8443/eap/api/v1";
    assert_eq!(http.last_line(), format!("GET {base}/tasks/{}?wait_seconds=20", task_id()));
    assert_eq!(http.last().1, Duration::from_secs(30));

    let query = TaskQuery::new().with_status(TaskStatus::Queued).with_cursor("a b&c").with_limit(10);
    client.tasks(&query).await.unwrap_err();
    assert_eq!(http.last_line(), format!("GET {base}/tasks?status=queued&cursor=a+b%26c&limit=10"));

    client.dead_letters(&query).await.unwrap_err();
    assert_eq!(http.last_line(), format!("GET {base}/dead-letters?status=queued&cursor=a+b%26c&limit=10"));
    client.requeue(task_id()).await.unwrap_err();
    assert_eq!(http.last_line(), format!("POST {base}/dead-letters/{}/requeue", task_id()));
    client.discard(task_id()).await.unwrap();
    assert_eq!(http.last_line(), format!("POST {base}/dead-letters/{}/discard", task_id()));

    client.agents(AgentQuery::new()).await.unwrap_err();
    assert_eq!(http.last_line(), format!("GET {base}/agents"));
    client.agent(&"x?y".parse().unwrap()).await.unwrap_err();
    assert_eq!(http.last_line(), format!("GET {base}/agents/x%3Fy"));
    client.cancel(task_id(), Some("changed my mind")).await.unwrap_err();
    assert_eq!(http.last().0.body().as_ref(), br#"{"reason":"changed my mind"}"#);
}

#[tokio::test]
async fn a_batch_of_tasks_tells_what_became_of_each() {
    let problem = serde_json::to_value(ProblemBody::new(ErrorCode::ValidationError, "no", "r1")).unwrap();
    let http = Script::with([
        json_answer(200, &json!({ "tasks": [{ "task_id": task_id() }, problem] })),
        json_answer(200, &json!({ "tasks": [{ "task_id": task_id() }] })),
    ]);
    let client = OperatorClient::new("http://orchestrator.test", http.clone()).unwrap();
    let task = SubmitTask::text("sum".parse().unwrap(), "1 2");
    let batch = SubmitBatch::new([task.clone(), task]);
    let key: IdempotencyKey = "k-1".parse().unwrap();
    let outcomes = client.submit_batch(&batch, Some(&key)).await.unwrap();
    assert!(matches!(&outcomes[0], SubmitOutcome::Submitted(task) if task.task_id == task_id()));
    assert!(matches!(&outcomes[1], SubmitOutcome::Refused(p) if p.error_code() == Some(ErrorCode::ValidationError)));
    assert_eq!(http.last_line(), "POST http://orchestrator.test/api/v1/tasks/batch");
    let (sent, _) = http.last();
    assert_eq!(sent.headers()["idempotency-key"], "k-1");
    assert_eq!(serde_json::from_slice::<Value>(sent.body()).unwrap(), serde_json::to_value(&batch).unwrap());
    assert!(matches!(client.submit_batch(&batch, None).await, Err(ClientError::Unreadable { status: 200, .. })));
}

#[tokio::test]
async fn not_ready_is_an_answer_and_a_problem_is_not() {
    let not_ready = json_answer(503, &json!({ "status": "not_ready", "reason": "storage" }));
    let http = Script::with([not_ready, refusal(ErrorCode::Draining)]);
    let client = OperatorClient::new("http://orchestrator.test", http).unwrap();
    assert!(!client.ready().await.unwrap().is_ready());
    assert_eq!(client.ready().await.unwrap_err().code(), Some(ErrorCode::Draining));
}

#[test]
fn an_address_that_cannot_be_used_is_refused() {
    let bad = ["", "orchestrator", "ftp://x/", "http://", "http://u:p@x/", "http://x/?q", "http://x/#f"];
    for url in bad {
        let outcome = OperatorClient::new(url, Arc::new(Script::default()));
        assert!(matches!(outcome, Err(ClientError::BaseUrl { .. })), "{url}");
    }
}

#[tokio::test]
async fn a_secret_that_no_header_carries_is_an_error_and_is_not_shown() {
    let client = OperatorClient::new("http://orchestrator.test", Arc::new(Script::default())).unwrap();
    let error = client.with_key(Secret::new("two\nlines")).health().await.unwrap_err();
    assert!(matches!(error, ClientError::Header { header: "authorization" }));
    assert!(!error.to_string().contains("lines"));
}

#[tokio::test]
async fn keys_and_secrets_are_made_listed_and_revoked() {
    let view = json!({ "key_id": task_id(), "name": "ci", "scopes": ["tasks:read"], "state": "active",
        "created_at": "2026-03-01T12:00:00Z" });
    let mut created = view.clone();
    created["key"] = json!("eapk_the-key");
    let page = json!({ "keys": [view] });
    let http = Script::with([json_answer(201, &created), json_answer(200, &page), refusal(ErrorCode::Forbidden)]);
    let client = OperatorClient::new("http://orchestrator.test", http.clone()).unwrap();
    let asked = CreateKey::of_preset("ci".parse().unwrap(), ScopePreset::Read);
    let key = client.create_key(&asked).await.unwrap();
    assert_eq!(http.last_line(), "POST http://orchestrator.test/api/v1/keys");
    assert!(!format!("{key:?}").contains("the-key"));
    let mut query = PageQuery::default();
    (query.cursor, query.limit) = (Some("c&d".to_owned()), Some(7));
    assert_eq!(client.keys(&query).await.unwrap().keys, [key.view]);
    assert_eq!(http.last_line(), "GET http://orchestrator.test/api/v1/keys?cursor=c%26d&limit=7");
    let id = "0190b2c4-0000-7000-8000-000000000001".parse().unwrap();
    let refused = client.revoke_key(&id).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Forbidden));
    assert_eq!(http.last_line(), format!("DELETE http://orchestrator.test/api/v1/keys/{id}"));
    client.revoke_registration_secret(&id).await.unwrap();
    assert_eq!(http.last_line(), format!("DELETE http://orchestrator.test/api/v1/registration-secrets/{id}"));
    let asked = CreateRegistrationSecret::new("fleet".parse().unwrap());
    client.create_registration_secret(&asked).await.unwrap_err();
    assert_eq!(http.last_line(), "POST http://orchestrator.test/api/v1/registration-secrets");
    client.registration_secrets(&PageQuery::default()).await.unwrap_err();
    assert_eq!(http.last_line(), "GET http://orchestrator.test/api/v1/registration-secrets");
}

#[tokio::test]
async fn a_submit_names_the_trace_it_is_part_of() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let http = Script::with([refusal(ErrorCode::Unavailable), refusal(ErrorCode::Unavailable)]);
    let client = OperatorClient::new("http://orchestrator.test", http.clone()).unwrap();
    let task = SubmitTask::text("work".parse().unwrap(), "input");
    client.clone().with_traceparent(trace.parse().unwrap()).submit(&task, None).await.unwrap_err();
    assert_eq!(http.last().0.headers()["traceparent"], trace);
    client.submit(&task, None).await.unwrap_err();
    assert!(!http.last().0.headers().contains_key("traceparent"));
}

#[tokio::test]
async fn a_token_is_rotated_by_its_agent_and_asked_for_by_an_operator() {
    let rotated = json!({ "agent_id": "a 1", "auth_token": "eap_new", "previous_valid_until": "2026-03-01T12:10:00Z" });
    let http = Script::with([json_answer(200, &rotated)]);
    let reply = session(http.clone(), None).rotate_token().await.unwrap();
    assert_eq!(reply.auth_token.expose(), "eap_new");
    assert_eq!(http.last_line(), "POST http://orchestrator.test/eap/api/v1/agents/external/a%201/token/rotate");
    assert_eq!(http.last().0.headers()["x-agent-token"], "eap_token");

    let asked = json!({ "agent_id": "a 1", "directive_id": "d1", "asked_at": "2026-03-01T12:00:00Z" });
    let http = Script::with([json_answer(200, &asked)]);
    let client = OperatorClient::new("http://orchestrator.test", http.clone()).unwrap();
    let reply = client.rotate_agent_token(&"a 1".parse().unwrap()).await.unwrap();
    assert_eq!(reply.directive_id.as_str(), "d1");
    assert_eq!(http.last_line(), "POST http://orchestrator.test/api/v1/agents/a%201/rotate-token");
}
