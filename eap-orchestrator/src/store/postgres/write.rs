//! Changes that fit, written: one statement for each kind of row, however many changes there are.

use std::collections::{HashMap, HashSet};

use eap_core::Task;
use eap_types::{AgentId, CredentialId, SessionId, TaskId, Timestamp};

use super::database::Transaction;
use super::fault::Fault;
use super::ground::{Ground, identity, known_agent, workflow_key};
use super::read::tenant;
use super::routes::{self, RouteIds};
use super::values::{arguments, small};
use super::workflows::Shown;
use crate::store::CredentialWrite;
use crate::store::prepared::{
    Prepared, PreparedAgentWrite, PreparedSession, PreparedSessionWrite, PreparedTask, PreparedTaskWrite, StateColumns,
    StateText, rows_at_most,
};

/// Writes changes, none of which names a record that another one names.
pub(super) async fn write(
    transaction: &mut Transaction<'_>,
    changes: &[&Prepared],
    ground: &Ground,
) -> Result<(), Fault> {
    tasks(transaction, changes).await?;
    agents(transaction, changes).await?;
    vitals(transaction, changes).await?;
    sessions(transaction, changes, &ground.begun).await?;
    workflows(transaction, changes).await?;
    credentials(transaction, changes).await?;
    results(transaction, changes).await?;
    super::write_aside::write(transaction, changes).await
}

async fn tasks(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let written = || changes.iter().flat_map(|change| &change.tasks);
    let ready = written().filter_map(|write| Some((write.state.route.as_deref()?, &write.task.spec.routing)));
    let routes = routes::join(transaction, ready).await?;
    let (mut new, mut specs, mut changed) = (TaskRows::default(), Vec::new(), TaskRows::default());
    for PreparedTask { task, write, state } in written() {
        match write {
            PreparedTaskWrite::Insert { spec } => {
                new.push(task, state, &routes)?;
                specs.push(spec.as_str());
            }
            PreparedTaskWrite::Update { .. } => changed.push(task, state, &routes)?,
        }
    }
    if !specs.is_empty() {
        insert_tasks(transaction, new, specs, written()).await?;
    }
    changed.update(transaction).await
}

/// Numbered in the order of the changes.
async fn insert_tasks(
    transaction: &mut Transaction<'_>,
    rows: TaskRows<'_>,
    specs: Vec<&str>,
    written: impl Iterator<Item = &PreparedTask>,
) -> Result<(), Fault> {
    let new: Vec<&Task> = written
        .filter(|write| matches!(write.write, PreparedTaskWrite::Insert { .. }))
        .map(|write| &*write.task)
        .collect();
    let tenants: Vec<&[u8]> = new.iter().map(|task| tenant(&task.spec.routing.tenant)).collect();
    let types: Vec<&str> = new.iter().map(|task| task.spec.routing.task_type.as_str()).collect();
    let priorities: Vec<i64> = new.iter().map(|task| i64::from(task.spec.priority.get())).collect();
    let sql = "WITH wished AS MATERIALIZED ( \
             SELECT * FROM unnest($1::bytea[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[], \
                 $8::text[], $9::bool[], $10::text[], $11::bytea[], $12::text[], $13::int8[], $14::text[]) \
             WITH ORDINALITY AS w (id, status, route, due_at, holder, request_id, ended_at, last_agent, letter, state, \
                 tenant, task_type, priority, spec, place)), \
         made AS ( \
             INSERT INTO eap.task (id, rev, status, route, due_at, holder, request_id, ended_at, last_agent, letter, \
                 state, tenant, task_type, priority) \
             SELECT id, 1, status, route, due_at, holder, request_id, ended_at, last_agent, letter, state, tenant, \
                 task_type, priority FROM wished ORDER BY place RETURNING seq, id) \
         INSERT INTO eap.task_spec (seq, spec) SELECT made.seq, wished.spec FROM made JOIN wished USING (id)";
    let TaskRows { ids, status, route, due_at, holder, request, ended_at, last_agent, letter, state } = rows;
    let arguments = arguments![
        ids, status, route, due_at, holder, request, ended_at, last_agent, letter, state, tenants, types, priorities,
        specs,
    ];
    transaction.execute(sql, arguments).await?;
    Ok(())
}

/// The columns of tasks that change with their state.
#[derive(Debug, Default)]
pub(super) struct TaskRows<'a> {
    ids: Vec<&'a [u8]>,
    status: Vec<&'static str>,
    route: Vec<Option<i64>>,
    due_at: Vec<Option<i64>>,
    holder: Vec<Option<&'a str>>,
    request: Vec<Option<&'a str>>,
    ended_at: Vec<Option<i64>>,
    last_agent: Vec<Option<&'a str>>,
    letter: Vec<bool>,
    state: Vec<&'a str>,
}

impl<'a> TaskRows<'a> {
    pub(super) fn push(&mut self, task: &'a Task, text: &'a StateText, routes: &RouteIds) -> Result<(), Fault> {
        let StateColumns { status, due_at, holder, request, ended_at, last_agent } = StateColumns::of(task);
        let number = |canonical: &String| {
            routes.get(canonical).copied().ok_or_else(|| Fault::nonsense("a ready task without a route"))
        };
        self.route.push(text.route.as_ref().map(number).transpose()?);
        self.ids.push(&task.spec.id.as_bytes()[..]);
        self.status.push(status);
        self.due_at.push(due_at);
        self.holder.push(holder);
        self.request.push(request);
        self.ended_at.push(ended_at);
        self.last_agent.push(last_agent);
        self.letter.push(task.is_dead_letter());
        self.state.push(&text.text);
        Ok(())
    }

    /// Gives stored tasks their new state; the specs stay.
    pub(super) async fn update(self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        let Self { ids, status, route, due_at, holder, request, ended_at, last_agent, letter, state } = self;
        if ids.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE eap.task t SET rev = t.rev + 1, status = w.status, route = w.route, due_at = w.due_at, \
                 holder = w.holder, request_id = w.request_id, ended_at = w.ended_at, last_agent = w.last_agent, \
                 letter = w.letter, state = w.state \
             FROM unnest($1::bytea[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[], \
                 $8::text[], $9::bool[], $10::text[]) \
             AS w (id, status, route, due_at, holder, request_id, ended_at, last_agent, letter, state) \
             WHERE t.id = w.id";
        let count = ids.len() as u64;
        let arguments = arguments![ids, status, route, due_at, holder, request, ended_at, last_agent, letter, state];
        let updated = transaction.execute(sql, arguments).await?;
        // They were locked: another number would be a fault of ours, and must not be acknowledged.
        if updated == count { Ok(()) } else { Err(Fault::nonsense("a task that was locked is gone")) }
    }
}

async fn agents(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    for is_new in [false, true] {
        let written: Vec<_> = changes
            .iter()
            .flat_map(|change| &change.agents)
            .filter(|write| matches!(write.write, PreparedAgentWrite::Insert(_)) == is_new)
            .collect();
        if written.is_empty() {
            continue;
        }
        let ids: Vec<&str> = written.iter().map(|write| write.agent.id.as_str()).collect();
        let known: Vec<_> = written.iter().map(|write| known_agent(write)).collect();
        let epochs: Vec<i64> = known.iter().map(|known| known.epoch).collect();
        let active: Vec<bool> = known.iter().map(|known| known.is_active).collect();
        let gone: Vec<Option<i64>> = written.iter().map(|write| write.gone_at()).collect();
        let identities: Vec<_> = written.iter().map(|write| identity(&write.agent)).collect();
        let identities: Vec<Option<&[u8]>> = identities.iter().map(|key| key.as_ref().map(|key| &key[..])).collect();
        let records: Vec<&str> = written.iter().map(|write| write.record.as_str()).collect();
        let sql = if is_new {
            "INSERT INTO eap.agent (id, rev, epoch, is_active, gone_at, identity, record) \
             SELECT id, 1, epoch, is_active, gone_at, identity, record \
             FROM unnest($1::text[], $2::int8[], $3::bool[], $4::int8[], $5::bytea[], $6::text[]) \
                 AS w (id, epoch, is_active, gone_at, identity, record) ORDER BY id"
        } else {
            "UPDATE eap.agent a SET rev = a.rev + 1, epoch = w.epoch, is_active = w.is_active, gone_at = w.gone_at, \
                 identity = w.identity, record = w.record \
             FROM unnest($1::text[], $2::int8[], $3::bool[], $4::int8[], $5::bytea[], $6::text[]) \
                 AS w (id, epoch, is_active, gone_at, identity, record) WHERE a.id = w.id"
        };
        transaction.execute(sql, arguments![ids, epochs, active, gone, identities, records]).await?;
    }
    Ok(())
}

/// The last of each agent; those of agents that are unknown, or registered by a later change alone, are passed over.
async fn vitals(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let mut first = Vec::new();
    for write in changes.iter().flat_map(|change| &change.agents) {
        if let PreparedAgentWrite::Insert(vitals) = &write.write {
            first.push((write.agent.id.as_str(), vitals));
        }
    }
    let (mut unknown, mut last): (HashSet<&str>, HashMap<&str, _>) = Default::default();
    unknown.extend(first.iter().map(|(agent, _)| *agent));
    for change in changes {
        for write in &change.agents {
            unknown.remove(write.agent.id.as_str());
        }
        let heard = change.vitals.iter().map(|(agent, vitals)| (agent.as_str(), vitals));
        last.extend(heard.filter(|(agent, _)| !unknown.contains(agent)));
    }
    let insert = "INSERT INTO eap.vitals (agent, last_seen, vitals) \
         SELECT * FROM unnest($1::text[], $2::int8[], $3::text[])";
    let update = "UPDATE eap.vitals v SET last_seen = w.last_seen, vitals = w.vitals \
         FROM unnest($1::text[], $2::int8[], $3::text[]) AS w (agent, last_seen, vitals) WHERE v.agent = w.agent";
    // In the order of ids: two replicas that heard of the same agents wait for each other, and not in a ring.
    let mut last: Vec<_> = last.into_iter().collect();
    last.sort_unstable_by_key(|(agent, _)| *agent);
    for (sql, rows) in [(insert, first), (update, last)] {
        if !rows.is_empty() {
            let agents: Vec<&str> = rows.iter().map(|(agent, _)| *agent).collect();
            let seen: Vec<i64> = rows.iter().map(|(_, vitals)| vitals.last_seen).collect();
            let texts: Vec<&str> = rows.iter().map(|(_, vitals)| vitals.text.as_str()).collect();
            transaction.execute(sql, arguments![agents, seen, texts]).await?;
        }
    }
    Ok(())
}

async fn sessions(
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
        let (status, ended, reasons, steps, runs) = progress(&new)?;
        let sql = "WITH wished AS MATERIALIZED ( \
                 SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::int8[], $6::text[], \
                     $7::text[], $8::int8[], $9::text[], $10::int8[], $11::text[]) \
                 WITH ORDINALITY AS w (id, tenant, workflow, agent, started_at, spec, status, ended_at, reason, steps, \
                     run, place)), \
             made AS ( \
                 INSERT INTO eap.session (id, rev, tenant, workflow, agent, started_at, status, ended_at, reason, steps, \
                     run) \
                 SELECT id, 1, tenant, workflow, agent, started_at, status, ended_at, reason, steps, run \
                 FROM wished ORDER BY place RETURNING seq, id) \
             INSERT INTO eap.session_spec (seq, spec) SELECT made.seq, wished.spec FROM made JOIN wished USING (id)";
        let arguments =
            arguments![ids, tenants, workflows, agents, started, specs, status, ended, reasons, steps, runs];
        transaction.execute(sql, arguments).await?;
    }
    let changed: Vec<&PreparedSession> = written().filter(|write| !is_new(write)).collect();
    if !changed.is_empty() {
        let ids: Vec<&[u8]> = changed.iter().map(|write| &write.session.spec.id.as_bytes()[..]).collect();
        let (status, ended, reasons, steps, runs) = progress(&changed)?;
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

/// The columns of sessions that change: status, end, reason, number of steps, run.
type Progress<'a> = (Vec<&'static str>, Vec<Option<i64>>, Vec<Option<String>>, Vec<i64>, Vec<&'a str>);

fn progress<'a>(written: &[&'a PreparedSession]) -> Result<Progress<'a>, Fault> {
    let mut columns = Progress::default();
    for PreparedSession { session, run, .. } in written {
        columns.0.push(session.status().as_str());
        columns.1.push(session.run.phase.ended_at().map(Timestamp::as_micros));
        // In JSON, which holds any text.
        columns.2.push(session.run.phase.reason().map(|reason| serde_json::to_string(&reason)).transpose()?);
        columns.3.push(rows_at_most(session.run.steps.len()));
        columns.4.push(run);
    }
    Ok(columns)
}

async fn workflows(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
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

async fn credentials(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    for is_new in [false, true] {
        let written: Vec<_> = changes
            .iter()
            .flat_map(|change| &change.credentials)
            .filter(|write| matches!(write.write, CredentialWrite::Insert(_)) == is_new)
            .collect();
        if written.is_empty() {
            continue;
        }
        let ids: Vec<&[u8]> = written.iter().map(|write| &write.write.credential().id.as_bytes()[..]).collect();
        let ended: Vec<Option<i64>> =
            written.iter().map(|write| write.write.credential().ended_at().map(Timestamp::as_micros)).collect();
        let records: Vec<&str> = written.iter().map(|write| write.record.as_str()).collect();
        let sql = if is_new {
            "INSERT INTO eap.credential (id, rev, ended_at, record) \
             SELECT id, 1, ended_at, record FROM unnest($1::bytea[], $2::int8[], $3::text[]) AS w (id, ended_at, record)"
        } else {
            "UPDATE eap.credential c SET rev = c.rev + 1, ended_at = w.ended_at, record = w.record \
             FROM unnest($1::bytea[], $2::int8[], $3::text[]) AS w (id, ended_at, record) WHERE c.id = w.id"
        };
        transaction.execute(sql, arguments![ids, ended, records]).await?;
    }
    let last = last_used(changes);
    if last.is_empty() {
        return Ok(());
    }
    let ids: Vec<&[u8]> = last.iter().map(|(id, _)| &id.as_bytes()[..]).collect();
    let times: Vec<i64> = last.iter().map(|(_, at)| *at).collect();
    let sql = "UPDATE eap.credential c SET last_used_at = w.at \
         FROM unnest($1::bytea[], $2::int8[]) AS w (id, at) WHERE c.id = w.id";
    transaction.execute(sql, arguments![ids, times]).await?;
    Ok(())
}

/// The last of each credential, in the order of ids; those of credentials that a later change inserts are passed over.
fn last_used(changes: &[&Prepared]) -> Vec<(CredentialId, i64)> {
    let inserted = |change: &&Prepared| -> Vec<CredentialId> {
        let new = change.credentials.iter().filter(|write| matches!(write.write, CredentialWrite::Insert(_)));
        new.map(|write| write.write.credential().id).collect()
    };
    let mut unknown: HashSet<CredentialId> = changes.iter().flat_map(inserted).collect();
    let mut last = HashMap::new();
    for change in changes {
        for id in inserted(change) {
            unknown.remove(&id);
        }
        let used = change.last_used.iter().filter(|(id, _)| !unknown.contains(id));
        last.extend(used.map(|(id, at)| (*id, at.as_micros())));
    }
    let mut last: Vec<_> = last.into_iter().collect();
    last.sort_unstable();
    last
}

async fn results(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let results: Vec<_> = changes.iter().flat_map(|change| &change.results).collect();
    if !results.is_empty() {
        let tasks: Vec<&[u8]> = results.iter().map(|row| &row.task.as_bytes()[..]).collect();
        let attempts: Vec<i64> = results.iter().map(|row| small(row.kept.attempt)).collect();
        let recorded: Vec<i64> = results.iter().map(|row| row.kept.recorded_at).collect();
        let texts: Vec<&str> = results.iter().map(|row| row.kept.text.as_str()).collect();
        let sql = "INSERT INTO eap.result (seq, attempt, recorded_at, result) \
             SELECT t.seq, w.attempt, w.recorded_at, w.result \
             FROM unnest($1::bytea[], $2::int8[], $3::int8[], $4::text[]) AS w (task, attempt, recorded_at, result) \
             JOIN eap.task t ON t.id = w.task";
        transaction.execute(sql, arguments![tasks, attempts, recorded, texts]).await?;
    }
    let late: Vec<_> = changes.iter().flat_map(|change| &change.late_results).collect();
    if !late.is_empty() {
        let tasks: Vec<&[u8]> = late.iter().map(|row| &row.task.as_bytes()[..]).collect();
        let attempts: Vec<i64> = late.iter().map(|row| small(row.attempt)).collect();
        let agents: Vec<&str> = late.iter().map(|row| row.agent.as_str()).collect();
        let received: Vec<i64> = late.iter().map(|row| row.received_at).collect();
        let texts: Vec<&str> = late.iter().map(|row| row.text.as_str()).collect();
        let sql = "INSERT INTO eap.late_result (seq, attempt, agent, received_at, result) \
             SELECT t.seq, w.attempt, w.agent, w.received_at, w.result \
             FROM unnest($1::bytea[], $2::int8[], $3::text[], $4::int8[], $5::text[]) \
                 WITH ORDINALITY AS w (task, attempt, agent, received_at, result, place) \
             JOIN eap.task t ON t.id = w.task ORDER BY w.place ON CONFLICT (seq, attempt) DO NOTHING";
        transaction.execute(sql, arguments![tasks, attempts, agents, received, texts]).await?;
    }
    Ok(())
}
