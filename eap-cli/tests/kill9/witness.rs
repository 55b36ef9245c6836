//! Who remembers what the server acknowledged: it listens between agents and sockets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_agent_sdk::{CallError, HttpCall};
use eap_client::ReqwestCall;
use eap_types::{ResultOutcome, ResultsReply, TaskId, TaskResult};
use serde::Deserialize;

/// Everything that was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    submits: Mutex<BTreeMap<TaskId, Submitted>>,
    results: Mutex<BTreeMap<TaskId, Vec<TaskResult>>>,
    /// Submits that were sent again because an answer did not come.
    pub(crate) submits_repeated: AtomicU64,
    /// Calls of agents without an answer.
    pub(crate) calls_failed: AtomicU64,
}

/// A submit that was answered 201.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    pub(crate) key: String,
    pub(crate) input: String,
}

impl Witness {
    /// A submit was answered.
    pub(crate) fn submitted(&self, id: TaskId, submitted: Submitted) {
        let other = lock(&self.submits).insert(id, submitted);
        assert!(other.is_none(), "two keys gave the task {id}: {other:?}");
    }

    pub(crate) fn submits(&self) -> BTreeMap<TaskId, Submitted> {
        lock(&self.submits).clone()
    }

    pub(crate) fn submits_answered(&self) -> usize {
        lock(&self.submits).len()
    }

    /// What was acknowledged as the result of a task; more than one if its repeats differed.
    pub(crate) fn results(&self, id: TaskId) -> Vec<TaskResult> {
        lock(&self.results).get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn results_answered(&self) -> usize {
        lock(&self.results).len()
    }

    fn accepted(&self, result: TaskResult) {
        let mut results = lock(&self.results);
        let known = results.entry(result.task_id).or_default();
        if !known.contains(&result) {
            known.push(result);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it writes something down")
}

/// Sockets with a witness.
#[derive(Debug)]
pub(crate) struct Overheard {
    sockets: ReqwestCall,
    witness: Arc<Witness>,
}

impl Overheard {
    pub(crate) fn by(witness: &Arc<Witness>) -> Arc<Self> {
        Arc::new(Self { sockets: ReqwestCall::new().expect("a client"), witness: Arc::clone(witness) })
    }
}

#[async_trait]
impl HttpCall for Overheard {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, CallError> {
        let (path, sent) = (request.uri().path().to_owned(), request.body().clone());
        let answer = self.sockets.call(request, deadline).await;
        match &answer {
            Err(_) => {
                self.witness.calls_failed.fetch_add(1, Relaxed);
            }
            Ok(answer) if answer.status() == 200 && path.ends_with("/result") => {
                self.witness.accepted(serde_json::from_slice(&sent).expect("agents send results"));
            }
            Ok(answer) if answer.status() == 200 && path.ends_with("/results") => {
                let sent: Batch = serde_json::from_slice(&sent).expect("agents send results");
                let reply: ResultsReply = serde_json::from_slice(answer.body()).expect("one answer for each");
                for (result, outcome) in sent.results.into_iter().zip(reply.results) {
                    if matches!(outcome, ResultOutcome::Accepted(_)) {
                        self.witness.accepted(result);
                    }
                }
            }
            Ok(_) => {}
        }
        answer
    }
}

#[derive(Deserialize)]
struct Batch {
    results: Vec<TaskResult>,
}
