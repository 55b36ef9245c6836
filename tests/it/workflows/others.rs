//! What those see of workflows who are not to see them: other tenants, and keys that may not read results.

use eap_orchestrator::OperatorKey;
use http::Method;
use serde_json::{Value, json};

use super::flow::{direct, drafter, ended, keep, reviewer, started, two_steps, work};
use crate::harness::{Server, Setup};

const OTHER_KEY: &str = "canary-other-operator-key-0123456789";
const OTHER_TENANT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A server with the face of a platform, and a key of another tenant.
async fn two_tenants(setup: Setup) -> Server {
    let setup = setup.config(|config| {
        let mut key = OperatorKey::new(OTHER_KEY);
        (key.name, key.tenant) = ("other".to_owned(), OTHER_TENANT.parse().expect("it is a uuid"));
        config.operator_keys.push(key);
        config.agentkit = Some(eap_orchestrator::AgentKit::default());
    });
    setup.start().await
}

#[tokio::test]
async fn another_tenant_sees_and_moves_nothing() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let server = two_tenants(setup).await;
        let (drafter, _reviewer) = (drafter(&server).await, reviewer(&server).await);
        let id = started(&server, &two_steps(), json!({})).await;
        let as_other = |method: Method, path: &str| server.api.call(method, path).bearer(OTHER_KEY);
        for (method, path) in [
            (Method::GET, "/api/v1/workflows/wf-1".to_owned()),
            (Method::POST, "/api/v1/workflows/wf-1/runs".to_owned()),
            (Method::GET, format!("/api/v1/sessions/{id}")),
            (Method::POST, format!("/api/v1/sessions/{id}/pause")),
            (Method::POST, format!("/api/v1/sessions/{id}/resume")),
            (Method::POST, format!("/api/v1/sessions/{id}/cancel")),
        ] {
            as_other(method, &path).send().await.problem(404, "NOT_FOUND");
        }
        let face = as_other(Method::GET, &format!("/v1/opscore/session/{id}")).send().await.expect(404);
        assert_eq!(face["detail"], format!("Session {id} not found"));
        for (path, empty) in [
            ("/api/v1/workflows", json!({"workflows": []})),
            ("/api/v1/sessions", json!({"sessions": []})),
            ("/v1/opscore/session", json!({"sessions": []})),
        ] {
            assert_eq!(as_other(Method::GET, path).send().await.expect(200), empty, "{path}");
        }
        // What it keeps under the same name is its own, and its agents are not those of others.
        let kept = as_other(Method::POST, "/api/v1/workflows").json(&two_steps()).send().await;
        assert_eq!(kept.status, 201);
        let run = as_other(Method::POST, "/api/v1/workflows/wf-1/runs");
        run.json(&json!({"agent_id": drafter.id})).send().await.problem(404, "AGENT_NOT_FOUND");
        as_other(Method::POST, "/api/v1/workflows/wf-1/runs").send().await.problem(422, "VALIDATION_ERROR");
        assert_eq!(direct(&server, &id, "pause").await.expect(200)["status"], "paused");
        server.stop().await;
    }
}

#[tokio::test]
async fn results_are_for_those_who_may_read_them() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let server = two_tenants(setup).await;
        let (drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
        let id = started(&server, &two_steps(), json!({})).await;
        work(&drafter, json!({"secret": 1})).await;
        let body = json!({"name": "watcher", "scopes": ["tasks:read", "tasks:submit", "tasks:cancel"]});
        let key = server.operator().post("/api/v1/keys").json(&body).send().await.expect(201);
        let as_watcher = |method, path: &str| server.api.call(method, path).bearer(key["key"].as_str().unwrap());
        for what in ["pause", "resume"] {
            let path = format!("/api/v1/sessions/{id}/{what}");
            let shown = as_watcher(Method::POST, &path).send().await.expect(200);
            assert!(!shown.to_string().contains("secret"), "{shown}");
        }
        work(&reviewer, json!({"secret": 2})).await;
        let whole = ended(&server, &id).await;
        assert!(whole.to_string().contains("secret"));
        let mut expected = whole.clone();
        expected["result"] = Value::Null;
        for step in expected["steps"].as_array_mut().unwrap() {
            step.as_object_mut().unwrap().remove("result");
        }
        for path in [format!("/api/v1/sessions/{id}"), format!("/v1/opscore/session/{id}")] {
            assert_eq!(as_watcher(Method::GET, &path).send().await.expect(200), expected, "{path}");
        }
        server.stop().await;
    }
}

/// A workflow that is kept in a newer version is still run in the one that is named.
#[tokio::test]
async fn a_run_may_name_its_version() {
    for setup in [Setup::memory(), Setup::sqlite()] {
        let server = setup.start().await;
        let (_drafter, _reviewer) = (drafter(&server).await, reviewer(&server).await);
        let mut newer = two_steps();
        newer["version"] = json!("2.0");
        newer["tasks"] = json!([newer["tasks"][1]]);
        keep(&server, &two_steps()).await.expect(201);
        keep(&server, &newer).await.expect(201);
        let steps = async |body: Value| {
            let id = super::flow::run(&server, "wf-1", body).await.expect(202)["sessionId"].clone();
            super::flow::session(&server, id.as_str().unwrap()).await["steps"].as_array().unwrap().len()
        };
        assert_eq!(steps(json!({})).await, 1);
        assert_eq!(steps(json!({"version": "1.0"})).await, 2);
        super::flow::run(&server, "wf-1", json!({"version": "3.0"})).await.problem(404, "NOT_FOUND");
        let long = json!({"initial_payload": {"text": "x".repeat(1024 * 1024 - 40)}});
        assert_eq!(super::flow::run(&server, "wf-1", long).await.status, 202);
        server.stop().await;
    }
}
