//! What is asked of workflows that are kept, and of sessions on their way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::decode_via_fields;
use crate::{Decode, Fields};

const MAX_REASON_CHARS: usize = 4096;

/// Ends a session and the task of the step that runs: the body of `POST /api/v1/sessions/{session_id}/cancel`, which may also
/// be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct CancelSession {
    /// Why, for people and for whoever holds the task; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reason: Option<String>,
}

impl CancelSession {
    /// Ends it without a word.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets why.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

impl Decode for CancelSession {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { reason: fields.text("reason", MAX_REASON_CHARS) })
    }
}

decode_via_fields!(CancelSession);

/// Which version of a workflow: the query of `GET /api/v1/workflows/{workflow_id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkflowQuery {
    /// Its author's word for it. Default: the version that was kept last, which a run gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}
