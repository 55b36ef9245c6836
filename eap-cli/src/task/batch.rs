//! `eap task submit --batch`: from a file of tasks to as few calls as they fit in.

use std::path::Path;

use eap_client::OperatorClient;
use eap_types::limits::{MAX_BATCH_BYTES, MAX_BATCH_TASKS};
use eap_types::{DecodeError, IdempotencyKey, SubmitBatch, SubmitBatchReply, SubmitOutcome, SubmitTask, from_json};
use serde_json::value::RawValue;

use super::submit::read;
use crate::exit::{Exit, Failure, told};
use crate::output::{print, print_json, tell};
use crate::server::ServerArgs;

/// How many wrong tasks of a file are told of one by one.
const MAX_TOLD: usize = 20;
/// What a file has to look like.
const FORM: &str = "it must hold one JSON object a line, or one JSON array of objects";
/// What a batch has around its tasks, in bytes, and more.
const AROUND: usize = 64;

/// A task and where in the file it stands, as in `line 3`.
#[derive(Debug)]
struct Entry {
    place: String,
    task: SubmitTask,
}

/// Submits every task in the file, and prints what became of each.
pub(super) async fn submit(
    path: &Path,
    server: &ServerArgs,
    client: &OperatorClient,
    key: &IdempotencyKey,
    json: bool,
) -> Result<Exit, Failure> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let entries = entries(&read(path)?, &name)?;
    let batches = batches(&entries);
    let keys = keys(key, batches.len())?;
    let (mut outcomes, mut refused) = (Vec::new(), 0);
    let mut failure = None;
    for (batch, key) in batches.iter().zip(&keys) {
        let body = SubmitBatch::new(batch.iter().map(|entry| entry.task.clone()));
        match server.repeat(|| client.submit_batch(&body, Some(key))).await {
            Ok(answers) => {
                refused += show(batch, &answers, json)?;
                outcomes.extend(answers);
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let submitted = outcomes.len() - refused;
    if json && !(outcomes.is_empty() && failure.is_some()) {
        print_json(&SubmitBatchReply::new(outcomes))?;
    }
    if let Some(failure) = failure {
        if submitted == 0 && failure.exit == Exit::Refused {
            return Err(failure);
        }
        let advice = format!(
            "{submitted} of {} tasks are submitted for sure; the same call with --idempotency-key {key} goes on and \
             does none of them twice",
            entries.len()
        );
        return Err(failure.and(&advice));
    }
    if refused == 0 {
        return Ok(Exit::Done);
    }
    tell(&format!("eap: {submitted} of {} tasks submitted, {refused} refused\n", entries.len()));
    Ok(Exit::Refused)
}

/// Prints the ids, tells of what was refused, and says how many those are.
fn show(batch: &[Entry], answers: &[SubmitOutcome], json: bool) -> Result<usize, Failure> {
    let (mut ids, mut refused) = (String::new(), 0);
    for (entry, answer) in batch.iter().zip(answers) {
        match answer {
            SubmitOutcome::Submitted(task) => ids.push_str(&format!("{}\n", task.task_id)),
            SubmitOutcome::Refused(problem) => {
                refused += 1;
                let line = Failure::new(Exit::Refused, format!("{} is refused: {}", entry.place, told(problem)));
                tell(&format!("eap: {line}\n"));
            }
            // An outcome that a later version of the protocol knows.
            _ => {
                refused += 1;
                tell(&format!("eap: {} has an answer that this version cannot read\n", entry.place));
            }
        }
    }
    if !json {
        print(&ids)?;
    }
    Ok(refused)
}

/// Reads all tasks, or tells what is wrong with those that are none.
fn entries(text: &str, name: &str) -> Result<Vec<Entry>, Failure> {
    // Editors of other systems put it there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts: Vec<(String, &str)> = Vec::new();
    let array: Vec<&RawValue>;
    if text.trim_start().starts_with('[') {
        array = serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("{name} is not a JSON array: {error}; nothing was submitted")))?;
        parts.extend(array.iter().zip(1..).map(|(part, number)| (format!("task {number}"), part.get())));
    } else {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        parts.extend(lines.map(|(line, number)| (format!("line {number}"), line)));
    }
    if parts.is_empty() {
        return Err(Failure::usage(format!("there is no task in {name}")));
    }
    let (count, mut wrong, mut entries) = (parts.len(), 0, Vec::new());
    for (place, part) in parts {
        match from_json::<SubmitTask>(part.as_bytes()) {
            Ok(task) => entries.push(Entry { place, task }),
            Err(error) => {
                wrong += 1;
                if wrong <= MAX_TOLD {
                    tell(&format!("eap: {}\n", Failure::usage(format!("{place}: {}", why(&error)))));
                }
            }
        }
    }
    if wrong == 0 {
        return Ok(entries);
    }
    let are = if count == 1 { "the task".to_owned() } else { format!("{wrong} of {count} tasks") };
    Err(Failure::usage(format!("{are} in {name} cannot be read; nothing was submitted")).and(FORM))
}

/// A problem in the words of a file, which has no body.
fn why(error: &DecodeError) -> String {
    match error {
        DecodeError::Malformed { message } => format!("not a JSON object: {message}"),
        error => error.to_string().replace("body.", "").replace("body: ", "").replace("body ", "the task "),
    }
}

/// Cuts what is too much for one call.
fn batches(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, AROUND);
    for (index, entry) in entries.iter().enumerate() {
        let length = serde_json::to_vec(&entry.task).map_or(0, |json| json.len()) + 1;
        let is_full = index - start == MAX_BATCH_TASKS || bytes + length > MAX_BATCH_BYTES;
        if is_full && index > start {
            batches.push(&entries[start..index]);
            (start, bytes) = (index, AROUND);
        }
        bytes += length;
    }
    batches.push(&entries[start..]);
    batches
}

/// One key for each call: the very key for one, and numbered ones that come out the same each time for several.
fn keys(key: &IdempotencyKey, calls: usize) -> Result<Vec<IdempotencyKey>, Failure> {
    if calls == 1 {
        return Ok(vec![key.clone()]);
    }
    let numbered = (1..=calls).map(|number| format!("{}-{number}", key.as_str()).parse());
    numbered.collect::<Result<_, _>>().map_err(|error| Failure::usage(format!("--idempotency-key: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        entries(text, "test").unwrap().into_iter().map(|entry| entry.place).collect()
    }

    #[test]
    fn tasks_come_as_lines_or_as_an_array() {
        let task = r#"{"task_type": "work", "input_data": "x"}"#;
        assert_eq!(places(&format!("\u{feff}{task}\r\n\n  \n{task}")), ["line 1", "line 4"]);
        assert_eq!(places(&format!(" \n[{task},\n\n{task}]\n")), ["task 1", "task 2"]);
        for none in ["", "\n\n", "[]", "[1]", "{", "[{}", "null", &format!("{task},\n{task}")] {
            assert_eq!(entries(none, "test").unwrap_err().exit, Exit::Usage, "{none}");
        }
    }

    #[test]
    fn what_is_too_much_for_one_call_is_cut_and_each_has_its_key() {
        let entry = |bytes: usize| Entry {
            place: String::new(),
            task: SubmitTask::text("work".parse().unwrap(), &"x".repeat(bytes)),
        };
        let lengths = |entries: &[Entry]| batches(entries).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&(0..2001).map(|_| entry(1)).collect::<Vec<_>>()), [1000, 1000, 1]);
        assert_eq!(lengths(&[entry(5_000_000), entry(3_000_000), entry(1_000_000)]), [2, 1]);
        assert_eq!(lengths(&[entry(9_000_000), entry(1)]), [1, 1]);
        let key: IdempotencyKey = "nightly".parse().unwrap();
        assert_eq!(keys(&key, 1).unwrap(), std::slice::from_ref(&key));
        let numbered = keys(&key, 2).unwrap();
        assert_eq!([numbered[0].as_str(), numbered[1].as_str()], ["nightly-1", "nightly-2"]);
        assert!(keys(&"k".repeat(255).parse().unwrap(), 2).is_err());
    }
}
