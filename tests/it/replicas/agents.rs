//! Agents that register with one replica and call another one.

use std::time::Duration;

use eap_orchestrator::Config;
use serde_json::json;

use super::{Pair, as_it_is, at, over_both};
use crate::harness::{REGISTRATION_SECRET, Socket, eventually, id_of, registration};

over_both! {
    as_it_is => a_token_is_live_everywhere_at_once_and_dead_within_a_second, an_identity_is_one_agent_wherever_it_registers,
        a_repeated_registration_makes_one_agent, a_rotated_token_works_where_it_was_not_given_out,
        an_agent_that_is_drained_at_one_gets_nothing_at_the_other, what_an_agent_said_at_one_is_shown_at_the_other,
        an_agent_has_one_socket_and_the_newer_one_counts, a_breaker_opens_for_all_of_them;
    forgetful => an_agent_that_was_purged_by_one_is_forgotten_by_the_other;
}

fn forgetful(config: &mut Config) {
    config.timing.keep_agents = Duration::from_secs(2);
}

async fn a_token_is_live_everywhere_at_once_and_dead_within_a_second(Pair { a, b, .. }: Pair) {
    for round in 0..5 {
        let agent = a.agent(&format!("AGENT-{round}")).await;
        at(&b, &agent).beat(json!({"status": "healthy"})).await.expect(200);
        assert_eq!(b.operator().agent(&agent.id).await.expect(200)["agent_id"], json!(agent.id));
        agent.deregister().await.expect(200);
        tokio::time::sleep(Duration::from_secs(1)).await;
        at(&b, &agent).beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    }
}

async fn an_identity_is_one_agent_wherever_it_registers(Pair { a, b, .. }: Pair) {
    let first = a.agent("AGENT-A").await;
    let second = b.agent("AGENT-A").await;
    let third = a.agent("AGENT-A").await;
    assert_eq!((&first.id, &second.id), (&third.id, &third.id));
    at(&b, &first).beat(json!({"status": "healthy"})).await.problem(401, "INVALID_TOKEN");
    at(&b, &third).beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(b.operator().agent(&third.id).await.expect(200)["epoch"], json!(3));
    // At once, at both.
    let (one, other) = tokio::join!(a.agent("AGENT-B"), b.agent("AGENT-B"));
    assert_eq!(one.id, other.id);
}

async fn a_repeated_registration_makes_one_agent(Pair { a, b, .. }: Pair) {
    let body = registration("AGENT-A", json!({"instance_id": null}));
    let mut ids = Vec::new();
    for server in [&a, &b, &a] {
        let call = server.api.post("/api/v1/agents/external/register").header("idempotency-key", "one");
        let call = call.header("x-registration-token", REGISTRATION_SECRET).json(&body);
        ids.push(call.send().await.expect(201)["agent_id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(b.operator().agents().await.len(), 1);
}

async fn a_rotated_token_works_where_it_was_not_given_out(Pair { a, b, .. }: Pair) {
    let mut agent = a.agent("AGENT-A").await;
    at(&b, &agent).beat(json!({"status": "healthy"})).await.expect(200);
    for server in [&b, &a, &b] {
        let rotated = at(server, &agent).call("/token/rotate").send().await.expect(200);
        agent.token = rotated["auth_token"].as_str().expect("a token is told").to_owned();
        for server in [&a, &b] {
            at(server, &agent).beat(json!({"status": "healthy"})).await.expect(200);
        }
    }
}

async fn an_agent_that_is_drained_at_one_gets_nothing_at_the_other(Pair { a, b, .. }: Pair) {
    let agent = a.agent("AGENT-A").await;
    let drain = format!("/api/v1/agents/{}/drain", agent.id);
    b.operator().post(&drain).send().await.expect(200);
    assert_eq!(a.operator().agent(&agent.id).await.expect(200)["drain"]["acknowledged"], json!(false));
    let reply = agent.beat(json!({"status": "healthy", "tasks": []})).await.expect(200);
    let directive = reply["directives"].as_array().expect("it is told").first().expect("of the drain").clone();
    assert_eq!(directive["type"], json!("drain"));
    // What it has heard at one is not repeated at the other, once that one knows.
    agent.beat(json!({"status": "healthy", "tasks": [], "ack": [directive["id"]]})).await.expect(200);
    at(&b, &agent).beat(json!({"status": "healthy", "tasks": [], "ack": [directive["id"]]})).await.expect(200);
    let reply = at(&b, &agent).beat(json!({"status": "healthy", "tasks": []})).await.expect(200);
    assert_eq!(reply.get("directives").and_then(|list| list.as_array()).map_or(0, Vec::len), 0, "{reply:?}");
    let id = a.operator().submit(json!({})).await;
    assert!(agent.take_up_to(1).await.is_empty());
    let resume = format!("/api/v1/agents/{}/resume", agent.id);
    a.operator().post(&resume).send().await.expect(200);
    assert_eq!(id_of(&at(&b, &agent).wait_for_task().await), id);
}

async fn what_an_agent_said_at_one_is_shown_at_the_other(Pair { a, b, .. }: Pair) {
    let agent = a.agent("AGENT-A").await;
    agent.beat(json!({"status": "healthy", "current_load": 0.25, "seq": 1})).await.expect(200);
    at(&b, &agent).beat(json!({"status": "busy", "current_load": 0.75, "seq": 2})).await.expect(200);
    eventually("both show its last word", async || {
        let (here, there) =
            (a.operator().agent(&agent.id).await.expect(200), b.operator().agent(&agent.id).await.expect(200));
        (here["current_load"] == json!(0.75) && there["current_load"] == json!(0.75)).then_some(())
    })
    .await;
    // It asks at one whom it told that it is free again at the other.
    let waiting = a.park(&agent, "/tasks/lease", Some(json!({"request_id": "one", "wait_seconds": 20}))).await;
    let id = a.operator().submit(json!({})).await;
    at(&b, &agent).beat(json!({"status": "healthy", "seq": 3})).await.expect(200);
    let given = waiting.await.expect("it is answered").expect(200);
    assert_eq!(given["tasks"][0]["task_id"], json!(id));
}

async fn an_agent_has_one_socket_and_the_newer_one_counts(Pair { a, b, .. }: Pair) {
    let agent = a.agent("AGENT-A").await;
    let mut first = Socket::greet(&a, &agent, &[]).await;
    first.send("agent.credit", json!({"tasks": 1})).await;
    let mut second = Socket::greet(&b, &at(&b, &agent), &[]).await;
    assert_eq!(first.close_code().await, 4409);
    second.send("agent.credit", json!({"tasks": 1})).await;
    let id = a.operator().submit(json!({})).await;
    let task = second.assigned().await.remove(0);
    assert_eq!(id_of(&task), id);
    second.complete(&task).await;
    // And back.
    let _third = Socket::greet(&a, &agent, &[]).await;
    assert_eq!(second.close_code().await, 4409);
}

async fn a_breaker_opens_for_all_of_them(Pair { a, b, .. }: Pair) {
    let agent = a.agent("AGENT-A").await;
    for number in 0..6 {
        let server = if number % 2 == 0 { &a } else { &b };
        let id = server.operator().submit(json!({"max_attempts": 1})).await;
        let agent = at(server, &agent);
        let task = agent.take().await;
        assert_eq!(id_of(&task), id);
        agent.fail(&task, json!({})).await.expect(200);
        if a.operator().agent(&agent.id).await.expect(200)["track_record"]["breaker"] == json!("open") {
            break;
        }
    }
    for server in [&a, &b] {
        eventually("its breaker is open here", async || {
            let shown = server.operator().agent(&agent.id).await.expect(200);
            (shown["track_record"]["breaker"] == json!("open") && shown["track_record"]["results"] == json!(5))
                .then_some(())
        })
        .await;
        server.operator().submit(json!({})).await;
        assert!(at(server, &agent).take_up_to(1).await.is_empty());
    }
}

async fn an_agent_that_was_purged_by_one_is_forgotten_by_the_other(pair: Pair) {
    let agent = pair.a.agent("AGENT-A").await;
    at(&pair.b, &agent).beat(json!({"status": "healthy"})).await.expect(200);
    agent.deregister().await.expect(200);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    // The sweepers look for what is old once a minute, and when they begin.
    let third = pair.another(forgetful).await;
    eventually("it is purged", async || (third.operator().agent(&agent.id).await.status == 404).then_some(())).await;
    let again = pair.b.agent("AGENT-A").await;
    assert_ne!(again.id, agent.id, "it is not the one that was purged");
}
