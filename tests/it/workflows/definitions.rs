//! Workflows that are kept.

use eap_types::from_json;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::flow::{keep, setups, two_steps, workflow};
use crate::harness::{Server, Setup};

async fn listed(server: &Server, query: &str) -> Value {
    server.operator().get(&format!("/api/v1/workflows{query}")).send().await.expect(200)
}

#[tokio::test]
async fn a_version_is_kept_once_and_for_ever() {
    for setup in setups() {
        let server = setup.start().await;
        let mut told = two_steps();
        let kept = keep(&server, &told).await.expect(201);
        assert_eq!((&kept["id"], &kept["version"], &kept["steps"]), (&json!("wf-1"), &json!("1.0"), &json!(2)));
        assert_eq!(keep(&server, &told).await.expect(200), kept);
        told["name"] = json!("Another chain");
        let refused = keep(&server, &told).await.problem(409, "WORKFLOW_EXISTS");
        assert!(refused["detail"].as_str().unwrap().contains("version 1.0 of workflow wf-1"), "{refused}");
        told["version"] = json!("2.0");
        keep(&server, &told).await.expect(201);

        let get = async |query: &str| server.operator().get(&format!("/api/v1/workflows/wf-1{query}")).send().await;
        assert_eq!(get("").await.expect(200)["name"], "Another chain");
        let first = get("?version=1.0").await.expect(200);
        assert_eq!((&first["name"], &first["tasks"][1]["maxRetries"]), (&json!("A chain"), &json!(3)));
        get("?version=3.0").await.problem(404, "NOT_FOUND");
        server.operator().get("/api/v1/workflows/wf-9").send().await.problem(404, "NOT_FOUND");
        server.stop().await;
    }
}

#[tokio::test]
async fn workflows_are_listed_by_their_newest_version_in_pages() {
    for setup in setups() {
        let server = setup.start().await;
        assert_eq!(listed(&server, "").await, json!({"workflows": []}));
        for number in 0..5 {
            keep(&server, &workflow(&format!("wf-{number}"), &[("t", "draft", None)])).await.expect(201);
        }
        let mut again = workflow("wf-0", &[("t", "draft", None)]);
        again["version"] = json!("1.1");
        keep(&server, &again).await.expect(201);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = listed(&server, &format!("?limit=2{cursor}")).await;
            seen.extend(page["workflows"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, ["wf-0", "wf-4", "wf-3", "wf-2", "wf-1"]);
        server.stop().await;
    }
}

#[tokio::test]
async fn every_problem_of_a_workflow_is_told_at_once() {
    for setup in setups() {
        let server = setup.start().await;
        let wrong = workflow(
            "wf-1",
            &[("a", "draft", Some("b")), ("b", "draft", Some("a")), ("a", "draft", Some("z")), ("d", "draft", None)],
        );
        let problem = keep(&server, &wrong).await.problem(422, "VALIDATION_ERROR");
        let mut fields: Vec<_> =
            problem["details"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
        fields.sort_unstable();
        let expected =
            ["body.tasks[1].nextTaskId", "body.tasks[2].nextTaskId", "body.tasks[2].taskId", "body.tasks[3].taskId"];
        assert_eq!(fields, expected, "{problem}");
        assert_eq!(listed(&server, "").await, json!({"workflows": []}));
        server.stop().await;
    }
}

/// A host keeps its workflows with its configuration; a changed one without a version of its own stops the start.
#[tokio::test]
async fn a_configuration_brings_workflows_along() {
    let dir = TempDir::new().unwrap();
    let with = |told: &Value| {
        let told = from_json(told.to_string().as_bytes()).unwrap();
        Setup::sqlite_at(&dir.path().join("eap.db")).config(|config| config.workflows = vec![told])
    };
    let mut told = two_steps();
    for _ in 0..2 {
        let server = with(&told).start().await;
        assert_eq!(listed(&server, "").await["workflows"].as_array().unwrap().len(), 1);
        server.stop().await;
    }
    told["tasks"][0]["maxRetries"] = json!(0);
    let (orchestrator, ..) = with(&told).build();
    let refused = orchestrator.start().await.expect_err("it reads otherwise");
    assert!(refused.to_string().contains("version 1.0 of workflow wf-1"), "{refused}");
}
