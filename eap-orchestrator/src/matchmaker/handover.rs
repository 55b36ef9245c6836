//! Leased tasks on their way to the call that asked for them.

use std::sync::Arc;

use eap_core::{Agent, EndOfLease, Quote, Task};
use tracing::debug;

use crate::lifecycle::Lifecycle;

/// Leased tasks on their way to the call that asked for them.
///
/// Dropped on the way, because the caller hung up, the tasks of a call that cannot be repeated go back to the queue at
/// once. Those of a request with an id stay leased: its repeat gets them (G17).
#[derive(Debug, Default)]
pub(crate) struct Handover {
    tasks: Vec<Task>,
    give_back: Option<(Arc<Lifecycle>, Arc<Agent>)>,
}

impl Handover {
    pub(super) fn new(tasks: Vec<Task>, give_back: Option<(Arc<Lifecycle>, Arc<Agent>)>) -> Self {
        Self { tasks, give_back }
    }

    /// Whether there is nothing to hand over.
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The tasks, for an answer that is being written.
    pub(crate) fn accept(mut self) -> Vec<Task> {
        self.give_back = None;
        std::mem::take(&mut self.tasks)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let Some((lifecycle, agent)) = self.give_back.take() else { return };
        for task in self.tasks.drain(..) {
            let Some(lease) = task.lease() else { continue };
            let (id, quote) = (task.id(), Quote::lease(lease.lease_id));
            let (tracker, lifecycle, agent) = (lifecycle.under_way.clone(), Arc::clone(&lifecycle), Arc::clone(&agent));
            tracker.spawn(async move {
                if let Err(error) = lifecycle.end_lease(&agent, id, quote, EndOfLease::Unclaimed).await {
                    debug!(task.id = %id, %error, "an unclaimed task waits for its lease to lapse");
                }
            });
        }
    }
}
