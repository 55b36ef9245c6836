//! The rules of the External Agent Protocol: what happens to agents and tasks, and nothing else.
//!
//! Given a record, an event and the time, this crate says what follows. It has no clock, no
//! randomness, no I/O and no async: time and chance are arguments, and the caller carries the decision
//! out. So the whole life of a task can be tested as a table and searched with random histories.
//!
//! ```
//! use std::time::Duration;
//! use eap_core::{Chance, Step, Task, TaskEvent, TaskPolicy};
//! # use eap_types::{LeaseId, Timestamp};
//! # fn demo(task: Task, agent: eap_types::AgentId) -> Result<(), eap_core::Refusal> {
//! let now = Timestamp::from_seconds(1_000_000);
//! let assign = TaskEvent::Assign {
//!     agent,
//!     epoch: 1,
//!     lease_id: LeaseId::v7(now, [7; 10]),
//!     request_id: None,
//!     length: Duration::from_secs(60),
//! };
//! if let Step::Changed(change) = task.apply(assign, now, &TaskPolicy::default())? {
//!     assert_eq!(change.state.attempts.len(), 1);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | what it decides |
//! |---|---|
//! | `task` | the task's life: [`Task::apply`], attempts, leases, retries, late and duplicate results; [`Task::requeue`], [`Task::discard`] |
//! | `workflow` | which workflows run at all: [`CheckedWorkflow::check`]; how a session goes from step to step: [`Session::start`], [`Session::apply`] |
//! | `agent` | the agent's life: [`Standing::after`], liveness from silence |
//! | `platform` | agents that a platform brought, and what their reports of state mean: [`OnPlatform`], [`meaning`] |
//! | `orders` | what operators ask of an agent, and what it is told of that: [`Orders`] |
//! | `credential` | whether an operator key or registration secret still opens anything: [`Credential::state`] |
//! | `routing` | which agent may take which task: [`RoutingKey`] |
//! | `schema` | which inputs an agent's JSON Schema accepts, within bounds: [`InputSchema`] |
//! | `callback` | when a callback is tried again, and when it is given up |
//! | `push` | what an answer to a push means for its attempt, and when an agent is no longer pushed to: [`PushPolicy::after`], [`PushHealth`] |
//! | `score` | which of several agents should have a task, and why one cannot: [`Rating`], [`Hindrance`], [`TrackRecord`] |
//! | `backoff` | growing delays with full jitter |
//! | `digest` | when two results are the same |
//! | `policy` | the limits all of it is decided under |
//! | [`seconds`] | durations in a configuration |
//!
#![doc = include_str!("../diagrams.md")]
#![forbid(unsafe_code)]

mod agent;
mod backoff;
mod callback;
mod credential;
mod digest;
mod orders;
mod platform;
mod policy;
mod push;
mod routing;
mod schema;
mod score;
pub mod seconds;
mod task;
mod workflow;

pub use agent::{Agent, AgentEvent, NoRotation, PreviousToken, RotationIntent, Standing, Vitals};
pub use backoff::{Chance, full_jitter};
pub use callback::{CallbackStep, DueCallback, Receipt};
pub use credential::{Credential, Grant, check_limits};
pub use digest::ResultDigest;
pub use orders::{DrainOrder, IntervalOrder, Orders};
pub use platform::{InFlight, Meaning, OnPlatform, Said, is_free, meaning};
pub use policy::{BreakerPolicy, CallbackPolicy, LivenessPolicy, PushPolicy, TaskPolicy};
pub use push::{Push, PushHealth, PushOutcome, PushStep, PushSuspension};
pub use routing::RoutingKey;
pub use schema::{InputSchema, InputVerdict, TaskInput};
pub use score::{
    Allowance, BreakerTurn, Conclusion, Hindrance, Rating, Score, TrackRecord, Verdict, load_band, room_for_work,
};
pub use task::{
    Attempt, AttemptOutcome, Changed, Disposal, EndOfLease, Lease, Note, NoteKind, Phase, Progress, Quote,
    RecordedResult, Refusal, Report, ReportKind, Requeue, Step, Stop, Task, TaskEvent, TaskSpec, TaskState,
};
pub use workflow::{
    CheckedWorkflow, Crew, NextTask, Session, SessionChange, SessionDecision, SessionEvent, SessionPhase,
    SessionRefusal, SessionRun, SessionSpec, StepOutcome, StepPhase, StepRun, TaskOrder, WorkflowProblem, attempts_for,
};

/// The README's program, compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
