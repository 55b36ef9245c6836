//! Databases with many tasks in them, made once through the store's own API and kept between measurements.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eap_core::{Note, NoteKind, Quote, Report, Task, TaskEvent, TaskPolicy, TaskSpec};
use eap_orchestrator::store::{
    Change, PostgresOptions, PostgresStore, Repository, ResultRow, SqliteOptions, SqliteStore, TaskWrite, events_of,
};
use eap_orchestrator::{Clock as _, SystemClock};
use eap_types::{AgentId, JsonObject, LeaseId, SessionId, TaskId, TaskResult, Timestamp};
use serde_json::json;

use crate::BoxError;
use crate::host::Side;
use crate::postgres::Schema;

/// Tasks in one commit.
const PER_COMMIT: u64 = 2_000;
/// A database older than this is made anew: what is over is purged after some days.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// What a database holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents {
    pub(crate) queued: u64,
    pub(crate) finished: u64,
}

impl Contents {
    /// The folder with such a database, made if it is not there.
    pub(crate) async fn prepare(self, data: &Path) -> Result<PathBuf, BoxError> {
        let folder = data.join(format!("queued-{}-finished-{}", self.queued, self.finished));
        let whole = folder.join("whole");
        let age = fs::metadata(&whole).and_then(|made| made.modified()).ok().and_then(|made| made.elapsed().ok());
        if age.is_some_and(|age| age < FRESH) {
            return Ok(folder);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        eprintln!("preparing {} queued and {} finished tasks", self.queued, self.finished);
        self.fill_file(&folder.join(format!("{}.db", Side::Ours.name()))).await?;
        // Last: half a database is not taken for a whole one.
        fs::write(whole, "")?;
        Ok(folder)
    }

    /// Puts the same into a schema.
    pub(crate) async fn fill_postgres(self, schema: &Schema) -> Result<(), BoxError> {
        eprintln!("preparing {} queued and {} finished tasks on PostgreSQL", self.queued, self.finished);
        let options = PostgresOptions::default().with_schema(&schema.name);
        self.fill(&PostgresStore::connect(&schema.url, options).await?, &SystemClock::new()).await
    }

    async fn fill_file(self, database: &Path) -> Result<(), BoxError> {
        let clock = Arc::new(SystemClock::new());
        let store = SqliteStore::open(database, clock.clone(), SqliteOptions::default())?;
        self.fill(&store, &clock).await
    }

    async fn fill(self, store: &impl Repository, clock: &SystemClock) -> Result<(), BoxError> {
        // Finished first, as time would have it.
        let all = self.finished + self.queued;
        for begin in (0..all).step_by(usize::try_from(PER_COMMIT)?) {
            let now = clock.now();
            let mut change = Change::default();
            for number in begin..(begin + PER_COMMIT).min(all) {
                let task = Task::submitted(spec(number, now)?);
                let note = Note::of(NoteKind::Submitted);
                change.events.extend(events_of(&task, &[note], now));
                if number < self.finished {
                    finish(task, number, now, &mut change)?;
                } else {
                    change.tasks.push(TaskWrite::Insert(task));
                }
            }
            store.commit(change).await?;
        }
        store.close().await?;
        Ok(())
    }
}

fn spec(number: u64, now: Timestamp) -> Result<TaskSpec, BoxError> {
    // Read from JSON, so that a new field with a default needs no change here.
    Ok(serde_json::from_value(json!({
        "id": TaskId::v7(now, random(number, 0)),
        "routing": eap_core::RoutingKey::of_type(Default::default(), "bench".parse()?),
        "session_id": SessionId::v7(now, random(number, 1)),
        "input": format!("at={:012} quick brown fox jumps over the lazy dog and goes on through the forest until evening", 0),
        "context": {"source": "bench", "line": 7},
        "priority": 2,
        "timeout": Duration::from_secs(3600),
        "max_attempts": 3,
        "created_at": now,
    }))?)
}

/// Takes a task through its life and writes it as it ends.
fn finish(mut task: Task, number: u64, now: Timestamp, change: &mut Change) -> Result<(), BoxError> {
    let policy = TaskPolicy::default();
    let agent: AgentId = format!("0198c0de-0001-7a00-8000-{:012}", number % 64).parse()?;
    let lease_id = LeaseId::v7(now, random(number, 2));
    let result = TaskResult::completed(task.id(), JsonObject::from_serialize(&json!({"output": "3", "exit_code": 0}))?);
    let length = Duration::from_secs(60);
    let report = Report::of(&result);
    let steps = [
        TaskEvent::Assign { agent: agent.clone(), epoch: 1, lease_id, request_id: None, length },
        TaskEvent::Report { agent, quote: Quote::lease(lease_id), report, chance: eap_core::Chance::from_bits(0) },
    ];
    for event in steps {
        let changed = task.apply(event, now, &policy)?.changed().ok_or("a step of a task's life changed nothing")?;
        change.events.extend(events_of(&task, &changed.notes, now));
        task.state = changed.state;
    }
    change.results.push(ResultRow { task: task.id(), attempt: 1, recorded_at: now, result });
    change.tasks.push(TaskWrite::Insert(task));
    Ok(())
}

/// Bytes that make an id unique and rise with `number`, as the clock does in a real one.
fn random(number: u64, kind: u8) -> [u8; 10] {
    let mut bytes = [kind; 10];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}
