//! Handlers that leave the agent no thread (A10, acceptance 4).

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use eap_agent_sdk::{HandlerError, Task, TaskContext};
use eap_types::{AgentState, TaskStatus};
use tokio::time::sleep;

use crate::harness::BLINK;
use crate::sdk_harness::{Process, Site, full_length, until};

const LONG: Duration = Duration::from_secs(60);

/// Takes six seconds, three leases long; or as long as `EAP_BLOCK_SECONDS` says, under the default timing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_every_thread_miss_no_heartbeat_and_keep_their_leases() {
    let full = full_length("EAP_BLOCK_SECONDS");
    let blocked = full.unwrap_or(Duration::from_secs(6));
    let site = if full.is_some() { Site::start().await } else { Site::start_hasty().await };
    let timing = site.timing();

    let threads = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&threads);
    let block = move |_: Task<String>, ctx: TaskContext| {
        let threads = Arc::clone(&noted);
        async move {
            threads.lock().expect("no test panics with the lock").push((thread::current().id(), Instant::now()));
            thread::sleep(blocked);
            Ok::<_, HandlerError>(format!("{:?}, {:?}", ctx.lease(), ctx.cancel_reason()))
        }
    };
    // Both tasks are there before the agent is, so that one poll brings both.
    let tasks = [site.submit("block", "one").await, site.submit("block", "other").await];
    let agent = site.agent("AGENT-BLOCKED").handle("block", block).build().expect("it is described well");
    let process = Process::start(agent);
    let both = async || threads.lock().expect("no test panics with the lock").len() == 2;
    until(LONG, "both handlers run", async || both().await.then_some(())).await;
    let noted = threads.lock().expect("no test panics with the lock").clone();
    assert_ne!(noted[0].0, noted[1].0, "each handler has one of the two threads, and nothing else has any");

    // Until the first of them ends, every call comes from the heartbeat thread.
    let (first, last) = (noted[0].1.min(noted[1].1), noted[0].1.max(noted[1].1));
    let mut seen = vec![site.only_agent().agent.last_seen_at.expect("it was heard of")];
    while first.elapsed() < blocked {
        let agent = site.only_agent();
        assert_eq!(agent.agent.state, AgentState::Online);
        assert_eq!(agent.held.len(), 2, "both leases are held after {:?}", last.elapsed());
        let heard = agent.agent.last_seen_at.expect("it was heard of");
        if seen.last() != Some(&heard) {
            seen.push(heard);
        }
        sleep(BLINK).await;
    }
    let longest = seen.windows(2).map(|pair| pair[1].saturating_since(pair[0])).max().unwrap_or_default();
    let beats = seen.len() - 1;
    assert!(longest <= timing.heartbeat_interval, "{longest:?} without a heartbeat");
    assert!(beats as f64 >= (blocked.as_secs_f64() / timing.heartbeat_interval.as_secs_f64()).floor(), "{beats}");

    for task in tasks {
        let done = site.until_final(task, LONG).await;
        assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1));
        assert_eq!(site.task_json(task).await["result"]["output_data"]["output"], "Held, None");
        assert_eq!(site.outcomes(task).await, ["completed"]);
    }
    assert_eq!(site.only_agent().epoch, 1);
    let report = process.stop().await;
    assert_eq!((report.completed, report.failed, report.cancelled), (2, 0, 0), "{report}");
    println!(
        "acceptance 4, blocked: both worker threads for {:.0} s; {beats} heartbeats, longest silence {:.2} s of \
         {:.0} s allowed; leases of {:.0} s held throughout, both results recorded with attempt 1",
        blocked.as_secs_f64(),
        longest.as_secs_f64(),
        timing.heartbeat_interval.as_secs_f64(),
        timing.lease.as_secs_f64(),
    );
}
