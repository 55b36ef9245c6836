//! The SDK follows `rotate_token`: a new token while its tasks run on, whatever gets lost on the way.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eap_agent_sdk::{HandlerError, Task, TaskContext};
use eap_types::TaskStatus;
use serde_json::{Value, json};

use crate::harness::Agent as RawAgent;
use crate::sdk_harness::{Fate, Gate, Network, Passing, Site, until};

const LONG: Duration = Duration::from_secs(30);

/// Asks for a rotation, and waits until the agent of this directory has another token than `before` and uses it.
async fn rotated(site: &Site, dir: &std::path::Path, before: &str) -> Value {
    let id = site.only_agent().agent.agent_id;
    site.operator().post(&format!("/api/v1/agents/{id}/rotate-token")).send().await.expect(200);
    until(LONG, "the identity file has a new token", async || {
        let identity = identity(dir);
        (identity["auth_token"] != before && site.only_agent().rotation_asked_at.is_none()).then_some(identity)
    })
    .await
}

fn identity(dir: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("identity.json")).expect("the agent has registered")).expect("it is JSON")
}

/// What the agent keeps of itself once it is registered: the file is there before, without a token.
async fn registered(dir: &std::path::Path) -> Value {
    until(LONG, "the agent has kept its token", async || {
        let text = fs::read(dir.join("identity.json")).ok()?;
        let identity: Value = serde_json::from_slice(&text).expect("it is JSON");
        identity["auth_token"].is_string().then_some(identity)
    })
    .await
}

fn token(identity: &Value) -> String {
    identity["auth_token"].as_str().expect("it is a text").to_owned()
}

#[tokio::test]
async fn an_agent_that_is_asked_rotates_and_its_running_task_is_none_the_worse() {
    let site = Site::start_with(|config| {
        config.timing.heartbeat_interval = Duration::from_secs(1);
        config.timing.lease = Duration::from_secs(2);
        config.timing.rotation_overlap = Duration::from_secs(2);
    })
    .await;
    let (gate, dir) = (Gate::closed(), site.dir("agent"));
    let waiting = gate.clone();
    let work = move |task: Task<String>, _: TaskContext| {
        let gate = waiting.clone();
        async move {
            gate.pass().await;
            Ok::<_, HandlerError>(task.input)
        }
    };
    let agent = site.agent("AGENT-ROTATING").max_concurrent_tasks(2).data_dir(&dir).handle("work", work);
    let agent = agent.build().unwrap().start();
    let task = site.submit("work", "long").await;
    until(LONG, "it runs", async || (gate.arrived() == 1).then_some(())).await;
    let before = registered(&dir).await;
    let after = rotated(&site, &dir, &token(&before)).await;
    assert_eq!((&after["agent_id"], &after["instance_id"]), (&before["agent_id"], &before["instance_id"]));
    let old = RawAgent::of(site.operator().api.clone(), before);
    until(LONG, "the old token is dead", async || {
        (old.beat(json!({"status": "healthy"})).await.status == 401).then_some(())
    })
    .await;
    let expiry = || site.only_agent().held.first().expect("it holds its task").expires_at;
    let then = expiry();
    until(LONG, "the lease is renewed with the new token alone", async || (expiry() > then).then_some(())).await;
    gate.open();
    let done = site.until_final(task, LONG).await;
    assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1), "{:?}", site.history(task).await);
    let next = site.submit("work", "next").await;
    assert_eq!(site.until_final(next, LONG).await.status, TaskStatus::Completed);
    assert_eq!(site.only_agent().epoch, 1, "it did not register again");
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.failed), (2, 0), "{report}");
}

#[tokio::test]
async fn a_lost_answer_to_a_rotation_locks_no_agent_out() {
    let site = Site::start_hasty().await;
    let dir = site.dir("agent");
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let network = Network::new(move |path, passing| {
        let is_answer = matches!(passing, Passing::Answer(_));
        // The first two answers get lost; the server has made a token each time.
        if path.ends_with("/token/rotate") && is_answer && counting.fetch_add(1, Ordering::SeqCst) < 2 {
            return Fate::Breaks;
        }
        Fate::Arrives
    });
    let echo = |task: Task<String>, _: TaskContext| async move { Ok::<_, HandlerError>(task.input) };
    let agent = site.agent("AGENT-UNLUCKY").data_dir(&dir).http(network).handle("work", echo).build().unwrap().start();
    let before = registered(&dir).await;
    let first = token(&before);
    let id = site.only_agent().agent.agent_id;
    site.operator().post(&format!("/api/v1/agents/{id}/rotate-token")).send().await.expect(200);
    until(LONG, "an answer arrives", async || (token(&identity(&dir)) != first).then_some(())).await;
    // The wish ended with the first rotation; the agent asks again by itself until it has an answer.
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let task = site.submit("work", "after").await;
    assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Completed);
    assert_eq!(site.only_agent().epoch, 1, "it did not register again");
    agent.drain();
    agent.wait().await.unwrap();
}
