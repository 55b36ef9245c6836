//! State reports, work and answers: what is read, and what is found in it.

use eap_types::agentkit::{AgentStateView, PlatformReply, RunMessage, SessionContext, StateReport, StateWord};
use eap_types::{DecodeError, JsonObject, Timestamp, from_json};
use serde_json::{Value, json};

fn report(timestamp: &Value, details: &Value) -> Result<StateReport, DecodeError> {
    let body = json!({ "agentId": "a1", "timestamp": timestamp, "state": "Busy", "details": details });
    from_json(body.to_string().as_bytes())
}

fn time(timestamp: &Value) -> Option<Timestamp> {
    report(timestamp, &json!(null)).unwrap_or_else(|refusal| panic!("{timestamp}: {refusal}")).timestamp
}

#[test]
fn a_report_may_say_the_time_in_every_way_and_what_is_unreadable_means_now() {
    let noon = Timestamp::from_seconds(1_772_366_400);
    for given in [
        json!("2026-03-01T12:00:00Z"),
        json!("2026-03-01T12:00:00.000Z"),
        json!("2026-03-01T14:00:00+02:00"),
        // What Python's `datetime.utcnow().isoformat()` writes.
        json!("2026-03-01T12:00:00"),
        json!("2026-03-01 12:00:00"),
        json!(1_772_366_400),
        json!(1_772_366_400.0),
        json!("1772366400"),
    ] {
        assert_eq!(time(&given), Some(noon), "{given}");
    }
    let fraction = Timestamp::from_micros(noon.as_micros() + 123_456);
    for given in ["2026-03-01T12:00:00.123456", "2026-03-01T12:00:00.123456+00:00"] {
        assert_eq!(time(&json!(given)), Some(fraction), "{given}");
    }
    for given in [json!(""), json!("yesterday"), json!("2026-02-30T12:00:00Z"), json!("12:00"), json!(1e300)] {
        assert_eq!(time(&given), None, "{given}");
    }
}

#[test]
fn a_report_without_a_time_or_with_another_thing_is_refused() {
    for (given, kind) in [(json!(null), "missing"), (json!(true), "type_error"), (json!([]), "type_error")] {
        let DecodeError::Invalid { problems } = report(&given, &json!({})).expect_err("it is no time") else {
            panic!("{given} is a problem of its field")
        };
        let found: Vec<_> = problems.iter().map(|problem| (problem.field.as_str(), problem.kind.as_str())).collect();
        assert_eq!(found, [("body.timestamp", kind)]);
    }
}

#[test]
fn every_problem_of_a_report_is_named() {
    let body = json!({ "timestamp": {}, "state": "", "details": [] }).to_string();
    let error = from_json::<StateReport>(body.as_bytes()).expect_err("nothing is right");
    let fields: Vec<_> = error.problems().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["body.agentId", "body.timestamp", "body.state", "body.details"]);
}

#[test]
fn a_state_is_kept_as_sent_and_compared_in_any_case() {
    let report = report(&json!("2026-03-01T12:00:00Z"), &json!({})).unwrap();
    assert_eq!((report.state.as_str(), report.word()), ("Busy", StateWord::Active));
    let odd = StateReport::new("a1".parse().unwrap(), Timestamp::UNIX_EPOCH, "Having lunch");
    assert_eq!(odd.word(), StateWord::Other);
}

#[test]
fn the_task_of_a_report_is_the_first_of_four_names() {
    let task = |details: &Value| report(&json!(0), details).expect("any details are taken").task_id();
    let names = ["task_id", "taskId", "opscore_task_id", "current_task"];
    for (first, name) in names.iter().enumerate() {
        let details: serde_json::Map<String, Value> =
            names[first..].iter().rev().map(|name| ((*name).to_owned(), json!(format!("by {name}")))).collect();
        assert_eq!(task(&json!(details)), Some(format!("by {name}")));
    }
    assert_eq!(
        task(&json!({ "task_id": "", "taskId": null, "opscore_task_id": 7, "current_task": "t" })).unwrap(),
        "t"
    );
    for none in [json!(null), json!({}), json!({ "task": "t" }), json!({ "task_id": ["t"] })] {
        assert_eq!(task(&none), None, "{none}");
    }
}

#[test]
fn an_agent_that_has_not_reported_is_unknown() {
    let view = AgentStateView::unknown("a1".parse().unwrap(), Timestamp::from_seconds(1_772_366_400));
    assert_eq!(
        serde_json::to_value(view).unwrap(),
        json!({ "agentId": "a1", "state": "UNKNOWN", "details": null, "timestamp": "2026-03-01T12:00:00Z" })
    );
}

#[test]
fn work_has_its_ids_in_every_place() {
    let input = JsonObject::parse(r#"{"text": "hello"}"#).unwrap();
    let message = RunMessage::new("task-1", "summarize", input).with_session(SessionContext::new("wf-1", "s-1", "t1"));
    let written = serde_json::to_value(&message).unwrap();
    assert_eq!(
        written,
        json!({
            "senderId": "opscore_system_id", "messageType": "workflow_task", "payload": { "text": "hello" },
            "sessionContext": { "workflowId": "wf-1", "sessionId": "s-1", "taskId": "t1" },
            "taskId": "task-1", "task_name": "summarize", "opscore_session_id": "s-1", "opscore_task_id": "task-1",
        })
    );
    assert_eq!(from_json::<RunMessage>(written.to_string().as_bytes()), Ok(message));
}

#[test]
fn work_of_others_may_say_less() {
    let read = |body: &str| from_json::<RunMessage>(body.as_bytes());
    let message = read(r#"{"senderId": "me", "messageType": "chat"}"#).unwrap();
    assert!(message.payload.is_empty() && message.task().is_none());
    let places = [
        r#""opscore_task_id": "a", "taskId": "b", "sessionContext": {"taskId": "c"}"#,
        r#""taskId": "a", "sessionContext": {"taskId": "c"}"#,
        r#""sessionContext": {"taskId": "a", "more": 1}"#,
    ];
    for place in places {
        let message = read(&format!(r#"{{"senderId": "me", "messageType": "chat", {place}}}"#)).unwrap();
        assert_eq!(message.task(), Some("a"), "{place}");
    }
    let error = read(r#"{"payload": [], "sessionContext": 3, "taskId": {}}"#).expect_err("nothing is right");
    assert_eq!(error.problems().len(), 5, "{error}");
}

#[test]
fn an_answer_keeps_its_nulls_and_what_it_leaves_out() {
    for text in [
        r#"{"status":"success","message":"m"}"#,
        r#"{"status":"success","message":"m","data":null,"error_code":null}"#,
        r#"{"status":"error","message":"m","data":{"a":1},"error_code":"DUPLICATE"}"#,
    ] {
        let read: PlatformReply = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
