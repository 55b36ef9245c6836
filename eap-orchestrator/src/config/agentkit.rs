//! The face of an agent platform, as it can be set.

use std::time::Duration;

use eap_types::agentkit::{AgentKitSecret, TOLERANCE};
use serde::{Deserialize, Serialize};

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
