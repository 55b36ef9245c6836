//! What the clock brings: lapsed leases, delayed starts, expiry, vitals to write, old things to delete.

use std::sync::Arc;

use eap_core::{Task, TaskEvent};
use eap_types::Timestamp;
use futures_util::future::join_all;
use tracing::{debug, info, warn};

use super::{Lifecycle, Share};
use crate::error::Error;
use crate::store::{Change, Cutoffs, StoreError, Stored};

/// How many due tasks are taken up at once; their commits share transactions.
const BATCH: usize = 256;
/// How many rows of a kind one purge deletes.
const PURGE_BATCH: usize = 1_000;

impl Lifecycle {
    /// Takes in what the store has, and gives every lease and every silence a fresh start if the server was away
    /// for longer than the pulse's gap (G19).
    pub(crate) async fn load(&self) -> Result<(), Error> {
        self.directory.load(self.store.agents().await?);
        self.announcements.committed(self.store.head().await?);
        let now = self.clock.now();
        let gap = match self.store.pulse().await? {
            Some(pulse) => now.saturating_since(pulse).max(pulse.saturating_since(now)),
            None => std::time::Duration::MAX,
        };
        self.each_running(|task| {
            self.announce(&task.record);
        })
        .await?;
        self.start_afresh().await?;
        debug!(gap_seconds = gap.as_secs(), "loaded");
        Ok(())
    }

    /// Every running lease gets its length anew, everybody's silence counts from now.
    pub(crate) async fn start_afresh(&self) -> Result<(), Error> {
        self.directory.start_afresh(self.clock.now());
        let mut running = Vec::new();
        self.each_running(|task| running.push(task)).await?;
        let count = running.len();
        for batch in in_batches(running) {
            for outcome in join_all(batch.into_iter().map(|task| self.sweep_one(task, TaskEvent::FreshStart))).await {
                outcome?;
            }
        }
        if count > 0 {
            info!(leases = count, "running leases start afresh");
        }
        Ok(())
    }

    async fn each_running(&self, mut visit: impl FnMut(Stored<Task>)) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.store.leased(after, BATCH).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.record.id());
            page.into_iter().for_each(&mut visit);
        }
    }

    /// Does what has become due. Says whether there may be more.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Result<bool, Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move {
            let due = this.store.due(this.clock.now(), BATCH).await?;
            let more = due.len() == BATCH;
            let swept = due.into_iter().map(|task| {
                let chance = this.chance();
                this.sweep_one(task, TaskEvent::Due { chance })
            });
            for outcome in join_all(swept).await {
                outcome?;
            }
            Ok(more)
        })
        .await
    }

    /// The sweeper commits by revision too: a record that moved on is left to the next sweep (A21).
    async fn sweep_one(&self, stored: Stored<Task>, event: TaskEvent) -> Result<(), Error> {
        let id = stored.record.id();
        match self.apply_to(stored, event, None).await {
            Ok(applied) => {
                if let Some(reason) = applied.task.state.phase.reason() {
                    warn!(task.id = %id, status = %applied.task.status(), reason, "task ended by the clock");
                }
                Ok(())
            }
            Err(Error::Store(StoreError::Conflict { .. })) => Ok(()),
            Err(error @ (Error::Store(_) | Error::Busy { .. } | Error::Broken)) => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// Writes the vitals that changed, and the pulse.
    pub(crate) async fn write_vitals(self: &Arc<Self>) -> Result<(), Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move {
            let change =
                Change { vitals: this.directory.take_unwritten(), pulse: Some(this.clock.now()), ..Change::default() };
            Ok(this.commit(change).await?)
        })
        .await
    }

    /// Deletes what is older than the configuration keeps. Says whether there may be more.
    pub(crate) async fn purge(self: &Arc<Self>) -> Result<bool, Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move {
            let now = this.clock.now();
            let kept = &this.config.retention;
            let cutoffs = Cutoffs {
                tasks: now - kept.tasks,
                events: now - kept.events,
                late_results: now - kept.late_results,
                idempotency_keys: now - kept.idempotency_keys,
                agents: now - this.config.timing.keep_agents,
            };
            let purged = this.store.purge(&cutoffs, PURGE_BATCH).await?;
            this.directory.remove(&purged.agents);
            if purged.rows > 0 {
                info!(rows = purged.rows, tasks = purged.tasks.len(), agents = purged.agents.len(), "purged");
            }
            Ok(purged.rows >= PURGE_BATCH as u64)
        })
        .await
    }
}

fn in_batches(mut tasks: Vec<Stored<Task>>) -> impl Iterator<Item = Vec<Stored<Task>>> {
    std::iter::from_fn(move || {
        let rest = tasks.split_off(tasks.len().min(BATCH));
        let batch = std::mem::replace(&mut tasks, rest);
        (!batch.is_empty()).then_some(batch)
    })
}

/// Whether the sweeper was away between two of its rounds for longer than `gap`.
pub(crate) fn was_away(last: Timestamp, now: Timestamp, gap: std::time::Duration) -> bool {
    now.saturating_since(last) > gap
}
