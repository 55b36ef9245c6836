//! Workflows and sessions as people read them.

use eap_types::{RawJson, SessionPage, SessionView, StepView, WorkflowPage};

use crate::output::{Table, age, beginning};
use crate::paging::more;

/// A page of workflows.
pub(super) fn workflows(page: &WorkflowPage) -> String {
    if page.workflows.is_empty() {
        return "no workflows\n".to_owned();
    }
    let mut table = Table::with_header(&["ID", "VERSION", "STEPS", "AGE", "NAME"]);
    for workflow in &page.workflows {
        table.row([
            workflow.id.to_string(),
            workflow.version.clone(),
            workflow.steps.to_string(),
            age(workflow.stored_at),
            beginning(&workflow.name, 60),
        ]);
    }
    table.render() + &more(page)
}

/// A page of sessions.
pub(super) fn sessions(page: &SessionPage) -> String {
    if page.sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut table = Table::with_header(&["SESSION", "WORKFLOW", "STATUS", "AGENT", "AGE", "NOTE"]);
    for session in &page.sessions {
        table.row([
            session.session_id.to_string(),
            session.workflow_id.to_string(),
            session.status.to_string(),
            session.agent_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            age(session.start_time),
            beginning(session.error.as_deref().unwrap_or_default(), 60),
        ]);
    }
    table.render() + &more(page)
}

/// One session with its steps.
pub(super) fn session(session: &SessionView) -> String {
    let mut table = Table::new();
    table.row(["session", &session.session_id.to_string()]);
    table.row(["workflow", session.workflow_id.as_str()]);
    if let Some(agent) = &session.agent_id {
        table.row(["agent", agent.as_str()]);
    }
    table.row(["status", session.status.as_str()]);
    if let Some(error) = &session.error {
        table.row(["error", error]);
    }
    table.row(["started", &format!("{} ago", age(session.start_time))]);
    if let Some(end) = session.end_time {
        table.row(["ended", &format!("{} ago", age(end))]);
    }
    if let Some(result) = &session.result {
        table.line("result", result.as_str());
    }
    let mut steps = Table::with_header(&["STEP", "NAME", "STATUS", "ATTEMPTS", "AGENT", "TASK", "NOTE"]);
    for step in &session.steps {
        steps.row([
            step.task_id.to_string(),
            beginning(&step.name, 30),
            step.status.to_string(),
            step.attempts.to_string(),
            step.agent_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            step.eap_task_id.map_or_else(|| "-".to_owned(), |task| task.to_string()),
            note(step),
        ]);
    }
    format!("{}\n{}", table.render(), steps.render())
}

fn note(step: &StepView) -> String {
    if step.no_capable_agent {
        return "no agent that takes work can do it".to_owned();
    }
    let result = step.result.as_ref().map(RawJson::as_str);
    beginning(step.error.as_deref().or(result).unwrap_or_default(), 60)
}
