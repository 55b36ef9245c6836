//! The threads that read, each with a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;
use crate::store::StoreError;

/// How many reads wait at most; who comes later waits to be let in.
const QUEUE: usize = 256;

enum Job {
    Read(Box<dyn FnOnce(&Connection) + Send>),
    Stop,
}

/// Hands reads to whichever thread is free. Threads of our own rather than the runtime's, so that reads
/// work alike on every runtime and at most as many run as there are connections.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: mpsc::Sender<Job>,
}

/// What a reading thread does until the store is closed.
pub(super) struct Reader {
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    connection: Connection,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> (Self, Vec<Reader>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let reader = |connection| Reader { jobs: Arc::clone(&queue), connection };
        (Self { jobs }, connections.into_iter().map(reader).collect())
    }

    /// Runs `query` on a free connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Read(Box::new(move |connection| {
            // Who left while the read was waiting need not be served.
            if !answer.is_closed() {
                let _ = answer.send(query(connection));
            }
        }));
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        // Left without an answer only if the store was closed first.
        Ok(answered.await.map_err(|_| StoreError::Closed)??)
    }

    /// Lets the threads end once they have answered what was asked before.
    pub(super) async fn stop(&self) {
        // An error says that they have ended already.
        let _ = self.jobs.send(Job::Stop).await;
    }
}

impl Reader {
    pub(super) fn run(self) {
        loop {
            let job = {
                let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                let job = jobs.blocking_recv();
                if let Some(Job::Stop) = job {
                    jobs.close();
                }
                job
            };
            match job {
                Some(Job::Read(query)) => query(&self.connection),
                Some(Job::Stop) => {}
                None => break,
            }
        }
    }
}
