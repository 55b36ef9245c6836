//! What is written beside the records: callbacks, keys, webhooks, states, the pulse; and the events, last of all.

use std::sync::LazyLock;

use eap_core::DueCallback;
use eap_types::AgentId;
use sqlx::postgres::{PgArguments, PgRow};

use super::super::database::{Database, Transaction};
use super::super::fault::Fault;
use super::super::read::{key_digest, tenant};
use super::super::values::{arguments, bind, integer, small};
use super::tasks::{INSERT, UPDATE, Unwritten, bind_new};
use crate::store::prepared::{Prepared, number, rows_at_most};
use crate::store::{CallbackWrite, IdempotentTarget, NewEvent};

pub(super) async fn write(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    callbacks(transaction, changes).await?;
    keys(transaction, changes).await?;
    webhooks(transaction, changes).await?;
    states(transaction, changes).await?;
    if let Some(pulse) = changes.iter().rev().find_map(|change| change.pulse) {
        let sql = "INSERT INTO eap.meta AS m (key, value) VALUES ('pulse', $1) \
             ON CONFLICT (key) DO UPDATE SET value = greatest(m.value, excluded.value)";
        transaction.execute(sql, arguments![pulse.as_micros()]).await?;
    }
    Ok(())
}

/// Callbacks that are over go, and the others are as they are told: their rows, or those of their tasks, are locked.
async fn callbacks(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let (mut over, mut due): (Vec<&[u8]>, Vec<&DueCallback>) = (Vec::new(), Vec::new());
    for write in changes.iter().flat_map(|change| &change.callbacks) {
        match write {
            CallbackWrite::Insert(callback) | CallbackWrite::Update { callback, .. } => due.push(callback),
            CallbackWrite::Remove { task, .. } => over.push(task.as_bytes()),
        }
    }
    if !over.is_empty() {
        transaction.execute("DELETE FROM eap.callback WHERE task = ANY($1)", arguments![over]).await?;
    }
    if due.is_empty() {
        return Ok(());
    }
    let tasks: Vec<&[u8]> = due.iter().map(|callback| &callback.task.as_bytes()[..]).collect();
    // In JSON, which holds any text.
    let receivers: Vec<String> =
        due.iter().map(|callback| serde_json::to_string(&callback.receiver)).collect::<Result<_, _>>()?;
    let ended: Vec<i64> = due.iter().map(|callback| callback.ended_at.as_micros()).collect();
    let tries: Vec<i64> = due.iter().map(|callback| small(callback.tries)).collect();
    let times: Vec<i64> = due.iter().map(|callback| callback.due_at.as_micros()).collect();
    let sql = "INSERT INTO eap.callback AS c (task, rev, receiver, ended_at, tries, due_at) \
         SELECT task, 1, receiver, ended_at, tries, due_at \
         FROM unnest($1::bytea[], $2::text[], $3::int8[], $4::int8[], $5::int8[]) \
             AS w (task, receiver, ended_at, tries, due_at) \
         ON CONFLICT (task) DO UPDATE SET rev = c.rev + 1, receiver = excluded.receiver, \
             ended_at = excluded.ended_at, tries = excluded.tries, due_at = excluded.due_at";
    transaction.execute(sql, arguments![tasks, receivers, ended, tries, times]).await?;
    Ok(())
}

/// In one order, so that replicas that take the same ones wait for each other and not in a ring; so do webhooks.
async fn keys(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let rows: Vec<_> = changes.iter().filter_map(|change| change.idempotency.as_ref()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let digests: Vec<_> = rows.iter().map(|row| key_digest(&row.scope)).collect();
    let digests: Vec<&[u8]> = digests.iter().map(|digest| &digest[..]).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|row| &row.body_sha256[..]).collect();
    let created: Vec<i64> = rows.iter().map(|row| row.created_at.as_micros()).collect();
    let (mut task, mut tasks, mut agent) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (one, many, joined) = match &row.target {
            IdempotentTarget::Task(id) => (Some(&id.as_bytes()[..]), None, None),
            IdempotentTarget::Tasks(ids) => (None, Some(serde_json::to_string(ids)?), None),
            IdempotentTarget::Agent(id) => (None, None, Some(AgentId::as_str(id))),
        };
        task.push(one);
        tasks.push(many);
        agent.push(joined);
    }
    let sql = "INSERT INTO eap.idempotency (digest, body_sha256, task, tasks, agent, created_at) \
         SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::int8[]) \
             AS w (digest, body_sha256, task, tasks, agent, created_at) ORDER BY digest";
    transaction.execute(sql, arguments![digests, bodies, task, tasks, agent, created]).await?;
    Ok(())
}

async fn webhooks(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let rows: Vec<_> = changes.iter().filter_map(|change| change.webhook.as_ref()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let digests: Vec<&[u8]> = rows.iter().map(|row| &row.digest[..]).collect();
    let received: Vec<i64> = rows.iter().map(|row| row.received_at.as_micros()).collect();
    let sql = "INSERT INTO eap.webhook (digest, received_at) \
         SELECT * FROM unnest($1::bytea[], $2::int8[]) AS w (digest, received_at) ORDER BY digest";
    transaction.execute(sql, arguments![digests, received]).await?;
    Ok(())
}

async fn states(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let rows: Vec<_> = changes.iter().flat_map(|change| &change.states).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let agents: Vec<&str> = rows.iter().map(|row| row.agent.as_str()).collect();
    let epochs: Vec<i64> = rows.iter().map(|row| number(row.epoch)).collect();
    let reported: Vec<i64> = rows.iter().map(|row| row.reported_at.as_micros()).collect();
    let received: Vec<i64> = rows.iter().map(|row| row.received_at.as_micros()).collect();
    // In JSON, which holds any text.
    let words: Vec<String> = rows.iter().map(|row| serde_json::to_string(&row.state)).collect::<Result<_, _>>()?;
    let details: Vec<Option<&str>> = rows.iter().map(|row| row.details.as_ref().map(|it| it.as_str())).collect();
    let sql = "INSERT INTO eap.state (agent, epoch, reported_at, received_at, state, details) \
         SELECT agent, epoch, reported_at, received_at, state, details \
         FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::text[], $6::text[]) \
         WITH ORDINALITY AS w (agent, epoch, reported_at, received_at, state, details, place) ORDER BY place";
    transaction.execute(sql, arguments![agents, epochs, reported, received, words, details]).await?;
    Ok(())
}

/// What [`tell`] asks: alone, with the tasks that change, and with those that are new. Theirs are the first arguments then, and
/// behind them is how many they are.
static TELL: LazyLock<[String; 3]> = LazyLock::new(|| {
    let sql = |written: &str, condition: &str, before: usize| {
        let [count, tenant, at, kind, task, agent, attempt, detail, writer, channel] =
            std::array::from_fn(|place| format!("${}", before + 1 + place));
        format!(
            "WITH {written} newest AS ( \
                 UPDATE eap.meta SET value = value + {count} WHERE key = 'last_event' {condition} RETURNING value), \
             told AS ( \
                 INSERT INTO eap.event (seq, tenant, at, kind, task, agent, attempt, detail, writer) \
                 SELECT newest.value - {count} + w.place, w.tenant, w.at, w.kind, w.task, w.agent, w.attempt, w.detail, \
                     {writer}::int8 \
                 FROM newest, unnest({tenant}::bytea[], {at}::int8[], {kind}::text[], {task}::bytea[], \
                     {agent}::text[], {attempt}::int8[], {detail}::text[]) \
                     WITH ORDINALITY AS w (tenant, at, kind, task, agent, attempt, detail, place)) \
             SELECT value, pg_notify({channel}, {writer}::int8::text) FROM newest"
        )
    };
    let changed = format!("changed AS ({UPDATE} RETURNING t.seq),");
    [
        sql("", "", 0),
        sql(&changed, "AND (SELECT count(*) FROM changed) = $12", 12),
        sql(&format!("{INSERT},"), "AND (SELECT count(*) FROM born) = $16 AND (SELECT count(*) FROM made) = $16", 16),
    ]
});

/// So many tasks at most are written with the events: it saves a round trip, and keeps the row that counts for longer.
pub(super) const FEW: usize = 4;

/// Writes the last tasks; then numbers events and writes them. Gives the number of the newest.
///
/// The last statement before a commit. The row that counts is locked from here on, once the tasks are written, so the
/// numbers rise in the order of the commits of all replicas, and a transaction that is undone leaves no gap. Those who
/// listen are told with the commit. Without a writer they are news to every store.
pub(in crate::store::postgres) async fn tell(
    transaction: &mut Transaction<'_>,
    database: &Database,
    writer: Option<i64>,
    mut unwritten: Unwritten<'_>,
    events: &[NewEvent],
) -> Result<u64, Fault> {
    if events.is_empty() || !unwritten.changed.is_empty() {
        unwritten.insert(transaction).await?;
    }
    if events.is_empty() {
        unwritten.update(transaction).await?;
        let newest = transaction.row("SELECT value FROM eap.meta WHERE key = 'last_event'", arguments![]).await?;
        return number_of(newest);
    }
    let Unwritten { new, changed } = unwritten;
    let [alone, with_changed, with_new] = &*TELL;
    let mut arguments = PgArguments::default();
    let sql = if !new.is_empty() {
        bind_new(&new, &mut arguments)?;
        bind!(&mut arguments, rows_at_most(new.len()));
        with_new
    } else if !changed.is_empty() {
        let count = changed.bind(&mut arguments)?;
        bind!(&mut arguments, count);
        with_changed
    } else {
        alone
    };
    bind_events(&mut arguments, writer, database.schema.channel(), events)?;
    match transaction.row(sql, arguments).await? {
        // Nothing was written, and nothing is locked out of turn: the next try makes the route first.
        None if !new.is_empty() => Err(Fault::crossed("a route that a new task needs is not there")),
        newest => number_of(newest),
    }
}

fn number_of(newest: Option<PgRow>) -> Result<u64, Fault> {
    let newest = newest.ok_or_else(|| Fault::nonsense("the count of events is gone, or a task that was locked"))?;
    Ok(integer(&newest, 0)?.unsigned_abs())
}

fn bind_events(
    arguments: &mut PgArguments,
    writer: Option<i64>,
    channel: &str,
    events: &[NewEvent],
) -> Result<(), Fault> {
    let tenants: Vec<&[u8]> = events.iter().map(|event| tenant(&event.tenant)).collect();
    let times: Vec<i64> = events.iter().map(|event| event.at.as_micros()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let tasks: Vec<Option<&[u8]>> =
        events.iter().map(|event| event.task.as_ref().map(|task| &task.as_bytes()[..])).collect();
    let agents: Vec<Option<&str>> = events.iter().map(|event| event.agent.as_ref().map(AgentId::as_str)).collect();
    let attempts: Vec<Option<i64>> = events.iter().map(|event| event.attempt.map(small)).collect();
    let details: Vec<Option<&str>> =
        events.iter().map(|event| Some(event.detail.as_str()).filter(|_| !event.detail.is_empty())).collect();
    let told = rows_at_most(events.len());
    bind!(arguments, told, tenants, times, kinds, tasks, agents, attempts, details, writer, channel);
    Ok(())
}
