#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod call;
mod chance;
mod delivery;
mod error;
mod faults;
mod http;
mod journal;
mod millis;
mod mock;
mod platform;
mod registry;
mod shared;
mod simulation;
mod webhooks;
mod work;

pub use builder::MockBuilder;
pub use error::{RegisterError, StartError, TimedOut};
pub use faults::{Faults, ReportFaults, RunFaults, WebhookFaults, WorkFaults};
pub use journal::{Answer, Attempt, Ending, ReceivedCall, SentCall, SentKind};
pub use mock::MockAgentKit;
pub use work::{Outcome, Work};
