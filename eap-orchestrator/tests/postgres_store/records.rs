//! Small records, and the calls that tests make with them. Times are the database's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eap_core::{Agent, NoteKind, Orders, RoutingKey, Standing, Task, TaskEvent, TaskPolicy, TaskSpec, Vitals};
use eap_orchestrator::store::{
    AgentWrite, Ask, Change, Claimed, Decide, Demand, EventKind, NewEvent, PostgresOptions, PostgresStore, Repository,
    StoreError, TaskWrite,
};
use eap_types::{
    AgentId, AgentType, Capabilities, Capability, JsonObject, Labels, LeaseId, Priority, SessionId, TaskId, TenantId,
    Timestamp,
};

use crate::postgres::Schema;

/// A store on a schema of the shared server.
pub(crate) async fn open(schema: &Schema) -> PostgresStore {
    let options = PostgresOptions::default().with_schema(schema.name()).with_max_connections(6);
    PostgresStore::connect(schema.url(), options).await.expect("the schema can be opened")
}

/// Ten bytes never drawn before.
fn random() -> [u8; 10] {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

/// A task of this type.
pub(crate) fn task(task_type: &str) -> Task {
    let now = Timestamp::from_seconds(1_767_225_600);
    Task::submitted(TaskSpec {
        id: TaskId::v7(now, random()),
        routing: RoutingKey::of_type(TenantId::default(), task_type.parse().expect("a task type")),
        session_id: SessionId::v7(now, random()),
        input: "input".to_owned(),
        context: JsonObject::default(),
        preferred_agents: Default::default(),
        requirements: Vec::new(),
        priority: Priority::default(),
        timeout: Duration::from_secs(3600),
        inactivity: None,
        max_attempts: 3,
        run_at: None,
        expires_at: None,
        created_at: now,
        traceparent: None,
        requeued_from: None,
        is_step: false,
        callback_url: None,
    })
}

/// The change that stores a new task, with its event.
pub(crate) fn inserting(task: Task) -> Change {
    let event = NewEvent {
        tenant: TenantId::default(),
        at: task.spec.created_at,
        kind: EventKind::Task(NoteKind::Submitted),
        task: Some(task.id()),
        agent: None,
        attempt: None,
        detail: JsonObject::default(),
    };
    Change { tasks: vec![TaskWrite::Insert(task)], events: vec![event], ..Change::default() }
}

/// Stores an agent that takes tasks of this type, so many at once.
pub(crate) async fn register(store: &PostgresStore, task_type: &str, room: u32) -> Agent {
    let now = Timestamp::from_seconds(1_767_225_600);
    let agent = Agent {
        id: AgentId::v7(now, random()),
        tenant: TenantId::default(),
        name: "sample".parse().expect("a name"),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new([task_type.parse::<Capability>().expect("a capability")]).expect("not empty"),
        labels: Labels::default(),
        endpoint_url: None,
        metadata: JsonObject::default(),
        features: None,
        max_concurrent_tasks: room,
        task_schemas: Default::default(),
        admitted_capabilities: Default::default(),
        previous_token: None,
        rotation: None,
        orders: Orders::default(),
        push: None,
        platform: None,
        registered_with: None,
        token_sha256: None,
        epoch: 1,
        registered_at: now,
        standing: Standing::Active,
    };
    let vitals = Vitals::registered(1, now);
    let change = Change { agents: vec![AgentWrite::Insert(agent.clone(), vitals)], ..Change::default() };
    store.commit(change).await.expect("an agent can be stored");
    agent
}

/// What grants everything.
pub(crate) fn granting() -> Arc<Decide> {
    Arc::new(|task, ask, now| {
        let event = TaskEvent::Assign {
            agent: ask.agent.id.clone(),
            epoch: ask.agent.epoch,
            lease_id: LeaseId::v7(now, random()),
            request_id: ask.request_id.clone(),
            length: ask.lease,
        };
        Ok(task.apply(event, now, &TaskPolicy::default())?.changed().expect("an assignment changes its task"))
    })
}

/// One agent's ask for so many.
pub(crate) fn asking(agent: &Agent, max_tasks: u32) -> Demand {
    let agent = Arc::new(agent.clone());
    let ask = Ask { agent, max_tasks, request_id: None, task_types: None, lease: Duration::from_secs(600) };
    Demand { asks: vec![ask] }
}

pub(crate) async fn claim(store: &PostgresStore, agent: &Agent, max_tasks: u32) -> Result<Claimed, StoreError> {
    let claims = store.claim(asking(agent, max_tasks), granting()).await?;
    Ok(claims.answers.into_iter().next().expect("one answer per ask"))
}

pub(crate) fn ids(claimed: &Claimed) -> Vec<TaskId> {
    claimed.tasks.iter().map(Task::id).collect()
}
