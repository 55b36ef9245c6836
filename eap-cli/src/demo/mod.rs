//! `eap demo`: the whole way of a task in one process, with real agents, real storage and real HTTP.

mod stage;
mod steps;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use eap_client::{OperatorClient, ReqwestCall};
use eap_types::{SubmitTask, TaskStatus, TaskView};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

use self::stage::{LINE_STATISTICS, Stage, WORD_COUNT};
use self::text::{LineStatistics, Paragraph, Text};
use crate::exit::{Exit, Failure, chain};
use crate::logging::{self, LogFormat};
use crate::output::{Table, beginning, print, print_json, thousands};
use crate::server::new_id;
use crate::stop;

/// Everything takes a second; a machine that is very busy gets more.
const DEADLINE: Duration = Duration::from_secs(60);

/// Watch tasks go to outside agents and their results come back.
///
/// Starts an orchestrator on a free port of this machine with a temporary SQLite file, and two agents: `wc -w` as
/// `eap agent run` would run it, and a Rust program on the SDK. Submits work made from FILE, shows each step as it
/// happens, checks the results, and leaves nothing behind. Exit code 1 says that a result is wrong.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The text to work on [default: a built-in one].
    file: Option<PathBuf>,

    /// Print the results as one JSON document; the steps go to standard error.
    #[arg(long)]
    json: bool,
}

/// Runs the demonstration until its end or a signal, and takes the stage down in order either way.
pub(crate) async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    logging::start(LogFormat::Text, "warn")?;
    let text = Text::read(args.file.as_deref())?;
    let stop = stop::on_signals(|| {})?;
    let title = format!("{}: {} paragraphs, {} bytes", text.name, text.paragraphs.len(), thousands(text.whole.len()));
    steps::say(args.json, &format!("{title}\n\n"))?;

    let stage = Stage::set_up(&text, args.json).await?;
    let outcome = tokio::select! {
        outcome = timeout_at(Instant::now() + DEADLINE, work(&stage, &text)) => outcome
            .unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "the demonstration takes too long; try it again"))),
        () = stop.cancelled() => Err(Failure::new(Exit::Failed, "interrupted")),
    };
    stage.take_down().await?;
    let findings = outcome?;
    if args.json { print_json(&findings.as_json()) } else { print(&findings.render()) }?;
    match findings.wrong.as_slice() {
        [] => Ok(Exit::Done),
        wrong => Err(Failure::new(Exit::Failed, format!("a result is wrong: {}", wrong.join("; ")))),
    }
}

/// Submits the tasks, waits for them and checks what came back.
async fn work(stage: &Stage, text: &Text) -> Result<Findings, Failure> {
    let http = ReqwestCall::new().map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
    let client =
        OperatorClient::new(&stage.url, Arc::new(http)).map_err(|error| Failure::of_call(&error, &stage.url))?;
    stage.agents_are_online().await?;
    let submit = async |task: SubmitTask| {
        let key = new_id().parse().ok();
        client.submit(&task, key.as_ref()).await.map_err(|error| Failure::of_call(&error, &stage.url))
    };
    let word_count = submit(SubmitTask::text(capability(WORD_COUNT)?, &text.whole)).await?;
    let mut paragraphs = Vec::new();
    for (index, paragraph) in text.paragraphs.iter().enumerate() {
        let input = Paragraph { number: index + 1, text: paragraph.clone() };
        let task = SubmitTask::json(capability(LINE_STATISTICS)?, &input)
            .map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
        paragraphs.push(submit(task).await?);
    }

    let finished = async |task: &TaskView| {
        loop {
            let view = client.task(task.task_id, Some(Duration::from_secs(30))).await;
            match view.map_err(|error| Failure::of_call(&error, &stage.url))? {
                view if view.status.is_final() => break Ok::<_, Failure>(view),
                _ => {}
            }
        }
    };
    let word_count = finished(&word_count).await?;
    let mut statistics = Vec::new();
    for task in &paragraphs {
        statistics.push(finished(task).await?);
    }
    stage.steps_are_shown().await;
    Findings::check(text, &word_count, &statistics).await
}

fn capability<T: std::str::FromStr<Err: std::fmt::Display>>(word: &str) -> Result<T, Failure> {
    word.parse().map_err(|error| Failure::new(Exit::Failed, format!("{word}: {error}")))
}

/// What came back, and what is wrong with it.
#[derive(Debug)]
struct Findings {
    words: Option<usize>,
    lines: usize,
    longest: Option<LineStatistics>,
    tasks: usize,
    wrong: Vec<String>,
}

impl Findings {
    /// Compares the results with what the text itself says.
    async fn check(text: &Text, word_count: &TaskView, paragraphs: &[TaskView]) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        for task in std::iter::once(word_count).chain(paragraphs) {
            if task.status != TaskStatus::Completed {
                let why = task.result.as_ref().and_then(|result| result.error_message.clone());
                wrong.push(format!(
                    "{} {} is {}: {}",
                    task.task_type,
                    task.task_id,
                    task.status,
                    why.unwrap_or_default()
                ));
            }
        }
        let words = output(word_count)["output"].as_str().and_then(|text| text.trim().parse().ok());
        let expected = count_directly(&text.whole).await?;
        if words != Some(expected) {
            wrong.push(format!("the agent counted {words:?} words, and `wc -w` alone {expected}"));
        }
        let statistics: Vec<LineStatistics> =
            paragraphs.iter().filter_map(|task| serde_json::from_value(output(task)).ok()).collect();
        let lines = statistics.iter().map(|one| one.lines).sum();
        let longest = statistics.into_iter().max_by_key(|one| one.longest_chars);
        let (true_lines, true_longest) = text.lines_and_longest();
        if lines != true_lines {
            wrong.push(format!("the agent counted {lines} lines, and there are {true_lines}"));
        }
        if longest.as_ref().map_or(0, |one| one.longest_chars) != true_longest {
            wrong.push(format!("the longest line has {true_longest} characters, and the agent found {longest:?}"));
        }
        Ok(Self { words, lines, longest, tasks: 1 + paragraphs.len(), wrong })
    }

    fn as_json(&self) -> Value {
        json!({
            "words": self.words,
            "lines": self.lines,
            "longest_line": self.longest,
            "tasks": self.tasks,
            "wrong": self.wrong,
        })
    }

    fn render(&self) -> String {
        let mut table = Table::new();
        let words = self.words.map_or_else(|| "?".to_owned(), |words| words.to_string());
        table.row(["words", &words, "counted by `wc -w`, an outside program"]);
        table.row(["lines", &self.lines.to_string(), "counted by a Rust agent, paragraph by paragraph"]);
        if let Some(longest) = &self.longest {
            let (chars, paragraph) = (longest.longest_chars.to_string(), longest.paragraph);
            table.row([
                "longest line",
                &chars,
                &format!("characters, in paragraph {paragraph}: {}", beginning(&longest.longest_line, 44)),
            ]);
        }
        let verdict = match self.wrong.is_empty() {
            true => format!("Tasks completed: {}. The results are those of a direct count.\n", self.tasks),
            false => String::new(),
        };
        format!("\nResults\n{}\n{verdict}", table.render())
    }
}

fn output(task: &TaskView) -> Value {
    task.result.as_ref().map_or(Value::Null, |result| result.output_data.to_value())
}

/// The number that `wc -w` gives without any agent: the rules for what is a word are its own.
async fn count_directly(text: &str) -> Result<usize, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("cannot run `wc -w`: {error}"));
    let file = tempfile::NamedTempFile::new().map_err(|error| fail(&error))?;
    std::fs::write(file.path(), text).map_err(|error| fail(&error))?;
    let input = file.reopen().map_err(|error| fail(&error))?;
    let counted = Command::new("wc").arg("-w").stdin(input).output().await.map_err(|error| fail(&error))?;
    String::from_utf8_lossy(&counted.stdout).trim().parse().map_err(|error| fail(&error))
}
