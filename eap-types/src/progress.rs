//! How far a task is, told while it runs (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_OUTPUT_DELTA_BYTES, MAX_PROGRESS_MESSAGE_CHARS};
use crate::macros::decode_via_fields;
use crate::{Decode, Directive, Fields, LeaseId, figure};

/// How far the work is: the body of `…/tasks/{task_id}/progress`. It renews the lease.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ProgressReport {
    /// Counts this attempt's reports; one that was overtaken is ignored.
    pub seq: u64,
    /// How far the work is, 0 to 1.
    #[serde(default, serialize_with = "figure::write_optional", skip_serializing_if = "figure::is_absent")]
    #[schemars(range(min = 0, max = 1))]
    pub progress: Option<f64>,
    /// What is being done, for people; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// What the work produced since the last report; at most 64 KiB, and 1 MiB for one attempt in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub output_delta: Option<String>,
    /// The lease the work is done under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// Which attempt this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

impl ProgressReport {
    /// A report that says no more than that the work goes on.
    pub fn new(seq: u64) -> Self {
        Self { seq, progress: None, message: None, output_delta: None, lease_id: None, attempt: None }
    }

    /// Sets how far the work is, 0 to 1.
    #[must_use]
    pub fn with_progress(mut self, progress: f64) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets what is being done.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets what the work produced since the last report.
    #[must_use]
    pub fn with_output_delta(mut self, delta: impl Into<String>) -> Self {
        self.output_delta = Some(delta.into());
        self
    }

    /// Names the lease and the attempt the work is done under.
    #[must_use]
    pub fn with_lease(mut self, lease_id: LeaseId, attempt: u32) -> Self {
        self.lease_id = Some(lease_id);
        self.attempt = Some(attempt);
        self
    }
}

impl Decode for ProgressReport {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let seq = fields.required("seq");
        let progress = fields.fraction("progress");
        let message = fields.text("message", MAX_PROGRESS_MESSAGE_CHARS);
        let output_delta: Option<String> = fields.optional("output_delta");
        if output_delta.as_ref().is_some_and(|delta| delta.len() > MAX_OUTPUT_DELTA_BYTES) {
            let message = format!("must have at most {MAX_OUTPUT_DELTA_BYTES} bytes");
            fields.problem("output_delta", "value_error", message);
        }
        let lease_id = fields.optional("lease_id");
        let attempt = fields.optional("attempt");
        Some(Self { seq: seq?, progress, message, output_delta, lease_id, attempt })
    }
}

/// The answer 200 to a progress report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ProgressReply {
    /// How long the renewed lease lasts from now, in milliseconds.
    pub lease_expires_in_ms: u64,
    /// What the agent is asked to do.
    #[serde(default, deserialize_with = "crate::macros::null_as_default")]
    pub directives: Vec<Directive>,
}

impl ProgressReply {
    /// An answer without directives.
    pub fn new(lease_expires_in_ms: u64) -> Self {
        Self { lease_expires_in_ms, directives: Vec::new() }
    }
}

decode_via_fields!(ProgressReport);
