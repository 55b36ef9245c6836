//! Webhooks that took effect, and what agents of a platform said of their state.

use eap_types::AgentId;
use rusqlite::{Connection, Row, params};

use super::batch::duplicate;
use super::fault::{Fault, Setback};
use super::ledger::Ledger;
use super::read::all;
use super::rows::{Prepared, count, json, number, rows_at_most, time, word};
use crate::store::{Cutoffs, RecordRef, StateRow, WebhookRow};

pub(super) const STATES: &str = "SELECT agent, epoch, reported_at, received_at, state, details FROM state \
     WHERE agent = ?1 ORDER BY epoch DESC, reported_at DESC, number DESC LIMIT ?2";

/// Each agent's last row: a step of the index for each agent, and one more to its row.
const NEWEST: &str = "WITH RECURSIVE agents (agent) AS ( \
         SELECT min(agent) FROM state \
         UNION ALL SELECT (SELECT min(s.agent) FROM state s WHERE s.agent > agents.agent) FROM agents \
         WHERE agents.agent IS NOT NULL) \
     SELECT s.agent, s.epoch, s.reported_at, s.received_at, s.state, s.details \
     FROM agents JOIN state s ON (s.agent, s.epoch, s.reported_at, s.number) = ( \
         SELECT l.agent, l.epoch, l.reported_at, l.number FROM state l WHERE l.agent = agents.agent \
         ORDER BY l.epoch DESC, l.reported_at DESC, l.number DESC LIMIT 1)";

pub(super) const OLD_WEBHOOKS: &str = "DELETE FROM webhook WHERE digest IN \
     (SELECT digest FROM webhook WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)";

/// The newest of each agent stays.
const OLD_STATES: &str = "DELETE FROM state WHERE (agent, epoch, reported_at, number) IN \
     (SELECT s.agent, s.epoch, s.reported_at, s.number FROM state s INDEXED BY state_age \
      WHERE s.received_at < ?1 AND EXISTS (SELECT 1 FROM state n WHERE n.agent = s.agent \
          AND (n.epoch, n.reported_at, n.number) > (s.epoch, s.reported_at, s.number)) \
      ORDER BY s.received_at LIMIT ?2)";

pub(super) fn of_agent(connection: &Connection, agent: &AgentId, limit: usize) -> Result<Vec<StateRow>, Fault> {
    all(connection, STATES, params![agent.as_str(), rows_at_most(limit)], read)
}

pub(super) fn newest(connection: &Connection) -> Result<Vec<StateRow>, Fault> {
    all(connection, NEWEST, [], read)
}

fn read(row: &Row<'_>) -> Result<StateRow, Fault> {
    let details: Option<String> = row.get(5)?;
    Ok(StateRow {
        agent: word(row, 0)?,
        epoch: count(row, 1)?,
        reported_at: time(row, 2)?,
        received_at: time(row, 3)?,
        state: row.get(4)?,
        details: details.map(|_| json(row, 5)).transpose()?,
    })
}

impl Ledger {
    pub(super) fn check_webhook(&self, change: &Prepared) -> Result<(), Setback> {
        let Some(row) = &change.webhook else { return Ok(()) };
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM webhook WHERE digest = ?1")?;
        if statement.exists([row.digest])? { Err(duplicate(RecordRef::Webhook)) } else { Ok(()) }
    }

    pub(super) fn write_states(&self, change: &Prepared) -> Result<(), Fault> {
        if let Some(WebhookRow { digest, received_at }) = &change.webhook {
            self.connection
                .prepare_cached("INSERT INTO webhook (digest, received_at) VALUES (?1, ?2)")?
                .execute(params![digest, received_at.as_micros()])?;
        }
        for row in &change.states {
            let (epoch, reported_at) = (number(row.epoch), row.reported_at.as_micros());
            let details = row.details.as_ref().map(|details| details.as_str());
            self.connection
                .prepare_cached(
                    "INSERT INTO state (agent, epoch, reported_at, number, received_at, state, details) \
                     VALUES (?1, ?2, ?3, (SELECT ifnull(max(number) + 1, 0) FROM state \
                         WHERE agent = ?1 AND epoch = ?2 AND reported_at = ?3), ?4, ?5, ?6)",
                )?
                .execute(params![
                    row.agent.as_str(),
                    epoch,
                    reported_at,
                    row.received_at.as_micros(),
                    row.state,
                    details
                ])?;
        }
        Ok(())
    }

    pub(super) fn purge_states(&self, cutoffs: &Cutoffs, limit: usize) -> Result<u64, Fault> {
        let mut rows = 0;
        for (sql, cutoff) in [(OLD_WEBHOOKS, cutoffs.webhooks), (OLD_STATES, cutoffs.states)] {
            let mut statement = self.connection.prepare_cached(sql)?;
            rows += statement.execute(params![cutoff.as_micros(), rows_at_most(limit)])? as u64;
        }
        Ok(rows)
    }
}
