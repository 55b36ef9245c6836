//! No query of the hot path walks what is queued or finished: SQLite's own plans, asked for.

use std::sync::Arc;

use eap_types::{AgentId, SessionState, TaskStatus, TaskType, TenantId, Timestamp};
use rusqlite::Connection;

use super::ledger::{END_STATE, LEASE_STATE, RENEW_STATE, UPDATE_STATE};
use super::open::Database;
use super::read::Walk;
use super::recent::Recent;
use super::{SqliteOptions, callbacks, claim, depths, holders, purge, read, routes, sessions, workflows};
use crate::clock::ManualClock;
use crate::store::{SessionFilter, TaskFilter};

fn database() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("eap.db"), &SqliteOptions::default()).unwrap();
    (folder, database)
}

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get(3).unwrap());
    }
    steps
}

#[track_caller]
fn assert_searches(connection: &Connection, sql: &str, index: &str) {
    let steps = plan(connection, sql);
    assert!(steps.iter().any(|step| step.starts_with("SEARCH") && step.contains(index)), "{sql}\n{steps:?}");
    let bad = |step: &&String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
    assert_eq!(steps.iter().find(bad), None, "{sql}\n{steps:?}");
}

#[test]
fn a_claim_searches_the_index_of_ready_tasks() {
    let (_folder, database) = database();
    for (sql, search) in [
        (claim::PLACES_AT, "COVERING INDEX task_ready (route=? AND priority=? AND seq>?)"),
        (claim::PLACES_BEHIND, "COVERING INDEX task_ready (route=? AND priority>?)"),
    ] {
        assert_searches(&database.writer, sql, search);
    }
    assert_searches(&database.writer, routes::IS_READY, "COVERING INDEX task_ready (route=?)");
    assert_searches(&database.writer, holders::HELD, "task_held (holder=?)");
    for sql in [LEASE_STATE, RENEW_STATE, END_STATE, UPDATE_STATE] {
        assert_searches(&database.writer, sql, "INTEGER PRIMARY KEY (rowid=?)");
    }
}

#[test]
fn what_an_agent_holds_is_searched_by_its_id() {
    let (_folder, database) = database();
    // Sorted by priority: as many rows as the agent holds.
    let steps = plan(&database.writer, read::LEASES);
    assert!(steps[0].contains("task_held (holder=?)"), "{steps:?}");
    // Every lease there is, but nothing that is queued or final.
    let steps = plan(&database.writer, read::LEASED);
    assert!(steps.iter().any(|step| step.contains("COVERING INDEX task_held")), "{steps:?}");
    assert!(steps.iter().all(|step| !step.contains("SCAN t") || step.contains("task_held")), "{steps:?}");
}

#[test]
fn what_is_due_and_what_is_old_is_searched_by_time() {
    let (_folder, database) = database();
    assert_searches(&database.writer, read::DUE, "task_due (due_at<?)");
    assert_searches(&database.writer, purge::ENDED, "task_ended (ended_at<?)");
    assert_searches(&database.writer, callbacks::CALLBACKS, "callback_due ((due_at,task)>(?,?))");
    assert_searches(&database.writer, read::EVENTS_OF_TASK, "PRIMARY KEY (task=? AND event>?)");
    assert_searches(&database.writer, read::NEWEST_OF_TASK, "INTEGER PRIMARY KEY (rowid>?)");
}

fn everything() -> TaskFilter {
    TaskFilter {
        tenant: TenantId::default(),
        status: None,
        agent: None,
        task_type: None,
        dead_letters: false,
        before: None,
        limit: 50,
    }
}

#[test]
fn what_waits_is_counted_in_the_indexes_alone() {
    let (_folder, database) = database();
    let steps = plan(&database.writer, depths::READY);
    assert!(steps.iter().any(|step| step.contains("task USING COVERING INDEX task_ready")), "{steps:?}");
    assert!(steps.iter().any(|step| step.contains("SEARCH r USING INTEGER PRIMARY KEY")), "{steps:?}");
    assert!(steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
    let steps = plan(&database.writer, depths::DELAYED);
    assert_eq!(steps, ["SCAN task USING COVERING INDEX task_delayed"]);
    // What is held is looked up row by row, but nothing that is queued or final.
    let steps = plan(&database.writer, depths::HELD);
    assert!(steps[0].contains("task USING INDEX task_held"), "{steps:?}");
}

#[test]
fn every_list_walks_an_index_from_its_newest_end() {
    let (_folder, database) = database();
    let everything = everything();
    assert_searches(&database.writer, &read::tasks_sql(&everything, Walk::All), "INTEGER PRIMARY KEY (rowid<?)");
    let agent = Some(AgentId::v7(Timestamp::UNIX_EPOCH, [1; 10]));
    let task_type: Option<TaskType> = Some("text.translate".parse().unwrap());
    for status in [None, Some(TaskStatus::Queued), Some(TaskStatus::Dead)] {
        let by_agent = TaskFilter { status, agent: agent.clone(), ..everything.clone() };
        let sql = read::tasks_sql(&by_agent, Walk::OfAgent);
        assert_searches(&database.writer, &sql, "PRIMARY KEY (tenant=? AND agent=? AND task<?)");
        // The newest leases alone are looked through, as many as the tables may be behind.
        let steps = plan(&database.writer, &read::tasks_sql(&by_agent, Walk::NewestOfAgent));
        assert!(steps.iter().any(|step| step.contains("event USING INTEGER PRIMARY KEY (rowid>?)")), "{steps:?}");
        let by_type = TaskFilter { status, task_type: task_type.clone(), ..everything.clone() };
        let index = if status == Some(TaskStatus::Queued) { "task_open" } else { "task_by_type" };
        assert_searches(&database.writer, &read::tasks_sql(&by_type, Walk::All), index);
        let by_status = TaskFilter { status, ..everything.clone() };
        let index = match status {
            None => "PRIMARY KEY",
            Some(TaskStatus::Queued) => "task_open (tenant=? AND seq<?)",
            Some(_) => "task_over (tenant=? AND status=? AND seq<?)",
        };
        assert_searches(&database.writer, &read::tasks_sql(&by_status, Walk::All), index);
    }
    let leased = TaskFilter { status: Some(TaskStatus::Leased), ..everything };
    let steps = plan(&database.writer, &read::tasks_sql(&leased, Walk::All));
    assert!(steps.iter().any(|step| step.contains("task_held")), "{steps:?}");
}

#[test]
fn dead_letters_are_searched_among_themselves() {
    let (_folder, database) = database();
    let letters = TaskFilter { dead_letters: true, ..everything() };
    let agent = Some(AgentId::v7(Timestamp::UNIX_EPOCH, [1; 10]));
    let task_type: Option<TaskType> = Some("text.translate".parse().unwrap());
    for filter in [
        letters.clone(),
        TaskFilter { agent, ..letters.clone() },
        TaskFilter { task_type, ..letters.clone() },
        TaskFilter { status: Some(TaskStatus::Dead), ..letters },
    ] {
        assert_searches(&database.writer, &read::tasks_sql(&filter, Walk::All), "task_letter (tenant=? AND seq<?)");
    }
    // An index is visited by statements that set one of its columns: the ordinary way of a task sets neither.
    for sql in [LEASE_STATE, RENEW_STATE, END_STATE, UPDATE_STATE] {
        assert!(!sql.contains("letter") && !sql.contains("tenant"), "{sql}");
    }
}

#[test]
fn sessions_and_workflows_are_searched_by_what_is_asked_for() {
    let (_folder, database) = database();
    for (sql, index) in [
        (sessions::OF_STEP, "SEARCH t USING PRIMARY KEY (task=?)"),
        (sessions::OPEN, "session_open (id>?)"),
        (sessions::ENDED, "session_ended (ended_at<?)"),
        (sessions::FORGET_STEPS, "session_step_of (session=?)"),
        (workflows::VERSION, "workflow_version (tenant=? AND id=? AND version=?)"),
        (workflows::NEWEST, "workflow_by_id (tenant=? AND id=?)"),
        (workflows::NEWEST_FIRST, "workflow_of_tenant (tenant=? AND seq<?)"),
    ] {
        assert_searches(&database.writer, sql, index);
    }
    let later = plan(&database.writer, workflows::NEWEST_FIRST);
    assert!(later.iter().any(|step| step.contains("workflow_by_id (tenant=? AND id=? AND seq>?)")), "{later:?}");
    let (status, workflow_id) = (Some(SessionState::Running), Some("wf".parse().unwrap()));
    let agent_id = Some(AgentId::v7(Timestamp::UNIX_EPOCH, [1; 10]));
    let all = SessionFilter {
        tenant: TenantId::default(),
        status: None,
        workflow_id: None,
        agent_id: None,
        before: None,
        limit: 50,
    };
    for (filter, index) in [
        (all.clone(), "session_of_tenant (tenant=? AND seq<?)"),
        (SessionFilter { status, ..all.clone() }, "session_by_status (tenant=? AND status=? AND seq<?)"),
        (
            SessionFilter { status, workflow_id: workflow_id.clone(), ..all.clone() },
            "session_by_workflow (tenant=? AND workflow=? AND seq<?)",
        ),
        (SessionFilter { status, workflow_id, agent_id, ..all }, "session_by_agent (tenant=? AND agent=? AND seq<?)"),
    ] {
        assert_searches(&database.writer, &sessions::sessions_sql(&filter), index);
    }
    // A session that stands where it stood visits no index.
    for word in ["status", "ended_at", "tenant", "workflow", "agent"] {
        assert!(!sessions::STEP_ON.contains(word), "{word}");
    }
}

#[test]
fn a_store_opens_by_reading_the_ends_of_tables_alone() {
    let (_folder, database) = database();
    let oldest = plan(&database.writer, read::OLDEST_EVENT);
    assert!(oldest.iter().all(|step| step.starts_with("SEARCH")), "{oldest:?}");
    let steps = plan(&database.writer, read::HEAD);
    assert!(steps.iter().all(|step| !step.starts_with("SCAN") || step.contains("CONSTANT ROW")), "{steps:?}");
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    drop(super::ledger::Ledger::load(database.writer, clock, Arc::new(Recent::default())).unwrap());
}
