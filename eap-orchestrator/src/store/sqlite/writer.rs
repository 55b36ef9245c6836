//! The one thread that writes, and its group commit.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use eap_types::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::{LogGauge, checkpoint};
use super::fault::{Fault, Setback};
use super::journal::Share;
use super::ledger::Ledger;
use super::queue::Queued;
use super::rows::Prepared;
use super::tally::Tally;
use crate::store::{Claims, Committed, Cutoffs, Decide, Demand, Purged, StoreError};

/// How many tasks are written in one transaction, and about how many bytes, at most, unless one request alone has more.
/// Were there no bound, large batches would all wait for one another, and the callers' side would stand still meanwhile.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Where the answer goes. Nobody there any more? Then the write was made all the same.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked.
pub(super) enum Request {
    Commit(Box<Prepared>, Reply<Committed>),
    Claim(Demand, Arc<Decide>, Reply<Claims>),
    CommitAndClaim(Box<Prepared>, Demand, Arc<Decide>, Reply<Claims>),
    Purge(Cutoffs, usize, Reply<Purged>),
    /// So much into the tables, where readers find it.
    Settle(Share, Reply<()>),
    Close,
}

/// What a request gets, once its transaction is on disk.
pub(super) enum Answer {
    Committed(Committed),
    Claimed(Claims),
    CommittedAndClaimed(Claims),
    Purged(Purged),
    Settled,
}

pub(super) type Outcome = Result<Answer, StoreError>;

/// What the threads of a store tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set once the file cannot be trusted any more; nothing is written from then on (G6).
    pub(super) failure: OnceLock<Fault>,
    /// The writer should move the rest of the log, so that it starts over.
    pub(super) log_is_long: AtomicBool,
    /// Something is in the journal that readers do not find.
    pub(super) is_unsettled: AtomicBool,
    /// No task in the journal is due before, in microseconds.
    next_due: AtomicI64,
    pub(super) tally: Tally,
}

impl Shared {
    /// Tells readers what is in the journal.
    pub(super) fn tell(&self, ledger: &Ledger) {
        let next_due = ledger.journal.next_due().map_or(i64::MAX, Timestamp::as_micros);
        self.next_due.store(next_due, Ordering::Release);
        self.is_unsettled.store(!ledger.journal.is_empty(), Ordering::Release);
    }

    /// Whether a task in the journal may be due at `until`.
    pub(super) fn may_be_due(&self, until: Timestamp) -> bool {
        self.is_unsettled.load(Ordering::Acquire) && self.next_due.load(Ordering::Acquire) <= until.as_micros()
    }

    pub(super) fn fail(&self, fault: Fault) {
        tracing::error!(?fault, "storage has failed, nothing more will be written");
        // The first failure stays: what follows may only be its consequence.
        let _ = self.failure.set(fault);
    }
}

/// What the writing thread does until the store is closed.
pub(super) struct Writer {
    pub(super) requests: mpsc::Receiver<Queued>,
    pub(super) ledger: Ledger,
    pub(super) log: LogGauge,
    /// There was no room when something was last written.
    pub(super) is_cramped: bool,
    pub(super) shared: Arc<Shared>,
}

/// How far a transaction came.
enum Broken {
    /// Undone before it was committed.
    Undone(Fault),
    /// Its commit failed, and whether it is on disk is not known.
    Unknown(Fault),
}

impl Writer {
    /// Takes whatever is there, never waits for more, and answers after the commit.
    pub(super) fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let mut batch = Vec::new();
            let (mut tasks, mut bytes) = (0, 0);
            let mut next = Some(first);
            while let Some(Queued { request, .. }) = next {
                match request {
                    // What was sent before is still in the queue and still served.
                    Request::Close => self.requests.close(),
                    request => {
                        tasks += request.tasks();
                        bytes += request.bytes();
                        batch.push(request);
                    }
                }
                let has_room = tasks < MAX_BATCH && bytes < MAX_BATCH_BYTES;
                next = if has_room { self.requests.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.serve(batch);
            }
        }
        if !self.ledger.journal.is_empty() {
            let (reply, _) = oneshot::channel();
            self.serve(vec![Request::Settle(Share::Everything, reply)]);
        }
        if self.shared.failure.get().is_none()
            && let Err(error) = self.ledger.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::warn!(%error, "the log could not be emptied at the end, and will be read at the next start");
        }
    }

    fn serve(&mut self, batch: Vec<Request>) {
        self.shorten_log();
        let changes = self.ledger.connection.total_changes();
        let outcomes = match self.transact(&batch) {
            Ok(outcomes) => outcomes,
            // One request may be to blame, or may make room: each gets a transaction of its own.
            Err(Broken::Undone(fault))
                if batch.len() > 1 && (fault.may_be_of_one_request() || batch.iter().any(Request::is_purge)) =>
            {
                let alone = |request| self.transact(std::slice::from_ref(request));
                batch.iter().map(alone).flat_map(|outcomes| outcomes.unwrap_or_else(|broken| broken.to(1))).collect()
            }
            Err(broken) => broken.to(batch.len()),
        };
        let bytes: usize = batch.iter().map(Request::bytes).sum();
        let rows = self.ledger.connection.total_changes() - changes;
        for (request, outcome) in batch.into_iter().zip(outcomes) {
            request.answer(outcome);
        }
        // A row is in its table and in an index or two; small ones share pages.
        self.log.add(rows * 2 + bytes as u64 / 4096);
    }

    /// Carries the requests out in one transaction; their outcomes may be told.
    fn transact(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Broken> {
        if let Some(fault) = self.shared.failure.get() {
            return Err(Broken::Undone(fault.clone()));
        }
        let began = Instant::now();
        let outcomes = match self.ledger.begin().and_then(|()| self.carry_out(requests)) {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                self.undo(&fault);
                self.is_cramped = fault.is_full();
                return Err(Broken::Undone(fault));
            }
        };
        let written = Instant::now();
        if let Err(fault) = self.ledger.commit() {
            self.undo(&fault);
            // What a commit has no room for, a purge has to make room for.
            self.is_cramped = fault.is_full();
            return Err(Broken::Unknown(fault));
        }
        self.is_cramped &= requests.iter().all(Request::is_purge);
        self.shared.tell(&self.ledger);
        self.shared.tally.count(&outcomes, began, written);
        Ok(outcomes)
    }

    /// Claims come last: a task that is submitted in the same batch finds the agent that waits for it.
    fn carry_out(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Fault> {
        let makes_room = requests.iter().all(Request::is_purge);
        if !(self.is_cramped && makes_room) {
            self.ledger.tidy()?;
        }
        let mut outcomes = requests.iter().map(|request| self.carry_out_one(request)).collect::<Result<Vec<_>, _>>()?;
        for (request, outcome) in requests.iter().zip(&mut outcomes) {
            match request {
                Request::Claim(demand, decide, _) => {
                    *outcome = Ok(Answer::Claimed(self.ledger.claim(demand, &**decide)?));
                }
                Request::CommitAndClaim(_, demand, decide, _) if outcome.is_ok() => {
                    *outcome = Ok(Answer::CommittedAndClaimed(self.ledger.claim(demand, &**decide)?));
                }
                _ => {}
            }
        }
        self.ledger.write_down()?;
        Ok(outcomes)
    }

    /// Carries out what does not wait for the others.
    fn carry_out_one(&mut self, request: &Request) -> Result<Outcome, Fault> {
        Ok(match request {
            Request::Commit(change, _) | Request::CommitAndClaim(change, ..) => match self.ledger.apply(change) {
                Ok(committed) => Ok(Answer::Committed(committed)),
                Err(Setback::Refused(error)) => Err(error),
                Err(Setback::Broken(fault)) => return Err(fault),
            },
            Request::Purge(cutoffs, limit, _) => {
                Ok(Answer::Purged(self.ledger.purge(cutoffs, *limit, self.is_cramped)?))
            }
            Request::Settle(share, _) => {
                self.ledger.move_on(*share)?;
                Ok(Answer::Settled)
            }
            Request::Claim(..) | Request::Close => Err(StoreError::Closed),
        })
    }

    fn undo(&mut self, fault: &Fault) {
        if fault.is_fatal() {
            self.shared.fail(fault.clone());
        } else if let Err(fault) = self.ledger.rollback() {
            // What is in memory no longer tells what is on disk.
            self.shared.fail(fault);
        } else {
            self.shared.tell(&self.ledger);
        }
    }

    fn shorten_log(&self) {
        if !self.shared.log_is_long.swap(false, Ordering::AcqRel) || self.shared.failure.get().is_some() {
            return;
        }
        match checkpoint(&self.ledger.connection) {
            Err(fault) if fault.is_fatal() => self.shared.fail(fault),
            Ok(_) | Err(_) => {}
        }
    }
}

impl Broken {
    fn to(&self, requests: usize) -> Vec<Outcome> {
        let (Self::Undone(fault) | Self::Unknown(fault)) = self;
        (0..requests).map(|_| Err(fault.clone().into())).collect()
    }
}

impl Request {
    /// About how much it adds to the file.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Commit(change, _) | Self::CommitAndClaim(change, ..) => change.bytes,
            Self::Claim(..) | Self::Purge(..) | Self::Settle(..) | Self::Close => 0,
        }
    }

    /// How many tasks it writes at most, and at least one.
    fn tasks(&self) -> usize {
        let claimed = |demand: &Demand| demand.asks.iter().map(|ask| ask.max_tasks as usize).sum::<usize>();
        let tasks = match self {
            Self::Commit(change, _) => change.tasks.len(),
            Self::Claim(demand, ..) => claimed(demand),
            Self::CommitAndClaim(change, demand, ..) => change.tasks.len() + claimed(demand),
            Self::Purge(..) | Self::Settle(..) | Self::Close => 1,
        };
        tasks.max(1)
    }

    fn is_purge(&self) -> bool {
        matches!(self, Self::Purge(..))
    }

    fn answer(self, outcome: Outcome) {
        // An error of `send` says that nobody waits any more.
        match (self, outcome) {
            (Self::Commit(_, reply), Ok(Answer::Committed(committed))) => drop(reply.send(Ok(committed))),
            (Self::Claim(_, _, reply), Ok(Answer::Claimed(claimed)))
            | (Self::CommitAndClaim(_, _, _, reply), Ok(Answer::CommittedAndClaimed(claimed))) => {
                drop(reply.send(Ok(claimed)));
            }
            (Self::Purge(_, _, reply), Ok(Answer::Purged(purged))) => drop(reply.send(Ok(purged))),
            (Self::Settle(_, reply), Ok(Answer::Settled)) => drop(reply.send(Ok(()))),
            (Self::Settle(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Commit(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Claim(_, _, reply) | Self::CommitAndClaim(_, _, _, reply), Err(error)) => {
                drop(reply.send(Err(error)));
            }
            (Self::Purge(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            (_, Ok(_)) | (Self::Close, Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eap_core::{Agent, Standing, Task, TaskEvent, TaskPolicy, Vitals};
    use eap_types::{AgentId, AgentType, Capabilities, Capability, JsonObject, Labels, LeaseId, TenantId};

    use super::*;
    use crate::clock::ManualClock;
    use crate::store::sqlite::SqliteOptions;
    use crate::store::sqlite::checkpoint::Checkpointer;
    use crate::store::sqlite::open::Database;
    use crate::store::sqlite::sample::submitted;
    use crate::store::{AgentWrite, Ask, Change, TaskWrite};

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// A writer without a thread: its batches are made by hand.
    fn writer() -> (tempfile::TempDir, Writer) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("eap.db"), &SqliteOptions::default()).unwrap();
        let shared = Arc::new(Shared::default());
        let (log, _) = Checkpointer::new(database.checkpointer, Arc::clone(&shared));
        let ledger = Ledger::load(database.writer, Arc::new(ManualClock::at(NOW)), Arc::default()).unwrap();
        (folder, Writer { requests: mpsc::channel(1).1, ledger, log, is_cramped: false, shared })
    }

    fn task(number: u8) -> Task {
        submitted(number, NOW)
    }

    fn agent() -> Agent {
        Agent {
            id: AgentId::v7(NOW, [0; 10]),
            tenant: TenantId::default(),
            name: "translator".parse().unwrap(),
            instance_id: None,
            version: "1.0.0".to_owned(),
            agent_type: AgentType::default(),
            capabilities: Capabilities::new(["translate".parse::<Capability>().unwrap()]).unwrap(),
            labels: Labels::default(),
            endpoint_url: None,
            metadata: JsonObject::default(),
            features: None,
            max_concurrent_tasks: 5,
            admitted_capabilities: std::collections::BTreeSet::new(),
            previous_token: None,
            rotation: None,
            registered_with: None,
            token_sha256: None,
            epoch: 1,
            registered_at: NOW,
            standing: Standing::Active,
        }
    }

    type Answered<T> = oneshot::Receiver<Result<T, StoreError>>;

    fn commit(change: Change) -> (Request, Answered<Committed>) {
        let (reply, answered) = oneshot::channel();
        (Request::Commit(Box::new(Prepared::of(change).unwrap()), reply), answered)
    }

    fn submit(number: u8) -> (Request, Answered<Committed>) {
        commit(Change { tasks: vec![TaskWrite::Insert(task(number))], ..Change::default() })
    }

    fn register() -> (Request, Answered<Committed>) {
        let write = AgentWrite::Insert(agent(), Vitals::registered(1, NOW));
        commit(Change { agents: vec![write], ..Change::default() })
    }

    fn claim() -> (Request, Answered<Claims>) {
        let (reply, answered) = oneshot::channel();
        let ask = Ask {
            agent: Arc::new(agent()),
            max_tasks: 5,
            request_id: None,
            task_types: None,
            lease: Duration::from_secs(60),
        };
        let decide: Arc<Decide> = Arc::new(|task, ask, now| {
            let event = TaskEvent::Assign {
                agent: ask.agent.id.clone(),
                epoch: ask.agent.epoch,
                lease_id: LeaseId::v7(now, [1; 10]),
                request_id: None,
                length: ask.lease,
            };
            Ok(task.apply(event, now, &TaskPolicy::default())?.changed().unwrap())
        });
        (Request::Claim(Demand { asks: vec![ask] }, decide, reply), answered)
    }

    #[test]
    fn a_task_finds_the_agent_that_waits_in_the_same_batch() {
        let (_folder, mut writer) = writer();
        writer.serve(vec![register().0]);
        let ((claim, mut claimed), (submit, mut submitted)) = (claim(), submit(1));
        writer.serve(vec![claim, submit]);
        assert!(submitted.try_recv().unwrap().is_ok());
        assert_eq!(claimed.try_recv().unwrap().unwrap().answers[0].tasks.len(), 1);
        assert_eq!(writer.shared.tally.stats().transactions, 2);
    }

    #[test]
    fn a_request_that_breaks_its_batch_leaves_the_others_alone() {
        let (_folder, mut writer) = writer();
        writer.serve(vec![register().0, submit(1).0]);
        writer.serve(vec![Request::Settle(Share::Everything, oneshot::channel().0)]);
        writer.ledger.connection.execute_batch("UPDATE task_spec SET spec = '{}'").unwrap();
        // So that the claim reads what is stored.
        writer.ledger.rollback().unwrap();
        let ((claim, mut claimed), (submit, mut submitted)) = (claim(), submit(2));
        writer.serve(vec![claim, submit]);
        assert!(matches!(claimed.try_recv().unwrap(), Err(StoreError::Unavailable { .. })));
        assert!(submitted.try_recv().unwrap().is_ok());
        assert!(writer.ledger.seq_of(task(2).id()).unwrap().is_some());
    }

    #[test]
    fn a_failed_commit_is_no_success_for_anyone_and_what_is_known_is_undone() {
        let (_folder, mut writer) = writer();
        writer.serve(vec![register().0]);
        // No commit can succeed, as on a disk that fills up at the last moment.
        let deferred = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER orphan AFTER INSERT ON journal BEGIN INSERT INTO child VALUES (7); END;";
        writer.ledger.connection.execute_batch(deferred).unwrap();
        let ((first, mut one), (second, mut two)) = (submit(1), submit(2));
        writer.serve(vec![first, second]);
        for answer in [&mut one, &mut two] {
            assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Unavailable { .. })));
        }
        assert_eq!(writer.ledger.seq_of(task(1).id()).unwrap(), None);
        writer.ledger.connection.execute_batch("DROP TRIGGER orphan").unwrap();
        let ((claim, mut claimed), (submit, mut submitted)) = (claim(), submit(3));
        writer.serve(vec![submit, claim]);
        assert!(submitted.try_recv().unwrap().is_ok());
        assert_eq!(claimed.try_recv().unwrap().unwrap().answers[0].tasks.len(), 1);
    }

    #[test]
    fn after_a_failure_nothing_is_written_any_more() {
        let (_folder, mut writer) = writer();
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        writer.shared.fail(rusqlite::Error::SqliteFailure(error, None).into());
        let ((submit, mut submitted), (claim, mut claimed)) = (submit(1), claim());
        writer.serve(vec![submit, claim]);
        assert!(matches!(submitted.try_recv().unwrap(), Err(StoreError::Failed { .. })));
        assert!(matches!(claimed.try_recv().unwrap(), Err(StoreError::Failed { .. })));
        assert_eq!(writer.ledger.seq_of(task(1).id()).unwrap(), None);
    }
}
