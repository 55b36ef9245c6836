//! The JSON Schemas of task types' inputs, as agents publish them (docs/protocol.md section 1).

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_TASK_SCHEMAS, MAX_TASK_SCHEMAS_BYTES};
use crate::{AgentId, Fields, RawJson, TaskType};

/// Reads the schemas of a registration: what they say is looked at by the server, their number and size are here.
pub(crate) fn decode(fields: &mut Fields<'_>, name: &str) -> BTreeMap<TaskType, RawJson> {
    let schemas: BTreeMap<TaskType, RawJson> = fields.or_default(name);
    if schemas.len() > MAX_TASK_SCHEMAS {
        fields.problem(name, "value_error", format!("must have at most {MAX_TASK_SCHEMAS} task types"));
    }
    if schemas.values().map(|schema| schema.as_str().len()).sum::<usize>() > MAX_TASK_SCHEMAS_BYTES {
        fields.problem(name, "value_error", "must not be larger than 40 KiB");
    }
    for (task_type, schema) in &schemas {
        if !matches!(schema.as_str().as_bytes().first(), Some(b'{' | b't' | b'f')) {
            let field = format!("{name}.{task_type}");
            fields.problem(&field, "type_error", "a schema is an object, true or false");
        }
    }
    schemas
}

/// The form of a map from task types to schemas.
pub(crate) fn form(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_TASK_SCHEMAS,
        "propertyNames": generator.subschema_for::<TaskType>(),
        "additionalProperties": form_of_one(generator),
    })
}

/// The form of a schema: an object, or `true` for everything and `false` for nothing.
pub(crate) fn form_of_one(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "boolean"] })
}

/// What the agents that do tasks of one type take as its input: `GET /api/v1/task-types/{task_type}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskTypeView {
    /// The task type.
    pub task_type: TaskType,
    /// How many agents would get a task of this type that asks for nothing beyond it.
    pub agents: u64,
    /// Whether a submitted input has to be as one of the schemas says: there are some, and no agent takes the type
    /// without one.
    pub is_checked: bool,
    /// The schemas that these agents published, each once.
    #[serde(default)]
    pub schemas: Vec<PublishedSchema>,
}

impl TaskTypeView {
    /// A type that so many agents do, without any schema.
    pub fn new(task_type: TaskType, agents: u64) -> Self {
        Self { task_type, agents, is_checked: false, schemas: Vec::new() }
    }
}

/// A schema, and who published it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PublishedSchema {
    /// The JSON Schema of the input.
    #[schemars(schema_with = "form_of_one")]
    pub schema: RawJson,
    /// The agents that published it.
    pub agents: Vec<AgentId>,
}

impl PublishedSchema {
    /// A schema of these agents.
    pub fn new(schema: RawJson, agents: Vec<AgentId>) -> Self {
        Self { schema, agents }
    }
}
