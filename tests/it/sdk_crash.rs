//! A process that is killed between the end of its work and the answer to its result (A35, G20, G21).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use eap_agent_sdk::{AgentBuilder, HandlerError, Task, TaskContext};
use eap_types::TaskStatus;
use serde_json::json;

use crate::sdk_harness::{Fate, Network, Passing, Process, Site, build_once_free, until};

const LONG: Duration = Duration::from_secs(10);

/// Which half of the exchange is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lost {
    Request,
    Answer,
}

/// Counts its runs, and is done at once.
fn working(agent: AgentBuilder, runs: &Arc<AtomicU32>) -> AgentBuilder {
    let runs = Arc::clone(runs);
    agent.handle("work", move |_: Task<String>, _: TaskContext| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok::<_, HandlerError>(run) }
    })
}

/// Starts a process whose results are lost on the way, and kills it once one was.
async fn work_and_die(agent: AgentBuilder, lost: Lost) {
    let was_lost = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&was_lost);
    let network = Network::new(move |path, passing| {
        let is_it = path.ends_with("/result")
            && match passing {
                Passing::Request => lost == Lost::Request,
                Passing::Answer(_) => lost == Lost::Answer,
            };
        noted.fetch_or(is_it, Ordering::SeqCst);
        if is_it { Fate::Vanishes } else { Fate::Arrives }
    });
    let process = Process::start(agent.http(network).build().expect("it is described well"));
    until(LONG, "a result is lost", async || was_lost.load(Ordering::SeqCst).then_some(())).await;
    process.kill().await;
}

async fn start_again(describe: impl Fn() -> AgentBuilder) -> Process {
    Process::start(build_once_free(describe).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_data_dir_a_result_that_was_not_sent_is_sent_after_the_restart() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let describe = || working(site.agent("AGENT-MORTAL").data_dir(site.dir("agent")), &runs);
    let task = site.submit("work", "once").await;
    work_and_die(describe(), Lost::Request).await;
    assert_eq!(site.task(task).await.status, TaskStatus::Leased);

    let process = start_again(describe).await;
    let done = site.until_final(task, LONG).await;
    assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1));
    assert_eq!(site.task_json(task).await["result"]["output_data"], json!({"output": 1}));
    assert_eq!(site.outcomes(task).await, ["completed"]);
    assert_eq!(runs.load(Ordering::SeqCst), 1, "the work is not done again");
    let report = process.stop().await;
    assert_eq!((report.completed, report.refused, report.unsent), (1, 0, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_data_dir_a_result_whose_answer_was_lost_is_recorded_once() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let describe = || working(site.agent("AGENT-MORTAL").data_dir(site.dir("agent")), &runs);
    let task = site.submit("work", "once").await;
    work_and_die(describe(), Lost::Answer).await;
    assert_eq!(site.task(task).await.status, TaskStatus::Completed);

    let process = start_again(describe).await;
    // Sent before the first poll: when a next task is done, the old result has its answer.
    let next = site.submit("work", "next").await;
    site.until_final(next, LONG).await;
    let report = process.stop().await;
    assert_eq!((report.completed, report.refused, report.unsent), (2, 0, 0), "{report}");
    assert_eq!(site.outcomes(task).await, ["completed"]);
    assert_eq!(site.history(task).await.late_results, []);
    assert_eq!(site.task_json(task).await["result"]["output_data"], json!({"output": 1}));
    assert_eq!(runs.load(Ordering::SeqCst), 2, "one run for each of the two tasks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_data_dir_a_result_that_was_not_sent_is_worked_out_again() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let describe = || working(site.agent("AGENT-MORTAL").instance_id("mortal"), &runs);
    let task = site.submit("work", "twice").await;
    work_and_die(describe(), Lost::Request).await;

    // The restarted agent says that it holds nothing, so that nobody waits for the lease to run out.
    let process = start_again(describe).await;
    let done = site.until_final(task, LONG).await;
    assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 2));
    assert_eq!(site.task_json(task).await["result"]["output_data"], json!({"output": 2}));
    assert_eq!(site.outcomes(task).await, ["expired", "completed"]);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let report = process.stop().await;
    assert_eq!((report.completed, report.unsent), (1, 0), "{report}");
}
