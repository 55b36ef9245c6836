//! Trying a handler without an orchestrator and without a network (feature `testing`).
//!
//! A [`TestTask`] is given to a handler as the agent would give it; the [`TestRun`] tells what the handler gave, what it
//! said about its progress, and what the agent would have reported. Timeouts, cancellations and panics come to the same
//! as in an agent, because the same code decides about them.
//!
//! Time is tokio's. [`TestTask::run_blocking`] brings a clock of its own, which jumps to the next thing that is waited
//! for, so that an hour passes in a millisecond; under [`TestTask::run`] it is the caller's, which
//! `#[tokio::test(start_paused = true)]` makes such a clock. A handler that talks to a real socket needs real time, and
//! so [`TestTask::run`] without that.
//!
//! ```
//! use std::time::Duration;
//! use eap_agent_sdk::{CancelReason, HandlerError, Task, TaskContext, testing::TestTask};
//!
//! async fn watch(_: Task<String>, ctx: TaskContext) -> Result<(), HandlerError> {
//!     ctx.progress(0.5, "watching").await;
//!     ctx.cancelled().await;
//!     Ok(())
//! }
//! let run = TestTask::new("watch").cancel_after(Duration::from_secs(3600), CancelReason::Shutdown).run_blocking(watch);
//! assert_eq!(run.took, Duration::from_secs(3600));
//! assert_eq!(run.progress[0].message, "watching");
//! ```

mod run;
mod task;

pub use run::{Progress, TestRun, Told};
pub use task::TestTask;

pub(crate) use run::Recorder;
