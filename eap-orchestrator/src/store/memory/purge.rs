//! What is old goes.

use eap_types::{AgentId, CredentialId, TaskId, Timestamp};

use super::tables::{KnownAgent, Tables};
use crate::store::{Cutoffs, EventSeq, IdempotencyScope, Purged};

impl Tables {
    /// Deletes at most `limit` tasks (with all that is theirs), sessions, events, late results, keys, agents, credentials,
    /// webhooks and states each.
    pub(super) fn purge(&mut self, cutoffs: &Cutoffs, limit: usize) -> Purged {
        let mut rows = 0;
        let tasks: Vec<TaskId> = self.finished_before(cutoffs.tasks).take(limit).collect();
        for id in &tasks {
            rows += self.remove_task(*id);
        }
        rows += self.sessions.purge(cutoffs.sessions, limit);
        let events: Vec<EventSeq> = self.events_before(cutoffs.events).take(limit).collect();
        for seq in events {
            self.remove_event(seq);
            rows += 1;
        }
        let old = self.late_results.iter().filter(|(_, row)| row.received_at < cutoffs.late_results);
        let late: Vec<(TaskId, u32)> = old.map(|(key, _)| *key).take(limit).collect();
        for key in late {
            self.late_results.remove(&key);
            rows += 1;
        }
        let old = self.keys.values().filter(|row| row.created_at < cutoffs.idempotency_keys);
        let keys: Vec<IdempotencyScope> = old.map(|row| row.scope.clone()).take(limit).collect();
        for scope in keys {
            self.keys.remove(&scope);
            rows += 1;
        }
        let gone =
            self.agents.iter().filter(|(id, known)| last_of(known) < cutoffs.agents && self.count_held_by(id) == 0);
        let agents: Vec<AgentId> = gone.map(|(id, _)| id.clone()).take(limit).collect();
        for id in &agents {
            self.remove_agent(id);
            self.remove_states(id);
            rows += 1;
        }
        let is_old = |ended: Option<Timestamp>| ended.is_some_and(|at| at < cutoffs.credentials);
        let old = self.credentials.iter().filter(|(_, known)| is_old(known.row.record.ended_at()));
        let credentials: Vec<CredentialId> = old.map(|(id, _)| *id).take(limit).collect();
        for id in &credentials {
            self.credentials.remove(id);
            rows += 1;
        }
        rows += self.purge_states(cutoffs, limit);
        Purged { rows, tasks, agents, credentials }
    }
}

/// When an agent left, lost its place or was last heard of.
fn last_of(known: &KnownAgent) -> Timestamp {
    known.row.record.gone_at().unwrap_or(known.vitals.last_seen)
}
