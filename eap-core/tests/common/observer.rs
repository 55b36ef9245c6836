//! An independent little observer of one task: what it saw must agree with what the record says.
//!
//! It keeps its own account of leases and accepted reports, made from the events and answers alone, and
//! knows the invariants I1–I6 and the table of answers of docs/reliability.md in its own words.

use eap_core::{
    AttemptOutcome, Lease, Note, NoteKind, Phase, Quote, RecordedResult, Refusal, ResultDigest, Step, Task, TaskEvent,
    TaskPolicy, TaskState,
};
use eap_types::{AgentId, FailureCode, LeaseId, ResultStatus, TaskId, TaskStatus, Timestamp};

/// The arrows of the diagram: from, by which event, to.
const ARROWS: &[(TaskStatus, &[&str], TaskStatus)] = {
    use TaskStatus::{Cancelled, Completed, Dead, Failed, Leased, Queued};
    &[
        (Queued, &["assign"], Leased),
        (Queued, &["due", "report"], Queued),
        (Queued, &["report"], Completed),
        (Queued, &["report"], Failed),
        (Queued, &["cancel"], Cancelled),
        (Queued, &["due"], Dead),
        (Leased, &["renew", "progress", "adopt", "fresh_start"], Leased),
        (Leased, &["report", "release", "due", "forget"], Queued),
        (Leased, &["report"], Completed),
        (Leased, &["report", "due"], Failed),
        (Leased, &["cancel"], Cancelled),
        (Leased, &["due", "forget", "report", "release"], Dead),
    ]
};

/// What became of a lease, as far as events told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Running,
    /// Lapsed or forgotten: a late result still counts while nobody else claims.
    Lapsed,
    /// Ended by a report, or by the server.
    Ended,
}

#[derive(Clone, Debug)]
struct Seen {
    lease_id: LeaseId,
    agent: AgentId,
    fate: Fate,
    accepted: Option<ResultDigest>,
    limit: Timestamp,
}

/// What a report must be answered.
#[derive(Debug, PartialEq)]
pub enum Answer {
    NotFound,
    Mismatch,
    Duplicate,
    Conflict,
    Final,
    Lost,
    Recorded,
}

/// The account of one task.
#[derive(Clone, Debug)]
pub struct Observer {
    id: TaskId,
    leases: Vec<Seen>,
    results: u32,
    end: Option<Phase>,
}

macro_rules! hold {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

impl Observer {
    pub fn of(task: &Task) -> Self {
        Self { id: task.id(), leases: Vec::new(), results: 0, end: None }
    }

    /// Watches one step; an error is a broken invariant.
    pub fn watch(
        &mut self,
        before: &Task,
        event: &TaskEvent,
        answer: &Result<Step, Refusal>,
        now: Timestamp,
        policy: &TaskPolicy,
    ) -> Result<(), String> {
        hold!(before.id() == self.id, "I1: the task became another");
        self.check_answer(before, event, answer)?;
        let Ok(Step::Changed(change)) = answer else { return Ok(()) };
        hold!(self.end.is_none(), "I5: left the final state {:?}", self.end);
        let after = Task { spec: before.spec.clone(), state: change.state.clone() };

        let (from, to) = (before.status(), after.status());
        let drawn = ARROWS.iter().any(|(a, names, b)| (*a, *b) == (from, to) && names.contains(&event.name()));
        hold!(drawn, "I5: {from} -> {to} by {} is not in the diagram", event.name());
        hold!(after.state.updated_at == now, "a change carries its time");

        self.follow(before, event, &after, now);
        self.check_attempts(before, event, &after)?;
        self.check_result(event, &after, change.result.as_ref())?;
        check_notes(before, event, &after, &change.notes)?;
        self.check_lease(&after, now)?;
        check_quiet(before, event, &after, now)?;
        check_counts(&after, policy)?;
        check_sweep(&after, now, policy)?;
        check_reads_back(&after.state)?;
        if after.state.phase.is_final() {
            self.end = Some(after.state.phase);
        }
        Ok(())
    }

    /// The table of answers, in this observer's words.
    pub fn answer_to(&self, agent: &AgentId, quote: Quote, digest: ResultDigest) -> Answer {
        let is_own = |index: &usize| self.leases.get(*index).is_some_and(|seen| seen.agent == *agent);
        let with_lease = |id| self.leases.iter().position(|seen| seen.lease_id == id);
        let with_number = |number: u32| (number as usize).checked_sub(1);
        if !(0..self.leases.len()).any(|index| is_own(&index)) {
            return Answer::NotFound;
        }
        let meant = match (quote.lease_id, quote.attempt) {
            (None, None) => self.leases.len().checked_sub(1),
            (Some(id), None) => with_lease(id),
            (None, Some(number)) => with_number(number),
            (Some(id), Some(number)) if with_lease(id).is_some() && with_lease(id) == with_number(number) => {
                with_lease(id)
            }
            (Some(_), Some(_)) => return Answer::Mismatch,
        };
        let meant = meant.filter(is_own);
        match meant.and_then(|index| self.leases[index].accepted) {
            Some(first) if first == digest => return Answer::Duplicate,
            Some(_) => return Answer::Conflict,
            None => {}
        }
        match meant {
            _ if self.end.is_some() => Answer::Final,
            Some(index) if index + 1 == self.leases.len() && self.leases[index].fate != Fate::Ended => Answer::Recorded,
            _ => Answer::Lost,
        }
    }

    fn check_answer(&self, before: &Task, event: &TaskEvent, answer: &Result<Step, Refusal>) -> Result<(), String> {
        hold!(
            !matches!(
                (&self.end, answer),
                (None, Err(Refusal::TaskFinal { .. })) | (Some(_), Err(Refusal::LeaseLost { .. }))
            ),
            "TASK_FINAL is said of final tasks, LEASE_LOST of others"
        );
        let TaskEvent::Report { agent, quote, report, .. } = event else {
            hold!(!matches!(answer, Ok(Step::Duplicate)), "only reports are duplicates");
            return Ok(());
        };
        let given = match answer {
            Ok(Step::Changed(_)) => Answer::Recorded,
            Ok(Step::Duplicate) => Answer::Duplicate,
            Err(Refusal::NotAssigned) => Answer::NotFound,
            Err(Refusal::Mismatch) => Answer::Mismatch,
            Err(Refusal::ResultConflict { .. }) => Answer::Conflict,
            Err(Refusal::TaskFinal { .. }) => Answer::Final,
            Err(Refusal::LeaseLost { .. }) => Answer::Lost,
            other => return Err(format!("a report is never answered {other:?}")),
        };
        if let Err(Refusal::TaskFinal { attempt, .. } | Refusal::LeaseLost { attempt }) = answer {
            let kept = attempt.and_then(|number| before.attempt(number));
            hold!(kept.is_some_and(|kept| kept.agent == *agent), "a late result is kept under its agent's attempt");
        }
        let due = self.answer_to(agent, *quote, report.digest);
        hold!(given == due, "a report was answered {given:?}, must be {due:?}");
        Ok(())
    }

    /// Brings this account up to date with an event that took effect.
    fn follow(&mut self, before: &Task, event: &TaskEvent, after: &Task, now: Timestamp) {
        let is_quiet = |lease: &Lease| lease.quiet_until.is_some_and(|quiet| quiet <= now && quiet < lease.expires_at);
        let ran_out = before.lease().is_some_and(is_quiet)
            || before.lease().is_some_and(|lease| lease.expires_at >= lease.deadline);
        let timeout = before.spec.timeout;
        if let TaskEvent::Assign { agent, lease_id, .. } = event {
            let (agent, lease_id) = (agent.clone(), *lease_id);
            self.leases.push(Seen { lease_id, agent, fate: Fate::Running, accepted: None, limit: now + timeout });
        }
        let was_leased = before.lease().is_some();
        let Some(newest) = self.leases.last_mut() else { return };
        match event {
            TaskEvent::Report { report, .. } => {
                newest.accepted = Some(report.digest);
                newest.fate = Fate::Ended;
            }
            TaskEvent::Due { .. } if was_leased && ran_out => newest.fate = Fate::Ended,
            TaskEvent::Due { .. } | TaskEvent::Forget { .. } if was_leased => newest.fate = Fate::Lapsed,
            TaskEvent::Release { .. } => newest.fate = Fate::Ended,
            TaskEvent::Cancel { .. } if was_leased => newest.fate = Fate::Ended,
            TaskEvent::FreshStart => newest.limit = after.lease().map_or(newest.limit, |lease| lease.deadline),
            _ => {}
        }
    }

    fn check_attempts(&self, before: &Task, event: &TaskEvent, after: &Task) -> Result<(), String> {
        let (old, new) = (&before.state.attempts, &after.state.attempts);
        hold!(new.len() == self.leases.len(), "I4: {} attempts, {} assignments", new.len(), self.leases.len());
        for (index, (attempt, seen)) in new.iter().zip(&self.leases).enumerate() {
            let is_newest = index + 1 == new.len();
            let outcome = attempt.outcome;
            hold!(attempt.number as usize == index + 1, "I4: attempt {} stands at {index}", attempt.number);
            hold!(attempt.agent == seen.agent && attempt.lease_id == seen.lease_id, "I4: an attempt changed hands");
            hold!(attempt.reported == seen.accepted, "the accepted report is the one on record");
            hold!(attempt.ended_at.is_none() == (outcome == AttemptOutcome::Open), "an end has a time");
            hold!(attempt.ended_at.is_none_or(|end| end >= attempt.started_at), "it ends after it starts");
            hold!(!attempt.given_up || outcome == AttemptOutcome::Released, "only releases are given up");
            let ended = matches!(outcome, AttemptOutcome::Expired | AttemptOutcome::Failed | AttemptOutcome::Released);
            hold!(is_newest || ended, "I6: attempt {} follows one that is {outcome}", index + 2);
            let Some(was) = old.get(index).map(|attempt| attempt.outcome) else { continue };
            let late = matches!(outcome, AttemptOutcome::Completed | AttemptOutcome::Failed);
            let may = was == outcome || was == AttemptOutcome::Open || (was == AttemptOutcome::Expired && late);
            hold!(may, "the outcome {was} became {outcome}");
        }
        let added = new.len() - old.len();
        hold!(added == usize::from(event.name() == "assign"), "I4: {added} attempts by {}", event.name());
        let open = new.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Open).count();
        hold!(open == usize::from(after.lease().is_some()), "I4: {open} attempts are open");
        Ok(())
    }

    fn check_result(&mut self, event: &TaskEvent, after: &Task, result: Option<&RecordedResult>) -> Result<(), String> {
        let recorded_as = match &after.state.phase {
            Phase::Completed { attempt } => Some((*attempt, AttemptOutcome::Completed)),
            Phase::Failed { attempt, .. } => Some((*attempt, AttemptOutcome::Failed)),
            _ => None,
        };
        let Some((number, outcome)) = recorded_as else {
            hold!(result.is_none(), "I2: a result row while the task is {}", after.status());
            return Ok(());
        };
        self.results += 1;
        hold!(self.results == 1, "I2: a second result");
        let holder = after.attempt(number).ok_or("I3: the recorded attempt does not exist")?;
        hold!(holder.outcome == outcome, "I3: attempt {number} is {}, not {outcome}", holder.outcome);
        hold!(after.newest_attempt() == Some(holder), "I3: the recorded attempt is fenced");
        match (result, event) {
            (Some(RecordedResult::Reported { attempt, status }), TaskEvent::Report { agent, report, .. }) => {
                let as_said = (*status == ResultStatus::Completed) == (outcome == AttemptOutcome::Completed);
                hold!(*attempt == number && as_said, "I2: the row is not what was reported");
                hold!(holder.agent == *agent, "I3: recorded for an agent that did not report");
                hold!(holder.reported == Some(report.digest), "I3: another report was recorded");
            }
            (Some(RecordedResult::ServerMade { attempt, code, .. }), TaskEvent::Due { .. }) => {
                let is_timeout = *code == FailureCode::Timeout && outcome == AttemptOutcome::Failed;
                hold!(*attempt == number && is_timeout, "I2: the server makes results of timeouts only");
            }
            other => return Err(format!("I2: the task became {} with {other:?}", after.status())),
        }
        Ok(())
    }

    fn check_lease(&self, after: &Task, now: Timestamp) -> Result<(), String> {
        let Some(held) = after.lease() else { return Ok(()) };
        let seen = self.leases.last().ok_or("a lease that nobody was given")?;
        hold!(held.attempt as usize == self.leases.len(), "the lease is not of the newest attempt");
        hold!(held.agent == seen.agent && held.lease_id == seen.lease_id, "the lease changed hands");
        hold!(held.expires_at <= held.deadline, "a lease outlives its deadline");
        hold!(held.deadline == seen.limit, "the deadline moved");
        hold!(held.deadline <= now + after.spec.timeout, "more than the timeout was granted");
        hold!(held.expires_at <= now + held.length, "more than the length of a lease was granted");
        Ok(())
    }
}

/// A handler's time to be quiet begins anew with every sign of it, and with nothing else.
fn check_quiet(before: &Task, event: &TaskEvent, after: &Task, now: Timestamp) -> Result<(), String> {
    let Some(held) = after.lease() else { return Ok(()) };
    let is_sign = before.state.progress != after.state.progress || matches!(event.name(), "assign" | "fresh_start");
    let due = match after.spec.inactivity {
        Some(limit) if is_sign => Some(now + limit),
        _ => before.lease().and_then(|lease| lease.quiet_until),
    };
    hold!(held.quiet_until == due, "quiet until {:?}, must be {due:?}", held.quiet_until);
    Ok(())
}

/// The history tells each step in its own words, of the right attempt and agent.
fn check_notes(before: &Task, event: &TaskEvent, after: &Task, notes: &[Note]) -> Result<(), String> {
    let was_leased = before.lease().is_some();
    let moved_on = before.state.progress != after.state.progress;
    let ended = after.state.phase.is_final();
    let last = after.newest_attempt().map(|attempt| attempt.outcome);
    let told = match event.name() {
        "assign" => NoteKind::Leased,
        "cancel" => NoteKind::Cancelled,
        "progress" if moved_on && is_output_alone(event) => NoteKind::OutputDelta,
        "progress" | "renew" if moved_on => NoteKind::Progress,
        "report" | "due" if last == Some(AttemptOutcome::Completed) => NoteKind::Completed,
        "report" | "due" if last == Some(AttemptOutcome::Failed) && (was_leased || event.name() == "report") => {
            if ended { NoteKind::Failed } else { NoteKind::AttemptFailed }
        }
        "report" | "release" => NoteKind::Released,
        "forget" => NoteKind::Expired,
        "due" if was_leased => NoteKind::Expired,
        "due" if ended => NoteKind::Dead,
        "due" => NoteKind::Ready,
        _ => {
            hold!(notes.is_empty(), "nothing to tell of {}, told {notes:?}", event.name());
            return Ok(());
        }
    };
    let mut due = vec![told];
    if after.status() == TaskStatus::Dead && told != NoteKind::Dead {
        due.push(NoteKind::Dead);
    }
    if let TaskEvent::Progress { output: Some(output), .. } = event {
        let told: String = notes.iter().filter_map(|note| note.output.as_deref()).collect();
        hold!(told == *output, "of {output:?} the history tells {told:?}");
        if told_with_more(event) {
            due.push(NoteKind::OutputDelta);
        }
    }
    let kinds: Vec<NoteKind> = notes.iter().map(|note| note.kind).collect();
    hold!(kinds == due, "the history tells {kinds:?}, must tell {due:?}");
    for note in notes {
        let names_one = match note.kind {
            NoteKind::Ready | NoteKind::Dead => false,
            NoteKind::Cancelled => was_leased,
            _ => true,
        };
        hold!(note.attempt.is_some() == names_one, "{:?} is told of attempt {:?}", note.kind, note.attempt);
        let of = note.attempt.and_then(|number| after.attempt(number));
        hold!(note.attempt.is_none() || of == after.newest_attempt(), "{:?} is told of an older attempt", note.kind);
        hold!(note.agent.as_ref() == of.map(|attempt| &attempt.agent), "{:?} is told of another agent", note.kind);
    }
    hold!(!moved_on || matches!(event.name(), "assign" | "progress" | "renew"), "progress moved by {}", event.name());
    Ok(())
}

/// Whether it tells of output and says nothing else.
fn is_output_alone(event: &TaskEvent) -> bool {
    matches!(event, TaskEvent::Progress { output: Some(_), .. }) && !told_with_more(event)
}

fn told_with_more(event: &TaskEvent) -> bool {
    matches!(event, TaskEvent::Progress { progress, .. } if progress.fraction.is_some() || progress.message.is_some())
}

fn check_counts(after: &Task, policy: &TaskPolicy) -> Result<(), String> {
    use AttemptOutcome::{Expired, Failed};
    if after.state.phase.is_final() {
        return Ok(());
    }
    let attempts = &after.state.attempts;
    let used = attempts.iter().filter(|attempt| matches!(attempt.outcome, Expired | Failed)).count();
    let expired = attempts.iter().filter(|attempt| attempt.outcome == Expired).count();
    let released = attempts.iter().filter(|attempt| attempt.given_up).count();
    hold!(used < after.spec.max_attempts as usize, "{used} attempts used up, and still going");
    hold!(expired < policy.max_expiries as usize, "{expired} expiries, and still going");
    hold!(released < policy.max_releases as usize, "{released} releases, and still going");
    Ok(())
}

/// Whatever waits is found by the sweeper when its time comes, and not before.
fn check_sweep(after: &Task, now: Timestamp, policy: &TaskPolicy) -> Result<(), String> {
    let due = TaskEvent::Due { chance: super::half() };
    let waits = !after.state.phase.is_final() && !after.is_ready();
    let due_at = after.due_at();
    hold!(!waits || due_at.is_some(), "G3: nothing will ever move this task");
    hold!(due_at.is_none() || !after.state.phase.is_final(), "a final task is never due");
    let early = due_at.filter(|at| *at > now).map_or(now, |at| at - super::TICK);
    if due_at.is_none_or(|at| at > now) {
        hold!(after.apply(due.clone(), early, policy) == Err(Refusal::NotDue), "swept before its time");
    }
    if let Some(at) = due_at {
        let swept = after.apply(due, at.max(now), policy);
        hold!(matches!(swept, Ok(Step::Changed(_))), "due, but the sweeper got {swept:?}");
    }
    Ok(())
}

fn check_reads_back(state: &TaskState) -> Result<(), String> {
    let text = serde_json::to_string(state).map_err(|error| error.to_string())?;
    let back: TaskState = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
    hold!(back == *state, "the record reads back differently: {text}");
    Ok(())
}
