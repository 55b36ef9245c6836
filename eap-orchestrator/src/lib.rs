//! An orchestrator for the External Agent Protocol, to embed in your program or to run as a server.
//!
//! It takes tasks, leases them to agents outside your process, and keeps what they report. It holds all the
//! state: an agent that crashes costs an attempt, never the task, and nothing that was acknowledged is lost.
//!
//! ```no_run
//! use eap_orchestrator::{Access, Orchestrator};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let orchestrator = Orchestrator::builder_in_memory().access(Access::Loopback).build()?;
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     orchestrator.serve(listener, std::future::pending()).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Map
//!
//! | module | what it does |
//! |---|---|
//! | [`store`] | the [`Repository`](store::Repository) contract, the memory, SQLite and PostgreSQL stores, the conformance suite |
//! | [`artifacts`] | where uploaded artifacts are kept: a folder beside the database, PostgreSQL, or memory |
//! | `orchestrator`, `builder`, `config` | what a host calls and sets |
//! | `schemas` | what agents take as input, compiled once for all who say the same |
//! | `lifecycle` | load, decide (in `eap-core`), commit, announce: the only writer |
//! | `matchmaker` | waiting agents meet ready tasks |
//! | `push` | tasks are brought to agents that serve |
//! | `sweeper` | lapsed leases, delayed starts, retention |
//! | `http`, `serve` | the API's routes; the accept loop with its limits |
//! | `courier` | callbacks, until they are taken or given up |
//! | `guard`, `outbound` | which endpoints the server calls, and the call itself |
//! | `auth` | keys, secrets, tokens, and when loopback may go without |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `sqlite` | yes | `store::SqliteStore`, durable storage in one file |
//! | `postgres` | no | `store::PostgresStore`, durable storage in a PostgreSQL database |
//! | `outbound` | yes | calls to `callback_url` and pushes to agents; without it a task that has one is refused, and so are agents that want pushes |
//! | `tls` | yes | TLS in [`Orchestrator::serve`] |
//! | `conformance` | no | `store::conformance`, the suite for authors of stores |
//! | `faulty` | no | `store::faulty`, a store that fails on purpose, for tests of what stands on one |
//! | `testing` | no | `testing::TestOrchestrator`, a whole orchestrator in a test, under a clock that the test moves |
#![forbid(unsafe_code)]

mod agentkit;
mod announce;
pub mod artifacts;
mod auth;
mod builder;
mod canary;
mod clock;
mod config;
mod courier;
mod directory;
mod error;
mod events;
mod guard;
mod http;
mod keys;
mod leases;
mod lifecycle;
mod maps;
mod matchmaker;
mod metrics;
mod orchestrator;
mod outbound;
mod push;
mod schemas;
mod serve;
mod socket;
pub mod store;
mod sweeper;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod workflows;

pub use auth::Operator;
pub use builder::Builder;
pub use clock::{Clock, Entropy, ManualClock, SystemClock, SystemEntropy};
pub use config::{
    Access, AgentKit, Callbacks, Capacity, Config, ConfigProblems, MIN_SECRET_BYTES, OperatorKey, RegistrationSecret,
    Retention, Timing, Tls,
};
pub use error::{Error, StartError};
pub use events::Events;
pub use guard::{AddressRange, EndpointPolicy, EndpointProfile, RangeError};
pub use lifecycle::{ListSessions, ListTasks};
pub use orchestrator::{Orchestrator, Running, ShutdownReport};
pub use outbound::{CallLimits, Configured, OutboundCall, OutboundError};
