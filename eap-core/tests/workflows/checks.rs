//! A workflow that cannot run is refused, with every reason at once.

use super::*;
use eap_core::{Crew, WorkflowProblem};
use proptest::prelude::*;

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

/// Steps of any shape: ids that come twice, links that lead anywhere, out of the list among it.
fn any_steps() -> impl Strategy<Value = Vec<WorkflowStep>> {
    let one = (0_usize..8, prop::option::weighted(0.8, 0_usize..9));
    let step_of = |(id, next): (usize, Option<usize>)| {
        let step = step(&format!("t{id}"));
        match next {
            Some(next) => step.with_next(step_id(&format!("t{next}"))),
            None => step,
        }
    };
    let wild = prop::collection::vec(one.prop_map(step_of), 1..9);
    // By chance alone hardly any of them would be a chain.
    let tame = (1_usize..9, prop::option::weighted(0.5, (0_usize..9, 0_usize..9))).prop_map(|(count, change)| {
        let ids: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut steps = chain(&ids).tasks;
        if let Some((index, next)) = change {
            let index = index % count;
            steps[index].next_task_id = Some(step_id(&format!("t{next}")));
        }
        steps
    });
    prop_oneof![wild, tame]
}

/// What a reader with a pencil does: from the first step along the links, for as long as there are new ones.
fn is_chain(steps: &[WorkflowStep]) -> bool {
    let (mut seen, mut at) = (BTreeSet::new(), steps.first());
    while let Some(step) = at {
        if !seen.insert(&step.task_id) {
            return false;
        }
        let Some(next) = &step.next_task_id else { return seen.len() == steps.len() };
        at = steps.iter().find(|other| other.task_id == *next);
    }
    false
}

proptest! {
    #[test]
    fn what_is_no_chain_is_refused_and_nothing_else_is(steps in any_steps()) {
        let checked = CheckedWorkflow::check(workflow(steps.clone()), None);
        prop_assert_eq!(checked.is_ok(), is_chain(&steps), "{:?}", checked);
        let Err(problems) = checked else { return Ok(()) };
        for problem in problems {
            match problem {
                WorkflowProblem::Cycle { steps: circle, index } => {
                    let id_of = |id: &StepId| steps.iter().find(|step| step.task_id == *id).expect("it is in the list");
                    for (from, to) in circle.iter().zip(circle.iter().cycle().skip(1)) {
                        prop_assert_eq!(id_of(from).next_task_id.as_ref(), Some(to), "a circle of links");
                    }
                    prop_assert_eq!(steps[index].next_task_id.as_ref(), circle.first());
                    prop_assert_eq!(circle.iter().collect::<BTreeSet<_>>().len(), circle.len());
                }
                WorkflowProblem::UnknownNext { next, .. } => {
                    prop_assert!(steps.iter().all(|step| step.task_id != next));
                }
                WorkflowProblem::Duplicate { index, first, .. } => {
                    prop_assert!(first < index && steps[first].task_id == steps[index].task_id);
                }
                WorkflowProblem::Unreachable { index, .. } => prop_assert!(index > 0),
                other => prop_assert!(false, "no such problem was made: {:?}", other),
            }
        }
    }
}
