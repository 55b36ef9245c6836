//! Workflows that are kept: each version once, and for ever.

use std::sync::Arc;

use eap_core::CheckedWorkflow;
use eap_types::{TenantId, Timestamp, WorkflowDefinition, WorkflowId, WorkflowSummary};

use super::harness::{Harness, assert_duplicate};
use super::purge::{keeping_all, purge};
use super::samples;
use crate::store::{Change, Cutoffs, Insertion, WorkflowRow};

fn row(workflow: CheckedWorkflow, now: Timestamp) -> WorkflowRow {
    WorkflowRow { tenant: TenantId::default(), workflow, stored_at: now }
}

/// A change that keeps these, and an event that shows whether it was written.
fn keeping(rows: impl IntoIterator<Item = WorkflowRow>, now: Timestamp) -> Change {
    Change { workflows: rows.into_iter().collect(), ..samples::events(1, now) }
}

async fn keep(h: &Harness, id: &str, version: &str) {
    h.commit(keeping([row(samples::workflow(id, version), h.now())], h.now())).await;
}

fn id(text: &str) -> WorkflowId {
    text.parse().expect("the sample is a workflow's id")
}

async fn read(h: &Harness, tenant: TenantId, id: &WorkflowId, version: Option<&str>) -> Option<WorkflowRow> {
    h.store.workflow(tenant, id, version).await.expect("a read succeeds")
}

async fn page(h: &Harness, before: Option<Insertion>, limit: usize) -> Vec<(Insertion, String)> {
    let page = h.store.workflows(TenantId::default(), before, limit).await.expect("a read succeeds");
    page.into_iter().map(|(number, summary)| (number, format!("{} {}", summary.id, summary.version))).collect()
}

async fn listed(h: &Harness) -> Vec<String> {
    page(h, None, 100).await.into_iter().map(|(_, word)| word).collect()
}

pub(super) async fn a_workflow_reads_back_as_it_was_written(h: Harness) {
    let tenant = samples::tenant(9);
    let stored_at = Timestamp::from_micros(-1);
    let kept = WorkflowRow { tenant, workflow: samples::full_workflow(), stored_at };
    let (id, version) = (kept.workflow.id.clone(), kept.workflow.version.clone());
    h.commit(keeping([kept.clone()], h.now())).await;
    let read = read(&h, tenant, &id, Some(&version)).await.expect("the workflow is kept");
    assert_eq!(read, kept);
    for (read, kept) in read.workflow.tasks.iter().zip(&kept.workflow.tasks) {
        assert_eq!(read.parameters.as_str(), kept.parameters.as_str(), "byte for byte");
    }
    let listed = h.store.workflows(tenant, None, 9).await.expect("a read succeeds");
    let listed: Vec<_> = listed.into_iter().map(|(_, summary)| summary).collect();
    assert_eq!(listed, [WorkflowSummary::of(&kept.workflow, stored_at)]);
}

pub(super) async fn the_version_of_a_workflow_that_was_kept_last_is_the_newest(h: Harness) {
    for (id, version) in [("a", "9.0"), ("b", "7.0"), ("a", "10.0"), ("a", "2.0"), ("b", "1.0")] {
        keep(&h, id, version).await;
    }
    let newest = async |version| read(&h, TenantId::default(), &id("a"), version).await.map(|row| row.workflow);
    assert_eq!(newest(None).await, Some(samples::workflow("a", "2.0")));
    assert_eq!(newest(Some("9.0")).await, Some(samples::workflow("a", "9.0")), "earlier ones stay");
    assert_eq!(newest(Some("3.0")).await, None);
    assert_eq!(read(&h, TenantId::default(), &id("c"), None).await, None);
    assert_eq!(read(&h, TenantId::default(), &id("A"), None).await, None);
    assert_eq!(read(&h, samples::tenant(1), &id("a"), None).await, None);
    assert_eq!(read(&h, samples::tenant(1), &id("a"), Some("2.0")).await, None);
}

pub(super) async fn a_version_of_a_workflow_that_is_kept_is_a_duplicate(h: Harness) {
    keep(&h, "a", "1.0").await;
    let head = h.store.head().await.expect("a read succeeds");
    let again = row(samples::workflow("a", "1.0"), h.now());
    for taken in [again.clone(), row(another("a", "1.0"), h.now())] {
        let new = row(samples::workflow("b", "1.0"), h.now());
        assert_duplicate(&h.store.commit(keeping([new, taken], h.now())).await);
    }
    let twice = [row(samples::workflow("b", "1.0"), h.now()), row(samples::workflow("b", "1.0"), h.now())];
    assert_duplicate(&h.store.commit(keeping(twice, h.now())).await);
    assert_eq!(h.store.head().await.expect("a read succeeds"), head, "nothing of these changes was written");
    assert_eq!(listed(&h).await, ["a 1.0"]);
    assert_eq!(read(&h, TenantId::default(), &id("a"), None).await, Some(again.clone()));

    let theirs = WorkflowRow { tenant: samples::tenant(1), ..again };
    h.commit(keeping([theirs, row(samples::workflow("a", "1.0 "), h.now())], h.now())).await;
    assert_eq!(listed(&h).await, ["a 1.0 "]);
}

/// Another content under this name.
fn another(id: &str, version: &str) -> CheckedWorkflow {
    let mut definition = WorkflowDefinition::from(samples::full_workflow());
    definition.id = id.parse().expect("the sample is a workflow's id");
    version.clone_into(&mut definition.version);
    CheckedWorkflow::check(definition, None).expect("the sample can run")
}

pub(super) async fn of_racing_definitions_of_a_version_one_is_kept(h: Harness) {
    let calls: Vec<_> = (0..8_u64)
        .map(|second| {
            let now = h.now() + std::time::Duration::from_secs(second);
            let (store, change) = (Arc::clone(&h.store), keeping([row(samples::workflow("a", "1.0"), now)], now));
            async move { (now, store.commit(change).await) }
        })
        .collect();
    let (winners, losers): (Vec<_>, Vec<_>) = h.race(calls).await.into_iter().partition(|(_, answer)| answer.is_ok());
    assert_eq!((winners.len(), losers.len()), (1, 7));
    losers.iter().for_each(|(_, answer)| assert_duplicate(answer));
    let kept = read(&h, TenantId::default(), &id("a"), None).await.expect("somebody won");
    assert_eq!(kept.stored_at, winners[0].0);
}

pub(super) async fn workflows_page_by_their_newest_version(h: Harness) {
    for (id, version) in [("a", "1"), ("b", "1"), ("c", "1"), ("a", "2"), ("d", "1"), ("b", "2"), ("a", "3")] {
        keep(&h, id, version).await;
    }
    let theirs = WorkflowRow { tenant: samples::tenant(1), ..row(samples::workflow("a", "4"), h.now()) };
    h.commit(keeping([theirs], h.now())).await;
    let newest_first = ["a 3", "b 2", "d 1", "c 1"];
    assert_eq!(listed(&h).await, newest_first);
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = page(&h, before, 3).await;
        assert!(page.len() <= 3);
        let Some((number, _)) = page.last() else { break };
        before = Some(*number);
        seen.extend(page.into_iter().map(|(_, word)| word));
    }
    assert_eq!(seen, newest_first);
}

pub(super) async fn no_purge_takes_a_workflow(h: Harness) {
    keep(&h, "a", "1").await;
    keep(&h, "a", "2").await;
    h.advance(1);
    let all = h.now();
    let cutoffs = Cutoffs { sessions: all, tasks: all, events: all, states: all, ..keeping_all() };
    purge(&h, cutoffs).await;
    assert_eq!(listed(&h).await, ["a 2"]);
    assert!(read(&h, TenantId::default(), &id("a"), Some("1")).await.is_some());
}
