//! What the writer knows of agents that ask for work: their epoch, and what they hold.

use std::collections::BTreeMap;

use eap_core::Task;
use eap_types::{AgentId, RequestId};
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::Fault;
use super::journal::Journal;
use crate::maps::IdMap;

/// How many agents are remembered; beyond it, all are looked up anew.
const MAX_AGENTS: usize = 16_384;

const EPOCH: &str = "SELECT epoch FROM agent WHERE id = ?1 AND is_active";
pub(super) const HELD: &str = "SELECT seq, request_id FROM task INDEXED BY task_held WHERE holder = ?1";

/// An agent as the open transaction has it.
#[derive(Debug, Default)]
pub(super) struct Holder {
    /// Its epoch, if it is stored and active.
    pub(super) epoch: Option<i64>,
    /// The numbers of the tasks it holds, and the requests that claimed them.
    held: BTreeMap<i64, Option<String>>,
}

impl Holder {
    /// How many tasks it holds.
    pub(super) fn leases(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// The numbers of the tasks that a request claimed and it still holds.
    pub(super) fn claimed_by(&self, request: &RequestId) -> Vec<i64> {
        let claimed = self.held.iter().filter(|(_, by)| by.as_deref() == Some(request.as_str()));
        claimed.map(|(seq, _)| *seq).collect()
    }
}

/// The agents that asked lately. What it knows is that of the open transaction: after a rollback all is looked up anew.
#[derive(Debug, Default)]
pub(super) struct Holders(IdMap<AgentId, Holder>);

impl Holders {
    /// What is known of an agent, looked up if need be.
    pub(super) fn of(&mut self, connection: &Connection, journal: &Journal, agent: &AgentId) -> Result<&Holder, Fault> {
        if !self.0.contains_key(agent) {
            if self.0.len() >= MAX_AGENTS {
                self.0.clear();
            }
            self.0.insert(agent.clone(), look_up(connection, journal, agent)?);
        }
        Ok(&self.0[agent])
    }

    /// A task passes from one holder, if it has one, to another, if there is one.
    pub(super) fn pass(&mut self, seq: i64, from: Option<&AgentId>, to: Option<(&AgentId, Option<&str>)>) {
        if let Some(holder) = from.and_then(|agent| self.0.get_mut(agent)) {
            holder.held.remove(&seq);
        }
        if let Some((agent, request)) = to
            && let Some(holder) = self.0.get_mut(agent)
        {
            holder.held.insert(seq, request.map(str::to_owned));
        }
    }

    /// The record of an agent changes.
    pub(super) fn forget(&mut self, agent: &AgentId) {
        self.0.remove(agent);
    }
}

/// The request that claimed a task for its holder.
pub(super) fn request_of(task: &Task) -> Option<&str> {
    task.lease().and_then(|lease| lease.request_id.as_ref()).map(RequestId::as_str)
}

fn look_up(connection: &Connection, journal: &Journal, agent: &AgentId) -> Result<Holder, Fault> {
    let epoch = connection.prepare_cached(EPOCH)?.query_row([agent.as_str()], |row| row.get(0)).optional()?;
    let mut statement = connection.prepare_cached(HELD)?;
    let mut rows = statement.query([agent.as_str()])?;
    let mut held = BTreeMap::new();
    while let Some(row) = rows.next()? {
        held.insert(row.get(0)?, row.get(1)?);
    }
    held.extend(journal.held_by(agent).map(|(seq, task)| (seq, request_of(task).map(str::to_owned))));
    Ok(Holder { epoch, held })
}
