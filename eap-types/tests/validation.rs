//! What is accepted, what is refused, and with which words.

use std::fmt::Debug;

use eap_types::{
    AgentType, Artifact, Assignment, ContentEncoding, Decode, DecodeError, Deregister, Directive, DirectiveKind,
    FailureCode, Feature, Features, Heartbeat, IncomingResults, LeaseRequest, NextRequest, Priority, ProgressReport,
    Registration, ReleaseRequest, ResultStatus, SubmitTask, TaskResult, TransportKind, from_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};

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

mod all_problems_at_once {
    use super::*;

    #[test]
    fn of_a_registration() {
        let body = json!({
            "name": "x", "capabilities": [], "version": 3, "endpoint_url": "ftp://host/", "metadata": [],
            "labels": { "region": 1 }, "max_concurrent_tasks": 0, "transports": ["pull", "ws"],
            "task_schemas": { "testing": {} },
        });
        assert_eq!(
            problems::<Registration>(&body),
            [
                "body.capabilities value_error",
                "body.endpoint_url value_error",
                "body.labels type_error",
                "body.max_concurrent_tasks value_error",
                "body.metadata type_error",
                "body.name value_error",
                "body.task_schemas not_supported",
                "body.transports not_supported",
                "body.version type_error",
            ]
        );
    }

    #[test]
    fn of_a_heartbeat() {
        let body = json!({
            "status": "fine", "current_load": 1.5, "tasks_in_progress": -1, "seq": "3",
            "tasks": [{ "task_id": TASK, "lease_id": LEASE }, { "task_id": "t1", "progress": 2 }],
            "work_loop": { "last_poll_at": true }, "draining": "no",
        });
        assert_eq!(
            problems::<Heartbeat>(&body),
            [
                "body.current_load value_error",
                "body.draining type_error",
                "body.seq type_error",
                "body.status value_error",
                "body.tasks[1].lease_id missing",
                "body.tasks[1].progress value_error",
                "body.tasks[1].task_id value_error",
                "body.tasks_in_progress value_error",
                "body.work_loop.last_poll_at type_error",
            ]
        );
    }

    #[test]
    fn of_a_result() {
        let body = json!({
            "status": "done", "artifacts": [{ "path": "../x", "content": "a" }, { "path": "ok" }], "output_data": "x",
            "execution_time_ms": -1, "tokens_used": "NaN", "metrics": { "cost_usd": -0.5 }, "error_code": "OOPS",
        });
        assert_eq!(
            problems::<TaskResult>(&body),
            [
                "body.artifacts[0].path value_error",
                "body.artifacts[1].content missing",
                "body.error_code value_error",
                "body.execution_time_ms value_error",
                "body.metrics.cost_usd value_error",
                "body.output_data type_error",
                "body.status value_error",
                "body.task_id missing",
                "body.tokens_used type_error",
            ]
        );
    }

    #[test]
    fn of_a_submitted_task() {
        let body = json!({
            "context": 1, "requirements": "x", "required_capabilities": ["a b"], "priority": 5,
            "timeout_seconds": 604_801, "max_attempts": 0, "run_at": "soon", "preferred_agents": ["a"],
            "inactivity_seconds": 5, "callback_url": "http://h/",
        });
        assert_eq!(
            problems::<SubmitTask>(&body),
            [
                "body.callback_url not_supported",
                "body.context type_error",
                "body.inactivity_seconds not_supported",
                "body.input missing",
                "body.max_attempts value_error",
                "body.preferred_agents not_supported",
                "body.priority value_error",
                "body.required_capabilities value_error",
                "body.requirements type_error",
                "body.run_at value_error",
                "body.task_type missing",
                "body.timeout_seconds value_error",
            ]
        );
    }

    #[test]
    fn of_the_smaller_requests() {
        assert_eq!(
            problems::<LeaseRequest>(&json!({ "max_tasks": 101, "wait_seconds": 61, "task_types": ["a b"] })),
            [
                "body.max_tasks value_error",
                "body.request_id missing",
                "body.task_types value_error",
                "body.wait_seconds value_error",
            ]
        );
        assert_eq!(problems::<NextRequest>(&json!({ "wait_seconds": 2.5 })), ["body.wait_seconds type_error"]);
        assert_eq!(
            problems::<ProgressReport>(&json!({ "progress": -0.1, "message": "x".repeat(4097) })),
            ["body.message value_error", "body.progress value_error", "body.seq missing"]
        );
        assert_eq!(
            problems::<ReleaseRequest>(&json!({ "retry_after_seconds": 3601, "attempt": -1 })),
            ["body.attempt value_error", "body.retry_after_seconds value_error"]
        );
        assert_eq!(problems::<Deregister>(&json!({ "graceful": 1 })), ["body.graceful type_error"]);
    }

    #[test]
    fn in_the_one_error_of_a_nested_message() {
        let refusal = serde_json::from_value::<Heartbeat>(json!({ "current_load": 2 })).expect_err("it is refused");
        let text = refusal.to_string();
        assert!(text.contains("body.status") && text.contains("body.current_load"), "{text}");
    }
}

mod versions {
    use super::*;

    #[test]
    fn a_newer_minor_version_is_accepted_and_kept() {
        let given: Registration = accepted(&registration(&json!({ "protocol_version": "1.7", "news": [1, 2] })));
        assert_eq!(given.protocol_version, "1.7");
    }

    #[test]
    fn another_major_version_is_refused_before_all_else() {
        for version in ["2.0", "0.9", "10.0", "", "one"] {
            let body = json!({ "protocol_version": version, "name": "?" });
            let refusal = decode::<Registration>(&body).expect_err("the version is refused");
            assert_eq!(refusal, DecodeError::UnsupportedVersion { given: version.to_owned() });
        }
    }

    #[test]
    fn a_version_is_text() {
        let body = registration(&json!({ "protocol_version": 1.0 }));
        assert_eq!(problems::<Registration>(&body), ["body.protocol_version type_error"]);
    }
}

mod absent_fields {
    use super::*;

    #[test]
    fn get_the_defaults_of_the_protocol() {
        let given: Registration = accepted(&registration(&json!({})));
        assert_eq!((given.protocol_version.as_str(), given.version.as_str()), ("1.0", "1.0.0"));
        assert_eq!(given.agent_type, AgentType::Implementer);
        assert_eq!(given.max_concurrent_tasks, 5);
        assert_eq!(given.transports, [TransportKind::Pull]);

        let request: LeaseRequest = accepted(&json!({ "request_id": "r" }));
        assert_eq!((request.max_tasks, request.wait_seconds), (1, 25));
        assert_eq!(accepted::<NextRequest>(&json!({})), NextRequest::default());
        assert!(accepted::<Deregister>(&json!({})).graceful);
        assert_eq!(accepted::<ReleaseRequest>(&json!({})), ReleaseRequest::default());

        let task: SubmitTask = accepted(&submit(&json!({})));
        assert_eq!(task, SubmitTask::text("text.translate".parse().expect("a task type"), "hello"));
        assert_eq!((task.priority, task.timeout_seconds, task.max_attempts), (Priority::default(), 3600, 3));
        assert!(task.required_capabilities.iter().map(AsRef::<str>::as_ref).eq(["text.translate"]));
    }

    #[test]
    fn may_be_null() {
        let nulls = json!({
            "protocol_version": null, "version": null, "agent_type": null, "endpoint_url": null, "metadata": null,
            "features": null, "instance_id": null, "labels": null, "max_concurrent_tasks": null, "transports": null,
            "task_schemas": null,
        });
        let given: Registration = accepted(&registration(&nulls));
        assert_eq!(given, accepted(&registration(&json!({}))));
        assert!(given.is_older_peer());

        let nulls = json!({
            "artifacts": null, "output_data": null, "error_message": null, "execution_time_ms": null,
            "tokens_used": null, "cost_usd": null, "metrics": null, "lease_id": null, "attempt": null,
            "error_code": null, "retryable": null,
        });
        assert_eq!(accepted::<TaskResult>(&result(&nulls)), accepted(&result(&json!({}))));
    }

    #[test]
    fn may_not_be_null_when_required() {
        assert_eq!(problems::<Heartbeat>(&json!({ "status": null })), ["body.status missing"]);
        assert_eq!(problems::<SubmitTask>(&json!({ "task_type": "a", "input": null })), ["body.input missing"]);
        assert_eq!(problems::<IncomingResults>(&json!({ "results": null })), ["body.results missing"]);
    }

    #[test]
    fn are_not_written() {
        let task = TASK.parse().expect("a task id");
        let failed = TaskResult::failed(task, FailureCode::Timeout, "too slow");
        assert_eq!(
            written(&failed),
            json!({
                "task_id": TASK, "status": "failed", "artifacts": [], "output_data": {}, "error_message": "too slow",
                "error_code": "TIMEOUT",
            })
        );
        let beat: Heartbeat = accepted(&json!({ "status": "busy" }));
        let expected = json!({ "status": "busy", "current_load": 0, "tasks_in_progress": 0, "metrics": {} });
        assert_eq!(written(&beat), expected);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        accepted::<Heartbeat>(&json!({ "status": "healthy", "mood": { "is": "good" } }));
        accepted::<TaskResult>(&result(&json!({ "metrics": { "watts": "many" }, "extra": [null] })));
    }
}

mod older_peers {
    use super::*;

    #[test]
    fn are_those_that_say_nothing_about_features() {
        assert!(accepted::<Registration>(&registration(&json!({}))).is_older_peer());
        assert!(!accepted::<Registration>(&registration(&json!({ "features": [] }))).is_older_peer());
    }

    #[test]
    fn of_the_future_may_announce_what_is_not_known() {
        let given: Registration =
            accepted(&registration(&json!({ "features": ["telepathy.v3", "pull.v1", "pull.v1"] })));
        let pull: Features = [Feature::PullV1].into_iter().collect();
        assert_eq!(given.features, Some(pull));
    }

    #[test]
    fn agree_on_what_both_understand() {
        let ours: Features = [Feature::PullV1, Feature::WsV1].into_iter().collect();
        let theirs: Features = [Feature::WsV1, Feature::CancelV1].into_iter().collect();
        assert!(ours.intersection(&theirs).iter().eq([Feature::WsV1]));
    }

    #[test]
    fn get_the_input_in_both_spellings() {
        let assignment: Assignment = accepted(&json!({ "task_id": TASK, "input": "do", "context": { "a": [1] } }));
        let for_them = written(&assignment.for_older_peer());
        assert_eq!((&for_them["input"], &for_them["input_data"]), (&json!("do"), &json!("do")));
        assert_eq!(for_them["context"], json!({ "a": [1] }));
        assert_eq!(written(&assignment).get("input"), None);
    }

    #[test]
    fn may_send_directives_that_are_not_known() {
        let directive: Directive =
            serde_json::from_value(json!({ "id": "d-1", "type": "dance", "tempo": 3 })).expect("it is read");
        assert_eq!((directive.id.as_str(), directive.kind), ("d-1", DirectiveKind::Unknown));
    }
}

mod spellings {
    use super::*;

    #[test]
    fn input_data_wins_over_input() {
        let both = json!({ "task_id": TASK, "input": "adr", "input_data": "flat" });
        assert_eq!(accepted::<Assignment>(&both).input_data, "flat");
        let both: SubmitTask = accepted(&submit(&json!({ "input_data": "flat" })));
        assert_eq!(both.input_text(), "flat");
    }

    #[test]
    fn one_of_the_two_is_enough_and_needed() {
        let adr: Assignment = accepted(&json!({ "task_id": TASK, "input": "adr", "input_data": null }));
        assert_eq!(adr.input_data, "adr");
        assert_eq!(problems::<Assignment>(&json!({ "task_id": TASK })), ["body.input_data missing"]);
        assert_eq!(problems::<Assignment>(&json!({ "task_id": TASK, "input": 5 })), ["body.input type_error"]);
    }

    #[test]
    fn flat_figures_win_over_nested_ones() {
        let body = result(&json!({
            "tokens_used": 1, "metrics": { "tokens_used": 2, "execution_time_ms": 3.5 },
        }));
        let given: TaskResult = accepted(&body);
        assert_eq!((given.tokens_used, given.execution_time_ms, given.cost_usd), (Some(1.0), Some(3.5), None));
        let text = written(&given);
        assert_eq!(text["metrics"], json!({ "tokens_used": 1, "execution_time_ms": 3.5 }));
        assert_eq!((&text["tokens_used"], &text["execution_time_ms"]), (&json!(1), &json!(3.5)));
    }

    #[test]
    fn cancelled_means_failed_with_a_code() {
        let given: TaskResult = accepted(&result(&json!({ "status": "cancelled" })));
        assert_eq!((given.status, given.error_code), (ResultStatus::Failed, Some(FailureCode::Cancelled)));
        assert_eq!(written(&given)["status"], "failed");
    }
}

mod registrations {
    use super::*;

    #[test]
    fn take_http_urls_without_user_and_fragment() {
        for url in ["http://agent-service:8080", "https://a.example/x/?q=1", "http://[::1]:80"] {
            accepted::<Registration>(&registration(&json!({ "endpoint_url": url })));
        }
        let long = format!("http://h/{}", "x".repeat(2048));
        for url in ["agent:8080", "file:///etc", "http://u@h/", "http://u:p@h/", "http://h/#f", "http://", "", &long] {
            let body = registration(&json!({ "endpoint_url": url }));
            assert_eq!(problems::<Registration>(&body), ["body.endpoint_url value_error"], "{url}");
        }
    }

    #[test]
    fn leave_the_servers_keys_alone() {
        let body = registration(&json!({ "metadata": { "auth_token": "x", "is_external": true, "team": "a" } }));
        let metadata = accepted::<Registration>(&body).metadata;
        assert_eq!(metadata.as_str(), r#"{"team":"a"}"#, "an existing client that sends them is let in without them");
    }

    #[test]
    fn have_at_most_16_kib_of_metadata() {
        let metadata =
            |len: usize| registration(&json!({ "metadata": { "k": "x".repeat(len - r#"{"k":""}"#.len()) } }));
        accepted::<Registration>(&metadata(16 * 1024));
        assert_eq!(problems::<Registration>(&metadata(16 * 1024 + 1)), ["body.metadata value_error"]);
    }

    #[test]
    fn name_at_least_one_transport() {
        let body = registration(&json!({ "transports": [] }));
        assert_eq!(problems::<Registration>(&body), ["body.transports value_error"]);
    }
}

mod results {
    use super::*;

    #[test]
    fn are_retryable_unless_the_input_is_wrong() {
        let retryable = |extra| accepted::<TaskResult>(&result(&extra)).is_retryable();
        assert!(retryable(json!({ "status": "failed" })));
        assert!(!retryable(json!({ "status": "failed", "error_code": "INVALID_INPUT" })));
        assert!(retryable(json!({ "status": "failed", "error_code": "INVALID_INPUT", "retryable": true })));
        assert!(!retryable(json!({ "status": "failed", "error_code": "TIMEOUT", "retryable": false })));
    }

    #[test]
    fn say_the_same_whatever_their_spelling() {
        let one: TaskResult = accepted(&result(&json!({
            "output_data": { "a": 1, "b": [true] }, "tokens_used": 5, "lease_id": LEASE, "attempt": 1,
        })));
        let other: TaskResult = from_json(
            format!(
                r#"{{ "status": "completed", "task_id": "{TASK}", "metrics": {{"tokens_used": 5.0}},
                "artifacts": null, "output_data": {{ "b" : [ true ], "a" : 1 }}, "attempt": 2 }}"#
            )
            .as_bytes(),
        )
        .expect("the result is valid");
        assert_eq!(one.canonical_text(), other.canonical_text());
        let third: TaskResult = accepted(&result(&json!({ "output_data": { "a": 2, "b": [true] }, "tokens_used": 5 })));
        assert_ne!(one.canonical_text(), third.canonical_text());
    }

    #[test]
    fn have_at_most_a_hundred_artifacts() {
        let artifacts = |count| result(&json!({ "artifacts": vec![json!({ "path": "a", "content": "" }); count] }));
        accepted::<TaskResult>(&artifacts(100));
        assert_eq!(problems::<TaskResult>(&artifacts(101)), ["body.artifacts value_error"]);
    }

    #[test]
    fn refuse_artifacts_by_reference_and_broken_base64() {
        let body = result(&json!({ "artifacts": [
            { "path": "a", "content": "", "sha256": "00" },
            { "path": "b", "content": "not base64!", "encoding": "base64" },
            { "path": "c", "content": "", "encoding": "gzip" },
        ] }));
        assert_eq!(
            problems::<TaskResult>(&body),
            [
                "body.artifacts[0].sha256 not_supported",
                "body.artifacts[1].content value_error",
                "body.artifacts[2].encoding value_error",
            ]
        );
    }

    #[test]
    fn carry_any_bytes_as_artifacts() {
        let path: eap_types::ArtifactPath = "a.bin".parse().expect("a path");
        let binary = Artifact::from_bytes(path.clone(), &[0xff, 0, 1]);
        assert_eq!(binary.encoding, Some(ContentEncoding::Base64));
        assert_eq!(binary.bytes().expect("it was encoded here"), [0xff, 0, 1]);
        assert_eq!(Artifact::from_bytes(path.clone(), b"text"), Artifact::text(path.clone(), "text"));
        let mut broken = binary;
        broken.content.push('!');
        assert_eq!(broken.bytes().expect_err("it is no base64").path, path);
    }

    #[test]
    fn of_a_batch_are_judged_one_by_one() {
        let body = json!({ "results": [result(&json!({})), { "task_id": TASK }, 5] });
        let incoming: IncomingResults = accepted(&body);
        let fields: Vec<_> = incoming
            .entries
            .iter()
            .map(|entry| entry.as_ref().map_or_else(|problems| problems[0].field.as_str(), |_| "accepted"))
            .collect();
        assert_eq!(fields, ["accepted", "body.results[1].status", "body.results[2]"]);
        assert_eq!(problems::<IncomingResults>(&json!({})), ["body.results missing"]);
        assert_eq!(problems::<IncomingResults>(&json!({ "results": {} })), ["body.results type_error"]);
    }

    #[test]
    fn leave_out_figures_that_are_no_numbers() {
        let task = TASK.parse().expect("a task id");
        let done = TaskResult::completed(task, Default::default()).with_cost_usd(f64::NAN).with_tokens_used(7.0);
        let text = written(&done);
        assert_eq!((text.get("cost_usd"), &text["metrics"]), (None, &json!({ "tokens_used": 7 })));
        let beat = Heartbeat::new(eap_types::HealthStatus::Healthy).with_current_load(f64::INFINITY);
        assert_eq!(written(&beat).get("current_load"), None);
    }
}

mod submitted_tasks {
    use super::*;

    #[test]
    fn send_text_as_it_is_and_data_as_compact_text() {
        let text = |input: &str| {
            let body = format!(r#"{{"task_type": "a", "input": {input}}}"#);
            from_json::<SubmitTask>(body.as_bytes()).expect("the task is valid").input_text()
        };
        assert_eq!(text(r#""two\nlines \"q\"""#), "two\nlines \"q\"");
        assert_eq!(text("{ \"z\" : [ 1 , 2.50 ],\n \"a\": \"x \\\" y\" }"), r#"{"z":[1,2.50],"a":"x \" y"}"#);
        assert_eq!(text("17"), "17");
        assert_eq!(text("false"), "false");
    }

    #[test]
    fn require_their_type_when_they_name_no_capability() {
        let task: SubmitTask = accepted(&submit(&json!({ "required_capabilities": [] })));
        assert!(task.required_capabilities.iter().map(AsRef::<str>::as_ref).eq(["text.translate"]));
        let task: SubmitTask = accepted(&submit(&json!({ "required_capabilities": ["B", "a", "b"] })));
        assert!(task.required_capabilities.iter().map(AsRef::<str>::as_ref).eq(["a", "b"]));
    }

    #[test]
    fn may_leave_unbuilt_fields_empty() {
        accepted::<SubmitTask>(&submit(&json!({ "preferred_agents": [], "callback_url": null })));
    }
}

mod schemas {
    use super::*;
    use schemars::{JsonSchema, schema_for};

    fn schema<T: JsonSchema>() -> Value {
        schema_for!(T).to_value()
    }

    fn required(schema: &Value) -> Vec<&str> {
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    #[test]
    fn require_what_the_decoder_requires() {
        assert_eq!(required(&schema::<Registration>()), ["name", "capabilities"]);
        assert_eq!(required(&schema::<Heartbeat>()), ["status"]);
        assert_eq!(required(&schema::<TaskResult>()), ["task_id", "status"]);
        assert_eq!(required(&schema::<LeaseRequest>()), ["request_id"]);
        assert_eq!(required(&schema::<ProgressReport>()), ["seq"]);
        assert_eq!(required(&schema::<SubmitTask>()), ["task_type"]);
        assert_eq!(required(&schema::<Assignment>()), ["task_id"]);
    }

    #[test]
    fn know_the_older_spellings() {
        let assignment = schema::<Assignment>();
        assert_eq!(assignment["properties"]["input"]["type"], "string");
        assert_eq!(assignment["anyOf"], json!([{ "required": ["input_data"] }, { "required": ["input"] }]));
        assert!(schema::<TaskResult>()["properties"]["metrics"]["properties"]["tokens_used"].is_object());
    }

    #[test]
    fn say_the_ranges() {
        let priority = schema::<Priority>();
        assert_eq!((&priority["minimum"], &priority["maximum"]), (&json!(0), &json!(4)));
        assert_eq!(schema::<LeaseRequest>()["properties"]["max_tasks"]["maximum"], 100);
    }
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
