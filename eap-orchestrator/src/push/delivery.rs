//! The delivery of one attempt: its exchanges, its lease meanwhile, and what is written of it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, EndOfLease, Lease, Quote, Task};
use eap_types::{AgentId, CallFailure, FailureCode, Feature, PushStop, TaskId, TaskResult};
use tracing::{Instrument as _, debug, debug_span, warn};

use super::Shared;
use super::exchange::{Answer, exchange};
use crate::error::Error;
use crate::lifecycle::{Exchange, has_agreed};
use crate::outbound::CallLimits;

/// How long the call that tells of a cancel may take.
const CANCEL: Duration = Duration::from_secs(10);
/// The longest pause between two tries to write down what an agent answered.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a delivery says of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// It answered.
    Well,
    /// Nothing: the task ended otherwise.
    Over,
    /// It did not take the task, or gave no answer of use.
    Badly { failure: CallFailure, retry_after: Option<Duration> },
    /// Nothing is to be pushed to it any more.
    Never(PushStop),
}

/// Brings an attempt to its agent and writes down what comes back; says of which epoch's process that tells something.
pub(super) async fn deliver(shared: &Arc<Shared>, agent: &AgentId, task: Task, from_before: bool) -> (u64, Delivered) {
    let Some(lease) = task.lease().cloned() else { return (0, Delivered::Over) };
    let span = debug_span!("push", task.id = %task.id(), agent.id = %agent, attempt = lease.attempt);
    Delivery { shared, agent, task: &task, lease, from_before }.run().instrument(span).await
}

struct Delivery<'a> {
    shared: &'a Arc<Shared>,
    agent: &'a AgentId,
    task: &'a Task,
    lease: Lease,
    /// Whether an earlier process of the server may have brought it already.
    from_before: bool,
}

enum End {
    Answered(Answer),
    TaskOver,
    LeaseLost,
}

impl Delivery<'_> {
    async fn run(self) -> (u64, Delivered) {
        let mut epoch = 0;
        let delivered = self.bring(&mut epoch).await;
        (epoch, delivered)
    }

    async fn bring(&self, epoch: &mut u64) -> Delivered {
        let lifecycle = &self.shared.lifecycle;
        let id = self.task.id();
        let open = lifecycle.exchanges.begin(self.lease.lease_id, self.from_before);
        let reader = lifecycle.announcements.reader(id);
        let mut ended = pin!(reader.ended());
        // What ended before this is seen by the lease, whose renewal is refused then.
        let end = tokio::select! {
            biased;
            answer = exchange(self.shared, self.agent, self.task, &self.lease, &open, epoch, self.from_before) =>
                End::Answered(answer),
            () = async {
                (&mut ended).await;
                if self.is_by_platform() {
                    // It answers after its agent's reports: what it is at is not broken off by them at once.
                    tokio::time::sleep(CANCEL).await;
                }
            } => End::TaskOver,
            () = self.keep_lease() => End::LeaseLost,
        };
        match end {
            End::TaskOver => {
                self.tell_of_cancel().await;
                Delivered::Over
            }
            End::LeaseLost => {
                debug!("the lease was lost while the exchange was open");
                self.tell_of_cancel().await;
                Delivered::Over
            }
            End::Answered(Answer::Over) => Delivered::Over,
            End::Answered(Answer::NoPlace) => {
                self.release(EndOfLease::NoPlace).await;
                Delivered::Over
            }
            End::Answered(Answer::Result(result)) => {
                self.record(*result).await;
                Delivered::Well
            }
            End::Answered(Answer::Accepted) => {
                self.note_accepted().await;
                self.watch_over(open);
                Delivered::Well
            }
            End::Answered(Answer::Failed { failure, why }) => {
                let message = format!("the push to the agent failed: {why}");
                let failed = TaskResult::failed(id, FailureCode::Internal, message);
                self.record(failed.with_lease(self.lease.lease_id, self.lease.attempt)).await;
                Delivered::Badly { failure, retry_after: None }
            }
            End::Answered(Answer::NotTaken { failure, why, retry_after }) => {
                let reason = format!("the agent did not take the push: {why}");
                self.release(match retry_after {
                    Some(_) => EndOfLease::HandedBack { reason: Some(reason), retry_after },
                    None => EndOfLease::Undelivered { reason },
                })
                .await;
                Delivered::Badly { failure, retry_after }
            }
            End::Answered(Answer::Unknown(failure)) => Delivered::Badly { failure, retry_after: None },
            End::Answered(Answer::Never { stop, may_have }) => {
                // What the agent may have is its own to finish; without it, the lease lapses.
                if !may_have {
                    let reason = format!("nothing is pushed to the agent: {stop}");
                    self.release(EndOfLease::Undelivered { reason }).await;
                }
                Delivered::Never(stop)
            }
        }
    }

    fn is_by_platform(&self) -> bool {
        self.shared.lifecycle.directory.get(self.agent).is_some_and(|entry| entry.agent.platform.is_some())
    }

    /// Renews the lease while the exchange is open; ends when it does not hold any more.
    async fn keep_lease(&self) {
        let lifecycle = &self.shared.lifecycle;
        let pause = self.pause();
        while lifecycle.keep_lease(self.agent, self.task.id(), self.lease.lease_id).await {
            tokio::time::sleep(pause).await;
        }
    }

    fn pause(&self) -> Duration {
        let left = self.lease.deadline.saturating_since(self.shared.lifecycle.clock.now());
        self.lease.length.min(left.max(Duration::from_secs(1))) / 3
    }

    /// Writes down a result by the way of a reported one. A store in trouble is waited for, as long as the lease holds;
    /// after that the attempt is another's, or comes again.
    async fn record(&self, mut result: TaskResult) {
        let lifecycle = &self.shared.lifecycle;
        let mut pause = Duration::from_millis(50);
        loop {
            let Some(entry) = lifecycle.directory.get(self.agent) else { return };
            match lifecycle.record(&entry.agent, self.task.id(), result.clone()).await {
                Err(error @ (Error::Store(_) | Error::Artifacts(_) | Error::Busy { .. } | Error::Broken)) => {
                    warn!(%error, "the answer to a push could not be written yet");
                }
                // It names what was not uploaded. A result without artifacts is taken.
                Err(Error::Invalid { problems }) if !result.artifacts.is_empty() => {
                    let why = problems.first().map_or("", |problem| problem.message.as_str());
                    let message = format!("the push to the agent failed: its answer cannot be recorded: {why}");
                    result = TaskResult::failed(self.task.id(), FailureCode::Internal, message)
                        .with_lease(self.lease.lease_id, self.lease.attempt);
                    continue;
                }
                Err(refused) => return debug!(%refused, "the answer to a push came too late"),
                Ok(_) => return,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !lifecycle.keep_lease(self.agent, self.task.id(), self.lease.lease_id).await {
                return;
            }
        }
    }

    /// Writes down that a platform has the task, so that it is not given it again after a restart of this server.
    async fn note_accepted(&self) {
        let lifecycle = &self.shared.lifecycle;
        let Some(entry) = lifecycle.directory.get(self.agent).filter(|entry| entry.agent.platform.is_some()) else {
            return;
        };
        let quote = Quote::lease(self.lease.lease_id);
        if let Err(error) = lifecycle.note(&entry.agent, self.task.id(), quote, "the platform took it").await {
            debug!(%error, "that the platform took the task could not be noted");
        }
    }

    async fn release(&self, why: EndOfLease) {
        let lifecycle = &self.shared.lifecycle;
        let Some(entry) = lifecycle.directory.get(self.agent) else { return };
        let quote = Quote::lease(self.lease.lease_id);
        if let Err(error) = lifecycle.end_lease(&entry.agent, self.task.id(), quote, why).await {
            debug!(%error, "an attempt that was not taken waits for its lease to lapse");
        }
    }

    /// Tells an agent that works on a task by itself when somebody cancels it. The lease is its own to renew.
    fn watch_over(&self, open: Exchange) {
        if self.is_by_platform() {
            return;
        }
        let (shared, agent, id) = (Arc::clone(self.shared), self.agent.clone(), self.task.id());
        let (lease, pause) = (self.lease.clone(), self.pause());
        let stop = shared.lifecycle.stop.clone();
        let tracker = shared.lifecycle.under_way.clone();
        tracker.spawn(async move {
            let lifecycle = &shared.lifecycle;
            let reader = lifecycle.announcements.reader(id);
            let mut ended = pin!(reader.ended());
            let _open = open;
            let holds = || lifecycle.leases.find(&agent, id).is_some_and(|held| held.lease_id == lease.lease_id);
            while holds() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = &mut ended => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            tell_of_cancel(&shared, &agent, id, &lease).await;
        });
    }

    async fn tell_of_cancel(&self) {
        tell_of_cancel(self.shared, self.agent, self.task.id(), &self.lease).await;
    }
}

/// Calls an agent whose task was cancelled, if it agreed on that; what it answers does not matter.
async fn tell_of_cancel(shared: &Shared, agent: &AgentId, id: TaskId, lease: &Lease) {
    let lifecycle = &shared.lifecycle;
    let Some(entry) = lifecycle.directory.get(agent) else { return };
    let told = |agent: &Agent| has_agreed(agent, Feature::CancelV1);
    if !told(&entry.agent) {
        return;
    }
    let Some(cancel) = lifecycle.cancelled(id).await else { return };
    let Ok(request) = shared.cancel(&entry.agent, id, lease.attempt, &cancel) else { return };
    if let Err(error) = shared.outbound.call(request, CallLimits::headers_within(CANCEL)).await {
        debug!(task.id = %id, %error, "the agent could not be told of a cancel by a call");
    }
}
