//! The threads that read, each with a connection of its own.

use std::panic::{self, AssertUnwindSafe};
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
                // A panic is that read's misfortune: the thread goes on, and so does its connection, which only reads.
                let outcome = panic::catch_unwind(AssertUnwindSafe(|| query(connection)));
                let _ = answer.send(outcome.unwrap_or_else(|_| Err(Fault::panicked())));
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_read_that_panics_leaves_its_thread_alive() {
        let (readers, mut reading) = Readers::new(vec![Connection::open_in_memory().unwrap()]);
        let reader = reading.pop().unwrap();
        let thread = thread::spawn(move || reader.run());
        for _ in 0..2 {
            let panicked = readers.read::<()>(|_| panic!("a read that goes wrong")).await;
            assert!(matches!(panicked, Err(StoreError::Unavailable { .. })), "{panicked:?}");
        }
        let one = readers.read(|connection| Ok(connection.query_row("SELECT 1", [], |row| row.get::<_, u8>(0))?)).await;
        assert_eq!(one.unwrap(), 1);
        readers.stop().await;
        thread.join().unwrap();
    }
}
