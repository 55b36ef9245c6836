//! The lifecycle manager: load, decide, commit, announce. The only writer.
//!
//! Every change to a task passes through [`Lifecycle::apply`] (or a claim, or the cancel of its session), every change to an
//! agent through `registration` or `standing`. What is decided is decided by `eap-core`; what is written is written with
//! the revision it was decided on, and decided again when another writer was faster.

mod artifacts;
mod batch;
mod callbacks;
mod credentials;
mod detached;
mod exchanges;
mod explain;
mod follow;
mod heartbeat;
mod inputs;
mod letters;
mod orders;
mod pages;
mod platform;
mod pushes;
mod reconcile;
mod registration;
mod results;
mod rotation;
mod submit;
mod sweep;
mod views;
mod work;
mod workflow;

use std::fmt;
use std::sync::Arc;

use eap_core::{BreakerTurn, Changed, Conclusion, RecordedResult, Refusal, Step, Task, TaskEvent};
use eap_types::{Artifact, AttemptOutcome, FailureCode, TaskId, TaskResult};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

pub(crate) use exchanges::Exchange;
pub(crate) use orders::Order;
pub(crate) use pages::page_limit;
pub(crate) use platform::{Noticed, Notified};
pub(crate) use pushes::has_agreed;
pub(crate) use registration::{Registering, Welcome};
pub use submit::ListTasks;
pub(crate) use submit::invalid;
pub(crate) use views::event_view;
pub use workflow::ListSessions;
pub(crate) use workflow::Start;

use self::exchanges::Exchanges;
use self::follow::Tail;
use self::platform::States;
use self::workflow::Beginnings;
use crate::agentkit::{PlatformSecrets, RefusalLog};
use crate::announce::Announcements;
use crate::artifacts::Shelf;
use crate::auth::{Keyring, Seal};
use crate::canary;
use crate::clock::{Clock, Entropy, draw_chance};
use crate::config::{Config, Tls};
use crate::directory::Directory;
use crate::error::Error;
use crate::guard::Guard;
use crate::leases::LeaseBook;
use crate::metrics::{EventTally, Metrics};
use crate::outbound::OutboundCall;
#[cfg(feature = "outbound")]
use crate::outbound::SocketCall;
use crate::store::{
    Change, Decide, Demand, LateResultRow, Repository, ResultRow, StoreError, Stored, TaskWrite, events_of,
};

/// How often a decision is made anew because another writer was faster.
const MAX_CONFLICTS: usize = 16;

/// Lets a writer that was faster announce what it committed, before its record is looked up in memory again.
async fn stand_aside(turn: usize) {
    if turn > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(turn as u64)).await;
    }
}

/// The lifecycle manager; shared by everything that reads or changes tasks and agents.
pub(crate) struct Lifecycle {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Repository>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) directory: Directory,
    pub(crate) keys: Keyring,
    /// What the webhooks of an agent platform are signed with.
    pub(crate) platform_secrets: PlatformSecrets,
    /// What was told lately of calls of that platform that were refused.
    pub(crate) refusals: RefusalLog,
    /// Hides what the server has to be able to read again.
    seal: Seal,
    pub(crate) leases: LeaseBook,
    /// Pushes that wait for their answer.
    pub(crate) exchanges: Exchanges,
    pub(crate) announcements: Announcements,
    /// How far the other replicas are followed; `None` where there can be none.
    tail: Option<Tail>,
    /// How agents of a platform are.
    pub(crate) states: States,
    /// Workflows that no agent has begun with.
    beginnings: Beginnings,
    pub(crate) metrics: Metrics,
    /// Writes under way, so that stopping can wait for them.
    pub(crate) under_way: TaskTracker,
    /// The orchestrator is asked to stop: whoever waits for news gives up.
    pub(crate) stop: CancellationToken,
    /// Which endpoints are called.
    pub(crate) guard: Arc<Guard>,
    /// Where uploads are kept, if any are taken.
    pub(crate) artifacts: Option<Arc<Shelf>>,
    /// What calls them, unless this server calls nobody.
    pub(crate) outbound: Option<Arc<dyn OutboundCall>>,
    /// Lets the core decide each lease.
    decide: Arc<Decide>,
    writes: Arc<Semaphore>,
    failure: watch::Sender<Option<String>>,
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Which part of the write capacity a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// New work: refused first when the server is full.
    New,
    /// Heartbeats, results and whatever else finishes work: all of it.
    Running,
}

/// What an event did to a task.
#[derive(Debug)]
struct Applied {
    task: Task,
    duplicate: bool,
}

impl Lifecycle {
    pub(crate) fn new(
        config: Config,
        store: Arc<dyn Repository>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Metrics,
        outbound: Option<Arc<dyn OutboundCall>>,
        artifacts: Option<Arc<Shelf>>,
    ) -> Self {
        let keys = Keyring::of(&config);
        let seal = Seal::of(config.sealing_key.as_ref(), &*entropy);
        let guard = Arc::new(Guard::new(config.endpoints.clone(), config.tls == Tls::BehindProxy));
        #[cfg(feature = "outbound")]
        let outbound = outbound.or_else(|| Some(Arc::new(SocketCall::new(Arc::clone(&guard)))));
        let writes = Arc::new(Semaphore::new(config.capacity.writes));
        let platform_secrets = PlatformSecrets::new(config.agentkit.as_ref());
        let tail = store.is_shared().then(Tail::default);
        let decide = work::decider(config.tasks.clone(), Arc::clone(&entropy));
        Self {
            config,
            store,
            clock,
            entropy,
            decide,
            keys,
            platform_secrets,
            refusals: RefusalLog::default(),
            seal,
            directory: Directory::default(),
            leases: LeaseBook::default(),
            announcements: Announcements::new(crate::store::EventSeq(0)),
            tail,
            metrics,
            exchanges: Exchanges::default(),
            states: States::default(),
            beginnings: Beginnings::default(),
            under_way: TaskTracker::new(),
            guard,
            artifacts,
            outbound,
            writes,
            stop: CancellationToken::new(),
            failure: watch::Sender::new(None),
        }
    }

    /// Tells when the store has failed for good, and why.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Loads a task, decides, commits, announces; again while other writers are faster.
    ///
    /// `reported` is the body behind a report: it becomes the task's result, or a late result.
    async fn apply(&self, id: TaskId, event: &TaskEvent, reported: Option<&TaskResult>) -> Result<Applied, Error> {
        for _ in 0..MAX_CONFLICTS {
            let stored = self.store.task(id).await?.ok_or(Error::UnknownTask)?;
            match self.apply_to(stored, event.clone(), reported).await {
                Err(Error::Store(StoreError::Conflict { .. })) => {}
                answer => return answer,
            }
        }
        Err(Error::Busy { reason: "other writers kept changing the task" })
    }

    /// One try of [`apply`](Self::apply), on a record that was read already.
    async fn apply_to(
        &self,
        stored: Stored<Task>,
        event: TaskEvent,
        reported: Option<&TaskResult>,
    ) -> Result<Applied, Error> {
        let Stored { record: task, revision, now } = stored;
        let name = event.name();
        match task.apply(event, now, &self.config.tasks) {
            Ok(Step::Changed(changed)) => {
                if let Some(result) = reported {
                    self.check_uploads(&task, result).await?;
                }
                let ended = Conclusion::of(&task, &changed.state);
                let (task, mut change) = written(&task, revision, *changed, now, reported);
                let onward = self.carry_on(&task, reported, &mut change).await?;
                let has_callback = !change.callbacks.is_empty();
                self.commit(change).await?;
                if has_callback {
                    self.announcements.callback_became_due();
                }
                debug!(task.id = %task.id(), event = name, status = %task.status(), "task changed");
                self.tell(&task, ended.as_ref(), now);
                if let Some(onward) = onward {
                    self.went_on(onward);
                }
                Ok(Applied { task, duplicate: false })
            }
            Ok(Step::Duplicate) => Ok(Applied { task, duplicate: true }),
            Ok(_) => Ok(Applied { task, duplicate: false }),
            Err(refusal) => {
                if let Some(result) = reported {
                    self.keep_late_result(&task, &refusal, result, now).await?;
                }
                Err(Error::refused(&task, refusal))
            }
        }
    }

    /// Tells what a commit did to a task, and to the attempt that ended with it.
    fn tell(&self, task: &Task, ended: Option<&Conclusion>, now: eap_types::Timestamp) {
        // Before anybody is told that the agent has room again.
        if let Some(ended) = ended {
            self.judge(ended, now);
        }
        self.announce(task);
    }

    /// Takes the end of an attempt into its agent's track record.
    fn judge(&self, ended: &Conclusion, now: eap_types::Timestamp) {
        match self.directory.conclude(ended, now, &self.config.breaker) {
            Some(BreakerTurn::Opened { until }) => {
                warn!(agent.id = %ended.agent, %until, "an agent keeps failing and gets no work for a while");
            }
            Some(BreakerTurn::Closed) => {
                info!(agent.id = %ended.agent, "an agent's trial went well; it gets work again");
            }
            None => {}
        }
    }

    /// Keeps a report that came too late as evidence (G9); it changes nothing.
    async fn keep_late_result(
        &self,
        task: &Task,
        refusal: &Refusal,
        result: &TaskResult,
        now: eap_types::Timestamp,
    ) -> Result<(), Error> {
        let (Refusal::LeaseLost { attempt: Some(number) } | Refusal::TaskFinal { attempt: Some(number), .. }) = refusal
        else {
            return Ok(());
        };
        // An attempt that still runs may yet report: what came now was not its own result.
        let ended = task.attempt(*number).filter(|attempt| attempt.outcome != AttemptOutcome::Open);
        let Some(attempt) = ended else { return Ok(()) };
        if result.artifacts.iter().any(Artifact::is_stored) {
            return Err(invalid("body.artifacts", "A late result cannot name uploads: they went with its attempt."));
        }
        let note = eap_core::Note {
            attempt: Some(*number),
            agent: Some(attempt.agent.clone()),
            message: Some(format!("{refusal}; result {} kept as evidence", eap_core::ResultDigest::of(result))),
            ..eap_core::Note::of(eap_core::NoteKind::LateResult)
        };
        info!(task.id = %task.id(), attempt = number, agent.id = %attempt.agent, "late result");
        let late = LateResultRow {
            task: task.id(),
            attempt: *number,
            agent: attempt.agent.clone(),
            received_at: now,
            result: result.clone(),
        };
        let events = events_of(task, &[note], now);
        self.commit(Change { late_results: vec![late], events, ..Change::default() }).await?;
        Ok(())
    }

    /// Commits a new task, and leases it in the same commit to somebody who waits for it. Says whether that went so;
    /// who gets other tasks in its stead was announced.
    async fn commit_new(&self, task: &Task, change: Change) -> Result<bool, StoreError> {
        let Some(taker) = self.announcements.taker(task) else {
            self.commit(change).await?;
            return Ok(false);
        };
        let events = EventTally::of(&change.events);
        let demand = Demand { asks: taker.asks() };
        match self.store.commit_and_claim(change, demand, Arc::clone(&self.decide)).await {
            Ok(claims) => {
                self.metrics.events.count(&events);
                self.announcements.committed(claims.head);
                let claimed = self.claimed(claims);
                let is_taken = claimed.iter().flat_map(|claimed| &claimed.tasks).any(|taken| taken.id() == task.id());
                taker.take(Ok(claimed));
                Ok(is_taken)
            }
            // Nothing was written: the taker waits on.
            Err(error @ (StoreError::Conflict { .. } | StoreError::Duplicate { .. } | StoreError::Full { .. })) => {
                self.read_again(&error).await;
                Err(error)
            }
            Err(error) => {
                // The lease may be written: with a repeat of its request, the taker finds out.
                taker.take(Err(Error::Broken));
                Err(self.noticed(error))
            }
        }
    }

    /// Commits, and tells those who wait for events.
    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let events = EventTally::of(&change.events);
        match self.store.commit(change).await {
            Ok(committed) => {
                self.metrics.events.count(&events);
                self.announcements.committed(committed.head);
                Ok(())
            }
            Err(StoreError::Unavailable { .. }) if canary::sings("failed-commit-is-success") => Ok(()),
            Err(error) => {
                self.read_again(&error).await;
                Err(self.noticed(error))
            }
        }
    }

    /// How many writes are being carried out.
    pub(crate) fn writes_under_way(&self) -> usize {
        self.config.capacity.writes.saturating_sub(self.writes.available_permits())
    }

    /// Remembers an error after which the store cannot be trusted: the server has to stop (G6).
    pub(crate) fn noticed(&self, error: StoreError) -> StoreError {
        if let StoreError::Failed { source } = &error {
            self.failed(format!("the store has failed: {source}"));
        }
        error
    }

    /// The orchestrator cannot go on: whoever runs it is told why.
    pub(crate) fn failed(&self, reason: String) {
        error!(reason, "the orchestrator has failed");
        self.failure.send_replace(Some(reason));
    }

    /// Tells those who wait what became of a task, once that is committed.
    pub(crate) fn announce(&self, task: &Task) {
        if let Some(agent) = self.leases.note(task) {
            self.announcements.agent_freed(&agent);
        }
        self.announcements.task_changed(task);
    }

    fn chance(&self) -> eap_core::Chance {
        draw_chance(&*self.entropy)
    }
}

/// The record that follows from a change, and the commit that writes it.
fn written(
    task: &Task,
    revision: crate::store::Revision,
    changed: Changed,
    now: eap_types::Timestamp,
    reported: Option<&TaskResult>,
) -> (Task, Change) {
    let Changed { state, notes, result } = changed;
    let before = task;
    let task = Task { spec: Arc::clone(&before.spec), state };
    let result = result.and_then(|recorded| {
        let (attempt, result) = match recorded {
            RecordedResult::Reported { attempt, .. } => (attempt, reported?.clone()),
            RecordedResult::ServerMade { attempt, code, message } => {
                (attempt, server_made(task.id(), attempt, code, message))
            }
            _ => return None,
        };
        Some(ResultRow { task: task.id(), attempt, recorded_at: now, result })
    });
    let change = Change {
        events: events_of(&task, &notes, now),
        tasks: vec![TaskWrite::Update { task: task.clone(), revision }],
        results: result.into_iter().collect(),
        callbacks: callbacks::callback_due(before, &task, now).into_iter().collect(),
        ..Change::default()
    };
    (task, change)
}

/// The result of an attempt that the server ended.
fn server_made(task: TaskId, attempt: u32, code: FailureCode, message: String) -> TaskResult {
    let mut result = TaskResult::failed(task, code, message);
    result.attempt = Some(attempt);
    result
}
