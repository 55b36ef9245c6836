//! What agents of a platform said of their state, as it is read.

use eap_types::AgentId;
use sqlx::postgres::PgRow;

use super::database::Database;
use super::fault::Fault;
use super::values::{arguments, count, json, maybe_json, time, word};
use crate::store::StateRow;
use crate::store::prepared::rows_at_most;

/// Each agent's last row: a step of the index for each agent, and one more to its row.
const NEWEST: &str = "WITH RECURSIVE agents (agent) AS ( \
         (SELECT agent FROM eap.state ORDER BY agent LIMIT 1) \
         UNION ALL \
         SELECT (SELECT s.agent FROM eap.state s WHERE s.agent > agents.agent ORDER BY s.agent LIMIT 1) \
         FROM agents WHERE agents.agent IS NOT NULL) \
     SELECT s.agent, s.epoch, s.reported_at, s.received_at, s.state, s.details \
     FROM agents CROSS JOIN LATERAL ( \
         SELECT * FROM eap.state l WHERE l.agent = agents.agent \
         ORDER BY l.agent DESC, l.epoch DESC, l.reported_at DESC, l.number DESC LIMIT 1) AS s";

impl Database {
    pub(super) async fn states(&self, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, Fault> {
        let sql = "SELECT agent, epoch, reported_at, received_at, state, details FROM eap.state WHERE agent = $1 \
             ORDER BY agent DESC, epoch DESC, reported_at DESC, number DESC LIMIT $2";
        self.rows(sql, arguments![agent.as_str(), rows_at_most(limit)]).await?.iter().map(read).collect()
    }

    pub(super) async fn newest_states(&self) -> Result<Vec<StateRow>, Fault> {
        self.rows(NEWEST, arguments![]).await?.iter().map(read).collect()
    }
}

fn read(row: &PgRow) -> Result<StateRow, Fault> {
    Ok(StateRow {
        agent: word(row, 0)?,
        epoch: count(row, 1)?,
        reported_at: time(row, 2)?,
        received_at: time(row, 3)?,
        state: json(row, 4)?,
        details: maybe_json(row, 5)?,
    })
}
