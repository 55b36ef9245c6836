//! A schema of a test's own on the server of the process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::{process, thread};

use sqlx::{Connection as _, Executor as _, PgConnection};

use super::server;

/// A schema that no other test uses; it goes with all that is in it.
#[derive(Debug)]
pub struct Schema {
    name: String,
    url: String,
}

impl Schema {
    /// A name for one; whoever opens a store there makes it.
    ///
    /// # Panics
    ///
    /// If there is no server: ask for it before.
    #[allow(clippy::new_without_default, reason = "each is another one, and it is there only where a server is")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("eap_test_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { name, url: server().expect("asked before").url().to_owned() }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the database that it is in.
    pub fn url(&self) -> &str {
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
