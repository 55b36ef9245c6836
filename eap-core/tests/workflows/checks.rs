//! A workflow that cannot run is refused, with every reason at once.

use super::*;
use eap_core::{Crew, WorkflowProblem};

fn crew(capabilities: &[&str], has_agent: bool) -> Crew {
    let capabilities = capabilities.iter().map(|word| word.parse().expect("a capability")).collect();
    Crew { capabilities, has_agent }
}

fn problems(workflow: WorkflowDefinition, crew: Option<&Crew>) -> Vec<String> {
    let refused = CheckedWorkflow::check(workflow, crew).expect_err("the workflow is refused");
    refused
        .iter()
        .map(|problem| {
            let problem = problem.to_field("body.workflowDefinition");
            let field = problem.field.strip_prefix("body.workflowDefinition").expect("it stands in the workflow");
            format!("{field} {}: {}", problem.kind, problem.message)
        })
        .collect()
}

fn alone(steps: impl IntoIterator<Item = WorkflowStep>) -> Vec<String> {
    problems(workflow(steps), None)
}

#[test]
fn a_chain_runs_in_whatever_order_its_steps_are_listed() {
    let shuffled = workflow([step("a").with_next(step_id("b")), step("c"), step("b").with_next(step_id("c"))]);
    let checked = CheckedWorkflow::check(shuffled, Some(&crew(&["work"], false))).expect("it can run");
    let (session, _) = Session::start(SessionSpec { workflow: checked, ..spec_of(chain(&["x"])) }, &next(1));
    let ids: Vec<String> = session.view().steps.iter().map(|step| step.task_id.to_string()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[test]
fn a_step_that_is_there_twice_is_named_once() {
    assert_eq!(
        alone([step("a").with_next(step_id("b")), step("b"), step("b")]),
        [".tasks[2].taskId duplicate: step b is there already, as number 1 of the list"]
    );
}

#[test]
fn a_next_step_that_is_not_there_is_named() {
    assert_eq!(
        alone([step("a").with_next(step_id("z"))]),
        [".tasks[0].nextTaskId value_error: step a is followed by z, which is not there"]
    );
}

#[test]
fn a_circle_is_told_step_by_step() {
    let circle = |text: &str, index: usize| {
        format!(".tasks[{index}].nextTaskId value_error: steps follow each other in a circle: {text}")
    };
    assert_eq!(alone([step("a").with_next(step_id("a"))]), [circle("a -> a", 0)]);
    // From outside, as the first step leads into it.
    assert_eq!(
        alone([
            step("a").with_next(step_id("b")),
            step("b").with_next(step_id("c")),
            step("c").with_next(step_id("b")),
        ]),
        [circle("b -> c -> b", 2)]
    );
    // And one that the first step never gets to; the step that leads into it is no part of it.
    assert_eq!(
        alone([
            step("a"),
            step("x").with_next(step_id("y")),
            step("y").with_next(step_id("z")),
            step("z").with_next(step_id("y")),
        ]),
        [
            circle("y -> z -> y", 3),
            ".tasks[1].taskId value_error: step x is never reached from the first step of the list".to_owned(),
            ".tasks[2].taskId value_error: step y is never reached from the first step of the list".to_owned(),
            ".tasks[3].taskId value_error: step z is never reached from the first step of the list".to_owned(),
        ]
    );
}

#[test]
fn two_steps_that_lead_to_one_are_no_circle() {
    assert_eq!(
        alone([step("a").with_next(step_id("c")), step("b").with_next(step_id("c")), step("c")]),
        [".tasks[1].taskId value_error: step b is never reached from the first step of the list"]
    );
}

#[test]
fn a_step_that_nobody_could_do_is_refused() {
    let steps = || workflow([step("a").with_next(step_id("b")), WorkflowStep::new(step_id("b"), "anybody's")]);
    assert!(CheckedWorkflow::check(steps(), None).is_ok(), "who is there matters only when it starts");
    assert!(CheckedWorkflow::check(steps(), Some(&crew(&["work"], true))).is_ok());
    assert_eq!(
        problems(steps(), Some(&crew(&["other"], false))),
        [
            ".tasks[0].agentCapability value_error: no agent has the capability work, which step a asks for",
            ".tasks[1].agentCapability missing: step b asks for no capability, and the workflow is started for no agent",
        ]
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let mut steps = [
        step("a").with_next(step_id("b")).with_max_retries(100),
        step("b").with_next(step_id("a")),
        step("b").with_next(step_id("z")),
        step("d"),
    ];
    steps[3].name = String::new();
    let found = problems(workflow(steps), Some(&crew(&[], false)));
    let places: Vec<&str> = found.iter().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(
        places,
        [
            ".tasks[0].maxRetries value_error",
            ".tasks[3].name value_error",
            ".tasks[2].taskId duplicate",
            ".tasks[2].nextTaskId value_error",
            ".tasks[1].nextTaskId value_error",
            ".tasks[3].taskId value_error",
            ".tasks[0].agentCapability value_error",
            ".tasks[1].agentCapability value_error",
            ".tasks[2].agentCapability value_error",
            ".tasks[3].agentCapability value_error",
        ]
    );
}

#[test]
fn what_was_made_in_code_keeps_the_bounds_of_what_is_read() {
    assert_eq!(alone([]), [".tasks value_error: must have 1 to 1000 entries"]);
    let large = step("a").with_parameters(object(&format!(r#"{{"text": "{}"}}"#, "x".repeat(1 << 20))));
    let refused = CheckedWorkflow::check(workflow([large]), None).expect_err("it is too large");
    assert!(matches!(refused[..], [WorkflowProblem::TooLarge { most: 1_048_576, .. }]), "{refused:?}");
}

#[test]
fn a_chain_of_a_thousand_steps_is_walked_without_recursion() {
    let ids: Vec<String> = (0..1000).map(|number| format!("t{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (session, _) = started(chain(&ids));
    assert_eq!(session.view().steps.len(), 1000);
    let mut circle = chain(&ids);
    circle.tasks[999].next_task_id = Some(step_id("t0"));
    let refused = CheckedWorkflow::check(circle, None).expect_err("it is a circle");
    assert!(matches!(&refused[..], [WorkflowProblem::Cycle { steps, index: 999 }] if steps.len() == 1000));
}
