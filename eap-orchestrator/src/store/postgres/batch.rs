//! One batch of writes, carried out in one transaction.

use std::time::Instant;

use tokio::sync::MutexGuard;

use super::check::No;
use super::claim::{Claiming, Leased};
use super::database::{Database, Transaction};
use super::fault::Fault;
use super::ground::{Ground, NewTasks};
use super::incoming::Incoming;
use super::routes::KnownRoutes;
use super::write::tell;
use super::writer::Write;
use crate::store::prepared::Prepared;
use crate::store::{Ask, Claimed, Claims, EventSeq, NewEvent, StoreError};

/// What a write comes to: `None` if it is for the next transaction.
pub(super) type Settled = Option<Result<Claims, StoreError>>;

/// The numbers of the events that a transaction wrote: behind the first, up to the second.
type Told = Option<(u64, u64)>;

/// How far a transaction came.
#[derive(Debug)]
pub(super) enum Broken {
    /// Undone before it was committed.
    Undone(Fault),
    /// Its commit failed, and whether it was committed is not known.
    Unknown(Fault),
}

impl Broken {
    pub(super) fn fault(&self) -> &Fault {
        let (Self::Undone(fault) | Self::Unknown(fault)) = self;
        fault
    }

    /// Whether nothing of it is there, and it may be done again.
    pub(super) fn may_be_repeated(&self) -> bool {
        // The server answers a commit with such a state when it has undone it.
        self.fault().is_crossed()
    }
}

/// What a write has come to before its events have numbers.
enum Draft {
    Later,
    Refused(StoreError),
    /// With the number of events up to it, its own included.
    Written(Vec<Claimed>, u64),
}

/// Carries out writes in one transaction; the times are those of its beginning, and of when all of it was written.
pub(super) async fn carry_out(
    database: &Database,
    routes: &mut KnownRoutes,
    writes: &[&Write],
    new: NewTasks,
) -> Result<(Vec<Settled>, Instant, Instant), Broken> {
    let _turn = database.turn_to_write().await.map_err(Broken::Undone)?;
    let (began, head) = (Instant::now(), database.own.head());
    let mut loan = database.acquire().await.map_err(Broken::Undone)?;
    let whole = async {
        let mut transaction = database.begin_to_write(&mut loan).await.map_err(Broken::Undone)?;
        let (settled, told, _telling) = match within(&mut transaction, database, routes, writes, new).await {
            Ok(done) => done,
            Err(fault) => return Err(Broken::Undone(transaction.rollback(fault).await)),
        };
        let written = Instant::now();
        transaction.commit().await.map_err(Broken::Unknown)?;
        if let Some((before, newest)) = told {
            database.own.note(before, newest);
        }
        Ok((settled, began, written))
    };
    let outcome = tokio::time::timeout(database.transaction_limit(), whole).await;
    // A commit may be under way.
    let outcome = outcome.unwrap_or_else(|_| Err(Broken::Unknown(Fault::late())));
    if let Err(Broken::Unknown(_)) = &outcome {
        database.be_another_writer(head);
    }
    database.give_back(loan, outcome.as_ref().err().map(Broken::fault));
    outcome
}

/// Changes are decided on first, then claims: a task that is submitted in the same batch finds the agent that waits for it.
/// Then all is written, events last: the guard is held until the commit.
async fn within<'d>(
    transaction: &mut Transaction<'_>,
    database: &'d Database,
    routes: &mut KnownRoutes,
    writes: &[&Write],
    new: NewTasks,
) -> Result<(Vec<Settled>, Told, Option<MutexGuard<'d, ()>>), Fault> {
    let changes: Vec<&Prepared> = writes.iter().filter_map(|write| write.change.as_deref()).collect();
    let mut ground = Ground::load(transaction, &changes, new).await?;
    let (mut admitted, mut events): (Vec<&Prepared>, Vec<NewEvent>) = (Vec::new(), Vec::new());
    let mut drafts = Vec::with_capacity(writes.len());
    for write in writes {
        if let Some(Draft::Later) = drafts.last() {
            // None overtakes another.
            drafts.push(Draft::Later);
            continue;
        }
        let draft = match write.change.as_deref().map(|change| (change, ground.admit(change))) {
            Some((_, Err(No::Later))) => Draft::Later,
            Some((_, Err(No::Refused(error)))) => Draft::Refused(error),
            Some((change, Ok(()))) => {
                admitted.push(change);
                events.extend(change.events.iter().cloned());
                Draft::Written(Vec::new(), events.len() as u64)
            }
            None => Draft::Written(Vec::new(), 0),
        };
        drafts.push(draft);
    }
    let is_served = |draft: &Draft| matches!(draft, Draft::Written(..));
    let served = writes.iter().zip(&drafts).filter(|(_, draft)| is_served(draft));
    let asks: Vec<&Ask> = served.flat_map(|(write, _)| write.asks()).collect();
    let leased = if asks.is_empty() {
        Leased::default()
    } else {
        let incoming = Incoming::of(&admitted, &ground);
        let claiming = Claiming::open(transaction, &ground.agents, &incoming, &asks, routes, &database.time).await?;
        claims(transaction, claiming, writes, &mut drafts, &mut events).await?
    };
    let unwritten = super::write::write(transaction, &admitted, &ground, &leased, new).await?;
    let telling = if events.is_empty() { None } else { Some(database.telling.lock().await) };
    let newest = tell(transaction, database, Some(database.writer()), unwritten, &events).await?;
    let before = newest - events.len() as u64;
    let settled = |draft| match draft {
        Draft::Later => None,
        Draft::Refused(error) => Some(Err(error)),
        Draft::Written(answers, told) => Some(Ok(Claims { answers, head: EventSeq(before + told) })),
    };
    let told = (!events.is_empty()).then_some((before, newest));
    Ok((drafts.into_iter().map(settled).collect(), told, telling))
}

/// Serves those who ask, but for those whose changes are not written.
async fn claims(
    transaction: &mut Transaction<'_>,
    mut claiming: Claiming<'_>,
    writes: &[&Write],
    drafts: &mut [Draft],
    events: &mut Vec<NewEvent>,
) -> Result<Leased, Fault> {
    for (write, draft) in writes.iter().zip(drafts) {
        if let (Some((demand, decide)), Draft::Written(answers, told)) = (&write.claim, draft) {
            for ask in &demand.asks {
                answers.push(claiming.serve(transaction, ask, &**decide, events).await?);
            }
            *told = events.len() as u64;
        }
    }
    Ok(claiming.close())
}
