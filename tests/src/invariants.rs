//! Compares what clients saw with what the store has in the end: I1 to I7 and I12 of docs/reliability.md.
//!
//! A call without an answer may have happened or not (G5); whatever was answered 2xx must have happened.

use std::collections::BTreeMap;

use eap_core::{Phase, Task};
use eap_orchestrator::store::{Event, EventSeq, Repository, ResultRow, StoreError, TaskFilter};
use eap_types::{AttemptOutcome, SubmitTask, TaskId, TenantId};

use crate::witness::{Call, What};

/// Everything that the store has, of the default tenant.
#[derive(Debug, Default)]
pub struct Truth {
    tasks: BTreeMap<TaskId, (Task, Option<ResultRow>)>,
    events: Vec<Event>,
}

impl Truth {
    /// Reads it all.
    ///
    /// # Errors
    ///
    /// If a read fails: the faults have to be over.
    pub async fn read(store: &dyn Repository) -> Result<Self, StoreError> {
        let filter = TaskFilter {
            tenant: TenantId::default(),
            status: None,
            agent: None,
            task_type: None,
            dead_letters: false,
            before: None,
            limit: 1_000_000,
        };
        let mut tasks = BTreeMap::new();
        for (_, task) in store.tasks(&filter).await? {
            let result = store.result(task.record.id()).await?;
            tasks.insert(task.record.id(), (task.record, result));
        }
        Ok(Self { tasks, events: store.events(EventSeq(0), None, 1_000_000).await? })
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Every invariant that does not hold, with the task it is about.
    pub fn violations(&self, calls: &[Call]) -> Vec<String> {
        let mut found = Violations::default();
        self.submits(calls, &mut found);
        self.reports(calls, &mut found);
        self.leases(calls, &mut found);
        self.reads(calls, &mut found);
        for (task, result) in self.tasks.values() {
            self.life(task, result.as_ref(), &mut found);
        }
        found.0
    }

    /// I1, I12, and of G5 that one key gives one task.
    fn submits(&self, calls: &[Call], found: &mut Violations) {
        let mut by_input: BTreeMap<&str, usize> = BTreeMap::new();
        for (task, _) in self.tasks.values() {
            *by_input.entry(&task.spec.input).or_default() += 1;
        }
        let mut by_key: BTreeMap<&str, TaskId> = BTreeMap::new();
        for call in calls {
            let What::Submit { key, body, accepted, .. } = &call.what else { continue };
            let sent: SubmitTask = serde_json::from_slice(body).expect("clients submit tasks");
            let input = sent.input_text();
            if by_input.get(input.as_str()).is_some_and(|count| *count > 1) {
                found.add("G5", key, "several tasks were made of one key");
            }
            let Some(view) = accepted else { continue };
            match self.tasks.get(&view.task_id) {
                Some((task, _)) if task.spec.input == input => {}
                Some(_) => found.add("I1", view.task_id, "it has another input than was submitted"),
                None => found.add("I1", view.task_id, "it was acknowledged and is not there"),
            }
            if *by_key.entry(key).or_insert(view.task_id) != view.task_id {
                found.add("G5", key, "one key was answered with two tasks");
            }
            if call.after_failure && !calls.iter().any(|earlier| earlier.made(key) && !earlier.after_failure) {
                found.add("I12", view.task_id, "it was acknowledged after the store had failed");
            }
        }
    }

    /// I2, I3, I12: what was acknowledged is what is recorded, under the attempt of its agent.
    fn reports(&self, calls: &[Call], found: &mut Violations) {
        for call in calls {
            let What::Report { agent, result, accepted: Some(accepted), .. } = &call.what else { continue };
            let id = result.task_id;
            let Some((task, recorded)) = self.tasks.get(&id) else {
                found.add("I3", id, "its result was acknowledged and the task is not there");
                continue;
            };
            let number = result.attempt.or_else(|| {
                let lease = result.lease_id;
                task.state.attempts.iter().find(|attempt| Some(attempt.lease_id) == lease).map(|it| it.number)
            });
            let attempt = number.and_then(|number| task.attempt(number));
            let Some(attempt) = attempt else {
                found.add("I3", id, "a result was acknowledged for an attempt that there is not");
                continue;
            };
            if attempt.agent.as_str() != agent {
                found.add("I3", id, "the acknowledged result is of an agent that did not hold the attempt");
            }
            if attempt.reported.is_none() {
                found.add("I3", id, &format!("an acknowledged result is not recorded: {attempt:?}"));
            }
            if attempt.outcome == AttemptOutcome::Completed {
                let is_same = recorded.as_ref().is_some_and(|row| {
                    row.attempt == attempt.number
                        && row.result.canonical_text() == result.canonical_text()
                        && row.result.output_data.as_str() == result.output_data.as_str()
                });
                if !is_same {
                    found.add("I3", id, "the recorded result is not the acknowledged one");
                }
            }
            if call.after_failure && !accepted.duplicate {
                found.add("I12", id, "a result was acknowledged after the store had failed");
            }
        }
    }

    /// I4: an attempt has one holder, as told and as stored.
    fn leases(&self, calls: &[Call], found: &mut Violations) {
        for call in calls {
            let What::Leased { agent, tasks } = &call.what else { continue };
            for told in tasks {
                let stored = self.tasks.get(&told.task_id).map(|(task, _)| task);
                let attempt = stored.and_then(|task| task.attempt(told.attempt.unwrap_or(0)));
                let is_theirs = attempt
                    .is_some_and(|attempt| attempt.agent.as_str() == agent && Some(attempt.lease_id) == told.lease_id);
                if !is_theirs {
                    found.add(
                        "I4",
                        told.task_id,
                        &format!("{agent} was given attempt {:?}, not as stored", told.attempt),
                    );
                }
            }
        }
    }

    /// I7: what was acknowledged before a read began, the read shows.
    fn reads(&self, calls: &[Call], found: &mut Violations) {
        for read in calls {
            let What::Read { task: id, shown } = &read.what else { continue };
            for earlier in calls.iter().filter(|call| call.answered < read.invoked) {
                match &earlier.what {
                    What::Submit { accepted: Some(view), .. } if view.task_id == *id && shown.is_none() => {
                        found.add("I7", id, "an acknowledged task was told not to be there");
                    }
                    What::Report { result, accepted: Some(_), .. } if result.task_id == *id => {
                        let is_completed = self.tasks.get(id).is_some_and(|(task, _)| {
                            matches!(task.state.phase, Phase::Completed { attempt } if Some(attempt) == result.attempt)
                        });
                        let is_shown = shown.as_ref().is_some_and(|view| view.result.is_some());
                        if is_completed && !is_shown {
                            found.add("I7", id, "an acknowledged result was not shown");
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// I2, I4, I5, I6: the events of a task's life follow the diagram and lead to its record.
    fn life(&self, task: &Task, result: Option<&ResultRow>, found: &mut Violations) {
        let id = task.id();
        let has_result = matches!(task.state.phase, Phase::Completed { .. } | Phase::Failed { .. });
        if has_result != result.is_some() {
            found.add("I2", id, "there is a result exactly if it is completed or failed");
        }
        let numbers = task.state.attempts.iter().map(|attempt| attempt.number);
        if !numbers.eq(1..=task.state.attempts.len() as u32) {
            found.add("I4", id, "its attempts are not 1, 2, 3…");
        }
        let mut at = Place::Nowhere;
        for event in self.events.iter().filter(|event| event.task == Some(id)) {
            match at.after(&event.kind, event.attempt) {
                Some(next) => at = next,
                None => found.add("I5", id, &format!("{} of attempt {:?} after {at:?}", event.kind, event.attempt)),
            }
        }
        let is_there = match &task.state.phase {
            Phase::Queued { .. } => matches!(at, Place::Queued { .. }),
            Phase::Leased(lease) => at == Place::Leased { attempt: lease.attempt },
            _ => at == Place::Final,
        };
        if !is_there {
            found.add("I5", id, &format!("its events lead to {at:?}, its record is {}", task.status()));
        }
    }
}

/// Where a task is, by its events.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Nowhere,
    /// After so many attempts; of an expired one a result may still come.
    Queued {
        attempts: u32,
        is_expired: bool,
    },
    Leased {
        attempt: u32,
    },
    Final,
}

impl Place {
    fn after(self, kind: &str, attempt: Option<u32>) -> Option<Self> {
        // The newest attempt, if a report of it may still be recorded.
        let open = match self {
            Self::Leased { attempt } | Self::Queued { attempts: attempt, is_expired: true } => Some(attempt),
            _ => None,
        };
        let is_open = open.is_some() && open == attempt;
        let queued = |is_expired| Self::Queued { attempts: attempt.unwrap_or(0), is_expired };
        match (kind, self) {
            ("task.submitted", Self::Nowhere) => Some(Self::Queued { attempts: 0, is_expired: false }),
            ("task.ready", Self::Queued { .. }) => Some(self),
            // I6: the attempt before has ended, or it would not be queued.
            ("task.leased", Self::Queued { attempts, .. }) if attempt == Some(attempts + 1) => {
                Some(Self::Leased { attempt: attempts + 1 })
            }
            ("task.progress", Self::Leased { .. }) if is_open => Some(self),
            ("task.expired", Self::Leased { .. }) if is_open => Some(queued(true)),
            ("task.released", Self::Queued { .. }) if is_open => Some(self),
            ("task.released" | "task.attempt_failed", _) if is_open => Some(queued(false)),
            ("task.completed" | "task.failed", _) if is_open => Some(Self::Final),
            ("task.cancelled", Self::Queued { .. } | Self::Leased { .. }) | ("task.dead", Self::Queued { .. }) => {
                Some(Self::Final)
            }
            ("task.late_result", Self::Queued { .. } | Self::Leased { .. } | Self::Final) => Some(self),
            _ => None,
        }
    }
}

impl Call {
    /// Whether it submitted under this key and got an answer other than a refusal, or none.
    fn made(&self, of: &str) -> bool {
        matches!(&self.what, What::Submit { key, is_refused: false, .. } if key == of)
    }
}

#[derive(Default)]
struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, invariant: &str, about: impl std::fmt::Display, what: &str) {
        self.0.push(format!("{invariant}: {about}: {what}"));
    }
}
