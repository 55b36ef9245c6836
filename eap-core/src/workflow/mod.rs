//! Workflows: which chains of steps are run at all, and how a session goes from one to the next.
//!
//! A session has at most one task outstanding. What ends that task, what the session becomes and the task of the next step
//! are one decision, to be written in one commit: a restart finds either none of it or all.

mod apply;
mod check;
mod event;
mod order;
mod record;
mod view;

pub use apply::{SessionChange, SessionDecision, SessionRefusal, TaskOrder};
pub use check::{CheckedWorkflow, Crew, WorkflowProblem};
pub use event::{SessionEvent, StepOutcome};
pub use order::{NextTask, attempts_for};
pub use record::{Session, SessionPhase, SessionRun, SessionSpec, StepPhase, StepRun};
