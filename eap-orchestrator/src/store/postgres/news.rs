//! What others committed: the events behind a place that are not this store's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use eap_core::{Agent, Task, Vitals};
use eap_types::{AgentId, TaskId, Timestamp};
use sqlx::postgres::PgRow;
use tokio::time::timeout;

use super::database::Database;
use super::fault::Fault;
use super::values::{arguments, count, event, integer, is_null, json, stored_task, time, word};
use crate::store::prepared::{number, rows_at_most};
use crate::store::{EventSeq, News, ReplicaId, Revision, Stored};

/// After how long a replica is forgotten that has not said that it is at work.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The newest events in a row that were all written here: nobody else's are among them.
#[derive(Debug, Default)]
pub(super) struct OwnEvents {
    row: Mutex<(u64, u64)>,
    /// The newest event that is known here at all.
    head: AtomicU64,
}

/// From where events have to be read again: a transaction may have written some that nobody here knows of.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<Doubt>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    since: Option<u64>,
    /// How many there were.
    number: u64,
}

impl Doubts {
    /// A transaction whose end is not known wrote its events behind `head`, if it wrote any.
    pub(super) fn since(&self, head: u64) {
        let mut doubt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *doubt = Doubt { since: Some(doubt.since.map_or(head, |since| since.min(head))), number: doubt.number + 1 };
    }

    /// Where to read from who would read from `after`, and why.
    fn before(&self, after: EventSeq) -> (EventSeq, Doubt) {
        let doubt = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (doubt.since.map_or(after, |since| EventSeq(after.0.min(since))), doubt)
    }

    /// Whoever asked has read from there; he reads on from where that ends.
    fn settle(&self, settled: Doubt) {
        let mut doubt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have come meanwhile, about the same events or others.
        if *doubt == settled {
            doubt.since = None;
        }
    }
}

impl OwnEvents {
    /// All events after `before`, up to `newest`, were written here.
    pub(super) fn note(&self, before: u64, newest: u64) {
        self.note_head(newest);
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        *row = if row.1 == before { (row.0, newest) } else { (before, newest) };
    }

    /// There are events up to here.
    fn note_head(&self, head: u64) {
        self.head.fetch_max(head, Ordering::SeqCst);
    }

    /// The newest event that is known: what is written from now on comes behind it.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::SeqCst)
    }

    /// The last event from `after` on behind which others may have written.
    fn skip(&self, after: EventSeq) -> EventSeq {
        let (before, newest) = *self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if before <= after.0 { EventSeq(after.0.max(newest)) } else { after }
    }
}

impl Database {
    pub(super) async fn news(&self, after: EventSeq, limit: usize) -> Result<News, Fault> {
        let (from, doubt) = self.doubts.before(after);
        let after = if doubt.since.is_some() { from } else { self.own.skip(after) };
        let sql = "SELECT e.seq, e.tenant, e.at, e.kind, e.task, e.agent, e.attempt, e.detail, m.value, eap.clock() \
             FROM eap.meta m LEFT JOIN LATERAL ( \
                 SELECT * FROM eap.event WHERE seq > $1 AND writer IS DISTINCT FROM $2 ORDER BY seq LIMIT $3) e ON true \
             WHERE m.key = 'last_event' ORDER BY e.seq";
        let asked = Instant::now();
        let rows = self.rows(sql, arguments![number(after.0), self.writer(), rows_at_most(limit)]).await?;
        let first = rows.first().ok_or_else(|| Fault::nonsense("the count of events is gone"))?;
        self.clock.set(time(first, 9)?, asked);
        let head = EventSeq(count(first, 8)?);
        let told = rows.iter().filter(|row| !matches!(is_null(row, 0), Ok(true)));
        let events = told.map(event).collect::<Result<Vec<_>, _>>()?;
        let upto = match events.last() {
            Some(last) if events.len() >= limit => last.seq,
            _ => head,
        };
        self.doubts.settle(doubt);
        self.own.note_head(head.0);
        Ok(News { events, from, upto, head })
    }

    /// Says that this replica is at work now, and reads when all of them last did.
    pub(super) async fn replicas(&self) -> Result<Vec<(ReplicaId, Timestamp)>, Fault> {
        let mut loan = self.acquire_to_read().await?;
        let counted = async {
            let mut transaction = self.begin(&mut loan).await?;
            let sql = "WITH forgotten AS (DELETE FROM eap.replica WHERE seen_at < $2 - $3 AND id <> $1), \
                 here AS (INSERT INTO eap.replica (id, seen_at) VALUES ($1, $2) \
                     ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at) \
                 SELECT $1::int8, $2::int8 UNION ALL SELECT id, seen_at FROM eap.replica WHERE id <> $1";
            let (id, forgotten) = (self.replica.0.cast_signed(), FORGOTTEN.as_micros() as i64);
            let now = self.told_time().now().as_micros();
            let rows = transaction.rows(sql, arguments![id, now, forgotten]).await?;
            transaction.commit().await?;
            rows.iter().map(|row| Ok((ReplicaId(integer(row, 0)?.cast_unsigned()), time(row, 1)?))).collect()
        };
        let outcome: Result<_, Fault> = counted.await;
        self.give_back(loan, outcome.as_ref().err());
        outcome
    }

    /// Says that this replica is not at work any more. If that fails, the others find out by its silence.
    pub(super) async fn say_goodbye(&self) {
        let gone = async {
            let mut loan = self.acquire_aside().await?;
            let mut transaction = self.begin(&mut loan).await?;
            let id = self.replica.0.cast_signed();
            transaction.execute("DELETE FROM eap.replica WHERE id = $1", arguments![id]).await?;
            transaction.commit().await?;
            self.give_back(loan, None);
            Ok::<(), Fault>(())
        };
        if !matches!(timeout(GOODBYE, gone).await, Ok(Ok(()))) {
            tracing::debug!("the other replicas could not be told of the end of this one");
        }
    }

    /// Sets the clock.
    pub(super) async fn ask_time(&self) -> Result<(), Fault> {
        let asked = Instant::now();
        if let Some(row) = self.row("SELECT eap.clock()", arguments![]).await? {
            self.clock.set(time(&row, 0)?, asked);
        }
        Ok(())
    }

    pub(super) async fn tasks_of(&self, ids: &[TaskId]) -> Result<Vec<Stored<Task>>, Fault> {
        if let [id] = ids {
            // The plan for one is kept; that for any number never is.
            return Ok(self.task(*id).await?.into_iter().collect());
        }
        // `LATERAL`: joined otherwise, all specs may be walked.
        let sql = "SELECT eap.clock(), t.rev, s.spec, t.state FROM eap.task t CROSS JOIN LATERAL ( \
                 SELECT s.spec FROM eap.task_spec s WHERE s.seq = t.seq LIMIT 1) AS s WHERE t.id = ANY($1)";
        let ids: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
        self.rows(sql, arguments![ids]).await?.iter().map(|row| stored_task(row, &self.time)).collect()
    }

    pub(super) async fn agents_of(&self, ids: &[AgentId]) -> Result<Vec<(Stored<Agent>, Vitals)>, Fault> {
        let sql = "SELECT eap.clock(), a.rev, a.record, v.vitals \
             FROM eap.agent a JOIN eap.vitals v ON v.agent = a.id WHERE a.id = ANY($1)";
        let ids: Vec<&str> = ids.iter().map(AgentId::as_str).collect();
        let rows = self.rows(sql, arguments![ids]).await?;
        let read = |row: &PgRow| {
            let (now, revision) = (self.time.at(row, 0)?, Revision(count(row, 1)?));
            Ok((Stored { record: json(row, 2)?, revision, now }, json(row, 3)?))
        };
        rows.iter().map(read).collect()
    }

    pub(super) async fn vitals_since(&self, since: Timestamp) -> Result<Vec<(AgentId, Vitals)>, Fault> {
        let sql = "SELECT agent, vitals FROM eap.vitals WHERE last_seen >= $1";
        let rows = self.rows(sql, arguments![since.as_micros()]).await?;
        rows.iter().map(|row| Ok((word(row, 0)?, json(row, 1)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_read_again_from_the_first_of_it_once() {
        let doubts = Doubts::default();
        let asked = |after| doubts.before(EventSeq(after));
        assert_eq!(asked(9), (EventSeq(9), Doubt::default()));
        doubts.since(7);
        doubts.since(5);
        let (from, first) = asked(9);
        assert_eq!((from, asked(3).0), (EventSeq(5), EventSeq(3)));
        // Another one comes meanwhile, behind the same event.
        doubts.since(8);
        doubts.settle(first);
        let (from, second) = asked(9);
        assert_eq!(from, EventSeq(5));
        doubts.settle(second);
        assert_eq!(asked(9).0, EventSeq(9));
    }

    #[test]
    fn only_a_row_of_our_own_events_is_skipped() {
        let own = OwnEvents::default();
        own.note(10, 12);
        own.note(12, 15);
        assert_eq!([9, 10, 11, 15, 16].map(|after| own.skip(EventSeq(after)).0), [9, 15, 15, 15, 16]);
        // Two of another's lie between.
        own.note(17, 18);
        assert_eq!([10, 15, 17, 18].map(|after| own.skip(EventSeq(after)).0), [10, 15, 18, 18]);
    }
}
