//! The outbox without a connection: what is due, what an answer ends, what is sent instead.

use eap_types::{ErrorCode, FailureCode, JsonObject, TaskId};

use super::*;

const LIMIT: usize = 8 * 1024 * 1024;

fn result(task: u8) -> TaskResult {
    TaskResult::completed(TaskId::from_bytes([task; 16]), JsonObject::default())
}

async fn filled(count: u8, now: Instant) -> Outbox {
    let mut outbox = Outbox::new(None);
    for task in 1..=count {
        outbox.add(result(task), now).await;
    }
    outbox
}

fn chance() -> Chance {
    Chance::new(0.5)
}

fn not(code: ErrorCode) -> Answer {
    outcome(ResultOutcome::Refused(Box::new(ProblemBody::new(code, "no", "r1"))))
}

#[tokio::test]
async fn a_refused_result_does_not_hold_up_the_others() {
    let now = Instant::now();
    let mut outbox = filled(3, now).await;
    assert_eq!(outbox.pack(now, LIMIT).len(), 3);
    assert!(outbox.pack(now, LIMIT).is_empty());
    let answers = vec![(1, not(ErrorCode::LeaseLost)), (2, Answer::Recorded), (3, not(ErrorCode::Unavailable))];
    let settlement = outbox.settle(Delivered { epoch: 1, answers }, now, chance).await;
    assert!(matches!(settlement.settled[0], Settled::Refused(..)));
    assert!(matches!(settlement.settled[1], Settled::Recorded(..)));
    assert_eq!(outbox.len(), 1);
    assert!(outbox.next_due().unwrap() > now);
}

#[tokio::test]
async fn after_a_refused_batch_each_travels_alone() {
    let now = Instant::now();
    let mut outbox = filled(2, now).await;
    outbox.pack(now, LIMIT);
    let answers = vec![(1, Answer::Alone), (2, Answer::Alone)];
    outbox.settle(Delivered { epoch: 1, answers }, now, chance).await;
    assert_eq!(outbox.pack(now, LIMIT).len(), 1);
    assert_eq!(outbox.pack(now, LIMIT).len(), 1);
}

#[tokio::test]
async fn a_batch_that_breaks_is_halved() {
    let now = Instant::now();
    let mut outbox = filled(4, now).await;
    outbox.pack(now, LIMIT);
    let answers = (1..=4).map(|id| (id, Answer::Broken { together: 4, asked: None })).collect();
    outbox.settle(Delivered { epoch: 1, answers }, now, chance).await;
    assert!(outbox.next_due().unwrap() > now);
    outbox.hurry(now);
    assert_eq!(outbox.pack(now, LIMIT).len(), 2);
    assert_eq!(outbox.pack(now, LIMIT).len(), 2);
}

#[tokio::test]
async fn a_large_result_has_more_time() {
    let now = Instant::now();
    let mut outbox = filled(1, now).await;
    outbox.entries[0].size = 10 * SLOWEST;
    assert_eq!(outbox.deadline(), DEFAULT_DEADLINE);
    outbox.pack(now, LIMIT);
    assert_eq!(outbox.deadline(), DEFAULT_DEADLINE + Duration::from_secs(10));
}

#[tokio::test]
async fn a_result_refused_for_its_content_becomes_a_failure_once_and_is_then_set_aside() {
    let (now, dir) = (Instant::now(), tempfile::tempdir().unwrap());
    let mut outbox = Outbox::new(Some(OutboxFile::open(dir.path()).unwrap().0));
    outbox.add(result(1), now).await;
    let refuse = || {
        let mut problem = ProblemBody::new(ErrorCode::ValidationError, "no", "r1");
        problem.details.push(eap_types::FieldProblem::new("body.cost_usd", "value_error", "must not be negative"));
        outcome(ResultOutcome::Refused(Box::new(problem)))
    };
    let id = outbox.pack(now, LIMIT)[0].0;
    let settlement = outbox.settle(Delivered { epoch: 1, answers: vec![(id, refuse())] }, now, chance).await;
    assert!(settlement.settled.is_empty());
    let (id, failed) = outbox.pack(now, LIMIT).remove(0);
    assert_eq!((failed.error_code, failed.is_retryable()), (Some(FailureCode::Internal), false));
    let message = failed.error_message.as_deref().unwrap();
    assert!(message.ends_with("no (body.cost_usd must not be negative)"), "{message}");
    let settlement = outbox.settle(Delivered { epoch: 1, answers: vec![(id, refuse())] }, now, chance).await;
    assert!(matches!(settlement.settled[..], [Settled::Refused(..)]));
    assert!(outbox.is_empty());
    let aside = std::fs::read_to_string(dir.path().join("outbox.bad")).unwrap();
    assert!(aside.contains("must not be negative"), "{aside}");
}

#[tokio::test]
async fn a_result_that_is_too_large_is_replaced_once_by_a_failure() {
    let now = Instant::now();
    let mut outbox = filled(1, now).await;
    let [(id, _)] = outbox.pack(now, LIMIT)[..] else { panic!("one result is due") };
    let answers = vec![(id, not(ErrorCode::PayloadTooLarge))];
    assert!(outbox.settle(Delivered { epoch: 1, answers }, now, chance).await.settled.is_empty());
    let parcel = outbox.pack(now, LIMIT);
    assert_eq!(parcel[0].1.error_code, Some(FailureCode::ResourceExhausted));
    assert!(!parcel[0].1.is_retryable());
    let answers = vec![(parcel[0].0, not(ErrorCode::PayloadTooLarge))];
    let settlement = outbox.settle(Delivered { epoch: 1, answers }, now, chance).await;
    assert!(matches!(settlement.settled[..], [Settled::Refused(..)]));
    assert!(outbox.is_empty());
}

#[tokio::test]
async fn a_dead_token_keeps_the_result_and_asks_for_a_new_session() {
    let now = Instant::now();
    let mut outbox = filled(1, now).await;
    outbox.pack(now, LIMIT);
    let answers = vec![(1, not(ErrorCode::InvalidToken))];
    let settlement = outbox.settle(Delivered { epoch: 1, answers }, now, chance).await;
    assert!(settlement.is_unknown && settlement.settled.is_empty());
    outbox.hurry(now);
    assert_eq!(outbox.pack(now, LIMIT).len(), 1);
}
