//! Where everything is: `GET /.well-known/eap`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::null_as_default;
use crate::{Features, PROTOCOL_VERSION};

/// What a server tells anybody who asks: the answer to `GET /.well-known/eap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WellKnown {
    /// The protocol it speaks.
    pub protocol_version: String,
    /// What it serves beyond the base.
    #[serde(default)]
    pub features: Features,
    /// The path that agents' calls begin with.
    pub base_path: String,
    /// Every call by its operation id in the OpenAPI document.
    #[serde(default, deserialize_with = "null_as_default")]
    pub endpoints: BTreeMap<String, KnownCall>,
    /// The path of the OpenAPI document.
    pub openapi: String,
    /// The path that says whether the process runs.
    pub health: String,
    /// The path that says whether it can take work.
    pub ready: String,
}

/// How one call is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KnownCall {
    /// The method of HTTP.
    pub method: String,
    /// The path, with `{agent_id}` and the like where a value belongs.
    pub path: String,
}

impl KnownCall {
    /// A call of this method and path.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Self {
        Self { method: method.into(), path: path.into() }
    }
}

impl WellKnown {
    /// A server whose paths all stand behind `prefix`, which is empty or begins with `/` and does not end with one.
    ///
    /// The paths of `endpoints` are given without it.
    pub fn new(prefix: &str, features: Features, endpoints: impl IntoIterator<Item = (String, KnownCall)>) -> Self {
        let behind = |path: &str| format!("{prefix}{path}");
        let endpoints = endpoints.into_iter().map(|(id, call)| (id, KnownCall { path: behind(&call.path), ..call }));
        Self {
            protocol_version: PROTOCOL_VERSION.to_owned(),
            features,
            base_path: behind(crate::path::AGENTS_BASE),
            endpoints: endpoints.collect(),
            openapi: behind(crate::path::OPENAPI),
            health: behind(crate::path::HEALTH),
            ready: behind(crate::path::READY),
        }
    }
}
