//! How agents join: what they are told, and what is refused (A1, A3).

use eap_orchestrator::{Access, RegistrationSecret};
use eap_types::{NamePolicy, Timestamp};
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Agent, Api, FEATURES, REGISTRATION_SECRET, START, Server, Setup, assert_shape, registration};

const REGISTER: &str = "/api/v1/agents/external/register";

fn endpoints(prefix: &str, id: &str) -> Value {
    let base = format!("{prefix}/api/v1/agents/external/{id}");
    json!({
        "heartbeat": format!("{base}/heartbeat"),
        "lease": format!("{base}/tasks/lease"),
        "next": format!("{base}/tasks/next"),
        "result": format!("{base}/tasks/{{task_id}}/result"),
        "results": format!("{base}/results"),
        "progress": format!("{base}/tasks/{{task_id}}/progress"),
        "release": format!("{base}/tasks/{{task_id}}/release"),
        "artifact": format!("{base}/tasks/{{task_id}}/artifacts/{{path}}"),
        "rotate": format!("{base}/token/rotate"),
        "ws": format!("{base}/ws"),
        "deregister": format!("{base}/deregister"),
    })
}

#[tokio::test]
async fn an_older_peer_gets_the_four_fields_of_adr_001_and_no_more() {
    let server = Server::start().await;
    let body = json!({
        "protocol_version": "1.0", "name": "AGENT-EXT-PYTHON-01", "version": "1.2.0", "agent_type": "implementer",
        "capabilities": ["code_generation", "python_expert"], "endpoint_url": "http://agent.example:9000",
        "metadata": {"language": "python"},
    });
    let answer = server.register(&body).await;
    let id = answer.body["agent_id"].as_str().expect("it has an id").to_owned();
    assert_eq!(answer.header("location"), Some(format!("/api/v1/agents/external/{id}").as_str()));
    let shape = json!({
        "agent_id": "<uuid>", "status": "registered", "auth_token": "<text>", "heartbeat_interval_seconds": 30,
    });
    assert_shape(&answer.expect(201), &shape);
}

#[tokio::test]
async fn an_agent_of_our_time_is_told_features_paths_and_limits() {
    let server = Server::start().await;
    let offered = ["pull.v1", "artifacts.v1", "directives.v1", "cancel.v1", "progress.v1", "teleport.v9"];
    let agent = server.agent_with("AGENT-A", json!({"features": offered})).await;
    let agreed = [&FEATURES[..], &["artifacts.v1"]].concat();
    let shape = json!({
        "agent_id": "<uuid>", "status": "registered", "auth_token": "<text>", "heartbeat_interval_seconds": 30,
        "protocol_version": "1.0", "features": agreed,
        "endpoints": endpoints("", &agent.id), "lease_seconds": 60,
        "limits": {"max_body_bytes": 8_388_608, "max_artifact_bytes": 67_108_864}, "server_time": "<time>",
    });
    assert_shape(&agent.reply, &shape);
    assert!(agent.token.starts_with(&format!("eap_{}_", agent.id)), "tokens name their agent");
}

#[tokio::test]
async fn every_path_that_an_agent_is_told_leads_somewhere() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    for (name, path) in agent.reply["endpoints"].as_object().expect("endpoints are an object") {
        let path = path.as_str().expect("a path is text").replace("{task_id}", "01890a5d-ac96-774b-bcce-b302099a8057");
        let answer = match name.as_str() {
            "ws" => server.api.get(&path).send().await,
            "artifact" => server.api.call(Method::PUT, &path.replace("{path}", "deep/a")).body("x").send().await,
            _ => server.api.post(&path).json(&json!({"seq": "no number"})).send().await,
        };
        assert_eq!(answer.status, 401, "{name}: {path} takes a call from an agent: {}", answer.body);
    }
}

#[tokio::test]
async fn under_a_prefix_the_paths_carry_it() {
    let (orchestrator, ..) = Setup::memory()
        .config(|config| {
            config.operator_key = None;
            config.registration_secret = None;
            config.access = Access::Open;
        })
        .build();
    let _running = orchestrator.start().await.expect("the store is new");
    let app = axum::Router::new().nest("/inner/eap", orchestrator.router());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let api = Api::at(format!("http://{}", listener.local_addr().expect("it is bound")));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let path = format!("/inner/eap{REGISTER}");
    let answer = api.post(&path).json(&registration("AGENT-A", json!({}))).send().await;
    let location = answer.header("location").map(str::to_owned);
    let agent = Agent::of(api.clone(), answer.expect(201));
    assert_eq!(location, Some(format!("/inner/eap/api/v1/agents/external/{}", agent.id)));
    assert_eq!(agent.reply["endpoints"], endpoints("/inner/eap", &agent.id));
    let beat = agent.reply["endpoints"]["heartbeat"].as_str().expect("a path is text");
    let beaten = api.post(beat).header("x-agent-token", &agent.token).json(&json!({"status": "healthy"})).send().await;
    beaten.expect(200);
    let submitted = api.post("/inner/eap/api/v1/tasks").json(&json!({"task_type": "work", "input": "x"})).send().await;
    let location = submitted.header("location").map(str::to_owned);
    let task = submitted.expect(201);
    let expected = format!("/inner/eap/api/v1/tasks/{}", task["task_id"].as_str().expect("it has an id"));
    assert_eq!(location, Some(expected));
}

#[tokio::test]
async fn with_a_public_url_the_paths_are_those_the_world_sees() {
    let setup = Setup::memory().config(|config| config.public_url = Some("https://eap.example.com/base/".into()));
    let server = setup.start().await;
    let agent = server.agent("AGENT-A").await;
    assert_eq!(agent.reply["endpoints"], endpoints("/base", &agent.id));
}

#[tokio::test]
async fn a_registration_needs_the_secret_in_either_header() {
    let server = Server::start().await;
    let body = json!({"name": "AGENT-A", "capabilities": ["work"]});
    server.api.post(REGISTER).json(&body).send().await.problem(403, "REGISTRATION_DENIED");
    let wrong = server.api.post(REGISTER).bearer("another-secret-of-24-bytes-or-so").json(&body).send().await;
    wrong.problem(403, "REGISTRATION_DENIED");
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
    server.api.post(REGISTER).bearer(REGISTRATION_SECRET).json(&body).send().await.expect(201);
    server.api.post(REGISTER).header("x-registration-token", REGISTRATION_SECRET).json(&body).send().await.expect(201);
}

#[tokio::test]
async fn a_secret_that_expired_lets_nobody_in() {
    let setup = Setup::memory().manual_clock().config(|config| {
        let mut secret = RegistrationSecret::new(REGISTRATION_SECRET);
        secret.expires_at = Some(Timestamp::from_seconds(START + 10));
        config.registration_secret = Some(secret);
    });
    let server = setup.start().await;
    server.agent("AGENT-A").await;
    server.advance(10);
    server.register(&registration("AGENT-B", json!({}))).await.problem(403, "REGISTRATION_DENIED");
}

#[tokio::test]
async fn any_minor_version_of_the_protocol_is_taken_and_another_major_one_is_not() {
    let server = Server::start().await;
    for version in ["1.0", "1.7", "1"] {
        let members = json!({"protocol_version": version, "a_field_of_the_future": {"x": 1}});
        server.register(&registration("AGENT-A", members)).await.expect(201);
    }
    for version in ["2.0", "0.9", "10.0", ""] {
        let answer = server.register(&registration("AGENT-A", json!({"protocol_version": version}))).await;
        let problem = answer.problem(400, "UNSUPPORTED_VERSION");
        assert!(problem["detail"].as_str().expect("it says why").contains("1.0"), "{problem}");
    }
}

#[tokio::test]
async fn opencodes_names_are_demanded_where_the_policy_says_so() {
    let server = Setup::memory().config(|config| config.name_policy = NamePolicy::OpenCode).start().await;
    server.agent("AGENT-A_1").await;
    let lower = server.register(&registration("agent-a", json!({}))).await;
    assert_eq!(lower.fields(), ["body.name"]);
    let prefix = server.register(&registration("EXT-A", json!({}))).await;
    assert_eq!(prefix.status, 400);
    prefix.assert_is_problem();
    assert_eq!(prefix.body["message"], "Agent name must start with 'AGENT-'");
}

#[tokio::test]
async fn a_registration_with_many_faults_is_told_all_of_them_at_once() {
    let server = Server::start().await;
    let body = json!({
        "name": "x", "capabilities": [], "endpoint_url": "ftp://x", "max_concurrent_tasks": 0,
        "metadata": [], "labels": {"-": "x"}, "transports": [], "task_schemas": {"work": 1},
    });
    let mut fields = server.register(&body).await.fields();
    fields.sort();
    let expected = [
        "capabilities",
        "endpoint_url",
        "labels",
        "max_concurrent_tasks",
        "metadata",
        "name",
        "task_schemas.work",
        "transports",
    ];
    assert_eq!(fields, expected.map(|name| format!("body.{name}")));
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_an_agent_said_of_itself_is_shown_to_operators() {
    let server = Server::start_with_clock().await;
    let members = json!({
        "version": "3.1", "agent_type": "Reviewer", "capabilities": ["Work", "work", "code_review"],
        "labels": {"region": "eu"}, "metadata": {"team": "a", "auth_token": "x"}, "max_concurrent_tasks": 7,
        "endpoint_url": "https://agent.example/eap",
    });
    let agent = server.agent_with("AGENT-A", members).await;
    let view = json!({
        "agent_id": agent.id, "name": "AGENT-A", "state": "online", "version": "3.1", "agent_type": "reviewer",
        "capabilities": ["code_review", "work"], "labels": {"region": "eu"}, "instance_id": "AGENT-A",
        "max_concurrent_tasks": 7, "leases": 0, "current_load": 0, "registered_at": "2027-01-15T08:00:00Z",
        "last_seen_at": "2027-01-15T08:00:00Z", "endpoint_url": "https://agent.example/eap",
    });
    assert_shape(&server.operator().agents().await[0], &view);
    let mut detail = view;
    for (name, value) in [
        ("metadata", json!({"team": "a"})),
        ("metrics", json!({})),
        ("features", json!(FEATURES)),
        ("load", json!("idle")),
        ("track_record", json!({"tier": "competent", "results": 0, "breaker": "closed"})),
        ("held", json!([])),
        ("epoch", json!(1)),
    ] {
        detail[name] = value;
    }
    assert_shape(&server.operator().agent(&agent.id).await.expect(200), &detail);
}

#[tokio::test]
async fn agents_are_listed_newest_first_page_by_page() {
    let server = Server::start_with_clock().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(server.agent(&format!("AGENT-{number}")).await.id);
        server.advance(1);
    }
    ids.reverse();
    let operator = server.operator();
    let (mut seen, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = operator.get(&format!("/api/v1/agents?{query}")).send().await.expect(200);
        let agents = page["agents"].as_array().expect("agents are a list");
        assert!(agents.len() <= 2);
        seen.extend(agents.iter().map(|agent| agent["agent_id"].as_str().expect("it has an id").to_owned()));
        let Some(cursor) = page.get("next_cursor") else { break };
        query = format!("limit=2&cursor={}", cursor.as_str().expect("a cursor is text"));
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_silent_agent_is_suspect_then_offline_and_online_again_with_its_next_beat() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let state = async || server.operator().agent(&agent.id).await.expect(200)["state"].clone();
    for (seconds, expected) in [(44, "online"), (1, "suspect"), (44, "suspect"), (1, "offline")] {
        server.advance(seconds);
        assert_eq!(state().await, expected);
    }
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(state().await, "online");
    let detail = server.operator().agent(&agent.id).await.expect(200);
    assert_eq!((&detail["agent_id"], &detail["epoch"]), (&json!(agent.id), &json!(1)));
}
