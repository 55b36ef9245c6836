//! What a report is answered, row by row of the table in docs/reliability.md, section 1; first match wins.

mod common;

use common::*;
use eap_core::{
    AttemptOutcome, EndOfLease, Phase, Quote, RecordedResult, Refusal, Report, ResultDigest, Step, TaskSpec,
};
use eap_types::{FailureCode, ResultStatus, TaskResult, TaskStatus, from_json};

fn lost(attempt: u32) -> Result<Step, Refusal> {
    Err(Refusal::LeaseLost { attempt: Some(attempt) })
}

fn is_final(status: TaskStatus, attempt: u32) -> Result<Step, Refusal> {
    Err(Refusal::TaskFinal { status, attempt: Some(attempt) })
}

fn conflict(attempt: u32) -> Result<Step, Refusal> {
    Err(Refusal::ResultConflict { attempt })
}

fn is_recorded(answer: &Result<Step, Refusal>) -> bool {
    matches!(answer, Ok(Step::Changed(_)))
}

/// A task leased to alpha as attempt 1.
fn held_by_alpha() -> Life {
    let mut life = Life::new();
    life.assign(ALPHA, 1);
    life
}

// Row: never assigned to the caller.

#[test]
fn to_a_stranger_the_task_does_not_exist_in_any_phase() {
    let mut life = held_by_alpha();
    let asks = [by_lease(1), by_number(1), Quote::default(), Quote { lease_id: Some(lease(1)), attempt: Some(2) }];
    for quote in asks {
        assert_eq!(life.ask(report(GAMMA, quote, completed("x"))), Err(Refusal::NotAssigned));
    }
    life.go(report(ALPHA, by_lease(1), completed("x")));
    for quote in asks {
        // Not even the very result that is recorded.
        assert_eq!(life.ask(report(GAMMA, quote, completed("x"))), Err(Refusal::NotAssigned));
    }
    assert_eq!(Life::new().report(GAMMA, 1, completed("x")), Err(Refusal::NotAssigned));
}

// Row: this attempt already has exactly this result.

#[test]
fn a_repeated_result_gets_the_first_answer() {
    let mut life = held_by_alpha();
    life.go(report(ALPHA, by_lease(1), completed("x")));
    for quote in [by_lease(1), by_number(1), Quote::default()] {
        assert_eq!(life.ask(report(ALPHA, quote, completed("x"))), Ok(Step::Duplicate));
    }
}

#[test]
fn a_repeat_is_a_duplicate_even_after_others_tried_and_finished() {
    let mut life = held_by_alpha();
    life.go(report(ALPHA, by_lease(1), failed("x")));
    assert_eq!(life.report(ALPHA, 1, failed("x")), Ok(Step::Duplicate), "while it backs off");
    life.assign(BETA, 2);
    assert_eq!(life.report(ALPHA, 1, failed("x")), Ok(Step::Duplicate), "before LEASE_LOST");
    life.go(report(BETA, by_lease(2), completed("y")));
    assert_eq!(life.report(ALPHA, 1, failed("x")), Ok(Step::Duplicate), "before TASK_FINAL");
}

#[test]
fn results_are_equal_when_they_parse_to_the_same_value() {
    let spelled = [
        r#"{"task_id":"ID","status":"completed","output_data":{"a":1,"b":[true,null]},"lease_id":"LEASE","attempt":1}"#,
        r#"{ "output_data": { "b": [ true, null ], "a": 1 }, "status": "completed", "task_id": "ID" }"#,
        r#"{"task_id":"ID","status":"completed","output_data":{"\u0061":1,"b":[true,null]},"artifacts":[]}"#,
    ];
    let read = |text: &str| {
        let text = text.replace("ID", &spec().id.to_string()).replace("LEASE", &lease(1).to_string());
        from_json::<TaskResult>(text.as_bytes()).expect("a valid result")
    };
    let mut life = held_by_alpha();
    life.go(report(ALPHA, by_lease(1), Report::of(&read(spelled[0]))));
    for other in &spelled[1..] {
        assert_eq!(life.report(ALPHA, 1, Report::of(&read(other))), Ok(Step::Duplicate), "{other}");
    }
    let different = read(&spelled[0].replace("true", "false"));
    assert_eq!(life.report(ALPHA, 1, Report::of(&different)), conflict(1));
}

#[test]
fn a_repeated_rejection_is_a_duplicate() {
    let mut life = held_by_alpha();
    life.go(report(ALPHA, by_lease(1), rejected("not mine")));
    assert_eq!(life.outcomes(), ["released"]);
    assert_eq!(life.report(ALPHA, 1, rejected("not mine")), Ok(Step::Duplicate));
    assert_eq!(life.report(ALPHA, 1, rejected("other words")), conflict(1));
    life.assign(BETA, 2);
    assert_eq!(life.report(ALPHA, 1, rejected("not mine")), Ok(Step::Duplicate));
}

// Row: this attempt already has another result from its agent.

#[test]
fn another_result_for_the_attempt_is_a_conflict_before_it_is_late() {
    let mut life = held_by_alpha();
    life.go(report(ALPHA, by_lease(1), failed("x")));
    assert_eq!(life.report(ALPHA, 1, completed("y")), conflict(1), "while it backs off");
    life.assign(BETA, 2);
    assert_eq!(life.report(ALPHA, 1, completed("y")), conflict(1), "before LEASE_LOST");
    life.go(report(BETA, by_lease(2), completed("z")));
    assert_eq!(life.report(ALPHA, 1, completed("y")), conflict(1), "before TASK_FINAL");
    assert_eq!(life.report(BETA, 2, completed("y")), conflict(2));
    assert_eq!(life.task.attempt(2).and_then(|attempt| attempt.reported), Some(completed("z").digest));
}

// Row: the task is final.

#[test]
fn a_final_task_is_said_to_be_final_before_the_attempt_is_said_to_be_fenced() {
    let mut life = held_by_alpha();
    life.go(forget(ALPHA, 1));
    life.assign(BETA, 2);
    assert_eq!(life.report(ALPHA, 1, completed("x")), lost(1));
    life.go(report(BETA, by_lease(2), completed("y")));
    assert_eq!(life.report(ALPHA, 1, completed("x")), is_final(TaskStatus::Completed, 1));

    let mut life = held_by_alpha();
    life.go(cancel());
    assert_eq!(life.report(ALPHA, 1, completed("x")), is_final(TaskStatus::Cancelled, 1));
    assert_eq!(life.outcomes(), ["cancelled"]);
}

// Row: the attempt is fenced.

#[test]
fn whatever_the_server_ended_is_fenced_though_nobody_else_claimed() {
    let free = [
        EndOfLease::Draining,
        EndOfLease::Deregistered,
        EndOfLease::Unclaimed,
        EndOfLease::NoPlace,
        EndOfLease::NotFree,
    ];
    for why in [handed_back(), undelivered()].into_iter().chain(free) {
        let mut life = held_by_alpha();
        life.go(release(ALPHA, by_lease(1), why.clone()));
        assert_eq!(life.report(ALPHA, 1, completed("x")), lost(1), "{why:?}");
        assert_eq!(life.outcomes(), ["released"]);
    }
}

#[test]
fn a_result_after_the_timeout_is_too_late() {
    let mut life = Life::of(TaskSpec { timeout: seconds(50), max_attempts: 2, ..spec() });
    life.assign(ALPHA, 1);
    life.sweep();
    let attempt = life.task.attempt(1).expect("attempt 1");
    assert_eq!((attempt.outcome, attempt.error_code), (AttemptOutcome::Failed, Some(FailureCode::Timeout)));
    assert_eq!(life.report(ALPHA, 1, completed("x")), lost(1));

    life.assign(ALPHA, 2);
    let ended = life.sweep();
    assert!(matches!(ended.result, Some(RecordedResult::ServerMade { attempt: 2, code: FailureCode::Timeout, .. })));
    assert!(matches!(life.phase(), Phase::Failed { attempt: 2, .. }));
    assert_eq!(life.report(ALPHA, 2, completed("x")), is_final(TaskStatus::Failed, 2));
}

#[test]
fn the_newer_attempt_fences_the_older_one_of_the_same_agent_too() {
    let mut life = held_by_alpha();
    life.go(forget(ALPHA, 1));
    life.assign(ALPHA, 2);
    assert_eq!(life.report(ALPHA, 1, completed("old")), lost(1));
    assert!(is_recorded(&life.report(ALPHA, 2, completed("new"))));
}

// Row: the attempt is open, or expired and still the newest.

#[test]
fn an_open_attempt_is_recorded_with_what_was_said() {
    let mut life = held_by_alpha();
    let done = life.go(report(ALPHA, by_lease(1), completed("x")));
    assert_eq!(done.result, Some(RecordedResult::Reported { attempt: 1, status: ResultStatus::Completed }));
    assert_eq!(*life.phase(), Phase::Completed { attempt: 1 });

    let mut life = held_by_alpha();
    let done = life.go(report(ALPHA, by_lease(1), fatal("bad input")));
    assert_eq!(done.result, Some(RecordedResult::Reported { attempt: 1, status: ResultStatus::Failed }));
    assert_eq!(*life.phase(), Phase::Failed { attempt: 1, reason: "bad input".to_owned() });
}

#[test]
fn a_result_after_expiry_is_recorded_while_nobody_else_claimed() {
    // G10 and A20: swept or not, late alone is harmless.
    for is_swept in [false, true] {
        let mut life = held_by_alpha();
        life.wait(LEASE * 5);
        if is_swept {
            life.sweep();
            assert_eq!(life.outcomes(), ["expired"]);
        }
        assert!(is_recorded(&life.report(ALPHA, 1, completed("x"))), "swept: {is_swept}");
        let attempt = life.task.attempt(1).expect("attempt 1");
        assert_eq!((attempt.outcome, attempt.message.as_deref()), (AttemptOutcome::Completed, None));
        assert_eq!(attempt.ended_at, Some(life.now));
    }
}

#[test]
fn a_late_failure_takes_the_place_of_its_expiry_in_the_counts() {
    let policy = {
        let mut policy = eap_core::TaskPolicy::default();
        policy.max_expiries = 2;
        policy
    };
    let mut life = Life::of(TaskSpec { max_attempts: 10, ..spec() }).with_policy(policy);
    life.assign(ALPHA, 1).sweep();
    assert!(is_recorded(&life.report(ALPHA, 1, failed("late"))));
    assert_eq!(life.outcomes(), ["failed"]);
    assert!(!life.delay().is_zero(), "a failure backs off, an expiry does not");

    life.assign(ALPHA, 2).sweep();
    assert_eq!(life.task.status(), TaskStatus::Queued, "one expiry is left of the two");
    life.assign(ALPHA, 3).sweep();
    assert_eq!(life.task.status(), TaskStatus::Dead);

    // It is no second use of max_attempts either.
    let mut life = Life::of(TaskSpec { max_attempts: 2, ..spec() });
    life.assign(ALPHA, 1).sweep();
    assert!(is_recorded(&life.report(ALPHA, 1, failed("late"))));
    assert_eq!(life.task.status(), TaskStatus::Queued);
    life.assign(ALPHA, 2);
    assert!(is_recorded(&life.report(ALPHA, 2, failed("again"))));
    assert_eq!(life.task.status(), TaskStatus::Failed);
}

#[test]
fn a_late_rejection_leaves_the_expiry_and_is_known_again() {
    let mut life = held_by_alpha();
    life.sweep();
    assert!(is_recorded(&life.report(ALPHA, 1, rejected("no"))));
    assert_eq!(life.outcomes(), ["expired"], "only completed and failed may follow expired");
    assert!(life.task.is_ready());
    assert_eq!(life.report(ALPHA, 1, rejected("no")), Ok(Step::Duplicate));
    assert_eq!(life.ask(assign(ALPHA, 2)), Err(Refusal::NotReady), "it is not offered to alpha again");
    life.assign(BETA, 2);
}

// G12: which attempt a report means.

#[test]
fn a_plain_report_is_the_newest_attempts_only_from_its_holder() {
    let mut life = held_by_alpha();
    life.go(forget(ALPHA, 1));
    life.assign(BETA, 2);
    assert_eq!(life.ask(report(ALPHA, Quote::default(), completed("x"))), lost(1));
    assert!(is_recorded(&life.ask(report(BETA, Quote::default(), completed("y")))));
}

#[test]
fn lease_and_attempt_must_belong_together() {
    let mut life = held_by_alpha();
    life.go(forget(ALPHA, 1));
    life.assign(ALPHA, 2);
    let quote = |number, attempt| Quote { lease_id: Some(lease(number)), attempt: Some(attempt) };
    for mixed in [quote(1, 2), quote(2, 1), quote(9, 2), quote(2, 9), quote(2, 0)] {
        assert_eq!(life.ask(report(ALPHA, mixed, completed("x"))), Err(Refusal::Mismatch), "{mixed:?}");
    }
    assert!(is_recorded(&life.ask(report(ALPHA, quote(2, 2), completed("x")))));
}

#[test]
fn an_agent_cannot_report_under_the_lease_of_another() {
    let mut life = held_by_alpha();
    life.go(forget(ALPHA, 1));
    life.assign(BETA, 2);
    let both = Quote { lease_id: Some(lease(2)), attempt: Some(2) };
    for quote in [by_lease(2), by_number(2), both, by_lease(9), by_number(9), by_number(0)] {
        assert_eq!(life.ask(report(ALPHA, quote, completed("stolen"))), lost(1), "{quote:?}");
    }
    assert_eq!(life.outcomes(), ["expired", "open"]);
}

// What kind of report a result is.

#[test]
fn rejected_and_unsupported_end_as_released_whatever_retryable_says() {
    for code in [FailureCode::Rejected, FailureCode::UnsupportedTask] {
        for retryable in [None, Some(true), Some(false)] {
            let mut life = Life::of(TaskSpec { max_attempts: 1, ..spec() });
            life.assign(ALPHA, 1);
            let mut result = result_failed(code, "no");
            result.retryable = retryable;
            life.go(report(ALPHA, by_lease(1), Report::of(&result)));
            assert_eq!((life.task.status(), life.outcomes()), (TaskStatus::Queued, vec!["released"]), "{code}");
        }
    }
}

#[test]
fn a_failure_is_retried_unless_it_says_otherwise_or_is_of_the_input() {
    let mut table = Vec::new();
    for code in [FailureCode::HandlerError, FailureCode::InvalidInput, FailureCode::Timeout, FailureCode::Cancelled] {
        for retryable in [None, Some(true), Some(false)] {
            let mut life = held_by_alpha();
            let mut result = result_failed(code, "x");
            result.retryable = retryable;
            life.go(report(ALPHA, by_lease(1), Report::of(&result)));
            table.push((code.as_str(), retryable, life.task.status() == TaskStatus::Queued));
        }
    }
    let expected = [
        ("HANDLER_ERROR", None, true),
        ("HANDLER_ERROR", Some(true), true),
        ("HANDLER_ERROR", Some(false), false),
        ("INVALID_INPUT", None, false),
        ("INVALID_INPUT", Some(true), true),
        ("INVALID_INPUT", Some(false), false),
        ("TIMEOUT", None, true),
        ("TIMEOUT", Some(true), true),
        ("TIMEOUT", Some(false), false),
        ("CANCELLED", None, true),
        ("CANCELLED", Some(true), true),
        ("CANCELLED", Some(false), false),
    ];
    assert_eq!(table, expected);
}

#[test]
fn a_digest_is_read_back_from_64_hex_digits_only() {
    let digest = completed("x").digest;
    let text = serde_json::to_string(&digest).expect("a digest is text");
    assert_eq!(serde_json::from_str::<ResultDigest>(&text).expect("its own text"), digest);
    assert_eq!(text.trim_matches('"'), digest.to_string());
    for wrong in ["", "00", &"0".repeat(63), &"0".repeat(65), &"+0".repeat(32), &"zz".repeat(32), &"é".repeat(32)] {
        assert!(serde_json::from_value::<ResultDigest>(wrong.into()).is_err(), "{wrong}");
    }
}
