//! Every message has a fixture: it is read, written back and compared as JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use eap_types::agentkit::{
    AgentNotification, AgentNotified, AgentStateHistory, AgentStateView, DetailBody, PlatformReply, Reconciled,
    RunMessage, StateAccepted, StateHistoryQuery, StateReport,
};
use eap_types::{
    AgentDetail, AgentPage, ArtifactQuery, Assignment, Callback, CancelSession, CancelTask, CreateKey,
    CreateRegistrationSecret, CreatedKey, CreatedRegistrationSecret, Decode, Deregister, Deregistered, DrainAgent,
    EventQuery, EventView, EventsReset, Health, Heartbeat, HeartbeatReply, IncomingResults, IncomingTasks, KeyPage,
    LeaseReply, LeaseRequest, NextRequest, PageQuery, PayloadInfo, ProblemBody, ProgressReply, ProgressReport,
    Readiness, Registered, Registration, RegistrationSecretPage, ReleaseRequest, Released, ResultAccepted, ResultBatch,
    ResultsReply, RotatedToken, RotationAsked, RunWorkflow, SessionPage, SessionQuery, SessionView, SetInterval,
    StoredArtifact, SubmitBatch, SubmitBatchReply, SubmitTask, TaskExplanation, TaskHistory, TaskPage, TaskQuery,
    TaskResult, TaskTypeView, TaskView, TriggerWorkflow, WaitQuery, WellKnown, WorkflowDefinition, WorkflowPage,
    WorkflowQuery, WorkflowStarted, WorkflowSummary, from_json,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a body with one type and writes it back.
type RoundTrip = fn(&str) -> String;

const FIXTURES: &[(&str, RoundTrip)] = &[
    ("adr001_assignment.request", message::<Assignment>),
    ("adr001_heartbeat.request", message::<Heartbeat>),
    ("adr001_registration.request", message::<Registration>),
    ("adr001_result.request", message::<TaskResult>),
    ("agent.reply", reply::<AgentDetail>),
    ("agent_page.reply", reply::<AgentPage>),
    ("agentkit_deregister.request", message::<AgentNotification>),
    ("agentkit_detail.reply", reply::<DetailBody>),
    ("agentkit_detail_problems.reply", reply::<DetailBody>),
    ("agentkit_notified.reply", reply::<AgentNotified>),
    ("agentkit_notified_again.reply", reply::<AgentNotified>),
    ("agentkit_platform.reply", reply::<PlatformReply>),
    ("agentkit_platform_plain.reply", reply::<PlatformReply>),
    ("agentkit_register.request", message::<AgentNotification>),
    ("agentkit_run.request", message::<RunMessage>),
    ("agentkit_state.reply", reply::<AgentStateView>),
    ("agentkit_state.request", message::<StateReport>),
    ("agentkit_state_accepted.reply", reply::<StateAccepted>),
    ("agentkit_state_unknown.reply", reply::<AgentStateView>),
    ("agentkit_reconciled.reply", reply::<Reconciled>),
    ("agentkit_state_history.reply", reply::<AgentStateHistory>),
    ("agentkit_state_history.query", reply::<StateHistoryQuery>),
    ("assignment.request", message::<Assignment>),
    ("callback.request", reply::<Callback>),
    ("cancel.request", message::<CancelTask>),
    ("create_key.request", message::<CreateKey>),
    ("create_registration_secret.request", message::<CreateRegistrationSecret>),
    ("created_key.reply", reply::<CreatedKey>),
    ("created_registration_secret.reply", reply::<CreatedRegistrationSecret>),
    ("deregister.reply", reply::<Deregistered>),
    ("deregister.request", message::<Deregister>),
    ("drain_agent.request", message::<DrainAgent>),
    ("explain.reply", reply::<TaskExplanation>),
    ("event.reply", reply::<EventView>),
    ("events.query", reply::<EventQuery>),
    ("events_reset.reply", reply::<EventsReset>),
    ("health.reply", reply::<Health>),
    ("heartbeat.reply", reply::<HeartbeatReply>),
    ("heartbeat.request", message::<Heartbeat>),
    ("history.reply", reply::<TaskHistory>),
    ("key_page.reply", reply::<KeyPage>),
    ("lease.reply", reply::<LeaseReply>),
    ("lease.request", message::<LeaseRequest>),
    ("next.request", message::<NextRequest>),
    ("not_ready.reply", reply::<Readiness>),
    ("page.query", reply::<PageQuery>),
    ("artifact.query", reply::<ArtifactQuery>),
    ("stored_artifact.reply", reply::<StoredArtifact>),
    ("problem.reply", reply::<ProblemBody>),
    ("progress.reply", reply::<ProgressReply>),
    ("progress.request", message::<ProgressReport>),
    ("ready.reply", reply::<Readiness>),
    ("registration.reply", reply::<Registered>),
    ("registration.request", message::<Registration>),
    ("registration_older_peer.reply", reply::<Registered>),
    ("registration_secret_page.reply", reply::<RegistrationSecretPage>),
    ("release.reply", reply::<Released>),
    ("release.request", message::<ReleaseRequest>),
    ("result.reply", reply::<ResultAccepted>),
    ("result.request", message::<TaskResult>),
    ("result_failed.request", message::<TaskResult>),
    ("results.reply", reply::<ResultsReply>),
    ("results.request", results),
    ("rotated_token.reply", reply::<RotatedToken>),
    ("task_type.reply", reply::<TaskTypeView>),
    ("rotation_asked.reply", reply::<RotationAsked>),
    ("set_interval.request", message::<SetInterval>),
    ("submit_batch.reply", reply::<SubmitBatchReply>),
    ("submit_batch.request", tasks),
    ("submit.request", message::<SubmitTask>),
    ("submit_text.request", message::<SubmitTask>),
    ("task.query", reply::<TaskQuery>),
    ("task.reply", reply::<TaskView>),
    ("task_page.reply", reply::<TaskPage>),
    ("wait.query", reply::<WaitQuery>),
    ("well_known.reply", reply::<WellKnown>),
    ("workflow.request", message::<WorkflowDefinition>),
    ("trigger_workflow.request", message::<TriggerWorkflow>),
    ("trigger_stored_workflow.request", message::<TriggerWorkflow>),
    ("run_workflow.request", message::<RunWorkflow>),
    ("workflow_started.reply", reply::<WorkflowStarted>),
    ("workflow_page.reply", reply::<WorkflowPage>),
    ("workflow_kept.reply", reply::<WorkflowSummary>),
    ("workflow.query", reply::<WorkflowQuery>),
    ("cancel_session.request", message::<CancelSession>),
    ("session.reply", reply::<SessionView>),
    ("session_started.reply", reply::<SessionView>),
    ("session_page.reply", reply::<SessionPage>),
    ("session.query", reply::<SessionQuery>),
];

/// A message that is decoded whole; `Deserialize` must read it alike.
fn message<T: Decode + DeserializeOwned + Serialize>(body: &str) -> String {
    let decoded: T = from_json(body.as_bytes()).expect("the fixture is valid");
    let derived: T = serde_json::from_str(body).expect("both ways of reading agree");
    let text = serde_json::to_string(&decoded).expect("messages can be written");
    assert_eq!(text, serde_json::to_string(&derived).expect("messages can be written"));
    text
}

fn reply<T: DeserializeOwned + Serialize>(body: &str) -> String {
    let read: T = serde_json::from_str(body).expect("the fixture is valid");
    serde_json::to_string(&read).expect("replies can be written")
}

fn results(body: &str) -> String {
    let incoming: IncomingResults = from_json(body.as_bytes()).expect("the fixture is valid");
    let results = incoming.entries.into_iter().map(|entry| entry.expect("every entry is valid"));
    serde_json::to_string(&ResultBatch::new(results)).expect("batches can be written")
}

fn tasks(body: &str) -> String {
    let incoming: IncomingTasks = from_json(body.as_bytes()).expect("the fixture is valid");
    let tasks = incoming.entries.into_iter().map(|entry| entry.task.expect("every entry is valid"));
    serde_json::to_string(&SubmitBatch::new(tasks)).expect("batches can be written")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The names of all fixtures with their endings.
fn files() -> BTreeSet<String> {
    fs::read_dir(folder())
        .expect("the folder of fixtures can be listed")
        .map(|entry| {
            entry.expect("the folder of fixtures can be listed").file_name().into_string().expect("names are text")
        })
        .filter(|name| name != "README.md")
        .collect()
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(folder().join(format!("{name}.json"))).ok()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the text is JSON")
}

#[test]
fn every_fixture_is_written_back_as_it_was_read() {
    for (name, round_trip) in FIXTURES {
        let body = read(name).unwrap_or_else(|| panic!("{name}.json is there"));
        let expected = read(&format!("{name}.written")).unwrap_or_else(|| body.clone());
        assert_eq!(parse(&round_trip(&body)), parse(&expected), "{name}");
    }
}

#[test]
fn what_was_written_is_written_the_same_again() {
    for (name, round_trip) in FIXTURES {
        let once = round_trip(&read(name).unwrap_or_else(|| panic!("{name}.json is there")));
        assert_eq!(round_trip(&once), once, "{name}");
    }
}

#[test]
fn every_file_is_tested() {
    let files = files();
    let written = |name: &str| Some(format!("{name}.written.json")).filter(|file| files.contains(file));
    let tested: BTreeSet<String> = FIXTURES
        .iter()
        .flat_map(|(name, _)| [Some(format!("{name}.json")), written(name)].into_iter().flatten())
        .collect();
    assert_eq!(files, tested);
}

/// Members that are written as `null` where there is nothing: those that docs/protocol.md, section 6, shows so.
const NULLS: &[(&str, &[&str])] = &[
    ("AgentStateView", &["details"]),
    ("PlatformReply", &["error_code"]),
    ("SessionView", SESSION_NULLS),
    ("SessionPage", SESSION_NULLS),
];
const SESSION_NULLS: &[&str] = &["agentId", "endTime", "error", "result"];

#[test]
fn no_reply_holds_a_null_but_where_section_6_shows_one() {
    fn nulls(value: &Value, within: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Null => {
                found.insert(within.to_owned());
            }
            Value::Array(items) => items.iter().for_each(|item| nulls(item, within, found)),
            Value::Object(members) => members.iter().for_each(|(name, value)| nulls(value, name, found)),
            _ => {}
        }
    }
    let mut found: BTreeSet<(&str, String)> = BTreeSet::new();
    for (name, round_trip) in FIXTURES {
        let body = read(name).unwrap_or_else(|| panic!("{name}.json is there"));
        let payload = PayloadInfo::ALL.iter().find(|payload| payload.examples.iter().any(|(other, _)| other == name));
        let payload = payload.expect("the catalogue has every fixture").name;
        let mut members = BTreeSet::new();
        nulls(&parse(&round_trip(&body)), "the whole", &mut members);
        found.extend(members.into_iter().map(|member| (payload, member)));
    }
    let expected = NULLS.iter().flat_map(|(payload, members)| members.iter().map(move |member| (*payload, *member)));
    for (payload, member) in &found {
        assert!(expected.clone().any(|shown| shown == (payload, member)), "{payload}.{member} is null");
    }
    for (payload, member) in expected.filter(|(payload, _)| *payload != "SessionPage") {
        assert!(
            found.contains(&(payload, member.to_owned())),
            "{payload}.{member} is left out where section 6 shows null"
        );
    }
}

#[test]
fn the_catalogue_has_every_fixture_once() {
    let files: Vec<String> =
        files().into_iter().filter_map(|file| Some(file.strip_suffix(".json")?.to_owned())).collect();
    let examples = PayloadInfo::ALL.iter().flat_map(|payload| payload.examples);
    let mut listed: Vec<String> = examples.map(|(name, _)| (*name).to_owned()).collect();
    listed.sort_unstable();
    assert_eq!(listed, files, "eap-types/src/payload.rs lists the payloads and their fixtures");
}
