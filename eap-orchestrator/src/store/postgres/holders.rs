//! What agents that ask for work hold already.

use std::collections::HashMap;

use eap_core::Task;
use eap_types::{AgentId, RequestId};
use sqlx::postgres::PgRow;

use super::database::Transaction;
use super::fault::Fault;
use super::values::{arguments, integer, maybe_word, task, word};

/// Where a task stands in the order of claims: (priority, insertion number).
pub(super) type Place = (i64, i64);

/// One agent's leases.
#[derive(Debug, Default)]
pub(super) struct Holder {
    pub(super) leases: u32,
    requests: HashMap<RequestId, Vec<Place>>,
}

impl Holder {
    /// It got one more.
    pub(super) fn add(&mut self, request: Option<RequestId>, place: Place) {
        self.leases = self.leases.saturating_add(1);
        if let Some(request) = request {
            self.requests.entry(request).or_default().push(place);
        }
    }

    /// It holds none of what a request was bound to any more.
    pub(super) fn forget(&mut self, request: &RequestId) {
        let gone = self.requests.remove(request).unwrap_or_default().len();
        self.leases = self.leases.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
    }

    /// The leases that a request is bound to, in order.
    pub(super) fn claimed_by(&self, request: &RequestId) -> Vec<Place> {
        let mut places = self.requests.get(request).cloned().unwrap_or_default();
        places.sort_unstable();
        places
    }
}

/// What agents hold, from rows of `holder, request_id, priority, seq` that begin at column `first`; only tasks whose numbers
/// count.
pub(super) fn of_rows(
    rows: &[&PgRow],
    first: usize,
    counts: impl Fn(i64) -> bool,
) -> Result<HashMap<AgentId, Holder>, Fault> {
    let mut holders: HashMap<AgentId, Holder> = HashMap::new();
    for row in rows {
        let place = (integer(row, first + 2)?, integer(row, first + 3)?);
        if counts(place.1) {
            holders.entry(word(row, first)?).or_default().add(maybe_word(row, first + 1)?, place);
        }
    }
    Ok(holders)
}

/// Reads those of the tasks at these places that are still an agent's by this request. They are not locked: since they were
/// looked up, some may have been completed or taken back.
pub(super) async fn tasks_at(
    transaction: &mut Transaction<'_>,
    agent: &AgentId,
    request: &RequestId,
    places: &[Place],
) -> Result<HashMap<i64, Task>, Fault> {
    let seqs: Vec<i64> = places.iter().map(|(_, seq)| *seq).collect();
    let sql = "SELECT t.seq, t.rev, s.spec, t.state FROM eap.task t JOIN eap.task_spec s ON s.seq = t.seq \
         WHERE t.seq = ANY($1) AND t.holder = $2 AND t.request_id = $3";
    let rows = transaction.rows(sql, arguments![seqs, agent.as_str(), request.as_str()]).await?;
    rows.iter().map(|row| Ok((integer(row, 0)?, task(row, 1)?.1))).collect()
}
