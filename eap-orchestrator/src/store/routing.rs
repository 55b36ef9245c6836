//! The routing keys that are known, by number, and which of them admit an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::maps::IdMap;
use eap_core::{Agent, RoutingKey};
use eap_types::{AgentId, TaskType};

/// How many agents' matches are remembered; beyond it, all are found out anew.
const MAX_MATCHES: usize = 16_384;

/// Routing keys under the numbers that a store gave them, in rising order.
#[derive(Debug, Default)]
pub(super) struct RoutingKeys {
    keys: BTreeMap<i64, RoutingKey>,
    matches: IdMap<AgentId, Matches>,
    newest: i64,
}

/// The keys that admit an agent as it was then, of those up to `seen`.
#[derive(Debug)]
struct Matches {
    agent: Arc<Agent>,
    seen: i64,
    /// In rising order.
    keys: Vec<i64>,
}

impl RoutingKeys {
    /// Takes up a key whose number is larger than all before it.
    pub(super) fn add(&mut self, id: i64, key: RoutingKey) {
        self.keys.insert(id, key);
        self.newest = self.newest.max(id);
    }

    /// The largest number there ever was.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// The numbers from `first` on.
    pub(super) fn from(&self, first: i64) -> impl Iterator<Item = i64> {
        self.keys.range(first..).map(|(id, _)| *id)
    }

    /// Whether a key is known and of one of these types.
    pub(super) fn is_of(&self, id: i64, types: Option<&BTreeSet<TaskType>>) -> bool {
        self.keys.get(&id).is_some_and(|key| types.is_none_or(|types| types.contains(&key.task_type)))
    }

    /// The keys that admit an agent, in rising order.
    pub(super) fn admitting(&mut self, agent: &Arc<Agent>) -> &[i64] {
        if self.matches.len() >= MAX_MATCHES && !self.matches.contains_key(&agent.id) {
            self.matches.clear();
        }
        let new = || Matches { agent: Arc::clone(agent), seen: 0, keys: Vec::new() };
        let matches = self.matches.entry(agent.id.clone()).or_insert_with(new);
        // The whole record: it changes within an epoch, at another replica, or while somebody asks with the one before.
        if !Arc::ptr_eq(&matches.agent, agent) && matches.agent != *agent {
            *matches = new();
        }
        let unseen = self.keys.range(matches.seen + 1..).filter(|(_, key)| key.admits(agent));
        matches.keys.extend(unseen.map(|(id, _)| *id));
        matches.seen = self.newest;
        &matches.keys
    }

    /// Forgets keys, and gives those that were known.
    pub(super) fn remove(&mut self, ids: &BTreeSet<i64>) -> Vec<RoutingKey> {
        for matches in self.matches.values_mut() {
            matches.keys.retain(|id| !ids.contains(id));
        }
        ids.iter().filter_map(|id| self.keys.remove(id)).collect()
    }
}
