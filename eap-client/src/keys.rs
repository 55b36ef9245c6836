//! The operators' side: operator keys, registration secrets, and new tokens for agents.

use eap_types::agentkit::Reconciled;
use eap_types::{
    AgentDetail, AgentId, CreateKey, CreateRegistrationSecret, CreatedKey, CreatedRegistrationSecret, CredentialId,
    DrainAgent, KeyPage, PageQuery, RegistrationSecretPage, RotationAsked, SetInterval, path,
};
use http::Method;

use crate::error::ClientError;
use crate::operator::{OperatorClient, with_query};

impl OperatorClient {
    /// Asks an agent to get a new token; it is told in its heartbeats until it has one:
    /// `POST /api/v1/agents/{agent_id}/rotate-token`. Asking again changes nothing.
    ///
    /// # Errors
    ///
    /// 404 AGENT_NOT_FOUND, 422 for an agent that did not agree on `rotate.v1`, and what any call can come to.
    pub async fn rotate_agent_token(&self, agent: &AgentId) -> Result<RotationAsked, ClientError> {
        self.request(Method::POST, &path::agent_rotate(agent)).send().await?.read()
    }

    /// Has the agents of the agent platform compared with its own list: `POST /api/v1/agentkit/reconcile`.
    ///
    /// # Errors
    ///
    /// 404 NOT_FOUND where no platform is configured, 503 UNAVAILABLE where it cannot be asked, and what any call can come to.
    pub async fn reconcile(&self) -> Result<Reconciled, ClientError> {
        self.request(Method::POST, path::AGENTKIT_RECONCILE).send().await?.read()
    }

    /// Has an agent finish what it holds and take nothing new until it is resumed: `POST /api/v1/agents/{agent_id}/drain`.
    /// Asking again changes nothing.
    ///
    /// # Errors
    ///
    /// 404 AGENT_NOT_FOUND, and what any call can come to.
    pub async fn drain_agent(&self, agent: &AgentId, reason: Option<&str>) -> Result<AgentDetail, ClientError> {
        let mut drain = DrainAgent::new();
        drain.reason = reason.map(str::to_owned);
        self.request(Method::POST, &path::agent_drain(agent)).json(&drain).send().await?.read()
    }

    /// Gives a drained agent work again: `POST /api/v1/agents/{agent_id}/resume`. One that is not drained is left as it is.
    ///
    /// # Errors
    ///
    /// 404 AGENT_NOT_FOUND, and what any call can come to.
    pub async fn resume_agent(&self, agent: &AgentId) -> Result<AgentDetail, ClientError> {
        self.request(Method::POST, &path::agent_resume(agent)).send().await?.read()
    }

    /// Asks an agent to send heartbeats at another interval, 1 to 3600 s: `PUT /api/v1/agents/{agent_id}/interval`.
    ///
    /// # Errors
    ///
    /// 404 AGENT_NOT_FOUND, 422 for an interval out of range and for an agent that did not agree on `directives.v1`, and
    /// what any call can come to.
    pub async fn set_agent_interval(&self, agent: &AgentId, seconds: u64) -> Result<AgentDetail, ClientError> {
        let request = self.request(Method::PUT, &path::agent_interval(agent));
        request.json(&SetInterval::new(seconds)).send().await?.read()
    }

    /// Makes an operator key: `POST /api/v1/keys`. Its text is in the answer and nowhere else.
    ///
    /// After a call that got no answer there may be a key that nobody has: the list shows it, to be revoked.
    ///
    /// # Errors
    ///
    /// 403 FORBIDDEN for a scope that the own key has not, 422 for a request that breaks a rule, and what any call can
    /// come to.
    pub async fn create_key(&self, key: &CreateKey) -> Result<CreatedKey, ClientError> {
        self.request(Method::POST, path::KEYS).json(key).send().await?.read()
    }

    /// Lists operator keys, newest first: `GET /api/v1/keys`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn keys(&self, query: &PageQuery) -> Result<KeyPage, ClientError> {
        self.request(Method::GET, &page(path::KEYS, query)).send().await?.read()
    }

    /// Revokes an operator key, at once and for good: `DELETE /api/v1/keys/{key_id}`. Once more is no error.
    ///
    /// # Errors
    ///
    /// 404 NOT_FOUND, and what any call can come to.
    pub async fn revoke_key(&self, key: &CredentialId) -> Result<(), ClientError> {
        self.request(Method::DELETE, &path::key(key)).send().await?.nothing()
    }

    /// Makes a registration secret: `POST /api/v1/registration-secrets`. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    ///
    /// 422 for a request that breaks a rule, and what any call can come to.
    pub async fn create_registration_secret(
        &self,
        secret: &CreateRegistrationSecret,
    ) -> Result<CreatedRegistrationSecret, ClientError> {
        self.request(Method::POST, path::REGISTRATION_SECRETS).json(secret).send().await?.read()
    }

    /// Lists registration secrets, newest first: `GET /api/v1/registration-secrets`.
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, and what any call can come to.
    pub async fn registration_secrets(&self, query: &PageQuery) -> Result<RegistrationSecretPage, ClientError> {
        self.request(Method::GET, &page(path::REGISTRATION_SECRETS, query)).send().await?.read()
    }

    /// Revokes a registration secret; its agents stay: `DELETE /api/v1/registration-secrets/{secret_id}`.
    ///
    /// # Errors
    ///
    /// 404 NOT_FOUND, and what any call can come to.
    pub async fn revoke_registration_secret(&self, secret: &CredentialId) -> Result<(), ClientError> {
        self.request(Method::DELETE, &path::registration_secret(secret)).send().await?.nothing()
    }
}

fn page(path: &str, query: &PageQuery) -> String {
    let limit = query.limit.map(|limit| limit.to_string());
    with_query(path, [("cursor", query.cursor.clone()), ("limit", limit)])
}
