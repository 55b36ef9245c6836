//! What comes back for reported results, one by one or several at once (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Decode, FieldProblem, Fields, ProblemBody, TaskId, TaskResult};

/// The status word of a result that was taken.
const ACCEPTED: &str = "accepted";

/// The answer 200 to `…/tasks/{task_id}/result`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ResultAccepted {
    /// The task.
    pub task_id: TaskId,
    /// Always `"accepted"`.
    pub status: String,
    /// Whether the very same result had been recorded before.
    pub duplicate: bool,
}

impl ResultAccepted {
    /// A result that was recorded, now or before.
    pub fn new(task_id: TaskId, duplicate: bool) -> Self {
        Self { task_id, status: ACCEPTED.to_owned(), duplicate }
    }
}

/// Several results at once, as an agent sends them: the body of `POST …/results`.
///
/// A server reads [`IncomingResults`], so that a wrong entry does not hold up the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ResultBatch {
    /// The results, at most 1000; each is judged on its own.
    #[schemars(length(max = 1000))]
    pub results: Vec<TaskResult>,
}

impl ResultBatch {
    /// A batch of results.
    pub fn new(results: impl IntoIterator<Item = TaskResult>) -> Self {
        Self { results: results.into_iter().collect() }
    }
}

/// Several results at once, as a server reads them: each entry is a result, or what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IncomingResults {
    /// The entries, in the order they came; fields are named as in `body.results[0].status`.
    pub entries: Vec<Result<TaskResult, Vec<FieldProblem>>>,
}

impl Decode for IncomingResults {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { entries: fields.each("results", crate::limits::MAX_BATCH_RESULTS)? })
    }
}

/// The answer 200 to `POST …/results`: what became of each, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ResultsReply {
    /// One outcome for each result sent.
    pub results: Vec<ResultOutcome>,
}

impl ResultsReply {
    /// The outcomes, in the order of the results.
    pub fn new(results: impl IntoIterator<Item = ResultOutcome>) -> Self {
        Self { results: results.into_iter().collect() }
    }
}

/// What became of one result of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ResultOutcome {
    /// It is recorded.
    Accepted(ResultAccepted),
    /// It is refused, with the body it would have had on its own.
    Refused(Box<ProblemBody>),
}
