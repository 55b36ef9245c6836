//! A workflow is started: the session and the task of its first step, in one commit.

use std::sync::Arc;

use eap_core::{CheckedWorkflow, Note, NoteKind, Session, SessionSpec};
use eap_types::{
    AgentId, IdempotencyKey, JsonObject, RunWorkflow, SessionId, Traceparent, WorkflowChoice, WorkflowDefinition,
    WorkflowId, WorkflowStarted,
};
use serde::Serialize;
use tracing::info;

use super::super::submit::{fingerprint, principal};
use super::super::{Lifecycle, MAX_CONFLICTS, Share, invalid};
use super::definitions::refused;
use super::onward::session_event;
use crate::auth::Operator;
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{
    Change, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, SessionWrite, StoreError, TaskWrite, events_of,
};

/// A workflow to be started.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) workflow: WorkflowChoice,
    /// The version of a stored one; `None` is the one that was kept last.
    pub(crate) version: Option<String>,
    /// The agent that does every step it can.
    pub(crate) agent: Option<AgentId>,
    /// What the first step is given in place of its parameters.
    pub(crate) initial_payload: Option<JsonObject>,
}

impl Start {
    /// A run of a workflow that is kept.
    pub(crate) fn of(id: WorkflowId, run: RunWorkflow) -> Self {
        let RunWorkflow { initial_payload, agent_id: agent, version, .. } = run;
        Self { workflow: WorkflowChoice::Stored(id), version, agent, initial_payload }
    }
}

impl Lifecycle {
    /// Starts a workflow; once this returns, the session and the task of its first step are kept.
    ///
    /// With a key, repeating the call gives the session that the first one started.
    pub(crate) async fn start_workflow(
        self: &Arc<Self>,
        operator: &Operator,
        start: Start,
        key: Option<IdempotencyKey>,
        traceparent: Option<Traceparent>,
    ) -> Result<WorkflowStarted, Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        self.detached(Share::New, async move {
            let Some(key) = key else { return this.start_anew(&operator, start, None, traceparent).await };
            let scope = IdempotencyScope { principal: principal(&operator), route: "workflow", key: key.to_string() };
            let body_sha256 = fingerprint(&start)?;
            for _ in 0..MAX_CONFLICTS {
                if let Some(first) = this.store.idempotent(&scope).await? {
                    if first.body_sha256 != body_sha256 {
                        return Err(Error::IdempotencyConflict);
                    }
                    return this.started_before(&first).await;
                }
                let idempotency = Some((scope.clone(), body_sha256));
                match this.start_anew(&operator, start.clone(), idempotency, traceparent.clone()).await {
                    // The same call was under way: its answer is ours.
                    Err(Error::Store(StoreError::Duplicate { .. })) => {}
                    started => return started,
                }
            }
            Err(Error::Busy { reason: "other calls kept using the idempotency key" })
        })
        .await
    }

    async fn start_anew(
        &self,
        operator: &Operator,
        start: Start,
        idempotency: Option<(IdempotencyScope, [u8; 32])>,
        traceparent: Option<Traceparent>,
    ) -> Result<WorkflowStarted, Error> {
        let agent = start.agent.as_ref().map(|agent| self.triggering(operator, agent)).transpose()?;
        let (workflow, at) = self.chosen(operator, start.workflow, start.version.as_deref()).await?;
        let most = self.config.capacity.submit_bytes;
        if start.initial_payload.as_ref().is_some_and(|payload| payload.as_str().len() > most) {
            return Err(invalid("body.initialPayload", &format!("must have at most {most} bytes")));
        }
        let crew = self.crew(operator.tenant, agent.is_some());
        let workflow = CheckedWorkflow::check(workflow, Some(&crew)).map_err(|problems| refused(&problems, at))?;
        let now = self.clock.now();
        let spec = SessionSpec {
            id: SessionId::v7(now, draw(&*self.entropy)),
            tenant: operator.tenant,
            workflow,
            agent_id: start.agent,
            started_by: operator.name.to_string(),
            initial_payload: start.initial_payload,
            created_at: now,
            traceparent: traceparent.map(|traceparent| traceparent.to_string()),
        };
        let next = self.next_task(now, agent.as_deref());
        let (session, task) = Session::start(spec, &next);
        let mut events = vec![session_event(&session, now)];
        events.extend(events_of(&task, &[Note::of(NoteKind::Submitted)], now));
        let change = Change {
            tasks: vec![TaskWrite::Insert((*task).clone())],
            idempotency: idempotency.map(|(scope, body_sha256)| IdempotencyKeyRow {
                scope,
                body_sha256,
                // The task of the first step stands for its session.
                target: IdempotentTarget::Task(task.id()),
                created_at: now,
            }),
            sessions: vec![SessionWrite::Insert(session.clone())],
            events,
            ..Change::default()
        };
        // Before the commit, with which the first step may be taken at once.
        self.beginnings.add(session.id());
        let is_taken = self.commit_new(&task, change).await.inspect_err(|_| self.beginnings.forget(session.id()))?;
        if !is_taken {
            self.announce(&task);
        }
        let workflow = &session.spec.workflow;
        info!(session.id = %session.id(), workflow.id = %workflow.id, version = workflow.version, "a workflow began");
        Ok(WorkflowStarted::new(session.id(), workflow.id.clone()))
    }

    async fn started_before(&self, first: &IdempotencyKeyRow) -> Result<WorkflowStarted, Error> {
        let IdempotentTarget::Task(task) = &first.target else { return Err(Error::IdempotencyConflict) };
        let session = self.store.session_of(*task).await?.ok_or(Error::UnknownSession)?.record;
        Ok(WorkflowStarted::new(session.id(), session.spec.workflow.id.clone()))
    }

    /// The agent that a workflow is started for.
    fn triggering(&self, operator: &Operator, agent: &AgentId) -> Result<Arc<Entry>, Error> {
        let is_there = |entry: &Arc<Entry>| entry.agent.tenant == operator.tenant && entry.agent.is_there();
        self.directory.get(agent).filter(is_there).ok_or(Error::UnknownAgent)
    }

    /// The workflow, and where its problems are told to be.
    async fn chosen(
        &self,
        operator: &Operator,
        choice: WorkflowChoice,
        version: Option<&str>,
    ) -> Result<(WorkflowDefinition, &'static str), Error> {
        match choice {
            WorkflowChoice::Inline(workflow) => Ok((*workflow, "body.workflowDefinition")),
            WorkflowChoice::Stored(id) => {
                Ok((self.workflow(operator, &id, version).await?.workflow.into(), "workflow"))
            }
            _ => Err(Error::UnknownWorkflow),
        }
    }
}
