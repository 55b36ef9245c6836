//! What an absent field means, and a null.

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
