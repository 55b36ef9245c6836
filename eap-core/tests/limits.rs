//! When a task is given up, and how long it waits in between.

mod common;

use std::time::Duration;

use common::*;
use eap_core::{Chance, EndOfLease, NoteKind, Phase, Refusal, TaskEvent, TaskPolicy, TaskSpec, full_jitter};
use eap_types::TaskStatus;
use proptest::prelude::*;

/// A task with attempts to spare.
fn patient() -> Life {
    Life::of(TaskSpec { max_attempts: 100, ..spec() })
}

fn release_with(chance: Chance, number: u32, why: EndOfLease) -> TaskEvent {
    TaskEvent::Release { agent: agent(ALPHA), quote: by_lease(number), why, chance }
}

// Releases.

#[test]
fn the_twentieth_release_that_counts_makes_it_dead() {
    let policy = TaskPolicy::default();
    assert_eq!(policy.max_releases, 20);
    // Attempts never run out: a release uses none up.
    let mut life = Life::of(TaskSpec { max_attempts: 1, ..spec() });
    for number in 1..20 {
        life.assign(ALPHA, number);
        let why = if number % 2 == 0 { handed_back() } else { undelivered() };
        life.go(release(ALPHA, by_lease(number), why));
        assert_eq!(life.task.status(), TaskStatus::Queued, "after {number} releases");
    }
    life.assign(BETA, 20);
    let end = life.go(release(BETA, by_lease(20), undelivered()));
    assert_eq!(life.task.status(), TaskStatus::Dead);
    assert_eq!(end.result, None);
    assert_eq!(life.task.state.attempts.len(), 20);
}

#[test]
fn rejections_count_towards_the_same_twenty() {
    let mut life = Life::of(TaskSpec { max_attempts: 1, ..spec() });
    for number in 1..=20 {
        assert_eq!(life.task.status(), TaskStatus::Queued);
        let other = format!("agent-{number}");
        life.assign(&other, number);
        let what = if number % 2 == 0 { rejected("no") } else { failed("x") };
        let event = if number % 2 == 0 {
            report(&other, by_lease(number), what)
        } else {
            release(&other, by_lease(number), handed_back())
        };
        life.go(event);
    }
    assert_eq!(life.task.status(), TaskStatus::Dead);
}

#[test]
fn releases_that_are_no_fault_do_not_count_and_do_not_wait() {
    let mut life = Life::of(TaskSpec { max_attempts: 1, ..spec() });
    for number in 1..=90 {
        life.assign(ALPHA, number);
        let why = match number % 4 {
            0 => EndOfLease::Draining,
            1 => EndOfLease::Deregistered,
            2 => EndOfLease::NoPlace,
            _ => EndOfLease::Unclaimed,
        };
        life.go(release(ALPHA, by_lease(number), why));
        assert!(life.task.is_ready(), "no fault, no back-off: {number}");
    }
    assert_eq!(life.task.state.attempts.len(), 90, "each has spent its number");
}

#[test]
fn a_release_that_counts_backs_off_longer_each_time() {
    let mut life = patient();
    let mut longest = Vec::new();
    for number in 1..=12 {
        life.assign(ALPHA, number);
        life.go(release_with(Chance::new(1.0), number, undelivered()));
        longest.push(life.delay().as_secs_f64().round());
    }
    assert_eq!(longest, [1., 2., 4., 8., 16., 32., 64., 128., 256., 300., 300., 300.]);
}

#[test]
fn an_agent_that_hands_back_may_say_how_long_to_wait() {
    let mut life = patient();
    life.assign(ALPHA, 1);
    let why = EndOfLease::HandedBack { reason: Some("busy".to_owned()), retry_after: Some(seconds(17)) };
    life.go(release(ALPHA, by_lease(1), why));
    assert_eq!(life.delay(), seconds(17));
    assert_eq!(life.ask(assign(BETA, 2)), Err(Refusal::NotReady));
    assert_eq!(life.wait(seconds(17) - TICK).ask(due()), Err(Refusal::NotDue));
    life.wait(TICK).go(due());
    life.go(assign(BETA, 2));
}

#[test]
fn who_rejected_it_is_not_offered_it_for_ten_minutes() {
    let mut life = patient();
    life.assign(ALPHA, 1);
    life.go(report(ALPHA, by_lease(1), rejected("no")));
    let rejected_at = life.now;
    life.sweep();
    assert!(life.now < rejected_at + seconds(2), "others need not wait for the cooldown");
    assert_eq!(life.ask(assign(ALPHA, 2)), Err(Refusal::NotReady));
    assert!(life.task.may_be_offered_to(&agent(BETA), life.now));
    life.wait_until(rejected_at + seconds(600) - TICK);
    assert_eq!(life.ask(assign(ALPHA, 2)), Err(Refusal::NotReady));
    life.wait(TICK).go(assign(ALPHA, 2));
}

// Expiries and attempts.

#[test]
fn the_third_expiry_makes_it_dead_with_its_three_holders_on_record() {
    let mut life = patient();
    for (number, id) in [(1, ALPHA), (2, BETA)] {
        life.assign(id, number);
        life.sweep();
        assert!(life.task.is_ready(), "an expiry does not back off");
    }
    life.assign(GAMMA, 3);
    let end = life.sweep();
    assert!(matches!(life.phase(), Phase::Dead { .. }));
    assert_eq!(end.result, None);
    let kinds: Vec<NoteKind> = end.notes.iter().map(|note| note.kind).collect();
    assert_eq!(kinds, [NoteKind::Expired, NoteKind::Dead]);
    let holders: Vec<&str> = life.task.state.attempts.iter().map(|attempt| attempt.agent.as_str()).collect();
    assert_eq!(holders, [ALPHA, BETA, GAMMA]);
    assert!(life.task.state.attempts.iter().all(|attempt| attempt.ended_at.is_some()));
    assert_eq!(life.ask(assign(ALPHA, 4)), Err(Refusal::NotReady));
}

#[test]
fn a_forgotten_lease_counts_as_an_expiry() {
    let mut life = patient();
    for number in 1..=3 {
        life.assign(ALPHA, number);
        life.go(forget(ALPHA, number));
    }
    assert_eq!(life.task.status(), TaskStatus::Dead);
}

#[test]
fn failures_expiries_and_timeouts_share_max_attempts() {
    // The last one decides how it ends: failed with a result, or dead without.
    let start = || {
        let mut life = Life::of(TaskSpec { max_attempts: 3, ..spec() });
        life.assign(ALPHA, 1);
        life.go(report(ALPHA, by_lease(1), failed("x")));
        life.assign(ALPHA, 2);
        life.go(release(ALPHA, by_lease(2), EndOfLease::Draining));
        life.assign(ALPHA, 3).sweep();
        assert_eq!(life.outcomes(), ["failed", "released", "expired"]);
        life.assign(ALPHA, 4);
        life
    };
    let mut life = start();
    life.go(report(ALPHA, by_lease(4), failed("last")));
    assert!(matches!(life.phase(), Phase::Failed { attempt: 4, .. }));

    let mut life = start();
    life.sweep();
    assert_eq!(life.task.status(), TaskStatus::Dead);

    let mut life = start();
    life.go(report(ALPHA, by_lease(4), completed("x")));
    assert_eq!(life.task.status(), TaskStatus::Completed);
}

#[test]
fn one_attempt_means_one() {
    let once = || {
        let mut life = Life::of(TaskSpec { max_attempts: 1, ..spec() });
        life.assign(ALPHA, 1);
        life
    };
    let mut life = once();
    life.go(report(ALPHA, by_lease(1), failed("x")));
    assert_eq!(life.task.status(), TaskStatus::Failed);
    let mut life = once();
    life.sweep();
    assert_eq!(life.task.status(), TaskStatus::Dead);
}

// Times at which an attempt may start.

#[test]
fn a_delayed_task_is_ready_from_its_run_at_on() {
    let mut life = Life::of(TaskSpec { run_at: Some(at(100)), ..spec() });
    assert_eq!(life.task.due_at(), Some(at(100)));
    life.wait_until(at(100) - TICK);
    assert_eq!(life.ask(due()), Err(Refusal::NotDue));
    assert_eq!(life.ask(assign(ALPHA, 1)), Err(Refusal::NotReady));
    life.wait(TICK);
    assert_eq!(life.ask(assign(ALPHA, 1)), Err(Refusal::NotReady), "the sweeper brings it back, nobody else");
    life.go(due());
    assert_eq!(life.task.due_at(), None);
    life.go(assign(ALPHA, 1));
    assert!(Life::of(TaskSpec { run_at: Some(at(0)), ..spec() }).task.is_ready(), "a time that has come is no delay");
}

#[test]
fn no_attempt_starts_once_it_expired() {
    let mut life = Life::of(TaskSpec { expires_at: Some(at(100)), ..spec() });
    life.wait_until(at(100) - TICK);
    assert_eq!(life.ask(due()), Err(Refusal::NotDue));
    let mut in_time = life.clone();
    in_time.go(assign(ALPHA, 1));
    life.wait(TICK);
    assert_eq!(life.ask(assign(ALPHA, 1)), Err(Refusal::NotReady), "also before the sweep");
    life.go(due());
    assert_eq!(life.task.status(), TaskStatus::Dead);
}

#[test]
fn an_expired_task_may_finish_its_running_attempt_and_starts_no_other() {
    let mut life = Life::of(TaskSpec { expires_at: Some(at(10)), ..spec() });
    life.assign(ALPHA, 1).wait(seconds(20));
    assert_eq!(life.ask(due()), Err(Refusal::NotDue));
    let mut failing = life.clone();
    life.go(report(ALPHA, by_lease(1), completed("x")));
    assert_eq!(life.task.status(), TaskStatus::Completed);

    failing.go(report(ALPHA, by_lease(1), failed("x")));
    assert_eq!(failing.task.status(), TaskStatus::Queued);
    assert_eq!(failing.ask(assign(ALPHA, 2)), Err(Refusal::NotReady));
    failing.go(due());
    assert_eq!(failing.task.status(), TaskStatus::Dead);
}

#[test]
fn a_delay_beyond_its_expiry_ends_it_at_the_expiry() {
    let mut life = Life::of(TaskSpec { run_at: Some(at(200)), expires_at: Some(at(100)), ..spec() });
    assert_eq!(life.task.due_at(), Some(at(100)));
    life.sweep();
    assert_eq!((life.task.status(), life.now), (TaskStatus::Dead, at(100)));
}

// Back-off.

#[test]
fn retries_wait_longer_each_time_up_to_the_cap() {
    let mut life = patient();
    let mut longest = Vec::new();
    for number in 1..=12 {
        life.assign(ALPHA, number);
        let event = TaskEvent::Report {
            agent: agent(ALPHA),
            quote: by_lease(number),
            report: failed("x"),
            chance: Chance::new(1.0),
        };
        life.go(event);
        longest.push(life.delay().as_secs_f64().round());
    }
    assert_eq!(longest, [1., 2., 4., 8., 16., 32., 64., 128., 256., 300., 300., 300.]);
}

#[test]
fn expiries_and_releases_do_not_lengthen_the_back_off_of_failures() {
    let mut life = patient();
    life.assign(ALPHA, 1).sweep();
    life.assign(ALPHA, 2).go(release(ALPHA, by_lease(2), handed_back()));
    life.assign(ALPHA, 3).go(report(ALPHA, by_lease(3), failed("x")));
    assert_eq!(life.delay(), Duration::from_millis(500), "half of the first second");
}

proptest! {
    #[test]
    fn every_back_off_lies_within_its_bounds(failures in 0_u32..2000, bits: u64, base_ms in 0_u64..100_000, cap_ms in 0_u64..1_000_000) {
        let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
        let delay = full_jitter(base, cap, failures, Chance::from_bits(bits));
        let doubled = base.as_secs_f64() * 2_f64.powi(i32::try_from(failures).expect("small") - 1);
        prop_assert!(delay <= cap);
        prop_assert!(failures > 0 || delay.is_zero());
        prop_assert!(failures == 0 || delay.as_secs_f64() <= doubled * (1.0 + 1e-9));
        prop_assert_eq!(full_jitter(base, cap, failures, Chance::new(0.0)), Duration::ZERO);
    }
}
