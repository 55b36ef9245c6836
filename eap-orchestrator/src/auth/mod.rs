//! Who is calling.

mod loopback;
mod token;

use eap_types::{Secret, TenantId, Timestamp};
use subtle::ConstantTimeEq as _;

pub(crate) use loopback::{Origin, is_local_call};
pub(crate) use token::{AgentToken, hex, sha256, unhex};

use crate::config::{Access, Config};
use crate::error::Error;

/// An operator or host that may submit and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name of its key; scopes its idempotency keys.
    pub name: String,
    /// Whose tasks and agents it reaches.
    pub tenant: TenantId,
}

impl Operator {
    /// The host application itself, for calls in process: the nil tenant.
    #[must_use]
    pub fn host() -> Self {
        Self { name: "host".to_owned(), tenant: TenantId::default() }
    }

    /// The same, of another tenant.
    #[must_use]
    pub fn of_tenant(tenant: TenantId) -> Self {
        Self { tenant, ..Self::host() }
    }
}

/// What a registration came with, once it was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The name of the secret; `None` for open registration.
    pub(crate) secret: Option<String>,
    /// The tenant the agent will belong to.
    pub(crate) tenant: TenantId,
}

/// The configured keys, as digests: what is compared never has the secret's length or text.
#[derive(Debug)]
pub(crate) struct Keys {
    operator: Option<([u8; 32], Operator)>,
    registration: Option<([u8; 32], Admission, Option<Timestamp>)>,
    access: Access,
}

impl Keys {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            operator: config
                .operator_key
                .as_ref()
                .map(|key| (sha256(key.secret.expose()), Operator { name: key.name.clone(), tenant: key.tenant })),
            registration: config.registration_secret.as_ref().map(|secret| {
                let admission = Admission { secret: Some(secret.name.clone()), tenant: secret.tenant };
                (sha256(secret.secret.expose()), admission, secret.expires_at)
            }),
            access: config.access,
        }
    }

    /// Whether a call that needs a key which is not configured may go without.
    fn is_open_to(&self, origin: &Origin) -> bool {
        match self.access {
            Access::Keys => false,
            Access::Loopback => origin.is_local,
            Access::Open => true,
        }
    }

    /// The operator behind a call.
    pub(crate) fn operator(&self, given: Option<&Secret>, origin: &Origin) -> Result<Operator, Error> {
        match (&self.operator, given) {
            (Some((digest, operator)), Some(given)) if matches(digest, given) => Ok(operator.clone()),
            (None, _) if self.is_open_to(origin) => {
                Ok(Operator { name: "anonymous".to_owned(), tenant: TenantId::default() })
            }
            _ => Err(Error::InvalidKey),
        }
    }

    /// What lets a registration in.
    pub(crate) fn admission(
        &self,
        given: Option<&Secret>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Admission, Error> {
        let denied = |reason| Err(Error::RegistrationDenied { reason });
        match (&self.registration, given) {
            (Some((digest, admission, expires_at)), Some(given)) if matches(digest, given) => {
                if expires_at.is_some_and(|at| at <= now) {
                    return denied("the registration secret has expired");
                }
                Ok(admission.clone())
            }
            (None, _) if self.is_open_to(origin) => Ok(Admission { secret: None, tenant: TenantId::default() }),
            (_, None) => denied("a registration secret is needed"),
            (_, Some(_)) => denied("this registration secret is not valid"),
        }
    }
}

fn matches(digest: &[u8; 32], given: &Secret) -> bool {
    digest.ct_eq(&sha256(given.expose())).into()
}
