//! How a mock is put together; all of it is checked when it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use eap_types::agentkit::AgentKitSecret;
use eap_types::{Secret, path};
use url::Url;

use crate::delivery::Patience;
use crate::error::StartError;
use crate::faults::{Faults, ReportFaults, RunFaults, WebhookFaults, WorkFaults};
use crate::mock::MockAgentKit;
use crate::shared::Settings;
use crate::simulation::below;
use crate::work::{Outcome, Work};

/// Puts a [`MockAgentKit`] together.
#[derive(Clone, Debug)]
#[must_use]
pub struct MockBuilder {
    listen: SocketAddr,
    notifies: Option<String>,
    notifies_at: Option<String>,
    secret: Option<Secret>,
    signs_rfc3339: bool,
    reports_to: Option<String>,
    key: Option<Secret>,
    patience: Patience,
    work: Work,
    faults: Faults,
}

impl Default for MockBuilder {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            notifies: None,
            notifies_at: None,
            secret: None,
            signs_rfc3339: false,
            reports_to: None,
            key: None,
            patience: Patience::default(),
            work: Work::default(),
            faults: Faults::none(),
        }
    }
}

impl MockBuilder {
    /// Listens there; otherwise on a free port of 127.0.0.1.
    pub fn listens_on(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Tells the orchestrator at this base URL that agents come and leave; their states go there too, unless
    /// [`reports_to`](Self::reports_to) says otherwise.
    pub fn notifies(mut self, base_url: impl Into<String>) -> Self {
        self.notifies = Some(base_url.into());
        self
    }

    /// Sends webhooks to exactly this URL, whatever the base is.
    pub fn notifies_at(mut self, webhook_url: impl Into<String>) -> Self {
        self.notifies_at = Some(webhook_url.into());
        self
    }

    /// Signs webhooks with a secret, any text; otherwise they are not signed.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(Secret::new(secret));
        self
    }

    /// Signs the time of webhooks to the microsecond, in RFC 3339; otherwise in whole seconds, as AgentKit does.
    pub fn signs_rfc3339(mut self) -> Self {
        self.signs_rfc3339 = true;
        self
    }

    /// Has agents report to the orchestrator at this base URL.
    pub fn reports_to(mut self, base_url: impl Into<String>) -> Self {
        self.reports_to = Some(base_url.into());
        self
    }

    /// Has agents report with an operator key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(Secret::new(key));
        self
    }

    /// Has a task take so long; otherwise 0.1 s.
    pub fn works_for(mut self, duration: Duration) -> Self {
        self.work.duration = duration;
        self
    }

    /// Sets how tasks end; otherwise in success.
    pub fn ends_in(mut self, outcome: Outcome) -> Self {
        self.work.outcome = outcome;
        self
    }

    /// Has the last report of a task name it; AgentKit's own mock does not.
    pub fn names_tasks(mut self) -> Self {
        self.work.names_tasks = true;
        self
    }

    /// Tries each message so often, with a pause after the first try that doubles up to 5 s; otherwise 5 times and 0.1 s.
    pub fn tries(mut self, attempts: u32, first_pause: Duration) -> Self {
        self.patience.attempts = attempts;
        self.patience.first_pause = first_pause;
        self
    }

    /// Waits so long for the answer to each try; otherwise 5 s.
    pub fn waits_for_answers(mut self, timeout: Duration) -> Self {
        self.patience.call_timeout = timeout;
        self
    }

    /// Sets everything that goes wrong.
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets what goes wrong with webhooks.
    pub fn with_webhooks(mut self, faults: WebhookFaults) -> Self {
        self.faults.webhooks = faults;
        self
    }

    /// Sets what goes wrong with the answers to `run`.
    pub fn with_runs(mut self, faults: RunFaults) -> Self {
        self.faults.runs = faults;
        self
    }

    /// Sets what goes wrong with simulated work.
    pub fn with_work(mut self, faults: WorkFaults) -> Self {
        self.faults.work = faults;
        self
    }

    /// Sets what goes wrong with reports.
    pub fn with_reports(mut self, faults: ReportFaults) -> Self {
        self.faults.reports = faults;
        self
    }

    /// Checks all of it, and starts.
    ///
    /// # Errors
    ///
    /// If anything makes no sense, all of it at once, or if it cannot listen.
    pub async fn start(self) -> Result<MockAgentKit, StartError> {
        let (listen, faults, work) = (self.listen, self.faults.clone(), self.work.clone());
        MockAgentKit::start(listen, self.settings()?, faults, work).await
    }

    fn settings(self) -> Result<Settings, StartError> {
        let mut problems = Vec::new();
        let mut url = |what: &str, given: Option<String>| match given.as_deref().map(Url::parse) {
            None => None,
            Some(Ok(url)) if url.scheme() == "http" && url.host().is_some() => Some(url),
            // Not quoted: a URL may carry a password.
            Some(_) => {
                problems.push(format!("{what} must be a URL that starts with http://"));
                None
            }
        };
        let base = url("the orchestrator's base", self.notifies);
        let exact = url("the webhook's address", self.notifies_at);
        let reports = url("the base for reports", self.reports_to);
        if self.patience.attempts == 0 {
            problems.push("a message must be tried at least once".to_owned());
        }
        let secret = self.secret.map(|text| AgentKitSecret::new(text.expose())).transpose();
        let secret = secret.unwrap_or_else(|error| {
            problems.push(error.to_string());
            None
        });
        if !problems.is_empty() {
            return Err(StartError::Configuration { problems });
        }
        Ok(Settings {
            webhook_url: exact.or_else(|| base.as_ref().map(|base| below(base, path::AGENTKIT_NOTIFY))),
            secret,
            signs_rfc3339: self.signs_rfc3339,
            api_url: reports.or(base),
            api_key: self.key,
            patience: self.patience,
        })
    }
}
