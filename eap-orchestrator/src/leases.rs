//! The leases that are running, by agent: a mirror of the store, so that a heartbeat need not read it.
//!
//! The store decides. A line here that is out of date costs a renewal that the store then refuses.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use eap_core::{Lease, Task};
use eap_types::{AgentId, AttemptOutcome, LeaseId, TaskId};

use crate::announce::lock;

/// How many ended leases are remembered, so that news that comes late does not bring one back.
const REMEMBERED: usize = 4_096;

/// The running leases, by agent.
#[derive(Debug, Default)]
pub(crate) struct LeaseBook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    held: HashMap<AgentId, HashMap<TaskId, Lease>>,
    /// The newest ended leases, for look-up and in order of their end.
    ended: HashSet<LeaseId>,
    order: VecDeque<LeaseId>,
    /// Attempts that the server ended under their holders, until those say that they know.
    stopped: HashMap<AgentId, VecDeque<(TaskId, LeaseId)>>,
}

/// How many such attempts of one agent are remembered; the oldest go first.
const STOPPED_PER_AGENT: usize = 100;

impl LeaseBook {
    /// Takes over what `task` says of its lease; returns the agent that lost one, if any did.
    pub(crate) fn note(&self, task: &Task) -> Option<AgentId> {
        let mut pages = lock(&self.0);
        if let Some(lease) = task.lease() {
            if !pages.ended.contains(&lease.lease_id) {
                let held = pages.held.entry(lease.agent.clone()).or_default();
                // News may come out of order: an older attempt does not take a newer one's place.
                if held.get(&task.id()).is_none_or(|known| known.attempt <= lease.attempt) {
                    held.insert(task.id(), lease.clone());
                }
            }
            return None;
        }
        let newest = task.newest_attempt().filter(|attempt| attempt.outcome != AttemptOutcome::Open)?;
        if pages.ended.insert(newest.lease_id) {
            pages.order.push_back(newest.lease_id);
            if pages.order.len() > REMEMBERED
                && let Some(oldest) = pages.order.pop_front()
            {
                pages.ended.remove(&oldest);
            }
        }
        let held = pages.held.get_mut(&newest.agent)?;
        held.get(&task.id()).filter(|known| known.lease_id == newest.lease_id)?;
        held.remove(&task.id());
        if held.is_empty() {
            pages.held.remove(&newest.agent);
        }
        if newest.was_stopped() {
            let stopped = pages.stopped.entry(newest.agent.clone()).or_default();
            stopped.push_back((task.id(), newest.lease_id));
            if stopped.len() > STOPPED_PER_AGENT {
                stopped.pop_front();
            }
        }
        Some(newest.agent.clone())
    }

    /// The attempts of an agent that the server ended and that are not among `known`; those are forgotten.
    pub(crate) fn stopped(&self, agent: &AgentId, known: impl Fn(LeaseId) -> bool) -> Vec<(TaskId, LeaseId)> {
        let mut pages = lock(&self.0);
        let Some(stopped) = pages.stopped.get_mut(agent) else { return Vec::new() };
        stopped.retain(|(_, lease_id)| !known(*lease_id));
        let left: Vec<_> = stopped.iter().copied().collect();
        if left.is_empty() {
            pages.stopped.remove(agent);
        }
        left
    }

    /// Forgets agents that were purged; they hold nothing.
    pub(crate) fn forget(&self, agents: &[AgentId]) {
        let mut pages = lock(&self.0);
        for agent in agents {
            pages.stopped.remove(agent);
        }
    }

    /// The leases of one agent.
    pub(crate) fn of(&self, agent: &AgentId) -> Vec<(TaskId, Lease)> {
        let pages = lock(&self.0);
        pages.held.get(agent).into_iter().flatten().map(|(task, lease)| (*task, lease.clone())).collect()
    }

    /// How many leases an agent has.
    pub(crate) fn count(&self, agent: &AgentId) -> u32 {
        lock(&self.0).held.get(agent).map_or(0, |held| u32::try_from(held.len()).unwrap_or(u32::MAX))
    }

    /// How many leases there are.
    pub(crate) fn total(&self) -> usize {
        lock(&self.0).held.values().map(HashMap::len).sum()
    }

    /// The lease an agent has on one task.
    pub(crate) fn find(&self, agent: &AgentId, task: TaskId) -> Option<Lease> {
        lock(&self.0).held.get(agent)?.get(&task).cloned()
    }
}
