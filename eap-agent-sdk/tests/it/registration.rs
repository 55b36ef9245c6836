//! Joining, coming back, and being turned away.

use std::time::Duration;

use eap_agent_sdk::types::ErrorCode;
use eap_agent_sdk::{Agent, Error, Status, Task, TaskContext};
use serde_json::json;

use crate::fake::{Fake, PATIENCE, Rule, State};

async fn echo(task: Task<String>, _: TaskContext) -> Result<String, eap_agent_sdk::HandlerError> {
    Ok(task.input)
}

#[tokio::test]
async fn an_agent_waits_for_its_orchestrator_with_growing_pauses() {
    let fake = Fake::new();
    fake.rule("/register", [Rule::Unreachable, Rule::Refuse(ErrorCode::Unavailable), Rule::LoseAnswer]);
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    assert_eq!(agent.status(), Status::Connecting);
    fake.until_seen("/heartbeat", 1).await;
    {
        let state = fake.state();
        let times: Vec<_> = state.calls("/register").map(|call| call.at).collect();
        assert_eq!(times.len(), 4);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(50)));
        let ids: Vec<_> = state.calls("/register").map(|call| &call.body["instance_id"]).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "the identity stays the same");
    }
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn a_dead_token_makes_the_agent_register_once_and_go_on() {
    let fake = Fake::new();
    let agent = fake.agent().handle("echo", echo).build().unwrap().start();
    fake.until_seen("/tasks/lease", 1).await;
    fake.change(State::wipe);
    fake.until_seen("/register", 2).await;
    fake.submit(1, "echo", "again");
    fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(agent.agent_id().unwrap().as_str(), "agent-2");
    let bodies: Vec<_> = fake.state().calls("/register").map(|call| call.body.clone()).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn an_identity_that_somebody_else_uses_too_ends_the_agent() {
    let fake = Fake::new();
    fake.change(|state| state.refuses_tokens = true);
    let agent = fake.agent().handle("echo", echo).instance_id("shared").build().unwrap().start();
    let outcome = tokio::time::timeout(PATIENCE, agent.wait()).await.unwrap();
    assert!(matches!(outcome, Err(Error::IdentityInUse)), "{outcome:?}");
    assert_eq!(fake.state().count("/register"), 3);
}

#[tokio::test]
async fn a_denied_registration_ends_the_agent_with_the_reason() {
    let fake = Fake::new();
    fake.rule("/register", [Rule::Refuse(ErrorCode::RegistrationDenied)]);
    let agent = fake.agent().handle("echo", echo).registration_secret("wrong-secret").build().unwrap();
    assert!(!format!("{agent:?}").contains("wrong-secret"));
    let outcome = agent.run_until(std::future::pending::<()>()).await;
    let Err(Error::Registration { source }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(source.code(), Some(ErrorCode::RegistrationDenied));
}

#[tokio::test]
async fn a_kept_identity_comes_back_with_its_token() {
    let fake = Fake::new();
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let agent = fake.agent().handle("echo", echo).data_dir(dir.path()).build().unwrap().start();
        let seen = fake.state().count("/heartbeat");
        fake.until_seen("/heartbeat", seen + 1).await;
        agent.drain();
        agent.wait().await.unwrap();
    }
    let state = fake.state();
    let calls: Vec<_> = state.calls("/register").collect();
    assert_eq!(calls[0].body["instance_id"], calls[1].body["instance_id"]);
    assert!(calls[0].headers.get("x-agent-token").is_none());
    assert_eq!(calls[1].headers["x-agent-token"], "token-1");
}

#[tokio::test]
async fn a_kept_token_that_is_dead_is_left_aside() {
    let fake = Fake::new();
    let dir = tempfile::tempdir().unwrap();
    let start = || fake.agent().handle("echo", echo).data_dir(dir.path()).build().unwrap().start();
    let agent = start();
    fake.until_seen("/heartbeat", 1).await;
    agent.drain();
    agent.wait().await.unwrap();
    fake.rule("/register", [Rule::Refuse(ErrorCode::RegistrationDenied)]);
    let agent = start();
    fake.until_seen("/register", 3).await;
    assert!(fake.state().calls("/register").last().unwrap().headers.get("x-agent-token").is_none());
    agent.drain();
    agent.wait().await.unwrap();
}

#[test]
fn everything_wrong_with_a_description_is_told_at_once() {
    let outcome = Agent::builder("orchestrator", "x")
        .handle("Not a type!", echo)
        .handle("echo", echo)
        .handle("ECHO", echo)
        .capability("no spaces")
        .label("", "value")
        .instance_id("")
        .metadata(json!([1]))
        .max_concurrent_tasks(0)
        .poll_wait(Duration::from_secs(61))
        .version("v".repeat(65))
        .build();
    let Err(Error::Invalid { problems }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(problems.len(), 11, "{problems:#?}");
}

#[test]
fn an_agent_without_handlers_is_no_agent() {
    let outcome = Agent::builder("http://127.0.0.1:1", "AGENT-A").build();
    assert!(matches!(outcome, Err(Error::Invalid { problems }) if problems == ["the agent has no handler"]));
}

#[tokio::test]
async fn a_data_dir_serves_one_agent_at_one_orchestrator() {
    let fake = Fake::new();
    let dir = tempfile::tempdir().unwrap();
    let describe = |url: &str, name: &str| {
        Agent::builder(url, name).handle("echo", echo).http(fake.clone()).data_dir(dir.path()).build()
    };
    drop(describe("http://orchestrator.test/", "AGENT-ONE").unwrap());
    for (url, name) in [("http://orchestrator.test", "AGENT-TWO"), ("http://other.test", "AGENT-ONE")] {
        let Err(error) = describe(url, name) else { panic!("{url} {name}") };
        assert!(matches!(error, Error::DataDirOfAnother { .. }), "{error}");
        assert!(error.to_string().contains("belongs to AGENT-ONE at http://orchestrator.test:"), "{error}");
    }
    describe("HTTP://Orchestrator.test:80", "AGENT-ONE").unwrap();
    assert!(fake.state().seen.is_empty());
}
