//! `eap explain`: why a task is where it is, and who could have it.

use clap::Args;
use eap_types::{Candidate, CandidateRefusal, TaskExplanation, TaskId};

use crate::exit::{Exit, Failure};
use crate::output::{Table, print, print_json};
use crate::server::ServerArgs;
use crate::task::show::tries;

/// Say why a task is where it is, who could have it, and why others cannot.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The task's id.
    task_id: TaskId,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Explains one task.
pub(crate) async fn run(args: ExplainArgs) -> Result<Exit, Failure> {
    let told = args.server.client()?.explain(args.task_id).await.map_err(|error| args.server.failed(&error))?;
    if args.json {
        print_json(&told)?;
    } else {
        print(&shown(&told))?;
    }
    Ok(Exit::Done)
}

fn shown(told: &TaskExplanation) -> String {
    let mut about = Table::new();
    about.row(["task", &told.task_id.to_string()]);
    about.row(["type", told.task_type.as_str()]);
    about.row(["status", &format!("{}, {}", told.status, told.whereabouts)]);
    about.line("why", &told.summary);
    about.row(["attempt", &tries(told.status, told.attempt, told.attempts_used, told.max_attempts)]);
    let mut text = about.render();
    if told.candidates.is_empty() {
        return text;
    }
    text.push('\n');
    let mut agents = Table::with_header(&["SCORE", "AGENT", "ID", "TIER", "LOAD", "STATE", "WAITS", "REFUSED"]);
    for candidate in &told.candidates {
        agents.row(row(candidate));
    }
    text.push_str(&agents.render());
    let shown = told.candidates.len() as u64;
    if told.agents > shown {
        text.push_str(&format!("and {} agents more\n", told.agents - shown));
    }
    text
}

fn row(candidate: &Candidate) -> [String; 8] {
    let refusals: Vec<String> = candidate.refusals.iter().map(refusal).collect();
    [
        format!("{:.3}", candidate.score),
        candidate.name.to_string(),
        candidate.agent_id.to_string(),
        candidate.track_record.tier.to_string(),
        format!("{} {}/{}", candidate.load, candidate.leases, candidate.max_concurrent_tasks),
        candidate.state.to_string(),
        if candidate.waiting { "yes" } else { "no" }.to_owned(),
        refusals.join(", "),
    ]
}

fn refusal(refusal: &CandidateRefusal) -> String {
    let until = refusal.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let missing: Vec<&str> = refusal.missing.iter().map(String::as_str).collect();
    let word = refusal.word.as_ref().map(|word| format!(" ({word})")).unwrap_or_default();
    match missing.is_empty() {
        true => format!("{}{word}{until}", refusal.code),
        false => format!("{} {}", refusal.code, missing.join(" ")),
    }
}
