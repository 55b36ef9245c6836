//! Whether a store that is opened on what a cut left has all that was acknowledged, and no part of anything else.

use std::collections::{BTreeMap, BTreeSet};

use eap_orchestrator::store::{EventSeq, Repository, SqliteStore, TaskFilter};
use eap_power_cut::{Disk, VFS};
use eap_types::{TaskStatus, TenantId};
use rusqlite::{Connection, OpenFlags};

use crate::load::{Acknowledged, FILE, Load, open, result, scope};

/// So many of the newest results are read back.
const RESULTS: usize = 4;

/// Opens the store and compares; gives the changes that are there.
pub(crate) async fn verify(disk: &Disk, load: &Load, acknowledged: usize, place: &str) -> BTreeSet<u64> {
    let book = load.book()[..acknowledged].to_vec();
    let store = open(disk).unwrap_or_else(|error| panic!("{place}: it does not open: {error:?}"));
    let found = changes(&store, place).await;
    for entry in &book {
        if let Acknowledged::Submitted { change, tasks } = entry {
            let there = found.get(change).copied().unwrap_or(0);
            assert_eq!(there, *tasks, "{place}: tasks of change {change}, which was acknowledged");
        }
    }
    for entry in load.book().iter() {
        if let Acknowledged::Submitted { change, tasks } = entry {
            let there = found.get(change).copied().unwrap_or(0);
            assert!(there == 0 || there == *tasks, "{place}: {there} of {tasks} tasks of change {change}");
        }
    }
    for change in found.keys().rev().take(2) {
        let row = store.idempotent(&scope(*change)).await.expect("a read succeeds");
        assert!(row.is_some(), "{place}: change {change} has no key");
    }
    let results = book.iter().rev().filter_map(|entry| match entry {
        Acknowledged::Completed { task, said } => Some((*task, *said)),
        Acknowledged::Submitted { .. } => None,
    });
    for (task, said) in results.take(RESULTS) {
        let stored = store.task(task).await.expect("a read succeeds");
        let status = stored.map(|stored| stored.record.status());
        assert_eq!(status, Some(TaskStatus::Completed), "{place}: task {task}, whose result was acknowledged");
        let row = store.result(task).await.expect("a read succeeds");
        assert_eq!(row.map(|row| row.result), Some(result(task, said)), "{place}: result of {task}");
    }
    store.close().await.expect("an open store closes");
    drop(store);
    let connection = Connection::open_with_flags_and_vfs(disk.path(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE, VFS);
    let verdict = connection
        .and_then(|connection| connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)));
    assert_eq!(verdict.as_deref(), Ok("ok"), "{place}: integrity");
    found.into_keys().collect()
}

/// How many tasks of each change are there; each has its event.
async fn changes(store: &SqliteStore, place: &str) -> BTreeMap<u64, usize> {
    let filter = TaskFilter {
        tenant: TenantId::default(),
        status: None,
        agent: None,
        task_type: None,
        dead_letters: false,
        before: None,
        limit: 1_000_000,
    };
    let tasks = store.tasks(&filter).await.expect("a read succeeds");
    let events = store.events(EventSeq(0), None, 1_000_000).await.expect("a read succeeds");
    let submitted: BTreeSet<_> =
        events.iter().filter(|event| event.kind == "task.submitted").filter_map(|event| event.task).collect();
    assert_eq!(tasks.len(), submitted.len(), "{place}: as many tasks as were told of");
    let mut found = BTreeMap::new();
    for (_, task) in &tasks {
        assert!(submitted.contains(&task.record.id()), "{place}: a task without its event");
        let change = task.record.spec.input.split(' ').next().and_then(|number| number.parse().ok());
        *found.entry(change.expect("every task names its change")).or_default() += 1;
    }
    found
}
