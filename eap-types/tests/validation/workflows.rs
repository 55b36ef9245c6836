//! What a workflow and its start may hold.

use super::*;
use eap_types::{RunWorkflow, SessionView, StepId, TriggerWorkflow, WorkflowChoice, WorkflowDefinition, WorkflowId};

fn workflow(extra: &Value) -> Value {
    let tasks = json!([{ "taskId": "t1", "name": "summarize" }]);
    with(&json!({ "id": "wf-1", "name": "Summarize", "version": "1.0", "tasks": tasks }), extra)
}

#[test]
fn all_problems_of_a_definition_are_told_at_once() {
    let body = json!({
        "id": "a/b", "name": "", "description": "x".repeat(4097), "version": 1,
        "tasks": [
            { "taskId": " t1", "agentCapability": "…", "parameters": [], "nextTaskId": 7, "maxRetries": 100 },
            { "name": "n".repeat(257), "taskId": ".." },
            3,
        ],
    });
    assert_eq!(
        problems::<WorkflowDefinition>(&body),
        [
            "body.description value_error",
            "body.id value_error",
            "body.name value_error",
            "body.tasks[0].agentCapability value_error",
            "body.tasks[0].maxRetries value_error",
            "body.tasks[0].name missing",
            "body.tasks[0].nextTaskId type_error",
            "body.tasks[0].parameters type_error",
            "body.tasks[0].taskId value_error",
            "body.tasks[1].name value_error",
            "body.tasks[1].taskId value_error",
            "body.tasks[2] type_error",
            "body.version type_error",
        ]
    );
    assert_eq!(
        problems::<WorkflowDefinition>(&json!({})),
        ["body.id missing", "body.name missing", "body.tasks missing", "body.version missing"]
    );
}

#[test]
fn a_step_asks_for_its_agent_in_the_words_of_a_platform() {
    for (words, read) in [("Text Summarization", "text_summarization"), ("text.translate", "text.translate")] {
        let step = json!({ "taskId": "t1", "name": "step", "agentCapability": words });
        let step = accepted::<WorkflowDefinition>(&workflow(&json!({ "tasks": [step] }))).tasks.remove(0);
        assert_eq!(step.agent_capability.expect("it is named").as_str(), read);
    }
    for words in ["", "!!!", &"x".repeat(129)] {
        let step = json!({ "taskId": "t1", "name": "step", "agentCapability": words });
        let expected = ["body.tasks[0].agentCapability value_error"];
        assert_eq!(problems::<WorkflowDefinition>(&workflow(&json!({ "tasks": [step] }))), expected, "{words}");
    }
}

#[test]
fn a_workflow_has_1_to_1000_steps() {
    let steps = |count: usize| {
        let step = |number| json!({ "taskId": format!("t{number}"), "name": "step" });
        workflow(&json!({ "tasks": (0..count).map(step).collect::<Vec<_>>() }))
    };
    assert_eq!(problems::<WorkflowDefinition>(&steps(0)), ["body.tasks value_error"]);
    assert_eq!(accepted::<WorkflowDefinition>(&steps(1000)).tasks.len(), 1000);
    assert_eq!(problems::<WorkflowDefinition>(&steps(1001)), ["body.tasks value_error"]);
}

#[test]
fn what_a_step_does_not_say_has_a_default_and_null_says_nothing() {
    let nulls = json!({
        "taskId": "t1", "name": "summarize", "agentCapability": null, "parameters": null, "nextTaskId": null,
        "maxRetries": null,
    });
    let given: WorkflowDefinition = accepted(&workflow(&json!({ "tasks": [nulls], "description": null })));
    assert_eq!(given, accepted(&workflow(&json!({}))));
    let step = &given.tasks[0];
    assert_eq!((step.max_retries, step.parameters.as_str()), (3, "{}"));
    assert_eq!((&step.agent_capability, &step.next_task_id), (&None, &None));
    for retries in [0, 99] {
        let tasks = json!([{ "taskId": "t1", "name": "summarize", "maxRetries": retries }]);
        let given: WorkflowDefinition = accepted(&workflow(&json!({ "tasks": tasks })));
        assert_eq!(given.tasks[0].max_retries, retries);
    }
}

#[test]
fn a_trigger_names_a_workflow_or_brings_one() {
    let stored: TriggerWorkflow = accepted(&json!({ "workflowDefinitionId": "wf-1", "workflowDefinition": null }));
    assert_eq!(stored, TriggerWorkflow::stored("wf-1".parse().expect("a workflow id")));
    let inline: TriggerWorkflow = accepted(&json!({ "workflowDefinition": workflow(&json!({})) }));
    assert!(matches!(&inline.workflow, WorkflowChoice::Inline(workflow) if workflow.id.as_str() == "wf-1"));
    assert_eq!(written(&stored), json!({ "workflowDefinitionId": "wf-1" }));

    let both = json!({ "workflowDefinitionId": "wf-1", "workflowDefinition": workflow(&json!({})) });
    assert_eq!(problems::<TriggerWorkflow>(&both), ["body.workflowDefinitionId value_error"]);
    let neither = json!({ "workflowDefinitionId": null, "initialPayload": {} });
    assert_eq!(problems::<TriggerWorkflow>(&neither), ["body.workflowDefinitionId missing"]);
}

#[test]
fn all_problems_of_a_trigger_are_told_at_once() {
    let broken = json!({
        "workflowDefinitionId": "", "workflowDefinition": { "id": "wf-1", "name": "n", "version": "1", "tasks": {} },
        "initialPayload": "text",
    });
    assert_eq!(
        problems::<TriggerWorkflow>(&broken),
        [
            "body.initialPayload type_error",
            "body.workflowDefinition.tasks type_error",
            "body.workflowDefinitionId value_error",
            "body.workflowDefinitionId value_error",
        ]
    );
}

#[test]
fn a_run_may_say_nothing() {
    assert_eq!(accepted::<RunWorkflow>(&json!({})), RunWorkflow::new());
    assert_eq!(accepted::<RunWorkflow>(&json!({ "initial_payload": null, "agent_id": null })), RunWorkflow::new());
    assert_eq!(
        problems::<RunWorkflow>(&json!({ "initial_payload": [], "agent_id": "a/b" })),
        ["body.agent_id value_error", "body.initial_payload type_error"]
    );
}

#[test]
fn ids_can_stand_in_a_path() {
    for text in ["wf-1", "Prüfen und senden", &"é".repeat(128)] {
        assert_eq!(text.parse::<WorkflowId>().expect("an id").as_str(), text);
        assert_eq!(text.parse::<StepId>().expect("an id").as_str(), text);
    }
    for text in ["", ".", "..", "a/b", " a", "a ", "a\nb", &"é".repeat(129)] {
        assert!(text.parse::<WorkflowId>().is_err() && text.parse::<StepId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_session_says_what_it_does_not_know_yet_as_null() {
    let session = "01956e3c-7f60-7000-8000-0000000000f1".parse().expect("a session id");
    let start = "2026-03-01T12:00:00Z".parse().expect("a time");
    let view = SessionView::new(session, "wf-1".parse().expect("a workflow id"), start);
    let expected = json!({
        "sessionId": session, "workflowId": "wf-1", "agentId": null, "status": "started",
        "startTime": "2026-03-01T12:00:00Z", "endTime": null, "result": null, "error": null, "steps": [],
    });
    assert_eq!(written(&view), expected);
    // An orchestrator that leaves them out is understood as well.
    let brief = json!({
        "sessionId": session, "workflowId": "wf-1", "status": "started", "startTime": "2026-03-01T12:00:00Z",
    });
    assert_eq!(serde_json::from_value::<SessionView>(brief).expect("it is read"), view);
}

#[test]
fn a_workflows_payloads_are_not_printed_through_debug() {
    const CANARY: &str = "canary-payload";
    let tasks = json!([{ "taskId": "t1", "name": "summarize", "parameters": { "k": CANARY } }]);
    let body = json!({
        "workflowDefinition": workflow(&json!({ "tasks": tasks })), "initialPayload": { "k": CANARY },
    });
    let printed = format!("{:?}", accepted::<TriggerWorkflow>(&body));
    assert!(!printed.contains(CANARY), "{printed}");
}
