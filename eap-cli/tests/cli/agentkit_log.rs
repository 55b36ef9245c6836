//! What `eap serve` tells of an agent platform whose calls it refuses, and of an agent that gets no work.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use eap_types::agentkit::PlatformAgent;
use mock_agentkit::{Faults, MockAgentKit, WebhookFaults};
use serde_json::json;

use crate::support::{Server, run, until};

const SECRET: &str = "the word that both sides know";
const KEY: &str = "canary-operator-key-000000";

/// A server with the face of a platform that is nowhere.
fn server() -> Server {
    let environment = [("EAP_AGENTKIT_SECRET", SECRET), ("EAP_OPERATOR_KEY", KEY), ("EAP_LOG", "info")];
    Server::start(&["--agentkit-url", "http://127.0.0.1:1"], &environment)
}

fn agent(id: &str) -> PlatformAgent {
    PlatformAgent::new(id.parse().unwrap(), id.to_uppercase(), "http://127.0.0.1:9").with_capabilities(["summarize"])
}

/// A report of an agent's state, by whoever has this key; gives the status of the answer.
fn say(server: &Server, key: &str, agent: &str, state: &str) -> String {
    let host = server.url.trim_start_matches("http://");
    let body = json!({"agentId": agent, "timestamp": "2026-01-01T00:00:00Z", "state": state}).to_string();
    let head = format!("POST /v1/opscore/agent/{agent}/state HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}");
    let about = format!("content-type: application/json\r\ncontent-length: {}\r\nconnection: close", body.len());
    let mut stream = TcpStream::connect(host).expect("the server listens");
    stream.write_all(format!("{head}\r\n{about}\r\n\r\n{body}").as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer is text");
    answer.split(' ').nth(1).expect("a status").to_owned()
}

/// The lines of the log that have this in them.
fn lines(server: &mut Server, text: &str) -> Vec<String> {
    server.process.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn refused_webhooks_and_reports_are_told_once_for_each_reason_and_without_secrets() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = server();
    let mock = MockAgentKit::builder().notifies(&server.url).secret(SECRET).key(KEY);
    let mock = runtime.block_on(mock.start()).expect("a port is free");
    let wrong = WebhookFaults::under_a_wrong_secret();
    mock.set_faults(Faults::none().with_webhooks(wrong));
    let started = std::time::Instant::now();
    for number in 0..20 {
        runtime.block_on(mock.register(agent(&format!("a{number}")))).expect("its id is new");
    }
    let told = until("a refused webhook is told", || {
        let told = lines(&mut server, "a webhook of the agent platform was refused");
        (!told.is_empty()).then_some(told)
    });
    assert!(told[0].contains("WARN") && told[0].contains(r#"reason="bad_signature""#), "{told:?}");
    assert!(told[0].contains("status=401") && told[0].contains("Invalid signature"), "{told:?}");
    let most = 1 + usize::try_from(started.elapsed().as_secs() / 10).unwrap();
    assert!(told.len() <= most, "one in ten seconds: {told:?}");

    for _ in 0..20 {
        assert_eq!(say(&server, "a-key-that-nobody-has-given", "a0", "IDLE"), "401");
    }
    assert_eq!(say(&server, KEY, "nobody", "IDLE"), "404");
    let told = until("refused reports are told", || {
        let told = lines(&mut server, "a report of an agent's state was refused");
        told.iter().any(|line| line.contains("unknown_agent")).then_some(told)
    });
    assert!(told[0].contains(r#"reason="wrong_key""#) && told[0].contains("status=401"), "{told:?}");
    let log = server.process.log();
    for secret in [SECRET, KEY, "a-key-that-nobody-has-given"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn many_webhooks_outside_the_window_are_told_with_the_offset_of_the_clocks() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = server();
    let mock = MockAgentKit::builder().notifies(&server.url).secret(SECRET).key(KEY);
    let mock = runtime.block_on(mock.start()).expect("a port is free");
    let late = WebhookFaults::off_by_seconds(-1_000);
    mock.set_faults(Faults::none().with_webhooks(late));
    // Five within one minute of the clock: a minute may end after the first few.
    let mut numbers = 0..10;
    let told = until("the clocks are suspected", || {
        if let Some(number) = numbers.next() {
            runtime.block_on(mock.register(agent(&format!("a{number}")))).expect("its id is new");
        }
        lines(&mut server, "clock_skew_suspected").pop()
    });
    let offset = told.split("offset_seconds=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<i64>().ok());
    assert!(offset.is_some_and(|offset| (-1_010..=-999).contains(&offset)), "{told}");
    assert!(numbers.start >= 5, "four may be replays: {numbers:?}");
}

#[test]
fn an_agent_that_is_not_free_is_shown_so_and_so_is_the_task_that_waits_for_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = server();
    let mock = MockAgentKit::builder().notifies(&server.url).secret(SECRET).key(KEY);
    let mock = runtime.block_on(mock.start()).expect("a port is free");
    runtime.block_on(mock.register(agent("a1"))).expect("its id is new");
    let eap = |arguments: &[&str]| run(server.eap(arguments).env("EAP_OPERATOR_KEY", KEY));
    assert_eq!(say(&server, KEY, "a1", "ERROR"), "202");
    let shown = eap(&["agent", "get", "a1"]).expect(0).stdout;
    assert!(shown.contains("ERROR, in which it gets no work"), "{shown}");
    let task = eap(&["task", "submit", "--type", "summarize", "--input", "x"]).expect(0).stdout;
    let told = eap(&["explain", task.trim()]).expect(0).stdout;
    assert!(told.contains("not_free (ERROR)"), "{told}");

    for (arguments, cause) in [
        (&["agent", "interval", "a1", "7"][..], "came through a platform, and sends no heartbeats"),
        (&["agent", "rotate-token", "a1"], "came through a platform, and has no token"),
    ] {
        let refused = eap(arguments).expect(3);
        assert!(refused.stderr.contains(cause), "{refused:?}");
    }
}
