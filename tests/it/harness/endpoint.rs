//! An agent's endpoint that plays what the test says, one turn for each request; after that it says 503.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Received, eventually};

/// What an endpoint does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    /// Answers with a status, headers and a body.
    Raw(u16, Vec<(&'static str, String)>, String),
    /// Answers 200 with these members as the result of the task that was sent.
    Result(Value),
    /// The same after a while.
    Late(Duration, Value),
    /// Answers with a status after a while.
    LateStatus(Duration, u16),
    /// Breaks off in the middle of the answer.
    Cut,
    /// Says nothing for so long that everybody gives up.
    Hang,
}

impl Turn {
    pub(crate) fn status(status: u16) -> Self {
        Self::Raw(status, Vec::new(), String::new())
    }

    pub(crate) fn retry_after(status: u16, seconds: u64) -> Self {
        Self::Raw(status, vec![("retry-after", seconds.to_string())], String::new())
    }

    pub(crate) fn raw(status: u16, body: String) -> Self {
        Self::Raw(status, Vec::new(), body)
    }

    pub(crate) fn result(members: Value) -> Self {
        Self::Result(members)
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) received: Received,
}

#[derive(Debug, Default)]
struct Shared {
    turns: Mutex<Vec<Turn>>,
    received: Mutex<Vec<Pushed>>,
    answered_late: AtomicUsize,
    lists_agents: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn start(turns: impl IntoIterator<Item = Turn>) -> Self {
        let shared = Arc::new(Shared { turns: Mutex::new(turns.into_iter().collect()), ..Shared::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let router = Router::new().fallback(play).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("the endpoint serves") });
        Self { url: format!("http://{address}/agent/"), shared, serving }
    }

    /// An agent platform that is asked for its agents, a turn for each time.
    pub(crate) async fn listing(turns: impl IntoIterator<Item = Turn>) -> Self {
        let endpoint = Self::start(turns).await;
        endpoint.shared.lists_agents.store(true, Ordering::SeqCst);
        endpoint
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn received(&self) -> Vec<Pushed> {
        self.shared.received.lock().expect("no endpoint panics").clone()
    }

    /// How many late statuses were given.
    pub(crate) fn answered(&self) -> usize {
        self.shared.answered_late.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub(crate) async fn until(&self, count: usize) -> Vec<Pushed> {
        eventually(&format!("{count} requests came"), async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }

    /// Takes no connections any more.
    pub(crate) async fn stop(self) {
        self.serving.abort();
        let address = self.url.trim_start_matches("http://").trim_end_matches("/agent/").to_owned();
        eventually("the port is free", async || TcpListener::bind(&address).await.ok()).await;
    }
}

async fn play(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("the request is whole").to_vec();
    let task: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    // An agent platform that does not list its agents: what is asked at every start is no turn.
    if method == "GET" && path.ends_with("/v1/agents") && !shared.lists_agents.load(Ordering::SeqCst) {
        return Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).expect("it has no headers");
    }
    let is_cancel = method == "DELETE";
    let turn = {
        let mut turns = shared.turns.lock().expect("no endpoint panics");
        let received = Received { headers: parts.headers, body, at };
        shared.received.lock().expect("no endpoint panics").push(Pushed { method, path, received });
        if is_cancel {
            Turn::status(202)
        } else if turns.is_empty() {
            Turn::status(503)
        } else {
            turns.remove(0)
        }
    };
    let result = |mut members: Value| {
        members["task_id"] = task["task_id"].clone();
        Response::new(Body::from(members.to_string()))
    };
    match turn {
        Turn::Raw(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).expect("the planned answer is one")
        }
        Turn::Result(members) => result(members),
        Turn::Late(pause, members) => {
            tokio::time::sleep(pause).await;
            result(members)
        }
        Turn::LateStatus(pause, status) => {
            tokio::time::sleep(pause).await;
            shared.answered_late.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(status).expect("the planned status is one");
            response
        }
        Turn::Cut => {
            let halves = [Ok(Bytes::from_static(b"{\"task_id\":")), Err(std::io::Error::other("the cable is cut"))];
            Response::new(Body::from_stream(stream::iter(halves)))
        }
        Turn::Hang => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Response::new(Body::empty())
        }
    }
}
