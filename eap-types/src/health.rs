//! Whether the server is up and whether it can work: `/health` and `/health/ready`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer to `GET /health`: the process is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Health {
    /// Always `"ok"`.
    pub status: String,
}

impl Health {
    /// The process is up.
    pub fn ok() -> Self {
        Self { status: "ok".to_owned() }
    }
}

/// The answer to `GET /health/ready`: 200 when the server can work, else 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Readiness {
    /// `"ready"` or `"not_ready"`.
    pub status: String,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// The server can work.
    pub fn ready() -> Self {
        Self { status: "ready".to_owned(), reason: None }
    }

    /// The server cannot work, and why.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self { status: "not_ready".to_owned(), reason: Some(reason.into()) }
    }

    /// Whether the server can work.
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}
