//! Which agent may take which task.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use eap_types::{AgentId, Capability, Labels, TaskType, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;

/// What a task asks of its agent; tasks with equal keys are interchangeable to a matchmaker.
///
/// Stores index tasks by it, so that a claim looks only where its agents may take something
/// (docs/protocol.md, section 3, "Routing").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoutingKey {
    /// The tenant; work never crosses tenants.
    pub tenant: TenantId,
    /// The kind of task.
    pub task_type: TaskType,
    /// Capabilities the agent must offer, every one of them.
    pub required_capabilities: BTreeSet<Capability>,
    /// Labels the agent must carry with the same values; its other labels do not matter.
    #[serde(default)]
    pub labels: Labels,
    /// The only agent that may take it, if the submitter named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

impl RoutingKey {
    /// The key of a task of `task_type` that asks for nothing beyond it: an agent of that capability.
    #[must_use]
    pub fn of_type(tenant: TenantId, task_type: TaskType) -> Self {
        Self {
            tenant,
            required_capabilities: BTreeSet::from([Capability::from(task_type.clone())]),
            task_type,
            labels: Labels::default(),
            agent_id: None,
        }
    }

    /// Whether what `agent` said of itself at registration satisfies this key.
    ///
    /// Says nothing of its load or liveness: those change by the second.
    #[must_use]
    pub fn admits(&self, agent: &Agent) -> bool {
        self.tenant == agent.tenant
            && self.agent_id.as_ref().is_none_or(|wanted| *wanted == agent.id)
            && agent.capabilities.is_superset_of(&self.required_capabilities)
            && agent.labels.contains_all(&self.labels)
    }

    /// One text per key, equal exactly when the keys are: what stores put into their unique index.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = format!("{} {}", self.tenant, self.task_type);
        for capability in &self.required_capabilities {
            let _ = write!(text, " +{capability}");
        }
        for (name, value) in self.labels.iter() {
            // Quoted, so that no value can imitate the next label; as JSON, which is written the same by
            // every release, while Debug follows the Unicode tables of the compiler.
            let _ = write!(text, " {name}={}", Value::from(value.as_str()));
        }
        if let Some(agent) = &self.agent_id {
            let _ = write!(text, " @{agent}");
        }
        text
    }
}
