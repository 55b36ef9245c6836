//! Events as they come, for watchers in process.

use std::collections::VecDeque;
use std::sync::Arc;

use eap_types::TenantId;
use tokio::sync::watch;

use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::{Event, EventSeq};

/// How many events one look at the store takes.
const PAGE: usize = 256;

/// The events of one tenant after some number, in order, without end.
///
/// It tails the store by number: a slow watcher costs no memory, and one that stops can go on later from the last
/// number it saw.
#[derive(Debug)]
pub struct Events {
    lifecycle: Arc<Lifecycle>,
    tenant: TenantId,
    cursor: EventSeq,
    head: watch::Receiver<EventSeq>,
    read: VecDeque<Event>,
}

impl Events {
    pub(crate) fn after(lifecycle: Arc<Lifecycle>, tenant: TenantId, after: EventSeq) -> Self {
        let head = lifecycle.announcements.head();
        Self { lifecycle, tenant, cursor: after, head, read: VecDeque::new() }
    }

    /// The next event, once there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store cannot be read; the next call tries again. [`Error::Draining`] once the orchestrator
    /// stops and everything before was read.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            self.head.mark_unchanged();
            let page = self.lifecycle.store.events(self.cursor, None, PAGE).await?;
            if let Some(last) = page.last() {
                self.cursor = last.seq;
                self.read.extend(page.into_iter().filter(|event| event.tenant == self.tenant));
            } else {
                tokio::select! {
                    changed = self.head.changed() => changed.map_err(|_| Error::Draining)?,
                    () = self.lifecycle.stop.cancelled() => return Err(Error::Draining),
                }
            }
        }
    }
}
