//! What a handler can ask and say while it works on a task.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use eap_types::{CancelCause, TaskId, Traceparent};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::leases::LeaseKey;
use crate::output::Outgoing;
use crate::session::Backoff;
use crate::shared::Shared;

/// Why a handler was told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// The task was cancelled at the orchestrator, perhaps with a reason for people.
    Requested {
        /// What the orchestrator passed on.
        reason: Option<String>,
    },
    /// The lease is lost: another agent may be working on the task.
    LeaseLost,
    /// The task's `timeout_seconds` are over.
    Timeout,
    /// The handler told nothing for the task's `inactivity_seconds`: no progress, and no output.
    Inactivity,
    /// The agent stops and its time for that is nearly over.
    Shutdown,
}

/// How the lease of a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseStatus {
    /// The orchestrator confirmed it, and its time is not over.
    Held,
    /// Its time is over and nothing answers: the result may still be the first one.
    Uncertain,
    /// It is over: the handler is cancelled.
    Lost,
}

/// What a handler can ask and say while it works on one task; clones are of the same task.
#[derive(Clone)]
pub struct TaskContext {
    pub(crate) state: Arc<TaskState>,
    pub(crate) shared: Arc<Shared>,
}

impl TaskContext {
    pub(crate) fn new(state: Arc<TaskState>, shared: Arc<Shared>) -> Self {
        Self { state, shared }
    }

    /// Says how far the work is, 0 to 1, and in words what is being done.
    ///
    /// It does not wait for the orchestrator: reports that follow each other closely become one, at
    /// most five a second are sent, and one that gets no answer is dropped. Words are cut at 4096
    /// characters, a fraction beyond 0 or 1 becomes the nearer one, and NaN is left out.
    pub async fn progress(&self, fraction: f64, message: impl Into<String>) {
        let message: String = message.into().chars().take(eap_types::limits::MAX_PROGRESS_MESSAGE_CHARS).collect();
        {
            let mut note = self.state.progress();
            let fraction = (!fraction.is_nan()).then(|| fraction.clamp(0.0, 1.0));
            note.fraction = fraction.or(note.fraction);
            #[cfg(feature = "testing")]
            if let Some(recorder) = self.state.recorder.get() {
                recorder.progress(fraction, &message);
            }
            note.message = Some(message);
            note.is_news = true;
        }
        self.shared.progress.notify_one();
        // Gives the sender a turn where it shares one thread with a busy handler.
        tokio::task::yield_now().await;
    }

    /// Tells watchers what the work produced since the last time: its output in parts, while it runs.
    ///
    /// It does not wait for the orchestrator. What is emitted closely together travels as one, in at most five reports a
    /// second of at most 64 KiB; a report is repeated until it has an answer, and renews the lease. All of it arrives in
    /// order and before the result, unless the orchestrator cannot be reached within 5 seconds of the handler's end.
    ///
    /// It is no part of the result. An attempt emits at most 1 MiB: what is beyond that is left out, which the log says
    /// once.
    pub async fn emit(&self, delta: impl AsRef<str>) {
        let is_cut = self.state.progress().output.add(delta.as_ref());
        if is_cut {
            let limit = eap_types::limits::MAX_OUTPUT_BYTES;
            warn!(task.id = %self.task_id(), limit, "the handler emits more than an attempt may; the rest is left out");
        }
        self.shared.progress.notify_one();
        tokio::task::yield_now().await;
    }

    /// Waits until the handler is to stop; [`TaskContext::cancel_reason`] then says why.
    pub async fn cancelled(&self) {
        self.state.token.cancelled().await;
    }

    /// Whether the handler is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.state.token.is_cancelled()
    }

    /// A token that is cancelled when the handler is to stop, to be passed on to what it calls.
    pub fn cancellation(&self) -> CancellationToken {
        self.state.token.child_token()
    }

    /// Why the handler is to stop, once it is.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.state.reason.get().cloned()
    }

    /// How the task's lease stands.
    pub fn lease(&self) -> LeaseStatus {
        self.shared.leases.status(self.state.key)
    }

    /// Which attempt at the task this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.state.attempt.unwrap_or(1)
    }

    /// The trace that the task was submitted in, to be sent as the header `traceparent` with calls that the handler makes;
    /// `None` if it was submitted in none. The span that the handler runs in has its `trace_id`.
    pub fn traceparent(&self) -> Option<&Traceparent> {
        self.state.traceparent.as_ref()
    }

    /// The task.
    pub fn task_id(&self) -> TaskId {
        self.state.key.task
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("task_id", &self.task_id())
            .field("attempt", &self.attempt())
            .field("cancel_reason", &self.cancel_reason())
            .finish_non_exhaustive()
    }
}

/// One task in the agent's hands, as all parts of the agent share it.
#[derive(Debug)]
pub(crate) struct TaskState {
    pub(crate) key: LeaseKey,
    pub(crate) attempt: Option<u32>,
    pub(crate) traceparent: Option<Traceparent>,
    pub(crate) token: CancellationToken,
    reason: OnceLock<CancelReason>,
    /// Whether the orchestrator ended the attempt: a failure is no news to it.
    is_over: AtomicBool,
    progress: Mutex<ProgressNote>,
    /// Where a test keeps what the handler says.
    #[cfg(feature = "testing")]
    recorder: OnceLock<Arc<crate::testing::Recorder>>,
}

/// The newest word of a handler about its progress, and what it emitted.
#[derive(Debug, Default)]
pub(crate) struct ProgressNote {
    pub(crate) seq: u64,
    pub(crate) fraction: Option<f64>,
    pub(crate) message: Option<String>,
    /// Whether it was said since the last report.
    pub(crate) is_news: bool,
    pub(crate) last_exchange: Option<Instant>,
    pub(crate) output: Outgoing,
    /// Whether a report has no answer yet: one overtaken by the next would be ignored.
    pub(crate) is_on_its_way: bool,
    /// When output that got no answer is sent again, and the pauses between tries.
    pub(crate) again_at: Option<Instant>,
    pub(crate) backoff: Option<Backoff>,
    /// Whether the handler is through.
    pub(crate) has_ended: bool,
}

impl TaskState {
    pub(crate) fn new(key: LeaseKey, attempt: Option<u32>) -> Self {
        Self {
            key,
            attempt,
            traceparent: None,
            token: CancellationToken::new(),
            reason: OnceLock::new(),
            is_over: AtomicBool::new(false),
            progress: Mutex::new(ProgressNote::default()),
            #[cfg(feature = "testing")]
            recorder: OnceLock::new(),
        }
    }

    /// Of a task that was submitted in a trace, if `traceparent` is one.
    pub(crate) fn in_trace(mut self, traceparent: Option<&str>) -> Self {
        self.traceparent = traceparent.and_then(|text| text.parse().ok());
        self
    }

    /// Keeps from now on what the handler says; the first recorder stays.
    #[cfg(feature = "testing")]
    pub(crate) fn record(&self, recorder: Arc<crate::testing::Recorder>) {
        let _ = self.recorder.set(recorder);
    }

    /// Tells the handler to stop; the first reason stays.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        // Losing the race means that another reason was first.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Tells the handler to stop because the orchestrator ended its attempt.
    pub(crate) fn end(&self, cause: Option<CancelCause>, reason: Option<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.cancel(match cause {
            Some(CancelCause::Timeout) => CancelReason::Timeout,
            Some(CancelCause::Inactivity) => CancelReason::Inactivity,
            // An older orchestrator does not say.
            _ => CancelReason::Requested { reason },
        });
    }

    /// Whether the orchestrator ended the attempt.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn reason(&self) -> Option<&CancelReason> {
        self.reason.get()
    }

    /// Whether the orchestrator still takes what is told of the attempt, as far as the agent knows.
    pub(crate) fn is_heard(&self) -> bool {
        matches!(self.reason(), None | Some(CancelReason::Shutdown))
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, ProgressNote> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
