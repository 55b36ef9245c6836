//! Operator keys and registration secrets.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Credential, Grant};
use eap_types::CredentialId;

use super::harness::{Harness, assert_conflict, assert_duplicate};
use super::purge::{keeping_all, purge};
use super::samples;
use crate::store::{Change, CredentialRow, CredentialWrite, Cutoffs, Revision, Stored};

fn inserting(credential: &Credential) -> Change {
    Change { credentials: vec![CredentialWrite::Insert(credential.clone())], ..Change::default() }
}

fn updating(credential: Credential, revision: Revision) -> Change {
    Change { credentials: vec![CredentialWrite::Update { credential, revision }], ..Change::default() }
}

async fn all(h: &Harness) -> Vec<CredentialRow> {
    h.store.credentials().await.expect("a read succeeds")
}

pub(super) async fn a_credential_reads_back_as_it_was_written(h: Harness) {
    let (key, secret) = (samples::operator_key(1, h.now()), samples::registration_secret(0, h.now()));
    h.commit(inserting(&key)).await;
    h.commit(inserting(&secret)).await;
    let stored = |record: &Credential| (Stored { record: record.clone(), revision: Revision(1), now: h.now() }, None);
    assert_eq!(all(&h).await, [stored(&secret), stored(&key)], "in order of id");
}

pub(super) async fn a_taken_credential_id_is_a_duplicate(h: Harness) {
    let key = samples::operator_key(1, h.now());
    h.commit(inserting(&key)).await;
    let before = all(&h).await;
    let other = Credential { id: key.id, ..samples::registration_secret(2, h.now()) };
    let mut change = inserting(&other);
    change.events = samples::events(1, h.now()).events;
    assert_duplicate(&h.store.commit(change).await);
    assert_eq!(all(&h).await, before);
    assert_eq!(h.events().await, [], "nothing of the change was written");
    let twice = samples::operator_key(3, h.now());
    let mut change = inserting(&twice);
    change.credentials.push(CredentialWrite::Insert(twice));
    assert_duplicate(&h.store.commit(change).await);
}

pub(super) async fn a_stale_credential_writes_nothing_of_its_change(h: Harness) {
    let key = samples::operator_key(1, h.now());
    h.commit(inserting(&key)).await;
    let revoked = Credential { revoked_at: Some(h.now()), ..key.clone() };
    h.commit(updating(revoked.clone(), Revision(1))).await;
    let mut change = updating(key.clone(), Revision(1));
    change.events = samples::events(1, h.now()).events;
    assert_conflict(&h.store.commit(change).await);
    assert_eq!(h.events().await, []);
    let stored = all(&h).await.pop().expect("it is stored").0;
    assert_eq!((stored.record, stored.revision), (revoked, Revision(2)));
    assert_conflict(&h.store.commit(updating(samples::operator_key(2, h.now()), Revision(1))).await);
}

pub(super) async fn of_racing_uses_of_a_secret_one_wins(h: Harness) {
    let secret = samples::registration_secret(1, h.now());
    h.commit(inserting(&secret)).await;
    let used = secret.used().expect("the sample counts its uses");
    let calls = (0..4).map(|_| {
        let (store, change) = (Arc::clone(&h.store), updating(used.clone(), Revision(1)));
        async move { store.commit(change).await.is_ok() }
    });
    let outcomes = h.race(calls).await;
    assert_eq!(outcomes.into_iter().filter(|won| *won).count(), 1);
    let stored = all(&h).await.pop().expect("it is stored").0;
    assert!(matches!(stored.record.grant, Grant::Registration { uses, .. } if uses == 8), "{:?}", stored.record);
}

pub(super) async fn the_time_of_use_is_the_last_writers_and_moves_no_revision(h: Harness) {
    let key = samples::operator_key(1, h.now());
    h.commit(inserting(&key)).await;
    for _ in 0..2 {
        h.clock.advance(Duration::from_micros(1_000_001));
        let unknown = (CredentialId::from_bytes([200; 16]), h.now());
        h.commit(Change { last_used: vec![unknown, (key.id, h.now())], ..Change::default() }).await;
        let (stored, last_used) = all(&h).await.pop().expect("it is stored");
        assert_eq!((stored.revision, last_used), (Revision(1), Some(h.now())));
    }
    assert_eq!(all(&h).await.len(), 1, "an unknown one is passed over");
    let used = h.now();
    h.commit(updating(Credential { revoked_at: Some(used), ..key }, Revision(1))).await;
    assert_eq!(all(&h).await.pop().expect("it is stored").1, Some(used), "a new record keeps it");
}

pub(super) async fn ended_credentials_go_by_their_own_age(h: Harness) {
    let end = h.now() + Duration::from_secs(10);
    let forever = Credential { expires_at: None, ..samples::operator_key(1, h.now()) };
    let expiring = Credential { expires_at: Some(end), ..samples::operator_key(2, h.now()) };
    let revoked = Credential { revoked_at: Some(h.now()), ..expiring.clone() };
    let revoked = Credential { id: CredentialId::from_bytes([3; 16]), ..revoked };
    for credential in [&forever, &expiring, &revoked] {
        h.commit(inserting(credential)).await;
    }
    let purged = async |cutoff| purge(&h, Cutoffs { credentials: cutoff, ..keeping_all() }).await.credentials;
    assert_eq!(purged(h.now()).await, []);
    assert_eq!(purged(h.now() + Duration::from_micros(1)).await, [revoked.id]);
    assert_eq!(purged(end + Duration::from_micros(1)).await, [expiring.id]);
    assert_eq!(all(&h).await.into_iter().map(|(stored, _)| stored.record).collect::<Vec<_>>(), [forever]);
}
