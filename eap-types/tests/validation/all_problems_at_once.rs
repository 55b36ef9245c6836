//! All problems of a body are told at once, field by field.

use super::*;

#[test]
fn of_a_registration() {
    let body = json!({
        "name": "x", "capabilities": [], "version": 3, "endpoint_url": "ftp://host/", "metadata": [],
        "labels": { "region": 1 }, "max_concurrent_tasks": 0, "transports": [],
        "task_schemas": { "testing": "{}" },
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
            "body.task_schemas.testing type_error",
            "body.transports value_error",
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
        "timeout_seconds": 604_801, "max_attempts": 0, "run_at": "soon", "preferred_agents": ["a b/", 1],
        "inactivity_seconds": 0, "callback_url": "ftp://h/",
    });
    assert_eq!(
        problems::<SubmitTask>(&body),
        [
            "body.callback_url value_error",
            "body.context type_error",
            "body.inactivity_seconds value_error",
            "body.input missing",
            "body.max_attempts value_error",
            "body.preferred_agents value_error",
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
        problems::<LeaseRequest>(
            &json!({ "max_tasks": 101, "wait_seconds": 61, "task_types": ["a b"], "held": ["x"] })
        ),
        [
            "body.held value_error",
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

#[test]
fn of_an_operator_key() {
    let body = json!({ "name": " ci", "scopes": ["tasks:read", "everything"], "expires_at": "soon" });
    assert_eq!(
        problems::<CreateKey>(&body),
        ["body.expires_at value_error", "body.name value_error", "body.scopes value_error"]
    );
    for nothing in [json!({ "name": "ci" }), json!({ "name": "ci", "scopes": [] })] {
        assert_eq!(problems::<CreateKey>(&nothing), ["body.scopes missing"]);
    }
}

#[test]
fn of_a_registration_secret() {
    let body = json!({ "max_uses": 0, "names": ["a*b"], "capabilities": ["é"], "expires_at": [] });
    assert_eq!(
        problems::<CreateRegistrationSecret>(&body),
        [
            "body.capabilities value_error",
            "body.expires_at type_error",
            "body.max_uses value_error",
            "body.name missing",
            "body.names value_error",
        ]
    );
    let many: Vec<_> = (0..101).map(|number| format!("A-{number}")).collect();
    assert_eq!(
        problems::<CreateRegistrationSecret>(&json!({ "name": "f", "names": many })),
        ["body.names value_error"]
    );
}
