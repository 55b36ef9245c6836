//! Many tasks: each is done once, and no agent has more in its hands than it said.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eap_agent_sdk::{AgentBuilder, HandlerError, Task, TaskContext};
use eap_types::TaskStatus;
use serde_json::json;

use crate::sdk_harness::{Fate, Gate, Network, Site, until};

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tasks_never_run_more_at_once_than_the_agent_said() {
    const TASKS: usize = 50;
    const AT_ONCE: usize = 4;
    let site = Site::start().await;
    let (gate, running, peak) = (Gate::closed(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waiting, counted, highest) = (gate.clone(), Arc::clone(&running), Arc::clone(&peak));
    let work = move |_: Task<String>, _: TaskContext| {
        let (gate, running, peak) = (waiting.clone(), Arc::clone(&counted), Arc::clone(&highest));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.pass().await;
            // Gives others the chance to be one too many.
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(())
        }
    };
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        tasks.push(site.submit("work", &number.to_string()).await);
    }
    let agent = site.agent("AGENT-NARROW").max_concurrent_tasks(AT_ONCE as u32).handle("work", work);
    let agent = agent.build().unwrap().start();
    until(LONG, "it is full", async || (gate.arrived() == AT_ONCE).then_some(())).await;
    assert_eq!(site.only_agent().held.len(), AT_ONCE);
    gate.open();
    for task in tasks {
        let done = site.until_final(task, LONG).await;
        assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1));
    }
    assert_eq!(peak.load(Ordering::SeqCst), AT_ONCE);
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().completed, TASKS as u64);
}

const AGENTS: usize = 3;

/// Takes the seconds of six hundred tasks, each put on disk thrice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_agents_do_six_hundred_tasks_once_each() {
    let shares = share_tasks("a sound network", 200 * AGENTS, |agent| agent).await;
    assert!(shares.iter().all(|share| *share > 0), "everybody had a share: {shares:?}");
}

/// Takes seconds: an agent pauses before it repeats what got no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_network_that_keeps_breaking_each_task_is_still_done_once() {
    let breaks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&breaks);
    share_tasks("a network that keeps breaking", 30 * AGENTS, move |agent| {
        let (calls, breaks) = (AtomicUsize::new(0), Arc::clone(&counted));
        // Every seventh that passes, requests and answers alike, whatever they are about.
        agent.http(Network::new(move |_, _| {
            if calls.fetch_add(1, Ordering::Relaxed) % 7 == 6 {
                breaks.fetch_add(1, Ordering::Relaxed);
                Fate::Breaks
            } else {
                Fate::Arrives
            }
        }))
    })
    .await;
    let breaks = breaks.load(Ordering::Relaxed);
    assert!(breaks > AGENTS, "the network broke only {breaks} times");
}

async fn share_tasks(network: &str, count: usize, connect: impl Fn(AgentBuilder) -> AgentBuilder) -> Vec<u64> {
    let site = Site::start().await;
    let runs = Arc::new(Mutex::new(BTreeMap::new()));
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let runs = Arc::clone(&runs);
        let double = move |task: Task<u64>, _: TaskContext| {
            *runs.lock().expect("no test panics with the lock").entry(task.id).or_insert(0) += 1;
            async move { Ok::<_, HandlerError>(json!({"double": 2 * task.input})) }
        };
        let agent = connect(site.agent(&format!("AGENT-CREW-{number}")).handle("double", double));
        agents.push(agent.build().unwrap().start());
    }
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..count {
        tasks.push(site.submit("double", &number.to_string()).await);
    }
    for (number, task) in tasks.iter().enumerate() {
        let done = site.until_final(*task, LONG).await;
        assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1));
        let output = done.result.expect("it has a result").output_data;
        assert_eq!(output.as_str(), json!({"double": 2 * number}).to_string());
    }
    let took = begun.elapsed();
    let runs = runs.lock().expect("no test panics with the lock").clone();
    assert_eq!(runs, tasks.into_iter().map(|task| (task, 1)).collect());
    let mut shares = Vec::new();
    for agent in agents {
        agent.drain();
        let report = agent.wait().await.unwrap();
        assert_eq!((report.failed, report.released, report.refused), (0, 0, 0), "{report}");
        // On a bad network the last answers may not make it to the agent.
        shares.push(report.completed + report.unsent);
    }
    assert_eq!(shares.iter().sum::<u64>(), count as u64);
    println!("{count} tasks over {network}, each done once, shares {shares:?}; {:.1} s", took.as_secs_f64());
    shares
}
