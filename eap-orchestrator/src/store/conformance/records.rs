//! What was written reads back, field by field.

use std::collections::BTreeMap;
use std::time::Duration;

use eap_core::{Attempt, AttemptOutcome, Disposal, Lease, Phase, Progress, ResultDigest, Task, TaskState};
use eap_types::{FailureCode, LeaseId, TaskId, TaskStatus, Timestamp};

use super::harness::{Harness, inserting};
use super::samples;
use crate::store::{AgentWrite, Change, EventSeq, ResultRow, Stored, TaskWrite};

pub(super) async fn a_task_reads_back_as_it_was_written(h: Harness) {
    let task = Task::submitted(samples::full_spec(TaskId::v7(h.now(), h.draw()), h.now()));
    h.commit(inserting(task.clone())).await;
    let stored = h.stored(task.id()).await;
    assert_eq!(stored.record, task);
    assert_eq!(stored.record.spec.context.as_str(), task.spec.context.as_str(), "opaque JSON keeps its text");
}

pub(super) async fn a_task_reads_back_in_every_phase(h: Harness) {
    for phase in phases(h.now()) {
        let task = Task::submitted(samples::full_spec(TaskId::v7(h.now(), h.draw()), h.now()));
        let (id, now) = (task.id(), h.now());
        h.commit(inserting(task)).await;
        let Stored { mut record, revision, .. } = h.stored(id).await;
        record.state = full_state(phase, now);
        let has_result = matches!(record.status(), TaskStatus::Completed | TaskStatus::Failed);
        let row = ResultRow { task: id, attempt: 1, recorded_at: now, result: samples::result(id) };
        let change = Change {
            tasks: vec![TaskWrite::Update { task: record.clone(), revision }],
            results: has_result.then_some(row).into_iter().collect(),
            ..Change::default()
        };
        h.commit(change).await;
        assert_eq!(h.stored(id).await.record, record);
    }
}

fn phases(now: Timestamp) -> [Phase; 8] {
    let lease = Lease {
        attempt: 1,
        lease_id: LeaseId::from_bytes([8; 16]),
        agent: samples::agent_id("ägent \"7\" @ home"),
        request_id: Some("request-!~".parse().expect("the sample is a request id")),
        expires_at: now + Duration::from_micros(59_999_999),
        deadline: now + Duration::from_micros(3_600_000_001),
        length: Duration::from_micros(60_000_001),
        quiet_until: Some(now + Duration::from_micros(30_000_001)),
    };
    [
        Phase::Queued { ready_at: None },
        Phase::Queued { ready_at: Some(now + Duration::from_micros(1)) },
        Phase::Leased(lease),
        Phase::Completed { attempt: 1 },
        Phase::Failed { attempt: 1, reason: samples::AWKWARD.to_owned() },
        Phase::Cancelled { reason: None },
        Phase::Cancelled { reason: Some(String::new()) },
        Phase::Dead { reason: samples::AWKWARD.to_owned() },
    ]
}

fn full_state(phase: Phase, now: Timestamp) -> TaskState {
    let attempt = Attempt {
        number: 1,
        agent: samples::agent_id("ägent \"7\" @ home"),
        epoch: (1 << 53) + 1,
        lease_id: LeaseId::from_bytes([8; 16]),
        outcome: AttemptOutcome::Failed,
        started_at: now,
        ended_at: Some(now + Duration::from_micros(1)),
        error_code: Some(FailureCode::ResourceExhausted),
        message: Some(samples::AWKWARD.to_owned()),
        reported: Some(ResultDigest::from_bytes(std::array::from_fn(|byte| 255 - byte as u8))),
        given_up: true,
        inactive: true,
    };
    let progress =
        Progress { seq: Some(u64::MAX), fraction: Some(0.1 + 0.2), message: Some(samples::AWKWARD.to_owned()) };
    TaskState {
        phase,
        attempts: vec![attempt],
        progress: Some(progress),
        output_bytes: (1 << 53) + 1,
        excluded: BTreeMap::from([(samples::agent_id("日本"), now + Duration::from_micros(1))]),
        disposal: Some(Disposal::Requeued { task: TaskId::from_bytes([255; 16]), at: now + Duration::from_micros(1) }),
        updated_at: now + Duration::from_micros(1),
    }
}

pub(super) async fn an_agent_reads_back_as_it_was_written(h: Harness) {
    let (agent, vitals) = (samples::full_agent(h.now()), samples::full_vitals(h.now()));
    let write = AgentWrite::Insert(agent.clone(), vitals.clone());
    h.commit(Change { agents: vec![write], ..Change::default() }).await;
    let (stored, read) = h.known(&agent.id).await.expect("the agent is stored");
    assert_eq!((stored.record, read), (agent, vitals));
}

pub(super) async fn a_result_reads_back_byte_for_byte(h: Harness) {
    let agent = h.register(&["a"]).await;
    let id = h.submit("a").await;
    h.take(&agent, 1).await;
    let Stored { mut record, revision, now } = h.stored(id).await;
    record.state.phase = Phase::Completed { attempt: 1 };
    let row = ResultRow { task: id, attempt: 1, recorded_at: now, result: samples::full_result(id) };
    let change = Change {
        tasks: vec![TaskWrite::Update { task: record, revision }],
        results: vec![row.clone()],
        ..Change::default()
    };
    h.commit(change).await;
    let read = h.store.result(id).await.expect("a read succeeds").expect("the result is stored");
    assert_eq!(read, row);
    assert_eq!(read.result.output_data.as_str(), row.result.output_data.as_str(), "opaque JSON keeps its text");
}

pub(super) async fn what_was_never_written_is_not_there(h: Harness) {
    let (id, agent) = (TaskId::v7(h.now(), h.draw()), samples::agent_id("nobody"));
    assert_eq!(h.store.task(id).await.expect("a read succeeds"), None);
    assert_eq!(h.store.result(id).await.expect("a read succeeds"), None);
    assert_eq!(h.store.late_results(id).await.expect("a read succeeds"), []);
    assert_eq!(h.store.leases(&agent).await.expect("a read succeeds"), []);
    assert_eq!(h.store.agents().await.expect("a read succeeds"), []);
    assert_eq!(h.store.idempotent(&samples::scope("none")).await.expect("a read succeeds"), None);
    assert_eq!(h.store.events(EventSeq(0), None, 10).await.expect("a read succeeds"), []);
    assert_eq!(h.store.head().await.expect("a read succeeds"), EventSeq(0));
    assert_eq!(h.store.pulse().await.expect("a read succeeds"), None);
}

pub(super) async fn an_update_moves_the_revision_and_keeps_the_spec(h: Harness) {
    let id = h.submit("a").await;
    let first = h.stored(id).await;
    assert_eq!(h.stored(id).await, first, "a read changes nothing");

    let other_spec = h.task("b", |spec| spec.id = id).spec;
    let state =
        TaskState { progress: Some(Progress { seq: Some(1), fraction: None, message: None }), ..first.record.state };
    let task = Task { spec: other_spec, state: state.clone() };
    let update = TaskWrite::Update { task, revision: first.revision };
    h.commit(Change { tasks: vec![update], ..Change::default() }).await;

    let second = h.stored(id).await;
    assert_ne!(second.revision, first.revision);
    assert_eq!(second.record, Task { spec: first.record.spec, state });
}

pub(super) async fn tasks_are_read_by_id(h: Harness) {
    let (first, second) = (h.submit("a").await, h.submit("b").await);
    let agent = h.register(&["b"]).await;
    h.claim(h.ask(&agent, 1)).await;
    let nobodys = TaskId::v7(h.now(), h.draw());
    let mut read = h.store.tasks_of(&[second, nobodys, first]).await.expect("a read succeeds");
    read.sort_by_key(|task| task.record.id());
    assert_eq!(read, [h.stored(first).await, h.stored(second).await]);
    assert_eq!(h.store.tasks_of(&[]).await.expect("a read succeeds"), []);
}

pub(super) async fn reads_carry_the_stores_time(h: Harness) {
    let id = h.submit("a").await;
    let agent = h.register(&["a"]).await;
    assert_eq!(h.stored(id).await.now, h.now());
    h.clock.advance(Duration::from_micros(1));
    assert_eq!(h.stored(id).await.now, h.now());
    assert_eq!(h.known(&agent.id).await.expect("the agent is stored").0.now, h.now());
}
