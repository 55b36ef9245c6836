//! What is old goes.

use eap_types::{CredentialId, TaskId};

use sqlx::Row;

use super::database::Transaction;
use super::fault::Fault;
use super::routes;
use super::values::{arguments, bytes, integer, word};
use crate::store::prepared::rows_at_most;
use crate::store::{Cutoffs, Purged};

/// Rows come in order of time: only the oldest are looked at, and no index by age is needed.
const OLD_EVENTS: &str = "DELETE FROM eap.event WHERE seq = ANY(ARRAY( \
     SELECT seq FROM (SELECT seq, at FROM eap.event ORDER BY seq LIMIT $2) AS oldest WHERE at < $1))";
const OLD_LATE_RESULTS: &str = "DELETE FROM eap.late_result l USING ( \
     SELECT seq, attempt FROM eap.late_result WHERE received_at < $1 ORDER BY received_at LIMIT $2) AS old \
     WHERE l.seq = old.seq AND l.attempt = old.attempt";
const OLD_KEYS: &str = "DELETE FROM eap.idempotency WHERE digest = ANY(ARRAY( \
     SELECT digest FROM eap.idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2))";
const OLD_WEBHOOKS: &str = "DELETE FROM eap.webhook WHERE digest = ANY(ARRAY( \
     SELECT digest FROM eap.webhook WHERE received_at < $1 ORDER BY received_at LIMIT $2))";
/// The newest of each agent stays.
const OLD_STATES: &str = "DELETE FROM eap.state l USING ( \
     SELECT s.agent, s.epoch, s.reported_at, s.number FROM eap.state s WHERE s.received_at < $1 AND EXISTS ( \
         SELECT 1 FROM eap.state n WHERE n.agent = s.agent \
         AND (n.epoch, n.reported_at, n.number) > (s.epoch, s.reported_at, s.number)) \
     ORDER BY s.received_at LIMIT $2) AS old \
     WHERE (l.agent, l.epoch, l.reported_at, l.number) = (old.agent, old.epoch, old.reported_at, old.number)";
const OLD_SESSIONS: &str = "WITH old AS MATERIALIZED ( \
         SELECT seq FROM eap.session WHERE ended_at < $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED), \
     steps AS (DELETE FROM eap.session_step WHERE session = ANY(ARRAY(SELECT seq FROM old))), \
     specs AS (DELETE FROM eap.session_spec WHERE seq = ANY(ARRAY(SELECT seq FROM old))) \
     DELETE FROM eap.session WHERE seq = ANY(ARRAY(SELECT seq FROM old))";

/// Deletes at most `limit` tasks (with all that is theirs), sessions, events, late results, keys, agents, credentials,
/// webhooks, states and routes each. While another replica purges, there is nothing to do.
pub(super) async fn purge(
    transaction: &mut Transaction<'_>,
    schema: &str,
    cutoffs: &Cutoffs,
    limit: usize,
) -> Result<Purged, Fault> {
    let limit_rows = rows_at_most(limit);
    let mut purged = Purged::default();
    // Whatever else takes such locks in this database, two numbers that agree by chance put a purge off.
    let lock = "SELECT pg_try_advisory_xact_lock(hashtext('eap purge'), hashtext($1))";
    let is_alone = transaction.row(lock, arguments![schema]).await?.map(|row| row.try_get(0)).transpose()?;
    if is_alone != Some(true) {
        return Ok(purged);
    }
    purge_tasks(transaction, cutoffs, limit_rows, &mut purged).await?;
    for (sql, cutoff) in [
        (OLD_SESSIONS, cutoffs.sessions),
        (OLD_EVENTS, cutoffs.events),
        (OLD_LATE_RESULTS, cutoffs.late_results),
        (OLD_KEYS, cutoffs.idempotency_keys),
        (OLD_WEBHOOKS, cutoffs.webhooks),
        (OLD_STATES, cutoffs.states),
    ] {
        purged.rows += transaction.execute(sql, arguments![cutoff.as_micros(), limit_rows]).await?;
    }
    purge_agents(transaction, cutoffs, limit_rows, &mut purged).await?;
    let sql = "DELETE FROM eap.credential WHERE id = ANY(ARRAY( \
         SELECT id FROM eap.credential WHERE ended_at < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING id";
    for row in transaction.rows(sql, arguments![cutoffs.credentials.as_micros(), limit_rows]).await? {
        purged.credentials.push(CredentialId::from_bytes(bytes(&row, 0)?));
    }
    purged.rows += purged.credentials.len() as u64;
    purged.rows += routes::forget_empty(transaction, limit).await?;
    Ok(purged)
}

async fn purge_tasks(
    transaction: &mut Transaction<'_>,
    cutoffs: &Cutoffs,
    limit: i64,
    purged: &mut Purged,
) -> Result<(), Fault> {
    let sql = "SELECT t.seq FROM eap.task t WHERE t.ended_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM eap.callback c WHERE c.task = t.id) \
         ORDER BY t.ended_at LIMIT $2 FOR UPDATE OF t SKIP LOCKED";
    let rows = transaction.rows(sql, arguments![cutoffs.tasks.as_micros(), limit]).await?;
    let old: Vec<i64> = rows.iter().map(|row| integer(row, 0)).collect::<Result<_, _>>()?;
    if old.is_empty() {
        return Ok(());
    }
    // Once they are locked: until then, a callback may have become due.
    let sql = "DELETE FROM eap.task t WHERE t.seq = ANY($1) \
         AND NOT EXISTS (SELECT 1 FROM eap.callback c WHERE c.task = t.id) RETURNING t.seq, t.id";
    let (mut seqs, mut ids) = (Vec::new(), Vec::new());
    for row in transaction.rows(sql, arguments![old]).await? {
        seqs.push(integer(&row, 0)?);
        ids.push(TaskId::from_bytes(bytes(&row, 1)?));
    }
    // Half of a task's own row, so not counted as another one.
    transaction.execute("DELETE FROM eap.task_spec WHERE seq = ANY($1)", arguments![&seqs]).await?;
    for sql in ["DELETE FROM eap.result WHERE seq = ANY($1)", "DELETE FROM eap.late_result WHERE seq = ANY($1)"] {
        purged.rows += transaction.execute(sql, arguments![&seqs]).await?;
    }
    let names: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
    purged.rows += transaction.execute("DELETE FROM eap.event WHERE task = ANY($1)", arguments![names]).await?;
    purged.rows += ids.len() as u64;
    purged.tasks = ids;
    Ok(())
}

async fn purge_agents(
    transaction: &mut Transaction<'_>,
    cutoffs: &Cutoffs,
    limit: i64,
    purged: &mut Purged,
) -> Result<(), Fault> {
    let cutoff = cutoffs.agents.as_micros();
    let sql = "SELECT a.id FROM eap.agent a JOIN eap.vitals v ON v.agent = a.id \
         WHERE coalesce(a.gone_at, v.last_seen) < $1 AND NOT EXISTS (SELECT 1 FROM eap.task t WHERE t.holder = a.id) \
         ORDER BY a.id LIMIT $2 FOR UPDATE OF a, v SKIP LOCKED";
    let rows = transaction.rows(sql, arguments![cutoff, limit]).await?;
    let silent: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if silent.is_empty() {
        return Ok(());
    }
    // Once they are locked, as they are by every claim, and their vitals: until then, one may have taken work or been heard of.
    let sql = "DELETE FROM eap.agent a USING eap.vitals v WHERE v.agent = a.id AND a.id = ANY($1) \
         AND coalesce(a.gone_at, v.last_seen) < $2 \
         AND NOT EXISTS (SELECT 1 FROM eap.task t WHERE t.holder = a.id) RETURNING a.id";
    for row in transaction.rows(sql, arguments![silent, cutoff]).await? {
        purged.agents.push(word(&row, 0)?);
    }
    let gone: Vec<&str> = purged.agents.iter().map(eap_types::AgentId::as_str).collect();
    for sql in ["DELETE FROM eap.vitals WHERE agent = ANY($1)", "DELETE FROM eap.state WHERE agent = ANY($1)"] {
        transaction.execute(sql, arguments![&gone]).await?;
    }
    purged.rows += gone.len() as u64;
    Ok(())
}
