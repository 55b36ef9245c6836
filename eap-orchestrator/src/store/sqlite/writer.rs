//! The one thread that writes, and its group commit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use super::checkpoint::{LogGauge, checkpoint};
use super::fault::{Fault, Setback};
use super::ledger::Ledger;
use super::rows::Prepared;
use crate::store::{Claimed, Committed, Cutoffs, Decide, Demand, Purged, StoreError};

/// How many requests share a transaction, and about how many bytes, at most.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Where the answer goes. Nobody there any more? Then the write was made all the same.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked.
pub(super) enum Request {
    Commit(Box<Prepared>, Reply<Committed>),
    Claim(Demand, Arc<Decide>, Reply<Vec<Claimed>>),
    Purge(Cutoffs, usize, Reply<Purged>),
    Close,
}

/// What a request gets, once its transaction is on disk.
enum Answer {
    Committed(Committed),
    Claimed(Vec<Claimed>),
    Purged(Purged),
}

type Outcome = Result<Answer, StoreError>;

/// What the threads of a store tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set once the file cannot be trusted any more; nothing is written from then on (G6).
    pub(super) failure: OnceLock<Fault>,
    /// The writer should move the rest of the log, so that it starts over.
    pub(super) log_is_long: AtomicBool,
    pub(super) commits: AtomicU64,
    pub(super) claims: AtomicU64,
    pub(super) transactions: AtomicU64,
}

impl Shared {
    pub(super) fn fail(&self, fault: Fault) {
        tracing::error!(?fault, "storage has failed, nothing more will be written");
        // The first failure stays: what follows may only be its consequence.
        let _ = self.failure.set(fault);
    }

    fn count(&self, outcomes: &[Outcome]) {
        let count = |is_counted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is_counted(outcome)).count();
        let commits = count(|outcome| matches!(outcome, Ok(Answer::Committed(_))));
        let claims = count(|outcome| matches!(outcome, Ok(Answer::Claimed(_))));
        self.commits.fetch_add(commits as u64, Ordering::Relaxed);
        self.claims.fetch_add(claims as u64, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the writing thread does until the store is closed.
pub(super) struct Writer {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) ledger: Ledger,
    pub(super) log: LogGauge,
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
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    // What was sent before is still in the queue and still served.
                    Request::Close => self.requests.close(),
                    request => {
                        bytes += request.bytes();
                        batch.push(request);
                    }
                }
                let has_room = batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
                next = if has_room { self.requests.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.serve(batch);
            }
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

    /// Carries the requests out in one transaction; their outcomes may be told.
    fn transact(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Broken> {
        if let Some(fault) = self.shared.failure.get() {
            return Err(Broken::Undone(fault.clone()));
        }
        let outcomes = match self.ledger.begin().and_then(|()| self.carry_out(requests)) {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                self.undo(&fault);
                return Err(Broken::Undone(fault));
            }
        };
        if let Err(fault) = self.ledger.commit() {
            self.undo(&fault);
            return Err(Broken::Unknown(fault));
        }
        self.shared.count(&outcomes);
        Ok(outcomes)
    }

    /// Claims come last: a task that is submitted in the same batch finds the agent that waits for it.
    fn carry_out(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes: Vec<Option<Outcome>> = requests.iter().map(|_| None).collect();
        for is_turn_of_claims in [false, true] {
            for (request, outcome) in requests.iter().zip(&mut outcomes) {
                if matches!(request, Request::Claim(..)) == is_turn_of_claims {
                    *outcome = Some(self.carry_out_one(request)?);
                }
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(StoreError::Closed))).collect())
    }

    fn carry_out_one(&mut self, request: &Request) -> Result<Outcome, Fault> {
        Ok(match request {
            Request::Commit(change, _) => match self.ledger.apply(change) {
                Ok(committed) => Ok(Answer::Committed(committed)),
                Err(Setback::Refused(error)) => Err(error),
                Err(Setback::Broken(fault)) => return Err(fault),
            },
            Request::Claim(demand, decide, _) => Ok(Answer::Claimed(self.ledger.claim(demand, &**decide)?)),
            Request::Purge(cutoffs, limit, _) => Ok(Answer::Purged(self.ledger.purge(cutoffs, *limit)?)),
            Request::Close => Err(StoreError::Closed),
        })
    }

    fn undo(&mut self, fault: &Fault) {
        if fault.is_fatal() {
            self.shared.fail(fault.clone());
        } else if let Err(fault) = self.ledger.rollback() {
            // What is in memory no longer tells what is on disk.
            self.shared.fail(fault);
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
    fn bytes(&self) -> usize {
        match self {
            Self::Commit(change, _) => change.bytes,
            Self::Claim(..) | Self::Purge(..) | Self::Close => 0,
        }
    }

    fn answer(self, outcome: Outcome) {
        // An error of `send` says that nobody waits any more.
        match (self, outcome) {
            (Self::Commit(_, reply), Ok(Answer::Committed(committed))) => drop(reply.send(Ok(committed))),
            (Self::Claim(_, _, reply), Ok(Answer::Claimed(claimed))) => drop(reply.send(Ok(claimed))),
            (Self::Purge(_, _, reply), Ok(Answer::Purged(purged))) => drop(reply.send(Ok(purged))),
            (Self::Commit(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Claim(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Purge(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Close | Self::Commit(..) | Self::Claim(..) | Self::Purge(..), _) => {}
        }
    }
}
