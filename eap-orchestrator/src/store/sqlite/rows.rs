//! Rows as records.

use std::str::FromStr;
use std::sync::Arc;

use eap_core::Task;
use eap_types::{AgentId, IdError, JsonObject, TaskId, TenantId, Timestamp};
use rusqlite::Row;

use super::fault::Fault;
pub(super) use crate::store::prepared::{
    Prepared, PreparedAgent, PreparedAgentWrite, PreparedCredential, PreparedResult, PreparedSessionWrite,
    PreparedTask, PreparedTaskWrite, StateColumns, StateText, number, rows_at_most,
};
use crate::store::{Event, EventSeq, Revision, Stored};

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64, Fault> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(Fault::nonsense)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(row.get(column)?))
}

/// An id of another's choosing.
pub(super) fn word<T: FromStr<Err = IdError>>(row: &Row<'_>, column: usize) -> Result<T, Fault> {
    text(row, column)?.parse().map_err(Fault::nonsense)
}

/// The JSON text of a record.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, Fault> {
    Ok(serde_json::from_str(text(row, column)?)?)
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, Fault> {
    row.get_ref(column)?.as_str().map_err(Fault::nonsense)
}

/// A task from the columns `rev, spec, state`, of which `rev` stands at `first`.
pub(super) fn stored_task(row: &Row<'_>, first: usize, now: Timestamp) -> Result<Stored<Task>, Fault> {
    let record = Task { spec: Arc::new(json(row, first + 1)?), state: json(row, first + 2)? };
    Ok(Stored { record, revision: Revision(count(row, first)?), now })
}

/// An event from the columns `seq, tenant, at, kind, task, agent, attempt, detail`.
pub(super) fn event(row: &Row<'_>) -> Result<Event, Fault> {
    let agent: Option<String> = row.get(5)?;
    let detail: Option<String> = row.get(7)?;
    let detail = detail.map(|text| JsonObject::parse(&text)).transpose().map_err(Fault::nonsense)?;
    Ok(Event {
        seq: EventSeq(count(row, 0)?),
        tenant: TenantId::from_bytes(row.get(1)?),
        at: time(row, 2)?,
        kind: row.get(3)?,
        task: row.get::<_, Option<[u8; 16]>>(4)?.map(TaskId::from_bytes),
        agent: agent.map(AgentId::try_from).transpose().map_err(Fault::nonsense)?,
        attempt: row.get(6)?,
        detail: detail.unwrap_or_default(),
    })
}
