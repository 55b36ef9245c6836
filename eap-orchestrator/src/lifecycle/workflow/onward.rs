//! What the end of a task means for the session whose step it carries: both are one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use eap_core::{NextTask, Note, NoteKind, Session, SessionChange, SessionEvent, SessionPhase, Task, TaskOrder};
use eap_types::limits::DEFAULT_TASK_TIMEOUT;
use eap_types::{AgentId, JsonObject, RawJson, SessionId, SessionState, TaskId, TaskResult, TenantId, Timestamp};
use tracing::info;

use super::super::Lifecycle;
use crate::announce::Awaited;
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{Change, EventKind, NewEvent, SessionWrite, Stored, TaskWrite, events_of};

/// How a session went on, to be told once that is committed.
#[derive(Debug)]
pub(in crate::lifecycle) struct Onward {
    session: SessionId,
    /// How it ended and why, if it did.
    ended: Option<(SessionState, Option<String>)>,
    /// The task of the step that begins.
    began: Option<Box<Task>>,
    /// The task that ends with its session, which the caller sees to.
    pub(super) cancels: Option<(TaskId, Option<String>)>,
}

impl Lifecycle {
    /// Adds to `change`, which ends `task`, what becomes of its session. Of a task that does not end, or is no step, nothing
    /// follows.
    pub(in crate::lifecycle) async fn carry_on(
        &self,
        task: &Task,
        reported: Option<&TaskResult>,
        change: &mut Change,
    ) -> Result<Option<Onward>, Error> {
        if !task.spec.is_step || !task.status().is_final() {
            return Ok(None);
        }
        let Some(stored) = self.store.session(task.spec.session_id).await? else { return Ok(None) };
        let Some(event) = SessionEvent::of(task, reported.and_then(output)) else { return Ok(None) };
        self.decide_session(stored, event, change)
    }

    /// Adds to `change` what follows for a session from an event, and says what is to be told of it; `None` if nothing
    /// follows.
    pub(super) fn decide_session(
        &self,
        stored: Stored<Session>,
        event: SessionEvent,
        change: &mut Change,
    ) -> Result<Option<Onward>, Error> {
        let Stored { record: before, revision, now } = stored;
        let agent = before.spec.agent_id.as_ref().and_then(|agent| self.still_there(before.spec.tenant, agent));
        let next = self.next_task(now, agent.as_deref());
        let Some(SessionChange { run, order }) = before.apply(event, now, &next)?.changed() else { return Ok(None) };
        let session = Session { spec: Arc::clone(&before.spec), run };
        if session.status() != before.status() {
            change.events.push(session_event(&session, now));
        }
        let phase = &session.run.phase;
        let ended = phase.is_final().then(|| (phase.status(), phase.reason().map(str::to_owned)));
        let mut onward = Onward { session: session.id(), ended, began: None, cancels: None };
        match order {
            Some(TaskOrder::Create(task)) => {
                change.events.extend(events_of(&task, &[Note::of(NoteKind::Submitted)], now));
                change.tasks.push(TaskWrite::Insert((*task).clone()));
                onward.began = Some(task);
            }
            Some(TaskOrder::Cancel { task, reason }) => onward.cancels = Some((task, reason)),
            _ => {}
        }
        change.sessions.push(SessionWrite::Update { session, revision });
        Ok(Some(onward))
    }

    /// Tells how a session went on, once that is committed.
    pub(in crate::lifecycle) fn went_on(&self, onward: Onward) {
        if let Some(task) = onward.began {
            self.announce(&task);
        }
        if let Some((status, reason)) = onward.ended {
            info!(session.id = %onward.session, %status, reason, "a workflow ended");
            self.beginnings.forget(onward.session);
            self.announcements.ended(Awaited::Session(onward.session));
        }
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
}

/// What comes out of a step, if anything does: a result without data has the empty object in its place.
pub(super) fn output(result: &TaskResult) -> Option<RawJson> {
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
        detail: JsonObject::from_serialize(&detail).expect("texts make a JSON object"),
    }
}
