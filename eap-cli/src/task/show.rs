//! Tasks as people read them.

use eap_types::{AttemptView, ResultStatus, TaskHistory, TaskPage, TaskResult, TaskStatus, TaskView};
use serde_json::Value;

use crate::output::{Table, age, beginning, harmless};
use crate::paging::more;

/// One task with its result.
pub(super) fn task(task: &TaskView) -> String {
    let mut table = Table::new();
    table.row(["task", &task.task_id.to_string()]);
    table.row(["type", task.task_type.as_str()]);
    table.row(["status", &task.status.to_string()]);
    if task.no_capable_agent {
        table.row(["", "no agent that takes work can do it"]);
    }
    if let Some(reason) = &task.reason {
        table.row(["reason", reason]);
    }
    table.row(["attempt", &tries(task.status, task.attempt, task.attempts_used, task.max_attempts)]);
    if let Some(agent) = &task.agent_id {
        table.row(["agent", agent.as_str()]);
    }
    if let Some(progress) = &task.progress {
        let fraction = progress.progress.map(|fraction| format!("{:.0} % ", fraction * 100.0)).unwrap_or_default();
        table.row(["progress", &format!("{fraction}{}", progress.message.as_deref().unwrap_or_default())]);
    }
    for (name, time) in [("starts", task.run_at), ("expires", task.expires_at), ("lease until", task.lease_expires_at)]
    {
        if let Some(time) = time {
            table.row([name, &time.to_string()]);
        }
    }
    table.row(["submitted", &format!("{} ago", age(task.created_at))]);
    match &task.result {
        Some(result) => result_below(table, result),
        None => table.render(),
    }
}

/// The rows so far, and what the agent reported.
fn result_below(mut table: Table, result: &TaskResult) -> String {
    if let Some(milliseconds) = result.execution_time_ms {
        table.row(["took", &format!("{:.3} s", milliseconds / 1000.0)]);
    }
    if let Some(code) = result.error_code {
        table.row(["error", &code.to_string()]);
    }
    for artifact in &result.artifacts {
        let inline = || artifact.bytes().map_or(0, |bytes| bytes.len() as u64);
        let bytes = artifact.size.unwrap_or_else(inline);
        table.row(["artifact", &format!("{} ({bytes} bytes, {})", artifact.path, artifact.mime_type)]);
    }
    let message = result.error_message.clone();
    let output = (!result.output_data.is_empty()).then(|| output_of(result));
    let mut below = String::new();
    for (name, text) in [("message", message), ("output", output)] {
        let Some(text) = text else { continue };
        let text = text.trim_end();
        // Several lines stand below the rows, as they are.
        match text.contains('\n') {
            true => below.push_str(&format!("{name}:\n{}\n", harmless(text))),
            false => table.line(name, text),
        }
    }
    table.render() + &below
}

/// What a command printed stands as it is; other output is JSON.
fn output_of(result: &TaskResult) -> String {
    let value = result.output_data.to_value();
    match value.get("output") {
        Some(Value::String(output)) if has_only(&value, &["output", "exit_code"]) => {
            let code = value.get("exit_code").filter(|_| result.status == ResultStatus::Failed);
            code.map_or_else(|| output.clone(), |code| format!("{output}\nexit code {code}"))
        }
        _ => serde_json::to_string_pretty(&value).unwrap_or_else(|_| result.output_data.as_str().to_owned()),
    }
}

fn has_only(value: &Value, names: &[&str]) -> bool {
    value.as_object().is_some_and(|object| object.keys().all(|key| names.contains(&key.as_str())))
}

/// How many of the attempts that a task has are used up, the open one among them.
fn used(status: TaskStatus, attempts_used: u32) -> u32 {
    attempts_used + u32::from(status == TaskStatus::Leased)
}

/// The newest attempt, and how many of those that a task has are used up where that is another number: what was given
/// back does not count.
pub(crate) fn tries(status: TaskStatus, attempt: u32, attempts_used: u32, most: u32) -> String {
    match used(status, attempts_used) {
        used if used == attempt => format!("{attempt} of {most}"),
        used => format!("{attempt}, of which {used} of {most} count"),
    }
}

/// A page of tasks.
pub(crate) fn tasks(page: &TaskPage) -> String {
    if page.tasks.is_empty() {
        return "no tasks\n".to_owned();
    }
    let mut table = Table::with_header(&["ID", "TYPE", "STATUS", "TRIES", "AGE", "NOTE"]);
    for task in &page.tasks {
        let note = match (&task.reason, &task.progress) {
            // There is one while the task runs: its reason is then of an earlier attempt.
            (_, Some(progress)) => beginning(progress.message.as_deref().unwrap_or_default(), 60),
            (Some(reason), None) => beginning(reason, 60),
            (None, None) if task.no_capable_agent => "no agent can do it".to_owned(),
            (None, None) => String::new(),
        };
        table.row([
            task.task_id.to_string(),
            task.task_type.to_string(),
            task.status.to_string(),
            format!("{}/{}", used(task.status, task.attempts_used), task.max_attempts),
            age(task.created_at),
            note,
        ]);
    }
    table.render() + &more(page)
}

/// Everything that happened to a task.
pub(super) fn history(history: &TaskHistory) -> String {
    let mut text = String::new();
    let mut attempts = Table::with_header(&["ATTEMPT", "OUTCOME", "AGENT", "STARTED", "TOOK", "WHY"]);
    for attempt in &history.attempts {
        attempts.row(attempt_row(attempt));
    }
    if !history.attempts.is_empty() {
        text.push_str(&attempts.render());
        text.push('\n');
    }
    let mut events = Table::with_header(&["EVENT", "WHEN", "WHAT", "ATTEMPT", "AGENT", "DETAIL"]);
    for event in &history.events {
        let detail = if event.detail.is_empty() { "" } else { event.detail.as_str() };
        events.row([
            event.seq.to_string(),
            event.at.to_string(),
            event.kind.clone(),
            event.attempt.map_or_else(|| "-".to_owned(), |attempt| attempt.to_string()),
            event.agent_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            beginning(detail, 80),
        ]);
    }
    text.push_str(&events.render());
    for late in &history.late_results {
        let (attempt, agent, status) = (late.attempt, &late.agent_id, late.result.status);
        text.push_str(&format!("late: attempt {attempt} by {agent} said {status} at {}\n", late.received_at));
    }
    text
}

fn attempt_row(attempt: &AttemptView) -> [String; 6] {
    let took = attempt.ended_at.map(|ended| ended.saturating_since(attempt.started_at).as_secs_f64());
    let why = attempt.message.as_ref().or(attempt.reason.as_ref());
    let code = attempt.error_code.map(|code| format!("{code} ")).unwrap_or_default();
    [
        attempt.attempt.to_string(),
        attempt.outcome.to_string(),
        attempt.agent_id.to_string(),
        attempt.started_at.to_string(),
        took.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}s")),
        format!("{code}{}", beginning(why.map_or("", String::as_str), 60)),
    ]
}

#[cfg(test)]
mod tests {
    use eap_types::{FailureCode, JsonObject};
    use serde_json::json;

    use super::*;

    fn result(output: &Value) -> TaskResult {
        let id = "01956e3c-7f60-7000-8000-000000000001".parse().unwrap();
        TaskResult::completed(id, JsonObject::from_serialize(output).unwrap())
    }

    #[test]
    fn what_a_command_printed_stands_as_it_is() {
        let text = result_below(Table::new(), &result(&json!({ "output": "1234\n", "exit_code": 0 })));
        assert_eq!(text, "output  1234\n");
        let text = result_below(Table::new(), &result(&json!({ "output": "a\nb\n", "exit_code": 0 })));
        assert_eq!(text, "output:\na\nb\n");
    }

    #[test]
    fn attempts_that_were_given_back_are_not_shown_as_used_up() {
        assert_eq!(tries(TaskStatus::Leased, 1, 0, 3), "1 of 3");
        assert_eq!(tries(TaskStatus::Completed, 2, 2, 3), "2 of 3");
        assert_eq!(tries(TaskStatus::Queued, 10, 0, 3), "10, of which 0 of 3 count");
        assert_eq!(tries(TaskStatus::Leased, 10, 1, 3), "10, of which 2 of 3 count");
    }

    #[test]
    fn other_output_is_json_and_a_failure_says_why() {
        let text = result_below(Table::new(), &result(&json!({ "output": "x", "words": 3 })));
        assert_eq!(text, "output:\n{\n  \"output\": \"x\",\n  \"words\": 3\n}\n");
        let mut failed = result(&json!({ "output": "", "exit_code": 3 }));
        failed.status = ResultStatus::Failed;
        failed.error_code = Some(FailureCode::HandlerError);
        failed.error_message = Some("no such file".to_owned());
        assert_eq!(
            result_below(Table::new(), &failed),
            "error    HANDLER_ERROR\nmessage  no such file\noutput:\n\nexit code 3\n"
        );
    }
}
