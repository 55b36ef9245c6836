//! Sessions as operators see them, and what they ask of them.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Conclusion, Session, SessionEvent, Step, Task, TaskEvent};
use eap_types::{
    AgentId, SessionId, SessionPage, SessionState, SessionView, StepState, StepView, TaskId, TaskStatus, Timestamp,
    WorkflowId,
};

use super::super::pages::{cursor, cut, page_limit};
use super::super::views::last_end;
use super::super::{Lifecycle, MAX_CONFLICTS, Share, written};
use crate::announce::Awaited;
use crate::auth::Operator;
use crate::error::Error;
use crate::store::{Change, SessionFilter, StoreError, Stored};

/// Which sessions to list; all of them by default, newest first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListSessions {
    /// That stand here.
    pub status: Option<SessionState>,
    /// Of this workflow, whatever its version.
    pub workflow_id: Option<WorkflowId>,
    /// That were started for this agent.
    pub agent_id: Option<AgentId>,
    /// What the page before gave as `next_cursor`.
    pub cursor: Option<String>,
    /// At most so many, 1 to 500. Default: 50.
    pub limit: Option<usize>,
}

impl Lifecycle {
    /// One session as it stands.
    pub(crate) async fn session_view(&self, operator: &Operator, id: SessionId) -> Result<SessionView, Error> {
        let session = self.owned_session(operator, id).await?.record;
        self.view_of_session(operator, &session).await
    }

    async fn view_of_session(&self, operator: &Operator, session: &Session) -> Result<SessionView, Error> {
        let mut view = session.view();
        // What is not over, or was ended under its holder, knows less than its task.
        if let Some(step) = session.run.steps.last().filter(|step| step.result().is_none())
            && let Some(task) = self.store.task(step.task).await?
        {
            let can_be_done = self.directory.can_serve(&task.record.spec.routing);
            show_task(&mut view, &task.record, can_be_done);
        }
        if !operator.reads_results() {
            view.result = None;
            view.steps.iter_mut().for_each(|step| step.result = None);
        }
        Ok(view)
    }

    /// The same once it is over, or as it stands after `wait`.
    pub(crate) async fn wait_for_session(
        &self,
        operator: &Operator,
        id: SessionId,
        wait: Duration,
    ) -> Result<SessionView, Error> {
        let reader = self.announcements.reader_of(Awaited::Session(id));
        let ended = reader.ended();
        let session = self.owned_session(operator, id).await?.record;
        if !wait.is_zero() && !session.run.phase.is_final() {
            let _ = tokio::time::timeout(wait, ended).await;
            return self.session_view(operator, id).await;
        }
        self.view_of_session(operator, &session).await
    }

    /// A page of sessions, without their results and steps.
    pub(crate) async fn list_sessions(&self, operator: &Operator, list: ListSessions) -> Result<SessionPage, Error> {
        let limit = page_limit(list.limit)?;
        let filter = SessionFilter {
            tenant: operator.tenant,
            status: list.status,
            workflow_id: list.workflow_id,
            agent_id: list.agent_id,
            before: cursor(list.cursor.as_deref())?,
            // One more than shown tells whether there is a next page.
            limit: limit + 1,
        };
        let (sessions, next) = cut(self.store.sessions(&filter).await?, limit);
        Ok(SessionPage::new(sessions, next))
    }

    /// Pauses, resumes or cancels a session; where that cancels a task or begins one, it is the same commit.
    pub(crate) async fn direct_session(
        self: &Arc<Self>,
        operator: &Operator,
        id: SessionId,
        event: SessionEvent,
    ) -> Result<SessionView, Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        self.detached(Share::Running, async move {
            for _ in 0..MAX_CONFLICTS {
                let stored = this.owned_session(&operator, id).await?;
                let mut change = Change::default();
                let Some(mut onward) = this.decide_session(stored, event.clone(), &mut change)? else {
                    return this.session_view(&operator, id).await;
                };
                let cancelled = match onward.cancels.take() {
                    Some((task, reason)) => this.cancel_along(task, reason, &mut change).await?,
                    None => None,
                };
                match this.commit(change).await {
                    Ok(()) => {}
                    Err(StoreError::Conflict { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
                if let Some(Cancelled { task, ended, now }) = &cancelled {
                    this.tell(task, ended.as_ref(), *now);
                }
                this.went_on(onward);
                return this.session_view(&operator, id).await;
            }
            Err(Error::Busy { reason: "other writers kept changing the session" })
        })
        .await
    }

    /// Adds the end of a task to the change that ends its session. One that is over already stays as it is: whoever ended
    /// it told the session, whose revision says so.
    async fn cancel_along(
        &self,
        id: TaskId,
        reason: Option<String>,
        change: &mut Change,
    ) -> Result<Option<Cancelled>, Error> {
        let Some(Stored { record, revision, now }) = self.store.task(id).await? else { return Ok(None) };
        let Ok(Step::Changed(changed)) = record.apply(TaskEvent::Cancel { reason }, now, &self.config.tasks) else {
            return Ok(None);
        };
        let ended = Conclusion::of(&record, &changed.state);
        let (task, written) = written(&record, revision, *changed, now, None);
        change.add(written);
        Ok(Some(Cancelled { task, ended, now }))
    }

    async fn owned_session(&self, operator: &Operator, id: SessionId) -> Result<Stored<Session>, Error> {
        let stored = self.store.session(id).await?;
        stored.filter(|stored| stored.record.spec.tenant == operator.tenant).ok_or(Error::UnknownSession)
    }
}

/// A task that was cancelled with its session, the attempt that ended so, and when.
struct Cancelled {
    task: Task,
    ended: Option<Conclusion>,
    now: Timestamp,
}

/// Shows the step that is under way as its task stands, which knows better than the session.
fn show_task(view: &mut SessionView, task: &Task, can_be_done: bool) {
    let is_its = |step: &&mut StepView| step.eap_task_id == Some(task.id());
    let Some(step) = view.steps.iter_mut().find(is_its) else { return };
    if let Some(newest) = task.newest_attempt() {
        step.agent_id = Some(newest.agent.clone());
        step.attempts = newest.number;
        if view.status == SessionState::Started {
            view.status = SessionState::Running;
        }
    }
    if task.status() == TaskStatus::Queued {
        step.error = last_end(task);
    }
    step.no_capable_agent = !can_be_done && task.status() == TaskStatus::Queued;
    step.status = match task.status() {
        TaskStatus::Leased => StepState::Running,
        TaskStatus::Queued => StepState::Queued,
        // It has just ended; its session was read before that.
        _ => step.status,
    };
}
