//! Random histories: a chain of steps, agents that complete, fail, retry and repeat themselves, operators that pause, resume
//! and cancel, and messages that come late or twice.
//!
//! After each event an observer, which knows nothing of the rules but what is promised, looks at what changed. More
//! histories: `PROPTEST_CASES=20000`.

use std::collections::BTreeMap;

use super::*;
use eap_core::{SessionDecision, SessionPhase, StepPhase, TaskOrder};
use eap_types::SessionState;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Op {
    /// An agent takes the outstanding task, as its next attempt.
    Take,
    Complete(u8),
    Fail,
    /// Somebody cancels the outstanding task by itself.
    Stop,
    Pause,
    Resume,
    Cancel,
    /// What was told of a task before is told again, as it was.
    Repeat(prop::sample::Index),
    /// The orchestrator was killed: all that is left is what it wrote.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Take),
        6 => any::<u8>().prop_map(Op::Complete),
        1 => Just(Op::Fail),
        1 => Just(Op::Stop),
        2 => Just(Op::Pause),
        3 => Just(Op::Resume),
        1 => Just(Op::Cancel),
        4 => any::<prop::sample::Index>().prop_map(Op::Repeat),
        1 => Just(Op::Restart),
    ]
}

/// Steps that form one chain, listed in any order but for the first.
fn any_chain() -> impl Strategy<Value = WorkflowDefinition> {
    (1_usize..=6).prop_flat_map(|count| {
        let rest: Vec<usize> = (1..count).collect();
        Just(rest).prop_shuffle().prop_map(move |rest| {
            let ids: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let steps = chain(&ids).tasks;
            workflow(std::iter::once(0).chain(rest).map(|index| steps[index].clone()))
        })
    })
}

/// Which state may follow which.
fn is_legal(from: SessionState, to: SessionState) -> bool {
    use SessionState::{Paused, Running, Started};
    match from {
        Started => true,
        Running | Paused if to == Started => from == Paused,
        Running | Paused => true,
        _ => from == to,
    }
}

/// What the world has seen of a session.
struct Observer {
    /// Tasks that were made, in order, with the input that each got.
    made: Vec<(TaskId, String)>,
    /// The task that was made and is not over.
    outstanding: Option<TaskId>,
    /// The results that agents got to report of the outstanding task.
    results: Vec<(TaskId, RawJson)>,
    steps: usize,
}

impl Observer {
    /// Holds what the session says against what was seen.
    fn look(&self, before: &Session, after: &Session) -> Result<(), TestCaseError> {
        let (from, to) = (before.status(), after.status());
        prop_assert!(is_legal(from, to), "{from} -> {to}");
        if before.run.phase.is_final() {
            prop_assert_eq!(&before.run, &after.run, "a final session does not change");
        }
        // One step for each task that was made, in their order, and each result once, as it was reported.
        let steps = &after.run.steps;
        let tasks: Vec<TaskId> = steps.iter().map(|step| step.task).collect();
        prop_assert_eq!(&tasks, &self.made.iter().map(|(task, _)| *task).collect::<Vec<_>>());
        let recorded: Vec<(TaskId, RawJson)> =
            steps.iter().filter_map(|step| Some((step.task, step.result()?.clone()))).collect();
        prop_assert_eq!(&recorded, &self.results, "each result is recorded once");
        // The steps are those of the chain, from its beginning.
        for (index, step) in steps.iter().enumerate() {
            let id = &after.spec.workflow.tasks[step.index].task_id;
            prop_assert_eq!(id.as_str(), format!("t{index}"));
            prop_assert!(step.started_at <= step.ended_at().unwrap_or(after.run.updated_at));
        }
        // At most one task is outstanding, and the session knows which.
        let open: Vec<TaskId> =
            steps.iter().filter(|step| step.phase == StepPhase::Open).map(|step| step.task).collect();
        prop_assert_eq!(&open, &self.outstanding.into_iter().collect::<Vec<_>>());
        // Completed if and only if every step is.
        prop_assert_eq!(to == SessionState::Completed, self.results.len() == self.steps);
        if to.is_final() {
            prop_assert!(self.outstanding.is_none(), "nothing runs once it is over");
            prop_assert_eq!(after.run.phase.ended_at(), Some(after.run.updated_at));
        } else if to != SessionState::Paused {
            prop_assert!(self.outstanding.is_some(), "it does not stand still");
        }
        Ok(())
    }
}

/// A session among those who carry its decisions out.
struct World {
    session: Session,
    observer: Observer,
    told: Vec<SessionEvent>,
    attempts: BTreeMap<TaskId, u32>,
    clock: u64,
    drawn: u8,
}

impl World {
    fn of(workflow: WorkflowDefinition) -> Self {
        let steps = workflow.tasks.len();
        let (session, task) = started(workflow);
        let made = vec![(task.id(), task.spec.input.clone())];
        let observer = Observer { made, outstanding: Some(task.id()), results: Vec::new(), steps };
        Self { session, observer, told: Vec::new(), attempts: BTreeMap::new(), clock: 0, drawn: 1 }
    }

    /// Applies an event as the orchestrator would; a repeat of what was told must change nothing.
    fn apply(&mut self, event: SessionEvent, is_repeat: bool) -> Result<(), TestCaseError> {
        self.clock += 1;
        self.drawn += 1;
        let (now, fresh) = (at(self.clock), next(self.drawn));
        let before = self.session.clone();
        let answer = before.apply(event.clone(), now, &fresh);
        prop_assert_eq!(&answer, &before.apply(event.clone(), now, &fresh), "one question, one answer");
        let change = answer.ok().and_then(SessionDecision::changed);
        if is_repeat {
            prop_assert_eq!(&change, &None, "what was told before changes nothing");
        }
        let Some(change) = change else { return Ok(()) };
        if let SessionEvent::StepOver { task, outcome, .. } = &event {
            prop_assert_eq!(self.observer.outstanding, Some(*task), "only the outstanding task moves it");
            self.observer.outstanding = None;
            if let StepOutcome::Completed { result } = outcome {
                self.observer.results.push((*task, result.clone()));
            }
        }
        match change.order {
            None => {}
            Some(TaskOrder::Create(task)) => {
                prop_assert_eq!(self.observer.outstanding, None, "one task at a time");
                prop_assert!(self.observer.made.iter().all(|(other, _)| *other != task.id()));
                let expected =
                    format!(r#"{{"previous":{}}}"#, self.observer.results.last().expect("a result").1.as_str());
                prop_assert_eq!(&task.spec.input, &expected, "it is given what came out before");
                self.observer.outstanding = Some(task.id());
                self.observer.made.push((task.id(), task.spec.input.clone()));
            }
            Some(TaskOrder::Cancel { task, .. }) => {
                prop_assert_eq!(self.observer.outstanding, Some(task), "what is cancelled runs");
                self.observer.outstanding = None;
            }
            Some(other) => panic!("an unknown order: {other:?}"),
        }
        self.session.run = change.run;
        self.observer.look(&before, &self.session)?;
        // Twice is once: whoever was cut off before it had an answer asks again.
        let again = self.session.apply(event, now, &next(255));
        prop_assert!(!matches!(again, Ok(SessionDecision::Changed(_))), "applied twice: {:?}", again);
        Ok(())
    }

    fn tell(&mut self, event: SessionEvent) -> Result<(), TestCaseError> {
        self.told.push(event.clone());
        self.apply(event, false)
    }

    fn go(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let outstanding = self.observer.outstanding;
        let attempts = outstanding.and_then(|task| self.attempts.get(&task).copied()).unwrap_or_default();
        let over = |task, outcome| {
            let who = (attempts > 0).then(|| agent(common::ALPHA));
            SessionEvent::StepOver { task, agent: who, attempts, outcome }
        };
        match (op, outstanding) {
            (Op::Take, Some(task)) => {
                self.attempts.insert(task, attempts + 1);
                self.tell(SessionEvent::StepTaken { task, agent: agent(common::ALPHA), attempt: attempts + 1 })
            }
            (Op::Complete(word), Some(task)) => {
                self.tell(over(task, StepOutcome::Completed { result: json(&format!(r#"{{"word":{word}}}"#)) }))
            }
            (Op::Fail, Some(task)) => self.tell(over(task, StepOutcome::Failed { reason: "no".to_owned() })),
            (Op::Stop, Some(task)) => self.tell(over(task, StepOutcome::Cancelled { reason: None })),
            (Op::Take | Op::Complete(_) | Op::Fail | Op::Stop, None) => Ok(()),
            (Op::Pause, _) => self.apply(SessionEvent::Pause, false),
            (Op::Resume, _) => self.apply(SessionEvent::Resume, false),
            (Op::Cancel, _) => self.apply(cancel(), false),
            (Op::Repeat(which), _) if !self.told.is_empty() => {
                let event = which.get(&self.told).clone();
                self.apply(event, true)
            }
            (Op::Repeat(_), _) => Ok(()),
            (Op::Restart, _) => {
                let spec = serde_json::to_string(&*self.session.spec).expect("it can be written");
                let run = serde_json::to_string(&self.session.run).expect("it can be written");
                let spec = serde_json::from_str(&spec).expect("it is read");
                self.session =
                    Session { spec: std::sync::Arc::new(spec), run: serde_json::from_str(&run).expect("it is read") };
                Ok(())
            }
        }
    }
}

proptest! {
    #[test]
    fn no_history_breaks_a_promise(workflow in any_chain(), ops in prop::collection::vec(op(), 0..60)) {
        let mut world = World::of(workflow);
        let fresh = world.session.clone();
        world.observer.look(&fresh, &fresh)?;
        for op in &ops {
            world.go(op)?;
        }
        // Left alone, whatever is not over yet is done.
        world.apply(SessionEvent::Resume, false)?;
        for _ in 0..world.observer.steps {
            world.go(&Op::Complete(0))?;
        }
        prop_assert!(world.session.run.phase.is_final());
        let is_done = matches!(world.session.run.phase, SessionPhase::Completed { .. });
        prop_assert_eq!(is_done, world.session.result().is_some());
    }
}
