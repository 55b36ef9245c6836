//! A task as an orchestrator would give it, and a handler at work on it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use eap_types::{Assignment, JsonObject, LeaseId, SessionId, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use super::run::{Recorder, TestRun, Told};
use crate::chance::{SystemClock, SystemEntropy};
use crate::context::{CancelReason, TaskContext};
use crate::failure::HandlerError;
use crate::handler::{Handler, Output, Typed};
use crate::input::Task;
use crate::leases::{LeaseKey, Leases};
use crate::running::{Conclusion, Running};
use crate::session::LeaseRules;
use crate::shared::Shared;

/// A lease that no test outlives.
const LEASE: Duration = eap_types::limits::MAX_TASK_TIMEOUT;

/// A task to try a handler with; see the [module](crate::testing) for an example.
#[must_use]
#[derive(Clone)]
pub struct TestTask {
    assignment: Assignment,
    cancel: Option<(Duration, CancelReason)>,
}

impl TestTask {
    /// A first attempt at a task of this type with an empty input, which may take an hour.
    ///
    /// # Panics
    ///
    /// If it is no task type.
    pub fn new(task_type: &str) -> Self {
        let task_type = task_type.parse().unwrap_or_else(|error| panic!("{task_type:?}: {error}"));
        let mut assignment =
            Assignment::new(TaskId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]), task_type, "");
        assignment.lease_id = Some(LeaseId::from_bytes([3; 16]));
        Self { assignment, cancel: None }.attempt(1)
    }

    /// Sets the input: a text as it is, anything else as its JSON.
    ///
    /// # Panics
    ///
    /// If it has no JSON form.
    pub fn input(mut self, input: impl Serialize) -> Self {
        self.assignment.input_data = match serde_json::to_value(input).expect("the input has a JSON form") {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        self
    }

    /// Sets what else there is to know.
    ///
    /// # Panics
    ///
    /// If it is no JSON object.
    pub fn context(mut self, context: impl Serialize) -> Self {
        self.assignment.context = JsonObject::from_serialize(&context).expect("a context is a JSON object");
        self
    }

    /// Sets which attempt it is, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.assignment.attempt = Some(attempt);
        self
    }

    /// Sets how long the attempt may take, in whole seconds. Default an hour.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.assignment.timeout_seconds = timeout.as_secs();
        self
    }

    /// Changes the assignment in any other way.
    pub fn with(mut self, change: impl FnOnce(&mut Assignment)) -> Self {
        change(&mut self.assignment);
        self
    }

    /// Tells the handler to stop once it has run so long; zero is before it begins.
    pub fn cancel_after(mut self, time: Duration, reason: CancelReason) -> Self {
        self.cancel = Some((time, reason));
        self
    }

    /// Gives the task to an async function, and says what became of it.
    pub async fn run<T, O, F, R>(self, handler: F) -> TestRun
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Task<T>, TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        self.run_with(Typed::new(handler)).await
    }

    /// Gives the task to an async function on a runtime and under a clock of its own.
    ///
    /// # Panics
    ///
    /// Within an async function: that has a runtime already.
    pub fn run_blocking<T, O, F, R>(self, handler: F) -> TestRun
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Task<T>, TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime can be made").block_on(self.run(handler))
    }

    /// Gives the task to a [`Handler`], and says what became of it.
    pub async fn run_with(self, handler: impl Handler) -> TestRun {
        let rules = LeaseRules { outage_grace: LEASE, fence_locally: false };
        let shared = Shared::new(Leases::new(rules), 1, Arc::new(SystemClock), Arc::new(SystemEntropy));
        let shared = Arc::new(shared);
        let started = Instant::now();
        let key = LeaseKey::of(&self.assignment);
        let state = shared.leases.hold(&self.assignment, started.into_std(), started.into_std(), LEASE);
        let state = state.expect("nothing was held before");
        let recorder = Arc::new(Recorder::new(started));
        state.record(recorder.clone());
        let given = Arc::new(Mutex::new(None));
        let handler = Watched { handler, given: given.clone() };

        let mut running = Running::new(shared.clone());
        let mut cancel = self.cancel;
        if let Some((_, reason)) = cancel.take_if(|(time, _)| time.is_zero()) {
            stop(&shared, &state, key, reason);
        }
        running.start(Arc::new(handler), self.assignment, state.clone(), started.into_std());
        let conclusion = loop {
            let tick = running.next_tick().map_or(started + LEASE, Instant::from_std);
            let cancelling = cancel.as_ref().map_or(started + LEASE, |(time, _)| started + *time);
            let joined = tokio::select! {
                biased;
                joined = running.join_next() => joined,
                () = sleep_until(tick.min(cancelling)) => None,
            };
            let now = Instant::now();
            if let Some(conclusion) = joined.and_then(|joined| running.conclude(joined, now.into_std())) {
                break conclusion;
            }
            if let Some((_, reason)) = cancel.take_if(|(time, _)| started + *time <= now) {
                stop(&shared, &state, key, reason);
            }
            if let Some(conclusion) = running.tick(now.into_std()).pop() {
                break conclusion;
            }
        };
        let took = started.elapsed();
        let told = match conclusion {
            Conclusion::Report(result) => Told::Result(result),
            Conclusion::HandBack { .. } => Told::HandedBack,
            Conclusion::Drop(_) => Told::Nothing,
        };
        let given = given.lock().unwrap_or_else(PoisonError::into_inner).take();
        let emitted = state.progress().output.waiting().to_owned();
        TestRun { given, told, progress: recorder.take(), emitted, cancelled: state.reason().cloned(), took }
    }
}

/// Tells a handler to stop, as the part of the agent would that hears of the reason.
fn stop(shared: &Shared, state: &crate::context::TaskState, key: LeaseKey, reason: CancelReason) {
    match reason {
        CancelReason::LeaseLost => shared.leases.lose(key),
        reason => state.cancel(reason),
    }
}

/// A handler whose answer is kept.
struct Watched<H> {
    handler: H,
    given: Arc<Mutex<Option<Result<Output, HandlerError>>>>,
}

#[async_trait]
impl<H: Handler> Handler for Watched<H> {
    async fn run(&self, task: Assignment, ctx: TaskContext) -> Result<Output, HandlerError> {
        let given = self.handler.run(task, ctx).await;
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(given.clone());
        given
    }
}

/// The input is left out, as everywhere.
impl fmt::Debug for TestTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTask")
            .field("task_type", &self.assignment.task_type)
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}
