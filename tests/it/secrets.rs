//! Tokens, keys and secrets appear where they are handed out and nowhere else (A1; T6, T7, T9).

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use eap_orchestrator::{Config, OperatorKey, RegistrationSecret};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{Agent, OPERATOR_KEY, Peer, REGISTRATION_SECRET, Server, Setup, id_of, registration};

/// Everything that is logged, in memory.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// A life with everything in it that knows a secret; gives the secrets.
async fn live(server: &Server) -> Vec<String> {
    let first = server.agent("AGENT-A").await;
    let peer = server.older_peer("AGENT-OLD").await;
    let input = "canary-of-the-input";
    server.operator().submit(json!({"input": input})).await;
    let task = first.take().await;
    let again = server.agent("AGENT-A").await;
    let rotated = again.call("/token/rotate").send().await.expect(200);
    let rotated = rotated["auth_token"].as_str().expect("it is a text");
    first.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    let wrong = Agent { token: format!("{}x", again.token), ..again.clone() };
    wrong.beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    server.api.get("/api/v1/tasks").bearer(&again.token).send().await.problem(401, "INVALID_TOKEN");
    let misplaced = again.api.post("/api/v1/agents/external/register").bearer(OPERATOR_KEY);
    misplaced.json(&registration("AGENT-B", json!({}))).send().await.problem(403, "REGISTRATION_DENIED");
    let mut broken = Peer::connect(server.address).await;
    let line = format!("POST /api/v1/tasks HTTP/1.1\r\nauthorization: Bearer {OPERATOR_KEY}\r\nbad header\r\n\r\n");
    broken.send(line.as_bytes()).await;
    broken.answer().await;
    again.beat(json!({"status": "sleepy", "metrics": {"token": again.token}})).await.problem(422, "VALIDATION_ERROR");
    again.fail(&task, json!({"retryable": false, "error_message": "canary-of-the-result"})).await.expect(200);
    peer.beat(json!({"status": "healthy"})).await.expect(204);
    peer.deregister().await.expect(200);
    let operator = server.operator();
    let made = async |path: &str, body: serde_json::Value, text: &str| {
        let made = operator.post(path).json(&body).send().await.expect(201);
        made[text].as_str().expect("an answer has it").to_owned()
    };
    let key = made("/api/v1/keys", json!({"name": "ci", "preset": "read"}), "key").await;
    let secret = made("/api/v1/registration-secrets", json!({"name": "fleet"}), "registration_secret").await;
    server.api.get("/api/v1/tasks").bearer(&key).send().await.expect(200);
    server.api.post("/api/v1/tasks").bearer(&key).send().await.problem(403, "FORBIDDEN");
    let join = server.api.post("/api/v1/agents/external/register").bearer(&secret);
    join.json(&registration("AGENT-C", json!({}))).send().await.expect(201);
    [
        OPERATOR_KEY,
        REGISTRATION_SECRET,
        &first.token,
        &again.token,
        &peer.token,
        rotated,
        &key,
        &secret,
        input,
        "canary-of-the-result",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The part of a token that nobody can guess.
fn secret_part(text: &str) -> &str {
    if text.starts_with("eap") { &text[text.len() - 43..] } else { text }
}

#[test]
fn tokens_keys_and_payloads_never_reach_the_log() {
    let log = Log::default();
    // For the whole process: the store's threads log too.
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).expect("no other test installs a subscriber");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let secrets = runtime.block_on(async {
        let server = Server::start().await;
        let secrets = live(&server).await;
        server.stop().await;
        secrets
    });
    let text = String::from_utf8(log.0.lock().expect("nobody panics here").clone()).expect("logs are text");
    assert!(text.contains("agent registered"), "the log was listened to");
    for secret in secrets {
        assert!(!text.contains(secret_part(&secret)), "{secret} was logged");
    }
}

#[tokio::test]
async fn nothing_prints_a_secret_through_debug() {
    let server = Server::start().await;
    let secrets = live(&server).await;
    let mut config = Config::default();
    config.operator_key = Some(OperatorKey::new(OPERATOR_KEY));
    config.registration_secret = Some(RegistrationSecret::new(REGISTRATION_SECRET));
    let printed: [&dyn Debug; 3] = [&server.orchestrator, &config, &server.orchestrator.config()];
    for value in printed {
        let text = format!("{value:?} {value:#?}");
        for secret in &secrets {
            assert!(!text.contains(secret_part(secret)), "{secret} was printed");
        }
    }
}

#[tokio::test]
async fn no_answer_but_the_registrations_shows_a_token() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    agent.complete(&task).await.expect(200);
    let operator = server.operator();
    let mut texts = vec![agent.beat(json!({"status": "healthy"})).await.body.to_string()];
    for path in [
        "/api/v1/agents".to_owned(),
        format!("/api/v1/agents/{}", agent.id),
        "/api/v1/tasks".to_owned(),
        format!("/api/v1/tasks/{}/history", id_of(&task)),
        "/health/ready".to_owned(),
    ] {
        texts.push(operator.get(&path).send().await.expect(200).to_string());
    }
    texts.push(Agent { token: "wrong".into(), ..agent.clone() }.delete().await.body.to_string());
    for text in texts {
        assert!(!text.contains(secret_part(&agent.token)), "{text}");
        assert!(!text.contains("token_sha256"), "{text}");
    }
}

#[tokio::test]
async fn the_database_holds_no_token_key_or_secret() {
    let dir = tempfile::TempDir::new().expect("there is room");
    let server = Setup::sqlite_at(&dir.path().join("eap.db")).start().await;
    let secrets = live(&server).await;
    server.stop().await;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir.path()).expect("the directory is there") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() {
            assert_eq!(std::fs::read_dir(&path).expect("it is readable").count(), 0, "no artifacts were uploaded");
            continue;
        }
        let content = std::fs::read(Path::new(&path)).expect("a file is readable");
        bytes += content.len();
        for secret in secrets.iter().filter(|secret| !secret.starts_with("canary-of")) {
            let secret = secret_part(secret).as_bytes();
            assert!(!content.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
    assert!(bytes > 10_000, "the files were looked at");
}

#[tokio::test]
async fn a_wrong_token_and_an_unknown_agent_are_told_apart_by_nobody() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let wrong = "A".repeat(43);
    let mut answers = Vec::new();
    for (id, token) in [
        (agent.id.as_str(), format!("eap_{}_{wrong}", agent.id)),
        (agent.id.as_str(), format!("eap_{unknown}_{wrong}")),
        (unknown, format!("eap_{unknown}_{wrong}")),
        (unknown, "x".to_owned()),
        (agent.id.as_str(), String::new()),
    ] {
        let path = format!("/api/v1/agents/external/{id}/heartbeat");
        let call = server.api.post(&path).header("x-agent-token", &token).header("x-request-id", "same");
        let mut answer = call.json(&json!({"status": "healthy"})).send().await;
        answer.headers.remove("date");
        assert_eq!(answer.clone().problem(401, "INVALID_TOKEN")["detail"], "Invalid agent token");
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn a_request_id_comes_back_and_one_that_is_none_is_replaced() {
    let server = Server::start().await;
    let call = async |id: &str| {
        let answer = server.operator().get("/api/v1/tasks?limit=0").header("x-request-id", id).send().await;
        answer.problem(422, "VALIDATION_ERROR")["request_id"].as_str().expect("it has one").to_owned()
    };
    assert_eq!(call("my-request/1").await, "my-request/1");
    for id in ["", "with space", &"x".repeat(129)] {
        let given = call(id).await;
        assert!(given != id && given.len() == 16, "{given}");
    }
}
