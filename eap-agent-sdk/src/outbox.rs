//! Finished results, each sent until it has a definitive answer (RELIABILITY.md G20, A31, A36).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eap_client::{AgentSession, CallError, ClientError, DEFAULT_DEADLINE};
use eap_core::Chance;
use eap_types::{FailureCode, ProblemBody, ResultOutcome, ResultStatus, TaskResult};
use tracing::{debug, warn};

use crate::leases::LeaseKey;
use crate::outbox_file::{OutboxFile, key_of};
use crate::report::Refused;
use crate::session::{Backoff, Verdict, batch_length, judge, judge_problem};

/// Results that travel in one request, at most.
const MOST_AT_ONCE: usize = 100;

/// How many bytes a second a connection carries at least.
const SLOWEST: usize = 64 * 1024;
/// How much is said at most of why a result was refused, in characters.
const MAX_REASON_CHARS: usize = 1000;

/// Results waiting for a definitive answer, the oldest first.
///
/// It is bounded by what the agent holds: an entry keeps its place among the agent's tasks.
#[derive(Debug)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    file: Option<OutboxFile>,
    last_id: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    result: TaskResult,
    size: usize,
    backoff: Backoff,
    not_before: Instant,
    is_on_its_way: bool,
    /// Whether an earlier process left it and this one has not sent it yet.
    is_left_over: bool,
    /// How many results may travel with it, itself counted: fewer after each batch that failed.
    company: usize,
    /// Whether it stands for a result that the orchestrator does not take.
    is_replacement: bool,
}

/// What became of one result for good.
#[derive(Debug)]
pub(crate) enum Settled {
    Recorded(LeaseKey, ResultStatus),
    Refused(LeaseKey, Box<Refused>),
}

/// What the answers to a delivery come to.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    pub(crate) settled: Vec<Settled>,
    /// Whether the token was refused.
    pub(crate) is_unknown: bool,
}

/// The answers to one delivery.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) epoch: u64,
    answers: Vec<(u64, Answer)>,
}

#[derive(Debug)]
enum Answer {
    Recorded,
    Not {
        verdict: Verdict,
        status: u16,
        problem: Option<Box<ProblemBody>>,
    },
    /// The batch was refused, which says nothing about this result.
    Alone,
    /// The batch of so many got no answer of use, perhaps for its size.
    Broken {
        together: usize,
        asked: Option<Duration>,
    },
}

impl Outbox {
    pub(crate) fn new(file: Option<OutboxFile>) -> Self {
        Self { entries: VecDeque::new(), file, last_id: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.file.is_some()
    }

    /// Takes a result in that is on disk already.
    pub(crate) fn restore(&mut self, result: TaskResult, now: Instant) {
        self.put(result, now);
        self.entries.back_mut().expect("an entry was just added").is_left_over = true;
    }

    fn put(&mut self, result: TaskResult, now: Instant) {
        self.last_id += 1;
        let size = serde_json::to_vec(&result).map_or(usize::MAX, |text| text.len());
        self.entries.push_back(Entry {
            id: self.last_id,
            result,
            size,
            backoff: Backoff::slow(),
            not_before: now,
            is_on_its_way: false,
            is_left_over: false,
            company: MOST_AT_ONCE,
            is_replacement: false,
        });
    }

    /// Takes a result in; it is on disk when this returns, if there is one to be on.
    pub(crate) async fn add(&mut self, result: TaskResult, now: Instant) {
        self.write(&result).await;
        self.put(result, now);
    }

    /// Whether a result of an earlier process got no answer of any kind yet.
    pub(crate) fn owes_a_first_try(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_left_over)
    }

    /// When the next result is due, unless one is on its way.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries.iter().filter(|entry| !entry.is_on_its_way).map(|entry| entry.not_before).min()
    }

    /// Makes everything due now: there is a new session, or no more time.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.hurry_until(now);
    }

    /// Takes the results that are due and travel together in at most `limit` bytes.
    pub(crate) fn pack(&mut self, now: Instant, limit: usize) -> Vec<(u64, TaskResult)> {
        let is_due = |entry: &&mut Entry| !entry.is_on_its_way && entry.not_before <= now;
        let mut due: Vec<&mut Entry> = self.entries.iter_mut().filter(is_due).collect();
        let (mut most, mut count) = (MOST_AT_ONCE, 0);
        for entry in &due {
            most = most.min(entry.company);
            if count >= most {
                break;
            }
            count += 1;
        }
        let count = batch_length(due.iter().map(|entry| entry.size), limit, count);
        let taken = due.iter_mut().take(count).map(|entry| {
            entry.is_on_its_way = true;
            (entry.id, entry.result.clone())
        });
        taken.collect()
    }

    /// How long the delivery that is on its way may take, by its size.
    pub(crate) fn deadline(&self) -> Duration {
        let on_their_way = self.entries.iter().filter(|entry| entry.is_on_its_way);
        let bytes = on_their_way.fold(0_usize, |sum, entry| sum.saturating_add(entry.size));
        DEFAULT_DEADLINE + Duration::from_secs((bytes / SLOWEST) as u64)
    }

    /// Makes everything due by then.
    pub(crate) fn hurry_until(&mut self, latest: Instant) {
        for entry in &mut self.entries {
            entry.not_before = entry.not_before.min(latest);
        }
    }

    /// Takes in the answers to a delivery.
    pub(crate) async fn settle(
        &mut self,
        delivered: Delivered,
        now: Instant,
        mut chance: impl FnMut() -> Chance,
    ) -> Settlement {
        let mut settlement = Settlement::default();
        for (id, answer) in delivered.answers {
            let Some(place) = self.entries.iter().position(|entry| entry.id == id) else { continue };
            let entry = &mut self.entries[place];
            entry.is_on_its_way = false;
            entry.is_left_over = false;
            match answer {
                Answer::Recorded => {
                    let status = entry.result.status;
                    let key = self.forget(place).await;
                    settlement.settled.push(Settled::Recorded(key, status));
                }
                Answer::Not { verdict: Verdict::TooLarge, .. } if !entry.is_replacement => {
                    self.replace_too_large_at(place, now).await;
                }
                Answer::Not { verdict: Verdict::Malformed, problem, .. } if !entry.is_replacement => {
                    let failed = not_taken(&entry.result, problem.as_deref());
                    self.replace(place, failed, now).await;
                }
                Answer::Not {
                    verdict: verdict @ (Verdict::Malformed | Verdict::Refused | Verdict::TooLarge),
                    status,
                    problem,
                } => {
                    if verdict != Verdict::Refused {
                        self.set_aside(place).await;
                    }
                    let entry = &self.entries[place];
                    let result = entry.result.clone();
                    let problem = problem.map(|problem| *problem);
                    let key = self.forget(place).await;
                    settlement.settled.push(Settled::Refused(key, Box::new(Refused { result, status, problem })));
                }
                Answer::Broken { together, asked } => {
                    entry.company = (together / 2).max(1);
                    entry.not_before = now + entry.backoff.fail(chance(), asked);
                }
                Answer::Not { verdict: Verdict::Register, .. } => {
                    settlement.is_unknown = true;
                    entry.not_before = now + entry.backoff.fail(chance(), None);
                }
                Answer::Not { verdict: Verdict::Later(asked), .. } => {
                    entry.not_before = now + entry.backoff.fail(chance(), asked);
                    debug!(task.id = %entry.result.task_id, failures = entry.backoff.failures(), "a result waits");
                }
                Answer::Alone => entry.company = 1,
            }
        }
        settlement
    }

    /// Replaces what no request can carry: a server that stops reading halfway may cut the
    /// connection before its 413 arrives.
    pub(crate) async fn replace_too_large(&mut self, now: Instant, limit: usize) {
        let is_too_large = |entry: &Entry| entry.size > limit && !entry.is_on_its_way && !entry.is_replacement;
        while let Some(place) = self.entries.iter().position(is_too_large) {
            self.replace_too_large_at(place, now).await;
        }
    }

    async fn replace_too_large_at(&mut self, place: usize, now: Instant) {
        let entry = &self.entries[place];
        let failed = too_large(&entry.result, entry.size);
        self.replace(place, failed, now).await;
    }

    /// Reports a failure in place of a result that the orchestrator does not take.
    async fn replace(&mut self, place: usize, failed: TaskResult, now: Instant) {
        let entry = self.entries.remove(place).expect("the caller found the entry at this place");
        let reason = failed.error_message.as_deref();
        warn!(task.id = %entry.result.task_id, bytes = entry.size, reason, "a failure is reported in place of a result");
        self.add(failed, now).await;
        self.entries.back_mut().expect("an entry was just added").is_replacement = true;
    }

    async fn set_aside(&self, place: usize) {
        let (Some(file), Some(entry)) = (&self.file, self.entries.get(place)) else { return };
        if let Err(error) = file.set_aside(&entry.result).await {
            warn!(task.id = %entry.result.task_id, %error, "a refused result cannot be set aside");
        }
    }

    async fn forget(&mut self, place: usize) -> LeaseKey {
        let entry = self.entries.remove(place).expect("the caller found the entry at this place");
        let key = key_of(&entry.result);
        if let Some(file) = &mut self.file {
            let live = self.entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size as u64));
            let starts_anew = self.entries.is_empty() || file.is_large(live);
            let left = starts_anew.then(|| self.entries.iter().map(|entry| entry.result.clone()).collect());
            if let Err(error) = file.remove(key, left).await {
                warn!(%error, "the outbox file cannot be written; the result may be sent once more");
            }
        }
        key
    }

    async fn write(&mut self, result: &TaskResult) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.add(result).await {
            // Sending it is still right: only a crash would lose it now.
            warn!(task.id = %result.task_id, %error, "the result cannot be kept on disk");
        }
    }
}

/// Sends results, one by itself or several together.
pub(crate) async fn deliver(session: AgentSession, epoch: u64, parcel: Vec<(u64, TaskResult)>) -> Delivered {
    let (ids, results): (Vec<u64>, Vec<TaskResult>) = parcel.into_iter().unzip();
    let answers: Vec<Answer> = if let [result] = results.as_slice() {
        vec![session.result(result).await.map_or_else(|error| refusal(&error), |_| Answer::Recorded)]
    } else {
        match session.results(&results).await {
            Ok(outcomes) => outcomes.into_iter().map(outcome).collect(),
            Err(error) => match judge(&error) {
                Verdict::Later(asked) if may_be_for_its_size(&error) => {
                    ids.iter().map(|_| Answer::Broken { together: ids.len(), asked }).collect()
                }
                Verdict::Register | Verdict::Later(_) => ids.iter().map(|_| refusal(&error)).collect(),
                Verdict::Malformed | Verdict::TooLarge | Verdict::Refused => {
                    ids.iter().map(|_| Answer::Alone).collect()
                }
            },
        }
    };
    Delivered { epoch, answers: ids.into_iter().zip(answers).collect() }
}

/// Whether less at once may fare better.
fn may_be_for_its_size(error: &ClientError) -> bool {
    match error {
        ClientError::Call(error) => {
            matches!(error, CallError::Timeout { .. } | CallError::Broken { .. } | CallError::TooLarge { .. })
        }
        ClientError::Unreadable { .. } => true,
        _ => false,
    }
}

fn outcome(outcome: ResultOutcome) -> Answer {
    match outcome {
        ResultOutcome::Accepted(_) => Answer::Recorded,
        ResultOutcome::Refused(problem) => {
            Answer::Not { verdict: judge_problem(&problem), status: problem.status, problem: Some(Box::new(problem)) }
        }
        // A word of a newer server: by itself the result gets an answer with a status.
        _ => Answer::Alone,
    }
}

fn refusal(error: &ClientError) -> Answer {
    Answer::Not {
        verdict: judge(error),
        status: error.status().unwrap_or_default(),
        problem: error.problem().cloned().map(Box::new),
    }
}

/// What is reported instead of a result that no request can carry (RELIABILITY.md A31).
fn too_large(result: &TaskResult, size: usize) -> TaskResult {
    let message = format!("the result is too large for the orchestrator: {size} bytes");
    in_place_of(result, FailureCode::ResourceExhausted, message)
}

/// What is reported instead of a result whose content the orchestrator does not take.
fn not_taken(result: &TaskResult, problem: Option<&ProblemBody>) -> TaskResult {
    let mut message = "the orchestrator does not take the result".to_owned();
    if let Some(problem) = problem {
        message = format!("{message}: {}", problem.detail);
        if let Some(field) = problem.details.first() {
            message = format!("{message} ({} {})", field.field, field.message);
        }
    }
    in_place_of(result, FailureCode::Internal, message.chars().take(MAX_REASON_CHARS).collect::<String>())
}

fn in_place_of(result: &TaskResult, code: FailureCode, message: String) -> TaskResult {
    let mut failed = TaskResult::failed(result.task_id, code, message).with_retryable(false);
    failed.lease_id = result.lease_id;
    failed.attempt = result.attempt;
    failed.execution_time_ms = result.execution_time_ms;
    failed
}

#[cfg(test)]
mod tests {
    use eap_types::{ErrorCode, JsonObject, TaskId};

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
        outcome(ResultOutcome::Refused(ProblemBody::new(code, "no", "r1")))
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
            outcome(ResultOutcome::Refused(problem))
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
}
