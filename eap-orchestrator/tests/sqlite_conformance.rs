//! The SQLite store keeps the contract of a store.
#![cfg(all(feature = "sqlite", feature = "conformance"))]

use eap_orchestrator::store::conformance;
use eap_orchestrator::store::{SqliteOptions, SqliteStore};

conformance::suite!(async |clock| {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("eap.db"), clock, SqliteOptions::default()).unwrap();
    (store, folder)
});
