//! A task on its way to an agent (ADR 001, docs/protocol.md section 1).

use std::fmt;

use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::limits::DEFAULT_TASK_TIMEOUT;
use crate::macros::decode_via_fields;
use crate::schema::add_spelling;
use crate::{Decode, Fields, JsonObject, LeaseId, SessionId, TaskId, TaskType, Timestamp};

/// One attempt at a task, handed to an agent: an entry of a lease reply, or the body of a task push.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = two_spellings)]
#[non_exhaustive]
pub struct Assignment {
    /// The task (ADR 001).
    pub task_id: TaskId,
    /// What the task belongs to; always sent by this project's orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// What kind of work it is. Default `task`, as ADR 001's example has none.
    #[serde(default = "unnamed_task_type")]
    pub task_type: TaskType,
    /// What else the agent is to know (ADR 001). Default `{}`.
    #[serde(default)]
    pub context: JsonObject,
    /// The work itself; ADR 001 spells it `input`, which is read as well.
    pub input_data: String,
    /// Words passed through to the agent and never matched (ADR 001). Default `[]`.
    #[serde(default)]
    pub requirements: Vec<String>,
    /// How long the attempt may take at most, in seconds. Default 3600.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// How long the attempt may go on without telling anything, in seconds; absent: as long as it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactivity_seconds: Option<u64>,
    /// The lease, to be named in heartbeats and in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// How long the lease lasts from now, in milliseconds: what agents count with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_in_ms: Option<u64>,
    /// When the lease ends by the server's clock, for display: nobody compares clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Timestamp>,
    /// Which attempt at the task this is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How many attempts the task has at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How urgent the task is, 0 (first) to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The W3C trace context to continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Shows how much input there is, not what: payloads stay out of logs.
impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment")
            .field("task_id", &self.task_id)
            .field("task_type", &self.task_type)
            .field("lease_id", &self.lease_id)
            .field("attempt", &self.attempt)
            .field("context", &self.context)
            .field("input_data", &format_args!("{} bytes", self.input_data.len()))
            .field("timeout_seconds", &self.timeout_seconds)
            .finish_non_exhaustive()
    }
}

impl Assignment {
    /// An assignment with the base fields; the rest is set as fields.
    pub fn new(task_id: TaskId, session_id: SessionId, task_type: TaskType, input_data: impl Into<String>) -> Self {
        Self {
            task_id,
            session_id: Some(session_id),
            task_type,
            context: JsonObject::default(),
            input_data: input_data.into(),
            requirements: Vec::new(),
            timeout_seconds: default_timeout(),
            inactivity_seconds: None,
            lease_id: None,
            lease_expires_in_ms: None,
            lease_expires_at: None,
            attempt: None,
            max_attempts: None,
            priority: None,
            traceparent: None,
        }
    }

    /// The same assignment as a peer without features reads it: with `input` besides `input_data`.
    pub fn for_older_peer(&self) -> impl Serialize + '_ {
        ForOlderPeer { input: &self.input_data, assignment: self }
    }
}

#[derive(Serialize)]
struct ForOlderPeer<'a> {
    input: &'a str,
    #[serde(flatten)]
    assignment: &'a Assignment,
}

impl Decode for Assignment {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let task_id = fields.required("task_id");
        let session_id = fields.optional("session_id");
        let task_type = fields.optional("task_type");
        let context = fields.json_object("context").unwrap_or_default();
        let is_adr_spelling = fields.has("input") && !fields.has("input_data");
        let input_data = fields.required(if is_adr_spelling { "input" } else { "input_data" });
        let requirements = fields.or_default("requirements");
        let timeout_seconds = fields.or("timeout_seconds", default_timeout());
        let inactivity_seconds = fields.optional("inactivity_seconds");
        let lease_id = fields.optional("lease_id");
        let lease_expires_in_ms = fields.optional("lease_expires_in_ms");
        let lease_expires_at = fields.optional("lease_expires_at");
        let attempt = fields.optional("attempt");
        let max_attempts = fields.optional("max_attempts");
        let priority = fields.optional("priority");
        let traceparent = fields.optional("traceparent");
        Some(Self {
            task_id: task_id?,
            session_id,
            task_type: task_type.unwrap_or_else(unnamed_task_type),
            context,
            input_data: input_data?,
            requirements,
            timeout_seconds,
            inactivity_seconds,
            lease_id,
            lease_expires_in_ms,
            lease_expires_at,
            attempt,
            max_attempts,
            priority,
            traceparent,
        })
    }
}

fn default_timeout() -> u64 {
    DEFAULT_TASK_TIMEOUT.as_secs()
}

fn unnamed_task_type() -> TaskType {
    "task".parse().expect("`task` is within the grammar of task types")
}

fn two_spellings(schema: &mut Schema) {
    add_spelling(schema, "input_data", "input");
}

decode_via_fields!(Assignment);
