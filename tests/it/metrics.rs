//! `/metrics` tells the truth (I11; issue 3, acceptance 4), to those who may hear it.

mod hour;
pub(crate) mod page;
mod truth;

use std::sync::Arc;

use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore};
use eap_orchestrator::{Access, Clock, ManualClock};
use eap_types::Timestamp;
use serde_json::json;

use self::hour::Hour;
use self::page::{Page, refused};
use crate::harness::{OPERATOR_KEY, START, Server, Setup, Socket, work};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_seconds(START)))
}

/// I11. The restart in the middle is that of a process: counters begin at zero, gauges are right at once.
#[tokio::test]
async fn the_metrics_of_an_hour_are_what_the_store_holds_in_sqlite() {
    let (dir, clock) = (tempfile::tempdir().expect("there is room"), clock());
    let open = || -> Arc<dyn Repository> {
        let store = SqliteStore::open(
            dir.path().join("eap.db"),
            Arc::clone(&clock) as Arc<dyn Clock>,
            SqliteOptions::default(),
        );
        Arc::new(store.expect("the file is free"))
    };
    let mut hour = Hour::begin(open(), Arc::clone(&clock)).await;
    hour.half().await;
    hour.compare().await;
    let mut hour = hour.restart(open).await;
    hour.half().await;
    hour.compare().await;
}

#[tokio::test]
async fn the_metrics_of_an_hour_are_what_the_store_holds_in_memory() {
    let clock = clock();
    let store = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
    // Another handle on the same data, as a restart would find it.
    let kept = store.clone();
    let mut hour = Hour::begin(Arc::new(store), Arc::clone(&clock)).await;
    hour.half().await;
    hour.compare().await;
    let mut hour = hour.restart(|| Arc::new(kept)).await;
    hour.half().await;
    hour.compare().await;
}

#[tokio::test]
async fn two_orchestrators_of_one_process_count_apart() {
    let (one, other) = (Server::start().await, Server::start().await);
    one.operator().submit(json!({})).await;
    let submitted = "eap_events_total{kind=\"task.submitted\"}";
    assert_eq!(Page::of(&one).await.get(submitted), 1.0);
    assert_eq!(Page::of(&other).await.get(submitted), 0.0);
}

#[tokio::test]
async fn metrics_need_a_key_as_other_reading_does() {
    let server = Server::start().await;
    for key in [None, Some("canary-wrong-key-0123456789")] {
        refused(&server, key).await.problem(401, "INVALID_TOKEN");
    }
    server.operator().post("/metrics").json(&json!({})).send().await.problem(405, "METHOD_NOT_ALLOWED");
    let setup = Setup::memory().config(|config| {
        config.operator_key = None;
        config.access = Access::Loopback;
    });
    let open = setup.start().await;
    assert_eq!(refused_or_not(&open, None).await, 200, "loopback may go without a key that is not configured");
    assert_eq!(refused_or_not(&open, Some("192.0.2.7")).await, 401, "a proxy's caller is not local");
}

async fn refused_or_not(server: &Server, forwarded: Option<&str>) -> u16 {
    let call = server.api.get("/metrics");
    match forwarded {
        Some(address) => call.header("x-forwarded-for", address).page().await.0,
        None => call.page().await.0,
    }
}

/// T9. What callers send shows in no label.
#[tokio::test]
async fn nothing_that_callers_send_makes_a_label_but_a_task_type() {
    let server = Server::start().await;
    let body = work(json!({"task_type": "canary.type", "input": "canary-input", "labels": {"canary": "label"}}));
    server.operator().try_submit(&body).await.expect(201);
    let agent = server.agent_with("CANARY-AGENT", json!({"metadata": {"canary": 1}})).await;
    agent.beat(json!({"status": "healthy", "metrics": {"canary_gauge": 1}})).await.expect(200);
    server.api.get("/canary-path?canary=query").send().await.problem(404, "NOT_FOUND");
    server.api.get("/api/v1/canary").send().await.problem(404, "NOT_FOUND");
    server.operator().get("/api/v1/tasks/canary").send().await.problem(404, "TASK_NOT_FOUND");
    let (_, _, text) = server.operator().get("/metrics").page().await;
    let told: Vec<_> = text.lines().filter(|line| line.to_lowercase().contains("canary")).collect();
    let expected = ["eap_tasks_ready{task_type=\"canary.type\",capability=\"canary.type\"} 1"];
    assert_eq!(told[..1], expected, "{told:?}");
    assert!(told.iter().all(|line| line.contains("task_type=\"canary.type\"")), "{told:?}");
    assert!(!text.contains(OPERATOR_KEY) && !text.contains(&agent.id) && !text.contains(&agent.token));
    let page = Page::read(&text);
    assert_eq!(page.get("eap_http_requests_total{call=\"none\",status=\"4xx\"}"), 2.0);
    assert_eq!(page.get("eap_http_requests_total{call=\"get_task\",status=\"4xx\"}"), 1.0);
}

#[tokio::test]
async fn polls_that_wait_are_told() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let poll = server.park(&agent, "/tasks/lease", Some(json!({"request_id": "r", "wait_seconds": 20}))).await;
    assert_eq!(Page::of(&server).await.get("eap_polls_waiting"), 1.0);
    server.operator().submit(json!({})).await;
    crate::harness::in_time("the poll is served", poll).await.expect("it does not panic").expect(200);
    // A count that took long is kept for a while.
    let page = crate::harness::eventually("the lease is counted", async || {
        let page = Page::of(&server).await;
        (page.all("eap_tasks_leased").values().sum::<u64>() == 1).then_some(page)
    })
    .await;
    assert_eq!((page.get("eap_polls_waiting"), page.get("eap_tasks_leased{task_type=\"work\"}")), (0.0, 1.0));
    assert!(page.get("eap_connections_open") >= 1.0);
}

#[tokio::test]
async fn open_sockets_are_told() {
    let server = Server::start().await;
    let (one, two) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let open = async || Page::of(&server).await.get("eap_websockets_open");
    let (older, other) = (Socket::greet(&server, &one, &[]).await, Socket::greet(&server, &two, &[]).await);
    assert_eq!(open().await, 2.0);
    // A newer one takes the place of an older one.
    let newer = Socket::greet(&server, &one, &[]).await;
    assert_eq!(older.close_code().await, 4409);
    assert_eq!(open().await, 2.0);
    drop((newer, other));
    crate::harness::eventually("both are closed", async || (open().await == 0.0).then_some(())).await;
}

/// The page about the metrics has every one of them with its kind, and no other.
#[tokio::test]
async fn every_metric_is_described_and_every_description_is_of_a_metric() {
    let page = Page::of(&Server::start().await).await;
    let text = include_str!("../../docs/metrics.md");
    let list = text.split("\n## ").find(|chapter| chapter.starts_with("The list")).expect("there is a list");
    let described = list.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `eap_")?.split('|').map(str::trim);
        let name = format!("eap_{}", cells.next()?.trim_end_matches('`'));
        Some((name, cells.next()?.to_owned()))
    });
    let described: std::collections::BTreeMap<String, String> = described.collect();
    assert_eq!(described, page.kinds);
    for kind in page.words("eap_events_total", "kind") {
        assert!(text.contains(&format!("`{kind}`")), "{kind} is not described");
    }
}
