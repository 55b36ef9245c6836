//! The catalogue: every body and query of the protocol, with its JSON Schema and its examples.

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A body or query of the protocol: one of those in [`PayloadInfo::ALL`].
pub trait Payload: JsonSchema {
    /// What there is to know about it.
    const INFO: PayloadInfo;
}

/// Who writes a payload: its schema says what may be left out on this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadRole {
    /// Sent to an orchestrator, to a push agent or to an agent platform.
    Request,
    /// Sent back.
    Reply,
    /// The query of a GET request, as an object.
    Query,
}

impl PayloadRole {
    /// The role in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Reply => "reply",
            Self::Query => "query",
        }
    }
}

/// A payload as the catalogue has it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PayloadInfo {
    /// The name of its type, which is the title of its schema.
    pub name: &'static str,
    /// Who writes it.
    pub role: PayloadRole,
    /// Examples as (name of the fixture, JSON text); the first is the fullest.
    pub examples: &'static [(&'static str, &'static str)],
    /// Adds its schema to the generator's definitions and refers to it.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Lists the payloads: a line for each type, with the fixtures that show it.
macro_rules! payloads {
    ($($role:ident $name:ident $(in $module:ident)?: $($fixture:literal),+;)+) => {
        $(impl Payload for crate::$($module::)?$name {
            const INFO: PayloadInfo = PayloadInfo {
                name: stringify!($name),
                role: PayloadRole::$role,
                examples: &[$(($fixture, include_str!(concat!("../fixtures/", $fixture, ".json")))),+],
                schema: SchemaGenerator::subschema_for::<crate::$($module::)?$name>,
            };
        })+

        impl PayloadInfo {
            /// Every payload, by name.
            pub const ALL: &'static [Self] = &[$(<crate::$($module::)?$name>::INFO),+];
        }
    };
}

payloads! {
    Reply AgentDetail: "agent.reply";
    Request AgentNotification in agentkit: "agentkit_register.request", "agentkit_deregister.request";
    Reply AgentNotified in agentkit: "agentkit_notified_again.reply", "agentkit_notified.reply";
    Reply AgentPage: "agent_page.reply";
    Reply AgentStateHistory in agentkit: "agentkit_state_history.reply";
    Reply AgentStateView in agentkit: "agentkit_state.reply", "agentkit_state_unknown.reply";
    Query ArtifactQuery: "artifact.query";
    Request Assignment: "assignment.request", "adr001_assignment.request", "adr001_assignment.request.written";
    Request Callback: "callback.request";
    Request CancelSession: "cancel_session.request";
    Request CancelTask: "cancel.request";
    Request CreateKey: "create_key.request";
    Request CreateRegistrationSecret: "create_registration_secret.request";
    Reply CreatedKey: "created_key.reply";
    Reply CreatedRegistrationSecret: "created_registration_secret.reply";
    Request Deregister: "deregister.request";
    Reply Deregistered: "deregister.reply";
    Reply DetailBody in agentkit: "agentkit_detail.reply", "agentkit_detail_problems.reply";
    Request DrainAgent: "drain_agent.request";
    Query EventQuery: "events.query";
    Reply EventView: "event.reply";
    Reply EventsReset: "events_reset.reply";
    Reply Health: "health.reply";
    Request Heartbeat: "heartbeat.request", "adr001_heartbeat.request", "adr001_heartbeat.request.written";
    Reply HeartbeatReply: "heartbeat.reply";
    Reply KeyPage: "key_page.reply";
    Reply LeaseReply: "lease.reply";
    Request LeaseRequest: "lease.request";
    Request NextRequest: "next.request";
    Query PageQuery: "page.query";
    Reply PlatformReply in agentkit: "agentkit_platform.reply", "agentkit_platform_plain.reply";
    Reply ProblemBody: "problem.reply";
    Reply ProgressReply: "progress.reply";
    Request ProgressReport: "progress.request";
    Reply Readiness: "ready.reply", "not_ready.reply";
    Reply Registered: "registration.reply", "registration_older_peer.reply";
    Request Registration:
        "registration.request", "adr001_registration.request", "adr001_registration.request.written";
    Reply Reconciled in agentkit: "agentkit_reconciled.reply";
    Reply RegistrationSecretPage: "registration_secret_page.reply";
    Request ReleaseRequest: "release.request";
    Reply Released: "release.reply";
    Reply ResultAccepted: "result.reply";
    Request ResultBatch: "results.request";
    Reply ResultsReply: "results.reply";
    Reply RotatedToken: "rotated_token.reply";
    Reply RotationAsked: "rotation_asked.reply";
    Request RunMessage in agentkit: "agentkit_run.request";
    Request RunWorkflow: "run_workflow.request";
    Reply SessionPage: "session_page.reply";
    Query SessionQuery: "session.query";
    Reply SessionView: "session.reply", "session_started.reply";
    Request SetInterval: "set_interval.request";
    Reply StateAccepted in agentkit: "agentkit_state_accepted.reply";
    Query StateHistoryQuery in agentkit: "agentkit_state_history.query";
    Request StateReport in agentkit: "agentkit_state.request";
    Reply StoredArtifact: "stored_artifact.reply";
    Request SubmitBatch: "submit_batch.request";
    Reply SubmitBatchReply: "submit_batch.reply";
    Request SubmitTask: "submit.request", "submit_text.request";
    Reply TaskExplanation: "explain.reply";
    Reply TaskHistory: "history.reply";
    Reply TaskPage: "task_page.reply";
    Query TaskQuery: "task.query";
    Request TaskResult:
        "result.request", "result_failed.request", "adr001_result.request", "adr001_result.request.written";
    Reply TaskTypeView: "task_type.reply";
    Reply TaskView: "task.reply";
    Request TriggerWorkflow: "trigger_workflow.request", "trigger_stored_workflow.request";
    Query WaitQuery: "wait.query";
    Reply WellKnown: "well_known.reply";
    Request WorkflowDefinition: "workflow.request";
    Reply WorkflowPage: "workflow_page.reply";
    Query WorkflowQuery: "workflow.query";
    Reply WorkflowStarted: "workflow_started.reply";
    Reply WorkflowSummary: "workflow_kept.reply";
}
