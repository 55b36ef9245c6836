//! What agents that are pushed to need of the records: their secrets, their suspension, the leases of open exchanges.

use std::sync::Arc;

use eap_core::{Agent, Lease, Phase, Push, PushSuspension, Task, TaskEvent};
use eap_types::{
    AgentId, CancelTask, Directive, DirectiveKind, Feature, FieldProblem, LeaseId, PushStop, Registration, RequestId,
    Secret, TaskId, TransportKind, webhook::SigningSecret,
};
use tracing::{debug, info, warn};

use super::registration::agent_event;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::clock::draw;
use crate::error::Error;
use crate::guard::Endpoint;
use crate::store::{AgentWrite, Change, EventKind, ReplicaId, Revision, StoreError};

/// What the ids of requests for pushes begin with; behind it stands the replica that brings what they are given.
const PUSHED: &str = "push:";

/// The replica that brings what a request for pushes is given; `None` if it is none, or one of a program that did not say.
fn bringer(request: &RequestId) -> Option<ReplicaId> {
    let (replica, _) = request.as_str().strip_prefix(PUSHED)?.split_once(':')?;
    u64::from_str_radix(replica, 16).ok().map(ReplicaId)
}

/// How a registration is pushed to, and the secret it is told.
#[derive(Debug, Default)]
pub(super) struct PushOffer {
    pub(super) push: Option<Push>,
    pub(super) secret: Option<Secret>,
}

impl Lifecycle {
    /// Says why an agent that wants pushes cannot have them. An older peer is let in all the same: it may only beat.
    pub(super) fn check_pushes(&self, registration: &Registration) -> Result<(), Error> {
        if registration.is_older_peer() || !registration.transports.contains(&TransportKind::Push) {
            return Ok(());
        }
        let refused = |field: &str, kind: &str, message: String| {
            Err(Error::Invalid { problems: vec![FieldProblem::new(field, kind, message)] })
        };
        if self.outbound.is_none() {
            let message = "`push` is not served: this server makes no calls of its own".to_owned();
            return refused("body.transports", "not_supported", message);
        }
        let url = registration.endpoint_url.as_deref().unwrap_or_default();
        let admitted = Endpoint::parse(url).and_then(|endpoint| self.guard.rules().admit(&endpoint));
        admitted.or_else(|why| refused("body.endpoint_url", "value_error", why.to_string()))
    }

    /// What is kept to push to an agent: the token of an older peer, else a new secret, either of them encrypted.
    pub(super) fn push_offer(&self, registration: &Registration, id: &AgentId, token: &Secret) -> PushOffer {
        if self.outbound.is_none() || !registration.wants_pushes() {
            return PushOffer::default();
        }
        let with_token = registration.is_older_peer();
        let secret = match with_token {
            true => None,
            false => {
                SigningSecret::from_bytes(draw::<32>(&*self.entropy)).ok().map(|secret| Secret::new(secret.expose()))
            }
        };
        let sealed = self.seal.seal(id, secret.as_ref().unwrap_or(token).expose(), &*self.entropy);
        let push = sealed.map(|sealed| Push { sealed, with_token, suspended: None });
        PushOffer { push, secret }
    }

    /// The same for an agent that was given another token.
    pub(super) fn push_with_token(&self, agent: &Agent, token: &Secret) -> Option<Push> {
        let push = agent.push.clone()?;
        if !push.with_token {
            return Some(push);
        }
        let sealed = self.seal.seal(&agent.id, token.expose(), &*self.entropy)?;
        Some(Push { sealed, ..push })
    }

    /// What the server proves itself with to an agent.
    pub(crate) fn push_credential(&self, agent: &Agent) -> Option<Secret> {
        self.seal.open(&agent.id, &agent.push.as_ref()?.sealed)
    }

    /// Pushes nothing more to an agent, until it registers again or, for some reasons, shows that it is there.
    pub(crate) async fn suspend_push(self: &Arc<Self>, id: &AgentId, epoch: u64, why: PushStop) -> Result<(), Error> {
        self.set_push(id, epoch, Some(why)).await
    }

    /// The id of a request for tasks that this replica is to bring.
    pub(crate) fn request_of_push(&self) -> RequestId {
        let number = u128::from_le_bytes(draw(&*self.entropy));
        let text = format!("{PUSHED}{}:{number:032x}", self.store.replica());
        text.parse().expect("hex digits behind a word are a request id")
    }

    /// Whether a lease was made for a push that nobody brings who is at work.
    pub(crate) fn is_orphan(&self, lease: &Lease) -> bool {
        let request = lease.request_id.as_ref().filter(|request| request.as_str().starts_with(PUSHED));
        request.is_some_and(|request| bringer(request).is_none_or(|replica| !self.is_at_work(replica)))
    }

    /// Whether a lease was made for a push by this replica.
    pub(crate) fn is_brought_here(&self, lease: &Lease) -> bool {
        lease.request_id.as_ref().and_then(bringer) == Some(self.store.replica())
    }

    /// Whether another replica, which is at work, brings what this lease is about.
    pub(crate) fn is_brought_elsewhere(&self, lease: &Lease) -> bool {
        let bringer = lease.request_id.as_ref().and_then(bringer);
        bringer.is_some_and(|replica| replica != self.store.replica() && self.is_at_work(replica))
    }

    /// Takes over the push of a lease whose bringer is gone; `None` if another replica was faster, or it is over.
    pub(crate) async fn adopt(self: &Arc<Self>, id: TaskId, lease: &Lease) -> Result<Option<Task>, Error> {
        let Some(of) = lease.request_id.clone() else { return Ok(None) };
        let event = TaskEvent::Adopt { lease_id: lease.lease_id, of, by: self.request_of_push() };
        let this = Arc::clone(self);
        match self.detached(Share::Running, async move { this.apply(id, &event, None).await }).await {
            Ok(applied) => Ok(Some(applied.task)),
            Err(error @ (Error::Store(_) | Error::Busy { .. } | Error::Broken | Error::Draining)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Whether this replica still brings what a lease is about. Where there are others, the store says so: one that was away
    /// for a while may have been taken for dead.
    pub(crate) async fn still_brings(&self, id: TaskId, lease: &Lease) -> bool {
        if !self.is_followed() {
            return true;
        }
        loop {
            match self.store.task(id).await {
                Ok(stored) => {
                    let task = stored.map(|stored| stored.record);
                    let held = task.as_ref().and_then(Task::lease);
                    return held.is_some_and(|held| held.lease_id == lease.lease_id && self.is_brought_here(held));
                }
                Err(error) => debug!(task.id = %id, %error, "a push waits for the store"),
            }
            let pause = tokio::time::sleep(self.config.timing.sweep_interval);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return false;
            }
        }
    }

    /// Pushes to an agent again.
    pub(crate) async fn resume_push(self: &Arc<Self>, id: &AgentId, epoch: u64) -> Result<(), Error> {
        self.set_push(id, epoch, None).await
    }

    async fn set_push(self: &Arc<Self>, id: &AgentId, epoch: u64, why: Option<PushStop>) -> Result<(), Error> {
        let (this, id) = (Arc::clone(self), id.clone());
        self.detached(Share::Running, async move {
            for turn in 0..MAX_CONFLICTS {
                stand_aside(turn).await;
                let entry = this.directory.get(&id).filter(|entry| entry.agent.epoch == epoch);
                // A registration that came since then begins anew.
                let Some((entry, push)) = entry.and_then(|entry| Some((entry.clone(), entry.agent.push.clone()?)))
                else {
                    return Ok(());
                };
                if push.suspended.is_some() == why.is_some() {
                    return Ok(());
                }
                let now = this.clock.now();
                let suspended = why.map(|why| PushSuspension { at: now, why });
                let agent = Agent { push: Some(Push { suspended, ..push }), ..Agent::clone(&entry.agent) };
                let kind = if why.is_some() { EventKind::AgentPushSuspended } else { EventKind::AgentPushResumed };
                let change = Change {
                    events: vec![agent_event(&agent, kind, now)],
                    agents: vec![AgentWrite::Update { agent: agent.clone(), revision: entry.revision }],
                    ..Change::default()
                };
                match this.commit(change).await {
                    Ok(()) => {
                        match why {
                            Some(why) => {
                                warn!(agent.id = %id, reason = why.as_str(), "nothing is pushed to an agent any more");
                            }
                            None => info!(agent.id = %id, "tasks are pushed to an agent again"),
                        }
                        this.directory.put(agent, Revision(entry.revision.0 + 1), None);
                        this.announcements.push_changed();
                        return Ok(());
                    }
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the agent" })
        })
        .await
    }

    /// Renews the lease of an open exchange; says whether it still holds. Trouble of the store leaves it as it was.
    pub(crate) async fn keep_lease(self: &Arc<Self>, agent: &AgentId, id: TaskId, lease_id: LeaseId) -> bool {
        let now = self.clock.now();
        let known = self.leases.find(agent, id).filter(|lease| lease.lease_id == lease_id);
        if known.is_some_and(|lease| lease.expires_at > now && !lease.is_worth_renewing(now)) {
            return true;
        }
        let (this, event) = (Arc::clone(self), TaskEvent::Renew { agent: agent.clone(), lease_id, fraction: None });
        match self.detached(Share::Running, async move { this.apply(id, &event, None).await }).await {
            Ok(_) | Err(Error::Store(_) | Error::Busy { .. } | Error::Broken) => true,
            Err(_) => false,
        }
    }

    /// What an agent is told whose task was cancelled: nothing if it was not.
    pub(crate) async fn cancelled(&self, id: TaskId) -> Option<CancelTask> {
        let task = self.store.task(id).await.ok().flatten()?;
        let Phase::Cancelled { reason } = &task.record.state.phase else { return None };
        let mut told = CancelTask::new();
        told.reason.clone_from(reason);
        Some(told)
    }
}

/// Whether an agent agreed on a feature.
pub(crate) fn has_agreed(agent: &Agent, feature: Feature) -> bool {
    agent.features.as_ref().is_some_and(|agreed| agreed.contains(feature))
}

/// What tells an agent that nothing is pushed to it; it is told as long as that is so.
pub(super) fn suspension_directive(agent: &Agent) -> Option<Directive> {
    let suspended = agent.push.as_ref()?.suspended.filter(|_| has_agreed(agent, Feature::DirectivesV1))?;
    let id = format!("push-suspended-{}", suspended.at.as_micros()).parse().ok()?;
    Some(Directive::new(id, DirectiveKind::PushSuspended { reason: suspended.why }))
}
