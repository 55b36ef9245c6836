//! What single steps cost: the core's decisions, payloads read and written, commits of several sizes.
//!
//! Figures and how to run them: `benches/README.md`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use eap_core::{
    Agent, Chance, Hindrance, Quote, Rating, Report, RoutingKey, Standing, Task, TaskEvent, TaskPolicy, TaskSpec,
    Vitals,
};
use eap_orchestrator::SystemClock;
use eap_orchestrator::store::{Change, Repository as _, SqliteOptions, SqliteStore, TaskWrite};
use eap_types::{
    AgentId, AgentState, AgentType, Assignment, Capabilities, JsonObject, Labels, LeaseId, SessionId, TaskId,
    TaskResult, TenantId, Timestamp, from_json,
};
use serde_json::json;

/// Counts allocations beside the time; as `eap` has it, over mimalloc.
#[global_allocator]
static ALLOCATOR: AllocProfiler<mimalloc::MiMalloc> = AllocProfiler::new(mimalloc::MiMalloc);

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

fn main() {
    divan::main();
}

/// Bytes that make an id unique.
fn unique(number: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn agent_id() -> AgentId {
    "0198c0de-0001-7a00-8000-000000000001".parse().expect("a valid id")
}

/// One that asks for two capabilities and a label.
fn task(number: u64) -> Task {
    let words = ["translate", "summarize"].map(|word| word.parse().expect("a valid capability"));
    let mut routing = RoutingKey::of_type(TenantId::default(), "text.translate".parse().expect("a valid type"));
    routing.required_capabilities = words.into_iter().collect();
    let spec: TaskSpec = serde_json::from_value(json!({
        "id": TaskId::v7(NOW, unique(number)),
        "routing": routing,
        "session_id": SessionId::v7(NOW, unique(number)),
        "input": "quick brown fox jumps over the lazy dog and goes on through the forest until evening",
        "context": {"source": "bench", "line": 7},
        "priority": 2,
        "timeout": Duration::from_secs(3600),
        "max_attempts": 3,
        "created_at": NOW,
    }))
    .expect("a valid task");
    Task::submitted(spec)
}

/// One that can do what [`task`] asks for, and sixteen things more.
fn agent() -> Agent {
    let more = (0..16).map(|number| format!("skill-{number}"));
    let words = ["translate", "summarize"].map(str::to_owned).into_iter().chain(more);
    Agent {
        id: agent_id(),
        tenant: TenantId::default(),
        name: "translator".parse().expect("a valid name"),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(words).expect("valid capabilities"),
        labels: Labels::default(),
        endpoint_url: None,
        push: None,
        platform: None,
        metadata: JsonObject::default(),
        features: None,
        max_concurrent_tasks: 10,
        registered_with: None,
        task_schemas: Default::default(),
        admitted_capabilities: BTreeSet::new(),
        previous_token: None,
        rotation: None,
        orders: eap_core::Orders::default(),
        token_sha256: None,
        epoch: 1,
        registered_at: NOW,
        standing: Standing::Active,
    }
}

fn lease() -> LeaseId {
    LeaseId::v7(NOW, unique(7))
}

fn assign() -> TaskEvent {
    TaskEvent::Assign {
        agent: agent_id(),
        epoch: 1,
        lease_id: lease(),
        request_id: None,
        length: Duration::from_secs(60),
    }
}

/// A queued task is leased.
#[divan::bench]
fn core_assign(bencher: Bencher<'_, '_>) {
    let (task, policy) = (task(1), TaskPolicy::default());
    bencher.with_inputs(assign).bench_values(|event| task.apply(event, NOW, &policy));
}

/// The result of a leased task is taken.
#[divan::bench]
fn core_report(bencher: Bencher<'_, '_>) {
    let policy = TaskPolicy::default();
    let mut task = task(1);
    let leased = task.apply(assign(), NOW, &policy).expect("a queued task can be leased");
    task.state = leased.changed().expect("a lease changes the task").state;
    let result = TaskResult::completed(task.id(), JsonObject::default());
    let report = || TaskEvent::Report {
        agent: agent_id(),
        quote: Quote::lease(lease()),
        report: Report::of(&result),
        chance: Chance::from_bits(0),
    };
    assert!(task.apply(report(), NOW, &policy).is_ok_and(|step| step.changed().is_some()));
    bencher.with_inputs(report).bench_values(|event| task.apply(event, NOW, &policy));
}

/// An agent is rated for a task.
#[divan::bench]
fn core_rate(bencher: Bencher<'_, '_>) {
    let (agent, vitals, task) = (agent(), Vitals::registered(1, NOW), task(1));
    bencher.bench(|| Rating::of(black_box(&agent), &vitals, 3, &task.spec.routing).score());
}

/// Two capabilities and a tenant are looked for among eighteen, and nothing is in the way.
#[divan::bench]
fn core_match(bencher: Bencher<'_, '_>) {
    let (agent, vitals, task) = (agent(), Vitals::registered(1, NOW), task(1));
    assert_eq!(Hindrance::all(&task, &agent, &vitals, 3, AgentState::Online, NOW), []);
    bencher.bench(|| Hindrance::all(black_box(&task), &agent, &vitals, 3, AgentState::Online, NOW));
}

/// An assignment of one KiB.
fn assignment() -> Vec<u8> {
    let mut json = json!({
        "task_id": "01956e3c-7f60-7000-8000-000000000001",
        "session_id": "01956e3c-7f60-7000-8000-0000000000f1",
        "task_type": "text.translate",
        "context": {"to": "en", "tone": ["formal", "short"]},
        "input_data": "",
        "requirements": ["formal"],
        "timeout_seconds": 600,
        "lease_id": "01956e3c-8a10-7000-8000-0000000000a1",
        "lease_expires_in_ms": 60_000,
        "lease_expires_at": "2026-02-04T09:31:00Z",
        "attempt": 1,
        "max_attempts": 3,
        "priority": 2,
    });
    let length = json.to_string().len();
    json["input_data"] = "x".repeat(1024 - length).into();
    json.to_string().into_bytes()
}

#[divan::bench]
fn types_read_assignment(bencher: Bencher<'_, '_>) {
    let body = assignment();
    bencher.counter(BytesCount::new(body.len())).bench(|| from_json::<Assignment>(black_box(&body)));
}

#[divan::bench]
fn types_write_assignment(bencher: Bencher<'_, '_>) {
    let body = assignment();
    let assignment: Assignment = from_json(&body).expect("a valid assignment");
    bencher.counter(BytesCount::new(body.len())).bench(|| serde_json::to_vec(black_box(&assignment)));
}

/// So many new tasks in one commit, flushed to the disk.
#[divan::bench(args = [1, 8, 64, 256], max_time = 5)]
fn store_commit(bencher: Bencher<'_, '_>, tasks: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let clock = Arc::new(SystemClock::new());
    let store = SqliteStore::open(folder.path().join("eap.db"), clock, SqliteOptions::default()).expect("a store");
    let mut next = 0;
    let change = || {
        next += tasks;
        let new = (next - tasks..next).map(|number| TaskWrite::Insert(task(number)));
        Change { tasks: new.collect(), ..Change::default() }
    };
    bencher
        .counter(ItemsCount::new(tasks))
        .with_inputs(change)
        .bench_local_values(|change| runtime.block_on(store.commit(change)).expect("a commit"));
    runtime.block_on(store.close()).expect("an orderly end");
}
