//! The exchanges of one attempt: it is sent until there is an answer that says what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Lease, PushOutcome, PushStep, Task};
use eap_types::{AgentId, CallFailure, PushStop, TaskResult, from_json};
use http::{Response, StatusCode};
use tokio::sync::SemaphorePermit;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Shared;
use super::message::Message;
use crate::clock::draw_chance;
use crate::directory::Entry;
use crate::error::causes;
use crate::lifecycle::Exchange;
use crate::outbound::CallLimits;

/// What part of its lease an attempt waits for a place.
const PATIENCE: u32 = 6;

/// What the exchanges came to.
#[derive(Debug)]
pub(super) enum Answer {
    /// The result.
    Result(Box<TaskResult>),
    /// The agent works on it and reports later.
    Accepted,
    /// The attempt has failed; why, in words too.
    Failed { failure: CallFailure, why: String },
    /// The agent does not have it.
    NotTaken { failure: CallFailure, why: String, retry_after: Option<Duration> },
    /// It was not taken this time, but an earlier try may have arrived: the attempt is the agent's, as long as it renews.
    Unknown(CallFailure),
    /// Nothing is to be pushed there any more; whether an earlier try may have arrived.
    Never { stop: PushStop, may_have: bool },
    /// It was not sent: there was no place for an exchange more.
    NoPlace,
    /// The agent left, or the time of the attempt is over: others see to the task.
    Over,
}

/// Sends an attempt until there is an answer of use. What is said of one that another replica has taken over meanwhile counts
/// only if its agent said it.
///
/// With `may_have`, an earlier try may have reached the agent already. `epoch` is that of the process it was about last.
pub(super) async fn exchange(
    shared: &Shared,
    agent: &AgentId,
    task: &Task,
    lease: &Lease,
    open: &Exchange,
    epoch: &mut u64,
    may_have: bool,
) -> Answer {
    match exchanged(shared, agent, task, lease, open, epoch, may_have).await {
        answer @ (Answer::Result(_) | Answer::Accepted | Answer::Over) => answer,
        answer if shared.lifecycle.still_brings(task.id(), lease).await => answer,
        _ => Answer::Over,
    }
}

async fn exchanged(
    shared: &Shared,
    agent: &AgentId,
    task: &Task,
    lease: &Lease,
    open: &Exchange,
    epoch: &mut u64,
    mut may_have: bool,
) -> Answer {
    let lifecycle = &shared.lifecycle;
    for tries in 1.. {
        // Looked up anew: it may have registered again meanwhile, at another endpoint.
        let Some(entry) = lifecycle.directory.get(agent) else { return Answer::Over };
        if lifecycle.leases.find(agent, task.id()).is_none_or(|held| held.lease_id != lease.lease_id) {
            return Answer::Over;
        }
        if !lifecycle.still_brings(task.id(), lease).await {
            return Answer::Over;
        }
        let is_by_platform = entry.agent.platform.is_some();
        *epoch = entry.agent.epoch;
        let Some(push) = &entry.agent.push else { return Answer::Over };
        if let Some(suspended) = push.suspended {
            return Answer::Never { stop: suspended.why, may_have };
        }
        let exchanged = {
            let Some(_place) = place(shared, lease, may_have).await else { return Answer::NoPlace };
            once(shared, &entry, task, lease, open).await
        };
        let (outcome, deduplicates) = match exchanged {
            Ok(Answer::Never { stop, .. }) => return Answer::Never { stop, may_have },
            Ok(answer) => return answer,
            Err(outcome) => outcome,
        };
        if outcome.is_untaken() && !may_have {
            open.note_untaken();
        }
        let chance = draw_chance(&*lifecycle.entropy);
        match lifecycle.config.push.after(outcome, tries, deduplicates, chance) {
            PushStep::Repeat { after } => sleep(after).await,
            // Its agent may be at work with it, and nothing but the time limit would end what nobody has.
            PushStep::Release { .. } if may_have && is_by_platform => sleep(lifecycle.config.push.backoff_cap).await,
            PushStep::Release { failure, .. } if may_have => return Answer::Unknown(failure),
            PushStep::Release { failure, retry_after } => {
                return Answer::NotTaken { failure, why: told(outcome), retry_after };
            }
            PushStep::Suspend(stop) => return Answer::Never { stop, may_have },
            PushStep::Fail { .. } if lease.deadline <= lifecycle.clock.now() => return Answer::Over,
            PushStep::Fail { failure } => return Answer::Failed { failure, why: told(outcome) },
        }
        may_have |= !outcome.is_untaken();
    }
    Answer::Over
}

/// A place for an exchange. Whoever asks for tasks holds none, or agents that are idle would leave none to the others: so
/// more tasks may come than there are places. One that its agent may have waits for as long as it takes; any other is
/// another agent's if there is no place soon.
async fn place<'a>(shared: &'a Shared, lease: &Lease, may_have: bool) -> Option<SemaphorePermit<'a>> {
    let place = shared.places.acquire();
    let left = lease.deadline.saturating_since(shared.lifecycle.clock.now());
    let place = if may_have { place.await } else { timeout(lease.length.min(left) / PATIENCE, place).await.ok()? };
    Some(place.expect("the semaphore is never closed"))
}

/// One exchange: an answer, or what came in its stead and whether the agent tells a repeat.
async fn once(
    shared: &Shared,
    entry: &Arc<Entry>,
    task: &Task,
    lease: &Lease,
    open: &Exchange,
) -> Result<Answer, (PushOutcome, bool)> {
    let lifecycle = &shared.lifecycle;
    let left = lease.deadline.saturating_since(lifecycle.clock.now());
    if left.is_zero() {
        return Ok(Answer::Over);
    }
    let Message { request, may_be_async, deduplicates, reports_elsewhere } = match shared.assignment(&entry.agent, task)
    {
        Ok(message) => message,
        Err(stop) => return Ok(Answer::Never { stop, may_have: false }),
    };
    // One that may answer before its result answers a repeat with it all the same, as large as it is.
    // A platform may answer after the work.
    let longest = if may_be_async && !reports_elsewhere { lifecycle.config.push.answer_timeout } else { left };
    let limits = CallLimits::headers_within(left.min(longest)).with_answer(lifecycle.config.capacity.result_bytes);
    if !open.send_to(entry.agent.epoch) {
        return Ok(Answer::Over);
    }
    match shared.outbound.call(request, limits).await {
        Ok(answer) if answer.status().is_success() && reports_elsewhere => Ok(Answer::Accepted),
        Ok(answer) if answer.status().is_success() => {
            lifecycle.heard(entry);
            Ok(taken(&answer, task, lease, may_be_async))
        }
        Ok(answer) => {
            debug!(task.id = %task.id(), status = answer.status().as_u16(), "a push was not taken");
            let retry_after = crate::outbound::retry_after(&answer);
            Err((PushOutcome::Status { status: answer.status().as_u16(), retry_after }, deduplicates))
        }
        Err(error) => {
            debug!(task.id = %task.id(), error = causes(&error), "a push got no answer");
            let is_too_long = matches!(error, crate::outbound::OutboundError::TooLong { .. });
            let outcome = PushOutcome::Lost { failure: error.failure(), is_unsent: error.surely_not_sent() };
            // The same answer would come again.
            if is_too_long { Ok(of_no_use("its answer is too long")) } else { Err((outcome, deduplicates)) }
        }
    }
}

/// What a 2xx says. The result is that of the attempt that was sent, or none at all (A26, T32).
fn taken(answer: &Response<bytes::Bytes>, task: &Task, lease: &Lease, may_be_async: bool) -> Answer {
    let is_ours = |result: &TaskResult| {
        result.task_id == task.id()
            && result.lease_id.is_none_or(|quoted| quoted == lease.lease_id)
            && result.attempt.is_none_or(|quoted| quoted == lease.attempt)
    };
    match from_json::<TaskResult>(answer.body()) {
        Ok(result) if is_ours(&result) => Answer::Result(Box::new(result.with_lease(lease.lease_id, lease.attempt))),
        Err(_) if may_be_async && answer.status() == StatusCode::ACCEPTED => Answer::Accepted,
        _ => of_no_use("its answer is no result of this attempt"),
    }
}

fn of_no_use(why: &str) -> Answer {
    Answer::Failed { failure: CallFailure::Status, why: why.to_owned() }
}

/// What came in place of an answer of use, for people.
fn told(outcome: PushOutcome) -> String {
    match outcome {
        PushOutcome::Status { status, .. } => format!("its answer has status {status}"),
        PushOutcome::Lost { failure, .. } => format!("there was no answer ({failure})"),
    }
}
