//! Query strings, ids and methods that are wrong: the documented answer, and nothing changed.

use http::Method;
use serde_json::{Value, json};

use crate::harness::Server;

const UNKNOWN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn a_query_that_is_wrong_is_told_every_problem() {
    let server = Server::start().await;
    let operator = server.operator();
    let id = operator.submit(json!({})).await;
    let long = "x".repeat(129);
    for (path, expected) in [
        (format!("/api/v1/tasks/{id}?wait_seconds=61"), vec!["wait_seconds"]),
        (format!("/api/v1/tasks/{id}?wait_seconds=-1"), vec!["wait_seconds"]),
        (format!("/api/v1/tasks/{id}?wait_seconds=soon"), vec!["wait_seconds"]),
        (format!("/api/v1/tasks/{id}?wait_seconds=1.5"), vec!["wait_seconds"]),
        ("/api/v1/tasks?limit=0".to_owned(), vec!["limit"]),
        ("/api/v1/tasks?limit=501".to_owned(), vec!["limit"]),
        ("/api/v1/tasks?limit=99999999999999999999".to_owned(), vec!["limit"]),
        ("/api/v1/tasks?status=done".to_owned(), vec!["status"]),
        ("/api/v1/tasks?task_type=two+words".to_owned(), vec!["task_type"]),
        (format!("/api/v1/tasks?agent_id={long}"), vec!["agent_id"]),
        ("/api/v1/tasks?cursor=page-two".to_owned(), vec!["cursor"]),
        ("/api/v1/tasks?cursor=-1".to_owned(), vec!["cursor"]),
        ("/api/v1/tasks?limit=x&status=x&task_type=%00".to_owned(), vec!["limit", "status", "task_type"]),
        ("/api/v1/agents?limit=0".to_owned(), vec!["limit"]),
        ("/api/v1/agents?limit=501".to_owned(), vec!["limit"]),
        ("/api/v1/agents?cursor=nobody".to_owned(), vec!["cursor"]),
    ] {
        let mut fields = operator.get(&path).send().await.fields();
        fields.sort();
        let expected: Vec<String> = expected.into_iter().map(|name| format!("query.{name}")).collect();
        assert_eq!(fields, expected, "{path}");
    }
}

#[tokio::test]
async fn a_query_may_be_odd_and_right() {
    let server = Server::start().await;
    for query in ["?", "?&&", "?x=%FF", "?limit=&cursor=", "?limit=5&limit=6", "?status=queued&status=", "?=&=1"] {
        server.operator().get(&format!("/api/v1/tasks{query}")).send().await.expect(200);
    }
    server.operator().get("/api/v1/tasks?cursor=18446744073709551615").send().await.expect(200);
}

#[tokio::test]
async fn unknown_and_malformed_ids_are_told_alike() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    let ids = [UNKNOWN, "0", "not-a-uuid", "%FF%FE", "%00", "a%2Fb", "01890a5d-ac96-774b-bcce-b302099a805"];
    for id in ids {
        for path in [
            format!("/api/v1/tasks/{id}"),
            format!("/api/v1/tasks/{id}/history"),
            format!("/api/v1/tasks/{id}/explain"),
        ] {
            operator.get(&path).send().await.problem(404, "TASK_NOT_FOUND");
        }
        operator.get(&format!("/api/v1/tasks/{id}?wait_seconds=60")).send().await.problem(404, "TASK_NOT_FOUND");
        operator.post(&format!("/api/v1/tasks/{id}/cancel")).send().await.problem(404, "TASK_NOT_FOUND");
        operator.post(&format!("/api/v1/dead-letters/{id}/requeue")).send().await.problem(404, "TASK_NOT_FOUND");
        operator.post(&format!("/api/v1/dead-letters/{id}/discard")).send().await.problem(404, "TASK_NOT_FOUND");
        operator.get(&format!("/api/v1/agents/{id}")).send().await.problem(404, "AGENT_NOT_FOUND");
        // A path that is no text names nobody at all.
        let code = if id.starts_with("%FF") { "AGENT_NOT_FOUND" } else { "TASK_NOT_FOUND" };
        for (rest, body) in [
            ("result", json!({"task_id": UNKNOWN, "status": "completed"})),
            ("progress", json!({"seq": 1})),
            ("release", json!({})),
        ] {
            let call = agent.call(&format!("/tasks/{id}/{rest}")).json(&body);
            call.send().await.problem(404, code);
        }
        let path = format!("/api/v1/agents/external/{id}/heartbeat");
        let call = server.api.post(&path).header("x-agent-token", &agent.token);
        call.json(&json!({"status": "healthy"})).send().await.problem(404, "AGENT_NOT_FOUND");
    }
    let long = "x".repeat(4000);
    operator.get(&format!("/api/v1/tasks/{long}")).send().await.problem(404, "TASK_NOT_FOUND");
    operator.get(&format!("/api/v1/agents/{long}")).send().await.problem(404, "AGENT_NOT_FOUND");
}

#[tokio::test]
async fn an_id_may_be_written_in_capitals() {
    let server = Server::start().await;
    let id = server.operator().submit(json!({})).await;
    assert_eq!(server.operator().task(&id.to_uppercase()).await["task_id"], json!(id));
}

#[tokio::test]
async fn paths_that_do_not_exist_are_not_found() {
    let server = Server::start().await;
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/tasks",
        "/api/v1/tasks/",
        "/api/v1/tasks/1/2/3",
        "/api/v1/dead-letters/",
        "/api/v1/events/",
        "/health/",
        "/health/live",
        "/api/v1/agents/external/register/x",
        "//api/v1/tasks",
        "/api/v1/%74asks/x/explanation",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let call = server.api.call(method, path).bearer(crate::harness::OPERATOR_KEY);
            call.send().await.problem(404, "NOT_FOUND");
        }
    }
}

#[tokio::test]
async fn a_path_that_does_not_take_a_method_says_so() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let before = (server.operator().list("").await, server.operator().agents().await.len());
    for (path, methods) in [
        ("/health".to_owned(), vec!["POST", "DELETE", "PUT"]),
        ("/health/ready".to_owned(), vec!["POST", "PATCH"]),
        ("/api/v1/tasks".to_owned(), vec!["DELETE", "PUT", "PATCH", "BREW"]),
        (format!("/api/v1/tasks/{UNKNOWN}"), vec!["POST", "DELETE", "PUT"]),
        (format!("/api/v1/tasks/{UNKNOWN}/cancel"), vec!["GET", "DELETE"]),
        (format!("/api/v1/tasks/{UNKNOWN}/history"), vec!["POST", "DELETE"]),
        ("/api/v1/tasks/batch".to_owned(), vec!["GET", "DELETE", "PUT"]),
        ("/api/v1/dead-letters".to_owned(), vec!["POST", "DELETE"]),
        (format!("/api/v1/dead-letters/{UNKNOWN}/requeue"), vec!["GET", "PUT"]),
        (format!("/api/v1/tasks/{UNKNOWN}/explain"), vec!["POST", "DELETE"]),
        ("/api/v1/agents".to_owned(), vec!["POST", "DELETE"]),
        (format!("/api/v1/agents/{UNKNOWN}"), vec!["POST", "DELETE", "PUT"]),
        ("/api/v1/agents/external/register".to_owned(), vec!["GET", "PUT"]),
        (agent.path(""), vec!["GET", "POST", "PUT"]),
        (agent.path("/heartbeat"), vec!["GET", "PUT", "DELETE"]),
        (agent.path("/tasks/lease"), vec!["GET", "DELETE"]),
        (agent.path(&format!("/tasks/{UNKNOWN}/result")), vec!["GET", "PUT"]),
        (agent.path("/results"), vec!["GET", "BREW"]),
    ] {
        for method in methods {
            let method: Method = method.parse().expect("it is a method");
            let call = server.api.call(method.clone(), &path).header("x-agent-token", &agent.token);
            let answer = call.send().await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.header("allow").is_some(), "{method} {path}: 405 names what is allowed");
            answer.problem(405, "METHOD_NOT_ALLOWED");
        }
    }
    assert_eq!((server.operator().list("").await, server.operator().agents().await.len()), before);
}

#[tokio::test]
async fn a_page_of_nothing_is_an_empty_page() {
    let server = Server::start().await;
    assert_eq!(server.operator().list("").await, json!({"tasks": []}));
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
}
