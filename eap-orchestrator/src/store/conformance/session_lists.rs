//! Which sessions are listed, in which order, and which go.

use eap_core::SessionPhase;
use eap_types::{SessionId, SessionState, TenantId};

use super::harness::Harness;
use super::purge::{keeping_all, purge};
use super::samples;
use super::sessions::{change, inserting, of, start};
use crate::store::{Cutoffs, Insertion, SessionFilter};

async fn page(h: &Harness, filter: &SessionFilter) -> Vec<(Insertion, SessionId)> {
    let page = h.store.sessions(filter).await.expect("a read succeeds");
    page.iter().map(|(number, view)| (*number, view.session_id)).collect()
}

async fn listed(h: &Harness, filter: &SessionFilter) -> Vec<SessionId> {
    page(h, filter).await.into_iter().map(|(_, id)| id).collect()
}

async fn open(h: &Harness, after: Option<SessionId>, limit: usize) -> Vec<SessionId> {
    let open = h.store.open_sessions(after, limit).await.expect("a read succeeds");
    open.into_iter().map(|(id, _)| id).collect()
}

pub(super) fn everything() -> SessionFilter {
    SessionFilter {
        tenant: TenantId::default(),
        status: None,
        workflow_id: None,
        agent_id: None,
        before: None,
        limit: 100,
    }
}

pub(super) async fn sessions_page_newest_first(h: Harness) {
    let mut newest_first = Vec::new();
    for number in 0..5_u8 {
        // Ids against the order of insertion.
        let id = SessionId::from_bytes([9 - number; 16]);
        newest_first.insert(0, start(&h, |spec, _| spec.id = id).await);
    }
    change(&h, newest_first[3], |run| run.phase = SessionPhase::Completed { at: run.updated_at }).await;
    let (mut filter, mut seen) = (SessionFilter { limit: 2, ..everything() }, Vec::new());
    loop {
        let page = page(&h, &filter).await;
        assert!(page.len() <= 2);
        let Some((number, _)) = page.last() else { break };
        filter.before = Some(*number);
        seen.extend(page.into_iter().map(|(_, id)| id));
    }
    assert_eq!(seen, newest_first, "a change does not move a session");
}

pub(super) async fn sessions_are_listed_by_tenant_status_workflow_and_agent(h: Harness) {
    let agent = samples::agent_id("ägent \"7\" @ home");
    let theirs = start(&h, |spec, _| spec.tenant = samples::tenant(1)).await;
    let a = start(&h, |spec, _| spec.agent_id = Some(agent.clone())).await;
    let b = start(&h, |spec, _| {
        spec.workflow = samples::full_workflow();
        spec.agent_id = Some(agent.clone());
    })
    .await;
    let c = start(&h, |spec, _| spec.workflow = samples::workflow("wf", "2.0")).await;
    let d = start(&h, |spec, _| spec.agent_id = Some(samples::agent_id("other"))).await;
    for id in [b, d] {
        change(&h, id, |run| run.phase = SessionPhase::Running).await;
    }
    change(&h, d, |run| run.phase = SessionPhase::Failed { at: run.updated_at, reason: String::new() }).await;

    let status = |status| SessionFilter { status: Some(status), ..everything() };
    let of_agent = || SessionFilter { agent_id: Some(agent.clone()), ..everything() };
    let of_workflow = |workflow: &str| SessionFilter {
        workflow_id: Some(workflow.parse().expect("the sample is a workflow's id")),
        ..everything()
    };
    assert_eq!(listed(&h, &everything()).await, [d, c, b, a]);
    assert_eq!(listed(&h, &SessionFilter { tenant: samples::tenant(1), ..everything() }).await, [theirs]);
    assert_eq!(listed(&h, &status(SessionState::Started)).await, [c, a]);
    assert_eq!(listed(&h, &status(SessionState::Running)).await, [b]);
    assert_eq!(listed(&h, &status(SessionState::Failed)).await, [d]);
    assert_eq!(listed(&h, &status(SessionState::Paused)).await, []);
    assert_eq!(listed(&h, &of_agent()).await, [b, a]);
    assert_eq!(listed(&h, &of_workflow("wf")).await, [d, c, a], "whatever its version");
    assert_eq!(listed(&h, &of_workflow("WF")).await, []);
    let started = Some(SessionState::Started);
    assert_eq!(listed(&h, &SessionFilter { status: started, ..of_agent() }).await, [a]);
    assert_eq!(listed(&h, &SessionFilter { status: started, ..of_workflow("wf") }).await, [c, a]);
    assert_eq!(listed(&h, &SessionFilter { agent_id: Some(agent.clone()), ..of_workflow("wf") }).await, [a]);
    let number = page(&h, &everything()).await[1].0;
    assert_eq!(listed(&h, &SessionFilter { before: Some(number), ..of_workflow("wf") }).await, [a]);
    let all = SessionFilter { status: Some(SessionState::Running), agent_id: Some(agent.clone()), ..of_workflow("wf") };
    assert_eq!(listed(&h, &all).await, []);
}

pub(super) async fn open_sessions_page_in_order_of_id(h: Harness) {
    let mut ids = Vec::new();
    for number in 0..6_u8 {
        let id = SessionId::from_bytes([9 - number; 16]);
        let tenant = samples::tenant(number % 2);
        ids.push(start(&h, |spec, _| (spec.id, spec.tenant) = (id, tenant)).await);
    }
    ids.sort();
    change(&h, ids[1], |run| run.phase = SessionPhase::Paused { since: run.updated_at }).await;
    change(&h, ids[3], |run| run.phase = SessionPhase::Running).await;
    assert_eq!(open(&h, None, 9).await, ids, "of every tenant, paused ones too");
    assert_eq!(open(&h, None, 2).await, ids[..2]);
    assert_eq!(open(&h, Some(ids[1]), 2).await, ids[2..4]);
    for (id, phase) in [
        (ids[0], SessionPhase::Completed { at: h.now() }),
        (ids[2], SessionPhase::Failed { at: h.now(), reason: String::new() }),
        (ids[4], SessionPhase::Cancelled { at: h.now(), reason: None }),
    ] {
        change(&h, id, |run| run.phase = phase).await;
    }
    assert_eq!(open(&h, None, 9).await, [ids[1], ids[3], ids[5]]);
    assert_eq!(open(&h, Some(ids[5]), 9).await, []);
}

pub(super) async fn old_sessions_go_by_their_own_age(h: Harness) {
    let task = h.submit("a").await;
    let old = start(&h, |_, run| run.steps = vec![samples::step(0, task, run.updated_at)]).await;
    let (paused, young) = (start(&h, |_, _| ()).await, start(&h, |_, _| ()).await);
    change(&h, paused, |run| run.phase = SessionPhase::Paused { since: run.updated_at }).await;
    let end = h.now();
    change(&h, old, |run| run.phase = SessionPhase::Completed { at: end }).await;
    let cutoffs = Cutoffs { sessions: end, ..keeping_all() };
    assert_eq!(purge(&h, cutoffs).await.rows, 0, "what ended at the cut-off itself stays");
    h.advance(1);
    let now = h.now();
    // Its age counts from its end.
    change(&h, young, |run| run.phase = SessionPhase::Cancelled { at: now, reason: None }).await;
    assert_eq!(purge(&h, Cutoffs { tasks: now, events: now, ..keeping_all() }).await.rows, 0);
    assert!(purge(&h, Cutoffs { sessions: now, ..keeping_all() }).await.rows >= 1);

    assert_eq!(h.store.session(old).await.expect("a read succeeds"), None);
    assert_eq!(of(&h, task).await, None);
    assert_eq!(listed(&h, &everything()).await, [young, paused]);
    assert_eq!(open(&h, None, 9).await, [paused]);
    h.stored(task).await;
    // Nothing of it is left in the way.
    h.commit(inserting(samples::session(old, task, now))).await;
    assert_eq!(of(&h, task).await, Some(old));
}

pub(super) async fn sessions_go_in_steps_and_their_numbers_with_them(h: Harness) {
    let at = h.now();
    for _ in 0..5 {
        start(&h, |_, run| run.phase = SessionPhase::Completed { at }).await;
    }
    let newest = page(&h, &everything()).await[0].0;
    h.advance(1);
    let cutoffs = Cutoffs { sessions: h.now(), ..keeping_all() };
    for left in [3, 1, 0, 0] {
        h.store.purge(&cutoffs, 2).await.expect("a purge succeeds");
        assert_eq!(listed(&h, &everything()).await.len(), left);
    }
    start(&h, |_, _| ()).await;
    assert!(page(&h, &everything()).await[0].0 > newest, "no number is given twice");
}
