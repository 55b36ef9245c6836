//! Workflows: chains of steps, each a task, and the sessions that run them (docs/protocol.md, section 6).
//!
//! Both faces speak these shapes: Ops-Core's calls under `/v1/opscore`, and `/api/v1/workflows` for agents of our own.

mod definition;
mod id;
mod orders;
mod session;
mod start;

pub use self::definition::{WorkflowDefinition, WorkflowPage, WorkflowStep, WorkflowSummary};
pub use self::id::{StepId, WorkflowId};
pub use self::orders::{CancelSession, WorkflowQuery};
pub use self::session::{SessionPage, SessionQuery, SessionState, SessionView, StepContext, StepState, StepView};
pub use self::start::{RunWorkflow, TriggerWorkflow, WorkflowChoice, WorkflowStarted};
