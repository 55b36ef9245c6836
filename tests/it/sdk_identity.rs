//! One identity is one agent, however often it starts and whatever the server has forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eap_agent_sdk::{Agent, AgentBuilder, AgentHandle, Error, HandlerError, Status, Task, TaskContext};
use eap_types::{AgentState, TaskStatus};

use crate::sdk_harness::{Fate, Gate, Network, Passing, Process, Site, build_once_free, until};

/// The first start and a hundred more.
const STARTS: u64 = 101;
const AGENTS: usize = 20;
const LONG: Duration = Duration::from_secs(30);

async fn echo(task: Task<String>, _: TaskContext) -> Result<String, HandlerError> {
    Ok(task.input)
}

/// Takes the seconds of a hundred restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_restarted_100_times_is_one_agent() {
    let describe = |site: &Site| site.agent("AGENT-PHOENIX-01").instance_id("phoenix-1");
    restart_often("name and instance_id", describe).await;
}

/// Takes the seconds of a hundred restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_kept_in_a_data_dir_and_restarted_100_times_is_one_agent() {
    restart_often("data_dir", |site: &Site| site.agent("AGENT-PHOENIX-02").data_dir(site.dir("phoenix"))).await;
}

/// Every other process is killed, the rest stop in good order; each does a task first.
async fn restart_often(identity: &str, describe: impl Fn(&Site) -> AgentBuilder) {
    let site = Site::start().await;
    let begun = Instant::now();
    let (mut ids, mut stopped, mut killed) = (BTreeSet::new(), 0, 0);
    for start in 1..=STARTS {
        let process = Process::start(build_once_free(|| describe(&site).handle("echo", echo)).await);
        // Before that, a poll of the process that was killed could still be open at the server.
        let is_back = || site.agents().first().is_some_and(|agent| site.agent_detail(&agent.agent_id).epoch == start);
        until(LONG, "it registers", async || is_back().then_some(())).await;
        let task = site.submit("echo", &start.to_string()).await;
        let done = site.until_final(task, LONG).await;
        assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1), "{:?}", site.history(task).await);
        let agent = site.only_agent();
        assert_eq!(agent.epoch, start, "each start registers once");
        assert_eq!(agent.agent.state, AgentState::Online);
        let id = agent.agent.agent_id;
        ids.insert(id.clone());
        if start == STARTS {
            println!(
                "acceptance 3, {identity}: {STARTS} starts, {stopped} stopped and {killed} killed in between; agents \
                 in the list: {}, ids ever: {}, epoch {}, tasks done {STARTS}; {:.1} s",
                site.agents().len(),
                ids.len(),
                agent.epoch,
                begun.elapsed().as_secs_f64(),
            );
        }
        if start % 2 == 0 {
            process.kill().await;
            assert_eq!(site.only_agent().epoch, start, "the dead do not register");
            killed += 1;
        } else {
            let report = process.stop().await;
            assert_eq!((report.unsent, report.refused, report.failed), (0, 0, 0), "{report}");
            assert_eq!(site.agents(), [], "it said goodbye");
            assert_eq!(site.agent_detail(&id).agent.state, AgentState::Deregistered);
            stopped += 1;
        }
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_agents_outlive_a_wiped_store_and_do_the_next_tasks() {
    const ROUND: usize = 3;
    let mut site = Site::start().await;
    let (gate, mut agents) = (Gate::closed(), Vec::new());
    for number in 0..AGENTS {
        let waiting = gate.clone();
        let wait = move |task: Task<String>, _: TaskContext| {
            let gate = waiting.clone();
            async move {
                gate.pass().await;
                Ok(task.input)
            }
        };
        let agent = site.agent(&name(number)).instance_id(instance(number)).handle(type_of(number), echo);
        agents.push(agent.handle(format!("wait-{number}"), wait).build().expect("it is described well").start());
    }
    until(LONG, "all agents are there", async || (site.agents().len() == AGENTS).then_some(())).await;
    do_a_round(&site, ROUND, 1).await;
    // One handler runs while its task is forgotten.
    let orphan = site.submit("wait-0", "orphan").await;
    until(LONG, "the orphan runs", async || (gate.arrived() == 1).then_some(())).await;

    let before = identities(&site);
    site.stop().await;
    site.come_back_empty().await;
    assert_eq!(site.agents(), []);
    let emptied = Instant::now();
    until(LONG, "all agents came back", async || (site.agents().len() >= AGENTS).then_some(())).await;
    let back = emptied.elapsed();
    gate.open();
    do_a_round(&site, ROUND, 2).await;
    let done = emptied.elapsed();

    let after = identities(&site);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let mut refused = 0;
    for (number, handle) in agents.into_iter().enumerate() {
        assert_eq!(handle.status(), Status::Online);
        let id = handle.agent_id().expect("the agent is registered");
        assert_eq!(after[&(name(number), instance(number))], id.to_string());
        assert_eq!(site.agent_detail(&id).epoch, 1, "it registered once with the new store");
        let report = stop(handle).await;
        assert_eq!((report.completed, report.unsent), (2 * ROUND as u64, 0), "{report}");
        refused += report.refused;
    }
    assert_eq!(refused, 1, "the server no longer knows the orphan {orphan}");
    println!(
        "acceptance 3, store wiped: {AGENTS} of {AGENTS} agents back under their identities after {:.2} s, \
         {} tasks done after {:.2} s",
        back.as_secs_f64(),
        AGENTS * ROUND,
        done.as_secs_f64(),
    );
}

fn name(number: usize) -> String {
    format!("AGENT-HERD-{number:02}")
}

fn instance(number: usize) -> String {
    format!("herd-{number}")
}

fn type_of(number: usize) -> String {
    format!("echo-{number}")
}

/// Name and instance of every agent that is online, with its id.
fn identities(site: &Site) -> BTreeMap<(String, String), String> {
    let mut identities = BTreeMap::new();
    for agent in site.agents() {
        assert_eq!(agent.state, AgentState::Online);
        let instance = agent.instance_id.expect("it has an instance").to_string();
        identities.insert((agent.name.to_string(), instance), agent.agent_id.to_string());
    }
    identities
}

/// Gives each agent tasks that only it can do, and waits for them.
async fn do_a_round(site: &Site, tasks: usize, round: usize) {
    let mut submitted = Vec::new();
    for number in 0..AGENTS {
        for task in 0..tasks {
            submitted.push(site.submit(&type_of(number), &format!("{round}-{number}-{task}")).await);
        }
    }
    for task in submitted {
        let task = site.until_final(task, LONG).await;
        assert_eq!((task.status, task.attempt), (TaskStatus::Completed, 1));
    }
}

/// Takes seconds: agents that take the identity from each other pause in between.
#[tokio::test]
async fn of_two_agents_with_one_identity_one_ends_and_says_why() {
    let site = Site::start_hasty().await;
    let describe = || {
        let agent = site.agent("AGENT-TWIN").instance_id("twin").poll_wait(Duration::from_secs(1));
        agent.handle("echo", echo).build().expect("it is described well")
    };
    let (one, other) = (describe().start(), describe().start());
    let (mut statuses, limit) = ([one.watch_status(), other.watch_status()], Duration::from_secs(60));
    let ended = until(limit, "one of the two ends", async || {
        statuses.iter_mut().position(|status| *status.borrow_and_update() == Status::Stopped)
    })
    .await;
    let (ended, left) = if ended == 0 { (one, other) } else { (other, one) };
    let outcome = ended.wait().await;
    assert!(matches!(outcome, Err(Error::IdentityInUse)), "{outcome:?}");

    let task = site.submit("echo", "still here").await;
    assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Completed);
    let agent = site.only_agent().agent;
    assert_eq!((agent.state, Some(agent.agent_id)), (AgentState::Online, left.agent_id()));
    let report = stop(left).await;
    assert_eq!(report.completed, 1);
}

/// A2: the token of the older process died when the newer one registered, and so did what it had asked for.
#[tokio::test]
async fn a_poll_of_a_process_that_was_replaced_takes_no_tasks() {
    let site = Site::start_hasty().await;
    let (polls, is_cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, cut) = (Arc::clone(&polls), Arc::clone(&is_cut));
    // Its machine has lost its network in a way that tells nobody: the connections stay.
    let network = Network::new(move |path, passing| {
        if path.ends_with("/tasks/lease") && matches!(passing, Passing::Request) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        if cut.load(Ordering::Relaxed) { Fate::Vanishes } else { Fate::Arrives }
    });
    let describe = || site.agent("AGENT-REPLACED").instance_id("replaced");
    let older = describe().http(network).handle("echo", echo).build().expect("it is described well").start();
    let first = site.submit("echo", "first").await;
    site.until_final(first, LONG).await;
    until(LONG, "it asks for the next", async || (polls.load(Ordering::Relaxed) == 2).then_some(())).await;
    is_cut.store(true, Ordering::Relaxed);

    let newer = describe().handle("echo", echo).build().expect("it is described well").start();
    until(LONG, "it registers", async || (site.only_agent().epoch == 2).then_some(())).await;
    let task = site.submit("echo", "second").await;
    let done = site.until_final(task, LONG).await;
    assert_eq!((done.status, done.attempt), (TaskStatus::Completed, 1), "{:?}", site.history(task).await);
    assert_eq!(stop(newer).await.completed, 1);
    drop(older);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_token_is_as_good_as_the_secret_while_the_server_knows_it() {
    let mut site = Site::start().await;
    let does_a_task = async |site: &Site, agent: &dyn Fn() -> AgentBuilder| {
        let process = Process::start(build_once_free(|| agent().handle("echo", echo)).await);
        let task = site.submit("echo", "hello").await;
        assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Completed);
        process
    };
    let with_secret = |site: &Site| site.agent("AGENT-KEEPER").data_dir(site.dir("keeper"));
    let without = |site: &Site| Agent::builder(site.url(), "AGENT-KEEPER").data_dir(site.dir("keeper"));
    let first = does_a_task(&site, &|| with_secret(&site)).await;
    let id = site.only_agent().agent.agent_id;
    first.kill().await;
    does_a_task(&site, &|| without(&site)).await.kill().await;
    assert_eq!((site.only_agent().agent.agent_id, site.only_agent().epoch), (id.clone(), 2));

    // To a server that has forgotten it, the token is worth nothing, and does no harm beside the secret.
    site.stop().await;
    site.come_back_empty().await;
    let stranger = build_once_free(|| without(&site).handle("echo", echo)).await.start();
    let outcome = tokio::time::timeout(LONG, stranger.wait()).await.expect("it gives up");
    assert!(matches!(outcome, Err(Error::Registration { .. })), "{outcome:?}");
    does_a_task(&site, &|| with_secret(&site)).await.stop().await;
    let identity = site.dir("keeper").join("identity.json");
    assert!(!std::fs::read_to_string(identity).expect("it is kept").contains(id.as_str()));
}

#[tokio::test]
async fn an_agent_that_is_there_before_its_server_waits_for_it() {
    let mut site = Site::start().await;
    site.stop().await;
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    let network = Network::new(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Fate::Arrives
    });
    let agent = site.agent("AGENT-EARLY").http(network).handle("echo", echo).build().expect("it is described well");
    let agent = agent.start();
    until(LONG, "it tried twice", async || (tried.load(Ordering::Relaxed) >= 2).then_some(())).await;
    assert_eq!((agent.status(), agent.agent_id()), (Status::Connecting, None));
    site.come_back().await;
    let task = site.submit("echo", "at last").await;
    assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Completed);
    assert_eq!(stop(agent).await.completed, 1);
}

async fn stop(handle: AgentHandle) -> eap_agent_sdk::Report {
    handle.drain();
    tokio::time::timeout(LONG, handle.wait()).await.expect("it stops in time").expect("it stops well")
}
