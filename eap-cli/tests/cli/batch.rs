//! Many tasks from one file: what is wrong in it is told before anything is sent, what is refused is told one by one.

use std::fs;

use crate::support::{Ended, Server, eap, run, run_with_input};

const SUBMIT: [&str; 4] = ["task", "submit", "--batch", "-"];

fn count(server: &Server) -> usize {
    let page = run(&mut server.eap(&["task", "list", "--all", "--json"])).expect(0).json();
    page["tasks"].as_array().expect("tasks").len()
}

fn submit(server: &Server, options: &[&str], input: &str) -> Ended {
    run_with_input(&mut server.eap(&[&SUBMIT[..], options].concat()), input)
}

#[test]
fn every_line_becomes_a_task_and_its_id_a_line() {
    let server = Server::start(&[], &[]);
    let lines = "{\"task_type\": \"first\", \"input_data\": \"a\"}\n\n\
                 {\"task_type\": \"second\", \"input_data\": {\"b\": 1}, \"priority\": 0}";
    let ended = submit(&server, &["--idempotency-key", "nightly"], lines).expect(0);
    let ids: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!((ids.len(), ended.stderr.as_str()), (2, ""), "{ended:?}");
    let second = run(&mut server.eap(&["task", "get", ids[1], "--json"])).expect(0).json();
    assert_eq!((&second["task_type"], &second["priority"]), (&"second".into(), &0.into()));

    // The same again changes nothing, and gives the same ids in the other form.
    let again = submit(&server, &["--idempotency-key", "nightly", "--json"], lines).expect(0).json();
    assert_eq!(again, serde_json::json!({"tasks": [{"task_id": ids[0]}, {"task_id": ids[1]}]}));
    assert_eq!(count(&server), 2);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tasks.json");
    fs::write(&file, "[\n {\"task_type\": \"third\", \"input_data\": \"c\"}\n]").unwrap();
    let file = file.to_str().expect("UTF-8");
    assert_eq!(run(&mut server.eap(&["task", "submit", "--batch", file])).expect(0).stdout.lines().count(), 1);
    assert_eq!(count(&server), 3);
}

#[test]
fn more_than_one_call_takes_are_submitted_by_several_and_still_once() {
    let server = Server::start(&[], &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tasks");
    fs::write(&file, "{\"task_type\": \"work\", \"input_data\": \"x\"}\n".repeat(1_001)).unwrap();
    let file = file.to_str().expect("UTF-8");
    let submit = ["task", "submit", "--idempotency-key", "nightly", "--batch", file];
    let first = run(&mut server.eap(&submit)).expect(0).stdout;
    let mut ids: Vec<&str> = first.lines().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_001);
    assert_eq!(run(&mut server.eap(&submit)).expect(0).stdout, first);
    assert_eq!(count(&server), 1_001);
}

#[test]
fn what_the_server_refuses_is_named_and_the_others_are_kept() {
    let server = Server::start(&[], &[]);
    let good = "{\"task_type\": \"work\", \"input_data\": \"x\"}";
    // The server has no secret to sign callbacks with.
    let refused = "{\"task_type\": \"work\", \"input_data\": \"x\", \"callback_url\": \"https://example.com/\"}";
    let input = format!("{good}\n\n{refused}\n{good}\n");
    let ended = submit(&server, &[], &input).expect(3);
    assert_eq!(ended.stdout.lines().count(), 2, "{ended:?}");
    let told: Vec<&str> = ended.stderr.lines().collect();
    assert!(told[0].starts_with("eap: line 3 is refused: ") && told[0].contains("callback_url"), "{ended:?}");
    assert_eq!(told[1..], ["eap: 2 of 3 tasks submitted, 1 refused"]);
    let ended = submit(&server, &["--json"], &format!("[{good}, {refused}]")).expect(3);
    assert!(ended.stderr.starts_with("eap: task 2 is refused: "), "{ended:?}");
    let outcomes = &ended.json()["tasks"];
    assert!(outcomes[0]["task_id"].is_string() && outcomes[1]["code"] == "VALIDATION_ERROR", "{outcomes}");
    assert_eq!(count(&server), 3);
}

#[test]
fn a_file_with_anything_wrong_in_it_is_not_submitted_at_all() {
    let server = Server::start(&[], &[]);
    let good = "{\"task_type\": \"work\", \"input_data\": \"x\"}";
    let wrong = "{\"task_type\": \"work\", \"input_data\": \"x\", \"priority\": 9, \"max_attempts\": 0}";
    let ended = submit(&server, &[], &format!("{good}\n{{\"task_type\": \n{wrong}\n{good}\n")).expect(2);
    let told: Vec<&str> = ended.stderr.lines().collect();
    assert!(told[0].starts_with("eap: line 2: not a JSON object: "), "{ended:?}");
    assert!(told[1].starts_with("eap: line 3: ") && told[1].contains("priority"), "{ended:?}");
    assert!(told[1].contains("max_attempts") && !told[1].contains("body."), "{ended:?}");
    assert_eq!(
        told[2..],
        [
            "eap: 2 of 4 tasks in standard input cannot be read; nothing was submitted; it must hold one JSON object a line, or one JSON array of objects"
        ]
    );
    for none in ["", "[]", "[{", "garbage", "{\"tasks\": []}", "7"] {
        assert!(submit(&server, &[], none).expect(2).stdout.is_empty(), "{none}");
    }
    let list = submit(&server, &[], "[1]").expect(2);
    assert!(list.stderr.starts_with("eap: task 1: expected an object"), "{list:?}");
    // Not all of a long list of problems is told.
    let many = submit(&server, &[], &"garbage\n".repeat(500)).expect(2);
    assert!(many.stderr.lines().count() < 30 && many.stderr.contains("500 of 500"), "{many:?}");
    assert_eq!(count(&server), 0);
}

#[test]
fn a_batch_is_no_single_task() {
    for options in [&["--type", "work"][..], &["--input", "x"], &["--priority", "0"], &["--wait"], &["--json-input"]] {
        run(&mut eap(&[&SUBMIT[..], options].concat())).expect(2);
    }
    let ended = run(&mut eap(&["task", "submit", "--batch", "/nowhere/tasks"])).expect(2);
    assert!(ended.stderr.contains("/nowhere/tasks"), "{ended:?}");
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.2:{}", held.local_addr().unwrap().port());
    let ended = run_with_input(
        &mut eap(&[&SUBMIT[..], &["--url", &url, "--json"]].concat()),
        "{\"task_type\": \"work\", \"input_data\": \"x\"}",
    )
    .expect(4);
    assert!(ended.stderr.contains("0 of 1 tasks") && ended.stderr.contains("--idempotency-key"), "{ended:?}");
    assert!(ended.stdout.is_empty(), "{ended:?}");
    // A refusal of everything needs no advice on what was left out.
    let server = Server::start(&[], &[("EAP_OPERATOR_KEY", "the-operator-key-of-this-test")]);
    let ended = submit(&server, &[], "{\"task_type\": \"work\", \"input_data\": \"x\"}").expect(3);
    assert!(!ended.stderr.contains("--idempotency-key") && ended.stderr.lines().count() == 1, "{ended:?}");
}
