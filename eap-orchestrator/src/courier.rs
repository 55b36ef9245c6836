//! The courier: brings callbacks to their receivers, a few at a time, until they are taken or given up.
//!
//! What is due stands in the store, so nothing is lost with the process; a try that was cut off is made again, under
//! the same id. A receiver that hangs holds up its own callbacks, not those of others.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use eap_core::{DueCallback, Receipt};
use eap_types::{TaskId, Timestamp};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::error::{Error, causes};
use crate::lifecycle::Lifecycle;
use crate::outbound::{CallLimits, OutboundCall, retry_after};
use crate::store::{StoreError, Stored};

/// How many callbacks are looked at in one read, and how many reads one round makes at most.
const PAGE: usize = 256;
const PAGES: usize = 16;
/// How often callbacks are looked for where other replicas may have left some.
const REPLICAS: Duration = Duration::from_secs(15);
/// Room for bodies that are being sent, in KiB: 64 MiB.
const BODIES: usize = 64 * 1024;

/// Brings callbacks until `stop`; then those that are on their way get a part of the grace.
pub(crate) async fn run(lifecycle: Arc<Lifecycle>, outbound: Arc<dyn OutboundCall>, stop: CancellationToken) {
    let mut courier = Courier::new(lifecycle, outbound);
    loop {
        let next = match courier.round().await {
            Ok(next) => next,
            Err(StoreError::Closed) => return,
            Err(error) => {
                let error = courier.shared.lifecycle.noticed(error);
                warn!(%error, "due callbacks could not be read");
                Next::Soon
            }
        };
        let patience = courier.patience(next);
        let wake = tokio::select! {
            biased;
            () = stop.cancelled() => Wake::Stop,
            Some(ended) = courier.under_way.join_next_with_id() => Wake::Ended(ended.map(|(id, ())| id)),
            () = courier.shared.lifecycle.announcements.callback_due() => Wake::Due,
            () = wait(patience) => Wake::Due,
        };
        match wake {
            Wake::Stop => break,
            Wake::Ended(Ok(id)) => drop(courier.on_way.remove(&id)),
            Wake::Ended(Err(broken)) => {
                error!(error = %broken, "a try of a callback broke");
                courier.on_way.remove(&broken.id());
                // It is due still, and may break again.
                tokio::time::sleep(courier.shared.lifecycle.config.timing.sweep_interval).await;
            }
            Wake::Due => {}
        }
    }
    let grace = courier.shared.lifecycle.config.timing.shutdown_grace / 2;
    let finished = async { while courier.under_way.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finished).await.is_err() {
        debug!(callbacks = courier.under_way.len(), "callbacks are cut off; they are sent again after the next start");
        courier.under_way.shutdown().await;
    }
}

enum Wake {
    Stop,
    Ended(Result<Id, JoinError>),
    Due,
}

/// When the next round is due, if nothing happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing waits for its time.
    Never,
    /// The next callback's time.
    At(Timestamp),
    /// In a moment.
    Soon,
}

/// What every try needs.
struct Shared {
    lifecycle: Arc<Lifecycle>,
    outbound: Arc<dyn OutboundCall>,
    /// One body is made at a time, and made only when there is room for it.
    making: Mutex<()>,
    room: Semaphore,
}

struct Courier {
    shared: Arc<Shared>,
    under_way: JoinSet<()>,
    /// Which callbacks those bring.
    on_way: HashMap<Id, DueCallback>,
    /// Where the last round stopped looking.
    place: Option<(Timestamp, TaskId)>,
}

impl Courier {
    fn new(lifecycle: Arc<Lifecycle>, outbound: Arc<dyn OutboundCall>) -> Self {
        let shared = Shared { lifecycle, outbound, making: Mutex::default(), room: Semaphore::new(BODIES) };
        Self { shared: Arc::new(shared), under_way: JoinSet::new(), on_way: HashMap::new(), place: None }
    }

    fn has_hands_free(&self) -> bool {
        self.on_way.len() < self.shared.lifecycle.config.callbacks.at_once
    }

    /// Sends what is due and has room. Goes on where the last round stopped, so that a long row of callbacks whose
    /// receiver hangs does not hide what stands behind it.
    async fn round(&mut self) -> Result<Next, StoreError> {
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        let now = lifecycle.clock.now();
        let mut is_second_half = self.place.is_none();
        for _ in 0..PAGES {
            if !self.has_hands_free() {
                return Ok(Next::Never);
            }
            let page = lifecycle.store.callbacks(self.place, PAGE).await?;
            let mut is_end = page.len() < PAGE;
            let mut next = Next::Never;
            for callback in page {
                if callback.record.due_at > now {
                    (is_end, next) = (true, Next::At(callback.record.due_at));
                    break;
                }
                self.place = Some((callback.record.due_at, callback.record.task));
                self.send(callback);
                if !self.has_hands_free() {
                    return Ok(Next::Never);
                }
            }
            if is_end {
                self.place = None;
                if is_second_half {
                    return Ok(next);
                }
                is_second_half = true;
            }
        }
        Ok(Next::Soon)
    }

    /// Sends a callback, unless it is on its way already or its receiver has as many as it may.
    fn send(&mut self, callback: Stored<DueCallback>) {
        let DueCallback { task, receiver, .. } = &callback.record;
        let to_same = self.on_way.values().filter(|other| other.receiver == *receiver).count();
        if to_same >= self.shared.lifecycle.config.callbacks.per_receiver
            || self.on_way.values().any(|other| other.task == *task)
        {
            return;
        }
        let record = callback.record.clone();
        let shared = Arc::clone(&self.shared);
        let handle = self.under_way.spawn(async move {
            let task = callback.record.task;
            if let Err(error) = shared.bring(callback).await {
                warn!(task.id = %task, error = causes(&error), "what became of a callback could not be written");
                shared.rest().await;
            }
        });
        self.on_way.insert(handle.id(), record);
    }

    /// How long to wait for a next round at most; a clock that is moved by hand is looked at now and then.
    fn patience(&self, next: Next) -> Option<Duration> {
        let lifecycle = &self.shared.lifecycle;
        let blink = lifecycle.config.timing.sweep_interval;
        match next {
            // One that another replica was to bring may become due without a word.
            Next::Never if lifecycle.store.is_shared() => Some(REPLICAS),
            Next::Never => None,
            Next::Soon => Some(blink),
            Next::At(at) => Some(at.saturating_since(lifecycle.clock.now()).min(blink)),
        }
    }
}

impl Shared {
    /// The callback is due still, and its receiver may have it: it is not to be sent again and again while the store is
    /// in trouble.
    async fn rest(&self) {
        let lifecycle = &self.lifecycle;
        tokio::select! {
            () = lifecycle.stop.cancelled() => {}
            () = tokio::time::sleep(lifecycle.config.callbacks.backoff_base) => {}
        }
    }

    /// One try, from the record to what is written of it.
    async fn bring(&self, callback: Stored<DueCallback>) -> Result<(), Error> {
        let making = self.making.lock().await;
        let Some(signed) = self.lifecycle.signed_callback(&callback.record).await? else {
            return self.lifecycle.drop_callback(callback).await;
        };
        let kib = u32::try_from(signed.bytes() / 1024 + 1).unwrap_or(u32::MAX);
        let _room = self.room.acquire_many(kib.min(BODIES as u32)).await;
        drop(making);
        let Some(callback) = self.lifecycle.reserve_callback(callback).await? else { return Ok(()) };
        let (tenant, request) = signed.into_parts();
        // What the receiver says beyond its status does not matter, and is not read.
        let limits = CallLimits::headers_within(self.lifecycle.config.callbacks.timeout);
        let receipt = match self.outbound.call(request, limits).await {
            Ok(answer) => Receipt::of_status(answer.status().as_u16(), retry_after(&answer)),
            Err(error) => {
                debug!(task.id = %callback.record.task, error = causes(&error), "a callback did not arrive");
                Receipt::Failed { failure: error.failure(), retry_after: None }
            }
        };
        self.lifecycle.settle_callback(callback, tenant, receipt).await
    }
}

async fn wait(patience: Option<Duration>) {
    match patience {
        Some(patience) => tokio::time::sleep(patience).await,
        None => pending().await,
    }
}
