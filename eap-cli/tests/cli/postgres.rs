//! `eap serve` on PostgreSQL: what was acknowledged outlives the server, and no password is ever shown.

use std::sync::atomic::{AtomicU32, Ordering};

use eap_tests::postgres::server;

use crate::support::{Ended, Running, Server, eap, run, until};

const KEY: (&str, &str) = ("EAP_SEALING_KEY", "canary-sealing-key-0000000");

/// A schema that no other test of this process uses, on the server that goes with it; `None` where there is none.
fn database() -> Option<(String, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("eap_cli_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Some((server()?.url().to_owned(), name))
}

/// A URL with a password, which the server may ask for or not.
fn with_password(url: &str) -> String {
    match url.split_once('@') {
        Some((user, host)) if user.matches(':').count() == 1 => format!("{user}:canary-password@{host}"),
        _ => url.to_owned(),
    }
}

fn start(url: &str, schema: &str, options: &[&str]) -> Server {
    let environment = [KEY, ("EAP_DATABASE_URL", url), ("EAP_DATABASE_SCHEMA", schema), ("EAP_LOG", "debug")];
    Server::start_anywhere(options, &environment)
}

fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32) -> Ended {
    let mut command = eap(&["serve", "--listen", "127.0.0.1:0"]);
    let ended = run(command.args(arguments).env("EAP_LOG", "off").envs(environment.iter().copied())).expect(code);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
    ended
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9_and_the_password_nowhere() {
    let Some((url, schema)) = database() else { return };
    let url = with_password(&url);
    let mut first = start(&url, &schema, &[]);
    let mut agent = first.agent(&[], &[], "tr a-z A-Z");
    let submit = ["task", "submit", "--type", "work", "--input", "hello", "--wait", "--json"];
    let done = run(&mut first.eap(&submit)).expect(0).json();
    assert_eq!(done["status"], "completed", "{done}");
    agent.stop();
    let waiting = run(&mut first.eap(&["task", "submit", "--type", "work", "--input", "later"])).expect(0).stdout;
    first.process.kill_9();
    let log = first.process.log();
    assert!(!log.contains("canary"), "{log}");

    let mut next = start(&url, &schema, &["--database-connections", "3", "--database-prepared-statements", "false"]);
    let id = done["task_id"].as_str().expect("an id").to_owned();
    let got = run(&mut next.eap(&["task", "get", &id, "--json"])).expect(0).json();
    assert_eq!(got["status"], "completed", "{got}");
    assert_eq!(got["result"], done["result"]);
    let _agent = next.agent(&[], &[], "tr a-z A-Z");
    until("what waited is done", || {
        let got = run(&mut next.eap(&["task", "get", waiting.trim(), "--json"])).expect(0).json();
        (got["status"] == "completed").then_some(())
    });
    assert_eq!(next.process.stop(), 0);
    let log = next.process.log();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn a_file_of_a_task_is_fetched_from_another_server_on_the_same_schema() {
    let Some((url, schema)) = database() else { return };
    let mut first = start(&url, &schema, &[]);
    // More than fits into a result, and more than one piece.
    let mut agent = first.agent(&[], &[], "head -c 3000000 /dev/zero | tr '\\0' x > \"$EAP_ARTIFACTS_DIR\"/large.txt");
    let submit = ["task", "submit", "--type", "work", "--input", "x", "--wait", "--json"];
    let id = run(&mut first.eap(&submit)).expect(0).json()["task_id"].as_str().expect("an id").to_owned();
    assert_eq!(agent.stop(), 0);
    assert_eq!(first.process.stop(), 0);
    let next = start(&url, &schema, &[]);
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().to_str().expect("UTF-8");
    run(&mut next.eap(&["task", "fetch", &id, "--into", into])).expect(0);
    let fetched = std::fs::read(dir.path().join("large.txt")).unwrap();
    assert!(fetched.len() == 3_000_000 && fetched.iter().all(|byte| *byte == b'x'), "{} bytes", fetched.len());
}

#[test]
fn without_a_key_to_share_it_does_not_start() {
    let ended = refused(&["--database", "postgres://eap@127.0.0.1:1/eap"], &[], 2);
    assert!(ended.stderr.contains("EAP_SEALING_KEY") && ended.stderr.contains("openssl rand -hex 32"), "{ended:?}");
}

#[test]
fn what_stands_in_the_way_is_said_without_the_password() {
    let url = ("EAP_DATABASE_URL", "postgres://eap:canary@127.0.0.1:1/eap");
    let away = refused(&[], &[KEY, url], 1);
    assert!(away.stderr.contains("postgres://eap@127.0.0.1:1/eap"), "{away:?}");
    assert!(away.stderr.contains("Connection refused"), "{away:?}");
    let odd = ("EAP_DATABASE_URL", "postgres://eap:canary@127.0.0.1:1/eap?schema=canary");
    let ended = refused(&[], &[KEY, odd], 2);
    assert!(ended.stderr.contains("--database-schema"), "{ended:?}");
    let ended = refused(&["--database", "memory:", "--database-schema", "x"], &[KEY], 2);
    assert!(ended.stderr.contains("--database-schema is for postgres://"), "{ended:?}");
    let Some((found, schema)) = database() else { return };
    let named = ("EAP_DATABASE_SCHEMA", "No-Schema");
    let ended = refused(&[], &[KEY, ("EAP_DATABASE_URL", &found), named], 2);
    assert!(ended.stderr.contains("cannot name a schema"), "{ended:?}");
    let other = found.rsplit_once('/').map_or_else(String::new, |(server, _)| format!("{server}/eap_no_such_database"));
    let ended = refused(&[], &[KEY, ("EAP_DATABASE_URL", &other), ("EAP_DATABASE_SCHEMA", &schema)], 2);
    assert!(ended.stderr.contains("does not exist"), "{ended:?}");
}

#[test]
fn a_password_on_the_command_line_is_warned_about_and_not_repeated() {
    let mut command = eap(&["serve", "--listen", "127.0.0.1:0", "--database", "postgres://eap:canary@127.0.0.1:1/eap"]);
    let mut server = Running::start(command.envs([KEY]));
    assert_eq!(server.code(), 1);
    let log = until("it has said why", || Some(server.log()).filter(|log| log.contains("Connection refused")));
    assert!(log.contains("every user of this machine can read it") && !log.contains("canary"), "{log}");
}
