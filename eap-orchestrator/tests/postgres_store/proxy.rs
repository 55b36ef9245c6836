//! A proxy between store and server that gives a connection to another client after each transaction.

use std::sync::Arc;

use eap_orchestrator::store::{EventSeq, PostgresOptions, PostgresStore, Repository};
use eap_tests::postgres::{Pooler, PrivateServer};
use tokio::task::JoinSet;

use crate::records::{claim, inserting, register, task};

#[tokio::test(flavor = "multi_thread")]
async fn stores_share_fewer_connections_than_they_have_behind_a_proxy() {
    const STORES: usize = 2;
    const TASKS_EACH: usize = 40;
    let Some(server) = PrivateServer::start() else { return };
    let Some(pooler) = Pooler::start(&server, 3) else { return };
    let options = || PostgresOptions::default().with_max_connections(8).with_prepared_statements(false);
    let mut stores = Vec::new();
    for _ in 0..STORES {
        let store = PostgresStore::connect(&pooler.url(), options()).await.expect("the schema can be made");
        stores.push(Arc::new(store));
    }
    let mut working = JoinSet::new();
    for number in 0..4 * STORES {
        let store = Arc::clone(&stores[number % STORES]);
        working.spawn(async move {
            let agent = register(&store, "a", u32::MAX).await;
            let mut got = 0;
            for _ in 0..TASKS_EACH {
                let task = task("a");
                let id = task.id();
                store.commit(inserting(task)).await.expect("a commit succeeds");
                assert!(store.task(id).await.expect("a read succeeds").is_some(), "what was acknowledged is read");
                got += claim(&store, &agent, 1).await.expect("a claim succeeds").tasks.len();
            }
            got
        });
    }
    let got: usize = working.join_all().await.into_iter().sum();
    let all = 4 * STORES * TASKS_EACH;
    assert_eq!(got, all, "each finds one: as many were written as were asked for");
    let events = stores[0].events(EventSeq(0), None, 10 * all).await.expect("a read succeeds");
    let numbers: Vec<EventSeq> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=2 * all as u64).map(EventSeq).collect::<Vec<_>>());
    assert!(stores[1].depths().await.expect("a read succeeds").ready.is_empty());
    for store in stores {
        store.close().await.expect("a store closes");
    }
}
