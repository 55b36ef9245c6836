//! The rules of an agent's session, without I/O: what an answer means, until when a lease is ours,
//! how long to wait before the next try, and what travels together.

use std::time::{Duration, Instant};

use eap_client::ClientError;
use eap_core::{Chance, full_jitter};
use eap_types::{AgentId, ErrorCode, ProblemBody};

use crate::context::LeaseStatus;

/// No server can make the agent wait longer than this by asking.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// The shortest time between two tries, whatever the dice say.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// While heartbeats fail, even the shortest lease makes the agent try no more often than the back-off
/// or this.
const LONGEST_BEAT_RETRY: Duration = Duration::from_secs(1);
/// How often a request for tasks is repeated at least while a lease lasts that it may have been given.
const REPEATS_WITHIN_A_LEASE: u32 = 6;
/// So many refusals in a row right after registering mean that somebody else has the identity.
const STRIKES: u32 = 3;

/// What to do about an answer that was no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token is dead: register again, then repeat (RELIABILITY.md section 1).
    Register,
    /// The body is too large and always will be.
    TooLarge,
    /// What was sent breaks a rule of the server, and always will.
    Malformed,
    /// The answer is definitive.
    Refused,
    /// Repeat later, and not before this long if the server asked for it.
    Later(Option<Duration>),
}

/// Judges an error (RELIABILITY.md G20): only 401 and 404 AGENT_NOT_FOUND make an agent register.
///
/// An answer that is not the protocol's, as the page of a proxy, says nothing: repeat later.
pub(crate) fn judge(error: &ClientError) -> Verdict {
    match (error.status(), error.code()) {
        (Some(401), _) | (_, Some(ErrorCode::AgentNotFound)) => Verdict::Register,
        (Some(413), _) => Verdict::TooLarge,
        (Some(400 | 422), _) if error.is_definitive() => Verdict::Malformed,
        _ if error.is_definitive() => Verdict::Refused,
        _ => Verdict::Later(error.retry_after()),
    }
}

/// Judges the refusal of one result of a batch, as [`judge`] does for a whole answer.
pub(crate) fn judge_problem(problem: &ProblemBody) -> Verdict {
    let code = problem.error_code();
    let status = if problem.status == 0 { code.map_or(500, ErrorCode::status) } else { problem.status };
    match (status, code) {
        (401, _) | (_, Some(ErrorCode::AgentNotFound)) => Verdict::Register,
        (413, _) => Verdict::TooLarge,
        (408 | 425 | 429, _) => Verdict::Later(None),
        (400 | 422, _) => Verdict::Malformed,
        (400..=499, _) => Verdict::Refused,
        _ => Verdict::Later(None),
    }
}

/// Whether a registration was refused in a way that a repeat does not change.
pub(crate) fn is_denied(error: &ClientError) -> bool {
    use ErrorCode::{
        Forbidden, MalformedJson, PayloadTooLarge, RegistrationDenied, UnsupportedVersion, ValidationError,
    };
    // By code and not by status: a proxy in front of a server that is starting answers 404 too.
    matches!(
        error.code(),
        Some(RegistrationDenied | Forbidden | ValidationError | MalformedJson | UnsupportedVersion | PayloadTooLarge)
    ) || matches!(error, ClientError::Header { .. } | ClientError::BaseUrl { .. })
}

/// Growing pauses with full jitter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The steps of registration and results: 0.5 s … 30 s (RELIABILITY.md section 5).
    pub(crate) const fn slow() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and says how long to pause; a pause the server asked for comes on top.
    pub(crate) fn fail(&mut self, chance: Chance, asked: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = full_jitter(self.base, self.cap, self.failures, chance).max(SHORTEST_PAUSE);
        pause + asked.map_or(Duration::ZERO, |asked| asked.min(LONGEST_ASKED))
    }
}

/// When leases end by the agent's own count (RELIABILITY.md G22).
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseRules {
    /// How long past the deadline a handler keeps running while nothing answers.
    pub(crate) outage_grace: Duration,
    /// Whether the deadline itself is the end.
    pub(crate) fence_locally: bool,
}

impl LeaseRules {
    /// How a lease with this local deadline stands.
    pub(crate) fn standing(&self, deadline: Instant, now: Instant) -> LeaseStatus {
        if now < deadline {
            LeaseStatus::Held
        } else if self.fence_locally || now >= deadline + self.outage_grace {
            LeaseStatus::Lost
        } else {
            LeaseStatus::Uncertain
        }
    }

    /// When the standing changes next.
    pub(crate) fn next_change(&self, deadline: Instant, now: Instant) -> Option<Instant> {
        match self.standing(deadline, now) {
            LeaseStatus::Held => Some(deadline),
            LeaseStatus::Uncertain => Some(deadline + self.outage_grace),
            LeaseStatus::Lost => None,
        }
    }

    /// The deadline that comes with an assignment.
    ///
    /// The lease began somewhere between asking and receiving. A strict agent counts from asking;
    /// another one from receiving, as its first renewal is on its way at once.
    pub(crate) fn first_deadline(&self, asked: Instant, received: Instant, given: Duration) -> Instant {
        (if self.fence_locally { asked } else { received }) + given
    }

    /// How long a poll may wait; a strict agent leaves half of a lease to work with.
    pub(crate) fn poll_wait(&self, wanted: Duration, lease: Duration) -> Duration {
        if self.fence_locally { wanted.min(lease / 2) } else { wanted }
    }
}

/// How long after a heartbeat the next one is due: H, or a third of the shortest lease.
pub(crate) fn beat_pause(interval: Duration, shortest_lease: Option<Duration>) -> Duration {
    shortest_lease.map_or(interval, |lease| interval.min(lease / 3)).max(SHORTEST_PAUSE)
}

/// How long after a heartbeat that failed the next one is due: the back-off, cut where leases need it.
pub(crate) fn retry_pause(backoff: Duration, usual: Duration) -> Duration {
    backoff.min(usual.max(LONGEST_BEAT_RETRY))
}

/// How long after a request for tasks that got no answer the same one is due: the back-off, cut so that it is repeated
/// several times within a lease. What it was given, and never came, waits for that.
pub(crate) fn repeat_pause(backoff: Duration, lease: Duration) -> Duration {
    backoff.min((lease / REPEATS_WITHIN_A_LEASE).max(LONGEST_BEAT_RETRY))
}

/// Whether a poll that brought nothing came back too early to be repeated at once.
pub(crate) fn came_back_early(took: Duration, wait: Duration) -> bool {
    wait.is_zero() || took < wait / 2
}

/// How many of the first results travel in one request of at most `limit` bytes; at least one.
pub(crate) fn batch_length(sizes: impl Iterator<Item = usize>, limit: usize, most: usize) -> usize {
    // What stands around the results, and the commas between them.
    let mut used = 32;
    let fitting = sizes.take(most).take_while(|size| {
        used += size + 1;
        used <= limit
    });
    fitting.count().max(1)
}

/// Notices that another process registers under the same identity again and again.
///
/// A server that lost its store also refuses a fresh token, but then gives another `agent_id`.
#[derive(Debug)]
pub(crate) struct Tenure {
    window: Duration,
    current: Option<(AgentId, Instant)>,
    refused_early: bool,
    strikes: u32,
}

impl Tenure {
    /// `window` is how soon after registering a refusal counts.
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, current: None, refused_early: false, strikes: 0 }
    }

    pub(crate) fn registered(&mut self, agent_id: &AgentId, now: Instant) {
        let is_same = self.current.as_ref().is_some_and(|(current, _)| current == agent_id);
        self.strikes = if self.refused_early && is_same { self.strikes + 1 } else { 0 };
        self.refused_early = false;
        self.current = Some((agent_id.clone(), now));
    }

    /// Counts a 401; `true` says that the identity is in use.
    pub(crate) fn refused(&mut self, now: Instant) -> bool {
        self.refused_early =
            self.current.as_ref().is_some_and(|(_, since)| now.saturating_duration_since(*since) <= self.window);
        self.refused_early && self.strikes + 1 >= STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: ErrorCode) -> ClientError {
        ClientError::Refused { problem: Box::new(ProblemBody::new(code, "no", "r1")), retry_after: None }
    }

    #[test]
    fn only_a_dead_token_or_an_unknown_agent_makes_an_agent_register() {
        for code in ErrorCode::ALL {
            let registers = code.status() == 401 || code == ErrorCode::AgentNotFound;
            assert_eq!(judge(&refusal(code)) == Verdict::Register, registers, "{code}");
        }
    }

    #[test]
    fn every_other_4xx_is_definitive_but_those_that_mean_later() {
        for code in ErrorCode::ALL {
            let ClientError::Refused { problem, .. } = refusal(code) else { unreachable!() };
            assert_eq!(judge(&refusal(code)), judge_problem(&problem), "{code}");
        }
        assert_eq!(judge(&refusal(ErrorCode::LeaseLost)), Verdict::Refused);
        assert_eq!(judge(&refusal(ErrorCode::TaskNotFound)), Verdict::Refused);
        assert_eq!(judge(&refusal(ErrorCode::PayloadTooLarge)), Verdict::TooLarge);
        assert_eq!(judge(&refusal(ErrorCode::RateLimited)), Verdict::Later(None));
        assert_eq!(judge(&refusal(ErrorCode::Unavailable)), Verdict::Later(None));
        let odd = |status| ClientError::Unreadable { status, retry_after: None, source: None };
        for status in [200, 204, 400, 403, 404, 422] {
            assert_eq!(judge(&odd(status)), Verdict::Later(None), "{status}");
        }
        assert_eq!(judge(&odd(401)), Verdict::Register);
        assert_eq!(judge(&refusal(ErrorCode::ValidationError)), Verdict::Malformed);
        assert_eq!(judge(&odd(502)), Verdict::Later(None));
        assert_eq!(judge(&odd(413)), Verdict::TooLarge);
    }

    #[test]
    fn pauses_double_up_to_their_cap_and_are_never_nothing() {
        let mut backoff = Backoff::slow();
        let longest: Vec<f64> = (0..9).map(|_| backoff.fail(Chance::new(1.0), None).as_secs_f64().round()).collect();
        assert_eq!(longest, [1., 1., 2., 4., 8., 16., 30., 30., 30.]);
        assert_eq!(backoff.fail(Chance::new(0.0), None), SHORTEST_PAUSE);
        assert!(backoff.fail(Chance::new(0.0), Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert!(backoff.fail(Chance::new(0.0), Some(Duration::from_secs(1 << 40))) <= Duration::from_secs(301));
        backoff.succeed();
        assert!(backoff.fail(Chance::new(1.0), None) <= Duration::from_millis(500));
    }

    #[test]
    fn a_lease_is_uncertain_past_its_deadline_and_lost_after_the_grace() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let rules = LeaseRules { outage_grace: 10 * second, fence_locally: false };
        let deadline = start + 60 * second;
        assert_eq!(rules.standing(deadline, start), LeaseStatus::Held);
        assert_eq!(rules.standing(deadline, deadline), LeaseStatus::Uncertain);
        assert_eq!(rules.standing(deadline, deadline + 10 * second), LeaseStatus::Lost);
        assert_eq!(rules.next_change(deadline, start), Some(deadline));
        assert_eq!(rules.next_change(deadline, deadline), Some(deadline + 10 * second));
        let strict = LeaseRules { fence_locally: true, ..rules };
        assert_eq!(strict.standing(deadline, deadline), LeaseStatus::Lost);
        assert_eq!(strict.first_deadline(start, start + second, 60 * second), deadline);
        assert_eq!(rules.first_deadline(start, start + second, 60 * second), deadline + second);
        assert_eq!(strict.poll_wait(25 * second, 20 * second), 10 * second);
    }

    #[test]
    fn leases_are_renewed_thrice_in_their_time_or_at_the_heartbeat() {
        let interval = Duration::from_secs(30);
        assert_eq!(beat_pause(interval, None), interval);
        assert_eq!(beat_pause(interval, Some(Duration::from_secs(60))), Duration::from_secs(20));
        assert_eq!(beat_pause(interval, Some(Duration::from_secs(600))), interval);
        assert_eq!(beat_pause(interval, Some(Duration::ZERO)), SHORTEST_PAUSE);
    }

    #[test]
    fn a_request_that_may_have_got_a_lease_is_repeated_six_times_before_it_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(repeat_pause(10 * second, 15 * second), 15 * second / 6);
        assert_eq!(repeat_pause(10 * second, 90 * second), 10 * second);
        assert_eq!(repeat_pause(second / 4, 90 * second), second / 4);
        assert_eq!(repeat_pause(10 * second, second), second);
    }

    #[test]
    fn while_heartbeats_fail_the_back_off_counts_for_up_to_a_second() {
        let (millis, second) = (Duration::from_millis, Duration::from_secs(1));
        assert_eq!(retry_pause(millis(700), millis(50)), millis(700));
        assert_eq!(retry_pause(10 * second, millis(50)), second);
        assert_eq!(retry_pause(10 * second, 5 * second), 5 * second);
    }

    #[test]
    fn a_batch_keeps_to_the_limit_and_holds_at_least_one() {
        assert_eq!(batch_length([10, 10, 10].into_iter(), 1000, 100), 3);
        assert_eq!(batch_length([10, 10, 10].into_iter(), 60, 100), 2);
        assert_eq!(batch_length([10, 10, 10].into_iter(), 1000, 2), 2);
        assert_eq!(batch_length([5000].into_iter(), 1000, 100), 1);
    }

    #[test]
    fn three_early_refusals_of_one_identity_mean_that_it_is_in_use() {
        let now = Instant::now();
        let id: AgentId = "a".parse().unwrap();
        let mut tenure = Tenure::new(Duration::from_secs(60));
        for expected in [false, false, true] {
            tenure.registered(&id, now);
            assert_eq!(tenure.refused(now + Duration::from_secs(5)), expected);
        }
    }

    #[test]
    fn a_wiped_store_or_a_late_refusal_is_no_strike() {
        let now = Instant::now();
        let mut tenure = Tenure::new(Duration::from_secs(60));
        for id in ["a", "b", "c", "d", "e"] {
            tenure.registered(&id.parse().unwrap(), now);
            assert!(!tenure.refused(now));
        }
        let id: AgentId = "a".parse().unwrap();
        for _ in 0..5 {
            tenure.registered(&id, now);
            assert!(!tenure.refused(now + Duration::from_secs(600)));
        }
    }
}
