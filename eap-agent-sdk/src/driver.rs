//! The one loop that owns the agent: what it holds, what it runs, what it has to report.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eap_client::{AgentClient, AgentSession};
use eap_types::{Assignment, Deregister, ReleaseRequest, ResultStatus, TaskResult, TaskType};
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use crate::agent::Status;
use crate::context::CancelReason;
use crate::error::Error;
use crate::handler::Handler;
use crate::identity::DataDir;
use crate::leases::LeaseKey;
use crate::outbox::{Delivered, Outbox, Settled, deliver};
use crate::outbox_file::key_of;
use crate::output::LONGEST_HOLD;
use crate::progress::send_reports;
use crate::report::{Refused, Report};
use crate::running::{Conclusion, Joined, Running, unsupported};
use crate::session::judge;
use crate::shared::{Access, Shared};
use crate::transport::{Received, Transport};

/// How long the last results may take beyond the drain: as long as that, within these.
const FLUSH_GRACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long one call of the end may take.
const LAST_CALL: Duration = Duration::from_secs(3);
/// Handlers are told to stop this long before the drain is over, or a quarter of it.
const STOPPING: Duration = Duration::from_secs(2);
/// How long a stopping agent waits for the orchestrator to hear of it: what is handed back after that
/// costs the task no attempt.
const TELLING: Duration = Duration::from_millis(750);
/// How long the last results wait at most between tries.
const FLUSH_PAUSE: Duration = Duration::from_millis(500);
const RELEASE_TRIES: u32 = 3;
const FAR: Duration = Duration::from_secs(3600);

/// Called for each result that was refused for good.
pub(crate) type OnRefused = Arc<dyn Fn(Refused) + Send + Sync>;

/// How the heartbeat thread ends.
pub(crate) type HeartEnd = oneshot::Receiver<Result<(), Error>>;

/// What the loop is started with.
pub(crate) struct DriverParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: AgentClient,
    pub(crate) handlers: HashMap<TaskType, Arc<dyn Handler>>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) outbox: Outbox,
    pub(crate) on_refused: Option<OnRefused>,
    /// Locked until the loop is through.
    pub(crate) data_dir: Option<Arc<DataDir>>,
    pub(crate) drain_grace: Duration,
    /// Whether the agent is pushed to.
    #[cfg(feature = "push")]
    pub(crate) takes_pushes: bool,
    pub(crate) stop: CancellationToken,
    pub(crate) heart_stop: CancellationToken,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    client: AgentClient,
    handlers: HashMap<TaskType, Arc<dyn Handler>>,
    transport: Box<dyn Transport>,
    running: Running,
    outbox: Outbox,
    delivery: Option<BoxFuture<'static, Delivered>>,
    /// Tasks on their way back, and whether the orchestrator took them.
    releases: JoinSet<(LeaseKey, bool)>,
    /// Until when releases wait for the orchestrator to hear that the agent stops.
    told_by: Option<Instant>,
    on_refused: Option<OnRefused>,
    access: watch::Receiver<Option<Arc<Access>>>,
    paused: watch::Receiver<bool>,
    output_told: watch::Receiver<u64>,
    link: Option<(Arc<Access>, AgentSession)>,
    report: Report,
    phase: Phase,
    _data_dir: Option<Arc<DataDir>>,
    drain_grace: Duration,
    #[cfg(feature = "push")]
    takes_pushes: bool,
    stop: CancellationToken,
    heart_end: HeartEnd,
    /// Also when the runtime drops this loop, the heartbeats are to end.
    heart: DropGuard,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Working,
    /// Taking nothing new; handlers are told to stop at the first time and given up at the second.
    Draining {
        cancel_at: Instant,
        give_up_at: Instant,
    },
    /// No handler is left; the last results are sent until then.
    Flushing {
        until: Instant,
    },
}

enum Wake {
    HeartEnded(Result<(), Error>),
    Stop,
    Access,
    Recovered,
    Paused,
    Timer,
    Ended(Joined),
    Released(LeaseKey, bool),
    Delivered(Delivered),
    Received(Received),
}

impl Driver {
    pub(crate) fn new(parts: DriverParts, heart_end: HeartEnd) -> Self {
        Self {
            running: Running::new(parts.shared.clone()),
            access: parts.shared.access.subscribe(),
            paused: parts.shared.paused.subscribe(),
            output_told: parts.shared.output_told.subscribe(),
            shared: parts.shared,
            client: parts.client,
            handlers: parts.handlers,
            transport: parts.transport,
            outbox: parts.outbox,
            delivery: None,
            releases: JoinSet::new(),
            told_by: None,
            on_refused: parts.on_refused,
            link: None,
            report: Report::default(),
            phase: Phase::Working,
            _data_dir: parts.data_dir,
            drain_grace: parts.drain_grace,
            #[cfg(feature = "push")]
            takes_pushes: parts.takes_pushes,
            stop: parts.stop,
            heart_end,
            heart: parts.heart_stop.drop_guard(),
        }
    }

    /// Works until told to stop, then hands back or reports everything, and says goodbye.
    pub(crate) async fn run(mut self) -> Result<Report, Error> {
        let mut progress = JoinSet::new();
        progress.spawn(send_reports(self.shared.clone(), self.client.clone()));
        // The heartbeat thread may have been quicker.
        self.reconnect(Instant::now());
        let outcome = loop {
            let now = Instant::now();
            self.advance(now).await;
            if self.is_through(now) {
                break Ok(());
            }
            let free = self.free_slots();
            let timer = self.next_timer(now);
            let wake = tokio::select! {
                biased;
                end = &mut self.heart_end => Wake::HeartEnded(heart_outcome(end)),
                () = self.stop.cancelled(), if matches!(self.phase, Phase::Working) => Wake::Stop,
                Ok(()) = self.access.changed() => Wake::Access,
                Ok(()) = self.paused.changed() => Wake::Paused,
                () = self.shared.recovered.notified() => Wake::Recovered,
                // The time for a handler to end begins with the next tick.
                () = self.shared.leases.stops.notified() => Wake::Timer,
                // A result may have waited for that.
                Ok(()) = self.output_told.changed() => Wake::Timer,
                () = sleep_until(timer.into()) => Wake::Timer,
                Some(joined) = self.running.join_next() => Wake::Ended(joined),
                Some(Ok((key, is_taken))) = self.releases.join_next() => Wake::Released(key, is_taken),
                delivered = answer(&mut self.delivery) => Wake::Delivered(delivered),
                received = self.transport.next(free) => Wake::Received(received),
            };
            let now = Instant::now();
            match wake {
                Wake::HeartEnded(outcome) => break outcome,
                Wake::Stop => self.start_draining(now),
                Wake::Access => self.reconnect(now),
                // What waited for the orchestrator to come back need wait no longer.
                Wake::Recovered => self.outbox.hurry(now),
                Wake::Paused => self.hand_back_while_paused(now),
                Wake::Timer => {}
                Wake::Ended(joined) => {
                    if let Some(conclusion) = self.running.conclude(joined, now) {
                        self.carry_out(conclusion, now).await;
                    }
                }
                Wake::Released(key, true) => {
                    self.shared.leases.finish(key);
                    self.report.released += 1;
                }
                Wake::Released(key, false) => self.shared.leases.remove(key),
                Wake::Delivered(delivered) => {
                    self.delivery = None;
                    self.settle(delivered, now).await;
                }
                Wake::Received(received) => self.receive(received, now).await,
            }
        };
        drop(progress);
        self.finish(outcome).await
    }

    /// Does what is due: timeouts, the drain's next step, the next delivery.
    async fn advance(&mut self, now: Instant) {
        for conclusion in self.running.tick(now) {
            self.carry_out(conclusion, now).await;
        }
        if let Phase::Draining { cancel_at, give_up_at } = self.phase {
            if now >= cancel_at {
                self.running.cancel_all(&CancelReason::Shutdown);
            }
            if now >= give_up_at {
                for conclusion in self.running.give_up_all(now) {
                    self.carry_out(conclusion, now).await;
                }
            }
            if self.running.is_idle() {
                self.outbox.hurry(now);
                let grace = self.drain_grace.clamp(FLUSH_GRACE.0, FLUSH_GRACE.1);
                self.outbox.hold_until_at_most(now + grace / 2);
                self.phase = Phase::Flushing { until: now + grace };
            }
        }
        for key in self.outbox.let_go(now, |key| self.shared.leases.is_output_told(key)) {
            warn!(task.id = %key.task, "the result goes ahead of output that the orchestrator did not take");
            self.shared.leases.give_up_output(key);
        }
        if let (None, Some((access, session))) = (&self.delivery, &self.link) {
            let (epoch, limit) = (access.epoch, access.max_result_bytes);
            self.outbox.replace_too_large(now, limit).await;
            if self.outbox.next_due().is_some_and(|due| due <= now) {
                let parcel = self.outbox.pack(now, limit);
                let session = session.clone().with_deadline(self.outbox.deadline());
                self.delivery = Some(Box::pin(deliver(session, epoch, parcel)));
            }
        }
    }

    fn is_through(&self, now: Instant) -> bool {
        let Phase::Flushing { until } = self.phase else { return false };
        now >= until || (self.outbox.is_empty() && self.releases.is_empty())
    }

    fn next_timer(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            Phase::Working => None,
            Phase::Draining { cancel_at, give_up_at } => Some(if now < cancel_at { cancel_at } else { give_up_at }),
            Phase::Flushing { until } => Some(until),
        };
        let can_deliver = self.delivery.is_none() && self.link.is_some();
        let due = if can_deliver { self.outbox.next_due() } else { None };
        [phase, due, self.running.next_tick()].into_iter().flatten().min().unwrap_or(now + FAR)
    }

    /// How many tasks to ask for.
    fn free_slots(&self) -> usize {
        // What an earlier process left is sent before the first poll (RELIABILITY.md G20).
        let is_taking =
            matches!(self.phase, Phase::Working) && !*self.paused.borrow() && !self.outbox.owes_a_first_try();
        if is_taking { self.room() } else { 0 }
    }

    /// How many more tasks the agent can hold. A task takes up its place until its result is
    /// answered, as the orchestrator counts it too.
    fn room(&self) -> usize {
        let taken = self.shared.leases.len().max(self.running.slots());
        (self.shared.max_tasks as usize).saturating_sub(taken)
    }

    fn start_draining(&mut self, now: Instant) {
        // A registration that was just made is still needed for the goodbye.
        self.reconnect(now);
        info!(running = self.running.slots(), unsent = self.outbox.len(), "the agent stops");
        let give_up_at = now + self.drain_grace;
        self.told_by = Some(now + TELLING);
        let cancel_at = give_up_at - STOPPING.min(self.drain_grace / 4);
        self.phase = Phase::Draining { cancel_at, give_up_at };
        self.transport.disconnect();
        self.shared.draining.store(true, Ordering::Relaxed);
        #[cfg(feature = "push")]
        {
            self.shared.counter.close();
            self.hand_back_untaken(now, "the agent stops");
        }
        self.shared.status.send_replace(Status::Draining);
        self.shared.nudge.notify_one();
    }

    /// What was pushed and nobody took up yet goes back.
    #[cfg(feature = "push")]
    fn hand_back_untaken(&mut self, now: Instant, why: &str) {
        for assignment in self.shared.counter.untaken() {
            let state = self.shared.leases.hold(&assignment, now, now, FAR);
            if let Some(state) = state {
                self.release(state.key, state.attempt, why, true);
            }
        }
    }

    /// An agent that is to take nothing new gives back what came just before and nobody took up.
    fn hand_back_while_paused(&mut self, now: Instant) {
        if *self.paused.borrow_and_update() {
            #[cfg(feature = "push")]
            self.hand_back_untaken(now, "the agent drains");
            #[cfg(not(feature = "push"))]
            let _ = now;
        }
    }

    /// Keeps a result until the orchestrator has it; whoever pushed the task and waits is told at once.
    async fn keep(&mut self, result: TaskResult, now: Instant) {
        let waits = self.shared.leases.close_output(key_of(&result));
        #[cfg(feature = "push")]
        if self.takes_pushes {
            self.shared.counter.finish(&result);
            if result.lease_id.is_none() {
                // An older orchestrator takes the answer, and no report.
                self.shared.leases.remove(key_of(&result));
                match result.status {
                    ResultStatus::Completed => self.report.completed += 1,
                    _ => self.report.failed += 1,
                }
                return;
            }
        }
        self.outbox.add(result, now).await;
        if waits {
            self.outbox.hold(now + LONGEST_HOLD);
            self.shared.progress.notify_one();
        }
    }

    fn reconnect(&mut self, now: Instant) {
        let access = self.access.borrow_and_update().clone();
        self.link = access.map(|access| {
            let session = access.session(&self.client);
            (access, session)
        });
        match &self.link {
            Some((access, session)) => {
                self.report.agent_id = Some(access.agent_id.clone());
                self.outbox.hurry(now);
                if matches!(self.phase, Phase::Working) {
                    self.transport.connect(access, session.clone());
                }
            }
            None => self.transport.disconnect(),
        }
    }

    async fn receive(&mut self, received: Received, now: Instant) {
        match received {
            Received::Unknown { epoch } => self.shared.refuse(epoch),
            Received::Tasks { assignments, asked } => {
                for assignment in assignments {
                    self.take(assignment, asked, now).await;
                }
                // The first renewal goes out on receipt (RELIABILITY.md G22).
                self.shared.nudge.notify_one();
            }
        }
    }

    async fn take(&mut self, assignment: Assignment, asked: Instant, now: Instant) {
        let lease = self.link.as_ref().map_or(FAR, |(access, _)| access.lease);
        let Some(state) = self.shared.leases.hold(&assignment, asked, now, lease) else {
            debug!(task.id = %assignment.task_id, "the assignment came again");
            #[cfg(feature = "push")]
            self.answer_repeat(LeaseKey::of(&assignment));
            return;
        };
        // The orchestrator counts no result that it has, even if its answer is still on the way.
        if self.running.slots() >= self.shared.max_tasks as usize {
            warn!(task.id = %assignment.task_id, "more tasks came than were asked for");
            self.release(state.key, state.attempt, "the agent has no room for it", false);
            return;
        }
        let handler = self.handlers.get(&assignment.task_type).or_else(|| self.only_handler()).cloned();
        match handler {
            Some(handler) => {
                debug!(task.id = %assignment.task_id, task_type = %assignment.task_type, "a task starts");
                self.running.start(handler, assignment, state, now);
            }
            None => {
                warn!(task.id = %assignment.task_id, task_type = %assignment.task_type, "no handler for the task");
                self.keep(unsupported(&assignment, &state), now).await;
            }
        }
    }

    /// Whoever pushed a task again and waits is told, unless its run will tell them.
    #[cfg(feature = "push")]
    fn answer_repeat(&self, key: LeaseKey) {
        if self.running.runs(key) {
            return;
        }
        match self.outbox.result(key) {
            Some(result) => self.shared.counter.finish(result),
            // It is on its way back, or nobody waits for it any more.
            None => self.shared.counter.give_up(key),
        }
    }

    /// A task that came by a capability carries another type: it can only be the single handler's.
    fn only_handler(&self) -> Option<&Arc<dyn Handler>> {
        let mut handlers = self.handlers.values();
        handlers.next().filter(|_| handlers.next().is_none())
    }

    async fn carry_out(&mut self, conclusion: Conclusion, now: Instant) {
        match conclusion {
            Conclusion::Report(result) => self.keep(*result, now).await,
            Conclusion::HandBack { key, attempt } => {
                self.release(key, attempt, "the agent stops", true);
            }
            Conclusion::Drop(key) => {
                #[cfg(feature = "push")]
                self.shared.counter.give_up(key);
                self.shared.leases.remove(key);
                self.report.cancelled += 1;
            }
        }
    }

    fn release(&mut self, key: LeaseKey, attempt: Option<u32>, reason: &str, draining: bool) {
        #[cfg(feature = "push")]
        self.shared.counter.give_up(key);
        self.shared.leases.give_up_output(key);
        let mut request = ReleaseRequest::new().with_reason(reason).with_draining(draining);
        request.lease_id = key.lease;
        request.attempt = attempt;
        let session = self.link.as_ref().map(|(_, session)| session.clone().with_deadline(LAST_CALL));
        let told_by = self.told_by.filter(|_| draining);
        let mut drain_told = self.shared.drain_told.subscribe();
        self.releases.spawn(async move {
            let Some(session) = session else { return (key, false) };
            if let Some(told_by) = told_by {
                // Without the answer by then, the task is better handed back than kept.
                let _ = timeout_at(told_by.into(), drain_told.wait_for(|told| *told)).await;
            }
            (key, hand_back(&session, key, &request).await)
        });
    }

    async fn settle(&mut self, delivered: Delivered, now: Instant) {
        let epoch = delivered.epoch;
        let shared = self.shared.clone();
        let settlement = self.outbox.settle(delivered, now, || shared.chance()).await;
        if matches!(self.phase, Phase::Flushing { .. }) {
            self.outbox.hurry_until(now + FLUSH_PAUSE);
        }
        if settlement.is_unknown {
            self.shared.refuse(epoch);
        }
        for settled in settlement.settled {
            match settled {
                Settled::Recorded(key, status) => {
                    self.shared.leases.finish(key);
                    match status {
                        ResultStatus::Completed => self.report.completed += 1,
                        _ => self.report.failed += 1,
                    }
                }
                Settled::Refused(key, refused) => {
                    let code = refused.problem.as_ref().map(|problem| problem.code.as_str());
                    warn!(task.id = %key.task, refused.status, code, "a result was refused for good");
                    self.shared.leases.remove(key);
                    self.report.refused += 1;
                    if let Some(on_refused) = &self.on_refused {
                        on_refused(*refused);
                    }
                }
            }
        }
    }

    async fn finish(mut self, outcome: Result<(), Error>) -> Result<Report, Error> {
        self.running.cancel_all(&CancelReason::Shutdown);
        self.running.let_go();
        #[cfg(feature = "push")]
        self.shared.counter.give_up_all();
        self.releases.abort_all();
        // First the heartbeats, which would register again after the goodbye.
        drop(self.heart);
        self.report.unsent = self.outbox.len() as u64;
        outcome?;
        if timeout(LAST_CALL, &mut self.heart_end).await.is_err() {
            debug!("the heartbeat thread takes its time to end");
        }
        // Leaving ends the leases, and a result that the next start could send would be refused.
        let keeps_results = self.outbox.is_durable() && !self.outbox.is_empty();
        if let (Some((_, session)), false) = (self.link, keeps_results) {
            let goodbye = Deregister::new().with_reason("the agent stops");
            if let Err(error) = session.with_deadline(LAST_CALL).deregister(&goodbye).await {
                debug!(error = &error as &dyn std::error::Error, "the goodbye was not answered");
            }
        }
        info!(report = %self.report, "the agent stopped");
        Ok(self.report)
    }
}

/// Hands a task back, and says whether that worked; after the last try its lease runs out by itself.
async fn hand_back(session: &AgentSession, key: LeaseKey, request: &ReleaseRequest) -> bool {
    for failures in 1..=RELEASE_TRIES {
        match session.release(key.task, request).await {
            Ok(_) => return true,
            Err(error) if error.is_definitive() => {
                debug!(task.id = %key.task, verdict = ?judge(&error), "the task was not the agent's to hand back");
                return false;
            }
            Err(_) => sleep(Duration::from_millis(100) * failures).await,
        }
    }
    false
}

fn heart_outcome(end: Result<Result<(), Error>, oneshot::error::RecvError>) -> Result<(), Error> {
    match end {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(panicked) => Err(Error::Heartbeat { source: panicked.into() }),
    }
}

/// Waits for the delivery that is on its way, if there is one; safe to drop, the delivery goes on.
async fn answer(delivery: &mut Option<BoxFuture<'static, Delivered>>) -> Delivered {
    match delivery {
        Some(delivery) => delivery.await,
        None => pending().await,
    }
}

/// Puts results of an earlier process into the outbox, and their leases among those to be renewed.
pub(crate) fn restore(outbox: &mut Outbox, shared: &Shared, left: Vec<TaskResult>, usual_lease: Duration) {
    let now = Instant::now();
    for result in left {
        #[cfg(feature = "push")]
        shared.counter.finish(&result);
        shared.leases.hold_result(key_of(&result), result.attempt, now, usual_lease);
        outbox.restore(result, now);
    }
}
