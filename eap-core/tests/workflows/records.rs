//! Records in a store, views for watchers, and what a task's record means for its session.

use super::*;
use common::{Life, fatal, result_completed};
use eap_core::{CheckedWorkflow, SessionRun, TaskPolicy};
use eap_types::{SessionState, StepState};

#[test]
fn a_record_is_read_as_it_was_written() {
    let mut workflow = chain(&["a", "b"]).with_description("Two steps.");
    workflow.tasks[0].parameters = object(r#"{"n": 1.50}"#);
    let spec = SessionSpec {
        agent_id: Some(agent("a1")),
        initial_payload: Some(object(r#"{"text": "x"}"#)),
        traceparent: Some("t".to_owned()),
        ..spec_of(workflow)
    };
    let fresh = Session::start(spec, &next(1)).0;
    let text = serde_json::to_string(&*fresh.spec).expect("it can be written");
    assert_eq!(serde_json::from_str::<SessionSpec>(&text).expect("it is read"), *fresh.spec);
    let lives: [Vec<SessionEvent>; 6] = [
        vec![],
        vec![taken(1, "alpha", 1), SessionEvent::Pause],
        vec![completed(1, r#"{"a": [1.50, null]}"#)],
        vec![completed(1, "1"), completed(2, "null")],
        vec![failed(1, "no")],
        vec![cancel()],
    ];
    for events in lives {
        let run = after(fresh.clone(), events).run;
        let text = serde_json::to_string(&run).expect("it can be written");
        assert_eq!(serde_json::from_str::<SessionRun>(&text).expect("it is read"), run, "{text}");
    }
}

#[test]
fn a_later_rule_strands_no_session_that_was_kept() {
    let text =
        r#"{"id":"wf-1","name":"n","version":"1","tasks":[{"taskId":"a","name":"n"},{"taskId":"b","name":"n"}]}"#;
    assert!(CheckedWorkflow::check(serde_json::from_str(text).expect("a workflow"), None).is_err());
    assert!(serde_json::from_str::<CheckedWorkflow>(text).is_ok());
}

#[test]
fn a_view_shows_the_whole_chain() {
    let fresh = started(chain(&["a", "b", "c"])).0;
    let shown = |session: &Session| {
        let view = session.view();
        let steps: Vec<StepState> = view.steps.iter().map(|step| step.status).collect();
        (view.status, steps)
    };
    use StepState::{Cancelled, Completed, Failed, Pending, Queued, Running};
    assert_eq!(shown(&fresh), (SessionState::Started, vec![Queued, Pending, Pending]));
    let session = after(fresh.clone(), [taken(1, "alpha", 2)]);
    assert_eq!(shown(&session), (SessionState::Running, vec![Running, Pending, Pending]));
    let session = after(session, [completed(1, r#"{"x": 1}"#), failed(2, "no")]);
    assert_eq!(shown(&session), (SessionState::Failed, vec![Completed, Failed, Pending]));
    assert_eq!(shown(&after(fresh, [cancel()])), (SessionState::Cancelled, vec![Cancelled, Pending, Pending]));

    let view = session.view();
    assert_eq!((view.start_time, view.end_time), (at(0), Some(at(3))));
    assert_eq!((view.error.as_deref(), view.result), (Some("step b failed: no"), None));
    let first = &view.steps[0];
    assert_eq!((first.eap_task_id, first.agent_id.clone(), first.attempts), (Some(task(1)), Some(agent("alpha")), 2));
    assert_eq!((first.start_time, first.end_time), (Some(at(0)), Some(at(2))));
    assert_eq!(first.result, Some(json(r#"{"x": 1}"#)));
    // Nobody told that it was taken; its end says by whom.
    let second = &view.steps[1];
    assert_eq!(
        (second.agent_id.clone(), second.attempts, second.error.as_deref()),
        (Some(agent("alpha")), 1, Some("no"))
    );
    assert_eq!(view.steps[2].eap_task_id, None);
}

#[test]
fn a_completed_session_shows_the_result_of_its_last_step() {
    let session = after(started(chain(&["a", "b"])).0, [completed(1, "1"), completed(2, "2")]);
    assert_eq!(session.view().result, Some(json("2")));
    let failed = after(started(chain(&["a", "b"])).0, [completed(1, "1"), SessionEvent::Pause]);
    assert_eq!(failed.view().result, None);
}

#[test]
fn the_record_of_a_task_says_what_happened_to_its_step() {
    let mut life = Life::new();
    let id = life.task.id();
    let told = |life: &Life| SessionEvent::of(&life.task, Some(json(r#"{"word": "C"}"#)));
    let over = |agent_id: Option<&str>, attempts: u32, outcome: StepOutcome| {
        Some(SessionEvent::StepOver { task: id, agent: agent_id.map(agent), attempts, outcome })
    };
    assert_eq!(told(&life), None);
    life.assign("alpha", 1);
    assert_eq!(told(&life), Some(SessionEvent::StepTaken { task: id, agent: agent("alpha"), attempt: 1 }));

    let mut done = life.clone();
    done.report("alpha", 1, eap_core::Report::of(&result_completed("C"))).expect("it is recorded");
    let result = json(r#"{"word": "C"}"#);
    assert_eq!(told(&done), over(Some("alpha"), 1, StepOutcome::Completed { result }));
    let nothing = StepOutcome::Completed { result: json("null") };
    assert_eq!(SessionEvent::of(&done.task, None), over(Some("alpha"), 1, nothing));

    let mut lost = life.clone();
    lost.report("alpha", 1, fatal("no such file")).expect("it is recorded");
    assert_eq!(told(&lost), over(Some("alpha"), 1, StepOutcome::Failed { reason: "no such file".to_owned() }));

    let mut dead = life.clone().with_policy({
        let mut policy = TaskPolicy::default();
        policy.max_expiries = 1;
        policy
    });
    dead.sweep();
    let reason = "its holder vanished 1 times".to_owned();
    assert_eq!(told(&dead), over(Some("alpha"), 1, StepOutcome::Failed { reason }));

    let mut stopped = Life::new();
    stopped.go(common::cancel());
    assert_eq!(told(&stopped), over(None, 0, StepOutcome::Cancelled { reason: Some("not needed".to_owned()) }));
}
