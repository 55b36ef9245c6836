//! Whether what the server has is what happened.

use std::collections::{BTreeMap, HashSet};

use eap_types::{AttemptOutcome, TaskHistory, TaskId, TaskQuery, TaskStatus, TaskView};
use serde_json::{Value, json};

use crate::agents::{Run, Runs};
use crate::work::{Work, persist};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) tasks: usize,
    /// Tasks by how they ended.
    pub(crate) ended: BTreeMap<String, usize>,
    /// How often the command ran.
    pub(crate) runs: usize,
    pub(crate) attempts: usize,
    /// Attempts after which there was another one, by what the history says of their end.
    pub(crate) causes: BTreeMap<String, usize>,
    /// Runs of an attempt that an earlier process of its agent had begun: it was pushed again, to the next process.
    pub(crate) run_again: usize,
    pub(crate) accepted: usize,
    pub(crate) late: usize,
    pub(crate) problems: Vec<String>,
}

impl Findings {
    /// What a run prints of them; the problems are said by its failure.
    pub(crate) fn told(&self) -> Value {
        json!({
            "tasks": self.tasks,
            "ended": self.ended,
            "runs": self.runs,
            "attempts": self.attempts,
            "done_again_because": self.causes,
            "run_again_in_the_next_process": self.run_again,
            "results_whose_answer_arrived": self.accepted,
            "late_results": self.late,
        })
    }
}

/// Compares everything.
pub(crate) async fn of(work: &Work, submitted: &[(TaskId, String)], accepted: &[String], runs: &Runs) -> Findings {
    let accepted: HashSet<&str> = accepted.iter().map(String::as_str).collect();
    let mut findings = Findings { tasks: count_tasks(work).await, accepted: accepted.len(), ..Findings::default() };
    for (id, input) in submitted {
        let task = persist(async || work.client.task(*id, None).await).await;
        let history = persist(async || work.client.history(*id).await).await;
        *findings.ended.entry(task.status.to_string()).or_default() += 1;
        findings.attempts += history.attempts.len();
        findings.late += history.late_results.len();
        findings.check_end(&task, &history, input, accepted.contains(id.to_string().as_str()));
        findings.check_runs(&task, &history, runs);
    }
    findings.runs = runs.values().map(Vec::len).sum();
    let known: HashSet<String> = submitted.iter().map(|(id, _)| id.to_string()).collect();
    if let Some(((task, _), _)) = runs.iter().find(|((task, _), _)| !known.contains(task)) {
        findings.problems.push(format!("{task} ran, and nobody submitted it"));
    }
    findings
}

async fn count_tasks(work: &Work) -> usize {
    let mut query = TaskQuery::new().with_limit(500);
    let mut count = 0;
    loop {
        let page = work.page(&query).await;
        count += page.tasks.len();
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return count,
        }
    }
}

impl Findings {
    /// It ended once, with the result of the attempt that ended it.
    fn check_end(&mut self, task: &TaskView, history: &TaskHistory, input: &str, was_accepted: bool) {
        let last = history.attempts.last();
        let is_completed = task.status == TaskStatus::Completed;
        let completed = history.attempts.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Completed).count();
        let is_last = last.is_some_and(|last| last.outcome == AttemptOutcome::Completed);
        let ends = ["task.completed", "task.failed", "task.cancelled", "task.dead"];
        let ended = history.events.iter().filter(|event| ends.contains(&event.kind.as_str())).count();
        let output = task.result.as_ref().map(|result| result.output_data.to_value()["output"].clone());
        let expected = last.map(|last| format!("{input} {}", last.attempt).into());
        let problems = [
            (ended != 1, "it did not end exactly once"),
            (was_accepted && task.result.is_none(), "its result was accepted and is lost"),
            (is_completed && (completed != 1 || !is_last), "it is completed, and not by its last attempt alone"),
            (!is_completed && completed > 0, "an attempt completed it, and it is not completed"),
            (is_completed && output != expected, "its result is not that of the attempt that completed it"),
        ];
        for (_, problem) in problems.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            self.problems.push(format!("{}: {problem}: {task:?} {history:?}", task.task_id));
        }
    }

    /// Each run belongs to an attempt, and each attempt that was not the last says why there was another one.
    fn check_runs(&mut self, task: &TaskView, history: &TaskHistory, runs: &Runs) {
        for attempt in history.attempts.iter().rev().skip(1) {
            let why = attempt.reason.clone().or_else(|| attempt.message.clone());
            let cause = match attempt.outcome {
                AttemptOutcome::Open => {
                    self.problems.push(format!("{}: an older attempt is open: {history:?}", task.task_id));
                    continue;
                }
                outcome => why.map_or_else(|| outcome.to_string(), |why| format!("{outcome}: {why}")),
            };
            *self.causes.entry(cause).or_default() += 1;
        }
        let id = task.task_id.to_string();
        for ((_, attempt), runs) in runs.range((id.clone(), 0)..=(id, u32::MAX)) {
            if !history.attempts.iter().any(|known| known.attempt == *attempt) {
                self.problems.push(format!("{}: attempt {attempt} ran and is not in its history", task.task_id));
            }
            let mut processes = runs.clone();
            processes.sort();
            processes.dedup();
            self.run_again += runs.len() - 1;
            let one_agent = runs.iter().all(|Run { agent, .. }| *agent == runs[0].agent);
            if processes.len() != runs.len() || !one_agent {
                self.problems.push(format!("{}: attempt {attempt} ran twice in one process: {runs:?}", task.task_id));
            }
        }
    }
}
