//! Webhooks that took effect, and what agents of a platform said of their state.

use eap_types::AgentId;

use super::commit::must_be_new;
use super::tables::Tables;
use crate::store::{Change, Cutoffs, RecordRef, StateRow, StoreError};

impl Tables {
    pub(super) fn check_webhook(&self, change: &Change) -> Result<(), StoreError> {
        let is_new = change.webhook.is_none_or(|row| !self.webhooks.contains_key(&row.digest));
        must_be_new(is_new, RecordRef::Webhook)
    }

    pub(super) fn add_state(&mut self, row: StateRow) {
        let of_agent = self.states.entry(row.agent.clone()).or_default();
        let same = (row.epoch, row.reported_at, 0)..=(row.epoch, row.reported_at, u64::MAX);
        let number = of_agent.range(same).next_back().map_or(0, |((_, _, number), _)| number + 1);
        of_agent.insert((row.epoch, row.reported_at, number), row);
    }

    /// Those of agents that went go with them; of the others, the newest stays.
    pub(super) fn purge_states(&mut self, cutoffs: &Cutoffs, limit: usize) -> u64 {
        let old: Vec<_> =
            self.webhooks.iter().filter(|(_, at)| **at < cutoffs.webhooks).map(|(key, _)| *key).take(limit).collect();
        for digest in &old {
            self.webhooks.remove(digest);
        }
        let mut rows = old.len();
        let mut left = limit;
        for of_agent in self.states.values_mut() {
            let behind = of_agent.len().saturating_sub(1);
            let old = of_agent.iter().take(behind).filter(|(_, row)| row.received_at < cutoffs.states);
            let old: Vec<_> = old.map(|(key, _)| *key).take(left).collect();
            for key in &old {
                of_agent.remove(key);
            }
            left -= old.len();
            rows += old.len();
        }
        rows as u64
    }

    pub(super) fn remove_states(&mut self, agent: &AgentId) {
        self.states.remove(agent);
    }
}
