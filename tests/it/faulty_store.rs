//! The whole path over a store that fails: real clients and agents, a real server, and the invariants afterwards
//! (G1 to G6, A39).
//!
//! `EAP_FAULTS_SEED=7` runs one seed, `EAP_FAULTS_SEEDS=200` more of them; a failure names its seed. A seed repeats the
//! faults that are drawn, not the moments at which threads meet them.

mod crowd;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eap_orchestrator::store::faulty::{Fault, FaultCounts, FaultOdds, FaultyStore, StoreCall};
use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore};
use eap_orchestrator::{Entropy, StartError, SystemClock};
use eap_tests::invariants::Truth;
use eap_tests::witness::{Call, What, Witness};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::LocalSet;

use self::crowd::Crowd;
use crate::harness::{Server, Setup, eventually, in_time, work};

/// Seeds that run each time.
const SEEDS: [u64; 4] = [1, 2, 3, 4];
/// How long the store fails at least before it is healed, and how many tasks there are by then on any machine.
const TROUBLE: Duration = Duration::from_secs(3);
const TASKS: usize = 30;

/// SplitMix64, so that a seed draws the same faults again.
#[derive(Debug)]
struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut mixed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let drawn = (mixed ^ (mixed >> 31)).to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

/// What keeps the data under a faulty store.
enum Under {
    Memory(MemoryStore),
    Sqlite(TempDir),
}

impl Under {
    fn memory() -> Self {
        Self::Memory(MemoryStore::new(Arc::new(SystemClock::new())))
    }

    fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().expect("there is room for a temporary directory"))
    }

    /// The sound store; for SQLite once no other one has the file.
    fn open(&self) -> Arc<dyn Repository> {
        match self {
            // A clone of a closed handle is an open one.
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Sqlite(dir) => {
                let (path, clock) = (dir.path().join("eap.db"), Arc::new(SystemClock::new()));
                Arc::new(SqliteStore::open(path, clock, SqliteOptions::default()).expect("the file is free"))
            }
        }
    }
}

/// A server that is quick to retry, to lose patience and to trust again: on a slow machine leases of a second lapse, and by
/// default all agents at once might get nothing for half a minute.
async fn serve(store: &Arc<FaultyStore>) -> Server {
    let setup = Setup::store(Arc::clone(store) as Arc<dyn Repository>).config(|config| {
        config.timing.sweep_interval = Duration::from_millis(50);
        config.timing.lease = Duration::from_secs(1);
        config.timing.heartbeat_interval = Duration::from_secs(1);
        config.tasks.backoff_base = Duration::from_millis(50);
        config.tasks.max_expiries = 10;
        config.breaker.cooldown = Duration::from_secs(1);
        config.breaker.max_cooldown = Duration::from_secs(2);
    });
    setup.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_holds_while_the_store_fails_in_memory() {
    hold("memory", Under::memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_holds_while_the_store_fails_on_sqlite() {
    hold("sqlite", Under::sqlite).await;
}

async fn hold(name: &str, under: fn() -> Under) {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
    };
    let seeds: Vec<u64> = match (number("EAP_FAULTS_SEED"), number("EAP_FAULTS_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..=count).collect(),
        (None, None) => SEEDS.to_vec(),
    };
    let mut seen = Vec::new();
    // As many at once as run each time.
    for seeds in seeds.chunks(SEEDS.len()) {
        let local = LocalSet::new();
        let runs: Vec<_> = seeds.iter().map(|seed| local.spawn_local(one_seed(*seed, under()))).collect();
        local.await;
        for run in runs {
            seen.push(run.await.expect("the seed's own message says what is wrong"));
        }
    }
    let sum = |of: fn(&FaultCounts) -> u64| seen.iter().map(|(counts, _)| of(counts)).sum::<u64>();
    let some =
        |of: fn(&What) -> bool| seen.iter().flat_map(|(_, calls)| calls).filter(|call| of(&call.what)).count() as u64;
    let sometimes = json!({
        "conflict": sum(|counts| counts.conflicts),
        "unavailable": sum(|counts| counts.unavailable),
        "answer lost": sum(|counts| counts.answers_lost),
        "slow": sum(|counts| counts.slow),
        "full": sum(|counts| counts.full),
        "submit accepted": some(|what| matches!(what, What::Submit { accepted: Some(_), .. })),
        "duplicate result": some(|what| matches!(what, What::Report { accepted: Some(told), .. } if told.duplicate)),
        "report refused": some(|what| matches!(what, What::Report { refused: Some(409), .. })),
        "503": some(|what| matches!(what, What::Other { status: Some(503) })),
    });
    println!("{}", json!({ "layer": "faulty store", "store": name, "seeds": seeds, "sometimes": sometimes }));
    for (what, count) in sometimes.as_object().expect("counts by name") {
        assert!(seeds.len() < SEEDS.len() || count.as_u64() > Some(0), "no seed met: {what}; {sometimes}");
    }
}

/// How many tasks were acknowledged.
fn submits(witness: &Witness) -> usize {
    let is_submit = |call: &&Call| matches!(call.what, What::Submit { accepted: Some(_), .. });
    witness.calls().iter().filter(is_submit).count()
}

/// Trouble first, then quiet in which every task has to end, then the check.
async fn one_seed(seed: u64, under: Under) -> (FaultCounts, Vec<Call>) {
    let mut odds = FaultOdds::default();
    (odds.conflict, odds.unavailable, odds.answer_lost, odds.slow, odds.full) = (80, 25, 25, 100, 5);
    let inner = under.open();
    let entropy = Arc::new(Seeded(AtomicU64::new(seed)));
    let store = Arc::new(FaultyStore::new(Arc::clone(&inner)).with_random(entropy, odds));
    // A start that fails is not what is tried here.
    store.heal();
    let server = serve(&store).await;
    store.resume();
    // Rare by chance, so that it does not last.
    store.inject(StoreCall::Commit, Fault::Full(Duration::from_millis(100)));
    let witness = Witness::new(|| false);
    let crowd = Crowd::start(&server, &witness, seed);
    tokio::time::sleep(TROUBLE).await;
    // Conflicts are the rarest of the faults: on a slow machine there may be none so soon.
    let has_enough = || submits(&witness) >= TASKS && store.counts().conflicts > 0;
    eventually("there was work, and a conflict", async || has_enough().then_some(())).await;
    store.heal();
    crowd.finish(&format!("EAP_FAULTS_SEED={seed}")).await;
    let truth = Truth::read(&*inner).await.expect("the store underneath is sound");
    let calls = witness.calls();
    let violations = truth.violations(&calls);
    assert!(violations.is_empty(), "EAP_FAULTS_SEED={seed}: {violations:#?}");
    assert!(truth.tasks() >= TASKS, "EAP_FAULTS_SEED={seed}: there was work: {}", truth.tasks());
    server.stop().await;
    (store.counts(), calls)
}

#[tokio::test]
async fn a_full_disk_is_a_503_reads_go_on_and_writes_resume_by_themselves() {
    let store = Arc::new(FaultyStore::new(Under::memory().open()));
    let server = serve(&store).await;
    let operator = server.operator();
    let kept = operator.submit(json!({})).await;
    store.inject(StoreCall::Commit, Fault::Full(Duration::from_millis(800)));
    let refused = eventually("the disk is full", async || {
        let answer = operator.try_submit(&work(json!({}))).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    refused.problem(503, "UNAVAILABLE");
    assert_eq!(operator.status(&kept).await, "queued");
    eventually("there is room again", async || {
        (operator.try_submit(&work(json!({}))).await.status == 201).then_some(())
    })
    .await;
    assert!(store.counts().full > 0);
    server.stop().await;
}

#[tokio::test]
async fn a_failed_fsync_ends_the_server_and_no_success_follows_it() {
    for (under, written) in [(Under::memory(), false), (Under::sqlite(), true)] {
        let store = Arc::new(FaultyStore::new(under.open()));
        let server = serve(&store).await;
        let probe = Arc::clone(&store);
        let witness = Witness::new(move || probe.has_failed());
        let crowd = Crowd::start(&server, &witness, 99);
        eventually("there is work", async || (submits(&witness) > 20).then_some(())).await;
        store.inject(StoreCall::Commit, Fault::FsyncFailed { written });
        let ended = in_time("the server ends by itself", server.ended()).await;
        assert!(matches!(ended, Err(StartError::StoreFailed { .. })), "{ended:?}");
        crowd.abandon().await;
        drop(store);
        let truth = Truth::read(&*under.open()).await;
        let violations = truth.expect("the store underneath is sound").violations(&witness.calls());
        assert!(violations.is_empty(), "written: {written}: {violations:#?}");
    }
}
