//! The words of the External Agent Protocol (EAP) 1.0: payloads, ids, errors and JSON Schemas.
//!
//! An orchestrator hands tasks to agents that run elsewhere; this crate is what the two say to each
//! other, spelled once. It opens no socket, reads no clock and draws no random numbers: those are
//! arguments. Whoever receives a message gets it whole and checked, or every problem of it at once;
//! unknown fields are ignored, and `null` in an optional field means absent.
//!
//! # A first program
//!
//! An agent introduces itself, and an orchestrator reads what it says:
//!
//! ```
//! use eap_types::{Capabilities, DecodeError, Registration, capability, from_json};
//!
//! let offered = Capabilities::new([capability::CODE_REVIEW, "text.translate"])?;
//! let sent = serde_json::to_vec(&Registration::new("AGENT-TRANSLATOR".parse()?, offered))?;
//!
//! let read: Registration = from_json(&sent)?;
//! assert_eq!(read.name.as_str(), "AGENT-TRANSLATOR");
//!
//! // One answer names everything that is wrong.
//! let wrong = br#"{"name": "a/b", "capabilities": [], "max_concurrent_tasks": "five"}"#;
//! let Err(DecodeError::Invalid { problems }) = from_json::<Registration>(wrong) else {
//!     panic!("three fields are wrong")
//! };
//! assert_eq!(problems.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to find what
//!
//! Every type stands at the root of the crate; the constants stand in modules of their own.
//!
//! | subject | items |
//! |---|---|
//! | an agent joins and leaves | [`Registration`], [`Registered`], [`Features`], [`Deregister`] |
//! | its token is replaced | [`RotatedToken`], [`RotationAsked`] |
//! | it is asked to drain, or to beat at another interval | [`DrainAgent`], [`SetInterval`] |
//! | it says that it lives | [`Heartbeat`], [`HeartbeatReply`], [`Directive`] |
//! | it gets work | [`LeaseRequest`], [`LeaseReply`], [`Assignment`], [`ReleaseRequest`] |
//! | it reports | [`TaskResult`], [`Artifact`], [`ResultBatch`], [`IncomingResults`], [`ProgressReport`] |
//! | a host submits and reads | [`SubmitTask`], [`TaskView`], [`TaskHistory`], [`AgentView`], [`Health`], [`WellKnown`] |
//! | a chain of steps is run | [`WorkflowDefinition`], [`TriggerWorkflow`], [`RunWorkflow`], [`SessionView`] |
//! | keys and secrets | [`CreateKey`], [`KeyView`], [`CreateRegistrationSecret`], [`RegistrationLimits`] |
//! | names and ids | [`TaskId`], [`AgentId`], [`AgentName`], [`Capabilities`], [`Labels`], [`Timestamp`] |
//! | opaque and hidden values | [`RawJson`], [`JsonObject`], [`Secret`], [`ArtifactPath`] |
//! | reading a body | [`from_json`], [`Decode`], [`Fields`], [`DecodeError`] |
//! | what a key may do | [`Scope`], [`ScopePreset`] |
//! | every payload, its schema and examples | [`PayloadInfo`], [`Payload`], [`Components`] |
//! | errors on the wire | [`ProblemBody`], [`ErrorCode`], [`FieldProblem`] |
//! | a task's end is told elsewhere | [`Callback`], [`CallFailure`], signed by [`webhook`] |
//! | the same over a WebSocket | [`socket`] |
//! | an agent platform | [`agentkit`] |
//! | constants | [`capability`], [`header`], [`limits`], [`path`] |
//!
//! # Features
//!
//! | feature | default | effect |
//! |---|---|---|
//! | none | | the crate has no features: every message, and its JSON Schema, is always there |

#![forbid(unsafe_code)]

/// The README's program, compiled and run with the other doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod agent;
pub mod agentkit;
mod artifact;
mod artifact_path;
mod assignment;
mod callback;
mod canonical;
pub mod capability;
mod checked;
mod credential;
mod deregister;
mod digest;
mod directive;
mod endpoint;
mod entries;
mod error_code;
mod events;
mod fields;
mod figure;
mod findings;
pub mod header;
mod health;
mod heartbeat;
mod id;
mod json;
mod key;
mod labels;
pub mod limits;
mod macros;
mod name;
mod order;
pub mod path;
mod payload;
mod plain_words;
mod problem;
mod progress;
mod query;
mod rating;
mod read;
mod registered;
mod registration;
mod registration_secret;
mod report;
mod result;
mod rotation;
mod scan;
mod schema;
mod scope;
mod secret;
mod skill;
pub mod socket;
mod stored_artifact;
mod task;
mod task_schemas;
mod time;
mod traceparent;
pub mod webhook;
mod well_known;
mod work;
mod workflow;

pub use agent::{AgentDetail, AgentPage, AgentState, AgentView, HeldLease, PlatformStateView, PushView};
pub use artifact::{Artifact, ContentEncoding, EncodingError};
pub use artifact_path::ArtifactPath;
pub use assignment::Assignment;
pub use callback::{CallFailure, Callback, CallbackKind, PushStop};
pub use checked::IdError;
pub use credential::{CredentialName, CredentialState};
pub use deregister::{Deregister, Deregistered};
pub use digest::{ContentDigest, ContentHasher};
pub use directive::{CancelCause, Directive, DirectiveKind, HeartbeatReply, LeaseNote};
pub use error_code::ErrorCode;
pub use events::{EventQuery, EventsReset};
pub use fields::Fields;
pub use health::{Health, Readiness};
pub use heartbeat::{HealthStatus, Heartbeat, HeldTask, WorkLoop};
pub use id::{
    AgentId, CredentialId, DirectiveId, IdempotencyKey, InstanceId, LeaseId, RequestId, SessionId, TaskId, TenantId,
};
pub use json::{JsonError, JsonObject, RawJson};
pub use key::{CreateKey, CreatedKey, KeyPage, KeyView};
pub use labels::Labels;
pub use macros::UnknownWord;
pub use name::{AgentName, AgentType, NamePolicy, NameRefusal};
pub use order::{DrainAgent, DrainView, IntervalView, SetInterval};
pub use payload::{Payload, PayloadInfo, PayloadRole};
pub use problem::{FieldProblem, ProblemBody};
pub use progress::{ProgressReply, ProgressReport};
pub use query::{ArtifactQuery, PageQuery, WaitQuery};
pub use rating::{AgentTier, BreakerState, LoadBand, TrackRecordView};
pub use read::{Decode, DecodeError, from_json};
pub use registered::{Endpoints, Registered, WireLimits};
pub use registration::{Feature, Features, PROTOCOL_VERSION, Registration, TransportKind};
pub use registration_secret::{
    CreateRegistrationSecret, CreatedRegistrationSecret, NamePattern, RegistrationLimits, RegistrationSecretPage,
    RegistrationSecretView,
};
pub use report::{IncomingResults, ResultAccepted, ResultBatch, ResultOutcome, ResultsReply};
pub use result::{FailureCode, ResultStatus, TaskResult};
pub use rotation::{RotatedToken, RotationAsked};
pub use scan::json_depth;
pub use schema::{Components, QueryField};
pub use scope::{Scope, ScopePreset, Scopes};
pub use secret::Secret;
pub use skill::{Capabilities, Capability, TaskType};
pub use stored_artifact::StoredArtifact;
pub use task::{
    AttemptOutcome, AttemptView, CancelTask, Candidate, CandidateRefusal, EventView, IncomingTask, IncomingTasks,
    LateResult, Priority, PriorityError, ProgressView, RefusalCode, RoutingView, ScoreParts, SubmitBatch,
    SubmitBatchReply, SubmitOutcome, SubmitTask, SubmittedTask, TaskExplanation, TaskHistory, TaskPage, TaskQuery,
    TaskStatus, TaskView, Whereabouts,
};
pub use task_schemas::{PublishedSchema, TaskTypeView};
pub use time::{Timestamp, TimestampError};
pub use traceparent::Traceparent;
pub use well_known::{KnownCall, WellKnown};
pub use work::{LeaseReply, LeaseRequest, NextRequest, ReleaseRequest, Released};
pub use workflow::{
    CancelSession, RunWorkflow, SessionPage, SessionQuery, SessionState, SessionView, StepContext, StepId, StepState,
    StepView, TriggerWorkflow, WorkflowChoice, WorkflowDefinition, WorkflowId, WorkflowPage, WorkflowQuery,
    WorkflowStarted, WorkflowStep, WorkflowSummary,
};
