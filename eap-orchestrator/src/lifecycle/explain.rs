//! Why a task is where it is: every agent of its tenant, measured against it as the matchmaker does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use eap_core::{Hindrance, Phase, Rating, RoutingKey, Score, Task, load_band};
use eap_types::{
    AgentId, AgentState, Candidate, CandidateRefusal, RefusalCode, ScoreParts, TaskExplanation, TaskId, TaskStatus,
    Timestamp, Whereabouts,
};

use super::Lifecycle;
use super::views::{last_end, routing_view, track_record_view};
use crate::auth::Operator;
use crate::directory::Entry;
use crate::error::Error;

/// How many agents an explanation shows.
const SHOWN: usize = 100;

/// A task and the agents that could have it; who waits is still to be asked.
#[derive(Debug)]
pub(crate) struct Measured {
    task: Task,
    now: Timestamp,
    /// Those that are shown, best first.
    agents: Vec<Measure>,
    /// How many were looked at.
    total: usize,
    /// Why those that are not shown are refused.
    refused: BTreeMap<RefusalCode, u64>,
}

/// One agent, measured against the task.
#[derive(Debug)]
struct Measure {
    entry: Arc<Entry>,
    rating: Rating,
    last_served: Option<Timestamp>,
    state: AgentState,
    leases: u32,
    hindrances: Vec<Hindrance>,
}

impl Measured {
    /// The agents that are shown.
    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.agents.iter().map(|measure| measure.entry.agent.id.clone()).collect()
    }

    /// What the task asks of its agent.
    pub(crate) fn key(&self) -> &RoutingKey {
        &self.task.spec.routing
    }
}

impl Measure {
    /// The least is the best: those that can take the task, as the matchmaker prefers them, then the others.
    fn rank(&self) -> (bool, Reverse<Score>, Reverse<Score>, Option<Timestamp>, AgentId) {
        let rating = &self.rating;
        let id = self.entry.agent.id.clone();
        (!self.hindrances.is_empty(), Reverse(rating.score()), Reverse(rating.preferred), self.last_served, id)
    }
}

impl Lifecycle {
    /// Measures the agents of the task's tenant, none for a task that is over.
    pub(crate) async fn measure(&self, operator: &Operator, id: TaskId) -> Result<Measured, Error> {
        let task = self.owned(operator, id).await?.record;
        let now = self.clock.now();
        let entries = if task.status().is_final() { Vec::new() } else { self.directory.of_tenant(operator.tenant) };
        let total = entries.len();
        let mut agents: Vec<Measure> = entries.into_iter().map(|entry| self.measure_one(&task, entry, now)).collect();
        agents.sort_by_cached_key(Measure::rank);
        let rest = agents.split_off(agents.len().min(SHOWN));
        let mut refused = BTreeMap::new();
        rest.iter().for_each(|measure| count(&mut refused, &measure.hindrances));
        Ok(Measured { task, now, agents, total, refused })
    }

    fn measure_one(&self, task: &Task, entry: Arc<Entry>, now: Timestamp) -> Measure {
        let agent = &entry.agent;
        let leases = self.leases.count(&agent.id);
        let state = agent.state(now.saturating_since(entry.silent_since()), &self.config.timing.liveness());
        let (rating, last_served, hindrances) = entry.with_vitals(|vitals| {
            let rating = Rating::of(agent, vitals, leases, &task.spec.routing);
            let mut hindrances = Hindrance::all(task, agent, vitals, leases, state, now);
            hindrances.extend(self.states.hindrance(agent));
            (rating, vitals.record.last_served(), hindrances)
        });
        let rating = if state == AgentState::Suspect { rating.suspect() } else { rating };
        let rating = if task.spec.preferred_agents.contains(&agent.id) { rating.preferred() } else { rating };
        Measure { rating, last_served, state, leases, hindrances, entry }
    }

    /// What there is to say, once it is known who waits.
    pub(crate) fn explanation(&self, measured: Measured, waiting: &HashSet<AgentId>) -> TaskExplanation {
        let Measured { task, now, mut agents, total, mut refused } = measured;
        for measure in &mut agents {
            if waiting.contains(&measure.entry.agent.id) {
                // However long ago the wait began.
                measure.hindrances.retain(|hindrance| !hindrance.ends_by_poll());
            }
        }
        agents.sort_by_cached_key(Measure::rank);
        agents.iter().for_each(|measure| count(&mut refused, &measure.hindrances));

        let (spec, state) = (&task.spec, &task.state);
        let (whereabouts, until) = whereabouts(&task);
        let mut explanation = TaskExplanation::new(
            spec.id,
            spec.routing.task_type.clone(),
            task.status(),
            whereabouts,
            routing_view(spec),
            now,
        );
        explanation.until = until;
        explanation.agent_id = task.lease().map(|lease| lease.agent.clone());
        explanation.attempt = task.newest_attempt().map_or(0, |attempt| attempt.number);
        explanation.attempts_used = state.attempts_used();
        explanation.max_attempts = spec.max_attempts;
        explanation.no_capable_agent = task.status() == TaskStatus::Queued && !self.directory.can_serve(&spec.routing);
        explanation.candidates =
            agents.iter().map(|measure| candidate(measure, waiting.contains(&measure.entry.agent.id), now)).collect();
        explanation.agents = total as u64;
        explanation.refused = refused;
        explanation.summary = summary(&explanation, state.phase.reason());
        if let Some(ended) = last_end(&task) {
            explanation.summary = format!("{}; {ended}", explanation.summary);
        }
        explanation
    }
}

/// What the task waits for, and until when.
fn whereabouts(task: &Task) -> (Whereabouts, Option<Timestamp>) {
    match &task.state.phase {
        Phase::Queued { ready_at: None } => (Whereabouts::Ready, None),
        Phase::Queued { ready_at } if task.state.attempts.is_empty() => (Whereabouts::Delayed, *ready_at),
        Phase::Queued { ready_at } => (Whereabouts::BackingOff, *ready_at),
        Phase::Leased(lease) => (Whereabouts::Leased, Some(lease.expires_at)),
        _ => (Whereabouts::Final, None),
    }
}

fn candidate(measure: &Measure, waiting: bool, now: Timestamp) -> Candidate {
    let (agent, rating) = (&measure.entry.agent, &measure.rating);
    let mut candidate = Candidate::new(agent.id.clone(), agent.name.clone(), agent.max_concurrent_tasks);
    candidate.score = rating.score().as_f64();
    let mut parts = ScoreParts::default();
    parts.tier = rating.tier.as_f64();
    parts.capability_match = rating.capability_match.as_f64();
    parts.load = rating.load.as_f64();
    parts.availability = rating.availability.as_f64();
    parts.preferred = rating.preferred.as_f64();
    candidate.parts = parts;
    (candidate.track_record, candidate.status) =
        measure.entry.with_vitals(|vitals| (track_record_view(&vitals.record, now), vitals.status));
    candidate.leases = measure.leases;
    candidate.load = load_band(measure.leases, agent.max_concurrent_tasks);
    candidate.state = measure.state;
    candidate.waiting = waiting;
    candidate.refusals = measure.hindrances.iter().map(refusal).collect();
    candidate
}

fn code(hindrance: &Hindrance) -> RefusalCode {
    match hindrance {
        Hindrance::MissingCapabilities(_) => RefusalCode::MissingCapability,
        Hindrance::MissingLabels(_) => RefusalCode::MissingLabel,
        Hindrance::Superseded => RefusalCode::Superseded,
        Hindrance::Draining => RefusalCode::Draining,
        Hindrance::Drained => RefusalCode::Drained,
        Hindrance::Offline => RefusalCode::Offline,
        Hindrance::Busy => RefusalCode::Busy,
        Hindrance::NotFree { .. } => RefusalCode::NotFree,
        Hindrance::PushSuspended { .. } => RefusalCode::PushSuspended,
        Hindrance::Full => RefusalCode::Full,
        Hindrance::Excluded { .. } => RefusalCode::Excluded,
        Hindrance::BreakerOpen { .. } => RefusalCode::BreakerOpen,
        Hindrance::OnTrial => RefusalCode::OnTrial,
        _ => RefusalCode::OtherAgent,
    }
}

fn refusal(hindrance: &Hindrance) -> CandidateRefusal {
    let refusal = CandidateRefusal::new(code(hindrance));
    match hindrance {
        Hindrance::MissingCapabilities(missing) => refusal.with_missing(missing),
        Hindrance::MissingLabels(missing) => {
            refusal.with_missing(missing.iter().map(|(name, value)| format!("{name}={value}")))
        }
        Hindrance::NotFree { state } => refusal.with_word(state),
        Hindrance::PushSuspended { why } => refusal.with_word(why.as_str()),
        Hindrance::Excluded { until } | Hindrance::BreakerOpen { until } => refusal.with_until(*until),
        _ => refusal,
    }
}

fn count(refused: &mut BTreeMap<RefusalCode, u64>, hindrances: &[Hindrance]) {
    for hindrance in hindrances {
        *refused.entry(code(hindrance)).or_default() += 1;
    }
}

/// One sentence for people.
fn summary(explanation: &TaskExplanation, reason: Option<&str>) -> String {
    let until = explanation.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let attempt = explanation.attempt;
    let able = explanation.candidates.iter().filter(|candidate| candidate.refusals.is_empty());
    let waiting = able.clone().filter(|candidate| candidate.waiting).count();
    match (explanation.whereabouts, able.count()) {
        (Whereabouts::Final, _) => {
            let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("it is over, {}{because}", explanation.status)
        }
        (Whereabouts::Leased, _) => format!("attempt {attempt} is with its agent, whose lease holds{until}"),
        (Whereabouts::Delayed, _) => format!("it is not to start{until}"),
        (Whereabouts::BackingOff, _) => format!("it backs off{until}, after attempt {attempt}"),
        _ if explanation.no_capable_agent => "it is ready, and no agent that takes work can do it".to_owned(),
        (_, 0) => "it is ready, and no agent that could do it can take it now".to_owned(),
        (_, able) if waiting == 0 => {
            format!(
                "it is ready; {} can take it and none asks for work: the next that asks gets the head of the queue",
                agents(able)
            )
        }
        (_, able) => format!("it is ready; {} can take it, {waiting} of them waiting for work", agents(able)),
    }
}

fn agents(count: usize) -> String {
    match count {
        1 => "1 agent".to_owned(),
        SHOWN.. => format!("at least {SHOWN} agents"),
        count => format!("{count} agents"),
    }
}
