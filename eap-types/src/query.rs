//! Queries of GET requests that several calls share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::LeaseId;

/// Which page of a list: the query of `GET /api/v1/agents`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PageQuery {
    /// Where the page starts: the `next_cursor` of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many a page holds, at most 500. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
}

/// How long to wait for the end of a task: the query of `GET /api/v1/tasks/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WaitQuery {
    /// Answer once the task is final, or after this many seconds, at most 60. Default: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 60))]
    pub wait_seconds: Option<u32>,
}

/// Which attempt an artifact belongs to: the query of `PUT …/artifacts/{path}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ArtifactQuery {
    /// The lease that the work is done under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// The number of the attempt. With neither, the newest of the task is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub attempt: Option<u32>,
}
