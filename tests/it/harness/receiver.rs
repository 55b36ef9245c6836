//! Somebody who wants to be told: keeps what comes, answers as the test says, and trusts no signature unchecked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Response};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::eventually;

/// What a receiver does with a callback.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// Answers with a status, headers and a body.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// Says nothing for so long that everybody gives up.
    Hang,
    /// Answers 204 once the test gives a permit.
    Wait(Arc<Semaphore>),
}

impl Play {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), "")
    }
}

/// A callback as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} is there")).to_str().expect("headers are ASCII")
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Whether one of the signatures was made with this key over what came; by the words of RFC 2104, not by our code.
    pub(crate) fn is_signed_with(&self, key: &[u8]) -> bool {
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        let padded = |pad: u8| block.map(|byte| byte ^ pad);
        let mut inner = Sha256::new();
        inner.update(padded(0x36));
        inner.update(format!("{}.{}.", self.id(), self.header("webhook-timestamp")));
        inner.update(&self.body);
        let mut outer = Sha256::new();
        outer.update(padded(0x5c));
        outer.update(inner.finalize());
        let expected = format!("v1,{}", STANDARD.encode(outer.finalize()));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

#[derive(Debug, Default)]
struct Shared {
    plays: Mutex<Vec<Play>>,
    received: Mutex<Vec<Received>>,
}

/// A server that callbacks are sent to. What was planned for it is played once each, then it says 204.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) async fn start(plays: impl IntoIterator<Item = Play>) -> Self {
        Self::at("127.0.0.1:0".parse().expect("it is an address"), plays).await
    }

    pub(crate) async fn at(address: SocketAddr, plays: impl IntoIterator<Item = Play>) -> Self {
        let shared = Arc::new(Shared { plays: Mutex::new(plays.into_iter().collect()), received: Mutex::default() });
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let router = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the receiver serves") });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/done?key=canary-in-the-query", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no receiver panics").clone()
    }

    /// Waits until so many callbacks have come.
    pub(crate) async fn until(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} callbacks came"), async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: http::Request<Body>) -> Response<Body> {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("the request is whole").to_vec();
    let play = {
        let mut plays = shared.plays.lock().expect("no receiver panics");
        shared.received.lock().expect("no receiver panics").push(Received { headers: parts.headers, body, at });
        if plays.is_empty() { Play::status(204) } else { plays.remove(0) }
    };
    match play {
        Play::Answer(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).expect("the planned answer is one")
        }
        Play::Hang => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Response::new(Body::empty())
        }
        Play::Wait(permits) => {
            permits.acquire().await.expect("the test closes none").forget();
            Response::builder().status(204).body(Body::empty()).expect("the answer is one")
        }
    }
}
