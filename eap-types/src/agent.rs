//! Agents as operators see them: `GET /api/v1/agents` and its kin (docs/protocol.md section 3).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::words;
use crate::{
    AgentId, AgentName, AgentType, Capabilities, DrainView, Features, HealthStatus, InstanceId, IntervalView,
    JsonObject, Labels, LeaseId, LoadBand, PushStop, RawJson, TaskId, TaskType, Timestamp, TrackRecordView, figure,
    task_schemas,
};

words! {
    /// What the server makes of an agent.
    pub enum AgentState {
        /// Its beats come in time.
        Online = "online",
        /// It missed a beat and a half.
        Suspect = "suspect",
        /// It missed three beats, or said that it is leaving.
        Offline = "offline",
        /// It finishes what it holds and takes nothing new.
        Draining = "draining",
        /// A newer agent of the same name and endpoint took its place.
        Superseded = "superseded",
        /// It was taken off the list.
        Deregistered = "deregistered",
    }
}

/// An agent as it now is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AgentView {
    /// The agent.
    pub agent_id: AgentId,
    /// Name shown to people.
    pub name: AgentName,
    /// What the server makes of it.
    pub state: AgentState,
    /// How it says it is doing; absent before its first beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HealthStatus>,
    /// Its own version.
    pub version: String,
    /// The kind of agent.
    pub agent_type: AgentType,
    /// What it can be asked to do.
    pub capabilities: Capabilities,
    /// Words to route by.
    #[serde(default)]
    pub labels: Labels,
    /// What tells it apart from others of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
    /// How many tasks it may hold at once.
    pub max_concurrent_tasks: u32,
    /// How many tasks it holds.
    pub leases: u32,
    /// The share of its capacity in use, as it says, 0 to 1.
    #[serde(serialize_with = "figure::write")]
    pub current_load: f64,
    /// When it registered last.
    pub registered_at: Timestamp,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Where tasks are pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// How pushing tasks to it goes; absent if none are pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushView>,
}

/// How pushing tasks to an agent goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PushView {
    /// Since when nothing is pushed; absent while tasks are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// Why nothing is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<PushStop>,
}

impl PushView {
    /// Tasks are pushed.
    pub fn open() -> Self {
        Self::default()
    }

    /// Nothing is pushed since then.
    pub fn suspended(at: Timestamp, reason: PushStop) -> Self {
        Self { suspended_at: Some(at), reason: Some(reason) }
    }
}

/// How an agent of a platform (AgentKit) is, by its own newest word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PlatformStateView {
    /// The word for it, as it was sent; `UNKNOWN` before the first report.
    pub state: String,
    /// Whether an agent in this state is given work.
    pub is_free: bool,
    /// What else the report said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<JsonObject>,
    /// When it was so; before the first report, since when the agent is known.
    pub timestamp: Timestamp,
}

impl PlatformStateView {
    /// A report without details.
    pub fn new(state: impl Into<String>, is_free: bool, timestamp: Timestamp) -> Self {
        Self { state: state.into(), is_free, details: None, timestamp }
    }

    /// Sets what else the report said.
    #[must_use]
    pub fn with_details(mut self, details: Option<JsonObject>) -> Self {
        self.details = details;
        self
    }
}

impl AgentView {
    /// An agent that just registered; everything else is set as fields.
    pub fn new(agent_id: AgentId, name: AgentName, capabilities: Capabilities, registered_at: Timestamp) -> Self {
        Self {
            agent_id,
            name,
            state: AgentState::Online,
            status: None,
            version: "1.0.0".to_owned(),
            agent_type: AgentType::default(),
            capabilities,
            labels: Labels::default(),
            instance_id: None,
            max_concurrent_tasks: 5,
            leases: 0,
            current_load: 0.0,
            registered_at,
            last_seen_at: None,
            endpoint_url: None,
            push: None,
        }
    }
}

/// An agent with everything that is kept about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AgentDetail {
    /// What the list shows of it.
    #[serde(flatten)]
    pub agent: AgentView,
    /// What it said about itself when it registered.
    #[serde(default)]
    pub metadata: JsonObject,
    /// What it measured last.
    #[serde(default)]
    pub metrics: JsonObject,
    /// The features agreed with it; absent for an older peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// The JSON Schemas of its task types' inputs, as it published them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "task_schemas::form")]
    pub task_schemas: BTreeMap<TaskType, RawJson>,
    /// What the tasks it holds make of its load; absent from a server that does not score agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadBand>,
    /// How it has done so far; absent from a server that does not score agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_record: Option<TrackRecordView>,
    /// Since when it is asked to get a new token; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_asked_at: Option<Timestamp>,
    /// That an operator asked it to take nothing new; absent unless one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
    /// That an operator asked it to beat at an interval of its own; absent unless one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalView>,
    /// How it is by its own word, for an agent of a platform; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_state: Option<PlatformStateView>,
    /// The tasks it holds.
    #[serde(default)]
    pub held: Vec<HeldLease>,
    /// Rises by one with each registration under this id.
    pub epoch: u64,
}

impl AgentDetail {
    /// An agent in its first epoch that holds nothing; everything else is set as fields.
    pub fn new(agent: AgentView) -> Self {
        Self {
            agent,
            metadata: JsonObject::default(),
            metrics: JsonObject::default(),
            features: None,
            task_schemas: BTreeMap::new(),
            load: None,
            track_record: None,
            rotation_asked_at: None,
            drain: None,
            interval: None,
            platform_state: None,
            held: Vec::new(),
            epoch: 1,
        }
    }
}

/// A task that an agent holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HeldLease {
    /// The task.
    pub task_id: TaskId,
    /// The lease it is held under.
    pub lease_id: LeaseId,
    /// Which attempt it is.
    pub attempt: u32,
    /// When the lease ends unless it is renewed.
    pub expires_at: Timestamp,
}

impl HeldLease {
    /// A task held until `expires_at`.
    pub fn new(task_id: TaskId, lease_id: LeaseId, attempt: u32, expires_at: Timestamp) -> Self {
        Self { task_id, lease_id, attempt, expires_at }
    }
}

/// A page of agents, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AgentPage {
    /// The agents.
    pub agents: Vec<AgentView>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl AgentPage {
    /// A page and the way to the next one.
    pub fn new(agents: Vec<AgentView>, next_cursor: Option<String>) -> Self {
        Self { agents, next_cursor }
    }
}
