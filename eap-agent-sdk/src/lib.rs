#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agent;
mod builder;
mod chance;
mod context;
mod driver;
mod error;
mod failure;
mod handler;
mod heart;
mod identity;
mod input;
mod leases;
mod outbox;
mod outbox_file;
mod output;
mod progress;
mod pull;
#[cfg(feature = "push")]
mod push;
mod registrar;
mod report;
mod running;
mod session;
mod shared;
#[cfg(feature = "websocket")]
mod socket;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod upload;

pub use agent::{Agent, AgentHandle, Status};
pub use builder::AgentBuilder;
pub use chance::{Clock, Entropy};
pub use context::{CancelReason, LeaseStatus, TaskContext};
pub use eap_client::{CallError, ClientError, HttpCall};
pub use eap_types as types;
pub use error::Error;
pub use failure::HandlerError;
pub use handler::{Handler, Output};
pub use input::Task;
#[cfg(feature = "push")]
pub use push::Push;
pub use report::{Refused, Report};
pub use schemars;
pub use tokio_util::sync::CancellationToken;
