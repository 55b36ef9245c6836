//! The tasks: submitted over the network until each has an answer, and followed to their ends past it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eap_client::{ClientError, OperatorClient, ReqwestCall};
use eap_types::{SubmitTask, TaskId, TaskPage, TaskQuery, TaskStatus};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const SUBMITTERS: usize = 8;
/// An answer that is late for that long has been lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last tasks may take once nothing is killed any more; the network goes on losing.
const LAST_END: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);
/// Every attempt that a kill costs is another one.
const MAX_ATTEMPTS: u32 = 50;

pub(crate) struct Work {
    /// Past the network; it is asked again while the server is being started.
    pub(crate) client: OperatorClient,
    submitting: tokio::sync::Mutex<JoinSet<Vec<(TaskId, String)>>>,
    tasks: usize,
    submitted: Arc<AtomicUsize>,
    repeated: Arc<AtomicUsize>,
}

impl Work {
    /// Begins to submit, within a runtime, as many tasks as `room` has permits.
    pub(crate) fn begin(proxied: &str, direct: &str, tasks: usize, room: &Arc<Semaphore>) -> Self {
        let (submitted, repeated) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut submitting = JoinSet::new();
        for submitter in 0..SUBMITTERS {
            let (client, numbers) = (client(proxied), (submitter..tasks).step_by(SUBMITTERS));
            let (submitted, repeated, room) = (Arc::clone(&submitted), Arc::clone(&repeated), Arc::clone(room));
            submitting.spawn(async move {
                let mut made = Vec::new();
                for number in numbers {
                    room.acquire().await.expect("there will be room").forget();
                    made.push((submit(&client, number, &repeated).await, format!("task-{number}")));
                    submitted.fetch_add(1, Ordering::SeqCst);
                }
                made
            });
        }
        let submitting = tokio::sync::Mutex::new(submitting);
        Self { client: client(direct), submitting, tasks, submitted, repeated }
    }

    pub(crate) fn repeated(&self) -> usize {
        self.repeated.load(Ordering::SeqCst)
    }

    /// How many tasks were submitted and have ended, as far as a page of those that have not shows.
    pub(crate) async fn ended(&self) -> usize {
        let submitted = self.submitted.load(Ordering::SeqCst);
        let mut open = 0;
        for status in [TaskStatus::Queued, TaskStatus::Leased] {
            open += self.page(&TaskQuery::new().with_status(status).with_limit(500)).await.tasks.len();
        }
        submitted.saturating_sub(open)
    }

    /// Waits for every submit's answer and every task's end.
    pub(crate) async fn wait_for_every_end(&self) -> Vec<(TaskId, String)> {
        let mut submitted = Vec::new();
        let mut submitting = self.submitting.lock().await;
        while let Some(made) = submitting.join_next().await {
            submitted.extend(made.expect("a submitter does not panic"));
        }
        assert_eq!(submitted.len(), self.tasks);
        let deadline = Instant::now() + LAST_END;
        while self.ended().await < self.tasks {
            assert!(Instant::now() < deadline, "tasks do not end");
            sleep(LOOK).await;
        }
        submitted
    }

    /// A page of tasks, from whichever server is there.
    pub(crate) async fn page(&self, query: &TaskQuery) -> TaskPage {
        persist(async || self.client.tasks(query).await).await
    }
}

/// Asks again while the server is not there.
pub(crate) async fn persist<T>(ask: impl AsyncFn() -> Result<T, ClientError>) -> T {
    let deadline = Instant::now() + LAST_END;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(!error.is_definitive() && Instant::now() < deadline, "no answer to a call: {error}"),
        }
        sleep(LOOK).await;
    }
}

fn client(url: &str) -> OperatorClient {
    let http = ReqwestCall::new().expect("a client");
    OperatorClient::new(url, Arc::new(http)).expect("an address").with_deadline(PATIENCE)
}

async fn submit(client: &OperatorClient, number: usize, repeated: &AtomicUsize) -> TaskId {
    let task =
        SubmitTask::text("work".parse().expect("a word"), &format!("task-{number}")).with_max_attempts(MAX_ATTEMPTS);
    let key = format!("chaos-{number}").parse().expect("a key");
    let deadline = Instant::now() + LAST_END;
    loop {
        match client.submit(&task, Some(&key)).await {
            Ok(view) => return view.task_id,
            Err(error) => assert!(!error.is_definitive() && Instant::now() < deadline, "a submit got nowhere: {error}"),
        }
        repeated.fetch_add(1, Ordering::SeqCst);
        sleep(LOOK).await;
    }
}
