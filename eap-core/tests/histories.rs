//! Random histories: a few agents, one task, a network that loses, delays, repeats and reorders, and a
//! clock that jumps. After each step the [`Observer`](common::observer::Observer) checks the invariants
//! I1–I6; at the end the faults stop and the task must become final within the bound of G3.
//!
//! A failure prints the smallest history that shows it and keeps its seed in `histories.seeds`, which
//! runs first from then on. More histories: `PROPTEST_CASES=20000`.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::observer::Answer;
use common::*;
use eap_core::{EndOfLease, Phase, Quote, Refusal, Step, TaskEvent, TaskPolicy, TaskSpec};
use eap_types::TaskStatus;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestError, TestRunner};

const AGENTS: [&str; 4] = ["agent-0", "agent-1", "agent-2", "agent-3"];

/// What the task asks for, and under which limits.
#[derive(Clone, Debug)]
struct Setting {
    agents: usize,
    max_attempts: u32,
    timeout: u64,
    inactivity: Option<u64>,
    run_at: Option<u64>,
    expires_at: Option<u64>,
    max_expiries: u32,
    max_releases: u32,
    survivor: Survivor,
}

/// How the one agent behaves that is left when the faults have stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Survivor {
    Completes,
    FailsAlways,
    RejectsOnce,
    HandsBackAlways,
    VanishesAlways,
}

/// One thing that happens; whoever cannot do it at that moment does nothing.
#[derive(Clone, Debug)]
enum Op {
    Wait {
        millis: u64,
    },
    WaitUntilDue {
        early: bool,
    },
    Claim {
        agent: usize,
        is_answer_lost: bool,
    },
    /// A message is sent: it joins those under way, to be delivered once, never, later or often.
    Send {
        agent: usize,
        what: Message,
        quote: Quoting,
        about: usize,
    },
    /// A message arrives, counted from the one sent last; it may come again.
    Deliver {
        back: usize,
    },
    Sweep,
    /// The holder's message is under way until its lease has lapsed and was swept.
    ComesLate {
        what: Message,
    },
    /// The agent's process starts anew, knows no lease, and the server notices.
    Restart {
        agent: usize,
    },
    /// The server itself was away.
    FreshStart,
    /// The server ends the lease of whoever holds it.
    ServerReleases {
        why: usize,
    },
    Cancel,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Renew,
    Progress(u64),
    Output(u64),
    RenewMoved(u8),
    Completed(u8),
    Failed(u8),
    Fatal(u8),
    Rejected(u8),
    HandBack(Option<u64>),
}

#[derive(Clone, Copy, Debug)]
enum Quoting {
    Lease,
    Number,
    Both,
    Nothing,
    Mixed,
}

fn setting() -> impl Strategy<Value = Setting> {
    let survivor = prop_oneof![
        4 => Just(Survivor::Completes),
        1 => Just(Survivor::FailsAlways),
        1 => Just(Survivor::RejectsOnce),
        1 => Just(Survivor::HandsBackAlways),
        1 => Just(Survivor::VanishesAlways),
    ];
    let limits = (1_usize..=4, 1_u32..=10, prop_oneof![Just(30_u64), Just(100), Just(3600)], 1_u32..=6, 1_u32..=8);
    let times = (prop::option::weighted(0.2, 1_u64..600), prop::option::weighted(0.2, 1_u64..4000));
    let inactivity = prop::option::weighted(0.3, 2_u64..90);
    (limits, times, inactivity, survivor).prop_map(|(limits, (run_at, expires_at), inactivity, survivor)| {
        let (agents, max_attempts, timeout, max_expiries, max_releases) = limits;
        Setting { agents, max_attempts, timeout, inactivity, run_at, expires_at, max_expiries, max_releases, survivor }
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => Just(Message::Renew),
        2 => (0_u64..6).prop_map(Message::Progress),
        1 => (0_u64..6).prop_map(Message::Output),
        1 => (0_u8..4).prop_map(Message::RenewMoved),
        1 => prop::bool::weighted(0.5).prop_flat_map(|is_done| {
            if is_done { (0_u8..2).prop_map(Message::Completed).boxed() } else { (0_u8..2).prop_map(Message::Fatal).boxed() }
        }),
        5 => (0_u8..3).prop_map(Message::Failed),
        2 => (0_u8..2).prop_map(Message::Rejected),
        2 => prop::option::of(0_u64..100).prop_map(Message::HandBack),
    ]
}

fn quoting() -> impl Strategy<Value = Quoting> {
    prop_oneof![
        5 => Just(Quoting::Lease),
        2 => Just(Quoting::Both),
        2 => Just(Quoting::Nothing),
        1 => Just(Quoting::Number),
        1 => Just(Quoting::Mixed),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0_u64..40_000).prop_map(|millis| Op::Wait { millis }),
        4 => any::<bool>().prop_map(|early| Op::WaitUntilDue { early }),
        8 => (0_usize..4, prop::bool::weighted(0.2)).prop_map(|(agent, is_answer_lost)| Op::Claim { agent, is_answer_lost }),
        8 => (0_usize..4, message(), quoting(), 0_usize..10)
            .prop_map(|(agent, what, quote, about)| Op::Send { agent, what, quote, about }),
        8 => (0_usize..3).prop_map(|back| Op::Deliver { back }),
        4 => (0_usize..100).prop_map(|back| Op::Deliver { back }),
        7 => Just(Op::Sweep),
        1 => message().prop_map(|what| Op::ComesLate { what }),
        1 => (0_usize..4).prop_map(|agent| Op::Restart { agent }),
        1 => (0_usize..4).prop_map(|why| Op::ServerReleases { why }),
        // Most histories go on to their natural end.
        1 => prop::bool::weighted(0.1).prop_map(|ends| if ends { Op::Cancel } else { Op::FreshStart }),
    ]
}

/// How often something happened over all histories; a search that never meets it proves nothing of it.
type Seen = BTreeMap<&'static str, u32>;

fn message_of(id: &str, number: u32, what: Message, quote: Quote) -> TaskEvent {
    let word = |which: u8| which.to_string();
    match what {
        Message::Renew => renew(id, number),
        Message::Progress(seq) => progress(id, quote, seq),
        Message::Output(seq) => output(id, quote, seq, "text"),
        Message::RenewMoved(tenths) => renew_at(id, number, f64::from(tenths) / 10.0),
        Message::Completed(which) => report(id, quote, completed(&word(which))),
        Message::Failed(which) => report(id, quote, failed(&word(which))),
        Message::Fatal(which) => report(id, quote, fatal(&word(which))),
        Message::Rejected(which) => report(id, quote, rejected(&word(which))),
        Message::HandBack(wait) => {
            release(id, quote, EndOfLease::HandedBack { reason: None, retry_after: wait.map(seconds) })
        }
    }
}

struct World<'a> {
    life: Life,
    agents: usize,
    /// The attempts each agent knows of.
    known: Vec<Vec<u32>>,
    under_way: Vec<TaskEvent>,
    seen: &'a mut Seen,
}

impl<'a> World<'a> {
    fn new(setting: &Setting, seen: &'a mut Seen) -> Self {
        let mut policy = TaskPolicy::default();
        policy.max_expiries = setting.max_expiries;
        policy.max_releases = setting.max_releases;
        let spec = TaskSpec {
            max_attempts: setting.max_attempts,
            timeout: seconds(setting.timeout),
            inactivity: setting.inactivity.map(seconds),
            run_at: setting.run_at.map(at),
            expires_at: setting.expires_at.map(at),
            ..spec()
        };
        let known = vec![Vec::new(); setting.agents];
        Self { life: Life::of(spec).with_policy(policy), agents: setting.agents, known, under_way: Vec::new(), seen }
    }

    fn tick(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// One event reaches the server.
    fn apply(&mut self, event: &TaskEvent) -> Result<Result<Step, Refusal>, TestCaseError> {
        let before = self.life.task.clone();
        if let TaskEvent::Report { agent, quote, report, .. } = event {
            match self.life.observer.answer_to(agent, *quote, report.digest) {
                Answer::Duplicate => self.tick("duplicate"),
                Answer::Conflict => self.tick("conflict"),
                Answer::Final => self.tick("late for the task"),
                Answer::Lost => self.tick("late for the lease"),
                Answer::Mismatch => self.tick("mismatch"),
                Answer::NotFound => self.tick("never assigned"),
                Answer::Recorded if before.lease().is_none() => self.tick("late but newest"),
                Answer::Recorded => self.tick("recorded"),
            }
        }
        let answer = self.life.watched(event).map_err(|broken| {
            TestCaseError::fail(format!("{broken}\nafter {event:?}\nat {}\non {:#?}", self.life.now, before.state))
        })?;
        if let Ok(Step::Changed(change)) = &answer {
            let newest = change.state.attempts.last();
            if before.lease().is_some() && newest.is_some_and(|attempt| attempt.inactive) {
                self.tick("went quiet");
            }
            if change.notes.iter().any(|note| note.output.is_some()) {
                self.tick("told output");
            }
            match (&before.state.phase, self.life.phase()) {
                (Phase::Leased(old), Phase::Leased(new)) if new.expires_at > old.expires_at => self.tick("renewed"),
                (_, Phase::Dead { .. }) => self.tick("dead"),
                (_, Phase::Cancelled { .. }) => self.tick("cancelled"),
                (_, Phase::Failed { .. }) => self.tick("failed for good"),
                (_, Phase::Completed { .. }) => self.tick("completed"),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// The same, whatever is answered.
    fn happen(&mut self, event: &TaskEvent) -> Result<(), TestCaseError> {
        self.apply(event).map(drop)
    }

    fn claim(&mut self, who: usize, is_answer_lost: bool) -> Result<(), TestCaseError> {
        let number = u32::try_from(self.life.task.state.attempts.len()).expect("a short history") + 1;
        let answer = self.apply(&assign(AGENTS[who], number))?;
        if answer.is_ok() && !is_answer_lost {
            self.known[who].push(number);
        }
        Ok(())
    }

    fn send(&mut self, agent: usize, what: Message, quoting: Quoting, about: usize) {
        // Mostly those speak who know of an attempt; the others make one up.
        let informed: Vec<usize> = (0..self.agents).filter(|who| !self.known[*who].is_empty()).collect();
        let who = if about == 0 { agent % self.agents } else { *informed.get(agent).unwrap_or(&(agent % self.agents)) };
        let own = &self.known[who];
        let number = own.iter().rev().nth(about / 4).or(own.last()).copied().unwrap_or(1);
        let quote = match quoting {
            Quoting::Lease => by_lease(number),
            Quoting::Number => by_number(number),
            Quoting::Both => Quote { attempt: Some(number), ..by_lease(number) },
            Quoting::Nothing => Quote::default(),
            Quoting::Mixed => Quote { attempt: Some(number + 1), ..by_lease(number) },
        };
        self.under_way.push(message_of(AGENTS[who], number, what, quote));
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Wait { millis } => {
                self.life.wait(Duration::from_millis(millis));
            }
            Op::WaitUntilDue { early } => {
                if let Some(due_at) = self.life.task.due_at().filter(|at| *at > self.life.now) {
                    self.life.wait_until(if early { due_at - TICK } else { due_at });
                }
            }
            Op::Claim { agent, is_answer_lost } => self.claim(agent % self.agents, is_answer_lost)?,
            Op::Send { agent, what, quote, about } => self.send(agent, what, quote, about),
            Op::Deliver { back } => {
                let count = self.under_way.len().max(1);
                // It stays under way: the same message may come again, much later.
                if let Some(event) = self.under_way.iter().rev().nth(back % count).cloned() {
                    self.happen(&event)?;
                }
            }
            Op::Sweep => self.happen(&due())?,
            Op::ComesLate { what } => {
                if let Some(held) = self.life.task.lease().cloned() {
                    let event = message_of(held.agent.as_str(), held.attempt, what, by_lease(held.attempt));
                    self.run(&Op::WaitUntilDue { early: false })?;
                    self.happen(&due())?;
                    self.happen(&event)?;
                    self.under_way.push(event);
                }
            }
            Op::Restart { agent } => {
                let who = agent % self.agents;
                self.known[who].clear();
                if let Some(held) = self.life.task.lease().filter(|held| held.agent.as_str() == AGENTS[who]) {
                    let number = held.attempt;
                    self.happen(&forget(AGENTS[who], number))?;
                }
            }
            Op::FreshStart => self.happen(&TaskEvent::FreshStart)?,
            Op::ServerReleases { why } => {
                if let Some(held) = self.life.task.lease().cloned() {
                    let whys = [undelivered(), EndOfLease::Draining, EndOfLease::Deregistered, EndOfLease::Unclaimed];
                    self.happen(&release(held.agent.as_str(), by_lease(held.attempt), whys[why].clone()))?;
                }
            }
            Op::Cancel => self.happen(&cancel())?,
        }
        Ok(())
    }

    /// The faults stop and one able agent lives: the task must end, and soon.
    fn heal(&mut self, survivor: Survivor) -> Result<(), TestCaseError> {
        let policy = self.life.policy.clone();
        let run = seconds(1);
        let spec = self.life.task.spec.clone();
        let started = self.life.now;
        // G3, plus what the past may still ask for: a delay, a cooldown, a wait that an agent wished for.
        let turns = spec.max_attempts + policy.max_releases + 1;
        let per_turn = LEASE + policy.backoff_cap + run;
        let past = seconds(600).max(policy.rejection_cooldown) + per_turn;
        let bound = past + per_turn * turns + policy.rejection_cooldown + seconds(5);
        let mut rejections = 0;

        for _ in 0..20 * turns {
            if self.life.phase().is_final() {
                let took = self.life.now.saturating_since(started);
                prop_assert!(took <= bound, "final after {took:?}, bound {bound:?}");
                return Ok(());
            }
            let number = u32::try_from(self.life.task.state.attempts.len()).expect("a short history") + 1;
            if !self.life.task.is_ready() || spec.expires_at.is_some_and(|at| at <= self.life.now) {
                let due_at = self.life.task.due_at().expect("the observer has seen that it waits for something");
                self.life.now = self.life.now.max(due_at);
                self.happen(&due())?;
                continue;
            }
            let survivor_id = agent(AGENTS[0]);
            if let Some(until) = self.life.task.state.excluded.get(&survivor_id).filter(|at| **at > self.life.now) {
                // Nobody else is left: it waits for the cooldown, or until the task expires.
                let until = spec.expires_at.map_or(*until, |at| at.min(*until));
                self.life.wait_until(until);
                continue;
            }
            let taken = self.apply(&assign(AGENTS[0], number))?;
            prop_assert!(matches!(taken, Ok(Step::Changed(_))), "ready, but not for an able agent: {:?}", taken);
            self.life.wait(run);
            match survivor {
                Survivor::VanishesAlways => continue,
                Survivor::HandsBackAlways => self.apply(&release(AGENTS[0], by_lease(number), handed_back()))?,
                Survivor::RejectsOnce if rejections == 0 => {
                    rejections += 1;
                    self.apply(&report(AGENTS[0], by_lease(number), rejected("not now")))?
                }
                Survivor::FailsAlways => self.apply(&report(AGENTS[0], by_lease(number), failed("x")))?,
                _ => {
                    let answer = self.apply(&report(AGENTS[0], by_lease(number), completed("x")))?;
                    prop_assert_eq!(self.life.task.status(), TaskStatus::Completed);
                    answer
                }
            }
            .map_err(|refusal| TestCaseError::fail(format!("the survivor was refused: {refusal}")))?;
        }
        Err(TestCaseError::fail(format!("G3: never final: {:#?}", self.life.task.state)))
    }

    /// Whatever is still under way when all is over changes nothing.
    fn stragglers(&mut self) -> Result<(), TestCaseError> {
        let over = self.life.task.clone();
        for event in std::mem::take(&mut self.under_way) {
            self.happen(&event)?;
        }
        prop_assert_eq!(&self.life.task, &over);
        Ok(())
    }
}

#[test]
fn whatever_the_network_does_the_invariants_hold_and_the_task_ends() {
    let config = Config {
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let seen = std::cell::RefCell::new(Seen::new());
    let histories = (setting(), prop::collection::vec(op(), 1..120));
    let outcome = runner.run(&histories, |(setting, ops)| {
        let seen = &mut *seen.borrow_mut();
        let mut world = World::new(&setting, seen);
        for op in &ops {
            world.run(op)?;
        }
        world.heal(setting.survivor)?;
        world.stragglers()
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (setting, ops))) => panic!("{reason}\n{setting:#?}\n{ops:#?}"),
        Err(error) => panic!("{error}"),
    }

    let seen = seen.into_inner();
    let sometimes = [
        "recorded",
        "late but newest",
        "late for the lease",
        "late for the task",
        "duplicate",
        "conflict",
        "mismatch",
        "never assigned",
        "renewed",
        "told output",
        "went quiet",
        "completed",
        "failed for good",
        "cancelled",
        "dead",
    ];
    for what in sometimes {
        assert!(seen.contains_key(what), "no history met: {what}; {seen:?}");
    }
}
