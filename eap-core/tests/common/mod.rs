//! What the tests share: a few agents, one task's life under a virtual clock, and its observer.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this module")]
#![allow(clippy::needless_pass_by_value, reason = "events are written where they are used")]

pub mod observer;

use std::collections::BTreeSet;
use std::time::Duration;

use eap_core::{
    Chance, Changed, EndOfLease, Phase, Progress, Quote, Refusal, Report, RoutingKey, Step, Task, TaskEvent,
    TaskPolicy, TaskSpec,
};
use eap_types::{
    AgentId, FailureCode, JsonObject, LeaseId, Priority, SessionId, TaskId, TaskResult, TenantId, Timestamp,
};

use observer::Observer;

/// The lease that test agents get.
pub const LEASE: Duration = Duration::from_secs(60);
/// The hard limit of an attempt, unless a test says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(3600);
/// The smallest step of the clock.
pub const TICK: Duration = Duration::from_micros(1);

pub const ALPHA: &str = "alpha";
pub const BETA: &str = "beta";
pub const GAMMA: &str = "gamma";

/// A time, in seconds since the test's task was submitted.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(1_900_000_000) + Duration::from_secs(seconds)
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn agent(id: &str) -> AgentId {
    id.parse().expect("a valid agent id")
}

/// The lease id of attempt `number`.
pub fn lease(number: u32) -> LeaseId {
    let mut bytes = [0xE5; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    LeaseId::from_bytes(bytes)
}

/// A draw in the middle: every back-off takes half of its longest.
pub fn half() -> Chance {
    Chance::new(0.5)
}

/// A task that asks for nothing special, submitted at `at(0)`.
pub fn spec() -> TaskSpec {
    TaskSpec {
        id: TaskId::from_bytes([7; 16]),
        routing: RoutingKey {
            tenant: TenantId::default(),
            task_type: "text.translate".parse().expect("a valid task type"),
            required_capabilities: BTreeSet::new(),
            labels: eap_types::Labels::default(),
            agent_id: None,
        },
        session_id: SessionId::from_bytes([8; 16]),
        input: "good morning".to_owned(),
        context: JsonObject::default(),
        preferred_agents: BTreeSet::new(),
        requirements: Vec::new(),
        priority: Priority::default(),
        timeout: TIMEOUT,
        inactivity: None,
        max_attempts: 3,
        run_at: None,
        expires_at: None,
        created_at: at(0),
        traceparent: None,
        requeued_from: None,
        is_step: false,
        callback_url: None,
    }
}

pub fn result_completed(word: &str) -> TaskResult {
    let output = JsonObject::parse(&format!(r#"{{"word":"{word}"}}"#)).expect("an object");
    TaskResult::completed(spec().id, output)
}

pub fn result_failed(code: FailureCode, word: &str) -> TaskResult {
    TaskResult::failed(spec().id, code, word)
}

pub fn completed(word: &str) -> Report {
    Report::of(&result_completed(word))
}

/// A failure that another attempt may mend.
pub fn failed(word: &str) -> Report {
    Report::of(&result_failed(FailureCode::HandlerError, word))
}

/// A failure that no other attempt will mend.
pub fn fatal(word: &str) -> Report {
    Report::of(&result_failed(FailureCode::InvalidInput, word))
}

pub fn rejected(word: &str) -> Report {
    Report::of(&result_failed(FailureCode::Rejected, word))
}

pub fn by_number(number: u32) -> Quote {
    Quote { lease_id: None, attempt: Some(number) }
}

pub fn by_lease(number: u32) -> Quote {
    Quote::lease(lease(number))
}

pub fn assign(id: &str, number: u32) -> TaskEvent {
    TaskEvent::Assign { agent: agent(id), epoch: 1, lease_id: lease(number), request_id: None, length: LEASE }
}

pub fn renew(id: &str, number: u32) -> TaskEvent {
    TaskEvent::Renew { agent: agent(id), lease_id: lease(number), fraction: None }
}

pub fn forget(id: &str, number: u32) -> TaskEvent {
    TaskEvent::Forget { agent: agent(id), lease_id: lease(number) }
}

pub fn adopt(number: u32, of: &str, by: &str) -> TaskEvent {
    let request = |word: &str| word.parse().expect("it is a request id");
    TaskEvent::Adopt { lease_id: lease(number), of: request(of), by: request(by) }
}

pub fn progress(id: &str, quote: Quote, seq: u64) -> TaskEvent {
    let progress = Progress { seq: Some(seq), fraction: Some(0.1), message: None };
    TaskEvent::Progress { agent: agent(id), quote, progress, output: None }
}

/// A heartbeat that lists its lease and says how far the work is.
pub fn renew_at(id: &str, number: u32, fraction: f64) -> TaskEvent {
    TaskEvent::Renew { agent: agent(id), lease_id: lease(number), fraction: Some(fraction) }
}

/// A report of nothing but output.
pub fn output(id: &str, quote: Quote, seq: u64, output: &str) -> TaskEvent {
    let progress = Progress { seq: Some(seq), fraction: None, message: None };
    TaskEvent::Progress { agent: agent(id), quote, progress, output: Some(output.to_owned()) }
}

pub fn report(id: &str, quote: Quote, report: Report) -> TaskEvent {
    TaskEvent::Report { agent: agent(id), quote, report, chance: half() }
}

pub fn release(id: &str, quote: Quote, why: EndOfLease) -> TaskEvent {
    TaskEvent::Release { agent: agent(id), quote, why, chance: half() }
}

pub fn handed_back() -> EndOfLease {
    EndOfLease::HandedBack { reason: None, retry_after: None }
}

pub fn undelivered() -> EndOfLease {
    EndOfLease::Undelivered { reason: "connection refused".to_owned() }
}

pub fn due() -> TaskEvent {
    TaskEvent::Due { chance: half() }
}

pub fn cancel() -> TaskEvent {
    TaskEvent::Cancel { reason: Some("not needed".to_owned()) }
}

/// One task under a virtual clock; every step is watched by an [`Observer`].
#[derive(Clone, Debug)]
pub struct Life {
    pub task: Task,
    pub now: Timestamp,
    pub policy: TaskPolicy,
    pub observer: Observer,
}

impl Life {
    pub fn of(spec: TaskSpec) -> Self {
        let task = Task::submitted(spec);
        Self { now: at(0), policy: TaskPolicy::default(), observer: Observer::of(&task), task }
    }

    pub fn new() -> Self {
        Self::of(spec())
    }

    pub fn with_policy(self, policy: TaskPolicy) -> Self {
        Self { policy, ..self }
    }

    pub fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    pub fn wait_until(&mut self, time: Timestamp) -> &mut Self {
        assert!(time >= self.now, "the clock of a life runs forwards");
        self.now = time;
        self
    }

    /// Applies `event` and keeps what follows; an `Err` of the outer kind is a broken invariant.
    pub fn watched(&mut self, event: &TaskEvent) -> Result<Result<Step, Refusal>, String> {
        let answer = self.task.apply(event.clone(), self.now, &self.policy);
        self.observer.watch(&self.task, event, &answer, self.now, &self.policy)?;
        if let Ok(Step::Changed(change)) = &answer {
            self.task.state = change.state.clone();
        }
        Ok(answer)
    }

    pub fn ask(&mut self, event: TaskEvent) -> Result<Step, Refusal> {
        self.watched(&event).unwrap_or_else(|broken| panic!("{broken}\nafter {event:?}\non {:#?}", self.task.state))
    }

    /// Applies an event that must change the record.
    pub fn go(&mut self, event: TaskEvent) -> Changed {
        let answer = self.ask(event.clone());
        match answer {
            Ok(Step::Changed(change)) => *change,
            other => panic!("{event:?} must change the task, but: {other:?}"),
        }
    }

    /// Sweeps until the task is ready, then gives it to `id` as attempt `number`.
    pub fn assign(&mut self, id: &str, number: u32) -> &mut Self {
        while !self.task.is_ready() {
            self.sweep();
        }
        self.go(assign(id, number));
        self
    }

    /// Waits until the task is due, and lets the sweeper have it.
    pub fn sweep(&mut self) -> Changed {
        let due_at = self.task.due_at().expect("something is due");
        self.now = self.now.max(due_at);
        self.go(due())
    }

    pub fn report(&mut self, id: &str, number: u32, what: Report) -> Result<Step, Refusal> {
        self.ask(report(id, by_lease(number), what))
    }

    pub fn phase(&self) -> &Phase {
        &self.task.state.phase
    }

    /// How long the queued task waits from now on.
    pub fn delay(&self) -> Duration {
        match self.phase() {
            Phase::Queued { ready_at } => ready_at.map_or(Duration::ZERO, |at| at.saturating_since(self.now)),
            other => panic!("must be queued, is {other:?}"),
        }
    }

    pub fn outcomes(&self) -> Vec<&'static str> {
        self.task.state.attempts.iter().map(|attempt| attempt.outcome.as_str()).collect()
    }
}
