//! Tasks and their results.

use std::collections::HashSet;

use eap_core::{RoutingKey, Task};
use sqlx::postgres::PgArguments;

use super::super::claim::Leased;
use super::super::database::Transaction;
use super::super::fault::Fault;
use super::super::ground::Ground;
use super::super::incoming::numbered;
use super::super::read::tenant;
use super::super::routes::{self, RouteIds};
use super::super::values::{arguments, bind, small};
use crate::store::prepared::{Prepared, PreparedTaskWrite, StateColumns, StateText, rows_at_most};

/// A task as it is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'p> {
    task: &'p Task,
    state: &'p StateText,
    /// How many changes it went through: a revision for each.
    steps: i64,
}

/// Tasks that are yet to be written.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Unwritten<'p> {
    pub(super) new: Vec<New<'p>>,
    pub(super) changed: TaskRows<'p>,
}

/// A task that is to be inserted, with the text of its spec.
type New<'p> = (Outcome<'p>, &'p str);

/// Gathers the tasks of changes, and what was leased on top of them.
pub(super) async fn gather<'p>(
    transaction: &mut Transaction<'_>,
    changes: &[&'p Prepared],
    ground: &Ground,
    leased: &'p Leased,
) -> Result<Unwritten<'p>, Fault> {
    let (mut new, mut changed, mut written) = (Vec::new(), Vec::new(), HashSet::new());
    for (number, write) in numbered(changes, ground) {
        written.insert(number);
        let last = match leased.get(number) {
            Some((task, state)) => Outcome { task, state, steps: 2 },
            None => Outcome { task: &write.task, state: &write.state, steps: 1 },
        };
        match &write.write {
            PreparedTaskWrite::Insert { spec } => new.push((last, spec.as_str())),
            PreparedTaskWrite::Update { .. } => changed.push(last),
        }
    }
    let others = leased.iter().filter(|(number, _)| !written.contains(number));
    changed.extend(others.map(|(_, (task, state))| Outcome { task, state, steps: 1 }));
    let routes = routes::join(transaction, changed.iter().filter_map(Outcome::ready)).await?;
    let mut rows = TaskRows::default();
    for last in changed {
        rows.push(last, &routes)?;
    }
    Ok(Unwritten { new, changed: rows })
}

impl Unwritten<'_> {
    /// Writes those that change.
    pub(super) async fn update(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        std::mem::take(&mut self.changed).update(transaction).await
    }

    /// Inserts those that are new.
    pub(super) async fn insert(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        let new = std::mem::take(&mut self.new);
        if new.is_empty() {
            return Ok(());
        }
        let sql = format!("WITH {INSERT} SELECT 1 FROM made WHERE (SELECT count(*) FROM born) > 0");
        let insert = async |transaction: &mut Transaction<'_>| {
            let mut arguments = PgArguments::default();
            bind_new(&new, &mut arguments)?;
            transaction.execute(&sql, arguments).await
        };
        if insert(transaction).await? < new.len() as u64 {
            // A route is missing, and so nothing was inserted.
            routes::join(transaction, new.iter().filter_map(|(new, _)| new.ready())).await?;
            if insert(transaction).await? < new.len() as u64 {
                return Err(Fault::nonsense("a route that was joined is gone"));
            }
        }
        Ok(())
    }
}

impl<'p> Outcome<'p> {
    /// The routing key, if it is ready.
    fn ready(&self) -> Option<(&'p str, &'p RoutingKey)> {
        Some((self.state.route.as_deref()?, &self.task.spec.routing))
    }
}

/// Inserts the tasks of [`bind_new`], numbered in their order: all of them, or none if a ready one's route is not there; those
/// that `born` and `made` have. A route that is found is locked as [`routes::join`] does.
pub(super) const INSERT: &str = "wished AS MATERIALIZED ( \
         SELECT nextval('eap.task_seq_seq') AS seq, w.* FROM ( \
             SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::int8[], $5::text[], $6::text[], $7::int8[], \
                 $8::text[], $9::bool[], $10::text[], $11::int8[], $12::bytea[], $13::text[], $14::int8[], $15::text[]) \
             WITH ORDINALITY AS w (id, status, digest, due_at, holder, request_id, ended_at, last_agent, letter, state, \
                 rev, tenant, task_type, priority, spec, place) ORDER BY place) w), \
     joined AS MATERIALIZED ( \
         SELECT id, digest FROM eap.route WHERE digest = ANY($3) ORDER BY id FOR KEY SHARE), \
     routed AS MATERIALIZED ( \
         SELECT w.*, r.id AS route, bool_and(w.digest IS NULL OR r.id IS NOT NULL) OVER () AS is_whole \
         FROM wished w LEFT JOIN joined r ON r.digest = w.digest), \
     born AS ( \
         INSERT INTO eap.task (seq, id, rev, status, route, due_at, holder, request_id, ended_at, last_agent, letter, \
             state, tenant, task_type, priority) \
         SELECT seq, id, rev, status, route, due_at, holder, request_id, ended_at, last_agent, letter, state, tenant, \
             task_type, priority FROM routed WHERE is_whole RETURNING seq), \
     made AS (INSERT INTO eap.task_spec (seq, spec) SELECT seq, spec FROM routed WHERE is_whole RETURNING seq)";

/// Adds the arguments of [`INSERT`], which are fifteen.
pub(super) fn bind_new(new: &[New<'_>], arguments: &mut PgArguments) -> Result<(), Fault> {
    let mut rows = TaskRows::default();
    let mut digests = Vec::with_capacity(new.len());
    for (last, _) in new {
        rows.push_unrouted(*last);
        digests.push(last.state.route.as_ref().map(|canonical| routes::digest_of(canonical)));
    }
    let specs: Vec<&str> = new.iter().map(|(_, spec)| *spec).collect();
    let digests: Vec<Option<&[u8]>> = digests.iter().map(|digest| digest.as_ref().map(|it| &it[..])).collect();
    let tenants: Vec<&[u8]> = new.iter().map(|(new, _)| tenant(&new.task.spec.routing.tenant)).collect();
    let types: Vec<&str> = new.iter().map(|(new, _)| new.task.spec.routing.task_type.as_str()).collect();
    let priorities: Vec<i64> = new.iter().map(|(new, _)| i64::from(new.task.spec.priority.get())).collect();
    let TaskRows { ids, status, due_at, holder, request, ended_at, last_agent, letter, state, steps, .. } = rows;
    bind!(
        arguments, ids, status, digests, due_at, holder, request, ended_at, last_agent, letter, state, steps, tenants,
        types, priorities, specs,
    );
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
    steps: Vec<i64>,
}

impl<'a> TaskRows<'a> {
    fn push(&mut self, last: Outcome<'a>, routes: &RouteIds) -> Result<(), Fault> {
        let number = |canonical: &String| {
            routes.get(canonical).copied().ok_or_else(|| Fault::nonsense("a ready task without a route"))
        };
        self.route.push(last.state.route.as_ref().map(number).transpose()?);
        self.push_unrouted(last);
        Ok(())
    }

    /// The columns but for the route.
    fn push_unrouted(&mut self, Outcome { task, state, steps }: Outcome<'a>) {
        let StateColumns { status, due_at, holder, request, ended_at, last_agent } = StateColumns::of(task);
        self.ids.push(&task.spec.id.as_bytes()[..]);
        self.status.push(status);
        self.due_at.push(due_at);
        self.holder.push(holder);
        self.request.push(request);
        self.ended_at.push(ended_at);
        self.last_agent.push(last_agent);
        self.letter.push(task.is_dead_letter());
        self.state.push(&state.text);
        self.steps.push(steps);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Gives stored tasks their new state; the specs stay.
    async fn update(self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        if self.is_empty() {
            return Ok(());
        }
        let mut arguments = PgArguments::default();
        let count = self.bind(&mut arguments)?;
        let updated = transaction.execute(UPDATE, arguments).await?;
        // They were locked: another number would be a fault of ours, and must not be acknowledged.
        if updated == count.unsigned_abs() { Ok(()) } else { Err(Fault::nonsense("a task that was locked is gone")) }
    }

    /// Adds the arguments of [`UPDATE`], and says how many tasks there are.
    pub(super) fn bind(self, arguments: &mut PgArguments) -> Result<i64, Fault> {
        let Self { ids, status, route, due_at, holder, request, ended_at, last_agent, letter, state, steps } = self;
        let count = rows_at_most(ids.len());
        bind!(arguments, ids, status, route, due_at, holder, request, ended_at, last_agent, letter, state, steps);
        Ok(count)
    }
}

/// Gives stored tasks the state of `$1` to `$11`.
pub(super) const UPDATE: &str = "UPDATE eap.task t SET rev = t.rev + w.steps, status = w.status, route = w.route, \
         due_at = w.due_at, holder = w.holder, request_id = w.request_id, ended_at = w.ended_at, \
         last_agent = w.last_agent, letter = w.letter, state = w.state \
     FROM unnest($1::bytea[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[], $8::text[], \
         $9::bool[], $10::text[], $11::int8[]) \
     AS w (id, status, route, due_at, holder, request_id, ended_at, last_agent, letter, state, steps) WHERE t.id = w.id";

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
