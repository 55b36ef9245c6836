//! The table of all calls: the router and `/openapi.json` are both made from it, so neither can lack a row.

use eap_types::agentkit::{
    AgentNotification, AgentNotified, AgentStateHistory, AgentStateView, Reconciled, StateAccepted, StateHistoryQuery,
    StateReport,
};
use eap_types::{
    AgentDetail, AgentPage, ArtifactQuery, Assignment, CancelSession, CancelTask, CreateKey, CreateRegistrationSecret,
    CreatedKey, CreatedRegistrationSecret, Deregister, Deregistered, DrainAgent, ErrorCode, EventQuery, Health,
    Heartbeat, HeartbeatReply, KeyPage, LeaseReply, LeaseRequest, NextRequest, PageQuery, ProgressReply,
    ProgressReport, Readiness, Registered, Registration, RegistrationSecretPage, ReleaseRequest, Released,
    ResultAccepted, ResultBatch, ResultsReply, RotatedToken, RotationAsked, RunWorkflow, Scope, SessionPage,
    SessionQuery, SessionView, SetInterval, StoredArtifact, SubmitBatch, SubmitBatchReply, SubmitTask, TaskExplanation,
    TaskHistory, TaskPage, TaskQuery, TaskResult, TaskTypeView, TaskView, TriggerWorkflow, WaitQuery, WellKnown,
    WorkflowDefinition, WorkflowPage, WorkflowQuery, WorkflowStarted, WorkflowSummary, header, path,
};
use http::{Method, StatusCode};

use super::route::{Caller, RequestHeader, Route, Tag, describe};
use super::{
    agents, artifacts, dead_letters, events, health, heartbeat, keys, metrics, register, reports, service, tasks,
    uploads, work, workflows,
};
use crate::agentkit;
use crate::metrics::CONTENT_TYPE;
use crate::socket;

/// Every call of this version.
pub(crate) fn routes() -> Vec<Route> {
    [
        agent_side(),
        of_tasks(),
        of_letters_and_events(),
        of_workflows(),
        of_agents(),
        of_agentkit(),
        of_keys(),
        of_the_service(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn agent_side() -> Vec<Route> {
    let of_a_task = [ErrorCode::TaskNotFound, ErrorCode::LeaseLost, ErrorCode::TaskFinal];
    vec![
        describe("register_agent", Tag::AgentSide, "An agent joins, or comes back under its identity.")
            .registration(Method::POST, path::REGISTER, register::register)
            .hears(RequestHeader::IdempotencyKey)
            .takes::<Registration>()
            .gives::<Registered>(StatusCode::CREATED)
            .refuses(&[ErrorCode::UnsupportedVersion, ErrorCode::IdempotencyConflict])
            // OpenCode's rule for names is answered as OpenCode does.
            .refuses_as(StatusCode::BAD_REQUEST, ErrorCode::ValidationError),
        describe("remove_agent", Tag::AgentSide, "An agent leaves; its leases are handed back.")
            .agent(Method::DELETE, path::AGENT, register::remove)
            .gives_nothing(StatusCode::NO_CONTENT),
        describe("deregister_agent", Tag::AgentSide, "An agent leaves and says why; its leases are handed back.")
            .agent(Method::POST, path::DEREGISTER, register::deregister)
            .may_take::<Deregister>()
            .gives::<Deregistered>(StatusCode::OK),
        describe("rotate_token", Tag::AgentSide, "An agent gets a new token; the one before works on for a while.")
            .agent(Method::POST, path::TOKEN_ROTATE, register::rotate)
            .gives::<RotatedToken>(StatusCode::OK)
            .refuses(&[ErrorCode::Forbidden]),
        describe("heartbeat", Tag::AgentSide, "An agent says that it lives, and keeps its leases.")
            .agent(Method::POST, path::HEARTBEAT, heartbeat::beat)
            .takes::<Heartbeat>()
            .gives::<HeartbeatReply>(StatusCode::OK)
            .gives_nothing(StatusCode::NO_CONTENT),
        describe("lease_tasks", Tag::AgentSide, "Asks for tasks and waits for them; a repeat gets the same tasks.")
            .agent(Method::POST, path::LEASE, work::lease)
            .takes::<LeaseRequest>()
            .gives::<LeaseReply>(StatusCode::OK)
            .gives_nothing(StatusCode::NO_CONTENT)
            .refuses(&[ErrorCode::RateLimited]),
        describe("next_task", Tag::AgentSide, "Asks for one task; the form for curl.")
            .agent(Method::POST, path::NEXT, work::next)
            .may_take::<NextRequest>()
            .gives::<Assignment>(StatusCode::OK)
            .gives_nothing(StatusCode::NO_CONTENT)
            .refuses(&[ErrorCode::RateLimited]),
        describe("report_result", Tag::AgentSide, "Reports how an attempt ended; a repeat gets the first answer.")
            .agent(Method::POST, path::RESULT, reports::result)
            .takes::<TaskResult>()
            .gives::<ResultAccepted>(StatusCode::OK)
            .refuses(&of_a_task)
            .refuses(&[ErrorCode::ResultConflict]),
        describe("report_results", Tag::AgentSide, "Reports several results; each gets its own answer, in order.")
            .agent(Method::POST, path::RESULTS, reports::results)
            .takes::<ResultBatch>()
            .gives::<ResultsReply>(StatusCode::OK),
        describe("report_progress", Tag::AgentSide, "Says how far an attempt is, and renews its lease.")
            .agent(Method::POST, path::PROGRESS, reports::progress)
            .takes::<ProgressReport>()
            .gives::<ProgressReply>(StatusCode::OK)
            .refuses(&of_a_task),
        describe("upload_artifact", Tag::AgentSide, "Sends an artifact too large for a result, whole or in parts.")
            .agent(Method::PUT, path::ARTIFACT, uploads::upload)
            .hears(RequestHeader::ReprDigest)
            .hears(RequestHeader::ContentDigest)
            .hears(RequestHeader::ContentRange)
            .asks::<ArtifactQuery>()
            .takes_bytes()
            .gives::<StoredArtifact>(StatusCode::CREATED)
            .gives::<StoredArtifact>(StatusCode::ACCEPTED)
            .refuses(&of_a_task)
            .refuses(&[
                ErrorCode::NotFound,
                ErrorCode::UploadOffset,
                ErrorCode::DigestMismatch,
                ErrorCode::RateLimited,
            ]),
        describe("get_upload", Tag::AgentSide, "Asks how much of an artifact arrived.")
            .agent(Method::HEAD, path::ARTIFACT, uploads::progress)
            .hears(RequestHeader::ReprDigest)
            .asks::<ArtifactQuery>()
            .gives_nothing(StatusCode::NO_CONTENT)
            .refuses(&of_a_task)
            .refuses(&[ErrorCode::NotFound]),
        describe("release_task", Tag::AgentSide, "Hands a task back to the queue.")
            .agent(Method::POST, path::RELEASE, reports::release)
            .may_take::<ReleaseRequest>()
            .gives::<Released>(StatusCode::OK)
            .refuses(&of_a_task),
        describe(
            "open_socket",
            Tag::AgentSide,
            "An agent opens its WebSocket: tasks come, and frames that are calls go.",
        )
        .agent(Method::GET, path::SOCKET, socket::open)
        .gives_nothing(StatusCode::SWITCHING_PROTOCOLS)
        .refuses(&[ErrorCode::UpgradeRequired]),
    ]
}

fn of_tasks() -> Vec<Route> {
    vec![
        describe("submit_task", Tag::Tasks, "Takes a task in; once it answers, the task is kept.")
            .operator(Method::POST, path::TASKS, Scope::TasksSubmit, tasks::submit)
            .hears(RequestHeader::IdempotencyKey)
            .hears(RequestHeader::Traceparent)
            .takes::<SubmitTask>()
            .gives::<TaskView>(StatusCode::CREATED)
            .refuses(&[ErrorCode::IdempotencyConflict]),
        describe("submit_tasks", Tag::Tasks, "Takes several tasks in; each gets its own answer, in order.")
            .operator(Method::POST, path::TASKS_BATCH, Scope::TasksSubmit, tasks::submit_batch)
            .hears(RequestHeader::IdempotencyKey)
            .hears(RequestHeader::Traceparent)
            .takes::<SubmitBatch>()
            .gives::<SubmitBatchReply>(StatusCode::OK)
            .refuses(&[ErrorCode::IdempotencyConflict]),
        describe("get_task_type", Tag::Tasks, "What the agents that do tasks of one type take as input.")
            .operator(Method::GET, path::TASK_TYPE, Scope::TasksSubmit, tasks::of_type)
            .gives::<TaskTypeView>(StatusCode::OK)
            .refuses(&[ErrorCode::NotFound]),
        describe("list_tasks", Tag::Tasks, "A page of tasks, newest first, without their results.")
            .operator(Method::GET, path::TASKS, Scope::TasksRead, tasks::list)
            .asks::<TaskQuery>()
            .gives::<TaskPage>(StatusCode::OK),
        describe("get_task", Tag::Tasks, "One task as it stands, or once it is final if the caller waits.")
            .operator(Method::GET, path::TASK, Scope::TasksRead, tasks::get)
            .asks::<WaitQuery>()
            .gives::<TaskView>(StatusCode::OK)
            .refuses(&[ErrorCode::TaskNotFound]),
        describe("cancel_task", Tag::Tasks, "Ends a task for good; its holder is told on its next channel.")
            .operator(Method::POST, path::TASK_CANCEL, Scope::TasksCancel, tasks::cancel)
            .may_take::<CancelTask>()
            .gives::<TaskView>(StatusCode::OK)
            .refuses(&[ErrorCode::TaskNotFound, ErrorCode::TaskFinal]),
        describe("get_task_history", Tag::Tasks, "The attempts, late results and events of a task.")
            .operator(Method::GET, path::TASK_HISTORY, Scope::TasksRead, tasks::history)
            .gives::<TaskHistory>(StatusCode::OK)
            .refuses(&[ErrorCode::TaskNotFound]),
        describe("get_artifact", Tag::Tasks, "A file that the result of a task has, as a download.")
            .operator(Method::GET, path::TASK_ARTIFACT, Scope::ResultsRead, artifacts::download)
            .hears(RequestHeader::Range)
            .hears(RequestHeader::IfRange)
            .hears(RequestHeader::IfNoneMatch)
            .gives_other(StatusCode::OK, header::OCTET_STREAM, || serde_json::json!({}))
            .gives_other(StatusCode::PARTIAL_CONTENT, header::OCTET_STREAM, || serde_json::json!({}))
            .gives_nothing(StatusCode::NOT_MODIFIED)
            .refuses(&[ErrorCode::TaskNotFound, ErrorCode::NotFound, ErrorCode::RangeNotSatisfiable]),
        describe(
            "explain_task",
            Tag::Tasks,
            "Why a task is where it is: who could take it, how well it suits, why not.",
        )
        .operator(Method::GET, path::TASK_EXPLAIN, Scope::TasksRead, tasks::explain)
        .gives::<TaskExplanation>(StatusCode::OK)
        .refuses(&[ErrorCode::TaskNotFound]),
    ]
}

fn of_letters_and_events() -> Vec<Route> {
    let of_a_letter = [ErrorCode::TaskNotFound, ErrorCode::NotADeadLetter];
    vec![
        describe("list_dead_letters", Tag::Tasks, "A page of tasks that failed for good or died, newest first.")
            .operator(Method::GET, path::DEAD_LETTERS, Scope::TasksRead, dead_letters::list)
            .asks::<TaskQuery>()
            .gives::<TaskPage>(StatusCode::OK),
        describe("requeue_dead_letter", Tag::Tasks, "Does a dead letter again, by a new task; a repeat gets the same.")
            .operator(Method::POST, path::DEAD_LETTER_REQUEUE, Scope::TasksSubmit, dead_letters::requeue)
            .gives::<TaskView>(StatusCode::CREATED)
            .gives::<TaskView>(StatusCode::OK)
            .refuses(&of_a_letter),
        describe("discard_dead_letter", Tag::Tasks, "Takes a dead letter off the list; the task stays readable.")
            .operator(Method::POST, path::DEAD_LETTER_DISCARD, Scope::TasksSubmit, dead_letters::discard)
            .gives_nothing(StatusCode::NO_CONTENT)
            .refuses(&of_a_letter),
        describe("watch_events", Tag::Tasks, "What happens, as Server-Sent Events; goes on where a watcher left off.")
            .operator(Method::GET, path::EVENTS, Scope::TasksRead, events::stream)
            .hears(RequestHeader::LastEventId)
            .asks::<EventQuery>()
            .gives_text(StatusCode::OK, header::EVENT_STREAM),
    ]
}

fn of_workflows() -> Vec<Route> {
    let of_a_session = [ErrorCode::NotFound, ErrorCode::SessionFinal];
    vec![
        describe(
            "keep_workflow",
            Tag::Workflows,
            "Keeps a version of a workflow, for ever; the same again is no error.",
        )
        .operator(Method::POST, path::WORKFLOWS, Scope::TasksSubmit, workflows::keep)
        .takes::<WorkflowDefinition>()
        .gives::<WorkflowSummary>(StatusCode::CREATED)
        .gives::<WorkflowSummary>(StatusCode::OK)
        .refuses(&[ErrorCode::WorkflowExists]),
        describe("list_workflows", Tag::Workflows, "A page of workflows, those that were kept last first.")
            .operator(Method::GET, path::WORKFLOWS, Scope::TasksRead, workflows::list)
            .asks::<PageQuery>()
            .gives::<WorkflowPage>(StatusCode::OK),
        describe("get_workflow", Tag::Workflows, "One workflow with its steps, in the version that was kept last.")
            .operator(Method::GET, path::WORKFLOW, Scope::TasksRead, workflows::get)
            .asks::<WorkflowQuery>()
            .gives::<WorkflowDefinition>(StatusCode::OK)
            .refuses(&[ErrorCode::NotFound]),
        describe("run_workflow", Tag::Workflows, "Starts a workflow; once it answers, the session is kept.")
            .operator(Method::POST, path::WORKFLOW_RUNS, Scope::TasksSubmit, workflows::run)
            .hears(RequestHeader::IdempotencyKey)
            .hears(RequestHeader::Traceparent)
            .may_take::<RunWorkflow>()
            .gives::<WorkflowStarted>(StatusCode::ACCEPTED)
            .refuses(&[ErrorCode::NotFound, ErrorCode::AgentNotFound, ErrorCode::IdempotencyConflict]),
        describe("list_sessions", Tag::Workflows, "A page of sessions, newest first, without results and steps.")
            .operator(Method::GET, path::SESSIONS, Scope::TasksRead, workflows::sessions)
            .asks::<SessionQuery>()
            .gives::<SessionPage>(StatusCode::OK),
        describe("get_session", Tag::Workflows, "One session as it stands, or once it is over if the caller waits.")
            .operator(Method::GET, path::SESSION, Scope::TasksRead, workflows::session)
            .asks::<WaitQuery>()
            .gives::<SessionView>(StatusCode::OK)
            .refuses(&[ErrorCode::NotFound]),
        describe(
            "pause_session",
            Tag::Workflows,
            "No further step begins; the one whose turn it is goes on to its end.",
        )
        .operator(Method::POST, path::SESSION_PAUSE, Scope::TasksSubmit, workflows::pause)
        .gives::<SessionView>(StatusCode::OK)
        .refuses(&of_a_session),
        describe("resume_session", Tag::Workflows, "A paused session goes on where it was.")
            .operator(Method::POST, path::SESSION_RESUME, Scope::TasksSubmit, workflows::resume)
            .gives::<SessionView>(StatusCode::OK)
            .refuses(&of_a_session),
        describe("cancel_session", Tag::Workflows, "Ends a session, and the task of the step that runs.")
            .operator(Method::POST, path::SESSION_CANCEL, Scope::TasksCancel, workflows::cancel)
            .may_take::<CancelSession>()
            .gives::<SessionView>(StatusCode::OK)
            .refuses(&of_a_session),
    ]
}

fn of_agents() -> Vec<Route> {
    vec![
        describe("list_agents", Tag::Agents, "A page of agents, newest first.")
            .operator(Method::GET, path::AGENTS, Scope::AgentsRead, agents::list)
            .asks::<PageQuery>()
            .gives::<AgentPage>(StatusCode::OK),
        describe("get_agent", Tag::Agents, "One agent with its liveness, load and leases.")
            .operator(Method::GET, path::AGENT_DETAIL, Scope::AgentsRead, agents::get)
            .gives::<AgentDetail>(StatusCode::OK)
            .refuses(&[ErrorCode::AgentNotFound]),
        describe("ask_for_rotation", Tag::Agents, "Asks an agent to get a new token, until it has one.")
            .operator(Method::POST, path::AGENT_ROTATE, Scope::AgentsAdmin, agents::rotate_token)
            .gives::<RotationAsked>(StatusCode::OK)
            .refuses(&[ErrorCode::AgentNotFound, ErrorCode::ValidationError]),
        describe("drain_agent", Tag::Agents, "An agent gets no more work until it is resumed; it keeps what it holds.")
            .operator(Method::POST, path::AGENT_DRAIN, Scope::AgentsAdmin, agents::drain)
            .may_take::<DrainAgent>()
            .gives::<AgentDetail>(StatusCode::OK)
            .refuses(&[ErrorCode::AgentNotFound]),
        describe("resume_agent", Tag::Agents, "A drained agent gets work again.")
            .operator(Method::POST, path::AGENT_RESUME, Scope::AgentsAdmin, agents::resume)
            .gives::<AgentDetail>(StatusCode::OK)
            .refuses(&[ErrorCode::AgentNotFound]),
        describe("set_agent_interval", Tag::Agents, "An agent is asked to send heartbeats at another interval.")
            .operator(Method::PUT, path::AGENT_INTERVAL, Scope::AgentsAdmin, agents::set_interval)
            .takes::<SetInterval>()
            .gives::<AgentDetail>(StatusCode::OK)
            .refuses(&[ErrorCode::AgentNotFound]),
    ]
}

/// The face of an agent platform, which has its own kind of refusal.
fn of_agentkit() -> Vec<Route> {
    use agentkit::{history, notify, report, session, sessions, show, trigger};
    vec![
        describe("agentkit_notify", Tag::AgentKit, "An agent platform says that an agent came or went.")
            .agentkit(Method::POST, path::AGENTKIT_NOTIFY, Caller::Platform, notify)
            .hears(RequestHeader::AgentKitTimestamp)
            .takes::<AgentNotification>()
            .gives::<AgentNotified>(StatusCode::OK)
            .refuses_in_detail(&[400, 401, 403, 404, 413, 415, 422, 503]),
        describe("agentkit_report_state", Tag::AgentKit, "How an agent of the platform says it is.")
            .agentkit(Method::POST, path::AGENTKIT_STATE, Caller::Reporter(Scope::AgentsReport), report)
            .takes::<StateReport>()
            .gives::<StateAccepted>(StatusCode::ACCEPTED)
            .refuses_in_detail(&[400, 401, 403, 404, 413, 415, 422, 503]),
        describe("agentkit_get_state", Tag::AgentKit, "How an agent of the platform is.")
            .agentkit(Method::GET, path::AGENTKIT_STATE, Caller::Reporter(Scope::AgentsRead), show)
            .gives::<AgentStateView>(StatusCode::OK)
            .refuses_in_detail(&[401, 403, 404, 503]),
        describe("agentkit_get_state_history", Tag::AgentKit, "What an agent of the platform said, the newest first.")
            .agentkit(Method::GET, path::AGENTKIT_STATE_HISTORY, Caller::Reporter(Scope::AgentsRead), history)
            .asks::<StateHistoryQuery>()
            .gives::<AgentStateHistory>(StatusCode::OK)
            .refuses_in_detail(&[401, 403, 404, 422, 503]),
        describe("agentkit_trigger_workflow", Tag::AgentKit, "Starts a workflow for an agent.")
            .agentkit(Method::POST, path::AGENTKIT_WORKFLOW, Caller::Reporter(Scope::TasksSubmit), trigger)
            .hears(RequestHeader::IdempotencyKey)
            .hears(RequestHeader::Traceparent)
            .takes::<TriggerWorkflow>()
            .gives::<WorkflowStarted>(StatusCode::ACCEPTED)
            .refuses_in_detail(&[400, 401, 403, 404, 409, 413, 415, 422, 503]),
        describe("agentkit_get_session", Tag::AgentKit, "How far a workflow is.")
            .agentkit(Method::GET, path::AGENTKIT_SESSION, Caller::Reporter(Scope::TasksRead), session)
            .gives::<SessionView>(StatusCode::OK)
            .refuses_in_detail(&[401, 403, 404, 503]),
        describe("agentkit_list_sessions", Tag::AgentKit, "A page of workflows that were started, newest first.")
            .agentkit(Method::GET, path::AGENTKIT_SESSIONS, Caller::Reporter(Scope::TasksRead), sessions)
            .asks::<SessionQuery>()
            .gives::<SessionPage>(StatusCode::OK)
            .refuses_in_detail(&[401, 403, 404, 422, 503]),
        describe(
            "reconcile_agentkit",
            Tag::AgentKit,
            "Compares the platform's own list of agents with those that are known.",
        )
        .operator(Method::POST, path::AGENTKIT_RECONCILE, Scope::AgentsAdmin, agents::reconcile)
        .gives::<Reconciled>(StatusCode::OK)
        .refuses(&[ErrorCode::NotFound]),
    ]
}

fn of_keys() -> Vec<Route> {
    vec![
        describe("create_key", Tag::Keys, "Makes an operator key, which is shown this once.")
            .operator(Method::POST, path::KEYS, Scope::KeysAdmin, keys::create)
            .takes::<CreateKey>()
            .gives::<CreatedKey>(StatusCode::CREATED),
        describe("list_keys", Tag::Keys, "A page of operator keys, newest first, ended ones among them.")
            .operator(Method::GET, path::KEYS, Scope::KeysAdmin, keys::list)
            .asks::<PageQuery>()
            .gives::<KeyPage>(StatusCode::OK),
        describe("revoke_key", Tag::Keys, "Takes an operator key out of use, at once and for good.")
            .operator(Method::DELETE, path::KEY, Scope::KeysAdmin, keys::revoke)
            .gives_nothing(StatusCode::NO_CONTENT)
            .refuses(&[ErrorCode::NotFound]),
        describe("create_registration_secret", Tag::Keys, "Makes a registration secret, which is shown this once.")
            .operator(Method::POST, path::REGISTRATION_SECRETS, Scope::KeysAdmin, keys::create_secret)
            .takes::<CreateRegistrationSecret>()
            .gives::<CreatedRegistrationSecret>(StatusCode::CREATED),
        describe("list_registration_secrets", Tag::Keys, "A page of registration secrets, newest first.")
            .operator(Method::GET, path::REGISTRATION_SECRETS, Scope::KeysAdmin, keys::list_secrets)
            .asks::<PageQuery>()
            .gives::<RegistrationSecretPage>(StatusCode::OK),
        describe("revoke_registration_secret", Tag::Keys, "Takes a registration secret out of use; its agents stay.")
            .operator(Method::DELETE, path::REGISTRATION_SECRET, Scope::KeysAdmin, keys::revoke_secret)
            .gives_nothing(StatusCode::NO_CONTENT)
            .refuses(&[ErrorCode::NotFound]),
    ]
}

fn of_the_service() -> Vec<Route> {
    vec![
        describe("health", Tag::Service, "Whether the process runs.")
            .open_at_once(Method::GET, path::HEALTH, health::live)
            .gives::<Health>(StatusCode::OK),
        describe("readiness", Tag::Service, "Whether it can take work.")
            .open(Method::GET, path::READY, health::ready)
            .gives::<Readiness>(StatusCode::OK)
            .gives::<Readiness>(StatusCode::SERVICE_UNAVAILABLE),
        describe("metrics", Tag::Service, "What the orchestrator counts of itself, for Prometheus.")
            .operator(Method::GET, path::METRICS, Scope::AgentsRead, metrics::page)
            .gives_text(StatusCode::OK, CONTENT_TYPE),
        describe("openapi", Tag::Service, "The description of all calls, this document.")
            .open_at_once(Method::GET, path::OPENAPI, service::openapi)
            .gives_other(StatusCode::OK, header::JSON, || serde_json::json!({ "type": "object" }))
            .gives_nothing(StatusCode::NOT_MODIFIED),
        describe("well_known", Tag::Service, "Where everything is.")
            .open_at_once(Method::GET, path::WELL_KNOWN, service::well_known)
            .gives::<WellKnown>(StatusCode::OK),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_call_has_a_name_of_its_own_a_sentence_and_an_answer() {
        let mut ids = HashSet::new();
        for route in routes() {
            let id = route.words.id;
            assert!(ids.insert(id), "{id} is there twice");
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{id}");
            let summary = route.words.summary;
            assert!(summary.starts_with(char::is_uppercase) && summary.ends_with('.'), "{id}: {summary}");
            assert!(!route.answers.is_empty(), "{id} has no answer");
        }
    }

    #[test]
    fn the_refusals_of_a_call_are_its_own_and_those_of_its_kind() {
        let result = routes().into_iter().find(|route| route.words.id == "report_result").unwrap();
        let refusals = result.refusals();
        for code in [ErrorCode::InvalidToken, ErrorCode::ResultConflict, ErrorCode::PayloadTooLarge] {
            assert!(refusals.contains(&(code.status(), code)), "{code}");
        }
        assert!(!refusals.iter().any(|(status, _)| *status == 403), "an agent has no key that could lack a scope");
    }
}
