//! The session's life: which event leads where.
//!
//! [`Session::start`] and [`Session::apply`] are the whole of it. An event about a step counts while the task of that step is
//! the one outstanding; the same event once more, or one about an older step, changes nothing, so that whoever is not sure
//! whether it was applied applies it again.

use std::sync::Arc;

use eap_types::limits::MAX_RESULT_BYTES;
use eap_types::{AgentId, RawJson, SessionState, StepId, TaskId, Timestamp};

use super::order::task_for;
use super::{NextTask, Session, SessionEvent, SessionPhase, SessionRun, SessionSpec, StepOutcome, StepPhase, StepRun};
use crate::task::Task;

/// A workflow begins with the first step of its list.
const FIRST: usize = 0;

/// What follows from an event that was let through.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SessionDecision {
    /// The record changes; the caller commits all of this or none of it.
    Changed(Box<SessionChange>),
    /// Nothing to write.
    Unchanged,
}

impl SessionDecision {
    /// The change, if there is one.
    #[must_use]
    pub fn changed(self) -> Option<SessionChange> {
        match self {
            Self::Changed(change) => Some(*change),
            Self::Unchanged => None,
        }
    }
}

/// A change to a session: how far it is now, and what becomes of a task in the same commit.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionChange {
    /// How far it is now.
    pub run: SessionRun,
    /// What becomes of a task along with it, if anything does.
    pub order: Option<TaskOrder>,
}

/// What becomes of a task because its session went on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskOrder {
    /// The task of the next step, to be written.
    Create(Box<Task>),
    /// The task of the step that runs, to be cancelled as an operator would.
    Cancel {
        /// The task.
        task: TaskId,
        /// Why, for whoever holds it.
        reason: Option<String>,
    },
}

/// Why an event changes nothing, where its sender should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionRefusal {
    /// The session is over.
    #[error("the session is already {status}")]
    Final {
        /// How it ended.
        status: SessionState,
    },
}

impl Session {
    /// Starts a session: its record, and the task of its first step, to be written in one commit.
    #[must_use]
    pub fn start(spec: SessionSpec, next: &NextTask<'_>) -> (Self, Box<Task>) {
        let now = spec.created_at;
        let spec = Arc::new(spec);
        let task = task_for(&spec, FIRST, None, now, next).expect("a first step is handed nothing on");
        let run = SessionRun { phase: SessionPhase::Started, steps: vec![begun(FIRST, &task)], updated_at: now };
        (Self { spec, run }, Box::new(task))
    }

    /// What follows from `event` at `now`; the record itself is left alone. `next` is used if another step begins.
    ///
    /// The caller commits a [`SessionDecision::Changed`] against the revision it read this record at, together with its order and
    /// with the end of the task that the event tells of, and on a conflict reads and asks again.
    ///
    /// ```
    /// use eap_core::{NextTask, Session, SessionChange, SessionEvent, SessionRefusal, Task};
    /// use eap_types::{RawJson, Timestamp};
    ///
    /// /// What is written beside `task`, which has just come to its end with `output`, if it carries a step of `session`.
    /// fn beside(
    ///     session: &Session,
    ///     task: &Task,
    ///     output: Option<RawJson>,
    ///     now: Timestamp,
    ///     next: &NextTask<'_>,
    /// ) -> Result<Option<SessionChange>, SessionRefusal> {
    ///     match SessionEvent::of(task, output) {
    ///         Some(event) => Ok(session.apply(event, now, next)?.changed()),
    ///         None => Ok(None),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A [`SessionRefusal`] for what an operator asks of a session that is over. Events about steps are never refused: a task
    /// ends whatever became of its session.
    pub fn apply(
        &self,
        event: SessionEvent,
        now: Timestamp,
        next: &NextTask<'_>,
    ) -> Result<SessionDecision, SessionRefusal> {
        use SessionPhase::{Cancelled, Completed, Failed, Paused, Running, Started};
        let mut draft = Draft { session: self, run: self.run.clone(), now, next };
        let order = match (&self.run.phase, event) {
            (Started | Running | Paused { .. }, SessionEvent::StepTaken { task, agent, attempt })
                if self.is_open(task) && draft.open().attempts < attempt =>
            {
                draft.take(agent, attempt);
                None
            }
            (Started | Running | Paused { .. }, SessionEvent::StepOver { task, agent, attempts, outcome })
                if self.is_open(task) =>
            {
                draft.end_step(agent, attempts, outcome)
            }
            // Told again, or late: it was about a step before, or the session was over first.
            (_, SessionEvent::StepTaken { .. } | SessionEvent::StepOver { .. }) => {
                return Ok(SessionDecision::Unchanged);
            }

            (Started | Running, SessionEvent::Pause) => {
                draft.run.phase = Paused { since: now };
                None
            }
            (Paused { .. }, SessionEvent::Resume) => draft.resume(),
            (Started | Running | Paused { .. }, SessionEvent::Cancel { reason }) => draft.cancel(reason),
            (Paused { .. }, SessionEvent::Pause)
            | (Started | Running, SessionEvent::Resume)
            | (Cancelled { .. }, SessionEvent::Cancel { .. }) => return Ok(SessionDecision::Unchanged),

            (Completed { .. } | Failed { .. } | Cancelled { .. }, SessionEvent::Pause | SessionEvent::Resume)
            | (Completed { .. } | Failed { .. }, SessionEvent::Cancel { .. }) => {
                return Err(SessionRefusal::Final { status: self.status() });
            }
        };
        let run = SessionRun { updated_at: now, ..draft.run };
        Ok(SessionDecision::Changed(Box::new(SessionChange { run, order })))
    }

    fn is_open(&self, task: TaskId) -> bool {
        self.open_step().is_some_and(|step| step.task == task)
    }
}

/// The run being written.
struct Draft<'a> {
    session: &'a Session,
    run: SessionRun,
    now: Timestamp,
    next: &'a NextTask<'a>,
}

impl Draft<'_> {
    /// The step whose task is outstanding; asked for only where there is one.
    fn open(&mut self) -> &mut StepRun {
        self.run.steps.last_mut().expect("a session has a step from its start")
    }

    fn take(&mut self, agent: AgentId, attempt: u32) {
        let open = self.open();
        open.agent = Some(agent);
        open.attempts = attempt;
        if self.run.phase == SessionPhase::Started {
            self.run.phase = SessionPhase::Running;
        }
    }

    fn end_step(&mut self, agent: Option<AgentId>, attempts: u32, outcome: StepOutcome) -> Option<TaskOrder> {
        let (at, kept) = (self.now, self.kept_bytes());
        let is_paused = matches!(self.run.phase, SessionPhase::Paused { .. });
        let step = self.newest_id();
        let open = self.open();
        open.agent = agent.or_else(|| open.agent.take());
        open.attempts = open.attempts.max(attempts);
        match outcome {
            StepOutcome::Completed { result } if kept + result.as_str().len() > MAX_RESULT_BYTES => {
                let reason =
                    format!("its result does not fit: a session keeps at most {MAX_RESULT_BYTES} bytes of them");
                open.phase = StepPhase::Failed { at, reason: reason.clone() };
                self.fail(format!("step {step} failed: {reason}"))
            }
            StepOutcome::Completed { result } => {
                open.phase = StepPhase::Completed { at, result };
                // A pause holds back what is to begin; there is nothing to wait for after the last step.
                if is_paused && self.following().is_some() { None } else { self.go_on() }
            }
            StepOutcome::Failed { reason } => {
                let told = format!("step {step} failed: {reason}");
                open.phase = StepPhase::Failed { at, reason };
                self.fail(told)
            }
            StepOutcome::Cancelled { reason } => {
                open.phase = StepPhase::Cancelled { at };
                let told = match reason {
                    Some(reason) => format!("the task of step {step} was cancelled: {reason}"),
                    None => format!("the task of step {step} was cancelled"),
                };
                self.run.phase = SessionPhase::Cancelled { at, reason: Some(told) };
                None
            }
        }
    }

    /// Begins the step after the newest, which is done, or ends the session if that was the last.
    fn go_on(&mut self) -> Option<TaskOrder> {
        let Some(index) = self.following() else {
            self.run.phase = SessionPhase::Completed { at: self.now };
            return None;
        };
        let previous = self.run.steps.last().and_then(StepRun::result);
        match task_for(&self.session.spec, index, previous, self.now, self.next) {
            Ok(task) => {
                self.run.steps.push(begun(index, &task));
                self.run.phase = SessionPhase::Running;
                Some(TaskOrder::Create(Box::new(task)))
            }
            Err(reason) => {
                let step = &self.session.spec.workflow.step(index).task_id;
                self.fail(format!("step {step} could not begin: {reason}"))
            }
        }
    }

    fn resume(&mut self) -> Option<TaskOrder> {
        if self.session.open_step().is_none() {
            return self.go_on();
        }
        let is_under_way = self.run.steps.len() > 1 || self.open().agent.is_some();
        self.run.phase = if is_under_way { SessionPhase::Running } else { SessionPhase::Started };
        None
    }

    fn cancel(&mut self, reason: Option<String>) -> Option<TaskOrder> {
        let at = self.now;
        let task = self.session.open_step().map(|step| step.task);
        if task.is_some() {
            self.open().phase = StepPhase::Cancelled { at };
        }
        self.run.phase = SessionPhase::Cancelled { at, reason: reason.clone() };
        task.map(|task| TaskOrder::Cancel { task, reason })
    }

    fn fail(&mut self, reason: String) -> Option<TaskOrder> {
        self.run.phase = SessionPhase::Failed { at: self.now, reason };
        None
    }

    /// The place of the step after the newest.
    fn following(&self) -> Option<usize> {
        let newest = self.run.steps.last().expect("a session has a step from its start");
        self.session.spec.workflow.following(newest.index)
    }

    fn newest_id(&self) -> StepId {
        let newest = self.run.steps.last().expect("a session has a step from its start");
        self.session.spec.workflow.step(newest.index).task_id.clone()
    }

    /// How many bytes of results the record holds: it is written anew with each step.
    fn kept_bytes(&self) -> usize {
        self.run.steps.iter().filter_map(StepRun::result).map(|result: &RawJson| result.as_str().len()).sum()
    }
}

/// A step whose task was made just now.
fn begun(index: usize, task: &Task) -> StepRun {
    StepRun {
        index,
        task: task.id(),
        agent: None,
        attempts: 0,
        started_at: task.spec.created_at,
        phase: StepPhase::Open,
    }
}
