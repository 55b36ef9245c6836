//! What a submitted task may hold.

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
    accepted::<SubmitTask>(&submit(&json!({ "inactivity_seconds": null, "callback_url": null })));
}

#[test]
fn prefer_at_most_sixteen_agents() {
    let agents = |count: u32| (0..count).map(|number| format!("agent-{number}")).collect::<Vec<_>>();
    let task: SubmitTask = accepted(&submit(&json!({ "preferred_agents": agents(16) })));
    assert_eq!(task.preferred_agents.len(), 16);
    let refused = submit(&json!({ "preferred_agents": agents(17) }));
    assert_eq!(problems::<SubmitTask>(&refused), ["body.preferred_agents value_error"]);
    // Who is named twice is preferred once.
    let twice: SubmitTask = accepted(&submit(&json!({ "preferred_agents": ["b", "a", "b"] })));
    assert_eq!(written(&twice)["preferred_agents"], json!(["a", "b"]));
    for none in [json!([]), json!(null)] {
        let task: SubmitTask = accepted(&submit(&json!({ "preferred_agents": none })));
        assert_eq!(task, accepted(&submit(&json!({}))));
    }
}
