//! The PostgreSQL store keeps the contract of a store.
#![cfg(all(feature = "postgres", feature = "conformance", unix))]

mod postgres;

use eap_orchestrator::store::conformance;
use eap_orchestrator::store::{PostgresOptions, PostgresStore};

use self::postgres::{Schema, is_there};

conformance::suite!(if is_there(), async |clock| {
    let schema = Schema::new();
    // Few, because checks run side by side, each with a store.
    let options = PostgresOptions::default().with_clock(clock).with_schema(schema.name()).with_max_connections(5);
    let store = PostgresStore::connect(schema.url(), options).await.unwrap();
    (store, schema)
});
