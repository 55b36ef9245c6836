//! A whole orchestrator in the process of a test, under a clock that the test moves (feature `testing`).
//!
//! It serves on a free port of loopback and keeps everything in memory. Its time stands until
//! [`advance`](TestOrchestrator::advance) moves it, which does all that the clock brings on the way, each at its moment,
//! and returns once that is committed: leases lapse, delayed tasks start, back-offs and expiries end. So an hour passes in
//! milliseconds, and nothing happens by itself.
//!
//! The agents of a test live in real time: what they do in between takes none of the orchestrator's. Advance to the
//! moment, wait for what is to happen there, advance on.
//!
//! ```
//! use std::time::Duration;
//! use eap_orchestrator::testing::TestOrchestrator;
//! use eap_types::{SubmitTask, TaskStatus};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = TestOrchestrator::start().await;
//! let mut task = SubmitTask::text("word_count".parse()?, "to be or not to be");
//! task.expires_at = Some(server.now() + Duration::from_secs(3600));
//! let id = server.submit(task).await;
//! server.advance(Duration::from_secs(3599)).await;
//! assert_eq!(server.task(id).await.status, TaskStatus::Queued);
//! server.advance(Duration::from_secs(1)).await;
//! assert_eq!(server.task(id).await.status, TaskStatus::Dead);
//! # Ok(())
//! # }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eap_types::{SubmitTask, TaskId, TaskView, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth::Operator;
use crate::clock::{Clock as _, ManualClock};
use crate::config::{Access, Config};
use crate::error::StartError;
use crate::orchestrator::{Orchestrator, ShutdownReport};

/// When the time of a test begins: 2030-01-01T00:00:00Z.
const BEGINNING: Timestamp = Timestamp::from_seconds(1_893_456_000);
/// So long [`TestOrchestrator::finished`] waits, in real time.
const PATIENCE: Duration = Duration::from_secs(30);
/// No test moves the clock further: its pauses are no outages, after which leases would start afresh.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An orchestrator for one test; it ends when it is dropped. See the [module](self) for an example.
#[derive(Debug)]
pub struct TestOrchestrator {
    orchestrator: Orchestrator,
    clock: Arc<ManualClock>,
    address: SocketAddr,
    serving: JoinHandle<Result<ShutdownReport, StartError>>,
    stop: DropGuard,
}

impl TestOrchestrator {
    /// Starts one with the defaults, that asks programs on this machine for no key.
    ///
    /// # Panics
    ///
    /// If loopback has no free port.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one with another configuration.
    ///
    /// # Panics
    ///
    /// If the configuration is not valid, or loopback has no free port.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { access: Access::Loopback, ..Config::default() };
        config.timing.pulse_gap = FOR_EVER;
        change(&mut config);
        let clock = Arc::new(ManualClock::at(BEGINNING));
        let builder = Orchestrator::builder_in_memory().config(config).clock(clock.clone());
        let orchestrator = builder.build().unwrap_or_else(|problems| panic!("{problems}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (token, served) = (CancellationToken::new(), orchestrator.clone());
        let stop = token.clone().drop_guard();
        let serving = tokio::spawn(async move { served.serve(listener, token.cancelled_owned()).await });
        // Calls are answered from the first moment; those in process need the store loaded.
        orchestrator.until_ready().await;
        Self { orchestrator, clock, address, serving, stop }
    }

    /// Where agents and clients find it, as in `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The orchestrator itself, for every call there is.
    #[must_use]
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.orchestrator
    }

    /// The time by its clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock on, and does what it brings on the way. When this returns it is done.
    ///
    /// # Panics
    ///
    /// If the store fails, which that in memory does not.
    pub async fn advance(&self, by: Duration) {
        let (target, lifecycle) = (self.now() + by, self.orchestrator.lifecycle());
        let mut stuck = 0;
        while stuck < 2 {
            let due = lifecycle.store.due(target, 1).await.expect("the store in memory answers");
            let Some(at) = due.first().and_then(|task| task.record.due_at()) else { break };
            let step = at.saturating_since(self.now());
            // What is due already is left over by another writer that was faster, for one more round.
            stuck = if step.is_zero() { stuck + 1 } else { 0 };
            self.clock.advance(step);
            self.sweep().await;
        }
        self.clock.advance(target.saturating_since(self.now()));
        self.sweep().await;
    }

    async fn sweep(&self) {
        crate::sweeper::round_now(self.orchestrator.lifecycle()).await.expect("the store in memory answers");
    }

    /// Submits a task as its host would.
    ///
    /// # Panics
    ///
    /// If it is refused; [`TestOrchestrator::orchestrator`] has the call that says why.
    pub async fn submit(&self, task: SubmitTask) -> TaskId {
        let submitted = self.orchestrator.submit(&Operator::host(), task, None).await;
        submitted.unwrap_or_else(|error| panic!("the task is refused: {error}")).task_id
    }

    /// A task as it stands, with its result if it has one.
    ///
    /// # Panics
    ///
    /// If there is none of this id.
    pub async fn task(&self, id: TaskId) -> TaskView {
        self.orchestrator.get(&Operator::host(), id).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A task once it is final.
    ///
    /// # Panics
    ///
    /// If it is not after 30 s of real time.
    pub async fn finished(&self, id: TaskId) -> TaskView {
        let view = self.orchestrator.wait(&Operator::host(), id, PATIENCE).await;
        let view = view.unwrap_or_else(|error| panic!("{error}"));
        assert!(view.status.is_final(), "the task is {} after {} s", view.status, PATIENCE.as_secs());
        view
    }

    /// Stops it in good order, and says what was left.
    ///
    /// # Panics
    ///
    /// If it had failed.
    pub async fn stop(self) -> ShutdownReport {
        drop(self.stop);
        self.serving.await.expect("the server does not panic").unwrap_or_else(|error| panic!("{error}"))
    }
}
