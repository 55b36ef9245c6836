//! Registration secrets: created, listed and revoked under `/api/v1/registration-secrets` (docs/protocol.md section 5).

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checked::checked_text;
use crate::limits::{MAX_CAPABILITIES, MAX_SECRET_NAMES};
use crate::macros::decode_via_fields;
use crate::{
    AgentName, Capabilities, Capability, CredentialId, CredentialName, CredentialState, Decode, Fields, Secret,
    Timestamp,
};

checked_text! {
    /// A name that agents may have, or the beginning of one with `*` behind it, as in `AGENT-CI-*`.
    ///
    /// It has 1 to 100 characters: ASCII letters, digits, `_`, `.` and `-`, and a `*` at its end alone.
    NamePattern, "name pattern", read_pattern,
    { "minLength": 1, "maxLength": 100, "pattern": "^[A-Za-z0-9_.-]*[A-Za-z0-9_.*-]$" }
}

impl NamePattern {
    /// Whether an agent of this name is meant.
    #[must_use]
    pub fn admits(&self, name: &AgentName) -> bool {
        match self.as_str().strip_suffix('*') {
            Some(beginning) => name.as_str().starts_with(beginning),
            None => name.as_str() == self.as_str(),
        }
    }
}

fn read_pattern(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(1..=100).contains(&text.len()) {
        Err("must have 1 to 100 characters")
    } else if !text.strip_suffix('*').unwrap_or(text).bytes().all(is_allowed) {
        Err("must be an agent's name, or the beginning of one and `*`")
    } else {
        Ok(text.into())
    }
}

/// What may be registered with a secret; what is absent or empty sets no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct RegistrationLimits {
    /// How many registrations it lets in, 1 to 1,000,000. An agent that comes back with its live token takes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_uses: Option<u64>,
    /// The names that agents may have, at most 100.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 100))]
    pub names: BTreeSet<NamePattern>,
    /// The capabilities that agents may offer, at most 64; theirs must be among these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 64))]
    pub capabilities: BTreeSet<Capability>,
}

impl RegistrationLimits {
    /// No limits; each is then set as a field.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an agent may have this name.
    #[must_use]
    pub fn admits_name(&self, name: &AgentName) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.admits(name))
    }

    /// Whether an agent may offer all of this.
    #[must_use]
    pub fn admits_capabilities(&self, offered: &Capabilities) -> bool {
        self.capabilities.is_empty() || offered.iter().all(|capability| self.capabilities.contains(capability))
    }
}

/// Asks for a new registration secret: the body of `POST /api/v1/registration-secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct CreateRegistrationSecret {
    /// Its name: an identity comes back with a secret of the same name only.
    pub name: CredentialName,
    /// When it stops working; in the future. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What may be registered with it. Default: anything.
    #[serde(flatten)]
    pub limits: RegistrationLimits,
}

impl CreateRegistrationSecret {
    /// A secret without limits that does not expire.
    pub fn new(name: CredentialName) -> Self {
        Self { name, expires_at: None, limits: RegistrationLimits::default() }
    }

    /// Sets when it stops working.
    #[must_use]
    pub fn with_expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Sets what may be registered with it.
    #[must_use]
    pub fn with_limits(mut self, limits: RegistrationLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl Decode for CreateRegistrationSecret {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name");
        let expires_at = fields.optional("expires_at");
        let max_uses = fields.range("max_uses", 1..=1_000_000, None);
        let names: BTreeSet<NamePattern> = fields.or_default("names");
        let capabilities: BTreeSet<Capability> = fields.or_default("capabilities");
        if names.len() > MAX_SECRET_NAMES {
            fields.problem("names", "value_error", format!("must have at most {MAX_SECRET_NAMES} entries"));
        }
        if capabilities.len() > MAX_CAPABILITIES {
            fields.problem("capabilities", "value_error", format!("must have at most {MAX_CAPABILITIES} entries"));
        }
        let limits = RegistrationLimits { max_uses, names, capabilities };
        Some(Self { name: name?, expires_at, limits })
    }
}

/// A registration secret as those who administer keys see it; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RegistrationSecretView {
    /// The secret's id, which its text also holds.
    pub secret_id: CredentialId,
    /// Its name.
    pub name: CredentialName,
    /// Whether it lets anybody in now.
    pub state: CredentialState,
    /// What may be registered with it.
    #[serde(flatten)]
    pub limits: RegistrationLimits,
    /// How many registrations it let in; counted only where `max_uses` limits them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The name of the key it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When it stops working; absent for one that never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it last let an agent in, to within a minute after a crash; absent for one that never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl RegistrationSecretView {
    /// A secret that was just created; everything else is set as fields.
    pub fn new(secret_id: CredentialId, name: CredentialName, created_at: Timestamp) -> Self {
        Self {
            secret_id,
            name,
            state: CredentialState::Active,
            limits: RegistrationLimits::default(),
            uses: None,
            created_at,
            created_by: None,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        }
    }
}

/// The answer 201 to `POST /api/v1/registration-secrets`. It holds the secret, so it cannot be compared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CreatedRegistrationSecret {
    /// The secret itself, `eapr_<secret_id>_<secret>`; shown here and never again.
    pub registration_secret: Secret,
    /// What is kept of it.
    #[serde(flatten)]
    pub view: RegistrationSecretView,
}

impl CreatedRegistrationSecret {
    /// A secret and what is kept of it.
    pub fn new(registration_secret: Secret, view: RegistrationSecretView) -> Self {
        Self { registration_secret, view }
    }
}

/// A page of registration secrets, newest first, revoked and expired ones among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RegistrationSecretPage {
    /// The secrets.
    pub registration_secrets: Vec<RegistrationSecretView>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl RegistrationSecretPage {
    /// A page and the way to the next one.
    pub fn new(registration_secrets: Vec<RegistrationSecretView>, next_cursor: Option<String>) -> Self {
        Self { registration_secrets, next_cursor }
    }
}

decode_via_fields!(CreateRegistrationSecret);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_the_beginning_of_one() {
        let admits = |pattern: &str, name: &str| {
            pattern.parse::<NamePattern>().unwrap().admits(&name.parse().expect("the sample is a name"))
        };
        assert!(admits("AGENT-CI-*", "AGENT-CI-01") && admits("*", "any") && admits("exact", "exact"));
        assert!(!admits("AGENT-CI-*", "AGENT-C") && !admits("exact", "exact2") && !admits("exact", "Exact"));
        for text in ["", "a*b", "**", "a b", "é", &"a".repeat(101)] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_sets_no_limit_admits_all() {
        let offered = Capabilities::new(["a", "b"]).unwrap();
        let name = "AGENT-A".parse().unwrap();
        let mut limits = RegistrationLimits::new();
        assert!(limits.admits_capabilities(&offered) && limits.admits_name(&name));
        limits.capabilities = BTreeSet::from(["a".parse().unwrap()]);
        limits.names = BTreeSet::from(["AGENT-B".parse().unwrap(), "B*".parse().unwrap()]);
        assert!(!limits.admits_capabilities(&offered) && !limits.admits_name(&name));
    }
}
