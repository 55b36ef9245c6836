//! Prints every example of a payload, changed in one place in every way, with the verdict of the Rust type.
//!
//! One JSON document a line: which payload, what was changed, the value, and whether the type takes it. `.ci/contract`
//! gives them to a validator that knows `schemas/` alone: what the type refuses, the schema has to refuse.

use std::io::{self, BufWriter, Write as _};

use eap_types::agentkit::{
    AgentNotification, AgentNotified, AgentStateHistory, AgentStateView, DetailBody, PlatformReply, Reconciled,
    RunMessage, StateAccepted, StateHistoryQuery, StateReport,
};
use eap_types::{
    AgentDetail, AgentPage, ArtifactQuery, Assignment, Callback, CancelSession, CancelTask, CreateKey,
    CreateRegistrationSecret, CreatedKey, CreatedRegistrationSecret, Decode, Deregister, Deregistered, DrainAgent,
    EventQuery, EventView, EventsReset, Health, Heartbeat, HeartbeatReply, IncomingResults, IncomingTasks, KeyPage,
    LeaseReply, LeaseRequest, NextRequest, PageQuery, PayloadInfo, PayloadRole, ProblemBody, ProgressReply,
    ProgressReport, Readiness, Registered, Registration, RegistrationSecretPage, ReleaseRequest, Released,
    ResultAccepted, ResultsReply, RotatedToken, RotationAsked, RunWorkflow, SessionPage, SessionQuery, SessionView,
    SetInterval, StoredArtifact, SubmitBatchReply, SubmitTask, TaskExplanation, TaskHistory, TaskPage, TaskQuery,
    TaskResult, TaskTypeView, TaskView, TriggerWorkflow, WaitQuery, WellKnown, WorkflowDefinition, WorkflowPage,
    WorkflowQuery, WorkflowStarted, WorkflowSummary, from_json,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longer texts and lists than any limit that a schema states.
const LONGEST_TEXT: u64 = 70_000;
const LONGEST_LIST: u64 = 1_100;

/// Whether the type of a payload takes a body.
fn takes(payload: &str, body: &Value) -> bool {
    fn decodes<T: Decode>(body: &str) -> bool {
        from_json::<T>(body.as_bytes()).is_ok()
    }
    fn reads<T: DeserializeOwned>(body: &str) -> bool {
        serde_json::from_str::<T>(body).is_ok()
    }
    let body = &body.to_string();
    match payload {
        "AgentDetail" => reads::<AgentDetail>(body),
        "AgentNotification" => decodes::<AgentNotification>(body),
        "AgentNotified" => reads::<AgentNotified>(body),
        "AgentPage" => reads::<AgentPage>(body),
        "Reconciled" => reads::<Reconciled>(body),
        "AgentStateHistory" => reads::<AgentStateHistory>(body),
        "AgentStateView" => reads::<AgentStateView>(body),
        "ArtifactQuery" => reads::<ArtifactQuery>(body),
        "Assignment" => decodes::<Assignment>(body),
        "Callback" => reads::<Callback>(body),
        "CancelSession" => decodes::<CancelSession>(body),
        "CancelTask" => decodes::<CancelTask>(body),
        "CreateKey" => decodes::<CreateKey>(body),
        "CreateRegistrationSecret" => decodes::<CreateRegistrationSecret>(body),
        "CreatedKey" => reads::<CreatedKey>(body),
        "CreatedRegistrationSecret" => reads::<CreatedRegistrationSecret>(body),
        "Deregister" => decodes::<Deregister>(body),
        "Deregistered" => reads::<Deregistered>(body),
        "DetailBody" => reads::<DetailBody>(body),
        "DrainAgent" => decodes::<DrainAgent>(body),
        "EventQuery" => reads::<EventQuery>(body),
        "EventView" => reads::<EventView>(body),
        "EventsReset" => reads::<EventsReset>(body),
        "Health" => reads::<Health>(body),
        "Heartbeat" => decodes::<Heartbeat>(body),
        "HeartbeatReply" => reads::<HeartbeatReply>(body),
        "KeyPage" => reads::<KeyPage>(body),
        "LeaseReply" => reads::<LeaseReply>(body),
        "LeaseRequest" => decodes::<LeaseRequest>(body),
        "NextRequest" => decodes::<NextRequest>(body),
        "PageQuery" => reads::<PageQuery>(body),
        "PlatformReply" => reads::<PlatformReply>(body),
        "ProblemBody" => reads::<ProblemBody>(body),
        "ProgressReply" => reads::<ProgressReply>(body),
        "ProgressReport" => decodes::<ProgressReport>(body),
        "Readiness" => reads::<Readiness>(body),
        "Registered" => reads::<Registered>(body),
        "Registration" => decodes::<Registration>(body),
        "RegistrationSecretPage" => reads::<RegistrationSecretPage>(body),
        "ReleaseRequest" => decodes::<ReleaseRequest>(body),
        "Released" => reads::<Released>(body),
        "ResultAccepted" => reads::<ResultAccepted>(body),
        "ResultBatch" => {
            from_json::<IncomingResults>(body.as_bytes()).is_ok_and(|batch| batch.entries.iter().all(Result::is_ok))
        }
        "ResultsReply" => reads::<ResultsReply>(body),
        "RotatedToken" => reads::<RotatedToken>(body),
        "RotationAsked" => reads::<RotationAsked>(body),
        "RunMessage" => decodes::<RunMessage>(body),
        "RunWorkflow" => decodes::<RunWorkflow>(body),
        "SessionPage" => reads::<SessionPage>(body),
        "SessionQuery" => reads::<SessionQuery>(body),
        "SessionView" => reads::<SessionView>(body),
        "SetInterval" => decodes::<SetInterval>(body),
        "StateAccepted" => reads::<StateAccepted>(body),
        "StateHistoryQuery" => reads::<StateHistoryQuery>(body),
        "StateReport" => decodes::<StateReport>(body),
        "StoredArtifact" => reads::<StoredArtifact>(body),
        "SubmitBatch" => from_json::<IncomingTasks>(body.as_bytes())
            .is_ok_and(|batch| batch.entries.iter().all(|entry| entry.task.is_ok())),
        "SubmitBatchReply" => reads::<SubmitBatchReply>(body),
        "SubmitTask" => decodes::<SubmitTask>(body),
        "TaskExplanation" => reads::<TaskExplanation>(body),
        "TaskHistory" => reads::<TaskHistory>(body),
        "TaskPage" => reads::<TaskPage>(body),
        "TaskQuery" => reads::<TaskQuery>(body),
        "TaskResult" => decodes::<TaskResult>(body),
        "TaskTypeView" => reads::<TaskTypeView>(body),
        "TaskView" => reads::<TaskView>(body),
        "TriggerWorkflow" => decodes::<TriggerWorkflow>(body),
        "WaitQuery" => reads::<WaitQuery>(body),
        "WellKnown" => reads::<WellKnown>(body),
        "WorkflowDefinition" => decodes::<WorkflowDefinition>(body),
        "WorkflowPage" => reads::<WorkflowPage>(body),
        "WorkflowQuery" => reads::<WorkflowQuery>(body),
        "WorkflowStarted" => reads::<WorkflowStarted>(body),
        "WorkflowSummary" => reads::<WorkflowSummary>(body),
        other => panic!("{other} has no line in this program"),
    }
}

/// The place of every value in a document, as JSON pointers.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                places(member, &format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{place}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn with(document: &Value, place: &str, value: Value) -> Value {
    let mut changed = document.clone();
    *changed.pointer_mut(place).expect("places are of this document") = value;
    changed
}

fn without(document: &Value, place: &str) -> Option<Value> {
    let (parent, name) = place.rsplit_once('/')?;
    let mut changed = document.clone();
    let members = changed.pointer_mut(parent)?.as_object_mut()?;
    members.remove(&name.replace("~1", "/").replace("~0", "~"))?;
    Some(changed)
}

/// The two neighbours between `good` and `bad` where the verdict turns.
fn edge(mut good: i128, mut bad: i128, is_good: impl Fn(i128) -> bool) -> (i128, i128) {
    while good.abs_diff(bad) > 1 {
        let middle = (good + bad) / 2;
        if is_good(middle) { good = middle } else { bad = middle }
    }
    (good, bad)
}

/// The same item; of artifacts, which may not share a path, one at a path of its own.
fn numbered(item: &Value, number: i128) -> Value {
    let mut item = item.clone();
    if let Some(path) = item.get_mut("path") {
        *path = json!(format!("{number}"));
    }
    item
}

/// Other values for a place that holds `old`, each with a word for it.
fn others(old: &Value, is_good: &dyn Fn(Value) -> bool) -> Vec<(String, Value)> {
    let kinds = [
        ("null", json!(null)),
        ("a boolean", json!(true)),
        ("a number", json!(3)),
        ("a negative number", json!(-1)),
        ("a fraction", json!(1.5)),
        ("a text", json!("no such word")),
        ("an empty text", json!("")),
        ("an empty list", json!([])),
        ("a list", json!([[]])),
        ("an empty object", json!({})),
        ("an object", json!({ "no such member": [] })),
    ];
    let mut changes: Vec<(String, Value)> = kinds.map(|(word, value)| (word.to_owned(), value)).into();
    let mut at_edge = |word: &str, limit: i128, make: &dyn Fn(i128) -> Value, good: i128| {
        if is_good(make(good)) && !is_good(make(limit)) {
            let (last, first) = edge(good, limit, |number| is_good(make(number)));
            changes.push((format!("the {word} that is just taken"), make(last)));
            changes.push((format!("the {word} that is just too much"), make(first)));
        }
    };
    let text = |length: i128| json!("x".repeat(usize::try_from(length).unwrap_or_default()));
    match old {
        Value::Number(number) => {
            let good = number.as_i64().map_or(1, i128::from);
            let make = |number: i128| {
                let number = i64::try_from(number).map(Value::from).ok();
                number.unwrap_or_else(|| json!(u64::MAX))
            };
            at_edge("greatest number", i128::from(i64::MAX), &make, good);
            at_edge("least number", i128::from(i64::MIN), &make, good);
        }
        Value::String(old) => {
            at_edge("longest text", LONGEST_TEXT.into(), &text, 1);
            for odd in ["\0", "\n", " ", "/", ":", "A", "é", "\u{202e}", "!"] {
                let middle = old.char_indices().nth(old.chars().count() / 2).map_or(0, |(index, _)| index);
                for (place, index) in [("first", 0), ("in the middle", middle), ("last", old.len())] {
                    let mut changed = old.clone();
                    changed.insert_str(index, odd);
                    changes.push((format!("{odd:?} {place}"), json!(changed)));
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = items.first() {
                let make = |length: i128| (0..length).map(|number| numbered(item, number)).collect();
                at_edge("longest list", LONGEST_LIST.into(), &make, 1);
            }
        }
        Value::Object(members) if members.values().all(Value::is_string) => {
            let make = |length: i128| (0..length).map(|number| (format!("k{number}"), json!("v"))).collect();
            at_edge("largest object", LONGEST_LIST.into(), &make, 1);
            let keyed = |length: i128| json!({ "k".repeat(usize::try_from(length).unwrap_or_default()): "v" });
            at_edge("longest name", 5_000, &keyed, 1);
        }
        _ => {}
    }
    changes
}

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for payload in PayloadInfo::ALL {
        // A callback is a request that we write and others read.
        let is_decoded = payload.role == PayloadRole::Request && payload.name != "Callback";
        for (example, text) in payload.examples {
            let document: Value = serde_json::from_str(text).expect("examples are JSON");
            assert!(takes(payload.name, &document), "{example} is taken");
            let mut all = Vec::new();
            places(&document, "", &mut all);
            for place in &all {
                let old = document.pointer(place).expect("places are of this document");
                let is_good = |value: Value| takes(payload.name, &with(&document, place, value));
                let changes = others(old, &is_good).into_iter();
                let changed = changes.map(|(change, value)| (change, with(&document, place, value)));
                for (change, value) in
                    without(&document, place).map(|value| ("absent".to_owned(), value)).into_iter().chain(changed)
                {
                    let taken = takes(payload.name, &value);
                    let line = json!({
                        "payload": payload.name, "example": example, "place": place, "decoded": is_decoded,
                        "change": change, "taken": taken, "value": value,
                    });
                    writeln!(out, "{line}")?;
                }
            }
        }
    }
    out.flush()
}
