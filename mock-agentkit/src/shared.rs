//! What all parts of a running mock share.

use std::future::Future;
use std::sync::{Arc, Mutex};

use eap_types::Secret;
use eap_types::agentkit::AgentKitSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::delivery::Patience;
use crate::faults::{Faults, ReportFaults, RunFaults, WebhookFaults, WorkFaults};
use crate::journal::Journal;
use crate::registry::Registry;
use crate::work::Work;

/// Webhooks, tasks and forwarded messages that may be under way at once; more are refused with 503.
const MOST_UNDER_WAY: usize = 1024;

/// What was settled when the mock was started.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Where webhooks go; nowhere if absent.
    pub(crate) webhook_url: Option<Url>,
    /// What they are signed with; not at all if absent.
    pub(crate) secret: Option<AgentKitSecret>,
    /// Whether their time is signed to the microsecond.
    pub(crate) signs_rfc3339: bool,
    /// The base that state reports go below; nowhere if absent.
    pub(crate) api_url: Option<Url>,
    /// The key that they carry.
    pub(crate) api_key: Option<Secret>,
    pub(crate) patience: Patience,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) agents: Registry,
    pub(crate) journal: Journal,
    /// Everything that was spawned.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    faults: Mutex<Faults>,
    work: Mutex<Work>,
    room: Arc<Semaphore>,
    /// Lets go of the webhook that waits for the next one, if one does.
    held: Mutex<Option<CancellationToken>>,
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

impl Shared {
    pub(crate) fn new(settings: Settings, faults: Faults, work: Work) -> Self {
        Self {
            settings,
            agents: Registry::default(),
            journal: Journal::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            faults: Mutex::new(faults),
            work: Mutex::new(work),
            room: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
            held: Mutex::default(),
        }
    }

    /// Room for one thing more that runs by itself; `None` if there is none.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Whether nothing runs by itself.
    pub(crate) fn is_idle(&self) -> bool {
        self.room.available_permits() == MOST_UNDER_WAY
    }

    /// Waits for something; `None` if the mock is stopped first.
    pub(crate) async fn unless_stopped<T>(&self, awaited: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(awaited).await
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults.lock().expect(NO_PANIC).clone()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults.lock().expect(NO_PANIC) = faults;
    }

    pub(crate) fn webhook_faults(&self) -> WebhookFaults {
        self.faults.lock().expect(NO_PANIC).webhooks.take()
    }

    pub(crate) fn run_faults(&self) -> RunFaults {
        self.faults.lock().expect(NO_PANIC).runs.take()
    }

    pub(crate) fn work_faults(&self) -> (WorkFaults, ReportFaults) {
        let mut faults = self.faults.lock().expect(NO_PANIC);
        (faults.work.take(), faults.reports.take())
    }

    pub(crate) fn work(&self) -> Work {
        self.work.lock().expect(NO_PANIC).clone()
    }

    pub(crate) fn set_work(&self, work: Work) {
        *self.work.lock().expect(NO_PANIC) = work;
    }

    /// Holds a webhook until the next one was sent: gives what is cancelled then. `None` if one is held already, which
    /// this one then goes before.
    pub(crate) fn hold(&self) -> Option<CancellationToken> {
        let mut held = self.held.lock().expect(NO_PANIC);
        held.is_none().then(|| held.insert(CancellationToken::new()).clone())
    }

    /// Lets go of the webhook that is held, if one is.
    pub(crate) fn release(&self) {
        if let Some(held) = self.held.lock().expect(NO_PANIC).take() {
            held.cancel();
        }
    }
}
