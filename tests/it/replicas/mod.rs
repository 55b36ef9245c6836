//! Several orchestrators on the same data: any of them serves any agent, and what one does the others know (G8, A5, A42).
//!
//! Each test runs over replicas of a store in memory, which tell each other at once, and over PostgreSQL.

mod agents;
mod keys;
mod pushes;
mod tasks;
mod uploads;

use std::sync::Arc;

use eap_orchestrator::store::{MemoryStore, PostgresOptions, PostgresStore, Repository};
use eap_orchestrator::{Config, SystemClock};
use eap_tests::postgres::{Schema, server};
use eap_types::Secret;

use crate::harness::{Agent, Server, Setup};

/// Two orchestrators, the second started after the first.
pub(super) struct Pair {
    pub(super) a: Server,
    pub(super) b: Server,
    /// For a third one.
    again: Again,
}

enum Again {
    Memory(MemoryStore),
    Postgres(Schema),
}

impl Again {
    async fn store(&self) -> Arc<dyn Repository> {
        match self {
            Self::Memory(store) => Arc::new(store.new_replica()),
            Self::Postgres(schema) => {
                let options = PostgresOptions::default().with_schema(schema.name()).with_max_connections(5);
                Arc::new(PostgresStore::connect(schema.url(), options).await.expect("the schema can be opened"))
            }
        }
    }
}

/// Where the replicas keep what they share.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    InMemory,
    InPostgres,
}

impl Pair {
    /// Starts two; `None` where there is no server of the kind.
    pub(super) async fn start(kept: Kept, change: fn(&mut Config)) -> Option<Self> {
        let again = match kept {
            Kept::InMemory => Again::Memory(MemoryStore::new(Arc::new(SystemClock::new()))),
            Kept::InPostgres => {
                server()?;
                Again::Postgres(Schema::new())
            }
        };
        // All of them are there before the first is built.
        let (first, second) = (again.store().await, again.store().await);
        let (a, b) = (start(first, change).await, start(second, change).await);
        Some(Self { a, b, again })
    }

    /// Starts one more.
    pub(super) async fn another(&self, change: fn(&mut Config)) -> Server {
        start(self.again.store().await, change).await
    }
}

async fn start(store: Arc<dyn Repository>, change: fn(&mut Config)) -> Server {
    let setup = Setup::store_with_its_clock(store).config(|config| {
        config.sealing_key = Some(Secret::new("a sealing key for the tests alone"));
    });
    setup.config(change).start().await
}

/// The same agent, calling another server.
pub(super) fn at(server: &Server, agent: &Agent) -> Agent {
    Agent { api: server.api.clone(), ..agent.clone() }
}

pub(super) fn as_it_is(_: &mut Config) {}

/// Makes tests of scenarios, over both.
macro_rules! over_both {
    ($($change:ident => $($name:ident),+;)+) => {
        mod in_memory {
            $($(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let pair = $crate::replicas::Pair::start($crate::replicas::Kept::InMemory, super::$change).await;
                    super::$name(pair.expect("memory is there")).await;
                }
            )+)+
        }

        mod in_postgres {
            $($(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Some(pair) = $crate::replicas::Pair::start($crate::replicas::Kept::InPostgres, super::$change).await {
                        super::$name(pair).await;
                    }
                }
            )+)+
        }
    };
}
use over_both;
