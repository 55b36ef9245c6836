//! The paths of the protocol: templates for a router, and functions that fill them for a client.
//!
//! The agents' paths are relative to [`AGENTS_BASE`], because a host may mount them elsewhere; the
//! others are whole. Functions percent-encode what they put in.

use std::fmt::Write;

use crate::{AgentId, ArtifactPath, CredentialId, SessionId, TaskId, TaskType, WorkflowId};

/// Where the agents' side is mounted unless the host says otherwise.
pub const AGENTS_BASE: &str = "/api/v1/agents/external";

/// `POST`: an agent joins; relative to the base.
pub const REGISTER: &str = "/register";
/// `DELETE`: an agent leaves; relative to the base.
pub const AGENT: &str = "/{agent_id}";
/// `POST`: an agent leaves and says why; relative to the base.
pub const DEREGISTER: &str = "/{agent_id}/deregister";
/// `POST`: an agent says that it lives; relative to the base.
pub const HEARTBEAT: &str = "/{agent_id}/heartbeat";
/// `POST`: an agent asks for tasks; relative to the base.
pub const LEASE: &str = "/{agent_id}/tasks/lease";
/// `POST`: an agent asks for one task; relative to the base.
pub const NEXT: &str = "/{agent_id}/tasks/next";
/// `POST`: an agent reports a result; relative to the base.
pub const RESULT: &str = "/{agent_id}/tasks/{task_id}/result";
/// `POST`: an agent reports several results; relative to the base.
pub const RESULTS: &str = "/{agent_id}/results";
/// `POST`: an agent says how far a task is; relative to the base.
pub const PROGRESS: &str = "/{agent_id}/tasks/{task_id}/progress";
/// `POST`: an agent hands a task back; relative to the base.
pub const RELEASE: &str = "/{agent_id}/tasks/{task_id}/release";
/// `PUT`: an agent sends an artifact, whole or in parts, `HEAD` asks how much of it arrived; `{path}` is all that follows,
/// with its slashes; relative to the base.
pub const ARTIFACT: &str = "/{agent_id}/tasks/{task_id}/artifacts/{path}";
/// `GET`: an agent opens its WebSocket; relative to the base.
pub const SOCKET: &str = "/{agent_id}/ws";

/// `POST`: an agent gets a new token; relative to the base.
pub const TOKEN_ROTATE: &str = "/{agent_id}/token/rotate";

/// `POST`: what a push agent offers for tasks; relative to its `endpoint_url`.
pub const PUSH_TASK: &str = "/task";
/// `GET`: what a push agent offers to be asked whether it lives; relative to its `endpoint_url`.
pub const PUSH_HEALTH: &str = "/health";

/// `POST` submits a task, `GET` lists them.
pub const TASKS: &str = "/api/v1/tasks";
/// `POST`: submits several tasks.
pub const TASKS_BATCH: &str = "/api/v1/tasks/batch";
/// `GET`: one task, once it is final if the caller waits.
pub const TASK: &str = "/api/v1/tasks/{task_id}";
/// `POST`: cancels a task.
pub const TASK_CANCEL: &str = "/api/v1/tasks/{task_id}/cancel";
/// `GET`: the attempts, late results and events of a task.
pub const TASK_HISTORY: &str = "/api/v1/tasks/{task_id}/history";
/// `GET`: an artifact of a task; `{path}` is all that follows, with its slashes.
pub const TASK_ARTIFACT: &str = "/api/v1/tasks/{task_id}/artifacts/{path}";
/// `GET`: why a task is where it is.
pub const TASK_EXPLAIN: &str = "/api/v1/tasks/{task_id}/explain";
/// `GET`: the tasks that failed for good or are dead.
pub const DEAD_LETTERS: &str = "/api/v1/dead-letters";
/// `POST`: puts a dead task into the queue again, as a new one.
pub const DEAD_LETTER_REQUEUE: &str = "/api/v1/dead-letters/{task_id}/requeue";
/// `POST`: takes a dead task off the list.
pub const DEAD_LETTER_DISCARD: &str = "/api/v1/dead-letters/{task_id}/discard";
/// `GET`: what happens, as a stream of events.
pub const EVENTS: &str = "/api/v1/events";
/// What the agents of one task type take, for operators.
pub const TASK_TYPE: &str = "/api/v1/task-types/{task_type}";
/// `GET`: lists the agents.
pub const AGENTS: &str = "/api/v1/agents";
/// `POST`: asks an agent to get a new token.
pub const AGENT_ROTATE: &str = "/api/v1/agents/{agent_id}/rotate-token";
/// `POST`: has an agent finish what it holds and take nothing new.
pub const AGENT_DRAIN: &str = "/api/v1/agents/{agent_id}/drain";
/// `POST`: has a drained agent take work again.
pub const AGENT_RESUME: &str = "/api/v1/agents/{agent_id}/resume";
/// `PUT`: has an agent beat at another interval.
pub const AGENT_INTERVAL: &str = "/api/v1/agents/{agent_id}/interval";
/// `GET`: one agent with its liveness, load and leases.
pub const AGENT_DETAIL: &str = "/api/v1/agents/{agent_id}";
/// `POST` keeps a workflow, `GET` lists them.
pub const WORKFLOWS: &str = "/api/v1/workflows";
/// `GET`: one workflow as it was kept.
pub const WORKFLOW: &str = "/api/v1/workflows/{workflow_id}";
/// `POST`: starts a workflow.
pub const WORKFLOW_RUNS: &str = "/api/v1/workflows/{workflow_id}/runs";
/// `GET`: lists the sessions that run workflows.
pub const SESSIONS: &str = "/api/v1/sessions";
/// `GET`: one session, once it is over if the caller waits.
pub const SESSION: &str = "/api/v1/sessions/{session_id}";
/// `POST`: ends a session, and the task of the step that runs.
pub const SESSION_CANCEL: &str = "/api/v1/sessions/{session_id}/cancel";
/// `POST`: lets no further step of a session begin.
pub const SESSION_PAUSE: &str = "/api/v1/sessions/{session_id}/pause";
/// `POST`: lets a paused session go on.
pub const SESSION_RESUME: &str = "/api/v1/sessions/{session_id}/resume";
/// `POST` creates an operator key, `GET` lists them.
pub const KEYS: &str = "/api/v1/keys";
/// `DELETE`: revokes an operator key.
pub const KEY: &str = "/api/v1/keys/{key_id}";
/// `POST` creates a registration secret, `GET` lists them.
pub const REGISTRATION_SECRETS: &str = "/api/v1/registration-secrets";
/// `DELETE`: revokes a registration secret.
pub const REGISTRATION_SECRET: &str = "/api/v1/registration-secrets/{secret_id}";
/// `GET`: whether the process runs.
pub const HEALTH: &str = "/health";
/// `GET`: whether it can take work.
pub const READY: &str = "/health/ready";
/// `GET`: figures for monitoring.
pub const METRICS: &str = "/metrics";
/// `GET`: the description of all paths.
pub const OPENAPI: &str = "/openapi.json";
/// `GET`: where everything is.
pub const WELL_KNOWN: &str = "/.well-known/eap";

/// `POST`: an agent platform tells that an agent came or left.
pub const AGENTKIT_NOTIFY: &str = "/v1/opscore/internal/agent/notify";
/// `POST`: an agent of a platform says how it is doing, `GET`: what it said last.
pub const AGENTKIT_STATE: &str = "/v1/opscore/agent/{agent_id}/state";
/// `POST`: starts a workflow for an agent.
pub const AGENTKIT_WORKFLOW: &str = "/v1/opscore/agent/{agent_id}/workflow";
/// `GET`: lists the sessions, as Ops-Core would name them.
pub const AGENTKIT_SESSIONS: &str = "/v1/opscore/session";
/// `GET`: one session.
pub const AGENTKIT_SESSION: &str = "/v1/opscore/session/{session_id}";
/// Has the agents of the platform compared with those that are known (POST).
pub const AGENTKIT_RECONCILE: &str = "/api/v1/agentkit/reconcile";
/// What an agent of a platform said of itself (GET).
pub const AGENTKIT_STATE_HISTORY: &str = "/v1/opscore/agent/{agent_id}/state/history";
/// What a platform offers. `POST` registers an agent under an id that the caller chose, in one of its shapes; `GET` lists
/// them.
pub const PLATFORM_AGENTS: &str = "/v1/agents";
/// What a platform offers. `POST`: registers an agent under an id that the platform chooses.
pub const PLATFORM_REGISTER: &str = "/v1/agents/register";
/// What a platform offers. `DELETE`: takes an agent off the list.
pub const PLATFORM_AGENT: &str = "/v1/agents/{agent_id}";
/// What a platform offers. `POST`: hands an agent a task.
pub const PLATFORM_RUN: &str = "/v1/agents/{agent_id}/run";

/// Fills [`AGENT`], relative to the base.
#[must_use]
pub fn agent(agent: &AgentId) -> String {
    of_agent(agent, "")
}

/// Fills [`DEREGISTER`], relative to the base.
#[must_use]
pub fn deregister(agent: &AgentId) -> String {
    of_agent(agent, "/deregister")
}

/// Fills [`HEARTBEAT`], relative to the base.
#[must_use]
pub fn heartbeat(agent: &AgentId) -> String {
    of_agent(agent, "/heartbeat")
}

/// Fills [`LEASE`], relative to the base.
#[must_use]
pub fn lease(agent: &AgentId) -> String {
    of_agent(agent, "/tasks/lease")
}

/// Fills [`NEXT`], relative to the base.
#[must_use]
pub fn next(agent: &AgentId) -> String {
    of_agent(agent, "/tasks/next")
}

/// Fills [`RESULT`], relative to the base.
#[must_use]
pub fn result(agent: &AgentId, task: &TaskId) -> String {
    of_agent(agent, &format!("/tasks/{task}/result"))
}

/// Fills [`RESULTS`], relative to the base.
#[must_use]
pub fn results(agent: &AgentId) -> String {
    of_agent(agent, "/results")
}

/// Fills [`PROGRESS`], relative to the base.
#[must_use]
pub fn progress(agent: &AgentId, task: &TaskId) -> String {
    of_agent(agent, &format!("/tasks/{task}/progress"))
}

/// Fills [`RELEASE`], relative to the base.
#[must_use]
pub fn release(agent: &AgentId, task: &TaskId) -> String {
    of_agent(agent, &format!("/tasks/{task}/release"))
}

/// Fills [`ARTIFACT`], relative to the base.
#[must_use]
pub fn artifact(agent: &AgentId, task: &TaskId, artifact: &ArtifactPath) -> String {
    of_agent(agent, &format!("/tasks/{task}/artifacts/{}", artifact_parts(artifact)))
}

/// What stands for `{path}`: the path of an artifact with its slashes, and with nothing else that a URL would read.
#[must_use]
pub fn artifact_parts(artifact: &ArtifactPath) -> String {
    let mut path = String::new();
    artifact.as_str().split('/').for_each(|part| push_part(&mut path, part));
    path.split_off(1)
}

/// Fills [`SOCKET`], relative to the base.
#[must_use]
pub fn socket(agent: &AgentId) -> String {
    of_agent(agent, "/ws")
}

/// Fills [`TOKEN_ROTATE`], relative to the base.
#[must_use]
pub fn token_rotate(agent: &AgentId) -> String {
    of_agent(agent, "/token/rotate")
}

/// Fills [`TASK`].
#[must_use]
pub fn task(task: &TaskId) -> String {
    format!("{TASKS}/{task}")
}

/// Fills [`TASK_CANCEL`].
#[must_use]
pub fn task_cancel(task: &TaskId) -> String {
    format!("{TASKS}/{task}/cancel")
}

/// Fills [`TASK_HISTORY`].
#[must_use]
pub fn task_history(task: &TaskId) -> String {
    format!("{TASKS}/{task}/history")
}

/// Fills [`TASK_EXPLAIN`].
#[must_use]
pub fn task_explain(task: &TaskId) -> String {
    format!("{TASKS}/{task}/explain")
}

/// Fills [`TASK_ARTIFACT`].
#[must_use]
pub fn task_artifact(task: &TaskId, artifact: &ArtifactPath) -> String {
    format!("{TASKS}/{task}/artifacts/{}", artifact_parts(artifact))
}

/// Fills [`TASK_TYPE`].
#[must_use]
pub fn task_type(task_type: &TaskType) -> String {
    // Its grammar has no character that a path would have to escape.
    TASK_TYPE.replace("{task_type}", task_type.as_str())
}

/// Fills [`WORKFLOW`].
#[must_use]
pub fn workflow(workflow: &WorkflowId) -> String {
    of_workflow(workflow, "")
}

/// Fills [`WORKFLOW_RUNS`].
#[must_use]
pub fn workflow_runs(workflow: &WorkflowId) -> String {
    of_workflow(workflow, "/runs")
}

/// Fills [`SESSION`].
#[must_use]
pub fn session(session: &SessionId) -> String {
    format!("{SESSIONS}/{session}")
}

/// Fills [`SESSION_CANCEL`].
#[must_use]
pub fn session_cancel(session: &SessionId) -> String {
    format!("{SESSIONS}/{session}/cancel")
}

/// Fills [`SESSION_PAUSE`].
#[must_use]
pub fn session_pause(session: &SessionId) -> String {
    format!("{SESSIONS}/{session}/pause")
}

/// Fills [`SESSION_RESUME`].
#[must_use]
pub fn session_resume(session: &SessionId) -> String {
    format!("{SESSIONS}/{session}/resume")
}

/// Fills [`DEAD_LETTER_REQUEUE`].
#[must_use]
pub fn dead_letter_requeue(task: &TaskId) -> String {
    format!("{DEAD_LETTERS}/{task}/requeue")
}

/// Fills [`DEAD_LETTER_DISCARD`].
#[must_use]
pub fn dead_letter_discard(task: &TaskId) -> String {
    format!("{DEAD_LETTERS}/{task}/discard")
}

/// Fills [`KEY`].
#[must_use]
pub fn key(key: &CredentialId) -> String {
    format!("{KEYS}/{key}")
}

/// Fills [`REGISTRATION_SECRET`].
#[must_use]
pub fn registration_secret(secret: &CredentialId) -> String {
    format!("{REGISTRATION_SECRETS}/{secret}")
}

/// Fills [`AGENT_DETAIL`].
#[must_use]
pub fn agent_detail(agent: &AgentId) -> String {
    format!("{AGENTS}{}", of_agent(agent, ""))
}

/// Fills [`AGENT_ROTATE`].
#[must_use]
pub fn agent_rotate(agent: &AgentId) -> String {
    format!("{AGENTS}{}", of_agent(agent, "/rotate-token"))
}

/// Fills [`AGENT_DRAIN`].
#[must_use]
pub fn agent_drain(agent: &AgentId) -> String {
    format!("{AGENTS}{}", of_agent(agent, "/drain"))
}

/// Fills [`AGENT_RESUME`].
#[must_use]
pub fn agent_resume(agent: &AgentId) -> String {
    format!("{AGENTS}{}", of_agent(agent, "/resume"))
}

/// Fills [`AGENT_INTERVAL`].
#[must_use]
pub fn agent_interval(agent: &AgentId) -> String {
    format!("{AGENTS}{}", of_agent(agent, "/interval"))
}

/// Fills [`AGENTKIT_STATE_HISTORY`].
#[must_use]
pub fn agentkit_state_history(agent: &AgentId) -> String {
    format!("/v1/opscore/agent{}", of_agent(agent, "/state/history"))
}

/// Fills [`AGENTKIT_STATE`].
#[must_use]
pub fn agentkit_state(agent: &AgentId) -> String {
    format!("/v1/opscore/agent{}", of_agent(agent, "/state"))
}

/// Fills [`AGENTKIT_WORKFLOW`].
#[must_use]
pub fn agentkit_workflow(agent: &AgentId) -> String {
    format!("/v1/opscore/agent{}", of_agent(agent, "/workflow"))
}

/// Fills [`AGENTKIT_SESSION`].
#[must_use]
pub fn agentkit_session(session: &SessionId) -> String {
    format!("{AGENTKIT_SESSIONS}/{session}")
}

/// Fills [`PLATFORM_AGENT`].
#[must_use]
pub fn platform_agent(agent: &AgentId) -> String {
    format!("{PLATFORM_AGENTS}{}", of_agent(agent, ""))
}

/// Fills [`PLATFORM_RUN`].
#[must_use]
pub fn platform_run(agent: &AgentId) -> String {
    format!("{PLATFORM_AGENTS}{}", of_agent(agent, "/run"))
}

fn of_workflow(workflow: &WorkflowId, rest: &str) -> String {
    let mut path = WORKFLOWS.to_owned();
    push_part(&mut path, workflow.as_str());
    path.push_str(rest);
    path
}

fn of_agent(agent: &AgentId, rest: &str) -> String {
    let mut path = String::with_capacity(1 + agent.as_str().len() + rest.len());
    push_part(&mut path, agent.as_str());
    path.push_str(rest);
    path
}

/// Adds one part of a path, whatever is in it.
fn push_part(path: &mut String, part: &str) {
    path.push('/');
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            write!(path, "%{byte:02X}").expect("a String takes every write");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a template by hand, to hold the functions to the constants.
    fn filled(template: &str, agent: &str, task: &TaskId) -> String {
        template.replace("{agent_id}", agent).replace("{task_id}", &task.to_string())
    }

    #[test]
    fn every_function_fills_its_template() {
        let (id, task_id) = ("agent-1".parse().unwrap(), TaskId::from_bytes([7; 16]));
        let pairs = [
            (AGENT, agent(&id)),
            (DEREGISTER, deregister(&id)),
            (HEARTBEAT, heartbeat(&id)),
            (LEASE, lease(&id)),
            (NEXT, next(&id)),
            (RESULT, result(&id, &task_id)),
            (RESULTS, results(&id)),
            (PROGRESS, progress(&id, &task_id)),
            (RELEASE, release(&id, &task_id)),
            (TASK, task(&task_id)),
            (TASK_CANCEL, task_cancel(&task_id)),
            (TASK_HISTORY, task_history(&task_id)),
            (TASK_EXPLAIN, task_explain(&task_id)),
            (DEAD_LETTER_REQUEUE, dead_letter_requeue(&task_id)),
            (DEAD_LETTER_DISCARD, dead_letter_discard(&task_id)),
            (AGENT_DETAIL, agent_detail(&id)),
            (AGENT_ROTATE, agent_rotate(&id)),
            (AGENT_DRAIN, agent_drain(&id)),
            (AGENT_RESUME, agent_resume(&id)),
            (AGENT_INTERVAL, agent_interval(&id)),
            (TOKEN_ROTATE, token_rotate(&id)),
            (AGENTKIT_STATE, agentkit_state(&id)),
            (AGENTKIT_STATE_HISTORY, agentkit_state_history(&id)),
            (AGENTKIT_WORKFLOW, agentkit_workflow(&id)),
            (PLATFORM_AGENT, platform_agent(&id)),
            (PLATFORM_RUN, platform_run(&id)),
        ];
        for (template, path) in pairs {
            assert_eq!(path, filled(template, "agent-1", &task_id));
        }
    }

    #[test]
    fn keys_and_secrets_have_ids_of_their_own_in_the_path() {
        let id = CredentialId::from_bytes([7; 16]);
        assert_eq!(key(&id), KEY.replace("{key_id}", &id.to_string()));
        assert_eq!(registration_secret(&id), REGISTRATION_SECRET.replace("{secret_id}", &id.to_string()));
    }

    #[test]
    fn workflows_and_sessions_have_ids_of_their_own_in_the_path() {
        let id = SessionId::from_bytes([7; 16]);
        for (template, path) in [
            (SESSION, session(&id)),
            (SESSION_CANCEL, session_cancel(&id)),
            (SESSION_PAUSE, session_pause(&id)),
            (SESSION_RESUME, session_resume(&id)),
            (AGENTKIT_SESSION, agentkit_session(&id)),
        ] {
            assert_eq!(path, template.replace("{session_id}", &id.to_string()));
        }
        let id: WorkflowId = "a b?".parse().unwrap();
        assert_eq!(workflow(&id), WORKFLOW.replace("{workflow_id}", "a%20b%3F"));
        assert_eq!(workflow_runs(&id), WORKFLOW_RUNS.replace("{workflow_id}", "a%20b%3F"));
    }

    #[test]
    fn an_artifact_keeps_its_slashes_and_nothing_else_that_a_path_would_read() {
        let (task, artifact) = (TaskId::from_bytes([7; 16]), "deep/a b?#%/é".parse().unwrap());
        let path = task_artifact(&task, &artifact);
        assert_eq!(
            path,
            TASK_ARTIFACT.replace("{task_id}", &task.to_string()).replace("{path}", "deep/a%20b%3F%23%25/%C3%A9")
        );
    }

    #[test]
    fn an_id_of_another_platform_stays_one_part_of_the_path() {
        let id = "bot #1?é%".parse().unwrap();
        assert_eq!(heartbeat(&id), "/bot%20%231%3F%C3%A9%25/heartbeat");
        assert_eq!(agent_detail(&id), "/api/v1/agents/bot%20%231%3F%C3%A9%25");
    }
}
