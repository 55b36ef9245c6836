//! From step to step: what each is given, how often it is tried, how it all ends.

use serde_json::{Value, json};

use super::flow::{
    World, drafter, ended, input, reviewer, run, session, setups, started, two_steps, two_under_way, words, work,
    workflow,
};
use crate::harness::{Agent, Server, eventually};

#[tokio::test]
async fn each_step_gets_what_came_out_of_the_one_before() {
    for setup in setups() {
        let server = setup.start().await;
        let (drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
        let id = started(&server, &two_steps(), json!({"initial_payload": {"text": "…"}})).await;
        let shown = session(&server, &id).await;
        assert_eq!((&shown["status"], &shown["agentId"]), (&json!("started"), &Value::Null));
        assert_eq!((&shown["endTime"], &shown["result"], &shown["error"]), (&Value::Null, &Value::Null, &Value::Null));
        assert_eq!(words(&shown), ["queued", "pending"]);

        let first = drafter.take().await;
        assert_eq!(input(&first), json!({"text": "…"}), "the initial payload stands in place of the parameters");
        assert_eq!((&first["task_type"], &first["session_id"]), (&json!("draft"), &json!(id)));
        let context = json!({"workflowId": "wf-1", "sessionId": id, "taskId": "t1", "taskName": "step t1"});
        assert_eq!(first["context"], context);
        let shown = session(&server, &id).await;
        assert_eq!((&shown["status"], words(&shown)), (&json!("running"), vec!["running", "pending"]));
        assert_eq!(shown["steps"][0]["agentId"], json!(drafter.id));

        let draft = json!({"draft": [1, 2.50], "note": null});
        drafter.report_for(&first, json!({"status": "completed", "output_data": draft})).await.expect(200);
        let second = work(&reviewer, json!({"verdict": "good"})).await;
        assert_eq!(input(&second), json!({"of": "t2", "previous": draft}));

        let done = ended(&server, &id).await;
        assert_eq!((&done["status"], words(&done)), (&json!("completed"), vec!["completed", "completed"]));
        assert_eq!(done["result"], json!({"verdict": "good"}));
        assert_eq!(done["endTime"], done["steps"][1]["endTime"]);
        assert_eq!(done["steps"][0]["result"], draft);
        for (step, (task, agent)) in [(&first, &drafter), (&second, &reviewer)].into_iter().enumerate() {
            let shown = &done["steps"][step];
            assert_eq!((&shown["eapTaskId"], &shown["agentId"]), (&task["task_id"], &json!(agent.id)));
            assert_eq!((&shown["attempts"], shown.get("error")), (&json!(1), None));
        }
        assert_eq!(server.operator().list("limit=10").await["tasks"].as_array().unwrap().len(), 2);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_step_that_fails_is_tried_again_and_no_oftener_than_it_may_be() {
    for setup in setups() {
        let server = setup.manual_clock().start().await;
        let (drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
        let mut workflow = two_steps();
        workflow["tasks"][0]["maxRetries"] = json!(1);
        workflow["tasks"][1]["maxRetries"] = json!(0);
        let id = started(&server, &workflow, json!({})).await;
        let fails = async |agent: &Agent, why: &str| {
            let task = agent.take().await;
            let body = json!({"error_code": "HANDLER_ERROR", "error_message": why, "retryable": true});
            agent.fail(&task, body).await.expect(200);
        };
        fails(&drafter, "out of ink").await;
        assert_eq!(words(&session(&server, &id).await), ["queued", "pending"]);
        let again = eventually("the back-off is over", async || {
            server.advance(10);
            drafter.take_up_to(1).await.pop()
        })
        .await;
        drafter.complete(&again).await.expect(200);
        let shown = session(&server, &id).await;
        assert_eq!((words(&shown), &shown["steps"][0]["attempts"]), (vec!["completed", "queued"], &json!(2)));
        fails(&reviewer, "bad eyes").await;
        let failed = session(&server, &id).await;
        assert_eq!((&failed["status"], words(&failed)), (&json!("failed"), vec!["completed", "failed"]));
        let told = failed["error"].as_str().unwrap();
        assert!(told.starts_with("step t2 failed: ") && told.contains("bad eyes"), "{told}");
        assert!(failed["steps"][1]["error"].as_str().unwrap().contains("bad eyes"));
        assert_eq!(server.operator().list("status=queued").await["tasks"], json!([]), "nothing more is done");
        server.stop().await;
    }
}

/// Results that come together are recorded together, but those of steps, with which their sessions go on.
#[tokio::test]
async fn a_batch_of_results_moves_every_session_that_it_is_about() {
    for setup in setups() {
        let server = setup.start().await;
        let drafter = server
            .agent_with("AGENT-DRAFT", json!({"capabilities": ["draft", "review"], "max_concurrent_tasks": 10}))
            .await;
        let mut sessions = Vec::new();
        for _ in 0..3 {
            sessions.push(started(&server, &two_steps(), json!({})).await);
        }
        server.operator().submit(json!({"task_type": "draft"})).await;
        for expected in [4, 3] {
            let held = drafter.take_up_to(10).await;
            assert_eq!(held.len(), expected);
            let result = |task: &Value| {
                json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "attempt": task["attempt"],
                    "status": "completed", "output_data": {"n": 1}})
            };
            let results: Vec<_> = held.iter().map(result).collect();
            let reply = drafter.call("/results").json(&json!({"results": results})).send().await.expect(200);
            assert!(reply["results"].as_array().unwrap().iter().all(|one| one.get("code").is_none()), "{reply}");
        }
        for id in sessions {
            assert_eq!(ended(&server, &id).await["status"], "completed");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_step_that_gives_nothing_hands_null_on() {
    for setup in setups() {
        let World { server, drafter, reviewer, id } = two_under_way(setup).await;
        work(&drafter, json!({})).await;
        assert_eq!(input(&work(&reviewer, json!({})).await), json!({"of": "t2", "previous": null}));
        let done = ended(&server, &id).await;
        assert_eq!((&done["result"], done["steps"][0].get("result")), (&Value::Null, Some(&Value::Null)));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_no_step_begins_twice() {
    for setup in setups() {
        let World { server, drafter, reviewer, id } = two_under_way(setup).await;
        let first = drafter.take().await;
        for duplicate in [false, true, true] {
            let reply = drafter.complete(&first).await.expect(200);
            assert_eq!(reply["duplicate"], duplicate);
        }
        assert_eq!(words(&session(&server, &id).await), ["completed", "queued"]);
        assert_eq!(server.operator().list("limit=10").await["tasks"].as_array().unwrap().len(), 2);
        work(&reviewer, json!({})).await;
        assert_eq!(ended(&server, &id).await["status"], "completed");
        server.stop().await;
    }
}

/// Whoever may submit tasks may say of them what they like; a session knows its own.
#[tokio::test]
async fn a_task_that_only_says_it_is_a_step_moves_nothing() {
    for setup in setups() {
        let World { server, drafter, id, .. } = two_under_way(setup).await;
        let held = drafter.take().await;
        let forged = json!({"task_type": "draft", "session_id": id, "context": held["context"]});
        server.operator().submit(forged).await;
        drafter.complete(&held).await.expect(200);
        let before = session(&server, &id).await;
        work(&drafter, json!({"forged": true})).await;
        assert_eq!(session(&server, &id).await, before);
        assert_eq!(words(&before), ["completed", "queued"]);
        server.stop().await;
    }
}

#[tokio::test]
async fn the_agent_that_a_workflow_is_started_for_does_every_step_it_can() {
    for setup in setups() {
        let server = setup.start().await;
        let both = |name: &'static str| server.agent_with(name, json!({"capabilities": ["draft", "review"]}));
        let (chosen, other) = (both("AGENT-ONE").await, both("AGENT-TWO").await);
        let translator = server.agent_with("AGENT-T", json!({"capabilities": ["translate"]})).await;
        let mut workflow =
            workflow("wf-3", &[("a", "draft", Some("b")), ("b", "translate", Some("c")), ("c", "review", None)]);
        workflow["tasks"][2].as_object_mut().unwrap().remove("agentCapability");
        let id = started(&server, &workflow, json!({"agent_id": chosen.id})).await;
        let is_offered_none = async || other.take_up_to(1).await.is_empty();
        assert!(is_offered_none().await);
        work(&chosen, json!({})).await;
        work(&translator, json!({})).await;
        assert!(is_offered_none().await);
        let last = chosen.take().await;
        assert_eq!(last["task_type"], "workflow_task", "a step without a capability has none in its type");
        chosen.complete(&last).await.expect(200);
        let done = ended(&server, &id).await;
        let agents: Vec<_> = done["steps"].as_array().unwrap().iter().map(|step| step["agentId"].clone()).collect();
        assert_eq!(agents, [json!(chosen.id), json!(translator.id), json!(chosen.id)]);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_step_that_nobody_can_do_any_more_says_so() {
    for setup in setups() {
        let server = setup.start().await;
        let (drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
        let id = started(&server, &two_steps(), json!({})).await;
        reviewer.deregister().await;
        work(&drafter, json!({})).await;
        let left = session(&server, &id).await;
        assert_eq!((&left["status"], &left["steps"][1]["noCapableAgent"]), (&json!("running"), &json!(true)), "{left}");
        let other = server.agent_with("AGENT-OTHER", json!({"capabilities": ["review"]})).await;
        assert_eq!(session(&server, &id).await["steps"][1].get("noCapableAgent"), None);
        work(&other, json!({})).await;
        assert_eq!(ended(&server, &id).await["status"], "completed");
        server.stop().await;
    }
}

#[tokio::test]
async fn what_happens_to_workflows_is_told_among_the_events() {
    for setup in setups() {
        let World { server, drafter, reviewer, id } = two_under_way(setup).await;
        work(&drafter, json!({})).await;
        eventually("it runs", async || (listed(&server, "running").await == 1).then_some(())).await;
        work(&reviewer, json!({})).await;
        let mut events = server.orchestrator.events(&eap_orchestrator::Operator::host(), Default::default());
        let mut told = Vec::new();
        while told.last().is_none_or(|(kind, _)| kind != "workflow.completed") {
            let event = crate::harness::in_time("the next event", events.next()).await.unwrap();
            if event.kind.starts_with("workflow.") {
                told.push((event.kind.clone(), event.detail.to_value()));
            }
        }
        let detail = json!({"session_id": id, "workflow_id": "wf-1"});
        let kinds = ["workflow.started", "workflow.running", "workflow.completed"];
        assert_eq!(told, kinds.map(|kind| (kind.to_owned(), detail.clone())));
        assert_eq!(run(&server, "wf-1", json!({})).await.status, 202);
        server.stop().await;
    }
}

async fn listed(server: &Server, status: &str) -> usize {
    let page = server.operator().get(&format!("/api/v1/sessions?status={status}")).send().await.expect(200);
    page["sessions"].as_array().unwrap().len()
}
