//! How work reaches agents that ask for it (A14–A18; G17).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::harness::{Agent, Answer, Peer, Server, assert_shape, assignment_shape, id_of, in_time, request, work};

const NOTHING: [Value; 0] = [];

/// A lease request that waits, on its way.
fn poll(agent: &Agent, body: Value) -> JoinHandle<Answer> {
    let agent = agent.clone();
    tokio::spawn(async move { agent.lease(body).await })
}

async fn answer(poll: JoinHandle<Answer>) -> Answer {
    in_time("the poll is answered", poll).await.expect("a poll does not panic")
}

/// The tasks of an answer that has some.
#[track_caller]
fn tasks(answer: Answer) -> Vec<Value> {
    answer.expect(200)["tasks"].as_array().expect("tasks are a list").clone()
}

#[tokio::test]
async fn a_lease_reply_carries_all_that_an_agent_needs_to_know() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    let session = "01890a5d-ac96-774b-bcce-b302099a8057";
    let members = json!({
        "input": {"text": "Guten  Morgen", "n": [1, 2]}, "context": {"lang": "de"}, "requirements": ["be polite"],
        "session_id": session, "priority": 0, "timeout_seconds": 120, "max_attempts": 2,
    });
    let body = work(members);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let submit = server.operator().post("/api/v1/tasks").header("traceparent", trace);
    submit.json(&body).send().await.expect(201);
    let shape = assignment_shape(json!({
        "input_data": r#"{"n":[1,2],"text":"Guten  Morgen"}"#, "context": {"lang": "de"},
        "requirements": ["be polite"], "session_id": session, "priority": 0, "timeout_seconds": 120,
        "max_attempts": 2, "lease_expires_in_ms": 60_000, "lease_expires_at": "2027-01-15T08:01:00Z",
        "traceparent": trace,
    }));
    assert_shape(&agent.take().await, &shape);
}

#[tokio::test]
async fn a_text_travels_as_it_is_and_anything_else_as_compact_json() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let inputs = [
        (r#""two  spaces\n and é""#, "two  spaces\n and é"),
        (r#" [1,  2.50, "a  b"] "#, r#"[1,2.50,"a  b"]"#),
        ("12345678901234567890.123", "12345678901234567890.123"),
        ("true", "true"),
        (r#""""#, ""),
    ];
    for (input, expected) in inputs {
        let body = format!(r#"{{"task_type": "work", "input": {input}}}"#);
        server.operator().post("/api/v1/tasks").bytes(body).send().await.expect(201);
        assert_eq!(agent.take().await["input_data"], expected);
    }
}

#[tokio::test]
async fn a_poll_without_work_is_answered_204_after_its_wait() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let start = Instant::now();
    let lease = agent.lease(json!({"request_id": "r", "wait_seconds": 1})).await;
    let waited = start.elapsed();
    lease.expect(204);
    assert!(waited >= Duration::from_millis(900), "at most 10 % earlier: {waited:?}");
    assert!(waited < Duration::from_millis(1900), "and hardly later: {waited:?}");
    let task = server.operator().submit(json!({})).await;
    assert_eq!(server.operator().task(&task).await["attempt"], 0, "nothing is bound to the poll");
    agent.lease(json!({"request_id": "r", "wait_seconds": 0})).await.expect(200);
}

#[tokio::test]
async fn the_same_request_again_gives_the_same_tasks_and_attempts() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    for _ in 0..4 {
        server.operator().submit(json!({})).await;
    }
    let body = json!({"request_id": "r", "max_tasks": 2, "wait_seconds": 0});
    let (first, again) = (tasks(agent.lease(body.clone()).await), tasks(agent.lease(body.clone()).await));
    let key = |task: &Value| (task["task_id"].clone(), task["lease_id"].clone(), task["attempt"].clone());
    assert_eq!(first.len(), 2);
    assert_eq!(first.iter().map(key).collect::<Vec<_>>(), again.iter().map(key).collect::<Vec<_>>());
    // While one of them runs the answer is that one; an id is free once all its leases have ended.
    agent.complete(&first[0]).await.expect(200);
    assert_eq!(tasks(agent.lease(body.clone()).await).iter().map(key).collect::<Vec<_>>(), [key(&first[1])]);
    agent.complete(&first[1]).await.expect(200);
    let fresh = tasks(agent.lease(body).await);
    assert_eq!(fresh.len(), 2);
    assert!(fresh.iter().all(|task| key(task) != key(&first[0]) && key(task) != key(&first[1])));
}

#[tokio::test]
async fn a_request_id_is_the_agents_own() {
    let server = Server::start().await;
    let (one, two) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    server.operator().submit(json!({})).await;
    server.operator().submit(json!({})).await;
    let body = json!({"request_id": "r", "wait_seconds": 0});
    let (of_one, of_two) = (tasks(one.lease(body.clone()).await), tasks(two.lease(body).await));
    assert_ne!(id_of(&of_one[0]), id_of(&of_two[0]));
}

#[tokio::test]
async fn a_parked_poll_is_replaced_by_its_repeat() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let body = json!({"request_id": "r", "wait_seconds": 20});
    let first = server.park(&agent, "/tasks/lease", Some(body.clone())).await;
    let second = poll(&agent, body);
    answer(first).await.expect(204);
    server.operator().submit(json!({})).await;
    assert_eq!(tasks(answer(second).await).len(), 1);
}

#[tokio::test]
async fn two_racing_calls_with_one_request_id_get_the_same_tasks() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    for _ in 0..5 {
        server.operator().submit(json!({})).await;
    }
    let body = json!({"request_id": "r", "wait_seconds": 5});
    let polls: Vec<_> = (0..3).map(|_| poll(&agent, body.clone())).collect();
    let mut seen = Vec::new();
    for poll in polls {
        seen.push(id_of(&tasks(answer(poll).await)[0]));
    }
    assert!(seen.iter().all(|id| *id == seen[0]), "{seen:?}");
    assert_eq!(server.operator().list("status=leased").await["tasks"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_task_wakes_one_waiter_and_not_all() {
    let server = Server::start().await;
    let mut polls = Vec::new();
    for number in 0..4 {
        let agent = server.agent(&format!("AGENT-{number}")).await;
        let body = json!({"request_id": "r", "wait_seconds": 1});
        polls.push(server.park(&agent, "/tasks/lease", Some(body)).await);
    }
    let task = server.operator().submit(json!({})).await;
    let mut served = Vec::new();
    for poll in polls {
        let answer = answer(poll).await;
        if answer.status == 200 {
            served.extend(tasks(answer));
        } else {
            answer.expect(204);
        }
    }
    assert_eq!(served.len(), 1);
    assert_eq!(id_of(&served[0]), task);
    assert_eq!(server.operator().outcomes(&task).await, ["open"]);
}

#[tokio::test]
async fn the_longest_waiting_agent_is_served_first() {
    let server = Server::start().await;
    let (first, second) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let body = || Some(json!({"request_id": "r", "wait_seconds": 20}));
    let poll_first = server.park(&first, "/tasks/lease", body()).await;
    let poll_second = server.park(&second, "/tasks/lease", body()).await;
    let task = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&tasks(answer(poll_first).await)[0]), task);
    let task = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&tasks(answer(poll_second).await)[0]), task);
}

#[tokio::test]
async fn an_agent_that_hangs_up_leaves_the_waiters_and_costs_no_attempt() {
    let server = Server::start().await;
    let (gone, there) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    for path in ["/tasks/lease", "/tasks/next"] {
        let before = server.last_seen(&gone).await;
        let mut peer = Peer::connect(server.address).await;
        let line = format!("POST {}", gone.path(path));
        let body = r#"{"request_id": "r", "wait_seconds": 60}"#;
        peer.send(&request(&line, &[format!("x-agent-token: {}", gone.token)], body)).await;
        server.until_it_waits(&gone, &before).await;
        let body = json!({"request_id": path, "wait_seconds": 20});
        let waiting = server.park(&there, "/tasks/lease", Some(body)).await;
        drop(peer);
        // The end of the connection is there already; an exchange later the server has seen it.
        for _ in 0..3 {
            server.api.get("/health").send().await.expect(200);
        }
        let task = server.operator().submit(json!({})).await;
        let taken = tasks(answer(waiting).await);
        assert_eq!((id_of(&taken[0]), &taken[0]["attempt"]), (task, &json!(1)));
    }
}

#[tokio::test]
async fn a_task_that_met_a_caller_who_had_hung_up_is_done_by_another_all_the_same() {
    let server = Server::start().await;
    let (gone, there) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    for _ in 0..20 {
        // The hang-up and the submit race: whoever wins, the task must not wait for a lease to lapse.
        let mut peer = Peer::connect(server.address).await;
        let token = format!("x-agent-token: {}", gone.token);
        peer.send(&request(&format!("POST {}", gone.path("/tasks/next")), &[token], "")).await;
        let waiting = poll(&there, json!({"request_id": "r", "wait_seconds": 20}));
        let operator = server.operator();
        let submit = tokio::spawn(async move { operator.submit(json!({})).await });
        drop(peer);
        let task = submit.await.expect("a submit does not panic");
        let taken = tasks(answer(waiting).await);
        assert_eq!(id_of(&taken[0]), task);
        there.complete(&taken[0]).await.expect(200);
        let outcomes = server.operator().outcomes(&task).await;
        assert!(outcomes == ["completed"] || outcomes == ["released", "completed"], "{outcomes:?}");
    }
}

#[tokio::test]
async fn no_agent_gets_more_than_its_max_concurrent_tasks() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 2})).await;
    for _ in 0..5 {
        server.operator().submit(json!({})).await;
    }
    let held = agent.take_up_to(100).await;
    assert_eq!(held.len(), 2);
    assert_eq!(agent.take_up_to(1).await, NOTHING);
    agent.next(json!({"wait_seconds": 0})).await.expect(204);
    // A poll that waits is served as soon as there is room, and not with more than there is room for.
    let waiting = poll(&agent, json!({"request_id": "r", "max_tasks": 100, "wait_seconds": 20}));
    agent.complete(&held[0]).await.expect(200);
    assert_eq!(tasks(answer(waiting).await).len(), 1);
    assert_eq!(agent.take_up_to(100).await, NOTHING);
}

#[tokio::test]
async fn polls_that_race_for_the_last_place_get_one_task_between_them() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 3})).await;
    for _ in 0..10 {
        server.operator().submit(json!({})).await;
    }
    let body = |number| json!({"request_id": format!("r{number}"), "max_tasks": 2, "wait_seconds": 0});
    let polls: Vec<_> = (0..4).map(|number| poll(&agent, body(number))).collect();
    let mut count = 0;
    for poll in polls {
        let answer = answer(poll).await;
        count += if answer.status == 200 { tasks(answer).len() } else { 0 };
    }
    assert_eq!(count, 3);
}

#[tokio::test]
async fn an_agents_fifth_poll_is_told_to_come_again() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let mut polls = Vec::new();
    for number in 0..4 {
        let body = json!({"request_id": format!("r{number}"), "wait_seconds": 20});
        polls.push(server.park(&agent, "/tasks/lease", Some(body)).await);
    }
    agent.lease(json!({"request_id": "fifth", "wait_seconds": 20})).await.problem(429, "RATE_LIMITED");
    agent.next(json!({"wait_seconds": 20})).await.problem(429, "RATE_LIMITED");
    // One that does not wait takes no place, and a repeat takes the place of its first.
    agent.next(json!({"wait_seconds": 0})).await.expect(204);
    let again = poll(&agent, json!({"request_id": "r0", "wait_seconds": 20}));
    answer(std::mem::replace(&mut polls[0], again)).await.expect(204);
    // Another agent is not concerned, and the four are served.
    let other = server.agent("AGENT-B").await;
    assert_eq!(other.take_up_to(1).await, NOTHING);
    for _ in 0..4 {
        server.operator().submit(json!({})).await;
    }
    for poll in polls {
        assert_eq!(tasks(answer(poll).await).len(), 1);
    }
}

#[tokio::test]
async fn tasks_next_needs_no_body_and_gives_one_assignment() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    server.operator().submit(json!({})).await;
    let first = agent.call("/tasks/next").send().await.expect(200);
    assert_shape(&first, &assignment_shape(json!({})));
    let second = agent.next(json!({"wait_seconds": 5, "task_types": ["work"]})).await.expect(200);
    assert_ne!(id_of(&first), id_of(&second));
    agent.next(json!({"wait_seconds": 0})).await.expect(204);
}

#[tokio::test]
async fn tasks_next_waits_as_long_as_it_says() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let waiting = server.park(&agent, "/tasks/next", None).await;
    let task = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&answer(waiting).await.expect(200)), task);
}

#[tokio::test]
async fn an_agent_may_ask_for_some_of_its_task_types() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"capabilities": ["work", "translate"]})).await;
    server.operator().submit(json!({})).await;
    let other = server.operator().submit(json!({"task_type": "translate"})).await;
    let body = json!({"request_id": "r", "wait_seconds": 0, "max_tasks": 10, "task_types": ["Translate", "x"]});
    let taken = tasks(agent.lease(body).await);
    assert_eq!(taken.iter().map(id_of).collect::<Vec<_>>(), [other]);
    agent.next(json!({"wait_seconds": 0, "task_types": []})).await.expect(204);
    agent.take().await;
}

#[tokio::test]
async fn a_task_goes_only_to_an_agent_with_its_capabilities_and_labels() {
    let server = Server::start().await;
    let plain = server.agent("AGENT-PLAIN").await;
    let eu = server.agent_with("AGENT-EU", json!({"labels": {"region": "eu", "gpu": "yes"}})).await;
    let poet = server.agent_with("AGENT-POET", json!({"capabilities": ["write", "rhyme", "work"]})).await;
    let submit = async |members: Value| server.operator().submit(members).await;

    let labelled = submit(json!({"labels": {"region": "eu"}})).await;
    assert_eq!((plain.take_up_to(5).await, poet.take_up_to(5).await), (vec![], vec![]));
    assert_eq!(id_of(&eu.take().await), labelled);

    // Required capabilities take the place of the task type.
    let rhyme = submit(json!({"task_type": "anything", "required_capabilities": ["Rhyme", "write"]})).await;
    assert_eq!((plain.take_up_to(5).await, eu.take_up_to(5).await), (vec![], vec![]));
    let taken = poet.take().await;
    assert_eq!((id_of(&taken), &taken["task_type"]), (rhyme, &json!("anything")));

    let mine = submit(json!({"agent_id": plain.id})).await;
    assert_eq!((poet.take_up_to(5).await, eu.take_up_to(5).await), (vec![], vec![]));
    assert_eq!(id_of(&plain.take().await), mine);

    let nobody = submit(json!({"labels": {"region": "eu", "gpu": "no"}})).await;
    for agent in [&plain, &eu, &poet] {
        assert_eq!(agent.take_up_to(5).await, NOTHING);
    }
    assert_eq!(server.operator().task(&nobody).await["no_capable_agent"], true);
    // Words in `requirements` are passed through and never matched.
    submit(json!({"requirements": ["rhyme"]})).await;
    assert_eq!(plain.take().await["requirements"], json!(["rhyme"]));
}

#[tokio::test]
async fn tasks_are_handed_out_by_priority_and_then_by_age() {
    let server = Server::start().await;
    let mut submitted = Vec::new();
    for priority in [2, 4, 0, 2, 1, 0, 3] {
        submitted.push((priority, server.operator().submit(json!({"priority": priority})).await));
    }
    submitted.sort_by_key(|(priority, _)| *priority);
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 10})).await;
    let mut taken: Vec<Value> = agent.take_up_to(3).await;
    taken.extend(agent.take_up_to(10).await);
    let ids: Vec<String> = taken.iter().map(id_of).collect();
    assert_eq!(ids, submitted.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_poll_wakes_for_work_that_comes_through_any_door() {
    let server = Server::start().await;
    let (waiter, holder) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let body = || Some(json!({"request_id": "r", "wait_seconds": 20}));
    // Another agent gives its task back at once.
    server.operator().submit(json!({"agent_id": holder.id})).await;
    holder.take().await;
    let task = server.operator().submit(json!({})).await;
    holder.take().await;
    let waiting = server.park(&waiter, "/tasks/lease", body()).await;
    holder.release(&task, Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    let taken = tasks(answer(waiting).await);
    assert_eq!((id_of(&taken[0]), &taken[0]["attempt"]), (task, &json!(2)));
    waiter.complete(&taken[0]).await.expect(200);
    // Another agent leaves.
    let task = server.operator().submit(json!({})).await;
    holder.take().await;
    let waiting = server.park(&waiter, "/tasks/lease", body()).await;
    holder.deregister().await.expect(200);
    assert_eq!(id_of(&tasks(answer(waiting).await)[0]), task);
}

#[tokio::test]
async fn an_agent_without_a_fitting_task_waits_while_others_are_served() {
    let server = Server::start().await;
    let (worker, poet) =
        (server.agent("AGENT-A").await, server.agent_with("AGENT-P", json!({"capabilities": ["rhyme"]})).await);
    let body = json!({"request_id": "r", "wait_seconds": 20});
    let waiting = server.park(&poet, "/tasks/lease", Some(body)).await;
    server.operator().submit(json!({})).await;
    worker.take().await;
    let task = server.operator().submit(json!({"task_type": "rhyme"})).await;
    assert_eq!(id_of(&tasks(answer(waiting).await)[0]), task);
}
