//! A server that is down for a while costs no running task its work (A34, G19, G20, G22, acceptance 4).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eap_agent_sdk::{AgentHandle, HandlerError, Status, Task, TaskContext};
use eap_types::{AgentState, TaskStatus};
use serde_json::json;
use tokio::time::sleep;

use crate::sdk_harness::{Gate, Site, full_length, until};

/// Tasks of each agent that end while the server is down, and as many that end once it is back.
const OF_A_KIND: usize = 3;
const LONG: Duration = Duration::from_secs(60);

/// Takes the four seconds of the outage, two leases long; or as long as `EAP_OUTAGE_SECONDS` says, under the default
/// timing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_costs_no_running_task_its_work() {
    let full = full_length("EAP_OUTAGE_SECONDS");
    let outage = full.unwrap_or(Duration::from_secs(4));
    let mut site = if full.is_some() { Site::start().await } else { Site::start_hasty().await };
    assert!(outage * 3 / 4 > site.timing().lease, "leases have to run out meanwhile");

    let (during, after, runs) = (Gate::closed(), Gate::closed(), Arc::new(Mutex::new(BTreeMap::new())));
    let start = |task_type: &str, on_disk: bool| {
        let (during, after, runs) = (during.clone(), after.clone(), Arc::clone(&runs));
        let work = move |task: Task<String>, ctx: TaskContext| {
            *runs.lock().expect("no test panics with the lock").entry(task.id).or_insert(0) += 1;
            let gate = if task.input == "during" { during.clone() } else { after.clone() };
            async move {
                tokio::select! {
                    () = gate.pass() => Ok::<_, HandlerError>(json!({"lease": format!("{:?}", ctx.lease())})),
                    () = ctx.cancelled() => Err(HandlerError::fatal(format!("{:?}", ctx.cancel_reason()))),
                }
            }
        };
        let agent = site.agent(&format!("AGENT-{}", task_type.to_uppercase())).max_concurrent_tasks(20);
        let agent = if on_disk { agent.data_dir(site.dir(task_type)) } else { agent };
        agent.handle(task_type, work).build().expect("it is described well").start()
    };
    let agents = [start("memory", false), start("disk", true)];
    let mut tasks = Vec::new();
    for task_type in ["memory", "disk"] {
        for when in ["during", "after"] {
            for _ in 0..OF_A_KIND {
                tasks.push((site.submit(task_type, when).await, when));
            }
        }
    }
    let count = tasks.len();
    until(LONG, "all handlers run", async || (during.arrived() + after.arrived() == count).then_some(())).await;

    site.stop().await;
    let down = Instant::now();
    sleep(outage * 3 / 4).await;
    during.open();
    sleep(outage.saturating_sub(down.elapsed())).await;
    assert_eq!(agents.each_ref().map(AgentHandle::status), [Status::Uncertain; 2]);
    let was_down = down.elapsed();
    site.come_back().await;
    let up = Instant::now();
    after.open();

    for (task, when) in &tasks {
        let done = site.until_final(*task, LONG).await;
        assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1), "{:?}", done.result);
        assert_eq!(site.outcomes(*task).await, ["completed"]);
        assert_eq!(site.history(*task).await.late_results, []);
        let lease = site.task_json(*task).await["result"]["output_data"]["lease"].clone();
        // Past its deadline and not given up: the work went on without knowing.
        assert!(*when == "after" || lease == "Uncertain", "{lease}");
    }
    let recorded = up.elapsed();
    let runs = runs.lock().expect("no test panics with the lock").clone();
    assert_eq!(runs, tasks.iter().map(|(task, _)| (*task, 1)).collect(), "nothing ran twice");

    // Nobody has to do anything for the agents to go on.
    for (task_type, handle) in ["memory", "disk"].into_iter().zip(agents) {
        let next = site.submit(task_type, "during").await;
        assert_eq!(site.until_final(next, LONG).await.status, TaskStatus::Completed);
        let id = handle.agent_id().expect("the agent is registered");
        let agent = site.agent_detail(&id);
        assert_eq!((agent.agent.state, agent.epoch), (AgentState::Online, 1), "it never had to register again");
        handle.drain();
        let report = handle.wait().await.expect("it stops well");
        assert_eq!((report.completed, report.refused, report.unsent), (2 * OF_A_KIND as u64 + 1, 0, 0), "{report}");
    }
    println!(
        "acceptance 4, outage: server down for {:.1} s under {count} running handlers of 2 agents (lease {:.0} s); \
         {} ended meanwhile, {} after; all {count} completed with attempt 1, {} runs, last one recorded {:.1} s after \
         the return",
        was_down.as_secs_f64(),
        site.timing().lease.as_secs_f64(),
        count / 2,
        count / 2,
        runs.values().sum::<i32>(),
        recorded.as_secs_f64(),
    );
}
