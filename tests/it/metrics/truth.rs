//! What the store says, in the words of the metrics.

use std::collections::BTreeMap;

use eap_core::{LivenessPolicy, Phase, Task};
use eap_orchestrator::Clock;
use eap_orchestrator::store::{EventSeq, Repository, TaskFilter};
use eap_types::{AttemptOutcome, FailureCode, TenantId, Timestamp};

/// Values by labels, as a page has them; none is zero.
pub(super) type Values = BTreeMap<String, u64>;

/// What the store holds: events, tasks and agents, counted one by one.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) events: Values,
    pub(super) results: Values,
    pub(super) timeouts: u64,
    pub(super) ready: Values,
    /// Ages in seconds.
    pub(super) oldest: Values,
    pub(super) delayed: Values,
    pub(super) leased: Values,
    pub(super) agents: Values,
}

impl Truth {
    /// Everything in `store`; agents were not heard of before `started`, as far as anybody in the process knows.
    pub(super) async fn of(store: &dyn Repository, clock: &dyn Clock, started: Timestamp) -> Self {
        let (mut truth, now) = (Self::default(), clock.now());
        for event in store.events(EventSeq(0), None, usize::MAX >> 1).await.expect("a read succeeds") {
            add(&mut truth.events, format!("{{kind=\"{}\"}}", event.kind), 1);
        }
        let filter = TaskFilter {
            tenant: TenantId::default(),
            status: None,
            agent: None,
            task_type: None,
            dead_letters: false,
            before: None,
            limit: usize::MAX >> 1,
        };
        let tasks = store.tasks(&filter).await.expect("a read succeeds");
        // Newest first: what comes last of its kind is the oldest.
        for task in tasks.iter().map(|(_, stored)| &stored.record) {
            truth.count_attempts(task);
            truth.count_task(task, now);
        }
        let policy = LivenessPolicy::default();
        for (agent, vitals) in store.agents().await.expect("a read succeeds") {
            let silence = now.saturating_since(vitals.last_seen.max(started));
            let state = agent.record.standing.state(silence, &policy);
            add(&mut truth.agents, format!("{{state=\"{state}\"}}"), 1);
        }
        truth
    }

    fn count_attempts(&mut self, task: &Task) {
        for attempt in &task.state.attempts {
            match (attempt.error_code, attempt.outcome) {
                (Some(FailureCode::Timeout), _) if attempt.reported.is_none() => self.timeouts += 1,
                (None, AttemptOutcome::Completed) => {
                    add(&mut self.results, "{outcome=\"completed\",error_code=\"\"}".to_owned(), 1);
                }
                (Some(code), _) => {
                    add(&mut self.results, format!("{{outcome=\"failed\",error_code=\"{code}\"}}"), 1);
                }
                (None, _) => {}
            }
        }
    }

    fn count_task(&mut self, task: &Task, now: Timestamp) {
        let spec = &task.spec;
        let task_type = format!("{{task_type=\"{}\"}}", spec.routing.task_type);
        match &task.state.phase {
            Phase::Queued { ready_at: None } => {
                let needs: Vec<_> = spec.routing.required_capabilities.iter().map(ToString::to_string).collect();
                let kind = format!("{{task_type=\"{}\",capability=\"{}\"}}", spec.routing.task_type, needs.join("+"));
                add(&mut self.ready, kind.clone(), 1);
                let since = spec.run_at.map_or(spec.created_at, |at| at.max(spec.created_at));
                self.oldest.insert(kind, now.saturating_since(since).as_secs());
            }
            Phase::Queued { .. } => add(&mut self.delayed, task_type, 1),
            Phase::Leased(_) => add(&mut self.leased, task_type, 1),
            _ => {}
        }
    }

    /// What came since `earlier`: counters begin at zero with their process.
    pub(super) fn since(mut self, earlier: &Self) -> Self {
        let subtract = |values: &mut Values, earlier: &Values| {
            for (labels, count) in earlier {
                let value = values.get_mut(labels).expect("what was counted stays");
                *value -= count;
            }
            values.retain(|_, value| *value != 0);
        };
        subtract(&mut self.events, &earlier.events);
        subtract(&mut self.results, &earlier.results);
        self.timeouts -= earlier.timeouts;
        self
    }
}

/// One more, or some.
pub(super) fn add(values: &mut Values, labels: String, more: u64) {
    *values.entry(labels).or_default() += more;
}
