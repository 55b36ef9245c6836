//! Whether a configuration can be used: every problem of it at once.

use std::fmt;
use std::time::Duration;

use eap_core::CheckedWorkflow;
use eap_types::Secret;
use eap_types::agentkit::AgentKitSecret;

use super::{Access, Config, MIN_SECRET_BYTES};
use crate::guard::Endpoint;

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

/// Entries with where they stand, as in `operator_keys[0]`.
fn numbered<'a, T>(name: &'a str, first: &'a Option<T>, further: &'a [T]) -> impl Iterator<Item = (String, &'a T)> {
    let further = further.iter().enumerate().map(move |(index, entry)| (format!("{name}s[{index}]"), entry));
    first.iter().map(move |entry| (name.to_owned(), entry)).chain(further)
}
