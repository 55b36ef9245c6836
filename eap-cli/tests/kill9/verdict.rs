//! Whether what the server has is what it acknowledged.

use eap_types::{AttemptOutcome, TaskHistory, TaskId, TaskQuery, TaskStatus, TaskView};

use crate::load::Load;
use crate::witness::{Submitted, Witness};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) tasks: usize,
    pub(crate) attempts: usize,
    pub(crate) submits_lost: usize,
    pub(crate) results_changed: usize,
    pub(crate) not_once: usize,
    pub(crate) problems: Vec<String>,
}

/// Compares everything.
pub(crate) async fn of(load: &Load, witness: &Witness) -> Findings {
    let mut findings = Findings { tasks: count_tasks(load).await, ..Findings::default() };
    for (id, submitted) in witness.submits() {
        let (Ok(task), Ok(history)) = (load.client.task(id, None).await, load.client.history(id).await) else {
            findings.submits_lost += 1;
            findings.problems.push(format!("{id} ({}) was answered 201 and is not there", submitted.key));
            continue;
        };
        findings.attempts += history.attempts.len();
        findings.check_result(&task, &submitted, witness);
        findings.check_end(&task, &history);
    }
    findings
}

async fn count_tasks(load: &Load) -> usize {
    let mut query = TaskQuery::new().with_limit(500);
    let mut count = 0;
    loop {
        let page = load.client.tasks(&query).await.expect("the server answers");
        count += page.tasks.len();
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return count,
        }
    }
}

impl Findings {
    /// The result is the acknowledged one, byte for byte, and it was made from the submitted input.
    fn check_result(&mut self, task: &TaskView, submitted: &Submitted, witness: &Witness) {
        let acknowledged = witness.results(task.task_id);
        let problem = match (&task.result, acknowledged.as_slice()) {
            (_, [_, _, ..]) => Some("two different results were acknowledged"),
            (None, _) => Some("there is no result"),
            (Some(_), []) => Some("its result was never acknowledged"),
            (Some(kept), [sent]) => {
                let is_same = kept.canonical_text() == sent.canonical_text()
                    && kept.output_data.as_str() == sent.output_data.as_str();
                (!is_same).then_some("the result is not the acknowledged one")
            }
        };
        if let Some(problem) = problem {
            self.results_changed += 1;
            self.report(task.task_id, problem);
        }
        let input = task.result.as_ref().map(|result| result.output_data.to_value()["input"].clone());
        if input != Some(submitted.input.clone().into()) {
            self.submits_lost += 1;
            self.report(task.task_id, "the agent got another input than was submitted");
        }
    }

    /// It ended once, in the attempt that its history says, and no attempt is missing.
    fn check_end(&mut self, task: &TaskView, history: &TaskHistory) {
        let numbers: Vec<u32> = history.attempts.iter().map(|attempt| attempt.attempt).collect();
        let with = |outcome| history.attempts.iter().filter(|attempt| attempt.outcome == outcome).count();
        let ends = ["task.completed", "task.failed", "task.cancelled", "task.dead"];
        let ended = history.events.iter().filter(|event| ends.contains(&event.kind.as_str())).count();
        let problems = [
            (task.status != TaskStatus::Completed, "it is not completed"),
            (!numbers.iter().copied().eq(1..=task.attempt), "an attempt is missing"),
            (with(AttemptOutcome::Completed) != 1, "not exactly one attempt completed it"),
            (with(AttemptOutcome::Open) != 0, "an attempt is open"),
            (ended != 1, "it did not end exactly once"),
        ];
        for (_, problem) in problems.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            self.not_once += 1;
            self.report(task.task_id, &format!("{problem}: {history:?}"));
        }
    }

    fn report(&mut self, id: TaskId, problem: &str) {
        self.problems.push(format!("{id}: {problem}"));
    }
}
