//! Workflows over a store that fails: each chain ends once, and trouble is not made worse.

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::store::faulty::{Fault, FaultOdds, FaultyStore, StoreCall};
use eap_orchestrator::store::{MemoryStore, Repository};
use eap_orchestrator::{SystemClock, SystemEntropy};
use serde_json::{Value, json};

use super::flow::{drafter, ended, keep, reviewer, started, two_steps, words};
use crate::harness::{Agent, Answer, Setup, eventually};

fn memory() -> Arc<dyn Repository> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock::new())))
}

fn over(store: &Arc<FaultyStore>, sweep: Duration) -> Setup {
    Setup::store(Arc::clone(store) as Arc<dyn Repository>).config(|config| config.timing.sweep_interval = sweep)
}

/// Makes a call, again while the store is in trouble.
async fn until_answered(what: &str, call: impl AsyncFn() -> Answer) -> Answer {
    eventually(what, async || Some(call().await).filter(|answer| answer.status != 503)).await
}

/// Takes the next task and reports it done, as an agent that knows of retries.
async fn work_on(agent: &Agent, request: &str) -> Value {
    let body = json!({"request_id": request, "max_tasks": 1, "wait_seconds": 0});
    let leased = eventually("there is a task", async || {
        Some(agent.lease(body.clone()).await).filter(|answer| answer.status == 200)
    });
    let task = leased.await.body["tasks"][0].clone();
    let result = json!({"status": "completed", "output_data": {"by": request}});
    until_answered("the result is recorded", async || agent.report_for(&task, result.clone()).await).await.expect(200);
    task
}

#[tokio::test]
async fn each_chain_ends_once_however_the_store_fails() {
    let mut odds = FaultOdds::default();
    (odds.conflict, odds.unavailable, odds.answer_lost, odds.slow) = (150, 80, 80, 20);
    let store = Arc::new(FaultyStore::new(memory()).with_random(Arc::new(SystemEntropy), odds));
    store.heal();
    let server = over(&store, Duration::from_millis(50)).start().await;
    let (drafter, reviewer) = (drafter(&server).await, reviewer(&server).await);
    keep(&server, &two_steps()).await.expect(201);
    store.resume();
    for number in 0..15 {
        let start = async || {
            let call = server.operator().post("/api/v1/workflows/wf-1/runs");
            call.header("idempotency-key", &format!("k{number}")).json(&json!({})).send().await
        };
        until_answered("it is started", start).await.expect(202);
        work_on(&drafter, &format!("d{number}")).await;
        work_on(&reviewer, &format!("r{number}")).await;
    }
    store.heal();
    let struck = store.counts();
    assert!(struck.conflicts > 0 && struck.unavailable > 0 && struck.answers_lost > 0, "{struck:?}");
    let page = server.operator().get("/api/v1/sessions?limit=500").send().await.expect(200);
    let sessions = page["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 15, "each start is one session");
    for session in sessions {
        let id = session["sessionId"].as_str().unwrap();
        let done = ended(&server, id).await;
        assert_eq!((&done["status"], words(&done)), (&json!("completed"), vec!["completed", "completed"]), "{done}");
    }
    let tasks = server.operator().list("limit=500").await["tasks"].as_array().unwrap().len();
    assert_eq!(tasks, 30, "no step began twice");
    server.stop().await;
}

/// What cannot be written now is tried again, and the store is left alone in between.
#[tokio::test]
async fn that_a_session_began_is_written_once_the_store_is_well_again() {
    let store = Arc::new(FaultyStore::new(memory()));
    let server = over(&store, Duration::from_millis(100)).start().await;
    let (drafter, _reviewer) = (drafter(&server).await, reviewer(&server).await);
    let id = started(&server, &two_steps(), json!({})).await;
    store.inject(StoreCall::Commit, Fault::Full(Duration::from_secs(1)));
    let body = json!({"request_id": "r", "max_tasks": 1, "wait_seconds": 0});
    eventually("it is taken", async || (drafter.lease(body.clone()).await.status == 200).then_some(())).await;
    eventually("it is known to run", async || {
        let page = server.operator().get("/api/v1/sessions?status=running").send().await.expect(200);
        (page["sessions"][0]["sessionId"] == id.as_str()).then_some(())
    })
    .await;
    let refused = store.counts().full;
    assert!((1..200).contains(&refused), "{refused} writes met the full disk");
    server.stop().await;
}
