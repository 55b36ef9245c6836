//! Claims: ready tasks become leases of those who ask.

use std::collections::HashSet;
use std::sync::Arc;

use eap_core::{Changed, Refusal, Task, TaskEvent, TaskPolicy};
use eap_types::{AgentId, Assignment, LeaseId, Timestamp};
use tracing::{Level, debug, enabled};

use super::Lifecycle;
use super::views::assignment;
use crate::clock::{Entropy, draw};
use crate::error::Error;
use crate::store::{Ask, Claimed, Claims, Decide, Demand};
use crate::trace;

impl Lifecycle {
    /// Leases ready tasks to those who ask, one answer per ask, and announces what was taken.
    pub(crate) async fn claim(&self, asks: Vec<Ask>) -> Result<Vec<Claimed>, Error> {
        let claims = self.store.claim(Demand { asks }, Arc::clone(&self.decide)).await;
        Ok(self.claimed(claims.map_err(|error| self.noticed(error))?))
    }

    /// Announces what was claimed.
    pub(super) fn claimed(&self, Claims { answers, head }: Claims) -> Vec<Claimed> {
        self.metrics.count_claims(&answers);
        let now = self.clock.now();
        for claimed in &answers {
            let first = claimed.tasks.first().and_then(Task::lease).filter(|_| !claimed.repeated);
            if let Some(lease) = first {
                self.directory.serve(&lease.agent, lease.lease_id, now);
            }
            for task in &claimed.tasks {
                self.announce(task);
                self.beginnings.taken(task);
            }
        }
        if answers.iter().any(|claimed| !claimed.tasks.is_empty() && !claimed.repeated) {
            self.announcements.committed(head);
        }
        answers
    }

    /// What an agent was leased under this registration, and does not list: it was lost on its way.
    ///
    /// What an older process held has lost its holder; the first heartbeat that does not list it says so.
    pub(crate) async fn unlisted(
        &self,
        agent: &AgentId,
        epoch: u64,
        listed: &HashSet<LeaseId>,
    ) -> Result<Vec<Task>, Error> {
        let held = self.store.leases(agent).await.map_err(|error| self.noticed(error))?;
        let is_unlisted = |task: &Task| match (task.lease(), task.newest_attempt()) {
            (Some(lease), Some(attempt)) => attempt.epoch == epoch && !listed.contains(&lease.lease_id),
            _ => false,
        };
        Ok(held.into_iter().map(|held| held.record).filter(is_unlisted).collect())
    }

    /// What an agent is told of the tasks it was leased.
    pub(crate) fn assignments(&self, tasks: &[Task]) -> Vec<Assignment> {
        let now = self.clock.now();
        if enabled!(Level::DEBUG) {
            tasks.iter().for_each(tell);
        }
        tasks.iter().filter_map(|task| assignment(task, now)).collect()
    }
}

/// Says to whom a task goes, and in which trace.
fn tell(task: &Task) {
    let Some(lease) = task.lease() else { return };
    let trace = trace::of_task(task);
    let (trace_id, parent_id) = trace.as_ref().map(|trace| (trace.trace_id(), trace.parent_id())).unzip();
    debug!(task.id = %task.id(), attempt = lease.attempt, agent.id = %lease.agent, trace_id, parent_id, "task assigned");
}

/// Lets the core decide each lease, under a fresh id that rises with time.
pub(super) fn decider(policy: TaskPolicy, entropy: Arc<dyn Entropy>) -> Arc<Decide> {
    Arc::new(move |task: &Task, ask: &Ask, now: Timestamp| -> Result<Changed, Refusal> {
        let event = TaskEvent::Assign {
            agent: ask.agent.id.clone(),
            epoch: ask.agent.epoch,
            lease_id: LeaseId::v7(now, draw(&*entropy)),
            request_id: ask.request_id.clone(),
            length: ask.lease,
        };
        task.apply(event, now, &policy)?.changed().ok_or(Refusal::NotReady)
    })
}
