//! What the tests of the PostgreSQL store share: a schema of their own on the server of the process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::{process, thread};

use eap_tests::postgres::server;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Whether there is a server to test with.
pub(crate) fn is_there() -> bool {
    server().is_some()
}

/// A schema that no other test uses; it goes with all that is in it.
#[derive(Debug)]
pub(crate) struct Schema {
    name: String,
    url: String,
}

impl Schema {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("eap_test_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { name, url: server().expect("asked before").url().to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // Not for ever, if a test that failed left a transaction open.
        let sql = format!("SET lock_timeout = '10s'; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        let url = self.url.clone();
        // In a runtime of its own: this one may be at its end.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await?;
                connection.execute(&*sql).await?;
                connection.close().await
            })
        });
        // What is left behind on a server that is gone is nobody's concern.
        let _ = dropped.join();
    }
}
