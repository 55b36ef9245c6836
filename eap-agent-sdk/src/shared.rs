//! What the driver, the heartbeat thread and the handlers of one agent share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use eap_client::{AgentClient, AgentSession};
use eap_core::Chance;
use eap_types::{
    AgentId, CancelCause, Directive, DirectiveId, DirectiveKind, Endpoints, RequestId, Secret, TaskId, WorkLoop,
};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::agent::Status;
use crate::chance::{Clock, Entropy};
use crate::leases::{LeaseKey, Leases};

/// So many fit into a heartbeat; the orchestrator repeats what was not acknowledged.
const MAX_ACKS: usize = 64;

/// What a registration gave.
#[derive(Debug)]
pub(crate) struct Access {
    /// Rises with each token of this process.
    pub(crate) epoch: u64,
    pub(crate) agent_id: AgentId,
    pub(crate) token: Secret,
    pub(crate) endpoints: Option<Endpoints>,
    /// How long a lease lasts when an answer does not say.
    pub(crate) lease: Duration,
    pub(crate) interval: Duration,
    pub(crate) max_result_bytes: usize,
    /// The largest artifact that may be sent ahead of its result, if any may.
    pub(crate) max_artifact_bytes: Option<u64>,
    /// Whether a WebSocket was agreed on.
    #[cfg(feature = "websocket")]
    pub(crate) serves_sockets: bool,
    /// What pushes are signed with: the newest secret, and the one before, which a push on its way may bear.
    #[cfg(feature = "push")]
    pub(crate) push_secrets: Vec<eap_types::webhook::SigningSecret>,
}

impl Access {
    /// The same with another token.
    pub(crate) fn with_token(&self, epoch: u64, token: Secret) -> Self {
        Self {
            epoch,
            token,
            agent_id: self.agent_id.clone(),
            endpoints: self.endpoints.clone(),
            lease: self.lease,
            interval: self.interval,
            max_result_bytes: self.max_result_bytes,
            max_artifact_bytes: self.max_artifact_bytes,
            #[cfg(feature = "websocket")]
            serves_sockets: self.serves_sockets,
            #[cfg(feature = "push")]
            push_secrets: self.push_secrets.clone(),
        }
    }

    pub(crate) fn session(&self, client: &AgentClient) -> AgentSession {
        client.session(self.agent_id.clone(), self.token.clone(), self.endpoints.clone())
    }
}

/// What the parts of one agent share; no lock in here is held across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) leases: Leases,
    pub(crate) max_tasks: u32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Wakes the heartbeat thread before its time.
    pub(crate) nudge: Notify,
    /// Says that a handler reported progress, or emitted something.
    pub(crate) progress: Notify,
    /// Counts how often all that a handler emitted was told, or given up.
    pub(crate) output_told: watch::Sender<u64>,
    /// What the newest registration gave; `None` until there is one, and while another is made.
    pub(crate) access: watch::Sender<Option<Arc<Access>>>,
    /// What artifacts are sent with; none where handlers are tried without an orchestrator.
    pub(crate) client: OnceLock<AgentClient>,
    pub(crate) status: watch::Sender<Status>,
    /// Whether the orchestrator asked the agent to take nothing new.
    pub(crate) paused: watch::Sender<bool>,
    /// Whether the agent stops.
    pub(crate) draining: AtomicBool,
    /// Whether the orchestrator answered a heartbeat that said so.
    pub(crate) drain_told: watch::Sender<bool>,
    /// Says that heartbeats are answered again.
    pub(crate) recovered: Notify,
    /// How many handlers run.
    pub(crate) running: AtomicUsize,
    /// How many places they take up, with those that were given up and do not end.
    #[cfg(feature = "push")]
    pub(crate) slots: AtomicUsize,
    /// Whether the orchestrator asked for a new token, and there is none yet.
    pub(crate) rotation_wanted: AtomicBool,
    /// Where pushed tasks come in.
    #[cfg(feature = "push")]
    pub(crate) counter: crate::push::Counter,
    /// Whether the orchestrator says that it pushes nothing.
    #[cfg(feature = "push")]
    pub(crate) push_suspended: watch::Sender<bool>,
    refused: AtomicU64,
    acks: Mutex<BTreeSet<DirectiveId>>,
    work_loop: Mutex<WorkLoop>,
}

impl Shared {
    pub(crate) fn new(leases: Leases, max_tasks: u32, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            leases,
            max_tasks,
            clock,
            entropy,
            nudge: Notify::new(),
            progress: Notify::new(),
            output_told: watch::Sender::new(0),
            access: watch::Sender::new(None),
            client: OnceLock::new(),
            status: watch::Sender::new(Status::Connecting),
            paused: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            drain_told: watch::Sender::new(false),
            recovered: Notify::new(),
            running: AtomicUsize::new(0),
            #[cfg(feature = "push")]
            slots: AtomicUsize::new(0),
            rotation_wanted: AtomicBool::new(false),
            #[cfg(feature = "push")]
            counter: crate::push::Counter::default(),
            #[cfg(feature = "push")]
            push_suspended: watch::Sender::new(false),
            refused: AtomicU64::new(0),
            acks: Mutex::new(BTreeSet::new()),
            work_loop: Mutex::new(WorkLoop::new()),
        }
    }

    pub(crate) fn chance(&self) -> Chance {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        Chance::from_bits(u64::from_le_bytes(bytes))
    }

    pub(crate) fn request_id(&self) -> RequestId {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        // A task id is as good a UUID of version 7 as any.
        let id = TaskId::v7(self.clock.now(), random).to_string();
        id.parse().expect("a UUID is visible ASCII and short")
    }

    /// Says that the token of this registration was refused; the heartbeat thread registers again.
    pub(crate) fn refuse(&self, epoch: u64) {
        self.refused.fetch_max(epoch, Ordering::AcqRel);
        self.nudge.notify_one();
    }

    pub(crate) fn is_refused(&self, epoch: u64) -> bool {
        self.refused.load(Ordering::Acquire) >= epoch
    }

    /// Sets the status as the heartbeat thread sees it; an agent that stops stays so.
    pub(crate) fn show(&self, status: Status) {
        self.status.send_if_modified(|shown| {
            let is_news = *shown != status && !matches!(shown, Status::Draining | Status::Stopped);
            if is_news {
                *shown = status;
            }
            is_news
        });
    }

    pub(crate) fn note_poll(&self, state: &str, has_asked: bool) {
        let mut work_loop = lock(&self.work_loop);
        work_loop.state = Some(state.to_owned());
        if has_asked {
            work_loop.last_poll_at = Some(self.clock.now());
        }
    }

    pub(crate) fn work_loop(&self) -> WorkLoop {
        lock(&self.work_loop).clone()
    }

    /// Does what a directive says; gives the heartbeat interval if it sets one.
    pub(crate) fn obey(&self, directive: &Directive) -> Option<Duration> {
        let mut interval = None;
        match &directive.kind {
            DirectiveKind::Cancel { task_id, lease_id, reason, cause } => {
                info!(task.id = %task_id, cause = cause.map(CancelCause::as_str), "the orchestrator ends the attempt");
                self.leases.cancel(LeaseKey { task: *task_id, lease: Some(*lease_id) }, *cause, reason.clone());
            }
            DirectiveKind::Drain { .. } => self.pause(true),
            DirectiveKind::Resume => self.pause(false),
            DirectiveKind::SetInterval { heartbeat_interval_seconds } => {
                interval = Some(Duration::from_secs(*heartbeat_interval_seconds));
            }
            DirectiveKind::RotateToken => self.rotation_wanted.store(true, Ordering::Relaxed),
            // A newer word asks for nothing the agent knows.
            other => debug!(directive = ?other, "a directive is left alone"),
        }
        let mut acks = lock(&self.acks);
        if acks.len() < MAX_ACKS {
            acks.insert(directive.id.clone());
        }
        interval
    }

    pub(crate) fn acks(&self) -> Vec<DirectiveId> {
        lock(&self.acks).iter().cloned().collect()
    }

    pub(crate) fn forget_acks(&self, sent: &[DirectiveId]) {
        let mut acks = lock(&self.acks);
        for id in sent {
            acks.remove(id);
        }
    }

    pub(crate) fn pause(&self, is_paused: bool) {
        let changed = self.paused.send_if_modified(|paused| std::mem::replace(paused, is_paused) != is_paused);
        if changed {
            warn!(is_paused, "the orchestrator asks the agent to drain, or to go on");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
