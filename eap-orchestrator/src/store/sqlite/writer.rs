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
use super::room::Room;
use super::rows::Prepared;
use crate::store::queue::Queued;
use crate::store::tally::{Done, Tally};
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
    pub(super) requests: mpsc::Receiver<Queued<Request>>,
    pub(super) ledger: Ledger,
    pub(super) log: LogGauge,
    pub(super) room: Room,
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

    fn serve(&mut self, mut batch: Vec<Request>) {
        self.shorten_log();
        let changes = self.ledger.connection.total_changes();
        let outcomes = match self.transact(&batch) {
            Ok(outcomes) => outcomes,
            Err(broken) if batch.len() > 1 && broken.fault().is_full() => {
                // What makes room comes first, then the smallest.
                batch.sort_by_key(|request| (!request.is_purge(), request.bytes()));
                self.fill(&batch)
            }
            // One request may be to blame: each gets a transaction of its own.
            Err(Broken::Undone(fault)) if batch.len() > 1 && fault.may_be_of_one_request() => {
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

    /// Carries out as many as there is room for, in their order: one that is too large takes none along that is smaller.
    ///
    /// Halves what is tried when it has no room: a failed transaction has the journal read back, so there must be few.
    fn fill(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut together = requests.len().div_ceil(2);
        while outcomes.len() < requests.len() {
            let rest = &requests[outcomes.len()..];
            let tried = &rest[..together.min(rest.len())];
            match self.transact(tried) {
                Ok(carried_out) => outcomes.extend(carried_out),
                Err(broken) if broken.fault().is_full() && tried.len() > 1 => together = tried.len() / 2,
                // Where this one has no room, nor have those that are larger.
                Err(broken) if broken.fault().is_full() && !tried[0].is_purge() => {
                    outcomes.extend(broken.to(rest.len()));
                }
                Err(broken) => outcomes.extend(broken.to(tried.len())),
            }
        }
        outcomes
    }

    /// Carries the requests out in one transaction; their outcomes may be told. What moves on the way may fail for want of
    /// room, and takes nothing else along.
    fn transact(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Broken> {
        if let Some(fault) = self.shared.failure.get() {
            return Err(Broken::Undone(fault.clone()));
        }
        if let Some(refusal) = self.room.refusal() {
            return self.without_moves(requests, refusal);
        }
        let moves = self.ledger.is_untidy() || requests.iter().any(Request::moves);
        match self.attempt(requests, None) {
            Err(broken) if moves && broken.fault().is_full() => {
                self.room.is_missing(broken.fault());
                self.without_moves(requests, broken.fault().clone())
            }
            Err(broken) => {
                if moves && broken.fault().is_of_room() {
                    self.room.is_missing(broken.fault());
                }
                Err(broken)
            }
            Ok(outcomes) => {
                self.room.may_be_there();
                Ok(outcomes)
            }
        }
    }

    /// Carries out what needs no move, for which there was no room: the journal grows meanwhile, to a bound.
    fn without_moves(&mut self, requests: &[Request], refusal: Fault) -> Result<Vec<Outcome>, Broken> {
        if self.ledger.journal.is_overfull() && !requests.iter().all(Request::is_purge) {
            return Err(Broken::Undone(refusal));
        }
        let outcomes = self.attempt(requests, Some(&refusal))?;
        if requests.iter().any(Request::is_purge) {
            self.room.may_be_there();
        }
        Ok(outcomes)
    }

    /// Carries the requests out in one transaction, in which nothing moves where there is a refusal.
    fn attempt(&mut self, requests: &[Request], refusal: Option<&Fault>) -> Result<Vec<Outcome>, Broken> {
        let began = Instant::now();
        let outcomes = match self.ledger.begin().and_then(|()| self.carry_out(requests, refusal)) {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                self.undo(&fault);
                return Err(Broken::Undone(fault));
            }
        };
        let written = Instant::now();
        if let Err(fault) = self.ledger.commit() {
            self.undo(&fault);
            return Err(Broken::Unknown(fault));
        }
        self.shared.tell(&self.ledger);
        self.shared.tally.count(&done(&outcomes), began, written);
        Ok(outcomes)
    }

    /// Claims come last: a task that is submitted in the same batch finds the agent that waits for it.
    fn carry_out(&mut self, requests: &[Request], refusal: Option<&Fault>) -> Result<Vec<Outcome>, Fault> {
        if refusal.is_none() {
            self.ledger.tidy()?;
        }
        let mut outcomes =
            requests.iter().map(|request| self.carry_out_one(request, refusal)).collect::<Result<Vec<_>, _>>()?;
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
    fn carry_out_one(&mut self, request: &Request, refusal: Option<&Fault>) -> Result<Outcome, Fault> {
        Ok(match request {
            Request::Commit(change, _) | Request::CommitAndClaim(change, ..) => match self.ledger.apply(change) {
                Ok(committed) => Ok(Answer::Committed(committed)),
                Err(Setback::Refused(error)) => Err(error),
                Err(Setback::Broken(fault)) => return Err(fault),
            },
            Request::Purge(cutoffs, limit, _) => {
                Ok(Answer::Purged(self.ledger.purge(cutoffs, *limit, refusal.is_some())?))
            }
            Request::Settle(share, _) => match refusal {
                Some(fault) => Err(fault.clone().into()),
                None => {
                    self.ledger.move_on(*share)?;
                    Ok(Answer::Settled)
                }
            },
            Request::Claim(..) | Request::Close => Err(StoreError::Closed),
        })
    }

    fn undo(&mut self, fault: &Fault) {
        if fault.is_fatal() {
            self.shared.fail(fault.clone());
            // Reads aside wait for this transaction to end. Nothing is written by that; if it fails, so will they.
            self.ledger.abandon();
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

/// What the outcomes of a transaction amount to.
fn done(outcomes: &[Outcome]) -> Done {
    let mut done = Done::of(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Ok(Answer::Committed(_)) => done.committed(),
            Ok(Answer::Claimed(claims)) => done.claimed(claims),
            Ok(Answer::CommittedAndClaimed(claims)) => {
                done.committed();
                done.claimed(claims);
            }
            Ok(Answer::Purged(_) | Answer::Settled) | Err(_) => {}
        }
    }
    done
}

impl Broken {
    fn fault(&self) -> &Fault {
        let (Self::Undone(fault) | Self::Unknown(fault)) = self;
        fault
    }

    fn to(&self, requests: usize) -> Vec<Outcome> {
        (0..requests).map(|_| Err(self.fault().clone().into())).collect()
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

    /// Whether it moves what is in the journal, where that has room.
    fn moves(&self) -> bool {
        matches!(self, Self::Settle(..) | Self::Purge(..))
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
mod tests;
