//! An orchestrator as far as the mock sees one: it takes what comes, and answers what a test wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mock_agentkit::{MockAgentKit, MockBuilder};
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::watch;

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const SECRET: &str = "a word that both sides know";

/// One call, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().expect("a header is text");
        assert!(values.next().is_none(), "{name} comes more than once");
        Some(value)
    }

    /// Whether the signature is that of the secret over this time and body: HMAC-SHA256, lower-case hex.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let (Some(timestamp), Some(signature)) =
            (self.header("x-agentkit-timestamp"), self.header("x-agentkit-signature"))
        else {
            return false;
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(&self.body);
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        hex == signature
    }

    /// REGISTER or DEREGISTER, and of whom.
    pub(crate) fn event(&self) -> (String, String) {
        let body = self.json();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&body["event_type"]), text(&body["agent_details"]["agentId"]))
    }

    /// The state that a report tells.
    pub(crate) fn state(&self) -> String {
        self.json()["state"].as_str().expect("a report").to_owned()
    }
}

#[derive(Debug, Default)]
struct Inner {
    calls: Mutex<Vec<Call>>,
    /// The next statuses; 200 when there are no more.
    statuses: Mutex<VecDeque<u16>>,
    changes: watch::Sender<()>,
    /// Whether calls wait for their answers.
    holds: watch::Sender<bool>,
}

/// The receiver, until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    inner: Arc<Inner>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let inner = Arc::new(Inner::default());
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, inner, server }
    }

    /// Answers the next calls so.
    pub(crate) fn answers(&self, statuses: &[u16]) {
        self.inner.statuses.lock().unwrap().extend(statuses);
    }

    /// Lets calls wait for their answers, or no longer.
    pub(crate) fn holds(&self, holds: bool) {
        self.inner.holds.send_replace(holds);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// Waits until so many calls have come.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Call> {
        let mut changes = self.inner.changes.subscribe();
        let enough = async {
            while self.calls().len() < count {
                changes.changed().await.expect("the receiver is there");
            }
        };
        let outcome = tokio::time::timeout(SOON, enough).await;
        assert!(outcome.is_ok(), "{count} calls were to come, and these came: {:?}", self.calls());
        self.calls()
    }

    /// A mock that tells this receiver, signs, works for a moment and is quick to try again.
    pub(crate) fn mock(&self) -> MockBuilder {
        MockAgentKit::builder()
            .notifies(&self.url)
            .secret(SECRET)
            .key("operator-key")
            .works_for(Duration::from_millis(5))
            .tries(5, Duration::from_millis(2))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(inner): State<Arc<Inner>>, request: Request) -> (StatusCode, &'static str) {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a whole body");
    let call =
        Call { method: parts.method.to_string(), path: parts.uri.path().to_owned(), headers: parts.headers, body };
    inner.calls.lock().unwrap().push(call);
    let status = inner.statuses.lock().unwrap().pop_front().unwrap_or(200);
    inner.changes.send_replace(());
    inner.holds.subscribe().wait_for(|holds| !holds).await.expect("the receiver is there");
    (StatusCode::from_u16(status).expect("a status"), "{}")
}

/// An agent's body as it is registered in the mock shape.
pub(crate) fn agent(id: &str) -> Value {
    serde_json::json!({
        "agentId": id, "agentName": format!("Agent {id}"), "version": "1.2.3", "capabilities": ["summarize"],
        "contactEndpoint": "http://127.0.0.1:9", "metadata": { "team": "x" },
    })
}

/// The message of a run.
pub(crate) fn message(task: &str) -> Value {
    serde_json::json!({
        "senderId": "opscore_system_id", "messageType": "workflow_task", "payload": { "text": "hello" },
        "sessionContext": { "workflowId": "wf-1", "sessionId": "s-1", "taskId": "t1" },
        "taskId": task, "task_name": "summarize", "opscore_session_id": "s-1", "opscore_task_id": task,
    })
}

/// The same agent for the library.
pub(crate) fn platform_agent(id: &str) -> eap_types::agentkit::PlatformAgent {
    eap_types::from_json(agent(id).to_string().as_bytes()).expect("an agent")
}
