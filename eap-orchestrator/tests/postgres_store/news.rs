//! What one store hears of the others on its schema, and how soon.

use std::time::Duration;

use eap_core::Vitals;
use eap_orchestrator::store::{Change, EventSeq, News, PostgresOptions, PostgresStore, Repository, StoreError};
use eap_tests::postgres::PrivateServer;
use eap_types::{TaskId, Timestamp};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::timeout;

use crate::network::Network;
use crate::postgres::{Schema, is_there};
use crate::records::{claim, ids, inserting, open, register, task};

async fn news(store: &PostgresStore, after: EventSeq) -> News {
    store.news(after, 100).await.expect("a read succeeds")
}

fn about(news: &News) -> Vec<TaskId> {
    news.events.iter().filter_map(|event| event.task).collect()
}

async fn write(store: &PostgresStore) -> TaskId {
    let task = task("a");
    let id = task.id();
    store.commit(inserting(task)).await.expect("a commit succeeds");
    id
}

/// Waits until the store listens: then it is told of what may have gone unheard before.
async fn until_it_listens(store: &PostgresStore) {
    timeout(Duration::from_secs(10), store.noticed()).await.expect("it comes to listen");
}

#[tokio::test]
async fn what_others_wrote_is_news_and_what_it_wrote_itself_is_none() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (ours, theirs) = (open(&schema).await, open(&schema).await);
    let mine = [write(&ours).await, write(&ours).await];
    let heard = news(&ours, EventSeq(0)).await;
    assert_eq!((about(&heard), heard.upto), (vec![], EventSeq(2)));
    assert_eq!(about(&news(&theirs, EventSeq(0)).await), mine);
    let other = write(&theirs).await;
    write(&ours).await;
    // Also where the own events are in a row that begins behind the place.
    for after in [0, 1, 2] {
        let heard = news(&ours, EventSeq(after)).await;
        assert_eq!((about(&heard), heard.upto), (vec![other], EventSeq(4)));
    }
    assert_eq!(about(&news(&ours, EventSeq(3)).await), []);

    let agent = register(&theirs, "a", 10).await;
    let claimed = claim(&theirs, &agent, 10).await.expect("a claim succeeds");
    let pages = [ours.news(EventSeq(4), 3).await.expect("a read succeeds"), news(&ours, EventSeq(7)).await];
    assert_eq!(pages[0].upto, EventSeq(7), "a full page goes as far as its last event");
    assert_eq!(pages.iter().flat_map(about).collect::<Vec<_>>(), ids(&claimed));
}

#[tokio::test]
async fn the_others_are_told_at_once_and_nobody_of_his_own() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (ours, theirs) = (open(&schema).await, open(&schema).await);
    until_it_listens(&ours).await;
    until_it_listens(&theirs).await;
    write(&ours).await;
    timeout(Duration::from_secs(5), theirs.noticed()).await.expect("the others are told");
    let silence = timeout(Duration::from_millis(300), ours.noticed()).await;
    assert!(silence.is_err(), "its own commit is no news to it");
    // What tells nobody anything.
    ours.commit(Change { pulse: Some(Timestamp::UNIX_EPOCH), ..Change::default() }).await.expect("a commit succeeds");
    assert!(timeout(Duration::from_millis(300), theirs.noticed()).await.is_err());
}

/// A52: a connection that is gone is listened for on another one, and what went unheard is told.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_hear_any_more_listens_anew() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (ours, theirs) = (open(&schema).await, open(&schema).await);
    until_it_listens(&ours).await;
    let mut other = PgConnection::connect(schema.url()).await.expect("the server is there");
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN \"' || $1 || '\"'";
    let cut = sqlx::query(sql).bind(schema.name()).execute(&mut other).await.expect("they can be cut");
    assert!(cut.rows_affected() > 0, "there were connections to cut");
    let unheard = write(&theirs).await;
    until_it_listens(&ours).await;
    assert_eq!(about(&news(&ours, EventSeq(0)).await), [unheard]);
    write(&theirs).await;
    until_it_listens(&ours).await;
}

/// Nobody told of a commit whose answer was lost: whoever made it finds it among the news.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_news_to_its_own_store() {
    let Some(server) = PrivateServer::start() else { return };
    let network = Network::before(&server).await;
    let store = PostgresStore::connect(network.url(), PostgresOptions::default()).await.expect("the schema is made");
    let theirs = PostgresStore::connect(&server.url(), PostgresOptions::default()).await.expect("it is there");
    write(&store).await;
    until_it_listens(&store).await;
    network.cut_at_commit();
    let lost = task("a");
    let id = lost.id();
    let answer = store.commit(inserting(lost)).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    timeout(Duration::from_secs(5), store.noticed()).await.expect("it looks for what it does not know");
    // Others have committed meanwhile, and it has looked at that: what it does not know stands before its place.
    write(&theirs).await;
    let place = theirs.head().await.expect("a read succeeds");
    let heard = news(&store, place).await;
    assert!(heard.from < place && about(&heard).contains(&id), "{heard:?}");
    write(&store).await;
    assert_eq!(about(&news(&store, heard.upto).await), [], "what it writes from then on is its own again");
}

#[tokio::test]
async fn vitals_that_were_heard_earlier_undo_nothing() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let (ours, theirs) = (open(&schema).await, open(&schema).await);
    let agent = register(&ours, "a", 1).await;
    let heard = |epoch, second| Vitals::registered(epoch, Timestamp::from_seconds(2_000_000_000_i64 + second));
    let beat = async |store: &PostgresStore, vitals: Vitals| {
        let change = Change { vitals: vec![(agent.id.clone(), vitals)], ..Change::default() };
        store.commit(change).await.expect("a commit succeeds");
    };
    let stored = async || {
        let ids = [agent.id.clone()];
        let (_, vitals) = theirs.agents_of(&ids).await.expect("a read succeeds").pop().expect("it is there");
        vitals
    };
    beat(&ours, heard(1, 20)).await;
    beat(&theirs, heard(1, 10)).await;
    assert_eq!(stored().await, heard(1, 20));
    // A registration since then, by a clock that is behind.
    beat(&theirs, heard(2, 5)).await;
    beat(&ours, heard(1, 30)).await;
    assert_eq!(stored().await, heard(2, 5));
    let seen = async |second| {
        let since = Timestamp::from_seconds(2_000_000_000_i64 + second);
        theirs.vitals_since(since).await.expect("a read succeeds").len()
    };
    assert_eq!((seen(5).await, seen(6).await), (1, 0));
}

/// G16: the clock of a store is the database's, however far that is from this machine's.
#[tokio::test]
async fn the_clock_is_the_databases() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    open(&schema).await.close().await.expect("a store closes");
    let mut connection = PgConnection::connect(schema.url()).await.expect("the server is there");
    let ahead = format!(
        "CREATE OR REPLACE FUNCTION {}.clock() RETURNS int8 LANGUAGE sql VOLATILE AS \
         $$ SELECT ((extract(epoch FROM clock_timestamp()) + 3600) * 1000000)::int8 $$",
        schema.name()
    );
    connection.execute(&*ahead).await.expect("the clock can be set");
    let store = open(&schema).await;
    let clock = store.clock().expect("it has a clock");
    let task = task("a");
    let id = task.id();
    store.commit(inserting(task)).await.expect("a commit succeeds");
    for _ in 0..5 {
        let before = clock.now();
        let read = store.task(id).await.expect("a read succeeds").expect("it is there").now;
        let (after, slack) = (clock.now(), Duration::from_millis(500));
        assert!(before <= read + slack && read <= after + slack, "{before} {read} {after}");
    }
}

/// A replica of this version beside one of the version before, which writes its events without saying whose they are.
#[tokio::test]
async fn events_of_an_older_program_are_news() {
    if !is_there() {
        return;
    }
    let schema = Schema::new();
    let store = open(&schema).await;
    let mut connection = PgConnection::connect(schema.url()).await.expect("the server is there");
    let older = format!(
        "UPDATE {0}.meta SET value = value + 1 WHERE key = 'last_event'; \
         INSERT INTO {0}.event (seq, tenant, at, kind) \
             SELECT value, decode(repeat('00', 16), 'hex'), 0, 'agent.draining' FROM {0}.meta WHERE key = 'last_event'",
        schema.name()
    );
    connection.execute(&*older).await.expect("an event is written");
    write(&store).await;
    let heard = news(&store, EventSeq(0)).await;
    assert_eq!(
        heard.events.iter().map(|event| (event.seq.0, &*event.kind)).collect::<Vec<_>>(),
        [(1, "agent.draining")]
    );
}
