//! Sessions, and the workflows that they run.

use eap_types::{AgentId, SessionId, TaskId, Timestamp};

use super::super::database::Transaction;
use super::super::fault::Fault;
use super::super::ground::workflow_key;
use super::super::read::tenant;
use super::super::values::arguments;
use super::super::workflows::Shown;
use crate::store::prepared::{Prepared, PreparedSession, PreparedSessionWrite, rows_at_most};

pub(super) async fn sessions(
    transaction: &mut Transaction<'_>,
    changes: &[&Prepared],
    begun: &[(SessionId, TaskId)],
) -> Result<(), Fault> {
    let written = || changes.iter().flat_map(|change| &change.sessions);
    let is_new = |write: &&PreparedSession| matches!(write.write, PreparedSessionWrite::Insert { .. });
    let new: Vec<&PreparedSession> = written().filter(is_new).collect();
    if !new.is_empty() {
        let ids: Vec<&[u8]> = new.iter().map(|write| &write.session.spec.id.as_bytes()[..]).collect();
        let tenants: Vec<&[u8]> = new.iter().map(|write| tenant(&write.session.spec.tenant)).collect();
        let workflows: Vec<&str> = new.iter().map(|write| write.session.spec.workflow.id.as_str()).collect();
        let agents: Vec<Option<&str>> =
            new.iter().map(|write| write.session.spec.agent_id.as_ref().map(AgentId::as_str)).collect();
        let started: Vec<i64> = new.iter().map(|write| write.session.spec.created_at.as_micros()).collect();
        let specs: Vec<&str> = new
            .iter()
            .map(|write| match &write.write {
                PreparedSessionWrite::Insert { spec } => spec.as_str(),
                PreparedSessionWrite::Update { .. } => "",
            })
            .collect();
        let Progress { status, ended, reasons, steps, runs } = Progress::of(&new)?;
        let sql = "WITH wished AS MATERIALIZED ( \
                 SELECT nextval('eap.session_seq_seq') AS seq, w.* FROM ( \
                     SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::int8[], $6::text[], \
                         $7::text[], $8::int8[], $9::text[], $10::int8[], $11::text[]) \
                     WITH ORDINALITY AS w (id, tenant, workflow, agent, started_at, spec, status, ended_at, reason, \
                         steps, run, place) ORDER BY place) w), \
             born AS ( \
                 INSERT INTO eap.session (seq, id, rev, tenant, workflow, agent, started_at, status, ended_at, reason, \
                     steps, run) \
                 SELECT seq, id, 1, tenant, workflow, agent, started_at, status, ended_at, reason, steps, run FROM wished) \
             INSERT INTO eap.session_spec (seq, spec) SELECT seq, spec FROM wished";
        let arguments =
            arguments![ids, tenants, workflows, agents, started, specs, status, ended, reasons, steps, runs];
        transaction.execute(sql, arguments).await?;
    }
    let changed: Vec<&PreparedSession> = written().filter(|write| !is_new(write)).collect();
    if !changed.is_empty() {
        let ids: Vec<&[u8]> = changed.iter().map(|write| &write.session.spec.id.as_bytes()[..]).collect();
        let Progress { status, ended, reasons, steps, runs } = Progress::of(&changed)?;
        let sql = "UPDATE eap.session s SET rev = s.rev + 1, status = w.status, ended_at = w.ended_at, \
                 reason = w.reason, steps = w.steps, run = w.run \
             FROM unnest($1::bytea[], $2::text[], $3::int8[], $4::text[], $5::int8[], $6::text[]) \
                 AS w (id, status, ended_at, reason, steps, run) WHERE s.id = w.id";
        transaction.execute(sql, arguments![ids, status, ended, reasons, steps, runs]).await?;
    }
    if !begun.is_empty() {
        let sessions: Vec<&[u8]> = begun.iter().map(|(session, _)| &session.as_bytes()[..]).collect();
        let tasks: Vec<&[u8]> = begun.iter().map(|(_, task)| &task.as_bytes()[..]).collect();
        let sql = "INSERT INTO eap.session_step (task, session) SELECT w.task, s.seq \
             FROM unnest($1::bytea[], $2::bytea[]) AS w (session, task) JOIN eap.session s ON s.id = w.session";
        transaction.execute(sql, arguments![sessions, tasks]).await?;
    }
    Ok(())
}

/// The columns of sessions that change.
#[derive(Debug, Default)]
struct Progress<'a> {
    status: Vec<&'static str>,
    ended: Vec<Option<i64>>,
    /// In JSON, which holds any text.
    reasons: Vec<Option<String>>,
    steps: Vec<i64>,
    runs: Vec<&'a str>,
}

impl<'a> Progress<'a> {
    fn of(written: &[&'a PreparedSession]) -> Result<Self, Fault> {
        let mut columns = Self::default();
        for PreparedSession { session, run, .. } in written {
            let phase = &session.run.phase;
            columns.status.push(session.status().as_str());
            columns.ended.push(phase.ended_at().map(Timestamp::as_micros));
            columns.reasons.push(phase.reason().map(|reason| serde_json::to_string(&reason)).transpose()?);
            columns.steps.push(rows_at_most(session.run.steps.len()));
            columns.runs.push(run);
        }
        Ok(columns)
    }
}

pub(super) async fn workflows(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let kept: Vec<_> = changes.iter().flat_map(|change| &change.workflows).collect();
    if kept.is_empty() {
        return Ok(());
    }
    // In the order of the changes, which lists show; two replicas that keep the same ones crosswise do so again.
    let keys: Vec<_> = kept.iter().map(|kept| workflow_key(kept)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let tenants: Vec<&[u8]> = kept.iter().map(|kept| tenant(&kept.row.tenant)).collect();
    let ids: Vec<&str> = kept.iter().map(|kept| kept.row.workflow.id.as_str()).collect();
    let stored: Vec<i64> = kept.iter().map(|kept| kept.row.stored_at.as_micros()).collect();
    let records: Vec<&str> = kept.iter().map(|kept| kept.record.as_str()).collect();
    let mut summaries = Vec::with_capacity(kept.len());
    for kept in &kept {
        let workflow = &kept.row.workflow;
        let steps = u32::try_from(workflow.tasks.len()).unwrap_or(u32::MAX);
        let shown: Shown = (workflow.name.clone(), workflow.description.clone(), workflow.version.clone(), steps);
        summaries.push(serde_json::to_string(&shown)?);
    }
    let sql = "INSERT INTO eap.workflow (digest, tenant, id, stored_at, summary, record) \
         SELECT digest, tenant, id, stored_at, summary, record \
         FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::int8[], $5::text[], $6::text[]) \
         WITH ORDINALITY AS w (digest, tenant, id, stored_at, summary, record, place) ORDER BY place";
    transaction.execute(sql, arguments![keys, tenants, ids, stored, summaries, records]).await?;
    Ok(())
}
