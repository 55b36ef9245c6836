//! Signs of life: what they renew, what they tell, and what comes back (A8, A9, A24; G14, G15).

use eap_types::limits;
use serde_json::{Value, json};

use crate::harness::{Agent, Server, assert_shape, id_of};

/// How many milliseconds a lease lasts anew.
const LEASE_MS: u64 = 60_000;

fn held(task: &Value) -> Value {
    json!({"task_id": task["task_id"], "lease_id": task["lease_id"]})
}

fn renewed(task: &Value, ms: u64) -> Value {
    json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "expires_in_ms": ms})
}

fn lost(task: &Value) -> Value {
    json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "lost": true})
}

/// The leases that an answer shows, in order of task.
fn leases(reply: &Value) -> Vec<Value> {
    let mut leases = reply["leases"].as_array().expect("leases are a list").clone();
    leases.sort_by_key(|lease| lease["task_id"].as_str().map(str::to_owned));
    leases
}

async fn two_tasks(server: &Server, agent: &Agent) -> (Value, Value) {
    server.operator().submit(json!({})).await;
    server.operator().submit(json!({})).await;
    let mut tasks = agent.take_up_to(2).await;
    tasks.sort_by_key(|task| task["task_id"].as_str().map(str::to_owned));
    let second = tasks.pop().expect("two tasks");
    (tasks.pop().expect("two tasks"), second)
}

#[tokio::test]
async fn an_older_peer_is_answered_204_with_an_empty_body() {
    let server = Server::start().await;
    let peer = server.older_peer("AGENT-OLD").await;
    let body = json!({
        "status": "healthy", "current_load": 0.25, "tasks_in_progress": 1, "metrics": {"cpu": 12.5, "note": "x"},
        "timestamp": "2026-01-01T12:00:00+02:00",
    });
    let answer = peer.beat(body.clone()).await;
    assert_eq!(answer.header("content-type"), None);
    answer.expect(204);
    let bearer = server.api.post(&peer.path("/heartbeat")).bearer(&peer.token).json(&body).send().await;
    bearer.expect(204);
    let detail = server.operator().agent(&peer.id).await.expect(200);
    assert_eq!((&detail["status"], &detail["current_load"]), (&json!("healthy"), &json!(0.25)));
    assert_eq!(detail["metrics"], json!({"cpu": 12.5, "note": "x"}));
}

#[tokio::test]
async fn an_agent_that_did_not_agree_on_directives_is_answered_204_too() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"features": ["pull.v1"]})).await;
    agent.beat(json!({"status": "healthy"})).await.expect(204);
}

#[tokio::test]
async fn with_directives_the_answer_has_the_interval_the_time_leases_and_directives() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let reply = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_shape(
        &reply,
        &json!({"heartbeat_interval_seconds": 30, "server_time": "<time>", "leases": [], "directives": []}),
    );
}

#[tokio::test]
async fn a_beat_that_lists_tasks_renews_exactly_those() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let (listed, unlisted) = two_tasks(&server, &agent).await;
    server.advance(40);
    let reply = agent.beat(json!({"status": "healthy", "tasks": [held(&listed)]})).await.expect(200);
    assert_eq!(leases(&reply), [renewed(&listed, LEASE_MS)]);
    let expiry = async |task: &Value| server.operator().task(&id_of(task)).await["lease_expires_at"].clone();
    assert_eq!(expiry(&listed).await, "2027-01-15T08:01:40Z", "it is shown as stored");
    assert_eq!(expiry(&unlisted).await, "2027-01-15T08:01:00Z");
    server.advance(20);
    server.operator().until(&id_of(&unlisted), "queued").await;
    assert_eq!(server.operator().status(&id_of(&listed)).await, "leased");
}

#[tokio::test]
async fn a_beat_without_the_field_renews_all_and_an_empty_list_none() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let (one, two) = two_tasks(&server, &agent).await;
    server.advance(30);
    let none = agent.beat(json!({"status": "healthy", "tasks": []})).await.expect(200);
    assert_eq!(leases(&none), Vec::<Value>::new());
    assert_eq!(server.operator().task(&id_of(&one)).await["lease_expires_at"], "2027-01-15T08:01:00Z");
    let all = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(leases(&all), [renewed(&one, LEASE_MS), renewed(&two, LEASE_MS)]);
    for task in [&one, &two] {
        assert_eq!(server.operator().task(&id_of(task)).await["lease_expires_at"], "2027-01-15T08:01:30Z");
    }
}

#[tokio::test]
async fn a_renewal_that_is_not_worth_a_write_shows_the_expiry_that_is_stored() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    server.advance(5);
    let reply = agent.beat(json!({"status": "healthy", "tasks": [held(&task)]})).await.expect(200);
    assert_eq!(leases(&reply), [renewed(&task, 55_000)]);
    assert_eq!(server.operator().task(&id_of(&task)).await["lease_expires_at"], "2027-01-15T08:01:00Z");
}

#[tokio::test]
async fn no_renewal_goes_beyond_the_attempts_timeout() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({"timeout_seconds": 70})).await;
    let task = agent.take().await;
    server.advance(50);
    let reply = agent.beat(json!({"status": "healthy", "tasks": [held(&task)]})).await.expect(200);
    assert_eq!(leases(&reply), [renewed(&task, 20_000)]);
}

#[tokio::test]
async fn an_older_peer_keeps_its_task_by_plain_beats_for_three_intervals_at_a_time() {
    let server = Server::start_with_clock().await;
    let peer = server.older_peer("AGENT-OLD").await;
    server.operator().submit(json!({})).await;
    let task = peer.take().await;
    assert_eq!(task["lease_expires_in_ms"], 90_000);
    for _ in 0..3 {
        server.advance(80);
        peer.beat(json!({"status": "healthy"})).await.expect(204);
    }
    assert_eq!(server.operator().status(&id_of(&task)).await, "leased");
    assert_eq!(peer.complete(&task).await.expect(200)["duplicate"], false);
}

#[tokio::test]
async fn a_lease_that_is_lost_is_marked_so_and_the_rest_of_the_beat_counts() {
    let server = Server::start_with_clock().await;
    let (agent, other) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let (one, two) = two_tasks(&server, &agent).await;
    server.operator().submit(json!({})).await;
    let foreign = other.take().await;
    agent.release(&id_of(&one), Some(&json!({"retry_after_seconds": 600}))).await.expect(200);
    server.advance(30);
    let never = json!({"task_id": "01890a5d-ac96-774b-bcce-b302099a8057", "lease_id": two["lease_id"]});
    let crossed = json!({"task_id": two["task_id"], "lease_id": one["lease_id"]});
    let body = json!({
        "status": "degraded", "current_load": 0.5,
        "tasks": [held(&one), held(&foreign), never, crossed, held(&two)],
    });
    let reply = agent.beat(body).await.expect(200);
    let shown = reply["leases"].as_array().expect("leases are a list").clone();
    let expected = [lost(&one), lost(&foreign), lost(&never), lost(&crossed), renewed(&two, LEASE_MS)];
    assert_eq!(shown, expected);
    assert_eq!(reply["directives"], json!([]), "a lease that was given back needs no directive");
    let detail = server.operator().agent(&agent.id).await.expect(200);
    assert_eq!((&detail["status"], &detail["current_load"]), (&json!("degraded"), &json!(0.5)));
    let foreign = server.operator().task(&id_of(&foreign)).await;
    assert_eq!(foreign["lease_expires_at"], "2027-01-15T08:01:00Z", "another agent's lease is not renewed");
}

#[tokio::test]
async fn a_cancelled_task_is_told_with_every_beat_until_that_is_acknowledged() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let (cancelled, kept) = two_tasks(&server, &agent).await;
    server.operator().cancel(&id_of(&cancelled), Some(&json!({"reason": "no longer needed"}))).await.expect(200);
    let directive = json!({
        "id": cancelled["lease_id"], "type": "cancel", "task_id": cancelled["task_id"],
        "lease_id": cancelled["lease_id"], "reason": "no longer needed", "cause": "cancelled",
    });
    let body = json!({"status": "healthy", "tasks": [held(&cancelled), held(&kept)]});
    for _ in 0..2 {
        let reply = agent.beat(body.clone()).await.expect(200);
        assert_eq!(reply["directives"], json!([directive]));
        assert!(leases(&reply).contains(&lost(&cancelled)));
    }
    let mut acknowledging = body;
    acknowledging["ack"] = json!([cancelled["lease_id"]]);
    let reply = agent.beat(acknowledging).await.expect(200);
    assert_eq!(reply["directives"], json!([]));
}

#[tokio::test]
async fn an_older_beat_is_a_sign_of_life_and_changes_nothing_else() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    for (seq, load, status) in [(3, 0.3, "degraded"), (1, 0.1, "offline"), (2, 0.2, "busy")] {
        server.advance(10);
        let body = json!({
            "status": status, "current_load": load, "metrics": {"seq": seq}, "seq": seq, "tasks": [held(&task)],
        });
        agent.beat(body).await.expect(200);
    }
    let detail = server.operator().agent(&agent.id).await.expect(200);
    assert_eq!((&detail["status"], &detail["current_load"]), (&json!("degraded"), &json!(0.3)));
    assert_eq!((&detail["metrics"], &detail["state"]), (&json!({"seq": 3}), &json!("online")));
    assert_eq!(detail["last_seen_at"], "2027-01-15T08:00:30Z");
}

#[tokio::test]
async fn sequence_numbers_begin_anew_with_each_registration() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    agent.beat(json!({"status": "healthy", "seq": 1000, "current_load": 0.9})).await.expect(200);
    let agent = server.agent("AGENT-A").await;
    agent.beat(json!({"status": "healthy", "seq": 1, "current_load": 0.1})).await.expect(200);
    assert_eq!(server.operator().agent(&agent.id).await.expect(200)["current_load"], json!(0.1));
}

#[tokio::test]
async fn a_bad_beat_renews_nothing_and_a_minimal_one_after_it_keeps_the_lease() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    server.advance(50);
    for (field, value) in [
        ("current_load", json!(1.5)),
        ("current_load", json!("NaN")),
        ("current_load", json!(-0.1)),
        ("status", json!("sleepy")),
        ("metrics", json!([1])),
        ("tasks_in_progress", json!(-1)),
    ] {
        let mut body = json!({"status": "healthy", "tasks": [held(&task)]});
        body[field] = value;
        assert_eq!(agent.beat(body).await.fields(), [format!("body.{field}")]);
    }
    let limit = limits::max_heartbeat_bytes(limits::DEFAULT_CONCURRENT_TASKS);
    let huge = json!({"status": "healthy", "metrics": {"x": "x".repeat(limit)}});
    agent.beat(huge).await.problem(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(server.operator().task(&id_of(&task)).await["lease_expires_at"], "2027-01-15T08:01:00Z");
    let reply = agent.beat(json!({"status": "healthy", "seq": 1, "tasks": [held(&task)]})).await.expect(200);
    assert_eq!(leases(&reply), [renewed(&task, LEASE_MS)]);
}

#[tokio::test]
async fn the_first_list_of_a_new_epoch_ends_the_older_leases_it_does_not_name() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let (known, forgotten) = two_tasks(&server, &agent).await;
    let agent = server.agent("AGENT-A").await;
    // A beat that lists nothing at all says nothing about them.
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(server.operator().status(&id_of(&forgotten)).await, "leased");
    let reply = agent.beat(json!({"status": "busy", "tasks": [held(&known)]})).await.expect(200);
    assert_eq!(leases(&reply).len(), 1);
    assert_eq!(server.operator().status(&id_of(&known)).await, "leased");
    assert_eq!(server.operator().status(&id_of(&forgotten)).await, "queued");
    assert_eq!(server.operator().outcomes(&id_of(&forgotten)).await, ["expired"]);
    // Only the first one: what it leases now is not older.
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    let taken = agent.take().await;
    assert_eq!((id_of(&taken), &taken["attempt"]), (id_of(&forgotten), &json!(2)));
    agent.beat(json!({"status": "healthy", "tasks": []})).await.expect(200);
    assert_eq!(server.operator().status(&id_of(&taken)).await, "leased");
    assert_eq!(server.operator().status(&id_of(&known)).await, "leased");
}

#[tokio::test]
async fn a_draining_agent_gets_nothing_new_and_may_finish_what_it_holds() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let state = async || server.operator().agent(&agent.id).await.expect(200)["state"].clone();
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    server.operator().submit(json!({})).await;
    for drains in [json!({"status": "offline"}), json!({"status": "healthy", "draining": true})] {
        agent.beat(drains).await.expect(200);
        assert_eq!(state().await, "draining");
        assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
        agent.beat(json!({"status": "healthy"})).await.expect(200);
        assert_eq!(state().await, "online");
    }
    agent.beat(json!({"status": "offline"})).await.expect(200);
    agent.complete(&task).await.expect(200);
    agent.beat(json!({"status": "healthy"})).await.expect(200);
    agent.take().await;
}

#[tokio::test]
async fn a_busy_agent_gets_no_work_until_it_is_healthy_again() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    agent.beat(json!({"status": "busy"})).await.expect(200);
    assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    // A poll that waits through it is served as soon as the agent is well.
    let body = json!({"request_id": "r", "wait_seconds": 5});
    let poll = server.park(&agent, "/tasks/lease", Some(body)).await;
    agent.beat(json!({"status": "busy", "current_load": 1})).await.expect(200);
    agent.beat(json!({"status": "degraded"})).await.expect(200);
    let answer = crate::harness::in_time("the poll is served", poll).await.expect("it does not panic");
    assert_eq!(answer.expect(200)["tasks"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_agent_may_tell_more_than_we_know_of() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let body = json!({
        "status": "healthy", "work_loop": {"state": "polling", "last_poll_at": 1_800_000_000.5, "more": 1},
        "timestamp": 1_800_000_000, "ack": ["a-directive-of-long-ago"], "battery": {"percent": 12}, "seq": null,
    });
    agent.beat(body).await.expect(200);
}

#[tokio::test]
async fn a_cancelled_task_is_told_to_an_agent_that_lists_none() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let task = agent.take().await;
    server.operator().cancel(&id_of(&task), None).await.expect(200);
    let directive = json!({
        "id": task["lease_id"], "type": "cancel", "task_id": task["task_id"], "lease_id": task["lease_id"],
        "cause": "cancelled",
    });
    for _ in 0..2 {
        let reply = agent.beat(json!({"status": "healthy"})).await.expect(200);
        assert_eq!(reply["directives"], json!([directive]), "until it is acknowledged");
    }
    let reply = agent.beat(json!({"status": "healthy", "ack": [task["lease_id"]]})).await.expect(200);
    assert_eq!(reply["directives"], json!([]));
    let reply = agent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(reply["directives"], json!([]), "what was acknowledged is not told again");
}
