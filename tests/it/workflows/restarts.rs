//! The same database under a new server: workflows go on where they were.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{TaskEvent, TaskPolicy};
use eap_orchestrator::SystemClock;
use eap_orchestrator::store::{Ask, Demand, Repository as _, SqliteOptions, SqliteStore};
use eap_types::LeaseId;
use serde_json::json;
use tempfile::TempDir;

use super::flow::{drafter, ended, input, reviewer, session, started, two_steps, work};
use crate::harness::{Agent, Server, Setup, eventually};

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&path).start().await;
    let (drafter, reviewer) = (drafter(&first).await, reviewer(&first).await);
    let workflow = two_steps();
    let (done, held, waiting) = (
        started(&first, &workflow, json!({})).await,
        started(&first, &workflow, json!({})).await,
        started(&first, &workflow, json!({})).await,
    );
    work(&drafter, json!({"draft": 1})).await;
    let task = drafter.take().await;
    let shown = [session(&first, &done).await, session(&first, &held).await, session(&first, &waiting).await];
    first.stop().await;

    let second = Setup::sqlite_at(&path).start().await;
    let at = |agent: &Agent| Agent { api: second.api.clone(), ..agent.clone() };
    let (drafter, reviewer) = (at(&drafter), at(&reviewer));
    for (id, before) in [&done, &held, &waiting].into_iter().zip(shown) {
        assert_eq!(session(&second, id).await, before);
    }
    assert_eq!(input(&work(&reviewer, json!({})).await)["previous"], json!({"draft": 1}));
    assert_eq!(ended(&second, &done).await["status"], "completed");
    drafter.complete(&task).await.expect(200);
    drafter.complete(&drafter.take().await).await.expect(200);
    for _ in 0..2 {
        work(&reviewer, json!({})).await;
    }
    for id in [&held, &waiting] {
        assert_eq!(ended(&second, id).await["status"], "completed");
    }
    second.stop().await;
}

async fn listed(server: &Server, status: &str) -> usize {
    let page = server.operator().get(&format!("/api/v1/sessions?status={status}")).send().await.expect(200);
    page["sessions"].as_array().unwrap().len()
}

/// A server that dies between the claim of a first step and the note of it leaves a session that says it has not begun.
#[tokio::test]
async fn a_session_learns_after_a_restart_that_an_agent_has_begun() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&path).start().await;
    let (_drafter, _reviewer) = (drafter(&first).await, reviewer(&first).await);
    let id = started(&first, &two_steps(), json!({})).await;
    let paused = started(&first, &two_steps(), json!({})).await;
    first.operator().post(&format!("/api/v1/sessions/{paused}/pause")).send().await.expect(200);
    first.stop().await;

    let store = SqliteStore::open(&path, Arc::new(SystemClock::new()), SqliteOptions::default()).unwrap();
    let agents = store.agents().await.unwrap();
    let agent = agents.into_iter().map(|(stored, _)| stored.record).find(|agent| agent.name.as_str() == "AGENT-DRAFT");
    let ask = Ask {
        agent: Arc::new(agent.expect("it is registered")),
        max_tasks: 2,
        request_id: None,
        task_types: None,
        lease: Duration::from_secs(60),
    };
    let policy = TaskPolicy::default();
    let claims = store.claim(
        Demand { asks: vec![ask] },
        Arc::new(move |task, ask, now| {
            let mut id = *task.id().as_bytes();
            id.reverse();
            let event = TaskEvent::Assign {
                agent: ask.agent.id.clone(),
                epoch: ask.agent.epoch,
                lease_id: LeaseId::from_bytes(id),
                request_id: None,
                length: ask.lease,
            };
            Ok(task.apply(event, now, &policy)?.changed().expect("a claim changes a task"))
        }),
    );
    assert_eq!(claims.await.unwrap().answers[0].tasks.len(), 2);
    store.close().await.unwrap();
    drop(store);

    let second = Setup::sqlite_at(&path).start().await;
    eventually("it is known to run", async || (listed(&second, "running").await == 1).then_some(())).await;
    assert_eq!((session(&second, &id).await["status"].clone(), listed(&second, "paused").await), (json!("running"), 1));
    let resumed = second.operator().post(&format!("/api/v1/sessions/{paused}/resume")).send().await.expect(200);
    assert_eq!((&resumed["status"], listed(&second, "running").await), (&json!("running"), 2));
    second.stop().await;
}
