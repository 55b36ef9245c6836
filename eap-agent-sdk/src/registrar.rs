//! Registering, again and again if need be, under one identity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_client::{AgentClient, ClientError, Credentials};
use eap_types::{AgentId, Feature, Registered, Registration, Secret, limits};
use futures_util::future::BoxFuture;
use tracing::{info, warn};

use crate::error::Error;
use crate::identity::{DataDir, Identity};
use crate::session::{Backoff, Tenure, is_denied};
use crate::shared::{Access, Shared};

/// How long a registration may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a lease lasts when the orchestrator does not say.
const USUAL_LEASE: Duration = Duration::from_secs(60);
/// No interval beyond these makes sense, whatever the orchestrator says.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// What a registration needs.
#[derive(Debug)]
pub(crate) struct Papers {
    pub(crate) registration: Registration,
    pub(crate) secret: Option<Secret>,
    /// A token of an earlier process.
    pub(crate) live_token: Option<Secret>,
    pub(crate) data_dir: Option<Arc<DataDir>>,
    /// How soon after registering a refusal looks like somebody else's doing.
    pub(crate) tenure_window: Duration,
    /// How long an agent that was in may be refused before it gives up.
    pub(crate) patience: Duration,
    /// Whether the agent is pushed to: then it need not be able to ask.
    pub(crate) takes_pushes: bool,
}

/// Registers the agent; only the heartbeat thread has one, so that there is one registration at a time.
#[derive(Debug)]
pub(crate) struct Registrar {
    client: AgentClient,
    papers: Papers,
    shared: Arc<Shared>,
    tenure: Tenure,
    backoff: Backoff,
    epoch: u64,
    denied_since: Option<Instant>,
    #[cfg(feature = "push")]
    push_secrets: Vec<eap_types::webhook::SigningSecret>,
}

impl Registrar {
    pub(crate) fn new(client: AgentClient, papers: Papers, shared: Arc<Shared>) -> Self {
        let tenure = Tenure::new(papers.tenure_window);
        let client = client.with_deadline(DEADLINE);
        Self {
            client,
            papers,
            shared,
            tenure,
            backoff: Backoff::slow(),
            epoch: 0,
            denied_since: None,
            #[cfg(feature = "push")]
            push_secrets: Vec::new(),
        }
    }

    pub(crate) fn client(&self) -> &AgentClient {
        &self.client
    }

    /// One try.
    pub(crate) fn attempt(&self) -> BoxFuture<'static, Result<Registered, ClientError>> {
        let client = self.client.clone();
        let registration = self.papers.registration.clone();
        let credentials = Credentials {
            registration_secret: self.papers.secret.clone(),
            live_token: self.papers.live_token.clone(),
            idempotency_key: None,
        };
        Box::pin(async move { client.register(&registration, credentials).await })
    }

    /// Takes in the outcome of a try: the access it gave, or how long to pause before the next.
    pub(crate) fn settle(
        &mut self,
        outcome: Result<Registered, ClientError>,
        now: Instant,
    ) -> Result<Result<Arc<Access>, Duration>, Error> {
        match outcome {
            Ok(registered) => self.admitted(registered, now).map(Ok),
            Err(error) => self.not_admitted(error, now).map(Err),
        }
    }

    /// Takes in that the token was refused: how long to pause before registering again.
    pub(crate) fn refused(&mut self, now: Instant) -> Result<Duration, Error> {
        if self.tenure.refused(now) {
            return Err(Error::IdentityInUse);
        }
        // Shown to be dead; only the identity itself can bring the agent back.
        self.papers.live_token = None;
        warn!("the orchestrator does not know the agent's token; registering again");
        Ok(self.backoff.fail(self.shared.chance(), None))
    }

    /// Takes in a token that replaces the one of `access`; it is in the identity file before anybody uses it.
    pub(crate) fn rotated(&mut self, access: &Access, token: Secret) -> Arc<Access> {
        self.save(&access.agent_id, &token);
        info!(agent.id = %access.agent_id, "the token was rotated");
        self.next_access(access, token)
    }

    /// The access under another token, of which the parts of the agent are told as of a new one.
    pub(crate) fn next_access(&mut self, access: &Access, token: Secret) -> Arc<Access> {
        self.epoch += 1;
        Arc::new(access.with_token(self.epoch, token))
    }

    /// Notes that the token works.
    pub(crate) fn confirmed(&mut self) {
        self.backoff.succeed();
    }

    fn admitted(&mut self, registered: Registered, now: Instant) -> Result<Arc<Access>, Error> {
        let serves_pull = registered.features.as_ref().is_some_and(|features| features.contains(Feature::PullV1));
        if !serves_pull && !self.papers.takes_pushes {
            return Err(Error::PullNotServed);
        }
        self.tenure.registered(&registered.agent_id, now);
        self.denied_since = None;
        self.epoch += 1;
        self.save(&registered.agent_id, &registered.auth_token);
        info!(agent.id = %registered.agent_id, epoch = self.epoch, "registered");
        let max_result_bytes = registered.limits.as_ref().map(|limits| limits.max_body_bytes);
        let has_agreed = |feature| registered.features.as_ref().is_some_and(|features| features.contains(feature));
        let max_artifact_bytes = registered.limits.as_ref().and_then(|limits| limits.max_artifact_bytes);
        Ok(Arc::new(Access {
            epoch: self.epoch,
            agent_id: registered.agent_id,
            token: registered.auth_token,
            endpoints: registered.endpoints,
            lease: registered.lease_seconds.map_or(USUAL_LEASE, Duration::from_secs).min(limits::MAX_TASK_TIMEOUT),
            #[cfg(feature = "websocket")]
            serves_sockets: has_agreed(Feature::WsV1),
            interval: sane_interval(Duration::from_secs(registered.heartbeat_interval_seconds)),
            #[cfg(feature = "push")]
            push_secrets: self.push_secrets(registered.push_secret.as_ref()),
            max_artifact_bytes: max_artifact_bytes.filter(|_| has_agreed(Feature::ArtifactsV1)),
            max_result_bytes: max_result_bytes
                .map_or(limits::MAX_RESULT_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        }))
    }

    /// The newest secret and the one before.
    #[cfg(feature = "push")]
    fn push_secrets(&mut self, newest: Option<&Secret>) -> Vec<eap_types::webhook::SigningSecret> {
        if let Some(newest) = newest.and_then(|secret| secret.expose().parse().ok()) {
            self.push_secrets.insert(0, newest);
            self.push_secrets.truncate(2);
        }
        self.push_secrets.clone()
    }

    fn not_admitted(&mut self, error: ClientError, now: Instant) -> Result<Duration, Error> {
        let had_token = self.papers.live_token.is_some();
        let is_refusal = error.status() == Some(401) || (error.status() == Some(403) && error.problem().is_some());
        if had_token && is_refusal {
            // The token of an earlier process is no longer any good; try without it.
            self.papers.live_token = None;
            return Ok(Duration::ZERO);
        }
        if is_denied(&error) {
            // An agent that was in may be locked out by a change that is being put right.
            let since = *self.denied_since.get_or_insert(now);
            if self.epoch == 0 || now.saturating_duration_since(since) >= self.papers.patience {
                return Err(Error::Registration { source: error });
            }
        }
        let pause = self.backoff.fail(self.shared.chance(), error.retry_after());
        let failures = self.backoff.failures();
        warn!(error = &error as &dyn std::error::Error, failures, ?pause, "not registered yet");
        Ok(pause)
    }

    fn save(&mut self, agent_id: &AgentId, token: &Secret) {
        let Some(data_dir) = &self.papers.data_dir else { return };
        let Some(instance_id) = self.papers.registration.instance_id.clone() else { return };
        let identity = Identity {
            name: self.papers.registration.name.clone(),
            url: Some(self.client.base_url()),
            instance_id,
            agent_id: Some(agent_id.clone()),
            auth_token: Some(token.clone()),
        };
        if let Err(error) = data_dir.save(&identity) {
            warn!(%error, "the identity file cannot be written; a restart will need the registration secret");
        }
    }
}

/// Keeps an interval within what makes sense.
pub(crate) fn sane_interval(interval: Duration) -> Duration {
    interval.clamp(INTERVALS.0, INTERVALS.1)
}
