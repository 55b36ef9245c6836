//! Signs of life: vitals in memory, leases renewed, directives told.

use std::collections::HashSet;
use std::sync::Arc;

use eap_core::{Agent, AgentEvent, Stop, Task, TaskEvent};
use eap_types::{
    AgentId, Directive, DirectiveId, DirectiveKind, Feature, HealthStatus, Heartbeat, HeartbeatReply, HeldTask,
    LeaseId, LeaseNote, TaskId, Timestamp,
};
use futures_util::future::join_all;
use tracing::{Instrument as _, debug, debug_span, warn};

use super::orders::order_directives;
use super::pushes::suspension_directive;
use super::registration::agent_event;
use super::rotation::rotation_directive;
use super::views::millis;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{AgentWrite, Change, EventKind, Revision, StoreError};

impl Lifecycle {
    /// Takes a heartbeat in; the answer is for agents that agreed on directives.
    pub(crate) async fn beat(self: &Arc<Self>, entry: &Arc<Entry>, beat: Heartbeat) -> Result<HeartbeatReply, Error> {
        let (this, entry) = (Arc::clone(self), Arc::clone(entry));
        let span = debug_span!("heartbeat", agent.id = %entry.agent.id, seq = beat.seq);
        self.detached(Share::Running, async move { this.take_beat(&entry, beat).await }).instrument(span).await
    }

    async fn take_beat(&self, entry: &Entry, beat: Heartbeat) -> Result<HeartbeatReply, Error> {
        let agent = &entry.agent;
        let news = self.hear(entry, &beat);
        if news.stale {
            self.metrics.beats.overtaken.add(1);
        }
        if !news.stale {
            self.follow_standing(entry, &beat).await?;
        }
        self.follow_acks(&agent.id, agent.epoch, &beat.ack).await?;
        if news.takes_work_again {
            self.announcements.agent_freed(&agent.id);
        }
        if news.first_list
            && let Some(listed) = &beat.tasks
        {
            let listed: Vec<LeaseId> = listed.iter().map(|held| held.lease_id).collect();
            self.forget_unlisted(agent, &listed).await?;
            entry.hear(|vitals| vitals.has_listed_tasks = true);
        }
        // What an overtaken beat says of progress is old as well.
        let told = |held: &HeldTask| held.progress.filter(|_| !news.stale);
        let meant: Vec<(TaskId, LeaseId, Option<f64>)> = match &beat.tasks {
            Some(listed) => listed.iter().map(|held| (held.task_id, held.lease_id, told(held))).collect(),
            None => self.leases.of(&agent.id).into_iter().map(|(task, lease)| (task, lease.lease_id, None)).collect(),
        };
        let is_acknowledged = |lease_id: LeaseId| beat.ack.iter().any(|id| id.as_str() == lease_id.to_string());
        // One that lists its tasks is told by their entries; this is for one that does not.
        let stopped = self.leases.stopped(&agent.id, |lease_id| beat.tasks.is_some() || is_acknowledged(lease_id));
        let renewals = meant.into_iter().map(|(task, lease, told)| self.renew(agent, task, lease, told));
        let renewed: Vec<Renewal> = join_all(renewals).await.into_iter().collect::<Result<_, _>>()?;

        // What an operator asked for meanwhile is told at once.
        let current = self.directory.get(&agent.id);
        let agent = current.as_ref().map_or(agent, |current| &current.agent);
        let interval = agent.orders.interval(self.config.timing.heartbeat_interval).as_secs();
        let mut reply = HeartbeatReply::new(interval, self.clock.now());
        for renewal in renewed {
            reply.leases.push(renewal.note);
            reply.directives.extend(renewal.directive.filter(|directive| !beat.ack.contains(&directive.id)));
        }
        let standing = rotation_directive(agent).into_iter().chain(order_directives(agent));
        reply.directives.extend(standing.filter(|directive| !beat.ack.contains(&directive.id)));
        // Not over once it is acknowledged: its absence says that pushes come again.
        reply.directives.extend(suspension_directive(agent));
        for (task, lease_id) in stopped {
            reply.directives.extend(self.lost(agent, task, lease_id).await?.directive);
        }
        Ok(reply)
    }

    /// What there is to tell an agent now, without what it was `told`.
    pub(crate) async fn directives(&self, agent: &Agent, told: &HashSet<DirectiveId>) -> Result<Vec<Directive>, Error> {
        let mut directives = standing_directives(agent);
        for (task, lease_id) in self.leases.stopped(&agent.id, |_| false) {
            let is_told = lease_id.to_string().parse().is_ok_and(|id: DirectiveId| told.contains(&id));
            if !is_told {
                directives.extend(self.lost(agent, task, lease_id).await?.directive);
            }
        }
        directives.retain(|directive| !told.contains(&directive.id));
        Ok(directives)
    }

    /// What there is to tell an agent that is not about a task.
    pub(crate) fn standing_directives(&self, agent: &AgentId) -> Vec<Directive> {
        self.directory.get(agent).map(|entry| standing_directives(&entry.agent)).unwrap_or_default()
    }

    /// Any call with the agent's token is a sign of life.
    pub(crate) fn heard(&self, entry: &Entry) {
        let now = self.clock.now();
        entry.hear(|vitals| vitals.last_seen = now);
    }

    /// Writes down what a beat says; an overtaken one is a sign of life and no more (G15).
    fn hear(&self, entry: &Entry, beat: &Heartbeat) -> News {
        let now = self.clock.now();
        entry.hear(|vitals| {
            vitals.last_seen = now;
            let mut news = News { stale: vitals.is_stale(beat.seq), ..News::default() };
            news.first_list = beat.tasks.is_some() && !vitals.has_listed_tasks;
            if !news.stale {
                let before = vitals.takes_work();
                vitals.seq = beat.seq.or(vitals.seq);
                vitals.beaten_at = Some(now);
                vitals.status = Some(beat.status);
                vitals.current_load = beat.current_load;
                vitals.tasks_in_progress = beat.tasks_in_progress;
                vitals.metrics = beat.metrics.clone();
                news.takes_work_again = !before && vitals.takes_work();
            }
            news
        })
    }

    /// Draining begins and ends with the agent's word; that is worth a commit.
    async fn follow_standing(&self, entry: &Entry, beat: &Heartbeat) -> Result<(), Error> {
        let drains = beat.draining || beat.status == HealthStatus::Offline;
        let (event, kind) = if drains {
            (AgentEvent::Drain, EventKind::AgentDraining)
        } else {
            (AgentEvent::Beat, EventKind::AgentResumed)
        };
        let (id, epoch) = (&entry.agent.id, entry.agent.epoch);
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            // A registration that came since then is another process: this beat says nothing of it.
            let current = self.directory.get(id).filter(|current| current.agent.epoch == epoch);
            let Some(current) = current else { return Ok(()) };
            let now = self.clock.now();
            let next = current.agent.standing.after(event, now);
            let Some(standing) = next.filter(|next| *next != current.agent.standing) else { return Ok(()) };
            let agent = Agent { standing, ..Agent::clone(&current.agent) };
            let change = Change {
                events: vec![agent_event(&agent, kind, now)],
                agents: vec![AgentWrite::Update { agent: agent.clone(), revision: current.revision }],
                ..Change::default()
            };
            match self.commit(change).await {
                Ok(()) => {
                    self.directory.put(agent, Revision(current.revision.0 + 1), None);
                    self.announcements.agent_freed(id);
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy { reason: "other writers kept changing the agent" })
    }

    /// The first list of a new process: what an older one held and this one does not list has lost its holder.
    async fn forget_unlisted(&self, agent: &Agent, listed: &[LeaseId]) -> Result<(), Error> {
        if agent.epoch == 1 {
            return Ok(());
        }
        for held in self.store.leases(&agent.id).await? {
            let task = &held.record;
            let (Some(lease), Some(attempt)) = (task.lease(), task.newest_attempt()) else { continue };
            let is_older = attempt.epoch < agent.epoch && !listed.contains(&lease.lease_id);
            // A push to the new process may have come after the list was made.
            if !is_older || !self.exchanges.give_up(lease.lease_id, agent.epoch) {
                continue;
            }
            warn!(task.id = %task.id(), agent.id = %agent.id, "a restarted agent does not know of its task");
            let event = TaskEvent::Forget { agent: agent.id.clone(), lease_id: lease.lease_id };
            let forgotten = self.apply(task.id(), &event, None).await;
            if let Err(error @ (Error::Store(_) | Error::Busy { .. } | Error::Broken)) = forgotten {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Renews one lease; the note shows its expiry as stored, or that it is lost.
    async fn renew(
        &self,
        agent: &Agent,
        id: TaskId,
        lease_id: LeaseId,
        fraction: Option<f64>,
    ) -> Result<Renewal, Error> {
        let now = self.clock.now();
        if let Some((lease, known)) = self.leases.find_told(&agent.id, id)
            && (fraction.is_none() || fraction == known)
            && lease.lease_id == lease_id
            && lease.expires_at > now
            && !lease.is_worth_renewing(now)
        {
            return Ok(Renewal::held(id, lease_id, lease.expires_at, now));
        }
        let event = TaskEvent::Renew { agent: agent.id.clone(), lease_id, fraction };
        match self.apply(id, &event, None).await {
            Ok(applied) => {
                let expires_at = applied.task.lease().map_or(now, |lease| lease.expires_at);
                Ok(Renewal::held(id, lease_id, expires_at, now))
            }
            Err(error @ (Error::Store(_) | Error::Busy { .. } | Error::Broken)) => Err(error),
            Err(lost) => {
                debug!(task.id = %id, agent.id = %agent.id, reason = %lost, "a lease in a heartbeat is lost");
                self.lost(agent, id, lease_id).await
            }
        }
    }

    async fn lost(&self, agent: &Agent, id: TaskId, lease_id: LeaseId) -> Result<Renewal, Error> {
        let note = LeaseNote::lost(id, lease_id);
        if !agent.features.as_ref().is_some_and(|agreed| agreed.contains(Feature::DirectivesV1)) {
            return Ok(Renewal { note, directive: None });
        }
        let task = self.store.task(id).await?;
        let directive = task.and_then(|stored| cancel_directive(&stored.record, agent, lease_id));
        Ok(Renewal { note, directive })
    }
}

fn standing_directives(agent: &Agent) -> Vec<Directive> {
    rotation_directive(agent).into_iter().chain(suspension_directive(agent)).chain(order_directives(agent)).collect()
}

/// What a beat changed beside the vitals themselves.
#[derive(Debug, Default)]
struct News {
    stale: bool,
    first_list: bool,
    takes_work_again: bool,
}

struct Renewal {
    note: LeaseNote,
    directive: Option<Directive>,
}

impl Renewal {
    fn held(id: TaskId, lease_id: LeaseId, expires_at: Timestamp, now: Timestamp) -> Self {
        Self { note: LeaseNote::renewed(id, lease_id, millis(expires_at.saturating_since(now))), directive: None }
    }
}

/// The directive that tells an agent why its attempt was ended. It follows from the task's state and is not stored,
/// so it survives a restart; its id is the lease's.
fn cancel_directive(task: &Task, agent: &Agent, lease_id: LeaseId) -> Option<Directive> {
    let attempt =
        task.state.attempts.iter().find(|attempt| attempt.lease_id == lease_id && attempt.agent == agent.id)?;
    let Stop { cause, reason } = task.stop_of(attempt)?;
    let id: DirectiveId = lease_id.to_string().parse().ok()?;
    Some(Directive::new(id, DirectiveKind::Cancel { task_id: task.id(), lease_id, reason, cause: Some(cause) }))
}
