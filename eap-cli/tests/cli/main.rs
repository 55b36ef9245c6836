//! The built command, as people and scripts use it.

#[path = "../support/mod.rs"]
mod support;

mod agent_run;
mod agentkit;
mod agentkit_log;
mod agents;
mod batch;
mod completions;
mod dead;
mod demo;
mod events;
mod hints;
mod key;
mod platform;
#[cfg(feature = "postgres")]
mod postgres;
mod schema;
mod serve;
mod task;
mod watch;
mod workflow;
