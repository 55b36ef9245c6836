//! Finished results, each sent until it has a definitive answer (RELIABILITY.md G20, A31, A36).

mod replacement;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eap_client::{AgentSession, CallError, ClientError, DEFAULT_DEADLINE};
use eap_core::Chance;
use eap_types::{ProblemBody, ResultOutcome, ResultStatus, TaskResult};
use tracing::{debug, warn};

use self::replacement::{not_taken, too_large};
use crate::leases::LeaseKey;
use crate::outbox_file::{OutboxFile, key_of};
use crate::report::Refused;
use crate::session::{Backoff, Verdict, batch_length, judge, judge_problem};

/// Results that travel in one request, at most.
const MOST_AT_ONCE: usize = 100;

/// How many bytes a second a connection carries at least.
const SLOWEST: usize = 64 * 1024;

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
    /// Until when it waits for what its handler emitted to be told.
    held_until: Option<Instant>,
    is_on_its_way: bool,
    /// Whether an earlier process left it and this one has not sent it yet.
    is_left_over: bool,
    /// How many results may travel with it, itself counted: fewer after each batch that failed.
    company: usize,
    /// Whether it stands for a result that the orchestrator does not take.
    is_replacement: bool,
}

impl Entry {
    fn due(&self) -> Instant {
        self.held_until.map_or(self.not_before, |until| until.max(self.not_before))
    }
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

    /// The result of a task that is still to be sent.
    #[cfg(feature = "push")]
    pub(crate) fn result(&self, key: LeaseKey) -> Option<&TaskResult> {
        self.entries.iter().map(|entry| &entry.result).find(|result| key_of(result) == key)
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
            held_until: None,
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

    /// Keeps the result that was taken in last from being sent before `until`, or before it is let go.
    pub(crate) fn hold(&mut self, until: Instant) {
        if let Some(entry) = self.entries.back_mut() {
            entry.held_until = Some(until);
        }
    }

    /// Lets those go that need not wait any longer; gives those among them whose time ran out.
    pub(crate) fn let_go(&mut self, now: Instant, is_told: impl Fn(LeaseKey) -> bool) -> Vec<LeaseKey> {
        let mut overdue = Vec::new();
        for entry in &mut self.entries {
            let Some(until) = entry.held_until else { continue };
            let key = key_of(&entry.result);
            let is_told = is_told(key);
            if is_told || until <= now {
                entry.held_until = None;
                overdue.extend((!is_told).then_some(key));
            }
        }
        overdue
    }

    /// Holds nothing beyond this.
    pub(crate) fn hold_until_at_most(&mut self, latest: Instant) {
        for until in self.entries.iter_mut().filter_map(|entry| entry.held_until.as_mut()) {
            *until = latest.min(*until);
        }
    }

    /// Whether a result of an earlier process got no answer of any kind yet.
    pub(crate) fn owes_a_first_try(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_left_over)
    }

    /// When the next result is due, unless one is on its way.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries.iter().filter(|entry| !entry.is_on_its_way).map(Entry::due).min()
    }

    /// Makes everything due now: there is a new session, or no more time.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.hurry_until(now);
    }

    /// Takes the results that are due and travel together in at most `limit` bytes.
    pub(crate) fn pack(&mut self, now: Instant, limit: usize) -> Vec<(u64, TaskResult)> {
        let is_due = |entry: &&mut Entry| !entry.is_on_its_way && entry.due() <= now;
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
        let replacement = self.entries.back_mut().expect("an entry was just added");
        replacement.is_replacement = true;
        replacement.held_until = entry.held_until;
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
            Answer::Not { verdict: judge_problem(&problem), status: problem.status, problem: Some(problem) }
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

#[cfg(test)]
mod tests;
