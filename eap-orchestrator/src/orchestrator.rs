//! The orchestrator as its host sees it: build, start, call, serve, shut down.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eap_types::{
    AgentDetail, AgentId, AgentPage, DecodeError, IdempotencyKey, IncomingTasks, SubmitBatch, SubmitTask,
    TaskExplanation, TaskHistory, TaskId, TaskPage, TaskType, TaskTypeView, TaskView, from_json,
};
use futures_util::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::announce::lock;
use crate::auth::Operator;
use crate::builder::Builder;
use crate::config::Config;
use crate::error::{Error, StartError, causes};
use crate::events::{EventFilter, Events};
use crate::lifecycle::{Lifecycle, ListTasks, page_limit};
use crate::matchmaker::{Matching, Matchmaker};
use crate::socket::Sockets;
use crate::store::{EventSeq, Repository};

/// An orchestrator: takes tasks, hands them to agents, keeps their results.
///
/// Cheap to clone; all clones are the same orchestrator. Lives in your process: call it directly, mount
/// [`router`](Self::router) in your axum app, or let it [`serve`](Self::serve) a listener itself.
///
/// ```
/// use std::sync::Arc;
/// use eap_orchestrator::{Access, Config, Operator, Orchestrator};
/// use eap_types::{SubmitTask, TaskStatus};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let orchestrator = Orchestrator::builder_in_memory().access(Access::Open).build()?;
/// orchestrator.start().await?;
/// let task = SubmitTask::text("word_count".parse()?, "to be or not to be");
/// let task = orchestrator.submit(&Operator::host(), task, None).await?;
/// assert_eq!(task.status, TaskStatus::Queued);
/// orchestrator.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Orchestrator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lifecycle: Arc<Lifecycle>,
    matchmaker: Matchmaker,
    idle: Mutex<Option<Matching>>,
    starting: tokio::sync::Mutex<()>,
    loops: TaskTracker,
    /// Room for bodies being received, in KiB.
    bodies: Semaphore,
    /// Places for streams of events.
    watchers: Arc<Semaphore>,
    /// WebSockets of agents.
    sockets: Arc<Sockets>,
    ready: tokio::sync::watch::Sender<bool>,
}

/// A running orchestrator; tells when its store has failed.
#[derive(Debug)]
pub struct Running {
    failure: tokio::sync::watch::Receiver<Option<String>>,
}

impl Running {
    /// Waits until the store has failed so that the orchestrator must stop, and says what it said. Pending for ever
    /// while all is well.
    pub async fn failed(&mut self) -> String {
        match self.failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// What a shutdown left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that were cut because they did not end in time.
    pub connections_cut: usize,
    /// Whether a write was still under way when the time was over.
    pub writes_cut: bool,
    /// Tasks that agents hold: they go on, and report after the next start.
    pub tasks_held: usize,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connections_cut {
            0 => f.write_str("all calls were answered")?,
            1 => f.write_str("1 connection was cut")?,
            cut => write!(f, "{cut} connections were cut")?,
        }
        if self.writes_cut {
            f.write_str("; writes were still under way")?;
        }
        match self.tasks_held {
            0 => Ok(()),
            1 => f.write_str("; 1 task is still with its agent"),
            held => write!(f, "; {held} tasks are still with their agents"),
        }
    }
}

impl Orchestrator {
    /// Begins an orchestrator over a store that is open.
    #[must_use]
    pub fn builder(store: Arc<dyn Repository>) -> Builder {
        Builder::over(Some(store))
    }

    /// Begins an orchestrator that keeps everything in memory: for tests and trials.
    #[must_use]
    pub fn builder_in_memory() -> Builder {
        Builder::over(None)
    }

    pub(crate) fn new(lifecycle: Lifecycle) -> Self {
        let lifecycle = Arc::new(lifecycle);
        let (matchmaker, matching) = Matchmaker::new(Arc::clone(&lifecycle));
        let bodies = Semaphore::new(lifecycle.config.capacity.bodies_bytes / 1024);
        let watchers = Arc::new(Semaphore::new(lifecycle.config.capacity.watchers));
        let sockets = Arc::new(Sockets::new(Arc::clone(&lifecycle)));
        let shared = Shared {
            lifecycle,
            matchmaker,
            idle: Mutex::new(Some(matching)),
            starting: tokio::sync::Mutex::new(()),
            loops: TaskTracker::new(),
            bodies,
            watchers,
            sockets,
            ready: tokio::sync::watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Loads what the store has, gives running leases their fresh start, and begins to work.
    ///
    /// [`serve`](Self::serve) does this itself. Where a host does it before, the endpoint policy `auto` does not know yet
    /// who can reach the server: an agent on loopback that is due for a push is then suspended by the policy.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or it was started before.
    pub async fn start(&self) -> Result<Running, StartError> {
        let _alone = self.shared.starting.lock().await;
        if self.is_started() {
            return Err(StartError::Running);
        }
        let lifecycle = &self.shared.lifecycle;
        if lifecycle.store.is_shared() && lifecycle.config.sealing_key.is_none() {
            return Err(StartError::NoSealingKey);
        }
        // Nothing is taken before this is done: a start that failed or was given up can be repeated.
        lifecycle.load().await.map_err(|error| match error {
            Error::Store(store) => StartError::Store(store),
            other => StartError::StoreFailed { reason: other.to_string() },
        })?;
        lifecycle.keep_configured().await.map_err(|error| match error {
            Error::Store(store) => StartError::Store(store),
            other => StartError::Workflows { reason: causes(&other) },
        })?;
        let Some(matching) = lock(&self.shared.idle).take() else { return Err(StartError::Running) };
        self.keep_running("matchmaker", matching.run(lifecycle.stop.clone()));
        self.keep_running("sweeper", crate::sweeper::run(Arc::clone(lifecycle), lifecycle.stop.clone()));
        self.keep_running("workflows", Arc::clone(lifecycle).follow_beginnings());
        if lifecycle.store.is_shared() {
            let following = Arc::clone(lifecycle);
            self.keep_running("tail", async move { following.follow().await });
            self.keep_running("sockets", Arc::clone(&self.shared.sockets).follow());
        }
        self.begin_pushes();
        if lifecycle.config.agentkit.as_ref().is_some_and(|face| face.url.is_some()) && lifecycle.outbound.is_some() {
            self.keep_running("reconcile", Arc::clone(lifecycle).reconcile_at_start());
        }
        self.begin_callbacks().await?;
        self.shared.ready.send_replace(true);
        info!("the orchestrator is ready");
        Ok(Running { failure: lifecycle.failure() })
    }

    /// Brings tasks to agents that serve, if this server can.
    fn begin_pushes(&self) {
        let lifecycle = &self.shared.lifecycle;
        let Some(outbound) = lifecycle.outbound.clone() else {
            if lifecycle.reaches_platform() {
                warn!("nothing goes to the agent platform: this build calls nobody, it lacks the feature `outbound`");
            }
            return;
        };
        let matchmaker = self.shared.matchmaker.clone();
        let pushing = crate::push::run(Arc::clone(lifecycle), matchmaker, outbound, lifecycle.stop.clone());
        self.keep_running("push", pushing);
    }

    /// Brings what is due, if this server can: without a secret it waits in the store for one.
    async fn begin_callbacks(&self) -> Result<(), StartError> {
        let lifecycle = &self.shared.lifecycle;
        match &lifecycle.outbound {
            Some(outbound) if !lifecycle.config.callbacks.secrets.is_empty() => {
                let (lifecycle, outbound) = (Arc::clone(lifecycle), Arc::clone(outbound));
                let stop = lifecycle.stop.clone();
                self.keep_running("courier", crate::courier::run(lifecycle, outbound, stop));
            }
            _ if !lifecycle.store.callbacks(None, 1).await?.is_empty() => {
                warn!("callbacks are due, and callbacks.secrets has none to sign them with: they wait");
            }
            _ => {}
        }
        Ok(())
    }

    /// Runs a loop of the orchestrator's own; one that panics takes the orchestrator down instead of leaving it half
    /// alive.
    fn keep_running(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        self.shared.loops.spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                lifecycle.failed(format!("the {name} panicked"));
            }
        });
    }

    /// Takes no new work, ends long polls, waits for writes that are under way, closes the store.
    ///
    /// Safe to call twice; the second call waits as well.
    pub async fn shutdown(&self) -> ShutdownReport {
        self.shutdown_within(self.config().timing.shutdown_grace).await
    }

    pub(crate) async fn shutdown_within(&self, grace: Duration) -> ShutdownReport {
        self.begin_stop();
        let lifecycle = &self.shared.lifecycle;
        self.shared.loops.close();
        lifecycle.under_way.close();
        let finished = async {
            self.shared.loops.wait().await;
            lifecycle.under_way.wait().await;
        };
        let in_time = tokio::time::timeout(grace, finished).await.is_ok();
        if let Err(error) = lifecycle.store.close().await {
            tracing::warn!(%error, "the store did not close as it should");
        }
        ShutdownReport { connections_cut: 0, writes_cut: !in_time, tasks_held: lifecycle.leases.total() }
    }

    pub(crate) fn begin_stop(&self) {
        self.shared.lifecycle.stop.cancel();
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.shared.lifecycle.stop
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Waits until it is ready.
    #[cfg(feature = "testing")]
    pub(crate) async fn until_ready(&self) {
        self.shared.ready.subscribe().wait_for(|ready| *ready).await.expect("this orchestrator holds the sender");
    }

    pub(crate) fn is_started(&self) -> bool {
        lock(&self.shared.idle).is_none()
    }

    pub(crate) fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.shared.lifecycle
    }

    pub(crate) fn matchmaker(&self) -> &Matchmaker {
        &self.shared.matchmaker
    }

    pub(crate) fn bodies(&self) -> &Semaphore {
        &self.shared.bodies
    }

    /// The configuration it was built with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.lifecycle.config
    }

    /// Takes a task in; when this returns it is kept (G1).
    ///
    /// With a key, repeating the call gives the task that the first one made.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a task that could never run, [`Error::IdempotencyConflict`] for a key used with another
    /// body, [`Error::Busy`] when the server is full, [`Error::Store`] when nothing can be kept.
    pub async fn submit(
        &self,
        operator: &Operator,
        task: SubmitTask,
        key: Option<IdempotencyKey>,
    ) -> Result<TaskView, Error> {
        self.lifecycle().submit(operator, checked(&task)?, key, None).await
    }

    /// Checks a task as [`submit`](Self::submit) does and gives it its id, and keeps nothing: a host takes it in within a
    /// transaction of its own, by [`PostgresStore::enqueue`](crate::store::PostgresStore::enqueue).
    ///
    /// What depends on the time is checked now: a task that expires before that transaction is committed is taken in, and
    /// dies without an attempt.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a task that could never run.
    #[cfg(feature = "postgres")]
    #[allow(clippy::needless_pass_by_value, reason = "a task is given as to a submit")]
    pub fn prepare(&self, operator: &Operator, task: SubmitTask) -> Result<crate::store::NewTask, Error> {
        self.lifecycle().prepare(operator, checked(&task)?)
    }

    /// Takes several tasks in, 1 to 1000, in one commit; the outcomes come in their order.
    ///
    /// A task that breaks a rule is an outcome, [`Error::Invalid`], and does not hold up the others. With a key,
    /// repeating the call gives the ids that the first one gave.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), for the batch as a whole.
    pub async fn submit_batch(
        &self,
        operator: &Operator,
        tasks: impl IntoIterator<Item = SubmitTask>,
        key: Option<IdempotencyKey>,
    ) -> Result<Vec<Result<TaskId, Error>>, Error> {
        let body = serde_json::to_vec(&SubmitBatch::new(tasks)).map_err(|_| Error::Broken)?;
        let batch: IncomingTasks = from_json(&body).map_err(unreadable)?;
        let entries = batch.entries.into_iter().map(|entry| entry.task).collect();
        self.lifecycle().submit_batch(operator, entries, key, None).await
    }

    /// One task as it stands, with its result if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`] if there is none of this id for this operator.
    pub async fn get(&self, operator: &Operator, id: TaskId) -> Result<TaskView, Error> {
        self.lifecycle().task_view(operator, id).await
    }

    /// The same once it is final, or as it stands when `wait` is over or the orchestrator stops.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn wait(&self, operator: &Operator, id: TaskId, wait: Duration) -> Result<TaskView, Error> {
        tokio::select! {
            view = self.lifecycle().wait(operator, id, wait) => view,
            () = self.stopping().cancelled() => self.get(operator, id).await,
        }
    }

    /// Ends a task for good; its holder is told on its next channel. Ending it again gives the same answer.
    ///
    /// # Errors
    ///
    /// [`Error::TaskFinal`] if it ended otherwise.
    pub async fn cancel(&self, operator: &Operator, id: TaskId, reason: Option<String>) -> Result<TaskView, Error> {
        self.lifecycle().cancel(operator, id, reason).await
    }

    /// A page of tasks, newest first, without their results.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit out of range or a cursor that is none.
    pub async fn list(&self, operator: &Operator, list: ListTasks) -> Result<TaskPage, Error> {
        self.lifecycle().list(operator, list, false).await
    }

    /// A page of dead letters, in the order and with the choices of [`list`](Self::list): tasks that failed for good
    /// or died, and that nobody requeued or discarded.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn dead_letters(&self, operator: &Operator, list: ListTasks) -> Result<TaskPage, Error> {
        self.lifecycle().list(operator, list, true).await
    }

    /// Does a dead letter again, by a new task that is asked the same and linked with it both ways. Doing so twice gives
    /// the task that the first call made, as it now is.
    ///
    /// # Errors
    ///
    /// [`Error::NotDeadLetter`] if it did neither fail for good nor die, [`Error::LetterDiscarded`] if it was discarded.
    pub async fn requeue(&self, operator: &Operator, id: TaskId) -> Result<TaskView, Error> {
        Ok(self.lifecycle().requeue(operator, id).await?.task)
    }

    /// Takes a dead letter off the list; the task stays readable until it is purged. What is off the list already stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotDeadLetter`] if it did neither fail for good nor die.
    pub async fn discard(&self, operator: &Operator, id: TaskId) -> Result<(), Error> {
        self.lifecycle().discard(operator, id).await
    }

    /// Everything that happened to a task: attempts, late results, events.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn history(&self, operator: &Operator, id: TaskId) -> Result<TaskHistory, Error> {
        self.lifecycle().history(operator, id).await
    }

    /// Why a task is where it is: every agent of its tenant, measured against it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn explain(&self, operator: &Operator, id: TaskId) -> Result<TaskExplanation, Error> {
        let measured = self.lifecycle().measure(operator, id).await?;
        let agents = measured.agents();
        // Before the start there is nobody who could tell, and nobody waits.
        let waiting = match agents.is_empty() || !self.is_started() {
            true => HashSet::new(),
            false => self.matchmaker().waiting(agents, measured.key()),
        };
        Ok(self.lifecycle().explanation(measured, &waiting))
    }

    /// Events after `after`, as they come; `EventSeq(0)` begins with the oldest kept.
    #[must_use]
    pub fn events(&self, operator: &Operator, after: EventSeq) -> Events {
        self.watch(operator, after, EventFilter::default())
    }

    pub(crate) fn watch(&self, operator: &Operator, after: EventSeq, filter: EventFilter) -> Events {
        Events::after(Arc::clone(self.lifecycle()), operator.tenant, after, filter)
    }

    /// A place among the streams of events that are open.
    pub(crate) fn place_for_watcher(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.shared.watchers).try_acquire_owned();
        place.map_err(|_| Error::Busy { reason: "too many streams of events are open" })
    }

    pub(crate) fn sockets(&self) -> &Arc<Sockets> {
        &self.shared.sockets
    }

    /// What the agents that do tasks of one type take as input, as far as they say.
    pub fn task_type(&self, operator: &Operator, task_type: &TaskType) -> TaskTypeView {
        self.lifecycle().task_type_view(operator, task_type)
    }

    /// A page of agents, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit out of range or a cursor that is none.
    pub fn agents(&self, operator: &Operator, cursor: Option<&str>, limit: Option<usize>) -> Result<AgentPage, Error> {
        let limit = page_limit(limit)?;
        let entries = self.lifecycle().directory.of_tenant(operator.tenant);
        let begin = match cursor {
            None => 0,
            Some(cursor) => {
                let last = entries.iter().position(|entry| entry.agent.id.as_str() == cursor);
                last.ok_or_else(|| crate::lifecycle::invalid("query.cursor", "This agent is gone; begin anew."))? + 1
            }
        };
        let rest = &entries[begin..];
        let page = &rest[..rest.len().min(limit)];
        let next = page.last().filter(|_| rest.len() > limit).map(|entry| entry.agent.id.to_string());
        let views = page.iter().map(|entry| self.lifecycle().agent_view(entry)).collect();
        Ok(AgentPage::new(views, next))
    }

    /// One agent with its leases.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownAgent`] if there is none of this id for this operator.
    pub fn agent(&self, operator: &Operator, id: &AgentId) -> Result<AgentDetail, Error> {
        let entry = self.lifecycle().directory.get(id).filter(|entry| entry.agent.tenant == operator.tenant);
        entry.map(|entry| self.lifecycle().agent_detail(&entry)).ok_or(Error::UnknownAgent)
    }

    /// What the orchestrator counts of itself, as the text that Prometheus reads (docs/metrics.md). The task types of
    /// the operator's own tenant are told by name, those of others together.
    ///
    /// It comes even if the store does not answer, without what the store alone knows.
    pub async fn metrics(&self, operator: &Operator) -> String {
        self.lifecycle().metrics.page(self.lifecycle(), operator.tenant).await
    }

    /// The whole HTTP API under its own paths (`/api/v1/…`, `/health`), to be served or nested in an axum app at any
    /// prefix.
    ///
    /// Limits on connections (slow headers, idle ones, floods) hold under [`serve`](Self::serve) alone: a host that
    /// mounts the router sets its own. It must also choose who may call without a key, see
    /// [`Access`](crate::Access): the router cannot know its listener.
    pub fn router(&self) -> axum::Router {
        crate::http::router(self.clone())
    }

    /// `GET /metrics` alone, for Prometheus (docs/metrics.md): [`router`](Self::router) leaves it out, so that a host
    /// can keep it to another port or path. It takes the same keys; [`serve`](Self::serve) serves both.
    pub fn metrics_router(&self) -> axum::Router {
        crate::http::metrics_router(self.clone())
    }

    /// The route `/.well-known/eap` alone, for a host that nests [`router`](Self::router) behind `prefix` and serves
    /// this at its own root, where those who look for it look.
    ///
    /// `prefix` is the path given to axum's `nest`; a configured `public_url` goes before it.
    pub fn well_known(&self, prefix: &str) -> axum::Router {
        crate::http::well_known_router(self.clone(), prefix)
    }

    /// The description of agents' WebSockets in AsyncAPI 3.0, indented for people.
    #[must_use]
    pub fn asyncapi() -> String {
        format!("{:#}\n", crate::socket::asyncapi_document())
    }

    /// The description of the HTTP API in OpenAPI 3.1: the text of `/openapi.json`, indented for people.
    #[must_use]
    pub fn openapi() -> String {
        format!("{:#}\n", crate::http::openapi_document())
    }

    /// Serves the API on `listener` until `stop` is done, then shuts down.
    ///
    /// Starts the orchestrator if that was not done yet. Ends early, with an error, if the store fails (G6).
    ///
    /// # Errors
    ///
    /// [`StartError::Exposed`] if others can reach the listener and a key, the registration secret or the decision on
    /// TLS is missing; any other reason not to start.
    pub async fn serve<L>(
        &self,
        listener: L,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<ShutdownReport, StartError>
    where
        L: axum::serve::Listener<Addr = std::net::SocketAddr>,
    {
        crate::serve::serve(self, listener, stop).await
    }
}

/// A task by the same rules as over the wire, from the one place that has them.
fn checked(task: &SubmitTask) -> Result<SubmitTask, Error> {
    let body = serde_json::to_vec(task).map_err(|_| Error::Broken)?;
    from_json(&body).map_err(unreadable)
}

/// Why a body that a host gave breaks the rules of the wire.
fn unreadable(error: DecodeError) -> Error {
    match error {
        DecodeError::Invalid { problems } => Error::Invalid { problems },
        unreadable => Error::Unreadable(unreadable),
    }
}
