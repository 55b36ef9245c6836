//! Workflows: what is run at all, what a step is given, and a session's life as a table and under random histories.

#[path = "../common/mod.rs"]
mod common;

mod checks;
mod histories;
mod records;
mod steps;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{agent, at};
use eap_core::{CheckedWorkflow, NextTask, Session, SessionEvent, SessionSpec, StepOutcome, Task};
use eap_types::{Capabilities, JsonObject, RawJson, SessionId, StepId, TaskId, WorkflowDefinition, WorkflowStep};

/// How long an attempt of a step may take in these tests.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);

fn step_id(id: &str) -> StepId {
    id.parse().expect("a step id")
}

/// A step that asks for the capability `work`.
fn step(id: &str) -> WorkflowStep {
    WorkflowStep::new(step_id(id), format!("do {id}")).with_capability("work".parse().expect("a capability"))
}

fn workflow(steps: impl IntoIterator<Item = WorkflowStep>) -> WorkflowDefinition {
    WorkflowDefinition::new("wf-1".parse().expect("a workflow id"), "A workflow", "1.0", steps)
}

/// Steps that follow each other in the order in which they are named.
fn chain(ids: &[&str]) -> WorkflowDefinition {
    let steps = ids.iter().enumerate().map(|(index, id)| match ids.get(index + 1) {
        Some(next) => step(id).with_next(step_id(next)),
        None => step(id),
    });
    workflow(steps)
}

fn checked(workflow: WorkflowDefinition) -> CheckedWorkflow {
    CheckedWorkflow::check(workflow, None).expect("the workflow can run")
}

fn spec_of(workflow: WorkflowDefinition) -> SessionSpec {
    SessionSpec {
        id: SessionId::from_bytes([9; 16]),
        tenant: eap_types::TenantId::default(),
        workflow: checked(workflow),
        agent_id: None,
        started_by: "ci".to_owned(),
        initial_payload: None,
        created_at: at(0),
        traceparent: None,
    }
}

/// The id of the task that is made `number`th.
fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

fn next(number: u8) -> NextTask<'static> {
    NextTask { id: task(number), timeout: STEP_TIMEOUT, offered: None }
}

fn json(text: &str) -> RawJson {
    RawJson::parse(text).expect("the text is JSON")
}

fn object(text: &str) -> JsonObject {
    JsonObject::parse(text).expect("the text is a JSON object")
}

fn capabilities(words: &[&str]) -> Capabilities {
    Capabilities::new(words.iter().copied()).expect("capabilities")
}

fn taken(number: u8, id: &str, attempt: u32) -> SessionEvent {
    SessionEvent::StepTaken { task: task(number), agent: agent(id), attempt }
}

fn over(number: u8, outcome: StepOutcome) -> SessionEvent {
    SessionEvent::StepOver { task: task(number), agent: Some(agent(common::ALPHA)), attempts: 1, outcome }
}

fn completed(number: u8, result: &str) -> SessionEvent {
    over(number, StepOutcome::Completed { result: json(result) })
}

fn failed(number: u8, reason: &str) -> SessionEvent {
    over(number, StepOutcome::Failed { reason: reason.to_owned() })
}

fn stopped(number: u8) -> SessionEvent {
    over(number, StepOutcome::Cancelled { reason: Some("by hand".to_owned()) })
}

fn cancel() -> SessionEvent {
    SessionEvent::Cancel { reason: Some("not needed".to_owned()) }
}

/// Applies events that must change the session, one second after the other; step *n* gets task *n*.
fn after(mut session: Session, events: impl IntoIterator<Item = SessionEvent>) -> Session {
    for event in events {
        let number = u8::try_from(session.run.steps.len() + 1).expect("few steps");
        let now = session.run.updated_at + Duration::from_secs(1);
        let change = session.apply(event.clone(), now, &next(number)).ok().and_then(eap_core::SessionDecision::changed);
        session.run = change.unwrap_or_else(|| panic!("{event:?} must change {:?}", session.run)).run;
    }
    session
}

fn started(workflow: WorkflowDefinition) -> (Session, Box<Task>) {
    Session::start(spec_of(workflow), &next(1))
}

fn words(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}
