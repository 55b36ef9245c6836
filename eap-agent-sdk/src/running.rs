//! Handlers at work, each in a task of its own, and what their ends come to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eap_types::{Assignment, FailureCode, JsonObject, TaskResult, json_depth, limits};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::{Instrument as _, field, info_span, warn};

use crate::context::{CancelReason, TaskContext, TaskState};
use crate::failure::HandlerError;
use crate::handler::{Handler, Output};
use crate::leases::LeaseKey;
use crate::shared::Shared;

/// How long a handler may take to end once its task's time is over.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);

/// How long a handler may take to end once it was told to stop for another reason.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// How deep an output may be nested: it stands one level down in its result.
const MAX_OUTPUT_DEPTH: usize = limits::MAX_JSON_DEPTH - 1;

/// What a handler came to, or that it panicked or was cut off.
type Ended = Result<Output, HandlerError>;
/// How a handler's task ended, as the runtime tells it.
pub(crate) type Joined = Result<(Id, Ended), JoinError>;

/// The handlers that run.
#[derive(Debug)]
pub(crate) struct Running {
    tasks: JoinSet<Ended>,
    live: HashMap<Id, Live>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Live {
    state: Arc<TaskState>,
    started: Instant,
    timeout: Duration,
    /// Once it was told to stop: when it is given up.
    give_up_at: Option<Instant>,
    abort: AbortHandle,
}

/// What is to be done about a task whose handler is through with it.
#[derive(Debug)]
pub(crate) enum Conclusion {
    /// Report this.
    Report(Box<TaskResult>),
    /// Hand it back to the queue.
    HandBack { key: LeaseKey, attempt: Option<u32> },
    /// Nobody waits for a result any more.
    Drop(LeaseKey),
}

impl Running {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { tasks: JoinSet::new(), live: HashMap::new(), shared }
    }

    /// Whether no handler is at work, given-up ones left aside.
    pub(crate) fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether the handler of a task is at work.
    #[cfg(feature = "push")]
    pub(crate) fn runs(&self, key: LeaseKey) -> bool {
        self.live.values().any(|live| live.state.key == key)
    }

    /// How many handlers take up a slot: also those that were given up and did not end.
    pub(crate) fn slots(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn start(
        &mut self,
        handler: Arc<dyn Handler>,
        assignment: Assignment,
        state: Arc<TaskState>,
        now: Instant,
    ) {
        let timeout = Duration::from_secs(assignment.timeout_seconds).min(limits::MAX_TASK_TIMEOUT);
        let ctx = TaskContext::new(state.clone(), self.shared.clone());
        let (id, attempt) = (state.key.task, ctx.attempt());
        let span = info_span!("task", task.id = %id, attempt, trace_id = field::Empty, parent_id = field::Empty);
        if let Some(traceparent) = ctx.traceparent() {
            span.record("trace_id", traceparent.trace_id());
            span.record("parent_id", traceparent.parent_id());
        }
        let work = async move {
            let output = handler.run(assignment, ctx.clone()).await?;
            Ok(ctx.lighten(output).await)
        };
        let abort = self.tasks.spawn(work.instrument(span));
        let live = Live { state, started: now, timeout, give_up_at: None, abort };
        self.live.insert(live.abort.id(), live);
        self.count();
    }

    /// Waits for a handler to end; `None` if there is none.
    pub(crate) async fn join_next(&mut self) -> Option<Joined> {
        self.tasks.join_next_with_id().await
    }

    /// Says what the end of a handler comes to; `None` if it was given up before.
    pub(crate) fn conclude(&mut self, joined: Joined, now: Instant) -> Option<Conclusion> {
        let (id, ended) = match joined {
            Ok((id, ended)) => (id, ended),
            Err(error) => (error.id(), Err(HandlerError::retry("handler panicked"))),
        };
        let live = self.live.remove(&id);
        self.count();
        live.map(|live| live.conclude(ended, now))
    }

    /// Stops handlers whose time is over, and gives up those that were told to stop and do not.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Conclusion> {
        let mut given_up = Vec::new();
        for (id, live) in &mut self.live {
            match live.give_up_at {
                None if now >= live.started + live.timeout => {
                    live.state.cancel(CancelReason::Timeout);
                    live.give_up_at = Some(now + TIMEOUT_GRACE);
                }
                // Its time is over by the orchestrator's count, it is cancelled, its lease lost, or the agent stops.
                None if live.state.token.is_cancelled() => {
                    let is_late = matches!(live.state.reason(), Some(CancelReason::Timeout | CancelReason::Inactivity));
                    live.give_up_at = Some(now + if is_late { TIMEOUT_GRACE } else { STOP_GRACE });
                }
                Some(at) if now >= at => given_up.push(*id),
                _ => {}
            }
        }
        given_up.into_iter().filter_map(|id| self.give_up(id, now)).collect()
    }

    /// When [`Running::tick`] has something to do next.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.live.values().map(|live| live.give_up_at.unwrap_or(live.started + live.timeout)).min()
    }

    /// Tells every handler to stop.
    pub(crate) fn cancel_all(&self, reason: &CancelReason) {
        for live in self.live.values() {
            live.state.cancel(reason.clone());
        }
    }

    /// Gives up every handler.
    pub(crate) fn give_up_all(&mut self, now: Instant) -> Vec<Conclusion> {
        let ids: Vec<Id> = self.live.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.give_up(id, now)).collect()
    }

    /// Lets go of handlers that were given up: one that blocks its thread cannot be waited for.
    pub(crate) fn let_go(&mut self) {
        self.tasks.abort_all();
        self.tasks.detach_all();
    }

    fn give_up(&mut self, id: Id, now: Instant) -> Option<Conclusion> {
        let live = self.live.remove(&id)?;
        warn!(task.id = %live.state.key.task, "the handler does not stop and is given up");
        live.abort.abort();
        self.count();
        Some(live.conclude(Err(HandlerError::retry("the handler was given up")), now))
    }

    fn count(&self) {
        self.shared.running.store(self.live.len(), Ordering::Relaxed);
        #[cfg(feature = "push")]
        self.shared.slots.store(self.tasks.len(), Ordering::Relaxed);
    }
}

impl Live {
    fn conclude(self, ended: Ended, now: Instant) -> Conclusion {
        let key = self.state.key;
        let reason = self.state.reason();
        let result = match (ended, reason) {
            // Final at the orchestrator already.
            (_, Some(CancelReason::Requested { .. })) => return Conclusion::Drop(key),
            // So is this attempt; a product of it is evidence.
            (Err(_), _) if self.state.is_over() => return Conclusion::Drop(key),
            // Even with a lost lease a product may be the first one, or evidence (RELIABILITY.md G9, G10).
            (Ok(output), _) => completed(key, output),
            (Err(_), Some(CancelReason::LeaseLost | CancelReason::Inactivity)) => return Conclusion::Drop(key),
            (Err(_), Some(CancelReason::Shutdown)) => {
                return Conclusion::HandBack { key, attempt: self.state.attempt };
            }
            (Err(_), Some(CancelReason::Timeout)) => {
                let message = format!("the task took longer than its {} s", self.timeout.as_secs());
                TaskResult::failed(key.task, FailureCode::Timeout, message)
            }
            (Err(error), None) => failed(key, error),
        };
        let took = (now - self.started).as_secs_f64() * 1000.0;
        let result = result.with_execution_time_ms((took * 1000.0).round() / 1000.0);
        Conclusion::Report(Box::new(stamped(result, &self.state)))
    }
}

/// What is reported for a task that no handler takes.
pub(crate) fn unsupported(assignment: &Assignment, state: &TaskState) -> TaskResult {
    let message = format!("this agent has no handler for {}", assignment.task_type);
    stamped(TaskResult::failed(assignment.task_id, FailureCode::UnsupportedTask, message), state)
}

fn stamped(mut result: TaskResult, state: &TaskState) -> TaskResult {
    result.lease_id = state.key.lease;
    result.attempt = state.attempt;
    result
}

fn completed(key: LeaseKey, output: Output) -> TaskResult {
    match to_object(output.data) {
        Ok(data) => {
            let mut result = TaskResult::completed(key.task, data).with_artifacts(output.artifacts);
            result.tokens_used = output.tokens_used;
            result.cost_usd = output.cost_usd;
            result
        }
        Err(error) => failed(key, error),
    }
}

fn failed(key: LeaseKey, error: HandlerError) -> TaskResult {
    let mut result = TaskResult::failed(key.task, error.code, error.message);
    result.retryable = error.retryable;
    if let Some(Ok(output)) = error.output.map(to_object) {
        result.output_data = output;
    }
    result
}

/// Data that is no object is sent as `{"output": value}` (PROTOCOL.md section 5a).
fn to_object(data: Value) -> Result<JsonObject, HandlerError> {
    let object = match data {
        Value::Null => return Ok(JsonObject::default()),
        Value::Object(_) => data,
        other => json!({ "output": other }),
    };
    let object = JsonObject::from_serialize(&object)
        .map_err(|error| HandlerError::fatal(format!("the output cannot be sent: {error}")))?;
    if json_depth(object.as_str().as_bytes()) > MAX_OUTPUT_DEPTH {
        let message = format!("the output cannot be sent: it is nested more than {MAX_OUTPUT_DEPTH} levels deep");
        return Err(HandlerError::fatal(message));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use eap_types::{CancelCause, LeaseId, SessionId, TaskId};

    use super::*;
    use crate::chance::{SystemClock, SystemEntropy};
    use crate::handler::Typed;
    use crate::input::Task;
    use crate::leases::Leases;
    use crate::session::LeaseRules;

    #[tokio::test]
    async fn a_handler_that_is_deaf_to_a_cancel_is_given_up_after_a_grace() {
        let rules = LeaseRules { outage_grace: Duration::from_secs(600), fence_locally: false };
        let shared = Shared::new(Leases::new(rules), 1, Arc::new(SystemClock), Arc::new(SystemEntropy));
        let mut running = Running::new(Arc::new(shared));
        let key = LeaseKey { task: TaskId::from_bytes([1; 16]), lease: Some(LeaseId::from_bytes([1; 16])) };
        let session = SessionId::from_bytes([0; 16]);
        let mut assignment = Assignment::new(key.task, session, "work".parse().unwrap(), "input");
        assignment.timeout_seconds = 3600;
        let deaf = Typed::new(|_: Task<String>, _: TaskContext| std::future::pending::<Result<(), HandlerError>>());
        let (state, start) = (Arc::new(TaskState::new(key, Some(1))), Instant::now());
        running.start(Arc::new(deaf), assignment, state.clone(), start);
        assert!(running.tick(start).is_empty());
        state.cancel(CancelReason::Requested { reason: None });
        assert!(running.tick(start).is_empty());
        assert_eq!(running.next_tick(), Some(start + STOP_GRACE));
        let given_up = running.tick(start + STOP_GRACE);
        assert!(matches!(given_up[..], [Conclusion::Drop(dropped)] if dropped == key));
        assert!(running.join_next().await.unwrap().is_err(), "it was aborted");
        assert_eq!(running.slots(), 0);
    }

    #[tokio::test]
    async fn the_failure_of_an_attempt_that_the_orchestrator_ended_is_no_news_to_it() {
        let key = LeaseKey { task: TaskId::from_bytes([1; 16]), lease: Some(LeaseId::from_bytes([1; 16])) };
        for (cause, is_told) in
            [(CancelCause::Timeout, true), (CancelCause::Inactivity, true), (CancelCause::Cancelled, false)]
        {
            let now = Instant::now();
            let abort = tokio::spawn(std::future::pending::<()>()).abort_handle();
            let state = Arc::new(TaskState::new(key, Some(1)));
            // Its own count was quicker, or not.
            if cause == CancelCause::Timeout {
                state.cancel(CancelReason::Timeout);
            }
            state.end(Some(cause), None);
            let live = || Live {
                state: state.clone(),
                started: now,
                timeout: STOP_GRACE,
                give_up_at: None,
                abort: abort.clone(),
            };
            let failed = live().conclude(Err(HandlerError::retry("stopped")), now);
            assert!(matches!(failed, Conclusion::Drop(_)), "{cause}: {failed:?}");
            // A product is evidence, but for a task that nobody wants.
            let product = live().conclude(Ok(Output::default()), now);
            assert_eq!(matches!(product, Conclusion::Report(_)), is_told, "{cause}: {product:?}");
            abort.abort();
        }
    }

    #[test]
    fn output_that_is_no_object_is_put_into_one() {
        let text = |data| to_object(data).unwrap().as_str().to_owned();
        assert_eq!(text(json!({ "a": 1 })), r#"{"a":1}"#);
        assert_eq!(text(json!("word")), r#"{"output":"word"}"#);
        assert_eq!(text(json!([1, 2])), r#"{"output":[1,2]}"#);
        assert_eq!(text(Value::Null), "{}");
    }

    #[test]
    fn output_that_is_nested_too_deeply_fails_for_good() {
        let array: fn(usize) -> Value = |levels| (1..levels).fold(json!(1), |inner, _| json!([inner]));
        let object: fn(usize) -> Value = |levels| (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }));
        for nested in [array, object] {
            to_object(nested(MAX_OUTPUT_DEPTH)).unwrap();
            let error = to_object(nested(MAX_OUTPUT_DEPTH + 1)).unwrap_err();
            assert!(!error.is_retryable() && error.message.contains("31 levels"), "{}", error.message);
        }
    }
}
