//! A change lands whole or not at all, whatever happens beside it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use eap_core::{Agent, DueCallback, Phase, Progress, Session, Standing, Task, TaskEvent, Vitals};
use eap_types::{SessionId, TaskId, TenantId, Timestamp};

use super::harness::{Harness, assert_conflict, assert_duplicate, inserting};
use super::samples;
use crate::store::{
    AgentWrite, CallbackWrite, Change, CredentialWrite, Cutoffs, Demand, EventSeq, IdempotencyKeyRow, IdempotencyScope,
    IdempotentTarget, ResultRow, SessionFilter, SessionWrite, StateRow, StoreError, Stored, TaskFilter, TaskWrite,
    WebhookRow, WorkflowRow,
};

/// A change that writes something of every kind, beside what it is written over.
pub(super) struct Crowd {
    pub(super) change: Change,
    new_task: TaskId,
    task: Stored<Task>,
    new_agent: Agent,
    agent: (Stored<Agent>, Vitals),
    new_session: SessionId,
    session: Stored<Session>,
    head: EventSeq,
}

impl Crowd {
    pub(super) async fn new(h: &Harness) -> Self {
        let id = h.submit("known").await;
        let known = h.register(&["known"]).await;
        let task = h.stored(id).await;
        let agent = h.known(&known.id).await.expect("the agent is stored");
        let session = samples::session(SessionId::v7(h.now(), h.draw()), id, h.now());
        h.commit(Change { sessions: vec![SessionWrite::Insert(session.clone())], ..Change::default() }).await;
        let session = h.session(session.id()).await;
        let (new_task, new_agent, now) = (h.task("new", |_| ()), h.agent(&["new"]), h.now());
        let mut done = task.record.clone();
        done.state.phase = Phase::Completed { attempt: 1 };
        let drained = Agent { standing: Standing::Draining, ..known.clone() };
        let beaten = Vitals { seq: Some(9), ..agent.1.clone() };
        let new_session = samples::session(SessionId::v7(now, h.draw()), TaskId::v7(now, h.draw()), now);
        let mut went_on = session.record.clone();
        went_on.run.steps.push(samples::step(1, new_task.id(), now));
        let change = Change {
            tasks: vec![TaskWrite::Insert(new_task.clone()), TaskWrite::Update { task: done, revision: task.revision }],
            agents: vec![
                AgentWrite::Insert(new_agent.clone(), Vitals::registered(1, now)),
                AgentWrite::Update { agent: drained, revision: agent.0.revision },
            ],
            results: vec![ResultRow { task: id, attempt: 1, recorded_at: now, result: samples::result(id) }],
            late_results: vec![samples::late(id, 1, "late", now)],
            sessions: vec![
                SessionWrite::Insert(new_session.clone()),
                SessionWrite::Update { session: went_on, revision: session.revision },
            ],
            workflows: vec![WorkflowRow {
                tenant: TenantId::default(),
                workflow: samples::workflow("crowd", "1.0"),
                stored_at: now,
            }],
            callbacks: vec![CallbackWrite::Insert(DueCallback::new(id, "https://example.com:443".to_owned(), now))],
            idempotency: Some(samples::key("key", id, now)),
            webhook: Some(WebhookRow { digest: [1; 32], received_at: now }),
            states: vec![StateRow {
                agent: known.id.clone(),
                epoch: 1,
                reported_at: now,
                received_at: now,
                state: "idle".to_owned(),
                details: None,
            }],
            vitals: vec![(known.id, beaten)],
            credentials: vec![CredentialWrite::Insert(samples::operator_key(1, now))],
            last_used: vec![(samples::operator_key(1, now).id, now)],
            pulse: Some(now),
            events: samples::events(2, now).events,
        };
        let head = h.store.head().await.expect("a read succeeds");
        let (new_task, new_session) = (new_task.id(), new_session.id());
        Self { change, new_task, task, new_agent, agent, new_session, session, head }
    }

    pub(super) async fn assert_none_of_it(&self, h: &Harness) {
        let task = self.task.record.id();
        assert_eq!(h.store.task(self.new_task).await.expect("a read succeeds"), None);
        assert_eq!(h.stored(task).await, self.task);
        assert!(h.known(&self.new_agent.id).await.is_none());
        assert_eq!(h.known(&self.agent.0.record.id).await.as_ref(), Some(&self.agent));
        assert_eq!(h.store.result(task).await.expect("a read succeeds"), None);
        assert_eq!(h.store.late_results(task).await.expect("a read succeeds"), []);
        assert_eq!(h.store.callbacks(None, 9).await.expect("a read succeeds"), []);
        assert_eq!(h.store.session(self.new_session).await.expect("a read succeeds"), None);
        assert_eq!(h.session(self.session.record.id()).await, self.session);
        assert_eq!(h.store.session_of(self.new_task).await.expect("a read succeeds"), None);
        assert!(self.workflow(h).await.is_none());
        assert_eq!(h.store.idempotent(&samples::scope("key")).await.expect("a read succeeds"), None);
        assert_eq!(h.store.credentials().await.expect("a read succeeds"), []);
        assert_eq!(h.store.newest_states().await.expect("a read succeeds"), []);
        assert_eq!(h.store.pulse().await.expect("a read succeeds"), None);
        assert_eq!(h.store.head().await.expect("a read succeeds"), self.head);
        assert_eq!(h.store.events(self.head, None, 10).await.expect("a read succeeds"), []);
    }

    async fn workflow(&self, h: &Harness) -> Option<WorkflowRow> {
        let kept = &self.change.workflows[0];
        h.store.workflow(kept.tenant, &kept.workflow.id, None).await.expect("a read succeeds")
    }

    async fn assert_all_of_it(&self, h: &Harness) {
        let task = self.task.record.id();
        assert!(h.store.task(self.new_task).await.expect("a read succeeds").is_some());
        assert_eq!(h.stored(task).await.record.state.phase, Phase::Completed { attempt: 1 });
        assert!(h.known(&self.new_agent.id).await.is_some());
        let (agent, vitals) = h.known(&self.agent.0.record.id).await.expect("the agent is stored");
        assert_eq!((agent.record.standing, vitals.seq), (Standing::Draining, Some(9)));
        let credentials = h.store.credentials().await.expect("a read succeeds");
        assert_eq!(credentials.iter().map(|(_, used)| *used).collect::<Vec<_>>(), [Some(h.now())]);
        assert!(h.store.result(task).await.expect("a read succeeds").is_some());
        assert_eq!(h.store.late_results(task).await.expect("a read succeeds"), self.change.late_results);
        assert_eq!(h.session(self.new_session).await.record, *self.change.sessions[0].session());
        let went_on = h.store.session_of(self.new_task).await.expect("a read succeeds").expect("the session is stored");
        assert_eq!(went_on.record, *self.change.sessions[1].session());
        assert_eq!(self.workflow(h).await.as_ref(), self.change.workflows.first());
        let callbacks = h.store.callbacks(None, 9).await.expect("a read succeeds");
        assert_eq!(callbacks.iter().map(|stored| stored.record.task).collect::<Vec<_>>(), [task]);
        let key = h.store.idempotent(&samples::scope("key")).await.expect("a read succeeds");
        assert_eq!(key, self.change.idempotency);
        assert_eq!(h.store.newest_states().await.expect("a read succeeds"), self.change.states);
        assert_duplicate(&h.store.commit(Change { webhook: self.change.webhook, ..Change::default() }).await);
        assert_eq!(h.store.pulse().await.expect("a read succeeds"), self.change.pulse);
        assert_eq!(h.store.events(self.head, None, 10).await.expect("a read succeeds").len(), 2);
    }
}

pub(super) async fn a_change_lands_whole(h: Harness) {
    let crowd = Crowd::new(&h).await;
    let committed = h.commit(crowd.change.clone()).await;
    assert_eq!(committed.head, h.store.head().await.expect("a read succeeds"));
    crowd.assert_all_of_it(&h).await;
    assert_eq!(h.commit(Change::default()).await, committed, "an empty change is fine and changes nothing");
}

pub(super) async fn a_stale_task_writes_nothing_of_its_change(h: Harness) {
    let stale = h.stored(h.submit("stale").await).await;
    h.apply(stale.record.id(), TaskEvent::Cancel { reason: None }).await;
    let mut crowd = Crowd::new(&h).await;
    // The last one, so that the others would be there if they were written on the way.
    crowd.change.tasks.push(TaskWrite::Update { task: stale.record, revision: stale.revision });
    assert_conflict(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
}

pub(super) async fn a_stale_agent_writes_nothing_of_its_change(h: Harness) {
    let stale = h.register(&["stale"]).await;
    let (Stored { record, revision, .. }, _) = h.known(&stale.id).await.expect("the agent is stored");
    h.stand(&stale.id, Standing::Draining).await;
    let mut crowd = Crowd::new(&h).await;
    crowd.change.agents.push(AgentWrite::Update { agent: record, revision });
    assert_conflict(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
}

pub(super) async fn an_update_of_what_is_not_there_is_a_conflict(h: Harness) {
    let revision = h.stored(h.submit("a").await).await.revision;
    let task = h.task("a", |_| ());
    let update = TaskWrite::Update { task, revision };
    assert_conflict(&h.store.commit(Change { tasks: vec![update], ..Change::default() }).await);

    let update = AgentWrite::Update { agent: h.agent(&["a"]), revision };
    assert_conflict(&h.store.commit(Change { agents: vec![update], ..Change::default() }).await);
}

pub(super) async fn a_taken_task_id_is_a_duplicate(h: Harness) {
    let id = h.submit("a").await;
    let before = h.stored(id).await;
    let mut crowd = Crowd::new(&h).await;
    crowd.change.tasks.push(TaskWrite::Insert(h.task("b", |spec| spec.id = id)));
    assert_duplicate(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
    assert_eq!(h.stored(id).await, before);
}

pub(super) async fn a_taken_idempotency_key_is_a_duplicate(h: Harness) {
    let (first, second) = (h.task("a", |_| ()), h.task("a", |_| ()));
    let key = samples::key("key", first.id(), h.now());
    h.commit(Change { idempotency: Some(key.clone()), ..inserting(first) }).await;
    let head = h.store.head().await.expect("a read succeeds");

    let other = samples::key("key", second.id(), h.now());
    let id = second.id();
    let change = Change { idempotency: Some(other), ..inserting(second) };
    assert_duplicate(&h.store.commit(change).await);
    assert_eq!(h.store.task(id).await.expect("a read succeeds"), None);
    assert_eq!(h.store.head().await.expect("a read succeeds"), head);
    assert_eq!(h.store.idempotent(&key.scope).await.expect("a read succeeds"), Some(key));
}

pub(super) async fn a_key_of_a_batch_gives_its_tasks_back(h: Harness) {
    let tasks: Vec<Task> = (0..500).map(|_| h.task("a", |_| ())).collect();
    let ids: Vec<TaskId> = tasks.iter().map(Task::id).collect();
    let mut made: Vec<Option<TaskId>> = ids.iter().copied().map(Some).collect();
    made.insert(1, None);
    made.push(None);
    let key = |name, made| IdempotencyKeyRow {
        target: IdempotentTarget::Tasks(made),
        ..samples::key(name, TaskId::from_bytes([0; 16]), h.now())
    };
    let row = key("key", made);
    let writes = tasks.into_iter().map(TaskWrite::Insert).collect();
    h.commit(Change { tasks: writes, idempotency: Some(row.clone()), ..Change::default() }).await;
    assert_eq!(h.store.idempotent(&row.scope).await.expect("a read succeeds"), Some(row.clone()));
    let agent = h.register(&["a"]).await;
    assert_eq!(h.take(&agent, 1000).await, ids, "inserted in the order of the change");
    assert_duplicate(&h.store.commit(Change { idempotency: Some(row), ..Change::default() }).await);

    let nothing = key("nothing", Vec::new());
    h.commit(Change { idempotency: Some(nothing.clone()), ..Change::default() }).await;
    assert_eq!(h.store.idempotent(&nothing.scope).await.expect("a read succeeds"), Some(nothing));
}

pub(super) async fn an_idempotency_key_is_unique_within_its_scope_alone(h: Harness) {
    let scope = samples::scope("key");
    let scopes = [
        IdempotencyScope { principal: "another".to_owned(), ..scope.clone() },
        IdempotencyScope { route: "POST /another", ..scope.clone() },
        IdempotencyScope { key: "KEY".to_owned(), ..scope.clone() },
        scope,
    ];
    let mut keys = Vec::new();
    for scope in scopes {
        let task = h.task("a", |_| ());
        let key = IdempotencyKeyRow { scope, ..samples::key("", task.id(), h.now()) };
        h.commit(Change { idempotency: Some(key.clone()), ..inserting(task) }).await;
        keys.push(key);
    }
    for key in keys {
        assert_eq!(h.store.idempotent(&key.scope).await.expect("a read succeeds"), Some(key));
    }
}

pub(super) async fn a_second_result_is_a_duplicate(h: Harness) {
    let agent = h.register(&["a"]).await;
    let id = h.submit("a").await;
    h.take(&agent, 1).await;
    h.complete(id).await;
    let first = h.store.result(id).await.expect("a read succeeds").expect("the result is stored");

    let mut crowd = Crowd::new(&h).await;
    crowd.change.results.push(ResultRow { result: samples::full_result(id), attempt: 2, ..first.clone() });
    assert_duplicate(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
    assert_eq!(h.store.result(id).await.expect("a read succeeds"), Some(first));
}

pub(super) async fn a_result_of_what_is_not_there_is_a_conflict(h: Harness) {
    let (nobody, now) = (h.task("a", |_| ()), h.now());
    let id = nobody.id();
    let row = ResultRow { task: id, attempt: 1, recorded_at: now, result: samples::result(id) };
    let mut crowd = Crowd::new(&h).await;
    crowd.change.results.push(row.clone());
    assert_conflict(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
    crowd.change.results.pop();
    crowd.change.late_results.push(samples::late(id, 1, "late", now));
    assert_conflict(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;

    crowd.change.results.push(row.clone());
    crowd.change.tasks.push(TaskWrite::Insert(nobody));
    h.commit(crowd.change).await;
    assert_eq!(h.store.result(id).await.expect("a read succeeds"), Some(row), "inserted by the same change");
    assert_eq!(h.store.late_results(id).await.expect("a read succeeds").len(), 1);
}

pub(super) async fn the_first_late_result_of_an_attempt_is_kept(h: Harness) {
    let (id, other) = (h.submit("a").await, h.submit("a").await);
    let late = |attempt, said| samples::late(id, attempt, said, h.now());
    let commit = async |late_results| h.commit(Change { late_results, ..Change::default() }).await;
    commit(vec![late(2, "first"), samples::late(other, 1, "another", h.now())]).await;
    commit(vec![late(2, "second"), late(1, "first"), late(10, "first")]).await;
    let kept = h.store.late_results(id).await.expect("a read succeeds");
    assert_eq!(kept, [late(1, "first"), late(2, "first"), late(10, "first")]);
}

pub(super) async fn a_failed_change_leaves_its_neighbours_alone(h: Harness) {
    let id = h.submit("stale").await;
    let stale = h.stored(id).await;
    h.apply(id, TaskEvent::Cancel { reason: None }).await;
    let head = h.store.head().await.expect("a read succeeds").0;

    let calls: Vec<_> = (0..24)
        .map(|number| {
            let (task, fails, store) = (h.task("new", |_| ()), number % 2 == 0, Arc::clone(&h.store));
            let new = task.id();
            let mut change = Change { events: samples::events(1, h.now()).events, ..inserting(task) };
            if fails {
                let (task, revision) = (stale.record.clone(), stale.revision);
                change.tasks.push(TaskWrite::Update { task, revision });
            }
            async move { (new, fails, store.commit(change).await) }
        })
        .collect();
    for (new, fails, answer) in h.race(calls).await {
        let stored = h.store.task(new).await.expect("a read succeeds");
        assert_eq!(stored.is_none(), fails);
        if fails {
            assert_conflict(&answer);
        } else {
            answer.expect("nothing is wrong with this change");
        }
    }
    assert_eq!(h.store.head().await.expect("a read succeeds").0, head + 12, "a failed change numbers no events");
}

pub(super) async fn of_racing_updates_one_wins(h: Harness) {
    let Stored { record, revision, .. } = h.stored(h.submit("a").await).await;
    let calls: Vec<_> = (0..8)
        .map(|seq| {
            let (mut task, store) = (record.clone(), Arc::clone(&h.store));
            task.state.progress = Some(Progress { seq: Some(seq), fraction: None, message: None });
            let change = Change { tasks: vec![TaskWrite::Update { task, revision }], ..Change::default() };
            async move { (seq, store.commit(change).await) }
        })
        .collect();
    let (winners, losers): (Vec<_>, Vec<_>) = h.race(calls).await.into_iter().partition(|(_, answer)| answer.is_ok());
    assert_eq!((winners.len(), losers.len()), (1, 7));
    losers.iter().for_each(|(_, answer)| assert_conflict(answer));
    let progress = h.stored(record.id()).await.record.state.progress.expect("somebody won");
    assert_eq!(progress.seq, Some(winners[0].0));
}

pub(super) async fn a_write_whose_caller_left_still_lands(h: Harness) {
    let agent = h.register(&["a"]).await;
    let task = h.task("a", |_| ());
    let id = task.id();
    poll_once(h.store.commit(inserting(task))).await;
    while h.store.task(id).await.expect("a read succeeds").is_none() {
        tokio::task::yield_now().await;
    }
    let demand = Demand { asks: vec![h.ask(&agent, 1)] };
    poll_once(h.store.claim(demand, h.granting())).await;
    while h.stored(id).await.record.lease().is_none() {
        tokio::task::yield_now().await;
    }
}

/// Hands a call over and hangs up.
async fn poll_once<F: Future + Unpin>(mut call: F) {
    poll_fn(|context| {
        let _ = std::pin::Pin::new(&mut call).poll(context);
        Poll::Ready(())
    })
    .await;
}

pub(super) async fn a_closed_store_refuses_everything(h: Harness) {
    let agent = h.register(&["a"]).await;
    let id = h.submit("a").await;
    let filter = TaskFilter {
        tenant: samples::tenant(0),
        status: None,
        agent: None,
        task_type: None,
        dead_letters: false,
        before: None,
        limit: 1,
    };
    let cutoff = Timestamp::MIN;
    let cutoffs = Cutoffs {
        tasks: cutoff,
        events: cutoff,
        late_results: cutoff,
        idempotency_keys: cutoff,
        sessions: cutoff,
        webhooks: cutoff,
        states: cutoff,
        credentials: cutoff,
        agents: cutoff,
    };
    let session = SessionId::from_bytes([1; 16]);
    let workflow = samples::workflow("wf", "1.0").id.clone();
    let sessions = SessionFilter {
        tenant: samples::tenant(0),
        status: None,
        workflow_id: None,
        agent_id: None,
        before: None,
        limit: 1,
    };
    let demand = Demand { asks: vec![h.ask(&agent, 1)] };
    h.store.close().await.expect("an open store can be closed");
    let refusals = [
        h.store.task(id).await.err(),
        h.store.result(id).await.err(),
        h.store.late_results(id).await.err(),
        h.store.tasks(&filter).await.err(),
        h.store.leases(&agent.id).await.err(),
        h.store.leased(None, 1).await.err(),
        h.store.due(h.now(), 1).await.err(),
        h.store.session(session).await.err(),
        h.store.sessions(&sessions).await.err(),
        h.store.open_sessions(None, 1).await.err(),
        h.store.session_of(id).await.err(),
        h.store.workflow(samples::tenant(0), &workflow, None).await.err(),
        h.store.workflows(samples::tenant(0), None, 1).await.err(),
        h.store.agents().await.err(),
        h.store.credentials().await.err(),
        h.store.idempotent(&samples::scope("key")).await.err(),
        h.store.states(&agent.id, 1).await.err(),
        h.store.newest_states().await.err(),
        h.store.events(EventSeq(0), None, 1).await.err(),
        h.store.oldest_event().await.err(),
        h.store.head().await.err(),
        h.store.pulse().await.err(),
        h.store.commit(Change::default()).await.err(),
        h.store.claim(demand, h.granting()).await.err(),
        h.store.purge(&cutoffs, 1).await.err(),
    ];
    for (place, refusal) in refusals.into_iter().enumerate() {
        assert!(matches!(refusal, Some(StoreError::Closed)), "call {place}: {refusal:?}");
    }
    h.store.close().await.expect("what is closed already need not be closed");
}
