//! Which agent gets a task: the score, who is preferred, and the breaker (protocol.md section 3, "Routing"; A17, G17).

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::harness::{Agent, Answer, Server, Setup, eventually, id_of, in_time, work};

const NOTHING: [Value; 0] = [];

/// Parks a poll, one second later, so that it shows that it was heard.
async fn waits(server: &Server, agent: &Agent, request: &str) -> JoinHandle<Answer> {
    server.advance(1);
    let body = json!({"request_id": request, "wait_seconds": 20});
    server.park(agent, "/tasks/lease", Some(body)).await
}

/// The one task that a waiting poll is answered with.
async fn served(poll: JoinHandle<Answer>) -> Value {
    let answer = in_time("the poll is served", poll).await.expect("it does not panic");
    let mut tasks = answer.expect(200)["tasks"].as_array().expect("tasks are a list").clone();
    assert_eq!(tasks.len(), 1);
    tasks.pop().expect("there is one")
}

/// A task for this agent alone, which it takes.
async fn own_task(server: &Server, agent: &Agent) -> Value {
    let id = server.operator().submit(json!({"agent_id": agent.id, "max_attempts": 1})).await;
    let task = agent.take().await;
    assert_eq!(id_of(&task), id);
    task
}

async fn fails(server: &Server, agent: &Agent, times: usize) {
    for _ in 0..times {
        let task = own_task(server, agent).await;
        agent.fail(&task, json!({"retryable": false})).await.expect(200);
    }
}

async fn succeeds(server: &Server, agent: &Agent, times: usize) {
    for _ in 0..times {
        let task = own_task(server, agent).await;
        agent.complete(&task).await.expect(200);
    }
}

async fn record(server: &Server, agent: &Agent) -> Value {
    server.operator().agent(&agent.id).await.expect(200)["track_record"].clone()
}

#[tokio::test]
async fn of_two_that_wait_the_better_one_gets_the_task_and_only_that_one_is_woken() {
    let server = Server::start_with_clock().await;
    let (poor, good) = (server.agent("AGENT-POOR").await, server.agent("AGENT-GOOD").await);
    succeeds(&server, &poor, 2).await;
    fails(&server, &poor, 3).await;
    succeeds(&server, &good, 5).await;
    assert_eq!(record(&server, &poor).await["tier"], "degraded");
    let tier = record(&server, &good).await;
    assert_eq!((&tier["tier"], &tier["results"], &tier["success_rate"]), (&json!("elite"), &json!(5), &json!(1)));
    let poor_poll = waits(&server, &poor, "p").await;
    let good_poll = waits(&server, &good, "g").await;
    let id = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&served(good_poll).await), id);
    // The other one waits on and gets the next.
    let next = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&served(poor_poll).await), next);
}

#[tokio::test]
async fn among_equals_the_one_served_least_recently_gets_the_task() {
    let server = Server::start_with_clock().await;
    let (first, second) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    succeeds(&server, &second, 1).await;
    server.advance(1);
    succeeds(&server, &first, 1).await;
    let first_poll = waits(&server, &first, "a").await;
    let second_poll = waits(&server, &second, "b").await;
    let id = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&served(second_poll).await), id);
    assert!(!first_poll.is_finished());
    first_poll.abort();
}

#[tokio::test]
async fn a_specialist_and_an_idle_agent_come_before_others() {
    let server = Server::start_with_clock().await;
    let many = json!({"capabilities": ["work", "b", "c", "d"]});
    let (generalist, specialist) = (server.agent_with("AGENT-A", many).await, server.agent("AGENT-B").await);
    let generalist_poll = waits(&server, &generalist, "a").await;
    let specialist_poll = waits(&server, &specialist, "b").await;
    let id = server.operator().submit(json!({})).await;
    let task = served(specialist_poll).await;
    assert_eq!(id_of(&task), id);
    // It would still be the better one; but a busy agent gets nothing.
    specialist.beat(json!({"status": "busy"})).await.expect(200);
    let id = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&served(generalist_poll).await), id);
}

#[tokio::test]
async fn a_preferred_agent_gets_its_task_and_a_preference_restricts_nothing() {
    let server = Server::start_with_clock().await;
    let (first, second) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let first_poll = waits(&server, &first, "a").await;
    let second_poll = waits(&server, &second, "b").await;
    let preferring = work(json!({"preferred_agents": [second.id, "somebody-else"]}));
    let submitted = server.operator().try_submit(&preferring).await.expect(201);
    assert_eq!(submitted["routing"]["preferred_agents"].as_array().map(Vec::len), Some(2));
    assert_eq!(id_of(&served(second_poll).await), id_of(&submitted));
    // Nobody who is preferred waits: it goes to whoever does.
    let id = server.operator().submit(json!({"preferred_agents": ["somebody-else"]})).await;
    assert_eq!(id_of(&served(first_poll).await), id);
    // Nobody waits at all: whoever asks next has the head of the queue.
    let id = server.operator().submit(json!({"preferred_agents": [second.id]})).await;
    assert_eq!(id_of(&first.take().await), id);
}

#[tokio::test]
async fn of_a_batch_each_waiting_agent_gets_the_task_that_prefers_it() {
    let server = Server::start_with_clock().await;
    let (first, second) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let first_poll = waits(&server, &first, "a").await;
    let second_poll = waits(&server, &second, "b").await;
    let tasks = [&second, &first].map(|agent| work(json!({"preferred_agents": [agent.id]})));
    let batch = server.operator().post("/api/v1/tasks/batch").json(&json!({"tasks": tasks})).send().await.expect(200);
    assert_eq!(id_of(&served(first_poll).await), id_of(&batch["tasks"][1]));
    assert_eq!(id_of(&served(second_poll).await), id_of(&batch["tasks"][0]));
}

#[tokio::test]
async fn an_older_peer_sees_nothing_of_preferences() {
    let server = Server::start().await;
    let agent = server.older_peer("AGENT-A").await;
    server.operator().submit(json!({"preferred_agents": [agent.id]})).await;
    server.operator().submit(json!({})).await;
    let [preferring, plain] = [agent.take().await, agent.take().await]
        .map(|task| task.as_object().expect("a task is an object").keys().cloned().collect::<Vec<_>>());
    assert_eq!(preferring, plain);
}

#[tokio::test]
async fn an_agent_that_keeps_failing_gets_nothing_until_it_has_cooled_down_and_then_one_trial() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    fails(&server, &agent, 5).await;
    let open = record(&server, &agent).await;
    assert_eq!(
        (&open["breaker"], &open["tier"], &open["success_rate"]),
        (&json!("open"), &json!("degraded"), &json!(0))
    );
    assert!(open["breaker_until"].is_string(), "{open}");
    let ids = [server.operator().submit(json!({})).await, server.operator().submit(json!({})).await];
    assert_eq!(agent.take_up_to(5).await, NOTHING);
    server.advance(29);
    assert_eq!(agent.take_up_to(5).await, NOTHING);
    server.advance(1);
    let trial = agent.take_up_to(5).await;
    assert_eq!(trial.iter().map(id_of).collect::<Vec<_>>(), ids[..1], "one task, however much it asks for");
    assert_eq!(record(&server, &agent).await["breaker"], "half_open");
    assert_eq!(agent.take_up_to(5).await, NOTHING, "one trial at a time");
    agent.complete(&trial[0]).await.expect(200);
    assert_eq!(record(&server, &agent).await["breaker"], "closed");
    assert_eq!(id_of(&agent.take().await), ids[1]);
}

#[tokio::test]
async fn a_failed_trial_doubles_the_cool_down_and_a_poll_that_waits_gets_the_next_trial() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    fails(&server, &agent, 5).await;
    server.advance(30);
    fails(&server, &agent, 1).await;
    let id = server.operator().submit(json!({})).await;
    server.advance(30);
    assert_eq!(agent.take_up_to(1).await, NOTHING);
    let polls = [waits(&server, &agent, "a").await, waits(&server, &agent, "b").await];
    let more = server.operator().submit(json!({})).await;
    assert!(polls.iter().all(|poll| !poll.is_finished()));
    server.advance(30);
    let [first, second] = polls;
    let trial = served(first).await;
    assert_eq!(id_of(&trial), id);
    assert!(!second.is_finished());
    // A trial that is handed back decides nothing: another one follows at once.
    agent.release(&id, Some(&json!({"retry_after_seconds": 3600}))).await.expect(200);
    let trial = served(second).await;
    assert_eq!(id_of(&trial), more);
    agent.complete(&trial).await.expect(200);
    assert_eq!(record(&server, &agent).await["breaker"], "closed");
}

#[tokio::test]
async fn another_agent_gets_what_a_failing_one_waits_for() {
    let server = Server::start_with_clock().await;
    let (failing, other) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    fails(&server, &failing, 5).await;
    let failing_poll = waits(&server, &failing, "a").await;
    let other_poll = waits(&server, &other, "b").await;
    let id = server.operator().submit(json!({"preferred_agents": [failing.id]})).await;
    assert_eq!(id_of(&served(other_poll).await), id);
    assert!(!failing_poll.is_finished());
    failing_poll.abort();
}

#[tokio::test]
async fn what_is_not_the_agents_fault_does_not_count() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    for members in [json!({"error_code": "INVALID_INPUT"}), json!({"error_code": "REJECTED"})] {
        for _ in 0..5 {
            let task = own_task(&server, &agent).await;
            agent.fail(&task, members.clone()).await.expect(200);
        }
    }
    let task = own_task(&server, &agent).await;
    server.operator().cancel(&id_of(&task), None).await.expect(200);
    assert_eq!(record(&server, &agent).await["results"], 0);
    // A lease that lapses does, and a result that comes late counts beside it.
    let task = own_task(&server, &agent).await;
    agent.fail(&task, json!({"retryable": false})).await.expect(200);
    server.operator().submit(json!({"agent_id": agent.id})).await;
    let task = agent.take().await;
    server.advance(60);
    server.operator().until(&id_of(&task), "queued").await;
    // The rating follows the commit that a reader sees.
    eventually("the lapse counts", async || (record(&server, &agent).await["results"] == 2).then_some(())).await;
    assert_eq!(record(&server, &agent).await["success_rate"], 0);
    agent.complete(&task).await.expect(200);
    assert_eq!(record(&server, &agent).await["results"], 3);
}

#[tokio::test]
async fn a_repeated_request_gets_its_tasks_though_the_breaker_opened_or_the_agent_is_busy() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let id = server.operator().submit(json!({})).await;
    let body = json!({"request_id": "lost", "wait_seconds": 0});
    let first = agent.lease(body.clone()).await.expect(200);
    assert_eq!(id_of(&first["tasks"][0]), id);
    fails(&server, &agent, 5).await;
    assert_eq!(record(&server, &agent).await["breaker"], "open");
    let again = agent.lease(body.clone()).await.expect(200);
    assert_eq!(again["tasks"][0]["lease_id"], first["tasks"][0]["lease_id"]);
    agent.beat(json!({"status": "busy"})).await.expect(200);
    let again = agent.lease(body).await.expect(200);
    assert_eq!(again["tasks"][0]["lease_id"], first["tasks"][0]["lease_id"]);
    server.operator().submit(json!({})).await;
    assert_eq!(agent.lease(json!({"request_id": "new", "wait_seconds": 0})).await.status, 204);
}

#[tokio::test]
async fn a_track_record_survives_a_restart_and_a_registration() {
    let dir = TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&path).manual_clock().start().await;
    let clock = first.clock();
    let agent = first.agent("AGENT-A").await;
    fails(&first, &agent, 5).await;
    let before = record(&first, &agent).await;
    assert_eq!(before["breaker"], "open");
    first.stop().await;
    let second = Setup::sqlite_at(&path).clock(clock).start().await;
    assert_eq!(record(&second, &agent).await, before);
    let back = second.agent("AGENT-A").await;
    assert_eq!(back.id, agent.id);
    assert_eq!(record(&second, &back).await, before);
    second.operator().submit(json!({})).await;
    assert_eq!(back.take_up_to(1).await, NOTHING);
    let poll = waits(&second, &back, "a").await;
    second.advance(30);
    served(poll).await;
}

#[tokio::test]
async fn the_cool_down_is_that_of_the_configuration() {
    let setup = Setup::memory().manual_clock().config(|config| {
        config.breaker.cooldown = std::time::Duration::from_secs(3);
    });
    let server = setup.start().await;
    let agent = server.agent("AGENT-A").await;
    fails(&server, &agent, 5).await;
    server.operator().submit(json!({})).await;
    server.advance(2);
    assert_eq!(agent.take_up_to(1).await, NOTHING);
    server.advance(1);
    agent.take().await;
}
