//! Work for agents of the platform: given to its `run`, done by what their reports of state say
//! (docs/protocol.md, section 6).

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::ManualClock;
use eap_types::Timestamp;
use serde_json::{Value, json};

use super::platform::{SECRET, Webhook, deregister, register, registered, with_face};
use crate::harness::{Answer, Endpoint, GatedStore, START, Server, Setup, Turn, eventually};

/// A server whose platform plays these turns, with an agent on it.
async fn world(setup: Setup, turns: impl IntoIterator<Item = Turn>) -> (Server, Endpoint) {
    let platform = Endpoint::start(turns).await;
    let server = reaching(setup, platform.url()).start().await;
    registered(&server, "a1").await;
    // Past every time that a report of these tests names.
    server.advance(3600);
    (server, platform)
}

/// The face with a platform at this address, before which nothing is waited for long.
fn reaching(setup: Setup, url: &str) -> Setup {
    with_face(setup, &[SECRET]).manual_clock().config(|config| {
        config.agentkit.as_mut().expect("it is there").url = Some(url.to_owned());
    })
}

fn setups() -> [Setup; 2] {
    [Setup::memory(), Setup::sqlite()]
}

fn taken() -> Turn {
    Turn::status(200)
}

async fn submit(server: &Server, members: Value) -> String {
    let mut body = json!({"task_type": "summarize"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    server.operator().submit(body).await
}

/// A report of `a1`, at a second of its own clock.
async fn say(server: &Server, second: u32, state: &str, details: Value) -> Answer {
    let timestamp = format!("2027-01-15T08:{:02}:{:02}Z", second / 60, second % 60);
    let body = json!({"agentId": "a1", "timestamp": timestamp, "state": state, "details": details});
    server.operator().post("/v1/opscore/agent/a1/state").json(&body).send().await
}

#[tokio::test]
async fn a_task_goes_to_run_with_every_name_it_may_be_looked_for_under() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken()]).await;
        let task = submit(&server, json!({"input": "some text"})).await;
        let received = platform.until(1).await;
        let (method, path) = (received[0].method.as_str(), received[0].path.as_str());
        assert_eq!((method, path), ("POST", "/agent/v1/agents/a1/run"));
        let session = server.operator().task(&task).await["session_id"].clone();
        let message: Value = serde_json::from_slice(&received[0].received.body).unwrap();
        let expected = json!({
            "senderId": "opscore_system_id", "messageType": "workflow_task", "payload": {"input": "some text"},
            "sessionContext": {"sessionId": session, "taskId": task},
            "taskId": task, "task_name": "summarize", "opscore_session_id": session, "opscore_task_id": task,
        });
        assert_eq!(message, expected);
        server.stop().await;
    }
}

#[tokio::test]
async fn busy_and_idle_complete_the_one_task_in_flight() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken(), taken()]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        say(&server, 1, "IDLE", Value::Null).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "leased", "it was idle before it began");
        say(&server, 2, "BUSY", json!({"current_task": task})).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "leased");
        let next = submit(&server, json!({})).await;
        say(&server, 3, "IDLE", json!({"last_task_result": "simulated_success"})).await.expect(202);
        let done = server.operator().task(&task).await;
        assert_eq!(done["status"], "completed");
        assert_eq!(done["result"]["output_data"], json!({"last_task_result": "simulated_success"}));
        // One at a time: the next goes out once the first is done.
        let received = platform.until(2).await;
        let message: Value = serde_json::from_slice(&received[1].received.body).unwrap();
        assert_eq!(message["taskId"], next);
        server.stop().await;
    }
}

/// The mock platform reports before it answers, and so may a real one.
#[tokio::test]
async fn a_task_that_is_done_before_run_answers_is_done_once() {
    for setup in setups() {
        let late = Turn::LateStatus(Duration::from_millis(300), 200);
        let (server, platform) = world(setup, [late]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        say(&server, 1, "BUSY", Value::Null).await.expect(202);
        say(&server, 2, "IDLE", Value::Null).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "completed");
        eventually("the platform has answered", async || (platform.answered() == 1).then_some(())).await;
        let task = server.operator().task(&task).await;
        assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)));
        assert_eq!(platform.received().len(), 1);
        server.stop().await;
    }
}

#[tokio::test]
async fn reports_that_overtake_each_other_mean_the_same() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken()]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        say(&server, 12, "IDLE", json!({"answer": 42})).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "leased");
        say(&server, 13, "BUSY", json!({"current_task": task})).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "leased", "it works again");
        say(&server, 11, "BUSY", json!({"current_task": task})).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "completed");
        server.stop().await;
    }
}

#[tokio::test]
async fn an_error_fails_the_attempt_and_the_task_is_tried_again() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken(), taken()]).await;
        let task = submit(&server, json!({"max_attempts": 2})).await;
        platform.until(1).await;
        say(&server, 1, "BUSY", Value::Null).await.expect(202);
        say(&server, 2, "ERROR", json!({"task_id": task, "error": "out of paper"})).await.expect(202);
        let history = server.operator().get(&format!("/api/v1/tasks/{task}/history")).send().await.expect(200);
        assert_eq!(history["attempts"][0]["outcome"], "failed");
        assert_eq!(history["attempts"][0]["message"], "out of paper");
        // In error it gets nothing; then it does.
        server.advance(600);
        assert_eq!(platform.received().len(), 1);
        say(&server, 3, "IDLE", Value::Null).await.expect(202);
        eventually("it is tried again", async || {
            server.advance(1);
            (platform.received().len() == 2).then_some(())
        })
        .await;
        say(&server, 4, "finished", json!({"taskId": task})).await.expect(202);
        let done = server.operator().task(&task).await;
        assert_eq!((&done["status"], &done["attempt"]), (&json!("completed"), &json!(2)));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_run_that_is_refused_counts_as_an_attempt_and_one_for_which_there_is_no_room_as_none() {
    for setup in setups() {
        let (server, platform) = world(setup, [Turn::status(404), Turn::status(503), taken()]).await;
        let task = submit(&server, json!({})).await;
        let received = eventually("it was sent three times", async || {
            server.advance(1);
            let received = platform.received();
            (received.len() == 3).then_some(received)
        })
        .await;
        assert!(received.iter().all(|pushed| pushed.path == "/agent/v1/agents/a1/run"));
        say(&server, 59, "BUSY", json!({"opscore_task_id": task})).await.expect(202);
        say(&server, 60, "IDLE", json!({"opscore_task_id": task})).await.expect(202);
        let history = server.operator().get(&format!("/api/v1/tasks/{task}/history")).send().await.expect(200);
        assert_eq!(history["attempts"][0]["outcome"], "failed");
        assert_eq!(history["attempts"][1]["outcome"], "completed");
        server.stop().await;
    }
}

/// A45, and G27's order: what it holds is another's.
#[tokio::test]
async fn what_an_agent_holds_that_is_deregistered_goes_back_to_the_queue() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken(), taken()]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        Webhook::at(&server, 1, &deregister("a1")).send(&server).await.expect(200);
        assert_eq!(server.operator().status(&task).await, "queued");
        Webhook::at(&server, 2, &register("a2")).send(&server).await.expect(200);
        let received = eventually("the other one gets it", async || {
            server.advance(1);
            let received = platform.received();
            (received.len() == 2).then_some(received)
        })
        .await;
        assert_eq!(received[1].path, "/agent/v1/agents/a2/run");
        server.stop().await;
    }
}

/// They send no heartbeats: only the time limit ends what they are silent about.
#[tokio::test]
async fn silence_ends_no_lease_and_the_time_limit_does() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken()]).await;
        let task = submit(&server, json!({"timeout_seconds": 7200, "max_attempts": 1})).await;
        platform.until(1).await;
        eventually("the platform took it", async || {
            (server.operator().task(&task).await["progress"]["message"] == "the platform took it").then_some(())
        })
        .await;
        server.advance(7000);
        say(&server, 1, "BUSY", Value::Null).await.expect(202);
        assert_eq!(server.operator().status(&task).await, "leased");
        server.advance(201);
        let task = server.operator().until(&task, "failed").await;
        assert_eq!(task["result"]["error_code"], "TIMEOUT");
        server.stop().await;
    }
}

#[tokio::test]
async fn after_a_restart_what_the_platform_took_is_not_given_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.db");
    let platform = Endpoint::start([taken(), Turn::Hang, taken()]).await;
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
    let start = async || reaching(Setup::sqlite_at(&file), platform.url()).clock(clock.clone()).start().await;
    let server = start().await;
    registered(&server, "a1").await;
    Webhook::at(&server, 0, &register("a2")).send(&server).await.expect(200);
    let first = submit(&server, json!({"agent_id": "a1"})).await;
    eventually("the platform took it", async || {
        (server.operator().task(&first).await["progress"]["message"] == "the platform took it").then_some(())
    })
    .await;
    let second = submit(&server, json!({"agent_id": "a2"})).await;
    platform.until(2).await;
    server.stop().await;
    let server = start().await;
    // Of the other it is not known whether the platform has it.
    let received = platform.until(3).await;
    assert_eq!(received[2].path, "/agent/v1/agents/a2/run");
    assert_eq!(server.operator().status(&first).await, "leased");
    say(&server, 1, "BUSY", Value::Null).await.expect(202);
    say(&server, 2, "IDLE", Value::Null).await.expect(202);
    assert_eq!(server.operator().status(&first).await, "completed");
    assert_eq!(server.operator().status(&second).await, "leased");
    assert_eq!(platform.received().len(), 3);
}

#[tokio::test]
async fn work_goes_straight_to_an_agent_where_that_is_configured() {
    let agent = Endpoint::start([taken()]).await;
    let server = with_face(Setup::memory(), &[SECRET]).manual_clock();
    let server = server.config(|config| config.agentkit.as_mut().expect("it is there").direct = true).start().await;
    let mut told = register("a1");
    told["agent_details"]["contactEndpoint"] = json!(format!("{}work", agent.url()));
    Webhook::at(&server, 0, &told).send(&server).await.expect(200);
    let task = submit(&server, json!({"input": "{\"a\": 1}"})).await;
    let received = agent.until(1).await;
    assert_eq!(received[0].path, "/agent/work");
    let message: Value = serde_json::from_slice(&received[0].received.body).unwrap();
    assert_eq!((&message["taskId"], &message["payload"]), (&json!(task), &json!({"a": 1})));
}

/// Each is understood with what those before it said, in whichever order they are taken in.
#[tokio::test]
async fn reports_at_once_complete_a_task() {
    for setup in setups() {
        let (server, platform) = world(setup, (0..10).map(|_| taken())).await;
        for round in 0..10 {
            let task = submit(&server, json!({})).await;
            platform.until(round as usize + 1).await;
            let (busy, idle) = tokio::join!(
                say(&server, 2 * round, "BUSY", Value::Null),
                say(&server, 2 * round + 1, "IDLE", Value::Null),
            );
            busy.expect(202);
            idle.expect(202);
            assert_eq!(server.operator().status(&task).await, "completed");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn what_the_platform_does_not_have_is_not_done_by_other_work() {
    for setup in setups() {
        let (server, platform) = world(setup, [Turn::retry_after(503, 3600)]).await;
        let task = submit(&server, json!({"max_attempts": 1})).await;
        platform.until(1).await;
        for (second, state) in [(1, "BUSY"), (2, "IDLE"), (3, "ERROR")] {
            say(&server, second, state, Value::Null).await.expect(202);
            let status = server.operator().status(&task).await;
            assert!(status == "leased" || status == "queued", "{status}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_cancelled_task_is_not_sent_again() {
    for setup in setups() {
        // Late enough that the cancel comes before the next try.
        let (server, platform) = world(setup, [Turn::LateStatus(Duration::from_secs(1), 503), taken()]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        server.operator().post(&format!("/api/v1/tasks/{task}/cancel")).send().await.expect(200);
        eventually("the first try is answered", async || (platform.answered() == 1).then_some(())).await;
        let next = submit(&server, json!({})).await;
        let received = eventually("the next one is sent", async || {
            server.advance(1);
            let received = platform.received();
            (received.len() == 2).then_some(received)
        })
        .await;
        let message: Value = serde_json::from_slice(&received[1].received.body).unwrap();
        assert_eq!(message["taskId"], next);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_agent_whose_clock_is_ahead_once_is_heard_afterwards() {
    let (server, platform) = world(Setup::memory(), [taken()]).await;
    let future = json!({"agentId": "a1", "timestamp": "2099-01-01T00:00:00Z", "state": "BUSY"});
    server.operator().post("/v1/opscore/agent/a1/state").json(&future).send().await.expect(202);
    let task = submit(&server, json!({})).await;
    server.advance(10);
    assert_eq!(platform.received().len(), 0);
    let now = json!({"agentId": "a1", "timestamp": "2027-01-15T09:00:05Z", "state": "IDLE"});
    server.operator().post("/v1/opscore/agent/a1/state").json(&now).send().await.expect(202);
    platform.until(1).await;
    assert_eq!(server.operator().status(&task).await, "leased");
}

/// What was begun before a stop between the goodbye and its effect is done at the next start.
#[tokio::test]
async fn tasks_of_an_agent_that_is_gone_are_given_back_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.db");
    let platform = Endpoint::start([taken()]).await;
    let server = reaching(Setup::sqlite_at(&file), platform.url()).start().await;
    registered(&server, "a1").await;
    let task = submit(&server, json!({})).await;
    platform.until(1).await;
    eventually("the platform took it", async || {
        (server.operator().task(&task).await["progress"]["message"] == "the platform took it").then_some(())
    })
    .await;
    server.stop().await;
    // The commit of a DEREGISTER alone.
    let clock = Arc::new(eap_orchestrator::SystemClock::new());
    let store = eap_orchestrator::store::SqliteStore::open(&file, clock.clone(), Default::default()).unwrap();
    {
        use eap_orchestrator::Clock as _;
        use eap_orchestrator::store::{AgentWrite, Change, Repository as _};
        let (stored, _) = store.agents().await.unwrap().remove(0);
        let mut agent = stored.record;
        agent.standing = eap_core::Standing::Deregistered { at: clock.now() };
        agent.push = None;
        let write = AgentWrite::Update { agent, revision: stored.revision };
        store.commit(Change { agents: vec![write], ..Change::default() }).await.unwrap();
        store.close().await.unwrap();
    }
    let server = reaching(Setup::sqlite_at(&file), platform.url()).start().await;
    assert_eq!(server.operator().status(&task).await, "queued");
}

/// What an agent says when it is done is its result, which may be long; the state is kept without it then.
#[tokio::test]
async fn long_details_are_the_result_and_not_kept_twice() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken()]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        let details = json!({"task_id": task, "text": "x".repeat(200_000)});
        say(&server, 1, "BUSY", Value::Null).await.expect(202);
        say(&server, 2, "IDLE", details.clone()).await.expect(202);
        assert_eq!(server.operator().task(&task).await["result"]["output_data"], details);
        let state = server.operator().get("/v1/opscore/agent/a1/state").send().await.expect(200);
        assert_eq!((&state["state"], &state["details"]), (&json!("IDLE"), &Value::Null));
        server.stop().await;
    }
}

/// What an agent says before it is known that it works is what comes of it, in whatever order its reports come.
#[tokio::test]
async fn the_result_is_what_was_said_at_the_end() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken()]).await;
        let task = submit(&server, json!({})).await;
        platform.until(1).await;
        let answer = json!({"answer": "x".repeat(100_000)});
        say(&server, 12, "IDLE", answer.clone()).await.expect(202);
        say(&server, 11, "BUSY", json!({"current_task": task})).await.expect(202);
        let done = server.operator().task(&task).await;
        assert_eq!((&done["status"], &done["result"]["output_data"]), (&json!("completed"), &answer));
        server.stop().await;
    }
}

/// A task that is claimed for an agent in the moment in which it says that it works goes to whoever has time.
#[tokio::test]
async fn what_was_claimed_for_an_agent_that_begins_with_something_else_goes_back() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(START)));
    let store = GatedStore::with_clock(clock.clone());
    let platform = Endpoint::start([taken()]).await;
    let server = reaching(Setup::store(store.clone()), platform.url()).clock(clock).start().await;
    registered(&server, "a1").await;
    server.advance(3600);
    say(&server, 1, "BUSY", Value::Null).await.expect(202);
    let task = submit(&server, json!({})).await;
    store.keep_answers();
    say(&server, 2, "IDLE", Value::Null).await.expect(202);
    eventually("it is claimed", async || (store.kept() == 1).then_some(())).await;
    say(&server, 3, "BUSY", Value::Null).await.expect(202);
    // The request is withdrawn meanwhile; whether or not, the task must not wait for this agent.
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.give_answers();
    eventually("it waits for somebody", async || (server.operator().status(&task).await == "queued").then_some(()))
        .await;
    assert_eq!(server.operator().outcomes(&task).await, ["released"]);
    assert!(platform.received().is_empty());
    say(&server, 4, "IDLE", Value::Null).await.expect(202);
    platform.until(1).await;
    server.stop().await;
}

/// A late report of an earlier task, which it names, says nothing of the one in flight.
#[tokio::test]
async fn a_report_about_a_task_from_before_ends_no_other() {
    for setup in setups() {
        let (server, platform) = world(setup, [taken(), taken()]).await;
        let first = submit(&server, json!({})).await;
        platform.until(1).await;
        say(&server, 1, "IDLE", json!({"task_id": first})).await.expect(202);
        let second = submit(&server, json!({})).await;
        platform.until(2).await;
        say(&server, 2, "BUSY", json!({"task_id": second})).await.expect(202);
        for state in ["IDLE", "ERROR", "FINISHED"] {
            say(&server, 3, state, json!({"task_id": first, "late": true})).await.expect(202);
            assert_eq!(server.operator().status(&second).await, "leased", "{state}");
        }
        // A word that is no task's counts as none.
        say(&server, 4, "IDLE", json!({"task_id": "job 7 of the platform"})).await.expect(202);
        assert_eq!(server.operator().status(&second).await, "completed");
        server.stop().await;
    }
}
