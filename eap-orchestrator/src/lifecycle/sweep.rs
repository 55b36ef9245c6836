//! What the clock brings: lapsed leases, delayed starts, expiry, vitals to write, old things to delete.

use std::sync::Arc;

use eap_core::{Task, TaskEvent};
use eap_types::{FailureCode, Timestamp};
use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Lifecycle, Share};
use crate::canary;
use crate::error::Error;
use crate::store::{Change, Cutoffs, StoreError, Stored};

/// How many due tasks are taken up at once; their commits share transactions.
const BATCH: usize = 256;
/// How many rows of a kind one purge deletes.
const PURGE_BATCH: usize = 1_000;

impl Lifecycle {
    /// Takes in what the store has; every running lease and every silence starts afresh (G19).
    pub(crate) async fn load(&self) -> Result<(), Error> {
        // Before all else: what others commit from now on is followed from here.
        let (began, head) = (Instant::now(), self.store.head().await?);
        self.directory.load(self.store.agents().await?);
        self.keys.load(self.store.credentials().await?);
        self.load_states().await?;
        self.announcements.committed(head);
        let away = self.store.pulse().await?.map(|pulse| self.clock.now().saturating_since(pulse));
        if let Some(tail) = &self.tail {
            tail.begin(head, began, self.clock.now()).await;
            self.count_replicas().await?;
        }
        match away {
            // Somebody else was at work all the time: what he let lapse has lapsed.
            Some(away) if self.tail.is_some() && away <= self.config.timing.pulse_gap => {
                self.load_leases(false).await?;
            }
            away => {
                if let Some(away) = away {
                    info!(seconds = away.as_secs(), "the orchestrator was away");
                }
                self.start_afresh().await?;
            }
        }
        self.load_beginnings().await?;
        // A goodbye may have been cut off before it was carried out.
        for (agent, epoch) in self.directory.gone() {
            if self.leases.count(&agent) > 0 {
                self.release_all(&agent, epoch).await?;
            }
        }
        Ok(())
    }

    /// Every running lease gets its length anew, everybody's silence counts from now.
    pub(crate) async fn start_afresh(&self) -> Result<(), Error> {
        self.directory.start_afresh(self.clock.now());
        self.load_leases(true).await
    }

    /// Takes in the leases that run, and lets them `begin_anew` if nobody has watched them.
    pub(super) async fn load_leases(&self, begin_anew: bool) -> Result<(), Error> {
        let (mut after, mut leases) = (None, 0);
        loop {
            let page = self.store.leased(after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.record.id());
            leases += page.len();
            if !begin_anew {
                page.iter().for_each(|task| self.announce(&task.record));
                continue;
            }
            let fresh = page.into_iter().map(|task| {
                // Known even if another writer is faster with the fresh start itself.
                self.announce(&task.record);
                self.sweep_one(task, TaskEvent::FreshStart)
            });
            for outcome in join_all(fresh).await {
                outcome?;
            }
        }
        if leases > 0 && begin_anew {
            info!(leases, "running leases start afresh");
        }
        Ok(())
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
        let stored =
            if canary::sings("sweeper-without-revision") { self.at_newest_revision(stored).await? } else { stored };
        match self.apply_to(stored, event, None).await {
            Ok(applied) => {
                if has_just_timed_out(&applied.task) {
                    self.metrics.timeouts.add(1);
                }
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

    /// What was read, as if nobody had changed it since: the fault that A21 is about.
    async fn at_newest_revision(&self, read: Stored<Task>) -> Result<Stored<Task>, Error> {
        let newest = self.store.task(read.record.id()).await?;
        Ok(Stored { revision: newest.map_or(read.revision, |newest| newest.revision), ..read })
    }

    /// Lets agents whose breaker has cooled down have their trial, if they wait for work.
    pub(crate) fn wake_cooled(&self) {
        for agent in self.directory.take_cooled(self.clock.now()) {
            self.announcements.agent_freed(&agent);
        }
    }

    /// Writes the vitals that changed, when keys were used, and the pulse.
    pub(crate) async fn write_vitals(self: &Arc<Self>) -> Result<(), Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move {
            let vitals = this.directory.take_unwritten();
            let agents: Vec<_> = vitals.iter().map(|(agent, _)| agent.clone()).collect();
            let last_used = this.keys.take_used();
            let used = last_used.clone();
            let change = Change { vitals, last_used, pulse: Some(this.clock.now()), ..Change::default() };
            let written = this.commit(change).await.inspect_err(|_| {
                this.directory.mark_unwritten(&agents);
                this.keys.mark_unwritten(&used);
            });
            Ok(written?)
        })
        .await
    }

    /// Until when somebody has watched the leases, this replica or another one.
    pub(crate) async fn watched_until(&self, here: Timestamp) -> Result<Timestamp, Error> {
        match self.tail {
            Some(_) => Ok(self.store.pulse().await?.map_or(here, |pulse| pulse.max(here))),
            None => Ok(here),
        }
    }

    /// Deletes what is older than the configuration keeps. Says whether there may be more.
    pub(crate) async fn purge(self: &Arc<Self>) -> Result<bool, Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move {
            let now = this.clock.now();
            let kept = &this.config.retention;
            let cutoffs = Cutoffs {
                tasks: now - kept.tasks,
                sessions: now - kept.sessions,
                events: now - kept.events,
                late_results: now - kept.late_results,
                idempotency_keys: now - kept.idempotency_keys,
                webhooks: now - kept.webhooks,
                states: now - kept.states,
                credentials: now - kept.credentials,
                agents: now - this.config.timing.keep_agents,
            };
            let purged = this.store.purge(&cutoffs, PURGE_BATCH).await?;
            this.metrics.sweeper.purged.add(purged.rows);
            this.forget_agents(&purged.agents);
            this.keys.remove(&purged.credentials);
            if let Err(error) = this.forget_purged(&cutoffs).await {
                debug!(%error, "what other replicas purged could not be found out");
            }
            if purged.rows > 0 {
                debug!(rows = purged.rows, tasks = purged.tasks.len(), agents = purged.agents.len(), "purged");
            }
            Ok(purged.rows >= PURGE_BATCH as u64)
        })
        .await
    }
}

/// Whether the change that made this record ended an attempt because its time was over.
fn has_just_timed_out(task: &Task) -> bool {
    let newest = task.newest_attempt();
    newest.is_some_and(|attempt| {
        attempt.error_code == Some(FailureCode::Timeout)
            && attempt.reported.is_none()
            && attempt.ended_at == Some(task.state.updated_at)
    })
}
