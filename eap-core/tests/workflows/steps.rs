//! What the task of a step is: who may do it, what its agent is given, how often it is tried.

use super::*;
use eap_core::{SessionDecision, SessionPhase, TaskOrder, TaskSpec, attempts_for};
use eap_types::{Capability, StepContext, limits};

/// The task that a completed step leads to.
fn created(session: &Session, event: SessionEvent, next: &NextTask<'_>) -> TaskSpec {
    match session.apply(event, at(10), next).expect("it is let through") {
        SessionDecision::Changed(change) => match change.order {
            Some(TaskOrder::Create(task)) => (*task.spec).clone(),
            other => panic!("the next step begins, but: {other:?}"),
        },
        other => panic!("the session goes on, but: {other:?}"),
    }
}

fn with_parameters(first: &str, second: &str) -> WorkflowDefinition {
    let mut workflow = chain(&["a", "b"]);
    workflow.tasks[0].parameters = object(first);
    workflow.tasks[1].parameters = object(second);
    workflow
}

#[test]
fn the_first_step_gets_the_initial_payload_in_place_of_its_parameters() {
    let workflow = with_parameters(r#"{"p": 1}"#, "{}");
    assert_eq!(started(workflow.clone()).1.spec.input, r#"{"p":1}"#);
    let spec = SessionSpec { initial_payload: Some(object(r#"{ "text": "a b" }"#)), ..spec_of(workflow) };
    assert_eq!(Session::start(spec, &next(1)).1.spec.input, r#"{"text":"a b"}"#);
}

#[test]
fn a_later_step_gets_its_parameters_and_what_came_out_before() {
    let parameters = r#"{"style": "short", "n": 12345678901234567890123, "previous": "mine"}"#;
    let spec =
        SessionSpec { initial_payload: Some(object(r#"{"text": 1}"#)), ..spec_of(with_parameters("{}", parameters)) };
    let (session, _) = Session::start(spec, &next(1));
    for result in [r#"{"summary": [1.50, null]}"#, "null", r#""text""#] {
        let task = created(&session, completed(1, result), &next(2));
        let expected = format!(r#"{{"n":12345678901234567890123,"previous":{result},"style":"short"}}"#);
        assert_eq!(json(&task.input), json(&expected));
        assert!(task.input.contains("12345678901234567890123"), "numbers are kept as they were written");
    }
}

#[test]
fn a_step_goes_to_the_agent_of_the_session_if_it_can_do_it_and_else_to_any_that_can() {
    let route = |agent_id: Option<&str>, offered: Option<&[&str]>, wanted: Option<&str>| {
        let mut workflow = chain(&["a", "b"]);
        workflow.tasks[1].agent_capability = wanted.map(|word| word.parse().expect("a capability"));
        let (session, _) = Session::start(SessionSpec { agent_id: agent_id.map(agent), ..spec_of(workflow) }, &next(1));
        let offered = offered.map(capabilities);
        let task = created(&session, completed(1, "1"), &NextTask { offered: offered.as_ref(), ..next(2) });
        let required: Vec<&str> = task.routing.required_capabilities.iter().map(Capability::as_str).collect();
        (task.routing.agent_id.map(String::from), required.join("+"))
    };
    let mine = |required: &str| (Some("a1".to_owned()), required.to_owned());
    let anybody = |required: &str| (None, required.to_owned());
    assert_eq!(route(Some("a1"), Some(&["work", "review"]), Some("review")), mine("review"));
    assert_eq!(route(Some("a1"), Some(&["work"]), Some("review")), anybody("review"));
    assert_eq!(route(Some("a1"), None, Some("review")), anybody("review"), "it is gone");
    assert_eq!(route(Some("a1"), Some(&["work"]), None), mine(""));
    assert_eq!(route(Some("a1"), None, None), mine(""), "it may come back");
    assert_eq!(route(None, None, Some("review")), anybody("review"));
}

#[test]
fn the_first_step_is_routed_like_every_other() {
    let offered = capabilities(&["work"]);
    let spec = SessionSpec { agent_id: Some(agent("a1")), ..spec_of(chain(&["a"])) };
    let (_, task) = Session::start(spec.clone(), &NextTask { offered: Some(&offered), ..next(1) });
    assert_eq!(task.spec.routing.agent_id, Some(agent("a1")));
    assert_eq!(Session::start(spec, &next(1)).1.spec.routing.agent_id, None);
}

#[test]
fn a_task_is_of_the_type_of_its_capability_or_of_its_name() {
    let task_type = |name: &str, capability: Option<&str>| {
        let mut workflow = chain(&["a"]);
        workflow.tasks[0].name = name.to_owned();
        workflow.tasks[0].agent_capability = capability.map(|word| word.parse().expect("a capability"));
        let spec = SessionSpec { agent_id: Some(agent("a1")), ..spec_of(workflow) };
        Session::start(spec, &next(1)).1.spec.routing.task_type.to_string()
    };
    assert_eq!(task_type("Check it", Some("Review")), "review");
    assert_eq!(task_type("summarize", None), "summarize");
    assert_eq!(task_type("Check it", None), "workflow_task");
}

#[test]
fn a_task_tells_its_agent_and_its_readers_where_it_belongs() {
    let spec = SessionSpec { traceparent: Some("00-t-s-01".to_owned()), ..spec_of(chain(&["a", "b"])) };
    let (session, first) = Session::start(spec, &next(1));
    let second = created(&session, completed(1, "1"), &next(2));
    for (spec, step, made, created_at) in [(&*first.spec, "a", 1, at(0)), (&second, "b", 2, at(10))] {
        let context: StepContext = spec.context.decode().expect("a context");
        let expected =
            StepContext::new("wf-1".parse().expect("a workflow id"), session.id(), step_id(step), format!("do {step}"));
        assert_eq!(context, expected);
        assert_eq!((spec.id, spec.session_id, spec.routing.tenant), (task(made), session.id(), session.spec.tenant));
        assert_eq!((spec.timeout, spec.created_at), (STEP_TIMEOUT, created_at));
        assert_eq!(spec.traceparent.as_deref(), Some("00-t-s-01"));
    }
}

#[test]
fn retries_come_after_the_first_attempt() {
    assert_eq!([0, 1, 3, 99].map(attempts_for), [1, 2, 4, 100]);
    assert_eq!([100, u32::MAX].map(attempts_for), [100, 100]);
    assert_eq!(attempts_for(limits::MAX_STEP_RETRIES), limits::MAX_ATTEMPTS);
    let workflow = workflow([step("a").with_max_retries(0)]);
    assert_eq!(started(workflow).1.spec.max_attempts, 1);
    assert_eq!(started(chain(&["a"])).1.spec.max_attempts, 4);
}

#[test]
fn a_result_that_cannot_be_handed_on_fails_the_session_and_is_kept() {
    let deepest = format!("{}1{}", "[".repeat(32), "]".repeat(32));
    let large = format!("\"{}\"", "x".repeat(limits::MAX_SUBMIT_BYTES));
    for (result, word) in [(&deepest, "deeply"), (&large, "bytes")] {
        let session = after(started(chain(&["a", "b"])).0, [completed(1, result)]);
        let SessionPhase::Failed { reason, .. } = &session.run.phase else { panic!("{:?}", session.run.phase) };
        assert!(reason.starts_with("step b could not begin: ") && reason.contains(word), "{reason}");
        assert_eq!(session.run.steps[0].result(), Some(&json(result)));
        // The last step hands nothing on.
        let session = after(started(chain(&["a"])).0, [completed(1, result)]);
        assert_eq!(session.result(), Some(&json(result)));
    }
    let fits = format!("\"{}\"", "x".repeat(limits::MAX_SUBMIT_BYTES - r#"{"previous":""}"#.len()));
    let session = after(started(chain(&["a", "b"])).0, [completed(1, &fits)]);
    assert_eq!(session.run.steps.len(), 2);
}

#[test]
fn a_session_keeps_so_many_bytes_of_results_and_no_more() {
    let mib = |count: usize| format!("\"{}\"", "x".repeat(count * (1 << 20) - 20));
    let ids: Vec<String> = (1..=9).map(|number| format!("t{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let session = after(started(chain(&ids)).0, (1..=8).map(|number| completed(number, &mib(1))));
    assert_eq!(session.run.steps.len(), 9);
    let session = after(session, [completed(9, &mib(1))]);
    let SessionPhase::Failed { reason, .. } = &session.run.phase else { panic!("{:?}", session.run.phase) };
    assert!(reason.contains("8388608 bytes"), "{reason}");
}
