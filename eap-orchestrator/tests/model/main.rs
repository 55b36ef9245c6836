//! The stores against a reference of plain lists: random sequences of everything a store is asked (L1 of
//! docs/reliability.md).
//!
//! Each sequence has up to 60 steps: submits, events of tasks, late results, keys, agents, claims with request ids,
//! purges, reads, and for SQLite and PostgreSQL the store closed and opened again. Some writes are handed over together, so that they
//! share a transaction with others that fail. Every answer, and in the end every row, is compared with the reference.
//!
//! `EAP_L1_SEQUENCES=20000` runs more of them (default 1,000, on SQLite 300 and on PostgreSQL 50: every sequence opens a file or makes a schema of its own). A failure prints the smallest sequence that shows it and
//! keeps its seed in `main.seeds`, which runs first from then on. The SQLite files lie in memory where the system has
//! such a folder: what is tried here is what they say, not what they survive. The last line printed is one JSON
//! document of counts.

mod ops;
#[cfg(all(feature = "postgres", unix))]
#[path = "../postgres/mod.rs"]
mod postgres;
mod records;
mod reference;
mod sequence;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore};
#[cfg(all(feature = "postgres", unix))]
use eap_orchestrator::store::{PostgresOptions, PostgresStore};
use eap_orchestrator::{Clock, ManualClock};
use eap_types::Timestamp;
use proptest::test_runner::{Config, FailurePersistence, FileFailurePersistence, TestError, TestRunner};

use self::sequence::{BackEnd, Seen, Sequence};

/// How many sequences a run has unless it is told otherwise.
const SEQUENCES_IN_MEMORY: u32 = 1_000;
const SEQUENCES_IN_FILES: u32 = 300;
#[cfg(all(feature = "postgres", unix))]
const SEQUENCES_IN_DATABASES: u32 = 50;
/// A run shorter than this need not have met everything.
const LONG_ENOUGH: u32 = 200;

struct InMemory(MemoryStore);

#[async_trait]
impl BackEnd for InMemory {
    async fn open(&mut self) -> Arc<dyn Repository> {
        // A clone of a closed handle is an open one.
        Arc::new(self.0.clone())
    }
}

struct InFile {
    path: PathBuf,
    clock: Arc<ManualClock>,
    /// Goes with the last of it.
    _folder: tempfile::TempDir,
}

#[async_trait]
impl BackEnd for InFile {
    async fn open(&mut self) -> Arc<dyn Repository> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let options = SqliteOptions::default().with_readers(1);
        Arc::new(SqliteStore::open(&self.path, clock, options).expect("the file is free"))
    }

    fn can_be_shared(&self) -> bool {
        false
    }
}

#[cfg(all(feature = "postgres", unix))]
struct InDatabase {
    schema: postgres::Schema,
    clock: Arc<ManualClock>,
}

#[cfg(all(feature = "postgres", unix))]
#[async_trait]
impl BackEnd for InDatabase {
    async fn open(&mut self) -> Arc<dyn Repository> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let options = PostgresOptions::default().with_clock(clock).with_schema(self.schema.name());
        let store = PostgresStore::connect(self.schema.url(), options.with_max_connections(4)).await;
        Arc::new(store.expect("the server is there"))
    }

    fn has_one_queue(&self) -> bool {
        false
    }
}

#[test]
fn memory_does_what_the_reference_does() {
    explore("memory", SEQUENCES_IN_MEMORY, &|clock| Box::new(InMemory(MemoryStore::new(clock))));
}

#[test]
fn sqlite_does_what_the_reference_does() {
    let shm = Path::new("/dev/shm");
    let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    explore("sqlite", SEQUENCES_IN_FILES, &|clock| {
        let folder = tempfile::tempdir_in(&parent).expect("there is room for a temporary directory");
        Box::new(InFile { path: folder.path().join("eap.db"), clock, _folder: folder })
    });
}

#[cfg(all(feature = "postgres", unix))]
#[test]
fn postgres_does_what_the_reference_does() {
    if postgres::is_there() {
        explore("postgres", SEQUENCES_IN_DATABASES, &|clock| {
            Box::new(InDatabase { schema: postgres::Schema::new(), clock })
        });
    }
}

fn explore(name: &str, usual: u32, begin: &dyn Fn(Arc<ManualClock>) -> Box<dyn BackEnd>) {
    let sequences = std::env::var("EAP_L1_SEQUENCES").map_or(usual, |number| {
        number.parse().unwrap_or_else(|_| panic!("EAP_L1_SEQUENCES must be a number, not {number}"))
    });
    let seeds = FileFailurePersistence::WithSource("seeds");
    let config = Config {
        cases: sequences,
        source_file: Some(file!()),
        // A canary is to fail: its seeds show nothing.
        failure_persistence: std::env::var("EAP_CANARY")
            .is_err()
            .then(|| Box::new(seeds) as Box<dyn FailurePersistence>),
        ..Config::default()
    };
    let started = Instant::now();
    let total = Cell::new(Seen::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = TestRunner::new(config).run(&ops::sequence(), |ops| {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_767_225_600_123_457)));
        let mut back_end = begin(Arc::clone(&clock));
        let seen = runtime.block_on(async {
            let mut sequence = Sequence::new(&mut *back_end, clock).await;
            sequence.run(&ops).await;
            sequence.seen
        });
        total.set(total.get().and(&seen));
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, ops)) => panic!("{reason}\n{ops:#?}"),
        Err(error) => panic!("{error}"),
    }
    let seen = total.get();
    println!(
        "{}",
        serde_json::json!({
            "layer": "L1", "store": name, "sequences": sequences, "violations": 0,
            "seconds": (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            "sometimes": seen.counts().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        })
    );
    if sequences >= LONG_ENOUGH {
        for (what, count) in seen.counts() {
            assert!(count > 0, "no sequence met: {what}; {seen:?}");
        }
    }
}

impl Seen {
    fn counts(&self) -> [(&'static str, u64); 9] {
        [
            ("operations", self.operations),
            ("leased", self.leased),
            ("claims repeated", self.repeated),
            ("conflicts", self.conflicts),
            ("duplicates", self.duplicates),
            ("results", self.results),
            ("late results", self.late_results),
            ("purged", self.purged),
            ("reopened", self.reopened),
        ]
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            leased: self.leased + other.leased,
            repeated: self.repeated + other.repeated,
            conflicts: self.conflicts + other.conflicts,
            duplicates: self.duplicates + other.duplicates,
            results: self.results + other.results,
            late_results: self.late_results + other.late_results,
            purged: self.purged + other.purged,
            reopened: self.reopened + other.reopened,
        }
    }
}
