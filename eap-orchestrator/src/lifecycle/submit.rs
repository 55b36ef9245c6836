//! Tasks in and out: submit, get, wait, cancel, list, history.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eap_core::{NoteKind, RoutingKey, Task, TaskEvent, TaskSpec};
use eap_types::{
    FieldProblem, IdempotencyKey, RawJson, SessionId, SubmitTask, TaskHistory, TaskId, TaskPage, TaskView, Traceparent,
};
use tracing::field::{Empty, display};
use tracing::{Instrument as _, debug_span};

use super::pages::{cursor, cut, page_limit};
use super::{Lifecycle, MAX_CONFLICTS, Share};
use crate::auth::{Operator, sha256};
use crate::clock::draw;
use crate::error::Error;
#[cfg(feature = "postgres")]
use crate::store::NewTask;
use crate::store::{
    Change, Event, EventSeq, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, StoreError, Stored, TaskFilter,
};
use crate::trace;

/// How many events of one task its history shows: the newest.
const HISTORY_EVENTS: usize = 1_000;

/// Which tasks to list; all of them by default, newest first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListTasks {
    /// In this state.
    pub status: Option<eap_types::TaskStatus>,
    /// Whose newest attempt is this agent's.
    pub agent_id: Option<eap_types::AgentId>,
    /// Of this type.
    pub task_type: Option<eap_types::TaskType>,
    /// What the page before gave as `next_cursor`.
    pub cursor: Option<String>,
    /// At most so many, 1 to 500. Default: 50.
    pub limit: Option<usize>,
}

impl Lifecycle {
    pub(crate) async fn submit(
        self: &Arc<Self>,
        operator: &Operator,
        submission: SubmitTask,
        key: Option<IdempotencyKey>,
        traceparent: Option<Traceparent>,
    ) -> Result<TaskView, Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        let span = debug_span!("submit", task.id = Empty, trace_id = Empty, parent_id = Empty);
        if let Some(traceparent) = &traceparent {
            trace::join(&span, traceparent);
        }
        let submitted = self.detached(Share::New, async move {
            let Some(key) = key else {
                let task = this.task_of(&operator, submission, traceparent, || "body".to_owned())?;
                this.insert(&task, None).await?;
                return Ok(this.view(&task, None));
            };
            let scope = IdempotencyScope { principal: principal(&operator), route: "submit", key: key.to_string() };
            let body_sha256 = fingerprint(&submission)?;
            for _ in 0..MAX_CONFLICTS {
                if let Some(first) = this.store.idempotent(&scope).await? {
                    if first.body_sha256 != body_sha256 {
                        return Err(Error::IdempotencyConflict);
                    }
                    let IdempotentTarget::Task(id) = first.target else { return Err(Error::IdempotencyConflict) };
                    return this.task_view(&operator, id).await;
                }
                let at = || "body".to_owned();
                let task = this.task_of(&operator, submission.clone(), traceparent.clone(), at)?;
                let row = IdempotencyKeyRow {
                    scope: scope.clone(),
                    body_sha256,
                    target: IdempotentTarget::Task(task.id()),
                    created_at: task.spec.created_at,
                };
                match this.insert(&task, Some(row)).await {
                    // The same call was under way: its answer is ours.
                    Err(StoreError::Duplicate { .. }) => {}
                    Err(other) => return Err(other.into()),
                    Ok(()) => return Ok(this.view(&task, None)),
                }
            }
            Err(Error::Busy { reason: "other calls kept using the idempotency key" })
        });
        let submitted = submitted.instrument(span.clone()).await;
        if let Ok(task) = &submitted {
            span.record("task.id", display(task.task_id));
        }
        submitted
    }

    /// Checks a task as a submit does, and gives it its id.
    #[cfg(feature = "postgres")]
    pub(crate) fn prepare(&self, operator: &Operator, submission: SubmitTask) -> Result<NewTask, Error> {
        Ok(NewTask::of(self.task_of(operator, submission, None, || "body".to_owned())?))
    }

    /// The record of a new task; `at` says where in the body it stands.
    pub(super) fn task_of(
        &self,
        operator: &Operator,
        submission: SubmitTask,
        traceparent: Option<Traceparent>,
        at: impl Fn() -> String,
    ) -> Result<Task, Error> {
        let now = self.clock.now();
        if submission.expires_at.is_some_and(|at| at <= now || submission.run_at.is_some_and(|run| run >= at)) {
            return Err(would_expire(&at()));
        }
        if let Some(url) = &submission.callback_url {
            self.check_callback(url, &at())?;
        }
        let input = submission.input_text();
        let routing = RoutingKey {
            tenant: operator.tenant,
            task_type: submission.task_type,
            required_capabilities: submission.required_capabilities,
            labels: submission.labels,
            agent_id: submission.agent_id,
        };
        self.check_input(&routing, &submission.input, &at())?;
        let spec = TaskSpec {
            id: TaskId::v7(now, draw(&*self.entropy)),
            input,
            routing,
            session_id: submission.session_id.unwrap_or_else(|| SessionId::v7(now, draw(&*self.entropy))),
            context: submission.context,
            preferred_agents: submission.preferred_agents,
            requirements: submission.requirements,
            priority: submission.priority,
            timeout: Duration::from_secs(submission.timeout_seconds),
            inactivity: submission.inactivity_seconds.map(Duration::from_secs),
            max_attempts: submission.max_attempts,
            run_at: submission.run_at,
            expires_at: submission.expires_at,
            created_at: now,
            traceparent: traceparent.map(|traceparent| traceparent.to_string()),
            requeued_from: None,
            is_step: false,
            callback_url: submission.callback_url,
        };
        Ok(Task::submitted(spec))
    }

    async fn insert(&self, task: &Task, idempotency: Option<IdempotencyKeyRow>) -> Result<(), StoreError> {
        let change = Change { idempotency, ..Change::submitting(task.clone()) };
        if !self.commit_new(task, change).await? {
            self.announce(task);
        }
        Ok(())
    }

    /// One task as it stands, with its result if it has one.
    pub(crate) async fn task_view(&self, operator: &Operator, id: TaskId) -> Result<TaskView, Error> {
        let task = self.owned(operator, id).await?.record;
        let result = match task.status() {
            eap_types::TaskStatus::Completed | eap_types::TaskStatus::Failed if operator.reads_results() => {
                self.store.result(id).await?
            }
            _ => None,
        };
        Ok(self.view(&task, result))
    }

    /// The same once it is final, or as it stands after `wait`.
    pub(crate) async fn wait(&self, operator: &Operator, id: TaskId, wait: Duration) -> Result<TaskView, Error> {
        let reader = self.announcements.reader(id);
        let ended = reader.ended();
        let view = self.task_view(operator, id).await?;
        if view.status.is_final() || tokio::time::timeout(wait, ended).await.is_err() {
            return if view.status.is_final() { Ok(view) } else { self.task_view(operator, id).await };
        }
        self.task_view(operator, id).await
    }

    pub(super) async fn owned(&self, operator: &Operator, id: TaskId) -> Result<Stored<Task>, Error> {
        let stored = self.store.task(id).await?;
        stored.filter(|stored| stored.record.spec.routing.tenant == operator.tenant).ok_or(Error::UnknownTask)
    }

    pub(crate) async fn cancel(
        self: &Arc<Self>,
        operator: &Operator,
        id: TaskId,
        reason: Option<String>,
    ) -> Result<TaskView, Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        self.detached(Share::Running, async move {
            this.owned(&operator, id).await?;
            let applied = this.apply(id, &TaskEvent::Cancel { reason }, None).await?;
            Ok(this.view(&applied.task, None))
        })
        .await
    }

    /// A page of tasks, or of dead letters alone.
    pub(crate) async fn list(
        &self,
        operator: &Operator,
        list: ListTasks,
        dead_letters: bool,
    ) -> Result<TaskPage, Error> {
        let limit = page_limit(list.limit)?;
        let filter = TaskFilter {
            tenant: operator.tenant,
            status: list.status,
            agent: list.agent_id,
            task_type: list.task_type,
            dead_letters,
            before: cursor(list.cursor.as_deref())?,
            // One more than shown tells whether there is a next page.
            limit: limit + 1,
        };
        let (found, next_cursor) = cut(self.store.tasks(&filter).await?, limit);
        // A page is mostly of a few kinds; each is looked up among the agents once.
        let mut served = HashMap::new();
        let mut can_serve = |key: &RoutingKey| {
            served
                .get(key)
                .copied()
                .unwrap_or_else(|| *served.entry(key.clone()).or_insert(self.directory.can_serve(key)))
        };
        let tasks = found.iter().map(|stored| self.view_with(&stored.record, None, &mut can_serve)).collect();
        Ok(TaskPage::new(tasks, next_cursor))
    }

    pub(crate) async fn history(&self, operator: &Operator, id: TaskId) -> Result<TaskHistory, Error> {
        let task = self.owned(operator, id).await?.record;
        let late = if operator.reads_results() { self.store.late_results(id).await? } else { Vec::new() };
        let events = self.newest_events(id).await?;
        Ok(super::views::history(&task, late, events))
    }
}

impl Lifecycle {
    /// The newest events of a task: how it ended must show, however much progress it told of before.
    async fn newest_events(&self, id: TaskId) -> Result<Vec<Event>, Error> {
        let mut newest = VecDeque::new();
        let mut after = EventSeq(0);
        loop {
            let page = self.store.events(after, Some(id), HISTORY_EVENTS).await?;
            let Some(last) = page.last() else { return Ok(newest.into()) };
            after = last.seq;
            let is_last = page.len() < HISTORY_EVENTS;
            // Output that was told in parts is for watchers: it would leave no room for anything else.
            let is_output = |event: &Event| event.kind == NoteKind::OutputDelta.as_str();
            newest.extend(page.into_iter().filter(|event| !is_output(event)));
            newest.drain(..newest.len().saturating_sub(HISTORY_EVENTS));
            if is_last {
                return Ok(newest.into());
            }
        }
    }
}

/// One problem, as an error.
pub(crate) fn invalid(field: &str, message: &str) -> Error {
    Error::Invalid { problems: vec![FieldProblem::new(field, "value_error", message)] }
}

/// Why a task is not taken in that no attempt could start in time.
pub(super) fn would_expire(at: &str) -> Error {
    invalid(&format!("{at}.expires_at"), "The task would expire before an attempt could start.")
}

pub(super) fn principal(operator: &Operator) -> String {
    format!("{}/{}", operator.tenant, operator.name)
}

/// What tells two bodies under one idempotency key apart: their values, not their spelling.
pub(super) fn fingerprint(body: &impl serde::Serialize) -> Result<[u8; 32], Error> {
    let json = RawJson::from_serialize(body).map_err(|_| Error::Broken)?;
    Ok(sha256(json.canonical()))
}
