//! Agents come, come back, and leave.

use std::sync::Arc;

use eap_core::{
    Agent, AgentEvent, Credential, EndOfLease, OnPlatform, Orders, Quote, Standing, TaskEvent, Vitals, check_limits,
};
use eap_types::{
    AgentId, Feature, Features, FieldProblem, IdempotencyKey, JsonObject, NameRefusal, Registration,
    RegistrationLimits, Secret, Timestamp,
};
use tracing::{debug, info};

use super::pushes::PushOffer;
use super::submit::fingerprint;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::auth::{Admission, AgentToken, hex};
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{
    AgentWrite, Change, CredentialWrite, EventKind, IdempotencyKeyRow, IdempotencyScope, IdempotentTarget, NewEvent,
    Revision, StoreError, WebhookRow,
};

/// What this version serves of the protocol's features.
const FEATURES: [Feature; 8] = [
    Feature::PullV1,
    Feature::PushAsyncV1,
    Feature::WsV1,
    Feature::ProgressV1,
    Feature::DirectivesV1,
    Feature::CancelV1,
    Feature::ArtifactsV1,
    Feature::RotateV1,
];

/// A registration and what it came with.
#[derive(Debug)]
pub(crate) struct Registering {
    pub(crate) registration: Registration,
    /// What its secret admits to, or why it does not.
    pub(crate) admission: Result<Admission, Error>,
    /// The agent whose live token came along.
    pub(crate) live: Option<Arc<Entry>>,
    pub(crate) key: Option<IdempotencyKey>,
}

/// The agent as it now is, and its token, which is shown this once.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) agent: Arc<Agent>,
    pub(crate) token: Secret,
    /// What pushes to it are signed with, shown this once as well.
    pub(crate) push_secret: Option<Secret>,
}

impl Lifecycle {
    pub(crate) async fn register(self: &Arc<Self>, registering: Registering) -> Result<Welcome, Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move { this.registered(registering).await }).await
    }

    async fn registered(&self, registering: Registering) -> Result<Welcome, Error> {
        let Registering { registration, admission, live, key } = registering;
        self.config.name_policy.check(&registration.name).map_err(|refusal| match refusal {
            NameRefusal::Prefix => Error::NameWithoutPrefix,
            refusal => {
                Error::Invalid { problems: vec![FieldProblem::new("body.name", "value_error", refusal.to_string())] }
            }
        })?;
        self.check_pushes(&registration)?;
        // Held until the directory has the agent, which then finds them compiled.
        let _schemas =
            self.directory.shelf.read(&registration.task_schemas).map_err(|problems| Error::Invalid { problems })?;
        let by_token = admission.is_err();
        let admission = admit(admission, live.as_deref())?;
        // Held until the use is counted, so that of many registrations at once none is turned away for haste.
        let _turn = if Self::is_counted(&admission) { Some(self.keys.counting.lock().await) } else { None };
        let body_sha256 = fingerprint(&registration)?;
        let scope = key.map(|key| IdempotencyScope {
            principal: format!("{}/{}", admission.tenant, admission.secret.as_deref().unwrap_or("open")),
            route: "register",
            key: key.to_string(),
        });
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            let first = match &scope {
                Some(scope) => self.store.idempotent(scope).await?,
                None => None,
            };
            if first.as_ref().is_some_and(|first| first.body_sha256 != body_sha256) {
                return Err(Error::IdempotencyConflict);
            }
            let known = match first.as_ref().map(|first| &first.target) {
                Some(IdempotentTarget::Agent(id)) => match self.directory.get(id) {
                    // Its commit is done and not yet announced. One still missing at the last turn is purged.
                    None if turn + 1 < MAX_CONFLICTS => {
                        self.catch_up().await?;
                        continue;
                    }
                    known => known,
                },
                _ => registration
                    .instance_id
                    .as_ref()
                    .and_then(|instance| self.directory.of_identity(admission.tenant, &registration.name, instance)),
            };
            let is_live =
                known.as_ref().zip(live.as_ref()).is_some_and(|(known, live)| known.agent.id == live.agent.id);
            may_register(known.as_ref().map(|known| &*known.agent), &admission, is_live, by_token)?;
            let now = self.clock.now();
            let admission = within_limits(&registration, &admission, live.as_deref().filter(|_| is_live))?;
            // Neither a repeat nor the live token takes a use of the secret.
            let takes_use = !is_live && first.is_none();
            let used = match admission.id.filter(|_| takes_use) {
                Some(id) => self.use_of(admission.tenant, id, now)?,
                None => None,
            };
            let (agent, token, push_secret) = self.next_record(&registration, &admission, known.as_deref(), now);
            let idempotency = scope.clone().filter(|_| first.is_none()).map(|scope| IdempotencyKeyRow {
                scope,
                body_sha256,
                target: IdempotentTarget::Agent(agent.id.clone()),
                created_at: now,
            });
            match self.admit_agent(agent, known.as_deref(), idempotency, used, now).await {
                Ok(agent) => {
                    if let Some(id) = admission.id {
                        self.keys.used(id, now);
                    }
                    return Ok(Welcome { agent, token, push_secret });
                }
                // The same identity registers twice at once: the later one comes back as the same agent.
                Err(StoreError::Conflict { .. } | StoreError::Duplicate { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy { reason: "other registrations of this identity kept coming" })
    }

    /// What this server serves.
    pub(crate) fn served_features(&self) -> Features {
        let is_served = |feature: &Feature| match feature {
            Feature::PushAsyncV1 => self.outbound.is_some(),
            Feature::ArtifactsV1 => self.artifacts.is_some(),
            _ => true,
        };
        FEATURES.into_iter().filter(is_served).collect()
    }

    /// The agent's record under its next epoch, with a fresh token.
    fn next_record(
        &self,
        registration: &Registration,
        admission: &Admission,
        known: Option<&Entry>,
        now: Timestamp,
    ) -> (Agent, Secret, Option<Secret>) {
        let id = known.map_or_else(|| AgentId::v7(now, draw(&*self.entropy)), |known| known.agent.id.clone());
        let (token, digest) = AgentToken::mint(&id, &*self.entropy);
        let PushOffer { push, secret: push_secret } = self.push_offer(registration, &id, &token);
        let registration = registration.clone();
        let agent = Agent {
            id,
            tenant: admission.tenant,
            name: registration.name,
            instance_id: registration.instance_id,
            version: registration.version,
            agent_type: registration.agent_type,
            capabilities: registration.capabilities,
            labels: registration.labels,
            endpoint_url: registration.endpoint_url,
            metadata: registration.metadata,
            task_schemas: registration.task_schemas,
            features: registration.features.map(|offered| offered.intersection(&self.served_features())),
            max_concurrent_tasks: registration.max_concurrent_tasks,
            registered_with: admission.secret.clone(),
            admitted_capabilities: admission.capabilities(),
            token_sha256: Some(hex(&digest)),
            previous_token: None,
            rotation: None,
            orders: known.map(|known| known.agent.orders.of_next_epoch()).unwrap_or_default(),
            push,
            platform: None,
            epoch: known.map_or(1, |known| known.agent.epoch + 1),
            registered_at: now,
            standing: Standing::Active,
        };
        (agent, token, push_secret)
    }

    async fn admit_agent(
        &self,
        agent: Agent,
        known: Option<&Entry>,
        idempotency: Option<IdempotencyKeyRow>,
        used: Option<(Credential, Revision)>,
        now: Timestamp,
    ) -> Result<Arc<Agent>, StoreError> {
        let mut vitals = Vitals::registered(agent.epoch, now);
        if let Some(known) = known {
            vitals.record = known.with_vitals(|vitals| vitals.record.clone());
        }
        let mut change = Change { idempotency, ..Change::default() };
        let counted = used.map(|(secret, revision)| {
            let write = CredentialWrite::Update { credential: secret.clone(), revision };
            change.credentials.push(write);
            (secret, Revision(revision.0 + 1))
        });
        change.events.push(agent_event(&agent, EventKind::AgentRegistered, now));
        let revision = match known {
            None => {
                change.agents.push(AgentWrite::Insert(agent.clone(), vitals.clone()));
                Revision(1)
            }
            Some(known) => {
                change.agents.push(AgentWrite::Update { agent: agent.clone(), revision: known.revision });
                change.vitals.push((agent.id.clone(), vitals.clone()));
                Revision(known.revision.0 + 1)
            }
        };
        let mut replaced = Vec::new();
        if agent.instance_id.is_none() {
            for older in self.directory.superseded_by(&agent) {
                let Some(standing) = older.agent.standing.after(AgentEvent::Supersede, now) else { continue };
                let record = Agent { standing, ..Agent::clone(&older.agent) };
                change.events.push(agent_event(&record, EventKind::AgentSuperseded, now));
                change.agents.push(AgentWrite::Update { agent: record.clone(), revision: older.revision });
                replaced.push((record, Revision(older.revision.0 + 1)));
            }
        }
        self.commit(change).await?;
        if let Some((secret, revision)) = counted {
            self.keys.put(secret, revision);
        }
        for (record, revision) in replaced {
            self.directory.put(record, revision, None);
        }
        info!(agent.id = %agent.id, agent.name = %agent.name, agent.epoch, "agent registered");
        let shared = Arc::new(agent);
        self.directory.put(Agent::clone(&shared), revision, Some(vitals));
        self.announcements.agent_freed(&shared.id);
        if shared.push.is_some() {
            self.announcements.push_changed();
        }
        Ok(shared)
    }

    /// Takes an agent out: its token stops working at once, its leases go back to the queue. Says how many.
    ///
    /// The caller proved to be `agent`; a registration that came since then is another process and stays.
    pub(crate) async fn deregister(self: &Arc<Self>, agent: &Agent) -> Result<u64, Error> {
        let (this, id, epoch) = (Arc::clone(self), agent.id.clone(), agent.epoch);
        self.detached(Share::Running, async move {
            for turn in 0..MAX_CONFLICTS {
                stand_aside(turn).await;
                let entry = this.directory.get(&id).filter(|entry| entry.agent.epoch == epoch);
                match this.retire(&*entry.ok_or(Error::InvalidToken)?).await {
                    Err(Error::Store(StoreError::Conflict { .. })) => {}
                    answer => return answer,
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the agent" })
        })
        .await
    }

    async fn retire(&self, entry: &Entry) -> Result<u64, Error> {
        self.retire_with(entry, entry.agent.platform.clone(), None).await
    }

    /// The same by a webhook, which takes effect with it.
    pub(super) async fn retire_with(
        &self,
        entry: &Entry,
        platform: Option<OnPlatform>,
        webhook: Option<WebhookRow>,
    ) -> Result<u64, Error> {
        let now = self.clock.now();
        let standing = entry.agent.standing.after(AgentEvent::Deregister, now).ok_or(Error::UnknownAgent)?;
        let agent = Agent {
            standing,
            token_sha256: None,
            previous_token: None,
            rotation: None,
            orders: Orders::default(),
            push: None,
            platform,
            ..Agent::clone(&entry.agent)
        };
        let mut change = Change { webhook, ..Change::default() };
        change.agents.push(AgentWrite::Update { agent: agent.clone(), revision: entry.revision });
        change.events.push(agent_event(&agent, EventKind::AgentDeregistered, now));
        self.commit(change).await?;
        self.directory.put(agent.clone(), Revision(entry.revision.0 + 1), None);
        let released = self.release_all(&agent.id, agent.epoch).await?;
        info!(agent.id = %agent.id, agent.name = %agent.name, released, "agent deregistered");
        Ok(released)
    }

    /// Gives back what a deregistered agent holds of its registrations up to `epoch`, under which no claim can follow.
    pub(super) async fn release_all(&self, agent: &AgentId, epoch: u64) -> Result<u64, Error> {
        let mut released = 0;
        for held in self.store.leases(agent).await? {
            let Some(lease) = held.record.lease() else { continue };
            if held.record.newest_attempt().is_some_and(|attempt| attempt.epoch > epoch) {
                continue;
            }
            let event = TaskEvent::Release {
                agent: agent.clone(),
                quote: Quote::lease(lease.lease_id),
                why: EndOfLease::Deregistered,
                chance: self.chance(),
            };
            match self.apply(held.record.id(), &event, None).await {
                Ok(_) => released += 1,
                Err(error @ (Error::Store(_) | Error::Busy { .. })) => return Err(error),
                Err(ended) => debug!(task.id = %held.record.id(), reason = %ended, "the lease had ended by itself"),
            }
        }
        Ok(released)
    }
}

/// A secret lets in; so does the live token of the same identity, under the secret it once came with.
fn admit(admission: Result<Admission, Error>, live: Option<&Entry>) -> Result<Admission, Error> {
    match (admission, live) {
        (Ok(admission), _) => Ok(admission),
        (Err(_), Some(live)) => Ok(admission_of(&live.agent)),
        (Err(denied), None) => Err(denied),
    }
}

/// What an agent was let in with, as its live token still says.
fn admission_of(agent: &Agent) -> Admission {
    let mut limits = RegistrationLimits::new();
    limits.capabilities.clone_from(&agent.admitted_capabilities);
    let secret = agent.registered_with.clone();
    Admission { secret, tenant: agent.tenant, limits: Arc::new(limits), id: None }
}

/// What a registration is let in with: its secret, if what it says lies within the limits of that; else, for an agent
/// that came with its live token, what let it in before.
fn within_limits(registration: &Registration, admission: &Admission, live: Option<&Entry>) -> Result<Admission, Error> {
    let check = |admission: Admission| {
        check_limits(&admission.limits, registration)
            .map(|()| admission)
            .map_err(|reason| Error::RegistrationDenied { reason })
    };
    check(admission.clone()).or_else(|denied| match live {
        Some(live) => check(admission_of(&live.agent)),
        None => Err(denied),
    })
}

/// Whether a registration may come back as `known`, or come as somebody new: with a live token of `known` itself
/// (`is_live`), else with a secret, and to come back with one of the same name. A token opens nothing but its own agent.
fn may_register(known: Option<&Agent>, admission: &Admission, is_live: bool, by_token: bool) -> Result<(), Error> {
    let denied = |reason| Err(Error::RegistrationDenied { reason });
    match known {
        _ if is_live => Ok(()),
        _ if by_token => denied("an agent's token registers that agent alone; a registration secret is needed"),
        Some(known) if known.registered_with != admission.secret => {
            denied("this identity was registered with another secret")
        }
        _ => Ok(()),
    }
}

/// An event about an agent.
pub(super) fn agent_event(agent: &Agent, kind: EventKind, at: Timestamp) -> NewEvent {
    NewEvent {
        tenant: agent.tenant,
        at,
        kind,
        task: None,
        agent: Some(agent.id.clone()),
        attempt: None,
        detail: JsonObject::default(),
    }
}
