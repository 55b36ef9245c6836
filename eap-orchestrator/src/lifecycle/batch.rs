//! Several tasks in at once: one commit, and one answer per task.

use std::sync::Arc;

use eap_core::Task;
use eap_types::{FieldProblem, IdempotencyKey, SubmitTask, TaskId, Traceparent};
use tracing::field::Empty;
use tracing::{Instrument as _, debug_span};

use super::submit::{fingerprint, invalid, principal};
use super::{Lifecycle, Share};
use crate::auth::Operator;
use crate::error::Error;
use crate::store::{Change, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, StoreError};
use crate::trace;

/// An entry of a batch as it was read: a task, or what is wrong with it.
pub(crate) type Entry = Result<SubmitTask, Vec<FieldProblem>>;

/// Why a task is not taken in that would be now.
const WAS_REFUSED: &str = "The batch was sent before, and this task was refused: send it under another key.";

/// What became of an entry.
type Outcome = Result<TaskId, Error>;

impl Lifecycle {
    /// Takes in every entry that is a task, all in one commit; the outcomes come in the order of the entries.
    ///
    /// A batch of which nothing can be taken in leaves its key unused.
    pub(crate) async fn submit_batch(
        self: &Arc<Self>,
        operator: &Operator,
        entries: Vec<Entry>,
        key: Option<IdempotencyKey>,
        traceparent: Option<Traceparent>,
    ) -> Result<Vec<Outcome>, Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        let span = debug_span!("submit_batch", tasks = entries.len(), trace_id = Empty, parent_id = Empty);
        if let Some(traceparent) = &traceparent {
            trace::join(&span, traceparent);
        }
        let submitted = self.detached(Share::New, async move {
            let Some(key) = key else {
                let (tasks, outcomes) = this.tasks_of(&operator, entries, traceparent.as_ref());
                this.insert_all(tasks, None).await?;
                return Ok(outcomes);
            };
            let body_sha256 = fingerprint(&entries)?;
            let scope =
                IdempotencyScope { principal: principal(&operator), route: "submit_batch", key: key.to_string() };
            let first = this.first_batch(&scope, body_sha256).await?;
            let (tasks, outcomes) = this.tasks_of(&operator, entries, traceparent.as_ref());
            if let Some(first) = first {
                return Ok(as_before(first, outcomes));
            }
            let row = tasks.first().map(|task| IdempotencyKeyRow {
                scope: scope.clone(),
                body_sha256,
                target: IdempotentTarget::Tasks(
                    outcomes.iter().map(|outcome| outcome.as_ref().ok().copied()).collect(),
                ),
                created_at: task.spec.created_at,
            });
            match this.insert_all(tasks, row).await {
                // The same call was under way: its answer is ours.
                Err(StoreError::Duplicate { .. }) => match this.first_batch(&scope, body_sha256).await? {
                    Some(first) => Ok(as_before(first, outcomes)),
                    None => Err(Error::Busy { reason: "the idempotency key was used and expired meanwhile" }),
                },
                Err(other) => Err(other.into()),
                Ok(()) => Ok(outcomes),
            }
        });
        submitted.instrument(span).await
    }

    /// The tasks that can be taken in, and the outcome of every entry once they are.
    fn tasks_of(
        &self,
        operator: &Operator,
        entries: Vec<Entry>,
        traceparent: Option<&Traceparent>,
    ) -> (Vec<Task>, Vec<Outcome>) {
        let mut tasks = Vec::with_capacity(entries.len());
        let decide = |(index, entry): (usize, Entry)| {
            let submission = entry.map_err(|problems| Error::Invalid { problems })?;
            let at = || format!("body.tasks[{index}]");
            let task = self.task_of(operator, submission, traceparent.cloned(), at)?;
            let id = task.id();
            tasks.push(task);
            Ok(id)
        };
        let outcomes = entries.into_iter().enumerate().map(decide).collect();
        (tasks, outcomes)
    }

    async fn insert_all(&self, tasks: Vec<Task>, idempotency: Option<IdempotencyKeyRow>) -> Result<(), StoreError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let mut change = Change { idempotency, ..Change::default() };
        tasks.iter().for_each(|task| change.add(Change::submitting(task.clone())));
        self.commit(change).await?;
        self.announcements.tasks_submitted(&tasks);
        Ok(())
    }

    /// What the key was first used for; an error if that was another batch.
    async fn first_batch(
        &self,
        scope: &IdempotencyScope,
        body_sha256: [u8; 32],
    ) -> Result<Option<Vec<Option<TaskId>>>, Error> {
        let Some(first) = self.store.idempotent(scope).await? else { return Ok(None) };
        match first.target {
            IdempotentTarget::Tasks(ids) if first.body_sha256 == body_sha256 => Ok(Some(ids)),
            _ => Err(Error::IdempotencyConflict),
        }
    }
}

/// The outcomes of the first call: what was refused then is refused again.
fn as_before(first: Vec<Option<TaskId>>, outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let again = |(index, (id, outcome)): (usize, (Option<TaskId>, Outcome))| match (id, outcome) {
        (Some(id), _) => Ok(id),
        (None, Err(refusal)) => Err(refusal),
        // Since then the agents say that they take other inputs, or the wall clock went back.
        (None, Ok(_)) => Err(invalid(&format!("body.tasks[{index}]"), WAS_REFUSED)),
    };
    first.into_iter().zip(outcomes).enumerate().map(again).collect()
}
