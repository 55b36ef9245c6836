//! Sessions: their record, their steps, and what goes with them into one commit.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{
    Chance, NextTask, Quote, Report, Session, SessionEvent, SessionPhase, SessionRun, SessionSpec, StepPhase,
    TaskEvent, TaskOrder, TaskPolicy,
};
use eap_types::{SessionId, SessionState, TaskId};

use super::commits::Crowd;
use super::harness::{Harness, assert_conflict, assert_duplicate};
use super::purge::{keeping_all, purge};
use super::samples;
use super::session_lists::everything;
use crate::store::{Change, Cutoffs, ResultRow, SessionFilter, SessionWrite, Stored, TaskWrite, events_of};

/// A session of nothing special, not yet stored.
pub(super) fn fresh(h: &Harness) -> Session {
    samples::session(SessionId::v7(h.now(), h.draw()), TaskId::v7(h.now(), h.draw()), h.now())
}

pub(super) fn inserting(session: Session) -> Change {
    Change { sessions: vec![SessionWrite::Insert(session)], ..Change::default() }
}

fn updating(Stored { record: session, revision, .. }: Stored<Session>) -> Change {
    Change { sessions: vec![SessionWrite::Update { session, revision }], ..Change::default() }
}

/// Stores a session that `shape` changed before.
pub(super) async fn start(h: &Harness, shape: impl FnOnce(&mut SessionSpec, &mut SessionRun)) -> SessionId {
    let Session { spec, mut run } = fresh(h);
    let mut spec = Arc::unwrap_or_clone(spec);
    shape(&mut spec, &mut run);
    let id = spec.id;
    h.commit(inserting(Session { spec: Arc::new(spec), run })).await;
    id
}

/// Writes a new run.
pub(super) async fn change(h: &Harness, id: SessionId, change: impl FnOnce(&mut SessionRun)) {
    let mut stored = h.session(id).await;
    change(&mut stored.record.run);
    h.commit(updating(stored)).await;
}

pub(super) async fn of(h: &Harness, task: TaskId) -> Option<SessionId> {
    let found = h.store.session_of(task).await.expect("a read succeeds");
    found.map(|stored| stored.record.id())
}

pub(super) async fn a_session_reads_back_as_it_was_written(h: Harness) {
    let tasks = [TaskId::v7(h.now(), h.draw()), TaskId::v7(h.now(), h.draw())];
    let full = samples::full_session(SessionId::from_bytes([0xf1; 16]), tasks, h.now());
    let plain = fresh(&h);
    assert_eq!(h.store.session(full.id()).await.expect("a read succeeds"), None, "it was never started");
    h.commit(inserting(full.clone())).await;
    h.commit(inserting(plain.clone())).await;
    assert_eq!(h.session(plain.id()).await.record, plain);
    h.advance(1);
    let read = h.session(full.id()).await;
    assert_eq!((read.revision.0, read.now), (1, h.now()));
    assert_eq!(read.record, full);
    let text = |session: &Session| session.run.steps[0].result().map(|result| result.as_str().to_owned());
    assert_eq!(text(&read.record), text(&full), "byte for byte");
    let payload = |session: &Session| session.spec.initial_payload.as_ref().map(|json| json.as_str().to_owned());
    assert_eq!(payload(&read.record), payload(&full));
    let filter = SessionFilter { tenant: full.spec.tenant, ..everything() };
    let listed = h.store.sessions(&filter).await.expect("a read succeeds");
    assert_eq!(listed.into_iter().map(|(_, view)| view).collect::<Vec<_>>(), [full.view_in_list()]);
    assert_eq!(h.store.session_of(tasks[0]).await.expect("a read succeeds"), Some(read));
}

pub(super) async fn a_session_reads_back_in_every_phase(h: Harness) {
    let at = h.now() + Duration::from_micros(1);
    let reason = || samples::AWKWARD.to_owned();
    let phases = [
        SessionPhase::Started,
        SessionPhase::Running,
        SessionPhase::Paused { since: at },
        SessionPhase::Completed { at },
        SessionPhase::Failed { at, reason: reason() },
        SessionPhase::Cancelled { at, reason: Some(reason()) },
        SessionPhase::Cancelled { at, reason: None },
    ];
    let steps = [
        StepPhase::Open,
        StepPhase::Completed { at, result: samples::json().into() },
        StepPhase::Failed { at, reason: reason() },
        StepPhase::Cancelled { at },
    ];
    for (number, phase) in phases.iter().enumerate() {
        let id = start(&h, |_, _| ()).await;
        change(&h, id, |run| (run.phase, run.steps[0].phase) = (phase.clone(), steps[number % 4].clone())).await;
        let SessionRun { phase: read, steps: taken, .. } = h.session(id).await.record.run;
        assert_eq!((&read, &taken[0].phase), (phase, &steps[number % 4]));
    }
}

pub(super) async fn an_update_moves_the_revision_of_a_session_and_keeps_its_spec(h: Harness) {
    let id = start(&h, |_, _| ()).await;
    let Stored { record: before, revision, .. } = h.session(id).await;
    let mut other = before.clone();
    other.spec = Arc::new(SessionSpec { started_by: "another".to_owned(), ..SessionSpec::clone(&before.spec) });
    other.run.phase = SessionPhase::Running;
    h.commit(updating(Stored { record: other.clone(), revision, now: h.now() })).await;
    let after = h.session(id).await;
    assert_eq!((after.revision.0, after.record.status()), (2, SessionState::Running));
    assert_eq!(after.record.spec, before.spec);
    change(&h, id, |run| run.steps[0].attempts = 3).await;
    let after = h.session(id).await;
    assert_eq!((after.revision.0, after.record.run.steps[0].attempts), (3, 3));
}

pub(super) async fn a_stale_session_writes_nothing_of_its_change(h: Harness) {
    let id = start(&h, |_, _| ()).await;
    let stale = h.session(id).await;
    change(&h, id, |run| run.phase = SessionPhase::Running).await;
    let before = h.session(id).await;
    let mut crowd = Crowd::new(&h).await;
    crowd.change.sessions.extend(updating(stale).sessions);
    assert_conflict(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
    assert_eq!(h.session(id).await, before);

    // Twice in one change: the second was decided on what the first writes over.
    let twice = [updating(before.clone()).sessions, updating(before.clone()).sessions].concat();
    assert_conflict(&h.store.commit(Change { sessions: twice, ..Change::default() }).await);
    let nobody = Stored { record: fresh(&h), ..before };
    assert_conflict(&h.store.commit(updating(nobody)).await);
}

pub(super) async fn a_taken_session_id_is_a_duplicate(h: Harness) {
    let id = start(&h, |_, _| ()).await;
    let before = h.session(id).await;
    let again = samples::session(id, TaskId::v7(h.now(), h.draw()), h.now());
    let mut crowd = Crowd::new(&h).await;
    crowd.change.sessions.push(SessionWrite::Insert(again));
    assert_duplicate(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
    assert_eq!(h.session(id).await, before);
    let new = fresh(&h);
    let twice = samples::session(new.id(), TaskId::v7(h.now(), h.draw()), h.now());
    let sessions = vec![SessionWrite::Insert(new), SessionWrite::Insert(twice)];
    assert_duplicate(&h.store.commit(Change { sessions, ..Change::default() }).await);
}

pub(super) async fn a_task_is_a_step_of_one_session_at_most(h: Harness) {
    let (first, second) = (fresh(&h), fresh(&h));
    let task = first.run.steps[0].task;
    h.commit(inserting(first.clone())).await;
    h.commit(inserting(second.clone())).await;
    let mut crowd = Crowd::new(&h).await;
    crowd.change.sessions.push(SessionWrite::Insert(samples::session(fresh(&h).id(), task, h.now())));
    assert_duplicate(&h.store.commit(crowd.change.clone()).await);
    crowd.assert_none_of_it(&h).await;
    for id in [first.id(), second.id()] {
        let mut stored = h.session(id).await;
        stored.record.run.steps.push(samples::step(1, task, h.now()));
        assert_duplicate(&h.store.commit(updating(stored)).await);
    }
    let new = TaskId::v7(h.now(), h.draw());
    let twice = [fresh(&h), fresh(&h)].map(|session| samples::session(session.id(), new, h.now()));
    let sessions = twice.map(SessionWrite::Insert).into();
    assert_duplicate(&h.store.commit(Change { sessions, ..Change::default() }).await);
    assert_eq!((of(&h, task).await, of(&h, new).await), (Some(first.id()), None));
}

pub(super) async fn of_racing_updates_of_a_session_one_wins(h: Harness) {
    let Stored { record, revision, now } = h.session(start(&h, |_, _| ()).await).await;
    let calls: Vec<_> = (0..8)
        .map(|attempts| {
            let (mut session, store) = (record.clone(), Arc::clone(&h.store));
            session.run.steps[0].attempts = attempts;
            let change = updating(Stored { record: session, revision, now });
            async move { (attempts, store.commit(change).await) }
        })
        .collect();
    let (winners, losers): (Vec<_>, Vec<_>) = h.race(calls).await.into_iter().partition(|(_, answer)| answer.is_ok());
    assert_eq!((winners.len(), losers.len()), (1, 7));
    losers.iter().for_each(|(_, answer)| assert_conflict(answer));
    assert_eq!(h.session(record.id()).await.record.run.steps[0].attempts, winners[0].0);
}

/// The end of the task of a session's open step, with all that follows from it, as the orchestrator would write it.
async fn step_over(h: &Harness, session: &Stored<Session>) -> Change {
    let task = session.record.open_step().expect("a step is open").task;
    let Stored { record, revision, now } = h.stored(task).await;
    let result = samples::full_result(task);
    let agent = record.newest_attempt().expect("the task is leased").agent.clone();
    let report =
        TaskEvent::Report { agent, quote: Quote::default(), report: Report::of(&result), chance: Chance::new(0.5) };
    let step = record.apply(report, now, &TaskPolicy::default()).expect("the report fits the task");
    let changed = step.changed().expect("a report ends the task");
    let done = eap_core::Task { spec: record.spec, state: changed.state };
    let event = SessionEvent::of(&done, Some(samples::json().into())).expect("the task is over");
    let next = NextTask { id: TaskId::v7(now, h.draw()), timeout: Duration::from_secs(60), offered: None };
    let decision = session.record.apply(event, now, &next).expect("a step's end is never refused");
    let gone_on = decision.changed().expect("the session goes on");
    let mut change = updating(Stored {
        record: Session { spec: Arc::clone(&session.record.spec), run: gone_on.run },
        ..session.clone()
    });
    change.events = events_of(&done, &changed.notes, now);
    change.tasks.push(TaskWrite::Update { task: done, revision });
    change.results.push(ResultRow { task, attempt: 1, recorded_at: now, result });
    if let Some(TaskOrder::Create(task)) = gone_on.order {
        change.tasks.push(TaskWrite::Insert(*task));
    }
    change
}

pub(super) async fn a_steps_end_its_session_and_the_next_task_are_one_commit(h: Harness) {
    let agent = h.register(&["step"]).await;
    let next = NextTask { id: TaskId::v7(h.now(), h.draw()), timeout: Duration::from_secs(60), offered: None };
    let (session, first) = Session::start(SessionSpec::clone(&fresh(&h).spec), &next);
    let id = session.id();
    h.commit(Change { tasks: vec![TaskWrite::Insert(*first)], ..inserting(session) }).await;
    assert_eq!(h.take(&agent, 9).await, [next.id]);
    h.advance(1);
    let (session, task) = (h.session(id).await, h.stored(next.id).await);
    let head = h.store.head().await.expect("a read succeeds");
    let late = step_over(&h, &session).await;
    let second = late.tasks[1].task().id();

    // Somebody pauses it in between: the task is not over, and nothing else has begun.
    change(&h, id, |run| run.phase = SessionPhase::Paused { since: run.updated_at }).await;
    assert_conflict(&h.store.commit(late).await);
    assert_eq!(h.stored(next.id).await.record, task.record);
    assert_eq!(h.store.result(next.id).await.expect("a read succeeds"), None);
    assert_eq!(h.store.task(second).await.expect("a read succeeds"), None);
    assert_eq!(of(&h, second).await, None);
    assert_eq!(h.store.head().await.expect("a read succeeds"), head);

    // The other way round: the session is as it was read, and the task is not.
    change(&h, id, |run| run.phase = SessionPhase::Running).await;
    let session = h.session(id).await;
    let late = step_over(&h, &session).await;
    h.apply(next.id, TaskEvent::Cancel { reason: None }).await;
    assert_conflict(&h.store.commit(late).await);
    assert_eq!(h.session(id).await, session);

    // Nothing in between: all of it.
    let next = NextTask { id: TaskId::v7(h.now(), h.draw()), ..next };
    let (other, first) =
        Session::start(SessionSpec { id: fresh(&h).id(), ..SessionSpec::clone(&session.record.spec) }, &next);
    let id = other.id();
    h.commit(Change { tasks: vec![TaskWrite::Insert(*first)], ..inserting(other) }).await;
    for is_last in [false, true] {
        let open = h.session(id).await.record.open_step().expect("a step is open").task;
        assert_eq!(h.take(&agent, 9).await, [open], "the task of the step is ready");
        let whole = step_over(&h, &h.session(id).await).await;
        assert_eq!(whole.tasks.len(), if is_last { 1 } else { 2 });
        h.commit(whole).await;
        assert!(h.store.result(open).await.expect("a read succeeds").is_some());
        assert_eq!(of(&h, open).await, Some(id));
    }
    let over = h.session(id).await.record;
    assert_eq!((over.status(), over.run.steps.len()), (SessionState::Completed, 2));
    assert_eq!(over.result(), Some(&samples::json().into()));
}

pub(super) async fn a_steps_task_finds_its_session(h: Harness) {
    let agent = h.register(&["a"]).await;
    let (none, first) = (h.submit("b").await, h.submit("a").await);
    let id = start(&h, |_, run| run.steps = vec![samples::step(0, first, run.updated_at)]).await;
    let other = start(&h, |_, _| ()).await;
    assert_eq!((of(&h, first).await, of(&h, none).await), (Some(id), None));
    h.take(&agent, 1).await;
    h.complete(first).await;
    let second = h.submit("a").await;
    change(&h, id, |run| run.steps.push(samples::step(1, second, run.updated_at))).await;
    change(&h, id, |run| run.phase = SessionPhase::Running).await;
    let found = h.store.session_of(first).await.expect("a read succeeds");
    assert_eq!(found, Some(h.session(id).await), "an earlier step, and the session as it now is");
    assert_eq!(of(&h, second).await, Some(id));
    assert_eq!(of(&h, TaskId::from_bytes([0xee; 16])).await, None);

    h.advance(1);
    assert_eq!(purge(&h, Cutoffs { tasks: h.now(), ..keeping_all() }).await.tasks, [first]);
    assert_eq!(of(&h, first).await, Some(id), "though the task itself is gone");
    change(&h, id, |run| run.phase = SessionPhase::Completed { at: run.updated_at }).await;
    assert_eq!((of(&h, first).await, of(&h, second).await), (Some(id), Some(id)));
    let theirs = h.session(other).await.record.run.steps[0].task;
    assert_eq!(of(&h, theirs).await, Some(other));
}
