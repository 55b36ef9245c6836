//! How an attempt ended (ADR 001, docs/protocol.md section 2).

mod write;

use std::collections::HashSet;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::limits::MAX_ARTIFACTS;
use crate::macros::{decode_via_fields, words};
use crate::schema::add_nested;
use crate::{Artifact, Decode, Fields, JsonObject, LeaseId, TaskId, UnknownWord};

/// The fields that ADR 001 nests in `metrics`.
const FIGURES: [&str; 3] = ["execution_time_ms", "tokens_used", "cost_usd"];

words! {
    /// How an attempt ended. On input `cancelled` is read as failed with [`FailureCode::Cancelled`].
    pub enum ResultStatus {
        /// The work is done.
        Completed = "completed",
        /// The work is not done.
        Failed = "failed",
    }
}

words! {
    /// Why an attempt failed, for programs.
    pub enum FailureCode {
        /// The agent's own code failed.
        HandlerError = "HANDLER_ERROR",
        /// The work took too long.
        Timeout = "TIMEOUT",
        /// The work was stopped on request.
        Cancelled = "CANCELLED",
        /// The agent will not do this task; another may.
        Rejected = "REJECTED",
        /// The agent has nothing that does this kind of task; another may.
        UnsupportedTask = "UNSUPPORTED_TASK",
        /// The task itself is wrong: repeating it is of no use.
        InvalidInput = "INVALID_INPUT",
        /// The agent ran out of memory, disk, quota or the like.
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        /// Something went wrong inside the agent's runtime.
        Internal = "INTERNAL",
    }
}

/// What an agent reports about one attempt: the body of `…/result`, or the answer to a push.
///
/// It leaves with the three figures spelled twice, beside the other fields and in `metrics`, so that
/// readers of ADR 001 find them too.
///
/// ```
/// use eap_types::{FailureCode, TaskId, TaskResult};
///
/// let task: TaskId = "01956e3c-7f60-7000-8000-000000000001".parse()?;
/// let result = TaskResult::failed(task, FailureCode::InvalidInput, "no such language");
/// assert!(!result.is_retryable());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(transform = older_spellings)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task (ADR 001).
    pub task_id: TaskId,
    /// How the attempt ended (ADR 001).
    pub status: ResultStatus,
    /// Files the work produced, at most 100 (ADR 001). Default `[]`.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub artifacts: Vec<Artifact>,
    /// What the work produced, as data. Default `{}`.
    #[serde(default)]
    pub output_data: JsonObject,
    /// Why the work failed, for people.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// How long the work took, in milliseconds; finite and not negative (ADR 001).
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub execution_time_ms: Option<f64>,
    /// How many tokens the work used; finite and not negative (ADR 001).
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tokens_used: Option<f64>,
    /// What the work cost in US dollars; finite and not negative.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cost_usd: Option<f64>,
    /// The lease the work was done under.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// Which attempt this is the result of.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why the work failed, for programs.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<FailureCode>,
    /// Whether another attempt may succeed; absent: yes, except after `INVALID_INPUT`.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

impl TaskResult {
    /// Work that is done.
    pub fn completed(task_id: TaskId, output: JsonObject) -> Self {
        Self {
            task_id,
            status: ResultStatus::Completed,
            artifacts: Vec::new(),
            output_data: output,
            error_message: None,
            execution_time_ms: None,
            tokens_used: None,
            cost_usd: None,
            lease_id: None,
            attempt: None,
            error_code: None,
            retryable: None,
        }
    }

    /// Work that failed: why for programs, and why for people.
    pub fn failed(task_id: TaskId, code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            status: ResultStatus::Failed,
            error_code: Some(code),
            error_message: Some(message.into()),
            ..Self::completed(task_id, JsonObject::default())
        }
    }

    /// Adds files.
    #[must_use]
    pub fn with_artifacts(mut self, artifacts: impl IntoIterator<Item = Artifact>) -> Self {
        self.artifacts.extend(artifacts);
        self
    }

    /// Sets what the work produced, as data.
    #[must_use]
    pub fn with_output_data(mut self, output: JsonObject) -> Self {
        self.output_data = output;
        self
    }

    /// Sets how long the work took, in milliseconds.
    #[must_use]
    pub fn with_execution_time_ms(mut self, milliseconds: f64) -> Self {
        self.execution_time_ms = Some(milliseconds);
        self
    }

    /// Sets how many tokens the work used.
    #[must_use]
    pub fn with_tokens_used(mut self, tokens: f64) -> Self {
        self.tokens_used = Some(tokens);
        self
    }

    /// Sets what the work cost in US dollars.
    #[must_use]
    pub fn with_cost_usd(mut self, dollars: f64) -> Self {
        self.cost_usd = Some(dollars);
        self
    }

    /// Names the lease and the attempt the work was done under.
    #[must_use]
    pub fn with_lease(mut self, lease_id: LeaseId, attempt: u32) -> Self {
        self.lease_id = Some(lease_id);
        self.attempt = Some(attempt);
        self
    }

    /// Says whether another attempt may succeed.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = Some(retryable);
        self
    }

    /// Whether another attempt may succeed: what the agent says, else yes except after `INVALID_INPUT`.
    pub fn is_retryable(&self) -> bool {
        self.retryable.unwrap_or(self.error_code != Some(FailureCode::InvalidInput))
    }

    /// What the result says, without the lease and the attempt it was reported under.
    ///
    /// Two reports say the same when these texts are equal, however they were spelled.
    pub fn canonical_text(&self) -> String {
        let output_data = RawValue::from_string(self.output_data.canonical());
        let said = Said {
            artifacts: &self.artifacts,
            cost_usd: self.cost_usd,
            error_code: self.error_code,
            error_message: self.error_message.as_deref(),
            execution_time_ms: self.execution_time_ms,
            output_data: output_data.expect("canonical JSON is JSON"),
            retryable: self.retryable,
            status: self.status,
            task_id: self.task_id,
            tokens_used: self.tokens_used,
        };
        serde_json::to_string(&said).expect("every key of a result is text")
    }
}

impl Decode for TaskResult {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let task_id = fields.required("task_id");
        let status: Option<ReportedStatus> = fields.required("status");
        let artifacts: Vec<Artifact> = fields.array("artifacts").unwrap_or_default();
        if artifacts.len() > MAX_ARTIFACTS {
            fields.problem("artifacts", "value_error", format!("must have at most {MAX_ARTIFACTS} entries"));
        }
        let mut paths = HashSet::new();
        // Of a list that is too long, its length is what there is to say.
        for (place, artifact) in artifacts.iter().enumerate().filter(|_| artifacts.len() <= MAX_ARTIFACTS) {
            if !paths.insert(&artifact.path) {
                fields.problem(
                    &format!("artifacts[{place}].path"),
                    "value_error",
                    "is the path of an earlier artifact",
                );
            }
        }
        let output_data = fields.json_object("output_data").unwrap_or_default();
        let error_message = fields.optional("error_message");
        let nested: Figures = fields.object("metrics").unwrap_or_default();
        let flat = Figures::decode(fields).unwrap_or_default();
        let lease_id = fields.optional("lease_id");
        let attempt = fields.optional("attempt");
        let error_code = fields.optional("error_code");
        let retryable = fields.optional("retryable");
        let (status, error_code) = match status? {
            ReportedStatus::Completed => (ResultStatus::Completed, error_code),
            ReportedStatus::Failed => (ResultStatus::Failed, error_code),
            ReportedStatus::Cancelled => (ResultStatus::Failed, Some(FailureCode::Cancelled)),
        };
        Some(Self {
            task_id: task_id?,
            status,
            artifacts,
            output_data,
            error_message,
            execution_time_ms: flat.execution_time_ms.or(nested.execution_time_ms),
            tokens_used: flat.tokens_used.or(nested.tokens_used),
            cost_usd: flat.cost_usd.or(nested.cost_usd),
            lease_id,
            attempt,
            error_code,
            retryable,
        })
    }
}

/// What counts when two reports are compared, in one fixed order.
#[derive(Serialize)]
struct Said<'a> {
    artifacts: &'a [Artifact],
    cost_usd: Option<f64>,
    error_code: Option<FailureCode>,
    error_message: Option<&'a str>,
    execution_time_ms: Option<f64>,
    output_data: Box<RawValue>,
    retryable: Option<bool>,
    status: ResultStatus,
    task_id: TaskId,
    tokens_used: Option<f64>,
}

/// The words an agent may use; an older one says `cancelled`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
enum ReportedStatus {
    Completed,
    Failed,
    Cancelled,
}

impl TryFrom<String> for ReportedStatus {
    type Error = UnknownWord;

    fn try_from(given: String) -> Result<Self, UnknownWord> {
        match given.as_str() {
            "completed" => Ok(Self::Completed),
            "failed" => Ok(Self::Failed),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(UnknownWord { given, expected: "completed, failed".to_owned() }),
        }
    }
}

#[derive(Default)]
struct Figures {
    execution_time_ms: Option<f64>,
    tokens_used: Option<f64>,
    cost_usd: Option<f64>,
}

impl Decode for Figures {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            execution_time_ms: fields.finite_non_negative("execution_time_ms"),
            tokens_used: fields.finite_non_negative("tokens_used"),
            cost_usd: fields.finite_non_negative("cost_usd"),
        })
    }
}

fn older_spellings(schema: &mut Schema) {
    add_nested(schema, "metrics", &FIGURES);
}

decode_via_fields!(TaskResult);
