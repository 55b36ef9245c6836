//! `eap task watch`: what a task says while it runs, then what became of it.

use std::io::{self, IsTerminal as _};

use clap::Args;
use eap_client::{TaskNews, TaskWatch};
use eap_types::{EventView, ProgressView, TaskId};

use super::show;
use super::wait::finished;
use crate::events::{json_line, tell_of_outages};
use crate::exit::{Exit, Failure};
use crate::output::{Reader, beginning, harmless, one_line, print, print_to_reader, tell};
use crate::server::ServerArgs;
use crate::stop;

/// Show what a task says while it runs, then what became of it.
///
/// Prints the output that its handler emits, from the first part that is kept on and as it comes, and the task with its result once it is over. Progress
/// and what else happens to it goes to standard error. Restarts of the server are waited for.
///
/// Exit code 0 says that the task is done, 1 that it failed, died or was cancelled, 5 that a signal ended the watching: the task goes on.
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// The task.
    task_id: TaskId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print each event as one JSON document in a line of its own, as `eap events --json` does, and last the task.
    #[arg(long)]
    json: bool,
}

/// Watches a task until it is over, or somebody has had enough.
pub(super) async fn watch(args: WatchArgs) -> Result<Exit, Failure> {
    let stop = stop::on_signals(|| {})?;
    let (client, id) = (args.server.client()?, args.task_id);
    let goes_on = format!("`eap task watch {id}` goes on");
    let opened = tokio::select! {
        () = stop.cancelled() => return Ok(Exit::WaitOver),
        opened = args.server.repeat(|| client.watch_task(id)) => opened,
    };
    let mut task: TaskWatch = opened?.with_on_outage(tell_of_outages());
    let mut page = Page::new();
    loop {
        let news = tokio::select! {
            biased;
            () = stop.cancelled() => {
                page.end_line()?;
                tell(&format!("eap: the task is not over; {goes_on}\n"));
                return Ok(Exit::WaitOver);
            }
            news = task.next() => news,
        };
        let reader = match news {
            Ok(Some(news)) if args.json => match news.event() {
                Some(event) => print_to_reader(&json_line(event))?,
                None => Reader::There,
            },
            Ok(Some(news)) => page.show(&news)?,
            Ok(None) => break,
            Err(error) => return Err(args.server.failed(&error).and(&goes_on)),
        };
        if reader == Reader::Gone {
            return Ok(Exit::Done);
        }
    }
    let task = args.server.repeat(|| client.task(id, None)).await?;
    if args.json {
        let text = serde_json::to_string(&task).expect("every payload of the protocol has a JSON form");
        print(&format!("{}\n", text.replace(['\n', '\r'], " ")))?;
    } else {
        page.end_line()?;
        print(&show::task(&task))?;
    }
    Ok(finished(&task).unwrap_or(Exit::WaitOver))
}

/// What was printed so far, as far as it matters for what comes next.
struct Page {
    is_within_line: bool,
    /// Whether both standard output and standard error are seen together.
    is_shared: bool,
}

impl Page {
    fn new() -> Self {
        Self { is_within_line: false, is_shared: io::stdout().is_terminal() && io::stderr().is_terminal() }
    }

    fn show(&mut self, news: &TaskNews) -> Result<Reader, Failure> {
        match news {
            TaskNews::Output { delta, .. } => {
                self.is_within_line = delta.chars().last().map_or(self.is_within_line, |last| last != '\n');
                return print_to_reader(&harmless(delta));
            }
            TaskNews::Progress { progress, .. } => self.note(&of_progress(progress)),
            TaskNews::Event(event) => self.note(&of_event(event)),
            TaskNews::Reset => self.note("what it told meanwhile is not kept any more"),
            _ => {}
        }
        Ok(Reader::There)
    }

    /// Says something beside the output.
    fn note(&self, text: &str) {
        let from_the_output = if self.is_shared && self.is_within_line { "\n" } else { "" };
        tell(&format!("{from_the_output}eap: {text}\n"));
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_within_line) { print("\n") } else { Ok(()) }
    }
}

fn of_progress(progress: &ProgressView) -> String {
    let fraction = progress.progress.map(|fraction| format!("{:.0} %", fraction * 100.0));
    let message = progress.message.as_deref().map(one_line);
    [fraction, message].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn of_event(event: &EventView) -> String {
    let kind = one_line(&event.kind);
    let mut text = kind.strip_prefix("task.").unwrap_or(&kind).replace('_', " ");
    if let Some(attempt) = event.attempt {
        text.push_str(&format!(", attempt {attempt}"));
    }
    if let Some(agent) = &event.agent_id {
        text.push_str(&format!(" by {}", one_line(agent.as_str())));
    }
    if !event.detail.is_empty() {
        text.push_str(&format!(": {}", beginning(event.detail.as_str(), 100)));
    }
    text
}

#[cfg(test)]
mod tests {
    use eap_types::{JsonObject, Timestamp};

    use super::*;

    #[test]
    fn what_is_told_beside_the_output_is_one_line() {
        let progress = ProgressView::new(Some(0.25), Some("reading\n\u{1b}[2J".to_owned()));
        assert_eq!(of_progress(&progress), "25 %, reading \u{fffd}[2J");
        assert_eq!(of_progress(&ProgressView::new(None, Some("reading".to_owned()))), "reading");
        let mut event = EventView::new(7, Timestamp::UNIX_EPOCH, "task.attempt_failed");
        event.attempt = Some(2);
        event.agent_id = Some("a-1".parse().unwrap());
        event.detail = JsonObject::parse("{\"message\":\n\"no such file\"}").unwrap();
        assert_eq!(of_event(&event), "attempt failed, attempt 2 by a-1: {\"message\": \"no such file\"}");
    }
}
