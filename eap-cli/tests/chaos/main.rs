//! Everything goes wrong at once: agents of all three transports and the server are killed with `kill -9` at random
//! moments, and the network between them loses one request and one answer in twenty.
//!
//! In the end every task has ended exactly once, every result whose answer arrived is there, no attempt ended a task that
//! was not its own any more, and whatever was done again says why (docs/reliability.md G1 to G6, G13 to G17).
//!
//! `EAP_CHAOS_TASKS` says how many tasks there are (default 300), `EAP_CHAOS_SEED` repeats a run's choices. The last line
//! printed is one JSON document of counts:
//! `EAP_CHAOS_TASKS=10000 cargo test -p eap-cli --test chaos -- --nocapture`.

mod agents;
#[path = "../support/chance.rs"]
mod chance;
mod network;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod verdict;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Semaphore;

use self::agents::{Agents, Crew};
use self::chance::{Chance, number, random};
use self::network::Network;
use self::server::Server;
use self::work::Work;

const CREW: Crew = [("pull", 7), ("push", 6), ("websocket", 7)];
/// The pause between two kills, at most.
const LONGEST_PAUSE: u64 = 800;
/// One kill in so many is the server's.
const SERVERS_SHARE: u64 = 6;
/// So many tasks of a hundred have ended when the killing stops.
const ENOUGH: usize = 95;

#[test]
fn every_task_ends_once_whatever_is_killed_or_lost() {
    let tasks = number("EAP_CHAOS_TASKS").map_or(300, |tasks| usize::try_from(tasks).expect("few enough"));
    let seed = number("EAP_CHAOS_SEED").unwrap_or_else(random);
    println!("EAP_CHAOS_TASKS={tasks} EAP_CHAOS_SEED={seed}");
    let mut chance = Chance(seed);
    let started = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let network = Arc::new(Network::new(chance.below(u64::MAX)));
    let mut server = Server::start(dir.path());
    let to_server = runtime.block_on(network.way_to(server.address));
    let mut agents = runtime.block_on(Agents::start(dir.path(), &to_server.url(), &network, CREW));
    let direct = format!("http://{}", server.address);
    let work =
        runtime.block_on(async { Work::begin(&to_server.url(), &direct, tasks, &Arc::new(Semaphore::new(tasks))) });

    for kill in 0.. {
        if runtime.block_on(work.ended()) * 100 >= tasks * ENOUGH {
            break;
        }
        std::thread::sleep(Duration::from_millis(chance.below(LONGEST_PAUSE)));
        // Few tasks would leave it to chance whether the server's turn comes at all.
        if kill == 1 || chance.below(SERVERS_SHARE) == 0 {
            server.kill();
        } else {
            agents.kill(usize::try_from(chance.below(1 << 32)).expect("it is small"));
        }
    }
    let killing = started.elapsed();
    let submitted = runtime.block_on(work.wait_for_every_end());
    let findings = runtime.block_on(verdict::of(&work, &submitted, &network.accepted(), &agents.runs()));
    let (agents_killed, servers_killed) = (agents.stop(), server.stop());
    println!(
        "{}",
        json!({
            "findings": findings.told(),
            "agents_killed": agents_killed,
            "servers_killed": servers_killed,
            "lost": network.lost(),
            "submits_repeated": work.repeated(),
            "seed": seed,
            "seconds_of_killing": killing.as_secs(),
            "seconds": started.elapsed().as_secs(),
            "problems": findings.problems.len(),
        })
    );
    assert!(findings.problems.is_empty(), "{:#?}", findings.problems.iter().take(20).collect::<Vec<_>>());
    assert_eq!(findings.tasks, tasks, "each submit made one task");
    assert_eq!(findings.ended.values().sum::<usize>(), tasks, "each task has ended");
    assert!(agents_killed > 0 && servers_killed > 0, "nothing was killed: there were too few tasks");
    assert!(findings.accepted > 0, "no answer to a result was seen");
}
