//! How an agent joins: `POST …/register` and its answer (ADR 001, docs/protocol.md section 1).

mod feature;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::feature::{Feature, Features};
use crate::limits::{DEFAULT_CONCURRENT_TASKS, MAX_CONCURRENT_TASKS, MAX_METADATA_BYTES};
use crate::macros::{decode_via_fields, words};
use crate::{
    AgentName, AgentType, Capabilities, Decode, Fields, InstanceId, JsonObject, Labels, RawJson, TaskType, endpoint,
    task_schemas,
};

/// The protocol version that this crate speaks, as registrations state it.
pub const PROTOCOL_VERSION: &str = "1.0";

/// Keys of `metadata` that the server writes itself.
const SERVER_KEYS: [&str; 5] = ["is_external", "endpoint_url", "protocol_version", "auth_token", "version"];
/// Characters of an agent's own version.
const MAX_VERSION_CHARS: usize = 64;

words! {
    /// A way for tasks to reach an agent.
    pub enum TransportKind {
        /// The agent asks for tasks.
        Pull = "pull",
        /// The orchestrator posts tasks to the agent's `endpoint_url`.
        Push = "push",
        /// Tasks travel over a WebSocket that the agent opened.
        Ws = "ws",
    }
}

/// What an agent says about itself when it joins: the body of `POST …/register`.
///
/// ```
/// use eap_types::{Capabilities, Registration};
///
/// let name = "AGENT-EXT-PYTHON-01".parse()?;
/// let capabilities = Capabilities::new(["code_generation", "python_expert"])?;
/// let registration = Registration::new(name, capabilities).with_version("1.2.0");
/// assert_eq!(registration.protocol_version, "1.0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Registration {
    /// The protocol the agent speaks; only the major version, which must be 1, decides (ADR 001). Default `"1.0"`.
    #[serde(default = "protocol_version")]
    #[schemars(regex(pattern = r"^1(\.|$)"))]
    pub protocol_version: String,
    /// Name shown to people, as in `AGENT-EXT-PYTHON-01` (ADR 001).
    pub name: AgentName,
    /// The agent's own version, free text of at most 64 characters (ADR 001). Default `"1.0.0"`.
    #[serde(default = "version")]
    #[schemars(length(max = 64))]
    pub version: String,
    /// The kind of agent, for people and statistics. Default `implementer`.
    #[serde(default)]
    pub agent_type: AgentType,
    /// What the agent can be asked to do; never empty (ADR 001).
    pub capabilities: Capabilities,
    /// Where tasks are pushed to, an http(s) URL without user info and fragment (ADR 001).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub endpoint_url: Option<String>,
    /// Anything else about the agent, at most 16 KiB (ADR 001). The keys `is_external`, `endpoint_url`,
    /// `protocol_version`, `auth_token` and `version` are the server's:
    /// they are left out on reading, as OpenCode's server overwrites them.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub metadata: JsonObject,
    /// What the agent understands beyond the base; without the key it is an older peer
    /// (docs/protocol.md, opening section).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// Tells two agents of one name apart, and makes registering again keep the `agent_id`
    /// (docs/protocol.md section 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
    /// Words to route by, as in `region=eu`; an agent must have every label of a task.
    #[serde(default, skip_serializing_if = "no_labels")]
    pub labels: Labels,
    /// How many tasks the agent may hold at once, 1 to 1000. Default 5.
    #[serde(default = "concurrent_tasks", skip_serializing_if = "is_default_concurrency")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_tasks: u32,
    /// How tasks may reach the agent, the preferred way first: `pull`, and `push` with an `endpoint_url`. Default `["pull"]`.
    /// An older peer with an `endpoint_url` is pushed to in any case.
    #[serde(default = "pull_only", skip_serializing_if = "is_pull_only")]
    pub transports: Vec<TransportKind>,
    /// The JSON Schema of the input of each task type that has one, at most 64 and 40 KiB together; what does not fit
    /// them is refused when it is submitted (docs/protocol.md section 1). An agent that keeps to ADR 001 has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "task_schemas::form")]
    pub task_schemas: BTreeMap<TaskType, RawJson>,
}

impl Registration {
    /// A registration with every default of the protocol: an older peer that takes up to five tasks.
    pub fn new(name: AgentName, capabilities: Capabilities) -> Self {
        Self {
            protocol_version: protocol_version(),
            name,
            version: version(),
            agent_type: AgentType::default(),
            capabilities,
            endpoint_url: None,
            metadata: JsonObject::default(),
            features: None,
            instance_id: None,
            labels: Labels::default(),
            max_concurrent_tasks: DEFAULT_CONCURRENT_TASKS,
            transports: pull_only(),
            task_schemas: BTreeMap::new(),
        }
    }

    /// Sets the agent's own version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the kind of agent.
    #[must_use]
    pub fn with_agent_type(mut self, agent_type: AgentType) -> Self {
        self.agent_type = agent_type;
        self
    }

    /// Sets where tasks are pushed to; checked when the message is read.
    #[must_use]
    pub fn with_endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Sets what else there is to say about the agent.
    #[must_use]
    pub fn with_metadata(mut self, metadata: JsonObject) -> Self {
        self.metadata = metadata;
        self
    }

    /// Announces what the agent understands beyond the base.
    #[must_use]
    pub fn with_features(mut self, features: impl IntoIterator<Item = Feature>) -> Self {
        self.features = Some(features.into_iter().collect());
        self
    }

    /// Sets what tells this agent apart from others of its name.
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: InstanceId) -> Self {
        self.instance_id = Some(instance_id);
        self
    }

    /// Sets the words to route by.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Sets how many tasks the agent may hold at once.
    #[must_use]
    pub fn with_max_concurrent_tasks(mut self, tasks: u32) -> Self {
        self.max_concurrent_tasks = tasks;
        self
    }

    /// Sets how tasks may reach the agent.
    #[must_use]
    pub fn with_transports(mut self, transports: impl IntoIterator<Item = TransportKind>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// Publishes the JSON Schema of a task type's input.
    #[must_use]
    pub fn with_task_schema(mut self, task_type: TaskType, schema: RawJson) -> Self {
        self.task_schemas.insert(task_type, schema);
        self
    }

    /// Whether tasks are to be pushed to the agent.
    pub fn wants_pushes(&self) -> bool {
        self.endpoint_url.is_some() && (self.is_older_peer() || self.transports.contains(&TransportKind::Push))
    }

    /// Whether the agent knows nothing beyond the base: it said nothing about features.
    pub fn is_older_peer(&self) -> bool {
        self.features.is_none()
    }
}

impl Decode for Registration {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let protocol_version = decode_protocol_version(fields);
        let name = fields.required("name");
        let version = fields.text("version", MAX_VERSION_CHARS);
        let agent_type = fields.or_default("agent_type");
        let capabilities = fields.required("capabilities");
        let endpoint_url = endpoint::decode(fields, "endpoint_url");
        let metadata = decode_metadata(fields);
        let features = fields.optional("features");
        let instance_id = fields.optional("instance_id");
        let labels = fields.or_default("labels");
        let max_concurrent_tasks = fields
            .range("max_concurrent_tasks", 1..=MAX_CONCURRENT_TASKS.into(), Some(DEFAULT_CONCURRENT_TASKS.into()))
            .and_then(|tasks| u32::try_from(tasks).ok());
        let transports = decode_transports(fields, endpoint_url.is_some());
        let task_schemas = task_schemas::decode(fields, "task_schemas");
        Some(Self {
            protocol_version,
            name: name?,
            version: version.unwrap_or_else(self::version),
            agent_type,
            capabilities: capabilities?,
            endpoint_url,
            metadata,
            features,
            instance_id,
            labels,
            max_concurrent_tasks: max_concurrent_tasks?,
            transports,
            task_schemas,
        })
    }
}

fn decode_protocol_version(fields: &mut Fields<'_>) -> String {
    let given = fields.or("protocol_version", protocol_version());
    if given.split('.').next() != Some("1") {
        fields.unsupported_version(&given);
    }
    given
}

fn decode_metadata(fields: &mut Fields<'_>) -> JsonObject {
    let Some(metadata) = fields.json_object("metadata") else {
        return JsonObject::default();
    };
    if metadata.as_str().len() > MAX_METADATA_BYTES {
        fields.problem("metadata", "value_error", "must not be larger than 16 KiB");
    }
    without_server_keys(metadata)
}

/// OpenCode's agents may send keys that its server then overwrites: ours leaves them out.
fn without_server_keys(metadata: JsonObject) -> JsonObject {
    let mut members: BTreeMap<String, RawJson> = metadata.decode().unwrap_or_default();
    let before = members.len();
    members.retain(|key, _| !SERVER_KEYS.contains(&key.as_str()));
    if members.len() == before {
        return metadata;
    }
    JsonObject::from_serialize(&members).unwrap_or_default()
}

fn decode_transports(fields: &mut Fields<'_>, has_endpoint: bool) -> Vec<TransportKind> {
    let transports = fields.or("transports", pull_only());
    if transports.contains(&TransportKind::Push) && !has_endpoint {
        fields.problem("transports", "value_error", "`push` needs an endpoint_url");
    } else if transports.is_empty() {
        fields.problem("transports", "value_error", "must name at least one transport");
    }
    transports
}

fn protocol_version() -> String {
    PROTOCOL_VERSION.to_owned()
}

fn version() -> String {
    "1.0.0".to_owned()
}

fn concurrent_tasks() -> u32 {
    DEFAULT_CONCURRENT_TASKS
}

fn pull_only() -> Vec<TransportKind> {
    vec![TransportKind::Pull]
}

fn no_labels(labels: &Labels) -> bool {
    labels.is_empty()
}

fn is_default_concurrency(tasks: &u32) -> bool {
    *tasks == DEFAULT_CONCURRENT_TASKS
}

fn is_pull_only(transports: &[TransportKind]) -> bool {
    transports == [TransportKind::Pull]
}

decode_via_fields!(Registration);
