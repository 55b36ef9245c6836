//! Listens between clients and sockets, and keeps what was sent and what was answered.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_client::{CallError, HttpCall, ReqwestCall};
use eap_types::{Assignment, LeaseReply, ResultAccepted, ResultOutcome, ResultsReply, TaskId, TaskResult, TaskView};
use serde::Deserialize;

/// One call, as its client saw it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The moment it was sent, in order of all calls and answers.
    pub invoked: u64,
    /// The moment it was answered.
    pub answered: u64,
    /// Whether the store had failed for good before it was sent.
    pub after_failure: bool,
    /// What was asked, and what came of it.
    pub what: What,
}

/// What was asked, with the answer if it was 2xx.
#[derive(Clone, Debug)]
pub enum What {
    /// A submit under a key.
    Submit {
        /// The key.
        key: String,
        /// The body.
        body: Bytes,
        /// The task, if it was accepted.
        accepted: Option<Box<TaskView>>,
        /// Whether it was refused for good, or nothing is known.
        is_refused: bool,
    },
    /// The report of a result.
    Report {
        /// Whose, by its path.
        agent: String,
        /// What was reported.
        result: Box<TaskResult>,
        /// The answer, if it was accepted.
        accepted: Option<ResultAccepted>,
        /// The status of a refusal.
        refused: Option<u16>,
    },
    /// Tasks that were handed out.
    Leased {
        /// To whom, by its path.
        agent: String,
        /// Which.
        tasks: Vec<Assignment>,
    },
    /// A task that was read, or was told not to be there.
    Read {
        /// Which.
        task: TaskId,
        /// As it was shown; `None` for 404.
        shown: Option<Box<TaskView>>,
    },
    /// Anything else, or a call without an answer.
    Other {
        /// The answer's status, if there was one.
        status: Option<u16>,
    },
}

/// Sockets, and everything that went over them.
pub struct Witness {
    sockets: ReqwestCall,
    calls: Mutex<Vec<Call>>,
    moment: AtomicU64,
    has_failed: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("calls", &self.calls().len()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Batch {
    results: Vec<TaskResult>,
}

impl Witness {
    /// Begins to listen; `has_failed` says whether the store under the server has failed for good.
    pub fn new(has_failed: impl Fn() -> bool + Send + Sync + 'static) -> Arc<Self> {
        let sockets = ReqwestCall::new().expect("the client has nothing that could be wrong");
        let has_failed = Box::new(has_failed);
        Arc::new(Self { sockets, calls: Mutex::default(), moment: AtomicU64::new(0), has_failed })
    }

    /// All calls so far, in the order of their answers.
    pub fn calls(&self) -> Vec<Call> {
        self.book().clone()
    }

    fn book(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HttpCall for Witness {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, CallError> {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let body = request.body().clone();
        let after_failure = (self.has_failed)();
        let invoked = self.moment.fetch_add(1, Ordering::SeqCst);
        let answer = self.sockets.call(request, deadline).await;
        let answered = self.moment.fetch_add(1, Ordering::SeqCst);
        let seen = what(&method, &path, key, &body, answer.as_ref().ok());
        self.book().extend(seen.into_iter().map(|what| Call { invoked, answered, after_failure, what }));
        answer
    }
}

fn what(
    method: &http::Method,
    path: &str,
    key: Option<String>,
    body: &Bytes,
    answer: Option<&http::Response<Bytes>>,
) -> Vec<What> {
    let status = answer.map(|answer| answer.status().as_u16());
    let is_good = status.is_some_and(|status| (200..300).contains(&status));
    let is_refused = status.is_some_and(|status| (400..500).contains(&status) && !matches!(status, 401 | 408 | 429));
    let reply = || answer.filter(|_| is_good).map(|answer| answer.body().clone());
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let is_post = method == http::Method::POST;
    match segments[..] {
        ["api", "v1", "tasks"] if is_post => {
            let accepted = reply().map(|reply| serde_json::from_slice(&reply).expect("a submit answers with a task"));
            vec![What::Submit { key: key.unwrap_or_default(), body: body.clone(), accepted, is_refused }]
        }
        ["api", "v1", "tasks", task] if !is_post => match (task.parse(), status) {
            (Ok(task), Some(404)) => vec![What::Read { task, shown: None }],
            (Ok(task), Some(200)) => {
                let shown = reply().map(|reply| serde_json::from_slice(&reply).expect("a task is shown"));
                vec![What::Read { task, shown }]
            }
            _ => vec![What::Other { status }],
        },
        ["api", "v1", "agents", "external", agent, "tasks", _, "result"] => {
            let agent = agent.to_owned();
            let result = serde_json::from_slice(body).expect("agents send results");
            let accepted = reply().map(|reply| serde_json::from_slice(&reply).expect("it says whether it is new"));
            vec![What::Report { agent, result, accepted, refused: status.filter(|_| is_refused) }]
        }
        ["api", "v1", "agents", "external", agent, "results"] => {
            let sent: Batch = serde_json::from_slice(body).expect("agents send results");
            let outcomes: Vec<Option<ResultOutcome>> = match reply() {
                Some(reply) => {
                    let reply: ResultsReply = serde_json::from_slice(&reply).expect("one answer for each");
                    reply.results.into_iter().map(Some).collect()
                }
                None => sent.results.iter().map(|_| None).collect(),
            };
            let each = sent.results.into_iter().zip(outcomes).map(|(result, outcome)| {
                let (accepted, refused) = match outcome {
                    Some(ResultOutcome::Accepted(accepted)) => (Some(accepted), None),
                    Some(ResultOutcome::Refused(problem)) => (None, Some(problem.status)),
                    _ => (None, None),
                };
                What::Report { agent: agent.to_owned(), result: Box::new(result), accepted, refused }
            });
            each.collect()
        }
        ["api", "v1", "agents", "external", agent, "tasks", "lease"] if status == Some(200) => {
            let reply = reply().map(|reply| serde_json::from_slice::<LeaseReply>(&reply).expect("tasks are leased"));
            vec![What::Leased { agent: agent.to_owned(), tasks: reply.map_or_else(Vec::new, |reply| reply.tasks) }]
        }
        _ => vec![What::Other { status }],
    }
}
