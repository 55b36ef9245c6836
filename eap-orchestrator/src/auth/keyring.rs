//! Every operator key and registration secret, in memory: those of the configuration and those of the store.
//!
//! Loaded at the start and kept in step by the lifecycle, which is the only writer. A call costs one hash and one
//! look-up by digest, no read of the store; a revoked key is refused from the moment its revocation is acknowledged.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use eap_core::{Credential, Grant};
use eap_types::{CredentialId, CredentialState, RegistrationLimits, Scopes, Secret, TenantId, Timestamp};
use subtle::ConstantTimeEq as _;

use super::credential::{KEY, SECRET, has_form};
use super::token::{sha256, unhex};
use super::{Admission, Operator, Origin};
use crate::config::{Access, Config};
use crate::error::Error;
use crate::maps::IdMap;
use crate::store::{CredentialRow, Revision, Stored};

/// When a credential that was never used was used last.
const NEVER: i64 = i64::MIN;

/// One key or secret, as its digest: what is compared never has the secret's length or text.
pub(crate) struct Known {
    digest: [u8; 32],
    opens: Opens,
    expires_at: Option<Timestamp>,
    /// The record and its revision; `None` for one of the configuration.
    pub(crate) stored: Option<(Credential, Revision)>,
    last_used: AtomicI64,
    unwritten: AtomicBool,
}

enum Opens {
    Calls(Operator),
    Registrations(Admission),
}

impl Known {
    fn configured(secret: &Secret, opens: Opens, expires_at: Option<Timestamp>) -> Self {
        Self::new(sha256(secret.expose()), opens, expires_at, None, None)
    }

    /// `None` for a record whose digest is none: nothing opens with it.
    fn stored(credential: Credential, revision: Revision, last_used: Option<Timestamp>) -> Option<Self> {
        let digest = unhex(&credential.sha256)?;
        let (name, tenant) = (credential.name.as_str(), credential.tenant);
        let opens = match &credential.grant {
            Grant::Operator { scopes } => Opens::Calls(Operator { name: name.into(), tenant, scopes: *scopes }),
            Grant::Registration { limits, .. } => Opens::Registrations(Admission {
                secret: Some(name.to_owned()),
                tenant,
                limits: Arc::new(limits.clone()),
                id: Some(credential.id),
            }),
        };
        let expires_at = credential.expires_at;
        Some(Self::new(digest, opens, expires_at, Some((credential, revision)), last_used))
    }

    fn new(
        digest: [u8; 32],
        opens: Opens,
        expires_at: Option<Timestamp>,
        stored: Option<(Credential, Revision)>,
        last_used: Option<Timestamp>,
    ) -> Self {
        let last_used = AtomicI64::new(last_used.map_or(NEVER, Timestamp::as_micros));
        Self { digest, opens, expires_at, stored, last_used, unwritten: AtomicBool::new(false) }
    }

    fn state(&self, now: Timestamp) -> CredentialState {
        match &self.stored {
            Some((credential, _)) => credential.state(now),
            None if self.expires_at.is_some_and(|at| at <= now) => CredentialState::Expired,
            None => CredentialState::Active,
        }
    }

    /// When it was last used.
    pub(crate) fn last_used(&self) -> Option<Timestamp> {
        let micros = self.last_used.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Timestamp::from_micros(micros))
    }

    fn use_at(&self, now: Timestamp) {
        // One of the configuration has no row to write it to.
        if self.stored.is_some() {
            self.last_used.fetch_max(now.as_micros(), Ordering::Relaxed);
            self.unwritten.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A digest is no secret, and nobody needs it.
        f.debug_struct("Known").field("id", &self.stored.as_ref().map(|(record, _)| record.id)).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Ring {
    by_digest: IdMap<[u8; 32], Arc<Known>>,
    by_id: BTreeMap<CredentialId, Arc<Known>>,
}

impl Ring {
    fn put(&mut self, known: Known) {
        let known = Arc::new(known);
        if let Some((credential, _)) = &known.stored {
            self.by_id.insert(credential.id, Arc::clone(&known));
        }
        self.by_digest.insert(known.digest, known);
    }
}

/// All keys and secrets, and who may do without.
#[derive(Debug)]
pub(crate) struct Keyring {
    access: Access,
    /// Whether the configuration has an operator key, a registration secret: then nobody goes without. What the
    /// store has does not decide that, so that the first key somebody creates locks nobody out.
    needs_key: bool,
    needs_secret: bool,
    ring: RwLock<Ring>,
    /// Held by whoever counts a use: of several registrations with one limited secret, each is counted at its turn.
    pub(crate) counting: tokio::sync::Mutex<()>,
}

impl Keyring {
    pub(crate) fn of(config: &Config) -> Self {
        let mut ring = Ring::default();
        for key in config.all_operator_keys() {
            let operator = Operator { name: key.name.as_str().into(), tenant: key.tenant, scopes: Scopes::all() };
            ring.put(Known::configured(&key.secret, Opens::Calls(operator), None));
        }
        for secret in config.all_registration_secrets() {
            let admission = Admission {
                secret: Some(secret.name.clone()),
                tenant: secret.tenant,
                limits: Arc::default(),
                id: None,
            };
            ring.put(Known::configured(&secret.secret, Opens::Registrations(admission), secret.expires_at));
        }
        Self {
            access: config.access,
            needs_key: config.all_operator_keys().next().is_some(),
            needs_secret: config.all_registration_secrets().next().is_some(),
            ring: RwLock::new(ring),
            counting: tokio::sync::Mutex::new(()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in everything the store has.
    pub(crate) fn load(&self, rows: Vec<CredentialRow>) {
        let mut ring = self.write();
        for (stored, last_used) in rows {
            if let Some(known) = Known::stored(stored.record, stored.revision, last_used) {
                ring.put(known);
            }
        }
    }

    /// Takes over a record that was committed, unless a newer one is here.
    pub(crate) fn put(&self, credential: Credential, revision: Revision) {
        let mut ring = self.write();
        let older = ring.by_id.get(&credential.id);
        if older.is_some_and(|known| known.stored.as_ref().is_some_and(|(_, newer)| *newer > revision)) {
            return;
        }
        let last_used = older.and_then(|known| known.last_used());
        let unwritten = older.is_some_and(|known| known.unwritten.load(Ordering::Acquire));
        if let Some(known) = Known::stored(credential, revision, last_used) {
            known.unwritten.store(unwritten, Ordering::Release);
            ring.put(known);
        }
    }

    /// Takes over a record that another replica may have written, unless this one is known.
    pub(crate) fn follow(&self, credential: Credential, revision: Revision, last_used: Option<Timestamp>) {
        let known = self.read().by_id.get(&credential.id).and_then(|known| known.stored.as_ref().map(|(_, at)| *at));
        match known {
            Some(known) if known >= revision => {}
            Some(_) => self.put(credential, revision),
            None => self.load(vec![(Stored { record: credential, revision, now: Timestamp::MIN }, last_used)]),
        }
    }

    /// The stored ones that may have been purged: those that ended before.
    pub(crate) fn ended_before(&self, cutoff: Timestamp) -> Vec<CredentialId> {
        let ring = self.read();
        let is_over = |known: &Known| {
            let ended_at = known.stored.as_ref().and_then(|(credential, _)| credential.ended_at());
            ended_at.is_some_and(|ended_at| ended_at < cutoff)
        };
        ring.by_id.iter().filter(|(_, known)| is_over(known)).map(|(id, _)| *id).collect()
    }

    /// Forgets what was purged.
    pub(crate) fn remove(&self, ids: &[CredentialId]) {
        let mut ring = self.write();
        for id in ids {
            if let Some(known) = ring.by_id.remove(id) {
                ring.by_digest.remove(&known.digest);
            }
        }
    }

    /// A stored credential of this tenant.
    pub(crate) fn get(&self, tenant: TenantId, id: CredentialId) -> Option<Arc<Known>> {
        let known = self.read().by_id.get(&id).cloned()?;
        let is_theirs = known.stored.as_ref().is_some_and(|(credential, _)| credential.tenant == tenant);
        is_theirs.then_some(known)
    }

    /// The stored credentials of this tenant that are `wanted`, newest first, older than `before`, at most `limit`.
    pub(crate) fn page(
        &self,
        tenant: TenantId,
        before: Option<CredentialId>,
        limit: usize,
        wanted: impl Fn(&Grant) -> bool,
    ) -> Vec<Arc<Known>> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let ring = self.read();
        let is_wanted = |known: &&Arc<Known>| {
            known.stored.as_ref().is_some_and(|(record, _)| record.tenant == tenant && wanted(&record.grant))
        };
        let newest_first = ring.by_id.range((Bound::Unbounded, end)).rev().map(|(_, known)| known);
        newest_first.filter(is_wanted).take(limit).cloned().collect()
    }

    /// When credentials were used since the last call, to be written.
    pub(crate) fn take_used(&self) -> Vec<(CredentialId, Timestamp)> {
        let ring = self.read();
        let used = ring.by_id.iter().filter(|(_, known)| known.unwritten.swap(false, Ordering::AcqRel));
        used.filter_map(|(id, known)| Some((*id, known.last_used()?))).collect()
    }

    /// These times were not written after all.
    pub(crate) fn mark_unwritten(&self, used: &[(CredentialId, Timestamp)]) {
        let ring = self.read();
        for known in used.iter().filter_map(|(id, _)| ring.by_id.get(id)) {
            known.unwritten.store(true, Ordering::Release);
        }
    }

    fn find(&self, given: &Secret) -> Option<Arc<Known>> {
        let digest = sha256(given.expose());
        let known = self.read().by_digest.get(&digest).cloned()?;
        bool::from(known.digest.ct_eq(&digest)).then_some(known)
    }

    /// Whether a call may go without what is not configured.
    fn is_open_to(&self, origin: &Origin) -> bool {
        self.access.trusts(origin)
    }

    /// The operator behind a call.
    ///
    /// A key that was created here opens what its scopes say, or nothing once it has ended, even where a call without
    /// any would be let in: whoever sends one means to be held to it.
    pub(crate) fn operator(&self, given: Option<&Secret>, origin: &Origin, now: Timestamp) -> Result<Operator, Error> {
        if let Some(given) = given {
            match self.find(given) {
                Some(known) => {
                    if let Opens::Calls(operator) = &known.opens {
                        match known.state(now) {
                            CredentialState::Active => {}
                            CredentialState::Expired => return Err(Error::EndedKey { ended: "has expired" }),
                            _ => return Err(Error::EndedKey { ended: "was revoked" }),
                        }
                        known.use_at(now);
                        return Ok(operator.clone());
                    }
                }
                None if has_form(KEY, given) => return Err(Error::InvalidKey),
                None => {}
            }
        }
        if !self.needs_key && self.is_open_to(origin) { Ok(Operator::anonymous()) } else { Err(Error::InvalidKey) }
    }

    /// What lets a registration in. One that is used up still does: whether this registration is a repeat of one that
    /// was counted is known only where it is carried out.
    pub(crate) fn admission(
        &self,
        given: Option<&Secret>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Admission, Error> {
        let denied = |reason| Err(Error::RegistrationDenied { reason });
        let known = given.and_then(|given| self.find(given));
        if let Some(Opens::Registrations(admission)) = known.as_ref().map(|known| &known.opens) {
            return match known.as_ref().map(|known| known.state(now)) {
                Some(CredentialState::Expired) => denied("the registration secret has expired"),
                Some(CredentialState::Revoked) => denied("the registration secret was revoked"),
                _ => Ok(admission.clone()),
            };
        }
        let is_ours = given.is_some_and(|given| has_form(SECRET, given));
        if !self.needs_secret && !is_ours && self.is_open_to(origin) {
            return Ok(Admission {
                secret: None,
                tenant: TenantId::default(),
                limits: Arc::new(RegistrationLimits::default()),
                id: None,
            });
        }
        match given {
            None => denied("a registration secret is needed"),
            Some(_) => denied("this registration secret is not valid"),
        }
    }

    /// Notes that a secret let somebody in.
    pub(crate) fn used(&self, id: CredentialId, now: Timestamp) {
        if let Some(known) = self.read().by_id.get(&id) {
            known.use_at(now);
        }
    }
}
