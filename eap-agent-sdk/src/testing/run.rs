//! What became of a task that a handler was tried with.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eap_types::TaskResult;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::context::CancelReason;
use crate::failure::HandlerError;
use crate::handler::Output;

/// What a handler did with a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TestRun {
    /// What the handler gave; `None` if it panicked, or did not end in time and was given up.
    pub given: Option<Result<Output, HandlerError>>,
    /// What the agent would have told the orchestrator.
    pub told: Told,
    /// What the handler said about its progress, all of it; an agent sends at most five a second.
    pub progress: Vec<Progress>,
    /// What the handler emitted, up to what an attempt may.
    pub emitted: String,
    /// Why it was told to stop, if it was.
    pub cancelled: Option<CancelReason>,
    /// How long it took, by tokio's clock.
    pub took: Duration,
}

/// What an agent tells its orchestrator once a handler is through.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Told {
    /// This result.
    Result(Box<TaskResult>),
    /// That the task goes back to the queue: the agent stops.
    HandedBack,
    /// Nothing: the task is final already, or the lease is lost and there is no product.
    Nothing,
}

/// One word of a handler about its progress.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// How long the handler had run.
    pub after: Duration,
    /// How far the work was, 0 to 1; `None` if the handler said NaN.
    pub fraction: Option<f64>,
    /// What was being done.
    pub message: String,
}

impl TestRun {
    /// The product, as the handler's own type or any other that reads it.
    ///
    /// # Panics
    ///
    /// If the handler failed, or gave something else.
    #[must_use]
    #[track_caller]
    pub fn product<T: DeserializeOwned>(&self) -> T {
        match &self.given {
            Some(Ok(output)) => match serde_json::from_value(output.data.clone()) {
                Ok(product) => product,
                Err(error) => panic!("the product has another type: {error}"),
            },
            _ => panic!("the handler gave no product: {self:?}"),
        }
    }

    /// Why the handler failed.
    ///
    /// # Panics
    ///
    /// If it did not fail, panicked or was given up.
    #[must_use]
    #[track_caller]
    pub fn error(&self) -> &HandlerError {
        match &self.given {
            Some(Err(error)) => error,
            _ => panic!("the handler gave no error: {self:?}"),
        }
    }

    /// The result that the agent would have reported.
    ///
    /// # Panics
    ///
    /// If it would have reported none.
    #[must_use]
    #[track_caller]
    pub fn result(&self) -> &TaskResult {
        match &self.told {
            Told::Result(result) => result,
            _ => panic!("no result would be reported: {self:?}"),
        }
    }
}

/// Keeps what a handler says.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    progress: Mutex<Vec<Progress>>,
}

impl Recorder {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, progress: Mutex::new(Vec::new()) }
    }

    pub(crate) fn progress(&self, fraction: Option<f64>, message: &str) {
        let said = Progress { after: self.started.elapsed(), fraction, message: message.to_owned() };
        self.lock().push(said);
    }

    pub(super) fn take(&self) -> Vec<Progress> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
