//! Waiting for the end of a task, through restarts of the server, with a line on the terminal meanwhile.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use eap_client::OperatorClient;
use eap_types::limits::MAX_WAIT;
use eap_types::{TaskStatus, TaskView};
use tokio::time::{Instant, sleep_until};

use super::show::tries;
use crate::exit::{Exit, Failure};
use crate::output::{beginning, length, tell};
use crate::server::{ServerArgs, may_pass, pause};
use crate::stop;

/// How long a wait without an end goes on while no server answers.
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);
/// The longest wait that can be asked for, in seconds: a year.
const LONGEST_WAIT: u64 = 365 * 24 * 3600;
/// What is told about a task that no agent that takes work can do.
pub(super) const NOBODY_CAN: &str = "eap: no agent that takes work can do this task yet; it waits for one\n";
/// How often the line on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);

/// Whether to wait for a task, and for how long.
#[derive(Args, Clone, Debug)]
pub(super) struct Wait {
    /// Wait for the end of the task; with a number, for at most so many seconds. Exit code 5 when they are over or a
    /// signal ends the wait: the task goes on.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        value_parser = clap::value_parser!(u64).range(..=LONGEST_WAIT))]
    wait: Option<Option<u64>>,
}

/// What the end of a task means for the exit code; `None` if it has not ended.
pub(super) fn finished(task: &TaskView) -> Option<Exit> {
    match task.status {
        TaskStatus::Completed => Some(Exit::Done),
        status if status.is_final() => Some(Exit::Failed),
        _ => None,
    }
}

impl Wait {
    /// Whether to wait at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.wait.is_some()
    }

    /// Follows `task` until it is over or the wait is, by its length or by a signal, and gives it as it then is.
    pub(super) async fn follow(
        &self,
        client: &OperatorClient,
        server: &ServerArgs,
        mut task: TaskView,
    ) -> Result<TaskView, Failure> {
        let stop = stop::on_signals(|| {})?;
        let id = task.task_id;
        let mut is_told = false;
        let started = Instant::now();
        let deadline = self.wait.flatten().map(|seconds| started + Duration::from_secs(seconds));
        let line = Line::new();
        let mut failures = 0;
        let mut answered = started;
        while finished(&task).is_none() {
            if task.no_capable_agent && !is_told {
                line.clear();
                tell(NOBODY_CAN);
                is_told = true;
            }
            line.show(&task, started.elapsed());
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let step = if line.is_shown { REDRAW } else { MAX_WAIT };
            // Whole seconds, the last of which may be cut short by the deadline below.
            let step = Duration::from_secs(left.unwrap_or(step).min(step).as_secs().max(1));
            let answer = tokio::select! {
                answer = client.task(id, Some(step)) => answer,
                () = until(deadline) => break,
                () = stop.cancelled() => break,
            };
            match answer {
                Ok(view) => {
                    (task, failures, answered) = (view, 0, Instant::now());
                }
                Err(error) if may_pass(&error) && answered.elapsed() < LONGEST_OUTAGE => {
                    failures += 1;
                    let next = Instant::now() + pause(failures, &error);
                    tokio::select! {
                        () = sleep_until(deadline.map_or(next, |deadline| deadline.min(next))) => {}
                        () = stop.cancelled() => break,
                    }
                }
                Err(error) if may_pass(&error) => {
                    return Err(server.failed(&error).and(&format!("`eap task get {id} --wait` goes on")));
                }
                Err(error) => return Err(server.failed(&error)),
            }
        }
        line.clear();
        if finished(&task).is_none() {
            let outage = if failures == 0 { "" } else { " as far as is known: the server does not answer now" };
            tell(&format!("eap: the wait is over and the task is not{outage}; `eap task get {id} --wait` goes on\n"));
        }
        Ok(task)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// One line on standard error that is drawn over itself; nothing unless that is a terminal.
struct Line {
    is_shown: bool,
}

impl Line {
    fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    fn show(&self, task: &TaskView, waited: Duration) {
        if self.is_shown {
            self.draw(&describe(task, waited));
        }
    }

    fn clear(&self) {
        if self.is_shown {
            self.draw("");
        }
    }

    fn draw(&self, text: &str) {
        let mut terminal = io::stderr().lock();
        // A terminal that is gone needs no line.
        let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
    }
}

impl Drop for Line {
    /// An error ends the wait as well, and its message stands alone.
    fn drop(&mut self) {
        self.clear();
    }
}

fn describe(task: &TaskView, waited: Duration) -> String {
    let mut text = format!("{} {}", length(waited), task.status);
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
    use std::sync::Arc;

    use async_trait::async_trait;
    use bytes::Bytes;
    use clap::Parser;
    use eap_client::{CallError, HttpCall};
    use eap_types::{Priority, ProgressView, RoutingView, Timestamp};

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        server: ServerArgs,
    }

    /// A server that is gone.
    #[derive(Debug)]
    struct Gone;

    #[async_trait]
    impl HttpCall for Gone {
        async fn call(&self, _: http::Request<Bytes>, _: Duration) -> Result<http::Response<Bytes>, CallError> {
            Err(CallError::Connect { source: "refused".into() })
        }
    }

    #[tokio::test]
    async fn a_wait_that_runs_out_in_an_outage_is_over_and_not_a_failure() {
        let command = Command::try_parse_from(["eap", "--wait=1", "--url", "http://x"]).unwrap();
        let client = OperatorClient::new("http://x", Arc::new(Gone)).unwrap();
        let started = Instant::now();
        let view = command.wait.follow(&client, &command.server, task(TaskStatus::Leased)).await.unwrap();
        assert_eq!(view.status, TaskStatus::Leased);
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn a_wait_without_measure_is_refused() {
        assert!(Command::try_parse_from(["eap", "--wait=31536000"]).is_ok());
        for number in ["31536001", "18446744073709551615", "-1"] {
            assert!(Command::try_parse_from(["eap", &format!("--wait={number}")]).is_err(), "{number}");
        }
    }

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
        let line = describe(&view, Duration::from_secs(75));
        assert_eq!(line, "1m leased, attempt 1 of 3, 50 %, reading \u{fffd}[2J");
        let mut view = task(TaskStatus::Queued);
        view.no_capable_agent = true;
        assert_eq!(describe(&view, Duration::ZERO), "0s queued, no agent can do it yet");
    }
}
