//! Operator keys: created, listed and revoked under `/api/v1/keys` (docs/protocol.md section 5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::macros::decode_via_fields;
use crate::{CredentialId, CredentialName, CredentialState, Decode, Fields, ScopePreset, Scopes, Secret, Timestamp};

/// Asks for a new operator key: the body of `POST /api/v1/keys`.
///
/// It names at least one scope, by itself or by a preset, and none that its creator's key has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct CreateKey {
    /// Its name in lists and logs, which also scopes its idempotency keys.
    pub name: CredentialName,
    /// What it opens, beside what `preset` says. Default: nothing.
    #[serde(default, skip_serializing_if = "no_scopes")]
    pub scopes: Scopes,
    /// A set of scopes by its name. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<ScopePreset>,
    /// When it stops working; in the future. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl CreateKey {
    /// A key that opens `scopes` and does not expire.
    pub fn new(name: CredentialName, scopes: Scopes) -> Self {
        Self { name, scopes, preset: None, expires_at: None }
    }

    /// A key that opens what a preset says.
    pub fn of_preset(name: CredentialName, preset: ScopePreset) -> Self {
        Self { name, scopes: Scopes::none(), preset: Some(preset), expires_at: None }
    }

    /// Sets when it stops working.
    #[must_use]
    pub fn with_expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Everything that is asked for.
    #[must_use]
    pub fn all_scopes(&self) -> Scopes {
        self.preset.map_or(self.scopes, |preset| self.scopes.union(preset.scopes()))
    }
}

impl Decode for CreateKey {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name");
        let scopes: Option<Scopes> = fields.optional("scopes");
        let preset = fields.optional("preset");
        let expires_at = fields.optional("expires_at");
        if !fields.has("preset") && (!fields.has("scopes") || scopes.is_some_and(Scopes::is_empty)) {
            fields.problem("scopes", "missing", "must name at least one scope, or `preset` must be given");
        }
        Some(Self { name: name?, scopes: scopes.unwrap_or_default(), preset, expires_at })
    }
}

/// An operator key as those who administer keys see it; never the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KeyView {
    /// The key's id, which its text also holds.
    pub key_id: CredentialId,
    /// Its name.
    pub name: CredentialName,
    /// What it opens.
    pub scopes: Scopes,
    /// Whether it opens anything now.
    pub state: CredentialState,
    /// When it was created.
    pub created_at: Timestamp,
    /// The name of the key it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When it stops working; absent for one that never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within a minute after a crash; absent for one that never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl KeyView {
    /// A key that was just created; everything else is set as fields.
    pub fn new(key_id: CredentialId, name: CredentialName, scopes: Scopes, created_at: Timestamp) -> Self {
        Self {
            key_id,
            name,
            scopes,
            state: CredentialState::Active,
            created_at,
            created_by: None,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        }
    }
}

/// The answer 201 to `POST /api/v1/keys`. It holds the key, so it cannot be compared.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CreatedKey {
    /// The key itself, `eapk_<key_id>_<secret>`; shown here and never again.
    pub key: Secret,
    /// What is kept of it.
    #[serde(flatten)]
    pub view: KeyView,
}

impl CreatedKey {
    /// A key and what is kept of it.
    pub fn new(key: Secret, view: KeyView) -> Self {
        Self { key, view }
    }
}

/// A page of operator keys, newest first, revoked and expired ones among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<KeyView>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl KeyPage {
    /// A page and the way to the next one.
    pub fn new(keys: Vec<KeyView>, next_cursor: Option<String>) -> Self {
        Self { keys, next_cursor }
    }
}

fn no_scopes(scopes: &Scopes) -> bool {
    scopes.is_empty()
}

decode_via_fields!(CreateKey);
