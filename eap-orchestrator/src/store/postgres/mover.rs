//! Moves what waits in the inbox among the tasks, in transactions of its own that are short.
//!
//! Whoever moves a task deletes its row in the same transaction, so each is moved once; and one replica moves at a time, so
//! they keep their order. What is written is a submit's change, by the code that writes all changes.

use std::sync::Arc;
use std::time::Duration;

use eap_core::Task;
use eap_types::TaskId;
use sqlx::postgres::PgRow;
use tokio::sync::MutexGuard;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::check::No;
use super::claim::Leased;
use super::database::{Database, Transaction};
use super::fault::Fault;
use super::ground::{Ground, NewTasks};
use super::inbox::task_in;
use super::migrations;
use super::values::{arguments, bytes, integer, text};
use super::write::{tell, write};
use super::writer::{MAX_TRIES, pause};
use crate::clock::{SystemEntropy, draw_chance};
use crate::store::prepared::{Prepared, PreparedTask, PreparedTaskWrite, rows_at_most};
use crate::store::{Change, NewEvent, RecordRef, StoreError};

/// How many tasks are moved in one transaction, and about how many bytes, at most, unless one task alone has more.
const PAGE: usize = 256;
const MAX_BYTES: i64 = 8 << 20;

/// How often it is looked for rows that nobody told of, and how long the pause grows while nothing can be moved.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// How long whoever reads a task waits for those of this process who are moving some.
const TURN: Duration = Duration::from_secs(2);

/// How many pages before a task are moved for one who reads it. Behind more, it goes ahead of them.
const PAGES_BEFORE: usize = 8;

/// Moves what comes until `stop`.
pub(super) async fn run(database: Arc<Database>, stop: CancellationToken) {
    // What was left waiting by those who stopped is first.
    let mut until_next = Duration::ZERO;
    loop {
        let is_over = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            () = database.arrivals.notified() => false,
            () = sleep(until_next) => false,
        };
        if is_over {
            return;
        }
        let moving = tokio::spawn(all(Arc::clone(&database), stop.clone()));
        let grown = (until_next * 2).clamp(LOOK, LONGEST).mul_f64(0.75 + draw_chance(&SystemEntropy).get() / 4.0);
        until_next = match moving.await {
            Ok(Ok(())) => LOOK,
            // Stopped, or the store is being closed.
            Ok(Err(_)) if stop.is_cancelled() => return,
            Ok(Err(fault)) => {
                warn!(?fault, "tasks that hosts took in wait to be moved");
                grown
            }
            Err(_) => {
                error!("what moves tasks that hosts took in panicked; it is tried again");
                grown
            }
        };
    }
}

async fn all(database: Arc<Database>, stop: CancellationToken) -> Result<(), Fault> {
    while !stop.is_cancelled() {
        if page(&database).await? {
            break;
        }
    }
    Ok(())
}

/// Moves the first tasks that wait; says whether those were all.
pub(super) async fn page(database: &Database) -> Result<bool, Fault> {
    let _turn = turn(database).await?;
    Ok(!database.is_any_waiting().await? || step(database, i64::MAX).await?.is_all)
}

/// Moves one task that waits, and first those before it.
pub(super) async fn bring(database: &Database, seq: i64) -> Result<(), Fault> {
    for _ in 0..PAGES_BEFORE {
        let _turn = turn(database).await?;
        if !database.is_waiting(seq).await? {
            return Ok(());
        }
        let moved = step(database, seq).await?;
        if moved.rows.contains(&seq) {
            return Ok(());
        }
        if moved.is_all {
            break;
        }
    }
    repeated(database, Reach::Only(seq)).await.map(drop)
}

/// One at a time in this process: whoever waited mostly finds moved what came meanwhile, and took up no connection.
async fn turn(database: &Database) -> Result<MutexGuard<'_, ()>, Fault> {
    timeout(TURN, database.moving.lock()).await.map_err(|_| Fault::late())
}

/// Moves the first tasks of the line, up to a place in it.
async fn step(database: &Database, upto: i64) -> Result<Moved, Fault> {
    match repeated(database, Reach::UpTo(upto)).await {
        Err(fault) if fault.may_be_of_one_request() => one_by_one(database, upto).await,
        outcome => outcome,
    }
}

/// One task may be to blame: each gets a transaction of its own. Where two in a row take too long, the server does.
async fn one_by_one(database: &Database, upto: i64) -> Result<Moved, Fault> {
    let sql = "SELECT seq FROM eap.inbox WHERE problem IS NULL AND seq <= $1 ORDER BY seq LIMIT $2";
    let rows = database.rows(sql, arguments![upto, rows_at_most(PAGE)]).await?;
    let (mut moved, mut failed, mut late) = (Moved::default(), None, 0);
    for row in &rows {
        match repeated(database, Reach::Only(integer(row, 0)?)).await {
            Ok(one) => {
                late = 0;
                moved.rows.extend(one.rows);
            }
            Err(fault) => {
                late = if fault.is_late() { late + 1 } else { 0 };
                if late > 1 || fault.is_lost() {
                    return Err(fault);
                }
                failed = Some(fault);
            }
        }
    }
    moved.is_all = rows.len() < PAGE && failed.is_none();
    // As long as others are moved, one that is not does not hold them up.
    failed.filter(|_| moved.rows.is_empty()).map_or(Ok(moved), Err)
}

/// Which rows a move takes.
#[derive(Clone, Copy)]
enum Reach {
    /// A page of those up to this one, without those that somebody locked by hand.
    UpTo(i64),
    /// This one.
    Only(i64),
}

/// What a move came to.
#[derive(Debug, Default)]
struct Moved {
    /// The rows that wait no more.
    rows: Vec<i64>,
    /// Whether none was left behind but those that somebody locked by hand.
    is_all: bool,
}

/// Moves in a transaction of its own, again if another one crossed it.
async fn repeated(database: &Database, reach: Reach) -> Result<Moved, Fault> {
    let mut tries = 1;
    loop {
        match once(database, reach).await {
            Err(fault) if fault.is_crossed() && tries < MAX_TRIES => {
                debug!(?fault, tries, "a move of tasks crossed another transaction");
                sleep(pause(tries)).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn once(database: &Database, reach: Reach) -> Result<Moved, Fault> {
    let mut loan = database.acquire_aside().await?;
    let whole = async {
        let mut transaction = database.begin_to_write(&mut loan).await?;
        match within(&mut transaction, database, reach).await {
            Ok(moved) => transaction.commit().await.map(|()| moved),
            Err(fault) => Err(transaction.rollback(fault).await),
        }
    };
    let outcome = timeout(database.transaction_limit(), whole).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::late()));
    database.give_back(loan, outcome.as_ref().err());
    outcome
}

/// Tasks and the end of their rows first, events last, as in every transaction that writes.
async fn within(transaction: &mut Transaction<'_>, database: &Database, reach: Reach) -> Result<Moved, Fault> {
    // Two at a time would share the tasks of one commit, and each number its own. Whatever else takes such locks in this
    // database, two numbers that agree by chance cost a wait.
    let lock = "SELECT pg_advisory_xact_lock(hashtext('eap inbox'), hashtext($1))";
    transaction.rows(lock, arguments![database.schema.name()]).await?;
    let moved = held(transaction, reach).await?;
    if moved.rows.is_empty() {
        return Ok(moved);
    }
    let sql = "SELECT seq, id, spec FROM eap.inbox WHERE seq = ANY($1) ORDER BY seq";
    let (mut changes, mut broken, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for row in &transaction.rows(sql, arguments![&moved.rows]).await? {
        let seq = integer(row, 0)?;
        match task_of(row) {
            Some(task) => {
                let mut change = Prepared::of(Change::submitting(task))?;
                // As it was written: a newer program may have said more than this one reads.
                for PreparedTask { write, .. } in &mut change.tasks {
                    *write = PreparedTaskWrite::Insert { spec: text(row, 2)?.to_owned() };
                }
                changes.push(change);
                gone.push(seq);
            }
            None => broken.push(seq),
        }
    }
    let named: Vec<&Prepared> = changes.iter().collect();
    let mut ground = Ground::load(transaction, &named, NewTasks::Looked).await?;
    let mut admitted: Vec<&Prepared> = Vec::with_capacity(named.len());
    for change in named {
        match ground.admit(change) {
            Ok(()) => admitted.push(change),
            // A host wrote it once more, after it was moved.
            Err(No::Refused(StoreError::Duplicate { record: RecordRef::Task(id) })) => {
                debug!(task.id = %id, "a task that is there already was taken in again");
            }
            Err(_) => return Err(Fault::nonsense("a task that is nowhere was refused")),
        }
    }
    let leased = Leased::default();
    let unwritten = write(transaction, &admitted, &ground, &leased, NewTasks::Looked).await?;
    if !gone.is_empty() {
        transaction.execute("DELETE FROM eap.inbox WHERE seq = ANY($1)", arguments![gone]).await?;
    }
    set_aside(transaction, &broken).await?;
    let events: Vec<NewEvent> = admitted.iter().flat_map(|change| change.events.iter().cloned()).collect();
    if !admitted.is_empty() {
        // Nobody here has told those who wait for ready tasks: each store has them from the events.
        tell(transaction, database, None, unwritten, &events).await?;
        debug!(tasks = admitted.len(), "tasks that hosts took in are moved");
    }
    Ok(moved)
}

/// Locks rows.
async fn held(transaction: &mut Transaction<'_>, reach: Reach) -> Result<Moved, Fault> {
    let rows = match reach {
        Reach::UpTo(seq) => {
            let sql = "SELECT seq, octet_length(spec)::int8 FROM eap.inbox WHERE problem IS NULL AND seq <= $1 \
                 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED";
            transaction.rows(sql, arguments![seq, rows_at_most(PAGE)]).await?
        }
        Reach::Only(seq) => {
            let sql =
                "SELECT seq, octet_length(spec)::int8 FROM eap.inbox WHERE problem IS NULL AND seq = $1 FOR UPDATE";
            transaction.rows(sql, arguments![seq]).await?
        }
    };
    let (mut moved, mut room) = (Moved { is_all: rows.len() < PAGE, ..Moved::default() }, MAX_BYTES);
    for row in &rows {
        let size = integer(row, 1)?;
        if size > room && !moved.rows.is_empty() {
            moved.is_all = false;
            break;
        }
        room -= size;
        moved.rows.push(integer(row, 0)?);
    }
    Ok(moved)
}

fn task_of(row: &PgRow) -> Option<Task> {
    task_in(row, 2, TaskId::from_bytes(bytes(row, 1).ok()?))
}

/// Leaves rows that hold no task to whoever wrote them, where they are in nobody's way.
async fn set_aside(transaction: &mut Transaction<'_>, broken: &[i64]) -> Result<(), Fault> {
    if broken.is_empty() || migrations::is_newer(transaction).await? {
        // Those of a newer program are for it to move.
        return Ok(());
    }
    // Without what the record says: it may be anybody's secret.
    let sql = "UPDATE eap.inbox SET problem = 'spec is not the record of the task of this id' WHERE seq = ANY($1)";
    transaction.execute(sql, arguments![broken]).await?;
    for seq in broken {
        warn!(seq, "a row of the inbox holds no task and is set aside: mend it and clear its problem, or delete it");
    }
    Ok(())
}
