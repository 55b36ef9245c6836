//! What a host does with workflows and the sessions that run them.

use std::time::Duration;

use eap_core::SessionEvent;
use eap_types::{
    IdempotencyKey, RunWorkflow, SessionId, SessionPage, SessionView, WorkflowDefinition, WorkflowId, WorkflowPage,
    WorkflowStarted, WorkflowSummary,
};

use crate::auth::Operator;
use crate::error::Error;
use crate::lifecycle::{ListSessions, Start};
use crate::orchestrator::Orchestrator;

impl Orchestrator {
    /// Keeps a workflow under its id and version, for ever. The same once more changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for one whose steps do not form a chain, naming every problem; [`Error::WorkflowExists`] if the
    /// version is kept already with another content.
    pub async fn keep_workflow(
        &self,
        operator: &Operator,
        workflow: WorkflowDefinition,
    ) -> Result<WorkflowSummary, Error> {
        Ok(self.lifecycle().keep_workflow(operator, workflow).await?.workflow)
    }

    /// A workflow in one of its versions; without a version, the one that was kept last.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownWorkflow`] if there is none of this id and version for this operator.
    pub async fn workflow(
        &self,
        operator: &Operator,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<WorkflowDefinition, Error> {
        Ok(self.lifecycle().workflow(operator, id, version).await?.workflow.into())
    }

    /// A page of workflows, each by the version that was kept last; those that were kept last come first.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit out of range or a cursor that is none.
    pub async fn workflows(
        &self,
        operator: &Operator,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<WorkflowPage, Error> {
        self.lifecycle().workflows(operator, cursor, limit).await
    }

    /// Starts a workflow, in the version that was kept last unless the run names another; when this returns, the session and the task of its first step
    /// are kept.
    ///
    /// With a key, repeating the call gives the session that the first one started.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownWorkflow`], [`Error::UnknownAgent`]; [`Error::Invalid`] naming each step that nobody could do now;
    /// [`Error::IdempotencyConflict`] for a key used with another call.
    pub async fn run_workflow(
        &self,
        operator: &Operator,
        id: WorkflowId,
        run: RunWorkflow,
        key: Option<IdempotencyKey>,
    ) -> Result<WorkflowStarted, Error> {
        self.lifecycle().start_workflow(operator, Start::of(id, run), key, None).await
    }

    /// A session as it stands, with the results of its steps.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSession`] if there is none of this id for this operator.
    pub async fn session(&self, operator: &Operator, id: SessionId) -> Result<SessionView, Error> {
        self.lifecycle().session_view(operator, id).await
    }

    /// The same once it is over, or as it stands when `wait` is over or the orchestrator stops.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session).
    pub async fn wait_for_session(
        &self,
        operator: &Operator,
        id: SessionId,
        wait: Duration,
    ) -> Result<SessionView, Error> {
        tokio::select! {
            view = self.lifecycle().wait_for_session(operator, id, wait) => view,
            () = self.stopping().cancelled() => self.session(operator, id).await,
        }
    }

    /// A page of sessions, newest first, without their results and steps.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit out of range or a cursor that is none.
    pub async fn sessions(&self, operator: &Operator, list: ListSessions) -> Result<SessionPage, Error> {
        self.lifecycle().list_sessions(operator, list).await
    }

    /// Lets no further step of a session begin; the one whose turn it is, queued or running, goes on to its end. Asking again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::SessionFinal`] if it is over, and as [`session`](Self::session).
    pub async fn pause_session(&self, operator: &Operator, id: SessionId) -> Result<SessionView, Error> {
        self.lifecycle().direct_session(operator, id, SessionEvent::Pause).await
    }

    /// Lets a paused session go on where it was. One that is not paused stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::SessionFinal`] if it is over, and as [`session`](Self::session).
    pub async fn resume_session(&self, operator: &Operator, id: SessionId) -> Result<SessionView, Error> {
        self.lifecycle().direct_session(operator, id, SessionEvent::Resume).await
    }

    /// Ends a session, and the task of the step that runs. Ending it again gives the same answer.
    ///
    /// # Errors
    ///
    /// [`Error::SessionFinal`] if it ended otherwise, and as [`session`](Self::session).
    pub async fn cancel_session(
        &self,
        operator: &Operator,
        id: SessionId,
        reason: Option<String>,
    ) -> Result<SessionView, Error> {
        self.lifecycle().direct_session(operator, id, SessionEvent::Cancel { reason }).await
    }
}
