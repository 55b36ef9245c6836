//! What the end of a task means for the session whose step it carries: both are one commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use eap_core::{NextTask, Note, NoteKind, Session, SessionChange, SessionEvent, SessionPhase, Task, TaskOrder};
use eap_types::limits::DEFAULT_TASK_TIMEOUT;
use eap_types::{AgentId, RawJson, StepContext, TaskId, TaskResult, TenantId, Timestamp};
use tokio::sync::Notify;
use tracing::{debug, info};

use super::super::{Lifecycle, MAX_CONFLICTS, Share};
use crate::announce::lock;
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{Change, EventKind, NewEvent, SessionWrite, StoreError, Stored, TaskWrite, events_of};

/// How many open sessions are looked at together after a start.
const BATCH: usize = 256;

/// Whether a task may be a step of the session that it names; only that session knows.
pub(in crate::lifecycle) fn is_step(task: &Task) -> bool {
    !task.spec.context.is_empty() && task.spec.context.decode::<StepContext>().is_ok()
}

/// Steps that agents have taken; their sessions are told a moment later.
#[derive(Debug, Default)]
pub(crate) struct TakenSteps {
    tasks: Mutex<Vec<Task>>,
    news: Notify,
}

impl TakenSteps {
    /// An agent has a task.
    pub(in crate::lifecycle) fn note(&self, task: &Task) {
        if is_step(task) {
            lock(&self.tasks).push(task.clone());
            self.news.notify_one();
        }
    }
}

impl Lifecycle {
    /// Adds to `change`, which ends `task`, what becomes of its session, and gives the task of the next step if one begins.
    /// Of a task that does not end, or is no step, nothing follows.
    pub(in crate::lifecycle) async fn carry_on(
        &self,
        task: &Task,
        reported: Option<&TaskResult>,
        change: &mut Change,
    ) -> Result<Option<Task>, Error> {
        if !task.status().is_final() || !is_step(task) {
            return Ok(None);
        }
        let Some(stored) = self.store.session(task.spec.session_id).await? else { return Ok(None) };
        let Some(event) = SessionEvent::of(task, reported.and_then(output)) else { return Ok(None) };
        match self.decide_session(stored, event, change)? {
            Some(TaskOrder::Create(task)) => Ok(Some(*task)),
            _ => Ok(None),
        }
    }

    /// Adds to `change` what follows for a session from an event; what becomes of a task along with it is written there if it
    /// is a new one, and left to the caller otherwise.
    pub(super) fn decide_session(
        &self,
        stored: Stored<Session>,
        event: SessionEvent,
        change: &mut Change,
    ) -> Result<Option<TaskOrder>, Error> {
        let Stored { record: before, revision, now } = stored;
        let agent = before.spec.agent_id.as_ref().and_then(|agent| self.still_there(before.spec.tenant, agent));
        let next = self.next_task(now, agent.as_deref());
        let Some(SessionChange { run, order }) = before.apply(event, now, &next)?.changed() else { return Ok(None) };
        let session = Session { spec: Arc::clone(&before.spec), run };
        if session.status() != before.status() {
            change.events.push(session_event(&session, now));
        }
        if let Some(TaskOrder::Create(task)) = &order {
            change.events.extend(events_of(task, &[Note::of(NoteKind::Submitted)], now));
            change.tasks.push(TaskWrite::Insert((**task).clone()));
        }
        if session.run.phase.is_final() {
            let reason = session.run.phase.reason();
            info!(session.id = %session.id(), status = %session.status(), reason, "a workflow ended");
        }
        change.sessions.push(SessionWrite::Update { session, revision });
        Ok(order)
    }

    /// What a step's task is made with, should one begin.
    pub(super) fn next_task<'a>(&self, now: Timestamp, agent: Option<&'a Entry>) -> NextTask<'a> {
        NextTask {
            id: TaskId::v7(now, draw(&*self.entropy)),
            timeout: DEFAULT_TASK_TIMEOUT,
            offered: agent.map(|entry| &entry.agent.capabilities),
        }
    }

    fn still_there(&self, tenant: TenantId, agent: &AgentId) -> Option<Arc<Entry>> {
        self.directory.get(agent).filter(|entry| entry.agent.tenant == tenant && entry.agent.is_there())
    }

    /// Tells sessions that agents have begun, until the orchestrator stops. A session gets on without; it only shows less.
    pub(crate) async fn follow_taken_steps(self: Arc<Self>) {
        while self.stop.run_until_cancelled(self.taken_steps.news.notified()).await.is_some() {
            let tasks = std::mem::take(&mut *lock(&self.taken_steps.tasks));
            for task in tasks {
                let (this, id) = (Arc::clone(&self), task.id());
                let told = self.detached(Share::Running, async move { this.catch_up(&task).await });
                if let Err(error) = told.await {
                    debug!(task.id = %id, %error, "that a step was taken could not be noted");
                }
            }
        }
    }

    /// Brings the sessions in line with the tasks of their steps, after a start: what was not noted before the end is.
    pub(in crate::lifecycle) async fn catch_up_sessions(&self) -> Result<(), Error> {
        let (mut after, mut open) = (None, 0);
        loop {
            let page = self.store.open_sessions(after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.record.id());
            open += page.len();
            for session in page {
                let Some(step) = session.record.open_step() else { continue };
                if let Some(task) = self.store.task(step.task).await? {
                    self.catch_up(&task.record).await?;
                }
            }
        }
        if open > 0 {
            info!(sessions = open, "workflows go on");
        }
        Ok(())
    }

    /// Tells a session how the task of its step stands, where it does not know.
    async fn catch_up(&self, task: &Task) -> Result<(), Error> {
        for _ in 0..MAX_CONFLICTS {
            let Some(stored) = self.store.session(task.spec.session_id).await? else { return Ok(()) };
            // That it runs is known already; who took a later step is seen at its task.
            if !task.status().is_final() && stored.record.run.phase != SessionPhase::Started {
                return Ok(());
            }
            let result = self.store.result(task.id()).await?;
            let output = result.and_then(|row| output(&row.result));
            let Some(event) = SessionEvent::of(task, output) else { return Ok(()) };
            let mut change = Change::default();
            let order = self.decide_session(stored, event, &mut change)?;
            if change.sessions.is_empty() {
                return Ok(());
            }
            match self.commit(change).await {
                Ok(()) => {
                    if let Some(TaskOrder::Create(task)) = order {
                        self.announce(&task);
                    }
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy { reason: "other writers kept changing the session" })
    }
}

/// What comes out of a step, if anything does: a result without data has the empty object in its place.
fn output(result: &TaskResult) -> Option<RawJson> {
    if result.output_data.is_empty() { None } else { Some(result.output_data.clone().into()) }
}

/// What observers are told of a session that stands otherwise than before.
pub(super) fn session_event(session: &Session, at: Timestamp) -> NewEvent {
    let kind = match &session.run.phase {
        SessionPhase::Started => EventKind::WorkflowStarted,
        SessionPhase::Running => EventKind::WorkflowRunning,
        SessionPhase::Paused { .. } => EventKind::WorkflowPaused,
        SessionPhase::Completed { .. } => EventKind::WorkflowCompleted,
        SessionPhase::Failed { .. } => EventKind::WorkflowFailed,
        SessionPhase::Cancelled { .. } => EventKind::WorkflowCancelled,
    };
    let mut detail = BTreeMap::from([
        ("session_id", session.id().to_string()),
        ("workflow_id", session.spec.workflow.id.to_string()),
    ]);
    if let Some(reason) = session.run.phase.reason() {
        detail.insert("message", reason.to_owned());
    }
    NewEvent {
        tenant: session.spec.tenant,
        at,
        kind,
        task: None,
        agent: session.spec.agent_id.clone(),
        attempt: None,
        detail: eap_types::JsonObject::from_serialize(&detail).expect("texts make a JSON object"),
    }
}
