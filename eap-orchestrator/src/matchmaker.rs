//! Demand meets supply: agents that wait for work, and tasks that became ready.
//!
//! A poll first looks at everything that is ready, by a claim of the store; with nothing found, it waits. A ready task
//! wakes as many of those who wait as it takes to place it, not all of them (A17); which of them, the score decides. A
//! task that somebody waits for is submitted and leased in one commit.

mod choice;
mod desk;
mod handover;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use eap_core::RoutingKey;
use eap_types::{AgentId, RequestId, TaskType};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use self::desk::Desk;
pub(crate) use self::handover::Handover;
use self::waiting::Poll;
use crate::directory::Entry;
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::Ask;

/// The part of the wait after which an empty answer is sent off.
const WAIT_SHARE: f64 = 0.97;

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
pub(crate) struct Matchmaker(Arc<Desk>);

/// The loop that brings news to those who wait, and sends them off when their time is over.
#[derive(Debug)]
pub(crate) struct Matching(Arc<Desk>);

impl Matchmaker {
    pub(crate) fn new(lifecycle: Arc<Lifecycle>) -> (Self, Matching) {
        let desk = Arc::new(Desk::new(lifecycle));
        (Self(Arc::clone(&desk)), Matching(desk))
    }

    /// Waits for work: at once if there is some, else until some comes or the wait is over (no tasks then).
    ///
    /// Dropping the future takes the poll back (A15).
    pub(crate) async fn ask(&self, entry: &Entry, wish: Wish) -> Result<Handover, Error> {
        let answer = self.ask_for_push(entry, wish).await;
        let polls = &self.0.lifecycle.metrics.polls;
        let counter = match &answer {
            Ok(handover) if handover.is_empty() => &polls.empty,
            Ok(_) => &polls.granted,
            Err(_) => &polls.refused,
        };
        counter.add(1);
        answer
    }

    /// The same for an agent that tasks are brought to, which did not call.
    pub(crate) async fn ask_for_push(&self, entry: &Entry, wish: Wish) -> Result<Handover, Error> {
        let (reply, answer) = oneshot::channel();
        let lifecycle = &self.0.lifecycle;
        let config = &lifecycle.config;
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
            is_postponed: false,
        };
        let span = debug_span!("lease", agent.id = %entry.agent.id);
        span.in_scope(|| self.0.receive(poll));
        answer.instrument(span).await.unwrap_or(Err(Error::Draining))
    }

    /// Who of `agents` waits for tasks of `key` now.
    pub(crate) fn waiting(&self, agents: Vec<AgentId>, key: &RoutingKey) -> HashSet<AgentId> {
        self.0.waiting(agents, key)
    }
}

impl Matching {
    /// Runs until `stop`; then every waiting poll is answered with nothing.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self(desk) = self;
        let announcements = &desk.lifecycle.announcements;
        announcements.let_take(Arc::new(Arc::clone(&desk)));
        loop {
            let next_deadline = desk.dismiss_overdue();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = announcements.supplied() => desk.supply(announcements.take_supply()),
                () = until(next_deadline) => {}
                () = desk.changed.notified() => {}
            }
        }
        announcements.stop_taking();
        desk.close();
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
