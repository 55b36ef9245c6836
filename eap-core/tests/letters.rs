//! Dead letters: what may be requeued or discarded, and what follows.

mod common;

use common::*;
use eap_core::{Changed, Disposal, NoteKind, Refusal, Requeue, Step, Task, TaskSpec};
use eap_types::{TaskId, TaskStatus};

fn successor() -> TaskId {
    TaskId::from_bytes([9; 16])
}

/// The same task at every point of its life where it is no dead letter.
fn others() -> Vec<Life> {
    let delayed = Life::of(TaskSpec { run_at: Some(at(500)), ..spec() });
    let mut leased = Life::new();
    leased.assign(ALPHA, 1);
    let mut done = leased.clone();
    done.go(report(ALPHA, by_lease(1), completed("C")));
    let mut cancelled = leased.clone();
    cancelled.go(cancel());
    vec![Life::new(), delayed, leased, done, cancelled]
}

/// One that failed for good and one that died.
fn letters() -> [Life; 2] {
    let spec = TaskSpec { expires_at: Some(at(100)), run_at: Some(at(10)), ..spec() };
    let mut failed = Life::of(spec.clone());
    failed.assign(ALPHA, 1).go(report(ALPHA, by_lease(1), fatal("no")));
    let mut dead = Life::of(spec);
    dead.sweep();
    dead.sweep();
    [failed, dead]
}

fn with(task: &Task, changed: &Changed) -> Task {
    Task { spec: task.spec.clone(), state: changed.state.clone() }
}

fn requeued(task: &Task, now: eap_types::Timestamp) -> (Task, Task) {
    match task.requeue(successor(), now) {
        Ok(Requeue::Anew { letter, task: new }) => (with(task, &letter), *new),
        other => panic!("a letter can be requeued: {other:?}"),
    }
}

#[test]
fn only_what_failed_for_good_or_died_is_a_dead_letter() {
    for life in others() {
        let refusal = Refusal::NotDeadLetter { status: life.task.status() };
        assert!(!life.task.is_dead_letter());
        assert_eq!(life.task.requeue(successor(), at(200)), Err(refusal.clone()));
        assert_eq!(life.task.discard(at(200)), Err(refusal));
    }
    let [failed, dead] = letters();
    assert_eq!((failed.task.status(), dead.task.status()), (TaskStatus::Failed, TaskStatus::Dead));
    assert!(failed.task.is_dead_letter() && dead.task.is_dead_letter());
}

#[test]
fn a_requeue_is_a_new_task_linked_both_ways() {
    for life in letters() {
        let (letter, new) = requeued(&life.task, at(300));
        assert_eq!((letter.requeued_as(), letter.status()), (Some(successor()), life.task.status()));
        assert_eq!(letter.state.disposal, Some(Disposal::Requeued { task: successor(), at: at(300) }));
        assert_eq!((letter.state.updated_at, letter.is_dead_letter()), (at(300), false));
        assert_eq!(letter.state.attempts, life.task.state.attempts, "its history stays its own");

        let expected = TaskSpec {
            id: successor(),
            run_at: None,
            expires_at: None,
            created_at: at(300),
            requeued_from: Some(life.task.id()),
            ..TaskSpec::clone(&life.task.spec)
        };
        assert_eq!(new, Task::submitted(expected));
        assert!(new.is_ready());
    }
}

#[test]
fn a_requeue_keeps_a_time_of_expiry_that_is_still_ahead() {
    let [failed, _] = letters();
    assert_eq!(requeued(&failed.task, at(99)).1.spec.expires_at, Some(at(100)));
    assert_eq!(requeued(&failed.task, at(100)).1.spec.expires_at, None);
}

#[test]
fn a_second_requeue_gives_the_first_successor() {
    for life in letters() {
        let (letter, _) = requeued(&life.task, at(300));
        let again = letter.requeue(TaskId::from_bytes([10; 16]), at(400));
        assert_eq!(again, Ok(Requeue::Before(successor())));
        // It is off the list already.
        assert_eq!(letter.discard(at(400)), Ok(Step::Unchanged));
    }
}

#[test]
fn a_discarded_letter_stays_discarded() {
    for life in letters() {
        let Ok(Step::Changed(changed)) = life.task.discard(at(300)) else { panic!("a letter can be discarded") };
        assert_eq!((changed.notes[0].kind, changed.notes.len(), &changed.result), (NoteKind::Discarded, 1, &None));
        let letter = with(&life.task, &changed);
        assert_eq!(letter.state.disposal, Some(Disposal::Discarded { at: at(300) }));
        assert_eq!((letter.status(), letter.is_dead_letter()), (life.task.status(), false));
        assert_eq!(letter.discard(at(400)), Ok(Step::Unchanged));
        assert_eq!(letter.requeue(successor(), at(400)), Err(Refusal::LetterDiscarded));
    }
}

#[test]
fn a_repeated_report_gets_its_first_answer_after_a_disposal_too() {
    let [failed, _] = letters();
    let (letter, _) = requeued(&failed.task, at(300));
    let again = letter.apply(report(ALPHA, by_lease(1), fatal("no")), at(400), &failed.policy);
    assert_eq!(again, Ok(Step::Duplicate));
    assert_eq!((letter.due_at(), letter.is_ready()), (None, false));
}

#[test]
fn the_history_names_the_successor_and_the_record_reads_back() {
    let [failed, _] = letters();
    let Ok(Requeue::Anew { letter, task }) = failed.task.requeue(successor(), at(300)) else {
        panic!("it is a letter")
    };
    assert_eq!((letter.notes[0].kind, letter.notes.len()), (NoteKind::Requeued, 1));
    assert!(letter.notes[0].message.as_ref().is_some_and(|words| words.contains(&successor().to_string())));
    let text = serde_json::to_string(&letter.state).expect("records can be written");
    assert_eq!(serde_json::from_str::<eap_core::TaskState>(&text).expect("records read back"), letter.state);
    let text = serde_json::to_string(&*task.spec).expect("records can be written");
    assert_eq!(serde_json::from_str::<TaskSpec>(&text).expect("records read back"), *task.spec);
    // Records of before had neither member.
    assert!(!serde_json::to_string(&failed.task.state).expect("records can be written").contains("disposal"));
    assert!(!serde_json::to_string(&*failed.task.spec).expect("records can be written").contains("requeued_from"));
}
