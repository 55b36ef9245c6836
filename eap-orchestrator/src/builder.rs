//! Begins an orchestrator: required things are arguments, the rest chains, `build` checks all at once.

use std::sync::Arc;

use eap_types::WorkflowDefinition;
use eap_types::webhook::SigningSecret;

use crate::artifacts::{ArtifactStore, MemoryArtifacts, Shelf};
use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::config::{Access, AgentKit, Config, ConfigProblems, OperatorKey, RegistrationSecret};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::orchestrator::Orchestrator;
use crate::outbound::OutboundCall;
use crate::store::{MemoryStore, Repository};

/// Begins an [`Orchestrator`]; see [`Orchestrator::builder`].
#[derive(Debug)]
pub struct Builder {
    store: Option<Arc<dyn Repository>>,
    config: Config,
    clock: Option<Arc<dyn Clock>>,
    entropy: Arc<dyn Entropy>,
    outbound: Option<Arc<dyn OutboundCall>>,
    artifacts: Option<Arc<dyn ArtifactStore>>,
}

impl Builder {
    pub(crate) fn over(store: Option<Arc<dyn Repository>>) -> Self {
        Self {
            store,
            config: Config::default(),
            clock: None,
            entropy: Arc::new(SystemEntropy),
            outbound: None,
            artifacts: None,
        }
    }

    /// Takes a whole configuration; what is set after this changes it.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the key of operators and hosts, at least 24 bytes.
    #[must_use]
    pub fn operator_key(mut self, key: impl Into<String>) -> Self {
        self.config.operator_key = Some(OperatorKey::new(key));
        self
    }

    /// Sets the secret agents register with, at least 24 bytes.
    #[must_use]
    pub fn registration_secret(mut self, secret: impl Into<String>) -> Self {
        self.config.registration_secret = Some(RegistrationSecret::new(secret));
        self
    }

    /// Chooses who may call without a key.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.config.access = access;
        self
    }

    /// Brings a clock, in the place of the store's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Brings a random source.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Adds a secret that callbacks are signed with; with several, each signs.
    #[must_use]
    pub fn callback_secret(mut self, secret: SigningSecret) -> Self {
        self.config.callbacks.secrets.push(secret);
        self
    }

    /// Serves the face of an agent platform.
    #[must_use]
    pub fn agentkit(mut self, agentkit: AgentKit) -> Self {
        self.config.agentkit = Some(agentkit);
        self
    }

    /// Keeps a workflow from the start on.
    #[must_use]
    pub fn workflow(mut self, workflow: WorkflowDefinition) -> Self {
        self.config.workflows.push(workflow);
        self
    }

    /// Brings what calls other endpoints, in the place of sockets.
    #[must_use]
    pub fn outbound(mut self, outbound: Arc<dyn OutboundCall>) -> Self {
        self.outbound = Some(outbound);
        self
    }

    /// Says where artifacts are kept that are too large for a result. Without it, an orchestrator over a store of its host's
    /// takes none; one in memory keeps them in memory.
    #[must_use]
    pub fn artifacts(mut self, artifacts: Arc<dyn ArtifactStore>) -> Self {
        self.artifacts = Some(artifacts);
        self
    }

    /// Checks the configuration and builds the orchestrator; nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`ConfigProblems`], naming everything that is wrong.
    pub fn build(self) -> Result<Orchestrator, ConfigProblems> {
        self.config.validate()?;
        let in_memory = || self.store.is_none().then(|| Arc::new(MemoryArtifacts::new()) as Arc<dyn ArtifactStore>);
        let artifacts = self.artifacts.or_else(in_memory).map(|store| Arc::new(Shelf::new(store)));
        let of_store = self.store.as_ref().and_then(|store| store.clock());
        let clock = self.clock.or(of_store).unwrap_or_else(|| Arc::new(SystemClock::new()));
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new(Arc::clone(&clock))));
        let metrics = Metrics::new(clock.now(), crate::http::calls());
        Ok(Orchestrator::new(Lifecycle::new(
            self.config,
            store,
            clock,
            self.entropy,
            metrics,
            self.outbound,
            artifacts,
        )))
    }
}
