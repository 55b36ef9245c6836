//! Events as they come, for watchers in process and over the wire.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eap_types::{AgentId, TaskId, TenantId};
use tokio::sync::watch;

use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::{Event, EventSeq, StoreError};

/// How many events one look at the store takes.
const PAGE: usize = 256;
/// How long a watcher that has seen everything lets news gather: however fast they come, it does not read the store
/// more often than this.
const GATHER: Duration = Duration::from_millis(20);

/// Which events to see; all of them by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    pub(crate) task: Option<TaskId>,
    pub(crate) agent: Option<AgentId>,
    /// Of these kinds, unless there are none.
    pub(crate) kinds: BTreeSet<String>,
}

/// What one look at the store gave.
#[derive(Debug)]
pub(crate) enum Look {
    /// What came next; empty if nothing of it is for this watcher.
    Events(Vec<Event>),
    /// Events after the cursor are gone, or it is of another store. What follows begins with the oldest one kept.
    Reset { oldest: EventSeq },
    /// All there is was seen, for the first time.
    Level,
}

/// The events of one tenant after some number, in order, without end.
///
/// It tails the store by number: a slow watcher costs no memory, and one that stops can go on later from the last
/// number it saw. Events that were purged before they were read are left out.
#[derive(Debug)]
pub struct Events {
    lifecycle: Arc<Lifecycle>,
    tenant: TenantId,
    filter: EventFilter,
    cursor: EventSeq,
    /// Whether the store was asked if it still has all after the first cursor.
    is_checked: bool,
    /// Whether all there was has been seen once.
    was_level: bool,
    head: watch::Receiver<EventSeq>,
    read: VecDeque<Event>,
}

impl Events {
    pub(crate) fn after(lifecycle: Arc<Lifecycle>, tenant: TenantId, after: EventSeq, filter: EventFilter) -> Self {
        let head = lifecycle.announcements.head();
        Self {
            lifecycle,
            tenant,
            filter,
            cursor: after,
            is_checked: false,
            was_level: false,
            head,
            read: VecDeque::new(),
        }
    }

    /// The next event, once there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store cannot be read; the next call tries again. [`Error::Draining`] once the orchestrator
    /// stops; what was not read by then can be read after the next start, from a store that outlives this one.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            if let Look::Events(events) = self.look().await? {
                self.read.extend(events);
            }
        }
    }

    /// Everything up to this number was seen.
    pub(crate) fn cursor(&self) -> EventSeq {
        self.cursor
    }

    /// What comes next, once there is anything. Dropping the future loses nothing.
    pub(crate) async fn look(&mut self) -> Result<Look, Error> {
        match self.look_at_store().await {
            // A stop closes the store last: a look that was not waiting for news when it began finds it closed.
            Err(Error::Store(StoreError::Closed)) => Err(Error::Draining),
            looked => looked,
        }
    }

    async fn look_at_store(&mut self) -> Result<Look, Error> {
        let store = Arc::clone(&self.lifecycle.store);
        loop {
            // Before the read, which then has at least all up to here.
            let head = *self.head.borrow_and_update();
            let page = store.events(self.cursor, self.filter.task, PAGE).await?;
            // Numbers are left out where something was purged; those of one task are never in a row.
            let first = page.first().map_or(self.cursor, |event| event.seq);
            let has_gap = self.filter.task.is_none() && first.0 > self.cursor.0.saturating_add(1);
            if (!self.is_checked || has_gap)
                && let Some(oldest) = self.beginning_anew().await?
            {
                self.is_checked = true;
                self.cursor = EventSeq(oldest.0.saturating_sub(1));
                return Ok(Look::Reset { oldest });
            }
            self.is_checked = true;
            let Some(last) = page.last() else {
                self.cursor = self.cursor.max(head);
                if !self.was_level {
                    self.was_level = true;
                    return Ok(Look::Level);
                }
                tokio::select! {
                    // First, so that what happened before a stop is told.
                    biased;
                    changed = self.head.changed() => changed.map_err(|_| Error::Draining)?,
                    () = self.lifecycle.stop.cancelled() => return Err(Error::Draining),
                }
                tokio::time::sleep(GATHER).await;
                continue;
            };
            self.cursor = if page.len() < PAGE { head.max(last.seq) } else { last.seq };
            return Ok(Look::Events(page.into_iter().filter(|event| self.is_asked_for(event)).collect()));
        }
    }

    /// The oldest event kept, if that is not the one after the cursor and the watcher has to be told.
    async fn beginning_anew(&self) -> Result<Option<EventSeq>, Error> {
        let store = &self.lifecycle.store;
        // In this order: an event between the two would be newer than the oldest of none.
        let newest = store.head().await?;
        let oldest = store.oldest_event().await?;
        let oldest = oldest.unwrap_or(EventSeq(newest.0 + 1));
        let is_lost = self.cursor.0.saturating_add(1) < oldest.0 || self.cursor > newest;
        Ok(is_lost.then_some(oldest))
    }

    fn is_asked_for(&self, event: &Event) -> bool {
        let EventFilter { task, agent, kinds } = &self.filter;
        event.tenant == self.tenant
            && (task.is_none() || event.task == *task)
            && (agent.is_none() || event.agent == *agent)
            && (kinds.is_empty() || kinds.contains(&event.kind))
    }
}

#[cfg(test)]
mod tests {
    use eap_types::{JsonObject, Timestamp};

    use super::*;
    use crate::auth::Operator;
    use crate::config::Access;
    use crate::orchestrator::Orchestrator;
    use crate::store::{Change, Cutoffs, EventKind, NewEvent};

    fn event_at(second: i64, tenant: TenantId) -> NewEvent {
        NewEvent {
            tenant,
            at: Timestamp::from_seconds(second),
            kind: EventKind::AgentDraining,
            task: None,
            agent: None,
            attempt: None,
            detail: JsonObject::default(),
        }
    }

    #[tokio::test]
    async fn what_happened_before_a_stop_is_told_before_the_end() {
        let orchestrator = Orchestrator::builder_in_memory().access(Access::Open).build().unwrap();
        let (lifecycle, operator) = (Arc::clone(orchestrator.lifecycle()), Operator::host());
        let mut events = orchestrator.watch(&operator, EventSeq(0), EventFilter::default());
        assert!(matches!(events.look().await.unwrap(), Look::Level));
        {
            let mut looking = std::pin::pin!(events.look());
            assert!(tokio::time::timeout(GATHER, &mut looking).await.is_err(), "it waits for news");
            let change = Change { events: vec![event_at(1, operator.tenant)], ..Change::default() };
            let head = lifecycle.store.commit(change).await.unwrap().head;
            lifecycle.announcements.committed(head);
            lifecycle.stop.cancel();
            let told = looking.await;
            assert!(matches!(&told, Ok(Look::Events(told)) if told.len() == 1), "{told:?}");
        }
        assert!(matches!(events.look().await, Err(Error::Draining)));
    }

    #[tokio::test]
    async fn a_watcher_that_a_purge_overtakes_is_told_once() {
        // Not started: nobody else purges what is this old.
        let orchestrator = Orchestrator::builder_in_memory().access(Access::Open).build().unwrap();
        let (store, operator) = (Arc::clone(&orchestrator.lifecycle().store), Operator::host());
        for (second, count) in [(1, 400), (2, 200)] {
            let event = event_at(second, operator.tenant);
            store.commit(Change { events: vec![event; count], ..Change::default() }).await.unwrap();
        }
        let mut events = orchestrator.watch(&operator, EventSeq(0), EventFilter::default());
        let read = events.look().await.unwrap();
        assert!(matches!(&read, Look::Events(read) if read.len() == PAGE), "{read:?}");
        let past = Timestamp::MIN;
        let cutoffs = Cutoffs {
            tasks: past,
            events: Timestamp::from_seconds(2),
            late_results: past,
            idempotency_keys: past,
            sessions: past,
            webhooks: past,
            states: past,
            agents: past,
            credentials: past,
        };
        store.purge(&cutoffs, 1_000).await.unwrap();
        let told = events.look().await.unwrap();
        assert!(matches!(told, Look::Reset { oldest: EventSeq(401) }), "{told:?}");
        let read = events.look().await.unwrap();
        assert!(matches!(&read, Look::Events(read) if read.len() == 200), "{read:?}");
    }
}
