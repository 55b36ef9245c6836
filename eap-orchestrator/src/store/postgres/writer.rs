//! What is asked to be written, and its group commit.
//!
//! Writes wait in a bounded queue. One task takes whatever is there, never waits for more, carries it out in one
//! transaction and answers after the commit. So what waits in one queue is done in the order in which it was handed over; the
//! claims of a batch come behind its changes. Purges go on beside them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::batch::{Broken, Settled, carry_out};
use super::database::Database;
use super::fault::Fault;
use super::ground::NewTasks;
use super::routes::KnownRoutes;
use crate::clock::{SystemEntropy, draw_chance};
use crate::store::prepared::Prepared;
use crate::store::queue::Queued;
use crate::store::tally::{Done, Tally};
use crate::store::{Ask, Claims, Cutoffs, Decide, Demand, Purged, StoreError};

/// How many tasks are written in one transaction, and about how many bytes, at most, unless one request alone has more.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How often a transaction that crossed another one is done again, and how long the first pause is at most; the others are
/// longer by as much each.
pub(super) const MAX_TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// Where the answer goes. Nobody there any more? Then the write was made all the same.
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked.
pub(super) enum Request {
    Write(Write, Reply<Claims>),
    Purge(Cutoffs, usize, Reply<Purged>),
    Close,
}

/// A change, a claim, or first the one and then the other.
pub(super) struct Write {
    pub(super) change: Option<Box<Prepared>>,
    pub(super) claim: Option<(Demand, Arc<Decide>)>,
}

impl Write {
    pub(super) fn asks(&self) -> impl Iterator<Item = &Ask> {
        self.claim.iter().flat_map(|(demand, _)| &demand.asks)
    }

    /// About how many bytes it adds.
    pub(super) fn bytes(&self) -> usize {
        self.change.as_ref().map_or(0, |change| change.bytes)
    }

    /// How many tasks it writes at most, and at least one.
    pub(super) fn tasks(&self) -> usize {
        let changed = self.change.as_ref().map_or(0, |change| change.tasks.len());
        let claimed: usize = self.asks().map(|ask| ask.max_tasks as usize).sum();
        (changed + claimed).max(1)
    }
}

/// What takes requests out of the queue until the store is closed.
pub(super) struct Writer {
    pub(super) requests: mpsc::Receiver<Queued<Request>>,
    pub(super) database: Arc<Database>,
    pub(super) tally: Arc<Tally>,
}

/// What shares a transaction, and purges, which have one of their own each.
#[derive(Default)]
struct Batch {
    writes: Vec<(Write, Reply<Claims>)>,
    purges: Vec<(Cutoffs, usize, Reply<Purged>)>,
    tasks: usize,
    bytes: usize,
}

impl Writer {
    /// Ends once it was told to close, or nobody is there to ask, and all that was handed over is answered.
    pub(super) async fn run(mut self) {
        let (mut lane, purges) = (self.lane(), TaskTracker::new());
        while let Some(Batch { writes, purges: asked, .. }) = self.next_batch().await {
            for (cutoffs, limit, reply) in asked {
                let database = Arc::clone(&self.database);
                purges.spawn(async move {
                    let purged = purge(&database, &cutoffs, limit).await;
                    let _ = reply.send(purged.map_err(StoreError::from));
                });
            }
            let serving = tokio::spawn(lane.serve(writes));
            // A panic costs those who wait their answer, and the lane what it knew.
            lane = serving.await.unwrap_or_else(|_| self.lane());
        }
        purges.close();
        purges.wait().await;
    }

    fn lane(&self) -> Lane {
        let (database, tally) = (Arc::clone(&self.database), Arc::clone(&self.tally));
        Lane { database, tally, routes: KnownRoutes::default() }
    }

    /// Whatever is there, once something is.
    async fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut next = Some(self.requests.recv().await?);
        while let Some(Queued { request, .. }) = next {
            match request {
                // What was sent before is still in the queue and still served.
                Request::Close => self.requests.close(),
                Request::Write(write, reply) => {
                    batch.tasks += write.tasks();
                    batch.bytes += write.bytes();
                    batch.writes.push((write, reply));
                }
                Request::Purge(cutoffs, limit, reply) => batch.purges.push((cutoffs, limit, reply)),
            }
            let has_room = batch.tasks < MAX_BATCH && batch.bytes < MAX_BATCH_BYTES;
            next = if has_room { self.requests.try_recv().ok() } else { None };
        }
        Some(batch)
    }
}

/// What carries batches out, with what it knows by heart.
struct Lane {
    database: Arc<Database>,
    tally: Arc<Tally>,
    routes: KnownRoutes,
}

impl Lane {
    async fn serve(mut self, writes: Vec<(Write, Reply<Claims>)>) -> Self {
        let (writes, replies): (Vec<Write>, Vec<_>) = writes.into_iter().unzip();
        let outcomes = self.settle(&writes.iter().collect::<Vec<_>>()).await;
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // An error of `send` says that nobody waits any more.
            let _ = reply.send(outcome);
        }
        self
    }

    /// Carries out all writes, in as few transactions as it takes.
    async fn settle(&mut self, writes: &[&Write]) -> Vec<Result<Claims, StoreError>> {
        let mut outcomes: Vec<Settled> = writes.iter().map(|_| None).collect();
        loop {
            let open: Vec<usize> = (0..writes.len()).filter(|index| outcomes[*index].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let tried: Vec<&Write> = open.iter().map(|index| writes[*index]).collect();
            let settled = match self.transact(&tried).await {
                Ok(settled) => settled,
                Err(Broken::Undone(fault)) if tried.len() > 1 && fault.may_be_of_one_request() => {
                    self.one_by_one(&tried).await
                }
                Err(broken) => tried.iter().map(|_| Some(Err(broken.fault().clone().into()))).collect(),
            };
            for (index, settled) in open.into_iter().zip(settled) {
                outcomes[index] = settled;
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    /// One write may be to blame: each gets a transaction of its own. Where two in a row take too long, or all of them, the
    /// server does, and the others do not wait for it as well.
    async fn one_by_one(&mut self, writes: &[&Write]) -> Vec<Settled> {
        let mut settled: Vec<Settled> = Vec::with_capacity(writes.len());
        let (mut late, mut stop): (u32, Option<Fault>) = (0, None);
        let began = Instant::now();
        for write in writes {
            if stop.is_none() && began.elapsed() > self.database.transaction_limit() {
                stop = Some(Fault::late());
            }
            let outcome = match &stop {
                Some(fault) => Some(Err(fault.clone().into())),
                None => match self.transact(std::slice::from_ref(write)).await {
                    Ok(mut one) => {
                        late = 0;
                        one.pop().flatten()
                    }
                    Err(broken) => {
                        let fault = broken.fault().clone();
                        late = if fault.is_late() { late + 1 } else { 0 };
                        stop = Some(fault.clone()).filter(|_| late > 1 || fault.is_lost());
                        Some(Err(fault.into()))
                    }
                },
            };
            settled.push(outcome);
        }
        settled
    }

    /// Carries writes out in one transaction, again if another one crossed it.
    async fn transact(&mut self, writes: &[&Write]) -> Result<Vec<Settled>, Broken> {
        let mut tries = 1;
        loop {
            // What was in the way may have been a task that is there already.
            let new = if tries == 1 { NewTasks::Free } else { NewTasks::Looked };
            match carry_out(&self.database, &mut self.routes, writes, new).await {
                Ok((settled, began, written)) => {
                    self.tally.count(&done(writes, &settled), began, written);
                    return Ok(settled);
                }
                Err(broken) if broken.may_be_repeated() && tries < MAX_TRIES => {
                    tracing::debug!(fault = ?broken.fault(), tries, "a transaction crossed another one");
                    tokio::time::sleep(pause(tries)).await;
                    tries += 1;
                }
                Err(broken) => return Err(broken),
            }
        }
    }
}

/// Between two tries; two that crossed each other do not wait for as long again.
pub(super) fn pause(tries: u32) -> Duration {
    let chance = draw_chance(&SystemEntropy).get();
    (PAUSE * tries).mul_f64(0.5 + chance / 2.0)
}

/// Purges in a transaction of its own, again if another one crossed it.
async fn purge(database: &Database, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, Fault> {
    let mut tries = 1;
    loop {
        match purge_once(database, cutoffs, limit).await {
            Err(fault) if fault.is_crossed() && tries < MAX_TRIES => {
                tracing::debug!(?fault, tries, "a purge crossed another transaction");
                tokio::time::sleep(pause(tries)).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn purge_once(database: &Database, cutoffs: &Cutoffs, limit: usize) -> Result<Purged, Fault> {
    let mut loan = database.acquire_aside().await?;
    let whole = async {
        let mut transaction = database.begin(&mut loan).await?;
        match super::purge::purge(&mut transaction, database.schema.name(), cutoffs, limit).await {
            Ok(purged) => transaction.commit().await.map(|()| purged),
            Err(fault) => Err(transaction.rollback(fault).await),
        }
    };
    let outcome = tokio::time::timeout(database.transaction_limit(), whole).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::late()));
    database.give_back(loan, outcome.as_ref().err());
    outcome
}

/// What a transaction did for those who shared it.
fn done(writes: &[&Write], settled: &[Settled]) -> Done {
    let mut done = Done::of(settled.iter().flatten().count());
    for (write, settled) in writes.iter().zip(settled) {
        if let Some(Ok(claims)) = settled {
            if write.change.is_some() {
                done.committed();
            }
            if write.claim.is_some() {
                done.claimed(claims);
            }
        }
    }
    done
}
