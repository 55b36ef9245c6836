//! Sends what handlers say about their progress, the newest word only, and what they emit, all of it: at most five reports
//! a second of one task, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_client::{AgentClient, AgentSession};
use eap_types::{ErrorCode, ProgressReport};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep_until;
use tracing::{debug, warn};

use crate::context::TaskState;
use crate::session::{Backoff, Verdict, judge};
use crate::shared::Shared;

/// Reports of one task that follow each other closer than this become one.
const SHORTEST_GAP: Duration = Duration::from_millis(200);
/// A report that has no answer by then is not worth waiting for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(3600);
/// Reports that are on their way at once.
const MOST_AT_ONCE: usize = 16;

/// Runs until it is dropped.
pub(crate) async fn send_reports(shared: Arc<Shared>, client: AgentClient) {
    let client = client.with_deadline(DEADLINE);
    let mut changes = shared.access.subscribe();
    let mut on_their_way = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        let mut next = now + FAR;
        let access = changes.borrow_and_update().clone();
        for state in shared.leases.states() {
            let Some(due) = due(&state, now) else { continue };
            match &access {
                Some(access) if due <= now && on_their_way.len() < MOST_AT_ONCE => {
                    let report = take_report(&state, now);
                    on_their_way.push(send(shared.clone(), access.session(&client), access.epoch, state, report));
                }
                // What waits for a free place is looked at again when a report has its answer.
                _ if due > now => next = next.min(due),
                _ => {}
            }
        }
        tokio::select! {
            () = shared.progress.notified() => {}
            // What was said without a connection is sent with the next one.
            Ok(()) = changes.changed() => {}
            Some(()) = on_their_way.next() => {}
            () = sleep_until(next.into()) => {}
        }
    }
}

/// When there is something to say of a task next.
fn due(state: &TaskState, now: Instant) -> Option<Instant> {
    let mut note = state.progress();
    if !state.is_heard() {
        note.output.give_up();
        return None;
    }
    // How far a handler came does not matter any more once it is through.
    let is_of_use = (note.is_news && !note.has_ended) || !note.output.is_told();
    if note.is_on_its_way || !is_of_use {
        return None;
    }
    // A result waits for the last of the output.
    let gap = if note.has_ended { Duration::ZERO } else { SHORTEST_GAP };
    Some(note.again_at.or_else(|| note.last_exchange.map(|last| last + gap)).unwrap_or(now))
}

fn take_report(state: &TaskState, now: Instant) -> ProgressReport {
    let mut note = state.progress();
    note.is_on_its_way = true;
    note.last_exchange = Some(now);
    note.again_at = None;
    if let Some(unanswered) = note.output.unanswered() {
        return unanswered.clone();
    }
    note.seq += 1;
    let mut report = ProgressReport::new(note.seq);
    if std::mem::take(&mut note.is_news) {
        report.progress = note.fraction;
        report.message = note.message.clone();
    }
    report.lease_id = state.key.lease;
    report.attempt = state.attempt;
    note.output.fill(&mut report);
    report
}

async fn send(shared: Arc<Shared>, session: AgentSession, epoch: u64, state: Arc<TaskState>, report: ProgressReport) {
    let sent = Instant::now();
    let answer = session.progress(state.key.task, &report).await;
    let mut after = After::Done;
    match answer {
        Ok(reply) => {
            shared.leases.renew(state.key, sent, Some(Duration::from_millis(reply.lease_expires_in_ms)));
            for directive in &reply.directives {
                shared.obey(directive);
            }
        }
        Err(error) => {
            debug!(task.id = %state.key.task, error = &error as &dyn std::error::Error, "progress was not reported");
            let is_over =
                matches!(error.code(), Some(ErrorCode::LeaseLost | ErrorCode::TaskFinal | ErrorCode::TaskNotFound));
            after = match judge(&error) {
                Verdict::Register => {
                    shared.refuse(epoch);
                    After::Again(None)
                }
                Verdict::Later(asked) => After::Again(asked),
                // Its own result overtook the report: what that comes to, its own answer says.
                _ if is_over && state.progress().has_ended => After::Refused,
                _ if is_over => {
                    // Before the lease is lost: the first reason stays.
                    if let Some(problem) = error.problem()
                        && let Some(cause) = problem.cause
                    {
                        shared.leases.cancel(state.key, Some(cause), problem.reason.clone());
                    }
                    shared.leases.lose(state.key);
                    After::Refused
                }
                _ => {
                    if report.output_delta.is_some() {
                        let code = error.code().map(ErrorCode::as_str);
                        warn!(task.id = %state.key.task, code, "the orchestrator takes no more output of this attempt");
                    }
                    After::Refused
                }
            };
        }
    }
    note_answer(&shared, &state, &report, after);
}

/// What follows from the answer to a report.
#[derive(Clone, Copy, Debug)]
enum After {
    Done,
    /// There was none that counts; it may come later.
    Again(Option<Duration>),
    /// It is not taken, and no repeat will be.
    Refused,
}

fn note_answer(shared: &Shared, state: &TaskState, report: &ProgressReport, after: After) {
    let is_told = {
        let mut note = state.progress();
        note.is_on_its_way = false;
        // From its answer on: however long it took to get there, the next one does not come sooner after it.
        note.last_exchange = Some(Instant::now());
        match after {
            // The newest word is worth no repeat: there may be a newer one already.
            After::Again(asked) if report.output_delta.is_some() => {
                let backoff = note.backoff.get_or_insert(Backoff::new(SHORTEST_GAP, DEADLINE));
                let pause = backoff.fail(shared.chance(), asked);
                note.again_at = Some(Instant::now() + pause);
            }
            After::Refused if report.output_delta.is_some() => {
                note.output.give_up();
                // Nothing of the report was taken.
                note.is_news |= report.progress.is_some() || report.message.is_some();
            }
            After::Done => {
                note.output.answered();
                note.backoff = None;
            }
            After::Again(_) | After::Refused => {}
        }
        note.output.is_told()
    };
    if is_told {
        shared.output_told.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use eap_client::{CallError, HttpCall};
    use eap_types::{AgentId, Assignment, LeaseId, ProblemBody, Secret, SessionId, TaskId};

    use super::*;
    use crate::chance::{SystemClock, SystemEntropy};
    use crate::context::LeaseStatus;
    use crate::leases::Leases;
    use crate::session::LeaseRules;

    /// An orchestrator for which every task is over.
    #[derive(Debug)]
    struct Over;

    #[async_trait]
    impl HttpCall for Over {
        async fn call(&self, _: http::Request<Bytes>, _: Duration) -> Result<http::Response<Bytes>, CallError> {
            let problem = ProblemBody::new(ErrorCode::TaskFinal, "the task is over", "r1");
            let mut answer = http::Response::new(serde_json::to_vec(&problem).unwrap().into());
            *answer.status_mut() = http::StatusCode::CONFLICT;
            Ok(answer)
        }
    }

    #[tokio::test]
    async fn a_report_that_the_result_overtook_loses_no_lease() {
        for has_ended in [true, false] {
            let leases = Leases::new(LeaseRules { outage_grace: Duration::from_secs(600), fence_locally: false });
            let shared = Arc::new(Shared::new(leases, 1, Arc::new(SystemClock), Arc::new(SystemEntropy)));
            let session = SessionId::from_bytes([0; 16]);
            let mut task = Assignment::new(TaskId::from_bytes([1; 16]), session, "work".parse().unwrap(), "input");
            task.lease_id = Some(LeaseId::from_bytes([2; 16]));
            let now = Instant::now();
            let state = shared.leases.hold(&task, now, now, Duration::from_secs(60)).unwrap();
            state.progress().has_ended = has_ended;
            let client = AgentClient::new("http://127.0.0.1", Arc::new(Over)).unwrap();
            let agent: AgentId = "agent".parse().unwrap();
            let session = client.session(agent, Secret::new("token"), None);
            send(shared.clone(), session, 1, state.clone(), ProgressReport::new(1)).await;
            let expected = if has_ended { LeaseStatus::Held } else { LeaseStatus::Lost };
            assert_eq!(shared.leases.status(state.key), expected);
        }
    }
}
