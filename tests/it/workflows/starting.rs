//! What is checked before a workflow starts, and that it starts once.

use serde_json::{Value, json};

use super::flow::{drafter, keep, reviewer, run, setups, started, two_steps, workflow};
use crate::harness::Server;

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn tasks(server: &Server) -> usize {
    server.operator().list("limit=500").await["tasks"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_workflow_that_nobody_could_do_is_refused_with_every_step_named() {
    for setup in setups() {
        let server = setup.start().await;
        let drafter = drafter(&server).await;
        let mut told =
            workflow("wf-1", &[("a", "draft", Some("b")), ("b", "review", Some("c")), ("c", "translate", Some("d"))]);
        let last = json!({"taskId": "d", "name": "anybody"});
        told["tasks"].as_array_mut().unwrap().push(last);
        keep(&server, &told).await.expect(201);
        let problem = run(&server, "wf-1", json!({})).await.problem(422, "VALIDATION_ERROR");
        let fields: Vec<_> =
            problem["details"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
        let expected = [1, 2, 3].map(|step| format!("workflow.tasks[{step}].agentCapability"));
        assert_eq!(fields, expected, "{problem}");
        let of_agent = json!({"agent_id": drafter.id});
        let problem = run(&server, "wf-1", of_agent).await.problem(422, "VALIDATION_ERROR");
        assert_eq!(problem["details"].as_array().unwrap().len(), 2, "its agent does what asks for nothing: {problem}");
        assert_eq!(tasks(&server).await, 0);
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_started() {
    for setup in setups() {
        let server = setup.start().await;
        let (_drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
        keep(&server, &two_steps()).await.expect(201);
        run(&server, "wf-9", json!({})).await.problem(404, "NOT_FOUND");
        run(&server, "wf-9", json!({"initial_payload": 5})).await.problem(404, "NOT_FOUND");
        run(&server, "wf-1", json!({"agent_id": "nobody"})).await.problem(404, "AGENT_NOT_FOUND");
        run(&server, "wf-1", json!({"initial_payload": 5})).await.problem(422, "VALIDATION_ERROR");
        reviewer.deregister().await.expect(200);
        run(&server, "wf-1", json!({"agent_id": reviewer.id})).await.problem(404, "AGENT_NOT_FOUND");
        run(&server, "wf-1", json!({})).await.problem(422, "VALIDATION_ERROR");
        let path = format!("/api/v1/sessions/{NOBODY}");
        server.operator().get(&path).send().await.problem(404, "NOT_FOUND");
        server.operator().get("/api/v1/sessions/x").send().await.problem(404, "NOT_FOUND");
        for what in ["pause", "resume", "cancel"] {
            server.operator().post(&format!("{path}/{what}")).send().await.problem(404, "NOT_FOUND");
        }
        assert_eq!(tasks(&server).await, 0);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_repeated_start_is_one_start() {
    for setup in setups() {
        let server = setup.start().await;
        let (_drafter, _reviewer) = (drafter(&server).await, reviewer(&server).await);
        keep(&server, &two_steps()).await.expect(201);
        let start = async |key: &str, body: Value| {
            let call = server.operator().post("/api/v1/workflows/wf-1/runs").header("idempotency-key", key);
            call.json(&body).send().await
        };
        let (first, other) = tokio::join!(start("k1", json!({})), start("k1", json!({})));
        let first = first.expect(202);
        assert_eq!(other.expect(202), first);
        assert_eq!(start("k1", json!({})).await.expect(202), first);
        start("k1", json!({"initial_payload": {"a": 1}})).await.problem(409, "IDEMPOTENCY_CONFLICT");
        assert_ne!(start("k2", json!({})).await.expect(202)["sessionId"], first["sessionId"]);
        assert_eq!(tasks(&server).await, 2);
        server.stop().await;
    }
}

#[tokio::test]
async fn sessions_are_listed_newest_first_by_what_is_asked() {
    for setup in setups() {
        let server = setup.start().await;
        let (drafter, _reviewer) = (drafter(&server).await, reviewer(&server).await);
        let mut ids = Vec::new();
        for number in 0..3 {
            let mut told = two_steps();
            told["id"] = json!(format!("wf-{}", number % 2));
            let body = if number == 2 { json!({"agent_id": drafter.id}) } else { json!({}) };
            ids.insert(0, started(&server, &told, body).await);
        }
        let listed = async |query: &str| {
            let page = server.operator().get(&format!("/api/v1/sessions?{query}")).send().await.expect(200);
            let sessions = page["sessions"].as_array().unwrap().iter();
            let shown: Vec<_> = sessions.clone().map(|one| one["sessionId"].as_str().unwrap().to_owned()).collect();
            assert!(sessions.clone().all(|one| one["steps"] == json!([]) && one["result"] == Value::Null), "{page}");
            (shown, page["next_cursor"].as_str().map(str::to_owned))
        };
        assert_eq!(listed("").await, (ids.clone(), None));
        assert_eq!(listed("workflow_id=wf-0").await.0, [ids[0].clone(), ids[2].clone()]);
        assert_eq!(listed(&format!("agent_id={}", drafter.id)).await.0, [ids[0].clone()]);
        assert_eq!(listed("status=paused").await.0, Vec::<String>::new());
        let (first, cursor) = listed("limit=2").await;
        assert_eq!(first, ids[..2]);
        assert_eq!(listed(&format!("limit=2&cursor={}", cursor.unwrap())).await, (vec![ids[2].clone()], None));
        for query in ["status=soon", "limit=0", "cursor=x"] {
            server.operator().get(&format!("/api/v1/sessions?{query}")).send().await.problem(422, "VALIDATION_ERROR");
        }
        server.stop().await;
    }
}
