//! The task's life: which event leads where.
//!
//! [`Task::apply`] is the whole of it; docs/reliability.md, section 1, draws it. What an event may do
//! depends on the phase and on whether the attempt it quotes is still the one that counts.

use std::time::Duration;

use eap_types::{AgentId, AttemptOutcome, FailureCode, LeaseId, ResultStatus, Timestamp, limits};

use super::{
    Attempt, Changed, EndOfLease, Lease, Note, NoteKind, Phase, Progress, Quote, RecordedResult, Refusal, Report,
    ReportKind, Step, Task, TaskEvent, TaskState,
};
use crate::backoff::{Chance, full_jitter};
use crate::policy::TaskPolicy;

impl Task {
    /// What follows from `event` at `now`; the record itself is left alone.
    ///
    /// The caller commits a [`Step::Changed`] against the revision it read this record at, and on a
    /// conflict reads and asks again.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when the event changes nothing, with what its sender should be told.
    pub fn apply(&self, event: TaskEvent, now: Timestamp, policy: &TaskPolicy) -> Result<Step, Refusal> {
        let mut next = Draft::of(self, now, policy);
        match (&self.state.phase, event) {
            (Phase::Queued { ready_at: None }, TaskEvent::Assign { agent, epoch, lease_id, request_id, length })
                if self.may_be_offered_to(&agent, now) =>
            {
                let number = next.begin_attempt(&agent, epoch, lease_id);
                let deadline = now + self.spec.timeout;
                let expires_at = (now + length).min(deadline);
                let quiet_until = next.quiet_until();
                next.state.phase = Phase::Leased(Lease {
                    attempt: number,
                    lease_id,
                    agent,
                    request_id,
                    expires_at,
                    deadline,
                    length,
                    quiet_until,
                });
            }
            (_, TaskEvent::Assign { .. }) => return Err(Refusal::NotReady),

            (Phase::Leased(lease), TaskEvent::Renew { agent, lease_id, fraction })
                if lease.is_held(&agent, lease_id) =>
            {
                if fraction.is_some_and(|fraction| next.move_on(fraction)) {
                    next.renew_by_sign(lease);
                } else if lease.is_worth_renewing(now) {
                    next.renew(lease);
                } else {
                    return Ok(Step::Unchanged);
                }
            }
            (_, TaskEvent::Renew { agent, .. }) => return Err(self.lost_to(&agent)),

            (Phase::Leased(lease), TaskEvent::Progress { agent, quote, progress, output }) => {
                self.open_attempt(&agent, quote)?;
                if next.tell(progress, output)? {
                    next.renew_by_sign(lease);
                } else if lease.is_worth_renewing(now) {
                    next.renew(lease);
                } else {
                    return Ok(Step::Unchanged);
                }
            }
            (_, TaskEvent::Progress { agent, quote, .. }) => {
                let attempt = self.quoted(&agent, quote)?;
                return Err(self.lost(Some(attempt.number)));
            }

            (_, TaskEvent::Report { agent, quote, report, chance }) => {
                let attempt = self.quoted(&agent, quote)?;
                match attempt.reported {
                    Some(first) if first == report.digest => return Ok(Step::Duplicate),
                    Some(_) => return Err(Refusal::ResultConflict { attempt: attempt.number }),
                    None if self.is_fenced(attempt) => return Err(self.lost(Some(attempt.number))),
                    None => next.report(attempt, report, chance),
                }
            }

            (Phase::Leased(_), TaskEvent::Release { agent, quote, why, chance }) => {
                let attempt = self.open_attempt(&agent, quote)?;
                next.release(attempt, why, chance);
            }
            (_, TaskEvent::Release { agent, quote, .. }) => {
                let attempt = self.quoted(&agent, quote)?;
                return Err(self.lost(Some(attempt.number)));
            }

            (Phase::Leased(lease), TaskEvent::Forget { agent, lease_id }) if lease.is_held(&agent, lease_id) => {
                next.expire(lease, "its agent started anew and does not know of it");
            }
            (_, TaskEvent::Forget { agent, .. }) => return Err(self.lost_to(&agent)),

            (Phase::Leased(lease), TaskEvent::Adopt { lease_id, of, by })
                if lease.lease_id == lease_id && lease.request_id.as_ref() == Some(&of) =>
            {
                next.renew(&Lease { request_id: Some(by), ..lease.clone() });
            }
            (_, TaskEvent::Adopt { .. }) => return Err(self.lost(None)),

            (Phase::Leased(lease), TaskEvent::Due { chance }) if lease.due_at() <= now => {
                // The expiry is cut at the deadline: one that reached it was renewed to the end.
                if lease.is_quiet(now) {
                    next.time_out_quiet(lease, chance);
                } else if lease.expires_at >= lease.deadline {
                    let seconds = self.spec.timeout.as_secs();
                    next.time_out(lease, format!("the attempt ran longer than its {seconds} s"), chance);
                } else {
                    next.expire(lease, "its lease lapsed");
                }
            }
            (Phase::Queued { .. }, TaskEvent::Due { .. }) if self.spec.expires_at.is_some_and(|at| at <= now) => {
                next.die("it expired before an attempt could start");
            }
            (Phase::Queued { ready_at: Some(at) }, TaskEvent::Due { .. }) if *at <= now => {
                next.state.phase = Phase::Queued { ready_at: None };
                next.note(NoteKind::Ready, None, None);
            }
            (_, TaskEvent::Due { .. }) => return Err(Refusal::NotDue),

            (Phase::Leased(lease), TaskEvent::FreshStart) => next.start_afresh(lease),
            (_, TaskEvent::FreshStart) | (Phase::Cancelled { .. }, TaskEvent::Cancel { .. }) => {
                return Ok(Step::Unchanged);
            }

            (Phase::Queued { .. } | Phase::Leased(_), TaskEvent::Cancel { reason }) => next.cancel(reason),
            (_, TaskEvent::Cancel { .. }) => return Err(self.lost(None)),
        }
        Ok(Step::Changed(Box::new(next.finish())))
    }

    /// The attempt that `agent` means by `quote`.
    fn quoted(&self, agent: &AgentId, quote: Quote) -> Result<&Attempt, Refusal> {
        if !self.was_assigned_to(agent) {
            return Err(Refusal::NotAssigned);
        }
        let by_lease = |lease_id: LeaseId| self.state.attempts.iter().find(|attempt| attempt.lease_id == lease_id);
        let named = match (quote.lease_id, quote.attempt) {
            (None, None) => self.newest_attempt(),
            (None, Some(number)) => self.attempt(number),
            (Some(lease_id), None) => by_lease(lease_id),
            (Some(lease_id), Some(number)) => match by_lease(lease_id) {
                Some(attempt) if attempt.number == number => Some(attempt),
                _ => return Err(Refusal::Mismatch),
            },
        };
        named.filter(|attempt| attempt.agent == *agent).ok_or_else(|| self.lost_to(agent))
    }

    /// The attempt that `agent` means by `quote`, if it is the one running.
    fn open_attempt(&self, agent: &AgentId, quote: Quote) -> Result<&Attempt, Refusal> {
        let attempt = self.quoted(agent, quote)?;
        if attempt.outcome == AttemptOutcome::Open { Ok(attempt) } else { Err(self.lost(Some(attempt.number))) }
    }

    /// The number of the attempt that `agent` means by `quote`, if its result can still be recorded: what belongs to that
    /// result is worth keeping.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], as a result of that attempt would get it.
    pub fn awaited_attempt(&self, agent: &AgentId, quote: Quote) -> Result<u32, Refusal> {
        let attempt = self.quoted(agent, quote)?;
        if self.awaits_result(attempt.number) { Ok(attempt.number) } else { Err(self.lost(Some(attempt.number))) }
    }

    /// Whether a result of the attempt of this number can still be recorded.
    #[must_use]
    pub fn awaits_result(&self, number: u32) -> bool {
        self.attempt(number).is_some_and(|attempt| attempt.reported.is_none() && !self.is_fenced(attempt))
    }

    /// Whether a result of `attempt` can no longer be recorded: the task is over, a newer attempt was
    /// claimed, or the server ended this one. A lapsed lease alone fences nothing (G10).
    fn is_fenced(&self, attempt: &Attempt) -> bool {
        let newest = self.newest_attempt().is_some_and(|newest| newest.number == attempt.number);
        let unfinished = matches!(attempt.outcome, AttemptOutcome::Open | AttemptOutcome::Expired);
        self.state.phase.is_final() || !newest || !unfinished
    }

    /// What an agent is told whose attempt no longer counts.
    fn lost(&self, attempt: Option<u32>) -> Refusal {
        if self.state.phase.is_final() {
            Refusal::TaskFinal { status: self.status(), attempt }
        } else {
            Refusal::LeaseLost { attempt }
        }
    }

    /// The same, for an agent that named no attempt of its own: its newest one is meant.
    fn lost_to(&self, agent: &AgentId) -> Refusal {
        match self.state.attempts.iter().rev().find(|attempt| attempt.agent == *agent) {
            Some(attempt) => self.lost(Some(attempt.number)),
            None => Refusal::NotAssigned,
        }
    }
}

impl Lease {
    fn is_held(&self, agent: &AgentId, lease_id: LeaseId) -> bool {
        self.agent == *agent && self.lease_id == lease_id
    }
}

/// The state being written, with what is written beside it.
struct Draft<'a> {
    task: &'a Task,
    now: Timestamp,
    policy: &'a TaskPolicy,
    state: TaskState,
    notes: Vec<Note>,
    result: Option<RecordedResult>,
}

impl<'a> Draft<'a> {
    fn of(task: &'a Task, now: Timestamp, policy: &'a TaskPolicy) -> Self {
        Self { task, now, policy, state: task.state.clone(), notes: Vec::new(), result: None }
    }

    fn finish(mut self) -> Changed {
        self.state.updated_at = self.now;
        Changed { state: self.state, notes: self.notes, result: self.result }
    }

    fn note(&mut self, kind: NoteKind, attempt: Option<u32>, message: Option<&str>) {
        let note = self.line(kind, attempt, message);
        self.notes.push(note);
    }

    fn line(&self, kind: NoteKind, attempt: Option<u32>, message: Option<&str>) -> Note {
        let agent = attempt
            .and_then(|number| self.state.attempts.get(number as usize - 1))
            .map(|attempt| attempt.agent.clone());
        Note { attempt, agent, message: message.map(str::to_owned), ..Note::of(kind) }
    }

    fn begin_attempt(&mut self, agent: &AgentId, epoch: u64, lease_id: LeaseId) -> u32 {
        let number = u32::try_from(self.state.attempts.len()).map_or(u32::MAX, |count| count + 1);
        self.state.attempts.push(Attempt {
            number,
            agent: agent.clone(),
            epoch,
            lease_id,
            outcome: AttemptOutcome::Open,
            started_at: self.now,
            ended_at: None,
            error_code: None,
            message: None,
            reported: None,
            given_up: false,
            inactive: false,
        });
        self.state.progress = None;
        self.state.output_bytes = 0;
        self.note(NoteKind::Leased, Some(number), None);
        number
    }

    fn renew(&mut self, lease: &Lease) {
        let expires_at = lease.renewed(self.now).max(lease.expires_at);
        self.state.phase = Phase::Leased(Lease { expires_at, ..lease.clone() });
    }

    /// Renews it because its handler gave a sign of itself.
    fn renew_by_sign(&mut self, lease: &Lease) {
        let quiet_until = self.quiet_until();
        self.renew(&Lease { quiet_until, ..lease.clone() });
    }

    /// Until when a handler may be quiet that spoke just now.
    fn quiet_until(&self) -> Option<Timestamp> {
        self.task.spec.inactivity.map(|limit| self.now + limit)
    }

    fn start_afresh(&mut self, lease: &Lease) {
        let timeout = self.task.spec.timeout;
        // Both ways: time spent away is not held against the holder, and a clock that was corrected
        // backwards leaves no lease of an hour behind.
        let deadline = lease.deadline.max(self.now + lease.length.min(timeout)).min(self.now + timeout);
        let expires_at = (self.now + lease.length).min(deadline);
        // Nobody could hear the handler meanwhile.
        let quiet_until = self.quiet_until();
        self.state.phase = Phase::Leased(Lease { expires_at, deadline, quiet_until, ..lease.clone() });
    }

    /// Takes over a progress report unless a later one came before; says whether it did.
    fn tell(&mut self, told: Progress, output: Option<String>) -> Result<bool, Refusal> {
        let known = self.state.progress.take();
        let known_seq = known.as_ref().and_then(|known| known.seq);
        if known_seq >= told.seq {
            self.state.progress = known;
            return Ok(false);
        }
        let output = output.filter(|output| !output.is_empty());
        let told_bytes = self.state.output_bytes + output.as_ref().map_or(0, String::len) as u64;
        if told_bytes > limits::MAX_OUTPUT_BYTES as u64 {
            return Err(Refusal::OutputFull { limit: limits::MAX_OUTPUT_BYTES });
        }
        self.state.output_bytes = told_bytes;
        let says_nothing_else = told.fraction.is_none() && told.message.is_none();
        if output.is_some() && says_nothing_else {
            let (fraction, message) = known.map_or((None, None), |known| (known.fraction, known.message));
            self.state.progress = Some(Progress { seq: told.seq, fraction, message });
        } else {
            self.note_progress(told);
        }
        if let Some(output) = output {
            let line = self.line(NoteKind::OutputDelta, self.running(), None);
            self.notes.push(Note { output: Some(output), ..line });
        }
        Ok(true)
    }

    /// Takes over how far the work is, told by a heartbeat, if that changed; says whether it did.
    fn move_on(&mut self, fraction: f64) -> bool {
        let known = self.state.progress.take();
        let (seq, before) = known.as_ref().map_or((None, None), |known| (known.seq, known.fraction));
        // Beside reports a lower one is an echo that they overtook.
        let is_news = if seq.is_some() { before < Some(fraction) } else { before != Some(fraction) };
        if !is_news {
            self.state.progress = known;
            return false;
        }
        let message = known.and_then(|known| known.message);
        self.note_progress(Progress { seq, fraction: Some(fraction), message });
        true
    }

    fn note_progress(&mut self, told: Progress) {
        let line = self.line(NoteKind::Progress, self.running(), told.message.as_deref());
        self.notes.push(Note { fraction: told.fraction, ..line });
        self.state.progress = Some(told);
    }

    fn running(&self) -> Option<u32> {
        self.task.newest_attempt().map(|attempt| attempt.number)
    }

    /// The attempt being ended, closed with `outcome`; what an expiry said of it no longer holds.
    fn close(&mut self, number: u32, outcome: AttemptOutcome) -> &mut Attempt {
        let attempt = &mut self.state.attempts[number as usize - 1];
        attempt.outcome = outcome;
        attempt.ended_at = Some(self.now);
        attempt.message = None;
        attempt
    }

    fn report(&mut self, attempt: &Attempt, report: Report, chance: Chance) {
        let number = attempt.number;
        let digest = Some(report.digest);
        match report.kind {
            ReportKind::Completed => {
                self.close(number, AttemptOutcome::Completed).reported = digest;
                self.state.phase = Phase::Completed { attempt: number };
                self.result = Some(RecordedResult::Reported { attempt: number, status: ResultStatus::Completed });
                self.note(NoteKind::Completed, Some(number), None);
            }
            ReportKind::Failed { code, retryable, message } => {
                let closed = self.close(number, AttemptOutcome::Failed);
                closed.reported = digest;
                closed.error_code = Some(code);
                closed.message.clone_from(&message);
                let reason = message.unwrap_or_else(|| format!("the agent reported {code}"));
                let recorded = RecordedResult::Reported { attempt: number, status: ResultStatus::Failed };
                self.fail(number, retryable, reason, recorded, chance);
            }
            ReportKind::Rejected { code, message } => {
                let until = self.now + self.policy.rejection_cooldown;
                self.state.excluded.insert(attempt.agent.clone(), until);
                let running = attempt.outcome == AttemptOutcome::Open;
                let message = message.unwrap_or_else(|| format!("the agent reported {code}"));
                let kept = &mut self.state.attempts[number as usize - 1];
                kept.reported = digest;
                kept.error_code = Some(code);
                if running {
                    self.give_up(number, &message, None, chance);
                } else {
                    // Its lease lapsed before: it is queued already and stays `expired`.
                    self.note(NoteKind::Released, Some(number), Some(&message));
                }
            }
        }
    }

    /// After attempt `number` was closed as failed: another one, or the end.
    fn fail(&mut self, number: u32, retryable: bool, reason: String, recorded: RecordedResult, chance: Chance) {
        if retryable && self.state.attempts_used() < self.task.spec.max_attempts {
            self.note(NoteKind::AttemptFailed, Some(number), Some(&reason));
            let failures = self.count(|attempt| attempt.outcome == AttemptOutcome::Failed);
            self.queue_after(self.backoff(failures, chance));
        } else {
            self.note(NoteKind::Failed, Some(number), Some(&reason));
            self.result = Some(recorded);
            self.state.phase = Phase::Failed { attempt: number, reason };
        }
    }

    fn time_out_quiet(&mut self, lease: &Lease, chance: Chance) {
        let seconds = self.task.spec.inactivity.unwrap_or_default().as_secs();
        self.state.attempts[lease.attempt as usize - 1].inactive = true;
        self.time_out(lease, format!("inactivity: the attempt told nothing for {seconds} s"), chance);
    }

    fn time_out(&mut self, lease: &Lease, message: String, chance: Chance) {
        let closed = self.close(lease.attempt, AttemptOutcome::Failed);
        closed.error_code = Some(FailureCode::Timeout);
        closed.message = Some(message.clone());
        let recorded =
            RecordedResult::ServerMade { attempt: lease.attempt, code: FailureCode::Timeout, message: message.clone() };
        self.fail(lease.attempt, true, message, recorded, chance);
    }

    fn expire(&mut self, lease: &Lease, why: &str) {
        self.close(lease.attempt, AttemptOutcome::Expired).message = Some(why.to_owned());
        self.note(NoteKind::Expired, Some(lease.attempt), Some(why));
        let expiries = self.count(|attempt| attempt.outcome == AttemptOutcome::Expired);
        if expiries >= self.policy.max_expiries {
            self.die(&format!("its holder vanished {expiries} times"));
        } else if self.state.attempts_used() >= self.task.spec.max_attempts {
            self.die("its holder vanished on the last allowed attempt");
        } else {
            self.queue_after(Duration::ZERO);
        }
    }

    fn release(&mut self, attempt: &Attempt, why: EndOfLease, chance: Chance) {
        let number = attempt.number;
        let no_fault = match why {
            EndOfLease::HandedBack { reason, retry_after } => {
                let reason = reason.unwrap_or_else(|| "its agent handed it back".to_owned());
                return self.give_up(number, &reason, retry_after, chance);
            }
            EndOfLease::Undelivered { reason } => return self.give_up(number, &reason, None, chance),
            EndOfLease::Draining => "its agent is draining",
            EndOfLease::Deregistered => "its agent deregistered",
            EndOfLease::Unclaimed => "its agent hung up before it was told",
            EndOfLease::NotFree => "its agent was no longer free",
            EndOfLease::NoPlace => "the server had no place to bring it to its agent",
        };
        self.close(number, AttemptOutcome::Released).message = Some(no_fault.to_owned());
        self.note(NoteKind::Released, Some(number), Some(no_fault));
        self.queue_after(Duration::ZERO);
    }

    /// Ends attempt `number` as a release that counts: back to the queue after a while, or dead.
    fn give_up(&mut self, number: u32, reason: &str, wait: Option<Duration>, chance: Chance) {
        let closed = self.close(number, AttemptOutcome::Released);
        closed.given_up = true;
        closed.message = Some(reason.to_owned());
        self.note(NoteKind::Released, Some(number), Some(reason));
        let releases = self.count(|attempt| attempt.given_up);
        if releases >= self.policy.max_releases {
            self.die(&format!("delivery was given up after {releases} releases"));
        } else {
            self.queue_after(wait.unwrap_or_else(|| self.backoff(releases, chance)));
        }
    }

    fn cancel(&mut self, reason: Option<String>) {
        let running = self.task.lease().map(|lease| lease.attempt);
        if let Some(number) = running {
            self.close(number, AttemptOutcome::Cancelled);
        }
        self.note(NoteKind::Cancelled, running, reason.as_deref());
        self.state.phase = Phase::Cancelled { reason };
    }

    fn die(&mut self, reason: &str) {
        self.note(NoteKind::Dead, None, Some(reason));
        self.state.phase = Phase::Dead { reason: reason.to_owned() };
    }

    fn queue_after(&mut self, delay: Duration) {
        let ready_at = (!delay.is_zero()).then(|| self.now + delay);
        self.state.phase = Phase::Queued { ready_at };
    }

    fn backoff(&self, times: u32, chance: Chance) -> Duration {
        full_jitter(self.policy.backoff_base, self.policy.backoff_cap, times, chance)
    }

    fn count(&self, which: impl Fn(&Attempt) -> bool) -> u32 {
        u32::try_from(self.state.attempts.iter().filter(|attempt| which(attempt)).count()).unwrap_or(u32::MAX)
    }
}
