//! Pushed tasks behind the seam of all transports; tasks by long-poll while nothing is pushed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use eap_client::AgentSession;
use tokio::sync::watch;

use crate::pull::Pull;
use crate::shared::{Access, Shared};
use crate::transport::{Received, Transport};

pub(crate) struct Pushed {
    shared: Arc<Shared>,
    pull: Pull,
    suspended: watch::Receiver<bool>,
}

impl Pushed {
    pub(crate) fn new(shared: Arc<Shared>, pull: Pull) -> Self {
        let suspended = shared.push_suspended.subscribe();
        Self { shared, pull, suspended }
    }
}

#[async_trait]
impl Transport for Pushed {
    fn connect(&mut self, access: &Arc<Access>, session: AgentSession) {
        self.pull.connect(access, session);
    }

    fn disconnect(&mut self) {
        self.pull.disconnect();
    }

    async fn next(&mut self, free: usize) -> Received {
        loop {
            if free > 0
                && let Some((assignments, asked)) = self.shared.counter.take(free)
            {
                return Received::Tasks { assignments, asked };
            }
            let polls = *self.suspended.borrow_and_update();
            let polled = if polls { free } else { 0 };
            if !polls {
                self.shared.note_poll(if free == 0 { "full" } else { "connected" }, false);
            }
            let is_asking = polls || self.pull.is_out();
            tokio::select! {
                biased;
                () = self.shared.counter.arrived.notified(), if free > 0 => {}
                Ok(()) = self.suspended.changed() => {}
                received = self.pull.next(polled), if is_asking => return received,
            }
        }
    }
}

impl fmt::Debug for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushed").field("pull", &self.pull).finish_non_exhaustive()
    }
}
