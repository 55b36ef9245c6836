//! What an operator key opens: scopes, sets of them, and presets (docs/protocol.md section 5).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::macros::words;

words! {
    /// One thing that an operator key may open.
    pub enum Scope {
        /// Submits tasks; requeues and discards dead ones.
        TasksSubmit = "tasks:submit",
        /// Reads tasks, their history, and events.
        TasksRead = "tasks:read",
        /// Cancels tasks.
        TasksCancel = "tasks:cancel",
        /// Reads results and artifacts.
        ResultsRead = "results:read",
        /// Reads agents and metrics.
        AgentsRead = "agents:read",
        /// Reports on behalf of AgentKit agents.
        AgentsReport = "agents:report",
        /// Administers agents.
        AgentsAdmin = "agents:admin",
        /// Administers operator keys and registration secrets.
        KeysAdmin = "keys:admin",
    }
}

words! {
    /// A set of scopes under one name, for those who create keys.
    pub enum ScopePreset {
        /// `tasks:read`, `results:read`, `agents:read`.
        Read = "read",
        /// The same, `tasks:submit` and `tasks:cancel`: what a host needs.
        Submit = "submit",
        /// Every scope.
        Admin = "admin",
    }
}

impl ScopePreset {
    /// The scopes it stands for.
    #[must_use]
    pub fn scopes(self) -> Scopes {
        match self {
            Self::Read => [Scope::TasksRead, Scope::ResultsRead, Scope::AgentsRead].into_iter().collect(),
            Self::Submit => {
                let further = [Scope::TasksSubmit, Scope::TasksCancel].into_iter().collect();
                Self::Read.scopes().union(further)
            }
            Self::Admin => Scopes::all(),
        }
    }
}

/// A set of scopes, in the protocol's order: a list of words on the wire, one number in memory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u16);

impl Scopes {
    /// No scope at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// Every scope there is.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    /// The scopes that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The scopes that are in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set holds no scope.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the protocol's order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    const fn bit(scope: Scope) -> u16 {
        1 << scope as u16
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::none(), |set, scope| Self(set.0 | Self::bit(scope)))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::as_str)).finish()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Scope::as_str).collect();
        f.pad(&words.join(" "))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Scope>::deserialize(deserializer).map(Self::from_iter)
    }
}

impl JsonSchema for Scopes {
    fn schema_name() -> Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<Scope>(), "uniqueItems": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_one_spelling_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
            assert_eq!(serde_json::to_string(scope).unwrap(), format!("\"{scope}\""));
        }
        let unknown = "tasks:write".parse::<Scope>().unwrap_err();
        assert!(unknown.expected.contains("keys:admin"), "the refusal names the words: {unknown}");
    }

    #[test]
    fn each_preset_may_do_what_the_one_before_may() {
        let [read, submit, admin] =
            [ScopePreset::Read, ScopePreset::Submit, ScopePreset::Admin].map(ScopePreset::scopes);
        assert!(read.without(submit).is_empty() && submit.without(admin).is_empty());
        assert!(!read.contains(Scope::TasksCancel) && !submit.contains(Scope::KeysAdmin));
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_is_a_list_of_words() {
        let set: Scopes = [Scope::KeysAdmin, Scope::TasksSubmit].into_iter().collect();
        for scope in Scope::ALL {
            assert_eq!(set.contains(*scope), matches!(scope, Scope::KeysAdmin | Scope::TasksSubmit), "{scope}");
        }
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["tasks:submit","keys:admin"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(r#"["keys:admin", "tasks:submit", "keys:admin"]"#).unwrap(), set);
        assert!(serde_json::from_str::<Scopes>(r#"["tasks"]"#).is_err());
        assert_eq!(set.to_string(), "tasks:submit keys:admin");
    }

    #[test]
    fn sets_are_added_and_taken_away() {
        let (read, submit) = (ScopePreset::Read.scopes(), ScopePreset::Submit.scopes());
        assert_eq!(submit.without(read), [Scope::TasksSubmit, Scope::TasksCancel].into_iter().collect());
        assert_eq!(read.union(submit), submit);
        assert!(Scopes::all().without(ScopePreset::Admin.scopes()).is_empty());
        assert_eq!(Scopes::all().iter().count(), Scope::ALL.len());
    }
}
