//! The built command, as people and scripts use it.

#[path = "../support/mod.rs"]
mod support;

mod agent_run;
mod demo;
mod key;
mod serve;
mod task;
