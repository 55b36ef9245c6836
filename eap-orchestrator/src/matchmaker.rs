//! Demand meets supply: agents that wait for work, and tasks that became ready.
//!
//! One loop owns the waiting polls. It turns whatever came in since the last round (new polls, ready
//! tasks, agents with room again) into one claim of the store, hands out what was leased, and keeps the
//! rest waiting. A ready task wakes as many polls as it takes to place it, not all of them (A17).

mod handover;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eap_core::RoutingKey;
use eap_types::{AgentId, RequestId, TaskType};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, warn};

pub(crate) use self::handover::Handover;
use self::waiting::{Poll, Waiting};
use crate::directory::Entry;
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::Ask;

/// How many polls may stand at the matchmaker's door; the next one is told to come again.
const DOOR: usize = 1_024;
/// The part of the wait after which an empty answer is sent off.
const WAIT_SHARE: f64 = 0.97;
/// How many asks one claim carries.
const ASKS_PER_CLAIM: usize = 256;

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
    lifecycle: Arc<Lifecycle>,
}

/// The loop behind it.
#[derive(Debug)]
pub(crate) struct Matching {
    door: mpsc::Receiver<Poll>,
    lifecycle: Arc<Lifecycle>,
    waiting: Waiting,
}

impl Matchmaker {
    pub(crate) fn new(lifecycle: Arc<Lifecycle>) -> (Self, Matching) {
        let (door, polls) = mpsc::channel(DOOR);
        let capacity = &lifecycle.config.capacity;
        let waiting = Waiting::new(capacity.polls, capacity.polls_per_agent);
        let matching = Matching { door: polls, lifecycle: Arc::clone(&lifecycle), waiting };
        (Self { door, lifecycle }, matching)
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
}

/// What ended a wait.
enum Wake {
    Stop,
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
                Some(poll) = self.door.recv() => Wake::Asked(poll),
            };
            let mut fresh = Vec::new();
            match wake {
                Wake::Stop => break,
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
        for (key, count) in supply.ready {
            self.place(&key, count).await;
        }
        self.serve(fresh).await;
        self.waiting.take_overdue(Instant::now()).into_iter().for_each(Poll::answer_empty);
    }

    /// Finds takers for `count` tasks of one key: the longest waiting first, more of them while some refuse.
    async fn place(&mut self, key: &RoutingKey, count: u32) {
        let mut left = count;
        let mut tried = 0;
        let mut passed_over = Vec::new();
        while left > 0 {
            // Twice as many each time: one taker is the rule, a queue of unwilling ones must not take for ever.
            let want = usize::try_from(left).unwrap_or(usize::MAX).max(tried).min(ASKS_PER_CLAIM);
            let takers = self.takers(key, want, left);
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

    /// Up to `polls` waiting polls that a key admits, with room for no more than `tasks` between them.
    fn takers(&mut self, key: &RoutingKey, polls: usize, tasks: u32) -> Vec<Poll> {
        let lifecycle = Arc::clone(&self.lifecycle);
        let has_room =
            |agent: &AgentId, allowed: u32| lifecycle.leases.count(agent) < allowed && takes_work(&lifecycle, agent);
        self.waiting.take_for(key, polls, tasks, has_room)
    }

    async fn serve(&mut self, polls: Vec<Poll>) {
        if polls.is_empty() {
            return;
        }
        let (willing, unwilling): (Vec<_>, Vec<_>) =
            polls.into_iter().partition(|poll| takes_work(&self.lifecycle, &poll.ask.agent.id));
        let (_, empty_handed) = self.claim(willing).await;
        for poll in unwilling.into_iter().chain(empty_handed) {
            self.waiting.park(poll);
        }
    }

    /// One claim for these polls: those who got something are answered. Returns the keys of what was leased, and the
    /// polls that got nothing.
    async fn claim(&mut self, polls: Vec<Poll>) -> (Vec<RoutingKey>, Vec<Poll>) {
        let polls: Vec<Poll> = polls.into_iter().filter(|poll| !poll.reply.is_closed()).collect();
        if polls.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let asks = polls.iter().map(|poll| poll.ask.clone()).collect();
        let claimed = match self.lifecycle.claim(asks).await {
            Ok(claimed) => claimed,
            Err(error) => {
                warn!(%error, "a claim failed");
                for poll in polls {
                    let _ = poll.reply.send(Err(Error::Busy { reason: "work cannot be handed out now" }));
                }
                return (Vec::new(), Vec::new());
            }
        };
        let (mut leased, mut empty_handed) = (Vec::new(), Vec::new());
        for (poll, claimed) in polls.into_iter().zip(claimed) {
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

/// Whether the agent's own word lets it take work now.
fn takes_work(lifecycle: &Lifecycle, agent: &AgentId) -> bool {
    lifecycle
        .directory
        .get(agent)
        .is_some_and(|entry| entry.agent.standing == eap_core::Standing::Active && entry.vitals().takes_work())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
