//! Workflows from the command line, and through the deaths of those who carry them out.

use std::fs;
use std::path::Path;

use eap_tests::ports::free_address;
use serde_json::{Value, json};

use crate::support::{Running, Server, eap, run, until};

/// A workflow in a file; each step by (id, capability, retries), in the order of the chain.
fn workflow_in(dir: &Path, id: &str, steps: &[(&str, &str, u32)]) -> String {
    let following = steps.iter().skip(1).map(|(next, ..)| json!(next)).chain([Value::Null]);
    let tasks: Vec<_> = steps
        .iter()
        .zip(following)
        .map(|((step, capability, retries), next)| {
            json!({"taskId": step, "name": step, "agentCapability": capability, "maxRetries": retries,
                "nextTaskId": next, "parameters": {"step": step}})
        })
        .collect();
    let file = dir.join(format!("{id}.json"));
    let workflow = json!({"id": id, "name": "A chain", "version": "1.0", "tasks": tasks});
    fs::write(&file, workflow.to_string()).unwrap();
    file.to_str().expect("UTF-8").to_owned()
}

/// An agent that runs `script` for tasks that ask for `capability`.
fn agent(url: &str, name: &str, capability: &str, script: &str, dir: &Path) -> Running {
    let mut command = eap(&["agent", "run", "--url", url, "--name", name, "--capability", capability]);
    let mut agent = Running::start(command.args(["--", "sh", "-c", script]).env("DIR", dir));
    agent.line(&format!("eap: agent {name} is online"));
    agent
}

#[test]
fn a_workflow_is_kept_run_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, folder) = (Server::start(&[], &[]), dir.path().join("kept"));
    let _agent = agent(&server.url, "AGENT-A", "work", "cat", dir.path());
    let file = workflow_in(dir.path(), "wf-1", &[("one", "work", 0), ("two", "work", 0)]);
    let added = run(&mut server.eap(&["workflow", "add", &file])).expect(0);
    assert_eq!(added.stdout, "wf-1 1.0\n");
    let ran = run(&mut server.eap(&["workflow", "run", "wf-1", "--payload", r#"{"a":1}"#, "--wait", "--json"]));
    let session = ran.expect(0).json();
    assert_eq!((&session["status"], &session["steps"][1]["status"]), (&json!("completed"), &json!("completed")));
    let last: Value = serde_json::from_str(session["result"]["output"].as_str().expect("a text")).unwrap();
    assert_eq!(last["previous"]["output"], r#"{"a":1}"#, "each step hands on what it printed");
    let id = session["sessionId"].as_str().expect("an id");
    let shown = run(&mut server.eap(&["workflow", "get", id])).expect(0).stdout;
    assert!(shown.contains("completed") && shown.contains("two"), "{shown}");
    let listed = run(&mut server.eap(&["workflow", "list"])).expect(0).stdout;
    assert!(listed.contains("wf-1") && listed.contains("A chain"), "{listed}");
    let listed = run(&mut server.eap(&["workflow", "sessions", "--status", "completed"])).expect(0).stdout;
    assert!(listed.contains(id), "{listed}");
    let printed = run(&mut server.eap(&["workflow", "show", "wf-1"])).expect(0).json();
    assert_eq!(printed["tasks"][0]["nextTaskId"], "two");
    fs::write(
        dir.path().join("odd.json"),
        r#"{"id": "wf-1", "version": "1.0", "name": "y", "tasks": [{"taskId": "a",
        "name": "a", "agentCapabilty": "work"}]}"#,
    )
    .unwrap();
    let odd = run(&mut server.eap(&["workflow", "add", dir.path().join("odd.json").to_str().unwrap()])).expect(3);
    for told in ["tasks[0].agentCapabilty is no field", "WORKFLOW_EXISTS", "this is about"] {
        assert!(odd.stderr.contains(told), "{odd:?}");
    }
    let refused = run(&mut server.eap(&["workflow", "cancel", id])).expect(3);
    assert!(refused.stderr.contains("already completed"), "{refused:?}");

    // What a folder holds is kept from the start on; a changed workflow needs a version of its own.
    fs::create_dir(&folder).unwrap();
    fs::copy(&file, folder.join("one.json")).unwrap();
    let other = Server::start(&["--workflows", folder.to_str().expect("UTF-8")], &[]);
    assert!(run(&mut other.eap(&["workflow", "list"])).expect(0).stdout.contains("wf-1"));
    fs::write(folder.join("two.json"), r#"{"id": "wf-2", "name": "x", "version": "1", "tasks": []}"#).unwrap();
    let mut command = eap(&["serve", "--listen", "127.0.0.1:0", "--database", "memory:", "--workflows"]);
    let told = run(command.arg(&folder)).expect(2).stderr;
    assert!(told.contains("two.json") && told.contains("tasks must have"), "{told}");
}

#[test]
fn a_session_is_paused_resumed_and_cancelled_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&[], &[]);
    let script = r#"until [ -e "$DIR/go" ]; do sleep 0.02; done; echo done"#;
    let _agent = agent(&server.url, "AGENT-A", "work", script, dir.path());
    let file = workflow_in(dir.path(), "wf-1", &[("one", "work", 0), ("two", "work", 0)]);
    let started = run(&mut server.eap(&["workflow", "run", "--file", &file])).expect(0).stdout;
    let id = started.trim();
    let get = || run(&mut server.eap(&["workflow", "get", id, "--json"])).json();
    assert_eq!(run(&mut server.eap(&["workflow", "pause", id])).expect(0).stdout, format!("{id} paused\n"));
    fs::write(dir.path().join("go"), "").unwrap();
    until("the step is done", || (get()["steps"][0]["status"] == "completed").then_some(()));
    assert_eq!(get()["steps"][1]["status"], "pending");
    let over = run(&mut server.eap(&["workflow", "get", id, "--wait=1"])).expect(5);
    assert!(over.stderr.contains("the wait is over"), "{over:?}");
    fs::remove_file(dir.path().join("go")).unwrap();
    run(&mut server.eap(&["workflow", "resume", id])).expect(0);
    until("the second runs", || (get()["steps"][1]["status"] == "running").then_some(()));
    let cancelled = run(&mut server.eap(&["workflow", "cancel", id, "--reason", "no need"])).expect(0);
    assert_eq!(cancelled.stdout, format!("{id} cancelled\n"));
    assert!(run(&mut server.eap(&["workflow", "get", id, "--wait"])).expect(1).stdout.contains("no need"));
    fs::write(dir.path().join("go"), "").unwrap();
}

/// Five steps over three agents: one agent is killed at work, one step fails at first, the orchestrator is killed in the
/// middle.
#[test]
fn a_chain_outlives_an_agent_a_failure_and_its_orchestrator() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let listen = free_address().to_string();
    let (url, database) = (format!("http://{listen}"), format!("sqlite:{}", path("eap.db")));
    fs::write(path("config.json"), r#"{"timing": {"lease": 2}, "tasks": {"backoff_base": 0.1}}"#).unwrap();
    let serve = || {
        let mut command = eap(&["serve", "--listen", &listen, "--database", &database, "--config"]);
        let mut server = Running::start(command.arg(path("config.json")));
        server.line("eap: serving on ");
        server
    };
    let mut server = serve();
    // Each writes down that it ran, and what it was given.
    let log = r#"input=$(cat); printf '%s %s\n' "$EAP_ATTEMPT" "$input" >> "$DIR/log"; "#;
    let waits = r#"until [ -e "$DIR/go" ]; do sleep 0.02; done; touch "$DIR/drafted"; echo drafted"#;
    let fails = r#"if [ -e "$DIR/failed" ]; then echo checked; else touch "$DIR/failed"; echo no >&2; exit 1; fi"#;
    let hangs = r#"if [ -e "$DIR/hung" ]; then echo published; else touch "$DIR/hung"; exec sleep 600; fi"#;
    let first = format!(r#"{log} case "$input" in *five*|*three*) {waits};; *) echo drafted;; esac"#);
    let _drafter = agent(&url, "AGENT-DRAFT", "draft", &first, dir.path());
    let _checker = agent(&url, "AGENT-CHECK", "check", &format!("{log} {fails}"), dir.path());
    let mut publisher = agent(&url, "AGENT-PUBLISH", "publish", &format!("{log} {hangs}"), dir.path());
    let steps =
        [("one", "draft", 0), ("two", "check", 3), ("three", "draft", 0), ("four", "publish", 1), ("five", "draft", 0)];
    let file = workflow_in(dir.path(), "wf-5", &steps);
    let eap_at = |arguments: &[&str]| run(eap(arguments).env("EAP_URL", &url));
    let id = eap_at(&["workflow", "run", "--file", &file, "--payload", r#"{"step": "one"}"#]).expect(0).stdout;
    let id = id.trim();
    let get = || eap_at(&["workflow", "get", id, "--json"]).json();
    let runs = |step: usize| until("the step runs", || (get()["steps"][step]["status"] == "running").then_some(()));

    runs(2);
    server.kill_9();
    drop(server);
    fs::write(dir.path().join("go"), "").unwrap();
    until("the step is done while nobody serves", || fs::metadata(dir.path().join("drafted")).ok());
    let _server = serve();
    until("the publisher is at work", || fs::metadata(dir.path().join("hung")).ok());
    publisher.kill_9();
    drop(publisher);
    let _publisher = agent(&url, "AGENT-PUBLISH", "publish", &format!("{log} {hangs}"), dir.path());
    let session = eap_at(&["workflow", "get", id, "--wait=25", "--json"]).expect(0).json();

    assert_eq!(session["status"], "completed");
    let output = |step: usize| session["steps"][step]["result"]["output"].as_str().expect("a text").trim().to_owned();
    assert_eq!([0, 1, 2, 3, 4].map(output), ["drafted", "checked", "drafted", "published", "drafted"]);
    let outcomes = |step: usize| {
        let task = session["steps"][step]["eapTaskId"].as_str().expect("a task");
        let history = eap_at(&["task", "history", task, "--json"]).expect(0).json();
        let recorded =
            history["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "task.completed").count();
        assert_eq!(recorded, 1, "its result is recorded once: {history}");
        let attempts = history["attempts"].as_array().unwrap().iter();
        attempts.map(|attempt| attempt["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(0), ["completed"]);
    assert_eq!(outcomes(1), ["failed", "completed"]);
    assert_eq!(outcomes(2), ["completed"], "the orchestrator's death costs the agent nothing");
    assert_eq!(outcomes(3), ["expired", "completed"]);
    assert_eq!(outcomes(4), ["completed"]);
    let tasks = eap_at(&["task", "list", "--json"]).expect(0).json();
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 5, "each step is one task");
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let ran: Vec<_> = log.lines().map(|line| line.split_once(' ').expect("an attempt, and what it got")).collect();
    let ran: Vec<_> = ran
        .iter()
        .map(|(attempt, input)| {
            let input: Value = serde_json::from_str(input).unwrap();
            (input["step"].as_str().unwrap().to_owned(), (*attempt).to_owned())
        })
        .collect();
    let expected =
        [("one", "1"), ("two", "1"), ("two", "2"), ("three", "1"), ("four", "1"), ("four", "2"), ("five", "1")];
    assert_eq!(ran, expected.map(|(step, attempt)| (step.to_owned(), attempt.to_owned())));
}
