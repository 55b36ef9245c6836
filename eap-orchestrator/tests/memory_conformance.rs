//! The memory store keeps the contract of `Repository`.
#![cfg(feature = "conformance")]

use std::sync::Arc;

use eap_orchestrator::SystemClock;
use eap_orchestrator::store::{Change, MemoryStore, Repository, StoreError, conformance};
use eap_types::Timestamp;

conformance::suite!(async |clock| MemoryStore::new(clock));

#[tokio::test]
async fn closing_one_handle_leaves_the_others_open() {
    let store = MemoryStore::new(Arc::new(SystemClock::new()));
    let other = store.clone();
    store.commit(Change { pulse: Some(Timestamp::UNIX_EPOCH), ..Change::default() }).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.pulse().await, Err(StoreError::Closed)));
    assert_eq!(other.pulse().await.unwrap(), Some(Timestamp::UNIX_EPOCH));
    assert_eq!(store.clone().pulse().await.unwrap(), Some(Timestamp::UNIX_EPOCH));
}
