//! Tasks and their results.

use eap_core::Task;

use super::super::database::Transaction;
use super::super::fault::Fault;
use super::super::read::tenant;
use super::super::routes::{self, RouteIds};
use super::super::values::{arguments, small};
use crate::store::prepared::{Prepared, PreparedTask, PreparedTaskWrite, StateColumns, StateText};

pub(super) async fn tasks(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
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
pub(in crate::store::postgres) struct TaskRows<'a> {
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
    pub(in crate::store::postgres) fn push(
        &mut self,
        task: &'a Task,
        text: &'a StateText,
        routes: &RouteIds,
    ) -> Result<(), Fault> {
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
    pub(in crate::store::postgres) async fn update(self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
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

pub(super) async fn results(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
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
