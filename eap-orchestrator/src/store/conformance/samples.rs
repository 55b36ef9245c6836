//! Records to store: small ones, and ones with every field at its most awkward.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eap_core::{
    Agent, BreakerPolicy, CheckedWorkflow, Credential, DrainOrder, Grant, IntervalOrder, OnPlatform, Orders,
    PreviousToken, Push, PushSuspension, RotationIntent, RoutingKey, Session, SessionPhase, SessionRun, SessionSpec,
    Standing, StepPhase, StepRun, TaskSpec, TrackRecord, Verdict, Vitals,
};
use eap_types::{
    AgentId, AgentType, Artifact, Capabilities, CredentialId, DirectiveId, Feature, HealthStatus, JsonObject, Labels,
    LeaseId, Priority, PushStop, RawJson, RegistrationLimits, Scope, SessionId, TaskId, TaskResult, TenantId,
    Timestamp, WorkflowDefinition, WorkflowStep,
};

use crate::store::{Change, EventKind, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, LateResultRow, NewEvent};

/// Text that breaks careless quoting, cutting and encoding.
pub(super) const AWKWARD: &str = "naïve 'quoted' \"text\" \\ %s ?1 -- ; \u{0} \u{1f980} 日本 e\u{301} \r\n\t\u{2028}";

/// JSON with numbers at the edge of 64 bits and white space that must stay.
const AWKWARD_JSON: &str = r#"{ "z": 18446744073709551615, "a" : -9223372036854775808, "1.0": 1.0, "e": 5e-324,
    "deep": [[[{"é\u0000\u2028": null}]]], "digits": 0.1000000000000000055511151231257827, "": "🦀" }"#;

/// An object with awkward content.
pub(super) fn json() -> JsonObject {
    let json = RawJson::parse(AWKWARD_JSON).expect("the sample is JSON");
    JsonObject::try_from(json).expect("the sample is an object")
}

/// A tenant other than the default one.
pub(super) fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

/// A task that asks for nothing special.
pub(super) fn spec(id: TaskId, task_type: &str, now: Timestamp) -> TaskSpec {
    let task_type = task_type.parse().expect("the sample is a task type");
    TaskSpec {
        id,
        routing: RoutingKey::of_type(TenantId::default(), task_type),
        session_id: SessionId::from_bytes(*id.as_bytes()),
        input: "input".to_owned(),
        context: JsonObject::default(),
        preferred_agents: BTreeSet::new(),
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
    }
}

/// A task with every field set.
pub(super) fn full_spec(id: TaskId, now: Timestamp) -> TaskSpec {
    let word = |text: &str| text.parse().expect("the sample is a capability");
    TaskSpec {
        routing: RoutingKey {
            tenant: tenant(7),
            required_capabilities: BTreeSet::from([word("z:9"), word("a.b-c_d")]),
            labels: labels(&[("region", "eu"), ("a/b", AWKWARD)]),
            agent_id: Some(agent_id("ägent \"7\" @ home")),
            task_type: "full.task".parse().expect("the sample is a task type"),
        },
        input: AWKWARD.repeat(100),
        context: json(),
        preferred_agents: BTreeSet::from([agent_id("ägent \"7\" @ home"), agent_id("b")]),
        requirements: vec![AWKWARD.to_owned(), String::new(), "last".to_owned()],
        priority: Priority::LAST,
        timeout: Duration::from_micros(604_800_000_001),
        inactivity: Some(Duration::from_micros(86_400_000_001)),
        max_attempts: 100,
        run_at: Some(now + Duration::from_micros(1)),
        expires_at: Some(now + Duration::from_secs(86_400)),
        requeued_from: Some(TaskId::from_bytes([0xf0; 16])),
        is_step: true,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        callback_url: Some("https://hooks.example.com/done?key=%20".to_owned()),
        ..spec(id, "full.task", now)
    }
}

/// A workflow of two steps that asks for nothing special.
pub(super) fn workflow(id: &str, version: &str) -> CheckedWorkflow {
    let step = |id: &str| WorkflowStep::new(id.parse().expect("the sample is a step's id"), "step");
    let second = step("second");
    let first = step("first").with_next(second.task_id.clone());
    let id = id.parse().expect("the sample is a workflow's id");
    CheckedWorkflow::check(WorkflowDefinition::new(id, "sample", version, [first, second]), None)
        .expect("the sample can run")
}

/// A workflow with every field set.
pub(super) fn full_workflow() -> CheckedWorkflow {
    let step = |id: &str| {
        WorkflowStep::new(id.parse().expect("the sample is a step's id"), AWKWARD)
            .with_capability("a.b-c_d".parse().expect("the sample is a capability"))
            .with_parameters(json())
    };
    let second = step("zweiter Schritt: \"ü\"").with_max_retries(99);
    let first = step("1.").with_next(second.task_id.clone()).with_max_retries(0);
    let id = "wörkflow 'a' \"7\" ?1 🦀".parse().expect("the sample is a workflow's id");
    let definition = WorkflowDefinition::new(id, AWKWARD, "1.0-β 'x'", [first, second]).with_description(AWKWARD);
    CheckedWorkflow::check(definition, None).expect("the sample can run")
}

/// A session of nothing special whose first step is this task.
pub(super) fn session(id: SessionId, task: TaskId, now: Timestamp) -> Session {
    let spec = SessionSpec {
        id,
        tenant: TenantId::default(),
        workflow: workflow("wf", "1.0"),
        agent_id: None,
        started_by: "operator".to_owned(),
        initial_payload: None,
        created_at: now,
        traceparent: None,
    };
    let run = SessionRun { phase: SessionPhase::Started, steps: vec![step(0, task, now)], updated_at: now };
    Session { spec: Arc::new(spec), run }
}

/// A step that was begun.
pub(super) fn step(index: usize, task: TaskId, now: Timestamp) -> StepRun {
    StepRun { index, task, agent: None, attempts: 0, started_at: now, phase: StepPhase::Open }
}

/// A session with every field set.
pub(super) fn full_session(id: SessionId, tasks: [TaskId; 2], now: Timestamp) -> Session {
    let spec = SessionSpec {
        tenant: tenant(7),
        workflow: full_workflow(),
        agent_id: Some(agent_id("ägent \"7\" @ home")),
        started_by: AWKWARD.to_owned(),
        initial_payload: Some(json()),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ..SessionSpec::clone(&session(id, tasks[0], now).spec)
    };
    let at = now + Duration::from_micros(1);
    let first = StepRun {
        agent: Some(agent_id("ägent \"7\" @ home")),
        attempts: u32::MAX,
        phase: StepPhase::Completed { at, result: json().into() },
        ..step(0, tasks[0], now)
    };
    let second = StepRun {
        agent: Some(agent_id("b")),
        attempts: 1,
        phase: StepPhase::Failed { at, reason: AWKWARD.to_owned() },
        ..step(1, tasks[1], at)
    };
    let phase = SessionPhase::Failed { at, reason: AWKWARD.to_owned() };
    let run = SessionRun { phase, steps: vec![first, second], updated_at: at };
    Session { spec: Arc::new(spec), run }
}

/// An agent that is nothing special.
pub(super) fn agent(id: AgentId, capabilities: &[&str], now: Timestamp) -> Agent {
    Agent {
        id,
        tenant: TenantId::default(),
        name: "AGENT-CHECK-01".parse().expect("the sample is a name"),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(capabilities.iter().copied()).expect("the sample is a list of capabilities"),
        labels: Labels::default(),
        endpoint_url: None,
        metadata: JsonObject::default(),
        task_schemas: Default::default(),
        features: None,
        max_concurrent_tasks: 1000,
        registered_with: None,
        admitted_capabilities: BTreeSet::new(),
        previous_token: None,
        rotation: None,
        orders: Orders::default(),
        push: None,
        platform: None,
        token_sha256: None,
        epoch: 1,
        registered_at: now,
        standing: Standing::Active,
    }
}

/// An agent with every field set.
pub(super) fn full_agent(now: Timestamp) -> Agent {
    Agent {
        tenant: tenant(9),
        instance_id: Some("ïnstance/1".parse().expect("the sample is an instance id")),
        version: AWKWARD.to_owned(),
        agent_type: AgentType::Custom("Pässler".to_owned()),
        labels: labels(&[("region", AWKWARD), ("zone", "")]),
        endpoint_url: Some("https://agent.example:8443/hook?a=%20b".to_owned()),
        metadata: json(),
        task_schemas: [("full.task".parse().expect("the sample is a task type"), json().into())].into(),
        features: Some([Feature::PullV1, Feature::RotateV1].into_iter().collect()),
        max_concurrent_tasks: u32::MAX,
        registered_with: Some("fleet ü".to_owned()),
        previous_token: Some(PreviousToken { sha256: "cd".repeat(32), valid_until: now + Duration::from_micros(1) }),
        push: Some(Push {
            sealed: "x1.sample".to_owned(),
            with_token: true,
            suspended: Some(PushSuspension { at: now, why: PushStop::Gone }),
        }),
        rotation: Some(RotationIntent { id: directive("directive#1"), at: now }),
        orders: Orders {
            drain: Some(DrainOrder {
                id: directive("directive#2"),
                at: now,
                reason: Some("an upgrade".to_owned()),
                is_heard: true,
            }),
            resume: Some(directive("directive#3")),
            interval: Some(IntervalOrder {
                id: directive("directive#4"),
                at: now,
                interval: Duration::from_secs(5),
                before: Duration::from_secs(30),
                is_heard: false,
            }),
        },
        admitted_capabilities: ["z:9", "other"].map(|text| text.parse().expect("the sample is a capability")).into(),
        token_sha256: Some("ab".repeat(32)),
        platform: Some(OnPlatform { name: AWKWARD.to_owned(), newest_event: now - Duration::from_micros(1) }),
        epoch: (1 << 53) + 1,
        standing: Standing::Superseded { at: now + Duration::from_micros(1) },
        ..agent(agent_id("ägent \"7\" @ home"), &["z:9", "a.b-c_d"], now)
    }
}

/// Vitals with every field set.
pub(super) fn full_vitals(now: Timestamp) -> Vitals {
    Vitals {
        last_seen: now + Duration::from_micros(1),
        beaten_at: Some(now - Duration::from_micros(1)),
        status: Some(HealthStatus::Busy),
        current_load: 0.1 + 0.2,
        tasks_in_progress: u64::MAX,
        metrics: json(),
        seq: Some(u64::MAX),
        epoch: (1 << 53) + 1,
        has_listed_tasks: true,
        record: full_record(now),
    }
}

/// A record of an agent that failed until its breaker opened.
fn full_record(now: Timestamp) -> TrackRecord {
    let mut record = TrackRecord::default();
    let lease_id = LeaseId::v7(now, [1; 10]);
    record.serve(lease_id, now);
    for _ in 0..5 {
        record.conclude(lease_id, Some(Verdict::Failure), now, &BreakerPolicy::default());
    }
    record
}

/// Labels of these pairs.
pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Labels::try_from(pairs).expect("the sample is a set of labels")
}

/// An agent's id as another platform might choose it.
pub(super) fn agent_id(text: &str) -> AgentId {
    text.parse().expect("the sample is an agent id")
}

/// An operator key with every field set.
pub(super) fn operator_key(number: u8, now: Timestamp) -> Credential {
    Credential {
        id: CredentialId::from_bytes([number; 16]),
        tenant: tenant(9),
        name: "ci ü 'quoted'".parse().expect("the sample is a name"),
        sha256: "cd".repeat(32),
        grant: Grant::Operator { scopes: [Scope::TasksSubmit, Scope::KeysAdmin].into_iter().collect() },
        created_at: now,
        created_by: Some(AWKWARD.to_owned()),
        expires_at: Some(now + Duration::from_micros(1)),
        revoked_at: None,
    }
}

/// A registration secret with every limit set, used seven times.
pub(super) fn registration_secret(number: u8, now: Timestamp) -> Credential {
    let mut limits = RegistrationLimits::new();
    limits.max_uses = Some(9);
    limits.names = ["AGENT-CI-*", "AGENT-X"].map(|text| text.parse().expect("the sample is a pattern")).into();
    limits.capabilities = ["z:9", "a.b-c_d"].map(|text| text.parse().expect("the sample is a capability")).into();
    Credential { grant: Grant::Registration { limits, uses: 7 }, ..operator_key(number, now) }
}

/// A small result.
pub(super) fn result(task: TaskId) -> TaskResult {
    TaskResult::completed(task, JsonObject::default())
}

/// A result with every field set.
pub(super) fn full_result(task: TaskId) -> TaskResult {
    let path = |text: &str| text.parse().expect("the sample is an artifact path");
    let artifacts = [
        Artifact::text(path("out/naïve 日本.txt"), AWKWARD).with_mime_type("text/markdown; charset=utf-8"),
        Artifact::from_bytes(path("bytes.bin"), &[0, 255, 254, 128, 10]),
        Artifact::text(path("empty"), ""),
    ];
    let mut full = TaskResult::completed(task, json())
        .with_artifacts(artifacts)
        .with_execution_time_ms(0.1 + 0.2)
        .with_tokens_used(9_007_199_254_740_991.0)
        .with_cost_usd(1e-9)
        .with_lease(LeaseId::from_bytes([255; 16]), u32::MAX)
        .with_retryable(false);
    full.error_message = Some(AWKWARD.to_owned());
    full.error_code = Some(eap_types::FailureCode::ResourceExhausted);
    full
}

/// A late result of this attempt, told apart by `said`.
pub(super) fn late(task: TaskId, attempt: u32, said: &str, now: Timestamp) -> LateResultRow {
    let mut result = result(task);
    result.error_message = Some(said.to_owned());
    LateResultRow { task, attempt, agent: agent_id("latecomer"), received_at: now, result }
}

/// The scope of this key.
pub(super) fn scope(key: &str) -> IdempotencyScope {
    IdempotencyScope { principal: "öperator".to_owned(), route: "POST /api/v1/tasks", key: key.to_owned() }
}

/// A key that stands for this task.
pub(super) fn key(key: &str, task: TaskId, now: Timestamp) -> IdempotencyKeyRow {
    let body_sha256 = std::array::from_fn(|byte| 255 - byte as u8);
    IdempotencyKeyRow { scope: scope(key), body_sha256, target: IdempotentTarget::Task(task), created_at: now }
}

fn directive(text: &str) -> DirectiveId {
    text.parse().expect("the sample is a directive id")
}

/// An event about no record.
pub(super) fn event(at: Timestamp) -> NewEvent {
    NewEvent {
        tenant: TenantId::default(),
        at,
        kind: EventKind::AgentDraining,
        task: None,
        agent: None,
        attempt: None,
        detail: JsonObject::default(),
    }
}

/// A change of this many events about no record, numbered in their attempt by the order they stand in.
pub(super) fn events(count: u32, at: Timestamp) -> Change {
    let events = (0..count).map(|number| NewEvent { attempt: Some(number), ..event(at) }).collect();
    Change { events, ..Change::default() }
}
