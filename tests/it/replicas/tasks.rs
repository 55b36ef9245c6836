//! Tasks that come in at one replica and are done at another one.

use std::time::{Duration, Instant};

use eap_orchestrator::Config;
use eap_orchestrator::store::EventSeq;
use serde_json::{Value, json};

use super::{Pair, as_it_is, at, over_both};
use crate::harness::{Agent, Receiver, eventually, id_of, in_time, work};

over_both! {
    as_it_is => a_task_reaches_an_agent_that_waits_at_the_other_at_once, whoever_waits_for_an_end_hears_of_it_from_the_other,
        a_cancel_at_one_is_told_at_the_other, a_request_repeated_at_the_other_gets_what_its_first_try_got,
        one_that_starts_leaves_running_leases_as_they_are, a_stream_of_events_tells_what_all_of_them_did,
        a_workflow_goes_on_wherever_its_steps_are_done, a_batch_is_shared_without_a_task_done_twice;
    telling => a_callback_is_sent_once;
    quick => a_lease_lapses_whoever_gave_it;
    beating_fast => a_lease_is_kept_alive_by_beats_at_the_other;
}

fn telling(config: &mut Config) {
    config.callbacks.secrets =
        vec!["whsec_Y2FuYXJ5LXNpZ25pbmcta2V5LTAxMjM0NTY3ODlhYg==".parse().expect("it is a secret")];
}

fn beating_fast(config: &mut Config) {
    config.timing.heartbeat_interval = Duration::from_secs(2);
}

fn quick(config: &mut Config) {
    config.timing.lease = Duration::from_secs(1);
}

async fn a_task_reaches_an_agent_that_waits_at_the_other_at_once(Pair { a, b, .. }: Pair) {
    let agent = a.agent("AGENT-A").await;
    for (waits, submits) in [(&b, &a), (&a, &b)].into_iter().cycle().take(6) {
        let agent = at(waits, &agent);
        let wish = json!({"request_id": format!("r{:?}", Instant::now()).replace(' ', ""), "wait_seconds": 20});
        let waiting = waits.park(&agent, "/tasks/lease", Some(wish)).await;
        let submitted = Instant::now();
        let id = submits.operator().submit(json!({})).await;
        let given = in_time("it is answered", waiting).await.expect("it does not panic").expect(200);
        assert_eq!(given["tasks"][0]["task_id"], json!(id));
        assert!(
            submitted.elapsed() < Duration::from_millis(900),
            "it did not wait for a look that comes once a second"
        );
        agent.complete(&given["tasks"][0]).await.expect(200);
    }
}

async fn whoever_waits_for_an_end_hears_of_it_from_the_other(Pair { a, b, .. }: Pair) {
    let agent = b.agent("AGENT-A").await;
    let id = a.operator().submit(json!({})).await;
    let task = agent.wait_for_task().await;
    let waiting = tokio::spawn(a.operator().get(&format!("/api/v1/tasks/{id}?wait_seconds=20")).send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.complete(&task).await.expect(200);
    let shown = in_time("it is answered", waiting).await.expect("it does not panic").expect(200);
    assert_eq!((&shown["status"], &shown["result"]["output_data"]), (&json!("completed"), &json!({"done": true})));
    // A report of it at the other one is a repeat.
    assert_eq!(at(&a, &agent).complete(&task).await.expect(200)["duplicate"], json!(true));
}

async fn a_cancel_at_one_is_told_at_the_other(Pair { a, b, .. }: Pair) {
    let agent = b.agent("AGENT-A").await;
    let id = a.operator().submit(json!({})).await;
    let task = agent.wait_for_task().await;
    a.operator().cancel(&id, Some(&json!({"reason": "not wanted"}))).await.expect(200);
    let told = eventually("it is told", async || {
        let held = json!([{"task_id": task["task_id"], "lease_id": task["lease_id"]}]);
        let reply = agent.beat(json!({"status": "healthy", "tasks": held})).await.expect(200);
        reply["directives"].as_array().and_then(|list| list.first().cloned())
    })
    .await;
    assert_eq!((&told["type"], &told["task_id"]), (&json!("cancel"), &json!(id)));
    // One that does not list what it holds is told as well, wherever it beats.
    let other = a.operator().submit(json!({})).await;
    let task = agent.wait_for_task().await;
    assert_eq!(id_of(&task), other);
    a.operator().cancel(&other, None).await.expect(200);
    let agent = at(&a, &agent);
    eventually("it is told", async || {
        let reply = agent.beat(json!({"status": "healthy"})).await.expect(200);
        let told = reply["directives"].as_array().cloned().unwrap_or_default();
        told.iter().any(|directive| directive["task_id"] == json!(other)).then_some(())
    })
    .await;
}

async fn a_request_repeated_at_the_other_gets_what_its_first_try_got(Pair { a, b, .. }: Pair) {
    let agent = a.agent("AGENT-A").await;
    let wish = json!({"request_id": "repeated", "wait_seconds": 20});
    // The agent has given up the first try, and its server does not know: the connection is only silent.
    let first = a.park(&agent, "/tasks/lease", Some(wish.clone())).await;
    let repeat = b.park(&at(&b, &agent), "/tasks/lease", Some(wish)).await;
    let id = a.operator().submit(json!({})).await;
    let mut given = Vec::new();
    for waiting in [first, repeat] {
        let answer = in_time("it is answered", waiting).await.expect("it does not panic").expect(200);
        given.push(answer["tasks"][0]["lease_id"].clone());
    }
    assert_eq!(given[0], given[1]);
    assert_eq!(a.operator().outcomes(&id).await, ["open"]);
}

async fn a_lease_is_kept_alive_by_beats_at_the_other(Pair { a, b, .. }: Pair) {
    let agent = a.older_peer("AGENT-OLD").await;
    let id = a.operator().submit(json!({})).await;
    let next = eventually("a task is there", async || {
        let answer = agent.next(json!({})).await;
        (answer.status == 200).then(|| answer.body.clone())
    })
    .await;
    assert_eq!(id_of(&next), id);
    let before = a.operator().task(&id).await["lease_expires_at"].clone();
    // It lists nothing: the other one has to know what it holds.
    eventually("its lease is renewed", async || {
        at(&b, &agent).beat(json!({"status": "healthy"})).await.expect(204);
        (b.operator().task(&id).await["lease_expires_at"] != before).then_some(())
    })
    .await;
}

async fn one_that_starts_leaves_running_leases_as_they_are(pair: Pair) {
    let agent = pair.a.agent("AGENT-A").await;
    let id = pair.a.operator().submit(json!({})).await;
    let task = agent.wait_for_task().await;
    // The sweeper of one has written that it is at work.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = pair.b.operator().task(&id).await["lease_expires_at"].clone();
    let third = pair.another(as_it_is).await;
    assert_eq!(third.operator().task(&id).await["lease_expires_at"], before);
    assert_eq!(third.operator().agent(&agent.id).await.expect(200)["held"][0]["task_id"], json!(id));
    at(&third, &agent).complete(&task).await.expect(200);
    assert_eq!(pair.a.operator().status(&id).await, "completed");
}

async fn a_stream_of_events_tells_what_all_of_them_did(Pair { a, b, .. }: Pair) {
    let host = eap_orchestrator::Operator::host();
    let mut events = b.orchestrator.events(&host, EventSeq(0));
    let agent = a.agent("AGENT-A").await;
    let id = b.operator().submit(json!({})).await;
    let task = agent.wait_for_task().await;
    agent.complete(&task).await.expect(200);
    let mut kinds = Vec::new();
    while !kinds.contains(&"task.completed".to_owned()) {
        kinds.push(in_time("an event comes", events.next()).await.expect("the store is there").kind);
    }
    assert_eq!(kinds, ["agent.registered", "task.submitted", "task.leased", "task.completed"], "{id}");
}

async fn a_workflow_goes_on_wherever_its_steps_are_done(Pair { a, b, .. }: Pair) {
    let agent = b.agent("AGENT-A").await;
    let workflow = json!({
        "id": "two", "name": "Two steps", "version": "1", "tasks": [
            {"taskId": "first", "name": "work", "agentCapability": "work", "nextTaskId": "second"},
            {"taskId": "second", "name": "work", "agentCapability": "work"},
        ],
    });
    let kept = a.operator().post("/api/v1/workflows").json(&workflow).send().await;
    assert!([200, 201].contains(&kept.status), "{kept:?}");
    let started = b.operator().post("/api/v1/workflows/two/runs").json(&json!({})).send().await;
    assert!([200, 201, 202].contains(&started.status), "{started:?}");
    let session = started.body;
    let path = format!("/api/v1/sessions/{}", session["sessionId"].as_str().expect("it has an id"));
    let first = at(&a, &agent).wait_for_task().await;
    for server in [&a, &b] {
        eventually("it is running", async || {
            (server.operator().get(&path).send().await.expect(200)["status"] == json!("running")).then_some(())
        })
        .await;
    }
    let waiting = tokio::spawn(b.operator().get(&format!("{path}?wait_seconds=20")).send());
    at(&a, &agent).complete(&first).await.expect(200);
    let second = agent.wait_for_task().await;
    at(&a, &agent).complete(&second).await.expect(200);
    let ended = in_time("it is answered", waiting).await.expect("it does not panic").expect(200);
    assert_eq!(ended["status"], json!("completed"));
}

async fn a_batch_is_shared_without_a_task_done_twice(Pair { a, b, .. }: Pair) {
    let mut agents: Vec<Agent> = Vec::new();
    for number in 0..6 {
        let agent = a.agent(&format!("AGENT-{number}")).await;
        agents.push(at(if number % 2 == 0 { &a } else { &b }, &agent));
    }
    let working: Vec<_> = agents
        .into_iter()
        .enumerate()
        .map(|(number, agent)| {
            tokio::spawn(async move {
                let (mut done, mut dry) = (Vec::new(), 0);
                while dry < 3 {
                    let wish = json!({"request_id": format!("{number}-{}-{dry}", done.len()), "max_tasks": 3, "wait_seconds": 1});
                    let answer = agent.lease(wish).await;
                    if answer.status == 204 {
                        dry += 1;
                        continue;
                    }
                    for task in answer.expect(200)["tasks"].as_array().expect("tasks are a list") {
                        agent.complete(task).await.expect(200);
                        done.push(id_of(task));
                    }
                }
                done
            })
        })
        .collect();
    let mut submitted = Vec::new();
    for (round, server) in [&a, &b].into_iter().cycle().take(10).enumerate() {
        let batch: Vec<Value> = (0..20).map(|_| work(json!({}))).collect();
        let reply =
            server.operator().post("/api/v1/tasks/batch").json(&json!({"tasks": batch})).send().await.expect(200);
        submitted.extend(reply["tasks"].as_array().expect("it is a list").iter().map(id_of));
        tokio::time::sleep(Duration::from_millis(20 * (round as u64 % 3))).await;
    }
    let mut done = Vec::new();
    for working in working {
        done.extend(working.await.expect("it does not panic"));
    }
    submitted.sort();
    done.sort();
    assert_eq!(done, submitted);
}

async fn a_callback_is_sent_once(Pair { a, b, .. }: Pair) {
    let receiver = Receiver::start([]).await;
    let agent = a.agent("AGENT-A").await;
    let mut ids = Vec::new();
    for (number, server) in [&a, &b].into_iter().cycle().take(10).enumerate() {
        ids.push(server.operator().submit(json!({"callback_url": receiver.url()})).await);
        let agent = at(if number % 3 == 0 { &a } else { &b }, &agent);
        agent.complete(&agent.take().await).await.expect(200);
    }
    receiver.until(ids.len()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut told: Vec<String> = receiver.received().iter().map(|call| call.id().to_owned()).collect();
    told.sort();
    told.dedup();
    assert_eq!((told.len(), receiver.received().len()), (ids.len(), ids.len()));
}

async fn a_lease_lapses_whoever_gave_it(Pair { a, b, .. }: Pair) {
    let (agent, other) = (a.agent("AGENT-A").await, b.agent("AGENT-B").await);
    let id = a.operator().submit(json!({})).await;
    let lost = agent.take().await;
    assert_eq!(id_of(&lost), id);
    let waiting = b.park(&other, "/tasks/lease", Some(json!({"request_id": "one", "wait_seconds": 20}))).await;
    let given = in_time("it is answered", waiting).await.expect("it does not panic").expect(200);
    assert_eq!((&given["tasks"][0]["task_id"], &given["tasks"][0]["attempt"]), (&json!(id), &json!(2)));
    other.complete(&given["tasks"][0]).await.expect(200);
    agent.complete(&lost).await.problem(409, "TASK_FINAL");
    assert_eq!(a.operator().outcomes(&id).await, ["expired", "completed"]);
}
