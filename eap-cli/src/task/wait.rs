//! Waiting for the end of a task.

use eap_client::OperatorClient;
use eap_types::{TaskStatus, TaskView};

use super::show::tries;
use crate::exit::{Exit, Failure};
use crate::output::beginning;
use crate::server::ServerArgs;
use crate::wait::{Goal, Question, Wait};

/// What is told about a task that no agent that takes work can do.
pub(super) const NOBODY_CAN: &str = "eap: no agent that takes work can do this task yet; it waits for one\n";

/// What the end of a task means for the exit code; `None` if it has not ended.
pub(super) fn finished(task: &TaskView) -> Option<Exit> {
    match task.status {
        TaskStatus::Completed => Some(Exit::Done),
        status if status.is_final() => Some(Exit::Failed),
        _ => None,
    }
}

impl Goal for TaskView {
    const NAME: &'static str = "task";

    fn finished(&self) -> Option<Exit> {
        finished(self)
    }

    fn remark(&self) -> Option<&'static str> {
        self.no_capable_agent.then_some(NOBODY_CAN)
    }

    fn line(&self) -> String {
        describe(self)
    }
}

/// Follows `task` until it is over or the wait is, and gives it as it then is.
pub(super) async fn follow(
    wait: &Wait,
    client: &OperatorClient,
    server: &ServerArgs,
    task: TaskView,
) -> Result<TaskView, Failure> {
    let id = task.task_id;
    let question = Question { id, again: "eap task get", ask: async |wait| client.task(id, wait).await };
    let last = wait.follow(server, Some(task.clone()), question).await?;
    Ok(last.unwrap_or(task))
}

fn describe(task: &TaskView) -> String {
    let mut text = task.status.to_string();
    if task.no_capable_agent {
        text.push_str(", no agent can do it yet");
    }
    if task.attempt > 0 {
        let tries = tries(task.status, task.attempt, task.attempts_used, task.max_attempts);
        text.push_str(&format!(", attempt {tries}"));
    }
    if let Some(progress) = &task.progress {
        if let Some(fraction) = progress.progress {
            text.push_str(&format!(", {:.0} %", fraction * 100.0));
        }
        if let Some(message) = &progress.message {
            text.push_str(&format!(", {}", beginning(message, 40)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use eap_types::{Priority, ProgressView, RoutingView, Timestamp};

    use super::*;

    fn task(status: TaskStatus) -> TaskView {
        let id = "01956e3c-7f60-7000-8000-000000000001";
        let kind = "word_count".parse().unwrap();
        let (id, session) = (id.parse().unwrap(), id.parse().unwrap());
        let mut task = TaskView::new(id, session, kind, RoutingView::default(), 3, Timestamp::UNIX_EPOCH);
        task.status = status;
        task.priority = Priority::default();
        task
    }

    #[test]
    fn only_a_completed_task_is_a_success() {
        assert_eq!(finished(&task(TaskStatus::Completed)), Some(Exit::Done));
        for status in [TaskStatus::Failed, TaskStatus::Dead, TaskStatus::Cancelled] {
            assert_eq!(finished(&task(status)), Some(Exit::Failed));
        }
        for status in [TaskStatus::Queued, TaskStatus::Leased] {
            assert_eq!(finished(&task(status)), None);
        }
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let mut view = task(TaskStatus::Leased);
        view.attempt = 1;
        view.progress = Some(ProgressView::new(Some(0.5), Some("reading\n\x1b[2J".to_owned())));
        let line = describe(&view);
        assert_eq!(line, "leased, attempt 1 of 3, 50 %, reading \u{fffd}[2J");
        let mut view = task(TaskStatus::Queued);
        view.no_capable_agent = true;
        assert_eq!(describe(&view), "queued, no agent can do it yet");
    }
}
