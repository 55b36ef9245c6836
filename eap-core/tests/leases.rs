//! How a lease is given, renewed, cut and given anew.

mod common;

use common::*;
use eap_core::{AttemptOutcome, Lease, Quote, Refusal, Step, TaskEvent, TaskSpec};
use eap_types::{FailureCode, RequestId, TaskStatus, Timestamp};

fn held(life: &Life) -> &Lease {
    life.task.lease().expect("the task is leased")
}

fn ends(life: &Life) -> Timestamp {
    held(life).expires_at
}

fn renewed(life: &mut Life) -> bool {
    match life.ask(renew(ALPHA, 1)) {
        Ok(Step::Changed(_)) => true,
        Ok(Step::Unchanged) => false,
        other => panic!("a renewal by the holder was answered {other:?}"),
    }
}

fn leased_for(timeout: u64) -> Life {
    let mut life = Life::of(TaskSpec { timeout: seconds(timeout), ..spec() });
    life.assign(ALPHA, 1);
    life
}

#[test]
fn a_claim_gives_the_asked_length_cut_at_the_deadline() {
    let life = leased_for(3600);
    assert_eq!((held(&life).expires_at, held(&life).deadline), (at(60), at(3600)));
    let life = leased_for(40);
    assert_eq!((held(&life).expires_at, held(&life).deadline), (at(40), at(40)));
    assert_eq!(life.task.due_at(), Some(at(40)));
}

#[test]
fn a_renewal_is_written_once_a_quarter_of_the_lease_has_passed() {
    let mut life = leased_for(3600);
    assert!(!renewed(life.wait(seconds(15) - TICK)));
    assert_eq!(ends(&life), at(60), "the answer shows what is stored");
    assert!(renewed(life.wait(TICK)));
    assert_eq!(ends(&life), at(75));
}

#[test]
fn a_lapsed_lease_is_the_holders_until_it_is_swept() {
    // A21: the sweeper decides again on the record as it is then.
    let mut life = leased_for(3600);
    life.wait(seconds(61));
    assert!(renewed(&mut life));
    assert_eq!(life.ask(due()), Err(Refusal::NotDue));
    assert_eq!(ends(&life), at(121));

    life.sweep();
    assert_eq!(life.ask(renew(ALPHA, 1)), Err(Refusal::LeaseLost { attempt: Some(1) }));
}

#[test]
fn a_lease_is_live_up_to_its_expiry_and_lapses_there() {
    let mut life = leased_for(3600);
    assert_eq!(life.wait_until(at(60) - TICK).ask(due()), Err(Refusal::NotDue));
    life.wait(TICK).go(due());
    assert_eq!(life.outcomes(), ["expired"]);
}

#[test]
fn a_holder_that_renews_to_the_end_runs_out_of_time() {
    // A23. Beats 20 s apart reach the last quarter of a lease before the deadline: that stretch is written
    // as well, or the attempt would look as if its holder had vanished.
    for timeout in [100, 119, 120, 121, 130, 139, 140, 141, 3600] {
        let mut life = leased_for(timeout);
        while life.now + seconds(20) < at(timeout) {
            life.wait(seconds(20));
            renewed(&mut life);
            assert!(ends(&life) > life.now);
        }
        life.sweep();
        assert_eq!(life.now, at(timeout));
        let attempt = life.task.attempt(1).expect("attempt 1");
        assert_eq!(
            (attempt.outcome, attempt.error_code),
            (AttemptOutcome::Failed, Some(FailureCode::Timeout)),
            "timeout {timeout}"
        );
    }
}

#[test]
fn a_holder_that_vanished_before_its_deadline_expires() {
    let mut life = leased_for(3600);
    life.wait(seconds(10_000)).go(due());
    assert_eq!(life.outcomes(), ["expired"]);
}

#[test]
fn a_lease_that_nobody_brings_is_adopted_once_and_by_the_request_it_was_made_by() {
    let request = |word: &str| -> RequestId { word.parse().expect("it is one") };
    let mut life = Life::of(TaskSpec { timeout: seconds(3600), ..spec() });
    life.go(TaskEvent::Assign {
        agent: agent(ALPHA),
        epoch: 1,
        lease_id: lease(1),
        request_id: Some(request("push:1")),
        length: LEASE,
    });
    life.wait(seconds(50));
    let change = life.go(adopt(1, "push:1", "push:2"));
    assert!(change.notes.is_empty(), "the attempt is the same, and nobody is told");
    assert_eq!(
        (held(&life).request_id.clone(), ends(&life)),
        (Some(request("push:2")), at(110)),
        "it has its time anew"
    );
    let lost = Err(Refusal::LeaseLost { attempt: None });
    for late in [adopt(1, "push:1", "push:3"), adopt(2, "push:2", "push:3")] {
        assert_eq!(life.ask(late), lost);
    }
    life.go(report(ALPHA, by_lease(1), completed("x")));
    assert!(life.ask(adopt(1, "push:2", "push:3")).is_err());
}

#[test]
fn progress_renews_its_lease_and_keeps_the_newest_word() {
    let mut life = leased_for(3600);
    let seq = |life: &Life| life.task.state.progress.as_ref().and_then(|progress| progress.seq);
    life.wait(seconds(5)).go(progress(ALPHA, by_lease(1), 2));
    assert_eq!((seq(&life), ends(&life)), (Some(2), at(65)), "the record is written anyway");
    for older in [1, 2] {
        assert_eq!(life.ask(progress(ALPHA, by_lease(1), older)), Ok(Step::Unchanged));
    }
    life.wait(seconds(30));
    let change = life.go(progress(ALPHA, by_lease(1), 1));
    assert_eq!((seq(&life), ends(&life)), (Some(2), at(95)), "an old word is a sign of life still");
    assert!(change.notes.is_empty());
    life.go(forget(ALPHA, 1));
    life.assign(ALPHA, 2);
    assert_eq!(seq(&life), None, "each attempt counts its own");
    assert_eq!(life.ask(progress(ALPHA, by_lease(1), 9)), Err(Refusal::LeaseLost { attempt: Some(1) }));
}

fn watched_for(inactivity: u64) -> Life {
    let mut life = Life::of(TaskSpec { inactivity: Some(seconds(inactivity)), ..spec() });
    life.assign(ALPHA, 1);
    life
}

#[test]
fn a_handler_that_tells_nothing_runs_out_of_time_before_its_limit() {
    let mut life = watched_for(90);
    for beat in [20, 40, 60, 80] {
        // A heartbeat's renewal is no sign of the handler, not even with the fraction known already.
        life.wait_until(at(beat)).ask(renew_at(ALPHA, 1, 0.0)).unwrap();
        life.ask(renew(ALPHA, 1)).unwrap();
        if beat == 20 {
            assert_eq!(life.task.due_at(), Some(at(80)), "the lease; 0.0 was news at 20 s, the handler may be quiet");
        }
    }
    assert_eq!(life.wait_until(at(110) - TICK).ask(due()), Err(Refusal::NotDue));
    life.wait(TICK).go(due());
    let attempt = life.task.attempt(1).expect("attempt 1");
    assert_eq!((attempt.outcome, attempt.error_code), (AttemptOutcome::Failed, Some(FailureCode::Timeout)));
    assert_eq!(attempt.stopped(), Some(eap_types::CancelCause::Inactivity));
    assert_eq!(attempt.message.as_deref(), Some("inactivity: the attempt told nothing for 90 s"));
}

#[test]
fn every_newer_report_is_a_sign_of_the_handler() {
    let mut life = watched_for(30);
    life.wait_until(at(25)).go(progress(ALPHA, by_lease(1), 1));
    life.wait_until(at(50)).go(output(ALPHA, by_lease(1), 2, "text"));
    life.wait_until(at(75)).go(renew_at(ALPHA, 1, 0.5));
    assert_eq!(held(&life).quiet_until, Some(at(105)));
    // A repeat is none, nor is an echo of what reports have overtaken.
    life.wait_until(at(104)).ask(output(ALPHA, by_lease(1), 2, "text")).unwrap();
    life.ask(renew_at(ALPHA, 1, 0.1)).unwrap();
    life.sweep();
    assert_eq!((life.now, life.outcomes()), (at(105), vec!["failed"]));
}

#[test]
fn whoever_vanished_before_it_was_quiet_for_long_has_expired() {
    let mut life = watched_for(90);
    life.wait(seconds(1000)).go(due());
    assert_eq!(life.outcomes(), ["expired"]);
    let mut away = watched_for(20);
    away.wait(seconds(50)).go(TaskEvent::FreshStart);
    assert_eq!(held(&away).quiet_until, Some(at(70)), "nobody could hear the handler while the server was away");
}

#[test]
fn output_is_told_in_parts_up_to_its_limit_and_each_part_once() {
    let mut life = leased_for(3600);
    life.go(progress(ALPHA, by_lease(1), 1));
    let told = life.go(output(ALPHA, by_lease(1), 2, "text")).notes;
    assert_eq!((told.len(), told[0].output.as_deref()), (1, Some("text")));
    assert_eq!(life.task.state.progress.as_ref().and_then(|progress| progress.fraction), Some(0.1), "it stays known");
    assert_eq!(life.ask(output(ALPHA, by_lease(1), 2, "text")), Ok(Step::Unchanged));
    let rest = "x".repeat((1 << 20) - 4);
    life.go(output(ALPHA, by_lease(1), 3, &rest));
    let full = life.ask(output(ALPHA, by_lease(1), 4, "y"));
    assert_eq!(full, Err(Refusal::OutputFull { limit: 1 << 20 }));
    life.go(progress(ALPHA, by_lease(1), 4));
    life.go(forget(ALPHA, 1));
    life.assign(ALPHA, 2);
    life.go(output(ALPHA, by_lease(2), 1, "again"));
}

#[test]
fn a_zombie_renews_tells_and_hands_back_nothing() {
    // G9.
    let mut life = leased_for(3600);
    life.sweep();
    life.assign(BETA, 2);
    let before = life.task.clone();
    let lost = Err(Refusal::LeaseLost { attempt: Some(1) });
    life.wait(seconds(30));
    assert_eq!(life.ask(renew(ALPHA, 1)), lost);
    assert_eq!(life.ask(renew(ALPHA, 2)), lost, "not even by the right lease");
    for quote in [by_lease(1), by_number(1), by_lease(2), Quote::default()] {
        assert_eq!(life.ask(progress(ALPHA, quote, 1)), lost);
        assert_eq!(life.ask(release(ALPHA, quote, handed_back())), lost);
    }
    assert_eq!(life.ask(forget(ALPHA, 2)), lost);
    assert_eq!(life.ask(forget(BETA, 1)), Err(Refusal::LeaseLost { attempt: Some(2) }));
    assert_eq!(life.task, before);
}

#[test]
fn a_fresh_start_gives_exactly_the_length_of_a_lease() {
    // G19: time away is not held against the holder.
    let mut life = leased_for(3600);
    life.wait(seconds(50)).go(TaskEvent::FreshStart);
    assert_eq!((ends(&life), held(&life).deadline), (at(110), at(3600)));
    life.wait(seconds(1000)).go(TaskEvent::FreshStart);
    assert_eq!((ends(&life), held(&life).deadline), (at(1110), at(3600)), "also one that lapsed meanwhile");

    // Past the deadline, or close to it, the deadline gives way by one lease at most.
    life.wait_until(at(3590)).go(TaskEvent::FreshStart);
    assert_eq!((ends(&life), held(&life).deadline), (at(3650), at(3650)));
    let mut short = leased_for(40);
    short.wait(seconds(100)).go(TaskEvent::FreshStart);
    assert_eq!(ends(&short), at(140), "never more than the timeout");
}

#[test]
fn a_clock_corrected_backwards_leaves_no_long_lease_behind() {
    let mut life = Life::of(TaskSpec { timeout: seconds(600), created_at: at(0), ..spec() });
    life.wait_until(at(10_000)).assign(ALPHA, 1);
    // One hour back; the record's times now lie in the future.
    let now = at(10_000 - 3600);
    let step = life.task.apply(TaskEvent::FreshStart, now, &life.policy);
    let change = step.ok().and_then(Step::changed).expect("a running lease starts afresh");
    let eap_core::Phase::Leased(lease) = change.state.phase else { panic!("it stays leased") };
    assert_eq!((lease.expires_at, lease.deadline), (now + LEASE, now + seconds(600)));
}

#[test]
fn a_fresh_start_touches_running_leases_only() {
    let mut life = leased_for(3600);
    life.go(report(ALPHA, by_lease(1), failed("x")));
    assert_eq!(life.ask(TaskEvent::FreshStart), Ok(Step::Unchanged));
    assert_eq!(Life::new().ask(TaskEvent::FreshStart), Ok(Step::Unchanged));
}

#[test]
fn a_cancelled_task_is_final_at_once_and_stays_so() {
    // A24.
    let mut life = leased_for(3600);
    life.go(cancel());
    assert_eq!((life.task.status(), life.outcomes()), (TaskStatus::Cancelled, vec!["cancelled"]));
    assert_eq!(life.ask(cancel()), Ok(Step::Unchanged), "a repeat gets the first answer");
    let refused = Err(Refusal::TaskFinal { status: TaskStatus::Cancelled, attempt: Some(1) });
    assert_eq!(life.ask(renew(ALPHA, 1)), refused);
    assert_eq!(life.report(ALPHA, 1, completed("x")), refused);
    assert_eq!(life.task.due_at(), None);

    let mut life = leased_for(3600);
    life.go(report(ALPHA, by_lease(1), completed("x")));
    let refused = Err(Refusal::TaskFinal { status: TaskStatus::Completed, attempt: None });
    assert_eq!(life.ask(cancel()), refused);
}
