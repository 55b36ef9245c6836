//! Workflows that are kept: each version once, and for ever.

use std::sync::Arc;

use eap_core::{CheckedWorkflow, Crew, WorkflowProblem};
use eap_types::{TenantId, WorkflowDefinition, WorkflowId, WorkflowPage, WorkflowSummary};
use tracing::info;

use super::super::pages::{cursor, cut, page_limit};
use super::super::{Lifecycle, Share, invalid};
use crate::auth::Operator;
use crate::error::Error;
use crate::store::{Change, StoreError, WorkflowRow};

/// A workflow that is kept now.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) workflow: WorkflowSummary,
    /// Whether this call did it.
    pub(crate) is_new: bool,
}

impl Lifecycle {
    /// Keeps a workflow; the same once more changes nothing.
    pub(crate) async fn keep_workflow(
        self: &Arc<Self>,
        operator: &Operator,
        workflow: WorkflowDefinition,
    ) -> Result<Kept, Error> {
        let (this, tenant) = (Arc::clone(self), operator.tenant);
        self.detached(Share::New, async move { this.keep(tenant, workflow).await }).await
    }

    async fn keep(&self, tenant: TenantId, workflow: WorkflowDefinition) -> Result<Kept, Error> {
        let workflow = CheckedWorkflow::check(workflow, None).map_err(|problems| refused(&problems, "body"))?;
        let row = WorkflowRow { tenant, workflow, stored_at: self.clock.now() };
        let change = Change { workflows: vec![row.clone()], ..Change::default() };
        match self.commit(change).await {
            Ok(()) => {
                info!(workflow.id = %row.workflow.id, version = row.workflow.version, "a workflow is kept");
                Ok(Kept { workflow: WorkflowSummary::of(&row.workflow, row.stored_at), is_new: true })
            }
            Err(StoreError::Duplicate { .. }) => {
                let (id, version) = (&row.workflow.id, row.workflow.version.as_str());
                let known = self.store.workflow(tenant, id, Some(version)).await?.ok_or(Error::UnknownWorkflow)?;
                if known.workflow != row.workflow {
                    return Err(Error::WorkflowExists { id: id.clone(), version: version.to_owned() });
                }
                Ok(Kept { workflow: WorkflowSummary::of(&known.workflow, known.stored_at), is_new: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what the configuration brings.
    pub(crate) async fn keep_configured(&self) -> Result<(), Error> {
        for workflow in &self.config.workflows {
            self.keep(TenantId::default(), workflow.clone()).await?;
        }
        Ok(())
    }

    /// One version of a workflow, or the one that was kept last.
    pub(crate) async fn workflow(
        &self,
        operator: &Operator,
        id: &WorkflowId,
        version: Option<&str>,
    ) -> Result<WorkflowRow, Error> {
        self.store.workflow(operator.tenant, id, version).await?.ok_or(Error::UnknownWorkflow)
    }

    /// A page of workflows, each by the version that was kept last, those that were kept last first.
    pub(crate) async fn workflows(
        &self,
        operator: &Operator,
        page: Option<&str>,
        limit: Option<usize>,
    ) -> Result<WorkflowPage, Error> {
        let limit = page_limit(limit)?;
        let found = self.store.workflows(operator.tenant, cursor(page)?, limit + 1).await?;
        let (workflows, next) = cut(found, limit);
        Ok(WorkflowPage::new(workflows, next))
    }

    /// Who is there to do the steps of a workflow.
    pub(super) fn crew(&self, tenant: TenantId, has_agent: bool) -> Crew {
        let there = self.directory.of_tenant(tenant).into_iter().filter(|entry| entry.agent.is_there());
        let capabilities =
            there.flat_map(|entry| entry.agent.capabilities.iter().cloned().collect::<Vec<_>>()).collect();
        Crew { capabilities, has_agent }
    }
}

/// The refusal of a workflow that stands at `at` in what was sent.
pub(super) fn refused(problems: &[WorkflowProblem], at: &str) -> Error {
    match problems {
        [] => invalid(at, "This is no workflow."),
        problems => Error::Invalid { problems: problems.iter().map(|problem| problem.to_field(at)).collect() },
    }
}
