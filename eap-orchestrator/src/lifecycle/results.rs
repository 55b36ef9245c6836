//! What agents report: results, progress, releases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, Conclusion, EndOfLease, Progress, Quote, Report, Step, Task, TaskEvent};
use eap_types::{
    AgentId, FieldProblem, ProgressReply, ProgressReport, ReleaseRequest, Released, ResultAccepted, TaskId, TaskResult,
    Timestamp,
};
use futures_util::future::join_all;
use tracing::{Instrument as _, debug, debug_span, field};

use super::views::millis;
use super::{Applied, Lifecycle, MAX_CONFLICTS, Share, written};
use crate::error::Error;
use crate::metrics::Reported;
use crate::store::{Change, StoreError, Stored};
use crate::trace;

impl Lifecycle {
    /// Records the result an agent reports for its attempt, or says why not (docs/reliability.md, section 1).
    pub(crate) async fn record(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        id: TaskId,
        result: TaskResult,
    ) -> Result<ResultAccepted, Error> {
        let reported = Reported::of(&result);
        let attempt = result.attempt;
        let (trace_id, parent_id) = (field::Empty, field::Empty);
        let span = debug_span!("result", task.id = %id, agent.id = %agent.id, attempt, trace_id, parent_id);
        let recorded = self.record_uncounted(agent, id, result).instrument(span.clone()).await;
        match &recorded {
            Ok(applied) => {
                trace::join_task(&span, &applied.task);
                self.metrics.results.taken(reported, applied.duplicate);
            }
            Err(refusal) => self.metrics.results.not_taken(refusal),
        }
        Ok(ResultAccepted::new(id, recorded?.duplicate))
    }

    async fn record_uncounted(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        id: TaskId,
        result: TaskResult,
    ) -> Result<Applied, Error> {
        if result.task_id != id {
            let message = "The body names another task than the path.";
            return Err(Error::Invalid { problems: vec![FieldProblem::new("body.task_id", "value_error", message)] });
        }
        let event = self.report(agent, &result);
        let this = Arc::clone(self);
        self.detached(Share::Running, async move { this.apply(id, &event, Some(&result)).await }).await
    }

    fn report(&self, agent: &Agent, result: &TaskResult) -> TaskEvent {
        TaskEvent::Report {
            agent: agent.id.clone(),
            quote: Quote { lease_id: result.lease_id, attempt: result.attempt },
            report: Report::of(result),
            chance: self.chance(),
        }
    }

    /// Records several results of one agent, each as [`record`](Self::record) does; those that are what one expects, the
    /// first of a running attempt, in one commit. An error is that of all of them.
    pub(crate) async fn record_all(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        results: Vec<TaskResult>,
    ) -> Result<Vec<Result<ResultAccepted, Error>>, Error> {
        let (this, reporter) = (Arc::clone(self), Arc::clone(agent));
        let together = self.detached(Share::Running, async move {
            let recorded = this.record_together(&reporter, &results).await;
            Ok((results, recorded))
        });
        let (results, recorded) = together.await?;
        let answers = results.into_iter().zip(recorded).map(async |(result, is_recorded)| {
            if is_recorded {
                Ok(ResultAccepted::new(result.task_id, false))
            } else {
                self.record(agent, result.task_id, result).await
            }
        });
        Ok(join_all(answers).await)
    }

    /// Records those of `results` that change their tasks, all in one commit, and says which. Where another writer was faster
    /// with one of them, all are decided anew. The others, and all of them if that does not help, are for the caller to
    /// record one by one.
    async fn record_together(&self, agent: &Agent, results: &[TaskResult]) -> Vec<bool> {
        let mut recorded = vec![false; results.len()];
        for _ in 0..MAX_CONFLICTS {
            let Together { change, tasks } = self.decide_together(agent, results).await;
            let has_callback = !change.callbacks.is_empty();
            match self.commit(change).await {
                Ok(()) => {}
                Err(StoreError::Conflict { .. }) => continue,
                Err(_) => break,
            }
            if has_callback {
                self.announcements.callback_became_due();
            }
            for (index, task, ended, now) in tasks.into_values() {
                self.tell_recorded(agent, &results[index], &task, ended.as_ref(), now);
                recorded[index] = true;
            }
            break;
        }
        recorded
    }

    /// What those of `results` that change their tasks come to, the first of each task. Steps of workflows are not among them:
    /// with each, its session goes on.
    async fn decide_together(&self, agent: &Agent, results: &[TaskResult]) -> Together {
        let mut together = Together::default();
        let ids: Vec<TaskId> = results.iter().map(|result| result.task_id).collect();
        let Ok(stored) = self.store.tasks_of(&ids).await else { return together };
        let mut stored: HashMap<TaskId, Stored<Task>> =
            stored.into_iter().map(|stored| (stored.record.id(), stored)).collect();
        for (index, result) in results.iter().enumerate() {
            // Taken out: of several results of a task, the first is among them.
            if let Some(Stored { record, revision, now }) = stored.remove(&result.task_id)
                && !record.spec.is_step
                && let Ok(Step::Changed(changed)) = record.apply(self.report(agent, result), now, &self.config.tasks)
                && self.check_uploads(&record, result).await.is_ok()
            {
                let ended = Conclusion::of(&record, &changed.state);
                let (task, change) = written(&record, revision, *changed, now, Some(result));
                together.change.add(change);
                together.tasks.insert(task.id(), (index, task, ended, now));
            }
        }
        together
    }

    fn tell_recorded(
        &self,
        agent: &Agent,
        result: &TaskResult,
        task: &Task,
        ended: Option<&Conclusion>,
        now: Timestamp,
    ) {
        let (trace_id, parent_id) = (field::Empty, field::Empty);
        let attempt = result.attempt;
        let span = debug_span!("result", task.id = %task.id(), agent.id = %agent.id, attempt, trace_id, parent_id);
        trace::join_task(&span, task);
        span.in_scope(|| debug!(status = %task.status(), "result recorded"));
        self.metrics.results.taken(Reported::of(result), false);
        self.tell(task, ended, now);
    }

    /// Says whether a task was ever assigned to an agent; to any other it does not exist.
    pub(crate) async fn assigned(&self, agent: &AgentId, id: TaskId) -> Result<(), Error> {
        let stored = self.store.task(id).await?;
        stored.filter(|stored| stored.record.was_assigned_to(agent)).map(drop).ok_or(Error::UnknownTask)
    }

    /// Takes progress in and renews the lease.
    pub(crate) async fn progress(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        id: TaskId,
        report: ProgressReport,
    ) -> Result<ProgressReply, Error> {
        let event = TaskEvent::Progress {
            agent: agent.id.clone(),
            quote: Quote { lease_id: report.lease_id, attempt: report.attempt },
            progress: Progress { seq: Some(report.seq), fraction: report.progress, message: report.message },
            output: report.output_delta,
        };
        let this = Arc::clone(self);
        let applied = self.detached(Share::Running, async move { this.apply(id, &event, None).await }).await?;
        let left = applied.task.lease().map(|lease| lease.expires_at.saturating_since(self.clock.now()));
        let mut reply = ProgressReply::new(millis(left.unwrap_or_default()));
        reply.directives = self.standing_directives(&agent.id);
        Ok(reply)
    }

    /// Notes what became of an attempt, as its holder's progress.
    pub(crate) async fn note(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        id: TaskId,
        quote: Quote,
        message: &str,
    ) -> Result<(), Error> {
        // Later notes count, and so does none that an agent numbers by itself: those of a platform send no progress.
        let seq = u64::try_from(self.clock.now().as_micros()).ok();
        let progress = Progress { seq, fraction: None, message: Some(message.to_owned()) };
        let event = TaskEvent::Progress { agent: agent.id.clone(), quote, progress, output: None };
        let this = Arc::clone(self);
        self.detached(Share::Running, async move { this.apply(id, &event, None).await }).await.map(drop)
    }

    /// Takes a task back from its holder.
    pub(crate) async fn release(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        id: TaskId,
        request: ReleaseRequest,
    ) -> Result<Released, Error> {
        // Free of charge for an agent that really drains; from any other it would be a way to spin for ever.
        let drains = self.directory.get(&agent.id).is_some_and(|entry| entry.agent.drains());
        let why = if request.draining && drains {
            EndOfLease::Draining
        } else {
            EndOfLease::HandedBack {
                reason: request.reason,
                retry_after: request.retry_after_seconds.map(Duration::from_secs),
            }
        };
        let quote = Quote { lease_id: request.lease_id, attempt: request.attempt };
        self.end_lease(agent, id, quote, why).await?;
        Ok(Released::new(id))
    }

    /// Ends an attempt as released.
    pub(crate) async fn end_lease(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        id: TaskId,
        quote: Quote,
        why: EndOfLease,
    ) -> Result<(), Error> {
        let event = TaskEvent::Release { agent: agent.id.clone(), quote, why, chance: self.chance() };
        let this = Arc::clone(self);
        self.detached(Share::Running, async move { this.apply(id, &event, None).await }).await?;
        Ok(())
    }
}

/// What several results change, and what is told of it afterwards.
#[derive(Default)]
struct Together {
    change: Change,
    /// Where the result stands, the task as it will be, the attempt that ends, and when.
    tasks: HashMap<TaskId, (usize, Task, Option<Conclusion>, Timestamp)>,
}
