//! An agent as its platform describes it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::limits::{MAX_CAPABILITIES, MAX_METADATA_BYTES};
use crate::macros::decode_via_fields;
use crate::{AgentId, Decode, Fields, JsonObject, checked, endpoint};

const MAX_NAME_CHARS: usize = 255;
const MAX_VERSION_CHARS: usize = 64;
const MAX_CAPABILITY_CHARS: usize = 128;
/// Stands in the paths of the agents' side, where an id would.
const RESERVED_ID: &str = "external";

/// An agent of a platform: `agent_details` of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PlatformAgent {
    /// The platform's id for it; `external` is refused.
    pub agent_id: AgentId,
    /// Its name for people, 1 to 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub agent_name: String,
    /// The agent's own version, at most 64 characters.
    #[schemars(length(max = 64))]
    pub version: String,
    /// What it can be asked to do, as the platform spells it: at most 64 texts of 1 to 128 characters.
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub capabilities: Vec<String>,
    /// Where it can be called: an http or https URL.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub contact_endpoint: String,
    /// Anything else, at most 16 KiB. Default `{}`.
    #[serde(default)]
    pub metadata: JsonObject,
}

impl PlatformAgent {
    /// Describes version 1.0.0 of an agent that offers nothing yet.
    pub fn new(agent_id: AgentId, agent_name: impl Into<String>, contact_endpoint: impl Into<String>) -> Self {
        Self {
            agent_id,
            agent_name: agent_name.into(),
            version: "1.0.0".to_owned(),
            capabilities: Vec::new(),
            contact_endpoint: contact_endpoint.into(),
            metadata: JsonObject::default(),
        }
    }

    /// Sets the agent's own version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets what the agent can be asked to do.
    #[must_use]
    pub fn with_capabilities<I: IntoIterator<Item: Into<String>>>(mut self, capabilities: I) -> Self {
        self.capabilities = capabilities.into_iter().map(Into::into).collect();
        self
    }

    /// Sets what else there is to say.
    #[must_use]
    pub fn with_metadata(mut self, metadata: JsonObject) -> Self {
        self.metadata = metadata;
        self
    }
}

/// Reads the id of an agent that is not ours.
pub(super) fn decode_id(fields: &mut Fields<'_>, name: &str) -> Option<AgentId> {
    let id: AgentId = fields.required(name)?;
    if id.as_str() == RESERVED_ID {
        fields.problem(name, "value_error", "must not be `external`");
    }
    Some(id)
}

/// Reads a text that must be there and not be empty.
pub(super) fn decode_words(fields: &mut Fields<'_>, name: &str, most: usize) -> Option<String> {
    let words: String = fields.required(name)?;
    if !checked::has_chars(&words, 1, most) {
        fields.problem(name, "value_error", format!("must have 1 to {most} characters"));
    }
    Some(words)
}

impl PlatformAgent {
    /// Reads an agent as it comes to its platform, which gives it this id: without an `agentId`, or with one that does not
    /// count.
    pub fn decode_with_id(fields: &mut Fields<'_>, agent_id: AgentId) -> Option<Self> {
        let agent_name = decode_words(fields, "agentName", MAX_NAME_CHARS);
        let version = decode_version(fields);
        let capabilities = decode_capabilities(fields);
        let contact_endpoint = decode_endpoint(fields);
        let metadata = fields.json_object("metadata").unwrap_or_default();
        if metadata.as_str().len() > MAX_METADATA_BYTES {
            fields.problem("metadata", "value_error", "must not be larger than 16 KiB");
        }
        Some(Self {
            agent_id,
            agent_name: agent_name?,
            version: version?,
            capabilities: capabilities?,
            contact_endpoint: contact_endpoint?,
            metadata,
        })
    }
}

impl Decode for PlatformAgent {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let agent_id = decode_id(fields, "agentId");
        // What is wrong with the rest is named even if there is no id.
        let of_nobody = AgentId::v7(crate::Timestamp::UNIX_EPOCH, [0; 10]);
        let agent = Self::decode_with_id(fields, of_nobody)?;
        Some(Self { agent_id: agent_id?, ..agent })
    }
}

fn decode_version(fields: &mut Fields<'_>) -> Option<String> {
    if !fields.has("version") {
        fields.problem("version", "missing", "is required");
    }
    fields.text("version", MAX_VERSION_CHARS)
}

fn decode_capabilities(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let capabilities: Vec<String> = fields.required("capabilities")?;
    if capabilities.len() > MAX_CAPABILITIES {
        fields.problem("capabilities", "value_error", format!("must name at most {MAX_CAPABILITIES}"));
    }
    let wrong = capabilities.iter().position(|words| !checked::has_chars(words, 1, MAX_CAPABILITY_CHARS));
    if let Some(index) = wrong {
        let why = format!("must have 1 to {MAX_CAPABILITY_CHARS} characters");
        fields.problem(&format!("capabilities[{index}]"), "value_error", why);
    }
    Some(capabilities)
}

fn decode_endpoint(fields: &mut Fields<'_>) -> Option<String> {
    if !fields.has("contactEndpoint") {
        fields.problem("contactEndpoint", "missing", "is required");
    }
    endpoint::decode(fields, "contactEndpoint")
}

decode_via_fields!(PlatformAgent);
