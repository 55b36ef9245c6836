//! The records that a sequence names, made from the small numbers of its operations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eap_core::{Agent, Chance, Orders, Quote, Report, RoutingKey, Standing, TaskEvent, TaskSpec};
use eap_orchestrator::store::IdempotencyScope;
use eap_types::{
    AgentId, AgentType, Capabilities, Capability, FailureCode, JsonObject, Labels, Priority, SessionId, TaskId,
    TaskResult, TaskType, TenantId, Timestamp,
};

use crate::ops::{AGENTS, Offer, Shape, TYPES};

pub(crate) fn reporting(agent: AgentId, result: TaskResult) -> (TaskEvent, Option<TaskResult>) {
    let (report, chance) = (Report::of(&result), Chance::new(0.5));
    (TaskEvent::Report { agent, quote: Quote::default(), report, chance }, Some(result))
}

pub(crate) fn failed(id: TaskId, code: FailureCode, message: &str) -> TaskResult {
    TaskResult::failed(id, code, message)
}

pub(crate) fn scope(key: u8) -> IdempotencyScope {
    IdempotencyScope { principal: "host".to_owned(), route: "submit", key: format!("key-{key}") }
}

pub(crate) fn tenant_id(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

pub(crate) fn agent_id(slot: u8) -> AgentId {
    AgentId::v7(Timestamp::UNIX_EPOCH, [slot; 10])
}

pub(crate) fn task_type(number: u8) -> TaskType {
    format!("work.{number}").parse().expect("a task type")
}

fn capability(text: &str) -> Capability {
    text.parse().expect("a capability")
}

fn label() -> Labels {
    Labels::try_from(BTreeMap::from([("region".to_owned(), "eu".to_owned())])).expect("labels")
}

pub(crate) fn spec(id: TaskId, shape: &Shape, now: Timestamp) -> TaskSpec {
    let mut routing = RoutingKey::of_type(tenant_id(shape.tenant), task_type(shape.task_type));
    if shape.needs_more {
        routing.required_capabilities.insert(capability("more"));
    }
    if shape.has_label {
        routing.labels = label();
    }
    routing.agent_id = shape.only.map(agent_id);
    TaskSpec {
        id,
        routing,
        session_id: SessionId::from_bytes(*id.as_bytes()),
        input: "input".to_owned(),
        context: JsonObject::default(),
        requirements: Vec::new(),
        priority: Priority::new(shape.priority).expect("0 to 4"),
        timeout: Duration::from_secs(300),
        // Shorter than a lease, or none.
        inactivity: (shape.max_attempts & 1 == 0).then_some(Duration::from_secs(20)),
        max_attempts: shape.max_attempts,
        run_at: shape.delay.map(|millis| now + Duration::from_millis(millis)),
        expires_at: shape.expires.map(|millis| now + Duration::from_millis(millis)),
        created_at: now,
        traceparent: None,
        requeued_from: None,
        is_step: false,
        callback_url: None,
        preferred_agents: BTreeSet::new(),
    }
}

pub(crate) fn agent(slot: u8, offer: &Offer, now: Timestamp) -> Agent {
    let types = (0..TYPES).filter(|number| offer.capabilities >> number & 1 == 1);
    let mut capabilities: Vec<Capability> = types.map(|number| Capability::from(task_type(number))).collect();
    if offer.capabilities >> TYPES & 1 == 1 {
        capabilities.push(capability("more"));
    }
    Agent {
        id: agent_id(slot),
        // The last one lives elsewhere; an agent never moves.
        tenant: tenant_id(u8::from(slot + 1 == AGENTS)),
        name: "AGENT-MODEL-01".parse().expect("a name"),
        instance_id: offer.instance.map(|instance| format!("instance-{instance}").parse().expect("an instance id")),
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(capabilities).expect("at least one"),
        labels: if offer.has_label { label() } else { Labels::default() },
        endpoint_url: None,
        metadata: JsonObject::default(),
        features: None,
        max_concurrent_tasks: offer.room,
        registered_with: None,
        task_schemas: Default::default(),
        admitted_capabilities: BTreeSet::new(),
        token_sha256: None,
        previous_token: None,
        rotation: None,
        orders: Orders::default(),
        push: None,
        platform: None,
        epoch: 1,
        registered_at: now,
        standing: Standing::Active,
    }
}
