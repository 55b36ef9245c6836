//! Free words to route by.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::checked::{IdError, has_chars};
use crate::limits::MAX_LABELS;

/// Free words to route by, as in `region=eu`: at most 32 pairs, none by default.
///
/// A key has 1 to 63 characters of `A-Z`, `a-z`, `0-9`, `_`, `.`, `/` and `-`, the first of them a
/// letter or digit; a value has at most 128 characters of any kind. It reads like the map inside.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Collects pairs of key and value; of a key that comes twice the last counts.
    ///
    /// # Errors
    /// When a key or value breaks its rule, or there are more than [`MAX_LABELS`].
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, IdError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect::<BTreeMap<_, _>>().try_into()
    }

    /// Says whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says whether every label of `required` is here, with the same value; others do not matter.
    #[must_use]
    pub fn contains_all(&self, required: &Self) -> bool {
        required.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }
}

fn is_key(key: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    (1..=63).contains(&key.len()) && key.bytes().all(is_allowed) && key.starts_with(|c: char| c.is_ascii_alphanumeric())
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = IdError;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        if pairs.len() > MAX_LABELS {
            Err(IdError::new("labels", "must be at most 32"))
        } else if !pairs.keys().all(|key| is_key(key)) {
            Err(IdError::new(
                "label key",
                "must have 1 to 63 characters: ASCII letters, digits, underscores, dots, slashes \
                 and hyphens, the first a letter or digit",
            ))
        } else if !pairs.values().all(|value| has_chars(value, 0, 128)) {
            Err(IdError::new("label value", "must have at most 128 characters"))
        } else {
            Ok(Self(pairs))
        }
    }
}

impl Deref for Labels {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Labels {
    fn schema_name() -> Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$" },
            "additionalProperties": { "type": "string", "maxLength": 128 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn pairs_within_the_rules_are_taken() {
        let labels: Labels = serde_json::from_str(r#"{"region": "eu", "eap.dev/zone-1": ""}"#).unwrap();
        assert_eq!(labels["region"], "eu");
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"eap.dev/zone-1":"","region":"eu"}"#);
        assert!(Labels::new([("k".repeat(63), "é".repeat(128))]).is_ok());
    }

    #[test]
    fn keys_and_values_that_break_a_rule_are_refused() {
        for key in ["", "-a", "/a", "a b", "é", &"k".repeat(64)] {
            assert!(Labels::new([(key, "v")]).is_err(), "{key:?}");
        }
        assert!(Labels::new([("k", "v".repeat(129))]).is_err());
        assert!(serde_json::from_str::<Labels>(r#"{"-a": "v"}"#).is_err());
    }

    #[test]
    fn there_are_at_most_32() {
        let some = |count: usize| Labels::new((0..count).map(|n| (format!("k{n}"), "v")));
        assert_eq!(some(32).unwrap().len(), 32);
        assert!(some(33).is_err());
    }

    #[test]
    fn an_agent_matches_when_it_has_every_label_of_the_task() {
        let agent = Labels::new([("region", "eu"), ("gpu", "yes")]).unwrap();
        let task = |key: &str, value: &str| Labels::new([(key, value)]).unwrap();
        assert!(agent.contains_all(&Labels::default()));
        assert!(agent.contains_all(&task("region", "eu")));
        assert!(!agent.contains_all(&task("region", "us")));
        assert!(!Labels::default().contains_all(&task("region", "eu")));
    }
}
