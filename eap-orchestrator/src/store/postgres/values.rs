//! Values on their way into statements, and out of rows.

use std::str::FromStr;
use std::sync::Arc;

use eap_core::Task;
use eap_types::{AgentId, IdError, JsonObject, TaskId, TenantId, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{Row, ValueRef};

use super::database::Time;
use super::fault::Fault;
use crate::store::{Event, EventSeq, Revision, Stored};

/// The arguments of a statement, in the order of their numbers; a list is one argument.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "there may be no arguments at all")]
        let mut arguments = sqlx::postgres::PgArguments::default();
        $crate::store::postgres::values::bind!(&mut arguments, $($value),*);
        arguments
    }};
}
pub(super) use arguments;

/// Adds arguments to those that there are.
macro_rules! bind {
    ($arguments:expr, $($value:expr),* $(,)?) => {
        $(sqlx::Arguments::add($arguments, $value).map_err($crate::store::postgres::fault::Fault::nonsense)?;)*
    };
}
pub(super) use bind;

/// Stands for texts that are too long for an index, or may hold what PostgreSQL's texts cannot.
pub(super) fn digest<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no part can imitate the next one.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A small count as a column has it.
pub(super) fn small(value: u32) -> i64 {
    i64::from(value)
}

pub(super) fn integer(row: &PgRow, column: usize) -> Result<i64, Fault> {
    Ok(row.try_get(column)?)
}

pub(super) fn count(row: &PgRow, column: usize) -> Result<u64, Fault> {
    u64::try_from(integer(row, column)?).map_err(Fault::nonsense)
}

pub(super) fn number_of(row: &PgRow, column: usize) -> Result<u32, Fault> {
    u32::try_from(integer(row, column)?).map_err(Fault::nonsense)
}

pub(super) fn time(row: &PgRow, column: usize) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(integer(row, column)?))
}

pub(super) fn text(row: &PgRow, column: usize) -> Result<&str, Fault> {
    Ok(row.try_get(column)?)
}

/// An id of another's choosing.
pub(super) fn word<T: FromStr<Err = IdError>>(row: &PgRow, column: usize) -> Result<T, Fault> {
    text(row, column)?.parse().map_err(Fault::nonsense)
}

/// The same where there may be none.
pub(super) fn maybe_word<T: FromStr<Err = IdError>>(row: &PgRow, column: usize) -> Result<Option<T>, Fault> {
    if is_null(row, column)? { Ok(None) } else { word(row, column).map(Some) }
}

/// The bytes of an id of ours or of a digest.
pub(super) fn bytes<const N: usize>(row: &PgRow, column: usize) -> Result<[u8; N], Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(Fault::nonsense)
}

/// The same where there may be none.
pub(super) fn maybe_bytes<const N: usize>(row: &PgRow, column: usize) -> Result<Option<[u8; N]>, Fault> {
    if is_null(row, column)? { Ok(None) } else { bytes(row, column).map(Some) }
}

/// The JSON text of a record.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &PgRow, column: usize) -> Result<T, Fault> {
    Ok(serde_json::from_str(text(row, column)?)?)
}

/// The same where there may be none.
pub(super) fn maybe_json<T: serde::de::DeserializeOwned>(row: &PgRow, column: usize) -> Result<Option<T>, Fault> {
    if is_null(row, column)? { Ok(None) } else { json(row, column).map(Some) }
}

pub(super) fn is_null(row: &PgRow, column: usize) -> Result<bool, Fault> {
    Ok(row.try_get_raw(column)?.is_null())
}

/// A task from the columns `rev, spec, state`, of which `rev` stands at `first`.
pub(super) fn task(row: &PgRow, first: usize) -> Result<(Revision, Task), Fault> {
    let record = Task { spec: Arc::new(json(row, first + 1)?), state: json(row, first + 2)? };
    Ok((Revision(count(row, first)?), record))
}

/// A task from the columns `clock, rev, spec, state`.
pub(super) fn stored_task(row: &PgRow, clock: &Time) -> Result<Stored<Task>, Fault> {
    let (revision, record) = task(row, 1)?;
    Ok(Stored { record, revision, now: clock.at(row, 0)? })
}

/// An event from the columns `seq, tenant, at, kind, task, agent, attempt, detail`.
pub(super) fn event(row: &PgRow) -> Result<Event, Fault> {
    let attempt: Option<i64> = row.try_get(6)?;
    let detail: Option<&str> = row.try_get(7)?;
    Ok(Event {
        seq: EventSeq(count(row, 0)?),
        tenant: TenantId::from_bytes(bytes(row, 1)?),
        at: time(row, 2)?,
        kind: text(row, 3)?.to_owned(),
        task: maybe_bytes(row, 4)?.map(TaskId::from_bytes),
        agent: maybe_word::<AgentId>(row, 5)?,
        attempt: attempt.map(u32::try_from).transpose().map_err(Fault::nonsense)?,
        detail: detail.map(JsonObject::parse).transpose().map_err(Fault::nonsense)?.unwrap_or_default(),
    })
}
