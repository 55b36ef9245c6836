//! What a peer understands beyond the base protocol (docs/protocol.md, opening section).

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::macros::words;

words! {
    /// Something beyond the base protocol that a peer says it understands.
    ///
    /// No call is refused for want of a feature: features change only what a peer receives unasked.
    pub enum Feature {
        /// Takes tasks by asking for them (`…/tasks/lease`).
        PullV1 = "pull.v1",
        /// May answer a task push with 202 and report the result later.
        PushAsyncV1 = "push_async.v1",
        /// Speaks the WebSocket form of the protocol.
        WsV1 = "ws.v1",
        /// Reports progress while a task runs.
        ProgressV1 = "progress.v1",
        /// Reads directives out of heartbeat answers.
        DirectivesV1 = "directives.v1",
        /// Stops a task when it is told to.
        CancelV1 = "cancel.v1",
        /// Sends large artifacts by reference.
        ArtifactsV1 = "artifacts.v1",
        /// Replaces its token while running.
        RotateV1 = "rotate.v1",
    }
}

/// A set of features, in the protocol's order; words that are not known are dropped on input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Features(BTreeSet<Feature>);

impl Features {
    /// An empty set: a peer that knows of features and wants none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `feature` is in the set.
    pub fn contains(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// What both sides understand, which is what a server agrees to.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// The features, in the protocol's order.
    pub fn iter(&self) -> impl Iterator<Item = Feature> + '_ {
        self.0.iter().copied()
    }

    /// How many features the set holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set holds no feature.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A newer peer may announce what this version has never heard of.
        let words = Vec::<String>::deserialize(deserializer)?;
        Ok(words.iter().filter_map(|word| word.parse().ok()).collect())
    }
}

impl JsonSchema for Features {
    fn schema_name() -> Cow<'static, str> {
        "Features".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_deserialize() {
            let known: Vec<&str> = Feature::ALL.iter().map(|feature| feature.as_str()).collect();
            return json_schema!({ "type": "array", "items": { "type": "string", "examples": known } });
        }
        let item = generator.subschema_for::<Feature>();
        json_schema!({ "type": "array", "items": item, "uniqueItems": true })
    }
}
