//! What is old goes.

use std::collections::HashSet;

use eap_types::{AgentId, TaskId, Timestamp};
use rusqlite::params;

use super::fault::Fault;
use super::ledger::Ledger;
use super::rows::{rows_at_most, word};
use crate::store::{Cutoffs, Purged};

pub(super) const ENDED: &str = "SELECT seq, id FROM task INDEXED BY task_ended WHERE ended_at < ?1 \
     AND NOT EXISTS (SELECT 1 FROM callback WHERE callback.task = task.id) ORDER BY ended_at LIMIT ?2";

/// Rows come in order of time: only the oldest are looked at, and no index by age is needed.
const OLD_EVENTS: &str =
    "DELETE FROM event WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM event ORDER BY seq LIMIT ?2) WHERE at < ?1)";
const OLD_KEYS: &str = "DELETE FROM idempotency WHERE seq IN \
     (SELECT seq FROM (SELECT seq, created_at FROM idempotency ORDER BY seq LIMIT ?2) WHERE created_at < ?1)";
const OLD_LATE_RESULTS: &str = "DELETE FROM late_result WHERE rowid IN \
     (SELECT rowid FROM late_result WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)";

const EVENTS_OF_TASK: &str = "DELETE FROM event WHERE seq IN (SELECT event FROM event_of_task WHERE task = ?1)";
/// Its entry under every agent that ever held it.
pub(super) const TASK_OF_AGENTS: &str = "DELETE FROM task_of_agent WHERE task = ?1 AND (tenant, agent) IN \
     (SELECT t.tenant, json_extract(attempt.value, '$.agent') \
      FROM task t, json_each(t.state, '$.attempts') AS attempt WHERE t.seq = ?1)";

const GONE_AGENTS: &str = "SELECT a.seq, a.id FROM agent a JOIN vitals v ON v.seq = a.seq \
     WHERE ifnull(a.gone_at, v.last_seen) < ?1 AND NOT EXISTS (SELECT 1 FROM task WHERE holder = a.id) LIMIT ?2";

impl Ledger {
    /// Deletes at most `limit` tasks (with all that is theirs), sessions, events, late results, keys, agents, credentials and
    /// routes each.
    ///
    /// Where there is `no_room` for what is in the journal to move, only what is old makes some.
    pub(super) fn purge(&mut self, cutoffs: &Cutoffs, limit: usize, no_room: bool) -> Result<Purged, Fault> {
        if !no_room {
            self.settle()?;
            // What goes is found by these tables, and goes from them.
            self.catch_up()?;
        }
        let mut purged = Purged::default();
        self.purge_tasks(cutoffs.tasks, limit, &mut purged)?;
        purged.rows += self.purge_sessions(cutoffs.sessions, limit)?;
        let old = [
            (OLD_EVENTS, cutoffs.events),
            (OLD_LATE_RESULTS, cutoffs.late_results),
            (OLD_KEYS, cutoffs.idempotency_keys),
        ];
        for (sql, cutoff) in old {
            purged.rows += self.delete(sql, params![cutoff.as_micros(), rows_at_most(limit)])?;
        }
        if self.journal.is_empty() {
            // Else an agent may hold what is there, or a task wait on a route.
            self.purge_agents(cutoffs.agents, limit, &mut purged)?;
        }
        purged.credentials = self.purge_credentials(cutoffs.credentials, limit)?;
        purged.rows += purged.credentials.len() as u64;
        purged.rows += self.purge_states(cutoffs, limit)?;
        if self.journal.is_empty() {
            purged.rows += self.routes.forget_empty(&self.connection, limit)?;
        }
        if no_room {
            // No row may tell of a task that went.
            self.journal.rewrite(&self.connection)?;
        }
        self.keep_numbers()?;
        Ok(purged)
    }

    fn purge_tasks(&mut self, cutoff: Timestamp, limit: usize, purged: &mut Purged) -> Result<(), Fault> {
        let mut old: Vec<(i64, TaskId)> = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(ENDED)?;
            let mut rows = statement.query(params![cutoff.as_micros(), rows_at_most(limit)])?;
            while let Some(row) = rows.next()? {
                old.push((row.get(0)?, TaskId::from_bytes(row.get(1)?)));
            }
        }
        // What is told of them and was not caught up with.
        let seqs: HashSet<i64> = old.iter().map(|(seq, _)| *seq).collect();
        purged.rows += self.journal.forget_events_of(&seqs);
        for event in self.behind.forget(&seqs) {
            purged.rows += self.delete("DELETE FROM event WHERE seq = ?1", [event])?;
        }
        for (seq, id) in old {
            purged.rows += self.delete(EVENTS_OF_TASK, [seq])?;
            for sql in ["DELETE FROM event_of_task WHERE task = ?1", TASK_OF_AGENTS] {
                self.delete(sql, [seq])?;
            }
            for sql in [
                "DELETE FROM late_result WHERE seq = ?1",
                "DELETE FROM result WHERE seq = ?1",
                "DELETE FROM task WHERE seq = ?1",
            ] {
                purged.rows += self.delete(sql, [seq])?;
            }
            // Half of the task's own row, so not counted as another one.
            self.delete("DELETE FROM task_spec WHERE seq = ?1", [seq])?;
            purged.tasks.push(id);
        }
        self.forget_tasks(&purged.tasks);
        Ok(())
    }

    fn purge_agents(&mut self, cutoff: Timestamp, limit: usize, purged: &mut Purged) -> Result<(), Fault> {
        let mut old: Vec<(i64, AgentId)> = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(GONE_AGENTS)?;
            let mut rows = statement.query(params![cutoff.as_micros(), rows_at_most(limit)])?;
            while let Some(row) = rows.next()? {
                old.push((row.get(0)?, word(row, 1)?));
            }
        }
        for (seq, id) in old {
            purged.rows += self.delete("DELETE FROM agent WHERE seq = ?1", [seq])?;
            self.delete("DELETE FROM vitals WHERE seq = ?1", [seq])?;
            self.delete("DELETE FROM state WHERE agent = ?1", [id.as_str()])?;
            self.holders.forget(&id);
            purged.agents.push(id);
        }
        Ok(())
    }

    fn delete<P: rusqlite::Params>(&self, sql: &str, params: P) -> Result<u64, Fault> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)? as u64)
    }
}
