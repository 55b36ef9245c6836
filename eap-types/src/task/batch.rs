//! Several tasks at once: `POST /api/v1/tasks/batch` (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SubmitTask;
use crate::limits::MAX_BATCH_TASKS;
use crate::{Decode, FieldProblem, Fields, ProblemBody, TaskId};

/// Several tasks to be done, as an operator sends them: the body of `POST /api/v1/tasks/batch`.
///
/// A server reads [`IncomingTasks`], so that a wrong entry does not hold up the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct SubmitBatch {
    /// The tasks, 1 to 1000; each is judged on its own.
    #[schemars(length(min = 1, max = 1000))]
    pub tasks: Vec<SubmitTask>,
}

impl SubmitBatch {
    /// A batch of tasks.
    pub fn new(tasks: impl IntoIterator<Item = SubmitTask>) -> Self {
        Self { tasks: tasks.into_iter().collect() }
    }
}

/// Several tasks at once, as a server reads them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IncomingTasks {
    /// The entries, in the order they came.
    pub entries: Vec<IncomingTask>,
}

/// One entry of a batch, as a server reads it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IncomingTask {
    /// How many bytes of the body it takes.
    pub bytes: usize,
    /// The task, or what is wrong with it; fields are named as in `body.tasks[0].priority`.
    pub task: Result<SubmitTask, Vec<FieldProblem>>,
}

impl Decode for IncomingTasks {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let entries = fields.each_sized("tasks", MAX_BATCH_TASKS)?;
        if entries.is_empty() {
            fields.problem("tasks", "value_error", "must have at least one entry");
        }
        Some(Self { entries: entries.into_iter().map(|(bytes, task)| IncomingTask { bytes, task }).collect() })
    }
}

/// The answer 200 to `POST /api/v1/tasks/batch`: what became of each, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SubmitBatchReply {
    /// One outcome for each task sent.
    pub tasks: Vec<SubmitOutcome>,
}

impl SubmitBatchReply {
    /// The outcomes, in the order of the tasks.
    pub fn new(tasks: impl IntoIterator<Item = SubmitOutcome>) -> Self {
        Self { tasks: tasks.into_iter().collect() }
    }
}

/// What became of one task of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum SubmitOutcome {
    /// It is kept and will be done.
    Submitted(SubmittedTask),
    /// It is refused, with the body it would have had on its own.
    Refused(Box<ProblemBody>),
}

/// A task that was taken in with its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SubmittedTask {
    /// The task.
    pub task_id: TaskId,
}

impl SubmittedTask {
    /// A task that is kept under this id.
    pub fn new(task_id: TaskId) -> Self {
        Self { task_id }
    }
}
