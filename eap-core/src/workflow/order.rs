//! What the task of a step is: who may do it, what its agent is given, how often it is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eap_types::limits::{MAX_ATTEMPTS, MAX_SUBMIT_BYTES};
use eap_types::{
    AgentId, Capabilities, JsonObject, Labels, Priority, RawJson, StepContext, SubmitTask, TaskId, TaskType, Timestamp,
    WorkflowStep,
};

use super::SessionSpec;
use crate::routing::RoutingKey;
use crate::task::{Task, TaskSpec};

/// The member of a payload that holds the result of the step before.
const PREVIOUS: &str = "previous";
/// The type of a task whose step gives none: the `messageType` of AgentKit's `/run`.
const WORKFLOW_TASK: &str = "workflow_task";

/// What a decision is given in case another step begins.
#[derive(Clone, Copy, Debug)]
pub struct NextTask<'a> {
    /// The id of its task, fresh.
    pub id: TaskId,
    /// How long one attempt of it may take where the step does not say.
    pub timeout: Duration,
    /// What the agent that the session was started for can do now; `None` if it is gone, or if there is none.
    pub offered: Option<&'a Capabilities>,
}

/// How many attempts a task gets whose step may be tried again so often.
#[must_use]
pub fn attempts_for(max_retries: u32) -> u32 {
    max_retries.saturating_add(1).min(MAX_ATTEMPTS)
}

/// The task of the step at `index`; `previous` is what came out of the step before, if there was one.
///
/// Gives the reason for people where there can be no such task.
pub(super) fn task_for(
    spec: &Arc<SessionSpec>,
    index: usize,
    previous: Option<&RawJson>,
    now: Timestamp,
    next: &NextTask<'_>,
) -> Result<Task, String> {
    let step = spec.workflow.step(index);
    let payload = match (previous, &spec.initial_payload) {
        (None, Some(initial)) => initial.clone(),
        (None, None) => step.parameters.clone(),
        (Some(previous), _) => with_previous(&step.parameters, previous)?,
    };
    let routing = RoutingKey {
        tenant: spec.tenant,
        task_type: task_type(step),
        required_capabilities: step.agent_capability.iter().cloned().collect(),
        labels: Labels::default(),
        agent_id: target(spec, step, next.offered),
    };
    let context = StepContext::new(spec.workflow.id.clone(), spec.id, step.task_id.clone(), step.name.clone());
    Ok(Task::submitted(TaskSpec {
        id: next.id,
        // As every input reaches its agent.
        input: SubmitTask::new(routing.task_type.clone(), payload.into()).input_text(),
        routing,
        session_id: spec.id,
        context: JsonObject::from_serialize(&context).expect("a context is an object"),
        preferred_agents: BTreeSet::new(),
        requirements: Vec::new(),
        priority: Priority::default(),
        timeout: step.timeout_seconds.map_or(next.timeout, Duration::from_secs),
        inactivity: None,
        max_attempts: attempts_for(step.max_retries),
        run_at: None,
        expires_at: None,
        created_at: now,
        traceparent: spec.traceparent.clone(),
        requeued_from: None,
        is_step: true,
        callback_url: None,
    }))
}

/// The parameters of a step with the result of the one before; that one wins over a parameter of its name.
fn with_previous(parameters: &JsonObject, previous: &RawJson) -> Result<JsonObject, String> {
    let mut members: BTreeMap<String, RawJson> = parameters.decode().expect("an object has members");
    members.insert(PREVIOUS.to_owned(), previous.clone());
    let payload =
        JsonObject::from_serialize(&members).map_err(|_| "the result before is nested too deeply to be handed on")?;
    let bytes = payload.as_str().len();
    if bytes > MAX_SUBMIT_BYTES {
        return Err(format!("its payload has {bytes} bytes, and may have {MAX_SUBMIT_BYTES}"));
    }
    Ok(payload)
}

/// The one agent that may do a step: that of the session where it can, and none in particular otherwise.
fn target(spec: &SessionSpec, step: &WorkflowStep, offered: Option<&Capabilities>) -> Option<AgentId> {
    let can_do =
        step.agent_capability.as_ref().is_none_or(|wanted| offered.is_some_and(|offered| offered.contains(wanted)));
    spec.agent_id.clone().filter(|_| can_do)
}

/// By which an agent of ours picks its handler: the capability asked for, else the step's name where that can be a type.
fn task_type(step: &WorkflowStep) -> TaskType {
    match &step.agent_capability {
        Some(capability) => capability.clone().into(),
        None => step.name.parse().unwrap_or_else(|_| WORKFLOW_TASK.parse().expect("the word is a task type")),
    }
}
