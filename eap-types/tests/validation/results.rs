//! What a result may hold.

use eap_types::ContentDigest;

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
    let artifacts = |count| {
        let artifacts: Vec<_> =
            (0..count).map(|number| json!({ "path": format!("a{number}"), "content": "" })).collect();
        result(&json!({ "artifacts": artifacts }))
    };
    accepted::<TaskResult>(&artifacts(100));
    assert_eq!(problems::<TaskResult>(&artifacts(101)), ["body.artifacts value_error"]);
}

#[test]
fn refuse_broken_digests_and_broken_base64() {
    let body = result(&json!({ "artifacts": [
        { "path": "a", "content": "", "sha256": "00" },
        { "path": "b", "content": "not base64!", "encoding": "base64" },
        { "path": "c", "content": "", "encoding": "gzip" },
    ] }));
    assert_eq!(
        problems::<TaskResult>(&body),
        [
            "body.artifacts[0].sha256 value_error",
            "body.artifacts[1].content value_error",
            "body.artifacts[2].encoding value_error",
        ]
    );
}

#[test]
fn name_uploads_by_their_digest_and_each_path_once() {
    let digest = ContentDigest::of(b"content");
    let body = result(&json!({ "artifacts": [
        { "path": "a", "content": "", "sha256": digest, "size": 7 },
        { "path": "b", "content": "content", "sha256": digest },
        { "path": "c", "content": "", "sha256": ContentDigest::of(b"") },
    ] }));
    let read = accepted::<TaskResult>(&body).artifacts;
    assert_eq!((read[0].is_stored(), read[0].sha256, read[0].size), (true, Some(digest), Some(7)));
    assert!(!read[1].is_stored() && !read[2].is_stored(), "what stands here was not uploaded");
    let body = result(&json!({ "artifacts": [
        { "path": "a", "content": "other", "sha256": digest },
        { "path": "b", "content": "" },
        { "path": "b", "content": "" },
        { "path": "c", "content": "", "sha256": digest, "size": -1 },
    ] }));
    let mut found = problems::<TaskResult>(&body);
    found.sort();
    assert_eq!(
        found,
        [
            "body.artifacts[0].sha256 value_error",
            "body.artifacts[2].path value_error",
            "body.artifacts[3].size value_error",
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
