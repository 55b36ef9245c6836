//! The pusher of one agent: asks for its tasks, sees to their delivery, and leaves it alone while it takes nothing.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, EndOfLease, PushHealth, PushSuspension, Quote, Standing, Task};
use eap_types::{AgentId, AgentState, LeaseId, PushStop, RequestId, TaskId, Timestamp};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Shared;
use super::delivery::{Delivered, deliver};
use super::probe::{Probe, probe};
use crate::clock::draw_chance;
use crate::directory::Entry;
use crate::error::Error;
use crate::matchmaker::{Handover, Wish};

/// How long one request for tasks waits.
const WAIT: Duration = Duration::from_secs(25);
/// How many tasks one request asks for at most.
const TASKS_AT_ONCE: u32 = 16;
/// An endpoint is not probed less often than this, unless its agent beats as rarely.
const RAREST_PROBE: Duration = Duration::from_secs(600);

pub(super) struct Pusher {
    shared: Arc<Shared>,
    agent: AgentId,
    work: JoinSet<Done>,
    /// The request that is open; it keeps its id until it has an answer, so that a lost one strands nothing (G17).
    request: Option<RequestId>,
    asking: Option<Asking>,
    deliveries: usize,
    health: PushHealth,
    epoch: u64,
    probing: bool,
    next_probe: Option<Timestamp>,
    has_resumed: bool,
}

/// An open request for tasks.
struct Asking {
    /// For which of the agent's processes.
    epoch: u64,
    asked: AbortHandle,
}

/// What the pusher waited for.
pub(super) enum Done {
    Asked { epoch: u64, answer: Result<Handover, Error> },
    Delivered { epoch: u64, delivered: Delivered },
    Probed(Probe),
}

impl Pusher {
    pub(super) fn new(shared: Arc<Shared>, agent: AgentId) -> Self {
        Self {
            shared,
            agent,
            work: JoinSet::new(),
            request: None,
            asking: None,
            deliveries: 0,
            health: PushHealth::default(),
            epoch: 0,
            probing: false,
            next_probe: None,
            has_resumed: false,
        }
    }

    /// Works until `stop`, or until nothing is pushed to the agent any more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let tick = self.shared.lifecycle.config.timing.sweep_interval;
        let listener = self.shared.lifecycle.states.listener(&self.agent);
        loop {
            let entry = self.shared.lifecycle.directory.get(&self.agent).filter(|entry| entry.agent.push.is_some());
            match &entry {
                None if self.work.is_empty() => return,
                None => {}
                Some(entry) => self.take_up(entry).await,
            }
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = next(&mut self.work) => Some(done),
                () = listener.news.notified() => None,
                () = tokio::time::sleep(tick) => None,
            };
            match done {
                None => {}
                Some(Ok(done)) => self.settle(done, entry.as_deref()).await,
                // It was withdrawn.
                Some(Err(ended)) if ended.is_cancelled() => {}
                Some(Err(broken)) => {
                    error!(error = %broken, agent.id = %self.agent, "a delivery broke; its lease will lapse");
                    // Which one it was is not known: begin anew.
                    self.work.shutdown().await;
                    (self.asking, self.probing, self.deliveries, self.has_resumed) = (None, false, 0, false);
                }
            }
        }
        let grace = self.shared.lifecycle.config.timing.shutdown_grace / 2;
        let finished = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            debug!(agent.id = %self.agent, "exchanges are cut off; the attempts are sent again after the next start");
            self.work.shutdown().await;
        }
    }

    /// Begins what is to be begun with the agent as it now is.
    async fn take_up(&mut self, entry: &Arc<Entry>) {
        if self.epoch != entry.agent.epoch {
            self.epoch = entry.agent.epoch;
            self.health = PushHealth::default();
            self.next_probe = None;
            // What is asked for the process before gets nothing any more, and comes back empty by itself.
            (self.asking, self.request) = (None, None);
        }
        if (!self.has_resumed || self.sees_orphans())
            && let Err(error) = self.take_over(entry).await
        {
            return warn!(%error, agent.id = %self.agent, "what is to be brought to an agent could not be taken over");
        }
        let now = self.shared.lifecycle.clock.now();
        self.probe_if_silent(entry, now);
        if !self.is_free(&entry.agent) {
            // What was asked for before would wait until the agent has done something else.
            self.withdraw();
            self.hand_back_unsent().await;
        } else if self.is_offline(&entry.agent, entry.silent_since(), now) {
            // What it asked for while it was heard would go where nobody is.
            self.withdraw();
        } else if self.asking.is_none() && self.may_ask(&entry.agent, entry.silent_since(), now) {
            self.ask(entry);
        }
    }

    /// Whether there are attempts that a replica was to bring which is gone.
    fn sees_orphans(&self) -> bool {
        let lifecycle = &self.shared.lifecycle;
        lifecycle.is_followed() && lifecycle.leases.of(&self.agent).iter().any(|(_, lease)| lifecycle.is_orphan(lease))
    }

    /// Takes over the attempts that nobody brings any more; at first, those that this process was to bring as well.
    async fn take_over(&mut self, entry: &Entry) -> Result<(), Error> {
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        let is_first = !self.has_resumed;
        // One that was not known a moment ago may be at work by now.
        lifecycle.count_replicas().await?;
        for held in lifecycle.store.leases(&self.agent).await? {
            let Some(lease) = held.record.lease() else { continue };
            // Whoever took it over before did so without an event.
            lifecycle.leases.follow(&held.record);
            if is_with_platform(&entry.agent, &held.record) {
                // It has it: whoever hears of its end is to know that somebody sees to it.
                if lifecycle.is_orphan(lease) {
                    lifecycle.adopt(held.record.id(), lease).await?;
                }
                continue;
            }
            if is_first && lifecycle.is_brought_here(lease) {
                self.deliver(held.record, true);
            } else if lifecycle.is_orphan(lease)
                && let Some(task) = lifecycle.adopt(held.record.id(), lease).await?
            {
                self.deliver(task, true);
            }
        }
        self.has_resumed = true;
        Ok(())
    }

    /// Whether the agent takes work by its own word, where it has one beside its heartbeats.
    fn is_free(&self, agent: &Agent) -> bool {
        let lifecycle = &self.shared.lifecycle;
        agent.platform.is_none() || lifecycle.reaches_platform() && lifecycle.states.is_free(agent)
    }

    fn is_offline(&self, agent: &Agent, silent_since: Timestamp, now: Timestamp) -> bool {
        let liveness = self.shared.lifecycle.config.timing.liveness();
        agent.state(now.saturating_since(silent_since), &liveness) == AgentState::Offline
    }

    fn may_ask(&self, agent: &Agent, silent_since: Timestamp, now: Timestamp) -> bool {
        let is_open = agent.push.as_ref().is_some_and(|push| push.suspended.is_none());
        is_open
            && agent.takes_work()
            && !self.is_offline(agent, silent_since, now)
            && self.health.admits(self.deliveries, now)
            && self.shared.places.available_permits() > 0
    }

    /// Asks for tasks as a poll of the agent's own would.
    fn ask(&mut self, entry: &Arc<Entry>) {
        let is_trial = !self.health.admits(1, self.shared.lifecycle.clock.now());
        let places = u32::try_from(self.shared.places.available_permits()).unwrap_or(u32::MAX);
        let max_tasks = if is_trial { 1 } else { TASKS_AT_ONCE.min(places.max(1)) };
        let lifecycle = &self.shared.lifecycle;
        let request_id = self.request.get_or_insert_with(|| lifecycle.request_of_push());
        let wish = Wish { max_tasks, wait: WAIT, task_types: None, request_id: Some(request_id.clone()) };
        let (matchmaker, entry) = (self.shared.matchmaker.clone(), Arc::clone(entry));
        let epoch = entry.agent.epoch;
        let asked =
            self.work.spawn(async move { Done::Asked { epoch, answer: matchmaker.ask_for_push(&entry, wish).await } });
        self.asking = Some(Asking { epoch, asked });
    }

    /// Takes back what it asks for. The next request has the same id: it gets what this one was given meanwhile.
    fn withdraw(&mut self) {
        if let Some(Asking { asked, .. }) = self.asking.take() {
            asked.abort();
        }
    }

    /// Brings an attempt; one `from_before` may have been brought by an earlier process of the server.
    fn deliver(&mut self, task: Task, from_before: bool) {
        self.deliveries += 1;
        let (shared, agent) = (Arc::clone(&self.shared), self.agent.clone());
        self.work.spawn(async move {
            let (epoch, delivered) = deliver(&shared, &agent, task, from_before).await;
            Done::Delivered { epoch, delivered }
        });
    }

    fn is_by_platform(&self) -> bool {
        self.shared.lifecycle.directory.get(&self.agent).is_some_and(|entry| entry.agent.platform.is_some())
    }

    /// Gives back what came for an agent that has begun with something else meanwhile.
    async fn hand_back(&self, task: TaskId, lease: LeaseId) {
        let lifecycle = &self.shared.lifecycle;
        let Some(entry) = lifecycle.directory.get(&self.agent) else { return };
        let quote = Quote::lease(lease);
        if let Err(error) = lifecycle.end_lease(&entry.agent, task, quote, EndOfLease::NotFree).await {
            debug!(%error, task.id = %task, "a task could not be handed back");
        }
    }

    fn still_holds(&self, task: TaskId, lease: LeaseId) -> bool {
        let held = self.shared.lifecycle.leases.find(&self.agent, task);
        held.is_some_and(|held| held.lease_id == lease)
    }

    /// Gives back what a request was given while it was withdrawn: nobody heard its answer.
    async fn hand_back_unsent(&self) {
        let Some(request) = &self.request else { return };
        for (task, lease) in self.shared.lifecycle.leases.of(&self.agent) {
            if lease.request_id.as_ref() == Some(request) {
                self.hand_back(task, lease.lease_id).await;
            }
        }
    }

    /// An agent about to go offline is asked whether it is there, and so is one that is suspended.
    fn probe_if_silent(&mut self, entry: &Arc<Entry>, now: Timestamp) {
        let (timing, agent) = (&self.shared.lifecycle.config.timing, &entry.agent);
        let suspended = agent.push.as_ref().and_then(|push| push.suspended);
        let silence = match suspended {
            Some(suspended) if !suspended.ends_by_probe() => return,
            Some(suspended) => now.saturating_since(suspended.at),
            None => now.saturating_since(entry.silent_since()),
        };
        let is_due =
            silence >= agent.liveness(&timing.liveness()).suspect_after() && self.next_probe.is_none_or(|at| at <= now);
        if self.probing || !is_due || agent.platform.is_some() || matches!(agent.standing, Standing::Superseded { .. })
        {
            return;
        }
        self.next_probe = Some(now + (silence / 3).min(RAREST_PROBE).max(timing.heartbeat_interval / 2));
        self.probing = true;
        let (shared, entry) = (Arc::clone(&self.shared), Arc::clone(entry));
        self.work.spawn(async move { Done::Probed(probe(&shared, &entry).await) });
    }

    async fn settle(&mut self, done: Done, entry: Option<&Entry>) {
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        let now = lifecycle.clock.now();
        match done {
            Done::Asked { epoch, answer: Ok(handover) } => {
                if self.asking.take_if(|asking| asking.epoch == epoch).is_some() {
                    self.request = None;
                }
                let is_free = entry.is_none_or(|entry| self.is_free(&entry.agent));
                for task in handover.accept() {
                    match task.lease().map(|lease| lease.lease_id) {
                        Some(lease) if !is_free => self.hand_back(task.id(), lease).await,
                        // It went back while its answer was on the way here.
                        Some(lease) if self.is_by_platform() && !self.still_holds(task.id(), lease) => {}
                        _ => self.deliver(task, false),
                    }
                }
            }
            Done::Asked { epoch, answer: Err(error) } => {
                self.asking.take_if(|asking| asking.epoch == epoch);
                debug!(%error, agent.id = %self.agent, "no work for a push");
                // The next turn asks again, under the same id.
                tokio::time::sleep(lifecycle.config.timing.sweep_interval).await;
            }
            Done::Probed(Probe::Silent) => self.probing = false,
            Done::Probed(Probe::Alive) => {
                self.probing = false;
                let suspended = entry.and_then(|entry| entry.agent.push.as_ref()?.suspended);
                if let Some(suspended) = suspended.filter(PushSuspension::ends_by_probe) {
                    // One that is there and answers tasks with errors has yet to show that it does better: the next
                    // delivery that fails suspends it again.
                    if suspended.why != PushStop::Status {
                        self.health = PushHealth::default();
                    }
                    if let Err(error) = lifecycle.resume_push(&self.agent, self.epoch).await {
                        warn!(%error, agent.id = %self.agent, "that pushing begins again could not be written");
                    }
                }
            }
            Done::Delivered { epoch, delivered } => {
                self.deliveries = self.deliveries.saturating_sub(1);
                let stop = match delivered {
                    // An older process, perhaps at another endpoint, says nothing of this one.
                    _ if epoch != self.epoch => None,
                    Delivered::Well => {
                        self.health.succeed();
                        None
                    }
                    Delivered::Over => None,
                    Delivered::Badly { failure, retry_after } => {
                        let chance = draw_chance(&*lifecycle.entropy);
                        let policy = &lifecycle.config.push;
                        let is_long = self.health.fail(retry_after, now, chance, policy);
                        self.withdraw();
                        is_long.then(|| PushStop::from(failure))
                    }
                    Delivered::Never(stop) => {
                        self.withdraw();
                        Some(stop)
                    }
                };
                let stop = match stop {
                    // No sign of life would end it: a platform that is down, or set up wrongly, is asked again more and more rarely.
                    Some(stop) if self.is_by_platform() && stop != PushStop::Gone => {
                        if matches!(delivered, Delivered::Never(_)) {
                            self.health.fail(None, now, draw_chance(&*lifecycle.entropy), &lifecycle.config.push);
                        }
                        None
                    }
                    stop => stop,
                };
                if let Some(stop) = stop
                    && let Err(error) = lifecycle.suspend_push(&self.agent, self.epoch, stop).await
                {
                    warn!(%error, agent.id = %self.agent, "that pushing ends could not be written");
                }
            }
        }
    }
}

/// Whether a platform has taken a task: it would run it twice.
fn is_with_platform(agent: &Agent, task: &Task) -> bool {
    agent.platform.is_some() && task.state.progress.is_some()
}

async fn next(work: &mut JoinSet<Done>) -> Option<Result<Done, JoinError>> {
    match work.join_next().await {
        None => pending().await,
        done => done,
    }
}
