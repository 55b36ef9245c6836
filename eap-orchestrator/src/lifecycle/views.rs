//! Records as callers see them.

use eap_core::{Allowance, AttemptOutcome, Disposal, Phase, RoutingKey, Task, TaskSpec, TrackRecord, load_band};
use eap_types::{
    AgentDetail, AgentView, Assignment, AttemptView, DrainView, EventView, HeldLease, IntervalView, LateResult,
    ProgressView, PushView, RoutingView, TaskHistory, TaskStatus, TaskView, Timestamp, TrackRecordView,
};

use super::Lifecycle;
use crate::directory::Entry;
use crate::store::{Event, LateResultRow, ResultRow};

impl Lifecycle {
    /// A task as operators see it.
    pub(super) fn view(&self, task: &Task, result: Option<ResultRow>) -> TaskView {
        self.view_with(task, result, |key| self.directory.can_serve(key))
    }

    /// The same, with an answer at hand to whether any agent could take it.
    pub(super) fn view_with(
        &self,
        task: &Task,
        result: Option<ResultRow>,
        mut can_serve: impl FnMut(&RoutingKey) -> bool,
    ) -> TaskView {
        let (spec, state) = (&task.spec, &task.state);
        let mut view = TaskView::new(
            spec.id,
            spec.session_id,
            spec.routing.task_type.clone(),
            routing_view(spec),
            spec.max_attempts,
            spec.created_at,
        );
        view.status = task.status();
        view.priority = spec.priority;
        view.updated_at = state.updated_at;
        view.run_at = match &state.phase {
            Phase::Queued { ready_at: Some(at) } => Some(*at),
            _ => spec.run_at,
        };
        view.expires_at = spec.expires_at;
        view.attempt = task.newest_attempt().map_or(0, |attempt| attempt.number);
        view.attempts_used = state.attempts_used();
        view.agent_id = task.newest_attempt().map(|attempt| attempt.agent.clone());
        // Of an attempt that is over it would say what is no longer so.
        let progress = state.progress.as_ref().filter(|_| task.lease().is_some());
        view.progress = progress.map(|progress| ProgressView::new(progress.fraction, progress.message.clone()));
        view.lease_expires_at = task.lease().map(|lease| lease.expires_at);
        view.reason = state.phase.reason().map(str::to_owned).or_else(|| last_end(task));
        view.result = result.map(|row| row.result);
        view.requeued_from = spec.requeued_from;
        match state.disposal {
            Some(Disposal::Requeued { task, .. }) => view.requeued_as = Some(task),
            Some(Disposal::Discarded { at }) => view.discarded_at = Some(at),
            None => {}
        }
        view.no_capable_agent = task.status() == TaskStatus::Queued && !can_serve(&spec.routing);
        view
    }

    /// An agent as operators see it.
    pub(crate) fn agent_view(&self, entry: &Entry) -> AgentView {
        let (agent, vitals) = (&entry.agent, entry.vitals());
        let mut view =
            AgentView::new(agent.id.clone(), agent.name.clone(), agent.capabilities.clone(), agent.registered_at);
        let silence = self.clock.now().saturating_since(entry.silent_since());
        view.state = agent.state(silence, &self.config.timing.liveness());
        view.status = vitals.status;
        view.version.clone_from(&agent.version);
        view.agent_type = agent.agent_type.clone();
        view.labels = agent.labels.clone();
        view.instance_id.clone_from(&agent.instance_id);
        view.max_concurrent_tasks = agent.max_concurrent_tasks;
        view.leases = self.leases.count(&agent.id);
        view.current_load = vitals.current_load;
        view.last_seen_at = Some(vitals.last_seen);
        view.endpoint_url.clone_from(&agent.endpoint_url);
        view.push = agent.push.as_ref().map(|push| match push.suspended {
            Some(suspended) => PushView::suspended(suspended.at, suspended.why),
            None => PushView::open(),
        });
        view
    }

    /// The same with all that is known of it.
    pub(crate) fn agent_detail(&self, entry: &Entry) -> AgentDetail {
        let agent = &entry.agent;
        let mut detail = AgentDetail::new(self.agent_view(entry));
        detail.metadata = agent.metadata.clone();
        let vitals = entry.vitals();
        detail.load = Some(load_band(detail.agent.leases, agent.max_concurrent_tasks));
        detail.track_record = Some(track_record_view(&vitals.record, self.clock.now()));
        detail.metrics = vitals.metrics;
        detail.features.clone_from(&agent.features);
        detail.task_schemas.clone_from(&agent.task_schemas);
        detail.epoch = agent.epoch;
        detail.rotation_asked_at = agent.rotation.as_ref().map(|intent| intent.at);
        detail.drain = agent.orders.drain.as_ref().map(|order| {
            let mut drain = DrainView::new(order.at, order.is_heard);
            drain.reason.clone_from(&order.reason);
            drain
        });
        detail.platform_state = self.states.view(agent);
        let interval = agent.orders.interval.as_ref();
        detail.interval = interval.map(|order| IntervalView::new(order.interval.as_secs(), order.is_heard));
        detail.held = self
            .leases
            .of(&agent.id)
            .into_iter()
            .map(|(task, lease)| HeldLease::new(task, lease.lease_id, lease.attempt, lease.expires_at))
            .collect();
        detail.held.sort_by_key(|held| held.task_id);
        detail
    }
}

/// How the last attempt that is over ended, for a task that is not over.
pub(super) fn last_end(task: &Task) -> Option<String> {
    let attempt = task.state.last_end().filter(|_| !task.status().is_final())?;
    let ended = match attempt.outcome {
        AttemptOutcome::Released => "was given back",
        AttemptOutcome::Expired => "expired",
        _ => "failed",
    };
    let why = attempt.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!("attempt {} {ended}{why}", attempt.number))
}

/// By what a task is routed.
pub(super) fn routing_view(spec: &TaskSpec) -> RoutingView {
    let mut routing = RoutingView::new(spec.routing.required_capabilities.iter().cloned());
    routing.labels = spec.routing.labels.clone();
    routing.agent_id.clone_from(&spec.routing.agent_id);
    routing.preferred_agents.clone_from(&spec.preferred_agents);
    routing
}

/// How an agent has done so far.
pub(super) fn track_record_view(record: &TrackRecord, now: Timestamp) -> TrackRecordView {
    let mut view = TrackRecordView::new();
    view.tier = record.tier();
    view.results = record.results();
    view.success_rate = record.success_rate();
    view.breaker = record.breaker(now);
    view.breaker_until = match record.allowance(now) {
        Allowance::Cooling { until } => Some(until),
        _ => None,
    };
    view.last_served_at = record.last_served();
    view
}

/// What an agent is told of a task it was just leased.
pub(super) fn assignment(task: &Task, now: Timestamp) -> Option<Assignment> {
    let lease = task.lease()?;
    let spec = &task.spec;
    let mut assignment = Assignment::new(spec.id, spec.session_id, spec.routing.task_type.clone(), spec.input.clone());
    assignment.context = spec.context.clone();
    assignment.requirements.clone_from(&spec.requirements);
    assignment.timeout_seconds = spec.timeout.as_secs();
    assignment.inactivity_seconds = spec.inactivity.map(|limit| limit.as_secs());
    assignment.lease_id = Some(lease.lease_id);
    assignment.lease_expires_in_ms = Some(millis(lease.expires_at.saturating_since(now)));
    assignment.lease_expires_at = Some(lease.expires_at);
    assignment.attempt = Some(lease.attempt);
    assignment.max_attempts = Some(spec.max_attempts);
    assignment.priority = Some(spec.priority.get());
    assignment.traceparent.clone_from(&spec.traceparent);
    Some(assignment)
}

/// Whole milliseconds, as the wire has them.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn history(task: &Task, late: Vec<LateResultRow>, events: Vec<Event>) -> TaskHistory {
    let mut history = TaskHistory::new(task.id());
    history.attempts = task
        .state
        .attempts
        .iter()
        .map(|attempt| {
            let mut view =
                AttemptView::new(attempt.number, attempt.agent.clone(), attempt.lease_id, attempt.started_at);
            view.outcome = attempt.outcome;
            view.ended_at = attempt.ended_at;
            view.error_code = attempt.error_code;
            view.message.clone_from(&attempt.message);
            view
        })
        .collect();
    history.late_results =
        late.into_iter().map(|row| LateResult::new(row.attempt, row.agent, row.received_at, row.result)).collect();
    history.events = events.into_iter().map(event_view).collect();
    history
}

/// An event as watchers see it.
pub(crate) fn event_view(event: Event) -> EventView {
    let mut view = EventView::new(event.seq.0, event.at, event.kind);
    view.task_id = event.task;
    view.agent_id = event.agent;
    view.attempt = event.attempt;
    view.detail = event.detail;
    view
}
