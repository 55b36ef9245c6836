//! The bare program: the same three calls as the orchestrator (submit, lease, result), over the same paths and bodies,
//! with nothing in it but axum and one SQLite writer with `synchronous=FULL` and group commit.
//!
//! No keys, no leases that lapse, no retries, no events, no checks beyond what parsing needs. What it reaches on a machine
//! is what the orchestrator's figures are divided by. Each task costs three rows written: one at each step.
//!
//! | module | what it does |
//! |---|---|
//! | `writer` | the thread that owns the database: takes what waits, writes it in one transaction, answers after the fsync |
//! | `http` | the routes, and an echo that touches no store |
//! | `wire` | the few fields that are read and written |
#![forbid(unsafe_code)]

mod http;
mod wire;
mod writer;

pub use http::router;
pub use writer::{Commits, Writer};
