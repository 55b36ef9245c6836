//! Why an agent cannot take a task now.

use eap_types::agentkit::StateWord;
use eap_types::{AgentId, AgentState, Capability, HealthStatus, PushStop, Timestamp};

use super::breaker::Allowance;
use crate::agent::{Agent, Standing, Vitals};
use crate::platform::is_free;
use crate::task::Task;

/// One reason why an agent cannot take a task now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hindrance {
    /// The task names another agent, or is another tenant's.
    OtherAgent,
    /// It does not offer these.
    MissingCapabilities(Vec<Capability>),
    /// It does not carry these, by name and value.
    MissingLabels(Vec<(String, String)>),
    /// Another registration took its place, or it left.
    Superseded,
    /// It takes nothing new.
    Draining,
    /// An operator asked that it take nothing new.
    Drained,
    /// It is silent.
    Offline,
    /// It says that it is busy.
    Busy,
    /// It is an agent of a platform, and not free by its own newest word.
    NotFree {
        /// The word, as it was sent.
        state: String,
    },
    /// Nothing is pushed to it.
    PushSuspended {
        /// Why.
        why: PushStop,
    },
    /// It holds as many tasks as it may.
    Full,
    /// It rejected this task.
    Excluded {
        /// Until when it is not offered it again.
        until: Timestamp,
    },
    /// Its breaker is open.
    BreakerOpen {
        /// Until when.
        until: Timestamp,
    },
    /// Its breaker waits for the end of a trial task that it holds.
    OnTrial,
}

impl Hindrance {
    /// Everything that keeps `agent`, which holds `leases` tasks and is `state` by its silence, from `task` at `now`.
    ///
    /// Says nothing of the task's own state: one that is held or over can be taken by nobody. What an agent of a platform
    /// last reported is not known here: see [`Hindrance::by_report`].
    #[must_use]
    pub fn all(
        task: &Task,
        agent: &Agent,
        vitals: &Vitals,
        leases: u32,
        state: AgentState,
        now: Timestamp,
    ) -> Vec<Self> {
        let key = &task.spec.routing;
        let mut found = Vec::new();
        if key.tenant != agent.tenant || key.agent_id.as_ref().is_some_and(|wanted| *wanted != agent.id) {
            found.push(Self::OtherAgent);
        }
        let lacks = |capability: &&Capability| !agent.capabilities.contains(capability);
        let capabilities: Vec<Capability> = key.required_capabilities.iter().filter(lacks).cloned().collect();
        if !capabilities.is_empty() {
            found.push(Self::MissingCapabilities(capabilities));
        }
        let lacks = |(name, value): &(&String, &String)| agent.labels.get(*name) != Some(*value);
        let labels: Vec<_> =
            key.labels.iter().filter(lacks).map(|(name, value)| (name.clone(), value.clone())).collect();
        if !labels.is_empty() {
            found.push(Self::MissingLabels(labels));
        }
        match agent.standing {
            Standing::Superseded { .. } | Standing::Deregistered { .. } => found.push(Self::Superseded),
            Standing::Draining => found.push(Self::Draining),
            // Its last word was that it goes; its standing follows.
            Standing::Active if vitals.status == Some(HealthStatus::Offline) => found.push(Self::Draining),
            Standing::Active => {}
        }
        if agent.orders.drain.is_some() {
            found.push(Self::Drained);
        }
        if state == AgentState::Offline {
            found.push(Self::Offline);
        }
        if vitals.status == Some(HealthStatus::Busy) {
            found.push(Self::Busy);
        }
        if leases >= agent.max_concurrent_tasks {
            found.push(Self::Full);
        }
        if let Some(suspended) = agent.push.as_ref().and_then(|push| push.suspended) {
            found.push(Self::PushSuspended { why: suspended.why });
        }
        found.extend(exclusion(task, &agent.id, now));
        match vitals.record.allowance(now) {
            Allowance::Any | Allowance::Trial => {}
            Allowance::Cooling { until } => found.push(Self::BreakerOpen { until }),
            Allowance::OnTrial => found.push(Self::OnTrial),
        }
        found
    }

    /// What keeps work from an agent of a platform that last reported `state`.
    #[must_use]
    pub fn by_report(state: &str) -> Option<Self> {
        (!is_free(StateWord::of(state))).then(|| Self::NotFree { state: state.to_owned() })
    }

    /// Whether it is over as soon as a poll of the agent waits: to wait is a sign of life, and a way to get tasks.
    #[must_use]
    pub fn ends_by_poll(&self) -> bool {
        matches!(self, Self::Offline | Self::PushSuspended { .. })
    }
}

fn exclusion(task: &Task, agent: &AgentId, now: Timestamp) -> Option<Hindrance> {
    let until = *task.state.excluded.get(agent)?;
    (until > now).then_some(Hindrance::Excluded { until })
}

/// How many tasks may be handed to an agent that holds `leases` and asks for work: none while its standing, its own word,
/// an operator's or its breaker keep work from it, one if its breaker wants a trial.
///
/// Its silence does not matter here: to ask is a sign of life.
#[must_use]
pub fn room_for_work(agent: &Agent, vitals: &Vitals, leases: u32, now: Timestamp) -> u32 {
    if !agent.takes_work() || !vitals.takes_work() {
        return 0;
    }
    let room = agent.max_concurrent_tasks.saturating_sub(leases);
    match vitals.record.allowance(now) {
        Allowance::Any => room,
        Allowance::Trial => room.min(1),
        Allowance::Cooling { .. } | Allowance::OnTrial => 0,
    }
}
