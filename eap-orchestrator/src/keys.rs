//! Operator keys, registration secrets and agents' tokens, as a host administers them.

use std::time::Duration;

use eap_core::Grant;
use eap_types::agentkit::{AgentKitSecret, Reconciled};
use eap_types::{
    AgentDetail, AgentId, CreateKey, CreateRegistrationSecret, CreatedKey, CreatedRegistrationSecret, CredentialId,
    KeyPage, RegistrationSecretPage, RotationAsked, limits,
};

use crate::auth::Operator;
use crate::config::{ConfigProblems, check_agentkit_secrets};
use crate::error::Error;
use crate::lifecycle::{Order, invalid};
use crate::orchestrator::Orchestrator;

impl Orchestrator {
    /// From the next webhook of the agent platform on, these secrets count and no others; none that is on its way is refused
    /// in between (G28). Without any, unsigned webhooks are taken where a call may do without a key.
    ///
    /// # Errors
    ///
    /// If there are more than 8, or one has fewer than 24 bytes: then those before stay.
    pub fn replace_agentkit_secrets(&self, secrets: Vec<AgentKitSecret>) -> Result<(), ConfigProblems> {
        check_agentkit_secrets(&secrets)?;
        self.lifecycle().platform_secrets.replace(secrets);
        Ok(())
    }

    /// Compares the agents of the agent platform with its own list, as after a start, and says what that changed.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlatform`] if none is configured, [`Error::PlatformSilent`] if it cannot be asked.
    pub async fn reconcile(&self, _operator: &Operator) -> Result<Reconciled, Error> {
        self.lifecycle().reconcile().await
    }

    /// Asks an agent to get a new token; it is told in its heartbeats until it has one. Asking again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownAgent`] if there is none of this id for this operator, [`Error::Invalid`] for an agent that did
    /// not agree on `directives.v1` and `rotate.v1`.
    pub async fn rotate_token(&self, operator: &Operator, id: &AgentId) -> Result<RotationAsked, Error> {
        self.lifecycle().ask_rotation(operator, id).await
    }

    /// Has an agent finish what it holds and take nothing new, whether it hears of that or not, until it is resumed or
    /// leaves. It stays registered; a drain again changes nothing. Survives restarts of the server and of the agent.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownAgent`] if there is none of this id for this operator.
    pub async fn drain_agent(
        &self,
        operator: &Operator,
        id: &AgentId,
        reason: Option<String>,
    ) -> Result<AgentDetail, Error> {
        self.lifecycle().order(operator, id, Order::Drain { reason }).await
    }

    /// Gives a drained agent work again; one that is not drained is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownAgent`] if there is none of this id for this operator.
    pub async fn resume_agent(&self, operator: &Operator, id: &AgentId) -> Result<AgentDetail, Error> {
        self.lifecycle().order(operator, id, Order::Resume).await
    }

    /// Asks an agent to send heartbeats at another interval, in whole seconds. Until it has heard of it, its silence is
    /// judged by the longer of the new interval and the one before.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownAgent`] if there is none of this id for this operator, [`Error::Invalid`] for an interval that is
    /// not 1 s to 1 h, and for an agent that did not agree on `directives.v1`.
    pub async fn set_agent_interval(
        &self,
        operator: &Operator,
        id: &AgentId,
        interval: Duration,
    ) -> Result<AgentDetail, Error> {
        let interval = Duration::from_secs(interval.as_secs());
        if interval.is_zero() || interval > limits::MAX_HEARTBEAT_INTERVAL {
            return Err(invalid("heartbeat_interval_seconds", "must be 1 to 3600"));
        }
        self.lifecycle().order(operator, id, Order::Pace { interval }).await
    }

    /// Creates an operator key for the operator's tenant. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`Error::CannotGrant`] for a scope that the operator has not itself, [`Error::Invalid`] for an expiry that is
    /// over.
    pub async fn create_key(&self, operator: &Operator, asked: CreateKey) -> Result<CreatedKey, Error> {
        self.lifecycle().create_key(operator, asked).await
    }

    /// A page of the operator keys that were created, newest first; those of the configuration are not among them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit out of range or a cursor that is none.
    pub fn keys(&self, operator: &Operator, cursor: Option<&str>, limit: Option<usize>) -> Result<KeyPage, Error> {
        self.lifecycle().list_keys(operator, cursor, limit)
    }

    /// Revokes an operator key: when this returns, it opens nothing. Revoking it again is no error.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCredential`] if there is none of this id for this operator.
    pub async fn revoke_key(&self, operator: &Operator, id: CredentialId) -> Result<(), Error> {
        self.lifecycle().revoke(operator, id, |grant| matches!(grant, Grant::Operator { .. })).await
    }

    /// Creates a registration secret for the operator's tenant. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an expiry that is over.
    pub async fn create_registration_secret(
        &self,
        operator: &Operator,
        asked: CreateRegistrationSecret,
    ) -> Result<CreatedRegistrationSecret, Error> {
        self.lifecycle().create_registration_secret(operator, asked).await
    }

    /// A page of the registration secrets that were created, newest first; those of the configuration are not among
    /// them.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn registration_secrets(
        &self,
        operator: &Operator,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<RegistrationSecretPage, Error> {
        self.lifecycle().list_registration_secrets(operator, cursor, limit)
    }

    /// Revokes a registration secret: when this returns, nobody registers with it. Agents that did stay.
    ///
    /// # Errors
    ///
    /// As [`revoke_key`](Self::revoke_key).
    pub async fn revoke_registration_secret(&self, operator: &Operator, id: CredentialId) -> Result<(), Error> {
        self.lifecycle().revoke(operator, id, |grant| matches!(grant, Grant::Registration { .. })).await
    }
}
