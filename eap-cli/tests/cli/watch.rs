//! A task is watched: its output as it comes, its progress beside it, and its end.

use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Running, Server, run};

/// Recites its input word by word, and waits at the word `wait` for its end.
async fn recite(task: Task<String>, ctx: TaskContext) -> Result<usize, HandlerError> {
    let words = task.input.split_inclusive(' ');
    for (number, word) in words.clone().enumerate() {
        match word.trim() {
            "half" => ctx.progress(0.5, "half way").await,
            "wait" => ctx.cancelled().await,
            "fail" => return Err(HandlerError::fatal("no more")),
            _ => ctx.emit(word).await,
        }
        assert!(number < 99, "the poem is short");
    }
    Ok(words.count())
}

/// An agent that recites, in a runtime that runs it until it is dropped.
fn reciter(server: &Server) -> Runtime {
    let runtime = Runtime::new().expect("there are threads to be had");
    let agent = Agent::builder(&server.url, "AGENT-RECITER").handle("recite", recite).build().expect("it is complete");
    // What the handle says is of no interest here, and dropping it would stop the agent.
    runtime.spawn(async move { agent.run_until(std::future::pending::<()>()).await });
    runtime
}

fn submit(server: &Server, input: &str) -> String {
    let submit = ["task", "submit", "--type", "recite", "--max-attempts", "1", "--input", input];
    run(&mut server.eap(&submit)).expect(0).stdout.trim().to_owned()
}

#[test]
fn output_comes_as_it_is_emitted_and_the_result_last() {
    let server = Server::start(&[], &[]);
    let _agent = reciter(&server);
    let id = submit(&server, "wer reitet\n half so wait spät");
    let mut watcher = Running::start_to_read(&mut server.eap(&["task", "watch", &id]));
    assert_eq!(watcher.printed(), "wer reitet");
    watcher.line("eap: leased, attempt 1 by ");
    watcher.line("eap: 50 %, half way");
    run(&mut server.eap(&["task", "cancel", &id, "--reason", "enough"])).expect(0);
    assert_eq!(watcher.code(), 1);
    watcher.line("eap: cancelled, attempt 1 by ");
    // The line that the output broke off in is ended.
    assert_eq!(watcher.printed(), " so ");
    let rest: Vec<String> = std::iter::from_fn(|| watcher.try_printed()).collect();
    assert!(rest[0].starts_with("task ") && rest.iter().any(|line| line.contains("cancelled")), "{rest:#?}");
}

#[test]
fn a_task_that_is_over_tells_what_is_kept_and_its_end() {
    let server = Server::start(&[], &[]);
    let _agent = reciter(&server);
    let id = submit(&server, "wer reitet so spät");
    run(&mut server.eap(&["task", "get", &id, "--wait"])).expect(0);
    let ended = run(&mut server.eap(&["task", "watch", &id])).expect(0);
    assert!(ended.stdout.starts_with("wer reitet so spät\n"), "{ended:?}");
    assert!(ended.stdout.contains("completed") && ended.stderr.contains("eap: completed, attempt 1"), "{ended:?}");
    let lines = run(&mut server.eap(&["task", "watch", &id, "--json"])).expect(0).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let output: String = lines.iter().filter_map(|line| line["detail"]["output_delta"].as_str()).collect();
    assert_eq!(output, "wer reitet so spät");
    let (task, events) = lines.split_last().expect("there are lines");
    assert_eq!((&task["task_id"], &task["status"]), (&id.as_str().into(), &"completed".into()));
    assert_eq!(events.last().map(|event| &event["kind"]), Some(&"task.completed".into()));
}

#[test]
fn the_outcome_is_the_exit_code() {
    let server = Server::start(&[], &[]);
    let _agent = reciter(&server);
    let failed = run(&mut server.eap(&["task", "watch", &submit(&server, "one fail")])).expect(1);
    assert!(failed.stdout.starts_with("one \n") && failed.stdout.contains("no more"), "{failed:?}");
    run(&mut server.eap(&["task", "watch", "01956e3c-7f60-7000-8000-000000000001"])).expect(3);
    run(&mut server.eap(&["task", "watch", "x"])).expect(2);
    let id = submit(&server, "wait");
    let mut watcher = Running::start_to_read(&mut server.eap(&["task", "watch", &id]));
    watcher.line("eap: leased");
    watcher.signal(Signal::SIGINT);
    assert_eq!(watcher.code(), 5);
    watcher.line(&format!("eap: the task is not over; `eap task watch {id}` goes on"));
}

#[test]
fn a_server_that_is_killed_meanwhile_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("eap.db").display());
    let mut server = Server::start(&["--database", &database], &[]);
    let id = submit(&server, "nobody recites it");
    let mut watcher = Running::start_to_read(&mut server.eap(&["task", "watch", &id]));
    watcher.line("eap: submitted");
    server.process.kill_9();
    watcher.line("eap: the connection is lost (");
    let listen = server.url.trim_start_matches("http://").to_owned();
    let server = Server::start(&["--database", &database, "--listen", &listen], &[]);
    watcher.line("eap: connected again");
    run(&mut server.eap(&["task", "cancel", &id])).expect(0);
    assert_eq!(watcher.code(), 1);
}
