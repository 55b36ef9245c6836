//! Three replicas on one PostgreSQL behind a load balancer, thirty agents of all transports, and everything that can happen to
//! them: `kill -9`, SIGSTOP for longer than a lease, a replica cut off from its database, the database restarted twice, a
//! network that loses one in twenty of everything (docs/reliability.md G8, A51 to A53).
//!
//! `EAP_CHAOS_TASKS` says how many tasks there are (default 300), `EAP_CHAOS_SEED` repeats a run's choices. The last line
//! printed is one JSON document of counts:
//! `EAP_CHAOS_TASKS=20000 cargo test -p eap-cli --test replicas -- --nocapture`.

#[path = "../chaos/agents.rs"]
mod agents;
#[path = "../support/chance.rs"]
mod chance;
mod faults;
#[path = "../chaos/network.rs"]
mod network;
mod rolling;
mod servers;
#[path = "../support/mod.rs"]
mod support;
#[path = "../chaos/verdict.rs"]
mod verdict;
#[path = "../chaos/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_orchestrator::store::{PostgresOptions, PostgresStore};
use eap_tests::invariants::Truth;
use eap_tests::postgres::PrivateServer;
use serde_json::json;
use tokio::sync::Semaphore;

use self::agents::{Agents, Crew};
use self::chance::{Chance, number, random};
use self::faults::Fault;
use self::network::Network;
use self::servers::{SHORT_LEASE, Servers};
use self::work::Work;

pub(crate) const CREW: Crew = [("pull", 10), ("push", 10), ("websocket", 10)];
/// The pause between two faults, at most, in milliseconds.
const LONGEST_PAUSE: u64 = 800;
/// One fault in so many is a replica's.
const REPLICAS_SHARE: u64 = 4;
/// So many tasks of a hundred have ended when the faults stop.
const ENOUGH: usize = 95;
/// So many of a hundred when the database is restarted.
const RESTARTS: [usize; 2] = [25, 60];

#[test]
fn every_task_ends_once_whatever_happens_to_replicas_and_their_database() {
    let Some(mut database) = PrivateServer::start() else { return };
    let tasks = number("EAP_CHAOS_TASKS").map_or(300, |tasks| usize::try_from(tasks).expect("few enough"));
    let seed = number("EAP_CHAOS_SEED").unwrap_or_else(random);
    println!("EAP_CHAOS_TASKS={tasks} EAP_CHAOS_SEED={seed}");
    let mut chance = Chance(seed);
    let started = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let network = Arc::new(Network::new(chance.below(u64::MAX)));
    let mut servers = runtime.block_on(Servers::start(dir.path(), &database, SHORT_LEASE));
    let to_servers = runtime.block_on(network.way_to(servers.balanced()));
    let mut agents = runtime.block_on(Agents::start(dir.path(), &to_servers.url(), &network, CREW));
    // Past the network, but by the balancer: whoever looks must find a replica that answers.
    let room = Arc::new(Semaphore::new(tasks / 2));
    let work = runtime.block_on(async { Work::begin(&to_servers.url(), &servers.url(), tasks, &room) });

    let (mut restarts, mut faults) = (RESTARTS.into_iter().peekable(), BTreeMap::<&str, usize>::new());
    let mut started_again = 0;
    for turn in 0.. {
        if turn == 4 {
            room.add_permits(tasks - tasks / 2);
        }
        let ended = runtime.block_on(work.ended()) * 100 / tasks;
        if ended >= ENOUGH {
            break;
        }
        std::thread::sleep(Duration::from_millis(chance.below(LONGEST_PAUSE)));
        started_again += servers.supervise();
        if restarts.next_if(|share| ended >= *share).is_some() {
            database.stop();
            std::thread::sleep(Duration::from_millis(chance.below(2_000)));
            database.start_again();
            *faults.entry("database restarted").or_default() += 1;
            continue;
        }
        // Few tasks would leave it to chance whether each kind's turn comes at all: half of them wait for that.
        let fault = match turn {
            0 => None,
            1 => Some(Fault::Kill),
            2 => Some(Fault::Stop),
            3 => Some(Fault::CutOff),
            _ if chance.below(REPLICAS_SHARE) == 0 => Some(Fault::draw(&mut chance)),
            _ => None,
        };
        let which = usize::try_from(chance.below(1 << 32)).expect("it is small");
        match fault {
            Some(fault) => {
                let name = runtime.block_on(async { servers.suffer(which, fault, &mut chance) });
                *faults.entry(name).or_default() += 1;
            }
            None => agents.kill(which),
        }
    }
    started_again += runtime.block_on(servers.recover());
    let suffering = started.elapsed();
    let submitted = runtime.block_on(work.wait_for_every_end());
    let findings = runtime.block_on(verdict::of(&work, &submitted, &network.accepted(), &agents.runs()));
    let broken = runtime.block_on(async {
        let store = PostgresStore::connect(&database.url(), PostgresOptions::default()).await.expect("it can be read");
        Truth::read(&store).await.expect("the faults are over").violations(&[])
    });
    let agents_killed = agents.stop();
    servers.stop();
    println!(
        "{}",
        json!({
            "findings": findings.told(),
            "agents_killed": agents_killed,
            "faults": faults,
            "replicas_started_again": started_again,
            "lost": network.lost(),
            "submits_repeated": work.repeated(),
            "seed": seed,
            "seconds_of_faults": suffering.as_secs(),
            "seconds": started.elapsed().as_secs(),
            "problems": findings.problems.len() + broken.len(),
        })
    );
    assert!(findings.problems.is_empty(), "{:#?}", findings.problems.iter().take(20).collect::<Vec<_>>());
    assert!(broken.is_empty(), "{:#?}", broken.iter().take(20).collect::<Vec<_>>());
    assert_eq!(findings.tasks, tasks, "each submit made one task");
    assert_eq!(findings.ended.values().sum::<usize>(), tasks, "each task has ended");
    assert!(agents_killed > 0 && faults.len() >= 3, "too little happened: there were too few tasks");
    assert!(findings.accepted > 0, "no answer to a result was seen");
}
