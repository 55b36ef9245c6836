//! Who is calling.

mod credential;
mod keyring;
mod loopback;
mod seal;
mod token;

use std::collections::BTreeSet;
use std::sync::Arc;

use eap_types::{Capability, CredentialId, RegistrationLimits, Scope, Scopes, TenantId};

pub(crate) use credential::{KEY, SECRET, has_form, mint};
pub(crate) use keyring::{Keyring, Known};
pub(crate) use loopback::{Ends, Origin};
pub(crate) use seal::Seal;
pub(crate) use token::{AgentToken, hex, sha256, unhex};

use crate::error::Error;

/// An operator or host that may submit and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name of its key; scopes its idempotency keys.
    pub name: Arc<str>,
    /// Whose tasks and agents it reaches.
    pub tenant: TenantId,
    /// What its key opens. Calls over HTTP are refused without the scope of their route; calls in process are not,
    /// but for results, which are left out without `results:read`, and for new keys, which get no scope that is not
    /// among these.
    pub scopes: Scopes,
}

impl Operator {
    /// The host application itself, for calls in process: the nil tenant, every scope.
    #[must_use]
    pub fn host() -> Self {
        Self::named("host", TenantId::default())
    }

    /// The same, of another tenant.
    #[must_use]
    pub fn of_tenant(tenant: TenantId) -> Self {
        Self { tenant, ..Self::host() }
    }

    /// Whoever calls without a key, where that is allowed.
    fn anonymous() -> Self {
        Self::named("anonymous", TenantId::default())
    }

    fn named(name: &str, tenant: TenantId) -> Self {
        Self { name: name.into(), tenant, scopes: Scopes::all() }
    }

    /// Refuses what the key has no scope for.
    pub(crate) fn must_have(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Error::MissingScope { scope }) }
    }

    pub(crate) fn reads_results(&self) -> bool {
        self.scopes.contains(Scope::ResultsRead)
    }
}

/// What a registration came with, once it was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The name of the secret; `None` for open registration.
    pub(crate) secret: Option<String>,
    /// The tenant the agent will belong to.
    pub(crate) tenant: TenantId,
    /// What may be registered.
    pub(crate) limits: Arc<RegistrationLimits>,
    /// The secret in the store, where there is one.
    pub(crate) id: Option<CredentialId>,
}

impl Admission {
    /// What an agent let in may offer ever after; empty is anything.
    pub(crate) fn capabilities(&self) -> BTreeSet<Capability> {
        self.limits.capabilities.clone()
    }
}
