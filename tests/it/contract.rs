//! The contract that machines read: `/openapi.json` and `/.well-known/eap`.

use std::future::IntoFuture as _;

use eap_orchestrator::{Access, Orchestrator};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Server, Setup};

const OPENAPI: &str = "/openapi.json";
const WELL_KNOWN: &str = "/.well-known/eap";

#[tokio::test]
async fn the_document_is_open_and_is_sent_again_only_when_it_changed() {
    let server = Server::start().await;
    let first = server.api.get(OPENAPI).send().await;
    assert_eq!((first.status, &first.body["openapi"]), (200, &json!("3.1.0")));
    assert_eq!(first.body["servers"], json!([{"url": "/"}]));
    let whole: Value = serde_json::from_str(&Orchestrator::openapi()).unwrap();
    assert_eq!(first.body, whole, "what is served is what the library gives");
    let tag = first.header("etag").expect("it can be asked for again");
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let again = server.api.get(OPENAPI).header("if-none-match", &known).send().await;
        assert_eq!((again.status, &again.body, again.header("etag")), (304, &Value::Null, Some(tag)), "{known}");
    }
    server.api.get(OPENAPI).header("if-none-match", "\"other\"").send().await.expect(200);
    server.api.post(OPENAPI).send().await.problem(405, "METHOD_NOT_ALLOWED");
}

#[test]
fn the_file_says_what_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/openapi.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the file is there")).unwrap();
    let served: Value = serde_json::from_str(&Orchestrator::openapi()).unwrap();
    assert!(kept == served, "openapi.json is out of date, run: cargo run -p eap-cli -- schema --write schemas");
}

#[tokio::test]
async fn every_call_of_the_document_is_served_and_refuses_as_it_says() {
    let server = Server::start().await;
    let document = server.api.get(OPENAPI).send().await.expect(200);
    let mut calls = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let path = path.replace('{', "some-").replace('}', "");
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let (status, _, text) = server.api.call(method, &path).page().await;
            let told = &operation["responses"][status.to_string()];
            assert!(told.is_object(), "{id} answers {status} without a word in the document: {text}");
            // 401 for operators and agents, 403 for registration: the path and the method are served.
            let is_open = operation["security"] == json!([]);
            assert_eq!(is_open, status < 400, "{id}: {status}");
            calls += 1;
        }
    }
    assert!(calls >= 20, "{calls}");
}

#[tokio::test]
async fn whoever_knows_the_host_finds_everything() {
    let server = Server::start().await;
    let about = server.api.get(WELL_KNOWN).send().await.expect(200);
    assert_eq!(about["protocol_version"], "1.0");
    assert_eq!(
        about["features"],
        json!([
            "pull.v1",
            "push_async.v1",
            "ws.v1",
            "progress.v1",
            "directives.v1",
            "cancel.v1",
            "artifacts.v1",
            "rotate.v1"
        ])
    );
    assert_eq!(about["base_path"], "/api/v1/agents/external");
    assert_eq!(about["endpoints"]["submit_task"], json!({"method": "POST", "path": "/api/v1/tasks"}));
    for link in ["openapi", "health", "ready"] {
        server.api.get(about[link].as_str().unwrap()).send().await.expect(200);
    }
}

#[tokio::test]
async fn a_host_that_nests_the_router_is_told_of_with_its_prefix() {
    let orchestrator = Orchestrator::builder_in_memory().access(Access::Open).build().expect("it is complete");
    let running = orchestrator.start().await.expect("it starts");
    let app =
        axum::Router::new().nest("/inner/eap", orchestrator.router()).merge(orchestrator.well_known("/inner/eap"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let api = Api::at(format!("http://{}", listener.local_addr().expect("it is bound")));
    let host = tokio::spawn(axum::serve(listener, app).into_future());

    let about = api.get(WELL_KNOWN).send().await.expect(200);
    assert_eq!(about["base_path"], "/inner/eap/api/v1/agents/external");
    assert_eq!(about, api.get("/inner/eap/.well-known/eap").send().await.expect(200));
    let tasks = about["endpoints"]["list_tasks"]["path"].as_str().unwrap();
    api.get(tasks).send().await.expect(200);
    let document = api.get(about["openapi"].as_str().unwrap()).send().await.expect(200);
    assert_eq!(document["servers"], json!([{"url": "/inner/eap"}]));
    host.abort();
    drop(running);
}

#[tokio::test]
async fn a_public_url_goes_before_what_was_called() {
    let setup = Setup::memory().config(|config| config.public_url = Some("https://eap.example.com/base/".into()));
    let server = setup.start().await;
    let document = server.api.get(OPENAPI).send().await.expect(200);
    assert_eq!(document["servers"], json!([{"url": "https://eap.example.com/base"}]));
    let about = server.api.get(WELL_KNOWN).send().await.expect(200);
    assert_eq!(about["openapi"], "/base/openapi.json");
}

#[tokio::test]
async fn the_answers_of_a_batch_carry_the_id_of_the_request() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let wrong = json!({"results": [{"status": "completed"}]});
    let answer = agent.call("/results").json(&wrong).send().await;
    assert_eq!(answer.body["results"][0]["request_id"].as_str(), answer.header("x-request-id"));
}
