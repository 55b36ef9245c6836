//! What happens, as lines: all of it, once each, through the death of the server.

use std::process::Stdio;

use eap_tests::ports::free_address;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Running, Server, eap, run};

fn submit(server: &Server, task_type: &str) -> String {
    let submit = ["task", "submit", "--type", task_type, "--input", "x"];
    run(&mut server.eap(&submit)).expect(0).stdout.trim().to_owned()
}

fn printed_json(watcher: &mut Running) -> Value {
    serde_json::from_str(&watcher.printed()).expect("each line is a JSON document")
}

/// A server on a file, at an address that a second one can have after it.
fn serve_at(url: Option<&str>, database: &str) -> Server {
    let listen = url.map_or_else(|| free_address().to_string(), |url| url.trim_start_matches("http://").to_owned());
    Server::start(&["--database", database, "--listen", &listen], &[])
}

#[test]
fn what_is_kept_is_shown_and_that_is_the_end() {
    let server = Server::start(&[], &[]);
    let events = |arguments: &[&str]| run(&mut server.eap(&[&["events"], arguments].concat())).expect(0);
    assert_eq!(events(&[]).stdout, "");
    let (first, second) = (submit(&server, "first"), submit(&server, "second"));
    run(&mut server.eap(&["task", "cancel", &first])).expect(0);
    let lines = events(&[]).stdout;
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.starts_with("1 ") && lines.contains("task.cancelled") && lines.contains(&second), "{lines}");
    let json = |arguments: &[&str]| {
        let lines = events(&[&["--json"], arguments].concat()).stdout;
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("each line is a JSON document");
        lines.lines().map(|line| read(line)["seq"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!([json(&[]), json(&["--after", "1"]), json(&["--after", "3"])], [vec![1, 2, 3], vec![2, 3], vec![]]);
    // What is for others at the end does not hold up the end.
    assert_eq!([json(&["--task", &second]), json(&["--kind", "task.submitted"])], [vec![2], vec![1, 2]]);
    assert_eq!(json(&["--kind", "task.cancelled,task.leased", "--kind", "task.dead"]), [3]);
    assert_eq!(json(&["--agent", "nobody"]), Vec::<u64>::new());
    let beyond = run(&mut server.eap(&["events", "--after", "4"])).expect(2);
    assert!(beyond.stderr.contains("the newest event, which is 3"), "{beyond:?}");
    run(&mut server.eap(&["events", "--after", "x"])).expect(2);
    for follow in [&[][..], &["--follow"]] {
        let unknown = run(&mut server.eap(&[&["events", "--kind", "task.failled"], follow].concat())).expect(3);
        assert!(unknown.stderr.contains("query.kind") && unknown.stderr.contains("task.failed,"), "{unknown:?}");
    }
    run(&mut server.eap(&["events", "--task", "x"])).expect(2);
}

#[test]
fn whoever_follows_misses_nothing_when_the_server_is_killed_and_sees_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("eap.db").display());
    let mut server = serve_at(None, &database);
    submit(&server, "before");
    let mut watcher = Running::start_to_read(&mut server.eap(&["events", "--follow", "--json", "--after", "0"]));
    assert_eq!(printed_json(&mut watcher)["seq"], 1);
    submit(&server, "seen");
    assert_eq!(printed_json(&mut watcher)["seq"], 2);
    server.process.kill_9();
    watcher.line("eap: the connection is lost (");
    let server = serve_at(Some(&server.url), &database);
    submit(&server, "after");
    watcher.line("eap: connected again");
    assert_eq!(printed_json(&mut watcher)["seq"], 3);
    watcher.signal(Signal::SIGINT);
    assert_eq!(watcher.code(), 0);
    watcher.line("eap: `eap events --follow --after 3` goes on");
}

#[test]
fn another_store_at_the_same_address_is_told_of_by_a_reset() {
    let mut server = serve_at(None, "memory:");
    submit(&server, "one");
    submit(&server, "two");
    let follow = ["events", "--follow", "--after", "0"];
    let mut people = Running::start_to_read(&mut server.eap(&follow));
    let mut program = Running::start_to_read(&mut server.eap(&[&follow[..], &["--json"]].concat()));
    for _ in 0..2 {
        people.printed();
        program.printed();
    }
    server.process.kill_9();
    let server = serve_at(Some(&server.url), "memory:");
    submit(&server, "new");
    assert_eq!(people.printed(), "reset  events before 1 are not kept any more");
    assert_eq!(printed_json(&mut program)["kind"], "reset");
    assert!(people.printed().starts_with("1 "));
    assert_eq!(printed_json(&mut program)["seq"], 1);
}

#[test]
fn only_what_happens_from_now_on_is_followed_unless_a_number_is_given() {
    let server = Server::start(&[], &[("EAP_OPERATOR_KEY", "the-operator-key-of-this-test")]);
    let mut submit = server.eap(&["task", "submit", "--type", "work", "--input", "x"]);
    let submit = submit.env("EAP_OPERATOR_KEY", "the-operator-key-of-this-test");
    run(submit).expect(0);
    let follow = ["events", "-f", "--json"];
    let wrong = run(server.eap(&follow).env("EAP_OPERATOR_KEY", "another-operator-key-00000000")).expect(3);
    assert!(wrong.stderr.contains("set EAP_OPERATOR_KEY") && wrong.stderr.lines().count() == 1, "{wrong:?}");
    let mut command = server.eap(&follow);
    let mut watcher = Running::start_to_read(command.env("EAP_OPERATOR_KEY", "the-operator-key-of-this-test"));
    // It does not say when it has begun: what comes first is newer than what was there.
    let first = loop {
        run(submit).expect(0);
        if let Some(line) = watcher.try_printed() {
            break serde_json::from_str::<Value>(&line).expect("each line is a JSON document");
        }
    };
    assert!(first["seq"].as_u64() > Some(1), "{first}");
    assert_eq!(first["kind"], json!("task.submitted"));
}

#[test]
fn nobody_there_and_nobody_reading_end_it() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.2:{}", held.local_addr().unwrap().port());
    run(&mut eap(&["events", "--follow", "--url", &url])).expect(4);
    let server = Server::start(&[], &[]);
    for _ in 0..3 {
        submit(&server, "work");
    }
    let mut command = server.eap(&["events", "--follow", "--after", "0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("eap starts");
    drop(child.stdout.take());
    let ended = crate::support::until("it ends", || {
        submit(&server, "work");
        child.try_wait().expect("it is our child")
    });
    assert_eq!(ended.code(), Some(0));
}
