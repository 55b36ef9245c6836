//! A command as an agent, from registration to the last signal.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Ended, Running, Server, eap, run, until};

const SUBMIT: [&str; 7] = ["task", "submit", "--capability", "work", "--max-attempts", "1", "--json"];

fn submit(server: &Server, arguments: &[&str]) -> Ended {
    run(&mut server.eap(&[&SUBMIT[..], arguments].concat()))
}

/// A server whose leases are short, so that agents soon hear what it says.
fn server_with_short_leases(dir: &Path) -> Server {
    let config = dir.join("config.json");
    std::fs::write(&config, r#"{"timing": {"lease": 1}}"#).unwrap();
    Server::start(&["--config", config.to_str().expect("UTF-8")], &[])
}

fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    // A zombie has ended, whether or not anybody collects it.
    state.is_some_and(|state| state != 'Z')
}

fn pid_in(file: &Path) -> i32 {
    until("the command writes its child's id", || std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

#[test]
fn a_command_gets_the_task_and_its_output_and_files_come_back() {
    let server = Server::start(&[], &[]);
    let script = r#"mkdir "$EAP_ARTIFACTS_DIR/deep"; printf '# done' > "$EAP_ARTIFACTS_DIR/deep/report.md"
        ln -s /etc/passwd "$EAP_ARTIFACTS_DIR/link"; echo "$EAP_TASK_ID $EAP_ATTEMPT $EAP_TASK_TYPE $(wc -w)""#;
    let mut agent = server.agent(&["--capability", "more"], &[], script);
    let task = submit(&server, &["--input", "four words are here", "--wait"]).expect(0).json();
    let id = task["task_id"].as_str().expect("an id");
    let words: Vec<_> = task["result"]["output_data"]["output"].as_str().expect("text").split_whitespace().collect();
    assert_eq!(words, [id, "1", "work", "4"]);
    assert_eq!(task["result"]["output_data"]["exit_code"], 0);
    let artifacts = task["result"]["artifacts"].as_array().expect("artifacts");
    assert_eq!(artifacts.len(), 1, "{artifacts:?}");
    assert_eq!((&artifacts[0]["path"], &artifacts[0]["content"]), (&"deep/report.md".into(), &"# done".into()));

    let other = ["task", "submit", "--type", "free.word", "--capability", "more", "--input", "x", "--wait", "--json"];
    let output = run(&mut server.eap(&other)).expect(0).json()["result"]["output_data"]["output"].to_string();
    assert!(output.contains("free.word 1"), "{output}");

    let agents = run(&mut server.eap(&["agent", "list", "--json"])).expect(0).json();
    let agent_id = agents["agents"][0]["agent_id"].as_str().expect("an id");
    let detail = run(&mut server.eap(&["agent", "get", agent_id, "--json"])).expect(0).json();
    assert_eq!(detail["capabilities"], serde_json::json!(["more", "work"]));
    assert_eq!(agent.stop(), 0);
    assert!(agent.log().contains("2 completed, 0 failed"), "{}", agent.log());
}

#[test]
fn another_exit_code_is_a_failed_task_with_the_reason() {
    let server = Server::start(&[], &[]);
    let _agent = server.agent(&[], &[], "echo half; echo no such luck >&2; exit 7");
    let task = submit(&server, &["--input", "x", "--wait"]).expect(1).json();
    let result = &task["result"];
    assert_eq!((&task["status"], &result["error_code"]), (&"failed".into(), &"HANDLER_ERROR".into()));
    assert_eq!(result["error_message"], "no such luck");
    assert_eq!(result["output_data"], serde_json::json!({ "output": "half\n", "exit_code": 7 }));
    let id = task["task_id"].as_str().expect("an id");
    let seen = run(&mut server.eap(&["task", "get", id])).expect(1);
    assert!(seen.stdout.contains("no such luck") && seen.stdout.contains("exit code 7"), "{seen:?}");
}

#[test]
fn a_cancel_ends_the_whole_process_group() {
    let dir = tempfile::tempdir().unwrap();
    let server = server_with_short_leases(dir.path());
    let file = dir.path().join("pid");
    let variable = [("PID_FILE", file.to_str().expect("UTF-8"))];
    let mut agent = server.agent(&[], &variable, r#"sleep 600 & echo $! > "$PID_FILE"; wait"#);
    let task = submit(&server, &["--input", "x"]).expect(0).json();
    let grandchild = pid_in(&file);
    assert!(is_running(grandchild));
    let id = task["task_id"].as_str().expect("an id");
    run(&mut server.eap(&["task", "cancel", id])).expect(0);
    until("the group ends", || (!is_running(grandchild)).then_some(()));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_task_that_takes_too_long_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&[], &[]);
    let file = dir.path().join("pid");
    let variable = [("PID_FILE", file.to_str().expect("UTF-8"))];
    let script = r#"sleep 600 & echo $! > "$PID_FILE"; wait"#;
    let _agent = server.agent(&["--timeout", "1"], &variable, script);
    let task = submit(&server, &["--input", "x", "--wait"]).expect(1).json();
    assert_eq!(task["result"]["error_code"], "TIMEOUT");
    until("the group ends", || (!is_running(pid_in(&file))).then_some(()));
}

#[test]
fn the_task_s_own_time_counts_as_well() {
    let server = Server::start(&[], &[]);
    let mut agent = server.agent(&[], &[], "sleep 600");
    let task = submit(&server, &["--input", "x", "--timeout", "1", "--wait"]).expect(1).json();
    assert_eq!(task["result"]["error_code"], "TIMEOUT");
    // In order, so that the command and its directory are gone.
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_command_that_tells_its_progress_outlives_the_limit_on_inactivity() {
    let dir = tempfile::tempdir().unwrap();
    let server = server_with_short_leases(dir.path());
    let go_on = dir.path().join("go-on");
    let variable = [("GO_ON", go_on.to_str().expect("UTF-8"))];
    // Until it is told to end, it says the same again and again.
    let script =
        r#"while [ ! -e "$GO_ON" ]; do echo "40% reading" >> "$EAP_PROGRESS_FILE"; sleep 0.2; done; echo done"#;
    let mut agent = server.agent(&[], &variable, script);
    let started = std::time::Instant::now();
    let task = submit(&server, &["--input", "x", "--inactivity", "1"]).expect(0).json();
    let id = task["task_id"].as_str().expect("an id");
    let get = || run(&mut server.eap(&["task", "get", id, "--json"])).json();
    let expected = serde_json::json!({"progress": 0.4, "message": "reading"});
    until("its progress is shown", || (get()["progress"] == expected).then_some(()));
    until("several limits have passed", || (started.elapsed() > Duration::from_secs(4)).then_some(()));
    std::fs::write(&go_on, "").unwrap();
    let done = run(&mut server.eap(&["task", "get", id, "--wait", "--json"])).expect(0).json();
    assert_eq!((&done["attempt"], &done["result"]["output_data"]["output"]), (&1.into(), &"done\n".into()));
    assert_eq!(done["result"]["artifacts"], serde_json::json!([]), "what it said is no artifact: {done}");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn more_than_a_result_can_carry_is_said_so() {
    let server = Server::start(&[], &[]);
    let mut agent = server.agent(&[], &[], "exec yes");
    let result = |task: &Value| task["result"]["error_code"].clone();
    assert_eq!(result(&submit(&server, &["--input", "x", "--wait"]).expect(1).json()), "RESOURCE_EXHAUSTED");
    assert_eq!(agent.stop(), 0);
    let many = r#"for n in $(seq 101); do : > "$EAP_ARTIFACTS_DIR/$n"; done"#;
    let _agent = server.agent(&[], &[], many);
    assert_eq!(result(&submit(&server, &["--input", "x", "--wait"]).expect(1).json()), "RESOURCE_EXHAUSTED");
}

#[test]
fn a_stopping_agent_hands_back_what_it_cannot_finish_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&[], &[]);
    let file = dir.path().join("pid");
    let variable = [("PID_FILE", file.to_str().expect("UTF-8"))];
    let mut agent = server.agent(&["--drain-grace", "0"], &variable, r#"sleep 600 & echo $! > "$PID_FILE"; wait"#);
    let task = submit(&server, &["--input", "x"]).expect(0).json();
    let grandchild = pid_in(&file);
    assert_eq!(agent.stop(), 0);
    until("the group ends", || (!is_running(grandchild)).then_some(()));
    let id = task["task_id"].as_str().expect("an id");
    let task = run(&mut server.eap(&["task", "get", id, "--json"])).expect(0).json();
    assert_eq!(task["status"], "queued");
}

#[test]
fn a_terminal_that_closes_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&[], &[]);
    let file = dir.path().join("pid");
    let variable = [("PID_FILE", file.to_str().expect("UTF-8"))];
    let script = r#"echo "$EAP_ARTIFACTS_DIR" > "$PID_FILE.dir"; sleep 600 & echo $! > "$PID_FILE"; wait"#;
    let mut agent = server.agent(&["--drain-grace", "0"], &variable, script);
    submit(&server, &["--input", "x"]).expect(0);
    let grandchild = pid_in(&file);
    // As a shell and the system do, one after the other.
    agent.signal(Signal::SIGHUP);
    agent.signal(Signal::SIGHUP);
    assert_eq!(agent.code(), 0, "{}", agent.log());
    assert!(!is_running(grandchild));
    let artifacts = std::fs::read_to_string(dir.path().join("pid.dir")).unwrap();
    assert!(!Path::new(artifacts.trim()).exists(), "{artifacts} is left");
}

#[test]
fn a_second_signal_ends_agent_and_command_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&[], &[]);
    let file = dir.path().join("pid");
    let variable = [("PID_FILE", file.to_str().expect("UTF-8"))];
    let script =
        r#"trap '' TERM; echo "$EAP_ARTIFACTS_DIR" > "$PID_FILE.dir"; sleep 600 & echo $! > "$PID_FILE"; wait; wait"#;
    let mut agent = server.agent(&["--drain-grace", "600"], &variable, script);
    submit(&server, &["--input", "x"]).expect(0);
    let grandchild = pid_in(&file);
    agent.signal(Signal::SIGTERM);
    until("the agent drains", || agent.log().contains("the agent stops").then_some(()));
    assert_eq!(agent.stop(), 128 + 15);
    until("the group ends", || (!is_running(grandchild)).then_some(()));
    let artifacts = std::fs::read_to_string(dir.path().join("pid.dir")).unwrap();
    assert!(!Path::new(artifacts.trim()).exists(), "{artifacts} is left");
}

#[test]
fn a_command_that_is_not_there_is_said_at_the_start() {
    let mut command = eap(&["agent", "run", "--name", "AGENT-X-01", "--capability", "work", "--", "no-such-command-x"]);
    let ended = run(&mut command).expect(2);
    assert!(ended.stderr.contains("`no-such-command-x` is not found"), "{ended:?}");
    run(&mut eap(&["agent", "run", "--name", "AGENT-X-01", "--capability", "work"])).expect(2);
    run(&mut eap(&["agent", "run", "--name", "x", "--capability", "work", "--", "sh"])).expect(2);
    let long = ["agent", "run", "--name", "AGENT-X-01", "--capability", "work", "--timeout", "604801", "--", "sh"];
    assert!(run(&mut eap(&long)).expect(2).stderr.contains("604800"));
}

#[test]
fn the_wrong_registration_secret_is_refused() {
    let server = Server::start(&[], &[("EAP_REGISTRATION_SECRET", "the-registration-secret-here")]);
    let arguments = ["agent", "run", "--name", "AGENT-X-01", "--capability", "work", "--", "cat"];
    for secret in ["", "another-registration-secret"] {
        let ended = run(server.eap(&arguments).env("EAP_REGISTRATION_SECRET", secret)).expect(3);
        let last = ended.stderr.lines().last().expect("a line");
        assert!(last.contains("set EAP_REGISTRATION_SECRET"), "{ended:?}");
    }
}

#[test]
fn a_wrong_address_is_told_at_once() {
    let arguments = ["agent", "run", "--name", "AGENT-X-01", "--capability", "work", "--url"];
    let server = Server::start(&[], &[]);
    let elsewhere = format!("{}/elsewhere", server.url);
    let ended = run(eap(&arguments).args([&elsewhere, "--", "cat"])).expect(3);
    assert!(ended.stderr.contains("NOT_FOUND") && ended.stderr.contains("check --url or EAP_URL"), "{ended:?}");

    // Held on one address of the loopback, so that nobody comes to listen on the other.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://127.0.0.2:{}", held.local_addr().unwrap().port());
    let mut agent = Running::start(eap(&arguments).args([&nobody, "--", "cat"]));
    let told = agent.line(&format!("eap: cannot reach {nobody}: "));
    assert!(told.contains("--url or EAP_URL; the agent goes on trying"), "{told}");
    // The first line of all: the agent's own warnings may follow at any moment.
    let first = format!("eap: cannot reach {nobody}: {told}");
    assert_eq!(agent.log().lines().next(), Some(first.as_str()), "{}", agent.log());
    assert_eq!(agent.stop(), 0);
}

#[test]
fn an_agent_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("eap.db").display());
    let mut server = Server::start(&["--database", &database], &[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let _agent = server.agent(&[], &[], "cat");
    submit(&server, &["--input", "x", "--wait"]).expect(0);
    server.process.kill_9();
    let server = Server::start(&["--database", &database, "--listen", &address], &[]);
    let started = std::time::Instant::now();
    submit(&server, &["--input", "x", "--wait=20"]).expect(0);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_command_hears_of_the_trace_its_task_is_part_of() {
    let server = Server::start(&[], &[]);
    let mut agent = server.agent(&[], &[], r#"printf '%s' "${TRACEPARENT-none}""#);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (arguments, told) in
        [(vec!["--traceparent", trace], trace), (vec!["--traceparent", "no trace"], "none"), (vec![], "none")]
    {
        let task = submit(&server, &[&["--input", "x", "--wait"], &arguments[..]].concat()).expect(0).json();
        assert_eq!(task["result"]["output_data"]["output"], told);
    }
    assert_eq!(agent.stop(), 0);
}

/// The answer to a call for the server's metrics.
fn metrics(url: &str) -> String {
    use std::io::{Read as _, Write as _};
    let host = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).expect("the server listens");
    let call = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(call.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer is text");
    answer
}

#[test]
fn a_command_behind_a_websocket_does_its_tasks() {
    let server = Server::start(&[], &[]);
    let mut agent = server.agent(&["--transport", "websocket"], &[], "wc -w");
    let task = submit(&server, &["--input", "four words are here", "--wait"]).expect(0).json();
    assert_eq!(task["result"]["output_data"]["output"].as_str().map(str::trim), Some("4"));
    let metrics = metrics(&server.url);
    assert!(metrics.contains("\neap_websockets_open 1\n"), "{metrics}");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_command_that_is_pushed_to_does_its_tasks() {
    let server = Server::start(&[], &[]);
    let mut agent = server.agent(&["--transport", "push", "--listen", "127.0.0.1:0"], &[], "wc -w");
    let task = submit(&server, &["--input", "four words are here", "--wait"]).expect(0).json();
    assert_eq!(task["result"]["output_data"]["output"].as_str().map(str::trim), Some("4"));
    let id = task["agent_id"].as_str().expect("an id");
    let view = run(&mut server.eap(&["agent", "get", id, "--json"])).expect(0).json();
    assert_eq!(view["push"], serde_json::json!({}), "it is pushed to");
    assert!(view["endpoint_url"].as_str().expect("it serves").starts_with("http://127.0.0.1:"));
    assert_eq!(agent.stop(), 0);

    let without_listen =
        ["agent", "run", "--name", "AGENT-X", "--capability", "x", "--transport", "push", "--", "true"];
    let refused = run(&mut server.eap(&without_listen)).expect(2);
    assert!(refused.stderr.contains("--listen"), "{}", refused.stderr);
}

#[test]
fn a_place_to_listen_is_for_pushed_tasks_and_has_an_address() {
    let run_with = |arguments: &[&str]| {
        let agent = ["agent", "run", "--name", "AGENT-X", "--capability", "x"];
        run(&mut eap(&[&agent[..], arguments, &["--", "true"]].concat())).expect(2).stderr
    };
    for transport in ["pull", "websocket"] {
        let told = run_with(&["--listen", "127.0.0.1:0", "--transport", transport]);
        assert!(told.contains("add --transport push"), "{told}");
    }
    let told = run_with(&["--transport", "push", "--listen", "8181"]);
    assert!(told.contains("127.0.0.1:8181"), "{told}");
}
