//! What is accepted, what is refused, and with which words.

use std::fmt::Debug;

use eap_types::{
    AgentType, Artifact, Assignment, ContentEncoding, CreateKey, CreateRegistrationSecret, Decode, DecodeError,
    Deregister, Directive, DirectiveKind, FailureCode, Feature, Features, Heartbeat, IncomingResults, LeaseRequest,
    NextRequest, Priority, ProgressReport, Registration, ReleaseRequest, ResultStatus, SubmitTask, TaskResult,
    TransportKind, from_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};

mod absent_fields;
mod all_problems_at_once;
mod older_peers;
mod registrations;
mod results;
mod schemas;
mod spellings;
mod submitted_tasks;
mod versions;
mod workflows;

const TASK: &str = "01956e3c-7f60-7000-8000-000000000001";
const LEASE: &str = "01956e3c-8a10-7000-8000-0000000000a1";

fn decode<T: Decode>(body: &Value) -> Result<T, DecodeError> {
    from_json(body.to_string().as_bytes())
}

fn accepted<T: Decode>(body: &Value) -> T {
    decode(body).unwrap_or_else(|refusal| panic!("{body} is accepted, but: {refusal}"))
}

/// The problems of a body that is refused, as "field kind", sorted.
fn problems<T: Decode + Debug>(body: &Value) -> Vec<String> {
    let refusal = decode::<T>(body).expect_err("the body is refused");
    let DecodeError::Invalid { problems } = refusal else {
        panic!("the fields of the body are refused, but: {refusal}");
    };
    let mut found: Vec<String> = problems.iter().map(|problem| format!("{} {}", problem.field, problem.kind)).collect();
    found.sort();
    found
}

fn written<T: serde::Serialize>(message: &T) -> Value {
    serde_json::to_value(message).expect("messages can be written")
}

fn registration(extra: &Value) -> Value {
    with(&json!({ "name": "AGENT-1", "capabilities": ["testing"] }), extra)
}

fn result(extra: &Value) -> Value {
    with(&json!({ "task_id": TASK, "status": "completed" }), extra)
}

fn submit(extra: &Value) -> Value {
    with(&json!({ "task_type": "text.translate", "input": "hello" }), extra)
}

fn with(base: &Value, extra: &Value) -> Value {
    let mut whole = base.clone();
    for (key, value) in extra.as_object().expect("extra fields are an object") {
        whole[key] = value.clone();
    }
    whole
}

prop_compose! {
    fn figure()(given in prop::option::of(prop_oneof![0.0..1e300_f64, (0_u32..).prop_map(f64::from)])) -> Option<f64> {
        given
    }
}

prop_compose! {
    fn any_result()(
        failed in any::<bool>(),
        message in prop::option::of(".*"),
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        (time, tokens, cost) in (figure(), figure(), figure()),
        attempt in prop::option::of(any::<u32>()),
        code in prop::option::of(prop::sample::select(FailureCode::ALL)),
        retryable in prop::option::of(any::<bool>()),
        output in prop::collection::btree_map(".*", any::<i64>(), 0..4),
    ) -> TaskResult {
        let task = TASK.parse().expect("a task id");
        let output = eap_types::JsonObject::from_serialize(&output).expect("a map is an object");
        let mut result = TaskResult::completed(task, output);
        if failed {
            result.status = ResultStatus::Failed;
        }
        result.error_message = message;
        result.artifacts = contents
            .iter()
            .enumerate()
            .map(|(index, bytes)| Artifact::from_bytes(format!("f{index}").parse().expect("a path"), bytes))
            .collect();
        (result.execution_time_ms, result.tokens_used, result.cost_usd) = (time, tokens, cost);
        result.attempt = attempt;
        result.lease_id = attempt.map(|_| LEASE.parse().expect("a lease id"));
        result.error_code = code;
        result.retryable = retryable;
        result
    }
}

proptest! {
    #[test]
    fn a_result_is_read_as_it_was_written(given in any_result()) {
        let text = serde_json::to_vec(&given).expect("results can be written");
        let read: TaskResult = from_json(&text).expect("what was written is valid");
        prop_assert_eq!(read.canonical_text(), given.canonical_text());
        prop_assert_eq!(read, given);
    }

    #[test]
    fn a_heartbeat_is_read_as_it_was_written(
        load in 0.0..=1.0_f64, tasks in any::<u64>(), seq in prop::option::of(any::<u64>()), draining in any::<bool>(),
        progress in prop::option::of(0.0..=1.0_f64),
    ) {
        let mut given = Heartbeat::new(eap_types::HealthStatus::Busy)
            .with_current_load(load)
            .with_tasks_in_progress(tasks)
            .with_draining(draining);
        given.seq = seq;
        given.tasks = progress.map(|progress| {
            let held = eap_types::HeldTask::new(TASK.parse().expect("a task id"), LEASE.parse().expect("a lease id"));
            vec![held.with_progress(progress)]
        });
        let text = serde_json::to_vec(&given).expect("heartbeats can be written");
        let read: Heartbeat = from_json(&text).expect("what was written is valid");
        prop_assert_eq!(read, given);
    }

    #[test]
    fn a_submitted_input_reaches_the_agent_with_its_value(input in ".*", key in ".*") {
        let task_type: eap_types::TaskType = "a".parse().expect("a task type");
        let value = json!({ &key: [&input, 1.5, null] });
        let task = SubmitTask::json(task_type, &value).expect("a value has a JSON form");
        let read: Value = serde_json::from_str(&task.input_text()).expect("compact text is JSON");
        prop_assert_eq!(read, value);
    }
}

#[test]
fn a_payload_is_not_printed_through_debug() {
    const CANARY: &str = "canary-payload";
    let task = "01890a5d-ac96-774b-bcce-b302099a8057";
    let assignment: Assignment = accepted(&json!({
        "task_id": task, "context": {"k": CANARY}, "input_data": CANARY, "requirements": [],
    }));
    let result: TaskResult = accepted(&json!({
        "task_id": task, "status": "completed", "output_data": {"k": CANARY},
        "artifacts": [{"path": "a.txt", "content": CANARY}],
    }));
    let submit: SubmitTask = accepted(&submit(&json!({"input": CANARY, "context": {"k": CANARY}})));
    for printed in [format!("{assignment:?}"), format!("{result:?}"), format!("{submit:#?}")] {
        assert!(!printed.contains(CANARY), "{printed}");
    }
}
