//! Submitting and following tasks: exit codes, JSON, and what is said on the way.

use nix::sys::signal::Signal;

use crate::support::{Running, Server, eap, run, run_with_input};

#[test]
fn every_listing_has_a_form_for_people_and_one_for_programs() {
    let server = Server::start(&[], &[]);
    let list = |arguments: &[&str]| run(&mut server.eap(arguments)).expect(0);
    assert_eq!(list(&["task", "list"]).stdout, "no tasks\n");
    assert_eq!(list(&["agent", "list"]).stdout, "no agents\n");
    let submit = ["task", "submit", "--type", "work", "--label", "region=eu", "--priority", "0", "--input", "a"];
    let submitted = list(&[&submit[..], &["--json"]].concat()).json();
    assert_eq!((&submitted["status"], &submitted["priority"]), (&"queued".into(), &0.into()));
    assert_eq!(submitted["routing"]["labels"]["region"], "eu");
    let id = submitted["task_id"].as_str().expect("an id");
    let other = list(&["task", "submit", "--capability", "other", "--input", "b"]).stdout;
    assert_eq!(other.lines().count(), 1);

    let table = list(&["task", "list"]).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.starts_with("ID ") && table.contains(id) && table.contains(other.trim()), "{table}");
    let ids = |arguments: &[&str]| {
        let page = list(&[&["task", "list", "--json"], arguments].concat()).json();
        page["tasks"].as_array().expect("tasks").len()
    };
    assert_eq!([ids(&[]), ids(&["--all"]), ids(&["--type", "work"]), ids(&["--status", "dead"])], [2, 2, 1, 0]);
    let first = list(&["task", "list", "--json", "--limit", "1"]).json();
    let cursor = first["next_cursor"].as_str().expect("there is more");
    assert_eq!(ids(&["--limit", "1", "--cursor", cursor]), 1);

    let history = list(&["task", "history", id, "--json"]).json();
    assert_eq!(history["events"][0]["kind"], "task.submitted");
    assert!(list(&["task", "history", id]).stdout.contains("task.submitted"));
    assert_eq!(list(&["agent", "list", "--json"]).json()["agents"], serde_json::json!([]));
}

#[test]
fn a_cancelled_task_is_over_and_not_done() {
    let server = Server::start(&[], &[]);
    let id = run(&mut server.eap(&["task", "submit", "--type", "work", "--input", "x"])).expect(0).stdout;
    let id = id.trim();
    run(&mut server.eap(&["task", "get", id])).expect(0);
    run(&mut server.eap(&["task", "get", id, "--wait=0"])).expect(5);
    run(&mut server.eap(&["task", "cancel", id, "--reason", "no longer needed"])).expect(0);
    run(&mut server.eap(&["task", "cancel", id])).expect(0);
    let seen = run(&mut server.eap(&["task", "get", id, "--wait"])).expect(1);
    assert!(seen.stdout.contains("no longer needed"), "{seen:?}");
}

#[test]
fn the_end_of_a_wait_has_a_code_of_its_own() {
    let server = Server::start(&[], &[]);
    let submit = ["task", "submit", "--type", "work", "--input", "x", "--wait=1", "--json"];
    let ended = run(&mut server.eap(&submit)).expect(5);
    assert_eq!(ended.json()["no_capable_agent"], true);
    assert!(ended.stderr.contains("--wait` goes on"), "{ended:?}");
    let told: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(told[0], format!("eap: submitted {}", ended.json()["task_id"].as_str().expect("an id")));
    assert!(told[1].contains("no agent that takes work can do this task yet"), "{ended:?}");
    assert_eq!(told.len(), 3, "{ended:?}");
}

#[test]
fn a_wait_that_is_broken_off_says_how_to_go_on() {
    let server = Server::start(&[], &[]);
    let submit = ["task", "submit", "--type", "work", "--input", "x", "--wait"];
    let mut waiting = Running::start(&mut server.eap(&submit));
    let id = waiting.line("eap: submitted ");
    // Told from within the wait, where signals are heeded.
    waiting.line("eap: no agent that takes work");
    waiting.signal(Signal::SIGINT);
    waiting.line(&format!("eap: the wait is over and the task is not; `eap task get {id} --wait` goes on"));
    assert_eq!(waiting.code(), 5);
}

#[test]
fn input_that_cannot_travel_is_told_why() {
    let submit = |arguments: &[&str], input: &str| {
        run_with_input(&mut eap(&[&["task", "submit", "--type", "work"], arguments].concat()), input).expect(2).stderr
    };
    let told = submit(&["--json-input", "--input", "{\"a\": }"], "");
    assert!(told.contains("--json-input") && told.contains("line 1 column 7"), "{told}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("picture");
    std::fs::write(&file, [0x89, 0xff, 0x00]).unwrap();
    let told = submit(&["--input-file", file.to_str().expect("UTF-8")], "");
    assert!(told.contains("text only"), "{told}");
}

#[test]
fn the_same_key_is_the_same_task() {
    let server = Server::start(&[], &[]);
    let submit = |input: &str| {
        run(&mut server.eap(&["task", "submit", "--type", "work", "--idempotency-key", "k-1", "--input", input]))
    };
    let first = submit("x").expect(0).stdout;
    assert_eq!(submit("x").expect(0).stdout, first);
    let other = submit("y").expect(3);
    assert!(other.stderr.contains("IDEMPOTENCY_CONFLICT"), "{other:?}");
    let without = ["task", "submit", "--type", "work", "--input", "x"];
    assert_ne!(run(&mut server.eap(&without)).expect(0).stdout, run(&mut server.eap(&without)).expect(0).stdout);
}

#[test]
fn input_comes_from_the_command_line_a_file_or_standard_input() {
    let server = Server::start(&[], &[]);
    let _agent = server.agent(&[], &[], "cat");
    let output = |arguments: &[&str], stdin: &str| {
        let submit = ["task", "submit", "--capability", "work", "--wait", "--json"];
        let ended = run_with_input(&mut server.eap(&[&submit[..], arguments].concat()), stdin).expect(0);
        ended.json()["result"]["output_data"]["output"].as_str().expect("text").to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input.txt");
    std::fs::write(&file, "from a file\n").unwrap();
    assert_eq!(output(&["--input", "-as it is-"], ""), "-as it is-");
    assert_eq!(output(&["--input-file", file.to_str().expect("UTF-8")], ""), "from a file\n");
    assert_eq!(output(&["--input-file", "-"], "naïve\n"), "naïve\n");
    assert_eq!(output(&["--input", "{ \"a\": [1, \"b c\"] }", "--json-input"], ""), r#"{"a":[1,"b c"]}"#);
    assert_eq!(output(&["--input", "{ \"a\": 1 }"], ""), "{ \"a\": 1 }");
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let submit = |arguments: &[&str]| run(&mut eap(&[&["task", "submit"], arguments].concat())).expect(2);
    submit(&["--input", "x"]);
    submit(&["--type", "work"]);
    submit(&["--type", "work", "--input", "x", "--input-file", "y"]);
    submit(&["--type", "No Such Type", "--input", "x"]);
    submit(&["--type", "work", "--input", "x", "--priority", "5"]);
    submit(&["--type", "work", "--input", "x", "--label", "region"]);
    submit(&["--type", "work", "--input", "x", "--context", "[]"]);
    submit(&["--type", "work", "--input", "{", "--json-input"]);
    submit(&["--type", "work", "--input-file", "/nowhere/file"]);
    submit(&["--type", "work", "--input", "x", "--wait", "soon"]);
    run(&mut eap(&["task", "get", "not-an-id"])).expect(2);
    run(&mut eap(&["task", "list", "--url", "not a url"])).expect(2);
    submit(&["--type", "work", "--input", "x", "--wait=99999999999999999"]);
    run(&mut eap(&["no-such-command"])).expect(2);
    run(&mut eap(&["--help"])).expect(0);
    let version = run(&mut eap(&["--version"])).expect(0);
    assert_eq!(version.stdout, format!("eap {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_refusal_says_what_to_do_next() {
    let server = Server::start(&[], &[("EAP_OPERATOR_KEY", "the-operator-key-of-this-test")]);
    for key in ["", "another-operator-key-00000000"] {
        let ended = run(server.eap(&["task", "list"]).env("EAP_OPERATOR_KEY", key)).expect(3);
        assert!(ended.stderr.contains("set EAP_OPERATOR_KEY"), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "the-operator-key-of-this-test\n").unwrap();
    run(server.eap(&["task", "list", "--operator-key-file"]).arg(&file)).expect(0);
    let unknown = "01956e3c-7f60-7000-8000-000000000001";
    let mut get = server.eap(&["task", "get", unknown]);
    let ended = run(get.env("EAP_OPERATOR_KEY", "the-operator-key-of-this-test")).expect(3);
    assert!(ended.stderr.contains("TASK_NOT_FOUND"), "{ended:?}");
}

#[test]
fn nobody_there_is_told_apart_from_a_refusal() {
    // Held on one address of the loopback, so that nobody comes to listen on the other.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.2:{}", held.local_addr().unwrap().port());
    for arguments in [&["task", "list"][..], &["task", "submit", "--type", "work", "--input", "x"]] {
        let ended = run(&mut eap(&[arguments, &["--url", &url]].concat())).expect(4);
        assert!(ended.stderr.contains("eap serve") && ended.stderr.contains(&url), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn a_password_in_an_address_is_never_printed() {
    let address = "http://user:hunter2@127.0.0.1:9";
    let agent = ["agent", "run", "--name", "AGENT-X-01", "--capability", "work", "--", "cat"];
    for arguments in [&["task", "list"][..], &agent] {
        let ended = run(eap(arguments).env("EAP_URL", address)).expect(2);
        assert!(ended.stderr.contains("password") && !ended.stderr.contains("hunter2"), "{ended:?}");
    }
    for (database, word) in [
        ("mysql://user:hunter2@db/eap", "sqlite:FILE"),
        ("postgres://user:hunter2@db/eap?colour=blue", "colour"),
        ("postgres://user:1/hunter2@db/eap", "%2F"),
    ] {
        let serve = run(eap(&["serve"]).env("EAP_DATABASE_URL", database)).expect(2);
        assert!(serve.stderr.contains(word) && !serve.stderr.contains("hunter2"), "{serve:?}");
    }
    for command in [&["task", "list", "--help"][..], &["agent", "run", "--help"], &["serve", "--help"]] {
        let variables = [("EAP_URL", address), ("EAP_LISTEN", "hunter2"), ("EAP_DATABASE_URL", "hunter2")];
        let help = run(eap(command).envs(variables)).expect(0);
        assert!(!help.stdout.contains("hunter2"), "{help:?}");
    }
}

#[test]
fn a_task_that_waits_is_explained() {
    let server = Server::start(&[], &[]);
    let submit = ["task", "submit", "--type", "work", "--prefer", "agent-1", "--input", "x", "--json"];
    let submitted = run(&mut server.eap(&submit)).expect(0).json();
    assert_eq!(submitted["routing"]["preferred_agents"], serde_json::json!(["agent-1"]));
    let id = submitted["task_id"].as_str().expect("an id");
    let told = run(&mut server.eap(&["explain", id])).expect(0).stdout;
    assert!(told.contains("queued, ready") && told.contains("no agent that takes work can do it"), "{told}");
    let told = run(&mut server.eap(&["explain", id, "--json"])).expect(0).json();
    assert_eq!((&told["whereabouts"], &told["no_capable_agent"]), (&"ready".into(), &true.into()));
    run(&mut server.eap(&["explain", "01890a5d-ac96-774b-bcce-b302099a8057"])).expect(3);
}

#[test]
fn what_agents_take_is_shown_instead_of_submitting() {
    let server = Server::start(&[], &[]);
    let shown =
        |arguments: &[&str]| run(&mut server.eap(&[&["task", "submit", "--schema", "work"], arguments].concat()));
    let nobody = shown(&[]).expect(0);
    assert_eq!(
        (nobody.stdout.as_str(), nobody.stderr.as_str()),
        ("", "eap: work: 0 agents, no schema: any input is taken\n")
    );
    let view = shown(&["--json"]).expect(0).json();
    assert_eq!((&view["agents"], &view["schemas"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(run(&mut server.eap(&["task", "list"])).expect(0).stdout, "no tasks\n");
    shown(&["--input", "a"]).expect(2);
}

#[test]
fn artifacts_become_files_in_a_folder_and_nowhere_else() {
    let server = Server::start(&[], &[]);
    let script = r#"cd "$EAP_ARTIFACTS_DIR"; mkdir deep; printf text > deep/a.md; printf '\377\000' > b; head -c 9000000 /dev/zero > z; [ "$(cat)" = bad ] && : > nul"#;
    let _agent = server.agent(&[], &[], &format!("{script}; true"));
    let submit = |input: &str| {
        let submit = ["task", "submit", "--capability", "work", "--wait", "--json", "--input", input];
        run(&mut server.eap(&submit)).expect(0).json()["task_id"].as_str().expect("an id").to_owned()
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("new/dir");
    let fetch =
        |id: &str, more: &[&str]| run(server.eap(&[&["task", "fetch", id], more].concat()).arg("--into").arg(&dir));
    let id = submit("good");
    let fetched = fetch(&id, &["--json"]).expect(0).json();
    assert_eq!(std::fs::read(dir.join("deep/a.md")).unwrap(), b"text");
    assert_eq!(std::fs::read(dir.join("b")).unwrap(), [0xff, 0x00]);
    assert_eq!((&fetched[0]["path"], &fetched[0]["bytes"]), (&"b".into(), &2.into()));
    assert_eq!(fetched[1]["mime_type"], "text/markdown");
    // More than a result may have: it was uploaded.
    assert_eq!(std::fs::read(dir.join("z")).unwrap(), vec![0; 9_000_000]);
    let again = fetch(&id, &[]).expect(1);
    assert!(again.stderr.contains("already"), "{again:?}");
    std::fs::remove_dir_all(&dir).unwrap();
    let shown = fetch(&id, &[]).expect(0).stdout;
    assert_eq!(shown.lines().count(), 4, "{shown}");
    let dangerous = fetch(&submit("bad"), &[]).expect(1);
    assert!(dangerous.stderr.contains("`nul`"), "{dangerous:?}");

    let _empty = server.agent(&["--capability", "empty", "--instance-id", "empty"], &[], r#"[ "$(cat)" = completes ]"#);
    let nothing_of = |input: &str| {
        let submit =
            ["task", "submit", "--capability", "empty", "--max-attempts", "1", "--wait", "--json", "--input", input];
        run(&mut server.eap(&submit)).json()["task_id"].as_str().expect("an id").to_owned()
    };
    let waits = run(&mut server.eap(&["task", "submit", "--type", "other", "--input", "x"])).expect(0).stdout;
    fetch(waits.trim(), &[]).expect(5);
    fetch(waits.trim(), &["--wait=0"]).expect(5);
    run(&mut server.eap(&["task", "cancel", waits.trim()])).expect(0);
    let cancelled = fetch(waits.trim(), &[]).expect(1);
    assert!(cancelled.stderr.contains("no result"), "{cancelled:?}");
    assert_eq!(fetch(&nothing_of("completes"), &[]).expect(0).stdout, "no artifacts\n");
    let failed = fetch(&nothing_of("fails"), &[]).expect(1);
    assert!(failed.stderr.contains("the task is failed and left no artifacts"), "{failed:?}");
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(server.eap(&["task", "fetch", &id, "--into"]).arg(&file)).expect(2);
}
