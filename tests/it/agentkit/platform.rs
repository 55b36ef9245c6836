//! A platform that signs by code of its own, as AgentKit's documents say.

use eap_orchestrator::AgentKit;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{Answer, Call, Server, Setup};

pub(super) const SECRET: &str = "the word of the platform";
pub(super) const NOTIFY: &str = "/v1/opscore/internal/agent/notify";

/// A server with the face, in each kind of store, whose time stands.
pub(super) fn setups() -> [Setup; 2] {
    [Setup::memory(), Setup::sqlite()].map(|setup| with_face(setup, &[SECRET]).manual_clock())
}

pub(super) fn with_face(setup: Setup, secrets: &[&str]) -> Setup {
    let mut face = AgentKit::default();
    face.secrets = secrets.iter().map(|secret| secret.parse().expect("it is not empty")).collect();
    setup.config(|config| config.agentkit = Some(face))
}

pub(super) fn mac(secret: &str, text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A webhook that is not sent yet.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    pub(super) body: String,
    pub(super) timestamp: String,
    pub(super) signature: String,
}

impl Webhook {
    /// Signed at a second of the server's clock, counted from now.
    pub(super) fn at(server: &Server, offset: i64, body: &Value) -> Self {
        Self::signed(SECRET, (seconds(server) + offset).to_string(), body.to_string())
    }

    pub(super) fn signed(secret: &str, timestamp: String, body: String) -> Self {
        let signature = hex(&mac(secret, format!("{timestamp}.{body}").as_bytes()));
        Self { body, timestamp, signature }
    }

    pub(super) fn call(&self, server: &Server) -> Call {
        let call = server.api.post(NOTIFY).bytes(self.body.clone());
        call.header("x-agentkit-timestamp", &self.timestamp).header("x-agentkit-signature", &self.signature)
    }

    pub(super) async fn send(&self, server: &Server) -> Answer {
        self.call(server).send().await
    }
}

/// The server's time.
pub(super) fn seconds(server: &Server) -> i64 {
    use eap_orchestrator::Clock as _;
    server.clock().now().as_micros() / 1_000_000
}

pub(super) fn register(agent: &str) -> Value {
    json!({"event_type": "REGISTER", "agent_details": {
        "agentId": agent, "agentName": "Summarizer", "version": "1.0.0", "capabilities": ["summarize"],
        "contactEndpoint": "http://agent-a1:9000", "metadata": {}
    }})
}

pub(super) fn deregister(agent: &str) -> Value {
    json!({"event_type": "deregister", "agent_details": {"agentId": agent}})
}

/// Registers an agent.
pub(super) async fn registered(server: &Server, agent: &str) {
    Webhook::at(server, 0, &register(agent)).send(server).await.expect(200);
}

/// The state of the agent in the registry, or the status of the refusal.
pub(super) async fn registry(server: &Server, agent: &str) -> String {
    let answer = server.operator().agent(agent).await;
    match answer.status {
        200 => answer.body["state"].as_str().expect("an agent has a state").to_owned(),
        status => status.to_string(),
    }
}

/// A refusal of this face.
#[track_caller]
pub(super) fn detail(answer: Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let members: Vec<_> = answer.body.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["detail"]);
    let mut body = answer.body;
    body["detail"].take()
}
