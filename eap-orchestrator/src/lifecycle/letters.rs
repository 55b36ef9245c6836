//! Dead letters: requeue and discard.

use std::sync::Arc;

use eap_core::{Note, NoteKind, Requeue, Step};
use eap_types::{TaskId, TaskView};

use super::{Lifecycle, MAX_CONFLICTS, Share, written};
use crate::auth::Operator;
use crate::clock::draw;
use crate::error::Error;
use crate::store::{Change, StoreError, Stored, TaskWrite, events_of};

/// The task that does a dead letter again.
#[derive(Debug)]
pub(crate) struct Requeued {
    pub(crate) task: TaskView,
    /// Whether this call made it.
    pub(crate) is_new: bool,
}

impl Lifecycle {
    /// Does a dead letter again, by a new task; both are written in one commit.
    pub(crate) async fn requeue(self: &Arc<Self>, operator: &Operator, id: TaskId) -> Result<Requeued, Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        self.detached(Share::New, async move {
            for _ in 0..MAX_CONFLICTS {
                let Stored { record: letter, revision, now } = this.owned(&operator, id).await?;
                let (changed, task) = match letter.requeue(TaskId::v7(now, draw(&*this.entropy)), now)? {
                    Requeue::Before(task) => {
                        return Ok(Requeued { task: this.task_view(&operator, task).await?, is_new: false });
                    }
                    Requeue::Anew { letter, task } => (*letter, *task),
                };
                let (_, mut change) = written(&letter, revision, changed, now, None);
                let message = Some(format!("requeued from {id}"));
                let note = Note { message, ..Note::of(NoteKind::Submitted) };
                change.events.extend(events_of(&task, &[note], now));
                change.tasks.push(TaskWrite::Insert(task.clone()));
                if this.commit_at_revision(change).await? {
                    this.announce(&task);
                    return Ok(Requeued { task: this.view(&task, None), is_new: true });
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the task" })
        })
        .await
    }

    /// Takes a dead letter off the list; one that is off it already stays as it is.
    pub(crate) async fn discard(self: &Arc<Self>, operator: &Operator, id: TaskId) -> Result<(), Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        self.detached(Share::Running, async move {
            for _ in 0..MAX_CONFLICTS {
                let Stored { record: letter, revision, now } = this.owned(&operator, id).await?;
                let Step::Changed(changed) = letter.discard(now)? else { return Ok(()) };
                let (_, change) = written(&letter, revision, *changed, now, None);
                if this.commit_at_revision(change).await? {
                    return Ok(());
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the task" })
        })
        .await
    }

    /// Commits, or says that another writer was faster.
    async fn commit_at_revision(&self, change: Change) -> Result<bool, StoreError> {
        match self.commit(change).await {
            Err(StoreError::Conflict { .. }) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}
