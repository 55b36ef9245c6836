//! The sequence of the integration plan, against both commands: `eap serve`, and `mock-agentkit` in the platform's place.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eap_client::{HttpCall as _, ReqwestCall};
use eap_tests::ports::free_address;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Running, eap, run, until};

const KEY: &str = "canary-operator-key-000000";
const SECRET: &str = "a word that both sides know";

/// The command, which a test of the whole workspace has built; alone, this test builds it.
fn mock_agentkit() -> PathBuf {
    let file = PathBuf::from(env!("CARGO_BIN_EXE_eap")).with_file_name("mock-agentkit");
    if !file.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mock-agentkit"]).status();
        assert!(built.expect("cargo runs").success() && file.exists(), "mock-agentkit is not at {}", file.display());
    }
    file
}

/// Calls both of them as the plan's client does.
struct Client {
    runtime: Runtime,
    http: Arc<ReqwestCall>,
}

impl Client {
    fn new() -> Self {
        Self { runtime: Runtime::new().unwrap(), http: Arc::new(ReqwestCall::new().unwrap()) }
    }

    fn call(&self, method: &str, url: &str, body: Option<Value>) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default()))
            .unwrap();
        let answer = self.runtime.block_on(self.http.call(request, Duration::from_secs(10))).expect("it answers");
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
    }
}

#[test]
fn the_sequence_of_the_plan_runs_from_register_to_deregister() {
    let dir = tempfile::tempdir().unwrap();
    let opscore = format!("http://{}", free_address());
    let mut command = Command::new(mock_agentkit());
    command.args(["--listen", "127.0.0.1:0", "--opscore-url", &opscore, "--work-ms", "300", "--sign-rfc3339"]);
    command.envs([("OPSCORE_API_KEY", KEY), ("OPSCORE_WEBHOOK_SECRET", SECRET)]);
    let mut platform = Running::start_to_read(&mut command);
    let agentkit = platform.printed().strip_prefix("mock-agentkit listens on ").expect("the first line").to_owned();
    let database = format!("sqlite:{}", dir.path().join("eap.db").display());
    let secrets = dir.path().join("secrets");
    std::fs::write(&secrets, SECRET).unwrap();
    let mut command = eap(&["serve", "--listen", opscore.trim_start_matches("http://"), "--database", &database]);
    command.args(["--agentkit-url", &agentkit, "--agentkit-secret-file", secrets.to_str().unwrap()]);
    let mut server = Running::start(command.env("EAP_OPERATOR_KEY", KEY));
    server.line("eap: serving on ");

    let client = Client::new();
    let state = || client.call("GET", &format!("{opscore}/v1/opscore/agent/a1/state"), None);
    let agent = json!({"agentId": "a1", "agentName": "Summarizer", "version": "1.0.0", "capabilities": ["summarize"],
        "contactEndpoint": "http://127.0.0.1:9000", "metadata": {}});
    let (status, told) = client.call("POST", &format!("{agentkit}/v1/agents"), Some(agent));
    assert_eq!(status, 200, "{told}");
    assert_eq!((state().0, &state().1["state"]), (200, &json!("UNKNOWN")), "REGISTER has come");

    let workflow = json!({"workflowDefinition": {"id": "wf-1", "name": "Summarize", "version": "1.0", "tasks": [
        {"taskId": "t1", "name": "summarize", "agentCapability": "summarize", "parameters": {"style": "short"},
            "nextTaskId": "t2"},
        {"taskId": "t2", "name": "summarize again", "agentCapability": "summarize", "parameters": {}},
    ]}});
    let (status, started) = client.call("POST", &format!("{opscore}/v1/opscore/agent/a1/workflow"), Some(workflow));
    assert_eq!(status, 202, "{started}");
    let session = format!("{opscore}/v1/opscore/session/{}", started["sessionId"].as_str().expect("an id"));
    let (_, held) = until("it is BUSY", || Some(state()).filter(|(_, state)| state["state"] == "BUSY"));
    assert!(held["details"]["current_task"].is_string(), "{held}");
    let (_, done) = until("the session is completed", || {
        Some(client.call("GET", &session, None)).filter(|(_, session)| session["status"] == "completed")
    });
    assert_eq!(done["result"], json!({"last_task_result": "simulated_success"}));
    assert_eq!(done["steps"].as_array().map(Vec::len), Some(2));
    let (_, last) = until("it is IDLE", || Some(state()).filter(|(_, state)| state["state"] == "IDLE"));
    assert_eq!(last["agentId"], "a1");
    let (_, received) = client.call("GET", &format!("{agentkit}/control/received"), None);
    assert_eq!(received.to_string().matches("/v1/agents/a1/run").count(), 2, "each step went through /run once");

    // What it holds as it goes is another's from then on.
    let eap_at = |arguments: &[&str]| run(eap(arguments).env("EAP_URL", &opscore).env("EAP_OPERATOR_KEY", KEY));
    let task = eap_at(&["task", "submit", "--type", "summarize", "--input", "x"]).expect(0).stdout.trim().to_owned();
    let of_task = || eap_at(&["task", "get", &task, "--json"]).expect(0).json();
    until("it has the task", || (of_task()["status"] == "leased").then_some(()));
    let (status, _) = client.call("DELETE", &format!("{agentkit}/v1/agents/a1"), None);
    assert_eq!(status, 200);
    assert_eq!(state().0, 404, "DEREGISTER has come");
    assert_eq!(client.call("GET", &session, None).1["status"], "completed", "what it did is still there");
    until("the task waits for another", || (of_task()["status"] == "queued").then_some(()));
    let agents = eap_at(&["agent", "list", "--json"]).expect(0).json();
    assert_eq!(agents["agents"], json!([]));
    assert_eq!((server.stop(), platform.stop()), (0, 0));
}
