//! `GET /api/v1/events`: nothing is missed, nothing comes twice, and what is gone is said.

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::store::{Change, Cutoffs, EventKind, MemoryStore, NewEvent, Repository};
use eap_orchestrator::{Clock as _, ManualClock, SystemClock};
use eap_types::{JsonObject, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Call, GatedStore, Hold, Operator, Server, Setup, eventually, id_of, in_time, work};

const EVENTS: &str = "/api/v1/events";

/// One event as it came.
#[derive(Debug)]
struct Told {
    id: u64,
    kind: String,
    data: Value,
}

/// An open stream.
struct Watcher {
    response: reqwest::Response,
    text: String,
}

impl Watcher {
    async fn open(call: Call) -> Self {
        let response = call.open().await;
        assert_eq!(response.status(), 200, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(response.headers().contains_key("x-request-id"));
        let mut watcher = Self { response, text: String::new() };
        // The server has taken its cursor once it says from where to go on.
        let opened = watcher.block().await.expect("the stream has begun");
        assert!(opened.starts_with(":\nid: "), "{opened}");
        watcher
    }

    /// The lines up to the next empty one; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = in_time("the stream says something", self.response.chunk()).await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).expect("pieces are whole events"));
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let values = block.lines().filter_map(|line| line.strip_prefix(name));
                values.map(|value| value.strip_prefix(": ").expect("a space follows")).collect::<Vec<_>>().join("\n")
            };
            if block.starts_with(':') {
                continue;
            }
            let data = serde_json::from_str(&field("data")).expect("the data is JSON");
            return Some(Told { id: field("id").parse().expect("ids are numbers"), kind: field("event"), data });
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        while told.len() < count {
            told.push(self.next().await.expect("there is more"));
        }
        told
    }
}

fn kinds(told: &[Told]) -> Vec<&str> {
    told.iter().map(|event| event.kind.as_str()).collect()
}

async fn watch(operator: &Operator, query: &str) -> Watcher {
    Watcher::open(operator.get(&format!("{EVENTS}?{query}"))).await
}

async fn submit_many(operator: &Operator, count: usize) {
    operator.post("/api/v1/tasks/batch").json(&json!({"tasks": vec![work(json!({})); count]})).send().await.expect(200);
}

#[tokio::test]
async fn a_watcher_is_told_what_happens_from_now_on() {
    let server = Server::start().await;
    let operator = server.operator();
    operator.submit(json!({})).await;
    let mut watcher = watch(&operator, "").await;
    let id = operator.submit(json!({"priority": 0})).await;
    let agent = server.agent("AGENT-A").await;
    let task = agent.take().await;
    agent.complete(&task).await.expect(200);
    let told = watcher.take(4).await;
    assert_eq!(kinds(&told), ["task.submitted", "agent.registered", "task.leased", "task.completed"]);
    assert!(told.windows(2).all(|pair| pair[0].id < pair[1].id), "{told:?}");
    let history = operator.history(&id).await;
    let shown: Vec<&Value> =
        told.iter().filter(|event| event.kind.starts_with("task")).map(|event| &event.data).collect();
    assert_eq!(shown, history["events"].as_array().expect("events are a list").iter().collect::<Vec<_>>());
    assert!(told.iter().all(|event| event.data["seq"] == json!(event.id) && event.data["kind"] == json!(event.kind)));
}

#[tokio::test]
async fn a_watcher_goes_on_where_it_left_off() {
    let server = Server::start().await;
    let operator = server.operator();
    // More than one look at the store takes.
    submit_many(&operator, 600).await;
    let told = watch(&operator, "after=0").await.take(600).await;
    assert_eq!(told.iter().map(|event| event.id).collect::<Vec<_>>(), (1..=600).collect::<Vec<_>>());
    let cut_off = operator.get(&format!("{EVENTS}?after=0")).header("last-event-id", "597");
    let mut again = Watcher::open(cut_off).await;
    submit_many(&operator, 2).await;
    let ids: Vec<u64> = again.take(5).await.iter().map(|event| event.id).collect();
    assert_eq!(ids, [598, 599, 600, 601, 602], "the header wins, nothing is missed or repeated");
}

#[tokio::test]
async fn a_watcher_may_ask_for_a_task_an_agent_or_kinds() {
    let server = Server::start().await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    submit_many(&operator, 300).await;
    let first = agent.take().await;
    let id = id_of(&first);
    agent.complete(&first).await.expect(200);
    agent.fail(&agent.take().await, json!({"retryable": false})).await.expect(200);
    let mut of_task = watch(&operator, &format!("after=0&task_id={id}")).await;
    assert_eq!(kinds(&of_task.take(3).await), ["task.submitted", "task.leased", "task.completed"]);
    let mut of_agent = watch(&operator, &format!("after=0&agent_id={}", agent.id)).await;
    let expected = ["agent.registered", "task.leased", "task.completed", "task.leased", "task.failed"];
    assert_eq!(kinds(&of_agent.take(5).await), expected);
    let mut ends = watch(&operator, "after=0&kind=task.completed,task.failed").await;
    assert_eq!(kinds(&ends.take(2).await), ["task.completed", "task.failed"]);
    let mut both = watch(&operator, &format!("after=0&task_id={id}&kind=task.leased")).await;
    assert_eq!(kinds(&both.take(1).await), ["task.leased"]);
    // All of them go on, past what is not for them.
    let again = agent.take().await;
    agent.complete(&again).await.expect(200);
    assert_eq!(kinds(&of_agent.take(2).await), ["task.leased", "task.completed"]);
    assert_eq!(ends.take(1).await[0].data["task_id"], again["task_id"]);
}

#[tokio::test]
async fn a_watcher_sees_nothing_of_another_tenant() {
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock::new())));
    let server = Setup::store(Arc::clone(&store) as Arc<_>).start().await;
    let operator = server.operator();
    let theirs = NewEvent {
        tenant: TenantId::from_bytes([7; 16]),
        // Old ones would be swept away, which the watcher would be told of.
        at: SystemClock::new().now(),
        kind: EventKind::AgentDraining,
        task: None,
        agent: None,
        attempt: None,
        detail: JsonObject::default(),
    };
    let change = Change { events: vec![theirs; 300], ..Change::default() };
    store.commit(change).await.expect("the store takes it");
    let mut watcher = watch(&operator, "after=0").await;
    operator.submit(json!({})).await;
    let told = watcher.take(1).await;
    assert_eq!((told[0].id, told[0].kind.as_str()), (301, "task.submitted"));
}

#[tokio::test]
async fn what_is_gone_is_told_by_a_reset() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
    let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<_>));
    let server = Setup::store(Arc::clone(&store) as Arc<_>).clock(Arc::clone(&clock)).start().await;
    let operator = server.operator();
    submit_many(&operator, 10).await;
    clock.advance(Duration::from_secs(10));
    submit_many(&operator, 3).await;
    let purge = async |cutoff| {
        let (past, events) = (Timestamp::MIN, cutoff);
        let cutoffs = Cutoffs {
            tasks: past,
            events,
            late_results: past,
            idempotency_keys: past,
            sessions: past,
            webhooks: past,
            states: past,
            agents: past,
            credentials: past,
        };
        store.purge(&cutoffs, 1000).await.expect("a purge succeeds")
    };
    purge(Timestamp::from_seconds(1_800_000_010)).await;
    for query in ["after=0", "after=9"] {
        let mut watcher = watch(&operator, query).await;
        let told = watcher.take(4).await;
        assert_eq!((told[0].kind.as_str(), &told[0].data), ("reset", &json!({"oldest": 11})), "{query}");
        assert_eq!(told.iter().map(|event| event.id).collect::<Vec<_>>(), [10, 11, 12, 13], "{query}");
    }
    // Whoever has seen all that is gone is told nothing of it.
    assert_eq!(watch(&operator, "after=10").await.take(1).await[0].id, 11);
    // A number of another store, as after a backup was put back.
    let told = watch(&operator, "after=5000").await.take(4).await;
    assert_eq!(kinds(&told), ["reset", "task.submitted", "task.submitted", "task.submitted"]);

    // All is gone, and the next event is not there yet.
    purge(Timestamp::from_seconds(1_800_000_011)).await;
    let mut watcher = watch(&operator, "after=11").await;
    assert_eq!(watcher.take(1).await[0].data, json!({"oldest": 14}));
    submit_many(&operator, 1).await;
    assert_eq!(watcher.take(1).await[0].id, 14);
}

#[tokio::test]
async fn the_first_event_of_all_is_no_reason_for_a_reset() {
    let store = GatedStore::new();
    let server = Setup::store(store.clone()).start().await;
    store.hold_events(Hold::WithTheOldest);
    let call = server.operator().get(EVENTS);
    let opening = tokio::spawn(Watcher::open(call));
    store.until_events_are_held().await;
    server.operator().submit(json!({})).await;
    store.hold_events(Hold::Never);
    let mut watcher = opening.await.expect("opening does not panic");
    let first = watcher.next().await.expect("the stream goes on");
    assert_eq!((first.id, first.kind.as_str()), (1, "task.submitted"));
}

/// What was written after the store looked is behind the newest number that the watcher then knows; what was written
/// before it looked is ahead of the one it knew before.
#[tokio::test]
async fn what_is_written_while_a_watcher_reads_is_told_once() {
    let store = GatedStore::new();
    let server = Setup::store(Arc::clone(&store) as Arc<_>).start().await;
    let operator = server.operator();
    let mut watcher = watch(&operator, "").await;
    for (hold, number) in [(Hold::AfterIt, 1), (Hold::BeforeItReads, 3)] {
        store.hold_events(hold);
        operator.submit(json!({})).await;
        store.until_events_are_held().await;
        operator.submit(json!({})).await;
        store.hold_events(Hold::Never);
        let ids: Vec<u64> = watcher.take(2).await.iter().map(|event| event.id).collect();
        assert_eq!(ids, [number, number + 1], "{hold:?}");
    }
    operator.submit(json!({})).await;
    assert_eq!(watcher.take(1).await[0].id, 5);
}

#[tokio::test]
async fn a_kind_that_there_is_not_is_refused_with_those_that_there_are() {
    let server = Server::start().await;
    let operator = server.operator();
    for kinds in ["task.failled", "task.failed,task.failled", "task", "reset"] {
        let refused = operator.get(&format!("{EVENTS}?kind={kinds}")).send();
        let refused = in_time("the refusal", refused).await;
        let problem = refused.body.to_string();
        assert_eq!(refused.fields(), ["query.kind"], "{kinds}");
        for kind in ["task.failed", "agent.push_suspended", "callback.given_up", "key.created"] {
            assert!(problem.contains(kind), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_quiet_stream_is_not_an_idle_connection() {
    let setup = Setup::sqlite().config(|config| config.capacity.idle_timeout = Duration::from_millis(300));
    let server = setup.start().await;
    let operator = server.operator();
    let mut watcher = watch(&operator, "").await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    operator.submit(json!({})).await;
    assert_eq!(kinds(&watcher.take(1).await), ["task.submitted"]);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let server = Server::start().await;
    let operator = server.operator();
    let mut watcher = watch(&operator, "").await;
    operator.submit(json!({})).await;
    let report = server.stop().await;
    assert_eq!(report.connections_cut, 0, "{report}");
    assert_eq!(kinds(&watcher.take(1).await), ["task.submitted"], "what happened before is told");
    assert!(watcher.next().await.is_none());
}

#[tokio::test]
async fn more_streams_than_there_are_places_are_refused() {
    let server = Setup::sqlite().config(|config| config.capacity.watchers = 1).start().await;
    let operator = server.operator();
    let watcher = watch(&operator, "").await;
    operator.get(EVENTS).send().await.problem(503, "UNAVAILABLE");
    drop(watcher);
    eventually("the place is free again", async || {
        let response = operator.get(EVENTS).open().await;
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() {
    let server = Server::start().await;
    let operator = server.operator();
    for number in ["x", "-1", "1.5", "18446744073709551616"] {
        let call = operator.get(EVENTS).header("last-event-id", number);
        assert_eq!(call.send().await.fields(), ["header.last-event-id"]);
        assert_eq!(operator.get(&format!("{EVENTS}?after={number}")).send().await.fields(), ["query.after"]);
    }
    let mut fields = operator.get(&format!("{EVENTS}?task_id=5&agent_id={}", "x".repeat(129))).send().await.fields();
    fields.sort();
    assert_eq!(fields, ["query.agent_id", "query.task_id"]);
    // An empty one is none.
    Watcher::open(operator.get(&format!("{EVENTS}?after=&kind=")).header("last-event-id", "")).await;
}
