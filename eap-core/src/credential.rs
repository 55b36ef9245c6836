//! Operator keys and registration secrets: what is kept of them, and whether they still open anything.

use eap_types::{
    CredentialId, CredentialName, CredentialState, Registration, RegistrationLimits, Scopes, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

/// An operator key or a registration secret as it is kept: never its text, only the SHA-256 of it.
///
/// When it was last used changes with every call and is kept apart: using a key is not a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// Its id, which its text also holds.
    pub id: CredentialId,
    /// Whose tasks and agents it reaches.
    pub tenant: TenantId,
    /// Its name; several may live under one.
    pub name: CredentialName,
    /// SHA-256 of its text, in hex.
    pub sha256: String,
    /// What it opens.
    pub grant: Grant,
    /// When it was created.
    pub created_at: Timestamp,
    /// The name of the operator who created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What a credential opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Grant {
    /// An operator key: calls with these scopes.
    Operator {
        /// The scopes.
        scopes: Scopes,
    },
    /// A registration secret: registrations within these limits.
    Registration {
        /// The limits.
        limits: RegistrationLimits,
        /// How many registrations it let in, where their number is limited.
        #[serde(default)]
        uses: u64,
    },
}

impl Credential {
    /// Whether it opens anything at `now`; what was revoked says so for good.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> CredentialState {
        if self.revoked_at.is_some() {
            CredentialState::Revoked
        } else if self.expires_at.is_some_and(|at| at <= now) {
            CredentialState::Expired
        } else if self.is_used_up() {
            CredentialState::UsedUp
        } else {
            CredentialState::Active
        }
    }

    fn is_used_up(&self) -> bool {
        match &self.grant {
            Grant::Registration { limits, uses } => limits.max_uses.is_some_and(|most| *uses >= most),
            Grant::Operator { .. } => false,
        }
    }

    /// From when it is of no use to anybody: once it was revoked or its time was over.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.revoked_at.into_iter().chain(self.expires_at).min()
    }

    /// The same, revoked; `None` if it was before.
    #[must_use]
    pub fn revoked(&self, now: Timestamp) -> Option<Self> {
        self.revoked_at.is_none().then(|| Self { revoked_at: Some(now), ..self.clone() })
    }

    /// The same after one registration more; `None` where they are not counted.
    #[must_use]
    pub fn used(&self) -> Option<Self> {
        match &self.grant {
            Grant::Registration { limits, uses } if limits.max_uses.is_some() => {
                let grant = Grant::Registration { limits: limits.clone(), uses: uses + 1 };
                Some(Self { grant, ..self.clone() })
            }
            _ => None,
        }
    }
}

/// Whether an agent within `limits` may be what `registration` says; if not, the reason for people.
///
/// # Errors
///
/// When its name or one of its capabilities lies outside.
pub fn check_limits(limits: &RegistrationLimits, registration: &Registration) -> Result<(), &'static str> {
    if !limits.admits_name(&registration.name) {
        Err("the registration secret does not admit this name")
    } else if !limits.admits_capabilities(&registration.capabilities) {
        Err("the registration secret does not admit all of these capabilities")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn credential(grant: Grant) -> Credential {
        Credential {
            id: CredentialId::from_bytes([7; 16]),
            tenant: TenantId::default(),
            name: "fleet".parse().unwrap(),
            sha256: "ab".repeat(32),
            grant,
            created_at: START,
            created_by: None,
            expires_at: None,
            revoked_at: None,
        }
    }

    fn secret(max_uses: Option<u64>) -> Credential {
        let mut limits = RegistrationLimits::new();
        limits.max_uses = max_uses;
        credential(Grant::Registration { limits, uses: 0 })
    }

    #[test]
    fn a_key_ends_at_its_time_to_the_microsecond_or_when_it_is_revoked() {
        let end = START + Duration::from_secs(60);
        let key = Credential { expires_at: Some(end), ..credential(Grant::Operator { scopes: Scopes::all() }) };
        assert_eq!(key.state(end - Duration::from_micros(1)), CredentialState::Active);
        assert_eq!(key.state(end), CredentialState::Expired);
        let revoked = key.revoked(START).expect("it was not revoked");
        assert_eq!((revoked.state(START), revoked.state(end)), (CredentialState::Revoked, CredentialState::Revoked));
        assert_eq!((key.ended_at(), revoked.ended_at()), (Some(end), Some(START)));
        assert_eq!(revoked.revoked(end), None, "the first time stays");
    }

    #[test]
    fn uses_are_counted_where_they_are_limited() {
        let once = secret(Some(1));
        assert_eq!(once.state(START), CredentialState::Active);
        let used = once.used().expect("its uses are limited");
        assert_eq!(used.state(START), CredentialState::UsedUp);
        assert_eq!(secret(None).used(), None);
        assert_eq!(credential(Grant::Operator { scopes: Scopes::none() }).used(), None);
    }
}
