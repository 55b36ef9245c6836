//! The thread that owns the database: takes what waits, writes it in one transaction, answers after the fsync.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

/// Requests that may wait for the writer; one more is answered 503.
const WAITING: usize = 10_000;
/// Requests that share one transaction at most.
const SHARED: usize = 1024;
/// How often the log is moved into the file.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// How many commits a task costs when an agent already waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// Submit, lease and result are three commits.
    EachStep,
    /// A task that an agent waits for is submitted and leased in one.
    SubmitAndLeaseTogether,
}

/// A task that waits, with what its agent will get.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) id: i64,
    pub(crate) task: Box<RawValue>,
}

#[derive(Debug)]
pub(crate) enum Request {
    Submit { tasks: Vec<Box<RawValue>>, reply: oneshot::Sender<Vec<i64>> },
    Lease(Waiting),
    Finish { results: Vec<(i64, String)>, reply: oneshot::Sender<()> },
}

/// An agent that asks.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) agent: String,
    pub(crate) room: usize,
    pub(crate) reply: oneshot::Sender<Vec<Ready>>,
}

/// Hands requests to the thread that writes.
#[derive(Clone, Debug)]
pub struct Writer {
    requests: SyncSender<Request>,
    transactions: Arc<AtomicU64>,
}

impl Writer {
    /// Makes a database at `path` and starts its threads, which end with the last clone of this.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn open(path: &Path, commits: Commits) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.execute_batch(
            "CREATE TABLE task (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, task TEXT NOT NULL, agent TEXT, result TEXT) STRICT",
        )?;
        let checkpointer = Connection::open(path)?;
        let (requests, incoming) = sync_channel(WAITING);
        let transactions = Arc::new(AtomicU64::new(0));
        let state = Queue {
            connection,
            commits,
            transactions: Arc::clone(&transactions),
            last: 0,
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
        };
        let (alive, ended) = sync_channel::<()>(0);
        thread::spawn(move || {
            state.run(&incoming).expect("the bare program gives up at the first error of its database");
            drop(alive);
        });
        // Beside the writer, so that no commit waits for it.
        thread::spawn(move || {
            while ended.recv_timeout(CHECKPOINT_EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // Busy only means that there is more to do next time.
                let _ = checkpointer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
        });
        Ok(Self { requests, transactions })
    }

    /// How many transactions were written.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Hands a request over; `false` if too many wait.
    pub(crate) fn send(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }
}

/// What the writing thread owns.
struct Queue {
    connection: Connection,
    commits: Commits,
    transactions: Arc<AtomicU64>,
    last: i64,
    ready: VecDeque<Ready>,
    waiting: VecDeque<Waiting>,
}

/// An answer that has to wait for the commit.
enum Answer {
    Submitted(oneshot::Sender<Vec<i64>>, Vec<i64>),
    Leased(oneshot::Sender<Vec<Ready>>, Vec<Ready>),
    Finished(oneshot::Sender<()>),
}

impl Queue {
    fn run(mut self, incoming: &Receiver<Request>) -> rusqlite::Result<()> {
        let mut batch = Vec::with_capacity(SHARED);
        loop {
            if self.ready.is_empty() || self.waiting.is_empty() {
                let Ok(first) = incoming.recv() else { return Ok(()) };
                batch.push(first);
            }
            while batch.len() < SHARED {
                match incoming.try_recv() {
                    Ok(request) => batch.push(request),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.carry_out(&mut batch)?;
        }
    }

    /// Writes all of `batch` in one transaction, then answers.
    fn carry_out(&mut self, batch: &mut Vec<Request>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut answers = Vec::with_capacity(batch.len());
        let mut submitted = VecDeque::new();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO task (id, state, task) VALUES (?1, 0, ?2)")?;
            let mut finish = transaction.prepare_cached("UPDATE task SET state = 2, result = ?2 WHERE id = ?1")?;
            for request in batch.drain(..) {
                match request {
                    Request::Submit { tasks, reply } => {
                        let mut ids = Vec::with_capacity(tasks.len());
                        for task in tasks {
                            self.last += 1;
                            insert.execute(params![self.last, task.get()])?;
                            ids.push(self.last);
                            submitted.push_back(Ready { id: self.last, task });
                        }
                        answers.push(Answer::Submitted(reply, ids));
                    }
                    Request::Finish { results, reply } => {
                        for (id, result) in results {
                            finish.execute(params![id, result])?;
                        }
                        answers.push(Answer::Finished(reply));
                    }
                    Request::Lease(waiting) => self.waiting.push_back(waiting),
                }
            }
            if self.commits == Commits::SubmitAndLeaseTogether {
                self.ready.append(&mut submitted);
            }
            let mut lease = transaction.prepare_cached("UPDATE task SET state = 1, agent = ?2 WHERE id = ?1")?;
            while !self.ready.is_empty() {
                let Some(asks) = self.waiting.pop_front() else { break };
                if asks.reply.is_closed() {
                    continue;
                }
                let tasks: Vec<_> = self.ready.drain(..self.ready.len().min(asks.room)).collect();
                for task in &tasks {
                    lease.execute(params![task.id, asks.agent])?;
                }
                answers.push(Answer::Leased(asks.reply, tasks));
            }
        }
        if answers.is_empty() {
            // Only agents that now wait: nothing to write.
            return transaction.rollback();
        }
        transaction.commit()?;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.ready.append(&mut submitted);
        for answer in answers {
            // Whoever hung up needs no answer, but its tasks wait on.
            match answer {
                Answer::Submitted(reply, ids) => drop(reply.send(ids)),
                Answer::Finished(reply) => drop(reply.send(())),
                Answer::Leased(reply, tasks) => {
                    if let Err(tasks) = reply.send(tasks) {
                        for task in tasks.into_iter().rev() {
                            self.ready.push_front(task);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
