//! Sessions as operators see them, and what they ask of them.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Conclusion, Session, SessionEvent, Step, Task, TaskEvent, TaskOrder};
use eap_types::{
    AgentId, SessionId, SessionPage, SessionState, SessionView, StepState, StepView, TaskId, TaskStatus, Timestamp,
    WorkflowId,
};
use tokio::time::{Instant, timeout_at};

use super::super::{Lifecycle, MAX_CONFLICTS, Share, cursor, page_limit, written};
use crate::auth::Operator;
use crate::error::Error;
use crate::store::{Change, SessionFilter, StoreError, Stored};

/// How long a paused session is left alone by those who wait for its end.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long one is that was about to go on.
const SOON: Duration = Duration::from_millis(10);

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
        let mut view = session.view();
        if let Some(step) = session.open_step()
            && let Some(task) = self.store.task(step.task).await?
        {
            show_task(&mut view, &task.record);
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
        let until = Instant::now() + wait;
        loop {
            let session = self.owned_session(operator, id).await?.record;
            if session.run.phase.is_final() || Instant::now() >= until {
                return self.session_view(operator, id).await;
            }
            // A session goes on when the task of its step ends; one without such a task when somebody says so.
            let Some(task) = session.open_step().map(|step| step.task) else {
                tokio::time::sleep_until(until.min(Instant::now() + LOOK_AGAIN)).await;
                continue;
            };
            let reader = self.announcements.reader(task);
            let ended = reader.ended();
            match self.store.task(task).await? {
                Some(task) if !task.record.status().is_final() => {
                    let _ = timeout_at(until, ended).await;
                }
                // It ended after the session was read.
                _ => tokio::time::sleep_until(until.min(Instant::now() + SOON)).await,
            }
        }
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
        let mut found = self.store.sessions(&filter).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(number, _)| number.0.to_string());
        let sessions = found.iter().map(|(_, stored)| in_a_list(&stored.record)).collect();
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
                let order = this.decide_session(stored, event.clone(), &mut change)?;
                let cancelled = match &order {
                    Some(TaskOrder::Cancel { task, reason }) => {
                        this.cancel_along(*task, reason.clone(), &mut change).await?
                    }
                    _ => None,
                };
                let has_callback = !change.callbacks.is_empty();
                match this.commit(change).await {
                    Ok(()) => {}
                    Err(StoreError::Conflict { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
                if has_callback {
                    this.announcements.callback_became_due();
                }
                if let Some(Cancelled { task, ended, now }) = &cancelled {
                    this.tell(task, ended.as_ref(), *now);
                }
                if let Some(TaskOrder::Create(task)) = &order {
                    this.announce(task);
                }
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

/// A session as lists show it.
fn in_a_list(session: &Session) -> SessionView {
    let mut view = session.view();
    view.result = None;
    view.steps.clear();
    view
}

/// A task that was cancelled with its session, the attempt that ended so, and when.
struct Cancelled {
    task: Task,
    ended: Option<Conclusion>,
    now: Timestamp,
}

/// Shows the step that is under way as its task stands, which knows better than the session.
fn show_task(view: &mut SessionView, task: &Task) {
    let is_its = |step: &&mut StepView| step.eap_task_id == Some(task.id());
    let Some(step) = view.steps.iter_mut().find(is_its) else { return };
    if let Some(newest) = task.newest_attempt() {
        step.agent_id = Some(newest.agent.clone());
        step.attempts = newest.number;
        if view.status == SessionState::Started {
            view.status = SessionState::Running;
        }
    }
    step.status = match task.status() {
        TaskStatus::Leased => StepState::Running,
        TaskStatus::Queued => StepState::Queued,
        // It has just ended; its session was read before that.
        _ => step.status,
    };
}
