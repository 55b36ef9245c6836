//! Demand meets supply: agents that wait for work, and tasks that became ready.
//!
//! One loop owns the waiting polls. It turns whatever came in since the last round (new polls, ready
//! tasks, agents with room again) into one claim of the store, hands out what was leased, and keeps the
//! rest waiting. A ready task wakes as many polls as it takes to place it, not all of them (A17); which of them, the
//! score decides.

mod choice;
mod handover;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use eap_core::{Allowance, Rating, RoutingKey, room_for_work};
use eap_types::{AgentId, RequestId, TaskType, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, warn};

use self::choice::{Candidate, Preference, choose};
pub(crate) use self::handover::Handover;
use self::waiting::{Poll, Waiting};
use crate::announce::Ready;
use crate::directory::Entry;
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::Ask;

/// How many polls may stand at the matchmaker's door; the next one is told to come again.
const DOOR: usize = 1_024;
/// How many questions about those who wait may stand there.
const QUESTIONS: usize = 64;
/// The part of the wait after which an empty answer is sent off.
const WAIT_SHARE: f64 = 0.97;
/// How many asks one claim carries.
const ASKS_PER_CLAIM: usize = 256;
/// How many of the longest waiting polls that could take a task are compared, so that a placement costs the same
/// however many wait.
const CANDIDATES: usize = 64;

/// What an agent asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) max_tasks: u32,
    pub(crate) wait: Duration,
    pub(crate) task_types: Option<BTreeSet<TaskType>>,
    /// The request that may be repeated; without one, tasks nobody took delivery of go back at once.
    pub(crate) request_id: Option<RequestId>,
}

/// Where agents ask for work.
#[derive(Clone, Debug)]
pub(crate) struct Matchmaker {
    door: mpsc::Sender<Poll>,
    questions: mpsc::Sender<Question>,
    lifecycle: Arc<Lifecycle>,
}

/// The loop behind it.
#[derive(Debug)]
pub(crate) struct Matching {
    door: mpsc::Receiver<Poll>,
    questions: mpsc::Receiver<Question>,
    lifecycle: Arc<Lifecycle>,
    waiting: Waiting,
}

impl Matchmaker {
    pub(crate) fn new(lifecycle: Arc<Lifecycle>) -> (Self, Matching) {
        let (door, polls) = mpsc::channel(DOOR);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let capacity = &lifecycle.config.capacity;
        let waiting = Waiting::new(capacity.polls, capacity.polls_per_agent);
        let matching = Matching { door: polls, questions: asked, lifecycle: Arc::clone(&lifecycle), waiting };
        (Self { door, questions, lifecycle }, matching)
    }

    /// Waits for work: at once if there is some, else until some comes or the wait is over (no tasks then).
    ///
    /// Dropping the future takes the poll back (A15).
    pub(crate) async fn ask(&self, entry: &Entry, wish: Wish) -> Result<Handover, Error> {
        let (reply, answer) = oneshot::channel();
        let config = &self.lifecycle.config;
        let agent = Arc::clone(&entry.agent);
        let lease = agent.lease_length(config.timing.lease, &config.timing.liveness());
        let poll = Poll {
            ask: Ask {
                agent,
                max_tasks: wish.max_tasks,
                request_id: wish.request_id,
                task_types: wish.task_types,
                lease,
            },
            // An answer on the very second would always be a little late (A14).
            deadline: Instant::now() + wish.wait.mul_f64(WAIT_SHARE),
            reply,
            number: None,
        };
        let answer = self.put(poll, answer).instrument(debug_span!("lease", agent.id = %entry.agent.id)).await;
        let polls = &self.lifecycle.metrics.polls;
        let counter = match &answer {
            Ok(handover) if handover.is_empty() => &polls.empty,
            Ok(_) => &polls.granted,
            Err(_) => &polls.refused,
        };
        counter.add(1);
        answer
    }

    async fn put(&self, poll: Poll, answer: oneshot::Receiver<Result<Handover, Error>>) -> Result<Handover, Error> {
        self.door.try_send(poll).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy { reason: "too many agents ask at once" },
            mpsc::error::TrySendError::Closed(_) => Error::Draining,
        })?;
        answer.await.unwrap_or(Err(Error::Draining))
    }

    /// Who of `agents` waits for tasks of `key` now.
    pub(crate) async fn waiting(&self, agents: Vec<AgentId>, key: RoutingKey) -> Result<HashSet<AgentId>, Error> {
        let (reply, answer) = oneshot::channel();
        let question = Question { agents, key, reply };
        self.questions.try_send(question).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy { reason: "too many explanations are asked for at once" },
            mpsc::error::TrySendError::Closed(_) => Error::Draining,
        })?;
        answer.await.map_err(|_| Error::Draining)
    }
}

/// Who of `agents` waits for tasks of `key`?
#[derive(Debug)]
struct Question {
    agents: Vec<AgentId>,
    key: RoutingKey,
    reply: oneshot::Sender<HashSet<AgentId>>,
}

/// What ended a wait.
enum Wake {
    Stop,
    Question(Question),
    Asked(Poll),
    Supplied,
    Overdue,
}

impl Matching {
    /// Runs until `stop`; then every waiting poll is answered with nothing.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let next_deadline = self.waiting.next_deadline();
            let wake = tokio::select! {
                biased;
                () = stop.cancelled() => Wake::Stop,
                () = self.lifecycle.announcements.supplied() => Wake::Supplied,
                () = until(next_deadline) => Wake::Overdue,
                Some(question) = self.questions.recv() => Wake::Question(question),
                Some(poll) = self.door.recv() => Wake::Asked(poll),
            };
            let mut fresh = Vec::new();
            match wake {
                Wake::Stop => break,
                Wake::Question(question) => {
                    self.tell(question);
                    continue;
                }
                Wake::Asked(poll) => fresh.push(poll),
                Wake::Supplied | Wake::Overdue => {}
            }
            while fresh.len() < ASKS_PER_CLAIM
                && let Ok(poll) = self.door.try_recv()
            {
                fresh.push(poll);
            }
            self.round(fresh).await;
            self.lifecycle.metrics.polls.waiting.set(self.waiting.len() as u64);
        }
        self.door.close();
        while let Ok(poll) = self.door.try_recv() {
            poll.answer_empty();
        }
        self.waiting.drain().for_each(Poll::answer_empty);
        self.lifecycle.metrics.polls.waiting.set(0);
    }

    fn tell(&self, Question { mut agents, key, reply }: Question) {
        agents.retain(|agent| self.waiting.waits(agent, &key));
        let _ = reply.send(agents.into_iter().collect());
    }

    async fn round(&mut self, fresh: Vec<Poll>) {
        for poll in &fresh {
            if let Some(request_id) = &poll.ask.request_id {
                self.waiting.replace(request_id, &poll.ask.agent.id);
            }
        }
        // Those who wait look at what became ready since; then the new ones at everything that is left.
        let supply = self.lifecycle.announcements.take_supply();
        let freed: Vec<Poll> = supply.freed.iter().flat_map(|agent| self.waiting.take_of(agent)).collect();
        self.serve(freed).await;
        for (key, ready) in &supply.ready {
            self.place(key, ready).await;
        }
        self.serve(fresh).await;
        self.waiting.take_overdue(Instant::now()).into_iter().for_each(Poll::answer_empty);
    }

    /// Finds takers for the ready tasks of one key: the best first, more of them while some refuse.
    async fn place(&mut self, key: &RoutingKey, ready: &Ready) {
        let preferring: Vec<Preference<'_>> =
            ready.preferring.iter().map(|(place, spec)| (*place, &spec.preferred_agents)).collect();
        let mut preferring = &preferring[..];
        let mut left = ready.count;
        let mut tried = 0;
        let mut passed_over = Vec::new();
        while left > 0 {
            // Twice as many each time: one taker is the rule, a queue of unwilling ones must not take for ever.
            let want = usize::try_from(left).unwrap_or(usize::MAX).max(tried).min(ASKS_PER_CLAIM);
            let takers = self.takers(key, want, left, std::mem::take(&mut preferring));
            if takers.is_empty() {
                break;
            }
            tried += takers.len();
            let (placed, refused) = self.claim(takers).await;
            left = left.saturating_sub(placed.iter().filter(|placed| *placed == key).count() as u32);
            passed_over.extend(refused);
        }
        for poll in passed_over {
            self.waiting.park(poll);
        }
    }

    /// Up to `polls` waiting polls that take `tasks` tasks of a key between them, each with how many it may take.
    fn takers(
        &mut self,
        key: &RoutingKey,
        polls: usize,
        tasks: u32,
        preferring: &[Preference<'_>],
    ) -> Vec<(Poll, u32)> {
        let (lifecycle, now) = (&self.lifecycle, self.lifecycle.clock.now());
        let judge = |number, ask: &Ask| candidate(lifecycle, key, number, ask, now);
        let candidates = self.waiting.judged(key, CANDIDATES.max(polls), judge);
        let choices = choose(&candidates, polls, tasks, preferring);
        choices.into_iter().filter_map(|choice| Some((self.waiting.take(choice.number)?, choice.tasks))).collect()
    }

    /// Lets polls look at everything that is ready; those that find nothing wait.
    async fn serve(&mut self, mut polls: Vec<Poll>) {
        while !polls.is_empty() {
            let Turn { asking, waiting, later } = self.turn(polls);
            let (_, empty_handed) = self.claim(asking).await;
            for poll in waiting.into_iter().chain(empty_handed) {
                self.waiting.park(poll);
            }
            polls = later;
        }
    }

    /// Who of `polls` asks now, and for how much.
    fn turn(&self, polls: Vec<Poll>) -> Turn {
        let now = self.lifecycle.clock.now();
        let mut turn = Turn::default();
        let mut on_trial = HashSet::new();
        for poll in polls {
            let (room, is_trial) = room_of(&self.lifecycle, &poll.ask, now).unwrap_or_default();
            if room > 0 && is_trial && !on_trial.insert(poll.ask.agent.id.clone()) {
                // One trial at a time; if this one finds nothing, the next poll may.
                turn.later.push(poll);
            } else if room > 0 {
                let tasks = poll.ask.max_tasks.min(room);
                turn.asking.push((poll, tasks));
            } else if poll.number.is_none() && poll.ask.request_id.is_some() {
                // It may be the repeat of a request whose answer was lost: that one gets its tasks in any case (G17).
                turn.asking.push((poll, 0));
            } else {
                turn.waiting.push(poll);
            }
        }
        turn
    }

    /// One claim for these polls, each for at most so many tasks: those who got something are answered. Returns the
    /// keys of what was leased, and the polls that got nothing.
    async fn claim(&mut self, polls: Vec<(Poll, u32)>) -> (Vec<RoutingKey>, Vec<Poll>) {
        let polls: Vec<(Poll, u32)> = polls.into_iter().filter(|(poll, _)| !poll.reply.is_closed()).collect();
        if polls.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let asks = polls.iter().map(|(poll, tasks)| Ask { max_tasks: *tasks, ..poll.ask.clone() }).collect();
        let claimed = match self.lifecycle.claim(asks).await {
            Ok(claimed) => claimed,
            Err(error) => {
                warn!(%error, "a claim failed");
                for (poll, _) in polls {
                    let _ = poll.reply.send(Err(Error::Busy { reason: "work cannot be handed out now" }));
                }
                return (Vec::new(), Vec::new());
            }
        };
        let (mut leased, mut empty_handed) = (Vec::new(), Vec::new());
        for ((poll, _), claimed) in polls.into_iter().zip(claimed) {
            if claimed.tasks.is_empty() {
                empty_handed.push(poll);
                continue;
            }
            leased.extend(claimed.tasks.iter().map(|task| task.spec.routing.clone()));
            let (ask, tasks) = (poll.ask, claimed.tasks);
            debug!(agent.id = %ask.agent.id, tasks = tasks.len(), repeated = claimed.repeated, "tasks leased");
            let give_back = ask.request_id.is_none().then(|| (Arc::clone(&self.lifecycle), ask.agent));
            // If nobody is there to take it, the handover knows what to do.
            let _ = poll.reply.send(Ok(Handover::new(tasks, give_back)));
        }
        (leased, empty_handed)
    }
}

/// Polls sorted by whether they ask now.
#[derive(Debug, Default)]
struct Turn {
    /// These, for so many tasks.
    asking: Vec<(Poll, u32)>,
    /// These do not.
    waiting: Vec<Poll>,
    /// These, once it is known what became of those that ask.
    later: Vec<Poll>,
}

/// How many tasks may be handed to the agent that asks, and whether that is a trial; `None` if it is gone or another
/// process by now.
fn room_of(lifecycle: &Lifecycle, ask: &Ask, now: Timestamp) -> Option<(u32, bool)> {
    let entry = lifecycle.directory.get(&ask.agent.id).filter(|entry| entry.agent.epoch == ask.agent.epoch)?;
    Some(entry.with_vitals(|vitals| {
        let is_trial = vitals.record.allowance(now) == Allowance::Trial;
        // The store counts the leases it holds.
        (room_for_work(&entry.agent, vitals, 0, now), is_trial)
    }))
}

/// A waiting poll as one to choose from, if its agent can take anything now.
fn candidate(lifecycle: &Lifecycle, key: &RoutingKey, number: u64, ask: &Ask, now: Timestamp) -> Option<Candidate> {
    let entry = lifecycle.directory.get(&ask.agent.id).filter(|entry| entry.agent.epoch == ask.agent.epoch)?;
    let leases = lifecycle.leases.count(&ask.agent.id);
    entry.with_vitals(|vitals| {
        let room = room_for_work(&entry.agent, vitals, leases, now);
        (room > 0).then(|| Candidate {
            number,
            agent: ask.agent.id.clone(),
            asked: ask.max_tasks,
            room,
            rating: Rating::of(&entry.agent, vitals, leases, key),
            last_served: vitals.record.last_served(),
        })
    })
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
