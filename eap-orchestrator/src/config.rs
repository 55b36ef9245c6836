//! Everything that can be set, as plain data, checked once and all at once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use eap_core::{BreakerPolicy, CallbackPolicy, CheckedWorkflow, LivenessPolicy, PushPolicy, TaskPolicy};
use eap_types::agentkit::{AgentKitSecret, TOLERANCE};
use eap_types::webhook::SigningSecret;
use eap_types::{NamePolicy, Secret, TenantId, Timestamp, WorkflowDefinition, limits};
use serde::{Deserialize, Serialize};

use crate::auth::Origin;
use crate::guard::{Endpoint, EndpointPolicy};

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

/// How the end of a task is told to its `callback_url`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Callbacks {
    /// What callbacks are signed with, as in `whsec_…`, at most 8; each signs, so that one can be replaced without a gap.
    /// Default: none, and a task with a `callback_url` is refused.
    pub secrets: Vec<SigningSecret>,
    /// How long a receiver may take to answer, from finding its address on. Default: 30 s.
    #[serde(with = "eap_core::seconds")]
    pub timeout: Duration,
    /// How often a callback is tried. Default: 10, which takes about a day.
    pub max_tries: u32,
    /// The longest wait after the first try; four times as long after each further one. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub backoff_base: Duration,
    /// The longest wait of all. Default: 6 h.
    #[serde(with = "eap_core::seconds")]
    pub backoff_cap: Duration,
    /// How many are on their way at once. Default: 32.
    pub at_once: usize,
    /// How many of them to the same scheme, host and port. Default: 4.
    pub per_receiver: usize,
}

impl Default for Callbacks {
    fn default() -> Self {
        let CallbackPolicy { max_tries, backoff_base, backoff_cap, .. } = CallbackPolicy::default();
        Self {
            secrets: Vec::new(),
            timeout: Duration::from_secs(30),
            max_tries,
            backoff_base,
            backoff_cap,
            at_once: 32,
            per_receiver: 4,
        }
    }
}

impl Callbacks {
    /// What is decided by after each try.
    pub(crate) fn policy(&self) -> CallbackPolicy {
        let mut policy = CallbackPolicy::default();
        policy.max_tries = self.max_tries;
        policy.backoff_base = self.backoff_base;
        policy.backoff_cap = self.backoff_cap;
        policy
    }
}

/// Intervals and lengths; a duration is given as a number of seconds, as in `"lease": 60`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timing {
    /// How long a lease holds without renewal. Default: 60 s.
    #[serde(with = "eap_core::seconds")]
    pub lease: Duration,
    /// The interval at which agents are asked to beat; suspect and offline follow from it. Default: 30 s.
    #[serde(with = "eap_core::seconds")]
    pub heartbeat_interval: Duration,
    /// How often due deadlines are looked for. Default: 1 s.
    #[serde(with = "eap_core::seconds")]
    pub sweep_interval: Duration,
    /// A gap in the sweeper's pulse after which every lease and every silence starts afresh. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub pulse_gap: Duration,
    /// How long a deregistered or silent agent is kept. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub keep_agents: Duration,
    /// How long an agent's token works on after it was rotated. Default: 10 min.
    #[serde(with = "eap_core::seconds")]
    pub rotation_overlap: Duration,
    /// How long `shutdown` waits for what is in flight. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub shutdown_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            sweep_interval: Duration::from_secs(1),
            pulse_gap: Duration::from_secs(10),
            keep_agents: Duration::from_secs(7 * 24 * 3600),
            rotation_overlap: Duration::from_secs(600),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Timing {
    /// What liveness is read by.
    #[must_use]
    pub fn liveness(&self) -> LivenessPolicy {
        let mut policy = LivenessPolicy::default();
        policy.heartbeat_interval = self.heartbeat_interval;
        policy
    }
}

/// How long things are kept once they are over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Final tasks, with results and history. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub tasks: Duration,
    /// Sessions that are over. The tasks of their steps go as every task does. Default: 30 days.
    #[serde(with = "eap_core::seconds")]
    pub sessions: Duration,
    /// Events. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub events: Duration,
    /// Late results. Default: 30 days.
    #[serde(with = "eap_core::seconds")]
    pub late_results: Duration,
    /// Idempotency keys. Default: 24 hours.
    #[serde(with = "eap_core::seconds")]
    pub idempotency_keys: Duration,
    /// That a webhook took effect. It has to be longer than a webhook is valid, so at least an hour. Default: 24 hours.
    #[serde(with = "eap_core::seconds")]
    pub webhooks: Duration,
    /// What agents of a platform said of their state, but the newest of each. Default: 7 days.
    #[serde(with = "eap_core::seconds")]
    pub states: Duration,
    /// Operator keys and registration secrets, once revoked or expired. Default: 30 days.
    #[serde(with = "eap_core::seconds")]
    pub credentials: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            tasks: DAY * 7,
            sessions: DAY * 30,
            events: DAY * 7,
            late_results: DAY * 30,
            idempotency_keys: DAY,
            webhooks: DAY,
            states: DAY * 7,
            credentials: DAY * 30,
        }
    }
}

/// Sizes and counts that bound what peers can make the server hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Capacity {
    /// Body of a submit. Default: 1 MiB.
    pub submit_bytes: usize,
    /// Body of a batch of submits, each within `submit_bytes`. Default: 8 MiB.
    pub batch_bytes: usize,
    /// Body of a result or a batch of them. Default: 8 MiB.
    pub result_bytes: usize,
    /// Bodies being received, in all; a request past it is answered 503. Default: 256 MiB.
    pub bodies_bytes: usize,
    /// Connections in all; more wait to be accepted. Default: 8,192.
    pub connections: usize,
    /// Connections from one address that is not loopback. Default: 512.
    pub connections_per_address: usize,
    /// Polls that one agent may have waiting; one more is answered 429. Default: 4.
    pub polls_per_agent: usize,
    /// Polls waiting in all; one more is answered 503. Default: 100,000.
    pub polls: usize,
    /// Streams of events in all; one more is answered 503. Default: 1,000.
    pub watchers: usize,
    /// WebSockets in all; one more is answered 503. Default: 10,000.
    pub sockets: usize,
    /// Pushes under way at once; each may hold an answer of `result_bytes`. A push that finds no place for a sixth of
    /// its lease goes back to the queue.
    /// Default: 256.
    pub pushes: usize,
    /// An artifact that is uploaded by reference. Default: 64 MiB.
    pub artifact_bytes: u64,
    /// All artifacts together that are uploaded for one attempt; more is answered 413. Default: 256 MiB.
    pub artifact_bytes_per_attempt: u64,
    /// All uploads that are kept; more is answered 503 until some have gone with their tasks. What was kept before a start
    /// counts within some minutes of it. Default: 64 GiB.
    pub artifact_bytes_in_all: u64,
    /// Parts of artifacts that one agent may be sending; one more is answered 429. Default: 4.
    pub uploads_per_agent: usize,
    /// Writes under way in all; one more is answered 503. Default: 10,000.
    pub writes: usize,
    /// How long a connection may take to send its first byte or a request's header. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub header_timeout: Duration,
    /// How long a request's body may take. Default: 30 s.
    #[serde(with = "eap_core::seconds")]
    pub body_timeout: Duration,
    /// How long a connection may idle between requests. Default: 75 s.
    #[serde(with = "eap_core::seconds")]
    pub idle_timeout: Duration,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            submit_bytes: limits::MAX_SUBMIT_BYTES,
            batch_bytes: limits::MAX_BATCH_BYTES,
            result_bytes: limits::MAX_RESULT_BYTES,
            bodies_bytes: 256 * 1024 * 1024,
            connections: 8_192,
            connections_per_address: 512,
            polls_per_agent: 4,
            polls: 100_000,
            watchers: 1_000,
            sockets: 10_000,
            pushes: 256,
            artifact_bytes: limits::MAX_ARTIFACT_BYTES as u64,
            artifact_bytes_per_attempt: 256 * 1024 * 1024,
            artifact_bytes_in_all: 64 * 1024 * 1024 * 1024,
            uploads_per_agent: 4,
            writes: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
        }
    }
}

/// How the server gets along with an agent platform that speaks as AgentKit does (docs/protocol.md, section 6).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AgentKit {
    /// Where the platform is, as in `http://agentkit:8000`. Default: nowhere, and its agents are given no work.
    pub url: Option<String>,
    /// Sends work straight to the `contactEndpoint` of an agent instead, within the endpoint policy. Default: false.
    pub direct: bool,
    /// What its webhooks are signed with, at most 8, of at least 24 bytes; any of them will do, so that one can be replaced without a gap.
    /// Default: none, and unsigned webhooks are taken where `access` lets a call do without a key; from nowhere else.
    pub secrets: Vec<AgentKitSecret>,
    /// Takes unsigned webhooks from everybody who reaches the server. Default: false.
    pub unsigned: bool,
    /// How far the time of a webhook may lie from the server's. Default: 300 s; at most 15 minutes.
    #[serde(with = "eap_core::seconds")]
    pub tolerance: Duration,
}

impl Default for AgentKit {
    fn default() -> Self {
        Self { url: None, direct: false, secrets: Vec::new(), unsigned: false, tolerance: TOLERANCE }
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

/// What is wrong with a configuration: every problem, by the configuration's own key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems(Vec<String>);

impl ConfigProblems {
    /// The problems, one line each.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not valid: {}", self.0.join("; "))
    }
}

impl std::error::Error for ConfigProblems {}

/// What secrets of an agent platform have to be.
fn agentkit_secrets(secrets: &[AgentKitSecret], mut expect: impl FnMut(bool, &str)) {
    expect(secrets.len() <= 8, "agentkit.secrets has more than 8");
    for (place, secret) in secrets.iter().enumerate() {
        let is_long = secret.expose().len() >= MIN_SECRET_BYTES;
        expect(is_long, &format!("agentkit.secrets[{place}] has fewer than {MIN_SECRET_BYTES} bytes"));
    }
}

/// Checks secrets of an agent platform that are to take the place of others.
pub(crate) fn check_agentkit_secrets(secrets: &[AgentKitSecret]) -> Result<(), ConfigProblems> {
    let mut problems = Vec::new();
    agentkit_secrets(secrets, |holds, problem| {
        if !holds {
            problems.push(problem.to_owned());
        }
    });
    if problems.is_empty() { Ok(()) } else { Err(ConfigProblems(problems)) }
}

impl Config {
    /// Checks every field and names all problems at once.
    ///
    /// # Errors
    ///
    /// If anything is out of range, or nobody could ever call.
    pub fn validate(&self) -> Result<(), ConfigProblems> {
        let mut found = Vec::new();
        let mut expect = |holds: bool, problem: &str| {
            if !holds {
                found.push(problem.to_owned());
            }
        };
        let long_enough = |secret: &Secret| secret.expose().len() >= MIN_SECRET_BYTES;
        for (place, key) in numbered("operator_key", &self.operator_key, &self.operator_keys) {
            expect(long_enough(&key.secret), &format!("{place}.secret has fewer than 24 bytes"));
            expect(!key.name.is_empty(), &format!("{place}.name is empty"));
        }
        for (place, secret) in numbered("registration_secret", &self.registration_secret, &self.registration_secrets) {
            expect(long_enough(&secret.secret), &format!("{place}.secret has fewer than 24 bytes"));
            expect(!secret.name.is_empty(), &format!("{place}.name is empty"));
        }
        if self.access == Access::Keys {
            let has_key = self.all_operator_keys().next().is_some();
            expect(has_key, "operator_key is missing (or choose access: loopback or open)");
            expect(
                self.all_registration_secrets().next().is_some(),
                "registration_secret is missing (or choose access: loopback or open)",
            );
        }
        if let Some(url) = &self.public_url {
            let usable =
                url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            expect(usable, "public_url is not an http or https URL");
        }
        let timing = &self.timing;
        let second = Duration::from_secs(1);
        expect(timing.lease >= second && timing.lease <= second * 3600, "timing.lease is not between 1 s and 1 h");
        expect(timing.heartbeat_interval >= second, "timing.heartbeat_interval is shorter than 1 s");
        expect(timing.sweep_interval >= Duration::from_millis(10), "timing.sweep_interval is shorter than 10 ms");
        expect(timing.pulse_gap >= timing.sweep_interval * 4, "timing.pulse_gap is shorter than four sweep intervals");
        let tasks = &self.tasks;
        expect(tasks.max_expiries > 0, "tasks.max_expiries is 0");
        expect(tasks.max_releases > 0, "tasks.max_releases is 0");
        expect(tasks.backoff_base <= tasks.backoff_cap, "tasks.backoff_base is longer than tasks.backoff_cap");
        if let Some(agentkit) = &self.agentkit {
            let is_usable = |url: &String| Endpoint::parse(url).is_ok();
            expect(
                agentkit.url.as_ref().is_none_or(is_usable),
                "agentkit.url is not an http or https URL without user and fragment",
            );
            expect(
                timing.keep_agents >= second * 3600,
                "timing.keep_agents is less than an hour, in which a webhook may come late",
            );
            agentkit_secrets(&agentkit.secrets, &mut expect);
            expect(
                (second..=second * 900).contains(&agentkit.tolerance),
                "agentkit.tolerance is not between 1 s and 15 minutes",
            );
        }
        for (index, workflow) in self.workflows.iter().enumerate() {
            for problem in CheckedWorkflow::check(workflow.clone(), None).err().into_iter().flatten() {
                let told = problem.to_field(&format!("workflows[{index}]"));
                expect(false, &format!("{}: {}", told.field, told.message));
            }
        }
        let callbacks = &self.callbacks;
        expect(callbacks.secrets.len() <= 8, "callbacks.secrets has more than 8");
        expect(!callbacks.timeout.is_zero(), "callbacks.timeout is 0");
        expect(callbacks.max_tries > 0, "callbacks.max_tries is 0");
        expect(!callbacks.backoff_base.is_zero(), "callbacks.backoff_base is 0");
        expect(
            callbacks.backoff_base <= callbacks.backoff_cap,
            "callbacks.backoff_base is longer than callbacks.backoff_cap",
        );
        expect((1..=1_000).contains(&callbacks.at_once), "callbacks.at_once is not between 1 and 1000");
        expect(callbacks.per_receiver > 0, "callbacks.per_receiver is 0");
        let push = &self.push;
        expect(push.max_tries > 0, "push.max_tries is 0");
        expect(push.suspend_failures > 0, "push.suspend_failures is 0");
        expect(!push.answer_timeout.is_zero(), "push.answer_timeout is 0");
        expect(!push.backoff_base.is_zero(), "push.backoff_base is 0");
        expect(push.backoff_base <= push.backoff_cap, "push.backoff_base is longer than push.backoff_cap");
        expect(push.backoff_base <= push.pause_cap, "push.backoff_base is longer than push.pause_cap");
        expect(self.sealing_key.as_ref().is_none_or(long_enough), "sealing_key has fewer than 24 bytes");
        for problem in self.endpoints.problems() {
            expect(false, problem);
        }
        let breaker = &self.breaker;
        expect(!breaker.cooldown.is_zero(), "breaker.cooldown is 0");
        expect(breaker.cooldown <= breaker.max_cooldown, "breaker.cooldown is longer than breaker.max_cooldown");
        let capacity = &self.capacity;
        for (value, name) in [
            (capacity.submit_bytes, "submit_bytes"),
            (capacity.batch_bytes, "batch_bytes"),
            (capacity.result_bytes, "result_bytes"),
            (capacity.bodies_bytes, "bodies_bytes"),
            (capacity.connections, "connections"),
            (capacity.connections_per_address, "connections_per_address"),
            (capacity.polls_per_agent, "polls_per_agent"),
            (capacity.polls, "polls"),
            (capacity.watchers, "watchers"),
            (capacity.pushes, "pushes"),
            (capacity.writes, "writes"),
            (capacity.uploads_per_agent, "uploads_per_agent"),
        ] {
            expect(value > 0, &format!("capacity.{name} is 0"));
        }
        expect(self.retention.webhooks >= Duration::from_secs(3600), "retention.webhooks is less than an hour");
        expect(capacity.artifact_bytes > 0, "capacity.artifact_bytes is 0");
        expect(
            capacity.artifact_bytes_per_attempt >= capacity.artifact_bytes,
            "capacity.artifact_bytes_per_attempt is less than capacity.artifact_bytes",
        );
        expect(
            capacity.artifact_bytes_in_all >= capacity.artifact_bytes_per_attempt,
            "capacity.artifact_bytes_in_all is less than capacity.artifact_bytes_per_attempt",
        );
        expect(
            capacity.bodies_bytes >= capacity.result_bytes,
            "capacity.bodies_bytes is less than capacity.result_bytes",
        );
        expect(
            capacity.bodies_bytes >= capacity.batch_bytes,
            "capacity.bodies_bytes is less than capacity.batch_bytes",
        );
        for (value, name) in [
            (capacity.header_timeout, "header_timeout"),
            (capacity.body_timeout, "body_timeout"),
            (capacity.idle_timeout, "idle_timeout"),
        ] {
            expect(!value.is_zero(), &format!("capacity.{name} is 0"));
        }
        if found.is_empty() { Ok(()) } else { Err(ConfigProblems(found)) }
    }
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

/// Entries with where they stand, as in `operator_keys[0]`.
fn numbered<'a, T>(name: &'a str, first: &'a Option<T>, further: &'a [T]) -> impl Iterator<Item = (String, &'a T)> {
    let further = further.iter().enumerate().map(move |(index, entry)| (format!("{name}s[{index}]"), entry));
    first.iter().map(move |entry| (name.to_owned(), entry)).chain(further)
}

#[cfg(test)]
mod tests {
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
