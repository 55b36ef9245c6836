//! Everything that can be set, as plain data, checked once and all at once.

mod agentkit;
mod callbacks;
mod capacity;
mod check;
mod times;

use std::path::PathBuf;

use eap_core::{BreakerPolicy, PushPolicy, TaskPolicy};
use eap_types::{NamePolicy, Secret, TenantId, Timestamp, WorkflowDefinition};
use serde::{Deserialize, Serialize};

pub use self::agentkit::AgentKit;
pub use self::callbacks::Callbacks;
pub use self::capacity::Capacity;
pub use self::check::ConfigProblems;
pub(crate) use self::check::check_agentkit_secrets;
pub use self::times::{Retention, Timing};
use crate::auth::Origin;
use crate::guard::EndpointPolicy;

/// The shortest key or secret that is accepted, in bytes.
pub const MIN_SECRET_BYTES: usize = 24;

/// How an orchestrator behaves. Every field has a default; `Config::default()` answers to nobody until
/// keys are set or [`access`](Config::access) is chosen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where clients reach the server, as in `https://eap.example.com/orchestrator`. Default: the paths that
    /// register was called under.
    pub public_url: Option<String>,
    /// Who may call without a key. Default: nobody.
    pub access: Access,
    /// The key of operators and hosts. Default: none.
    pub operator_key: Option<OperatorKey>,
    /// Further keys of operators and hosts. Keys with fewer scopes, or with an expiry, are created over the API.
    pub operator_keys: Vec<OperatorKey>,
    /// The secret agents register with. Default: none.
    pub registration_secret: Option<RegistrationSecret>,
    /// Further secrets agents register with; several may have one name.
    pub registration_secrets: Vec<RegistrationSecret>,
    /// Which agent names are taken. Default: the protocol's own grammar.
    pub name_policy: NamePolicy,
    /// Lease lengths, heartbeat interval and the like.
    pub timing: Timing,
    /// Limits on retries, expiries and releases.
    pub tasks: TaskPolicy,
    /// How long an agent that keeps failing gets no work.
    pub breaker: BreakerPolicy,
    /// How long things are kept.
    pub retention: Retention,
    /// Sizes and counts that bound what peers can make the server hold.
    pub capacity: Capacity,
    /// How the end of a task is told to its `callback_url`.
    pub callbacks: Callbacks,
    /// How tasks are brought to agents that serve.
    pub push: PushPolicy,
    /// Hides what the server keeps to prove itself to those agents, at least 24 bytes. Default: one that is made for each
    /// process, so that after a restart nothing is pushed to an agent before it registers again.
    pub sealing_key: Option<Secret>,
    /// The face that an agent platform (AgentKit) talks to. Default: none, and its paths are not there.
    pub agentkit: Option<AgentKit>,
    /// Workflows that are kept from the start on, of the default tenant. One that is kept already in this version, with the
    /// same content, stays as it is; with another content the start fails.
    pub workflows: Vec<WorkflowDefinition>,
    /// Which endpoints the server calls.
    pub endpoints: EndpointPolicy,
    /// How `serve` protects its connections.
    pub tls: Tls,
}

/// Who may call without a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Access {
    /// Nobody: every call needs its key, secret or token.
    #[default]
    Keys,
    /// Callers on this machine, where a key or secret is not configured: listener, peer and `Host` are loopback,
    /// nothing was forwarded, and no foreign page asks. Holds under [`serve`](crate::Orchestrator::serve) alone, which
    /// knows its listener.
    Loopback,
    /// Everybody, where a key or secret is not configured: the host application guards the router.
    Open,
}

impl Access {
    /// Whether a call may do without what is not configured.
    pub(crate) fn trusts(self, origin: &Origin) -> bool {
        match self {
            Self::Keys => false,
            Self::Loopback => origin.is_local,
            Self::Open => true,
        }
    }
}

/// A key for operators and hosts, with every scope; goes into `Authorization: Bearer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorKey {
    /// Its name in logs. Default: `operator`.
    #[serde(default = "operator")]
    pub name: String,
    /// The key, at least 24 bytes.
    pub secret: Secret,
    /// Whose tasks and agents it reaches. Default: the nil uuid.
    #[serde(default)]
    pub tenant: TenantId,
}

/// A secret that agents register with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationSecret {
    /// Its name: an identity comes back under a secret of the same name only. Default: `default`.
    #[serde(default = "default_name")]
    pub name: String,
    /// The secret, at least 24 bytes.
    pub secret: Secret,
    /// The tenant its agents belong to. Default: the nil uuid.
    #[serde(default)]
    pub tenant: TenantId,
    /// When it stops working. Default: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

fn operator() -> String {
    "operator".to_owned()
}

fn default_name() -> String {
    "default".to_owned()
}

impl OperatorKey {
    /// A key named `operator` for the nil tenant.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self { name: operator(), secret: Secret::new(secret), tenant: TenantId::default() }
    }
}

impl RegistrationSecret {
    /// A secret named `default` for the nil tenant that does not expire.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self { name: default_name(), secret: Secret::new(secret), tenant: TenantId::default(), expires_at: None }
    }
}

/// How `serve` protects its connections. Off loopback one of the last three has to be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tls {
    /// Nothing was decided: loopback only.
    #[default]
    Undecided,
    /// TLS ends here.
    Files {
        /// PEM file with the certificate chain.
        cert: PathBuf,
        /// PEM file with the private key.
        key: PathBuf,
    },
    /// A proxy in front ends TLS.
    BehindProxy,
    /// Plain HTTP on a network, knowingly.
    Plaintext,
}

impl Config {
    /// Every operator key of the configuration.
    pub fn all_operator_keys(&self) -> impl Iterator<Item = &OperatorKey> {
        self.operator_key.iter().chain(&self.operator_keys)
    }

    /// Every registration secret of the configuration.
    pub fn all_registration_secrets(&self) -> impl Iterator<Item = &RegistrationSecret> {
        self.registration_secret.iter().chain(&self.registration_secrets)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_problem_is_named_at_once() {
        let mut config = Config {
            operator_key: Some(OperatorKey::new("short")),
            public_url: Some("ftp://x".into()),
            ..Config::default()
        };
        config.timing.lease = Duration::ZERO;
        config.capacity.polls = 0;
        let problems = config.validate().expect_err("the configuration is broken in five places");
        let named: Vec<_> = problems.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(
            named,
            ["operator_key.secret", "registration_secret", "public_url", "timing.lease", "capacity.polls"]
        );
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = OperatorKey::new("0123456789abcdef01234567");
        assert!(!format!("{key:?}").contains("0123456789"));
    }

    #[test]
    fn durations_are_numbers_of_seconds() {
        let text = r#"{"timing": {"lease": 90, "sweep_interval": 0.5}, "tasks": {"backoff_cap": 60}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.timing.lease, Duration::from_secs(90));
        assert_eq!(config.timing.sweep_interval, Duration::from_millis(500));
        assert_eq!(config.tasks.backoff_cap, Duration::from_secs(60));
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["timing"]["lease"], 90);
        for wrong in ["-1", "\"5s\"", "1e30"] {
            assert!(
                serde_json::from_str::<Config>(&format!(r#"{{"timing": {{"lease": {wrong}}}}}"#)).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"operators_key": {}}"#).is_err());
    }
}
