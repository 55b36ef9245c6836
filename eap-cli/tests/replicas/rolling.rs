//! All replicas replaced, one after the other, while work goes on: nobody notices.
//!
//! With `EAP_UPGRADE_FROM=path/to/eap`, a build of the version before, those that are replaced are of that one: a rolling
//! upgrade.

use std::sync::Arc;
use std::time::Duration;

use eap_tests::postgres::PrivateServer;
use eap_types::AttemptOutcome;
use tokio::sync::Semaphore;

use crate::CREW;
use crate::agents::Agents;
use crate::network::Network;
use crate::servers::{REPLICAS, Servers};
use crate::support::EAP;
use crate::verdict;
use crate::work::Work;

/// So many that they are not all done before the last replica is replaced.
const TASKS: usize = 2_000;
/// None lapses because the machine has much else to do: one that does was lost by a server.
const LEASE: Duration = Duration::from_secs(30);

#[test]
fn a_rolling_restart_loses_no_call_and_does_no_task_twice() {
    let Some(database) = PrivateServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let network = Arc::new(Network::without_losses());
    let first = std::env::var_os("EAP_UPGRADE_FROM").unwrap_or_else(|| EAP.into());
    let mut servers = runtime.block_on(Servers::start_of(&first, dir.path(), &database, LEASE));
    let agents = runtime.block_on(Agents::start(dir.path(), &servers.url(), &network, CREW));
    let room = Arc::new(Semaphore::new(TASKS));
    let work = runtime.block_on(async { Work::begin(&servers.url(), &servers.url(), TASKS, &room) });
    for which in 0..REPLICAS {
        std::thread::sleep(Duration::from_millis(700));
        servers.replace(which);
    }
    let ended = runtime.block_on(work.ended());
    assert!(ended < TASKS, "all of it was done before the last was replaced: there were too few tasks");
    let submitted = runtime.block_on(work.wait_for_every_end());
    let findings = runtime.block_on(verdict::of(&work, &submitted, &network.accepted(), &agents.runs()));
    assert!(findings.problems.is_empty(), "{:#?}", findings.problems);
    assert_eq!(findings.ended.get("completed"), Some(&TASKS), "{findings:?}");
    // Handed back is not done: what counts is that none ran twice. A lease that lapsed was one that no agent heard of.
    let handed_back = AttemptOutcome::Released.to_string();
    let others: Vec<_> = findings.causes.iter().filter(|(cause, _)| !cause.starts_with(&handed_back)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!((findings.runs, findings.run_again), (TASKS, 0));
    agents.stop();
    servers.stop();
}
