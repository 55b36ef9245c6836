//! An event on its way into its table.

use std::borrow::Cow;

use eap_core::NoteKind;
use eap_types::{AgentId, TaskId, TenantId};

use crate::store::{EventKind, NewEvent};

/// An event with its number, and that of the task it concerns.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) number: i64,
    pub(super) tenant: TenantId,
    pub(super) at: i64,
    pub(super) kind: Cow<'static, str>,
    pub(super) task: Option<TaskId>,
    pub(super) task_seq: Option<i64>,
    pub(super) agent: Option<AgentId>,
    pub(super) attempt: Option<u32>,
    pub(super) detail: Option<String>,
}

impl EventRow {
    pub(super) fn of(number: i64, event: &NewEvent, task_seq: Option<i64>) -> Self {
        Self {
            number,
            tenant: event.tenant,
            at: event.at.as_micros(),
            kind: Cow::Borrowed(event.kind.as_str()),
            task: event.task,
            task_seq,
            agent: event.agent.clone(),
            attempt: event.attempt,
            detail: (!event.detail.is_empty()).then(|| event.detail.as_str().to_owned()),
        }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.detail.as_ref().map_or(0, String::len)
    }

    /// Whose its task became by it.
    pub(super) fn holder(&self) -> Option<(TenantId, AgentId)> {
        let is_lease = self.kind == EventKind::Task(NoteKind::Leased).as_str();
        self.agent.clone().filter(|_| is_lease).map(|agent| (self.tenant, agent))
    }
}
