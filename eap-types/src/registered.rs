//! The answer to a registration (docs/protocol.md section 1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, Features, Secret, Timestamp};

/// The status word of a registration that went through.
const REGISTERED: &str = "registered";

/// The answer 201 to `POST …/register`.
///
/// An older peer gets the first four fields only. It holds the agent's token, so it cannot be compared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Registered {
    /// The agent's id, in the path of every later call.
    pub agent_id: AgentId,
    /// Always `"registered"`.
    pub status: String,
    /// What the agent proves itself with in `X-Agent-Token`; shown here and never again.
    pub auth_token: Secret,
    /// How often the agent is to send a heartbeat, in seconds. Default 30.
    pub heartbeat_interval_seconds: u64,
    /// The protocol version the server speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// The features both sides understand; absent from an older orchestrator, which knows pushes and
    /// plain heartbeats only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// Where the agent's calls go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// How long a lease lasts when nothing renews it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
    /// What the server accepts at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<WireLimits>,
    /// What pushes to this agent are signed with, as in `whsec_…`, when it offered to be pushed to; shown here and never
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_secret: Option<Secret>,
    /// The server's time, for display and for noticing a wrong clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<Timestamp>,
}

impl Registered {
    /// The answer an older peer gets: the four base fields.
    pub fn new(agent_id: AgentId, auth_token: Secret, heartbeat_interval_seconds: u64) -> Self {
        Self {
            agent_id,
            status: REGISTERED.to_owned(),
            auth_token,
            heartbeat_interval_seconds,
            protocol_version: None,
            features: None,
            endpoints: None,
            lease_seconds: None,
            limits: None,
            push_secret: None,
            server_time: None,
        }
    }
}

/// URL paths of the agent's calls, with the prefix the register call came under and `{task_id}` where a
/// task belongs. A call that the server does not serve is left out on the wire and empty here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Endpoints {
    /// Where heartbeats go.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub heartbeat: String,
    /// Where several tasks are asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lease: String,
    /// Where one task is asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// Where the result of one task goes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// Where several results go at once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub results: String,
    /// Where progress is reported.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// Where a task is given back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// Where artifacts too large for a result are sent, with `{path}` where that of an artifact belongs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact: String,
    /// Where the WebSocket is opened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ws: String,
    /// Where a new token is asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rotate: String,
    /// Where the agent leaves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deregister: String,
}

impl Endpoints {
    /// No call at all; each is then set as a field.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Limits that an agent can meet before it sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WireLimits {
    /// The largest result body accepted, in bytes.
    pub max_body_bytes: u64,
    /// The largest artifact accepted by reference, in bytes; absent while that is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_artifact_bytes: Option<u64>,
}

impl WireLimits {
    /// A limit on bodies, and no artifacts by reference.
    pub fn new(max_body_bytes: u64) -> Self {
        Self { max_body_bytes, max_artifact_bytes: None }
    }
}
