//! Operator keys and registration secrets: created, listed, revoked, counted.

use std::sync::Arc;

use eap_core::{Credential, Grant};
use eap_types::{
    CreateKey, CreateRegistrationSecret, CreatedKey, CreatedRegistrationSecret, CredentialId, CredentialName,
    CredentialState, JsonObject, KeyPage, KeyView, RegistrationSecretPage, RegistrationSecretView, Scope, Secret,
    TenantId, Timestamp,
};
use tracing::info;

use super::pages::page_limit;
use super::submit::invalid;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::auth::{Admission, KEY, Known, Operator, Origin, SECRET, has_form, hex, mint};
use crate::clock::draw;
use crate::error::Error;
use crate::store::{Change, CredentialWrite, EventKind, NewEvent, Revision, StoreError};

impl Lifecycle {
    /// Creates an operator key for the tenant of `operator`, with no scope that it has not itself.
    pub(crate) async fn create_key(
        self: &Arc<Self>,
        operator: &Operator,
        asked: CreateKey,
    ) -> Result<CreatedKey, Error> {
        let scopes = asked.all_scopes();
        if let Some(scope) = scopes.without(operator.scopes).iter().next() {
            return Err(Error::CannotGrant { scope });
        }
        let (secret, known) =
            self.create(operator, KEY, asked.name, asked.expires_at, Grant::Operator { scopes }).await?;
        Ok(CreatedKey::new(secret, self.key_view(&known, None).ok_or(Error::Broken)?))
    }

    /// Creates a registration secret for the tenant of `operator`.
    pub(crate) async fn create_registration_secret(
        self: &Arc<Self>,
        operator: &Operator,
        asked: CreateRegistrationSecret,
    ) -> Result<CreatedRegistrationSecret, Error> {
        let grant = Grant::Registration { limits: asked.limits, uses: 0 };
        let (secret, known) = self.create(operator, SECRET, asked.name, asked.expires_at, grant).await?;
        Ok(CreatedRegistrationSecret::new(secret, self.secret_view(&known, None).ok_or(Error::Broken)?))
    }

    async fn create(
        self: &Arc<Self>,
        operator: &Operator,
        kind: &'static str,
        name: CredentialName,
        expires_at: Option<Timestamp>,
        grant: Grant,
    ) -> Result<(Secret, Credential), Error> {
        let (this, operator) = (Arc::clone(self), operator.clone());
        self.detached(Share::Running, async move {
            let now = this.clock.now();
            if expires_at.is_some_and(|at| at <= now) {
                return Err(invalid("body.expires_at", "must be in the future"));
            }
            let id = CredentialId::v7(now, draw(&*this.entropy));
            let (secret, digest) = mint(kind, id, &*this.entropy);
            let credential = Credential {
                id,
                tenant: operator.tenant,
                name,
                sha256: hex(&digest),
                grant,
                created_at: now,
                created_by: Some(operator.name.to_string()),
                expires_at,
                revoked_at: None,
            };
            let change = Change {
                events: vec![credential_event(&credential, created(&credential.grant), now)],
                credentials: vec![CredentialWrite::Insert(credential.clone())],
                ..Change::default()
            };
            this.commit(change).await?;
            this.keys.put(credential.clone(), Revision(1));
            info!(credential.id = %id, credential.name = %credential.name, by = %operator.name, kind, "created");
            Ok((secret, credential))
        })
        .await
    }

    /// Revokes a key or secret of the operator's tenant: when this returns, it opens nothing. Once more is no error.
    pub(crate) async fn revoke(
        self: &Arc<Self>,
        operator: &Operator,
        id: CredentialId,
        is_meant: fn(&Grant) -> bool,
    ) -> Result<(), Error> {
        let (this, tenant, by) = (Arc::clone(self), operator.tenant, Arc::clone(&operator.name));
        self.detached(Share::Running, async move {
            for turn in 0..MAX_CONFLICTS {
                stand_aside(turn).await;
                match this.revoke_once(tenant, id, is_meant).await {
                    Err(Error::Store(StoreError::Conflict { .. })) => {}
                    Ok(true) => {
                        info!(credential.id = %id, %by, "revoked");
                        return Ok(());
                    }
                    answer => return answer.map(drop),
                }
            }
            Err(Error::Busy { reason: "other writers kept changing it" })
        })
        .await
    }

    async fn revoke_once(
        &self,
        tenant: TenantId,
        id: CredentialId,
        is_meant: fn(&Grant) -> bool,
    ) -> Result<bool, Error> {
        let known = self.keys.get(tenant, id).ok_or(Error::UnknownCredential)?;
        let stored = known.stored.as_ref().filter(|(credential, _)| is_meant(&credential.grant));
        let (credential, revision) = stored.ok_or(Error::UnknownCredential)?;
        let now = self.clock.now();
        let Some(revoked) = credential.revoked(now) else { return Ok(false) };
        let kind = match revoked.grant {
            Grant::Operator { .. } => EventKind::KeyRevoked,
            Grant::Registration { .. } => EventKind::RegistrationSecretRevoked,
        };
        let change = Change {
            events: vec![credential_event(&revoked, kind, now)],
            credentials: vec![CredentialWrite::Update { credential: revoked.clone(), revision: *revision }],
            ..Change::default()
        };
        self.commit(change).await?;
        self.keys.put(revoked, Revision(revision.0 + 1));
        Ok(true)
    }

    /// A page of operator keys.
    pub(crate) fn list_keys(
        &self,
        operator: &Operator,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<KeyPage, Error> {
        let (page, next) = self.page(operator, cursor, limit, |grant| matches!(grant, Grant::Operator { .. }))?;
        let view = |known: &Arc<Known>| self.key_view(&known.stored.as_ref()?.0, known.last_used());
        Ok(KeyPage::new(page.iter().filter_map(view).collect(), next))
    }

    /// A page of registration secrets.
    pub(crate) fn list_registration_secrets(
        &self,
        operator: &Operator,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<RegistrationSecretPage, Error> {
        let (page, next) = self.page(operator, cursor, limit, |grant| matches!(grant, Grant::Registration { .. }))?;
        let view = |known: &Arc<Known>| self.secret_view(&known.stored.as_ref()?.0, known.last_used());
        Ok(RegistrationSecretPage::new(page.iter().filter_map(view).collect(), next))
    }

    fn page(
        &self,
        operator: &Operator,
        cursor: Option<&str>,
        limit: Option<usize>,
        wanted: fn(&Grant) -> bool,
    ) -> Result<(Vec<Arc<Known>>, Option<String>), Error> {
        let limit = page_limit(limit)?;
        let before = match cursor.map(str::parse) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Err(invalid("query.cursor", "This is no cursor of an earlier page.")),
        };
        // One more than shown tells whether there is a next page.
        let mut page = self.keys.page(operator.tenant, before, limit + 1, wanted);
        let more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().filter(|_| more).and_then(|known| known.stored.as_ref());
        let next = last.map(|(credential, _)| credential.id.to_string());
        Ok((page, next))
    }

    fn key_view(&self, credential: &Credential, last_used: Option<Timestamp>) -> Option<KeyView> {
        let Grant::Operator { scopes } = credential.grant else { return None };
        let mut view = KeyView::new(credential.id, credential.name.clone(), scopes, credential.created_at);
        view.state = credential.state(self.clock.now());
        view.created_by.clone_from(&credential.created_by);
        view.expires_at = credential.expires_at;
        view.last_used_at = last_used;
        view.revoked_at = credential.revoked_at;
        Some(view)
    }

    fn secret_view(&self, credential: &Credential, last_used: Option<Timestamp>) -> Option<RegistrationSecretView> {
        let Grant::Registration { limits, uses } = &credential.grant else { return None };
        let mut view = RegistrationSecretView::new(credential.id, credential.name.clone(), credential.created_at);
        view.state = credential.state(self.clock.now());
        view.limits = limits.clone();
        view.uses = limits.max_uses.map(|_| *uses);
        view.created_by.clone_from(&credential.created_by);
        view.expires_at = credential.expires_at;
        view.last_used_at = last_used;
        view.revoked_at = credential.revoked_at;
        Some(view)
    }

    /// The operator behind a call that needs `scope`, with all at hand that such calls look at.
    pub(crate) async fn operator(
        &self,
        given: Option<&Secret>,
        origin: &Origin,
        scope: Scope,
    ) -> Result<Operator, Error> {
        self.be_level().await?;
        let known = || self.keys.operator(given, origin, self.clock.now());
        let operator = match known() {
            // Another replica may have made the key a moment ago.
            Err(Error::InvalidKey) if given.is_some_and(|given| has_form(KEY, given)) => {
                self.catch_up().await?;
                known()?
            }
            known => known?,
        };
        // These are asked about what is kept in memory here, and others may have changed a moment ago.
        if matches!(scope, Scope::AgentsRead | Scope::AgentsReport | Scope::AgentsAdmin | Scope::KeysAdmin) {
            self.catch_up().await?;
        }
        Ok(operator)
    }

    /// Whether the uses of what lets a registration in are counted.
    pub(super) fn is_counted(admission: &Admission) -> bool {
        admission.limits.max_uses.is_some()
    }

    /// What writes down that a registration secret lets one more registration in; `None` where uses are not counted.
    pub(super) fn use_of(
        &self,
        tenant: TenantId,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<(Credential, Revision)>, Error> {
        let denied = |reason| Err(Error::RegistrationDenied { reason });
        let known = self.keys.get(tenant, id);
        let Some((credential, revision)) = known.as_ref().and_then(|known| known.stored.as_ref()) else {
            return denied("this registration secret is not valid");
        };
        match credential.state(now) {
            CredentialState::Active => Ok(credential.used().map(|used| (used, *revision))),
            CredentialState::Expired => denied("the registration secret has expired"),
            CredentialState::UsedUp => denied("the registration secret is used up"),
            _ => denied("the registration secret was revoked"),
        }
    }
}

fn created(grant: &Grant) -> EventKind {
    match grant {
        Grant::Operator { .. } => EventKind::KeyCreated,
        Grant::Registration { .. } => EventKind::RegistrationSecretCreated,
    }
}

fn credential_event(credential: &Credential, kind: EventKind, at: Timestamp) -> NewEvent {
    let detail = JsonObject::from_serialize(&serde_json::json!({ "id": credential.id, "name": credential.name }))
        .expect("an object of two strings is a JSON object");
    NewEvent { tenant: credential.tenant, at, kind, task: None, agent: None, attempt: None, detail }
}
